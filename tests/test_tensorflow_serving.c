/*
 * TensorFlow Serving's REST interface as its clients speak it: the cases and numbers of its own
 * documentation and tests (api_rest.md, saved_model_half_plus_two).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <unistd.h>

#include "tests/server_fixture.h"

#define PORT(name, datatype, shape) \
    "{\"name\":\"" name "\",\"datatype\":\"" datatype "\",\"shape\":" shape "}"
#define IDENTITY(x, y) "{\"op\":\"Identity\",\"inputs\":[\"" x "\"],\"outputs\":[\"" y "\"]}"

/* y = x / 2 + 2 */
#define HALF_PLUS_TWO(shape)                                                                  \
    "{\"inputs\":[" PORT("x", "FP32", shape) "],\"nodes\":["                                  \
    "{\"op\":\"Mul\",\"inputs\":[\"x\",\"half\"],\"outputs\":[\"h\"]},"                       \
    "{\"op\":\"Add\",\"inputs\":[\"h\",\"two\"],\"outputs\":[\"y\"]}],\"outputs\":[\"y\"]}"

static const char pair_graph[] =
    "{\"inputs\":[" PORT("a", "FP32", "[-1,2]") "," PORT("b", "INT64", "[-1]") "],"
    "\"nodes\":[" IDENTITY("a", "c") "," IDENTITY("b", "d") "],\"outputs\":[\"c\",\"d\"]}";
static const char classes_graph[] =
    "{\"inputs\":[" PORT("x", "FP32", "[-1,3]") "],\"nodes\":[" IDENTITY("x", "y") "],"
    "\"outputs\":[\"y\"]}";

static const char sum_graph[] =
    "{\"inputs\":[" PORT("x", "FP32", "[-1,2]") "],\"nodes\":[{\"op\":\"ReduceSum\","
    "\"inputs\":[\"x\"],\"outputs\":[\"y\"]}],\"outputs\":[\"y\"]}";

/* An input of rank 0, alone and beside rows. */
static const char scalar_graph[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[]}],\"nodes\":[{\"op\":"
    "\"Neg\",\"inputs\":[\"x\"],\"outputs\":[\"y\"]}],\"outputs\":[\"y\"]}";
