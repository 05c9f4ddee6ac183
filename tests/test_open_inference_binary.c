/*
 * Binary data of the Open Inference Protocol V2, before and behind its JSON.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
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

static void binary_tensors_come_back_bit_by_bit(void **state)
{
    /* a quiet and a signalling NaN, a subnormal, negative zero */
    uint32_t f[4] = {0x7fc00001, 0x7f800001, 1, 0x80000000};
    int64_t l[2] = {INT64_MIN, INT64_MAX};
    int32_t n[4] = {INT32_MIN, -1, 0, INT32_MAX};
    uint8_t u[6] = {0, 1, 127, 128, 254, 255}, b[2] = {1, 0};
    char data[56];
    static const char json[] =
        "{\"parameters\":{\"binary_data_output\":true},\"inputs\":["
        "{\"name\":\"u\",\"shape\":[2,3],\"datatype\":\"UINT8\",\"parameters\":"
        "{\"binary_data_size\":6}},"
        "{\"name\":\"f\",\"shape\":[2,2],\"datatype\":\"FP32\",\"parameters\":"
        "{\"binary_data_size\":16}},"
        "{\"name\":\"i\",\"shape\":[2,1,2],\"datatype\":\"INT32\",\"parameters\":"
        "{\"binary_data_size\":16}},"
        "{\"name\":\"b\",\"shape\":[2,1],\"datatype\":\"BOOL\",\"parameters\":"
        "{\"binary_data_size\":2}},"
        "{\"name\":\"l\",\"shape\":[2],\"datatype\":\"INT64\",\"parameters\":"
        "{\"binary_data_size\":16}}],"
        "\"outputs\":[{\"name\":\"L\"},{\"name\":\"F\"},{\"name\":\"B\",\"parameters\":"
        "{\"binary_data\":false}},{\"name\":\"U\"},{\"name\":\"I\"}]}";
    (void)state;
    memcpy(data, u, 6);
    memcpy(data + 6, f, 16);
    memcpy(data + 22, n, 16);
    memcpy(data + 38, b, 2);
    memcpy(data + 40, l, 16);
    struct reply *r = v2_send_binary(&shared, "types", json, data, sizeof data);
    size_t length = r->status == 200 ? v2_json_length(r) : 0;
    if (r->status != 200)
        print_message("%s\n", r->body);
    assert_int_equal(r->status, 200);
    assert_non_null(strcasestr(r->headers, "Content-Type: application/octet-stream"));
    static const char answer[] =
        "{\"model_name\":\"types\",\"model_version\":\"1\",\"outputs\":["
        "{\"name\":\"L\",\"datatype\":\"INT64\",\"shape\":[2],\"parameters\":"
        "{\"binary_data_size\":16}},"
        "{\"name\":\"F\",\"datatype\":\"FP32\",\"shape\":[2,2],\"parameters\":"
        "{\"binary_data_size\":16}},"
        "{\"name\":\"B\",\"datatype\":\"BOOL\",\"shape\":[2,1],\"data\":[true,false]},"
        "{\"name\":\"U\",\"datatype\":\"UINT8\",\"shape\":[2,3],\"parameters\":"
        "{\"binary_data_size\":6}},"
        "{\"name\":\"I\",\"datatype\":\"INT32\",\"shape\":[2,1,2],\"parameters\":"
        "{\"binary_data_size\":16}}]}";
    assert_int_equal(length, sizeof answer - 1);
    assert_memory_equal(r->body, answer, sizeof answer - 1);
    assert_int_equal(r->size, length + 16 + 16 + 6 + 16);
    const char *tail = r->body + length;
    assert_memory_equal(tail, l, 16);
    assert_memory_equal(tail + 16, f, 16);
    assert_memory_equal(tail + 32, u, 6);
    assert_memory_equal(tail + 38, n, 16);
    reply_free(r);
}

