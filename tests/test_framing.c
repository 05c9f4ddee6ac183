/*
 * The server against clients that speak strangely: what must be refused and is not executed,
 * and what must pass.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/framing_cases.h"
#include "tests/server_fixture.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct fixture shared;

static int open_shared(void **state)
{
    static const char *const arguments[] = {"--threads", "2", NULL};
    (void)state;
    fixture_open(&shared);
    publish_linear(shared.models, "m", 1, 1);
    fixture_serve(&shared, arguments);
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    fixture_end(&shared);
    return 0;
}

static void send_bytes(int fd, const char *bytes, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        ssize_t n = send(fd, bytes + sent, size - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the answer, or its absence, will tell */
        sent += (size_t)n;
    }
}

/* Everything until the server closes. A reset behind an answer is an end, too. */
static void read_all(int fd, char *text, size_t size)
{
    size_t got = 0;
    ssize_t n;
    while (got + 1 < size && (n = recv(fd, text + got, size - 1 - got, 0)) > 0)
        got += (size_t)n;
    text[got] = 0;
}

/* what is refused */

static void every_form_of_smuggling_is_refused_and_ends_its_connection(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_framing_cases; i++) {
        const struct framing_case *c = &framing_cases[i];
        char text[8192], expected[128];
        int fd = socket_connect(shared.port);

        send_bytes(fd, c->bytes, c->size);
        read_all(fd, text, sizeof text);
        close(fd);
        snprintf(expected, sizeof expected, "HTTP/1.1 %d ", c->status);
        if (c->status ? strncmp(text, expected, strlen(expected)) != 0 : text[0] != 0)
            fail_msg("%s: expected %d, got \"%s\"", c->name, c->status, text);
        snprintf(expected, sizeof expected, "{\"error\":\"%s", c->error ? c->error : "");
        if (c->error && !strstr(text, expected))
            fail_msg("%s: expected %s, got \"%s\"", c->name, expected, text);
        if (strstr(text, FRAMING_HIDDEN))
            fail_msg("%s: the hidden request was executed: \"%s\"", c->name, text);
    }
}

static void a_refusal_is_counted_by_its_reason(void **state)
{
    const char *sample = "predictd_http_rejected_total{reason=\"host\"}";
    double before = fixture_metric(&shared, sample);
    char text[1024];
    (void)state;

    int fd = socket_connect(shared.port);
    socket_send(fd, "GET /health/live HTTP/1.1\r\n\r\n");
    read_all(fd, text, sizeof text);
    close(fd);
    assert_int_equal(fixture_metric(&shared, sample), before + 1);
}

/* N headers: the size is checked by hand, as 6 bytes each stay far below the memory. */
static void send_headers(int fd, int n)
{
    char text[16 * 1024];
    size_t size =
        (size_t)snprintf(text, sizeof text, "GET /health/live HTTP/1.1\r\nHost: x\r\n");
    for (int i = 1; i < n; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "X-%d: %d\r\n", i, i);
    snprintf(text + size, sizeof text - size, "\r\n");
    socket_send(fd, text);
}

static void more_than_a_hundred_headers_are_refused(void **state)
{
    char body[256];
    (void)state;
    int fd = socket_connect(shared.port);
    send_headers(fd, 100);
    assert_int_equal(socket_answer(fd, NULL, 0), 200);
    send_headers(fd, 101);
    assert_int_equal(socket_answer(fd, body, sizeof body), 431);
    assert_string_equal(body, "{\"error\":\"headers: expected at most 100\"}");
    assert_int_equal(socket_answer(fd, NULL, 0), 0);
    close(fd);
}

static void headers_and_targets_without_end_are_refused(void **state)
{
    enum { SIZE = 200000 };
    static char text[SIZE + 64];
    (void)state;
    for (int target = 0; target < 2; target++) {
        int fd = socket_connect(shared.port);
        size_t n = (size_t)snprintf(text, sizeof text, "%s",
                                    target ? "GET /" : "GET / HTTP/1.1\r\nX: ");
        memset(text + n, 'a', SIZE);
        send_bytes(fd, text, n + SIZE);
        int status = socket_answer(fd, NULL, 0);
        /* The end of what was sent may be answered by a reset before the answer is read. */
        assert_true(status == (target ? 414 : 431) || status == 0);
        close(fd);
    }
    assert_int_equal(request(shared.port, "GET", "/health", NULL, NULL, 0), 200);
}

