#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "trainer/initializer.h"

enum { N = 200000 };

static nn_real weights[N], again[N];

static void variances_and_limits_are_those_of_the_papers(void **state)
{
    (void)state;
    static const struct {
        enum initializer_kind kind;
        double variance, limit;         /* for 50 inputs and 200 outputs */
    } rows[] = {
        {INITIALIZER_HE_NORMAL, 0.04, INFINITY},                        /* 2 / 50 */
        {INITIALIZER_HE_UNIFORM, 0.04, 0.34641016151377546},            /* sqrt(6 / 50) */
        {INITIALIZER_GLOROT_NORMAL, 0.008, INFINITY},                   /* 2 / 250 */
        {INITIALIZER_GLOROT_UNIFORM, 0.008, 0.15491933384829668},       /* sqrt(6 / 250) */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct initializer initializer = {.kind = rows[i].kind, .fan_in = 50, .fan_out = 200};
        initializer_fill(&initializer, 7, N, weights);
        double sum = 0, squares = 0, largest = 0;
        for (int j = 0; j < N; j++) {
            sum += weights[j];
            squares += (double)weights[j] * weights[j];
            largest = fmax(largest, fabs((double)weights[j]));
        }
        /* Five standard errors: of the mean, and of the variance of a normal value. */
        double mean = sum / N, variance = squares / N - mean * mean;
        assert_true(fabs(mean) < 5 * sqrt(rows[i].variance / N));
        assert_true(fabs(variance / rows[i].variance - 1) < 5 * sqrt(2.0 / N));
        assert_true(largest <= rows[i].limit * (1 + 1e-6));
        if (isfinite(rows[i].limit))
            assert_true(largest > 0.999 * rows[i].limit);
        else
            assert_true(largest > 4 * sqrt(rows[i].variance));
    }
}

static void a_constant_is_constant(void **state)
{
    (void)state;
    struct initializer initializer = {.kind = INITIALIZER_CONSTANT, .value = 0.25};
    initializer_fill(&initializer, 1, 3, weights);
    for (int i = 0; i < 3; i++)
        assert_true(weights[i] == (nn_real)0.25);
}

static void a_value_depends_only_on_key_and_position(void **state)
{
    (void)state;
    struct initializer initializer = {.kind = INITIALIZER_HE_NORMAL, .fan_in = 9, .fan_out = 9};
    int differ = 0;
    initializer_fill(&initializer, 3, 100, weights);
    initializer_fill(&initializer, 3, 50, again);
    assert_memory_equal(weights, again, 50 * sizeof *weights);
    initializer_fill(&initializer, 4, 50, again);
    for (int i = 0; i < 50; i++)
        differ += weights[i] != again[i];
    assert_true(differ > 45);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variances_and_limits_are_those_of_the_papers),
        cmocka_unit_test(a_constant_is_constant),
        cmocka_unit_test(a_value_depends_only_on_key_and_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
