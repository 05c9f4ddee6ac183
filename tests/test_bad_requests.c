/*
 * Requests that are refused, each with its status and its reason, and what the connection is
 * good for then.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct fixture shared;

static const char good_body[] = "{\"instances\":[[1,2,3,4]]}";

static int open_shared(void **state)
{
    static const char *const arguments[] = {"--max-instances", "8", "--max-body", "1000000",
                                            "--threads", "2", NULL};
    (void)state;
    fixture_open(&shared);
    publish_linear(shared.models, "m", 3, 1);
    fixture_serve(&shared, arguments);
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    fixture_end(&shared);
    return 0;
}

/* bad bodies */

static const struct {
    const char *body, *error;
} bad_bodies[] = {
    {"", "the body is empty, expected an object with \"instances\" or \"inputs\" (byte 0)"},
    {"{", "not JSON: unexpected end of the body"},
    {"hello", "not JSON: expected a value, got 'h' (byte 0)"},
    {"{\"instances\":[[1,2,3,4]]", "not JSON: unexpected end of the body"},
    {"{\"instances\":[[1,2,3,4]]} x", "not JSON: expected nothing more, got 'x' (byte 26)"},
    {"{\"instances\":[[1,2,3,4]],\"instances\":[[1,2,3,4]]}",
     "\"instances\" is there twice (byte 25)"},
    {"[1,2]", "expected an object with \"instances\" or \"inputs\", got an array (byte 0)"},
    {"\"x\"", "expected an object with \"instances\" or \"inputs\", got a string (byte 0)"},
    {"null", "expected an object with \"instances\" or \"inputs\", got null (byte 0)"},
    {"{}", "expected \"instances\" or \"inputs\", got neither (byte 0)"},
    {"{\"instances\":[[1,2,3,4]],\"inputs\":{\"x\":[[1,2,3,4]]}}",
     "expected \"instances\" or \"inputs\", got both (byte 25)"},
    {"{\"instances\":[[1,2,3,4]],\"parameters\":{}}",
     "unknown field \"parameters\", expected \"instances\" or \"inputs\" (byte 25)"},
    {"{\"instances\":[]}", "instances: expected at least one instance, got none (byte 14)"},
    {"{\"instances\":{}}", "instances: expected an array, got an object (byte 13)"},
    {"{\"instances\":3}", "instances: expected an array, got a number (byte 13)"},
    {"{\"instances\":[[1,2,3]]}", "instances[0]: expected 4 numbers, got 3 (byte 20)"},
    {"{\"instances\":[[1,2,3,4,5]]}", "instances[0]: expected 4 numbers, got more (byte 22)"},
    {"{\"instances\":[[1,2,3,4],[1,2,3]]}",
     "instances[1]: expected 4 numbers, got 3 (byte 30)"},
    {"{\"instances\":[[1,2,[3],4]]}",
     "instances[0][2]: expected a number, got an array (byte 19)"},
    {"{\"instances\":[1,2,3,4]}", "instances[0]: expected an array, got a number (byte 14)"},
    {"{\"instances\":[[1,2,\"3\",4]]}",
     "instances[0][2]: expected a number, got a string (byte 19)"},
    {"{\"instances\":[[1,2,null,4]]}", "instances[0][2]: expected a number, got null (byte 19)"},
    {"{\"instances\":[[1,2,true,4]]}",
     "instances[0][2]: expected a number, got a boolean (byte 19)"},
    {"{\"instances\":[[1,2,1e39,4]]}",
     "instances[0][2]: 1e39 is outside the range of FP32 (byte 19)"},
    {"{\"instances\":[[1,2,1e400,4]]}",
     "instances[0][2]: 1e400 is outside the range of FP32 (byte 19)"},
    {"{\"instances\":[[1,2,NaN,4]]}", "not JSON: expected a value, got 'N' (byte 19)"},
    {"{\"instances\":[[1,2,3,4,]]}", "not JSON: expected a value, got ']' (byte 23)"},
    {"{\"instances\":[[1 2 3 4]]}", "not JSON: expected ',' or ']', got '2' (byte 17)"},
    {"{\"instances\":[[1,2,3,4],[1,2,3,4],[1,2,3,4],[1,2,3,4],[1,2,3,4],[1,2,3,4],[1,2,3,4],"
     "[1,2,3,4],[1,2,3,4]]}",
     "instances[8]: more than 8 instances, which is the limit (byte 94)"},
    {"{\"inputs\":{\"y\":[[1,2,3,4]]}}", "inputs: the model has no input \"y\" (byte 11)"},
    {"{\"inputs\":{}}", "inputs: the input \"x\" is missing (byte 12)"},
    {"{\"inputs\":[[1,2,3,4]]}",
     "inputs: expected an object of inputs by name, got an array (byte 10)"},
    {"{\"inputs\":{\"x\":[[1,2,3,4]],\"x\":[[1,2,3,4]]}}",
     "inputs: the input \"x\" is there twice (byte 27)"},
};

