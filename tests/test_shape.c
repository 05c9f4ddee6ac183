/*
 * Casts, arithmetic of every type of number, reductions of integers, elements of every size, and batches that fit by accident.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/kernels/kernels.h"
#include "tests/op_case.h"

/* One row for any operation: what comes out, as text in the same form as what goes in. */
static const struct {
    const char *op, *inputs[CASE_INPUTS], *attributes;
    const char *expected;
} results[] = {
    {"Cast", {"[7] = 1.9 -1.9 nan inf -inf 3e9 -3e9"}, "to 6",
     "INT32 [7] = 1 -1 0 2147483647 -2147483648 2147483647 -2147483648"},
    {"Cast", {"[6] = -0.5 -1 255.9 256 1e30 nan"}, "to 2", "UINT8 [6] = 0 0 255 255 255 0"},
    {"Cast", {"[4] = 16777216 nan -2.5 0"}, "to 7", "INT64 [4] = 16777216 0 -2 0"},
    {"Cast", {"[5] = 0 -0.0 0.001 nan -3"}, "to 9", "BOOL [5] = 0 0 1 1 1"},
    {"Cast", {"INT64 [3] = 257 -1 255"}, "to 2", "UINT8 [3] = 1 255 255"},
    {"Cast", {"INT64 [2] = 4294967297 -1"}, "to 6", "INT32 [2] = 1 -1"},
    {"Cast", {"INT64 [3] = 256 0 -1"}, "to 9", "BOOL [3] = 1 0 1"},
    {"Cast", {"INT32 [2] = -7 7"}, "to 7", "INT64 [2] = -7 7"},
    {"Cast", {"BOOL [2] = 1 0"}, "to 1", "[2] = 1 0"},
    {"Cast", {"UINT8 [2] = 255 0"}, "to 1", "[2] = 255 0"},
    {"Cast", {"[2] = 0.25 -8"}, "to 1", "[2] = 0.25 -8"},
    {"Cast", {"[6] = 65519 65520 2049 6e-8 -0.0 -inf"}, "to 10",
     "FP16 [6] = 65504 inf 2048 5.9604644775390625e-08 -0.0 -inf"},
    {"Cast", {"FP64 [3] = 0.1 1e300 -1e-320"}, "to 1", "[3] = 0.1 inf -0.0"},
    {"Cast", {"FP16 [2] = 0.5 -65504"}, "to 11", "FP64 [2] = 0.5 -65504"},
    {"Cast", {"BF16 [2] = 1.5 -3e38"}, "to 7", "INT64 [2] = 1 -9223372036854775808"},
    {"Cast", {"UINT64 [2] = 18446744073709551615 9223372036854775809"}, "to 11",
     "FP64 [2] = 18446744073709551616 9223372036854775808"},
    {"Cast", {"[4] = -1 18446744073709551616 300 nan"}, "to 13",
     "UINT64 [4] = 0 18446744073709551615 300 0"},
    {"Cast", {"[4] = -129 127.9 128 -0.9"}, "to 3", "INT8 [4] = -128 127 127 0"},
    {"Cast", {"[3] = 65536 -1 65535.5"}, "to 4", "UINT16 [3] = 65535 0 65535"},
    {"Cast", {"INT32 [3] = 65537 -32769 40000"}, "to 5", "INT16 [3] = 1 32767 -25536"},
    {"Cast", {"INT8 [2] = -1 127"}, "to 12", "UINT32 [2] = 4294967295 127"},
    {"Cast", {"UINT32 [1] = 4294967295"}, "to 1", "[1] = 4294967296"},
    {"Cast", {"FP64 [3] = 0 nan 1e-300"}, "to 9", "BOOL [3] = 0 1 1"},
    {"Add", {"INT8 [2] = 127 -3", "INT8 [1] = 1"}, NULL, "INT8 [2] = -128 -2"},
    {"Add", {"FP64 [1] = 0.1", "FP64 [1] = 0.2"}, NULL, "FP64 [1] = 0.30000000000000004"},
    {"Sub", {"UINT16 [2] = 0 9", "UINT16 [2] = 1 4"}, NULL, "UINT16 [2] = 65535 5"},
    {"Mul", {"INT16 [2] = 300 -2", "INT16 [2] = 300 5"}, NULL, "INT16 [2] = 24464 -10"},
    {"Div", {"UINT64 [3] = 18446744073709551615 7 7", "UINT64 [3] = 2 0 2"}, NULL,
     "UINT64 [3] = 9223372036854775807 0 3"},
    {"Div", {"INT8 [3] = -128 7 7", "INT8 [3] = -1 0 -2"}, NULL, "INT8 [3] = -128 0 -3"},
    {"Div", {"UINT32 [1] = 4294967295", "UINT32 [1] = 16"}, NULL, "UINT32 [1] = 268435455"},
    {"Neg", {"INT8 [2] = -128 5"}, NULL, "INT8 [2] = -128 -5"},
    {"Neg", {"INT16 [2] = -32768 5"}, NULL, "INT16 [2] = -32768 -5"},
    {"Neg", {"FP64 [2] = 0 0.1"}, NULL, "FP64 [2] = -0.0 -0.1"},
    {"Clip", {"UINT64 [3] = 1 18446744073709551615 9", "UINT64 [] = 5",
              "UINT64 [] = 9223372036854775808"}, NULL, "UINT64 [3] = 5 9223372036854775808 9"},
    {"Clip", {"INT8 [3] = -100 0 100", "INT8 [] = -7"}, NULL, "INT8 [3] = -7 0 100"},
    {"Pow", {"[2] = 2 -3", "UINT64 [2] = 3 2"}, NULL, "[2] = 8 9"},
    {"Pow", {"INT64 [2] = -1 3", "UINT64 [2] = 18446744073709551615 4"}, NULL,
     "INT64 [2] = -1 81"},
    {"Pow", {"INT32 [2] = 5 2", "INT8 [2] = 3 -1"}, NULL, "INT32 [2] = 125 0"},
    {"MaxPool", {"INT8 [1, 1, 4] = -128 -3 7 -1"}, "kernel_shape 2; strides 2",
     "INT8 [1, 1, 2] = -3 7"},
    {"Transpose", {"FP16 [2, 3] = 1 2 3 4 5 6"}, NULL, "FP16 [3, 2] = 1 4 2 5 3 6"},
    {"Transpose", {"FP64 [2, 3] = 1 2 3 4 5 6"}, NULL, "FP64 [3, 2] = 1 4 2 5 3 6"},
    {"Transpose", {"INT16 [1, 2, 3] = 1 2 3 4 5 6"}, "perm 2 0 1",
     "INT16 [3, 1, 2] = 1 4 2 5 3 6"},
    {"Concat", {"BF16 [1, 2] = 1 2", "BF16 [1, 1] = 3"}, "axis 1", "BF16 [1, 3] = 1 2 3"},
    {"Reshape", {"UINT16 [4] = 1 2 3 4", "INT64 [2] = 2 -1"}, NULL, "UINT16 [2, 2] = 1 2 3 4"},
    {"Transpose", {"UINT8 [2, 3] = 1 2 3 4 5 6"}, NULL, "UINT8 [3, 2] = 1 4 2 5 3 6"},
    {"Transpose", {"INT32 [2, 3] = 1 2 3 4 5 6"}, NULL, "INT32 [3, 2] = 1 4 2 5 3 6"},
    {"Transpose", {"INT64 [1, 2, 3] = 1 2 3 4 5 6"}, "perm 2 0 1",
     "INT64 [3, 1, 2] = 1 4 2 5 3 6"},
    {"Transpose", {"[] = 3"}, NULL, "[] = 3"},
    {"Concat", {"BOOL [1, 2] = 1 0", "BOOL [2, 2] = 0 0 1 1"}, "axis 0",
     "BOOL [3, 2] = 1 0 0 0 1 1"},
    {"Concat", {"INT64 [2, 1] = 1 2", "INT64 [2, 2] = 3 4 5 6"}, "axis -1",
     "INT64 [2, 3] = 1 3 4 2 5 6"},
    {"Reshape", {"UINT8 [4] = 1 2 3 4", "INT64 [2] = 2 -1"}, NULL, "UINT8 [2, 2] = 1 2 3 4"},
    {"Reshape", {"[1, 1] = 5", "INT64 [0] ="}, NULL, "[] = 5"},
    {"Flatten", {"[] = 5"}, "axis 0", "[1, 1] = 5"},
    {"ReduceSum", {"INT64 [2, 3] = 1 2 3 4 5 6", "INT64 [1] = 0"}, "keepdims 0",
     "INT64 [3] = 5 7 9"},
    {"ReduceSum", {"INT32 [2] = 2147483647 1"}, NULL, "INT32 [1] = -2147483648"},
    {"ReduceSum", {"INT32 [3] = 1 2 3", "INT64 [0] ="}, "noop_with_empty_axes 1",
     "INT32 [3] = 1 2 3"},
    {"ReduceSum", {"[2, 2, 2] = 1 2 3 4 5 6 7 8", "INT64 [2] = 0 2"}, "keepdims 0",
     "[2] = 14 22"},
    {"ReduceMean", {"INT32 [2, 2] = -3 0 7 8"}, "axes 1", "INT32 [2, 1] = -1 7"},
    {"ReduceMean", {"[] = 4"}, NULL, "[] = 4"},
};

