/*
 * An http_daemon by itself: what its answers may hold, and its end.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/http.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static int n_begun, n_answered, n_finished, n_sent;

static struct http_request *begun; /* the last */

static int begin(struct http_request *r)
{
    begun = r;
    n_begun++;
    return 0;
}

/* Nobody ever finishes what this takes. */
static int never_answer(struct http_request *r)
{
    (void)r;
    n_answered++;
    return HTTP_PENDING;
}

enum { LARGE = 400000, SMALL = 1000, MAX_BODY = 64 << 20 };

static int answer_by_path(struct http_request *r)
{
    bool noise = strcmp(r->path, "/noise") == 0;
    size_t size = noise || strcmp(r->path, "/large") == 0 ? LARGE : SMALL;
    char *bytes = buffer_reserve(&r->answer, size);
    uint32_t state = 1;
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++) {
        state = state * 1664525 + 1013904223;
        bytes[i] = noise ? (char)(state >> 24) : 'x';
    }
    r->answer.size += size;
    n_answered++;
    return 200;
}

static struct http_request *pending[8];
static int n_pending;

/* As a batch does: it answers all that came in a turn before any of it is sent. */
static int answer_later(struct http_request *r)
{
    pending[n_pending++] = r;
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

static int poll_descriptor;

/* As a loop does it. */
static void turn(struct http_daemon *daemon)
{
    struct epoll_event event;
    while (epoll_wait(poll_descriptor, &event, 1, 0) == 1)
        http_hangup(daemon, event.data.ptr);
    http_run(daemon);
}

static struct http_daemon *open_daemon(int (*answer)(struct http_request *request),
                                       size_t max_bytes)
{
    static struct connection_counters counters;
    static atomic_bool draining;
    const int64_t second = 1000000000;
    const struct http_application application = {.begin = begin,
                                                 .answer = answer,
                                                 .suspended = suspended,
                                                 .finished = finished,
                                                 .max_body = MAX_BODY,
                                                 .max_bytes = max_bytes,
                                                 .pack_from = SMALL,
                                                 .max_connections = 16,
                                                 .poll = poll_descriptor,
                                                 .header_timeout = 60 * second,
                                                 .body_timeout = 60 * second,
                                                 .idle_timeout = 60 * second,
                                                 .draining = &draining,
                                                 .counters = &counters};
    struct http_daemon *daemon = http_open(&application, NULL);
    assert_non_null(daemon);
    n_begun = n_answered = n_finished = n_sent = 0;
    return daemon;
}

/* A connection of which the kernel keeps little: the rest of an answer stays with the daemon
 * until it is read. Returns the client's end, which does not block. */
static int connect_narrow(struct http_daemon *daemon)
{
    struct sockaddr_in address;
    int ends[2], little = 64 << 10;
    connect_ends(ends, &address);
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &little, sizeof little);
    setsockopt(ends[1], SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    http_add(daemon, ends[0], (struct sockaddr *)&address, sizeof address);
    return ends[1];
}

/* Sends a request and waits until it was answered, as far as its client takes it. */
static void ask_with(struct http_daemon *daemon, int client, const char *path,
                     const char *headers)
{
    char request[256];
    int before = n_answered;
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n", path,
                     headers);
    assert_int_equal(send(client, request, (size_t)n, 0), n);
    while (n_answered == before)
        turn(daemon);
    for (int i = 0; i < 10; i++)
        turn(daemon);
}

static void ask(struct http_daemon *daemon, int client, const char *path)
{
    ask_with(daemon, client, path, "");
}

static char text[LARGE + 1024]; /* of the last answer */

/* Reads an answer with its headers until its last byte; returns its status. */
static int take(struct http_daemon *daemon, int client)
{
    size_t size = 0, whole = sizeof text;
    while (size < whole) {
        ssize_t n = recv(client, text + size, whole - size, 0);
        if (n > 0) {
            char *end, *length;
            size += (size_t)n;
            text[size < sizeof text ? size : sizeof text - 1] = 0;
            end = strstr(text, "\r\n\r\n");
            length = strstr(text, "\r\nContent-Length: ");
            if (end && whole == sizeof text) {
                assert_non_null(length);
                whole = (size_t)(end + 4 - text) + strtoul(length + 18, NULL, 10);
                assert_true(whole < sizeof text);
            }
        } else {
            assert_int_not_equal(n, 0);
        }
        turn(daemon);
    }
    return atoi(text + strlen("HTTP/1.1 "));
}

