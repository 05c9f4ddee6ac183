/*
 * What holds for every operation: what it refuses, shapes, attributes, and that rows of a batch
 * do not know of each other.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "tests/op_case.h"

enum { BATCH = 5 };

/* bad input */

static const struct {
    const char *op, *inputs[CASE_INPUTS], *attributes;
    const char *text;
} refusals[] = {
    {"Conv", {"[-1, 3]", "[4, 3]"}, NULL, "X must be [N, C, L] or [N, C, H, W], not [5, 3]"},
    {"Conv", {"[-1, 3, 4, 4, 4]", "[4, 3, 1, 1, 1]"}, NULL,
     "X must be [N, C, L] or [N, C, H, W], not [5, 3, 4, 4, 4]"},
    {"Conv", {"[-1, 3, 4, 4]", "[4, 3, 3]"}, NULL,
     "W [4, 3, 3] must have as many axes as X [5, 3, 4, 4]"},
    {"Conv", {"[-1, 1, 3, 3]", "[4, 1, 5, 5]"}, NULL, "kernel 5 is larger than its input 3"},
    {"Conv", {"[-1, 1, 9, 9]", "[4, 1, 3, 3]"}, "dilations 1 5; pads 0 0 0 1",
     "kernel 3 with dilation 5 is larger than its input 9 with padding 1"},
    {"Conv", {"[-1, 4, 5, 5]", "[6, 1, 3, 3]"}, "group 3",
     "group 3 does not divide the 4 channels of X"},
    {"Conv", {"[-1, 4, 5, 5]", "[3, 2, 3, 3]"}, "group 2",
     "group 2 does not divide the 3 filters of W"},
    {"Conv", {"[-1, 4, 5, 5]", "[4, 4, 3, 3]"}, "group 2",
     "W [4, 4, 3, 3] must have 2 channels (4 of X in 2 groups), not 4"},
    {"Conv", {"[-1, 4, 5, 5]", "[4, 4, 3, 3]"}, "kernel_shape 3 2",
     "kernel_shape says 2 where W [4, 4, 3, 3] has 3"},
    {"Conv", {"[-1, 4, 5, 5]", "[4, 4, 3, 3]"}, "kernel_shape 3",
     "kernel_shape must have 2 elements, not 1"},
    {"Conv", {"[-1, 4, 5, 5]", "[4, 4, 3, 3]"}, "strides 1 1 1",
     "strides must have 2 elements, not 3"},
    {"Conv", {"[-1, 4, 5, 5]", "[4, 4, 3, 3]"}, "pads 1 1",
     "pads must have 4 elements, not 2"},
    {"Conv", {"[-1, 4, 5]", "[4, 4, 3]"}, "dilations 1 1",
     "dilations must have 1 elements, not 2"},
    {"Conv", {"[-1, 4, 5, 5]", "[4, 4, 3, 3]"}, "auto_pad VALID; pads 1 1 1 1",
     "pads and auto_pad VALID exclude each other"},
    {"Conv", {"[-1, 4, 5, 5]", "[4, 4, 3, 3]", "[3]"}, NULL, "B must be [4], not [3]"},
    {"Conv", {"INT64 [-1, 4, 5, 5]", "[4, 4, 3, 3]"}, NULL, "X must be FP32, not INT64"},
    {"Conv", {"[-1, 4, 5, 5]", "UINT8 [4, 4, 3, 3]"}, NULL, "W must be FP32, not UINT8"},
    {"Conv", {"[-1, 1, 9999999999]", "[1, 1, 1]"}, NULL,
     "a window needs an axis of 1 to 2147483647 elements, not 9999999999"},
    {"Conv", {"[-1, 1, 4, 4]", "[1, 1, 3, 3]"}, "pads 16777216 16777216 16777216 16777216",
     "output 0 would have the shape [5, 1, 33554434, 33554434]"},

    {"MaxPool", {"[-1, 2, 3, 3]"}, NULL, "attribute \"kernel_shape\" is missing"},
    {"MaxPool", {"[-1, 2, 3, 3]"}, "kernel_shape 4 4", "kernel 4 is larger than its input 3"},
    {"MaxPool", {"[-1, 2, 3, 3]"}, "kernel_shape 2 2; pads 0 0 2 0",
     "padding 2 of the height is not smaller than the kernel 2"},
    {"MaxPool", {"[-1, 2, 3, 3]"}, "kernel_shape 2 2; dilations 1 4; pads 0 2 0 2",
     "dilation 4 of the width steps over the whole input 3"},
    {"MaxPool", {"INT64 [-1, 2, 3, 3]"}, "kernel_shape 2 2", "X must be FP32, not INT64"},
    {"AveragePool", {"[-1, 2, 3]"}, "kernel_shape 2 2",
     "kernel_shape must have 1 elements, not 2"},
    {"AveragePool", {"UINT8 [-1, 2, 3]"}, "kernel_shape 2", "X must be FP32, not UINT8"},
    {"GlobalAveragePool", {"[-1, 2]"}, NULL, "X must be [N, C, D...], not [5, 2]"},

    {"BatchNormalization", {"[5]", "[5]", "[5]", "[5]", "[5]"}, NULL,
     "X must be [N, C, ...], not [5]"},
    {"BatchNormalization", {"[-1, 3]", "[3]", "[2]", "[3]", "[3]"}, NULL,
     "B must be [3], not [2]"},
    {"Dropout", {"[-1, 3]", "[] = 1"}, NULL, "ratio must be at least 0 and below 1, not 1"},
    {"Dropout", {"[-1, 3]", "[2] = 0 0"}, NULL, "ratio must be a constant with one element"},
    {"Dropout", {"[-1, 3]", "", "BOOL [-1] = 0 0 0 0 0"}, NULL,
     "training_mode must be a constant with one element"},

    {"Flatten", {"[-1, 3]"}, "axis 3", "axis 3 is outside a tensor of rank 2"},
    {"Flatten", {"[-1, 3]"}, "axis -3", "axis -3 is outside a tensor of rank 2"},
    {"Reshape", {"[-1, 3]", "INT64 [2] = 4 -1"}, NULL,
     "X [5, 3] does not fit into shape [4, -1]"},
    {"Reshape", {"[-1, 3]", "INT64 [2] = 5 4"}, NULL,
     "X [5, 3] does not fit into shape [5, 4]"},
    {"Reshape", {"[-1, 3]", "INT64 [2] = -1 -1"}, NULL, "shape [-1, -1] has more than one -1"},
    {"Reshape", {"[-1, 3]", "INT64 [2] = 5 -2"}, NULL,
     "shape [5, -2] has a dimension below -1"},
    {"Reshape", {"[-1, 3]", "INT64 [3] = 5 3 0"}, NULL,
     "shape [5, 3, 0] takes axis 2 from X [5, 3], which has none"},
    {"Reshape", {"[-1, 3]", "INT64 [2] = 0 -1"}, "allowzero 1",
     "X [5, 3] does not fit into shape [0, -1]"},
    {"Reshape", {"[-1, 3]", "INT64 [9] = 1 1 1 1 1 1 1 1 15"}, NULL,
     "shape has 9 axes; there may be 8"},
    {"Reshape", {"[-1, 3]", "INT64 [2] = 4611686018427387904 4"}, NULL,
     "X [5, 3] does not fit into shape [4611686018427387904, 4]"},
    {"Reshape", {"[-1, 3]", "[2] = 5 3"}, NULL, "shape must be INT64, not FP32"},
    {"Reshape", {"[-1, 3]", "INT64 [-1] = 5 3 1 1 1"}, NULL, "shape must be a constant list"},
    {"Transpose", {"[-1, 3]"}, "perm 0", "perm has 1 axes, X has 2"},
    {"Transpose", {"[-1, 3]"}, "perm 1 1", "perm must name each of the axes 0 to 1 once"},
    {"Transpose", {"[-1, 3]"}, "perm 0 2", "perm must name each of the axes 0 to 1 once"},
    {"Concat", {"[-1, 3]", "[-1, 3, 1]"}, "axis 1",
     "input 1 [5, 3, 1] differs from input 0 [5, 3] in more than axis 1"},
    {"Concat", {"[-1, 3]", "[4, 3]"}, "axis 1",
     "input 1 [4, 3] differs from input 0 [5, 3] in more than axis 1"},
    {"Concat", {"[-1, 3]", "UINT8 [-1, 3]"}, "axis 1",
     "input 1 must be FP32 as input 0, not UINT8"},
    {"Concat", {"[-1, 3]"}, "axis 2", "axis 2 is outside a tensor of rank 2"},
    {"Cast", {"[-1, 3]"}, "to 8",
     "cannot cast to datatype 8 of ONNX: known are 1 (FP32), 2 (UINT8), 3 (INT8), 4 (UINT16), "
     "5 (INT16), 6 (INT32), 7 (INT64), 9 (BOOL), 10 (FP16), 11 (FP64), 12 (UINT32), "
     "13 (UINT64) and 16 (BF16)"},
    {"Add", {"FP16 [-1, 3]", "FP16 [3]"}, NULL, "the inputs cannot be FP16: Cast first"},
    {"Neg", {"BF16 [-1, 3]"}, NULL, "X cannot be BF16: Cast first"},
    {"Neg", {"UINT32 [-1, 3]"}, NULL, "X has a sign, it cannot be UINT32"},
    {"Clip", {"FP16 [-1, 3]"}, NULL, "X cannot be FP16: Cast first"},
    {"Relu", {"FP64 [-1, 3]"}, NULL, "X must be FP32, not FP64"},
    {"Pow", {"FP64 [-1, 3]", "FP64 [3]"}, NULL, "FP64 to the power of FP64 is not defined"},
    {"ReduceSum", {"[-1, 3]", "INT64 [1] = 2"}, NULL, "axis 2 is outside a tensor of rank 2"},
    {"ReduceSum", {"[-1, 3]", "INT64 [2] = 1 -1"}, NULL, "axis 1 is named twice"},
    {"ReduceSum", {"[-1, 3]", "INT64 [-1] = 1 1 1 1 1"}, NULL, "axes must be a constant list"},
    {"ReduceMean", {"[-1, 3]"}, "axes 1 -1", "axis 1 is named twice"},
    {"ReduceMean", {"UINT8 [-1, 3]"}, NULL, "X must be FP32, not UINT8"},
};

