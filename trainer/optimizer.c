/*
 * w, g, v, m, s: [n]. The loops have no branch and no call, so that the compiler makes vectors
 * of them.
 */
#include "trainer/optimizer.h"

#include <stdlib.h>
#include <tgmath.h>

const char *const optimizer_names[] = {
    [OPTIMIZER_SGD] = "sgd",
    [OPTIMIZER_ADAM] = "adam",
    [OPTIMIZER_ADAMW] = "adamw",
    [OPTIMIZER_RMSPROP] = "rmsprop",
    NULL,
};

struct optimizer {
    struct optimizer_settings settings;
    int64_t step;               /* from 1 */
    nn_real *first;             /* [n] v of sgd, m of Adam, or NULL */
    nn_real *second;            /* [n] v of Adam, s of RMSprop, or NULL */
};

static bool uses_first(const struct optimizer_settings *settings)
{
    return settings->kind == OPTIMIZER_SGD ? settings->momentum != 0
                                           : settings->kind != OPTIMIZER_RMSPROP;
}

static bool uses_second(const struct optimizer_settings *settings)
{
    return settings->kind != OPTIMIZER_SGD;
}

struct optimizer *optimizer_new(const struct optimizer_settings *settings, int64_t n)
{
    size_t bytes;
    if (n < 0 || __builtin_mul_overflow((size_t)n, sizeof(nn_real), &bytes))
        return NULL;
    if (bytes == 0)
        bytes = sizeof(nn_real);

    struct optimizer *optimizer = calloc(1, sizeof(*optimizer));
    if (!optimizer)
        return NULL;
    optimizer->settings = *settings;
    if (uses_first(settings) && !(optimizer->first = tensor_allocate(bytes)))
        goto fail;
    if (uses_second(settings) && !(optimizer->second = tensor_allocate(bytes)))
        goto fail;
    return optimizer;

fail:
    optimizer_free(optimizer);
    return NULL;
}

void optimizer_free(struct optimizer *optimizer)
{
    if (!optimizer)
        return;
    free(optimizer->first);
    free(optimizer->second);
    free(optimizer);
}

void optimizer_step(struct optimizer *optimizer)
{
    optimizer->step++;
}

/*     w -= rate g */
static void apply_sgd(int64_t n, nn_real rate, const nn_real *g, nn_real *w)
{
    for (int64_t i = 0; i < n; i++)
        w[i] -= rate * g[i];
}

/*     v = momentum v + g;  w -= rate v */
static void apply_momentum(int64_t n, nn_real rate, nn_real momentum, const nn_real *restrict g,
                           nn_real *restrict v, nn_real *restrict w)
{
    for (int64_t i = 0; i < n; i++) {
        v[i] = momentum * v[i] + g[i];
        w[i] -= rate * v[i];
    }
}

/*     v = momentum v + g;  w -= rate (g + momentum v) */
static void apply_nesterov(int64_t n, nn_real rate, nn_real momentum, const nn_real *restrict g,
                           nn_real *restrict v, nn_real *restrict w)
{
    for (int64_t i = 0; i < n; i++) {
        v[i] = momentum * v[i] + g[i];
        w[i] -= rate * (g[i] + momentum * v[i]);
    }
}

/*     m = beta1 m + (1 - beta1) g
 *     v = beta2 v + (1 - beta2) g^2
 *     w -= rate m^ / (sqrt(v^) + epsilon) + decay w
 *
 * with m^ = m / (1 - beta1^t), v^ = v / (1 - beta2^t). */
static void apply_adam(const struct optimizer *optimizer, int64_t begin, int64_t n, double rate,
                       double decay, const nn_real *restrict g, nn_real *restrict w)
{
    const struct optimizer_settings *s = &optimizer->settings;
    nn_real *restrict m = optimizer->first + begin;
    nn_real *restrict v = optimizer->second + begin;
    double t = (double)optimizer->step;
    nn_real step = (nn_real)(rate / (1 - pow(s->beta1, t)));
    nn_real v_scale = (nn_real)(1 / (1 - pow(s->beta2, t)));
    nn_real beta1 = (nn_real)s->beta1, one_less_beta1 = (nn_real)(1 - s->beta1);
    nn_real beta2 = (nn_real)s->beta2, one_less_beta2 = (nn_real)(1 - s->beta2);
    nn_real epsilon = (nn_real)s->epsilon, shrink = (nn_real)decay;

    for (int64_t i = 0; i < n; i++) {
        m[i] = beta1 * m[i] + one_less_beta1 * g[i];
        v[i] = beta2 * v[i] + one_less_beta2 * g[i] * g[i];
        w[i] -= step * m[i] / (sqrt(v[i] * v_scale) + epsilon) + shrink * w[i];
    }
}

/*     s = rho s + (1 - rho) g^2;  w -= rate g / (sqrt(s) + epsilon) */
static void apply_rmsprop(const struct optimizer *optimizer, int64_t begin, int64_t n,
                          double rate, const nn_real *restrict g, nn_real *restrict w)
{
    nn_real *restrict s = optimizer->second + begin;
    nn_real rho = (nn_real)optimizer->settings.rho;
    nn_real one_less_rho = (nn_real)(1 - optimizer->settings.rho);
    nn_real epsilon = (nn_real)optimizer->settings.epsilon, step = (nn_real)rate;

    for (int64_t i = 0; i < n; i++) {
        s[i] = rho * s[i] + one_less_rho * g[i] * g[i];
        w[i] -= step * g[i] / (sqrt(s[i]) + epsilon);
    }
}

void optimizer_apply(struct optimizer *optimizer, int64_t begin, int64_t end, double rate,
                     bool decays, const nn_real *g, nn_real *w)
{
    const struct optimizer_settings *s = &optimizer->settings;
    nn_real step = (nn_real)rate, momentum = (nn_real)s->momentum;
    int64_t n = end - begin;
    g += begin;
    w += begin;

    switch (s->kind) {
    case OPTIMIZER_SGD:
        if (!optimizer->first)
            apply_sgd(n, step, g, w);
        else if (s->nesterov)
            apply_nesterov(n, step, momentum, g, optimizer->first + begin, w);
        else
            apply_momentum(n, step, momentum, g, optimizer->first + begin, w);
        break;
    case OPTIMIZER_ADAM:
        apply_adam(optimizer, begin, n, rate, 0, g, w);
        break;
    case OPTIMIZER_ADAMW:
        apply_adam(optimizer, begin, n, rate, decays ? rate * s->weight_decay : 0, g, w);
        break;
    case OPTIMIZER_RMSPROP:
        apply_rmsprop(optimizer, begin, n, rate, g, w);
        break;
    }
}
