/*
 * The server through its front door: what every kind of request gets, and what becomes of
 * models that come, go, and break.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* One server for the tests that change nothing: `m` is linear, `rows` mixes its rows, `wild`
 * divides by its input. */

static struct fixture shared;

static const char rows_graph[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]}],"
    "\"nodes\":[{\"op\":\"ReduceSum\",\"inputs\":[\"x\",\"axes\"],\"outputs\":[\"y\"]}],"
    "\"outputs\":[\"y\"]}";
static const char wild_graph[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,1]}],"
    "\"nodes\":[{\"op\":\"Div\",\"inputs\":[\"one\",\"x\"],\"outputs\":[\"inverse\"]}],"
    "\"outputs\":[\"inverse\"]}";

static void publish_rows(const char *models)
{
    int64_t axis = 0;
    publish_bundle(models, "rows", 1, rows_graph,
                   "\"axes\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}", &axis,
                   sizeof axis);
}

static int open_shared(void **state)
{
    static const char *const arguments[] = {"--default-model", "m", "--max-instances", "8",
                                            "--max-body", "1000000", "--threads", "2", NULL};
    float one = 1;
    (void)state;
    fixture_open(&shared);
    publish_linear(shared.models, "m", 3, 1);
    publish_rows(shared.models);
    publish_bundle(shared.models, "wild", 1, wild_graph,
                   "\"one\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", &one,
                   sizeof one);
    fixture_start(&shared, arguments);
    fixture_wait_ready(&shared);
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    int status = fixture_stop(&shared);
    fixture_close(&shared);
    return status;
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

static const char good_body[] = "{\"instances\":[[1,2,3,4]]}";

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

/* good requests */

/* y of W x + b for x = 1 2 3 4 is 8.5 12.25 7 (by hand). */
static void a_prediction_names_its_model_and_version(void **state)
{
    static const char *const bodies[] = {
        "{\"instances\":[[1,2,3,4]]}", " { \"inputs\" : { \"x\" : [ [ 1.0, 2e0, 3, 4 ] ] } } "};
    static const char *const paths[] = {"/predict", "/models/m/predict", "/predict?x=y"};
    char body[256];
    (void)state;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(
            request(shared.port, "POST", paths[i % 3], bodies[i / 3], body, sizeof body), 200);
        assert_string_equal(body, "{\"predictions\":[[8.5,12.25,7.0]],\"model_name\":\"m\","
                                  "\"model_version\":\"3\"}");
    }
}

static void several_instances_are_answered_in_order(void **state)
{
    char body[256];
    (void)state;
    assert_int_equal(request(shared.port, "POST", "/predict",
                             "{\"instances\":[[0,0,0,0],[1,2,3,4],[1,0,0,0]]}", body,
                             sizeof body),
                     200);
    assert_string_equal(body, "{\"predictions\":[[0.5,-1.0,2.0],[8.5,12.25,7.0],[1.5,-0.75,-1.0]],"
                              "\"model_name\":\"m\",\"model_version\":\"3\"}");
}

static void an_output_that_is_not_finite_is_named(void **state)
{
    char body[256];
    (void)state;
    assert_int_equal(request(shared.port, "POST", "/models/wild/predict",
                             "{\"instances\":[[0]]}", body, sizeof body),
                     500);
    assert_non_null(strstr(body, "inverse"));
    assert_int_equal(request(shared.port, "POST", "/models/wild/predict",
                             "{\"instances\":[[2]]}", body, sizeof body),
                     200);
    assert_non_null(strstr(body, "{\"predictions\":[[0.5]],"));
}

static void a_model_that_mixes_rows_is_served_but_never_batched(void **state)
{
    char body[1024];
    (void)state;
    assert_int_equal(request(shared.port, "POST", "/models/rows/predict",
                             "{\"instances\":[[1,2],[10,20],[100,200]]}", body, sizeof body),
                     200);
    assert_non_null(strstr(body, "111"));
    assert_non_null(strstr(body, "222"));
    assert_int_equal(request(shared.port, "GET", "/models/rows", NULL, body, sizeof body), 200);
    assert_non_null(strstr(body, "\"batched\":false,\"unbatched_because\":\""));
    assert_int_equal(request(shared.port, "GET", "/models/m", NULL, body, sizeof body), 200);
    assert_non_null(strstr(body, "\"batched\":true"));
}

