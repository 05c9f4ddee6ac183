/*
 * Tensors of every datatype over the wire: JSON and binary data of the Open Inference Protocol,
 * TensorFlow Serving's JSON, and our own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/open_inference.h"

/* A model for each, named like its datatype: y = x, [-1, 2]. */
static const struct row {
    const char *datatype, *tensorflow;
    size_t size;
    const char *numbers;        /* two of them as JSON */
    const char *answer;         /* the same as they are written */
    const char *bad[3];         /* what is no element: the second of two */
    const char *reasons[3];
    unsigned char bits[16];     /* two elements, little-endian */
    bool binary_only;           /* in the Open Inference Protocol */
} rows[] = {
    {"FP32", "DT_FLOAT", 4, "0.1, -3e38", "0.1,-3e38", {"3.5e38", "\"1\"", "true"},
     {"3.5e38 is outside the range of FP32", "expected a number, got a string",
      "expected a number, got a boolean"},
     {1, 0, 0x80, 0x7f, 0, 0, 0, 0x80}, false},      /* a signalling NaN, -0 */
    {"FP64", "DT_DOUBLE", 8, "0.1, -1.7976931348623157e308", "0.1,-1.7976931348623157e308",
     {"1.8e308", "-1e400", "null"},
     {"1.8e308 is outside the range of FP64", "-1e400 is outside the range of FP64",
      "expected a number, got null"},
     {1, 0, 0, 0, 0, 0, 0xf0, 0x7f, 1, 0, 0, 0, 0, 0, 0, 0}, false},
    {"FP16", "DT_HALF", 2, "-65504, 5.9604644775390625e-8", "-65504.0,5.9604645e-8",
     {"65520", "-1e39", "[1]"},
     {"65520 is outside the range of FP16", "-1e39 is outside the range of FP16",
      "expected a number, got an array"},
     {1, 0x7c, 0xff, 0xff}, true},
    {"BF16", "DT_BFLOAT16", 2, "1.00390625, -3e38", "1.0,-3.0040553e38",
     {"3.4e38", "1e39", "{}"},
     {"3.4e38 is outside the range of BF16", "1e39 is outside the range of BF16",
      "expected a number, got an object"},
     {0x81, 0x7f, 1, 0}, true},
    {"INT8", "DT_INT8", 1, "-128, 127", "-128,127", {"128", "-129", "1.5"},
     {"128 is outside the range of INT8", "-129 is outside the range of INT8",
      "expected a whole number (INT8), got 1.5"},
     {0x80, 0x7f}, false},
    {"INT16", "DT_INT16", 2, "-32768, 32767", "-32768,32767", {"32768", "-32769", "1e2"},
     {"32768 is outside the range of INT16", "-32769 is outside the range of INT16",
      "expected a whole number (INT16), got 1e2"},
     {0, 0x80, 0xff, 0x7f}, false},
    {"INT32", "DT_INT32", 4, "-2147483648, 2147483647", "-2147483648,2147483647",
     {"2147483648", "-2147483649", "1.0"},
     {"2147483648 is outside the range of INT32", "-2147483649 is outside the range of INT32",
      "expected a whole number (INT32), got 1.0"},
     {0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0x7f}, false},
    {"INT64", "DT_INT64", 8, "-9223372036854775808, 9223372036854775807",
     "-9223372036854775808,9223372036854775807",
     {"9223372036854775808", "-9223372036854775809", "false"},
     {"9223372036854775808 is outside the range of INT64",
      "-9223372036854775809 is outside the range of INT64", "expected a number, got a boolean"},
     {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, false},
    {"UINT8", "DT_UINT8", 1, "0, 255", "0,255", {"256", "-1", "0.5"},
     {"256 is outside the range of UINT8", "-1 is outside the range of UINT8",
      "expected a whole number (UINT8), got 0.5"},
     {0, 255}, false},
    {"UINT16", "DT_UINT16", 2, "0, 65535", "0,65535", {"65536", "-1", "\"\""},
     {"65536 is outside the range of UINT16", "-1 is outside the range of UINT16",
      "expected a number, got a string"},
     {1, 0, 0xff, 0xff}, false},
    {"UINT32", "DT_UINT32", 4, "0, 4294967295", "0,4294967295", {"4294967296", "-1", "1e1"},
     {"4294967296 is outside the range of UINT32", "-1 is outside the range of UINT32",
      "expected a whole number (UINT32), got 1e1"},
     {1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, false},
    {"UINT64", "DT_UINT64", 8, "9223372036854775808, 18446744073709551615",
     "9223372036854775808,18446744073709551615", {"18446744073709551616", "-1", "1.5"},
     {"18446744073709551616 is outside the range of UINT64",
      "-1 is outside the range of UINT64", "expected a whole number (UINT64), got 1.5"},
     {1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, false},
    {"BOOL", "DT_BOOL", 1, "true, 0", "true,false", {"2", "-1", "\"true\""},
     {"2 is outside the range of BOOL", "-1 is outside the range of BOOL",
      "expected a boolean, got a string"},
     {1, 0}, false},
};

#define FOR_EACH(row) \
    for (const struct row *row = rows; row < rows + sizeof rows / sizeof rows[0]; row++)

static struct v2_client c;

static int open_server(void **state)
{
    (void)state;
    fixture_open(&c.server);
    FOR_EACH(row)
    {
        char graph[512];
        snprintf(graph, sizeof graph,
                 "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"%s\",\"shape\":[-1,2]}],\"nodes\":"
                 "[{\"op\":\"Identity\",\"inputs\":[\"x\"],\"outputs\":[\"y\"]}],\"outputs\":"
                 "[\"y\"]}",
                 row->datatype);
        publish_graph(c.server.models, row->datatype, 1, graph, NULL);
    }
    publish_graph(c.server.models, "twice", 1,
                  "{\"inputs\":[" PORT("x", "FP32", "[-1,2]") "],\"nodes\":[" IDENTITY(
                      "x", "y") "," IDENTITY("x", "z") "],\"outputs\":[\"y\",\"z\"]}",
                  "[\"no\",\"yes\"]");
    fixture_serve(&c.server, (const char *const[]){"--threads", "1", NULL});
    c.client = client_new();
    return 0;
}

static int close_server(void **state)
{
    (void)state;
    client_free(c.client);
    fixture_end(&c.server);
    return 0;
}

/* A path and a body, each a format for the row's datatype and what follows. */
static char path[128], body[1024], wanted[1024];

static void post(int status, const char *answer)
{
    v2_expect(&c, "POST", path, NULL, body, strlen(body), status, answer);
}

static void set_v2_body(const struct row *row, const char *numbers, const char *outputs)
{
    snprintf(path, sizeof path, "/v2/models/%s/infer", row->datatype);
    snprintf(body, sizeof body,
             "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"%s\",\"shape\":[1,2],\"data\":[%s]}]%s}",
             row->datatype, numbers, outputs);
}

static void numbers_out_of_range_are_refused_with_their_place(void **state)
{
    (void)state;
    FOR_EACH(row)
    {
        char first[64];
        snprintf(first, sizeof first, "%.*s", (int)strcspn(row->numbers, ","), row->numbers);
        for (int i = 0; i < 3; i++) {
            char numbers[128];
            snprintf(numbers, sizeof numbers, "%s,%s", first, row->bad[i]);
            if (!row->binary_only) {
                set_v2_body(row, numbers, "");
                snprintf(wanted, sizeof wanted, "inputs.x[1]: %s (byte ", row->reasons[i]);
                post(400, wanted);
            }
            snprintf(wanted, sizeof wanted, "instances[0][1]: %s (byte ", row->reasons[i]);
            snprintf(body, sizeof body, "{\"instances\":[[%s]]}", numbers);
            snprintf(path, sizeof path, "/models/%s/predict", row->datatype);
            post(400, wanted);
            snprintf(path, sizeof path, "/v1/models/%s:predict", row->datatype);
            post(400, wanted);
        }
    }
}

static void numbers_come_back_as_json(void **state)
{
    (void)state;
    FOR_EACH(row)
    {
        if (!row->binary_only) {
            set_v2_body(row, row->numbers, "");
            snprintf(wanted, sizeof wanted,
                     "{\"model_name\":\"%s\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"y\","
                     "\"datatype\":\"%s\",\"shape\":[1,2],\"data\":[%s]}]}",
                     row->datatype, row->datatype, row->answer);
            post(200, wanted);
        }
        snprintf(path, sizeof path, "/models/%s/predict", row->datatype);
        snprintf(body, sizeof body, "{\"instances\":[[%s]]}", row->numbers);
        snprintf(wanted, sizeof wanted, "{\"predictions\":[[%s]],\"model_name\":\"%s\"",
                 row->answer, row->datatype);
        v2_expect_begin(&c, path, body, 200, wanted);

        snprintf(path, sizeof path, "/v1/models/%s:predict", row->datatype);
        snprintf(wanted, sizeof wanted, "{\"predictions\":[[%s]]}", row->answer);
        post(200, wanted);
        snprintf(body, sizeof body, "{\"inputs\":{\"x\":[[%s]]}}", row->numbers);
        snprintf(wanted, sizeof wanted, "{\"outputs\":[[%s]]}", row->answer);
        post(200, wanted);
    }
}

static void metadata_names_every_datatype(void **state)
{
    (void)state;
    FOR_EACH(row)
    {
        snprintf(path, sizeof path, "/v2/models/%s", row->datatype);
        snprintf(wanted, sizeof wanted, "\"inputs\":[{\"name\":\"x\",\"datatype\":\"%s\"",
                 row->datatype);
        v2_expect(&c, "GET", path, NULL, NULL, 0, 200, wanted);
        snprintf(path, sizeof path, "/v2/models/%s/config", row->datatype);
        snprintf(wanted, sizeof wanted, "\"data_type\":\"TYPE_%s\"", row->datatype);
        v2_expect(&c, "GET", path, NULL, NULL, 0, 200, wanted);
        snprintf(path, sizeof path, "/v1/models/%s/metadata", row->datatype);
        snprintf(wanted, sizeof wanted, "\"x\":{\"dtype\":\"%s\"", row->tensorflow);
        v2_expect(&c, "GET", path, NULL, NULL, 0, 200, wanted);
    }
}

static void half_precision_in_json_is_refused_in_tritons_words(void **state)
{
    (void)state;
    FOR_EACH(row)
    {
        if (!row->binary_only)
            continue;
        set_v2_body(row, row->numbers, "");
        snprintf(wanted, sizeof wanted,
                 "{\"error\":\"receiving %s data via JSON is not supported. Please use the binary "
                 "data format for input x\"}",
                 row->datatype);
        post(400, wanted);

        /* Binary data in, JSON wanted out: refused before anything is computed. */
        snprintf(body, sizeof body,
                 "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"%s\",\"shape\":[1,2],"
                 "\"parameters\":{\"binary_data_size\":4}}]}",
                 row->datatype);
        snprintf(wanted, sizeof wanted,
                 "{\"error\":\"sending %s data via JSON is not supported. Please use the binary "
                 "data format for output y\"}",
                 row->datatype);
        struct reply *r = v2_send_binary(&c, row->datatype, body, row->bits, 4);
        assert_string_equal(r->body, wanted);
        assert_int_equal(r->status, 400);
        reply_free(r);

        /* Classes are text: there is nothing against them. */
        snprintf(body, sizeof body,
                 "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"%s\",\"shape\":[1,2],"
                 "\"parameters\":{\"binary_data_size\":4}}],\"outputs\":[{\"name\":\"y\","
                 "\"parameters\":{\"classification\":1}}]}",
                 row->datatype);
        static const unsigned char one[2][4] = {{0, 0, 0, 0x3c}, {0, 0, 0x80, 0x3f}};
        r = v2_send_binary(&c, row->datatype, body, one[row->datatype[0] == 'B'], 4);
        assert_non_null(strstr(r->body, "\"data\":[\"1.000000:1\"]"));
        reply_free(r);
    }
}

/* The tensor behind the JSON of an answer. */
static void assert_bits(const struct row *row, struct reply *r)
{
    if (r->status != 200)
        print_message("%s: %s\n", row->datatype, r->body);
    assert_int_equal(r->status, 200);
    size_t length = v2_json_length(r);
    snprintf(wanted, sizeof wanted,
             "{\"model_name\":\"%s\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"y\","
             "\"datatype\":\"%s\",\"shape\":[1,2],\"parameters\":{\"binary_data_size\":%zu}}]}",
             row->datatype, row->datatype, 2 * row->size);
    assert_int_equal(length, strlen(wanted));
    assert_memory_equal(r->body, wanted, length);
    assert_int_equal(r->size, length + 2 * row->size);
    assert_memory_equal(r->body + length, row->bits, 2 * row->size);
    reply_free(r);
}

static void binary_data_comes_back_bit_by_bit(void **state)
{
    (void)state;
    FOR_EACH(row)
    {
        snprintf(body, sizeof body,
                 "{\"parameters\":{\"binary_data_output\":true},\"inputs\":[{\"name\":\"x\","
                 "\"datatype\":\"%s\",\"shape\":[1,2],\"parameters\":{\"binary_data_size\":%zu}}]}",
                 row->datatype, 2 * row->size);
        assert_bits(row, v2_send_binary(&c, row->datatype, body, row->bits, 2 * row->size));
        assert_bits(row, v2_send_binary(&c, row->datatype, "", row->bits, 2 * row->size));
        struct reply *r = v2_send_binary(&c, row->datatype, "", row->bits, 2 * row->size - 1);
        assert_int_equal(r->status, 400);
        assert_non_null(strstr(r->body, "unexpected total byte size "));
        reply_free(r);
    }
}

static void classes_are_written_as_their_type(void **state)
{
    static const struct {
        const char *datatype, *numbers, *classes;
    } cases[] = {
        {"FP32", "-1,2.5", "\"2.500000:1\",\"-1.000000:0\""},
        {"INT8", "-128,127", "\"127:1\",\"-128:0\""},
        {"UINT32", "4294967295,0", "\"4294967295:0\",\"0:1\""},
        {"BOOL", "false,true", "\"1:1\",\"0:0\""},
        /* One double, but two numbers. */
        {"INT64", "9007199254740992,9007199254740993",
         "\"9007199254740993:1\",\"9007199254740992:0\""},
        {"INT64", "-9007199254740992,-9007199254740993",
         "\"-9007199254740992:0\",\"-9007199254740993:1\""},
        {"UINT64", "18446744073709551614,18446744073709551615",
         "\"18446744073709551615:1\",\"18446744073709551614:0\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(path, sizeof path, "/v2/models/%s/infer", cases[i].datatype);
        snprintf(
            body, sizeof body,
            "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"%s\",\"shape\":[1,2],\"data\":[%s]}],"
            "\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":2}}]}",
            cases[i].datatype, cases[i].numbers);
        snprintf(wanted, sizeof wanted, "\"shape\":[1,2],\"data\":[%s]}]}", cases[i].classes);
        post(200, wanted);
    }
}

