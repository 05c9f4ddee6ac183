/*
 * The server through its front door: what it answers to those who ask properly, and where its
 * limits are.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One server for the tests that change nothing: `m` is linear, `rows` mixes its rows, `wild`
 * divides by its input. */

static struct fixture shared;

static const char good_body[] = "{\"instances\":[[1,2,3,4]]}";

static const char rows_graph[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]}],"
    "\"nodes\":[{\"op\":\"ReduceSum\",\"inputs\":[\"x\",\"axes\"],\"outputs\":[\"y\"]}],"
    "\"outputs\":[\"y\"]}";
static const char wild_graph[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,1]}],"
    "\"nodes\":[{\"op\":\"Div\",\"inputs\":[\"one\",\"x\"],\"outputs\":[\"inverse\"]}],"
    "\"outputs\":[\"inverse\"]}";

/* Outputs of twice and of half as many rows as the input has. */
static const char twice_graph[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]}],"
    "\"nodes\":[{\"op\":\"Concat\",\"inputs\":[\"x\",\"x\"],\"outputs\":[\"y\"],"
    "\"attributes\":{\"axis\":0}}],"
    "\"outputs\":[\"y\"]}";
static const char sampled_graph[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]}],"
    "\"nodes\":[{\"op\":\"Reshape\",\"inputs\":[\"x\",\"plane\"],\"outputs\":[\"a\"]},"
    "{\"op\":\"MaxPool\",\"inputs\":[\"a\"],\"outputs\":[\"b\"],"
    "\"attributes\":{\"kernel_shape\":[1,1],\"strides\":[2,1]}},"
    "{\"op\":\"Reshape\",\"inputs\":[\"b\",\"rows\"],\"outputs\":[\"y\"]}],"
    "\"outputs\":[\"y\"]}";

static void publish_sampled(const char *models)
{
    static const int64_t shapes[] = {1, 1, -1, 2, -1, 2};
    publish_bundle(models, "sampled", 1, sampled_graph,
                   "\"plane\":{\"dtype\":\"I64\",\"shape\":[4],\"data_offsets\":[0,32]},"
                   "\"rows\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[32,48]}",
                   shapes, sizeof shapes);
}

static const char single_graph[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]}],"
    "\"nodes\":[{\"op\":\"Reshape\",\"inputs\":[\"x\",\"one\"],\"outputs\":[\"y\"]}],"
    "\"outputs\":[\"y\"]}";

static void publish_single(const char *models)
{
    static const int64_t shape[] = {1, 2};
    publish_bundle(models, "single", 1, single_graph,
                   "\"one\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]}", shape,
                   sizeof shape);
}

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
    publish_sampled(shared.models);
    publish_single(shared.models);
    publish_graph(shared.models, "twice", 1, twice_graph, "[\"a\",\"b\"]");
    publish_bundle(shared.models, "wild", 1, wild_graph,
                   "\"one\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", &one,
                   sizeof one);
    fixture_serve(&shared, arguments);
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    fixture_end(&shared);
    return 0;
}

/* predictions */

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

static void other_numbers_of_rows_than_came_are_answered_whole(void **state)
{
    static const struct {
        const char *path, *body, *answer;
    } cases[] = {
        {"/models/twice/predict", "{\"instances\":[[1,2],[3,4]]}",
         "{\"predictions\":[[1.0,2.0],[3.0,4.0],[1.0,2.0],[3.0,4.0]],\"model_name\":\"twice\","
         "\"model_version\":\"1\"}"},
        {"/models/sampled/predict", "{\"instances\":[[1,2],[3,4],[5,6],[7,8]]}",
         "{\"predictions\":[[1.0,2.0],[5.0,6.0]],\"model_name\":\"sampled\","
         "\"model_version\":\"1\"}"},
        {"/v2/models/twice/infer",
         "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":[1,2,3,4]}]}",
         "{\"model_name\":\"twice\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"y\","
         "\"datatype\":\"FP32\",\"shape\":[4,2],\"data\":[1.0,2.0,3.0,4.0,1.0,2.0,3.0,4.0]}]}"},
        {"/v2/models/sampled/infer",
         "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[3,2],\"data\":[1,2,3,4,5,6]}]}",
         "{\"model_name\":\"sampled\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"y\","
         "\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":[1.0,2.0,5.0,6.0]}]}"},
    };
    char body[1024];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(request(shared.port, "POST", cases[i].path, cases[i].body, body,
                                 sizeof body),
                         200);
        assert_string_equal(body, cases[i].answer);
    }
}

