/*
 * The server against clients that are too slow, too many, or gone.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BODY "{\"instances\":[[1,2,3,4]]}" /* 25 bytes */
#define HEAD "POST /predict HTTP/1.1\r\nHost: x\r\n"
#define LIVE "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"

enum {
    PATIENCE = 60000,   /* milliseconds, for a sanitized server on a busy machine */
    INSTANCES = 400000, /* whose answer fills the buffers of any socket */
};

static struct fixture shared;
static char *large; /* the body of so many instances */

static int open_shared(void **state)
{
    static const char *const arguments[] = {"--threads",
                                            "1",
                                            "--header-timeout",
                                            "1",
                                            "--body-timeout",
                                            "1",
                                            "--idle-timeout",
                                            "1",
                                            "--max-instances",
                                            "1000000",
                                            "--max-queue",
                                            "4",
                                            NULL};
    (void)state;
    fixture_open(&shared);
    publish_linear(shared.models, "m", 1, 1);
    fixture_serve(&shared, arguments);
    large = linear_body(INSTANCES);
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    fixture_end(&shared);
    free(large);
    return 0;
}

/* slow */

/* What is sent at once, and what then comes again and again, a byte at a time. */
static const struct {
    const char *name, *begin, *drip;
    int answers; /* to the beginning */
    const char *stage;
} slow[] = {
    {"nothing", "", "", 0, "header"},
    {"a slow first line", "", "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0,
     "header"},
    {"slow headers", "GET / HTTP/1.1\r\nHost: x\r\n", "X: 1\r\n", 0, "header"},
    {"a slow body", HEAD "Content-Length: 100000\r\n\r\n", " ", 0, "body"},
    {"slow chunks", HEAD "Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", 0, "body"},
    {"a slow size of a chunk", HEAD "Transfer-Encoding: chunked\r\n\r\n1;", "a", 0, "body"},
    {"slow trailers", HEAD "Transfer-Encoding: chunked\r\n\r\n0\r\n", "X: 1\r\n", 0, "body"},
    {"a slow body that is refused",
     "POST /nowhere HTTP/1.1\r\nHost: x\r\n"
     "Content-Length: 100000\r\n\r\n",
     " ", 0, "body"},
    {"nothing behind an answer", LIVE, "", 1, "idle"},
    {"a slow first line behind an answer", LIVE,
     "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1, "idle"},
    {"slow headers behind an answer", LIVE "GET / HTTP/1.1\r\nHost: x\r\n", "X: 1\r\n", 1,
     "header"},
    {"a slow body behind an answer", LIVE HEAD "Content-Length: 100000\r\n\r\n", " ", 1,
     "body"},
};

static bool has_ended(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static void a_client_that_trickles_is_cut_off_in_every_stage(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof slow / sizeof slow[0]; i++) {
        char sample[128];
        snprintf(sample, sizeof sample, "predictd_connections_cut_total{stage=\"%s\"}",
                 slow[i].stage);
        double before = fixture_metric(&shared, sample);
        int fd = socket_connect(shared.port), waited = 0;

        socket_send(fd, slow[i].begin);
        for (int k = 0; k < slow[i].answers; k++)
            assert_int_equal(socket_answer(fd, NULL, 0), 200);
        for (const char *p = slow[i].drip; !has_ended(fd) && waited < PATIENCE; waited += 20) {
            char byte[2] = {*p};
            socket_send(fd, byte);
            if (*p && !*++p)
                p = slow[i].drip;
            usleep(20000);
        }
        close(fd);
        if (waited >= PATIENCE)
            fail_msg("%s: still connected", slow[i].name);
        if (fixture_metric(&shared, sample) <= before)
            fail_msg("%s: not counted as slow", slow[i].name);
    }
}

static void send_large(int fd)
{
    char head[128];
    snprintf(head, sizeof head, HEAD "Content-Length: %zu\r\n\r\n", strlen(large));
    socket_send(fd, head);
    socket_send(fd, large);
}

static int connect_with_a_small_window(void)
{
    int fd = socket_connect(shared.port), size = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return fd;
}

static void a_reader_that_never_reads_is_cut_off(void **state)
{
    static const char sample[] = "predictd_connections_cut_total{stage=\"answer\"}";
    double before = fixture_metric(&shared, sample);
    int fd = connect_with_a_small_window();
    (void)state;

    send_large(fd);
    fixture_await_metric(&shared, sample, before + 1);
    close(fd);
}

/* A chunk's size with an extension that does not fit into the library's buffer keeps it busy
 * with nothing. */
static void an_endless_chunk_extension_does_not_keep_a_processor_busy(void **state)
{
    enum { CLIENTS = 8 };
    static char extension[200000];
    static const char sample[] = "predictd_connections_cut_total{stage=\"body\"}";
    double before = fixture_metric(&shared, sample);
    int fds[CLIENTS];
    (void)state;

    memset(extension, 'a', sizeof extension - 1);
    double busy = fixture_metric(&shared, "process_cpu_seconds_total");
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = socket_connect(shared.port);
        socket_send(fds[i], HEAD "Transfer-Encoding: chunked\r\n\r\n1;");
        send(fds[i], extension, sizeof extension, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    usleep(500000);
    double used = fixture_metric(&shared, "process_cpu_seconds_total") - busy;
    fixture_await_metric(&shared, sample, before + CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    if (used > 0.4)
        fail_msg("half a second cost %g s of a processor", used);
}

/* Nobody has to wait for its time to be over, and whoever sends little by little beside it is
 * not taken for it. */
static void an_endless_chunk_extension_is_cut_off_before_any_timeout(void **state)
{
    static char extension[200000];
    static const char sample[] = "predictd_connections_cut_total{stage=\"body\"}";
    static const char chunks[] = "5\r\n{\"ins\r\n14;a=b\r\ntances\":[[1,2,3,4]]}\r\n0\r\n\r\n";
    struct fixture f;
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, (const char *const[]){"--threads", "1", "--body-timeout", "600", NULL});
    memset(extension, 'a', sizeof extension - 1);
    int steady = socket_connect(f.port), endless = socket_connect(f.port),
        gone = socket_connect(f.port);
    socket_send(steady, HEAD "Transfer-Encoding: chunked\r\n\r\n");
    socket_send(endless, HEAD "Transfer-Encoding: chunked\r\n\r\n1;");
    send(endless, extension, sizeof extension, MSG_DONTWAIT | MSG_NOSIGNAL);
    socket_send(gone, HEAD "Transfer-Encoding: chunked\r\n\r\n1;");
    send(gone, extension, sizeof extension, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(gone);
    for (const char *c = chunks; *c; c++) {
        send(steady, c, 1, MSG_NOSIGNAL);
        usleep(20000);
    }
    assert_int_equal(socket_answer(steady, NULL, 0), 200);
    fixture_await_metric(&f, sample, 2);
    close(steady);
    close(endless);
    fixture_end(&f);
}

/* gone */

/* Ends a connection by a reset: what was not yet read is lost to both. */
static void reset(int fd)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static void still_serves(void)
{
    char answer[512];
    int status = request(shared.port, "POST", "/predict", BODY, answer, sizeof answer);
    for (int waited = 0; status == 503 && waited < PATIENCE; waited += 10) {
        usleep(10000); /* the last of those that left are still in work */
        status = request(shared.port, "POST", "/predict", BODY, answer, sizeof answer);
    }
    assert_int_equal(status, 200);
}

static void clients_that_leave_in_the_middle_of_a_body_leave_nothing_behind(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        int fd = socket_connect(shared.port);
        socket_send(fd, HEAD "Content-Length: 25\r\n\r\n{\"instances\":");
        if (i % 4 >= 2)
            usleep(500);
        i % 2 ? reset(fd) : (void)close(fd);
    }
    still_serves();
}

static void clients_that_leave_while_they_are_queued_leave_nothing_behind(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        int fd = socket_connect(shared.port);
        for (int k = 0; k < 1 + i % 3; k++)
            socket_send(fd, HEAD "Content-Length: 25\r\n\r\n" BODY);
        i % 2 ? reset(fd) : (void)close(fd);
    }
    still_serves();
}

static void clients_that_leave_while_their_answer_is_written_leave_nothing_behind(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        char byte;
        int fd = connect_with_a_small_window();
        send_large(fd);
        assert_int_equal(recv(fd, &byte, 1, 0), 1); /* it has begun */
        i % 2 ? reset(fd) : (void)close(fd);
    }
    still_serves();
}

