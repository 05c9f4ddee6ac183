/*
 * Output tensors into an answer: the other half of json_tensor.h.
 */
#include "server/json_tensor.h"

#include "server/number.h"
#include <math.h>
#include <string.h>

void json_write_port(struct buffer *out, const struct nn_port *port)
{
    buffer_add_text(out, "{\"name\":");
    buffer_add_json_string(out, port->name);
    buffer_printf(out, ",\"datatype\":\"%s\",\"shape\":[", nn_datatype_name(port->datatype));
    for (int d = 0; d < port->shape.rank; d++)
        buffer_printf(out, "%s%lld", d ? "," : "", (long long)port->shape.dims[d]);
    buffer_add_text(out, "]}");
}

void json_write_ports(struct buffer *out, const struct nn_model *model)
{
    buffer_add_text(out, "\"inputs\":[");
    for (int i = 0; i < nn_model_n_inputs(model); i++) {
        buffer_add_text(out, i ? "," : "");
        json_write_port(out, nn_model_input(model, i));
    }
    buffer_add_text(out, "],\"outputs\":[");
    for (int i = 0; i < nn_model_n_outputs(model); i++) {
        buffer_add_text(out, i ? "," : "");
        json_write_port(out, nn_model_output(model, i));
    }
    buffer_add_text(out, "]");
}

/* Elements of a tensor as nested arrays: of one row, or of the whole. */
struct block {
    enum nn_datatype datatype;
    int rank;
    const int64_t *dims;
    int64_t elements;
    const char *data;
};

static int64_t product(const int64_t *dims, int n)
{
    int64_t elements = 1;
    for (int i = 0; i < n; i++)
        elements *= dims[i];
    return elements;
}

static struct block whole(const struct nn_tensor *tensor)
{
    const struct nn_shape *shape = &tensor->shape;
    return (struct block){tensor->datatype, shape->rank, shape->dims,
                          product(shape->dims, shape->rank), tensor->data};
}

/* Row i of a tensor that begins with the batch. */
static struct block row_of(const struct nn_tensor *tensor, int64_t i)
{
    const struct nn_shape *shape = &tensor->shape;
    struct block b = {tensor->datatype, shape->rank - 1, shape->dims + 1,
                      product(shape->dims + 1, shape->rank - 1), tensor->data};
    b.data += (size_t)(i * b.elements) * nn_datatype_size(b.datatype);
    return b;
}

/* The small floating-point types are written as the FP32 that they are. */
static size_t write_float(char *out, float value)
{
    return isfinite(value) ? number_write_float(out, value) : 0;
}

static size_t write_double(char *out, double value)
{
    return isfinite(value) ? number_write_double(out, value) : 0;
}

static size_t write_boolean(char *out, bool value)
{
    const char *text = value ? "true" : "false";
    size_t n = strlen(text);
    memcpy(out, text, n);
    return n;
}

/* The text of element i at `out`, room for NUMBER_MAX_TEXT. 0: it is not finite. */
static size_t write_element(char *out, const struct block *b, int64_t i)
{
    const void *data = b->data;
    switch (b->datatype) {
    case NN_FP32:
        return write_float(out, ((const float *)data)[i]);
    case NN_FP64:
        return write_double(out, ((const double *)data)[i]);
    case NN_FP16:
        return write_float(out, nn_fp16_read(((const uint16_t *)data)[i]));
    case NN_BF16:
        return write_float(out, nn_bf16_read(((const uint16_t *)data)[i]));
    case NN_INT8:
        return number_write_integer(out, ((const int8_t *)data)[i]);
    case NN_INT16:
        return number_write_integer(out, ((const int16_t *)data)[i]);
    case NN_INT32:
        return number_write_integer(out, ((const int32_t *)data)[i]);
    case NN_INT64:
        return number_write_integer(out, ((const int64_t *)data)[i]);
    case NN_UINT8:
        return number_write_integer(out, ((const uint8_t *)data)[i]);
    case NN_UINT16:
        return number_write_integer(out, ((const uint16_t *)data)[i]);
    case NN_UINT32:
        return number_write_integer(out, ((const uint32_t *)data)[i]);
    case NN_UINT64:
        return number_write_unsigned(out, ((const uint64_t *)data)[i]);
    case NN_BOOL:
        return write_boolean(out, ((const uint8_t *)data)[i]);
    }
    return 0;
}

