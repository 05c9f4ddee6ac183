/*
 * A V2 answer: the other half of v2.h.
 */
#include "server/v2.h"

#include "server/json_tensor.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The part of an output that belongs to the request. */
struct part {
    int output;
    const struct nn_tensor *tensor;
    struct nn_shape shape;
    bool rows; /* begins with the batch */
    int64_t first, elements;
};

static struct part part_of(const struct nn_model *model, int output,
                           const struct nn_tensor *tensor, int64_t first, int64_t n)
{
    const struct nn_shape *declared = &nn_model_output(model, output)->shape;
    struct part p = {output, tensor, .shape = tensor->shape, .elements = 1};
    p.rows = declared->rank > 0 && declared->dims[0] < 0;
    /* Where rows are mixed all is the request's, however many rows came of its n. */
    bool shared = p.rows && !nn_model_unbatched(model);
    if (shared)
        p.shape.dims[0] = n;
    for (int d = 0; d < p.shape.rank; d++)
        p.elements *= p.shape.dims[d];
    p.first = shared ? first * (p.elements / n) : 0;
    return p;
}

static size_t element_size(const struct part *p)
{
    return nn_datatype_size(p->tensor->datatype);
}

/* classification */

struct class
{
    double value;
    uint64_t whole; /* tells apart what is one double */
    int64_t index;
};

/* Ordered like the 64-bit integer that element i is; 0: it is none, and its double is exact. */
static uint64_t whole_number(const struct nn_tensor *tensor, int64_t i)
{
    if (tensor->datatype == NN_INT64)
        return (uint64_t)((const int64_t *)tensor->data)[i] ^ (uint64_t)1 << 63;
    return tensor->datatype == NN_UINT64 ? ((const uint64_t *)tensor->data)[i] : 0;
}

/* The largest first, of equal ones the first; what is no number comes last. */
static int by_value(const void *a, const void *b)
{
    const struct class *x = a, *y = b;
    if (isnan(x->value) || isnan(y->value)) {
        if (isnan(x->value) != isnan(y->value))
            return isnan(x->value) ? 1 : -1;
    } else if (x->value != y->value) {
        return x->value > y->value ? -1 : 1;
    } else if (x->whole != y->whole) {
        return x->whole > y->whole ? -1 : 1;
    }
    return x->index < y->index ? -1 : 1;
}

/* "value:index" or "value:index:label"; the value as std::to_string() of C++ writes its type.
 */
static void write_class(struct buffer *text, const struct nn_tensor *tensor, int64_t at,
                        int64_t index, const char *label)
{
    if (nn_datatype_is_real(tensor->datatype))
        buffer_printf(text, "%f", nn_tensor_element(tensor, at));
    else if (tensor->datatype == NN_BOOL)
        buffer_printf(text, "%d", nn_tensor_element(tensor, at) != 0);
    else
        json_write_element(text, tensor, at);
    buffer_printf(text, ":%lld", (long long)index);
    if (label)
        buffer_printf(text, ":%s", label);
}

/* An element of a BYTES tensor: as JSON, or its length and bytes. */
static void add_bytes(struct buffer *out, struct buffer *text, bool binary, bool comma)
{
    if (text->failed) {
        out->failed = true;
        return;
    }
    if (binary) {
        uint32_t size = (uint32_t)text->size;
        buffer_add(out, (const char *)&size, sizeof size);
        buffer_add(out, text->data, text->size);
    } else {
        buffer_add(text, "", 1);
        buffer_add_text(out, comma ? "," : "");
        if (text->failed)
            out->failed = true;
        else
            buffer_add_json_string(out, text->data);
    }
}

/* Of each row the k best. -1: no memory. */
static int write_classes(struct buffer *out, const struct part *p, const struct nn_model *model,
                         int64_t k, bool binary)
{
    int64_t rows = p->rows ? p->shape.dims[0] : 1, n = p->elements / rows;
    struct class *classes = reallocarray(NULL, (size_t)n, sizeof *classes);
    bool labelled = p->output == 0 && nn_model_n_labels(model) == n;
    struct buffer text = {0};

    if (!classes)
        return -1;
    for (int64_t row = 0; row < rows; row++) {
        int64_t first = p->first + row * n;
        for (int64_t i = 0; i < n; i++)
            classes[i] = (struct class){nn_tensor_element(p->tensor, first + i),
                                        whole_number(p->tensor, first + i), i};
        qsort(classes, (size_t)n, sizeof *classes, by_value);
        for (int64_t i = 0; i < k; i++) {
            int64_t index = classes[i].index;
            text.size = 0;
            write_class(&text, p->tensor, first + index, index,
                        labelled ? nn_model_label(model, (int)index) : NULL);
            add_bytes(out, &text, binary, row > 0 || i > 0);
        }
    }
    buffer_release(&text);
    free(classes);
    return 0;
}