/* The end of a connection comes together with its last bytes, and no time is ever over. */
static void clients_that_leave_are_noticed_before_any_timeout(void **state)
{
    static const char *const arguments[] = {"--threads",
                                            "1",
                                            "--header-timeout",
                                            "600",
                                            "--body-timeout",
                                            "600",
                                            "--idle-timeout",
                                            "600",
                                            "--drain-timeout",
                                            "600",
                                            NULL};
    static const char *const sent[] = {
        HEAD "Content-Length: 25\r\n\r\n",
        HEAD "Content-Length: 25\r\n\r\n{\"instances\":",
        HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"ins",
        "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n{",
        LIVE HEAD "Content-Length: 25\r\n\r\n" BODY "POST /pred",
        "GET /health/live HT",
    };
    const int n = sizeof sent / sizeof sent[0], rounds = 20;
    struct fixture f;
    double connections = 0;
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    for (int i = 0; i < rounds * n; i++) {
        int fd = socket_connect(f.port);
        socket_send(fd, sent[i % n]);
        close(fd);
    }
    for (int waited = 0; waited < PATIENCE; waited += 50) {
        connections = fixture_metric(&f, "predictd_connections");
        if (connections <= 1)
            break;
        usleep(50000);
    }
    assert_true(connections <= 1); /* ours */
    assert_true(fixture_metric(&f, "predictd_http_requests_in_flight") == 1);
    int fd = socket_connect(f.port); /* nor does a drain wait for such a request */
    socket_send(fd, sent[1]);
    close(fd);
    fixture_end(&f);
}

