/* The log, and a reader of it that stops reading. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/log.h"
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4, LINES = 2000 /* of each, many more than a pipe takes */ };

static void *write_lines(void *unused)
{
    char text[101];
    (void)unused;
    memset(text, '"', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (int i = 0; i < LINES; i++)
        log_event(LOG_INFO, "line", LOG_TEXT("text", text));
    return NULL;
}

/* Takes what lies in the pipe: counts the lines, each of which has to be whole, and adds up how
 * many are said to be lost. */
static void take_lines(int fd, int *lines, json_int_t *lost)
{
    static char all[1 << 20];
    size_t size = 0;
    ssize_t n;
    while ((n = read(fd, all + size, sizeof all - size - 1)) > 0)
        size += (size_t)n;
    all[size] = 0;
    for (char *line = all, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        *end = 0;
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(object);
        if (strcmp(json_string_value(json_object_get(object, "event")), "line") == 0)
            ++*lines;
        else
            *lost += json_integer_value(json_object_get(object, "lines"));
        json_decref(object);
    }
}

static void lines_that_nobody_reads_are_lost_and_counted(void **state)
{
    int ends[2], saved = dup(STDERR_FILENO), lines = 0;
    pthread_t threads[THREADS];
    json_int_t lost = 0;
    (void)state;

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    alarm(120); /* instead of waiting for ever for somebody who reads */
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    alarm(0);
    take_lines(ends[0], &lines, &lost);
    assert_in_range(lines, 1, THREADS * LINES - 1);
    assert_int_equal(lost, 0);

    log_event(LOG_INFO, "line", LOG_INTEGER("last", 1));
    take_lines(ends[0], &lines, &lost);
    assert_int_equal(lines + lost, THREADS * LINES + 1);
    log_event(LOG_INFO, "line", LOG_INTEGER("last", 2)); /* it is said once */
    take_lines(ends[0], &lines, &lost);
    assert_int_equal(lines + lost, THREADS * LINES + 2);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_that_nobody_reads_are_lost_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