/* Adds element i, behind a comma if there is one before it. -1: it is not finite. */
static inline int add_element(struct buffer *out, const struct block *b, int64_t i, bool comma)
{
    char *text = buffer_reserve(out, NUMBER_MAX_TEXT + 1);
    if (!text)
        return 0;
    *text = ',';
    size_t length = write_element(text + comma, b, i);
    out->size += length + comma;
    return length > 0 ? 0 : -1;
}

/* Adds elements with commas between them; FP32, which nearly all are, many at a time. */
static int add_floats(struct buffer *out, const float *values, int64_t n)
{
    enum { MANY = 32 };
    for (int64_t i = 0; i < n;) {
        char *text = buffer_reserve(out, MANY * (NUMBER_MAX_TEXT + 1)), *p = text;
        if (!text)
            return 0;
        for (int64_t end = n - i < MANY ? n : i + MANY; i < end; i++) {
            *p = ',';
            p += i > 0;
            size_t length = write_float(p, values[i]);
            if (length == 0)
                return -1;
            p += length;
        }
        out->size += (size_t)(p - text);
    }
    return 0;
}

static int add_list(struct buffer *out, const struct block *b, int64_t first, int64_t n)
{
    buffer_add(out, "[", 1);
    if (b->datatype == NN_FP32) {
        if (add_floats(out, (const float *)(const void *)b->data + first, n) != 0)
            return -1;
    } else {
        for (int64_t i = 0; i < n; i++)
            if (add_element(out, b, first + i, i > 0) != 0)
                return -1;
    }
    buffer_add(out, "]", 1);
    return 0;
}

/* -1: an element is not finite. */
static int add_block(struct buffer *out, const struct block *b)
{
    if (b->rank == 0)
        return add_element(out, b, 0, false);

    /* A bracket of an outer dimension opens before a list whose number is a multiple of the
     * lists in it, and closes behind the last of them. */
    int64_t inner = b->dims[b->rank - 1];
    int64_t lists = b->elements / inner;
    for (int64_t i = 0; i < lists; i++) {
        if (i > 0)
            buffer_add(out, ",", 1);
        int64_t inside = 1;
        for (int k = b->rank - 2; k >= 0; k--) {
            inside *= b->dims[k];
            if (i % inside == 0)
                buffer_add(out, "[", 1);
        }
        if (add_list(out, b, i * inner, inner) != 0)
            return -1;
        inside = 1;
        for (int k = b->rank - 2; k >= 0; k--) {
            inside *= b->dims[k];
            if ((i + 1) % inside == 0)
                buffer_add(out, "]", 1);
        }
    }
    return 0;
}

int json_write_elements(struct buffer *out, const struct nn_tensor *tensor, int64_t first,
                        int64_t n)
{
    struct block b = {.datatype = tensor->datatype, .data = tensor->data};
    return add_list(out, &b, first, n);
}

int json_write_element(struct buffer *out, const struct nn_tensor *tensor, int64_t i)
{
    struct block b = {.datatype = tensor->datatype, .data = tensor->data};
    return add_element(out, &b, i, false);
}

/* Whether output k has a row for each of the n of the request. Where a model is not batched, its
 * first dimension may follow the request in some other way: twice as many rows, or half. */
static bool has_rows(const struct nn_model *model, int k, const struct nn_tensor *output,
                     int64_t n)
{
    const struct nn_shape *shape = &nn_model_output(model, k)->shape;
    return shape->rank > 0 && shape->dims[0] < 0 &&
           (!nn_model_unbatched(model) || output->shape.dims[0] == n);
}

/* The key of an output in an object by name. */
static void write_name(struct buffer *out, int i, const struct nn_port *port)
{
    if (i > 0)
        buffer_add(out, ",", 1);
    buffer_add_json_string(out, port->name);
    buffer_add(out, ":", 1);
}

