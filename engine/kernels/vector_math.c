/*
 * Loops over vectors, written so that compilers turn them into vector instructions although
 * they may neither reorder additions nor forget NaN (no -ffast-math): no call and no dependency
 * in a loop's body, both sides of a choice computed. GCC needs -fno-trapping-math for that.
 */
#include "engine/kernels/kernels.h"

#include "engine/op.h"

#include <math.h>
#include <string.h>

/* Inlined into each caller, where the functions they are given become part of the loop. */
#define TEMPLATE static inline __attribute__((always_inline))

TEMPLATE uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

TEMPLATE float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2; the polynomial is that of
 * Cephes' expf (S. L. Moshier). 2^n is applied in two halves, so that results may be
 * subnormal or infinite. Beyond the clamps e^x is 0 or infinite in float; NaN passes. */
TEMPLATE float exp_float(float x)
{
    const float round = 0x1.8p23f;      /* adding it leaves an integer in the low bits */
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;

    float shifted = x * 1.44269504f + round;
    int32_t n = (int32_t)(bits_of(shifted) - bits_of(round));
    float whole = shifted - round;
    float r = x - whole * 0.693359375f + whole * 2.12194440e-4f;

    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;

    int32_t half = n >> 1;
    return p * float_of((uint32_t)(half + 127) << 23) *
           float_of((uint32_t)(n - half + 127) << 23);
}

/* With e = e^-|x| nothing overflows and small results keep their digits. */
TEMPLATE float sigmoid_float(float x)
{
    float e = exp_float(-fabsf(x));
    return (x < 0 ? e : 1) / (1 + e);
}

/* Near 0 the odd polynomial of Cephes' tanhf, elsewhere 1 - 2 / (e^2|x| + 1); of |x|, so
 * that -0 stays -0. */
TEMPLATE float tanh_float(float x)
{
    float magnitude = fabsf(x);
    float far = 1 - 2 / (exp_float(2 * magnitude) + 1);
    float z = x * x;
    float near = -5.70498872745e-3f;
    near = near * z + 2.06390887954e-2f;
    near = near * z - 5.37397155531e-2f;
    near = near * z + 1.33314422036e-1f;
    near = near * z - 3.33332819422e-1f;
    near = near * z * magnitude + magnitude;
    return copysignf(magnitude < 0.625f ? near : far, x);
}

/* In builds for double, whose purpose is exactness, the C library's functions. */
TEMPLATE nn_real exp_real(nn_real x)
{
    return sizeof x == sizeof(float) ? exp_float((float)x) : (nn_real)exp(x);
}

TEMPLATE nn_real sigmoid_real(nn_real x)
{
    if (sizeof x == sizeof(float))
        return sigmoid_float((float)x);
    double e = exp(-fabs(x));
    return (nn_real)((x < 0 ? e : 1) / (1 + e));
}

TEMPLATE nn_real tanh_real(nn_real x)
{
    return sizeof x == sizeof(float) ? tanh_float((float)x) : (nn_real)tanh(x);
}

/* y may be x, which keeps compilers from vectorising: what is computed with lies in a block
 * of its own. */
TEMPLATE void map(int64_t n, const nn_real *x, nn_real *y, nn_real (*function)(nn_real))
{
    enum { BLOCK = 64 };
    int64_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        nn_real block[BLOCK];
        for (int j = 0; j < BLOCK; j++)
            block[j] = function(x[i + j]);
        memcpy(y + i, block, sizeof block);
    }
    if (i < n) {
        size_t rest = (size_t)(n - i) * sizeof *x;
        nn_real block[BLOCK] = {0};
        memcpy(block, x + i, rest);
        for (int j = 0; j < BLOCK; j++)
            block[j] = function(block[j]);
        memcpy(y + i, block, rest);
    }
}

void kernel_exp(int64_t n, const nn_real *x, nn_real *y)
{
    map(n, x, y, exp_real);
}

void kernel_sigmoid(int64_t n, const nn_real *x, nn_real *y)
{
    map(n, x, y, sigmoid_real);
}

void kernel_tanh(int64_t n, const nn_real *x, nn_real *y)
{
    map(n, x, y, tanh_real);
}

