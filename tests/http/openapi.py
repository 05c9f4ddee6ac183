#!/usr/bin/env python3
"""/openapi.json is the truth: it has the routes of server/api/routes.c and no others, and everything that a
running server answers, mistakes too, is what it says. Usage: SERVER FOLDER"""
import http.client, itertools, json, os, re, subprocess, sys, time
from schema import Schemas
from write_bundle import write_bundle, write_linear

SERVER, FOLDER = sys.argv[1:]
ROW = [5.1, 3.5, 1.4, 0.2]
V2_INPUT = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW}
JSON = {"Content-Type": "application/json"}
RAW = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"}
PAIR = {"inputs": [{"name": n, "datatype": "FP32", "shape": [-1, 2]} for n in "ab"],
        "nodes": [{"op": "Add", "inputs": ["a", "b"], "outputs": ["sum"]},
                  {"op": "Mul", "inputs": ["a", "b"], "outputs": ["product"]}],
        "outputs": ["sum", "product"]}
SQUARE = {"inputs": [{"name": "s", "datatype": "FP32", "shape": []}],
          "nodes": [{"op": "Mul", "inputs": ["s", "s"], "outputs": ["square"]}], "outputs": ["square"]}
SCALED = {"inputs": [{"name": "s", "datatype": "FP32", "shape": []}, {"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
          "nodes": [{"op": "Mul", "inputs": ["x", "s"], "outputs": ["scaled"]},
                    {"op": "Identity", "inputs": ["s"], "outputs": ["by"]}], "outputs": ["scaled", "by"]}
WILD = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}],
        "nodes": [{"op": "Div", "inputs": ["one", "x"], "outputs": ["inverse"]}], "outputs": ["inverse"]}

# Answers that are not provoked here: other tests make the server late, full or out of memory.
UNTRIED = {"504", "default"}
failures = 0


def fail(text):
    global failures
    failures += 1
    print(text)


def version(folder, name, number):
    path = os.path.join(folder, name, str(number))
    os.makedirs(path)
    return os.path.join(path, "model.safetensors")


def configure(folder, name, **config):
    with open(os.path.join(folder, name, "serving.json"), "w") as file:
        json.dump(config, file)


def write_broken(path):
    with open(path, "w") as file:
        file.write("this is no bundle")


def write_wild(folder):
    """1/x, and a second version that cannot be loaded."""
    write_bundle(version(folder, "wild", 1), WILD, [("one", [1], [1.0])])
    write_broken(version(folder, "wild", 2))
    configure(folder, "wild", version_policy="all", labels={"canary": {"version": 1}, "next": {"version": 2}})


def write_all(folder):
    write_linear(version(folder, "iris", 1))
    write_linear(version(folder, "iris", 2))
    configure(folder, "iris", version_policy="all", labels={"stable": {"version": 2, "weight": 9},
                                                            "canary": {"version": 1, "weight": 1}})
    write_bundle(version(folder, "pair", 1), PAIR, [])
    write_bundle(version(folder, "square", 1), SQUARE, [])
    write_bundle(version(folder, "scaled", 1), SCALED, [])
    os.mkdir(os.path.join(folder, "mean"))
    configure(folder, "mean", ensemble=["iris", "iris-too"])
    write_linear(version(folder, "iris-too", 1))
    write_wild(folder)
    write_broken(version(folder, "broken", 1))


def write_sound(folder):
    write_linear(version(folder, "iris", 1))
    write_bundle(version(folder, "pair", 1), PAIR, [])