/* outputs */

static void write_shape(struct buffer *out, const struct nn_shape *shape)
{
    buffer_add_text(out, ",\"shape\":[");
    for (int d = 0; d < shape->rank; d++) {
        buffer_add_text(out, d ? "," : "");
        buffer_add_integer(out, shape->dims[d]);
    }
    buffer_add_text(out, "]");
}

/* Writes what JSON says of an output; of binary classes the bytes go to `binary`. */
static int write_output(struct buffer *out, struct buffer *binary, struct v2_output *o,
                        const struct nn_model *model, const struct part *p,
                        struct nn_error *error)
{
    const char *name = nn_model_output(model, o->index)->name;
    const char *datatype = nn_datatype_name(p->tensor->datatype);
    struct nn_shape shape = p->shape;
    int64_t row = p->elements / (p->rows ? p->shape.dims[0] : 1);
    int64_t k = o->classes < row ? o->classes : row;

    if (o->classes) {
        shape.rank = p->rows ? 2 : 1;
        shape.dims[shape.rank - 1] = k;
        datatype = "BYTES";
    }
    buffer_add_text(out, "{\"name\":");
    buffer_add_json_string(out, name);
    buffer_add_text(out, ",\"datatype\":\"");
    buffer_add_text(out, datatype);
    buffer_add_text(out, "\"");
    write_shape(out, &shape);
    if (o->binary) {
        size_t before = binary->size;
        if (o->classes && write_classes(binary, p, model, k, true) < 0)
            return nn_fail(error, "out of memory");
        o->bytes = o->classes ? binary->size - before : (size_t)p->elements * element_size(p);
        buffer_add_text(out, ",\"parameters\":{\"binary_data_size\":");
        buffer_add_integer(out, (int64_t)o->bytes);
        buffer_add_text(out, "}}");
        return 0;
    }
    buffer_add_text(out, ",\"data\":");
    if (!o->classes) {
        if (json_write_elements(out, p->tensor, p->first, p->elements) < 0)
            return nn_fail(error,
                           "output '%s' is not finite, which JSON cannot say: ask for binary "
                           "data",
                           name);
    } else {
        buffer_add_text(out, "[");
        if (write_classes(out, p, model, k, false) < 0)
            return nn_fail(error, "out of memory");
        buffer_add_text(out, "]");
    }
    buffer_add_text(out, "}");
    return 0;
}

static void write_head(struct buffer *out, const struct v2_request *q,
                       const struct served *served)
{
    buffer_add_text(out, "{");
    if (q->id.begin) {
        buffer_add_text(out, "\"id\":\"");
        buffer_add(out, q->id.begin, (size_t)(q->id.end - q->id.begin));
        buffer_add_text(out, "\",");
    }
    buffer_add_text(out, "\"model_name\":");
    buffer_add_json_string(out, served->name);
    buffer_add_text(out, ",\"model_version\":\"");
    buffer_add_integer(out, served->version);
    buffer_add_text(out, "\",\"outputs\":[");
}

int v2_write(struct buffer *out, size_t *json_length, struct v2_request *q,
             const struct served *served, const struct nn_tensor *outputs, int64_t first,
             int64_t n, struct nn_error *error)
{
    const struct nn_model *model = served->model;
    struct part parts[TENSOR_MAX_PORTS];
    struct buffer classes = {0};
    bool binary = false;
    int result = 0;

    write_head(out, q, served);
    for (int i = 0; i < q->n_outputs && result == 0; i++) {
        struct v2_output *o = &q->outputs[i];
        buffer_add_text(out, i ? "," : "");
        parts[i] = part_of(model, o->index, &outputs[o->index], first, n);
        result = write_output(out, &classes, o, model, &parts[i], error);
        binary |= o->binary;
    }
    buffer_add_text(out, "]}");
    *json_length = binary ? out->size : 0;

    size_t taken = 0;
    for (int i = 0; i < q->n_outputs && result == 0; i++) {
        const struct v2_output *o = &q->outputs[i];
        if (!o->binary)
            continue;
        if (!o->classes) {
            buffer_add(out,
                       (const char *)parts[i].tensor->data +
                           (size_t)parts[i].first * element_size(&parts[i]),
                       o->bytes);
        } else if (!classes.failed) {
            buffer_add(out, classes.data + taken, o->bytes);
            taken += o->bytes;
        }
    }
    out->failed |= classes.failed;
    buffer_release(&classes);
    return result;
}
