/*
 * The Open Inference Protocol V2 as its clients speak it. Texts and answers are those of the
 * specification and of Triton.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/open_inference.h"

static struct v2_client shared;

static int open_shared(void **state)
{
    (void)state;
    v2_open(&shared);
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    v2_close(&shared);
    return 0;
}

static void expect(const char *method, const char *path, const char *header, const char *send,
                   size_t size, int status, const char *body)
{
    v2_expect(&shared, method, path, header, send, size, status, body);
}

/* bad requests */

static const struct {
    const char *model, *body;
    int status;
    const char *error;
} bad_bodies[] = {
    {"m", "", 400, "failed to parse the request JSON buffer: unexpected end of the body"},
    {"m", "hello", 400, "failed to parse the request JSON buffer: expected a value, got 'h'"},
    {"m", "{\"inputs\":[", 400, "failed to parse the request JSON buffer"},
    {"m", "{\"inputs\":[]} x", 400, "failed to parse the request JSON buffer"},
    {"m", "[]", 400, "Unable to parse 'request': expected an object, got an array"},
    {"m", "{}", 400, "expected 1 inputs but got 0 inputs for model 'm'"},
    {"m", "{\"inputs\":{}}", 400, "Unable to parse 'inputs': expected an array"},
    {"m", "{\"inputs\":[1]}", 400, "Unable to parse 'inputs': expected an object"},
    {"m", "{\"inputs\":[],\"inputs\":[]}", 400, "'inputs' is there twice"},
    {"m", "{\"id\":7}", 400, "Unable to parse 'id': expected a string, got a number"},
    {"m", "{\"inputs\":[{" GOOD "}]}", 400, "an input has no 'name'"},
    {"m", X("\"datatype\":\"FP32\",\"data\":[1,2,3,4]"), 400, "an input has no 'shape'"},
    {"m", X("\"shape\":[1,4],\"data\":[1,2,3,4]"), 400, "an input has no 'datatype'"},
    {"m", X(FP32_1_4), 400, "input 'x' must have exactly one of 'data' and 'binary_data_size'"},
    {"m", X(GOOD ",\"parameters\":{\"binary_data_size\":16}"), 400,
     "input 'x' must have exactly one of"},
    {"m", X(GOOD ",\"data\":[1]"), 400, "an input has 'data' twice"},
    {"m", X("\"name\":\"x\"," GOOD), 400, "an input has two names"},
    {"m", X(GOOD ",\"shape\":[2,2]"), 400, "an input has 'shape' twice"},
    {"m", X("\"datatype\":\"FP64\"," GOOD), 400, "an input has 'datatype' twice"},
    {"m",
     "{\"inputs\":[{\"name\":\"x\"," GOOD "}],\"outputs\":[{\"name\":\"y\",\"name\":\"y\"}]}",
     400, "an output has two names"},
    {"m", "{\"parameters\":{\"timeout\":18446744073709551616}}", 400,
     "Unable to parse 'timeout'"},
    {"m", "{\"inputs\":[{\"name\":\"z\"," GOOD "}]}", 400,
     "unexpected inference input 'z' for model 'm'"},
    {"m", "{\"inputs\":[{\"name\":\"x\"," GOOD "},{\"name\":\"x\"," GOOD "}]}", 400,
     "input 'x' already exists in request"},
    {"simple",
     "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1,4],\"datatype\":\"INT32\","
     "\"data\":[1,2,3,4]}]}",
     400, "expected 2 inputs but got 1 inputs for model 'simple'"},
    {"m", X("\"shape\":[1,4],\"datatype\":\"FP64\",\"data\":[1,2,3,4]"), 400,
     "inference input 'x' data-type is 'FP64', but model 'm' expects 'FP32'"},
    {"m", X("\"shape\":[1,5],\"datatype\":\"FP32\",\"data\":[1,2,3,4,5]"), 400,
     "unexpected shape for input 'x' for model 'm'. Expected [-1,4], got [1,5]"},
    {"m", X("\"shape\":[4],\"datatype\":\"FP32\",\"data\":[1,2,3,4]"), 400,
     "unexpected shape for input 'x' for model 'm'. Expected [-1,4], got [4]"},
    {"m", X("\"shape\":[-1,4],\"datatype\":\"FP32\",\"data\":[1,2,3,4]"), 400,
     "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer"},
    {"m", X("\"shape\":[1.0,4],\"datatype\":\"FP32\",\"data\":[1,2,3,4]"), 400,
     "Unable to parse 'shape'"},
    {"m", X("\"shape\":[1,1,1,1,1,1,1,1,4],\"datatype\":\"FP32\",\"data\":[1,2,3,4]"), 400,
     "Unable to parse 'shape': more than 8 dimensions"},
    {"m", X("\"shape\":[9223372036854775807,4],\"datatype\":\"FP32\",\"data\":[1]"), 400,
     "inference request batch-size must be <= 16 for 'm'"},
    {"m", X("\"shape\":[9223372036854775808,4],\"datatype\":\"FP32\",\"data\":[1]"), 400,
     "Unable to parse 'shape'"},
    {"m", X("\"shape\":[17,4],\"datatype\":\"FP32\",\"data\":[1]"), 400,
     "inference request batch-size must be <= 16 for 'm'"},
    {"m", X("\"shape\":[0,4],\"datatype\":\"FP32\",\"data\":[]"), 400,
     "input 'x' of model 'm' has no rows"},
    {"m", X(FP32_1_4 ",\"data\":[1,2,3]"), 400,
     "Failed to parse 'data' field: shape does not match true shape"},
    {"m", X(FP32_1_4 ",\"data\":[]"), 400,
     "Failed to parse 'data' field: shape does not match true shape"},
    {"m", X(FP32_1_4 ",\"data\":[1,2,3,4,5]"), 400,
     "Unable to parse 'data': Shape does not match true shape of 'data' field"},
    {"m", X(FP32_1_4 ",\"data\":[[1,2,3]]"), 400, "Failed to parse 'data' field"},
    {"m", X(FP32_1_4 ",\"data\":[[1,2,3,4],[1,2,3,4]]"), 400, "Unable to parse 'data'"},
    {"m", X("\"shape\":[2,4],\"datatype\":\"FP32\",\"data\":[[1,2,3,4]]"), 400,
     "Failed to parse 'data' field: shape does not match true shape"},
    {"m", X("\"data\":[1,2,3]," FP32_1_4), 400, "Failed to parse 'data' field"},
    {"m", X(FP32_1_4 ",\"data\":7"), 400, "inputs.x: expected an array, got a number"},
    {"m", X(FP32_1_4 ",\"data\":[1,2,3,\"a\"]"), 400,
     "inputs.x[3]: expected a number, got a string"},
    {"m", X(FP32_1_4 ",\"data\":[1,2,3,1e39]"), 400,
     "inputs.x[3]: 1e39 is outside the range of FP32"},
    {"m", X(FP32_1_4 ",\"data\":[1,2,3,NaN]"), 400, "failed to parse the request JSON buffer"},
    {"simple",
     "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1,4],\"datatype\":\"INT32\","
     "\"data\":[1,2,3,2147483648]}]}",
     400, "outside the range of INT32"},
    {"simple",
     "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1,4],\"datatype\":\"INT32\","
     "\"data\":[1,2,3,4.5]}]}",
     400, "expected a whole number (INT32), got 4.5"},
    {"simple",
     "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1,4],\"datatype\":\"INT32\","
     "\"data\":[1,2,3,4]},{\"name\":\"INPUT1\",\"shape\":[2,4],\"datatype\":\"INT32\","
     "\"data\":[1,2,3,4,5,6,7,8]}]}",
     400, "input 'INPUT1' batch size does not match other inputs for 'simple'"},
    {"m", "{\"inputs\":[{\"name\":\"x\"," GOOD "}],\"outputs\":[{\"name\":\"z\"}]}", 400,
     "unexpected inference output 'z' for model 'm'"},
    {"m",
     "{\"inputs\":[{\"name\":\"x\"," GOOD "}],\"outputs\":[{\"name\":\"y\"},{\"name\":\"y\"}]}",
     400, "output 'y' already exists in request"},
    {"m", "{\"inputs\":[{\"name\":\"x\"," GOOD "}],\"outputs\":[{}]}", 400,
     "an output has no 'name'"},
    {"m",
     "{\"inputs\":[{\"name\":\"x\"," GOOD "}],\"outputs\":[{\"name\":\"y\",\"parameters\":"
     "{\"binary_data\":1}}]}",
     400, "Unable to parse 'binary_data': expected a boolean"},
    {"m",
     "{\"inputs\":[{\"name\":\"x\"," GOOD "}],\"outputs\":[{\"name\":\"y\",\"parameters\":"
     "{\"classification\":-1}}]}",
     400, "Unable to parse 'classification'"},
    {"m", "{\"parameters\":{\"custom\":[1]}}", 400, "parameter 'custom' has invalid type"},
    {"m", "{\"parameters\":{\"triton_x\":1}}", 400, "'triton_' are reserved"},
    {"m", X(FP32_1_4 ",\"parameters\":{\"shared_memory_region\":\"r\"}"), 400,
     "shared memory is not supported"},
    {"m", X(FP32_1_4 ",\"parameters\":{\"binary_data_size\":16}"), 400,
     "the binary data of input 'x' is incomplete: 0 bytes of 16"},
    {"m", X(FP32_1_4 ",\"parameters\":{\"binary_data_size\":15}"), 400,
     "unexpected total byte size 15 for input 'x', expecting 16"},
    {"none", X(GOOD), 404, "Request for unknown model: 'none' is not found"},
    {"m/versions/2", X(GOOD), 404, "Request for unknown model: 'm' version 2 is not found"},
    {"m/versions/99999999999999999999999", X(GOOD), 404, "is not found"},
    {"m/versions/one", X(GOOD), 400,
     "failed to get model version from specified version string 'one'"},
};