static void assert_refused(const struct op_case *row, const char *text)
{
    char expected[512];
    snprintf(expected, sizeof expected, "y (%s): %s", row->op, text);
    struct op_run run;
    struct nn_error error = {0};
    int status = op_run_open(&run, row, BATCH, &error);
    assert_string_equal(error.text, expected);
    assert_int_equal(status, -1);
    op_run_close(&run);
}

static void what_does_not_fit_is_refused_in_words(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct op_case row = {.op = refusals[i].op, .attributes = refusals[i].attributes};
        memcpy(row.inputs, refusals[i].inputs, sizeof row.inputs);
        assert_refused(&row, refusals[i].text);
    }
}

static void running_statistics_outside_training_are_refused(void **state)
{
    (void)state;
    const struct op_case row = {"BatchNormalization", {"[-1, 3]", "[3]", "[3]", "[3]", "[3]"},
                                .n_outputs = 3};
    assert_refused(&row, "running_mean and running_var need training_mode 1");
}

static void a_columns_matrix_larger_than_memory_is_refused(void **state)
{
    (void)state;
    const struct op_case row = {"Conv", {"[1, 8192, 8388608]", "[1, 8192, 8388608]"},
                                .attributes = "pads 8388608 8388608"};
    assert_refused(&row, "the tensors take more than 1024 GiB");
}

