/*
 * Casts, reductions of integers, elements of every size, and batches that fit by accident.
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