static void bad_requests_are_told_what_is_wrong(void **state)
{
    char path[128];
    (void)state;
    for (size_t i = 0; i < sizeof bad_bodies / sizeof bad_bodies[0]; i++) {
        snprintf(path, sizeof path, "/v2/models/%s/infer", bad_bodies[i].model);
        expect("POST", path, NULL, bad_bodies[i].body, strlen(bad_bodies[i].body),
               bad_bodies[i].status, bad_bodies[i].error);
    }
}

static void deep_nesting_is_refused(void **state)
{
    char body[600] = "{\"a\":";
    (void)state;
    for (int i = 0; i < 500; i++)
        strcat(body, "[");
    expect("POST", "/v2/models/m/infer", NULL, body, strlen(body), 400, "nested deeper than");
}

static void a_header_length_outside_the_body_is_refused(void **state)
{
    static const char *const lengths[] = {"-1", "99999999999", "99999999999999999999999", "x",
                                          "1x", "", " "};
    char header[128];
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        /* curl leaves out a header without a value unless it ends in a semicolon */
        snprintf(header, sizeof header, "Inference-Header-Content-Length%s%s",
                 lengths[i][strspn(lengths[i], " ")] ? ": " : ";", lengths[i]);
        if (header[31] == ';')
            header[32] = 0;
        expect("POST", "/v2/models/m/infer", header, X(GOOD), sizeof X(GOOD) - 1, 400,
               "inference header size should be in range (0, ");
    }
}