/* {"error":text} as the server writes it. */
static void as_error(char *out, size_t size, const char *text)
{
    size_t n = (size_t)snprintf(out, size, "{\"error\":\"");
    for (; *text && n + 4 < size; text++) {
        if (*text == '"')
            out[n++] = '\\';
        out[n++] = *text;
    }
    snprintf(out + n, size - n, "\"}");
}

static void a_bad_body_is_refused_with_its_reason_and_place(void **state)
{
    struct client *client = client_new();
    (void)state;
    for (size_t i = 0; i < sizeof bad_bodies / sizeof bad_bodies[0]; i++) {
        char expected[512];
        as_error(expected, sizeof expected, bad_bodies[i].error);
        struct reply *r =
            client_call(client, shared.port, "POST", "/predict", NULL, bad_bodies[i].body);
        assert_string_equal(r->body, expected);
        assert_int_equal(r->status, 400);
        assert_true(i == 0 || r->reused);
        reply_free(r);
    }
    client_free(client);
}

static void deep_nesting_is_refused(void **state)
{
    enum { DEPTH = 150000 };
    char *body = malloc(DEPTH + 1), answer[256];
    (void)state;
    assert_non_null(body);
    memset(body, '[', DEPTH);
    body[DEPTH] = 0;
    assert_int_equal(request(shared.port, "POST", "/predict", body, answer, sizeof answer), 400);
    assert_string_equal(answer, "{\"error\":\"not JSON: nested deeper than 64 (byte 64)\"}");
    free(body);
}

/* other bad requests */

static const struct {
    const char *method, *path, *header, *body;
    bool admin;
    int status;
    const char *answer, *allow;
} bad_requests[] = {
    {"GET", "/", NULL, NULL, false, 404, "there is nothing at this path", NULL},
    {"GET", "/health/", NULL, NULL, false, 404, "there is nothing at this path", NULL},
    {"GET", "/%68ealth", NULL, NULL, false, 404, "there is nothing at this path", NULL},
    {"GET", "/models/../health", NULL, NULL, false, 404, "there is nothing at this path", NULL},
    {"GET", "/models/m%00", NULL, NULL, false, 404, "there is nothing at this path", NULL},
    {"POST", "/reload", NULL, "", false, 404, "there is nothing at this path", NULL},
    {"GET", "/models/n", NULL, NULL, false, 404, "there is no model n", NULL},
    {"POST", "/models/n/predict", NULL, good_body, false, 404, "there is no model n", NULL},
    {"GET", "/predict", NULL, NULL, false, 405, "this path answers POST only", "Allow: POST\r"},
    {"PUT", "/predict", NULL, good_body, false, 405, "this path answers POST only",
     "Allow: POST\r"},
    {"DELETE", "/models/m", NULL, NULL, false, 405, "this path answers GET, HEAD only",
     "Allow: GET, HEAD\r"},
    {"POST", "/health", NULL, "", false, 405, "this path answers GET, HEAD only",
     "Allow: GET, HEAD\r"},
    {"post", "/predict", NULL, good_body, false, 405, "this path answers POST only",
     "Allow: POST\r"},
    {"GET", "/reload", NULL, NULL, true, 405, "this path answers POST only", "Allow: POST\r"},
    {"POST", "/predict", "Content-Type: text/plain", good_body, false, 415,
     "expected the content type application/json", NULL},
    {"POST", "/predict", "Content-Type: application/jsonx", good_body, false, 415,
     "expected the content type application/json", NULL},
    {"POST", "/reload", NULL, "{\"model\":3}", true, 400, "model: expected the name of a model",
     NULL},
    {"POST", "/reload", NULL, "{\"model\":\"../m\"}", true, 400,
     "model: expected the name of a model", NULL},
    {"POST", "/reload", NULL, "{\"path\":\"/etc\"}", true, 400,
     "path: there is no such field; \"model\" is one", NULL},
    {"POST", "/reload", NULL, "[]", true, 400, "expected {\"model\": name} or nothing", NULL},
    {"POST", "/reload", NULL, "{\"model\":\"n\"}", true, 404, "there is no model n", NULL},
};