/* Little is sent for much: what waits to be read is bounded, all clients together. */
static void large_answers_that_nobody_reads_are_bounded(void **state)
{
    enum { CLIENTS = 8, HELD = 3 }; /* two are not a million bytes yet */
    struct http_daemon *daemon = open_daemon(answer_by_path, 1000000);
    int clients[CLIENTS];
    (void)state;

    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_narrow(daemon);
        ask(daemon, clients[i], "/large");
    }
    for (int i = HELD; i < CLIENTS; i++) {
        assert_int_equal(take(daemon, clients[i]), 503);
        ask(daemon, clients[i], "/small");
        assert_int_equal(take(daemon, clients[i]), 200);
    }
    for (int i = 0; i < HELD; i++)
        assert_int_equal(take(daemon, clients[i]), 200);

    /* What was read is room for others, whether it was read to its end or not. */
    for (int i = 0; i < HELD; i++)
        ask(daemon, clients[i], "/large");
    ask(daemon, clients[HELD], "/large");
    assert_int_equal(take(daemon, clients[HELD]), 503);
    for (int i = 0; i < HELD; i++)
        close(clients[i]);
    for (int i = 0; i < 10; i++)
        turn(daemon);
    ask(daemon, clients[HELD], "/large");
    assert_int_equal(take(daemon, clients[HELD]), 200);
    for (int i = HELD; i < CLIENTS; i++)
        close(clients[i]);
    http_close(daemon);
    assert_int_equal(n_finished, n_begun);
}

/* Whatever has been packed by then. */
static void a_refusal_says_what_it_is(void **state)
{
    struct http_daemon *daemon = open_daemon(answer_by_path, LARGE / 2);
    int holder = connect_narrow(daemon), client = connect_narrow(daemon);
    (void)state;

    ask_with(daemon, client, "/noise", "Accept-Encoding: gzip\r\n");
    assert_int_equal(take(daemon, client), 200);
    assert_non_null(strstr(text, "\r\nContent-Encoding: gzip\r\n"));
    ask(daemon, holder, "/large");
    ask_with(daemon, client, "/noise", "Accept-Encoding: gzip\r\n");
    assert_int_equal(take(daemon, client), 503);
    assert_null(strstr(text, "\r\nContent-Encoding:"));
    assert_non_null(strstr(text, "\r\n\r\n{\"error\":"));
    close(client);
    close(holder);
    http_close(daemon);
    assert_int_equal(n_finished, n_begun);
}

/* Also of those who would read them. */
static void large_answers_of_a_turn_are_bounded(void **state)
{
    enum { CLIENTS = 8, SERVED = 3 };
    static const char line[] = "GET /large HTTP/1.1\r\nHost: h\r\n\r\n";
    struct http_daemon *daemon = open_daemon(answer_later, 1000000);
    int clients[CLIENTS];
    size_t bytes = 0;
    (void)state;

    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_narrow(daemon);
        assert_int_equal(send(clients[i], line, sizeof line - 1, 0), sizeof line - 1);
    }
    n_pending = 0;
    while (n_pending < CLIENTS)
        turn(daemon);
    for (int i = 0; i < CLIENTS; i++) {
        answer_by_path(pending[i]);
        http_finish(pending[i], 200);
        bytes += pending[i]->answer.capacity;
    }
    assert_in_range(bytes, SERVED * LARGE, SERVED * LARGE + CLIENTS * SMALL);
    int served = 0;
    for (int i = 0; i < CLIENTS; i++) {
        int status = take(daemon, clients[i]);
        served += status == 200;
        assert_true(status == 200 || status == 503);
        close(clients[i]);
    }
    assert_int_equal(served, SERVED);
    http_close(daemon);
    assert_int_equal(n_finished, n_begun);
}

