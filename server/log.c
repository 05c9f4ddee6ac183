#include "server/log.h"

#include "server/buffer.h"
#include "server/clock.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

const char *const log_level_names[] = {"debug", "info", "warning", "error", NULL};

static enum log_level threshold = LOG_INFO;

void log_set_level(enum log_level level)
{
    threshold = level;
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
    if (level < threshold)
        return;

    struct buffer line = {0};
    struct timespec now;
    char time[CLOCK_TEXT];
    clock_gettime(CLOCK_REALTIME, &now);
    clock_text(time, now);
    buffer_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":", time,
                  log_level_names[level]);
    buffer_add_json_string(&line, event);
    for (const struct log_field *f = fields; f < fields + n; f++) {
        buffer_printf(&line, ",\"%s\":", f->name);
        if (f->kind == LOG_IS_INTEGER)
            buffer_printf(&line, "%lld", (long long)f->integer);
        else if (f->kind == LOG_IS_REAL && isfinite(f->real))
            buffer_printf(&line, "%.6g", f->real);
        else if (f->kind == LOG_IS_TEXT && f->text)
            buffer_add_json_string(&line, f->text);
        else
            buffer_add_text(&line, "null");
    }
    buffer_add_text(&line, "}\n");

    /* Without memory the bare event has to do. */
    char bare[256];
    const char *text = line.data;
    size_t size = line.size;
    if (line.failed) {
        text = bare;
        size = (size_t)snprintf(bare, sizeof bare,
                                "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%.100s\","
                                "\"incomplete\":\"out of memory\"}\n",
                                time, log_level_names[level], event);
    }
    /* What the reader of standard error does not take is lost: logging never stops the work. */
    if (write(STDERR_FILENO, text, size) < 0)
        (void)0;
    buffer_release(&line);
}
