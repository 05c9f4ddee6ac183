/*
 * A V2 request into rows. Its members may come in any order: data is read where it stands
 * when name, shape and datatype are known by then, as all clients send them, and otherwise
 * when its input ends.
 */
#include "server/v2.h"

#include "server/v2_outputs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* inputs */

static int read_dimension(struct v2_reader *v, void *context)
{
    struct nn_shape *shape = context;
    if (shape->rank == NN_MAX_RANK)
        return json_reader_refuse(&v->json, "Unable to parse 'shape': more than %d dimensions",
                                  NN_MAX_RANK);
    return v2_reader_unsigned(v, "shape", INT64_MAX, &shape->dims[shape->rank++]);
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
        return json_reader_refuse(&v->json, "input '%s' of model '%s' has no rows",
                                  c->port->name, v->model);
    if (n > v->json.max_rows)
        return json_reader_refuse(&v->json,
                                  "inference request batch-size must be <= %lld for '%s'",
                                  (long long)v->json.max_rows, v->model);
    if (v->rows && n != v->rows)
        return json_reader_refuse(&v->json,
                                  "input '%s' batch size does not match other inputs for '%s'",
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
        return json_reader_refuse(
            &v->json, "inference input '%s' data-type is '%.*s', but model '%s' expects '%s'",
            port->name, json_text_shown(&in->datatype), in->datatype.begin, v->model,
            nn_datatype_name(port->datatype));
    if (!fits(&in->shape, &port->shape)) {
        print_shape(expected, &port->shape);
        print_shape(got, &in->shape);
        return json_reader_refuse(
            &v->json, "unexpected shape for input '%s' for model '%s'. Expected %s, got %s",
            port->name, v->model, expected, got);
    }
    *n = in->column->fixed ? in->column->fixed : in->shape.dims[0];
    return take_rows(v, in->column, *n);
}

static int read_data(struct v2_reader *v, struct v2_input *in)
{
    int64_t n;
    if (check_input(v, in, &n) != 0)
        return -1;
    if (v2_needs_binary(in->column->port))
        return json_reader_refuse(
            &v->json,
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
        return json_reader_refuse(
            &v->json, "unexpected total byte size %lld for input '%s', expecting %zu",
            (long long)size, name, expected);
    if (expected > (size_t)(v->end - v->binary))
        return json_reader_refuse(
            &v->json, "the binary data of input '%s' is incomplete: %zu bytes of %zu", name,
            (size_t)(v->end - v->binary), expected);
    if (c->port->datatype == NN_BOOL && !is_boolean(v->binary, expected))
        return json_reader_refuse(
            &v->json, "the binary data of input '%s' is not BOOL: a byte is neither 0 nor 1",
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
        return v2_reader_skip_parameter(v, key);
    return v2_reader_unsigned(v, "binary_data_size", INT64_MAX, &in->binary_size);
}

static int read_input_name(struct v2_reader *v, struct v2_input *in)
{
    struct json_text name;
    if (in->column)
        return json_reader_refuse(&v->json, "an input has two names");
    if (v2_reader_string(v, "name", &name) != 0)
        return -1;
    for (int i = 0; i < v->json.n_columns && !in->column; i++)
        if (json_text_equal(&name, v->json.columns[i].port->name))
            in->column = &v->json.columns[i];
    if (!in->column)
        return json_reader_refuse(&v->json, "unexpected inference input '%.*s' for model '%s'",
                                  json_text_shown(&name), name.begin, v->model);
    bool *seen = &v->seen[in->column - v->json.columns];
    if (*seen)
        return json_reader_refuse(&v->json, "input '%s' already exists in request",
                                  in->column->port->name);
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
        return json_reader_refuse(&v->json, "an input has '%.*s' twice", json_text_shown(key),
                                  key->begin);
    if (json_text_equal(key, "shape")) {
        in->shaped = true;
        return v2_reader_array(v, "shape", read_dimension, &in->shape);
    }
    if (json_text_equal(key, "datatype")) {
        in->typed = true;
        return v2_reader_string(v, "datatype", &in->datatype);
    }
    if (json_text_equal(key, "parameters"))
        return v2_reader_object(v, "parameters", read_input_parameter, in);
    if (!json_text_equal(key, "data"))
        return v2_reader_skip(v);
    if (in->data)
        return json_reader_refuse(&v->json, "an input has 'data' twice");
    in->data = v->json.scan.p;
    return in->column && in->shaped && in->typed ? read_data(v, in) : v2_reader_skip(v);
}

static int read_input(struct v2_reader *v, void *context)
{
    struct v2_input in = {.binary_size = -1};
    int64_t n;
    (void)context;

    if (v2_reader_object(v, "inputs", read_input_member, &in) != 0)
        return -1;
    if (!in.column || !in.shaped || !in.typed)
        return json_reader_refuse(&v->json, "an input has no '%s'",
                                  !in.column   ? "name"
                                  : !in.shaped ? "shape"
                                               : "datatype");
    if (!in.data == (in.binary_size < 0))
        return json_reader_refuse(
            &v->json, "input '%s' must have exactly one of 'data' and 'binary_data_size'",
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

/* the whole */

static int read_parameter(struct v2_reader *v, const struct json_text *key, void *context)
{
    (void)context;
    if (json_text_equal(key, "binary_data_output"))
        return v2_reader_boolean(v, "binary_data_output", &v->all_binary);
    if (json_text_equal(key, "priority"))
        return v2_reader_unsigned(v, "priority", UINT64_MAX, &v->request->priority);
    if (json_text_equal(key, "timeout"))
        return v2_reader_unsigned(v, "timeout", UINT64_MAX, &v->request->timeout);
    return v2_reader_skip_parameter(v, key);
}

static int read_member(struct v2_reader *v, const struct json_text *key, void *context)
{
    (void)context;
    bool *once = json_text_equal(key, "inputs")    ? &v->has_inputs
                 : json_text_equal(key, "outputs") ? &v->has_outputs
                                                   : NULL;
    if (once && *once)
        return json_reader_refuse(&v->json, "'%.*s' is there twice", json_text_shown(key),
                                  key->begin);
    if (once)
        *once = true;
    if (once == &v->has_inputs)
        return v2_reader_array(v, "inputs", read_input, NULL);
    if (once == &v->has_outputs)
        return v2_outputs_read(v);
    if (json_text_equal(key, "id"))
        return v2_reader_string(v, "id", &v->request->id);
    if (json_text_equal(key, "parameters"))
        return v2_reader_object(v, "parameters", read_parameter, NULL);
    return v2_reader_skip(v);
}

static int check_complete(struct v2_reader *v)
{
    int expected = v->json.n_columns, got = 0;
    for (int i = 0; i < expected; i++)
        got += v->seen[i];
    if (got < expected)
        return json_reader_refuse(&v->json,
                                  "expected %d inputs but got %d inputs for model '%s'",
                                  expected, got, v->model);
    if (v->binary < v->end)
        return json_reader_refuse(&v->json,
                                  "unexpected additional input data for model '%s': %td bytes",
                                  v->model, v->end - v->binary);
    v->json.rows->n = v->rows ? v->rows : 1;
    return v2_outputs_finish(v);
}

static int read_json(struct v2_reader *v)
{
    struct json_scan *s = &v->json.scan;
    if (v2_reader_object(v, "request", read_member, NULL) != 0)
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
        return json_reader_refuse(
            &v->json,
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