class Running:
    def __init__(self, name, write, *flags):
        models, log = os.path.join(FOLDER, name), os.path.join(FOLDER, name + ".log")
        os.mkdir(models)
        write(models)
        with open(log, "w") as file:
            self.process = subprocess.Popen([SERVER, "--models", models, "--port", "0", "--admin-port", "0",
                                             "--threads", "1", "--host", "127.0.0.1", *flags], stderr=file)
        while True:
            with open(log) as file:
                lines = file.read()
            if '"ready"' in lines or '"not ready"' in lines:
                break
            if self.process.poll() is not None:
                sys.exit(lines)
            time.sleep(0.02)
        self.ports = {"data": int(re.search(r'"port":(\d+)', lines)[1]),
                      "admin": int(re.search(r'"admin_port":(\d+)', lines)[1])}

    def ask(self, method, path, body=None, headers={}, port="data"):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=60)
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, answer.getheader("Content-Type"), text

    def stop(self):
        self.process.terminate()
        if self.process.wait() != 0:
            fail("the server ended with %d" % self.process.returncode)


# ---- the document

def expand(pattern):
    """The paths of a pattern of routes.c, whose parts in brackets may be absent; a version and a label
    exclude each other."""
    parts = re.split(r"(\[.*?\])", pattern)
    for choice in itertools.product(*[("", p[1:-1]) if p.startswith("[") else (p,) for p in parts]):
        path = "".join(choice)
        if not ("{v}" in path and "{l}" in path):
            yield path


def check_routes(document):
    with open("server/api/routes.c") as file:
        routes = re.findall(r'\{"(/[^"]*)",\s*HTTP_([A-Z]+),([^}]*)\}', file.read())
    real = {(path, method.lower()): ".admin = true" in rest
            for pattern, method, rest in routes for path in expand(pattern)}
    described = {(path, method): operation.get("x-listener") == "admin"
                 for path, item in document["paths"].items() for method, operation in item.items()
                 if method != "parameters"}
    for path, method in sorted(real.keys() ^ described.keys()):
        fail("%s %s is %s" % (method.upper(), path, "not in the document" if (path, method) in real
                              else "only in the document"))
    for key in real.keys() & described.keys():
        if real[key] != described[key]:
            fail("%s: is it an admin route or not?" % (key,))
    if len(real) < 40:
        fail("only %d routes were found in routes.c" % len(real))


def check_document(document, schemas):
    ids = set()
    json.dumps(document, default=fail)
    for node in walk(document):
        if "$ref" in node:
            schemas.resolve(node)
    used = {node["$ref"] for node in walk(document) if "$ref" in node}
    for kind in ("schemas", "responses", "parameters", "headers"):
        for name in document["components"][kind]:
            if "#/components/%s/%s" % (kind, name) not in used:
                fail("nothing refers to %s %s" % (kind, name))
    for path, item in document["paths"].items():
        names = {schemas.resolve(p)["name"] for p in item.get("parameters", [])}
        if names != set(re.findall(r"\{(\w)\}", path)):
            fail("%s: its parameters are %s" % (path, names))
        for method, operation in item.items():
            if method == "parameters":
                continue
            if operation["operationId"] in ids:
                fail("operationId %s is there twice" % operation["operationId"])
            ids.add(operation["operationId"])
            for requirement in operation["security"]:
                for scheme in requirement:
                    if scheme not in document["components"]["securitySchemes"]:
                        fail("%s: there is no security scheme %s" % (path, scheme))
    for name, schema in document["components"]["schemas"].items():
        if "example" in schema and schemas.problem(schema["example"], schema):
            fail("the example of %s: %s" % (name, schemas.problem(schema["example"], schema)))


def walk(node):
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from walk(child)
    elif isinstance(node, list):
        for child in node:
            yield from walk(child)


# ---- answers

