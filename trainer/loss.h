/*
 * Losses, from logits: stable, and averaged over the batch.
 *
 *     softmax_cross_entropy   -log softmax(z)[class]
 *     sigmoid_cross_entropy   mean over outputs of max(z, 0) - z y + log(1 + exp(-|z|))
 *     mean_squared_error      mean over outputs of (z - y)^2
 */
#ifndef TRAINER_LOSS_H
#define TRAINER_LOSS_H

#include "engine/tensor.h"

enum loss_kind { LOSS_SOFTMAX_CROSS_ENTROPY, LOSS_SIGMOID_CROSS_ENTROPY,
                 LOSS_MEAN_SQUARED_ERROR };

extern const char *const loss_names[];          /* in the enum's order, ended by NULL */

/* The sum (not the mean) over `rows` rows of logits [rows, n], in float64. Either classes
 * [rows] or targets [rows, n]; sigmoid_cross_entropy with n == 1 takes classes 0 and 1 too.
 * d_logits (may be NULL) gets the gradient of the sum times `scale`: 1 / rows of the whole
 * batch makes it the gradient of the mean. */
double loss_run(enum loss_kind kind, int64_t rows, int64_t n, const nn_real *logits,
                const int32_t *classes, const nn_real *targets, double scale,
                nn_real *d_logits);

#endif