/* shapes */

static void open_row(struct op_run *run, const struct op_case *row, int64_t batch)
{
    struct nn_error error = {0};
    if (op_run_open(run, row, batch, &error) != 0)
        fail_msg("%s", error.text);
}

static void shapes_and_the_batch_are_those_of_the_specification(void **state)
{
    (void)state;
    for (const struct op_case *row = op_cases; row->op; row++) {
        struct op_run run;
        open_row(&run, row, BATCH);
        struct nn_shape shape = run.output_types[0]->shape;
        if (run.output_types[0]->batch >= 0)
            shape.dims[run.output_types[0]->batch] = -1;
        struct shape_text text;
        assert_string_equal(shape_print(&shape, &text), row->output);
        op_run_close(&run);
    }
}

/* attributes */

static double field_value(const struct op_attribute *a, const void *attributes)
{
    const void *field = (const char *)attributes + a->offset;
    switch (a->kind) {
    case OP_INT:
        return (double)*(const int64_t *)field;
    case OP_FLOAT:
        return *(const double *)field;
    case OP_CHOICE:
        return *(const int *)field;
    default:
        return (double)((const struct op_ints *)field)->values[0];
    }
}

static int set_value(const struct op *op, void *attributes, const struct op_attribute *a,
                     double value, struct nn_error *error)
{
    int64_t ints[] = {(int64_t)value, (int64_t)value};
    switch (a->kind) {
    case OP_INT:
        return op_set_int(op, attributes, a->name, (int64_t)value, error);
    case OP_FLOAT:
        return op_set_float(op, attributes, a->name, value, error);
    case OP_INTS:
        return op_set_ints(op, attributes, a->name, ints, 2, error);
    default:
        return op_set_string(op, attributes, a->name, a->choices[(int)value], error);
    }
}