static void more_rows_than_a_model_can_take_are_the_clients_mistake(void **state)
{
    char body[1024];
    (void)state;
    assert_int_equal(request(shared.port, "POST", "/models/single/predict",
                             "{\"instances\":[[1,2],[3,4]]}", body, sizeof body),
                     400);
    assert_non_null(strstr(body, "the model cannot take 2 rows: y (Reshape): "));
    assert_int_equal(request(shared.port, "POST", "/models/single/predict",
                             "{\"instances\":[[1,2]]}", body, sizeof body),
                     200);
    assert_non_null(strstr(body, "{\"predictions\":[[1.0,2.0]],"));
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
    assert_non_null(strstr(body, "\"labels\":[],\"training\":null,\"versions\":[{\"version\":"
                                 "\"3\",\"state\":\"ready\"}],\"version_labels\":{}}"));
}

/* Requests are counted when their answers were sent, which their clients may know before. */
static void metrics_count_what_happened(void **state)
{
    static const char answered[] = "predictd_http_requests_total{route=\"/predict\",code=\"200\"}";
    struct client *client = client_new();
    (void)state;
    reply_free(client_call(client, shared.port, "POST", "/predict", NULL, good_body));
    fixture_await_metric(&shared, answered, 1);
    double before = fixture_metric(&shared, answered);
    for (int i = 0; i < 5; i++)
        reply_free(client_call(client, shared.port, "POST", "/predict", NULL, good_body));
    fixture_await_metric(&shared, answered, before + 5);
    assert_true(fixture_metric(&shared, "predictd_model_load_duration_seconds{model=\"m\","
                                        "version=\"3\"}") > 0);
    assert_true(fixture_metric(&shared, "process_resident_memory_bytes") > 0);
    fixture_await_metric(&shared,
                         "predictd_http_request_duration_seconds_bucket{route=\"/predict\","
                         "le=\"+Inf\"}",
                         before + 5);
    assert_true(
        fixture_metric(&shared, "predictd_batch_size_count{model=\"m\",version=\"3\"}") >=
        before + 5);

    struct reply *r = client_call(client, shared.port, "GET", "/metrics", NULL, NULL);
    assert_int_equal(r->status, 200);
    assert_non_null(strstr(r->headers, "Content-Type: text/plain; version=0.0.4"));
    reply_free(r);
    client_free(client);
}

static void a_request_id_is_given_back_when_it_is_sane(void **state)
{
    struct client *client = client_new();
    (void)state;
    struct reply *r =
        client_call(client, shared.port, "GET", "/health", "X-Request-ID: abc-1.2_3 ", NULL);
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
    fixture_serve(&f, arguments);
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
    fixture_end(&f);
}

static void a_request_whose_deadline_is_over_is_answered_504(void **state)
{
    static const char *const arguments[] = {"--deadline", "1", NULL};
    struct fixture f;
    char body[256];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    int fd = socket_connect(f.port);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n{\"inst");
    usleep(300000);
    socket_send(fd, "ances\":[[1,2,3,4]]}");
    assert_int_equal(socket_answer(fd, body, sizeof body), 504);
    assert_string_equal(body, "{\"error\":\"the deadline of 1 ms is over\"}");
    close(fd);
    fixture_end(&f);
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
    fixture_serve(&f, arguments);
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
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prediction_names_its_model_and_version),
        cmocka_unit_test(several_instances_are_answered_in_order),
        cmocka_unit_test(an_output_that_is_not_finite_is_named),
        cmocka_unit_test(a_model_that_mixes_rows_is_served_but_never_batched),
        cmocka_unit_test(other_numbers_of_rows_than_came_are_answered_whole),
        cmocka_unit_test(more_rows_than_a_model_can_take_are_the_clients_mistake),
        cmocka_unit_test(health_answers_get_and_head),
        cmocka_unit_test(models_are_described),
        cmocka_unit_test(metrics_count_what_happened),
        cmocka_unit_test(a_request_id_is_given_back_when_it_is_sane),
        cmocka_unit_test(more_predictions_than_the_queue_holds_are_turned_away),
        cmocka_unit_test(a_request_whose_deadline_is_over_is_answered_504),
        cmocka_unit_test(requests_larger_than_a_batch_are_split_and_joined),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