/* Legal, but the library would take the body for endless. */
static void blanks_behind_chunked_are_answered_501(void **state)
{
    static const char *const values[] = {"chunked ", "chunked\t", "Chunked \t "};
    (void)state;
    for (int i = 0; i < 3; i++) {
        char text[512], body[256];
        snprintf(text, sizeof text,
                 "POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: %s\r\n\r\n0\r\n\r\n",
                 values[i]);
        int fd = socket_connect(shared.port);
        socket_send(fd, text);
        assert_int_equal(socket_answer(fd, body, sizeof body), 501);
        assert_string_equal(body,
                            "{\"error\":\"transfer-encoding: blanks behind \\\"chunked\\\" "
                            "are not supported\"}");
        close(fd);
    }
}

/* what passes */

#define BODY "{\"instances\":[[1,2,3,4]]}" /* 25 bytes */
#define LENGTH "Content-Length: 25\r\n"
#define HEAD "POST /predict HTTP/1.1\r\nHost: x\r\n"

_Static_assert(sizeof BODY - 1 == 25, "as LENGTH says");

static const struct {
    const char *name, *text;
    int statuses[4]; /* 0 at the end */
} legal[] = {
    {"a length", HEAD LENGTH "\r\n" BODY, {200}},
    {"leading zeros in the length",
     HEAD "Content-Length: 0000000000000025\r\n\r\n" BODY,
     {200}},
    {"no blank after the colon",
     "POST /predict HTTP/1.1\r\nHost:x\r\nContent-Length:25\r\n\r\n" BODY,
     {200}},
    {"blanks around values",
     "POST /predict HTTP/1.1\r\nHost: \t x \t\r\nContent-Length:\t 25\r\nX-A: 1  \r\n\r\n" BODY,
     {200}},
    {"empty values", HEAD "X-A:\r\nX-B: \r\n" LENGTH "X-C:\r\n\r\n" BODY, {200}},
    {"an empty host", "GET /health HTTP/1.1\r\nHost:\r\n\r\n", {200}},
    {"an IPv6 host", "GET /health HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", {200}},
    {"letters beyond ASCII in a value",
     "GET /health HTTP/1.1\r\nHost: x\r\nX: \xc3\xa4\r\n\r\n",
     {200}},
    {"names in any case",
     "POST /predict HTTP/1.1\r\nhOST: x\r\nCONTENT-LENGTH: 25\r\n\r\n" BODY,
     {200}},
    {"cookies",
     "GET /health HTTP/1.1\r\nHost: x\r\nCookie: a=1; b=\"2\"\r\nX: 1\r\n\r\n",
     {200}},
    {"a header twice",
     "GET /health HTTP/1.1\r\nHost: x\r\nAccept: a\r\nAccept: b\r\n\r\n",
     {200}},
    {"empty lines before a request", "\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n", {200}},
    {"an empty line between two",
     "GET /health HTTP/1.1\r\nHost: x\r\n\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n",
     {200, 200}},
    {"a query", "GET /health?a=1&b=%20+&&c&=d&e= HTTP/1.1\r\nHost: x\r\n\r\n", {200}},
    {"an empty query", "GET /health? HTTP/1.1\r\nHost: x\r\n\r\n", {200}},
    {"an absolute target", "GET http://x:80/health HTTP/1.1\r\nHost: x\r\n\r\n", {200}},
    {"an absolute target in capitals",
     "GET HTTPS://X/health HTTP/1.1\r\nHost: x\r\n\r\n",
     {200}},
    {"an absolute target with a query",
     "GET http://x/health?a=1 HTTP/1.1\r\nHost: x\r\n\r\n",
     {200}},
    {"an absolute target without a path", "GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", {404}},
    {"an absolute target with nothing but a query",
     "GET http://x?a HTTP/1.1\r\nHost: x\r\n\r\n",
     {404}},
    {"an asterisk", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", {404}},
    {"an unknown method", "BREW /predict HTTP/1.1\r\nHost: x\r\n\r\n", {405}},
    {"a method in lower case", "get /health HTTP/1.1\r\nHost: x\r\n\r\n", {405}},
    {"chunks",
     HEAD
     "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"ins\r\n14\r\ntances\":[[1,2,3,4]]}\r\n0\r\n\r\n",
     {200}},
    {"chunks in capitals, with an extension and a trailer",
     HEAD "Transfer-Encoding: CHUNKED\r\n\r\n0019;a=\"b\"\r\n" BODY "\r\n0\r\nX: 1\r\n\r\n",
     {200}},
    {"a trailer that looks like a length",
     HEAD "Transfer-Encoding: chunked\r\n\r\n19\r\n" BODY "\r\n0\r\nContent-Length: 3\r\n\r\n"
          "GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
     {200, 200}},
    {"three requests in a row",
     HEAD LENGTH "\r\n" BODY "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" HEAD
                 "Transfer-Encoding: chunked\r\n\r\n19\r\n" BODY "\r\n0\r\n\r\n",
     {200, 200, 200}},
    {"a refused request before a good one",
     "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" HEAD LENGTH "\r\n" BODY,
     {404, 200}},
    {"HTTP/1.0 without a host", "GET /health HTTP/1.0\r\n\r\n", {200}},
    {"HTTP/1.0 that keeps its connection",
     "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /health HTTP/1.0\r\n\r\n",
     {200, 200}},
    {"HTTP/1.0 with a body",
     "POST /predict HTTP/1.0\r\nContent-Length: 25\r\n\r\n" BODY,
     {200}},
    {"another expectation", HEAD "Expect: nothing\r\n" LENGTH "\r\n" BODY, {200}},
};

static void legal_oddities_are_answered(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof legal / sizeof legal[0]; i++) {
        for (int one_by_one = 0; one_by_one < 2; one_by_one++) {
            int fd = socket_connect(shared.port);
            size_t size = strlen(legal[i].text), piece = one_by_one ? 1 : size;
            for (size_t at = 0; at < size; at += piece) {
                send_bytes(fd, legal[i].text + at, piece);
                if (one_by_one)
                    usleep(50); /* a segment each, as far as the kernel likes */
            }
            for (int k = 0; legal[i].statuses[k]; k++) {
                char body[512];
                int status = socket_answer(fd, body, sizeof body);
                if (status != legal[i].statuses[k])
                    fail_msg("%s: expected %d, got %d %s", legal[i].name, legal[i].statuses[k],
                             status, body);
            }
            close(fd);
        }
    }
}

