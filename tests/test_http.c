/*
 * The end of an http_daemon: what it has taken it answers, and gives back.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/http.h"
#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

static int n_begun, n_answered, n_finished, n_sent;

static int begin(struct http_request *r)
{
    (void)r;
    n_begun++;
    return 0;
}

/* Nobody ever finishes what this takes. */
static int answer(struct http_request *r)
{
    (void)r;
    n_answered++;
    return HTTP_PENDING;
}

static void suspended(struct http_request *r)
{
    (void)r;
}

static void finished(struct http_request *r, bool sent)
{
    (void)r;
    n_finished++;
    n_sent += sent;
}

/* Both ends of a connection; [0] does not block. */
static void connect_ends(int ends[2], struct sockaddr_in *address)
{
    socklen_t size = sizeof *address;
    int listening = socket(AF_INET, SOCK_STREAM, 0);

    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(listening, (struct sockaddr *)address, size), 0);
    assert_int_equal(listen(listening, 1), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)address, &size), 0);
    ends[1] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(ends[1], (struct sockaddr *)address, size), 0);
    ends[0] = accept4(listening, (struct sockaddr *)address, &size, SOCK_NONBLOCK);
    assert_true(ends[0] >= 0);
    close(listening);
}

static void what_comes_while_a_daemon_is_closed_is_refused(void **state)
{
    static const char request[] =
        "POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
    static const char expected[] = "HTTP/1.1 503 ";
    struct connection_counters counters = {0};
    atomic_bool draining = false;
    const int64_t second = 1000000000;
    const struct http_application application = {.begin = begin,
                                                 .answer = answer,
                                                 .suspended = suspended,
                                                 .finished = finished,
                                                 .max_body = 1000,
                                                 .max_bodies = 1000,
                                                 .max_connections = 4,
                                                 .poll = -1,
                                                 .header_timeout = 60 * second,
                                                 .body_timeout = 60 * second,
                                                 .idle_timeout = 60 * second,
                                                 .draining = &draining,
                                                 .counters = &counters};
    struct http_daemon *daemon = http_open(&application, NULL);
    struct sockaddr_in address;
    char text[1024] = "";
    int ends[2];
    (void)state;

    assert_non_null(daemon);
    connect_ends(ends, &address);
    http_add(daemon, ends[0], (struct sockaddr *)&address, sizeof address);
    assert_int_equal(send(ends[1], request, sizeof request - 1, 0), sizeof request - 1);
    http_close(daemon);
    assert_int_equal(n_begun, 1);
    assert_int_equal(n_answered, 0);
    assert_int_equal(n_finished, 1);
    assert_int_equal(n_sent, 1);
    assert_true(recv(ends[1], text, sizeof text - 1, 0) > 0);
    assert_memory_equal(text, expected, sizeof expected - 1);
    assert_non_null(strstr(text, "\r\n\r\n{\"error\":\"the server is stopping\"}"));
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_while_a_daemon_is_closed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
