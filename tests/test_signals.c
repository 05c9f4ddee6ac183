/*
 * Signals at any moment, and clocks that are set.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <glob.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 60000 /* milliseconds */, MODELS = 60, MOMENTS = 8 };

static const char body[] = "{\"instances\":[[1,2,3,4]]}";

static void publish_many(const struct fixture *f, int version)
{
    for (int i = 0; i < MODELS; i++) {
        char name[16];
        snprintf(name, sizeof name, "m%d", i);
        publish_linear(f->models, name, version, version);
    }
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* SIGHUP */

static void a_storm_of_hangups_ends_with_what_was_published_last(void **state)
{
    enum { SIGNALS = 5000, VERSIONS = 10 };
    struct fixture f;
    char answer[1024] = "";
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    for (int i = 0; i < SIGNALS; i++) {
        if (i % (SIGNALS / VERSIONS) == 0)
            publish_linear(f.models, "m", 2 + i / (SIGNALS / VERSIONS), 2);
        assert_int_equal(kill(f.pid, SIGHUP), 0);
        if (i % 50 == 0)
            assert_int_equal(request(f.port, "POST", "/predict", body, NULL, 0), 200);
    }
    for (int waited = 0; !strstr(answer, "\"model_version\":\"11\""); waited += 5) {
        if (waited >= PATIENCE)
            fail_msg("the last version is not served: %s", answer);
        usleep(5000);
        assert_int_equal(request(f.port, "POST", "/predict", body, answer, sizeof answer), 200);
    }
    fixture_end(&f);
}

/* SIGTERM */

/* The process ends by the signal as long as it has not said otherwise, later with 0: never by
 * anything else, and never not at all. */
static void sigterm_while_starting_ends_the_server(void **state)
{
    static const char *const one_thread[] = {"--threads", "1", NULL};
    struct fixture f;
    double begun = seconds();
    (void)state;

    fixture_open(&f);
    publish_many(&f, 1);
    fixture_serve(&f, one_thread);
    double whole = seconds() - begun;
    assert_int_equal(fixture_stop(&f), 0);
    for (int i = 0; i < MOMENTS; i++) {
        fixture_spawn(&f, one_thread);
        usleep((useconds_t)(whole * 1e6 * i / MOMENTS));
        int status = fixture_stop(&f);
        char *log = fixture_log(&f);
        if (status != 0 && (status != 128 + SIGTERM || strstr(log, "\"listening\"")))
            fail_msg("moment %d: status %d: %s", i, status, log);
        free(log);
    }
    fixture_close(&f);
}

static void *reload(void *arg)
{
    const struct fixture *f = arg;
    static char answer[MODELS * 256];
    int status = request(f->admin_port, "POST", "/reload", "", answer, sizeof answer);
    return (void *)(intptr_t)status;
}

/* Who waits for the reload is answered, by what it did or that the server stops, or was too
 * late to be accepted. */
static void sigterm_while_reloading_ends_the_server(void **state)
{
    double whole = 0;
    (void)state;

    for (int i = 0; i <= MOMENTS; i++) {
        struct fixture f;
        pthread_t thread;
        void *status;
        fixture_open(&f);
        publish_many(&f, 1);
        fixture_serve(&f, (const char *const[]){"--threads", "1", NULL});
        publish_many(&f, 2);
        double begun = seconds();
        assert_int_equal(pthread_create(&thread, NULL, reload, &f), 0);
        if (i == 0) { /* how long one takes */
            pthread_join(thread, &status);
            assert_int_equal((intptr_t)status, 200);
            whole = seconds() - begun;
        } else {
            usleep((useconds_t)(whole * 1e6 * i / MOMENTS));
        }
        assert_int_equal(fixture_stop(&f), 0);
        if (i > 0)
            pthread_join(thread, &status);
        if ((intptr_t)status != 200 && (intptr_t)status != 503 && (intptr_t)status != 0)
            fail_msg("moment %d: the reload was answered %d", i, (int)(intptr_t)status);
        fixture_close(&f);
    }
}

static void hangups_while_the_server_stops_are_nothing(void **state)
{
    struct fixture f;
    (void)state;

    fixture_open(&f);
    publish_many(&f, 1);
    fixture_serve(&f, (const char *const[]){"--drain-delay", "0.2", NULL});
    for (int i = 0; i < 100; i++)
        assert_int_equal(kill(f.pid, SIGHUP), 0);
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(kill(f.pid, SIGHUP), 0);
        usleep(1000);
    }
    assert_int_equal(fixture_wait(&f), 0);
    fixture_close(&f);
}

/* the clock */