static void a_bad_request_gets_its_status(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_requests / sizeof bad_requests[0]; i++) {
        struct client *client = client_new();
        char expected[512];
        int port = bad_requests[i].admin ? shared.admin_port : shared.port;
        as_error(expected, sizeof expected, bad_requests[i].answer);
        for (int again = 0; again < 2; again++) {   /* the connection stays usable */
            struct reply *r =
                client_call(client, port, bad_requests[i].method, bad_requests[i].path,
                            bad_requests[i].header, bad_requests[i].body);
            assert_string_equal(r->body, expected);
            assert_int_equal(r->status, bad_requests[i].status);
            assert_non_null(strstr(r->headers, "Content-Type: application/json\r"));
            if (bad_requests[i].allow)
                assert_non_null(strstr(r->headers, bad_requests[i].allow));
            assert_int_equal(r->reused, again);
            reply_free(r);
        }
        client_free(client);
    }
}

static void these_content_types_are_accepted(void **state)
{
    static const char *const headers[] = {
        "Content-Type:", "Content-Type: application/json",
        "Content-Type: application/json; charset=utf-8", "Content-Type: Application/JSON",
        "Content-Type: application/x-www-form-urlencoded"};
    struct client *client = client_new();
    (void)state;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct reply *r =
            client_call(client, shared.port, "POST", "/predict", headers[i], good_body);
        assert_int_equal(r->status, 200);
        reply_free(r);
    }
    client_free(client);
}

static void a_body_over_the_limit_is_refused_and_its_connection_stays(void **state)
{
    enum { SIZE = 1000001 };
    struct client *client = client_new();
    char *body = malloc(SIZE + 1);
    (void)state;
    assert_non_null(body);
    memset(body, ' ', SIZE);
    body[SIZE] = 0;
    for (int again = 0; again < 2; again++) {
        struct reply *r = client_call(client, shared.port, "POST", "/predict", NULL, body);
        assert_int_equal(r->status, 413);
        assert_string_equal(
            r->body, "{\"error\":\"the body has 1000001 bytes; at most 1000000 are read\"}");
        reply_free(r);
        r = client_call(client, shared.port, "POST", "/predict", NULL, good_body);
        assert_int_equal(r->status, 200);
        assert_true(r->reused);
        reply_free(r);
    }
    free(body);
    client_free(client);
}

static void a_body_in_chunks_is_counted_as_it_comes(void **state)
{
    char body[256], piece[20001];
    (void)state;
    int fd = socket_connect(shared.port);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "6\r\n{\"inst\r\n13\r\nances\":[[1,2,3,4]]}\r\n0\r\n\r\n");
    assert_int_equal(socket_answer(fd, body, sizeof body), 200);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    memset(piece, ' ', sizeof piece - 1);
    piece[sizeof piece - 1] = 0;
    for (int i = 0; i < 60; i++) {
        socket_send(fd, "4e20\r\n");
        socket_send(fd, piece);
        socket_send(fd, "\r\n");
    }
    socket_send(fd, "0\r\n\r\n");
    assert_int_equal(socket_answer(fd, body, sizeof body), 413);
    assert_string_equal(body, "{\"error\":\"the body has more than 1000000 bytes\"}");
    socket_send(fd, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(socket_answer(fd, body, sizeof body), 200);
    close(fd);
}

static void a_post_without_a_length_has_an_empty_body(void **state)
{
    char body[256];
    (void)state;
    int fd = socket_connect(shared.admin_port);
    socket_send(fd, "POST /reload HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(socket_answer(fd, body, sizeof body), 200);
    close(fd);
}

static void requests_in_a_row_are_answered_in_order(void **state)
{
    char body[256];
    (void)state;
    int fd = socket_connect(shared.port);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n"
                    "{\"instances\":[[1,2,3,4]]}"
                    "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
                    "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    assert_int_equal(socket_answer(fd, body, sizeof body), 200);
    assert_non_null(strstr(body, "\"predictions\""));
    assert_int_equal(socket_answer(fd, body, sizeof body), 200);
    assert_string_equal(body, "{\"status\":\"live\"}");
    assert_int_equal(socket_answer(fd, body, sizeof body), 400);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_body_is_refused_with_its_reason_and_place),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(a_bad_request_gets_its_status),
        cmocka_unit_test(these_content_types_are_accepted),
        cmocka_unit_test(a_body_over_the_limit_is_refused_and_its_connection_stays),
        cmocka_unit_test(a_body_in_chunks_is_counted_as_it_comes),
        cmocka_unit_test(a_post_without_a_length_has_an_empty_body),
        cmocka_unit_test(requests_in_a_row_are_answered_in_order),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