static void paths_and_methods_that_do_not_exist_are_refused(void **state)
{
    static const struct {
        const char *method, *path;
        int status;
        const char *body;
    } cases[] = {
        {"GET", "/v2/nothing", 404, "{\"error\":\"Not Found\"}"},
        {"GET", "/v2/models", 404, "{\"error\":\"Not Found\"}"},
        {"GET", "/v2/models//ready", 404, "{\"error\":\"Not Found\"}"},
        {"GET", "/v2/models/m/versions/", 404, "{\"error\":\"Not Found\"}"},
        {"GET", "/v2/models/m/infer", 405, "{\"error\":\"Method Not Allowed\"}"},
        {"POST", "/v2/health/live", 405, "{\"error\":\"Method Not Allowed\"}"},
        {"POST", "/v2/repository/models/m/load", 404, "{\"error\":\"Not Found\"}"},
        {"POST", "/v2/repository/models/m/unload", 404, "{\"error\":\"Not Found\"}"},
        {"GET", "/v2/models/x%00y", 404, "Request for unknown model: 'x%00y' is not found"},
        {"GET", "/v2/models/%2Fetc", 404, "Request for unknown model: '/etc' is not found"},
        {"GET", "/v2/models/m%2Fready", 404, "Request for unknown model: 'm/ready' is not found"},
        {"GET", "/v2/models/%6", 404, "Request for unknown model: '%6' is not found"},
        {"GET",
         "/v2/models/mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm/ready",
         404, "is not found"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect(cases[i].method, cases[i].path, NULL, NULL, 0, cases[i].status,
               cases[i].body);
}

/* health and metadata */

static void health_and_metadata_are_answered(void **state)
{
    static const char types[] =
        "{\"name\":\"types\",\"versions\":[\"1\"],\"platform\":\"predictd\",\"inputs\":["
        PORT("f", "FP32", "[-1,2]") "," PORT("l", "INT64", "[-1]") ","
        PORT("i", "INT32", "[-1,1,2]") "," PORT("u", "UINT8", "[-1,3]") ","
        PORT("b", "BOOL", "[-1,1]") "],\"outputs\":[" PORT("F", "FP32", "[-1,2]") ","
        PORT("L", "INT64", "[-1]") "," PORT("I", "INT32", "[-1,1,2]") ","
        PORT("U", "UINT8", "[-1,3]") "," PORT("B", "BOOL", "[-1,1]") "]}";
    static const char config[] =
        "{\"name\":\"m\",\"platform\":\"predictd\",\"backend\":\"predictd\",\"version_policy\":"
        "{\"latest\":{\"num_versions\":1}},\"max_batch_size\":16,\"input\":[{\"name\":\"x\","
        "\"data_type\":\"TYPE_FP32\",\"dims\":[4]}],\"output\":[{\"name\":\"y\","
        "\"data_type\":\"TYPE_FP32\",\"dims\":[3]}],\"dynamic_batching\":"
        "{\"preferred_batch_size\":[4],\"max_queue_delay_microseconds\":0,"
        "\"priority_levels\":3,\"default_priority_level\":2,\"default_queue_policy\":"
        "{\"allow_timeout_override\":true,\"max_queue_size\":1024}}}";
    static const char fixed_config[] =
        "{\"name\":\"fixed\",\"platform\":\"predictd\",\"backend\":\"predictd\","
        "\"version_policy\":{\"latest\":{\"num_versions\":1}},\"max_batch_size\":0,"
        "\"input\":[{\"name\":\"x\",\"data_type\":\"TYPE_FP32\",\"dims\":[2,2]}],"
        "\"output\":[{\"name\":\"y\",\"data_type\":\"TYPE_FP32\",\"dims\":[2,2]}]}";
    static const char *const cases[][2] = {
        {"/v2/health/live", "{\"live\":true}"},
        {"/v2/health/ready?a=1&b=2", "{\"ready\":true}"},
        {"/v2/models/m/ready", "{\"name\":\"m\",\"ready\":true}"},
        {"/v2/models/m/versions/3/ready", "{\"name\":\"m\",\"ready\":true}"},
        {"/v2/models/%6D/ready?test_1=1&test_2=2", "{\"name\":\"m\",\"ready\":true}"},
        {"/v2/models/types", types},
        {"/v2/models/types/versions/1?x", types},
        {"/v2/models/m/config", config},
        {"/v2/models/m/versions/3/config", config},
        {"/v2/models/fixed/config", fixed_config},
    };
    static const char *const server[] = {"/v2", "/v2/", "/v2?a=b"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect("GET", cases[i][0], NULL, NULL, 0, 200, cases[i][1]);
    for (size_t i = 0; i < 3; i++) {
        struct reply *r = client_call(shared.client, shared.server.port, "GET", server[i], NULL, NULL);
        json_t *body = json_loads(r->body, 0, NULL);
        assert_int_equal(r->status, 200);
        assert_string_equal(json_string_value(json_object_get(body, "name")), "predictd");
        assert_true(json_is_string(json_object_get(body, "version")));
        assert_true(json_array_size(json_object_get(body, "extensions")) > 0);
        json_decref(body);
        reply_free(r);
    }
}

static void the_index_tells_what_is_there(void **state)
{
    (void)state;
    expect("POST", "/v2/repository/index", NULL, "", 0, 200,
           "[{\"name\":\"classes\",\"version\":\"1\",\"state\":\"READY\"},"
           "{\"name\":\"fixed\",\"version\":\"1\",\"state\":\"READY\"},"
           "{\"name\":\"image\",\"version\":\"1\",\"state\":\"READY\"},"
           "{\"name\":\"m\",\"version\":\"3\",\"state\":\"READY\"},"
           "{\"name\":\"simple\",\"version\":\"1\",\"state\":\"READY\"},"
           "{\"name\":\"types\",\"version\":\"1\",\"state\":\"READY\"}]");
    expect("POST", "/v2/repository/index", NULL, "{\"ready\":1}", 11, 400,
           "{\"error\":\"Invalid value for 'ready': expected a boolean\"}");
    expect("POST", "/v2/repository/index", NULL, "{", 1, 400, "failed to parse");
}

/* inference in JSON */

static void json_requests_are_answered_in_json(void **state)
{
    static const struct {
        const char *path, *body, *answer;
    } cases[] = {
        /* Triton's quick start: sums and differences, compact */
        {"/v2/models/simple/infer",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1,4],\"datatype\":\"INT32\",\"data\":"
         "[1,2,3,4]},{\"name\":\"INPUT1\",\"shape\":[1,4],\"datatype\":\"INT32\",\"data\":"
         "[1,1,1,1]}]}",
         "{\"model_name\":\"simple\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"OUTPUT0\","
         "\"datatype\":\"INT32\",\"shape\":[1,4],\"data\":[2,3,4,5]},{\"name\":\"OUTPUT1\","
         "\"datatype\":\"INT32\",\"shape\":[1,4],\"data\":[0,1,2,3]}]}"},
        /* members in another order, nested, unknown members, one output, id with an escape */
        {"/v2/models/simple/versions/1/infer?a=b",
         "{\"model_name\":\"simple\",\"outputs\":[{\"name\":\"OUTPUT1\",\"more\":{}}],"
         "\"parameters\":{\"sequence_id\":7,\"priority\":1,\"timeout\":18446744073709551615,\"s\":\"t\",\"d\":1.5,"
         "\"b\":true},\"inputs\":[{\"data\":[[5,6,7,8],[1,2,3,4]],\"datatype\":\"INT32\","
         "\"shape\":[2,4],\"name\":\"INPUT1\",\"parameters\":{\"x\":1}},{\"name\":\"INPUT0\","
         "\"shape\":[2,4],\"datatype\":\"INT32\",\"data\":[0,0,0,0,0,0,0,0]}],"
         "\"id\":\"a\\\"\\u00e9\"}",
         "{\"id\":\"a\\\"\\u00e9\",\"model_name\":\"simple\",\"model_version\":\"1\",\"outputs\":"
         "[{\"name\":\"OUTPUT1\",\"datatype\":\"INT32\",\"shape\":[2,4],\"data\":"
         "[-5,-6,-7,-8,-1,-2,-3,-4]}]}"},
        /* every datatype */
        {"/v2/models/types/infer",
         "{\"inputs\":[{\"name\":\"f\",\"shape\":[1,2],\"datatype\":\"FP32\",\"data\":[0.1,3]},"
         "{\"name\":\"l\",\"shape\":[1],\"datatype\":\"INT64\",\"data\":[-9223372036854775808]},"
         "{\"name\":\"i\",\"shape\":[1,1,2],\"datatype\":\"INT32\",\"data\":[[[-1,2]]]},"
         "{\"name\":\"u\",\"shape\":[1,3],\"datatype\":\"UINT8\",\"data\":[0,128,255]},"
         "{\"name\":\"b\",\"shape\":[1,1],\"datatype\":\"BOOL\",\"data\":[true]}],\"outputs\":[]}",
         "{\"model_name\":\"types\",\"model_version\":\"1\",\"outputs\":["
         "{\"name\":\"F\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[0.1,3.0]},"
         "{\"name\":\"L\",\"datatype\":\"INT64\",\"shape\":[1],\"data\":[-9223372036854775808]},"
         "{\"name\":\"I\",\"datatype\":\"INT32\",\"shape\":[1,1,2],\"data\":[-1,2]},"
         "{\"name\":\"U\",\"datatype\":\"UINT8\",\"shape\":[1,3],\"data\":[0,128,255]},"
         "{\"name\":\"B\",\"datatype\":\"BOOL\",\"shape\":[1,1],\"data\":[true]}]}"},
        /* nested as the shape, by row, and flat */
        {"/v2/models/image/infer",
         X("\"shape\":[2,1,2,2],\"datatype\":\"FP32\",\"data\":[[[[1,2],[3,4]]],[[[5,6],[7,8]]]]"),
         "\"shape\":[2,1,2,2],\"data\":[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0]"},
        {"/v2/models/image/infer",
         X("\"shape\":[2,1,2,2],\"datatype\":\"FP32\",\"data\":[[1,2,3,4],[5,6,7,8]]"),
         "\"data\":[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0]"},
        {"/v2/models/image/infer",
         X("\"shape\":[2,1,2,2],\"datatype\":\"FP32\",\"data\":[1,2,3,4,5,6,7,8]"),
         "\"data\":[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0]"},
        /* a model without a batch */
        {"/v2/models/fixed/infer",
         X("\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[[1,2],[3,4]]"),
         "\"outputs\":[{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":"
         "[1.0,2.0,3.0,4.0]}]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect("POST", cases[i].path, NULL, cases[i].body, strlen(cases[i].body), 200,
               cases[i].answer);
}

static void the_largest_classes_are_named(void **state)
{
    static const char body[] =
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,3],\"datatype\":\"FP32\",\"data\":"
        "[1,3.3,2,7,-1,7]}],\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":%d}}]}";
    static const struct {
        int n;
        const char *answer;
    } cases[] = {
        {1, "\"outputs\":[{\"name\":\"y\",\"datatype\":\"BYTES\",\"shape\":[2,1],\"data\":"
            "[\"3.300000:1:a \\\"b\\\"\",\"7.000000:0:red\"]}]"},
        {2, "\"shape\":[2,2],\"data\":[\"3.300000:1:a \\\"b\\\"\",\"2.000000:2:blue\","
            "\"7.000000:0:red\",\"7.000000:2:blue\"]}]"},
        {1000, "\"shape\":[2,3],\"data\":[\"3.300000:1:a \\\"b\\\"\",\"2.000000:2:blue\","
               "\"1.000000:0:red\",\"7.000000:0:red\",\"7.000000:2:blue\",\"-1.000000:1:a"},
    };
    char text[512];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int size = snprintf(text, sizeof text, body, cases[i].n);
        expect("POST", "/v2/models/classes/infer", NULL, text, (size_t)size, 200,
               cases[i].answer);
    }
}

