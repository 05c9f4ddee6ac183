#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "trainer/loss.h"

enum { ROWS = 3, N = 4 };

static const nn_real logits[ROWS * N] = {
    0.5f, -1.25f, 2, 0.125f, -3, 4.5f, 0, 1, 0.75f, 0.75f, -0.75f, -2,
};
static const int32_t classes[ROWS] = {2, 0, 3};
static const nn_real targets[ROWS * N] = {0, 1, 0, 1, 1, 1, 0, 0, 0.25f, 0.5f, 1, 0};

/* The formulas of trainer/loss.h as they stand there: no maximum taken out, nothing joined. */

static double naive_softmax(const nn_real *z, int class)
{
    double sum = 0;
    for (int i = 0; i < N; i++)
        sum += exp(z[i]);
    return -log(exp(z[class]) / sum);
}

static double naive_sigmoid(const nn_real *z, const nn_real *y)
{
    double loss = 0;
    for (int i = 0; i < N; i++) {
        double p = 1 / (1 + exp(-(double)z[i]));
        loss -= ((double)y[i] * log(p) + (1 - (double)y[i]) * log(1 - p)) / N;
    }
    return loss;
}

static double naive_squared(const nn_real *z, const nn_real *y)
{
    double loss = 0;
    for (int i = 0; i < N; i++)
        loss += pow((double)z[i] - (double)y[i], 2) / N;
    return loss;
}

static void assert_near(double actual, double expected, double tolerance)
{
    if (!(fabs(actual - expected) <= tolerance * fmax(1, fabs(expected))))
        fail_msg("%.17g, expected %.17g", actual, expected);
}

static void extreme_logits_stay_finite(void **state)
{
    (void)state;
    static const nn_real far[][2] = {{1e4f, -1e4f}, {-1e4f, 1e4f}, {-1e4f, -1e4f}, {1e4f, 1e4f}};
    static const int32_t class = 0;
    static const nn_real target[2] = {1, 0};
    /* -log softmax: the distance to the larger logit, log 2 for equal ones; sigmoid: |z| for
     * each that is on the wrong side, halved; squares by hand. */
    static const double expected[][3] = {
        {0, 0, ((1e4 - 1) * (1e4 - 1) + 1e8) / 2},
        {2e4, 1e4, ((1e4 + 1) * (1e4 + 1) + 1e8) / 2},
        {0.69314718055994531, 5e3, ((1e4 + 1) * (1e4 + 1) + 1e8) / 2},
        {0.69314718055994531, 5e3, ((1e4 - 1) * (1e4 - 1) + 1e8) / 2},
    };
    for (int i = 0; i < 4; i++)
        for (int kind = 0; loss_names[kind]; kind++) {
            bool by_class = kind == LOSS_SOFTMAX_CROSS_ENTROPY;
            nn_real gradient[2];
            double loss = loss_run(kind, 1, 2, far[i], by_class ? &class : NULL,
                                   by_class ? NULL : target, 1, gradient);
            assert_near(loss, expected[i][kind], 1e-12);
            assert_true(isfinite(gradient[0]) && isfinite(gradient[1]));
        }
}

static void logits_that_are_not_finite_show_in_the_loss(void **state)
{
    (void)state;
    static const nn_real bad[][2] = {{NAN, 1}, {1, NAN}, {INFINITY, 1}, {NAN, NAN}};
    static const nn_real target[2] = {1, 0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int kind = 0; loss_names[kind]; kind++)
            assert_false(isfinite(loss_run(kind, 1, 2, bad[i], NULL, target, 1, NULL)));
}

static void losses_are_those_of_their_formulas(void **state)
{
    (void)state;
    double softmax = 0, sigmoid = 0, squared = 0;
    for (int r = 0; r < ROWS; r++) {
        softmax += naive_softmax(logits + r * N, classes[r]);
        sigmoid += naive_sigmoid(logits + r * N, targets + r * N);
        squared += naive_squared(logits + r * N, targets + r * N);
    }
    assert_near(loss_run(LOSS_SOFTMAX_CROSS_ENTROPY, ROWS, N, logits, classes, NULL, 1, NULL),
                softmax, 1e-12);
    assert_near(loss_run(LOSS_SIGMOID_CROSS_ENTROPY, ROWS, N, logits, NULL, targets, 1, NULL),
                sigmoid, 1e-12);
    assert_near(loss_run(LOSS_MEAN_SQUARED_ERROR, ROWS, N, logits, NULL, targets, 1, NULL),
                squared, 1e-12);
}

static void one_output_takes_two_classes(void **state)
{
    (void)state;
    static const nn_real z[2] = {1.5f, -0.5f};
    static const int32_t class[2] = {0, 1};
    nn_real gradient[2];
    double loss = loss_run(LOSS_SIGMOID_CROSS_ENTROPY, 2, 1, z, class, NULL, 1, gradient);
    assert_near(loss, log(1 + exp(1.5)) + log(1 + exp(0.5)), 1e-12);
    assert_near(gradient[0], 1 / (1 + exp(-1.5)), 1e-6);
    assert_near(gradient[1], 1 / (1 + exp(0.5)) - 1, 1e-6);
}

static void gradients_are_those_of_differences(void **state)
{
    (void)state;
    const double scale = 0.25, h = 1 / 256.0;   /* a step that float32 holds exactly */
    for (int kind = 0; loss_names[kind]; kind++)
        for (int by_class = 0; by_class < 2; by_class++) {
            const int32_t *class = by_class ? classes : NULL;
            const nn_real *target = by_class ? NULL : targets;
            nn_real gradient[ROWS * N], z[ROWS * N];
            for (int i = 0; i < ROWS * N; i++)
                z[i] = logits[i];
            loss_run(kind, ROWS, N, z, class, target, scale, gradient);
            for (int i = 0; i < ROWS * N; i++) {
                z[i] = (nn_real)(logits[i] + h);
                double above = loss_run(kind, ROWS, N, z, class, target, 1, NULL);
                z[i] = (nn_real)(logits[i] - h);
                double below = loss_run(kind, ROWS, N, z, class, target, 1, NULL);
                z[i] = logits[i];
                assert_near(gradient[i], scale * (above - below) / (2 * h), 1e-5);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extreme_logits_stay_finite),
        cmocka_unit_test(logits_that_are_not_finite_show_in_the_loss),
        cmocka_unit_test(losses_are_those_of_their_formulas),
        cmocka_unit_test(one_output_takes_two_classes),
        cmocka_unit_test(gradients_are_those_of_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
