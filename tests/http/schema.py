"""Checks values against the part of OpenAPI 3.0's schemas that server/api/openapi.json uses.

A keyword that is not known here is an error, so that nothing is believed to be checked that is not."""
import re

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool}
KNOWN = {"$ref", "type", "nullable", "enum", "oneOf", "anyOf", "pattern", "minimum", "required", "properties",
         "additionalProperties", "items", "minItems", "maxItems", "description", "example", "format"}


class Schemas:
    def __init__(self, document):
        self.document = document

    def resolve(self, node):
        while "$ref" in node:
            target = self.document
            for key in node["$ref"].removeprefix("#/").split("/"):
                target = target[key]
            node = target
        return node

    def problem(self, value, schema, at="answer"):
        """None, or where and why the value is not what the schema says."""
        schema = self.resolve(schema)
        if set(schema) - KNOWN:
            raise ValueError("%s: unknown keywords %s" % (at, set(schema) - KNOWN))
        if value is None and schema.get("nullable"):
            return None
        for keyword in ("oneOf", "anyOf"):
            if keyword in schema:
                problems = [self.problem(value, s, at) for s in schema[keyword]]
                good = problems.count(None)
                if good == 0 or (keyword == "oneOf" and good > 1):
                    return "%s: %d of %s: %s" % (at, good, keyword, problems)
        kind = schema.get("type")
        if kind in TYPES and not isinstance(value, TYPES[kind]):
            return "%s: expected %s, got %r" % (at, kind, value)
        if kind == "integer" and (not isinstance(value, int) or isinstance(value, bool)):
            return "%s: expected an integer, got %r" % (at, value)
        if kind == "number" and (not isinstance(value, (int, float)) or isinstance(value, bool)):
            return "%s: expected a number, got %r" % (at, value)
        if "enum" in schema and value not in schema["enum"]:
            return "%s: %r is none of %s" % (at, value, schema["enum"])
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return "%s: %r does not match %s" % (at, value, schema["pattern"])
        if "minimum" in schema and value < schema["minimum"]:
            return "%s: %r is below %r" % (at, value, schema["minimum"])
        if isinstance(value, list):
            return self.array_problem(value, schema, at)
        if isinstance(value, dict) and kind == "object":
            return self.object_problem(value, schema, at)
        return None

    def array_problem(self, value, schema, at):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return "%s: has %d items" % (at, len(value))
        problems = [self.problem(v, schema.get("items", {}), "%s[%d]" % (at, i)) for i, v in enumerate(value)]
        return next((p for p in problems if p), None)

    def object_problem(self, value, schema, at):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        missing = [k for k in schema.get("required", []) if k not in value]
        if missing:
            return "%s: has no %s" % (at, missing)
        for key, v in value.items():
            its = properties.get(key, more)
            if its is False:
                return "%s: %s is not in the document" % (at, key)
            problem = self.problem(v, its, at + "." + key) if isinstance(its, dict) else None
            if problem:
                return problem
        return None
