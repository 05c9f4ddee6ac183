#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/kernels/kernels.h"
#include "engine/op.h"
#include "tests/random_vector.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SINGLE = sizeof(nn_real) == sizeof(float) };

/* exp, sigmoid, tanh against libm in double */

struct function {
    const char *name;
    void (*vector)(int64_t, const nn_real *, nn_real *);
    double (*reference)(double);
    double max_ulp;
};

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static const struct function functions[] = {
    {"exp", kernel_exp, exp, 2},
    {"sigmoid", kernel_sigmoid, sigmoid, 4},
    {"tanh", kernel_tanh, tanh, 3},
};

/* The distance of a result from the truth, in units of the truth's last place. */
static double ulp_error(double result, double truth)
{
    if (isnan(truth) || isnan(result))
        return isnan(truth) && isnan(result) ? 0 : INFINITY;
    double limit = SINGLE ? FLT_MAX : DBL_MAX;
    if (isinf(result))
        return fabs(truth) > limit * (1 - 1e-7) && signbit(result) == signbit(truth) ? 0
                                                                                    : INFINITY;
    int digits = SINGLE ? FLT_MANT_DIG : DBL_MANT_DIG;
    int least = (SINGLE ? FLT_MIN_EXP : DBL_MIN_EXP) - digits;
    int exponent = truth == 0 ? least : ilogb(truth) + 1 - digits;
    return fabs(result - truth) / ldexp(1, exponent < least ? least : exponent);
}

static void functions_are_within_a_few_units_of_the_last_place(void **state)
{
    (void)state;
    enum { N = 400001 };
    static const double ranges[] = {110, 20, 1, 1e-6};
    nn_real *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    assert_non_null(x);
    assert_non_null(y);

    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
        double worst = 0;
        for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++) {
            for (int i = 0; i < N; i++)
                x[i] = (nn_real)(ranges[r] * (2.0 * i / (N - 1) - 1));
            functions[f].vector(N, x, y);
            for (int i = 0; i < N; i++) {
                double truth = functions[f].reference((double)x[i]);
                double error = ulp_error((double)y[i], truth);
                worst = error > worst ? error : worst;
                if (!(error <= functions[f].max_ulp))
                    fail_msg("%s(%.9g) = %.9g, not %.9g: %g units", functions[f].name,
                             (double)x[i], (double)y[i], truth, error);
            }
        }
        print_message("%s: at most %.2f units of the last place\n", functions[f].name, worst);
    }
    free(x);
    free(y);
}

static void functions_keep_the_special_values(void **state)
{
    (void)state;
    nn_real x[] = {INFINITY, -INFINITY, NAN, 0, -0.0f, 3e38f, -3e38f, 1e-40f, -1e-40f};
    enum { N = sizeof x / sizeof *x };

    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
        nn_real y[N];
        functions[f].vector(N, x, y);
        for (int i = 0; i < N; i++) {
            double truth = functions[f].reference((double)x[i]);
            if (!(ulp_error((double)y[i], truth) <= 2))
                fail_msg("%s(%g) = %g, not %g", functions[f].name, (double)x[i], (double)y[i],
                         truth);
        }
    }
    nn_real zero = -0.0f;
    kernel_tanh(1, &zero, &zero);
    assert_true(signbit(zero));
}

static void functions_work_in_place_at_every_length(void **state)
{
    (void)state;
    for (int64_t n = 0; n < 200; n++)
        for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
            nn_real *x = random_vector(n + 1, 5), *y = random_vector(n + 1, 6);
            nn_real after = x[n];
            y[n] = after;
            functions[f].vector(n, x, y);
            functions[f].vector(n, x, x);
            assert_memory_equal(x, y, (size_t)(n + 1) * sizeof *x);
            assert_true(x[n] == after);
            free(x);
            free(y);
        }
}

/* sums */

static void reductions_of_every_length_agree_with_plain_loops(void **state)
{
    (void)state;
    for (int64_t n = 0; n < 150; n++) {
        nn_real *x = random_vector(n + 1, 7), *y = random_vector(n + 1, 8);
        double sum = 0, dot = 0, max = -INFINITY;
        for (int64_t i = 0; i < n; i++) {
            sum += (double)x[i];
            dot += (double)x[i] * (double)y[i];
            max = fmax(max, (double)x[i]);
        }
        double tolerance = 1e-6 * (double)(n + 1);
        assert_true(fabs((double)kernel_sum(n, x) - sum) <= tolerance);
        assert_true(fabs((double)kernel_dot(n, x, y) - dot) <= tolerance);
        if (n > 0)
            assert_true((double)kernel_max(n, x) == max);

        nn_real *z = malloc((size_t)(n + 1) * sizeof *z);
        assert_non_null(z);
        memcpy(z, y, (size_t)(n + 1) * sizeof *z);
        kernel_axpy(n, -3, x, z);
        for (int64_t i = 0; i < n; i++)
            assert_true(fabs((double)(z[i] - (y[i] - 3 * x[i]))) <= 1e-6);
        assert_true(z[n] == y[n]);
        free(x);
        free(y);
        free(z);
    }
}

static void a_long_sum_of_equal_numbers_stays_exact_to_1e_5(void **state)
{
    (void)state;
    enum { N = 1000000 };
    nn_real *x = malloc(N * sizeof *x);
    assert_non_null(x);
    for (int i = 0; i < N; i++)
        x[i] = 0.1f;
    double sum = (double)kernel_sum(N, x);
    free(x);
    assert_true(fabs(sum / (N * (double)0.1f) - 1) < 1e-5);
}