static const char scaled_graph[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]},{\"name\":\"scale\","
    "\"datatype\":\"FP32\",\"shape\":[]}],\"nodes\":[{\"op\":\"Mul\",\"inputs\":[\"x\",\"scale\"],"
    "\"outputs\":[\"y\"]}],\"outputs\":[\"y\"]}";

static struct fixture shared;
static struct client *client;

static void publish_half_plus_two(const char *name, int version, const char *graph)
{
    static const float values[] = {0.5f, 2};
    publish_bundle(shared.models, name, version, graph,
                   "\"half\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                   "\"two\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}",
                   values, sizeof values);
}

static int open_shared(void **state)
{
    static const char *const arguments[] = {"--max-instances", "8", "--max-batch", "2", NULL};
    (void)state;
    fixture_open(&shared);
    publish_half_plus_two("default", 123, HALF_PLUS_TWO("[-1]"));
    publish_half_plus_two("matrix", 1, HALF_PLUS_TWO("[-1,2]"));
    publish_half_plus_two("single", 1, HALF_PLUS_TWO("[-1,1]"));
    publish_graph(shared.models, "pair", 1, pair_graph, NULL);
    publish_graph(shared.models, "sum", 1, sum_graph, NULL);
    publish_graph(shared.models, "scalar", 1, scalar_graph, NULL);
    publish_graph(shared.models, "scaled", 1, scaled_graph, NULL);
    publish_graph(shared.models, "classes", 1, classes_graph, "[\"red\",\"green\",\"blue\"]");
    fixture_serve(&shared, arguments);
    client = client_new();
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    client_free(client);
    fixture_end(&shared);
    return 0;
}

struct exchange {
    const char *method, *path, *send;
    int status;
    const char *answer;         /* the whole when it begins with a brace, else a part */
};

static void expect(const struct exchange *e)
{
    struct reply *r = client_call(client, shared.port, e->method, e->path, NULL, e->send);
    bool equal = *e->answer == '{' ? strcmp(r->body, e->answer) == 0
                                   : strstr(r->body, e->answer) != NULL;
    if (r->status != e->status || !equal)
        print_message("%s %s %s: %d %s\n", e->method, e->path, e->send ? e->send : "",
                      r->status, r->body);
    assert_int_equal(r->status, e->status);
    if (!equal)
        assert_string_equal(r->body, e->answer);
    reply_free(r);
}

#define EXPECT_ALL(exchanges)                                                                 \
    for (size_t i = 0; i < sizeof exchanges / sizeof exchanges[0]; i++)                       \
        expect(&exchanges[i])

static void malformed_requests_are_refused(void **state)
{
    static const struct exchange exchanges[] = {
        {"GET", "/v1/foo", NULL, 400, "{\"error\":\"Malformed request: GET /v1/foo\"}"},
        {"POST", "/v1/foo", "{}", 400, "{\"error\":\"Malformed request: POST /v1/foo\"}"},
        {"POST", "/v1/models", "{}", 400, "{\"error\":\"Malformed request: POST /v1/models\"}"},
        {"GET", "/v1/models/default:predict?a=b", NULL, 400,
         "{\"error\":\"Malformed request: GET /v1/models/default:predict\"}"},
        {"POST", "/v1/models/default:explain", "{}", 400, "Malformed request: POST "},
        {"POST", "/v1/models/default", "{}", 400, "Malformed request: POST "},
        {"POST", "/v1/models/default/metadata", "{}", 400, "Malformed request: POST "},
        {"POST", "/v1/models/default/version/50:predict", "{}", 400, "Malformed request: "},
        {"POST", "/v1/models/default/versions/HELLO:predict", "{}", 400, "Malformed request: "},
        {"POST", "/v1/models/default/versions/123/labels/a:predict", "{}", 400,
         "Malformed request: "},
        {"PUT", "/v1/models/default", "{}", 400,
         "{\"error\":\"Malformed request: PUT /v1/models/default\"}"},
        {"DELETE", "/v1/models/default", NULL, 400, "Malformed request: DELETE /v1/models/def"},
        {"PURGE", "/v1/models/default", NULL, 400,
         "{\"error\":\"Malformed request: PURGE /v1/models/default\"}"},
        {"GET", "/v1/models", NULL, 400, "{\"error\":\"Missing model name in request.\"}"},
        {"POST", "/v1/models/default/versions/9223372036854775808:predict", "{}", 400,
         "{\"error\":\"Failed to convert version: 9223372036854775808\"}"},
        {"POST", "/v1/models/none:predict", "{\"instances\":[1]}", 404,
         "{\"error\":\"Servable not found for request: Latest(none)\"}"},
        {"GET", "/v1/models/none", NULL, 404,
         "{\"error\":\"Servable not found for request: Latest(none)\"}"},
        {"POST", "/v1/models/default/versions/99:predict", "{\"instances\":[1]}", 404,
         "{\"error\":\"Servable not found for request: Specific(default, 99)\"}"},
        {"POST", "/v1/models/default/labels/canary:predict", "{\"instances\":[1]}", 400,
         "{\"error\":\"Unrecognized servable version label: canary\"}"},
    };
    (void)state;
    EXPECT_ALL(exchanges);
}

#define PREDICT(model, body, answer) {"POST", "/v1/models/" model ":predict", body, 400, answer}

static void bad_bodies_are_told_what_is_wrong(void **state)
{
    static const struct exchange exchanges[] = {
        PREDICT("default", "", "{\"error\":\"JSON Parse error: The document is empty\"}"),
        PREDICT("default", "this is not json", "JSON Parse error: expected "),
        PREDICT("default", "{\"instances\":[1]", "JSON Parse error: unexpected end"),
        PREDICT("default", "{\"instances\":[1]} x", "JSON Parse error: expected nothing more"),
        PREDICT("default", "{\"instances\":[NaN]}", "JSON Parse error: "),
        PREDICT("default", "[1]", "Expecting the request to be an object, got an array"),
        PREDICT("default", "{\"instances\":[\"x\"]}",
                "JSON Value is not of expected type: instances[0]: expected a number, got a "
                "string (byte 14)"),
        PREDICT("default", "{\"instances\":[{\"b64\":\"aGk=\"}]}",
                "JSON Value is not of expected type: instances[0]: expected a number, got a "
                "string in base64: no input takes strings (byte 15)"),
        PREDICT("default", "{\"inputs\":{\"b64\":\"aGk=\"}}",
                "JSON Value is not of expected type: inputs: expected a number, got a string in "
                "base64: no input takes strings (byte 11)"),
        PREDICT("default", "{\"signature_name\":1,\"instances\":[1]}",
                "{\"error\":\"'signature_name' key must be a string value.\"}"),
        PREDICT("default", "{\"signature_name\":\"other\",\"instances\":[1]}",
                "Serving signature name: \\\"other\\\" not found in signature def"),
        PREDICT("default", "{}", "{\"error\":\"Missing 'inputs' or 'instances' key\"}"),
        PREDICT("default", "{\"examples\":[{\"x\":1}]}", "Missing 'inputs' or 'instances' key"),
        PREDICT("default", "{\"instances\":[1],\"inputs\":[1]}",
                "expecting only one of 'inputs' or 'instances' keys to exist"),
        PREDICT("default", "{\"instances\":[1],\"instances\":[1]}", "'instances' is there twice"),
        PREDICT("default", "{\"instances\":7}",
                "{\"error\":\"Expecting 'instances' to be an list/array\"}"),
        PREDICT("default", "{\"instances\":[]}", "{\"error\":\"No values in 'instances' array\"}"),
        PREDICT("default", "{\"instances\":[1,2,3,4,5,6,7,8,9]}", "more than 8 instances"),
        PREDICT("default", "{\"inputs\":[]}", "expected at least one instance, got none"),
        PREDICT("default", "{\"inputs\":1}", "JSON Value is not of expected type: inputs.x: "),
        PREDICT("pair", "{\"instances\":[[1,2],[3,4]]}",
                "{\"error\":\"instances is a plain list, but expecting list of objects as "
                "multiple input tensors required as per tensorinfo_map\"}"),
        PREDICT("pair", "{\"instances\":[{\"a\":[1,2]}]}", "keys must be equal to: a,b: "),
        PREDICT("pair", "{\"instances\":[{\"a\":[1,2],\"b\":1,\"z\":1}]}",
                "keys must be equal to: a,b: "),
        PREDICT("pair", "{\"instances\":[{\"a\":[1,2],\"b\":1.5}]}",
                "JSON Value is not of expected type: instances[0].b: expected a whole number "
                "(INT64), got 1.5"),
        PREDICT("pair", "{\"inputs\":[1]}", "expected an object of inputs by name"),
        PREDICT("pair", "{\"inputs\":{\"a\":[[1,2]],\"b\":[1,2]}}",
                "\\\"a\\\" has 1 rows, but \\\"b\\\" has 2"),
        PREDICT("matrix", "{\"instances\":[[1,2],[3]]}",
                "Encountered list at unexpected size: instances[1]: expected 2 numbers, got 1"),
        PREDICT("matrix", "{\"instances\":[[1,2],[3,4,5]]}",
                "Encountered list at unexpected size: instances[1]: expected 2 numbers, got more"),
        {"POST", "/v1/models/default:regress", "{\"instances\":[1]}", 400,
         "{\"error\":\"Missing 'examples' key\"}"},
        {"POST", "/v1/models/default:regress", "{\"examples\":{}}", 400,
         "{\"error\":\"Expecting 'examples' to be an list/array\"}"},
        {"POST", "/v1/models/default:regress", "{\"examples\":[]}", 400,
         "{\"error\":\"No values in 'examples' array\"}"},
        {"POST", "/v1/models/default:regress", "{\"examples\":[1]}", 400,
         "{\"error\":\"Expecting 'examples' to be a list of objects\"}"},
        {"POST", "/v1/models/default:regress", "{\"context\":{},\"examples\":[{\"x\":1}]}", 400,
         "'context' is not supported"},
        {"POST", "/v1/models/default:regress", "{\"examples\":[{\"z\":1}]}", 400,
         "keys must be equal to: x: examples[0]: the model has no input"},
        {"POST", "/v1/models/classes:regress", "{\"examples\":[{\"x\":[1,2,3]}]}", 400,
         "Expecting a model that answers row by row, first of all with one value for each"},
        {"POST", "/v1/models/sum:classify", "{\"examples\":[{\"x\":[1,2]},{\"x\":[3,4]}]}", 400,
         "Expecting a model that answers row by row, first of all with the scores of each"},
    };
    (void)state;
    EXPECT_ALL(exchanges);
}

#undef PREDICT
#define PREDICT(model, body, answer) {"POST", "/v1/models/" model ":predict", body, 200, answer}

static void predictions_are_answered_by_row_and_by_column(void **state)
{
    static const struct exchange exchanges[] = {
        PREDICT("default", "{\"instances\":[2.0,3.0,4.0]}", "{\"predictions\":[3.0,3.5,4.0]}"),
        PREDICT("default/versions/123", "{\"instances\":[1.0, 2.0, 5.0]}",
                "{\"predictions\":[2.5,3.0,4.5]}"),
        PREDICT("d%65fault", "{\"signature_name\":\"serving_default\",\"instances\":[1,2]}",
                "{\"predictions\":[2.5,3.0]}"),
        PREDICT("default",
                "{\"more\":{\"a\":[]},\"instances\":[{\"x\":1},{\"x\":2}],"
                "\"signature_name\":\"\"}",
                "{\"predictions\":[2.5,3.0]}"),
        PREDICT("default", "{\"inputs\":[3.0,4.0]}", "{\"outputs\":[3.5,4.0]}"),
        PREDICT("default", "{\"inputs\":{\"x\":[3.0,4.0,0,0,0]}}",
                "{\"outputs\":[3.5,4.0,2.0,2.0,2.0]}"),
        PREDICT("matrix", "{\"instances\":[[1.0,2.0],[3.0,4.0]]}",
                "{\"predictions\":[[2.5,3.0],[3.5,4.0]]}"),
        PREDICT("matrix", "{\"inputs\":[[1.0,2.0],[3.0,4.0],[0,0]]}",
                "{\"outputs\":[[2.5,3.0],[3.5,4.0],[2.0,2.0]]}"),
        PREDICT("single", "{\"instances\":[1.0,[2.0]]}", "{\"predictions\":[[2.5],[3.0]]}"),
        PREDICT("pair", "{\"instances\":[{\"a\":[1,2],\"b\":3},{\"b\":6,\"a\":[4,5]}]}",
                "{\"predictions\":[{\"c\":[1.0,2.0],\"d\":3},{\"c\":[4.0,5.0],\"d\":6}]}"),
        PREDICT("sum", "{\"instances\":[[1,2],[3,4]]}", "{\"predictions\":[[10.0]]}"),
        PREDICT("sum", "{\"inputs\":[[1,2],[3,4]]}", "{\"outputs\":[[10.0]]}"),
        PREDICT("scalar", "{\"inputs\":2.5}", "{\"outputs\":-2.5}"),
        PREDICT("scalar", "{\"inputs\":{\"x\":[2.5]}}", "{\"outputs\":-2.5}"),
        PREDICT("scalar", "{\"instances\":[2.5]}", "{\"predictions\":[-2.5]}"),
        PREDICT("scaled", "{\"inputs\":{\"scale\":2,\"x\":[[1,2],[3,4]]}}",
                "{\"outputs\":[[2.0,4.0],[6.0,8.0]]}"),
        PREDICT("pair", "{\"inputs\":{\"b\":[3,6,9],\"a\":[[1,2],[4,5],[7,8]]}}",
                "{\"outputs\":{\"c\":[[1.0,2.0],[4.0,5.0],[7.0,8.0]],\"d\":[3,6,9]}}"),
    };
    (void)state;
    EXPECT_ALL(exchanges);
}

static void examples_are_classified_and_regressed(void **state)
{
    static const struct exchange exchanges[] = {
        {"POST", "/v1/models/default:regress", "{\"examples\":[{\"x\":80.0}]}", 200,
         "{\"results\":[42.0]}"},
        {"POST", "/v1/models/single/versions/1:regress",
         "{\"signature_name\":\"serving_default\",\"examples\":[{\"x\":80.0},{\"x\":[90.0]},"
         "{\"x\":[2]}]}",
         200, "{\"results\":[42.0,47.0,3.0]}"},
        {"POST", "/v1/models/single:classify", "{\"examples\":[{\"x\":20.0}]}", 200,
         "{\"results\":[[[\"\",12.0]]]}"},
        {"POST", "/v1/models/classes:classify",
         "{\"examples\":[{\"x\":[0.5,0.25,0.25]},{\"x\":[0,0,1]},{\"x\":[1,0,0]}]}", 200,
         "{\"results\":[[[\"red\",0.5],[\"green\",0.25],[\"blue\",0.25]],"
         "[[\"red\",0.0],[\"green\",0.0],[\"blue\",1.0]],"
         "[[\"red\",1.0],[\"green\",0.0],[\"blue\",0.0]]]}"},
    };
    (void)state;
    EXPECT_ALL(exchanges);
}

static void status_and_metadata_are_answered(void **state)
{
#define AVAILABLE                                                                             \
    "{\"model_version_status\":[{\"version\":\"123\",\"state\":\"AVAILABLE\",\"status\":"     \
    "{\"error_code\":\"OK\",\"error_message\":\"\"}}]}"
    static const struct exchange exchanges[] = {
        {"GET", "/v1/models/default", NULL, 200, AVAILABLE},
        {"GET", "/v1/models/default/versions/123?x=y", NULL, 200, AVAILABLE},
        {"GET", "/v1/models/pair/versions/1/metadata", NULL, 200,
         "{\"model_spec\":{\"name\":\"pair\",\"signature_name\":\"\",\"version\":\"1\"},"
         "\"metadata\":{\"signature_def\":{\"signature_def\":{\"serving_default\":{\"inputs\":{"
         "\"a\":{\"dtype\":\"DT_FLOAT\",\"tensor_shape\":{\"dim\":[{\"size\":\"-1\",\"name\":"
         "\"\"},{\"size\":\"2\",\"name\":\"\"}],\"unknown_rank\":false},\"name\":\"a\"},"
         "\"b\":{\"dtype\":\"DT_INT64\",\"tensor_shape\":{\"dim\":[{\"size\":\"-1\",\"name\":"
         "\"\"}],\"unknown_rank\":false},\"name\":\"b\"}},\"outputs\":{"
         "\"c\":{\"dtype\":\"DT_FLOAT\",\"tensor_shape\":{\"dim\":[{\"size\":\"-1\",\"name\":"
         "\"\"},{\"size\":\"2\",\"name\":\"\"}],\"unknown_rank\":false},\"name\":\"c\"},"
         "\"d\":{\"dtype\":\"DT_INT64\",\"tensor_shape\":{\"dim\":[{\"size\":\"-1\",\"name\":"
         "\"\"}],\"unknown_rank\":false},\"name\":\"d\"}},"
         "\"method_name\":\"tensorflow/serving/predict\"}}}}}"},
    };
    (void)state;
    EXPECT_ALL(exchanges);
}

static void a_model_that_is_broken_is_not_available(void **state)
{
    struct fixture f;
    char answer[1024] = "";
    (void)state;
    fixture_open(&f);
    publish_bytes(f.models, "bad", 1, "broken", 6);
    fixture_start(&f, NULL);
    for (int i = 0; i < 1000 && !strstr(answer, "END"); i++) {
        request(f.port, "GET", "/v1/models/bad", NULL, answer, sizeof answer);
        usleep(10000);
    }
    static const char expected[] =
        "{\"model_version_status\":[{\"version\":\"1\",\"state\":\"END\",\"status\":"
        "{\"error_code\":\"UNKNOWN\",\"error_message\":\"";
    if (strstr(answer, expected) != answer)
        assert_string_equal(answer, expected);
    assert_int_equal(request(f.port, "POST", "/v1/models/bad:predict", "{\"instances\":[1]}",
                             answer, sizeof answer),
                     503);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_requests_are_refused),
        cmocka_unit_test(bad_bodies_are_told_what_is_wrong),
        cmocka_unit_test(predictions_are_answered_by_row_and_by_column),
        cmocka_unit_test(examples_are_classified_and_regressed),
        cmocka_unit_test(status_and_metadata_are_answered),
        cmocka_unit_test(a_model_that_is_broken_is_not_available),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
