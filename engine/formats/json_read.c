#include "engine/formats/json_read.h"

#include <stdio.h>
#include <string.h>

json_t *json_read_text(const char *text, size_t size, struct nn_error *error)
{
    json_error_t reason;
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES, &reason);
    if (!value)
        nn_fail(error, "line %d, column %d: %s", reason.line, reason.column, reason.text);
    return value;
}

static const char *type_name(json_type type)
{
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction or an exponent";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

const char *json_read_kind(const json_t *value)
{
    return value ? type_name(json_typeof(value)) : "nothing";
}

int json_read_keys(const json_t *value, const char *const *keys, struct nn_error *error)
{
    if (!json_is_object(value))
        return nn_fail(error, "expected an object, got %s", json_read_kind(value));

    const char *key;
    json_t *member;
    json_object_foreach((json_t *)value, key, member)
    {
        const char *const *known = keys;
        while (*known && strcmp(*known, key) != 0)
            known++;
        if (*known)
            continue;

        char valid[256] = "";
        for (known = keys; *known; known++)
            snprintf(valid + strlen(valid), sizeof valid - strlen(valid), "%s\"%s\"",
                     known == keys ? "" : known[1] ? ", " : " and ", *known);
        return nn_fail(error, "unknown key \"%s\"; known are %s", key, valid);
    }
    return 0;
}

json_t *json_read_member(const json_t *object, const char *key, json_type type,
                         struct nn_error *error)
{
    json_t *member = json_object_get(object, key);
    if (member && json_typeof(member) == type)
        return member;
    nn_fail(error, "\"%s\": expected %s, got %s", key, type_name(type),
            json_read_kind(member));
    return NULL;
}
