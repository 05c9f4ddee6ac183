/*
 * A line of the log for each request, with --access-log.
 *
 * A request that is part of a trace (W3C Trace Context, level 1) says so in its line, so that
 * the trace leads to it. Nothing is sent on: there is nobody behind this server.
 */
#include "server/api/api.h"

#include "server/log.h"
#include <stdio.h>
#include <string.h>

enum {
    TRACE_ID = HTTP_TRACE_ID_SIZE - 1,
    PARENT_ID = HTTP_PARENT_ID_SIZE - 1,
    FIELDS = 24,
    PATH = 512, /* bytes that are shown: escaped, a line still fits into one write to a pipe */
};

/* traceparent */

/* Lower-case hexadecimal digits, not all zero. */
static bool is_id(const char *text, size_t n)
{
    bool zero = true;
    for (size_t i = 0; i < n; i++) {
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
            return false;
        zero &= text[i] == '0';
    }
    return !zero;
}

static bool is_hex(const char *text)
{
    return (strchr("0123456789abcdef", text[0]) && strchr("0123456789abcdef", text[1]));
}

/* version "-" trace-id "-" parent-id "-" flags; versions to come may have more behind it. */
bool api_read_traceparent(const char *text, char trace[HTTP_TRACE_ID_SIZE],
                          char parent[HTTP_PARENT_ID_SIZE])
{
    enum {
        TRACE = 3,
        PARENT = TRACE + TRACE_ID + 1,
        FLAGS = PARENT + PARENT_ID + 1,
        END = FLAGS + 2
    };
    if (!text || strlen(text) < END || text[2] != '-' || text[PARENT - 1] != '-' ||
        text[FLAGS - 1] != '-')
        return false;
    if (!is_hex(text) || strncmp(text, "ff", 2) == 0 || !is_hex(text + FLAGS))
        return false;
    if (text[END] && (strncmp(text, "00", 2) == 0 || text[END] != '-'))
        return false;
    if (!is_id(text + TRACE, TRACE_ID) || !is_id(text + PARENT, PARENT_ID))
        return false;
    memcpy(trace, text + TRACE, TRACE_ID);
    memcpy(parent, text + PARENT, PARENT_ID);
    trace[TRACE_ID] = parent[PARENT_ID] = 0;
    return true;
}

/* the line */

struct line {
    struct log_field fields[FIELDS];
    size_t n;
};

static void add_text(struct line *line, const char *name, const char *text)
{
    if (text && *text)
        line->fields[line->n++] = (struct log_field)LOG_TEXT(name, text);
}

static void add_integer(struct line *line, const char *name, int64_t value)
{
    line->fields[line->n++] = (struct log_field)LOG_INTEGER(name, value);
}

static void add_stages(struct line *line, const struct http_request *r)
{
    static const char *const names[STAGES] = {"decode_us", "queue_us", "compute_us",
                                              "encode_us"};
    for (size_t i = 0; i < STAGES; i++)
        if (r->stages.nanoseconds[i])
            line->fields[line->n++] =
                (struct log_field)LOG_REAL(names[i], (double)r->stages.nanoseconds[i] / 1e3);
    if (r->stages.batch)
        add_integer(line, "batch", r->stages.batch);
}

void api_log_access(const struct http_request *r, bool sent, int64_t duration)
{
    struct line line = {.n = 0};
    char path[PATH];

    snprintf(path, sizeof path, "%s", r->path);
    add_text(&line, "request_id", r->id);
    add_text(&line, "trace_id", r->trace_id);
    add_text(&line, "parent_id", r->parent_id);
    add_text(&line, "client", r->client);
    add_text(&line, "method", api_method_name(r->method));
    add_text(&line, "path", path);
    add_text(&line, "route", r->route ? r->route->path : NULL);
    add_text(&line, "model", r->model);
    if (r->served_version)
        add_integer(&line, "version", r->served_version);
    add_integer(&line, "status", r->status);
    add_text(&line, "end", sent ? "sent" : "lost");
    add_text(&line, "shed", r->shed ? shed_names[r->shed] : NULL);
    add_integer(&line, "received", (int64_t)r->received);
    add_integer(&line, "sent", (int64_t)r->answer.size);
    line.fields[line.n++] = (struct log_field)LOG_REAL("milliseconds", (double)duration / 1e6);
    add_stages(&line, r);
    log_write(LOG_INFO, "request", line.fields, line.n);
}