/* As `nc -N` and every client that says by its half of the connection that it has asked all. */
static void a_client_that_only_reads_on_gets_its_answers_and_the_end(void **state)
{
    static const char *const arguments[] = {"--threads", "1", "--idle-timeout", "600", NULL};
    static const char *const behind[] = {"", "POST /predict HT",
                                         HEAD "Content-Length: 9\r\n\r\n{"};
    struct fixture f;
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    for (size_t i = 0; i < sizeof behind / sizeof behind[0]; i++) {
        const struct timeval patience = {.tv_sec = PATIENCE / 1000};
        char text[512], byte;
        int fd = socket_connect(f.port);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        snprintf(text, sizeof text, "%s%s%s", LIVE, HEAD "Content-Length: 25\r\n\r\n" BODY,
                 behind[i]);
        socket_send(fd, text);
        shutdown(fd, SHUT_WR);
        assert_int_equal(socket_answer(fd, NULL, 0), 200);
        assert_int_equal(socket_answer(fd, NULL, 0), 200);
        assert_int_equal(recv(fd, &byte, 1, 0), 0);
        close(fd);
    }
    fixture_end(&f);
}

/* The same while a worker computes: sixteen wait for each other, and say so before that. */
static void a_client_that_only_reads_on_gets_the_answer_of_a_worker(void **state)
{
    enum { N = 16 };
    const struct timeval patience = {.tv_sec = PATIENCE / 1000};
    struct fixture f;
    int fds[N];
    char byte;
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_config(f.models, "m",
                   "{\"threads\":1,\"max_queue_delay_us\":300000,\"preferred_batch_size\":64}");
    fixture_serve(&f, (const char *const[]){"--threads", "1", NULL});
    for (int i = 0; i < N; i++) {
        fds[i] = socket_connect(f.port);
        setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        socket_send(fds[i], HEAD "Content-Length: 25\r\n\r\n" BODY);
        if (i % 2)
            usleep(2000);
        shutdown(fds[i], SHUT_WR);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(socket_answer(fds[i], NULL, 0), 200);
        assert_int_equal(recv(fds[i], &byte, 1, 0), 0);
        close(fds[i]);
    }
    fixture_end(&f);
}

/* too many */

static void connections_beyond_the_limit_are_closed_and_the_others_served(void **state)
{
    enum { LIMIT = 6, CLIENTS = 20 };
    static const char *const arguments[] = {"--threads", "2", "--max-connections", "6", NULL};
    struct fixture f;
    int fds[CLIENTS], served = 0;
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = socket_connect(f.port);
        socket_send(fds[i], LIVE);
        served += socket_answer(fds[i], NULL, 0) == 200;
    }
    assert_in_range(served, 1, LIMIT);
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    fixture_await_metric(&f, "predictd_connections_refused_total", CLIENTS - LIMIT);
    fixture_end(&f);
}