class Checker:
    def __init__(self, document, schemas):
        self.document, self.schemas, self.seen = document, schemas, set()

    def check(self, server, status, method, template, names={}, body=None, headers=JSON, port="data"):
        path = template
        for key, value in names.items():
            path = path.replace("{%s}" % key, value)
        got, content_type, text = server.ask(method, path, body, headers, port)
        where = "%s %s" % (method, path)
        if got != status:
            return fail("%s: expected %d, got %d %s" % (where, status, got, text[:300]))
        operation = self.document["paths"][template][method.lower()]
        if str(got) not in operation["responses"]:
            return fail("%s: %d is not in the document" % (where, got))
        self.seen.add((template, method.lower(), str(got)))
        response = self.schemas.resolve(operation["responses"][str(got)])
        content = response.get("content", {})
        if not content:
            return text and fail("%s: answers something, and the document says nothing" % where)
        if content_type not in content:
            return fail("%s: type %s is not in the document" % (where, content_type))
        if content_type == "application/json":
            problem = self.schemas.problem(json.loads(text), content[content_type]["schema"])
            if problem:
                fail("%s: %s in %s" % (where, problem, text[:300]))
            self.check_validator(json.loads(text), content[content_type]["schema"], where)
        if got == 200 and isinstance(body, dict):
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            if self.schemas.problem(body, schema, "request"):
                fail("%s: %s" % (where, self.schemas.problem(body, schema, "request")))

    def check_validator(self, value, schema, where):
        """What has a member less or more than it should is not let through."""
        schema = self.schemas.resolve(schema)
        if not isinstance(value, dict) or schema.get("additionalProperties", True) is not False:
            return
        if not self.schemas.problem({**value, "something": 1}, schema):
            fail("%s: one member more is let through" % where)
        for key in schema.get("required", []):
            if not self.schemas.problem({k: v for k, v in value.items() if k != key}, schema):
                fail("%s: is let through without %s" % (where, key))

    def check_all_tried(self):
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                for status in operation.get("responses", {}) if method != "parameters" else {}:
                    if status not in UNTRIED and (path, method, status) not in self.seen:
                        fail("%s %s: %s was not tried" % (method.upper(), path, status))


TARGETS = [("", {}), ("/versions/{v}", {"v": "1"}), ("/labels/{l}", {"l": "canary"})]


def predictions(c, s):
    """Own, V2 and TensorFlow Serving's: what is right and what is wrong with each way to a model."""
    instances, examples = {"instances": [ROW, ROW]}, {"examples": [{"x": ROW}]}
    big = {"instances": [[0.5] * 4] * 3000}
    infer = {"id": "1", "inputs": [V2_INPUT]}
    ways = [("/predict", instances, instances, {})]
    ways += [("/models/{m}%s/predict" % way, instances, instances, names) for way, names in TARGETS]
    ways += [("/v2/models/{m}%s/infer" % way, infer,
              {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0]}]}, names)
             for way, names in TARGETS[:2]]
    for way, names in TARGETS:
        ways += [("/v1/models/{m}%s:%s" % (way, verb), body, body, names)
                 for verb, body in (("predict", instances), ("classify", examples), ("regress", examples))]
    for way, good, _, names in ways:
        named = {**names, "m": "iris"} if "{m}" in way else names
        regress = way.endswith(":regress")
        if not regress:
            c.check(s, 200, "POST", way, named, good)
        c.check(s, 400, "POST", way, named, {"instances": "what"} if "infer" not in way else {})
        c.check(s, 413, "POST", way, named, json.dumps(big).encode())
        c.check(s, 415, "POST", way, named, good, {"Content-Encoding": "br"})
        if "{m}" in way:
            c.check(s, 404, "POST", way, {**names, "m": "nothing"}, good)
            c.check(s, 503, "POST", way, {"m": "wild", "v": "2", "l": "next"} if names else {"m": "broken"}, good)
    for way, names in TARGETS:
        c.check(s, 200, "POST", "/v1/models/{m}%s:regress" % way, {**names, "m": "wild"}, {"examples": [{"x": [4.0]}]})
    c.check(s, 200, "POST", "/models/{m}/predict", {"m": "pair"}, {"instances": [{"a": [1, 2], "b": [3, 4]}]})
    c.check(s, 200, "POST", "/models/{m}/predict", {"m": "pair"}, {"inputs": {"a": [[1, 2]], "b": [[3, 4]]}})
    c.check(s, 200, "POST", "/v1/models/{m}:predict", {"m": "pair"}, {"inputs": {"a": [[1, 2]], "b": [[3, 4]]}})
    c.check(s, 200, "POST", "/v1/models/{m}:predict", {"m": "iris"}, {"inputs": [ROW]})
    c.check(s, 200, "POST", "/v2/models/{m}/infer", {"m": "iris"}, b"\0" * 16, RAW)
    c.check(s, 200, "POST", "/v2/models/{m}/infer", {"m": "iris"}, {
        "inputs": [V2_INPUT], "outputs": [{"name": "probabilities", "parameters": {"classification": 2}}]})