static void bad_binary_data_is_refused(void **state)
{
    static const struct {
        const char *model, *json;
        size_t size;
        const char *error;
    } cases[] = {
        {"m", X(FP32_1_4 ",\"parameters\":{\"binary_data_size\":16}"), 15, "is incomplete"},
        {"m", X(FP32_1_4 ",\"parameters\":{\"binary_data_size\":16}"), 17,
         "unexpected additional input data for model 'm': 1 bytes"},
        {"m", X(GOOD), 1, "unexpected additional input data for model 'm': 1 bytes"},
        {"m", X(FP32_1_4 ",\"parameters\":{\"binary_data_size\":9223372036854775807}"), 16,
         "unexpected total byte size 9223372036854775807 for input 'x', expecting 16"},
        {"m", X(FP32_1_4 ",\"parameters\":{\"binary_data_size\":-1}"), 16,
         "Unable to parse 'binary_data_size'"},
        {"m", X("\"shape\":[16,4],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":256}"),
         16, "is incomplete: 16 bytes of 256"},
    };
    static const char data[32];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reply *r = v2_send_binary(&shared, cases[i].model, cases[i].json, data, cases[i].size);
        if (!strstr(r->body, cases[i].error))
            assert_string_equal(r->body, cases[i].error);
        assert_int_equal(r->status, 400);
        reply_free(r);
    }
    static const char flag[] =
        "{\"inputs\":[{\"name\":\"b\",\"shape\":[1,1],\"datatype\":\"BOOL\",\"parameters\":"
        "{\"binary_data_size\":1}}]}";
    struct reply *r = v2_send_binary(&shared, "types", flag, "\2", 1);
    assert_int_equal(r->status, 400);
    assert_non_null(strstr(r->body, "a byte is neither 0 nor 1"));
    reply_free(r);
}

static void what_is_not_finite_needs_binary_data(void **state)
{
    float x[3] = {1, INFINITY, NAN};
    (void)state;
    struct reply *r = v2_send_binary(&shared, "classes",
                                  X("\"shape\":[1,3],\"datatype\":\"FP32\",\"parameters\":"
                                    "{\"binary_data_size\":12}"),
                                  x, sizeof x);
    assert_int_equal(r->status, 500);
    assert_string_equal(r->body, "{\"error\":\"output 'y' is not finite, which JSON cannot say: "
                                 "ask for binary data\"}");
    assert_null(strcasestr(r->headers, "Inference-Header"));
    reply_free(r);
}

static void a_body_without_json_is_the_only_input(void **state)
{
    float x[4] = {1, -2, 3, 0.5f};
    double wide[4] = {1, -2, 3, 0.5}, y[3];
    (void)state;
    struct reply *r = v2_send_binary(&shared, "m", "", x, sizeof x);
    assert_int_equal(r->status, 200);
    size_t length = v2_json_length(r);
    assert_int_equal(r->size, length + 12);
    linear_reference(1, wide, y);
    for (int i = 0; i < 3; i++) {
        float got;
        memcpy(&got, r->body + length + 4 * i, 4);
        assert_true(got == (float)y[i]);
    }
    reply_free(r);
    r = v2_send_binary(&shared, "m", "", x, 12);
    assert_int_equal(r->status, 400);
    assert_string_equal(r->body, "{\"error\":\"unexpected total byte size 12 for input 'x', "
                                 "expecting 16\"}");
    reply_free(r);
    r = v2_send_binary(&shared, "simple", "", x, sizeof x);
    assert_int_equal(r->status, 400);
    assert_non_null(strstr(r->body, "Raw request must only have 1 input (found 1) to be deduced "
                                    "but got 2 inputs in 'simple'"));
    reply_free(r);
}

/* Triton's way with a model of max_batch_size 0: its one variable dimension is what the size
 * says. */
static void a_body_without_json_has_all_rows_of_a_model_that_mixes_them(void **state)
{
    static const float x[6] = {1, 2, 3, 4, 5, 6}, sums[2] = {9, 12};
    static const char graph[] = "{\"inputs\":[" PORT(
        "x", "FP32",
        "[-1,2]") "],\"nodes\":[{\"op\":\"ReduceSum\","
                  "\"inputs\":[\"x\",\"axes\"],\"outputs\":[\"y\"],\"attributes\":{\"keepdims\":0}}],"
                  "\"outputs\":[\"y\"]}";
    static const int64_t axes[] = {0};
    struct v2_client c;
    (void)state;
    fixture_open(&c.server);
    publish_bundle(c.server.models, "sum", 1, graph,
                   "\"axes\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}", axes,
                   sizeof axes);
    fixture_serve(&c.server, (const char *const[]){"--max-instances", "3", NULL});
    c.client = client_new();

    struct reply *r = v2_send_binary(&c, "sum", "", x, sizeof x);
    assert_int_equal(r->status, 200);
    assert_non_null(strstr(r->body, "\"shape\":[2]"));
    assert_memory_equal(r->body + v2_json_length(r), sums, sizeof sums);
    reply_free(r);
    static const struct {
        size_t size;
        const char *says;
    } bad[] = {{0, "unexpected total byte size 0 for input 'x', expecting 8"},
               {20, "unexpected total byte size 20 for input 'x', expecting 16"},
               {32, "inference request batch-size must be <= 3 for 'sum'"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        static const char zeros[32];
        r = v2_send_binary(&c, "sum", "", zeros, bad[i].size);
        assert_int_equal(r->status, 400);
        assert_non_null(strstr(r->body, bad[i].says));
        reply_free(r);
    }
    v2_close(&c);
}

static void classes_come_as_counted_bytes(void **state)
{
    float x[6] = {1, 3.3f, 2, 7, -1, 7};
    (void)state;
    struct reply *r = v2_send_binary(&shared, 
        "classes",
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,3],\"datatype\":\"FP32\",\"parameters\":"
        "{\"binary_data_size\":24}}],\"outputs\":[{\"name\":\"y\",\"parameters\":"
        "{\"classification\":1,\"binary_data\":true}}]}",
        x, sizeof x);
    assert_int_equal(r->status, 200);
    size_t length = v2_json_length(r);
    assert_non_null(strstr(r->body, "\"datatype\":\"BYTES\",\"shape\":[2,1],\"parameters\":"
                                    "{\"binary_data_size\":38}"));
    static const char bytes[] = "\x10\0\0\0" "3.300000:1:a \"b\"" "\x0e\0\0\0" "7.000000:0:red";
    assert_int_equal(r->size, length + sizeof bytes - 1);
    assert_memory_equal(r->body + length, bytes, sizeof bytes - 1);
    reply_free(r);
}