/* Starts the server by a script that takes descriptors away from it. */
static void start_with_few_descriptors(struct fixture *f, const char *const *arguments)
{
    const char *build = getenv("PREDICTD_BUILD");
    char path[FIXTURE_PATH + 16], program[PATH_MAX], *saved = build ? strdup(build) : NULL;

    snprintf(path, sizeof path, "%s/predictd", build ? build : "build");
    assert_non_null(realpath(path, program));
    snprintf(path, sizeof path, "%s/predictd", f->folder);
    FILE *script = fopen(path, "w");
    assert_non_null(script);
    fprintf(script, "#!/bin/sh\nulimit -n 20\nexec '%s' \"$@\"\n", program);
    assert_int_equal(fclose(script), 0);
    assert_int_equal(chmod(path, 0755), 0);
    setenv("PREDICTD_BUILD", f->folder, 1);
    fixture_start(f, arguments);
    if (saved)
        setenv("PREDICTD_BUILD", saved, 1);
    else
        unsetenv("PREDICTD_BUILD");
    free(saved);
}

/* Forty clients at once, then none: served again, and no processor was kept busy. */
static void assert_recovers(struct fixture *f)
{
    enum { CLIENTS = 40 };
    int fds[CLIENTS];
    double busy = fixture_metric(f, "process_cpu_seconds_total");

    for (int i = 0; i < CLIENTS; i++)
        fds[i] = socket_connect(f->port);
    usleep(1000000);
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    double used = fixture_metric(f, "process_cpu_seconds_total") - busy;
    if (used > 0.7)
        fail_msg("a second without descriptors cost %g s of a processor", used);
    int status = 0;
    for (int waited = 0; status != 200 && waited < PATIENCE; waited += 10) {
        status = request(f->port, "POST", "/predict", BODY, NULL, 0);
        usleep(10000);
    }
    assert_int_equal(status, 200);
}

static void twenty_descriptors_are_enough_for_one_thread(void **state)
{
    static const char *const arguments[] = {"--threads", "1", NULL};
    char answer[512];
    struct fixture f;
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    start_with_few_descriptors(&f, arguments);
    fixture_wait_ready(&f);
    assert_recovers(&f);
    publish_linear(f.models, "m", 2, 2);
    assert_int_equal(request(f.admin_port, "POST", "/reload", "", answer, sizeof answer), 200);
    assert_non_null(strstr(answer, "\"loaded\""));
    fixture_end(&f);
}

/* The server took its limit for larger when it started. */
static void descriptors_that_run_out_are_waited_for(void **state)
{
    static const char *const arguments[] = {"--threads", "1", NULL};
    struct rlimit limit = {.rlim_cur = 20, .rlim_max = 20};
    struct fixture f;
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    assert_int_equal(prlimit(f.pid, RLIMIT_NOFILE, &limit, NULL), 0);
    assert_recovers(&f);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_that_trickles_is_cut_off_in_every_stage),
        cmocka_unit_test(a_reader_that_never_reads_is_cut_off),
        cmocka_unit_test(an_endless_chunk_extension_does_not_keep_a_processor_busy),
        cmocka_unit_test(an_endless_chunk_extension_is_cut_off_before_any_timeout),
        cmocka_unit_test(clients_that_leave_in_the_middle_of_a_body_leave_nothing_behind),
        cmocka_unit_test(clients_that_leave_while_they_are_queued_leave_nothing_behind),
        cmocka_unit_test(clients_that_leave_while_their_answer_is_written_leave_nothing_behind),
        cmocka_unit_test(clients_that_leave_are_noticed_before_any_timeout),
        cmocka_unit_test(a_client_that_only_reads_on_gets_its_answers_and_the_end),
        cmocka_unit_test(a_client_that_only_reads_on_gets_the_answer_of_a_worker),
        cmocka_unit_test(connections_beyond_the_limit_are_closed_and_the_others_served),
        cmocka_unit_test(twenty_descriptors_are_enough_for_one_thread),
        cmocka_unit_test(descriptors_that_run_out_are_waited_for),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