/* Sends a body and returns the status of the answer. */
static int post(struct http_daemon *daemon, int client, size_t size)
{
    static char request[LARGE];
    size_t n = (size_t)sprintf(
        request, "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", size);
    memset(request + n, ' ', size);
    assert_true(n + size <= sizeof request);
    for (size_t sent = 0; sent < n + size;) {
        ssize_t more = send(client, request + sent, n + size - sent, MSG_NOSIGNAL);
        sent += more > 0 ? (size_t)more : 0;
        turn(daemon);
    }
    return take(daemon, client);
}

/* Those who ask for little are served whatever the others hold. */
static void small_bodies_are_read_while_others_hold_much(void **state)
{
    struct http_daemon *daemon = open_daemon(answer_by_path, LARGE / 2);
    int holder = connect_narrow(daemon), client = connect_narrow(daemon);
    (void)state;

    assert_int_equal(post(daemon, client, 100000), 200);
    ask(daemon, holder, "/large");
    assert_int_equal(post(daemon, client, 60000), 200);
    assert_int_equal(post(daemon, client, 100000), 503);
    assert_int_equal(post(daemon, client, 60000), 200);
    close(client);
    close(holder);
    http_close(daemon);
    assert_int_equal(n_finished, n_begun);
}

/* To announce costs nothing. */
static void memory_is_taken_for_what_has_come(void **state)
{
    enum { SENT = 3000000 };
    static char bytes[SENT];
    struct http_daemon *daemon = open_daemon(answer_by_path, MAX_BODY);
    int client = connect_narrow(daemon);
    (void)state;

    int n = snprintf(bytes, sizeof bytes,
                     "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", MAX_BODY);
    assert_int_equal(send(client, bytes, (size_t)n, 0), n);
    while (n_begun == 0)
        turn(daemon);
    turn(daemon);
    assert_true(begun->body.capacity <= MAX_BODY / 32);
    for (size_t sent = 0; sent < SENT;) {
        ssize_t more = send(client, bytes + sent, SENT - sent, MSG_NOSIGNAL);
        sent += more > 0 ? (size_t)more : 0;
        turn(daemon);
    }
    while (begun->body.size < SENT)
        turn(daemon);
    assert_true(begun->body.capacity <= 2 * SENT);
    close(client);
    for (int i = 0; i < 10; i++)
        turn(daemon);
    http_close(daemon);
    assert_int_equal(n_finished, n_begun);
}

static void what_comes_while_a_daemon_is_closed_is_refused(void **state)
{
    static const char request[] =
        "POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
    static const char expected[] = "HTTP/1.1 503 ";
    struct http_daemon *daemon = open_daemon(never_answer, 1000);
    struct sockaddr_in address;
    char answer[1024] = "";
    int ends[2];
    (void)state;

    connect_ends(ends, &address);
    http_add(daemon, ends[0], (struct sockaddr *)&address, sizeof address);
    assert_int_equal(send(ends[1], request, sizeof request - 1, 0), sizeof request - 1);
    http_close(daemon);
    assert_int_equal(n_begun, 1);
    assert_int_equal(n_answered, 0);
    assert_int_equal(n_finished, 1);
    assert_int_equal(n_sent, 1);
    assert_true(recv(ends[1], answer, sizeof answer - 1, 0) > 0);
    assert_memory_equal(answer, expected, sizeof expected - 1);
    assert_non_null(strstr(answer, "\r\n\r\n{\"error\":\"the server is stopping\"}"));
    close(ends[1]);
}

int main(void)
{
    poll_descriptor = epoll_create1(EPOLL_CLOEXEC);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_answers_that_nobody_reads_are_bounded),
        cmocka_unit_test(large_answers_of_a_turn_are_bounded),
        cmocka_unit_test(a_refusal_says_what_it_is),
        cmocka_unit_test(small_bodies_are_read_while_others_hold_much),
        cmocka_unit_test(memory_is_taken_for_what_has_come),
        cmocka_unit_test(what_comes_while_a_daemon_is_closed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