/* Ten rows in batches of four: the outputs of all rows are in one piece. */
static void a_request_larger_than_a_batch_is_one_answer(void **state)
{
    char json[2048], *p = json;
    int32_t expected[80];
    (void)state;
    p += sprintf(p, "{\"inputs\":[");
    for (int input = 0; input < 2; input++) {
        p += sprintf(p, "%s{\"name\":\"INPUT%d\",\"shape\":[10,4],\"datatype\":\"INT32\",\"data\":[",
                     input ? "," : "", input);
        for (int i = 0; i < 40; i++)
            p += sprintf(p, "%s%d", i ? "," : "", input ? i * i : 1000 + i);
        p += sprintf(p, "]}");
    }
    sprintf(p, "],\"outputs\":[{\"name\":\"OUTPUT1\",\"parameters\":{\"binary_data\":true}},"
               "{\"name\":\"OUTPUT0\",\"parameters\":{\"binary_data\":true}}]}");
    for (int i = 0; i < 40; i++) {
        expected[i] = 1000 + i - i * i;
        expected[40 + i] = 1000 + i + i * i;
    }
    struct reply *r = v2_send_binary(&shared, "simple", json, NULL, 0);
    assert_int_equal(r->status, 200);
    size_t length = v2_json_length(r);
    assert_int_equal(r->size, length + sizeof expected);
    assert_memory_equal(r->body + length, expected, sizeof expected);
    reply_free(r);
}

static void a_body_in_pieces_is_read_like_any(void **state)
{
    char request[1024], body[1024];
    const char *json = X(GOOD);
    (void)state;
    int fd = socket_connect(shared.server.port);
    snprintf(request, sizeof request,
             "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
             "5\r\n%.5s\r\n%zx\r\n%s\r\n0\r\n\r\n",
             json, strlen(json) - 5, json + 5);
    socket_send(fd, request);
    assert_int_equal(socket_answer(fd, body, sizeof body), 200);
    close(fd);
}

/* RFC 9110, 5.5: blanks around a value are no part of it. */
static void blanks_around_the_header_length_mean_nothing(void **state)
{
    static const float x[4] = {1, 2, 3, 4};
    static const char json[] = X(FP32_1_4 ",\"parameters\":{\"binary_data_size\":16}");
    char request[512], body[1024];
    (void)state;
    int fd = socket_connect(shared.server.port);
    snprintf(request, sizeof request,
             "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\n"
             "Inference-Header-Content-Length: \t %zu \t\r\nContent-Length: %zu\r\n\r\n%s",
             sizeof json - 1, sizeof json - 1 + sizeof x, json);
    socket_send(fd, request);
    assert_int_equal(write(fd, x, sizeof x), sizeof x);
    assert_int_equal(socket_answer(fd, body, sizeof body), 200);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binary_tensors_come_back_bit_by_bit),
        cmocka_unit_test(bad_binary_data_is_refused),
        cmocka_unit_test(what_is_not_finite_needs_binary_data),
        cmocka_unit_test(a_body_without_json_is_the_only_input),
        cmocka_unit_test(a_body_without_json_has_all_rows_of_a_model_that_mixes_them),
        cmocka_unit_test(classes_come_as_counted_bytes),
        cmocka_unit_test(a_request_larger_than_a_batch_is_one_answer),
        cmocka_unit_test(a_body_in_pieces_is_read_like_any),
        cmocka_unit_test(blanks_around_the_header_length_mean_nothing),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