static void health_answers_get_and_head(void **state)
{
    static const char *const paths[] = {"/health", "/health/live", "/health/ready"};
    struct client *client = client_new();
    (void)state;
    for (int i = 0; i < 3; i++) {
        for (int p = 0; p < 2; p++) {
            int port = p ? shared.admin_port : shared.port;
            struct reply *r = client_call(client, port, "GET", paths[i], NULL, NULL);
            assert_int_equal(r->status, 200);
            assert_string_equal(r->body, i == 1 ? "{\"status\":\"live\"}"
                                                : "{\"status\":\"ready\"}");
            reply_free(r);
            r = client_call(client, port, "HEAD", paths[i], NULL, NULL);
            assert_int_equal(r->status, 200);
            assert_string_equal(r->body, "");
            reply_free(r);
        }
    }
    client_free(client);
}

static void models_are_described(void **state)
{
    char body[4096];
    (void)state;
    assert_int_equal(request(shared.port, "GET", "/models", NULL, body, sizeof body), 200);
    assert_ptr_equal(strstr(body, "{\"models\":[{\"name\":\"m\",\"version\":\"3\",\"state\":"
                                  "\"ready\",\"since\":\""),
                     body);
    assert_non_null(strstr(body, "\"name\":\"rows\""));
    assert_int_equal(request(shared.port, "GET", "/models/m", NULL, body, sizeof body), 200);
    assert_non_null(strstr(body, "\"parameters\":15,"));
    assert_non_null(strstr(body, "\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
                                 "\"shape\":[-1,4]}]"));
    assert_non_null(strstr(body, "\"outputs\":[{\"name\":\"y\",\"datatype\":\"FP32\","
                                 "\"shape\":[-1,3]}]"));
    assert_non_null(strstr(body, "\"labels\":[],\"training\":null}"));
}

/* The value of a sample, -1 without one. */
static double sample(const char *text, const char *name)
{
    for (const char *p = text; (p = strstr(p, name)); p++)
        if ((p == text || p[-1] == '\n') && p[strlen(name)] == ' ')
            return atof(p + strlen(name));
    return -1;
}

static void metrics_count_what_happened(void **state)
{
    static const char answered[] = "predictd_http_requests_total{route=\"/predict\",code=\"200\"}";
    struct client *client = client_new();
    double before = 0;
    (void)state;
    for (int round = 0; round < 2; round++) {
        struct reply *r = client_call(client, shared.port, "GET", "/metrics", NULL, NULL);
        assert_int_equal(r->status, 200);
        assert_non_null(strstr(r->headers, "Content-Type: text/plain; version=0.0.4"));
        if (round == 1) {
            assert_true(sample(r->body, answered) == before + 5);
            assert_true(sample(r->body, "predictd_model_info{model=\"m\",version=\"3\"}") == 1);
            assert_true(sample(r->body, "process_resident_memory_bytes") > 0);
            assert_true(
                sample(r->body, "predictd_http_request_duration_seconds_bucket{route=\"/predict\","
                                "le=\"+Inf\"}") >= before + 5);
            assert_true(sample(r->body, "predictd_batch_size_count{model=\"m\"}") > 0);
        }
        before = sample(r->body, answered);
        reply_free(r);
        for (int i = 0; i < 5; i++)
            reply_free(client_call(client, shared.port, "POST", "/predict", NULL, good_body));
    }
    client_free(client);
}