static void elements_of_every_datatype_come_out_as_they_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        struct op_case row = {.op = results[i].op, .attributes = results[i].attributes};
        memcpy(row.inputs, results[i].inputs, sizeof row.inputs);
        const struct op_case expected = {.op = "Identity", .inputs = {results[i].expected}};
        struct op_run run, same;
        struct nn_error error = {0};
        if (op_run_open(&run, &row, 1, &error) != 0 ||
            op_run_open(&same, &expected, 1, &error) != 0)
            fail_msg("%s", error.text);
        op_run_forward(&run);
        const struct nn_tensor *y = &run.outputs[0], *z = &same.inputs[0];
        assert_int_equal(y->datatype, z->datatype);
        assert_true(shape_equal(&y->shape, &z->shape));
        if (memcmp(y->data, z->data, (size_t)tensor_bytes(y->datatype, &y->shape)) != 0)
            fail_msg("row %d, %s: not %s", (int)i, row.op, results[i].expected);
        op_run_close(&run);
        op_run_close(&same);
    }
}

/* Graphs that are fine for one batch size, or mix rows at every one. */
static const struct op_case mixers[] = {
    {"Reshape", {"[-1, 4]", "INT64 [2] = 4 -1"}, .output = ""},
    {"Reshape", {"[-1, 4]", "INT64 [3] = -1 2 2"}, .output = "batched"},
    {"Reshape", {"[-1, 1, 4]", "INT64 [3] = 1 -1 4"}, .output = ""},
    {"Transpose", {"[-1, 4]"}, .output = ""},
    {"Transpose", {"[-1, 4, 3]"}, "perm 0 2 1", .output = "batched"},
    {"Flatten", {"[-1, 4, 3]"}, "axis 2", .output = ""},
    {"Concat", {"[-1, 4]", "[-1, 4]"}, "axis 0", .output = ""},
    {"Concat", {"[-1, 4]", "[-1, 3]"}, "axis 1", .output = "batched"},
    {"ReduceSum", {"[-1, 4]"}, .output = ""},
    {"ReduceMean", {"[-1, 4]"}, "axes 1", .output = "batched"},
    {"BatchNormalization", {"[-1, 2]", "[2]", "[2]", "[2]", "[2]"}, "training_mode 1",
     .output = ""},
    {"Conv", {"[1, 2, 3]", "[-1, 2, 1]"}, .output = ""},
    {"MaxPool", {"[-1, 2, 3]"}, "kernel_shape 2", .output = "batched"},
};

static void only_what_keeps_rows_apart_is_batched(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mixers / sizeof mixers[0]; i++) {
        struct op_run run;
        struct nn_error error = {0};
        const char *unbatched = NULL;
        if (op_run_open(&run, &mixers[i], 4, &error) != 0)
            fail_msg("%s", error.text);
        bool fails = graph_follow_batch(run.g, NULL, &unbatched, &error) != 0;
        if ((!fails && !unbatched) != (mixers[i].output[0] != '\0'))
            fail_msg("row %d, %s: %s", (int)i, mixers[i].op,
                     unbatched ? unbatched : "said to keep rows apart");
        op_run_close(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_of_every_datatype_come_out_as_they_should),
        cmocka_unit_test(only_what_keeps_rows_apart_is_batched),
    };
    kernels_start();
    return cmocka_run_group_tests_name("shape", tests, NULL, NULL);
}
