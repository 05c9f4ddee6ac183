#include "trainer/initializer.h"

#include <math.h>

#include "engine/kernels/kernels.h"

const char *const initializer_names[] = {
    [INITIALIZER_CONSTANT] = "constant",
    [INITIALIZER_HE_NORMAL] = "he_normal",
    [INITIALIZER_HE_UNIFORM] = "he_uniform",
    [INITIALIZER_GLOROT_NORMAL] = "glorot_normal",
    [INITIALIZER_GLOROT_UNIFORM] = "glorot_uniform",
    NULL,
};

static void fill_normal(double variance, uint64_t key, int64_t n, nn_real *weights)
{
    double deviation = sqrt(variance);
    for (int64_t i = 0; i < n; i++)
        weights[i] = (nn_real)(deviation * kernel_random_normal(key, (uint64_t)i));
}

/* The variance of a uniform value in [-limit, limit] is limit^2 / 3. */
static void fill_uniform(double variance, uint64_t key, int64_t n, nn_real *weights)
{
    double limit = sqrt(3 * variance);
    for (int64_t i = 0; i < n; i++)
        weights[i] = (nn_real)(limit * (2 * kernel_random_uniform(key, (uint64_t)i) - 1));
}

void initializer_fill(const struct initializer *initializer, uint64_t key, int64_t n,
                      nn_real *weights)
{
    double he = 2 / (double)initializer->fan_in;
    double glorot = 2 / ((double)initializer->fan_in + (double)initializer->fan_out);

    switch (initializer->kind) {
    case INITIALIZER_CONSTANT:
        for (int64_t i = 0; i < n; i++)
            weights[i] = (nn_real)initializer->value;
        break;
    case INITIALIZER_HE_NORMAL:
        fill_normal(he, key, n, weights);
        break;
    case INITIALIZER_HE_UNIFORM:
        fill_uniform(he, key, n, weights);
        break;
    case INITIALIZER_GLOROT_NORMAL:
        fill_normal(glorot, key, n, weights);
        break;
    case INITIALIZER_GLOROT_UNIFORM:
        fill_uniform(glorot, key, n, weights);
        break;
    }
}