void kernel_axpy(int64_t n, nn_real a, const nn_real *restrict x, nn_real *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/* Reductions keep this many partial results: the order of additions is fixed in the source,
 * and still has as many independent chains as vector units want. */
enum { LANES = 16 };

TEMPLATE nn_real add_lanes(const nn_real *lanes)
{
    nn_real quarters[4] = {0};
    for (int j = 0; j < LANES; j++)
        quarters[j % 4] += lanes[j];
    return (quarters[0] + quarters[1]) + (quarters[2] + quarters[3]);
}

/* Long sums are made in halves: the error grows with the logarithm of n. */
nn_real kernel_sum(int64_t n, const nn_real *x)
{
    if (n > 4096)
        return kernel_sum(n / 2, x) + kernel_sum(n - n / 2, x + n / 2);

    nn_real lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lanes[j] += x[i + j];
    for (int j = 0; i < n; i++, j++)
        lanes[j] += x[i];
    return add_lanes(lanes);
}

nn_real kernel_dot(int64_t n, const nn_real *x, const nn_real *y)
{
    nn_real lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lanes[j] += x[i + j] * y[i + j];
    for (int j = 0; i < n; i++, j++)
        lanes[j] += x[i] * y[i];
    return add_lanes(lanes);
}

/* NaN is passed over. */
nn_real kernel_max(int64_t n, const nn_real *x)
{
    nn_real lanes[LANES];
    for (int j = 0; j < LANES; j++)
        lanes[j] = -INFINITY;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    nn_real max = -INFINITY;
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (int j = 0; j < LANES; j++)
        max = lanes[j] > max ? lanes[j] : max;
    return max;
}

/* activations: comparisons are written so that NaN stays NaN */

TEMPLATE nn_real identity(nn_real x, nn_real alpha, nn_real beta)
{
    (void)alpha, (void)beta;
    return x;
}

TEMPLATE nn_real relu(nn_real x, nn_real alpha, nn_real beta)
{
    (void)alpha, (void)beta;
    return x < 0 ? 0 : x;
}

TEMPLATE nn_real leaky_relu(nn_real x, nn_real alpha, nn_real beta)
{
    (void)beta;
    nn_real scaled = alpha * x;
    return x < 0 ? scaled : x;
}

TEMPLATE nn_real clip(nn_real x, nn_real alpha, nn_real beta)
{
    nn_real raised = x < alpha ? alpha : x;
    return raised > beta ? beta : raised;
}

TEMPLATE nn_real sigmoid(nn_real x, nn_real alpha, nn_real beta)
{
    (void)alpha, (void)beta;
    return sigmoid_real(x);
}

TEMPLATE nn_real hyperbolic_tangent(nn_real x, nn_real alpha, nn_real beta)
{
    (void)alpha, (void)beta;
    return tanh_real(x);
}

TEMPLATE void activate(int64_t rows, int64_t columns, nn_real *y, int64_t stride,
                       const nn_real *column_bias, const nn_real *row_bias,
                       nn_real (*function)(nn_real, nn_real, nn_real), nn_real alpha,
                       nn_real beta)
{
    for (int64_t i = 0; i < rows; i++) {
        nn_real *restrict row = y + i * stride;
        const nn_real *restrict bias = column_bias;
        nn_real offset = row_bias ? row_bias[i] : 0;
        if (bias)
            for (int64_t j = 0; j < columns; j++)
                row[j] = function(row[j] + (bias[j] + offset), alpha, beta);
        else
            for (int64_t j = 0; j < columns; j++)
                row[j] = function(row[j] + offset, alpha, beta);
    }
}

void kernel_bias_activation(int64_t rows, int64_t columns, nn_real *y, int64_t stride,
                            const nn_real *column_bias, const nn_real *row_bias,
                            int activation, nn_real alpha, nn_real beta)
{
#define ACTIVATE(function) \
    activate(rows, columns, y, stride, column_bias, row_bias, function, alpha, beta)

    switch ((enum op_activation)activation) {
    case ACTIVATION_NONE:
        if (column_bias || row_bias)
            ACTIVATE(identity);
        break;
    case ACTIVATION_RELU:
        ACTIVATE(relu);
        break;
    case ACTIVATION_LEAKY_RELU:
        ACTIVATE(leaky_relu);
        break;
    case ACTIVATION_SIGMOID:
        ACTIVATE(sigmoid);
        break;
    case ACTIVATION_TANH:
        ACTIVATE(hyperbolic_tangent);
        break;
    case ACTIVATION_CLIP:
        ACTIVATE(clip);
        break;
    }
#undef ACTIVATE
}