def scalars(c, s):
    """A tensor of rank 0 is a number, not an array; a model that mixes rows answers them together."""
    for way in "/models/{m}/predict", "/v1/models/{m}:predict":
        c.check(s, 200, "POST", way, {"m": "square"}, {"inputs": {"s": 3}})
        c.check(s, 200, "POST", way, {"m": "square"}, {"instances": [3]})
        c.check(s, 200, "POST", way, {"m": "scaled"}, {"inputs": {"s": 3, "x": [[1, 2], [3, 4]]}})
        c.check(s, 200, "POST", way, {"m": "scaled"}, {"instances": [{"s": 3, "x": [1, 2]}]})
    c.check(s, 200, "POST", "/v1/models/{m}:predict", {"m": "square"}, {"inputs": 3})
    c.check(s, 200, "POST", "/v2/models/{m}/infer", {"m": "square"}, {
        "inputs": [{"name": "s", "shape": [], "datatype": "FP32", "data": [3]}]})


def infinities(c, s):
    """1/0 is nothing that JSON can say."""
    for way, names in TARGETS:
        names = {**names, "m": "wild"}
        c.check(s, 500, "POST", "/models/{m}%s/predict" % way, names, {"instances": [[0.0]]})
        if "{l}" not in way:
            c.check(s, 500, "POST", "/v2/models/{m}%s/infer" % way, names, {
                "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0]}]})
        c.check(s, 500, "POST", "/v1/models/{m}%s:predict" % way, names, {"instances": [[0.0]]})
        for verb in "classify", "regress":
            c.check(s, 500, "POST", "/v1/models/{m}%s:%s" % (way, verb), names, {"examples": [{"x": [0.0]}]})


def questions(c, s):
    c.check(s, 200, "GET", "/models")
    c.check(s, 200, "GET", "/metrics")
    c.check(s, 200, "GET", "/openapi.json")
    c.check(s, 200, "GET", "/health/live")
    c.check(s, 200, "GET", "/v2/health/live")
    c.check(s, 200, "GET", "/v2")
    c.check(s, 200, "GET", "/v2/")
    c.check(s, 200, "GET", "/v2/models/stats")
    c.check(s, 400, "GET", "/v1/models")
    for name, status in ("iris", 200), ("pair", 200), ("mean", 200), ("broken", 200), ("nothing", 404):
        c.check(s, status, "GET", "/models/{m}", {"m": name})
    for way, names in TARGETS[:2]:
        for what in "", "/ready", "/stats", "/config":
            path = "/v2/models/{m}%s%s" % (way, what)
            c.check(s, 200, "GET", path, {**names, "m": "iris"})
            c.check(s, 200, "GET", path, {**names, "m": "mean"})
            c.check(s, 404, "GET", path, {**names, "m": "nothing"})
            c.check(s, 503, "GET", path, {"m": "wild", "v": "2"} if names else {"m": "broken"})
            if names:
                c.check(s, 400, "GET", path, {"m": "iris", "v": "one"})
    for way, names in TARGETS:
        for what in "", "/metadata":
            path = "/v1/models/{m}%s%s" % (way, what)
            c.check(s, 200, "GET", path, {**names, "m": "iris"})
            c.check(s, 404, "GET", path, {**names, "m": "nothing"})
            if names:
                c.check(s, 400, "GET", path, {"m": "iris", "v": "one", "l": "none"})
            if what:
                c.check(s, 503, "GET", path, {"m": "wild", "v": "2", "l": "next"} if names else {"m": "broken"})
    c.check(s, 200, "GET", "/v1/models/{m}", {"m": "broken"})


def administration(c, s):
    def admin(status, *rest, **more):
        c.check(s, status, "POST", *rest, port="admin", **more)
    index, load, unload = ("/v2/repository/" + p for p in ("index", "models/{m}/load", "models/{m}/unload"))
    c.check(s, 200, "POST", index)
    c.check(s, 200, "POST", index, {}, {"ready": True})
    c.check(s, 400, "POST", index, {}, {"ready": 1})
    admin(200, load, {"m": "iris"})
    admin(400, load, {"m": "iris"}, {"parameters": {"config": "{}"}})
    admin(404, load, {"m": "nothing"})
    admin(500, load, {"m": "broken"})
    admin(400, unload, {"m": "iris"})
    admin(500, "/reload")
    admin(200, "/reload", {}, {"model": "iris"})
    admin(400, "/reload", {}, {"modle": "iris"})
    admin(404, "/reload", {}, {"model": "nothing"})
    admin(415, "/reload", {}, {"model": "iris"}, headers={"Content-Type": "text/xml"})
    for path in index, load, unload:
        admin(415, path, {"m": "iris"}, b"{}", headers={"Content-Encoding": "br"})
        admin(413, path, {"m": "iris"}, b" " * 40000)


def secrets(c, s, document):
    """Every route that asks for a secret is refused without, and admin routes with the wrong one."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters" or not operation["security"]:
                continue
            names = {"m": "iris", "v": "1", "l": "stable"}
            c.check(s, 401, method.upper(), path, names)
            if operation.get("x-listener") == "admin":
                c.check(s, 403, method.upper(), path, names, headers={**JSON, "X-API-Key": "key"})


def single_models(c):
    """What depends on which models there are."""
    wild, empty = Running("wild", write_wild), Running("empty", lambda folder: None)
    c.check(wild, 500, "POST", "/predict", {}, {"instances": [[0.0]]})
    c.check(empty, 503, "POST", "/predict", {}, {"instances": [[0.0]]})
    c.check(empty, 503, "GET", "/models/{m}", {"m": "iris"})
    c.check(empty, 200, "GET", "/models")
    wild.stop()
    empty.stop()
    asked = Running("asked", write_sound, "--model-control", "explicit")
    for status, verb, name in (200, "load", "iris"), (200, "unload", "iris"), (404, "unload", "nothing"):
        c.check(asked, status, "POST", "/v2/repository/models/{m}/%s" % verb, {"m": name}, port="admin")
    c.check(asked, 200, "POST", "/v2/repository/index")
    asked.stop()


def main():
    for name, secret in ("tokens", "token"), ("keys", "key"):
        with open(os.path.join(FOLDER, name), "w") as file:
            file.write(secret + "\n")
    open_ = Running("open", write_all, "--max-body", "32768", "--default-model", "iris")
    guarded = Running("guarded", write_sound, "--admin-token-file", os.path.join(FOLDER, "tokens"),
                      "--api-key-file", os.path.join(FOLDER, "keys"))
    status, _, text = open_.ask("GET", "/openapi.json")
    with open("server/api/openapi.json", "rb") as file:
        if status != 200 or text != file.read():
            fail("the server does not answer its own document")
    document = json.loads(text)
    if document["info"]["version"] != json.loads(open_.ask("GET", "/v2")[2])["version"]:
        fail("the document is of another version")
    schemas = Schemas(document)
    check_routes(document)
    check_document(document, schemas)
    c = Checker(document, schemas)
    predictions(c, open_)
    scalars(c, open_)
    infinities(c, open_)
    questions(c, open_)
    for path in "/health", "/health/ready", "/v2/health/ready":
        c.check(open_, 503, "GET", path)
        c.check(guarded, 200, "GET", path)
    administration(c, open_)
    secrets(c, guarded, document)
    single_models(c)
    c.check(guarded, 404, "POST", "/predict", {}, {"instances": [ROW]}, {**JSON, "X-API-Key": "key"})
    c.check_all_tried()
    open_.stop()
    guarded.stop()
    print("%d answers were compared" % len(c.seen))
    sys.exit(failures > 0)


main()