/* bias and activation */

static double activate(int activation, double x, double alpha, double beta)
{
    switch (activation) {
    case ACTIVATION_RELU:
        return fmax(x, 0);
    case ACTIVATION_LEAKY_RELU:
        return x < 0 ? alpha * x : x;
    case ACTIVATION_SIGMOID:
        return sigmoid(x);
    case ACTIVATION_TANH:
        return tanh(x);
    case ACTIVATION_CLIP:
        return fmin(fmax(x, alpha), beta);
    default:
        return x;
    }
}

static void bias_and_activation_are_what_they_are_one_by_one(void **state)
{
    (void)state;
    enum { ROWS = 5, COLUMNS = 37, STRIDE = 40 };
    nn_real alpha = -0.25f, beta = 0.5f;

    for (int activation = ACTIVATION_NONE; activation <= ACTIVATION_CLIP; activation++)
        for (int biases = 0; biases < 4; biases++) {
            nn_real *before = random_vector(ROWS * STRIDE, 9);
            nn_real *y = random_vector(ROWS * STRIDE, 9);
            nn_real *column = biases & 1 ? random_vector(COLUMNS, 10) : NULL;
            nn_real *row = biases & 2 ? random_vector(ROWS, 11) : NULL;
            kernel_bias_activation(ROWS, COLUMNS, y, STRIDE, column, row, activation, alpha,
                                   beta);
            for (int i = 0; i < ROWS; i++)
                for (int j = 0; j < STRIDE; j++) {
                    double x = (double)before[i * STRIDE + j];
                    if (j < COLUMNS)
                        x = activate(activation,
                                     x + (double)(column ? column[j] : 0) +
                                         (double)(row ? row[i] : 0),
                                     (double)alpha, (double)beta);
                    assert_true(fabs((double)y[i * STRIDE + j] - x) <= 1e-6);
                }
            free(before);
            free(y);
            free(column);
            free(row);
        }
}

static void no_activation_hides_a_nan(void **state)
{
    (void)state;
    for (int activation = ACTIVATION_NONE; activation <= ACTIVATION_CLIP; activation++) {
        nn_real y[] = {1, NAN, 2, 3, NAN};
        kernel_bias_activation(1, 5, y, 5, NULL, NULL, activation, 0, 1);
        assert_true(isnan(y[1]) && isnan(y[4]));
        assert_false(isnan(y[0]));
    }
}

/* random numbers */

/* Random123, examples/kat_vectors: philox4x32 10, counter and key all zero and all one. */
static void philox_gives_the_published_numbers(void **state)
{
    (void)state;
    assert_true(kernel_random(0, 0) == UINT64_C(0xe169c58d6627e8d5));
    assert_true(kernel_random_key(UINT64_MAX, UINT64_MAX) == UINT64_C(0x41c83b0e408f276d));
}

static void random_numbers_have_the_moments_of_their_distributions(void **state)
{
    (void)state;
    enum { N = 200000 };
    double uniform[3] = {0}, normal[5] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double u = kernel_random_uniform(42, i), g = kernel_random_normal(43, i);
        assert_true(u >= 0 && u < 1 && isfinite(g));
        uniform[1] += u / N;
        uniform[2] += u * u / N;
        for (int power = 1; power <= 4; power++)
            normal[power] += pow(g, power) / N;
    }
    /* Five standard errors: sqrt(variance of the power / N). */
    assert_true(fabs(uniform[1] - 1 / 2.) < 5 * sqrt(1 / 12. / N));
    assert_true(fabs(uniform[2] - 1 / 3.) < 5 * sqrt(4 / 45. / N));
    assert_true(fabs(normal[1]) < 5 * sqrt(1. / N));
    assert_true(fabs(normal[2] - 1) < 5 * sqrt(2. / N));
    assert_true(fabs(normal[3]) < 5 * sqrt(15. / N));
    assert_true(fabs(normal[4] - 3) < 5 * sqrt(96. / N));
}

static void neighbouring_streams_are_not_correlated(void **state)
{
    (void)state;
    enum { N = 100000 };
    double product = 0;
    uint64_t a = kernel_random_key(1, 0), b = kernel_random_key(1, 1);
    assert_true(a != b);
    for (uint64_t i = 0; i < N; i++)
        product += kernel_random_normal(a, i) * kernel_random_normal(b, i) / N;
    assert_true(fabs(product) < 5 * sqrt(1. / N));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_within_a_few_units_of_the_last_place),
        cmocka_unit_test(functions_keep_the_special_values),
        cmocka_unit_test(functions_work_in_place_at_every_length),
        cmocka_unit_test(reductions_of_every_length_agree_with_plain_loops),
        cmocka_unit_test(a_long_sum_of_equal_numbers_stays_exact_to_1e_5),
        cmocka_unit_test(bias_and_activation_are_what_they_are_one_by_one),
        cmocka_unit_test(no_activation_hides_a_nan),
        cmocka_unit_test(philox_gives_the_published_numbers),
        cmocka_unit_test(random_numbers_have_the_moments_of_their_distributions),
        cmocka_unit_test(neighbouring_streams_are_not_correlated),
    };
    kernels_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
