/*
 * Each row is computed in float64 whatever nn_real is: the sum over a data set would lose its
 * last digits otherwise, and the rows are short.
 */
#include "trainer/loss.h"

#include <math.h>

const char *const loss_names[] = {
    [LOSS_SOFTMAX_CROSS_ENTROPY] = "softmax_cross_entropy",
    [LOSS_SIGMOID_CROSS_ENTROPY] = "sigmoid_cross_entropy",
    [LOSS_MEAN_SQUARED_ERROR] = "mean_squared_error",
    NULL,
};

/* What one row should give: its own n targets; or a class, which is 0 or 1 for a single output
 * and one-hot over several. */
struct row_target {
    const nn_real *targets;
    int32_t class;
};

static double target_at(const struct row_target *t, int64_t n, int64_t i)
{
    if (t->targets)
        return t->targets[i];
    return n == 1 ? t->class : t->class == i;
}

/*     L  = sum_i y_i (lse(z) - z_i)        lse(z) = m + log sum exp(z_i - m), m = max z
 *     dz = softmax(z) sum_i y_i - y
 */
static double softmax_cross_entropy(int64_t n, const nn_real *z, const struct row_target *t,
                                    double scale, nn_real *dz)
{
    double max = z[0], sum = 0, loss = 0, mass = 0;
    for (int64_t i = 1; i < n; i++)
        if (z[i] > max)
            max = z[i];
    for (int64_t i = 0; i < n; i++)
        sum += exp(z[i] - max);

    double log_sum = log(sum);
    for (int64_t i = 0; i < n; i++) {
        double y = target_at(t, n, i);
        loss += y * (log_sum - (z[i] - max));
        mass += y;
    }
    for (int64_t i = 0; dz && i < n; i++)
        dz[i] = (nn_real)(scale * (mass * exp(z[i] - max) / sum - target_at(t, n, i)));
    return loss;
}

/*     L  = 1/n sum_i max(z_i, 0) - z_i y_i + log(1 + exp(-|z_i|))
 *     dz = 1/n (sigmoid(z) - y)
 */
static double sigmoid_cross_entropy(int64_t n, const nn_real *z, const struct row_target *t,
                                    double scale, nn_real *dz)
{
    double loss = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = z[i], y = target_at(t, n, i);
        double e = exp(-fabs(x));                       /* never overflows */
        loss += (x < 0 ? 0 : x) - x * y + log1p(e);
        if (dz)
            dz[i] = (nn_real)(scale / (double)n * ((x < 0 ? e : 1) / (1 + e) - y));
    }
    return loss / (double)n;
}

/*     L  = 1/n sum_i (z_i - y_i)^2
 *     dz = 2/n (z - y)
 */
static double mean_squared_error(int64_t n, const nn_real *z, const struct row_target *t,
                                 double scale, nn_real *dz)
{
    double loss = 0;
    for (int64_t i = 0; i < n; i++) {
        double difference = z[i] - target_at(t, n, i);
        loss += difference * difference;
        if (dz)
            dz[i] = (nn_real)(scale * 2 / (double)n * difference);
    }
    return loss / (double)n;
}

typedef double row_loss(int64_t n, const nn_real *z, const struct row_target *t, double scale,
                        nn_real *dz);

double loss_run(enum loss_kind kind, int64_t rows, int64_t n, const nn_real *logits,
                const int32_t *classes, const nn_real *targets, double scale,
                nn_real *d_logits)
{
    static row_loss *const row_losses[] = {
        [LOSS_SOFTMAX_CROSS_ENTROPY] = softmax_cross_entropy,
        [LOSS_SIGMOID_CROSS_ENTROPY] = sigmoid_cross_entropy,
        [LOSS_MEAN_SQUARED_ERROR] = mean_squared_error,
    };
    double sum = 0;
    for (int64_t row = 0; row < rows; row++) {
        struct row_target t = {
            .targets = targets ? targets + row * n : NULL,
            .class = classes ? classes[row] : 0,
        };
        sum += row_losses[kind](n, logits + row * n, &t, scale,
                                d_logits ? d_logits + row * n : NULL);
    }
    return sum;
}
