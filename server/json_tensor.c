/*
 * Rows out of a request's body. The text is walked over once; numbers go from it into their
 * place. Only when something is wrong it is walked over again, to find out whether it is JSON
 * at all: that is what its author has to know first.
 */
#include "server/json_tensor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/json_scan.h"
#include "server/number.h"

enum { OK = 0, BAD_REQUEST = 400, NO_MEMORY = 500 };

static const char INSTANCES[] = "instances", INPUTS[] = "inputs";

/* An input, as rows of it are read. */
struct column {
    const struct nn_port *port;
    int rank;                   /* of a row */
    const int64_t *dims;
    int64_t elements;           /* of a row */
    size_t row_bytes;
    int64_t fixed;              /* exactly so many rows; 0: as many as there are instances */
    int64_t n;                  /* rows that were read */
};

struct reader {
    struct json_scan scan;
    struct json_rows *rows;
    struct nn_error *error;
    int64_t max_rows;
    int status;                 /* of the first failure */
    int n_columns;
    struct column columns[JSON_TENSOR_MAX_PORTS];

    /* Where we are, for messages. */
    bool by_column;             /* inputs.<name>[row] instead of instances[row] */
    int64_t row;                /* -1: not in a row yet */
    const struct column *column;        /* NULL: not in one yet */
    int depth;                  /* of index, inside the row */
    int64_t index[NN_MAX_RANK];
};

/* failing */

static void print_place(const struct reader *r, char *out, size_t size)
{
    size_t n = 0;
    const char *name = r->column ? r->column->port->name : NULL;
    n += (size_t)snprintf(out, size, "%s", r->by_column ? INPUTS : INSTANCES);
    if (r->by_column && name && n < size)
        n += (size_t)snprintf(out + n, size - n, ".%s", name);
    if (r->row >= 0 && n < size)
        n += (size_t)snprintf(out + n, size - n, "[%lld]", (long long)r->row);
    if (!r->by_column && name && r->n_columns > 1 && n < size)
        n += (size_t)snprintf(out + n, size - n, ".%s", name);
    for (int i = 0; i < r->depth && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "[%lld]", (long long)r->index[i]);
}