/* statistics */

static json_t *statistics(const struct fixture *f, const char *path)
{
    struct reply *r = client_call(shared.client, f->port, "GET", path, NULL, NULL);
    assert_int_equal(r->status, 200);
    json_t *root = json_loads(r->body, JSON_REJECT_DUPLICATES, NULL);
    json_t *model = json_array_get(json_object_get(root, "model_stats"), 0);
    assert_non_null(model);
    json_incref(model);
    json_decref(root);
    reply_free(r);
    return model;
}

static json_int_t number(json_t *object, const char *a, const char *b)
{
    json_t *value = json_object_get(object, a);
    if (b)
        value = json_object_get(value, b);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static void statistics_count_rows_batches_and_requests(void **state)
{
    struct fixture f;
    char answer[512];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, (const char *const[]){"--max-batch", "4", NULL});
    json_t *m = statistics(&f, "/v2/models/stats");
    assert_int_equal(number(m, "last_inference", NULL), 0);
    assert_int_equal(number(m, "execution_count", NULL), 0);
    json_decref(m);
    request(f.port, "POST", "/predict", "{\"instances\":[[1,2,3,4]]}", answer, sizeof answer);
    request(f.port, "POST", "/v2/models/m/infer",
            X("\"shape\":[6,4],\"datatype\":\"FP32\",\"data\":[1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4,"
              "1,2,3,4,1,2,3,4]"), answer, sizeof answer);
    request(f.port, "POST", "/v2/models/m/infer", "{}", answer, sizeof answer);
    m = statistics(&f, "/v2/models/m/versions/1/stats");
    assert_int_equal(number(m, "inference_count", NULL), 7);
    assert_int_equal(number(m, "execution_count", NULL), 3);
    json_t *s = json_object_get(m, "inference_stats");
    assert_int_equal(number(s, "success", "count"), 2);
    assert_int_equal(number(s, "fail", "count"), 1);
    assert_true(number(s, "fail", "ns") > 0);
    static const char *const stages[] = {"queue", "compute_input", "compute_infer",
                                         "compute_output"};
    json_int_t sum = 0;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(number(s, stages[i], "count"), i == 1 ? 3 : 2);
        assert_true(number(s, stages[i], "ns") > 0);
        sum += number(s, stages[i], "ns");
    }
    assert_true(sum <= number(s, "success", "ns") + number(s, "fail", "ns"));
    assert_int_equal(number(s, "cache_hit", "count") + number(s, "cache_miss", "ns"), 0);
    assert_true(number(m, "last_inference", NULL) / 1000 >= (json_int_t)time(NULL) - 60);
    assert_true(number(m, "last_inference", NULL) / 1000 <= (json_int_t)time(NULL) + 1);
    json_t *b = json_object_get(m, "batch_stats");
    static const int sizes[] = {1, 2, 4};
    assert_int_equal(json_array_size(b), 3);
    for (size_t i = 0; i < 3; i++) {
        json_t *one = json_array_get(b, i);
        assert_int_equal(number(one, "batch_size", NULL), sizes[i]);
        assert_int_equal(json_integer_value(json_object_get(
                             json_object_get(one, "compute_infer"), "count")), 1);
        assert_true(number(one, "compute_infer", "ns") > 0);
        assert_true(number(one, "compute_input", "ns") > 0 || sizes[i] == 4);
    }
    json_decref(m);
    fixture_end(&f);
}

