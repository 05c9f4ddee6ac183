#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/pacing.h"
#include "tests/server_fixture.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* by a clock of its own */

enum { MANY = 1000 };
#define MILLISECOND INT64_C(1000000)
#define SECOND (1000 * MILLISECOND)

/* Refuses n at once; returns how many of them had to wait. */
static int refuse(struct pacing *p, struct paced *refused, int n, int64_t now)
{
    int kept = 0;
    for (int i = 0; i < n; i++)
        kept += pacing_keep(p, &refused[kept], now);
    return kept;
}

static void a_hundred_are_refused_at_once_and_the_others_wait(void **state)
{
    (void)state;
    struct pacing p = {0};
    static struct paced refused[MANY];
    assert_int_equal(refuse(&p, refused, 100, SECOND), 0);
    assert_int_equal(pacing_due(&p), 0);
    int kept = refuse(&p, refused, 50, SECOND);
    assert_in_range(kept, 45, 50);
    assert_true(pacing_due(&p) > SECOND);
    assert_null(pacing_take(&p, SECOND));

    /* First come, first served. */
    int64_t now = SECOND;
    for (int i = 0; i < kept; i++) {
        struct paced *taken;
        while (!(taken = pacing_take(&p, now)))
            now = pacing_due(&p);
        assert_ptr_equal(taken, &refused[i]);
    }
    assert_true(now <= 2 * SECOND + 100 * MILLISECOND);
    assert_int_equal(pacing_due(&p), 0);
}

/* Looks every `step` from `begin` until `end`; whoever is let go comes back at once, and has to
 * wait again. Returns how many were let go. */
static int let_go(struct pacing *p, int64_t begin, int64_t end, int64_t step)
{
    static struct paced *again[MANY];
    int n = 0;
    for (int64_t now = begin; now < end; now += step) {
        int back = 0;
        for (struct paced *taken; (taken = pacing_take(p, now)); n++)
            again[back++] = taken;
        for (int i = 0; i < back; i++)
            assert_true(pacing_keep(p, again[i], now));
    }
    return n;
}

static void those_who_come_back_are_refused_evenly(void **state)
{
    (void)state;
    struct pacing p = {0};
    static struct paced refused[MANY];
    assert_true(refuse(&p, refused, 200, SECOND) > 90);
    for (int second = 0; second < 5; second++) {
        int64_t now = (1 + second) * SECOND;
        int n = let_go(&p, now, now + SECOND, MILLISECOND);
        if (second > 0)
            assert_in_range(n, 200, 300);
    }
}

static void nobody_waits_for_more_than_a_second(void **state)
{
    (void)state;
    struct pacing p = {0};
    static struct paced refused[MANY];
    int kept = refuse(&p, refused, MANY, SECOND), taken = 0;
    int64_t now = SECOND;
    for (; pacing_due(&p) && now < 10 * SECOND; now = pacing_due(&p))
        while (pacing_take(&p, now)) {
            taken++;
            assert_true(now <= 2 * SECOND + 200 * MILLISECOND);
        }
    assert_int_equal(taken, kept);
}

/* Who came together does not come back together for ever: after the first second or two, when
 * some have waited for longest, no tenth of a second has much more than its part. */
static void a_crowd_is_let_go_evenly(void **state)
{
    (void)state;
    enum { TENTHS = 50 };
    struct pacing p = {0};
    static struct paced refused[MANY];
    int kept = refuse(&p, refused, MANY, SECOND);
    for (int tenth = 0; tenth < TENTHS; tenth++) {
        int64_t now = SECOND + tenth * SECOND / 10;
        int n = let_go(&p, now, now + SECOND / 10, MILLISECOND);
        if (tenth > 20)
            assert_in_range(n, kept / 20, 3 * kept / 20);
    }
}

/* Who was let go because he had waited long enough is not made up for afterwards. */
static void after_an_overload_who_is_refused_alone_is_refused_at_once(void **state)
{
    (void)state;
    struct pacing p = {0};
    static struct paced refused[MANY], alone;
    int64_t now = 21 * SECOND;
    refuse(&p, refused, MANY, SECOND);
    let_go(&p, SECOND, now, 10 * MILLISECOND);
    while (pacing_end(&p))
        continue;
    for (int i = 0; i < 5; i++)
        assert_false(pacing_keep(&p, &alone, now += 10 * MILLISECOND));
}

static void after_a_quiet_time_a_hundred_are_refused_at_once_again(void **state)
{
    (void)state;
    struct pacing p = {0};
    static struct paced refused[MANY];
    assert_true(refuse(&p, refused, 200, SECOND) > 0);
    while (pacing_end(&p))
        continue;
    assert_int_equal(pacing_due(&p), 0);
    assert_int_equal(refuse(&p, refused, 100, 10 * SECOND), 0);
}

/* by the server */

enum { CLIENTS = 64, SERVED = 3000 };

static const char prediction[] = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: "
                                 "application/json\r\nContent-Length: 28\r\n\r\n"
                                 "{\"instances\":[[1, 2, 3, 4]]}";

/* Reads the answer of a connection; counts it. The body is a short one, so that it comes at
 * once. False: the connection has ended. */
static bool count_answer(int fd, int *served, int *refused)
{
    char text[2048];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return false;
    text[n] = 0;
    if (strncmp(text, "HTTP/1.1 200 ", 13) == 0) {
        ++*served;
    } else {
        assert_memory_equal(text, "HTTP/1.1 503 ", 13);
        assert_non_null(strstr(text, "\r\nRetry-After: 1\r\n"));
        assert_non_null(strstr(text, "{\"error\":\"too many predictions are in work\"}"));
        ++*refused;
    }
    return true;
}