static void a_request_id_is_given_back_when_it_is_sane(void **state)
{
    struct client *client = client_new();
    (void)state;
    struct reply *r =
        client_call(client, shared.port, "GET", "/health", "X-Request-ID: abc-1.2_3", NULL);
    assert_non_null(strstr(r->headers, "X-Request-ID: abc-1.2_3\r"));
    reply_free(r);
    r = client_call(client, shared.port, "GET", "/health", "X-Request-ID: a\"b", NULL);
    assert_null(strstr(r->headers, "a\"b"));
    assert_non_null(strstr(r->headers, "X-Request-ID: "));
    reply_free(r);
    client_free(client);
}

static void more_predictions_than_the_queue_holds_are_turned_away(void **state)
{
    static const char *const arguments[] = {"--max-queue", "1", "--threads", "1", NULL};
    struct fixture f;
    char body[256];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_start(&f, arguments);
    fixture_wait_ready(&f);
    int slow = socket_connect(f.port);
    socket_send(slow, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n{\"inst");
    struct client *client = client_new();
    struct reply *r = NULL;
    do {                        /* until the slow one's headers were read */
        if (r)
            reply_free(r);
        r = client_call(client, f.port, "POST", "/predict", NULL, good_body);
    } while (r->status == 200);
    assert_int_equal(r->status, 503);
    assert_string_equal(r->body, "{\"error\":\"too many predictions are in work\"}");
    assert_non_null(strstr(r->headers, "Retry-After: 1\r"));
    reply_free(r);
    client_free(client);
    assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
    socket_send(slow, "ances\":[[1,2,3,4]]}");
    assert_int_equal(socket_answer(slow, body, sizeof body), 200);
    assert_int_equal(request(f.port, "POST", "/predict", good_body, body, sizeof body), 200);
    close(slow);
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

static void a_request_whose_deadline_is_over_is_answered_504(void **state)
{
    static const char *const arguments[] = {"--deadline", "1", NULL};
    struct fixture f;
    char body[256];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_start(&f, arguments);
    fixture_wait_ready(&f);
    int fd = socket_connect(f.port);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n{\"inst");
    usleep(300000);
    socket_send(fd, "ances\":[[1,2,3,4]]}");
    assert_int_equal(socket_answer(fd, body, sizeof body), 504);
    assert_string_equal(body, "{\"error\":\"the deadline of 1 ms is over\"}");
    close(fd);
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

static void requests_larger_than_a_batch_are_split_and_joined(void **state)
{
    static const char *const arguments[] = {"--max-batch", "3", NULL};
    struct fixture f;
    char body[8192] = "{\"instances\":[", answer[16384];
    (void)state;
    for (int i = 0; i < 100; i++)
        snprintf(body + strlen(body), sizeof body - strlen(body), "%s[%d,0,0,0]", i ? "," : "",
                 i);
    strcat(body, "]}");
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_start(&f, arguments);
    fixture_wait_ready(&f);
    assert_int_equal(request(f.port, "POST", "/predict", body, answer, sizeof answer), 200);
    const char *p = strstr(answer, "[[");
    assert_non_null(p);
    p++;
    for (int i = 0; i < 100; i++) {
        p += i ? 2 : 0;
        double x[4] = {i}, y[3], a, b, c;
        linear_reference(1, x, y);
        assert_int_equal(sscanf(p, "[%lf,%lf,%lf]", &a, &b, &c), 3);
        assert_true(a == y[0] && b == y[1] && c == y[2]);
        p = strchr(p, ']');
        assert_non_null(p);
    }
    assert_ptr_equal(strstr(p, "]],\"model_name\":\"m\",\"model_version\":\"1\"}"), p);
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

/* models that come, go and break */

static void reload(const struct fixture *f, const char *body, int status, const char *contains)
{
    char answer[4096];
    int got = request(f->admin_port, "POST", "/reload", body, answer, sizeof answer);
    if (!strstr(answer, contains))
        assert_string_equal(answer, contains);
    assert_int_equal(got, status);
}

static void assert_version(const struct fixture *f, const char *model, const char *version)
{
    char path[128], body[1024], expected[64];
    snprintf(path, sizeof path, "/models/%s/predict", model);
    snprintf(expected, sizeof expected, "\"model_version\":\"%s\"}", version);
    assert_int_equal(request(f->port, "POST", path, good_body, body, sizeof body), 200);
    assert_non_null(strstr(body, expected));
}

static void without_models_the_server_is_alive_and_not_ready(void **state)
{
    struct fixture f;
    char body[256];
    (void)state;
    fixture_open(&f);
    fixture_start(&f, NULL);
    assert_int_equal(request(f.port, "GET", "/health/live", NULL, NULL, 0), 200);
    assert_int_equal(request(f.port, "GET", "/health", NULL, body, sizeof body), 503);
    assert_int_equal(request(f.port, "POST", "/predict", good_body, body, sizeof body), 503);
    publish_linear(f.models, "m", 1, 1);
    reload(&f, "", 200, "{\"models\":{\"m\":{\"outcome\":\"loaded\",\"before\":null,"
                        "\"after\":\"1\",\"milliseconds\":");
    assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
    assert_version(&f, "m", "1");
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

static void a_reload_finds_new_versions_and_models_and_drops_what_is_gone(void **state)
{
    struct fixture f;
    char body[1024];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    fixture_start(&f, NULL);
    fixture_wait_ready(&f);
    reload(&f, "", 200, "\"a\":{\"outcome\":\"unchanged\",\"before\":\"1\",\"after\":\"1\"");

    publish_linear(f.models, "a", 2, 2);
    publish_linear(f.models, "a", 10, 10);
    publish_linear(f.models, "b", 5, 1);
    reload(&f, "{\"model\":\"a\"}", 200,
           "{\"models\":{\"a\":{\"outcome\":\"loaded\",\"before\":\"1\",\"after\":\"10\"");
    assert_version(&f, "a", "10");
    assert_int_equal(request(f.port, "GET", "/models/b", NULL, NULL, 0), 404);
    reload(&f, "", 200, "\"b\":{\"outcome\":\"loaded\",\"before\":null,\"after\":\"5\"");
    assert_version(&f, "b", "5");
    assert_int_equal(request(f.port, "POST", "/predict", good_body, body, sizeof body), 404);

    unpublish(f.models, "a", 10);       /* rolls back */
    reload(&f, "", 200, "\"a\":{\"outcome\":\"loaded\",\"before\":\"10\",\"after\":\"2\"");
    assert_version(&f, "a", "2");
    unpublish(f.models, "b", 5);
    reload(&f, "", 200, "\"b\":{\"outcome\":\"removed\",\"before\":\"5\",\"after\":null");
    assert_int_equal(request(f.port, "GET", "/models/b", NULL, NULL, 0), 404);

    publish_linear(f.models, "a", 2, 3);        /* another file, the same version */
    reload(&f, "", 200, "\"a\":{\"outcome\":\"loaded\",\"before\":\"2\",\"after\":\"2\"");
    assert_int_equal(request(f.port, "POST", "/predict", good_body, body, sizeof body), 200);
    assert_non_null(strstr(body, "[[24.5,38.75,17.0]]"));
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

static void a_broken_bundle_at_a_reload_keeps_the_old_version(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    fixture_start(&f, NULL);
    fixture_wait_ready(&f);
    publish_bytes(f.models, "a", 2, "broken", 6);
    publish_bytes(f.models, "c", 1, "broken", 6);
    for (int again = 0; again < 3; again++) {
        reload(&f, "{\"model\":\"a\"}", 500,
               "{\"models\":{\"a\":{\"outcome\":\"failed\",\"before\":\"1\",\"after\":\"1\"");
        reload(&f, "", 500, "/a/2/model.safetensors: ");
        assert_version(&f, "a", "1");
        assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
    }
    unpublish(f.models, "c", 1);
    publish_linear(f.models, "a", 2, 2);
    reload(&f, "", 200, "\"a\":{\"outcome\":\"loaded\",\"before\":\"1\",\"after\":\"2\"");
    assert_version(&f, "a", "2");
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

static void a_broken_highest_version_at_start_falls_back(void **state)
{
    struct fixture f;
    static char body[65536];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    publish_linear(f.models, "a", 2, 2);
    publish_bytes(f.models, "a", 3, "broken", 6);
    publish_bytes(f.models, "a", 4, "", 0);
    fixture_start(&f, NULL);
    fixture_wait_ready(&f);
    assert_version(&f, "a", "2");
    assert_int_equal(request(f.port, "GET", "/metrics", NULL, body, sizeof body), 200);
    assert_true(sample(body, "predictd_model_versions_skipped_total") == 2);
    char *log = fixture_log(&f);
    assert_non_null(strstr(log, "\"version skipped\",\"model\":\"a\",\"version\":4"));
    free(log);
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

static void a_model_without_a_sound_version_keeps_the_server_unready(void **state)
{
    struct fixture f;
    char body[1024];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    publish_bytes(f.models, "b", 1, "broken", 6);
    fixture_start(&f, NULL);
    reload(&f, "", 500, "/b/1/model.safetensors: ");
    assert_int_equal(request(f.port, "GET", "/health", NULL, body, sizeof body), 503);
    assert_string_equal(body, "{\"error\":\"model b has no version that can be served\"}");
    assert_version(&f, "a", "1");
    assert_int_equal(request(f.port, "POST", "/models/b/predict", good_body, NULL, 0), 503);
    publish_linear(f.models, "b", 1, 1);
    reload(&f, "", 200, "\"b\":{\"outcome\":\"loaded\",\"before\":null,\"after\":\"1\"");
    assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

static void what_is_no_model_is_left_alone(void **state)
{
    struct fixture f;
    char body[1024], path[512];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    publish_linear(f.models, ".hidden", 1, 1);
    snprintf(path, sizeof path, "%s/empty", f.models);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/a/7", f.models);    /* holds no bundle */
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/a/08", f.models);
    mkdir(path, 0777);
    fixture_start(&f, NULL);
    fixture_wait_ready(&f);
    assert_int_equal(request(f.port, "GET", "/models", NULL, body, sizeof body), 200);
    assert_non_null(strstr(body, "{\"models\":[{\"name\":\"a\",\"version\":\"1\""));
    assert_null(strstr(body, ",{\"name\":"));
    assert_null(strstr(body, "hidden"));
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

/* As Kubernetes publishes: every entry a link through ..data, which is replaced. */
static void folders_behind_links_are_followed(void **state)
{
    struct fixture f;
    char store[512], link[1024], target[1024], model[1024];
    (void)state;
    fixture_open(&f);
    for (int v = 1; v <= 2; v++) {
        snprintf(store, sizeof store, "%s/..%d", f.folder, v);
        assert_int_equal(mkdir(store, 0777), 0);
        publish_linear(store, "m", 1, v);
    }
    snprintf(link, sizeof link, "%s/..data", f.folder);
    assert_int_equal(symlink("..1", link), 0);
    snprintf(target, sizeof target, "%s/..data/m", f.folder);
    snprintf(model, sizeof model, "%s/m", f.models);
    assert_int_equal(symlink(target, model), 0);
    fixture_start(&f, NULL);
    fixture_wait_ready(&f);
    reload(&f, "", 200, "\"m\":{\"outcome\":\"unchanged\"");
    snprintf(target, sizeof target, "%s/..next", f.folder);
    assert_int_equal(symlink("..2", target), 0);
    assert_int_equal(rename(target, link), 0);
    reload(&f, "", 200, "\"m\":{\"outcome\":\"loaded\",\"before\":\"1\",\"after\":\"1\"");
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

static void a_hangup_signal_reloads(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    fixture_start(&f, NULL);
    fixture_wait_ready(&f);
    publish_linear(f.models, "a", 2, 2);
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    char body[1024] = "";
    for (int i = 0; i < 6000 && !strstr(body, "\"version\":\"2\""); i++) {
        usleep(5000);
        assert_int_equal(request(f.port, "GET", "/models/a", NULL, body, sizeof body), 200);
    }
    assert_non_null(strstr(body, "\"version\":\"2\""));
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

static void a_bundle_that_a_script_wrote_is_served(void **state)
{
    struct fixture f;
    char command[1024], body[512];
    (void)state;
    if (access("tests/http/write_bundle.py", R_OK) != 0)
        skip();
    fixture_open(&f);
    publish_bytes(f.models, "measures", 1, "", 0);
    snprintf(command, sizeof command,
             "python3 tests/http/write_bundle.py %s/measures/1/model.safetensors", f.models);
    assert_int_equal(system(command), 0);
    fixture_start(&f, NULL);
    fixture_wait_ready(&f);
    assert_int_equal(request(f.port, "POST", "/predict", "{\"instances\":[[1,0,0,0]]}", body,
                             sizeof body),
                     200);
    /* The softmax of the script's 2.1, 0, -2.1. */
    double p[3], sum = exp(2.1) + 1 + exp(-2.1);
    assert_int_equal(sscanf(body, "{\"predictions\":[[%lf,%lf,%lf]]", &p[0], &p[1], &p[2]), 3);
    assert_true(fabs(p[0] - exp(2.1) / sum) < 1e-5);
    assert_true(fabs(p[1] - 1 / sum) < 1e-5);
    assert_non_null(strstr(body, ",\"labels\":[\"setosa\"],\"model_name\":\"measures\","));
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

/* starting */

static void check_says_which_models_are_broken(void **state)
{
    struct fixture f;
    char text[4096];
    (void)state;
    fixture_open(&f);
    const char *const arguments[] = {"--check", "--models", f.models, NULL};
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 1);
    assert_non_null(strstr(text, "holds no <model>/<version>/model.safetensors"));
    publish_linear(f.models, "a", 1, 1);
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 0);
    publish_bytes(f.models, "b", 1, "broken", 6);
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 1);
    assert_non_null(strstr(text, "/b/1/model.safetensors: "));
    fixture_close(&f);
}

static const struct {
    const char *arguments[3], *variable, *says;
} bad_options[] = {
    {{"--prot", "80"}, NULL, "there is no flag --prot; did you mean --port?"},
    {{"--xyzzy-plugh"}, NULL, "there is no flag --xyzzy-plugh; --help lists all"},
    {{"models"}, NULL, "expected a flag, got \"models\""},
    {{"--port"}, NULL, "--port: expected a value"},
    {{"--port", "65536"}, NULL,
     "--port: expected an integer from 0 to 65535, got \"65536\""},
    {{"--port", "80x"}, NULL, "--port: expected an integer from 0 to 65535, got \"80x\""},
    {{"--threads=0"}, NULL, "--threads: expected an integer from 1 to 64, got \"0\""},
    {{"--drain-delay", "nan"}, NULL,
     "--drain-delay: expected seconds from 0 to 3600, got \"nan\""},
    {{"--log-level", "loud"}, NULL,
     "--log-level: expected debug, info, warning or error, got \"loud\""},
    {{"--admin-host", "0.0.0.0"}, NULL, "--admin-host: expected a loopback address"},
    {{"--models", ""}, NULL, "--models: expected a value, got an empty one"},
    {{NULL}, "PREDICTD_MAX_BATCH=0",
     "PREDICTD_MAX_BATCH: expected an integer from 1 to 65536, got \"0\""},
    {{NULL}, "PREDICTD_ACCESS_LOG=perhaps",
     "PREDICTD_ACCESS_LOG: expected 0 or 1, got \"perhaps\""},
};

static void an_option_that_is_wrong_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_options / sizeof bad_options[0]; i++) {
        char text[4096];
        assert_int_equal(
            fixture_run(bad_options[i].arguments, bad_options[i].variable, text, sizeof text), 1);
        if (!strstr(text, bad_options[i].says))
            assert_string_equal(text, bad_options[i].says);
    }
}

static void a_flag_wins_over_its_variable(void **state)
{
    static const char *const arguments[] = {"--max-batch", "8", "--version", NULL};
    char text[1024];
    (void)state;
    assert_int_equal(fixture_run(arguments, "PREDICTD_LOG_LEVEL=error", text, sizeof text), 0);
    assert_non_null(strstr(text, "predictd 0."));
    setenv("PREDICTD_DEFAULT_MODEL", "a", 1);
    struct fixture f;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    publish_linear(f.models, "b", 1, 1);
    for (int flag = 0; flag < 2; flag++) {
        const char *const b[] = {"--default-model", "b", NULL};
        fixture_start(&f, flag ? b : NULL);
        fixture_wait_ready(&f);
        assert_int_equal(request(f.port, "POST", "/predict", good_body, text, sizeof text), 200);
        assert_non_null(strstr(text, flag ? "\"model_name\":\"b\"" : "\"model_name\":\"a\""));
        assert_int_equal(fixture_stop(&f), 0);
    }
    unsetenv("PREDICTD_DEFAULT_MODEL");
    fixture_close(&f);
}

static void help_lists_every_flag_with_its_default(void **state)
{
    static const char *const arguments[] = {"--help", NULL};
    static const char *const flags[] = {
        "--models DIR", "--host A", "--port N", "--admin-host A", "--admin-port N",
        "--threads N", "--default-model M", "--max-body BYTES", "--max-instances N",
        "--max-batch N", "--max-queue N", "--deadline MS", "--drain-delay S",
        "--drain-timeout S", "--access-log", "--log-level L", "--check", "--version",
        "PREDICTD_MAX_BODY", "[67108864]"};
    char text[8192];
    (void)state;
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 0);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        assert_non_null(strstr(text, flags[i]));
}

static void a_port_in_use_is_named(void **state)
{
    char port[16], text[1024], expected[64];
    (void)state;
    snprintf(port, sizeof port, "%d", shared.port);
    snprintf(expected, sizeof expected, "port %d of 127.0.0.1 is in use", shared.port);
    const char *const arguments[] = {"--host", "127.0.0.1", "--port", port, NULL};
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 1);
    assert_non_null(strstr(text, expected));
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
        cmocka_unit_test(a_prediction_names_its_model_and_version),
        cmocka_unit_test(several_instances_are_answered_in_order),
        cmocka_unit_test(an_output_that_is_not_finite_is_named),
        cmocka_unit_test(a_model_that_mixes_rows_is_served_but_never_batched),
        cmocka_unit_test(health_answers_get_and_head),
        cmocka_unit_test(models_are_described),
        cmocka_unit_test(metrics_count_what_happened),
        cmocka_unit_test(a_request_id_is_given_back_when_it_is_sane),
        cmocka_unit_test(more_predictions_than_the_queue_holds_are_turned_away),
        cmocka_unit_test(a_request_whose_deadline_is_over_is_answered_504),
        cmocka_unit_test(requests_larger_than_a_batch_are_split_and_joined),
        cmocka_unit_test(without_models_the_server_is_alive_and_not_ready),
        cmocka_unit_test(a_reload_finds_new_versions_and_models_and_drops_what_is_gone),
        cmocka_unit_test(a_broken_bundle_at_a_reload_keeps_the_old_version),
        cmocka_unit_test(a_broken_highest_version_at_start_falls_back),
        cmocka_unit_test(a_model_without_a_sound_version_keeps_the_server_unready),
        cmocka_unit_test(what_is_no_model_is_left_alone),
        cmocka_unit_test(folders_behind_links_are_followed),
        cmocka_unit_test(a_hangup_signal_reloads),
        cmocka_unit_test(a_bundle_that_a_script_wrote_is_served),
        cmocka_unit_test(check_says_which_models_are_broken),
        cmocka_unit_test(an_option_that_is_wrong_is_named),
        cmocka_unit_test(a_flag_wins_over_its_variable),
        cmocka_unit_test(help_lists_every_flag_with_its_default),
        cmocka_unit_test(a_port_in_use_is_named),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
