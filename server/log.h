/*
 * One JSON object per line on standard error, each by a single write. What its reader does not
 * take at once is lost, and counted in a line to come: no request waits for a log.
 *
 *     log_event(LOG_INFO, "listening", LOG_TEXT("host", host), LOG_INTEGER("port", port));
 */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

extern const char *const log_level_names[];     /* ends with NULL */

struct log_field {
    const char *name;
    enum { LOG_IS_TEXT, LOG_IS_INTEGER, LOG_IS_REAL } kind;
    const char *text;           /* NULL: null */
    int64_t integer;
    double real;
};

#define LOG_TEXT(n, v) {.name = (n), .kind = LOG_IS_TEXT, .text = (v)}
#define LOG_INTEGER(n, v) {.name = (n), .kind = LOG_IS_INTEGER, .integer = (v)}
#define LOG_REAL(n, v) {.name = (n), .kind = LOG_IS_REAL, .real = (v)}

/* Any thread may log; the level is set once, before there are threads. */
void log_set_level(enum log_level level);

#define log_event(level, event, ...)                                                           \
    log_write(level, event, (const struct log_field[]){__VA_ARGS__},                           \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

void log_write(enum log_level level, const char *event, const struct log_field *fields,
               size_t n);

#endif
