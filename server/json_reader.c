#include "server/json_reader.h"

#include "server/number.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "low bytes are copied");

void json_reader_init(struct json_reader *r, struct tensor_rows *rows, const char *body,
                      size_t size, int64_t max_rows, struct nn_error *error)
{
    const struct nn_model *model = rows->model;
    const char *end = size ? body + size : body;        /* NULL + 0 is undefined */
    *r = (struct json_reader){.scan = {body, body, end},
                              .rows = rows,
                              .error = error,
                              .max_rows = max_rows,
                              .form = "inputs",
                              .row = -1};
    rows->n = 0;
    rows->owned = false;
    r->n_columns = nn_model_n_inputs(model);
    for (int i = 0; i < r->n_columns; i++) {
        struct json_column *c = &r->columns[i];
        const struct nn_port *port = nn_model_input(model, i);
        *c = (struct json_column){.port = port,
                                  .elements = tensor_row_elements(port),
                                  .row_bytes = tensor_row_bytes(port),
                                  .fixed = tensor_fixed_rows(port)};
        if (port->shape.rank > 0) {
            c->rank = port->shape.rank - 1;
            c->dims = port->shape.dims + 1;
        }
    }
}

/* failing */

static void print_place(const struct json_reader *r, char *out, size_t size)
{
    size_t n = 0;
    const char *name = r->column ? r->column->port->name : NULL;
    n += (size_t)snprintf(out, size, "%s", r->form);
    if (r->by_column && name && n < size)
        n += (size_t)snprintf(out + n, size - n, ".%s", name);
    if (r->row >= 0 && n < size)
        n += (size_t)snprintf(out + n, size - n, "[%lld]", (long long)r->row);
    if (!r->by_column && name && r->n_columns > 1 && n < size)
        n += (size_t)snprintf(out + n, size - n, ".%s", name);
    for (int i = 0; i < r->depth && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "[%lld]", (long long)r->index[i]);
}

int json_reader_fail(struct json_reader *r, int status, const char *format, ...)
{
    char place[256], reason[224];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    print_place(r, place, sizeof place);
    if (r->status == 0)
        r->status = status;
    json_scan_space(&r->scan);
    return nn_fail(r->error, "%s: %s (byte %td)", place, reason, r->scan.p - r->scan.begin);
}

int json_reader_refuse(struct json_reader *r, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (r->status == 0)
        r->status = JSON_BAD_REQUEST;
    return nn_fail(r->error, "%s", text);
}

int json_reader_fail_syntax(struct json_reader *r, const char *expected)
{
    if (r->status == 0)
        r->status = JSON_BAD_REQUEST;
    return expected ? json_scan_fail(&r->scan, expected, r->error) : -1;
}

const char *json_reader_next(struct json_reader *r)
{
    return json_scan_kind(json_scan_peek(&r->scan));
}

/* memory */

/* Moves all rows to memory of their own, twice as many as there were. */
static int grow(struct json_reader *r)
{
    int64_t capacity = r->rows->capacity > 0 ? 2 * r->rows->capacity : 1;
    int64_t kept[TENSOR_MAX_PORTS];
    for (int i = 0; i < r->n_columns; i++)
        kept[i] = r->columns[i].n;
    if (tensor_rows_grow(r->rows, capacity, kept) != 0)
        return json_reader_fail(r, JSON_NO_MEMORY, "no memory for %lld rows",
                                (long long)capacity);
    return 0;
}

/* The place of the next row of a column, or NULL. */
static void *next_row(struct json_reader *r, struct json_column *c)
{
    struct tensor_rows *rows = r->rows;
    if (c->fixed > 0 && c->n == c->fixed) {
        json_reader_fail(r, JSON_BAD_REQUEST,
                         "the input \"%s\" takes exactly %lld rows, got more", c->port->name,
                         (long long)c->fixed);
        return NULL;
    }
    if (c->fixed == 0 && c->n == r->max_rows) {
        json_reader_fail(r, JSON_BAD_REQUEST, "more than %lld instances, which is the limit",
                         (long long)r->max_rows);
        return NULL;
    }
    bool full = rows->capacity == 0 || (c->fixed == 0 && c->n == rows->capacity);
    if (full && grow(r) != 0)
        return NULL;
    return (char *)rows->data[c - r->columns] + c->row_bytes * (size_t)c->n;
}

/* elements */

/* For functions that are compiled once for each datatype that has to be fast. */
#define TEMPLATE static inline __attribute__((always_inline))

static const struct integer_type {
    int64_t min;
    uint64_t max;
    size_t size;
} integer_types[NN_DATATYPES] = {
    [NN_INT8] = {INT8_MIN, INT8_MAX, 1},    [NN_INT16] = {INT16_MIN, INT16_MAX, 2},
    [NN_INT32] = {INT32_MIN, INT32_MAX, 4}, [NN_INT64] = {INT64_MIN, INT64_MAX, 8},
    [NN_UINT8] = {0, UINT8_MAX, 1},         [NN_UINT16] = {0, UINT16_MAX, 2},
    [NN_UINT32] = {0, UINT32_MAX, 4},       [NN_UINT64] = {0, UINT64_MAX, 8},
    [NN_BOOL] = {0, 1, 1},
};