static void check_attribute(const struct op *op, const struct op_attribute *a)
{
    char attributes[1024] __attribute__((aligned(16)));
    assert_true(op->attributes_size <= sizeof attributes);
    assert_ptr_equal(op_find_attribute(op, a->name), a);
    op_attributes_init(op, attributes);
    assert_true(field_value(a, attributes) == (a->kind == OP_INTS ? 0 : a->initial));

    bool bounded = a->min != 0 || a->max != 0;
    double low = bounded ? a->min : -3, high = bounded ? a->max : 3;
    if (a->kind == OP_CHOICE)
        for (low = high = 0; a->choices[(int)high + 1]; high++)
            ;
    double values[] = {low, high};
    for (int i = 0; i < 2; i++) {
        struct nn_error error = {0};
        if (set_value(op, attributes, a, values[i], &error) != 0)
            fail_msg("%s: %s", op->name, error.text);
        assert_true(field_value(a, attributes) == values[i]);
    }
    if (a->kind == OP_CHOICE) {
        assert_int_equal(op_set_string(op, attributes, a->name, "SIDEWAYS", NULL), -1);
    } else if (bounded) {
        assert_int_equal(set_value(op, attributes, a, low - 1, NULL), -1);
        assert_int_equal(set_value(op, attributes, a, high + 1, NULL), -1);
    }
    assert_true(field_value(a, attributes) == high);

    /* Nothing is read as what it is not. */
    if (a->kind != OP_CHOICE)
        assert_int_equal(op_set_string(op, attributes, a->name, "1", NULL), -1);
    if (a->kind != OP_INTS)
        assert_int_equal(op_set_ints(op, attributes, a->name, (int64_t[]){1}, 1, NULL), -1);
    if (a->kind != OP_FLOAT)
        assert_int_equal(op_set_float(op, attributes, a->name, 1, NULL), -1);
}

