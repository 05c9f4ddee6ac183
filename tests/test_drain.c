/*
 * The end of a server under load: no request whose headers it read goes without an answer.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/drained_load.h"
#include "tests/server_fixture.h"
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { DRAINS = 50 };

static void clients_behind_a_health_check_lose_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < DRAINS / 2; i++)
        assert_int_equal(drain_under_load("0.2", true, NULL), 0);
}

static void clients_that_reconnect_lose_nothing_that_was_read(void **state)
{
    (void)state;
    for (int i = 0; i < DRAINS / 2; i++)
        assert_true(drain_under_load("0.05", false, NULL) <= DRAIN_CLIENTS);
}

static void a_drain_turns_unready_and_goes_on_serving_for_the_delay(void **state)
{
    static const char *const arguments[] = {"--drain-delay", "30", NULL};
    struct fixture f;
    char body[256];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    while (request(f.port, "GET", "/health", NULL, body, sizeof body) == 200)
        usleep(1000);
    assert_string_equal(body, "{\"error\":\"the server is draining\"}");
    assert_int_equal(request(f.port, "GET", "/health/live", NULL, NULL, 0), 200);
    struct client *client = client_new();
    struct reply *r =
        client_call(client, f.port, "POST", "/predict", NULL, "{\"instances\":[[1,2,3,4]]}");
    assert_int_equal(r->status, 200);
    assert_non_null(strstr(r->headers, "Connection: close\r"));
    reply_free(r);
    client_free(client);
    assert_int_equal(kill(f.pid, SIGTERM), 0);  /* the second ends at once */
    assert_int_equal(fixture_wait(&f), 128 + SIGTERM);
    fixture_close(&f);
}

static void a_request_that_is_being_sent_is_waited_for(void **state)
{
    struct fixture f;
    char body[256];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    int fd = socket_connect(f.port);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n"
                    "Expect: 100-continue\r\n\r\n");
    assert_int_equal(socket_answer(fd, NULL, 0), 100);      /* so its headers were read */
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    int closed = 0;             /* the listening socket */
    while (!closed) {
        int other = socket_connect(f.port);
        closed = other < 0;
        if (other >= 0)
            close(other);
        usleep(1000);
    }
    socket_send(fd, "{\"instances\":[[1,2,3,4]]}");
    assert_int_equal(socket_answer(fd, body, sizeof body), 200);
    close(fd);
    assert_int_equal(fixture_wait(&f), 0);
    fixture_close(&f);
}

/* Neighbours in the order of arrival are at different loops. */
static void who_is_quiet_is_answered_as_long_as_others_are_waited_for(void **state)
{
    static const char *const arguments[] = {"--threads", "2", NULL};
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    int quiet = socket_connect(f.port), fd = socket_connect(f.port);
    socket_send(quiet, "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(socket_answer(quiet, NULL, 0), 200);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n"
                    "Expect: 100-continue\r\n\r\n");
    assert_int_equal(socket_answer(fd, NULL, 0), 100);
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    sleep(1); /* much more than a loop waits for requests that nobody has begun */
    socket_send(quiet, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n"
                       "{\"instances\":[[1,2,3,4]]}");
    assert_int_equal(socket_answer(quiet, NULL, 0), 200);
    socket_send(fd, "{\"instances\":[[1,2,3,4]]}");
    assert_int_equal(socket_answer(fd, NULL, 0), 200);
    close(quiet);
    close(fd);
    assert_int_equal(fixture_wait(&f), 0);
    fixture_close(&f);
}

static void a_drain_ends_with_its_timeout(void **state)
{
    static const char *const arguments[] = {"--drain-timeout", "0.2", NULL};
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    int fd = socket_connect(f.port);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n"
                    "Expect: 100-continue\r\n\r\n");
    assert_int_equal(socket_answer(fd, NULL, 0), 100);
    assert_int_equal(fixture_stop(&f), 0);      /* although the body never comes */
    close(fd);
    fixture_close(&f);
}

/* It waits for a fuller batch, for longer than the server does. */
static void what_waits_when_the_time_is_over_is_told_so(void **state)
{
    static const char *const arguments[] = {"--drain-timeout", "0.2", NULL};
    struct fixture f;
    char body[256];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_config(f.models, "m", "{\"threads\":1,\"max_queue_delay_us\":10000000}");
    fixture_serve(&f, arguments);
    int fd = socket_connect(f.port);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n"
                    "{\"instances\":[[1,2,3,4]]}");
    fixture_await_metric(&f, "predictd_http_requests_in_flight", 2);
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    assert_int_equal(socket_answer(fd, body, sizeof body), 503);
    assert_string_equal(body, "{\"error\":\"the server is stopping\"}");
    close(fd);
    assert_int_equal(fixture_wait(&f), 0);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_behind_a_health_check_lose_nothing),
        cmocka_unit_test(clients_that_reconnect_lose_nothing_that_was_read),
        cmocka_unit_test(a_drain_turns_unready_and_goes_on_serving_for_the_delay),
        cmocka_unit_test(a_request_that_is_being_sent_is_waited_for),
        cmocka_unit_test(who_is_quiet_is_answered_as_long_as_others_are_waited_for),
        cmocka_unit_test(a_drain_ends_with_its_timeout),
        cmocka_unit_test(what_waits_when_the_time_is_over_is_told_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
