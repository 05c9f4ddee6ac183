/*
 * Rows out of a request's body. The text is walked over once; numbers go from it into their
 * place. Only when something is wrong it is walked over again, to find out whether it is JSON
 * at all: that is what its author has to know first.
 */
#include "server/json_tensor.h"

#include "server/json_reader.h"
#include <stdarg.h>
#include <stdio.h>

static const char INSTANCES[] = "instances", INPUTS[] = "inputs";

/* the two forms */

static struct json_column *find_column(struct json_reader *r, const struct json_text *name)
{
    for (int i = 0; i < r->n_columns; i++)
        if (json_text_equal(name, r->columns[i].port->name))
            return &r->columns[i];
    return NULL;
}

typedef int read_function(struct json_reader *r, struct json_column *c);

/* Reads {name: value, ...} with every input exactly once, each value by `read`. */
static int read_named(struct json_reader *r, read_function *read)
{
    bool seen[TENSOR_MAX_PORTS] = {false};
    if (!json_scan_take(&r->scan, '{')) {
        r->complaint = JSON_WRONG_TYPE;
        return json_reader_fail(r, JSON_BAD_REQUEST,
                                "expected an object of inputs by name, got %s",
                                json_reader_next(r));
    }
    bool more = !json_scan_take(&r->scan, '}');
    while (more) {
        struct json_text name;
        json_scan_space(&r->scan);
        const char *at = r->scan.p;
        if (json_scan_string(&r->scan, &name, r->error) != 0)
            return json_reader_fail_syntax(r, NULL);
        struct json_column *c = find_column(r, &name);
        if (!c && r->loose && json_text_equal(&name, "b64")) {
            r->scan.p = at;
            r->complaint = JSON_WRONG_TYPE;
            return json_reader_fail(r, JSON_BAD_REQUEST,
                                    "expected a number, got a string in base64: no input takes "
                                    "strings");
        }
        if (!c || seen[c - r->columns]) {
            r->scan.p = at;
            r->complaint = c ? JSON_OTHER : JSON_WRONG_INPUTS;
            return json_reader_fail(r, JSON_BAD_REQUEST,
                                    c ? "the input \"%.*s\" is there twice"
                                      : "the model has no input \"%.*s\"",
                                    json_text_shown(&name), name.begin);
        }
        seen[c - r->columns] = true;
        if (!json_scan_take(&r->scan, ':'))
            return json_reader_fail_syntax(r, "':'");
        if (read(r, c) != 0)
            return -1;
        r->column = NULL;
        r->depth = 0;
        more = json_scan_take(&r->scan, ',');
        if (!more && !json_scan_take(&r->scan, '}'))
            return json_reader_fail_syntax(r, "',' or '}'");
    }
    for (int i = 0; i < r->n_columns; i++)
        if (!seen[i]) {
            r->complaint = JSON_WRONG_INPUTS;
            return json_reader_fail(r, JSON_BAD_REQUEST, "the input \"%s\" is missing",
                                    r->columns[i].port->name);
        }
    return 0;
}

static int read_instance(struct json_reader *r, struct json_column *unused)
{
    (void)unused;
    bool named = r->n_columns > 1 || (r->loose && json_scan_peek(&r->scan) == '{');
    int result = named ? read_named(r, json_reader_row) : json_reader_row(r, &r->columns[0]);
    r->column = NULL;
    r->depth = 0;
    return result;
}

/* Reads [element, ...], each by `read`, and counts r->row. */
static int read_array(struct json_reader *r, read_function *read, struct json_column *column)
{
    if (json_reader_open(r) != 0)
        return -1;
    if (json_scan_peek(&r->scan) == ']')
        return json_reader_fail(r, JSON_BAD_REQUEST,
                                "expected at least one instance, got none");
    bool more = true;
    for (r->row = 0; more; r->row++) {
        if (read(r, column) != 0)
            return -1;
        more = json_scan_take(&r->scan, ',');
        if (!more && !json_scan_take(&r->scan, ']'))
            return json_reader_fail_syntax(r, "',' or ']'");
    }
    r->row = -1;
    return 0;
}

/* Reads the rows of an input; the one value of a scalar may stand alone. */
static int read_column(struct json_reader *r, struct json_column *c)
{
    r->column = c;
    if (c->port->shape.rank == 0 && json_scan_peek(&r->scan) != '[')
        return json_reader_row(r, c);
    return read_array(r, json_reader_row, c);
}