/* Says why the number that comes next was not taken. */
static int fail_number(struct json_reader *r, enum number_verdict verdict)
{
    const char *p = r->scan.p, *end = p;
    enum nn_datatype datatype = r->column->port->datatype;
    r->complaint = verdict == NUMBER_RANGE ? JSON_OTHER : JSON_WRONG_TYPE;
    if (verdict == NUMBER_INVALID || !number_skip(&end, r->scan.end))
        return json_reader_fail(r, JSON_BAD_REQUEST, "expected a %s, got %s",
                                datatype == NN_BOOL ? "boolean" : "number",
                                json_reader_next(r));
    int shown = end - p > 40 ? 40 : (int)(end - p);
    const char *rest = shown < end - p ? "..." : "";
    if (verdict == NUMBER_FRACTION)
        return json_reader_fail(r, JSON_BAD_REQUEST, "expected a whole number (%s), got %.*s%s",
                                nn_datatype_name(datatype), shown, p, rest);
    return json_reader_fail(r, JSON_BAD_REQUEST, "%.*s%s is outside the range of %s", shown, p,
                            rest, nn_datatype_name(datatype));
}

TEMPLATE enum number_verdict read_number(struct json_reader *r, const struct integer_type *type,
                                         uint64_t *bits)
{
    if (type->max > INT64_MAX)
        return number_read_unsigned(&r->scan.p, r->scan.end, type->max, bits);
    int64_t value;
    enum number_verdict verdict = number_read_integer(&r->scan.p, r->scan.end, type->min,
                                                      (int64_t)type->max, &value);
    if (verdict == NUMBER_OK)
        *bits = (uint64_t)value;
    return verdict;
}

TEMPLATE int read_integer(struct json_reader *r, void *out, enum nn_datatype datatype)
{
    const struct integer_type *type = &integer_types[datatype];
    char c = json_scan_peek(&r->scan);
    uint64_t bits;
    if (datatype == NN_BOOL && (c == 't' || c == 'f')) {
        if (json_scan_literal(&r->scan, c == 't' ? "true" : "false", r->error) != 0)
            return json_reader_fail_syntax(r, NULL);
        bits = c == 't';
    } else {
        enum number_verdict verdict = read_number(r, type, &bits);
        if (verdict != NUMBER_OK)
            return fail_number(r, verdict);
    }
    memcpy(out, &bits, type->size);
    return 0;
}

static int read_float(struct json_reader *r, void *out)
{
    json_scan_space(&r->scan);
    enum number_verdict verdict = number_read_float(&r->scan.p, r->scan.end, out);
    return verdict == NUMBER_OK ? 0 : fail_number(r, verdict);
}

/* The small types are read as double, and rounded again: that makes a difference only for what
 * is within 2^-53 of the middle between two of their numbers. */
static int read_real(struct json_reader *r, void *out)
{
    enum nn_datatype datatype = r->column->port->datatype;
    double value;
    json_scan_space(&r->scan);
    const char *begin = r->scan.p;
    enum number_verdict verdict = number_read_double(&r->scan.p, r->scan.end, &value);
    if (verdict == NUMBER_OK && datatype != NN_FP64) {
        bool half = datatype == NN_FP16;
        uint16_t bits = half ? nn_fp16_round(value) : nn_bf16_round(value);
        if (isinf(half ? nn_fp16_read(bits) : nn_bf16_read(bits))) {
            r->scan.p = begin;
            verdict = NUMBER_RANGE;
        }
        memcpy(out, &bits, sizeof bits);
    } else if (verdict == NUMBER_OK) {
        memcpy(out, &value, sizeof value);
    }
    return verdict == NUMBER_OK ? 0 : fail_number(r, verdict);
}

TEMPLATE int read_element(struct json_reader *r, void *out, enum nn_datatype datatype)
{
    if (datatype == NN_FP32)
        return read_float(r, out);
    if (datatype == NN_FP64 || datatype == NN_FP16 || datatype == NN_BF16)
        return read_real(r, out);
    return read_integer(r, out, datatype);
}

/* Says that the list being read, behind its '[', should have had n elements, when it goes on or
 * ends at its element `got`. */
static int fail_length(struct json_reader *r, int64_t n, const char *what, int64_t got)
{
    char next = json_scan_peek(&r->scan);
    r->depth--;
    if (next == ',' || next == ']')
        r->complaint = next == ',' ? JSON_TOO_MANY : JSON_TOO_FEW;
    if (next == ',')
        return json_reader_fail(r, JSON_BAD_REQUEST, "expected %lld %s, got more", (long long)n,
                                what);
    if (next == ']')
        return json_reader_fail(r, JSON_BAD_REQUEST, "expected %lld %s, got %lld", (long long)n,
                                what, (long long)got);
    return json_reader_fail_syntax(r, "',' or ']'");
}

