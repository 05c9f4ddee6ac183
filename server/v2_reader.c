#include "server/v2_reader.h"

#include "server/number.h"
#include <string.h>

bool v2_needs_binary(const struct nn_port *port)
{
    return port->datatype == NN_FP16 || port->datatype == NN_BF16;
}

int v2_reader_string(struct v2_reader *v, const char *what, struct json_text *text)
{
    if (json_scan_peek(&v->json.scan) != '"')
        return json_reader_refuse(&v->json, "Unable to parse '%s': expected a string, got %s",
                                  what, json_reader_next(&v->json));
    if (json_scan_string(&v->json.scan, text, v->json.error) != 0)
        return json_reader_fail_syntax(&v->json, NULL);
    return 0;
}

int v2_reader_unsigned(struct v2_reader *v, const char *what, uint64_t max, int64_t *value)
{
    uint64_t number;
    json_scan_space(&v->json.scan);
    if (number_read_unsigned(&v->json.scan.p, v->json.scan.end, max, &number) != NUMBER_OK)
        return json_reader_refuse(
            &v->json,
            "Unable to parse '%s': attempt to access JSON non-unsigned-integer as "
            "unsigned-integer",
            what);
    *value = number < INT64_MAX ? (int64_t)number : INT64_MAX;
    return 0;
}

int v2_reader_boolean(struct v2_reader *v, const char *what, bool *value)
{
    char c = json_scan_peek(&v->json.scan);
    if (c != 't' && c != 'f')
        return json_reader_refuse(&v->json, "Unable to parse '%s': expected a boolean, got %s",
                                  what, json_reader_next(&v->json));
    *value = c == 't';
    if (json_scan_literal(&v->json.scan, *value ? "true" : "false", v->json.error) != 0)
        return json_reader_fail_syntax(&v->json, NULL);
    return 0;
}

int v2_reader_skip(struct v2_reader *v)
{
    if (json_scan_value(&v->json.scan, v->json.error) != 0)
        return json_reader_fail_syntax(&v->json, NULL);
    return 0;
}

int v2_reader_object(struct v2_reader *v, const char *what, v2_read_member *read, void *context)
{
    struct json_scan *s = &v->json.scan;
    if (!json_scan_take(s, '{'))
        return json_reader_refuse(&v->json, "Unable to parse '%s': expected an object, got %s",
                                  what, json_reader_next(&v->json));
    bool more = !json_scan_take(s, '}');
    while (more) {
        struct json_text key;
        json_scan_space(s);
        if (json_scan_string(s, &key, v->json.error) != 0)
            return json_reader_fail_syntax(&v->json, NULL);
        if (!json_scan_take(s, ':'))
            return json_reader_fail_syntax(&v->json, "':'");
        if (read(v, &key, context) != 0)
            return -1;
        more = json_scan_take(s, ',');
        if (!more && !json_scan_take(s, '}'))
            return json_reader_fail_syntax(&v->json, "',' or '}'");
    }
    return 0;
}

int v2_reader_array(struct v2_reader *v, const char *what, v2_read_element *read, void *context)
{
    struct json_scan *s = &v->json.scan;
    if (!json_scan_take(s, '['))
        return json_reader_refuse(&v->json, "Unable to parse '%s': expected an array, got %s",
                                  what, json_reader_next(&v->json));
    bool more = !json_scan_take(s, ']');
    while (more) {
        if (read(v, context) != 0)
            return -1;
        more = json_scan_take(s, ',');
        if (!more && !json_scan_take(s, ']'))
            return json_reader_fail_syntax(&v->json, "',' or ']'");
    }
    return 0;
}

int v2_reader_skip_parameter(struct v2_reader *v, const struct json_text *key)
{
    static const char reserved[] = "triton_", shared[] = "shared_memory_";
    size_t size = (size_t)(key->end - key->begin);
    char next = json_scan_peek(&v->json.scan);
    if (size >= sizeof shared - 1 && memcmp(key->begin, shared, sizeof shared - 1) == 0)
        return json_reader_refuse(&v->json, "shared memory is not supported");
    if (size >= sizeof reserved - 1 && memcmp(key->begin, reserved, sizeof reserved - 1) == 0)
        return json_reader_refuse(&v->json,
                                  "parameter keys starting with 'triton_' are reserved");
    if (next == '[' || next == '{' || next == 'n')
        return json_reader_refuse(
            &v->json,
            "parameter '%.*s' has invalid type. It should be either 'int', 'bool', "
            "'string' or 'double'",
            json_text_shown(key), key->begin);
    return v2_reader_skip(v);
}
