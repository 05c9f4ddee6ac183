/*
 * A V2 request into rows. Its members may come in any order: data is read where it stands
 * when name, shape and datatype are known by then, as all clients send them, and otherwise
 * when its input ends.
 */
#include "server/v2.h"

#include "server/json_reader.h"
#include "server/number.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CLASSES = 1 << 20 }; /* strings in an answer */

struct v2_reader {
    struct json_reader json;
    struct v2_request *request;
    const char *model;                  /* its name */
    const char *binary, *end;           /* what has not been taken of the binary data */
    bool all_binary;                    /* what outputs are that do not say */
    signed char form[TENSOR_MAX_PORTS]; /* of outputs: 1 binary, 0 JSON, -1 not said */
    bool seen[TENSOR_MAX_PORTS];        /* inputs */
    bool has_inputs, has_outputs;
    int64_t rows; /* 0: not known yet */
};

/* The input that is being read. */
struct v2_input {
    struct json_column *column; /* NULL: no name yet */
    struct nn_shape shape;
    struct json_text datatype;
    bool shaped, typed;
    const char *data;    /* NULL: none yet */
    bool taken;          /* data was read */
    int64_t binary_size; /* -1: not binary */
};

static int fail(struct v2_reader *v, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int fail(struct v2_reader *v, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (v->json.status == 0)
        v->json.status = JSON_BAD_REQUEST;
    return nn_fail(v->json.error, "%s", text);
}

static int shown(const struct json_text *text)
{
    return text->end - text->begin > 60 ? 60 : (int)(text->end - text->begin);
}

/* JSON */

typedef int member_function(struct v2_reader *v, const struct json_text *key, void *context);

static int read_string(struct v2_reader *v, const char *what, struct json_text *text)
{
    if (json_scan_peek(&v->json.scan) != '"')
        return fail(v, "Unable to parse '%s': expected a string, got %s", what,
                    json_reader_next(&v->json));
    if (json_scan_string(&v->json.scan, text, v->json.error) != 0)
        return json_reader_fail_syntax(&v->json, NULL);
    return 0;
}

/* Beyond INT64_MAX, which `max` may be, one number is as good as another. */
static int read_unsigned(struct v2_reader *v, const char *what, uint64_t max, int64_t *value)
{
    uint64_t number;
    json_scan_space(&v->json.scan);
    if (number_read_unsigned(&v->json.scan.p, v->json.scan.end, max, &number) != NUMBER_OK)
        return fail(v,
                    "Unable to parse '%s': attempt to access JSON non-unsigned-integer as "
                    "unsigned-integer",
                    what);
    *value = number < INT64_MAX ? (int64_t)number : INT64_MAX;
    return 0;
}

static int read_boolean(struct v2_reader *v, const char *what, bool *value)
{
    char c = json_scan_peek(&v->json.scan);
    if (c != 't' && c != 'f')
        return fail(v, "Unable to parse '%s': expected a boolean, got %s", what,
                    json_reader_next(&v->json));
    *value = c == 't';
    if (json_scan_literal(&v->json.scan, *value ? "true" : "false", v->json.error) != 0)
        return json_reader_fail_syntax(&v->json, NULL);
    return 0;
}

static int skip(struct v2_reader *v)
{
    if (json_scan_value(&v->json.scan, v->json.error) != 0)
        return json_reader_fail_syntax(&v->json, NULL);
    return 0;
}

static int read_object(struct v2_reader *v, const char *what, member_function *read,
                       void *context)
{
    struct json_scan *s = &v->json.scan;
    if (!json_scan_take(s, '{'))
        return fail(v, "Unable to parse '%s': expected an object, got %s", what,
                    json_reader_next(&v->json));
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

static int read_array(struct v2_reader *v, const char *what,
                      int (*read)(struct v2_reader *v, void *context), void *context)
{
    struct json_scan *s = &v->json.scan;
    if (!json_scan_take(s, '['))
        return fail(v, "Unable to parse '%s': expected an array, got %s", what,
                    json_reader_next(&v->json));
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

/* A parameter that means nothing to us is let through when it is one. */
static int skip_parameter(struct v2_reader *v, const struct json_text *key)
{
    static const char reserved[] = "triton_", shared[] = "shared_memory_";
    size_t size = (size_t)(key->end - key->begin);
    char next = json_scan_peek(&v->json.scan);
    if (size >= sizeof shared - 1 && memcmp(key->begin, shared, sizeof shared - 1) == 0)
        return fail(v, "shared memory is not supported");
    if (size >= sizeof reserved - 1 && memcmp(key->begin, reserved, sizeof reserved - 1) == 0)
        return fail(v, "parameter keys starting with 'triton_' are reserved");
    if (next == '[' || next == '{' || next == 'n')
        return fail(v,
                    "parameter '%.*s' has invalid type. It should be either 'int', 'bool', "
                    "'string' or 'double'",
                    shown(key), key->begin);
    return skip(v);
}

/* inputs */

static int read_dimension(struct v2_reader *v, void *context)
{
    struct nn_shape *shape = context;
    if (shape->rank == NN_MAX_RANK)
        return fail(v, "Unable to parse 'shape': more than %d dimensions", NN_MAX_RANK);
    return read_unsigned(v, "shape", INT64_MAX, &shape->dims[shape->rank++]);
}

static void print_shape(char text[256], const struct nn_shape *shape)
{
    size_t n = (size_t)snprintf(text, 256, "[");
    for (int d = 0; d < shape->rank; d++)
        n += (size_t)snprintf(text + n, 256 - n, "%s%lld", d ? "," : "",
                              (long long)shape->dims[d]);
    snprintf(text + n, 256 - n, "]");
}

static bool fits(const struct nn_shape *shape, const struct nn_shape *expected)
{
    if (shape->rank != expected->rank)
        return false;
    for (int d = 0; d < shape->rank; d++)
        if (shape->dims[d] != expected->dims[d] && expected->dims[d] >= 0)
            return false;
    return true;
}

static int make_room(struct v2_reader *v, int64_t n)
{
    int64_t kept[TENSOR_MAX_PORTS];
    if (n <= v->json.rows->capacity)
        return 0;
    for (int i = 0; i < v->json.n_columns; i++)
        kept[i] = v->json.columns[i].n;
    if (tensor_rows_grow(v->json.rows, n, kept) == 0)
        return 0;
    v->json.status = JSON_NO_MEMORY;
    return nn_fail(v->json.error, "no memory for %lld rows", (long long)n);
}

/* Makes room for n rows of an input, as many as the others have that have rows. */
static int take_rows(struct v2_reader *v, const struct json_column *c, int64_t n)
{
    if (c->fixed)
        return make_room(v, 1);
    if (n == 0)
        return fail(v, "input '%s' of model '%s' has no rows", c->port->name, v->model);
    if (n > v->json.max_rows)
        return fail(v, "inference request batch-size must be <= %lld for '%s'",
                    (long long)v->json.max_rows, v->model);
    if (v->rows && n != v->rows)
        return fail(v, "input '%s' batch size does not match other inputs for '%s'",
                    c->port->name, v->model);
    v->rows = n;
    return make_room(v, n);
}

/* Finds the input to be as the model wants it, and makes room for its *n rows. */
static int check_input(struct v2_reader *v, const struct v2_input *in, int64_t *n)
{
    const struct nn_port *port = in->column->port;
    char expected[256], got[256];

    if (!json_text_equal(&in->datatype, nn_datatype_name(port->datatype)))
        return fail(v, "inference input '%s' data-type is '%.*s', but model '%s' expects '%s'",
                    port->name, shown(&in->datatype), in->datatype.begin, v->model,
                    nn_datatype_name(port->datatype));
    if (!fits(&in->shape, &port->shape)) {
        print_shape(expected, &port->shape);
        print_shape(got, &in->shape);
        return fail(v, "unexpected shape for input '%s' for model '%s'. Expected %s, got %s",
                    port->name, v->model, expected, got);
    }
    *n = in->column->fixed ? in->column->fixed : in->shape.dims[0];
    return take_rows(v, in->column, *n);
}

/* JSON of the protocol has no numbers of the small floating-point types. */
static bool needs_binary(const struct nn_port *port)
{
    return port->datatype == NN_FP16 || port->datatype == NN_BF16;
}

static int read_data(struct v2_reader *v, struct v2_input *in)
{
    int64_t n;
    if (check_input(v, in, &n) != 0)
        return -1;
    if (needs_binary(in->column->port))
        return fail(v,
                    "receiving %s data via JSON is not supported. Please use the binary data "
                    "format for input %s",
                    nn_datatype_name(in->column->port->datatype), in->column->port->name);
    int result = json_reader_tensor(&v->json, in->column, n);
    if (result != 0 && v->json.complaint == JSON_TOO_FEW)
        nn_fail_in(v->json.error,
                   "Failed to parse 'data' field: shape does not match true shape");
    if (result != 0 && v->json.complaint == JSON_TOO_MANY)
        nn_fail_in(v->json.error,
                   "Unable to parse 'data': Shape does not match true shape of 'data' field");
    v->json.column = NULL;
    v->json.depth = 0;
    in->taken = true;
    return result;
}

static bool is_boolean(const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)data[i] > 1)
            return false;
    return true;
}

/* Takes `size` bytes, which have to be n rows. */
static int take_binary(struct v2_reader *v, struct json_column *c, int64_t n, int64_t size)
{
    const char *name = c->port->name;
    size_t expected = c->row_bytes * (size_t)n;
    if ((uint64_t)size != expected)
        return fail(v, "unexpected total byte size %lld for input '%s', expecting %zu",
                    (long long)size, name, expected);
    if (expected > (size_t)(v->end - v->binary))
        return fail(v, "the binary data of input '%s' is incomplete: %zu bytes of %zu", name,
                    (size_t)(v->end - v->binary), expected);
    if (c->port->datatype == NN_BOOL && !is_boolean(v->binary, expected))
        return fail(v, "the binary data of input '%s' is not BOOL: a byte is neither 0 nor 1",
                    name);
    memcpy(v->json.rows->data[c - v->json.columns], v->binary, expected);
    v->binary += expected;
    c->n = n;
    return 0;
}

static int read_input_parameter(struct v2_reader *v, const struct json_text *key, void *context)
{
    struct v2_input *in = context;
    if (!json_text_equal(key, "binary_data_size"))
        return skip_parameter(v, key);
    return read_unsigned(v, "binary_data_size", INT64_MAX, &in->binary_size);
}

static int read_input_name(struct v2_reader *v, struct v2_input *in)
{
    struct json_text name;
    if (in->column)
        return fail(v, "an input has two names");
    if (read_string(v, "name", &name) != 0)
        return -1;
    for (int i = 0; i < v->json.n_columns && !in->column; i++)
        if (json_text_equal(&name, v->json.columns[i].port->name))
            in->column = &v->json.columns[i];
    if (!in->column)
        return fail(v, "unexpected inference input '%.*s' for model '%s'", shown(&name),
                    name.begin, v->model);
    bool *seen = &v->seen[in->column - v->json.columns];
    if (*seen)
        return fail(v, "input '%s' already exists in request", in->column->port->name);
    *seen = true;
    return 0;
}

static int read_input_member(struct v2_reader *v, const struct json_text *key, void *context)
{
    struct v2_input *in = context;
    if (json_text_equal(key, "name"))
        return read_input_name(v, in);
    if ((in->shaped && json_text_equal(key, "shape")) ||
        (in->typed && json_text_equal(key, "datatype")))
        return fail(v, "an input has '%.*s' twice", shown(key), key->begin);
    if (json_text_equal(key, "shape")) {
        in->shaped = true;
        return read_array(v, "shape", read_dimension, &in->shape);
    }
    if (json_text_equal(key, "datatype")) {
        in->typed = true;
        return read_string(v, "datatype", &in->datatype);
    }
    if (json_text_equal(key, "parameters"))
        return read_object(v, "parameters", read_input_parameter, in);
    if (!json_text_equal(key, "data"))
        return skip(v);
    if (in->data)
        return fail(v, "an input has 'data' twice");
    in->data = v->json.scan.p;
    return in->column && in->shaped && in->typed ? read_data(v, in) : skip(v);
}

static int read_input(struct v2_reader *v, void *context)
{
    struct v2_input in = {.binary_size = -1};
    int64_t n;
    (void)context;

    if (read_object(v, "inputs", read_input_member, &in) != 0)
        return -1;
    if (!in.column || !in.shaped || !in.typed)
        return fail(v, "an input has no '%s'",
                    !in.column   ? "name"
                    : !in.shaped ? "shape"
                                 : "datatype");
    if (!in.data == (in.binary_size < 0))
        return fail(v, "input '%s' must have exactly one of 'data' and 'binary_data_size'",
                    in.column->port->name);
    if (in.binary_size >= 0)
        return check_input(v, &in, &n) == 0 ? take_binary(v, in.column, n, in.binary_size) : -1;
    if (in.taken)
        return 0;
    const char *behind = v->json.scan.p;
    v->json.scan.p = in.data;
    int result = read_data(v, &in);
    if (result == 0)
        v->json.scan.p = behind;
    return result;
}

/* outputs */

static int add_output(struct v2_reader *v, int index)
{
    struct v2_request *q = v->request;
    for (int i = 0; i < q->n_outputs; i++)
        if (q->outputs[i].index == index)
            return fail(v, "output '%s' already exists in request",
                        nn_model_output(v->json.rows->model, index)->name);
    v->form[q->n_outputs] = -1;
    q->outputs[q->n_outputs++] = (struct v2_output){.index = index};
    return 0;
}

struct v2_wanted {
    int index; /* -1: no name yet */
    bool said, binary;
    int64_t classes;
};

static int read_output_parameter(struct v2_reader *v, const struct json_text *key,
                                 void *context)
{
    struct v2_wanted *w = context;
    if (json_text_equal(key, "classification"))
        return read_unsigned(v, "classification", UINT64_MAX, &w->classes);
    if (!json_text_equal(key, "binary_data"))
        return skip_parameter(v, key);
    w->said = true;
    return read_boolean(v, "binary_data", &w->binary);
}

static int read_output_member(struct v2_reader *v, const struct json_text *key, void *context)
{
    struct v2_wanted *w = context;
    const struct nn_model *model = v->json.rows->model;
    struct json_text name;

    if (json_text_equal(key, "parameters"))
        return read_object(v, "parameters", read_output_parameter, w);
    if (!json_text_equal(key, "name"))
        return skip(v);
    if (w->index >= 0)
        return fail(v, "an output has two names");
    if (read_string(v, "name", &name) != 0)
        return -1;
    for (int i = 0; i < nn_model_n_outputs(model); i++) {
        if (json_text_equal(&name, nn_model_output(model, i)->name)) {
            w->index = i;
            return 0;
        }
    }
    return fail(v, "unexpected inference output '%.*s' for model '%s'", shown(&name),
                name.begin, v->model);
}

static int read_output(struct v2_reader *v, void *context)
{
    struct v2_wanted w = {.index = -1};
    (void)context;
    if (read_object(v, "outputs", read_output_member, &w) != 0)
        return -1;
    if (w.index < 0)
        return fail(v, "an output has no 'name'");
    if (add_output(v, w.index) != 0)
        return -1;
    int i = v->request->n_outputs - 1;
    v->form[i] = w.said ? w.binary : -1;
    v->request->outputs[i].classes = w.classes;
    return 0;
}

static int finish_outputs(struct v2_reader *v)
{
    struct v2_request *q = v->request;
    const struct nn_model *model = v->json.rows->model;
    if (q->n_outputs == 0)
        for (int i = 0; i < nn_model_n_outputs(model); i++)
            add_output(v, i);
    for (int i = 0; i < q->n_outputs; i++) {
        struct v2_output *o = &q->outputs[i];
        const struct nn_port *port = nn_model_output(model, o->index);
        int64_t elements = tensor_row_elements(port), rows = v->json.rows->n;
        int64_t classes = o->classes < elements ? o->classes : elements;
        o->binary = v->form[i] < 0 ? v->all_binary : v->form[i];
        if (needs_binary(port) && !o->binary && !o->classes)
            return fail(v,
                        "sending %s data via JSON is not supported. Please use the binary data "
                        "format for output %s",
                        nn_datatype_name(port->datatype), port->name);
        if (classes > 0 && rows > MAX_CLASSES / classes)
            return fail(v, "output '%s': a classification of more than %d elements", port->name,
                        MAX_CLASSES);
    }
    return 0;
}

/* the whole */

static int read_parameter(struct v2_reader *v, const struct json_text *key, void *context)
{
    (void)context;
    if (json_text_equal(key, "binary_data_output"))
        return read_boolean(v, "binary_data_output", &v->all_binary);
    if (json_text_equal(key, "priority"))
        return read_unsigned(v, "priority", UINT64_MAX, &v->request->priority);
    if (json_text_equal(key, "timeout"))
        return read_unsigned(v, "timeout", UINT64_MAX, &v->request->timeout);
    return skip_parameter(v, key);
}

static int read_member(struct v2_reader *v, const struct json_text *key, void *context)
{
    (void)context;
    bool *once = json_text_equal(key, "inputs")    ? &v->has_inputs
                 : json_text_equal(key, "outputs") ? &v->has_outputs
                                                   : NULL;
    if (once && *once)
        return fail(v, "'%.*s' is there twice", shown(key), key->begin);
    if (once)
        *once = true;
    if (once == &v->has_inputs)
        return read_array(v, "inputs", read_input, NULL);
    if (once == &v->has_outputs)
        return read_array(v, "outputs", read_output, NULL);
    if (json_text_equal(key, "id"))
        return read_string(v, "id", &v->request->id);
    if (json_text_equal(key, "parameters"))
        return read_object(v, "parameters", read_parameter, NULL);
    return skip(v);
}

static int check_complete(struct v2_reader *v)
{
    int expected = v->json.n_columns, got = 0;
    for (int i = 0; i < expected; i++)
        got += v->seen[i];
    if (got < expected)
        return fail(v, "expected %d inputs but got %d inputs for model '%s'", expected, got,
                    v->model);
    if (v->binary < v->end)
        return fail(v, "unexpected additional input data for model '%s': %td bytes", v->model,
                    v->end - v->binary);
    v->json.rows->n = v->rows ? v->rows : 1;
    return finish_outputs(v);
}

static int read_json(struct v2_reader *v)
{
    struct json_scan *s = &v->json.scan;
    if (read_object(v, "request", read_member, NULL) != 0)
        return -1;
    json_scan_space(s);
    if (s->p < s->end)
        return json_reader_fail_syntax(&v->json, "nothing more");
    return check_complete(v);
}

/* A body without JSON is the one input's data: one row of it, or as many as it has bytes for
 * where they are no batch. */
static int read_raw(struct v2_reader *v)
{
    struct json_column *c = &v->json.columns[0];
    int64_t size = v->end - v->binary, n = c->fixed ? c->fixed : 1;
    if (v->json.n_columns != 1)
        return fail(v,
                    "Raw request must only have 1 input (found 1) to be deduced but got %d "
                    "inputs in '%s' model configuration",
                    v->json.n_columns, v->model);
    if (!c->fixed && nn_model_unbatched(v->json.rows->model) && size > (int64_t)c->row_bytes)
        n = size / (int64_t)c->row_bytes;
    v->all_binary = true;
    v->seen[0] = true;
    if (take_rows(v, c, n) != 0 || take_binary(v, c, n, size) != 0)
        return -1;
    return check_complete(v);
}

int v2_read(struct v2_request **request, const struct served *served, struct tensor_rows *rows,
            const char *body, size_t size, int64_t json_length, int64_t max_rows,
            struct nn_error *error)
{
    struct v2_reader v = {.model = served->name};
    size_t json = json_length < 0 ? size : (size_t)json_length;
    body = size ? body : "";            /* NULL + 0 is undefined */

    *request = malloc(sizeof **request +
                      (size_t)nn_model_n_outputs(served->model) * sizeof(*request)->outputs[0]);
    if (!*request) {
        nn_fail(error, "out of memory");
        return JSON_NO_MEMORY;
    }
    **request = (struct v2_request){0};
    if (json_length == -2 || json > size) {
        nn_fail(error, "inference header size should be in range (0, %zu)", size);
        return JSON_BAD_REQUEST;
    }
    json_reader_init(&v.json, rows, body, json, max_rows, error);
    v.json.by_column = true;
    v.request = *request;
    v.binary = body + json;
    v.end = body + size;
    if ((json_length == 0 ? read_raw : read_json)(&v) == 0)
        return 0;

    tensor_rows_release(rows);
    struct nn_error syntax = {0};
    if (v.json.status == JSON_BAD_REQUEST && json_length != 0 &&
        json_scan_document(body, json, &syntax) != 0) {
        if (error)
            *error = syntax;
        nn_fail_in(error, "failed to parse the request JSON buffer");
    }
    return v.json.status;
}