static int fail(struct reader *r, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Describes a failure at the place where we are; the position is that of what comes next.
 * Returns -1. */
static int fail(struct reader *r, int status, const char *format, ...)
{
    char place[256], reason[224];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    print_place(r, place, sizeof place);
    if (r->status == OK)
        r->status = status;
    json_scan_space(&r->scan);
    return nn_fail(r->error, "%s: %s (byte %td)", place, reason, r->scan.p - r->scan.begin);
}

/* The scanner has failed, and said why. */
static int fail_syntax(struct reader *r)
{
    if (r->status == OK)
        r->status = BAD_REQUEST;
    return -1;
}

/* "a string", or why what comes next is no JSON. Only the character is looked at: the second
 * walk finds out more. */
static const char *next_kind(struct reader *r)
{
    return json_scan_kind(json_scan_peek(&r->scan));
}

/* memory */

static size_t column_bytes(const struct column *c, int64_t capacity)
{
    size_t bytes;
    int64_t n = c->fixed ? c->fixed : capacity;
    if (__builtin_mul_overflow(c->row_bytes, (size_t)n, &bytes))
        return 0;
    return bytes;
}

/* Moves all rows to memory of their own, twice as many as there were. */
static int grow(struct reader *r)
{
    enum { ALIGNMENT = 64 };
    struct json_rows *rows = r->rows;
    int64_t capacity = rows->capacity > 0 ? 2 * rows->capacity : 1;
    void *data[JSON_TENSOR_MAX_PORTS] = {NULL};
    for (int i = 0; i < r->n_columns; i++) {
        struct column *c = &r->columns[i];
        size_t bytes = column_bytes(c, capacity);
        if (bytes == 0 || posix_memalign(&data[i], ALIGNMENT, bytes) != 0) {
            while (i-- > 0)
                free(data[i]);
            return fail(r, NO_MEMORY, "no memory for %lld rows", (long long)capacity);
        }
        if (c->n > 0)
            memcpy(data[i], rows->data[i], c->row_bytes * (size_t)c->n);
    }
    for (int i = 0; i < r->n_columns; i++) {
        if (rows->owned)
            free(rows->data[i]);
        rows->data[i] = data[i];
    }
    rows->owned = true;
    rows->capacity = capacity;
    return 0;
}

/* The place of the next row of a column, or NULL. */
static void *next_row(struct reader *r, struct column *c)
{
    struct json_rows *rows = r->rows;
    if (c->fixed > 0 && c->n == c->fixed) {
        fail(r, BAD_REQUEST, "the input \"%s\" takes exactly %lld rows, got more",
             c->port->name, (long long)c->fixed);
        return NULL;
    }
    if (c->fixed == 0 && c->n == r->max_rows) {
        fail(r, BAD_REQUEST, "more than %lld instances, which is the limit",
             (long long)r->max_rows);
        return NULL;
    }
    bool full = rows->capacity == 0 || (c->fixed == 0 && c->n == rows->capacity);
    if (full && grow(r) != 0)
        return NULL;
    return (char *)rows->data[c - r->columns] + c->row_bytes * (size_t)c->n;
}

/* elements */

static const struct integer_range {
    int64_t min, max;
} integer_ranges[] = {
    [NN_INT64] = {INT64_MIN, INT64_MAX},
    [NN_INT32] = {INT32_MIN, INT32_MAX},
    [NN_UINT8] = {0, UINT8_MAX},
    [NN_BOOL] = {0, 1},
};

/* Says why the number that comes next was not taken. */
static int fail_number(struct reader *r, enum number_verdict verdict)
{
    const char *p = r->scan.p, *end = p;
    enum nn_datatype datatype = r->column->port->datatype;
    if (verdict == NUMBER_INVALID || !number_skip(&end, r->scan.end))
        return fail(r, BAD_REQUEST, "expected a %s, got %s",
                    datatype == NN_BOOL ? "boolean" : "number", next_kind(r));
    int shown = end - p > 40 ? 40 : (int)(end - p);
    const char *rest = shown < end - p ? "..." : "";
    if (verdict == NUMBER_FRACTION)
        return fail(r, BAD_REQUEST, "expected a whole number (%s), got %.*s%s",
                    nn_datatype_name(datatype), shown, p, rest);
    return fail(r, BAD_REQUEST, "%.*s%s is outside the range of %s", shown, p, rest,
                nn_datatype_name(datatype));
}

static int read_integer(struct reader *r, void *out)
{
    enum nn_datatype datatype = r->column->port->datatype;
    char c = json_scan_peek(&r->scan);
    int64_t value;
    if (datatype == NN_BOOL && (c == 't' || c == 'f')) {
        if (json_scan_literal(&r->scan, c == 't' ? "true" : "false", r->error) != 0)
            return fail_syntax(r);
        value = c == 't';
    } else {
        const struct integer_range *range = &integer_ranges[datatype];
        enum number_verdict verdict =
            number_read_integer(&r->scan.p, r->scan.end, range->min, range->max, &value);
        if (verdict != NUMBER_OK)
            return fail_number(r, verdict);
    }
    if (datatype == NN_INT64)
        memcpy(out, &value, sizeof value);
    else if (datatype == NN_INT32)
        memcpy(out, &(int32_t){(int32_t)value}, sizeof(int32_t));
    else
        *(uint8_t *)out = (uint8_t)value;
    return 0;
}

static int read_float(struct reader *r, void *out)
{
    json_scan_space(&r->scan);
    enum number_verdict verdict = number_read_float(&r->scan.p, r->scan.end, out);
    return verdict == NUMBER_OK ? 0 : fail_number(r, verdict);
}

static int read_element(struct reader *r, void *out)
{
    return r->column->port->datatype == NN_FP32 ? read_float(r, out) : read_integer(r, out);
}

/* Says that the list being read, behind its '[', should have had n elements, when it goes on or
 * ends at its element `got`. */
static int fail_length(struct reader *r, int64_t n, const char *what, int64_t got)
{
    char next = json_scan_peek(&r->scan);
    r->depth--;
    if (next == ',')
        return fail(r, BAD_REQUEST, "expected %lld %s, got more", (long long)n, what);
    if (next == ']')
        return fail(r, BAD_REQUEST, "expected %lld %s, got %lld", (long long)n, what,
                    (long long)got);
    json_scan_fail(&r->scan, "',' or ']'", r->error);
    return fail_syntax(r);
}

/* Reads exactly n elements and the ']' behind them. */
static int read_list(struct reader *r, int64_t n, char *out)
{
    size_t size = nn_datatype_size(r->column->port->datatype);
    bool real = r->column->port->datatype == NN_FP32;
    int64_t *i = &r->index[r->depth++];
    for (*i = 0; *i < n; ++*i, out += size) {
        if (*i > 0 && !json_scan_take(&r->scan, ','))
            return fail_length(r, n, "numbers", *i);
        if (*i == 0 && json_scan_peek(&r->scan) == ']')
            return fail_length(r, n, "numbers", 0);
        if ((real ? read_float(r, out) : read_integer(r, out)) != 0)
            return -1;
    }
    if (!json_scan_take(&r->scan, ']'))
        return fail_length(r, n, "numbers", n);
    r->depth--;
    return 0;
}

/* rows */

static int take_bracket(struct reader *r)
{
    if (json_scan_take(&r->scan, '['))
        return 0;
    return fail(r, BAD_REQUEST, "expected an array, got %s", next_kind(r));
}

/* Reads a row of rank >= 2 in its own nesting, whose first '[' was taken already. Levels above
 * the last are open brackets; the last one is read as a list. */
static int read_nested(struct reader *r, char *out)
{
    const struct column *c = r->column;
    const int last = c->rank - 1;
    const int64_t inner = c->dims[last];
    const size_t bytes = nn_datatype_size(c->port->datatype) * (size_t)inner;
    r->index[0] = 0;
    r->depth = 1;
    for (;;) {
        while (r->depth < last) {
            if (take_bracket(r) != 0)
                return -1;
            r->index[r->depth++] = 0;
        }
        if (take_bracket(r) != 0 || read_list(r, inner, out) != 0)
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

static int read_row(struct reader *r, struct column *c)
{
    r->column = c;
    r->depth = 0;
    char *out = next_row(r, c);
    if (!out)
        return -1;

    int result;
    if (c->rank == 0 && json_scan_peek(&r->scan) != '[')
        result = read_element(r, out);
    else if (take_bracket(r) != 0)
        return -1;
    else if (c->rank > 1 && json_scan_peek(&r->scan) == '[')
        result = read_nested(r, out);
    else
        result = read_list(r, c->elements, out);
    if (result == 0)
        c->n++;
    return result;
}

/* the two forms */

static struct column *find_column(struct reader *r, const struct json_text *name)
{
    for (int i = 0; i < r->n_columns; i++)
        if (json_text_equal(name, r->columns[i].port->name))
            return &r->columns[i];
    return NULL;
}

static int shown(const struct json_text *text)
{
    return text->end - text->begin > 60 ? 60 : (int)(text->end - text->begin);
}

/* Reads {name: value, ...} with every input exactly once, each value by `read`. */
static int read_named(struct reader *r, int (*read)(struct reader *, struct column *))
{
    bool seen[JSON_TENSOR_MAX_PORTS] = {false};
    if (!json_scan_take(&r->scan, '{'))
        return fail(r, BAD_REQUEST, "expected an object of inputs by name, got %s",
                    next_kind(r));
    bool more = !json_scan_take(&r->scan, '}');
    while (more) {
        struct json_text name;
        json_scan_space(&r->scan);
        const char *at = r->scan.p;
        if (json_scan_string(&r->scan, &name, r->error) != 0)
            return fail_syntax(r);
        struct column *c = find_column(r, &name);
        if (!c || seen[c - r->columns]) {
            r->scan.p = at;
            return fail(r, BAD_REQUEST, c ? "the input \"%.*s\" is there twice"
                                          : "the model has no input \"%.*s\"",
                        shown(&name), name.begin);
        }
        seen[c - r->columns] = true;
        if (!json_scan_take(&r->scan, ':')) {
            json_scan_fail(&r->scan, "':'", r->error);
            return fail_syntax(r);
        }
        if (read(r, c) != 0)
            return -1;
        r->column = NULL;
        r->depth = 0;
        more = json_scan_take(&r->scan, ',');
        if (!more && !json_scan_take(&r->scan, '}')) {
            json_scan_fail(&r->scan, "',' or '}'", r->error);
            return fail_syntax(r);
        }
    }
    for (int i = 0; i < r->n_columns; i++)
        if (!seen[i])
            return fail(r, BAD_REQUEST, "the input \"%s\" is missing",
                        r->columns[i].port->name);
    return 0;
}

static int read_instance(struct reader *r, struct column *unused)
{
    (void)unused;
    int result = r->n_columns == 1 ? read_row(r, &r->columns[0]) : read_named(r, read_row);
    r->column = NULL;
    r->depth = 0;
    return result;
}

/* Reads [element, ...], each by `read`, and counts r->row. */
static int read_array(struct reader *r, int (*read)(struct reader *, struct column *),
                      struct column *column)
{
    if (take_bracket(r) != 0)
        return -1;
    if (json_scan_peek(&r->scan) == ']')
        return fail(r, BAD_REQUEST, "expected at least one instance, got none");
    bool more = true;
    for (r->row = 0; more; r->row++) {
        if (read(r, column) != 0)
            return -1;
        more = json_scan_take(&r->scan, ',');
        if (!more && !json_scan_take(&r->scan, ']')) {
            json_scan_fail(&r->scan, "',' or ']'", r->error);
            return fail_syntax(r);
        }
    }
    r->row = -1;
    return 0;
}

static int read_column(struct reader *r, struct column *c)
{
    r->column = c;
    return read_array(r, read_row, c);
}

/* Every input has the rows that it wants, and those with a batch equally many. */
static int check_rows(struct reader *r)
{
    const struct column *first = NULL;
    for (int i = 0; i < r->n_columns; i++) {
        const struct column *c = &r->columns[i];
        if (c->fixed > 0 && c->n != c->fixed)
            return fail(r, BAD_REQUEST, "the input \"%s\" takes exactly %lld rows, got %lld",
                        c->port->name, (long long)c->fixed, (long long)c->n);
        if (c->fixed > 0)
            continue;
        if (!first)
            first = c;
        else if (c->n != first->n)
            return fail(r, BAD_REQUEST, "\"%s\" has %lld rows, but \"%s\" has %lld",
                        first->port->name, (long long)first->n, c->port->name,
                        (long long)c->n);
    }
    r->rows->n = first ? first->n : 1;
    return 0;
}

/* the body */

static int fail_body(struct reader *r, ptrdiff_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail_body(struct reader *r, ptrdiff_t at, const char *format, ...)
{
    char reason[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    fail_syntax(r);
    return nn_fail(r->error, "%s (byte %td)", reason, at);
}

/* Reads "instances": ... or "inputs": ...; `form` is what came before, or NULL. */
static int read_field(struct reader *r, const char **form)
{
    struct json_text name;
    json_scan_space(&r->scan);
    ptrdiff_t at = r->scan.p - r->scan.begin;
    if (json_scan_string(&r->scan, &name, r->error) != 0)
        return fail_syntax(r);
    const char *field = json_text_equal(&name, INSTANCES) ? INSTANCES
                        : json_text_equal(&name, INPUTS)  ? INPUTS
                                                          : NULL;
    if (!field)
        return fail_body(r, at, "unknown field \"%.*s\", expected \"instances\" or \"inputs\"",
                         shown(&name), name.begin);
    if (*form == field)
        return fail_body(r, at, "\"%s\" is there twice", field);
    if (*form)
        return fail_body(r, at, "expected \"instances\" or \"inputs\", got both");
    *form = field;
    if (!json_scan_take(&r->scan, ':')) {
        json_scan_fail(&r->scan, "':'", r->error);
        return fail_syntax(r);
    }
    r->by_column = field == INPUTS;
    if (r->by_column ? read_named(r, read_column) != 0 : read_array(r, read_instance, NULL) != 0)
        return -1;
    return check_rows(r);
}

static int read_body(struct reader *r)
{
    const char *form = NULL;
    char next = json_scan_peek(&r->scan);
    if (r->scan.p == r->scan.end)
        return fail_body(r, 0, "the body is empty, expected an object with \"instances\" or "
                               "\"inputs\"");
    if (!json_scan_take(&r->scan, '{'))
        return fail_body(r, r->scan.p - r->scan.begin, "expected an object with \"instances\" "
                         "or \"inputs\", got %s", json_scan_kind(next));
    bool more = !json_scan_take(&r->scan, '}');
    while (more) {
        if (read_field(r, &form) != 0)
            return -1;
        more = json_scan_take(&r->scan, ',');
        if (!more && !json_scan_take(&r->scan, '}')) {
            json_scan_fail(&r->scan, "',' or '}'", r->error);
            return fail_syntax(r);
        }
    }
    json_scan_space(&r->scan);
    if (r->scan.p < r->scan.end) {
        json_scan_fail(&r->scan, "nothing more", r->error);
        return fail_syntax(r);
    }
    return form ? 0 : fail_body(r, 0, "expected \"instances\" or \"inputs\", got neither");
}

static void init_columns(struct reader *r)
{
    const struct nn_model *model = r->rows->model;
    r->n_columns = nn_model_n_inputs(model);
    for (int i = 0; i < r->n_columns; i++) {
        struct column *c = &r->columns[i];
        const struct nn_port *port = nn_model_input(model, i);
        const struct nn_shape *shape = &port->shape;
        *c = (struct column){.port = port, .elements = 1};
        if (shape->rank == 0) {
            c->fixed = 1;
        } else {
            c->fixed = shape->dims[0] < 0 ? 0 : shape->dims[0];
            c->rank = shape->rank - 1;
            c->dims = shape->dims + 1;
        }
        for (int k = 0; k < c->rank; k++)
            c->elements *= c->dims[k];
        c->row_bytes = (size_t)c->elements * nn_datatype_size(port->datatype);
    }
}

void json_rows_release(struct json_rows *rows)
{
    if (rows->owned)
        for (int i = 0; i < JSON_TENSOR_MAX_PORTS; i++) {
            free(rows->data[i]);
            rows->data[i] = NULL;
        }
    rows->owned = false;
    rows->capacity = 0;
}

int json_rows_read(struct json_rows *rows, const char *body, size_t size, int64_t max_rows,
                   struct nn_error *error)
{
    struct reader r = {.scan = {body, body, body + size}, .rows = rows, .error = error,
                       .max_rows = max_rows, .row = -1};
    rows->n = 0;
    rows->owned = false;
    init_columns(&r);
    if (read_body(&r) == 0)
        return OK;

    if (rows->owned)
        json_rows_release(rows);
    struct nn_error syntax = {0};
    if (r.status == BAD_REQUEST && size > 0 && json_scan_document(body, size, &syntax) != 0) {
        if (error)
            *error = syntax;
        nn_fail_in(error, "not JSON");
    }
    return r.status;
}