static void every_attribute_is_set_as_its_row_says(void **state)
{
    (void)state;
    for (const struct op *const *op = op_table; *op; op++) {
        for (const struct op_attribute *a = (*op)->attributes; a && a->name; a++)
            check_attribute(*op, a);
        assert_null(op_find_attribute(*op, "no_such_attribute"));
    }
}

/* rows */

static char *row_of(const struct nn_tensor *t, int axis, int64_t outer, int64_t row,
                    size_t *bytes)
{
    size_t size = nn_datatype_size(t->datatype);
    int64_t inner = shape_product(&t->shape, axis + 1, t->shape.rank);
    *bytes = (size_t)inner * size;
    return (char *)t->data + (size_t)((outer * t->shape.dims[axis] + row) * inner) * size;
}

static void assert_rows_close(const struct op_case *row, const struct nn_tensor *whole,
                              const struct nn_tensor *slice, int axis, int64_t begin)
{
    for (int64_t outer = 0; outer < shape_product(&slice->shape, 0, axis); outer++)
        for (int64_t r = 0; r < slice->shape.dims[axis]; r++) {
            size_t bytes;
            const void *a = row_of(whole, axis, outer, begin + r, &bytes);
            const void *b = row_of(slice, axis, outer, r, &bytes);
            if (whole->datatype != NN_FP32) {
                assert_memory_equal(a, b, bytes);
                continue;
            }
            const nn_real *x = a, *y = b;
            for (size_t i = 0; i < bytes / sizeof *x; i++)
                if (!(fabs((double)(x[i] - y[i])) <= 1e-5 * fmax(1, fabs((double)x[i]))))
                    fail_msg("%s %s: row %d is %g in a batch and %g in a slice", row->op,
                             row->attributes ? row->attributes : "", (int)(begin + r),
                             (double)x[i], (double)y[i]);
        }
}

static void check_slice(const struct op_run *whole, int64_t begin, int64_t n)
{
    struct op_run slice;
    open_row(&slice, whole->row, n);
    slice.training.row = begin;
    for (int i = 0; i < whole->n_inputs; i++)
        for (int64_t r = 0; r < n && whole->types[i] && whole->types[i]->batch == 0; r++) {
            size_t bytes;
            const void *from = row_of(&whole->inputs[i], 0, 0, begin + r, &bytes);
            memcpy(row_of(&slice.inputs[i], 0, 0, r, &bytes), from, bytes);
        }
    op_run_forward(&slice);
    for (int i = 0; i < whole->n_outputs; i++) {
        int axis = whole->output_types[i]->batch;
        if (axis >= 0 && slice.output_types[i]->batch == axis)
            assert_rows_close(whole->row, &whole->outputs[i], &slice.outputs[i], axis, begin);
    }
    op_run_close(&slice);
}

static void a_row_is_the_same_in_every_batch(void **state)
{
    (void)state;
    int checked = 0;
    for (const struct op_case *row = op_cases; row->op; row++) {
        struct op_run whole;
        open_row(&whole, row, BATCH);
        bool of_batch = (whole.node->op->flags & OP_BATCH_STATISTICS) && row->training;
        if (whole.output_types[0]->batch >= 0 && !of_batch) {
            op_run_forward(&whole);
            for (int64_t i = 0; i < BATCH; i++)
                check_slice(&whole, i, 1);
            check_slice(&whole, 0, 2);
            check_slice(&whole, 2, 3);
            checked++;
        }
        op_run_close(&whole);
    }
    assert_true(checked > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_is_refused_in_words),
        cmocka_unit_test(running_statistics_outside_training_are_refused),
        cmocka_unit_test(a_columns_matrix_larger_than_memory_is_refused),
        cmocka_unit_test(shapes_and_the_batch_are_those_of_the_specification),
        cmocka_unit_test(every_attribute_is_set_as_its_row_says),
        cmocka_unit_test(a_row_is_the_same_in_every_batch),
    };
    kernels_start();
    return cmocka_run_group_tests_name("ops", tests, NULL, NULL);
}
