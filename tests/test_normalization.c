/*
 * BatchNormalization and Dropout in training.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "tests/op_case.h"
#include "trainer/autodiff.h"

static void open_row(struct op_run *run, const struct op_case *row, int64_t batch)
{
    struct nn_error error = {0};
    if (op_run_open(run, row, batch, &error) != 0)
        fail_msg("%s", error.text);
}

/* Worked by hand: channel 0 holds 1, 2, 3, 6 (mean 3, squares 4 + 1 + 0 + 9 over 4: 3.5),
 * channel 1 holds 10, 10, 20, 20 (mean 15, variance 25). */
static const struct op_case by_hand = {
    "BatchNormalization",
    {"[2, 2, 2] = 1 2 10 10 3 6 20 20", "[2] = 2 3", "[2] = 0.5 -1", "[2] = 1 5",
     "[2] = 10 20"},
    .attributes = "training_mode 1; momentum 0.75; epsilon 0", .n_outputs = 3,
};

static void statistics_are_those_of_the_population(void **state)
{
    (void)state;
    struct op_run run;
    open_row(&run, &by_hand, 1);
    op_run_forward(&run);
    const nn_real *y = run.outputs[0].data, *mean = run.outputs[1].data;
    const nn_real *var = run.outputs[2].data, *saved = run.saved;
    const double deviation = sqrt(3.5);
    const double expected[] = {0.5 - 4 / deviation, 0.5 - 2 / deviation, -4, -4,
                               0.5, 0.5 + 6 / deviation, 2, 2};
    for (int i = 0; i < 8; i++)
        assert_true(fabs((double)y[i] - expected[i]) < 1e-5);
    const double saved_expected[] = {3, 15, 3.5, 25};
    for (int i = 0; i < 4; i++)
        assert_true(fabs((double)saved[i] - saved_expected[i]) < 1e-6);
    assert_true(fabs((double)mean[0] - 1.5) < 1e-6 && fabs((double)mean[1] - 7.5) < 1e-6);
    assert_true(fabs((double)var[0] - 8.375) < 1e-6 && fabs((double)var[1] - 21.25) < 1e-5);
    op_run_close(&run);
}

static void small_deviations_from_a_large_mean_survive(void **state)
{
    (void)state;
    const struct op_case row = {"BatchNormalization",
                                {"[4, 1] = 100001 100002 100003 100004", "[1] = 1", "[1] = 0",
                                 "[1] = 0", "[1] = 1"},
                                .attributes = "epsilon 0", .training = true};
    struct op_run run;
    open_row(&run, &row, 1);
    op_run_forward(&run);
    assert_true(fabs((double)((nn_real *)run.saved)[1] - 1.25) < 1e-6);
    assert_true(fabs((double)((nn_real *)run.outputs[0].data)[3] - 1.5 / sqrt(1.25)) < 1e-2);
    op_run_close(&run);
}

/* Threads take a share of the channels each; there may be more threads than channels. */
static void shares_of_the_channels_make_the_whole(void **state)
{
    (void)state;
    struct op_case row = {"BatchNormalization",
                          {"[-1, 5, 3, 3]", "[5]", "[5]", "[5]", "[5] in 0.5 2"},
                          .training = true, .parts = 1};
    struct op_case cut = row;
    for (cut.parts = 2; cut.parts <= 7; cut.parts++) {
        struct op_run whole, parts;
        open_row(&whole, &row, 4);
        open_row(&parts, &cut, 4);
        op_run_forward(&whole);
        op_run_forward(&parts);
        assert_memory_equal(whole.outputs[0].data, parts.outputs[0].data,
                            4 * 5 * 9 * sizeof(nn_real));
        assert_memory_equal(whole.saved, parts.saved, whole.node->saved);
        op_gradient *gradient = autodiff_find(whole.node->op);
        memcpy(whole.d_output.data, whole.inputs[0].data, 4 * 5 * 9 * sizeof(nn_real));
        memcpy(parts.d_output.data, whole.inputs[0].data, 4 * 5 * 9 * sizeof(nn_real));
        op_run_gradient(&whole, gradient, 7);
        op_run_gradient(&parts, gradient, 7);
        for (int i = 0; i < 3; i++)
            assert_memory_equal(whole.d_inputs[i].data, parts.d_inputs[i].data,
                                (size_t)tensor_length(&whole.d_inputs[i]) * sizeof(nn_real));
        op_run_close(&whole);
        op_run_close(&parts);
    }
}

/* Of n elements, n ratio are dropped, give or take five deviations of the binomial
 * distribution; what stays is scaled so that the expected sum is that of X. */
static void dropout_drops_the_share_it_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double ratio;
    } ratios[] = {{"[] = 0", 0}, {"[] = 0.25", 0.25}, {"[] = 0.5", 0.5}, {"[] = 0.9", 0.9}};
    for (int i = 0; i < 4; i++) {
        const struct op_case row = {"Dropout", {"[-1, 1000] in 1 1", ratios[i].text},
                                    .n_outputs = 2, .training = true};
        struct op_run run;
        open_row(&run, &row, 20);
        op_run_forward(&run);
        const nn_real *y = run.outputs[0].data;
        const uint8_t *mask = run.outputs[1].data;
        double n = 20000, dropped = 0;
        for (int j = 0; j < 20000; j++) {
            double expected = mask[j] ? 1 / (1 - ratios[i].ratio) : 0;
            assert_true(fabs((double)y[j] - expected) < 1e-5);
            dropped += !mask[j];
        }
        double deviation = sqrt(n * ratios[i].ratio * (1 - ratios[i].ratio));
        assert_true(fabs(dropped - n * ratios[i].ratio) <= 5 * deviation);
        op_run_close(&run);
    }
}

static void dropout_differs_by_key_and_by_row(void **state)
{
    (void)state;
    const struct op_case row = {"Dropout", {"[-1, 300] in 1 1"}, .n_outputs = 2,
                                .training = true};
    struct op_run a, b;
    open_row(&a, &row, 2);
    open_row(&b, &row, 2);
    op_run_forward(&a);
    op_run_forward(&b);
    const uint8_t *mask = a.outputs[1].data;
    assert_memory_equal(mask, b.outputs[1].data, 600);
    assert_memory_not_equal(mask, mask + 300, 300);
    b.training.key++;
    op_run_forward(&b);
    assert_memory_not_equal(mask, b.outputs[1].data, 600);
    op_run_close(&a);
    op_run_close(&b);
}

static void dropout_does_nothing_outside_training(void **state)
{
    (void)state;
    const struct op_case row = {"Dropout", {"[-1, 30]"}, .n_outputs = 2};
    struct op_run run;
    open_row(&run, &row, 2);
    op_run_forward(&run);
    assert_memory_equal(run.outputs[0].data, run.inputs[0].data, 60 * sizeof(nn_real));
    for (int i = 0; i < 60; i++)
        assert_int_equal(((uint8_t *)run.outputs[1].data)[i], 1);
    op_run_close(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_are_those_of_the_population),
        cmocka_unit_test(small_deviations_from_a_large_mean_survive),
        cmocka_unit_test(shares_of_the_channels_make_the_whole),
        cmocka_unit_test(dropout_drops_the_share_it_is_told),
        cmocka_unit_test(dropout_differs_by_key_and_by_row),
        cmocka_unit_test(dropout_does_nothing_outside_training),
    };
    kernels_start();
    return cmocka_run_group_tests_name("normalization", tests, NULL, NULL);
}