/* Row i of the answer; `first` is where the answer begins in the tensors. */
static int write_row(struct buffer *out, const struct nn_model *model,
                     const struct nn_tensor *outputs, int64_t first, int64_t i,
                     struct nn_error *error)
{
    int n = nn_model_n_outputs(model);
    if (n > 1)
        buffer_add(out, "{", 1);
    for (int k = 0; k < n; k++) {
        const struct nn_port *port = nn_model_output(model, k);
        if (n > 1)
            write_name(out, k, port);
        struct block b = row_of(&outputs[k], first + i);
        if (add_block(out, &b) != 0)
            return nn_fail(error, "output \"%s\" row %lld is not finite", port->name,
                           (long long)i);
    }
    if (n > 1)
        buffer_add(out, "}", 1);
    return 0;
}

/* Rows [first, first + n) of output k, or all of it when it has no rows. */
static struct block rows_of(const struct nn_model *model, int k, const struct nn_tensor *tensor,
                            int64_t first, int64_t n, int64_t dims[NN_MAX_RANK])
{
    struct block b = whole(tensor);
    memcpy(dims, b.dims, sizeof tensor->shape.dims);
    if (has_rows(model, k, tensor, n)) {
        struct block row = row_of(tensor, first);
        dims[0] = n;
        b.data = row.data;
        b.elements = n * row.elements;
    }
    b.dims = dims;
    return b;
}

int json_write_columns(struct buffer *out, const struct nn_model *model,
                       const struct nn_tensor *outputs, int64_t first, int64_t n,
                       struct nn_error *error)
{
    int n_outputs = nn_model_n_outputs(model);
    if (n_outputs > 1)
        buffer_add(out, "{", 1);
    for (int k = 0; k < n_outputs; k++) {
        const struct nn_port *port = nn_model_output(model, k);
        int64_t dims[NN_MAX_RANK];
        struct block b = rows_of(model, k, &outputs[k], first, n, dims);
        if (n_outputs > 1)
            write_name(out, k, port);
        if (add_block(out, &b) != 0)
            return nn_fail(error, "output \"%s\" is not finite", port->name);
    }
    if (n_outputs > 1)
        buffer_add(out, "}", 1);
    return 0;
}

int json_write_predictions(struct buffer *out, const struct nn_model *model,
                           const struct nn_tensor *outputs, int64_t first, int64_t n,
                           struct nn_error *error)
{
    int n_outputs = nn_model_n_outputs(model);
    if (n_outputs == 1 && nn_model_output(model, 0)->shape.rank == 0) {
        /* Predictions are a list, also where there is one for all rows. */
        buffer_add(out, "[", 1);
        int result = json_write_columns(out, model, outputs, first, n, error);
        buffer_add(out, "]", 1);
        return result;
    }
    for (int k = 0; k < n_outputs; k++)
        if (!has_rows(model, k, &outputs[k], n))
            return json_write_columns(out, model, outputs, first, n, error);

    buffer_add(out, "[", 1);
    for (int64_t i = 0; i < n; i++) {
        if (i > 0)
            buffer_add(out, ",", 1);
        if (write_row(out, model, outputs, first, i, error) != 0)
            return -1;
    }
    buffer_add(out, "]", 1);
    return 0;
}

/* The class that a row says: of equal elements the first. FP32 is nearly always the case. */
static int64_t best_class(const struct nn_tensor *output, int64_t first, int64_t elements)
{
    const float *x = output->datatype == NN_FP32 ? (const float *)output->data + first : NULL;
    double largest = x ? (double)x[0] : nn_tensor_element(output, first);
    if (elements == 1)
        return largest > 0.5;
    int64_t best = 0;
    for (int64_t i = 1; i < elements; i++) {
        double element = x ? (double)x[i] : nn_tensor_element(output, first + i);
        if (element > largest) {
            largest = element;
            best = i;
        }
    }
    return best;
}

bool json_write_labels(struct buffer *out, const struct nn_model *model,
                       const struct nn_tensor *output, int64_t first, int64_t n)
{
    int n_labels = nn_model_n_labels(model);
    if (n_labels == 0 || !nn_datatype_is_real(output->datatype) ||
        !has_rows(model, 0, output, n))
        return false;
    int64_t elements = row_of(output, 0).elements;
    if (elements != n_labels && !(elements == 1 && n_labels == 2))
        return false;

    buffer_add(out, "[", 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t class = best_class(output, (first + i) * elements, elements);
        if (i > 0)
            buffer_add(out, ",", 1);
        buffer_add_json_string(out, nn_model_label(model, (int)class));
    }
    buffer_add(out, "]", 1);
    return true;
}
