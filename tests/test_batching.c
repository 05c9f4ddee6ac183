/*
 * Batches by worker threads: slow models beside fast ones, priorities, bounds, deadlines,
 * pieces of large requests, and who is answered when something ends.
 *
 * The slow model gives its input back after some hundred thousand exponentials a row. What has
 * to happen while it works is sent behind a request of so many rows that there is time for it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include "tests/slow_model.h"
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LONG = 300 /* rows */ };

/* A server with a slow model of this configuration and a fast one, and a single event loop. */
static void open_server(struct fixture *f, const char *configuration,
                        const char *const *arguments)
{
    static const char *const one_loop[] = {"--threads", "1", NULL};
    fixture_open(f);
    publish_slow(f->models, "slow", 1);
    publish_linear(f->models, "fast", 1, 1);
    if (configuration)
        publish_config(f->models, "slow", configuration);
    fixture_serve(f, arguments ? arguments : one_loop);
}

/* Row i of a request is [1, 2, 3, i / 100]. The caller frees it. */
static char *rows_body(int n)
{
    char *body = malloc((size_t)n * 32 + 64);
    assert_non_null(body);
    size_t size = (size_t)sprintf(body, "{\"instances\":[");
    for (int i = 0; i < n; i++)
        size += (size_t)sprintf(body + size, "%s[1,2,3,%g]", i ? "," : "", i / 100.0);
    sprintf(body + size, "]}");
    return body;
}

/* Sends without waiting for the answer; returns the socket. */
static int send_request(int port, const char *path, const char *body)
{
    char head[256];
    int fd = socket_connect(port);
    snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n",
             path, strlen(body));
    socket_send(fd, head);
    socket_send(fd, body);
    return fd;
}

static int send_rows(const struct fixture *f, const char *path, int n)
{
    char *body = rows_body(n);
    int fd = send_request(f->port, path, body);
    free(body);
    return fd;
}

static int send_v2(const struct fixture *f, const char *parameters)
{
    char body[512];
    snprintf(body, sizeof body,
             "{\"parameters\":%s,\"inputs\":[{\"name\":\"x\",\"shape\":[1,4],\"datatype\":"
             "\"FP32\",\"data\":[1,2,3,4]}]}",
             parameters);
    return send_request(f->port, "/v2/models/slow/infer", body);
}