static void open_clients(const struct fixture *f, struct pollfd clients[CLIENTS])
{
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct pollfd){.fd = socket_connect(f->port), .events = POLLIN};
        assert_true(clients[i].fd >= 0);
    }
}

/* Far more clients than are served at a time, none of whom heeds Retry-After. Without pacing
 * dozens are refused for each that is served. */
static void clients_that_come_back_at_once_do_not_crowd_out_those_served(void **state)
{
    (void)state;
    struct fixture f;
    struct pollfd clients[CLIENTS];
    int served = 0, refused = 0;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, (const char *const[]){"--threads", "1", "--max-queue", "2", NULL});
    open_clients(&f, clients);
    for (int i = 0; i < CLIENTS; i++)
        socket_send(clients[i].fd, prediction);
    while (served < SERVED) {
        assert_true(poll(clients, CLIENTS, 60000) > 0);
        for (int i = 0; i < CLIENTS; i++)
            if (clients[i].revents) {
                assert_true(count_answer(clients[i].fd, &served, &refused));
                socket_send(clients[i].fd, prediction);
            }
    }
    if (refused == 0 || refused >= SERVED)
        fail_msg("%d were refused while %d were served", refused, SERVED);

    /* Who still waits is answered, too. */
    for (int i = 0; i < CLIENTS; i++)
        assert_true(count_answer(clients[i].fd, &served, &refused));
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i].fd);
    fixture_end(&f);
}

/* The queue of one model is full, and its clients wait for their refusals. */
static void who_waits_for_a_refusal_takes_no_place_of_others(void **state)
{
    (void)state;
    static const char full[] = "POST /models/full/predict HTTP/1.1\r\nHost: x\r\nContent-Type: "
                               "application/json\r\nContent-Length: 28\r\n\r\n"
                               "{\"instances\":[[1, 2, 3, 4]]}";
    struct fixture f;
    struct pollfd clients[CLIENTS];
    fixture_open(&f);
    publish_linear(f.models, "full", 1, 1);
    publish_config(f.models, "full",
                   "{\"threads\": 1, \"max_queue_size\": 1, \"max_queue_delay_us\": 500000}");
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, (const char *const[]){"--threads", "1", "--max-queue", "2", NULL});
    open_clients(&f, clients);
    for (int i = 0; i < CLIENTS; i++)
        for (int k = 0; k < 4; k++)
            socket_send(clients[i].fd, full);
    fixture_await_metric(&f, "predictd_requests_shed_total{reason=\"full\"}", 50);
    for (int i = 0; i < 20; i++)
        assert_int_equal(request(f.port, "POST", "/models/m/predict",
                                 "{\"instances\":[[1, 2, 3, 4]]}", NULL, 0),
                         200);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i].fd);
    fixture_end(&f);
}

/* Nor is it its body that does not come. */
static void who_waits_for_a_refusal_is_not_cut_off(void **state)
{
    (void)state;
    enum { N = 3 * CLIENTS };
    struct fixture f;
    int fds[N], served = 0, refused = 0;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, (const char *const[]){"--threads", "1", "--max-queue", "1",
                                            "--body-timeout", "0.2", NULL});
    int first = socket_connect(f.port); /* has the only place */
    socket_send(first, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n{");
    while (fixture_metric(&f, "predictd_http_requests_in_flight") < 2 &&
           fixture_metric(&f, "predictd_connections_cut_total{stage=\"body\"}") == 0)
        usleep(1000);
    for (int i = 0; i < N; i++) {
        fds[i] = socket_connect(f.port);
        socket_send(fds[i], prediction);
    }
    for (int i = 0; i < N; i++) {
        assert_true(count_answer(fds[i], &served, &refused));
        close(fds[i]);
    }
    close(first);
    fixture_end(&f);
}

/* A server that stops lets nobody wait, and of those who have gone nothing stays. */
static void refusals_that_wait_are_answered_when_the_server_stops(void **state)
{
    (void)state;
    struct fixture f;
    struct pollfd clients[CLIENTS];
    int served = 0, refused = 0;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, (const char *const[]){"--threads", "1", "--max-queue", "1",
                                            "--drain-delay", "0", NULL});
    open_clients(&f, clients);
    for (int round = 0; round < 8; round++)
        for (int i = 0; i < CLIENTS; i++)
            socket_send(clients[i].fd, prediction);
    fixture_await_metric(&f, "predictd_requests_shed_total{reason=\"full\"}", 50);
    for (int i = 0; i < CLIENTS / 2; i++)
        close(clients[i].fd);
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    for (int i = CLIENTS / 2; i < CLIENTS; i++)
        assert_true(count_answer(clients[i].fd, &served, &refused));
    assert_int_equal(fixture_wait(&f), 0);
    for (int i = CLIENTS / 2; i < CLIENTS; i++)
        close(clients[i].fd);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_are_refused_at_once_and_the_others_wait),
        cmocka_unit_test(those_who_come_back_are_refused_evenly),
        cmocka_unit_test(nobody_waits_for_more_than_a_second),
        cmocka_unit_test(a_crowd_is_let_go_evenly),
        cmocka_unit_test(after_an_overload_who_is_refused_alone_is_refused_at_once),
        cmocka_unit_test(after_a_quiet_time_a_hundred_are_refused_at_once_again),
        cmocka_unit_test(clients_that_come_back_at_once_do_not_crowd_out_those_served),
        cmocka_unit_test(who_waits_for_a_refusal_takes_no_place_of_others),
        cmocka_unit_test(who_waits_for_a_refusal_is_not_cut_off),
        cmocka_unit_test(refusals_that_wait_are_answered_when_the_server_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
