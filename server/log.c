#include "server/log.h"

#include "server/buffer.h"
#include "server/clock.h"
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

const char *const log_level_names[] = {"debug", "info", "warning", "error", NULL};

static enum log_level threshold = LOG_INFO;
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint_fast64_t lost; /* lines, since it was last said */

void log_set_level(enum log_level level)
{
    threshold = level;
}

/* Whether it was written. Not by O_NONBLOCK, which whoever else writes there would get, too: a
 * pipe that is ready takes PIPE_BUF bytes, which no line of ours exceeds, as long as nobody
 * writes between. */
static bool put(const char *text, size_t size)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    pthread_mutex_lock(&writing);
    bool written = poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) &&
                   write(STDERR_FILENO, text, size) == (ssize_t)size;
    pthread_mutex_unlock(&writing);
    return written;
}

static bool write_line(enum log_level level, const char *event, const struct log_field *fields,
                       size_t n)
{
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
    bool written = put(text, size);
    buffer_release(&line);
    return written;
}

void log_write(enum log_level level, const char *event, const struct log_field *fields,
               size_t n)
{
    if (level < threshold)
        return;
    if (!write_line(level, event, fields, n)) {
        atomic_fetch_add(&lost, 1);
        return;
    }
    uint64_t before = atomic_load(&lost) ? atomic_exchange(&lost, 0) : 0;
    const struct log_field lines = LOG_INTEGER("lines", (int64_t)before);
    if (before && !write_line(LOG_WARNING, "log lines lost", &lines, 1))
        atomic_fetch_add(&lost, before);
}