static void sixty_headers_in_small_segments_are_read(void **state)
{
    char text[32 * 1024];
    size_t size = (size_t)snprintf(text, sizeof text, HEAD LENGTH);
    (void)state;
    for (int i = 0; i < 58; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "X-Header-%d: %*d\r\n", i,
                                 300, i);
    size += (size_t)snprintf(text + size, sizeof text - size, "\r\n" BODY);
    int fd = socket_connect(shared.port);
    for (int times = 0; times < 3; times++) {
        for (size_t at = 0; at < size; at += 700) {
            send_bytes(fd, text + at, size - at < 700 ? size - at : 700);
            usleep(100);
        }
        assert_int_equal(socket_answer(fd, NULL, 0), 200);
    }
    close(fd);
}

static void an_expected_continue_is_sent(void **state)
{
    char text[2048];
    (void)state;
    int fd = socket_connect(shared.port);
    socket_send(fd, HEAD LENGTH "Expect: 100-continue\r\n\r\n");
    assert_int_equal(socket_answer(fd, NULL, 0), 100);
    socket_send(fd, BODY);
    assert_int_equal(socket_answer(fd, text, sizeof text), 200);
    assert_non_null(strstr(text, "\"predictions\""));
    close(fd);
}

static void head_is_answered_without_a_body(void **state)
{
    char text[2048];
    (void)state;
    int fd = socket_connect(shared.port);
    socket_send(fd, "HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    read_all(fd, text, sizeof text);
    close(fd);
    assert_int_equal(strncmp(text, "HTTP/1.1 200 ", 13), 0);
    assert_string_equal(text + strlen(text) - 4, "\r\n\r\n");
}

static void a_million_chunks_of_one_byte_are_one_body(void **state)
{
    enum { CHUNKS = 1000000, SIZE = 6 * CHUNKS };
    char *text = malloc(SIZE), answer[512];
    const char *body = BODY;
    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < CHUNKS; i++) {
        memcpy(text + 6 * i, "1\r\n \r\n", 6);
        if (i >= CHUNKS - strlen(body))
            text[6 * i + 3] = body[i - (CHUNKS - strlen(body))];
    }
    int fd = socket_connect(shared.port);
    socket_send(fd, HEAD "Transfer-Encoding: chunked\r\n\r\n");
    send_bytes(fd, text, SIZE);
    socket_send(fd, "0\r\n\r\n");
    assert_int_equal(socket_answer(fd, answer, sizeof answer), 200);
    assert_non_null(strstr(answer, "\"predictions\""));
    close(fd);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_smuggling_is_refused_and_ends_its_connection),
        cmocka_unit_test(a_refusal_is_counted_by_its_reason),
        cmocka_unit_test(more_than_a_hundred_headers_are_refused),
        cmocka_unit_test(headers_and_targets_without_end_are_refused),
        cmocka_unit_test(blanks_behind_chunked_are_answered_501),
        cmocka_unit_test(legal_oddities_are_answered),
        cmocka_unit_test(sixty_headers_in_small_segments_are_read),
        cmocka_unit_test(an_expected_continue_is_sent),
        cmocka_unit_test(head_is_answered_without_a_body),
        cmocka_unit_test(a_million_chunks_of_one_byte_are_one_body),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