/* Four requests of each protocol, so that a batch of five rows has both in it. */
static void requests_of_two_protocols_share_a_batch(void **state)
{
    enum { EACH = 4, ROUNDS = 500 };
    static const char v2[] = "{\"inputs\":[{\"name\":\"x\"," GOOD "}]}";
    static const char own[] = "{\"instances\":[[-4,3,-2,1]]}";
    struct fixture f;
    char texts[2][512], answers[2][512] = {"", ""}, body[512];
    int fds[2 * EACH];
    bool mixed = false;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, (const char *const[]){"--threads", "1", NULL});
    snprintf(texts[0], sizeof texts[0],
             "POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n%s",
             sizeof own - 1, own);
    snprintf(texts[1], sizeof texts[1],
             "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n%s",
             sizeof v2 - 1, v2);
    request(f.port, "POST", "/predict", own, answers[0], sizeof answers[0]);
    request(f.port, "POST", "/v2/models/m/infer", v2, answers[1], sizeof answers[1]);
    for (int i = 0; i < 2 * EACH; i++)
        fds[i] = socket_connect(f.port);
    for (int round = 0; round < ROUNDS && !mixed; round++) {
        for (int i = 0; i < 2 * EACH; i++)
            socket_send(fds[i], texts[i % 2]);
        for (int i = 0; i < 2 * EACH; i++) {
            assert_int_equal(socket_answer(fds[i], body, sizeof body), 200);
            assert_string_equal(body, answers[i % 2]);
        }
        json_t *m = statistics(&f, "/v2/models/m/stats"), *b;
        size_t index;
        json_array_foreach(json_object_get(m, "batch_stats"), index, b)
            mixed |= number(b, "batch_size", NULL) > EACH;
        assert_true(number(m, "inference_count", NULL) >= number(m, "execution_count", NULL));
        json_decref(m);
    }
    assert_true(mixed);
    for (int i = 0; i < 2 * EACH; i++)
        close(fds[i]);
    fixture_end(&f);
}

