/*
 * Outputs into answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "server/json_tensor.h"
#include "tests/json_models.h"

static const char *predictions(int model, const struct nn_tensor *const *outputs, int64_t first,
                               int64_t n, struct nn_error *error)
{
    static char text[1024];
    struct buffer out = {0};
    struct nn_tensor all[2];
    for (int i = 0; i < nn_model_n_outputs(json_models[model]); i++)
        all[i] = *outputs[i];
    int result = json_write_predictions(&out, json_models[model], all, first, n, error);
    assert_false(out.failed);
    assert_int_equal(result, error->text[0] ? -1 : 0);
    snprintf(text, sizeof text, "%.*s", (int)out.size, out.data ? out.data : "");
    buffer_release(&out);
    return text;
}

static void predictions_are_nested_like_their_outputs(void **state)
{
    (void)state;
    float reals[12] = {0.5f, 1, -2, 3e-10f, 1e20f, 6, 7, 8, 9, 10, 11, 12};
    int64_t longs[3] = {INT64_MIN, 0, 7};
    uint8_t flags[4] = {0, 1, 1, 0}, bytes[2] = {0, 255};
    int32_t ints[2] = {-1, INT32_MAX};
    struct nn_tensor image = {NN_FP32, {4, {2, 1, 2, 3}}, reals};
    struct nn_tensor vector = {NN_FP32, {2, {4, 3}}, reals};
    struct nn_tensor number = {NN_FP32, {1, {3}}, reals};
    struct nn_tensor pair = {NN_FP32, {2, {3, 2}}, reals};
    struct nn_tensor fixed = {NN_FP32, {2, {2, 2}}, reals};
    struct nn_tensor second = {NN_INT64, {1, {3}}, longs};
    struct nn_tensor flag = {NN_BOOL, {2, {2, 2}}, flags};
    struct nn_tensor byte = {NN_UINT8, {2, {1, 2}}, bytes};
    struct nn_tensor word = {NN_INT32, {2, {1, 2}}, ints};
    const struct {
        int model;
        const struct nn_tensor *outputs[2];
        int64_t first, n;
        const char *text;
    } cases[] = {
        {IMAGE, {&image}, 0, 2,
         "[[[[0.5,1.0,-2.0],[3e-10,1e20,6.0]]],[[[7.0,8.0,9.0],[10.0,11.0,12.0]]]]"},
        {VECTOR, {&vector}, 1, 2, "[[3e-10,1e20,6.0],[7.0,8.0,9.0]]"},
        {NUMBER, {&number}, 1, 1, "[1.0]"},
        {PAIR, {&pair, &second}, 1, 2, "[{\"c\":[-2.0,3e-10],\"d\":0},{\"c\":[1e20,6.0],\"d\":7}]"},
        {FIXED, {&fixed}, 0, 1, "[[0.5,1.0],[-2.0,3e-10]]"},
        {FLAG, {&flag}, 0, 2, "[[false,true],[true,false]]"},
        {BYTE, {&byte}, 0, 1, "[[0,255]]"},
        {INT, {&word}, 0, 1, "[[-1,2147483647]]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct nn_error error = {0};
        const char *text =
            predictions(cases[i].model, cases[i].outputs, cases[i].first, cases[i].n, &error);
        assert_string_equal(error.text, "");
        assert_string_equal(text, cases[i].text);
    }
}

static void columns_are_rows_of_each_output(void **state)
{
    (void)state;
    float reals[12] = {0.5f, 1, -2, 3e-10f, 1e20f, 6, 7, 8, 9, 10, 11, 12};
    int64_t longs[3] = {INT64_MIN, 0, 7};
    struct nn_tensor image = {NN_FP32, {4, {2, 1, 2, 3}}, reals};
    struct nn_tensor pair[2] = {{NN_FP32, {2, {3, 2}}, reals}, {NN_INT64, {1, {3}}, longs}};
    struct nn_tensor fixed = {NN_FP32, {2, {2, 2}}, reals};
    const struct {
        int model;
        const struct nn_tensor *outputs;
        int64_t first, n;
        const char *text;
    } cases[] = {
        {IMAGE, &image, 1, 1, "[[[[7.0,8.0,9.0],[10.0,11.0,12.0]]]]"},
        {PAIR, pair, 1, 2, "{\"c\":[[-2.0,3e-10],[1e20,6.0]],\"d\":[0,7]}"},
        {FIXED, &fixed, 0, 1, "[[0.5,1.0],[-2.0,3e-10]]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer out = {0};
        assert_int_equal(json_write_columns(&out, json_models[cases[i].model], cases[i].outputs,
                                            cases[i].first, cases[i].n, NULL),
                         0);
        buffer_add(&out, "", 1);
        assert_string_equal(out.data, cases[i].text);
        buffer_release(&out);
    }
    reals[5] = NAN;
    struct buffer out = {0};
    struct nn_error error = {0};
    assert_int_equal(json_write_columns(&out, json_models[PAIR], pair, 2, 1, &error), -1);
    assert_string_equal(error.text, "output \"c\" is not finite");
    buffer_release(&out);
}

static void an_element_that_is_not_finite_is_an_error(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        float reals[9] = {0, 0, 0, 0, 0, 0, 0, bad[i], 0};
        struct nn_tensor vector = {NN_FP32, {2, {3, 3}}, reals};
        struct nn_error error = {0};
        predictions(VECTOR, (const struct nn_tensor *[]){&vector}, 1, 2, &error);
        assert_string_equal(error.text, "output \"y\" row 1 is not finite");
        error = (struct nn_error){0};
        predictions(VECTOR, (const struct nn_tensor *[]){&vector}, 0, 2, &error);
        assert_string_equal(error.text, "");
    }
}

static void labels_name_the_largest_element(void **state)
{
    (void)state;
    float reals[12] = {0.1f, 0.7f, 0.2f, 0.5f, 0.5f, 0, 0, 0, 1, 0.5f, 0.51f, 0.49f};
    struct nn_tensor vector = {NN_FP32, {2, {4, 3}}, reals};
    struct nn_tensor number = {NN_FP32, {1, {3}}, reals + 9};
    struct nn_tensor image = {NN_FP32, {4, {2, 1, 2, 3}}, reals};
    struct nn_tensor longs = {NN_INT64, {2, {1, 2}}, reals};
    const struct {
        int model;
        const struct nn_tensor *output;
        int64_t first, n;
        const char *text;       /* NULL: it has none */
    } cases[] = {
        {VECTOR, &vector, 0, 2, "[\"a \\\"green\\\" one\",\"red\"]"},
        {VECTOR, &vector, 2, 1, "[\"blue\"]"},
        {NUMBER, &number, 0, 3, "[\"no\",\"yes\",\"no\"]"},
        {IMAGE, &image, 0, 2, NULL},
        {LONG, &longs, 0, 1, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer out = {0};
        bool any = json_write_labels(&out, json_models[cases[i].model], cases[i].output,
                                     cases[i].first, cases[i].n);
        assert_int_equal(any, cases[i].text != NULL);
        buffer_add(&out, "", 1);
        assert_string_equal(out.data, any ? cases[i].text : "");
        buffer_release(&out);
    }
}

static void strings_are_written_as_json(void **state)
{
    (void)state;
    static const struct {
        const char *text, *json;
    } cases[] = {
        {"", "\"\""},
        {"plain", "\"plain\""},
        {"\"\\/", "\"\\\"\\\\/\""},
        {"\b\f\n\r\t\x01\x1f\x7f", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\""},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"a\xff" "b\xc3", "\"a\xef\xbf\xbd" "b\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},      /* a surrogate */
        {"\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\""},                      /* overlong */
        {"\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer out = {0};
        buffer_add_json_string(&out, cases[i].text);
        buffer_printf(&out, "%c", 0);
        assert_string_equal(out.data, cases[i].json);
        buffer_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(predictions_are_nested_like_their_outputs),
        cmocka_unit_test(columns_are_rows_of_each_output),
        cmocka_unit_test(an_element_that_is_not_finite_is_an_error),
        cmocka_unit_test(labels_name_the_largest_element),
        cmocka_unit_test(strings_are_written_as_json),
    };
    return cmocka_run_group_tests(tests, json_models_open, json_models_close);
}
