/*
 * Request bodies into rows. Jansson is the judge of what is JSON.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/json_scan.h"
#include "server/json_tensor.h"
#include "tests/json_models.h"

enum { MAX_ROWS = 4 };

/* Reads from memory that ends with the body, so that a sanitizer sees one byte too many. */
static int read_rows(struct tensor_rows *rows, int model, const char *body, size_t size,
                     int64_t max_rows, struct nn_error *error)
{
    char *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, body, size);
    *rows = (struct tensor_rows){.model = json_models[model]};
    int status = json_rows_read(rows, copy, size, max_rows, error);
    free(copy);
    return status;
}

static void every_wrong_body_is_refused_with_its_reason(void **state)
{
    (void)state;
    static const struct {
        int model;
        const char *body;
        int status;
        const char *reason;
    } cases[] = {
        /* not JSON */
        {VECTOR, "", 400, "the body is empty, expected an object with \"instances\" or "
                          "\"inputs\" (byte 0)"},
        {VECTOR, "  ", 400, "not JSON: unexpected end of the body"},
        {VECTOR, "instances=1", 400, "not JSON: expected a value, got 'i' (byte 0)"},
        {VECTOR, "{\"instances\":[[1,2,3]]", 400, "not JSON: unexpected end of the body"},
        {VECTOR, "{\"instances\":[[1,2,", 400, "not JSON: unexpected end of the body"},
        {VECTOR, "{\"instances\":[[1,2,3", 400, "not JSON: unexpected end of the body"},
        {VECTOR, "{\"instances", 400, "not JSON: unexpected end of the body"},
        {VECTOR, "{\"instances\"", 400, "not JSON: unexpected end of the body"},
        {VECTOR, "{\"instances\":", 400, "not JSON: unexpected end of the body"},
        {VECTOR, "{", 400, "not JSON: unexpected end of the body"},
        {VECTOR, "{\"instances\":[[1,2,3]]} x", 400,
         "not JSON: expected nothing more, got 'x' (byte 24)"},
        {VECTOR, "{\"instances\":[[1,2,3]]}{}", 400,
         "not JSON: expected nothing more, got '{' (byte 23)"},
        {VECTOR, "{\"instances\":[[1,2,3]],}", 400, "not JSON: expected a key, got '}' (byte 23)"},
        {VECTOR, "{\"instances\":[[1,2,3],]}", 400,
         "not JSON: expected a value, got ']' (byte 22)"},
        {VECTOR, "{\"instances\":[[1,2,3,]]}", 400,
         "not JSON: expected a value, got ']' (byte 21)"},
        {VECTOR, "{\"instances\":[[1,,3]]}", 400,
         "not JSON: expected a value, got ',' (byte 17)"},
        {VECTOR, "{\"instances\":[[1 2 3]]}", 400,
         "not JSON: expected ',' or ']', got '2' (byte 17)"},
        {VECTOR, "{\"instances\":[[1,2,3}]}", 400,
         "not JSON: expected ',' or ']', got '}' (byte 20)"},
        {VECTOR, "{\"instances\" [[1,2,3]]}", 400, "not JSON: expected ':', got '[' (byte 13)"},
        {VECTOR, "{instances:[[1,2,3]]}", 400, "not JSON: expected a key, got 'i' (byte 1)"},
        {VECTOR, "{\"instances\":[[NaN,2,3]]}", 400,
         "not JSON: expected a value, got 'N' (byte 15)"},
        {VECTOR, "{\"instances\":[[1,-Infinity,3]]}", 400,
         "not JSON: expected a value, got '-' (byte 17)"},
        {VECTOR, "{\"instances\":[[01,2,3]]}", 400,
         "not JSON: expected a value, got '0' (byte 15)"},
        {VECTOR, "{\"instances\":[[1.,2,3]]}", 400,
         "not JSON: expected a value, got '1' (byte 15)"},
        {VECTOR, "{\"instances\":[[nul,2,3]]}", 400, "not JSON: expected null, got ',' (byte 18)"},
        {VECTOR, "{\"inst\\x\":1}", 400, "not JSON: an invalid escape in a string (byte 6)"},
        {VECTOR, "{\"inst\\ud800\":1}", 400, "not JSON: an invalid escape in a string (byte 6)"},
        {VECTOR, "{\"inst\\u0000\":1}", 400, "not JSON: an invalid escape in a string (byte 6)"},
        {VECTOR, "{\"inst\xff\":1}", 400, "not JSON: a string that is not UTF-8 (byte 6)"},
        {VECTOR, "{\"inst\n\":1}", 400, "not JSON: a control character in a string (byte 6)"},
        {VECTOR, "\xef\xbb\xbf{\"instances\":[[1,2,3]]}", 400,
         "not JSON: expected a value, got byte 0xef (byte 0)"},
        /* what is wrong with the row comes first, and yet it is not JSON */
        {VECTOR, "{\"instances\":[[\"a\",2,3]}", 400,
         "not JSON: expected ',' or ']', got '}' (byte 23)"},

        /* the top level */
        {VECTOR, "[[1,2,3]]", 400, "expected an object with \"instances\" or \"inputs\", got an "
                                   "array (byte 0)"},
        {VECTOR, "3", 400, "expected an object with \"instances\" or \"inputs\", got a number "
                           "(byte 0)"},
        {VECTOR, " null", 400, "expected an object with \"instances\" or \"inputs\", got null "
                               "(byte 1)"},
        {VECTOR, "{}", 400, "expected \"instances\" or \"inputs\", got neither (byte 0)"},
        {VECTOR, "{\"instance\":[[1,2,3]]}", 400,
         "unknown field \"instance\", expected \"instances\" or \"inputs\" (byte 1)"},
        {VECTOR, "{\"instances\":[[1,2,3]],\"parameters\":{}}", 400,
         "unknown field \"parameters\", expected \"instances\" or \"inputs\" (byte 23)"},
        {VECTOR, "{\"instances\":[[1,2,3]],\"instances\":[[1,2,3]]}", 400,
         "\"instances\" is there twice (byte 23)"},
        {VECTOR, "{\"instances\":[[1,2,3]],\"inst\\u0061nces\":[[1,2,3]]}", 400,
         "\"instances\" is there twice (byte 23)"},
        {VECTOR, "{\"inputs\":{\"x\":[[1,2,3]]},\"instances\":[[1,2,3]]}", 400,
         "expected \"instances\" or \"inputs\", got both (byte 26)"},
        {VECTOR, "{\"instances\":{\"x\":[1,2,3]}}", 400,
         "instances: expected an array, got an object (byte 13)"},
        {VECTOR, "{\"instances\":null}", 400,
         "instances: expected an array, got null (byte 13)"},
        {VECTOR, "{\"instances\":[]}", 400,
         "instances: expected at least one instance, got none (byte 14)"},
        {VECTOR, "{\"inputs\":{\"x\":[]}}", 400,
         "inputs.x: expected at least one instance, got none (byte 16)"},
        {VECTOR, "{\"inputs\":[[1,2,3]]}", 400,
         "inputs: expected an object of inputs by name, got an array (byte 10)"},
        {VECTOR, "{\"inputs\":{}}", 400, "inputs: the input \"x\" is missing (byte 12)"},
        {VECTOR, "{\"inputs\":{\"z\":[[1,2,3]]}}", 400,
         "inputs: the model has no input \"z\" (byte 11)"},

        /* rows */
        {VECTOR, "{\"instances\":[1,2,3]}", 400,
         "instances[0]: expected an array, got a number (byte 14)"},
        {VECTOR, "{\"instances\":[[1,2]]}", 400,
         "instances[0]: expected 3 numbers, got 2 (byte 18)"},
        {VECTOR, "{\"instances\":[[]]}", 400, "instances[0]: expected 3 numbers, got 0 (byte 15)"},
        {VECTOR, "{\"instances\":[[1,2,3],[1,2,3,4]]}", 400,
         "instances[1]: expected 3 numbers, got more (byte 28)"},
        {VECTOR, "{\"instances\":[[1,2,3],[1,[2],3]]}", 400,
         "instances[1][1]: expected a number, got an array (byte 25)"},
        {VECTOR, "{\"instances\":[[1,\"2\",3]]}", 400,
         "instances[0][1]: expected a number, got a string (byte 17)"},
        {VECTOR, "{\"instances\":[[1,2,null]]}", 400,
         "instances[0][2]: expected a number, got null (byte 19)"},
        {VECTOR, "{\"instances\":[[true,2,3]]}", 400,
         "instances[0][0]: expected a number, got a boolean (byte 15)"},
        {VECTOR, "{\"instances\":[[1,2,{}]]}", 400,
         "instances[0][2]: expected a number, got an object (byte 19)"},
        {VECTOR, "{\"instances\":[[1,2,1e39]]}", 400,
         "instances[0][2]: 1e39 is outside the range of FP32 (byte 19)"},
        {VECTOR, "{\"instances\":[[1,2,-1e400]]}", 400,
         "instances[0][2]: -1e400 is outside the range of FP32 (byte 19)"},
        {VECTOR, "{\"instances\":[[[1,2,3]]]}", 400,
         "instances[0][0]: expected a number, got an array (byte 15)"},
        {NUMBER, "{\"instances\":[\"1\"]}", 400,
         "instances[0]: expected a number, got a string (byte 14)"},
        {NUMBER, "{\"instances\":[[1,2]]}", 400,
         "instances[0]: expected 1 numbers, got more (byte 16)"},
        {IMAGE, "{\"instances\":[[[[1,2,3],[4,5,6]]],[[[1,2,3],[4,\"5\",6]]]]}", 400,
         "instances[1][0][1][1]: expected a number, got a string (byte 47)"},
        {IMAGE, "{\"instances\":[[[[1,2,3],[4,5]]]]}", 400,
         "instances[0][0][1]: expected 3 numbers, got 2 (byte 28)"},
        {IMAGE, "{\"instances\":[[[[1,2,3]]]]}", 400,
         "instances[0][0]: expected 2 elements, got 1 (byte 23)"},
        {IMAGE, "{\"instances\":[[[[1,2,3],[4,5,6],[7,8,9]]]]}", 400,
         "instances[0][0]: expected 2 elements, got more (byte 31)"},
        {IMAGE, "{\"instances\":[[[[1,2,3],[4,5,6]],[]]]}", 400,
         "instances[0]: expected 1 elements, got more (byte 32)"},
        {IMAGE, "{\"instances\":[[[[1,2,3],4]]]}", 400,
         "instances[0][0][1]: expected an array, got a number (byte 24)"},
        {IMAGE, "{\"instances\":[[[1,2,3,4,5,6]]]}", 400,
         "instances[0][0][0]: expected an array, got a number (byte 16)"},
        {IMAGE, "{\"instances\":[[1,2,3,4,5]]}", 400,
         "instances[0]: expected 6 numbers, got 5 (byte 24)"},
        {IMAGE, "{\"instances\":[[1,2,3,4,5,6,7]]}", 400,
         "instances[0]: expected 6 numbers, got more (byte 26)"},

        /* how many */
        {NUMBER, "{\"instances\":[1,2,3,4,5]}", 400,
         "instances[4]: more than 4 instances, which is the limit (byte 22)"},
        {NUMBER, "{\"inputs\":{\"x\":[1,2,3,4,5]}}", 400,
         "inputs.x[4]: more than 4 instances, which is the limit (byte 24)"},
        {FIXED, "{\"instances\":[[1,2]]}", 400,
         "instances: the input \"x\" takes exactly 2 rows, got 1 (byte 20)"},
        {FIXED, "{\"instances\":[[1,2],[3,4],[5,6]]}", 400,
         "instances[2]: the input \"x\" takes exactly 2 rows, got more (byte 26)"},

        /* several inputs */
        {PAIR, "{\"instances\":[[1,2]]}", 400,
         "instances[0]: expected an object of inputs by name, got an array (byte 14)"},
        {PAIR, "{\"instances\":[{\"a\":[1,2]}]}", 400,
         "instances[0]: the input \"b\" is missing (byte 25)"},
        {PAIR, "{\"instances\":[{}]}", 400,
         "instances[0]: the input \"a\" is missing (byte 16)"},
        {PAIR, "{\"instances\":[{\"a\":[1,2],\"b\":1,\"a\":[1,2]}]}", 400,
         "instances[0]: the input \"a\" is there twice (byte 31)"},
        {PAIR, "{\"instances\":[{\"a\":[1,2],\"c\":1}]}", 400,
         "instances[0]: the model has no input \"c\" (byte 25)"},
        {PAIR, "{\"instances\":[{\"a\":[1,2],\"b\":1},{\"a\":[1,2],\"b\":1.0}]}", 400,
         "instances[1].b: expected a whole number (INT64), got 1.0 (byte 47)"},
        {PAIR, "{\"instances\":[{\"a\":[1,\"2\"],\"b\":1}]}", 400,
         "instances[0].a[1]: expected a number, got a string (byte 22)"},
        {PAIR, "{\"inputs\":{\"a\":[[1,2]]}}", 400, "inputs: the input \"b\" is missing (byte 23)"},
        {PAIR, "{\"inputs\":{\"a\":[[1,2],[3,4]],\"b\":[1]}}", 400,
         "inputs: \"a\" has 2 rows, but \"b\" has 1 (byte 37)"},
        {PAIR, "{\"inputs\":{\"b\":[1,2,3],\"a\":[[1,2],[3,4]]}}", 400,
         "inputs: \"a\" has 2 rows, but \"b\" has 3 (byte 41)"},
        {PAIR, "{\"inputs\":{\"a\":[[1,2]],\"a\":[[1,2]],\"b\":[1]}}", 400,
         "inputs: the input \"a\" is there twice (byte 23)"},
        {PAIR, "{\"inputs\":{\"a\":[[1,2]],\"b\":[{}]}}", 400,
         "inputs.b[0]: expected a number, got an object (byte 28)"},

        /* integers and booleans */
        {BYTE, "{\"instances\":[[255,256]]}", 400,
         "instances[0][1]: 256 is outside the range of UINT8 (byte 19)"},
        {BYTE, "{\"instances\":[[-1,0]]}", 400,
         "instances[0][0]: -1 is outside the range of UINT8 (byte 15)"},
        {BYTE, "{\"instances\":[[1e1,0]]}", 400,
         "instances[0][0]: expected a whole number (UINT8), got 1e1 (byte 15)"},
        {INT, "{\"instances\":[[2147483648,0]]}", 400,
         "instances[0][0]: 2147483648 is outside the range of INT32 (byte 15)"},
        {INT, "{\"instances\":[[true,0]]}", 400,
         "instances[0][0]: expected a number, got a boolean (byte 15)"},
        {LONG, "{\"instances\":[[9223372036854775808,0]]}", 400,
         "instances[0][0]: 9223372036854775808 is outside the range of INT64 (byte 15)"},
        {LONG, "{\"instances\":[[10000000000000000000000000000000000000000000,0]]}", 400,
         "instances[0][0]: 1000000000000000000000000000000000000000... is outside the range of "
         "INT64 (byte 15)"},
        {FLAG, "{\"instances\":[[true,2]]}", 400,
         "instances[0][1]: 2 is outside the range of BOOL (byte 20)"},
        {FLAG, "{\"instances\":[[true,\"false\"]]}", 400,
         "instances[0][1]: expected a boolean, got a string (byte 20)"},
        {FLAG, "{\"instances\":[[true,0.0]]}", 400,
         "instances[0][1]: expected a whole number (BOOL), got 0.0 (byte 20)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tensor_rows rows;
        struct nn_error error = {0};
        int status = read_rows(&rows, cases[i].model, cases[i].body, strlen(cases[i].body),
                               MAX_ROWS, &error);
        assert_false(rows.owned);
        if (status != cases[i].status || strcmp(error.text, cases[i].reason) != 0)
            fail_msg("%s\n  expected %d, %s\n  got      %d, %s", cases[i].body,
                     cases[i].status, cases[i].reason, status, error.text);
    }
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    enum { DEPTH = 150000 };
    static const struct {
        const char *before;
        char bracket;
        const char *reason;
    } cases[] = {
        {"", '[', "not JSON: nested deeper than 64 (byte 64)"},
        {"{\"instances\":", '[', "not JSON: nested deeper than 64 (byte 76)"},
        {"{\"inputs\":", '[', "not JSON: nested deeper than 64 (byte 73)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].before);
        char *body = malloc(n + DEPTH);
        assert_non_null(body);
        memcpy(body, cases[i].before, n);
        memset(body + n, cases[i].bracket, DEPTH);
        struct tensor_rows rows;
        struct nn_error error = {0};
        assert_int_equal(read_rows(&rows, IMAGE, body, n + DEPTH, MAX_ROWS, &error), 400);
        assert_string_equal(error.text, cases[i].reason);
        free(body);
    }
}

static void every_form_of_a_row_is_read(void **state)
{
    (void)state;
    static const struct {
        int model;
        const char *body;
        int64_t n;
        float values[12];
    } cases[] = {
        {VECTOR, "{\"instances\":[[1,2,3]]}", 1, {1, 2, 3}},
        {VECTOR, " \t\n\r{ \"instances\" : [ [ 1 , 2.5e1 , -3E-1 ] , [4,5,6] ] } \n", 2,
         {1, 25, -0.3f, 4, 5, 6}},
        {VECTOR, "{\"inst\\u0061nces\":[[1e-400,-0,0.1]]}", 1, {0, -0.0f, 0.1f}},
        {VECTOR, "{\"inputs\":{\"x\":[[1,2,3],[4,5,6]]}}", 2, {1, 2, 3, 4, 5, 6}},
        {VECTOR, "{\"inputs\":{\"\\u0078\":[[1,2,3]]}}", 1, {1, 2, 3}},
        {IMAGE, "{\"instances\":[[[[1,2,3],[4,5,6]]]]}", 1, {1, 2, 3, 4, 5, 6}},
        {IMAGE, "{\"instances\":[[1,2,3,4,5,6],[[[6,5,4],[3,2,1]]]]}", 2,
         {1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1}},
        {IMAGE, "{\"inputs\":{\"x\":[ [ [ [1,2,3] , [4,5,6] ] ] , [6,5,4,3,2,1]]}}", 2,
         {1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1}},
        {NUMBER, "{\"instances\":[1,[2], 3 ,[ 4 ]]}", 4, {1, 2, 3, 4}},
        {FIXED, "{\"instances\":[[1,2],[3,4]]}", 1, {1, 2, 3, 4}},
        {FIXED, "{\"inputs\":{\"x\":[[1,2],[3,4]]}}", 1, {1, 2, 3, 4}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tensor_rows rows;
        struct nn_error error = {0};
        read_rows(&rows, cases[i].model, cases[i].body, strlen(cases[i].body), MAX_ROWS, &error);
        assert_string_equal(error.text, "");
        assert_int_equal(rows.n, cases[i].n);
        const struct nn_shape *shape = &nn_model_input(json_models[cases[i].model], 0)->shape;
        size_t elements = (size_t)rows.n;
        for (int k = 0; k < shape->rank; k++)
            elements *= shape->dims[k] > 0 ? (size_t)shape->dims[k] : 1;
        assert_memory_equal(rows.data[0], cases[i].values, elements * sizeof(float));
        tensor_rows_release(&rows);
    }
}

static void integers_and_booleans_are_read_as_they_are(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0, 255}, flags[] = {1, 0, 0, 1};
    static const int32_t ints[] = {INT32_MIN, INT32_MAX};
    static const int64_t longs[] = {INT64_MIN, INT64_MAX};
    static const struct {
        int model;
        const char *body;
        const void *data;
        size_t size;
    } cases[] = {
        {BYTE, "{\"instances\":[[0,255]]}", bytes, sizeof bytes},
        {INT, "{\"instances\":[[-2147483648,2147483647]]}", ints, sizeof ints},
        {LONG, "{\"instances\":[[-9223372036854775808,9223372036854775807]]}", longs,
         sizeof longs},
        {FLAG, "{\"instances\":[[true,false],[0,1]]}", flags, sizeof flags},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tensor_rows rows;
        struct nn_error error = {0};
        read_rows(&rows, cases[i].model, cases[i].body, strlen(cases[i].body), MAX_ROWS, &error);
        assert_string_equal(error.text, "");
        assert_memory_equal(rows.data[0], cases[i].data, cases[i].size);
        tensor_rows_release(&rows);
    }
}

static void several_inputs_are_read_by_name_in_any_order(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "{\"instances\":[{\"a\":[1,2],\"b\":-7},{\"b\":8,\"a\":[3,4]},{\"b\":[9],\"\\u0061\":[5,6]}]}",
        "{\"inputs\":{\"a\":[[1,2],[3,4],[5,6]],\"b\":[-7,8,9]}}",
        "{\"inputs\":{\"b\":[-7,8,[9]],\"a\":[[1,2],[3,4],[5,6]]}}",
    };
    static const float a[] = {1, 2, 3, 4, 5, 6};
    static const int64_t b[] = {-7, 8, 9};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tensor_rows rows;
        struct nn_error error = {0};
        read_rows(&rows, PAIR, cases[i], strlen(cases[i]), MAX_ROWS, &error);
        assert_string_equal(error.text, "");
        assert_int_equal(rows.n, 3);
        assert_memory_equal(rows.data[0], a, sizeof a);
        assert_memory_equal(rows.data[1], b, sizeof b);
        tensor_rows_release(&rows);
    }
}