/* the repository */

static void a_model_is_loaded_over_the_admin_port(void **state)
{
    static const struct {
        const char *path, *body;
        int status;
        const char *answer;
    } cases[] = {
        {"/v2/repository/models/m/load", "", 200, ""},
        {"/v2/repository/models/m/load", "{\"parameters\":{}}", 200, ""},
        {"/v2/repository/models/m/load", "{\"parameters\":{\"file:1/model.x\":\"AAAA\"}}", 400,
         "{\"error\":\"load takes no parameters: a model is loaded as it lies in the folder of "
         "models\"}"},
        {"/v2/repository/models/m/load", "[]", 400,
         "{\"error\":\"expected {\\\"parameters\\\": {…}} or nothing\"}"},
        {"/v2/repository/models/m/load", "{\"parameters\":[]}", 400,
         "{\"error\":\"parameters: expected an object\"}"},
        {"/v2/repository/models/none/load", NULL, 404,
         "{\"error\":\"failed to load 'none', there is no such model\"}"},
        {"/v2/repository/models/..%2Fx/load", NULL, 404,
         "{\"error\":\"failed to load '../x', there is no such model\"}"},
        {"/v2/repository/models/m/unload", NULL, 400,
         "{\"error\":\"failed to unload 'm', which needs --model-control explicit: without it a "
         "model goes when its folder does\"}"},
    };
    struct fixture f;
    char answer[1024];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    publish_linear(f.models, "m", 2, 2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status = request(f.admin_port, "POST", cases[i].path, cases[i].body, answer,
                             sizeof answer);
        assert_string_equal(answer, cases[i].answer);
        assert_int_equal(status, cases[i].status);
    }
    request(f.port, "POST", "/v2/repository/index", "", answer, sizeof answer);
    assert_string_equal(answer, "[{\"name\":\"m\",\"version\":\"2\",\"state\":\"READY\"}]");
    publish_bytes(f.models, "m", 3, "broken", 6);
    assert_int_equal(request(f.admin_port, "POST", "/v2/repository/models/m/load", "", answer,
                             sizeof answer), 500);
    assert_ptr_equal(strstr(answer, "{\"error\":\"failed to load 'm', "), answer);
    assert_int_equal(request(f.port, "GET", "/v2/models/m/versions/2/ready", NULL, answer,
                             sizeof answer), 200);
    fixture_end(&f);
}

