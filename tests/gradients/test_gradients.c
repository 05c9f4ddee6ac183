/*
 * Every operation's gradient against central differences, where nn_real is double.
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

enum { BATCH = 5 };             /* op_cases' shapes are those of five rows */

static const double step = 1e-6, absolute = 1e-5, relative = 1e-3;

static bool has_gradient(const struct op_case *row, int input)
{
    return !row->wanted || row->wanted[input] != '-';
}

static double loss(struct op_run *run)
{
    op_run_forward(run);
    return (double)kernel_dot(tensor_length(&run->d_output), run->outputs[0].data,
                              run->d_output.data);
}

static double difference(struct op_run *run, int input, int64_t element)
{
    nn_real *x = (nn_real *)run->inputs[input].data + element, before = *x;
    *x = before + (nn_real)step;
    double above = loss(run);
    *x = before - (nn_real)step;
    double below = loss(run);
    *x = before;
    return (above - below) / (2 * step);
}

static void set_all(struct op_run *run, nn_real value)
{
    for (int i = 0; i < run->n_inputs; i++)
        for (int64_t j = 0; run->types[i] && j < tensor_length(&run->d_inputs[i]); j++)
            ((nn_real *)run->d_inputs[i].data)[j] = value;
}

static void open_row(struct op_run *run, const struct op_case *row)
{
    struct nn_error error = {0};
    if (op_run_open(run, row, BATCH, &error) != 0)
        fail_msg("%s", error.text);
    for (int64_t i = 0; i < tensor_length(&run->d_output); i++)
        ((nn_real *)run->d_output.data)[i] =
            (nn_real)(kernel_random_uniform(1, (uint64_t)i) - 0.4);
}

/* What is already in the gradients stays, and a second run adds the same again; and an input's
 * gradient is the same when nobody wants the others'. */
static void check_input(struct op_run *run, op_gradient *gradient, int input, int case_number)
{
    const nn_real *d = run->d_inputs[input].data;
    for (int64_t i = 0; i < tensor_length(&run->d_inputs[input]); i++) {
        double expected = difference(run, input, i);
        op_run_forward(run);
        for (int alone = 0; alone < 2; alone++) {
            unsigned wanted = alone ? 1u << input : 0;
            for (int j = 0; j < run->n_inputs && !alone; j++)
                wanted |= (unsigned)(run->types[j] && has_gradient(run->row, j)) << j;
            set_all(run, 3);
            op_run_gradient(run, gradient, wanted);
            op_run_gradient(run, gradient, wanted);
            double got = ((double)d[i] - 3) / 2;
            if (!(fabs(got - expected) <= absolute + relative * fabs(expected)))
                fail_msg("row %d, %s %s: gradient of input %d, element %d: %.9g by the "
                         "operation, %.9g by differences", case_number, run->row->op,
                         run->row->attributes ? run->row->attributes : "", input, (int)i, got,
                         expected);
        }
    }
}

static void every_gradient_is_that_of_central_differences(void **state)
{
    (void)state;
    if (sizeof(nn_real) < sizeof(double))
        skip();
    for (const struct op_case *row = op_cases; row->op; row++) {
        op_gradient *gradient = autodiff_find(op_find(row->op));
        if (!gradient)
            continue;
        struct op_run run;
        open_row(&run, row);
        for (int i = 0; i < run.n_inputs; i++)
            if (run.types[i] && has_gradient(row, i))
                check_input(&run, gradient, i, (int)(row - op_cases));
        op_run_close(&run);
    }
}

static void every_operation_with_a_gradient_has_a_row(void **state)
{
    (void)state;
    for (const struct op *const *op = op_table; *op; op++) {
        bool found = false;
        for (const struct op_case *row = op_cases; row->op; row++)
            found |= strcmp(row->op, (*op)->name) == 0 &&
                     (!autodiff_find(*op) || has_gradient(row, 0));
        if (!found)
            fail_msg("%s has no row in op_cases", (*op)->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_with_a_gradient_has_a_row),
        cmocka_unit_test(every_gradient_is_that_of_central_differences),
    };
    kernels_start();
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