static void rows_are_read_into_lent_memory_while_there_is_room(void **state)
{
    (void)state;
    static const char body[] = "{\"instances\":[1,2,3,4,5,6,7]}";
    for (int64_t capacity = 1; capacity <= 8; capacity++) {
        float lent[8];
        struct tensor_rows rows = {
            .model = json_models[NUMBER], .capacity = capacity, .data = {lent}};
        assert_int_equal(json_rows_read(&rows, body, sizeof body - 1, 7, NULL), 0);
        assert_int_equal(rows.n, 7);
        assert_int_equal(rows.owned, capacity < 7);
        assert_true(rows.owned || rows.data[0] == lent);
        for (int i = 0; i < 7; i++)
            assert_float_equal(((float *)rows.data[0])[i], i + 1, 0);
        tensor_rows_release(&rows);
    }
}

/* the syntax */

static bool jansson_accepts(const char *text, size_t size, size_t flags, bool *overflow)
{
    json_error_t error;
    json_t *value = json_loadb(text, size, flags | JSON_DECODE_ANY, &error);
    *overflow = !value && json_error_code(&error) == json_error_numeric_overflow;
    json_decref(value);
    return value != NULL;
}

/* Where we differ from Jansson, and why it does no harm: numbers are held against their own
 * type's range and keys against their names where they are read. */