static void a_model_that_is_broken_is_not_ready(void **state)
{
    struct fixture f;
    char answer[1024] = "";
    (void)state;
    fixture_open(&f);
    publish_bytes(f.models, "bad", 1, "broken", 6);
    fixture_start(&f, NULL);
    for (int i = 0; i < 1000 && !strstr(answer, "UNAVAILABLE"); i++) {
        request(f.port, "POST", "/v2/repository/index", "", answer, sizeof answer);
        usleep(10000);
    }
    assert_ptr_equal(strstr(answer, "[{\"name\":\"bad\",\"state\":\"UNAVAILABLE\",\"reason\":\""),
                     answer);
    request(f.port, "POST", "/v2/repository/index", "{\"ready\":true}", answer, sizeof answer);
    assert_string_equal(answer, "[]");
    int status = request(f.port, "GET", "/v2/models/bad/ready", NULL, answer, sizeof answer);
    assert_int_equal(status, 503);
    assert_non_null(strstr(answer, "is not at ready state"));
    assert_int_equal(request(f.port, "GET", "/v2/health/ready", NULL, answer, sizeof answer), 503);
    assert_int_equal(request(f.port, "GET", "/v2/health/live", NULL, answer, sizeof answer), 200);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_requests_are_told_what_is_wrong),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(a_header_length_outside_the_body_is_refused),
        cmocka_unit_test(paths_and_methods_that_do_not_exist_are_refused),
        cmocka_unit_test(health_and_metadata_are_answered),
        cmocka_unit_test(the_index_tells_what_is_there),
        cmocka_unit_test(json_requests_are_answered_in_json),
        cmocka_unit_test(the_largest_classes_are_named),
        cmocka_unit_test(statistics_count_rows_batches_and_requests),
        cmocka_unit_test(requests_of_two_protocols_share_a_batch),
        cmocka_unit_test(a_model_is_loaded_over_the_admin_port),
        cmocka_unit_test(a_model_that_is_broken_is_not_ready),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