static char faketime[PATH_MAX], time_file[FIXTURE_PATH + 16];

/* Turns the server's clock: "+1y", "-1y". */
static void set_clock(const char *offset)
{
    char next[FIXTURE_PATH + 32];
    snprintf(next, sizeof next, "%s.next", time_file);
    FILE *file = fopen(next, "w");
    assert_non_null(file);
    fprintf(file, "%s\n", offset);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(next, time_file), 0);
}

static bool find_faketime(void)
{
    glob_t found = {0};
    bool there = glob("/usr/lib/*/faketime/libfaketimeMT.so.1", 0, NULL, &found) == 0;
    if (there)
        snprintf(faketime, sizeof faketime, "%s", found.gl_pathv[0]);
    globfree(&found);
    return there;
}

/* The sanitizers' runtime does not let another library come first: then it is the server that
 * was built without. */
static bool use_faketime(const struct fixture *f)
{
    const char *plain = fixture_plain_build();
    if (!plain || !find_faketime())
        return false;
    snprintf(time_file, sizeof time_file, "%s/time", f->folder);
    setenv("PREDICTD_BUILD", plain, 1);
    setenv("LD_PRELOAD", faketime, 1);
    setenv("FAKETIME_TIMESTAMP_FILE", time_file, 1);
    setenv("FAKETIME_NO_CACHE", "1", 1);
    setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1", 1);
    set_clock("+0");
    return true;
}

static void without_faketime(void)
{
    static const char *const variables[] = {"LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE",
                                            "FAKETIME_NO_CACHE",
                                            "FAKETIME_DONT_FAKE_MONOTONIC"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
}

/* The year that the server's log names last. */
static int year_of_log(const struct fixture *f)
{
    char *log = fixture_log(f), *last = NULL;
    for (char *p = log; (p = strstr(p, "{\"time\":\"")); p++)
        last = p;
    int year = last ? atoi(last + strlen("{\"time\":\"")) : 0;
    free(log);
    return year;
}

/* Over the years no connection is cut, no prediction expires, and a drain takes its time. */
static void clocks_that_are_set_cut_nobody_off(void **state)
{
    static const char *const offsets[] = {"+1y", "-1y", "+10y", "-5y", "+0"};
    static const char head[] =
        "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n";
    struct fixture f;
    (void)state;

    fixture_open(&f);
    const char *build = getenv("PREDICTD_BUILD");
    char saved[FIXTURE_PATH];
    snprintf(saved, sizeof saved, "%s", build ? build : "build");
    if (!use_faketime(&f)) {
        fixture_close(&f);
        print_message("skipped: there is no libfaketime, or no server without sanitizers\n");
        skip();
    }
    publish_linear(f.models, "m", 1, 1);
    fixture_start(&f, (const char *const[]){"--access-log", "--idle-timeout", "60",
                                            "--deadline", "60000", NULL});
    without_faketime();
    setenv("PREDICTD_BUILD", saved, 1);
    fixture_wait_ready(&f);
    int fd = socket_connect(f.port), year = year_of_log(&f);
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        char answer[256];
        socket_send(fd, head); /* begun before, ended after */
        usleep(20000);
        set_clock(offsets[i]);
        socket_send(fd, body);
        assert_int_equal(socket_answer(fd, answer, sizeof answer), 200);
        assert_int_equal(request(f.admin_port, "POST", "/reload", "", NULL, 0), 200);
        publish_linear(f.models, "m", 2 + (int)i, 1);
        assert_int_equal(request(f.admin_port, "POST", "/reload", "", NULL, 0), 200);
        assert_in_range(abs(year_of_log(&f) - year - atoi(offsets[i])), 0, 1);
        assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
        assert_true(fixture_metric(&f, "predictd_http_request_duration_seconds_sum{"
                                       "route=\"/predict\"}") < PATIENCE / 1000.0);
    }
    assert_true(fixture_metric(&f, "predictd_connections_cut_total{stage=\"idle\"}") == 0);
    close(fd);
    set_clock("-3y");
    assert_int_equal(fixture_stop(&f), 0);
    char *log = fixture_log(&f);
    if (!strstr(log, "\"lost\":0}") || strstr(log, "\"seconds\":-"))
        fail_msg("%s", strstr(log, "\"draining\""));
    free(log);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_storm_of_hangups_ends_with_what_was_published_last),
        cmocka_unit_test(sigterm_while_starting_ends_the_server),
        cmocka_unit_test(sigterm_while_reloading_ends_the_server),
        cmocka_unit_test(hangups_while_the_server_stops_are_nothing),
        cmocka_unit_test(clocks_that_are_set_cut_nobody_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