static const struct {
    const char *name;
    bool valid;
} exceptions[] = {
    {"i_number_huge_exp.json", true},
    {"i_number_neg_int_huge_exp.json", true},
    {"i_number_pos_double_huge_exp.json", true},
    {"i_number_real_neg_overflow.json", true},
    {"i_number_real_pos_overflow.json", true},
    {"i_number_too_big_neg_int.json", true},
    {"i_number_too_big_pos_int.json", true},
    {"i_number_very_big_negative_int.json", true},
    {"y_object_duplicated_key.json", true},
    {"y_object_duplicated_key_and_value.json", true},
    {"i_structure_500_nested_arrays.json", false},      /* deeper than 64 */
    {"n_multidigit_number_then_00.json", false},        /* a zero byte at the end */
};

static bool expected_verdict(const char *name, bool jansson)
{
    for (size_t i = 0; i < sizeof exceptions / sizeof exceptions[0]; i++)
        if (strcmp(exceptions[i].name, name) == 0) {
            if (exceptions[i].valid == jansson)
                fail_msg("%s is no exception", name);
            return exceptions[i].valid;
        }
    return jansson;
}

static void the_json_test_suite_gets_the_verdict_of_jansson(void **state)
{
    (void)state;
    const char *data = getenv("PREDICTD_DATA");
    char folder[512];
    snprintf(folder, sizeof folder, "%s/json-test-suite", data ? data : "data");
    DIR *entries = opendir(folder);
    if (!entries) {
        print_message("%s: not there, skipped\n", folder);
        skip();
    }
    int n = 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (!strstr(entry->d_name, ".json"))
            continue;
        static char text[1 << 19];
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        size_t size = fread(text, 1, sizeof text, file);
        fclose(file);
        char *copy = malloc(size ? size : 1);
        assert_non_null(copy);
        memcpy(copy, text, size);

        bool overflow;
        bool jansson = jansson_accepts(copy, size, JSON_REJECT_DUPLICATES, &overflow);
        struct nn_error error = {0};
        bool valid = json_scan_document(copy, size, &error) == 0;
        if (valid != expected_verdict(entry->d_name, jansson))
            fail_msg("%s: Jansson says %s, we say %s", entry->d_name,
                     jansson ? "valid" : "invalid", valid ? "valid" : error.text);
        struct tensor_rows rows = {.model = json_models[VECTOR]};
        assert_int_equal(json_rows_read(&rows, copy, size, MAX_ROWS, NULL), 400);
        free(copy);
        n++;
    }
    closedir(entries);
    assert_int_equal(n, 318);
}