/* Every input has the rows that it wants, and those with a batch equally many. */
static int check_rows(struct json_reader *r)
{
    const struct json_column *first = NULL;
    for (int i = 0; i < r->n_columns; i++) {
        const struct json_column *c = &r->columns[i];
        if (c->fixed > 0 && c->n != c->fixed)
            return json_reader_fail(r, JSON_BAD_REQUEST,
                                    "the input \"%s\" takes exactly %lld rows, got %lld",
                                    c->port->name, (long long)c->fixed, (long long)c->n);
        if (c->fixed > 0)
            continue;
        if (!first)
            first = c;
        else if (c->n != first->n)
            return json_reader_fail(
                r, JSON_BAD_REQUEST, "\"%s\" has %lld rows, but \"%s\" has %lld",
                first->port->name, (long long)first->n, c->port->name, (long long)c->n);
    }
    r->rows->n = first ? first->n : 1;
    return 0;
}

int json_reader_instances(struct json_reader *r, const char *form)
{
    r->form = form;
    r->by_column = false;
    return read_array(r, read_instance, NULL) == 0 ? check_rows(r) : -1;
}

int json_reader_inputs(struct json_reader *r, const char *form)
{
    r->form = form;
    r->by_column = true;
    bool only = r->loose && r->n_columns == 1 && json_scan_peek(&r->scan) != '{';
    int result = only ? read_column(r, &r->columns[0]) : read_named(r, read_column);
    return result == 0 ? check_rows(r) : -1;
}

/* the body */

/* A failure of the body itself, at byte `at` of it. */
static int fail_body(struct json_reader *r, ptrdiff_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail_body(struct json_reader *r, ptrdiff_t at, const char *format, ...)
{
    char reason[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    json_reader_fail_syntax(r, NULL);
    return nn_fail(r->error, "%s (byte %td)", reason, at);
}

/* Reads "instances": ... or "inputs": ...; `form` is what came before, or NULL. */
static int read_field(struct json_reader *r, const char **form)
{
    struct json_text name;
    json_scan_space(&r->scan);
    ptrdiff_t at = r->scan.p - r->scan.begin;
    if (json_scan_string(&r->scan, &name, r->error) != 0)
        return json_reader_fail_syntax(r, NULL);
    const char *field = json_text_equal(&name, INSTANCES) ? INSTANCES
                        : json_text_equal(&name, INPUTS)  ? INPUTS
                                                          : NULL;
    if (!field)
        return fail_body(r, at, "unknown field \"%.*s\", expected \"instances\" or \"inputs\"",
                         json_text_shown(&name), name.begin);
    if (*form == field)
        return fail_body(r, at, "\"%s\" is there twice", field);
    if (*form)
        return fail_body(r, at, "expected \"instances\" or \"inputs\", got both");
    *form = field;
    if (!json_scan_take(&r->scan, ':'))
        return json_reader_fail_syntax(r, "':'");
    return (field == INPUTS ? json_reader_inputs : json_reader_instances)(r, field);
}

static int read_body(struct json_reader *r)
{
    const char *form = NULL;
    char next = json_scan_peek(&r->scan);
    if (r->scan.p == r->scan.end)
        return fail_body(r, 0,
                         "the body is empty, expected an object with \"instances\" or "
                         "\"inputs\"");
    if (!json_scan_take(&r->scan, '{'))
        return fail_body(r, r->scan.p - r->scan.begin,
                         "expected an object with \"instances\" "
                         "or \"inputs\", got %s",
                         json_scan_kind(next));
    bool more = !json_scan_take(&r->scan, '}');
    while (more) {
        if (read_field(r, &form) != 0)
            return -1;
        more = json_scan_take(&r->scan, ',');
        if (!more && !json_scan_take(&r->scan, '}'))
            return json_reader_fail_syntax(r, "',' or '}'");
    }
    json_scan_space(&r->scan);
    if (r->scan.p < r->scan.end)
        return json_reader_fail_syntax(r, "nothing more");
    return form ? 0 : fail_body(r, 0, "expected \"instances\" or \"inputs\", got neither");
}

int json_rows_read(struct tensor_rows *rows, const char *body, size_t size, int64_t max_rows,
                   struct nn_error *error)
{
    struct json_reader r;
    json_reader_init(&r, rows, body, size, max_rows, error);
    if (read_body(&r) == 0)
        return 0;

    if (rows->owned)
        tensor_rows_release(rows);
    struct nn_error syntax = {0};
    if (r.status == JSON_BAD_REQUEST && size > 0 &&
        json_scan_document(body, size, &syntax) != 0) {
        if (error)
            *error = syntax;
        nn_fail_in(error, "not JSON");
    }
    return r.status;
}