static bool is_answered(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static int answer_of(int fd, char *body, size_t size)
{
    int status = socket_answer(fd, body, size);
    close(fd);
    return status;
}

static void expect_ok(int fd)
{
    static char body[1 << 16];
    int status = answer_of(fd, body, sizeof body);
    if (status != 200)
        print_message("%d %s\n", status, body);
    assert_int_equal(status, 200);
}

/* The loop has read what was sent before: it answers in turns. */
static void settle(const struct fixture *f)
{
    assert_int_equal(request(f->port, "GET", "/health/live", NULL, NULL, 0), 200);
}

/* Checks y = x for every row of an answer. */
static void assert_rows(const char *body, int n)
{
    const char *p = strstr(body, "[[");
    assert_non_null(p);
    for (int i = 0; i < n; i++) {
        double y[4];
        p = strchr(i ? p : p + 1, '[');
        assert_non_null(p);
        assert_int_equal(sscanf(p, "[%lf,%lf,%lf,%lf]", &y[0], &y[1], &y[2], &y[3]), 4);
        assert_true(fabs(y[0] - 1) < 1e-4 && fabs(y[1] - 2) < 1e-4 && fabs(y[2] - 3) < 1e-4);
        if (fabs(y[3] - i / 100.0) > 1e-4)
            print_message("row %d: %s\n", i, p);
        assert_true(fabs(y[3] - i / 100.0) <= 1e-4);
        p++;
    }
}

/* Pieces of 1, 7 and 64 rows, by one thread and by several at once. */
static void a_large_request_is_computed_in_pieces_and_answered_whole(void **state)
{
    static const char *const configurations[] = {
        "{\"threads\":1,\"max_batch_size\":64}", "{\"threads\":3,\"max_batch_size\":7}",
        "{\"threads\":2,\"max_batch_size\":1}", "{\"threads\":0,\"max_batch_size\":16}", "{}"};
    static char body[1 << 16];
    (void)state;

    for (int i = 0; i < 5; i++) {
        struct fixture f;
        open_server(&f, configurations[i], NULL);
        for (int n = 1; n <= 129; n = 2 * n + 1) {
            int fd = send_rows(&f, "/models/slow/predict", n);
            int status = answer_of(fd, body, sizeof body);
            assert_int_equal(status, 200);
            assert_rows(body, n);
        }
        fixture_end(&f);
    }
}

/* What is about the order of two ends can be missed by a test that gets no processor for long
 * enough: it has more than one chance, a server that is wrong has none. */
static void assert_seen(bool (*scenario)(void))
{
    for (int i = 0; i < 5; i++)
        if (scenario())
            return;
    fail();
}

static bool others_answered(void)
{
    struct fixture f;
    char body[1024];

    open_server(&f, NULL, NULL); /* it is slow by measurement */
    int slow = send_rows(&f, "/models/slow/predict", LONG);
    settle(&f);
    assert_int_equal(request(f.port, "GET", "/health", NULL, body, sizeof body), 200);
    assert_int_equal(request(f.port, "POST", "/models/fast/predict",
                             "{\"instances\":[[1,2,3,4]]}", body, sizeof body),
                     200);
    bool seen = !is_answered(slow);
    expect_ok(slow);
    fixture_end(&f);
    return seen;
}

static void others_are_answered_while_a_slow_model_works(void **state)
{
    (void)state;
    assert_seen(others_answered);
}

static bool computed_together(void)
{
    enum { REQUESTS = 24 };
    struct fixture f;
    char body[16384];
    int fds[REQUESTS];

    open_server(&f, "{\"threads\":1}", NULL);
    int first = send_rows(&f, "/models/slow/predict", LONG);
    settle(&f);
    for (int i = 0; i < REQUESTS; i++)
        fds[i] = send_v2(&f, "{}");
    expect_ok(first);
    for (int i = 0; i < REQUESTS; i++)
        expect_ok(fds[i]);
    assert_int_equal(request(f.port, "GET", "/v2/models/slow/stats", NULL, body, sizeof body),
                     200);
    int rows = 0, batches = 0;
    assert_int_equal(
        sscanf(strstr(body, "\"inference_count\""), "\"inference_count\":%d", &rows), 1);
    assert_int_equal(
        sscanf(strstr(body, "\"execution_count\""), "\"execution_count\":%d", &batches), 1);
    assert_int_equal(rows, LONG + REQUESTS);
    fixture_end(&f);
    return batches < REQUESTS; /* 300 rows are 5 batches; 24 at once are one more */
}

static void requests_to_a_slow_model_are_computed_together(void **state)
{
    (void)state;
    assert_seen(computed_together);
}

static bool urgent_first(void)
{
    struct fixture f;
    int low[4];

    open_server(&f, "{\"threads\":1,\"max_batch_size\":1,\"priority_levels\":3}", NULL);
    int first = send_rows(&f, "/models/slow/predict", LONG); /* of the standard level, 2 */
    settle(&f);
    for (int i = 0; i < 4; i++)
        low[i] = send_v2(&f, "{\"priority\":3}");
    settle(&f);
    int high = send_v2(&f, "{\"priority\":1}");
    expect_ok(high);
    bool seen = !is_answered(first) && !is_answered(low[0]); /* between two of its pieces */
    expect_ok(first);
    for (int i = 0; i < 4; i++)
        expect_ok(low[i]);
    fixture_end(&f);
    return seen;
}

static void urgent_requests_go_first(void **state)
{
    (void)state;
    assert_seen(urgent_first);
}

static bool refused_when_full(void)
{
    enum { REQUESTS = 8, ROOM = 3 };
    struct fixture f;
    char body[1024];
    int fds[REQUESTS], refused = 0;

    open_server(&f, "{\"threads\":1,\"max_batch_size\":4,\"max_queue_size\":3}", NULL);
    int first = send_rows(&f, "/models/slow/predict", LONG);
    settle(&f);
    for (int i = 0; i < REQUESTS; i++)
        fds[i] = send_v2(&f, "{}");
    for (int i = 0; i < REQUESTS; i++) {
        int status = answer_of(fds[i], body, sizeof body);
        assert_true(status == 200 || status == 503);
        if (status == 503)
            assert_non_null(strstr(body, "Exceeds maximum queue size"));
        refused += status == 503;
    }
    assert_int_equal(request(f.port, "POST", "/models/fast/predict",
                             "{\"instances\":[[1,2,3,4]]}", body, sizeof body),
                     200);
    expect_ok(first);
    fixture_end(&f);
    return refused >= REQUESTS - ROOM; /* the first has a place until its last piece is taken */
}

static void a_full_queue_refuses_and_others_go_on(void **state)
{
    (void)state;
    assert_seen(refused_when_full);
}

/* More than a loop's mailbox holds while it computes. */
static void connect_to_a_busy_loop(bool stop)
{
    enum { CONNECTIONS = 1500 };
    static int fds[CONNECTIONS];
    struct rlimit limit;
    struct fixture f;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < 2 * CONNECTIONS)
        skip();
    open_server(&f, "{\"threads\":0,\"max_batch_size\":4096}", NULL);
    int first = send_rows(&f, "/models/slow/predict", 10 * LONG);
    for (int i = 0; i < CONNECTIONS; i++) {
        fds[i] = socket_connect(f.port);
        socket_send(fds[i], "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    if (stop)
        assert_int_equal(kill(f.pid, SIGTERM), 0);
    for (int i = 0; i < CONNECTIONS; i++)
        expect_ok(fds[i]);
    expect_ok(first);
    assert_int_equal(stop ? fixture_wait(&f) : fixture_stop(&f), 0);
    fixture_close(&f);
}

static void connections_wait_for_a_loop_that_is_busy(void **state)
{
    (void)state;
    connect_to_a_busy_loop(false);
}

static void connections_that_wait_are_served_before_a_server_ends(void **state)
{
    (void)state;
    connect_to_a_busy_loop(true);
}

static bool late_in_time(void)
{
    struct fixture f;
    char body[1024];

    open_server(&f, "{\"threads\":1,\"max_batch_size\":1000}", NULL); /* one batch */
    int first = send_rows(&f, "/models/slow/predict", 2 * LONG);
    settle(&f);
    int late = send_v2(&f, "{\"timeout\":1000}");
    int status = answer_of(late, body, sizeof body);
    bool seen = status == 504 && strstr(body, "deadline of 1 ms") && !is_answered(first);
    expect_ok(first);
    fixture_end(&f);
    return seen;
}

/* It waits to be read. */
static bool late_body_in_time(void)
{
    enum { SIZE = 300000 };
    static const char *const one_worker[] = {"--threads", "1", "--workers", "1", NULL};
    static char large[SIZE + 32];
    struct fixture f;
    char body[1024];

    memset(large, ' ', SIZE);
    snprintf(large + SIZE, sizeof large - SIZE, "{\"instances\":[[1,2,3,4]]}");
    open_server(&f, "{\"threads\":1,\"max_batch_size\":1000}", one_worker);
    publish_config(f.models, "fast", "{\"deadline_ms\":1}");
    assert_int_equal(request(f.admin_port, "POST", "/reload", "", body, sizeof body), 200);
    int first = send_rows(&f, "/models/slow/predict", 2 * LONG);
    settle(&f);
    int late = send_request(f.port, "/models/fast/predict", large);
    int status = answer_of(late, body, sizeof body);
    bool seen = status == 504 && strstr(body, "deadline of 1 ms") && !is_answered(first);
    expect_ok(first);
    fixture_end(&f);
    return seen;
}

static void what_waited_too_long_is_answered_in_time(void **state)
{
    struct fixture f;
    char body[1024];
    (void)state;

    assert_seen(late_in_time);
    assert_seen(late_body_in_time);
    open_server(&f, "{\"threads\":1,\"max_batch_size\":2,\"deadline_ms\":20}", NULL);
    int fd = send_rows(&f, "/models/slow/predict", 3 * LONG);
    assert_int_equal(answer_of(fd, body, sizeof body), 504);
    fixture_end(&f);
}

static void a_model_that_is_asked_to_waits_for_a_preferred_batch(void **state)
{
    struct fixture f;
    char body[8192];
    int fds[3];
    (void)state;

    open_server(&f, "{}", NULL);
    publish_config(
        f.models, "fast",
        "{\"max_queue_delay_us\":10000000,\"preferred_batch_size\":3,\"deadline_ms\":60000}");
    assert_int_equal(request(f.admin_port, "POST", "/reload", "", body, sizeof body), 200);
    for (int i = 0; i < 3; i++)
        fds[i] = send_request(f.port, "/models/fast/predict", "{\"instances\":[[1,2,3,4]]}");
    for (int i = 0; i < 3; i++)
        expect_ok(fds[i]);
    assert_int_equal(request(f.port, "GET", "/v2/models/fast/stats", NULL, body, sizeof body),
                     200);
    assert_non_null(strstr(body, "\"inference_count\":3,\"execution_count\":1,"));

    publish_config(f.models, "fast", "{\"max_queue_delay_us\":30000}");
    assert_int_equal(request(f.admin_port, "POST", "/reload", "", body, sizeof body), 200);
    expect_ok(send_request(f.port, "/models/fast/predict", "{\"instances\":[[1,2,3,4]]}"));
    fixture_end(&f);
}

static void large_bodies_are_read_by_workers(void **state)
{
    enum { ROWS = 4000 };
    struct fixture f;
    static char body[1 << 20];
    static float answers[ROWS * 3];
    (void)state;

    open_server(&f, NULL, NULL);
    char *rows = malloc(ROWS * 96 + 64);
    assert_non_null(rows);
    size_t size = (size_t)sprintf(rows, "{\"instances\":[");
    for (int i = 0; i < ROWS; i++)
        size += (size_t)sprintf(rows + size,
                                "%s[1.0000000000000000000000,2.000000000000000000000"
                                "00,3.00000000000000000000000000,%d.000]",
                                i ? "," : "", i);
    sprintf(rows + size, "]}");
    assert_true(size > 256 << 10);
    assert_int_equal(
        answer_of(send_request(f.port, "/models/fast/predict", rows), body, sizeof body), 200);
    const char *p = strstr(body, "[[") + 1;
    for (int i = 0; i < ROWS; i++) {
        double x[4] = {1, 2, 3, i}, y[3];
        float *got = answers + 3 * i;
        assert_int_equal(sscanf(p, "[%f,%f,%f]", &got[0], &got[1], &got[2]), 3);
        linear_reference(1, x, y);
        for (int k = 0; k < 3; k++)
            assert_true(fabs(got[k] - y[k]) <= 1e-5 * fmax(1, fabs(y[k])));
        p = strchr(p + 1, '[');
    }
    /* The same, and wrong at its end. */
    memcpy(rows + size - 8, "  x", 3);
    assert_int_equal(
        answer_of(send_request(f.port, "/models/fast/predict", rows), body, sizeof body), 400);
    assert_non_null(strstr(body, "byte"));
    free(rows);
    fixture_end(&f);
}

/* Members on the event loop and by workers, of one row and of more than a batch. */
static void an_ensemble_answers_with_the_mean_of_its_members(void **state)
{
    static char body[1 << 16];
    struct fixture f;
    (void)state;

    open_server(&f, "{\"threads\":2,\"max_batch_size\":16}", NULL);
    publish_linear(f.models, "other", 1, -3);
    publish_linear(f.models, "third", 1, 0.5);
    publish_slow(f.models, "slow2", 1);
    publish_config(f.models, "mean", "{\"ensemble\":[\"fast\",\"other\",\"third\"]}");
    publish_config(f.models, "slow_mean", "{\"ensemble\":[\"slow\",\"slow2\"]}");
    assert_int_equal(request(f.admin_port, "POST", "/reload", "", body, sizeof body), 200);
    for (int n = 1; n <= 200; n = 2 * n + 1) {
        assert_int_equal(answer_of(send_rows(&f, "/models/mean/predict", n), body, sizeof body),
                         200);
        assert_non_null(strstr(body, "\"model_name\":\"mean\""));
        const char *p = strstr(body, "[[") + 1;
        for (int i = 0; i < n; i++) {
            double x[4] = {1, 2, 3, i / 100.0}, mean[3] = {0}, y[3], got[3];
            const double scales[] = {1, -3, 0.5};
            for (int m = 0; m < 3; m++) {
                linear_reference(scales[m], x, y);
                for (int k = 0; k < 3; k++)
                    mean[k] += y[k] / 3;
            }
            assert_int_equal(sscanf(p, "[%lf,%lf,%lf]", &got[0], &got[1], &got[2]), 3);
            for (int k = 0; k < 3; k++)
                assert_true(fabs(got[k] - mean[k]) <= 1e-5 * fmax(1, fabs(mean[k])));
            p = strchr(p + 1, '[');
        }
        int fd = send_rows(&f, "/models/slow_mean/predict", n);
        assert_int_equal(answer_of(fd, body, sizeof body), 200);
        assert_rows(body, n);
    }
    assert_int_equal(request(f.port, "GET", "/v2/models/mean/stats", NULL, body, sizeof body),
                     200);
    assert_non_null(strstr(body, "\"inference_count\":247,\"execution_count\":7,"));
    /* Members' batches hold an ensemble's rows and their own requests' together. */
    assert_int_equal(request(f.port, "GET", "/v2/models/other/stats", NULL, body, sizeof body),
                     200);
    assert_non_null(strstr(body, "\"inference_count\":247,"));
    fixture_end(&f);
}

static void clients_that_leave_cost_nothing(void **state)
{
    struct fixture f;
    (void)state;

    open_server(&f, "{\"threads\":1,\"max_batch_size\":8}", NULL);
    int first = send_rows(&f, "/models/slow/predict", LONG);
    settle(&f);
    for (int i = 0; i < 10; i++) {
        int fd = send_v2(&f, "{}");
        struct linger reset = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    close(first);
    expect_ok(send_v2(&f, "{\"priority\":3}"));
    fixture_end(&f);
}

static void what_waits_is_answered_by_the_version_it_was_meant_for(void **state)
{
    struct fixture f;
    char body[1 << 14];
    int fds[4];
    (void)state;

    open_server(&f, "{\"threads\":1,\"max_batch_size\":4}", NULL);
    int first = send_rows(&f, "/models/slow/predict", LONG);
    settle(&f);
    for (int i = 0; i < 4; i++)
        fds[i] = send_v2(&f, "{}");
    settle(&f);
    publish_slow(f.models, "slow", 2);
    assert_int_equal(request(f.admin_port, "POST", "/reload", "", body, sizeof body), 200);
    expect_ok(first);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(answer_of(fds[i], body, sizeof body), 200);
        assert_non_null(strstr(body, "\"model_version\":\"1\""));
    }
    assert_int_equal(answer_of(send_v2(&f, "{}"), body, sizeof body), 200);
    assert_non_null(strstr(body, "\"model_version\":\"2\""));
    fixture_end(&f);
}

static void a_drain_answers_what_waits(void **state)
{
    struct fixture f;
    int fds[4];
    (void)state;

    open_server(&f, "{\"threads\":1,\"max_batch_size\":4}", NULL);
    int first = send_rows(&f, "/models/slow/predict", LONG);
    settle(&f);
    for (int i = 0; i < 4; i++)
        fds[i] = send_v2(&f, "{}");
    settle(&f);
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    expect_ok(first);
    for (int i = 0; i < 4; i++)
        expect_ok(fds[i]);
    assert_int_equal(fixture_wait(&f), 0);
    fixture_close(&f);
}

/* One batch of many seconds: the end does not wait for it. */
static void a_drain_ends_in_time(void **state)
{
    static const char *const arguments[] = {
        "--threads", "1", "--drain-timeout", "0.2", "--max-batch", "4096", NULL};
    struct fixture f;
    (void)state;

    open_server(&f, "{\"threads\":1}", arguments);
    int first = send_rows(&f, "/models/slow/predict", 4000);
    settle(&f);
    assert_int_equal(fixture_stop(&f), 0);
    close(first);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_are_answered_while_a_slow_model_works),
        cmocka_unit_test(requests_to_a_slow_model_are_computed_together),
        cmocka_unit_test(a_large_request_is_computed_in_pieces_and_answered_whole),
        cmocka_unit_test(urgent_requests_go_first),
        cmocka_unit_test(a_full_queue_refuses_and_others_go_on),
        cmocka_unit_test(connections_wait_for_a_loop_that_is_busy),
        cmocka_unit_test(connections_that_wait_are_served_before_a_server_ends),
        cmocka_unit_test(what_waited_too_long_is_answered_in_time),
        cmocka_unit_test(a_model_that_is_asked_to_waits_for_a_preferred_batch),
        cmocka_unit_test(large_bodies_are_read_by_workers),
        cmocka_unit_test(an_ensemble_answers_with_the_mean_of_its_members),
        cmocka_unit_test(clients_that_leave_cost_nothing),
        cmocka_unit_test(what_waits_is_answered_by_the_version_it_was_meant_for),
        cmocka_unit_test(a_drain_answers_what_waits),
        cmocka_unit_test(a_drain_ends_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
