#include "trainer/datasets/records.h"

#include <stdlib.h>
#include <string.h>

#include "trainer/datasets/format.h"

enum { MAX_RECORD = 1 << 20 };  /* bytes */

int records_open(struct records *records, const char *path, char delimiter,
                 struct nn_error *error)
{
    size_t n;
    *records = (struct records){.path = path, .delimiter = delimiter, .next_line = 1};
    if (!(records->bytes = source_slurp(path, &n, error)))
        return -1;
    records->at = records->bytes;
    records->end = records->bytes + n;

    const char *nul = memchr(records->bytes, '\0', n);
    if (nul) {
        int64_t line = 1;
        for (const char *p = records->bytes; p < nul; p++)
            line += *p == '\n';
        nn_fail(error, "%s:%lld: a NUL byte: this is not text", path, (long long)line);
        records_close(records);
        return -1;
    }
    if (n >= 3 && memcmp(records->bytes, "\xEF\xBB\xBF", 3) == 0)
        records->at += 3;               /* UTF-8's byte order mark */
    return 0;
}

void records_close(struct records *records)
{
    free(records->bytes);
    free(records->fields);
    *records = (struct records){0};
}

static bool is_blank(const struct records *records, char c)
{
    return (c == ' ' || c == '\t') && c != records->delimiter;
}

static bool is_line_end(const char *p)
{
    return *p == '\n' || (p[0] == '\r' && p[1] == '\n');
}

static bool ends_field(const struct records *records, const char *p)
{
    return p == records->end || *p == records->delimiter || is_line_end(p);
}

static int add_field(struct records *records, char *text, struct nn_error *error)
{
    if (records->n_fields == records->capacity) {
        int capacity = records->capacity ? 2 * records->capacity : 16;
        char **grown = realloc(records->fields, (size_t)capacity * sizeof *grown);
        if (!grown)
            return nn_fail(error, "%s:%lld: no memory", records->path,
                           (long long)records->line);
        records->fields = grown;
        records->capacity = capacity;
    }
    records->fields[records->n_fields++] = text;
    return 0;
}

/* From behind the opening quote. *text_end is where the field's text ends; returns what comes
 * behind the closing quote, or NULL. */
static char *scan_quoted(struct records *records, char *p, char **text_end)
{
    char *to = p;
    for (; p < records->end; p++) {
        if (*p == '"' && *++p != '"') {
            *text_end = to;
            return p;
        }
        records->next_line += *p == '\n';
        *to++ = *p;
    }
    return NULL;
}

/* One field from records->at. 1: another follows in the record; 0: it was the last; -1. */
static int scan_field(struct records *records, struct nn_error *error)
{
    char *p = records->at, *text_end;
    while (is_blank(records, *p))
        p++;

    char *text = p;
    if (*p == '"') {
        text = p + 1;
        if (!(p = scan_quoted(records, text, &text_end)))
            return nn_fail(error, "%s:%lld: column %d: the quote is never closed",
                           records->path, (long long)records->line, records->n_fields);
        while (is_blank(records, *p))
            p++;
        if (!ends_field(records, p))
            return nn_fail(error, "%s:%lld: column %d: text behind the closing quote",
                           records->path, (long long)records->line, records->n_fields);
    } else {
        while (!ends_field(records, p))
            p++;
        text_end = p;
        while (text_end > text && is_blank(records, text_end[-1]))
            text_end--;
    }
    if (add_field(records, text, error) != 0)
        return -1;

    char stop = *p;                     /* the field's NUL may take its place */
    *text_end = '\0';
    if (stop == records->delimiter) {
        records->at = p + 1;
        return 1;
    }
    records->at = stop == '\0' ? p : stop == '\r' ? p + 2 : p + 1;
    records->next_line += stop != '\0';
    return 0;
}

int records_next(struct records *records, struct nn_error *error)
{
    if (strspn(records->at, "\r\n") == (size_t)(records->end - records->at))
        return 0;

    char *begin = records->at;
    records->line = records->next_line;
    records->n_fields = 0;
    int more;
    while ((more = scan_field(records, error)) > 0)
        if (records->at - begin > MAX_RECORD)
            break;
    if (more < 0)
        return -1;
    if (records->at - begin > MAX_RECORD)
        return nn_fail(error, "%s:%lld: the record is longer than %d bytes", records->path,
                       (long long)records->line, MAX_RECORD);
    return 1;
}