/* A bundle names the classes of its first output. */
static void labels_belong_to_the_first_output(void **state)
{
    static const char request[] =
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[1,2]}],"
        "\"outputs\":[{\"name\":\"z\",\"parameters\":{\"classification\":1}},"
        "{\"name\":\"y\",\"parameters\":{\"classification\":1}}]}";
    (void)state;
    v2_expect(
        &c, "POST", "/v2/models/twice/infer", NULL, request, strlen(request), 200,
        "{\"model_name\":\"twice\",\"model_version\":\"1\",\"outputs\":["
        "{\"name\":\"z\",\"datatype\":\"BYTES\",\"shape\":[1,1],\"data\":[\"2.000000:1\"]},"
        "{\"name\":\"y\",\"datatype\":\"BYTES\",\"shape\":[1,1],"
        "\"data\":[\"2.000000:1:yes\"]}]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_out_of_range_are_refused_with_their_place),
        cmocka_unit_test(half_precision_in_json_is_refused_in_tritons_words),
        cmocka_unit_test(numbers_come_back_as_json),
        cmocka_unit_test(metadata_names_every_datatype),
        cmocka_unit_test(binary_data_comes_back_bit_by_bit),
        cmocka_unit_test(classes_are_written_as_their_type),
        cmocka_unit_test(labels_belong_to_the_first_output),
    };
    return cmocka_run_group_tests(tests, open_server, close_server);
}