static uint64_t next_random(void)
{
    static uint64_t random_state = 88172645463325252u;      /* xorshift64, Marsaglia 2003 */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* Changes a byte, or removes, doubles or inserts a few. Returns the new size. */
static size_t mutate(char *text, size_t size, size_t capacity)
{
    static const char alphabet[] = "{}[]\":,.-+0123456789eE \n\\/utrfnalse\xc3\xa4\xff\x01";
    size_t at = next_random() % (size + 1), n = 1 + next_random() % 4;
    switch (next_random() % 4) {
    case 0:
        if (at < size)
            text[at] = alphabet[next_random() % (sizeof alphabet - 1)];
        return size;
    case 1:
        n = n < size - at ? n : size - at;
        memmove(text + at, text + at + n, size - at - n);
        return size - n;
    case 2:
        if (size + n > capacity || at + n > size)
            return size;
        memmove(text + at + n, text + at, size - at);
        return size + n;
    default:
        if (size + 1 > capacity)
            return size;
        memmove(text + at + 1, text + at, size - at);
        text[at] = alphabet[next_random() % (sizeof alphabet - 1)];
        return size + 1;
    }
}

static void mutated_bodies_get_the_verdict_of_jansson(void **state)
{
    (void)state;
    static const struct {
        int model;
        const char *body;
    } seeds[] = {
        {VECTOR, "{\"instances\":[[1,2.5,-3e1],[0.1,0,-0.0]]}"},
        {VECTOR, "{\"inputs\":{\"x\":[[1,2,3]]}}"},
        {IMAGE, "{\"instances\":[[1,2,3,4,5,6],[[[6,5,4],[3,2,1]]]]}"},
        {PAIR, "{\"instances\":[{\"a\":[1,2],\"b\":-7},{\"\\u0062\":8,\"a\":[3,4]}]}"},
        {PAIR, "{\"inputs\":{\"b\":[-7,8],\"a\":[[1,2],[3,4]]}}"},
        {FLAG, "{ \"instances\" : [ [ true , 0 ] , [false, 1 ] ] }"},
        {NUMBER, "{\"instances\":[1,[2],\"\xc3\xa4\\n\\ud83d\\ude00\",null]}"},
    };
    int accepted = 0;
    for (int i = 0; i < 20000; i++) {
        char text[256];
        int model = seeds[(size_t)i % (sizeof seeds / sizeof seeds[0])].model;
        const char *seed = seeds[(size_t)i % (sizeof seeds / sizeof seeds[0])].body;
        size_t size = strlen(seed);
        memcpy(text, seed, size);
        for (uint64_t k = next_random() % 3 + 1; k > 0; k--)
            size = mutate(text, size, sizeof text);

        char *copy = malloc(size ? size : 1);
        assert_non_null(copy);
        memcpy(copy, text, size);
        bool overflow;
        bool strict = jansson_accepts(copy, size, JSON_REJECT_DUPLICATES, &overflow);
        bool loose = jansson_accepts(copy, size, 0, &overflow);
        struct nn_error error = {0};
        struct tensor_rows rows = {.model = json_models[model]};
        int status = json_rows_read(&rows, copy, size, MAX_ROWS, &error);
        if (status == 0 && !strict && !overflow)
            fail_msg("%.*s was read, but Jansson refuses it", (int)size, text);
        if ((json_scan_document(copy, size, &error) == 0) != (loose || overflow))
            fail_msg("%.*s: Jansson says %d, we say %s", (int)size, text, loose, error.text);
        accepted += status == 0;
        tensor_rows_release(&rows);
        free(copy);
    }
    assert_true(accepted > 500);        /* the mutations do not spoil everything */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_wrong_body_is_refused_with_its_reason),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(every_form_of_a_row_is_read),
        cmocka_unit_test(integers_and_booleans_are_read_as_they_are),
        cmocka_unit_test(several_inputs_are_read_by_name_in_any_order),
        cmocka_unit_test(rows_are_read_into_lent_memory_while_there_is_room),
        cmocka_unit_test(the_json_test_suite_gets_the_verdict_of_jansson),
        cmocka_unit_test(mutated_bodies_get_the_verdict_of_jansson),
    };
    return cmocka_run_group_tests(tests, json_models_open, json_models_close);
}