/* Elements that are read one by one before it is tried again to read many at once. */
enum { RUN_AGAIN = 16 };

TEMPLATE int read_list_of(struct json_reader *r, int64_t n, char *out,
                          enum nn_datatype datatype, size_t size)
{
    int64_t *i = &r->index[r->depth++];
    for (*i = 0; *i < n; ++*i, out += size) {
        if (*i > 0 && !json_scan_take(&r->scan, ','))
            return fail_length(r, n, "numbers", *i);
        if (*i == 0 && json_scan_peek(&r->scan) == ']')
            return fail_length(r, n, "numbers", 0);
        if (datatype == NN_FP32 && *i % RUN_AGAIN == 0) {
            int64_t run = number_read_run(&r->scan.p, r->scan.end, (float *)(void *)out,
                                          n - *i - 1);
            *i += run;
            out += (size_t)run * size;
        }
        if (read_element(r, out, datatype) != 0)
            return -1;
    }
    if (!json_scan_take(&r->scan, ']'))
        return fail_length(r, n, "numbers", n);
    r->depth--;
    return 0;
}

/* Reads exactly n elements and the ']' behind them. */
static int read_list(struct json_reader *r, int64_t n, char *out)
{
    enum nn_datatype datatype = r->column->port->datatype;
    switch (datatype) {
    case NN_FP32:
        return read_list_of(r, n, out, NN_FP32, sizeof(float));
    case NN_INT64:
        return read_list_of(r, n, out, NN_INT64, sizeof(int64_t));
    case NN_UINT8:
        return read_list_of(r, n, out, NN_UINT8, sizeof(uint8_t));
    default:
        return read_list_of(r, n, out, datatype, nn_datatype_size(datatype));
    }
}

/* rows */

int json_reader_open(struct json_reader *r)
{
    if (json_scan_take(&r->scan, '['))
        return 0;
    r->complaint = JSON_WRONG_TYPE;
    return json_reader_fail(r, JSON_BAD_REQUEST, "expected an array, got %s",
                            json_reader_next(r));
}

/* Reads a row of rank >= 2 in its own nesting, whose first '[' was taken already. Levels above
 * the last are open brackets; the last one is read as a list. */
static int read_nested(struct json_reader *r, char *out)
{
    const struct json_column *c = r->column;
    const int last = c->rank - 1;
    const int64_t inner = c->dims[last];
    const size_t bytes = nn_datatype_size(c->port->datatype) * (size_t)inner;
    r->index[0] = 0;
    r->depth = 1;
    for (;;) {
        while (r->depth < last) {
            if (json_reader_open(r) != 0)
                return -1;
            r->index[r->depth++] = 0;
        }
        if (json_reader_open(r) != 0 || read_list(r, inner, out) != 0)
            return -1;
        out += bytes;

        /* On to the next element; close the brackets that are complete. */
        for (;;) {
            int64_t n = c->dims[r->depth - 1];
            int64_t done = ++r->index[r->depth - 1];
            if (done < n && json_scan_take(&r->scan, ','))
                break;
            if (done < n || !json_scan_take(&r->scan, ']'))
                return fail_length(r, n, "elements", done);
            if (--r->depth == 0)
                return 0;
        }
    }
}

int json_reader_row(struct json_reader *r, struct json_column *c)
{
    r->column = c;
    r->depth = 0;
    char *out = next_row(r, c);
    if (!out)
        return -1;

    int result;
    if ((c->rank == 0 || (r->loose && c->elements == 1)) && json_scan_peek(&r->scan) != '[')
        result = read_element(r, out, c->port->datatype);
    else if (json_reader_open(r) != 0)
        return -1;
    else if (c->rank > 1 && json_scan_peek(&r->scan) == '[')
        result = read_nested(r, out);
    else
        result = read_list(r, c->elements, out);
    if (result == 0)
        c->n++;
    return result;
}

int json_reader_tensor(struct json_reader *r, struct json_column *c, int64_t n)
{
    r->column = c;
    r->depth = 0;
    if (json_reader_open(r) != 0)
        return -1;
    if (json_scan_peek(&r->scan) != '[') {
        if (read_list(r, n * c->elements, r->rows->data[c - r->columns]) != 0)
            return -1;
        c->n = n;
        return 0;
    }
    for (r->row = 0; r->row < n && (r->row == 0 || json_scan_take(&r->scan, ',')); r->row++)
        if (json_reader_row(r, c) != 0)
            return -1;
    int64_t got = r->row;
    r->row = -1;
    r->depth = 1;
    if (got < n || !json_scan_take(&r->scan, ']'))
        return fail_length(r, n, "rows", got);
    r->depth = 0;
    return 0;
}
