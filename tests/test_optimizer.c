#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "trainer/optimizer.h"

static const struct optimizer_settings settings_of[] = {
    {.kind = OPTIMIZER_SGD},
    {.kind = OPTIMIZER_SGD, .momentum = 0.9},
    {.kind = OPTIMIZER_SGD, .momentum = 0.9, .nesterov = true},
    {.kind = OPTIMIZER_ADAM, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
    {.kind = OPTIMIZER_ADAM, .beta1 = 0.7, .beta2 = 0.9, .epsilon = 1e-3},
    {.kind = OPTIMIZER_ADAMW, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.1},
    {.kind = OPTIMIZER_RMSPROP, .rho = 0.9, .epsilon = 1e-7},
};
enum { N_SETTINGS = sizeof settings_of / sizeof *settings_of, N_STEPS = 50 };

/* The gradient of a bowl with noise, by weight and step: anything that is not regular. */
static double gradient_at(double w, int i, int step)
{
    return (1 + i) * (w - 0.5) + 0.3 * sin(12.9898 * i + 78.233 * step);
}

/* What weight i is after N_STEPS, in closed form from all gradients so far rather than by
 * recurrence: a moment with decay b is (1 - b) sum over s of b^(t-s) g_s (Kingma and Ba 2015,
 * equation 1); momentum is sum of mu^(t-s) g_s (Sutskever et al. 2013); Nesterov's, as PyTorch
 * has it, looks one more momentum ahead. */
static double reference(const struct optimizer_settings *o, int i, double w, double rate)
{
    double g[N_STEPS + 1];
    for (int t = 1; t <= N_STEPS; t++) {
        g[t] = gradient_at(w, i, t);
        double momentum = 0, m = 0, v = 0, s = 0;
        for (int k = 1; k <= t; k++) {
            momentum += pow(o->momentum, t - k) * g[k];
            m += (1 - o->beta1) * pow(o->beta1, t - k) * g[k];
            v += (1 - o->beta2) * pow(o->beta2, t - k) * g[k] * g[k];
            s += (1 - o->rho) * pow(o->rho, t - k) * g[k] * g[k];
        }
        double m_hat = m / (1 - pow(o->beta1, t)), v_hat = v / (1 - pow(o->beta2, t));
        switch (o->kind) {
        case OPTIMIZER_SGD:
            w -= rate * (o->nesterov ? g[t] + o->momentum * momentum : momentum);
            break;
        case OPTIMIZER_ADAM:
            w -= rate * m_hat / (sqrt(v_hat) + o->epsilon);
            break;
        case OPTIMIZER_ADAMW:
            w = (1 - rate * o->weight_decay) * w - rate * m_hat / (sqrt(v_hat) + o->epsilon);
            break;
        case OPTIMIZER_RMSPROP:
            w -= rate * g[t] / (sqrt(s) + o->epsilon);
            break;
        }
    }
    return w;
}

static void steps_are_those_of_the_papers(void **state)
{
    (void)state;
    enum { N = 7 };
    const double rate = 0.01;
    for (int k = 0; k < N_SETTINGS; k++) {
        const struct optimizer_settings *settings = &settings_of[k];
        struct optimizer *optimizer = optimizer_new(settings, N);
        assert_non_null(optimizer);
        nn_real w[N], g[N];
        for (int i = 0; i < N; i++)
            w[i] = (nn_real)(i - 3);
        for (int t = 1; t <= N_STEPS; t++) {
            for (int i = 0; i < N; i++)
                g[i] = (nn_real)gradient_at(w[i], i, t);
            optimizer_step(optimizer);
            optimizer_apply(optimizer, 0, 3, rate, true, g, w);
            optimizer_apply(optimizer, 3, N, rate, true, g, w);
        }
        for (int i = 0; i < N; i++) {
            double expected = reference(settings, i, i - 3, rate);
            if (!(fabs(w[i] - expected) < 2e-5 * fmax(1, fabs(expected))))
                fail_msg("settings %d, weight %d: %.9g, expected %.9g", k, i, (double)w[i],
                         expected);
        }
        optimizer_free(optimizer);
    }
}

/* Bias correction makes Adam's first step as long as the rate whatever the gradient (Kingma
 * and Ba 2015, section 2.1); RMSprop's is rate / sqrt(1 - rho). */
static void first_steps_do_not_depend_on_the_size_of_the_gradient(void **state)
{
    (void)state;
    static const struct {
        struct optimizer_settings settings;
        double length;
    } rows[] = {
        {{.kind = OPTIMIZER_ADAM, .beta1 = 0.9, .beta2 = 0.999}, 0.001},
        {{.kind = OPTIMIZER_RMSPROP, .rho = 0.99}, 0.01},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        nn_real w[3] = {0, 0, 0};
        static const nn_real g[3] = {1e-4f, -1, 1e4f};
        struct optimizer *optimizer = optimizer_new(&rows[k].settings, 3);
        optimizer_step(optimizer);
        optimizer_apply(optimizer, 0, 3, 0.001, true, g, w);
        for (int i = 0; i < 3; i++)
            assert_true(fabs(fabs((double)w[i]) - rows[k].length) < 1e-5 * rows[k].length);
        assert_true(w[0] < 0 && w[1] > 0 && w[2] < 0);
        optimizer_free(optimizer);
    }
}

static void weights_decay_only_where_they_are_told_to(void **state)
{
    (void)state;
    static const nn_real zero[2] = {0, 0};
    struct optimizer_settings settings = {
        .kind = OPTIMIZER_ADAMW, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8,
        .weight_decay = 0.5,
    };
    nn_real w[2] = {8, 8};
    struct optimizer *optimizer = optimizer_new(&settings, 2);
    optimizer_step(optimizer);
    optimizer_apply(optimizer, 0, 1, 0.5, true, zero, w);
    optimizer_apply(optimizer, 1, 2, 0.5, false, zero, w);
    assert_true(w[0] == 6);             /* 8 - 0.5 0.5 8 */
    assert_true(w[1] == 8);
    optimizer_free(optimizer);
}

static void the_cut_into_ranges_does_not_change_a_bit(void **state)
{
    (void)state;
    enum { N = 37 };
    for (int k = 0; k < N_SETTINGS; k++) {
        struct optimizer *whole = optimizer_new(&settings_of[k], N);
        struct optimizer *cut = optimizer_new(&settings_of[k], N);
        nn_real a[N], b[N], g[N];
        for (int i = 0; i < N; i++)
            a[i] = b[i] = (nn_real)(i * 0.1);
        for (int t = 1; t <= 5; t++) {
            for (int i = 0; i < N; i++)
                g[i] = (nn_real)gradient_at(a[i], i, t);
            optimizer_step(whole);
            optimizer_step(cut);
            optimizer_apply(whole, 0, N, 0.01, true, g, a);
            for (int i = 0; i < N; i += 5)
                optimizer_apply(cut, i, i + 5 < N ? i + 5 : N, 0.01, true, g, b);
        }
        assert_memory_equal(a, b, sizeof a);
        optimizer_free(whole);
        optimizer_free(cut);
    }
}

static void nothing_to_train_is_no_error(void **state)
{
    (void)state;
    for (int k = 0; k < N_SETTINGS; k++) {
        struct optimizer *optimizer = optimizer_new(&settings_of[k], 0);
        assert_non_null(optimizer);
        optimizer_step(optimizer);
        nn_real none = 0;
        optimizer_apply(optimizer, 0, 0, 1, true, &none, &none);
        optimizer_free(optimizer);
    }
    assert_null(optimizer_new(&settings_of[3], -1));
    optimizer_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_those_of_the_papers),
        cmocka_unit_test(first_steps_do_not_depend_on_the_size_of_the_gradient),
        cmocka_unit_test(weights_decay_only_where_they_are_told_to),
        cmocka_unit_test(the_cut_into_ranges_does_not_change_a_bit),
        cmocka_unit_test(nothing_to_train_is_no_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
