/*
 * Optimisers: one loop over one array.
 *
 *     sgd       v = momentum v + g;  w -= lr v  (nesterov: w -= lr (g + momentum v))
 *     adam      Kingma and Ba 2015, algorithm 1
 *     adamw     Loshchilov and Hutter 2019: w -= lr weight_decay w besides
 *     rmsprop   s = rho s + (1 - rho) g^2;  w -= lr g / (sqrt(s) + epsilon)
 */
#ifndef TRAINER_OPTIMIZER_H
#define TRAINER_OPTIMIZER_H

#include "engine/tensor.h"

enum optimizer_kind { OPTIMIZER_SGD, OPTIMIZER_ADAM, OPTIMIZER_ADAMW, OPTIMIZER_RMSPROP };

extern const char *const optimizer_names[];     /* in the enum's order, ended by NULL */

struct optimizer_settings {
    enum optimizer_kind kind;
    double learning_rate, momentum;
    bool nesterov;
    double beta1, beta2, epsilon, rho, weight_decay;
};

struct optimizer;               /* settings, step count and moments */

/* For n weights; settings are copied. NULL: no memory. */
struct optimizer *optimizer_new(const struct optimizer_settings *settings, int64_t n);
void optimizer_free(struct optimizer *optimizer);

/* Begins the next step. Then optimizer_apply() once for each range of weights, each range by
 * one thread. */
void optimizer_step(struct optimizer *optimizer);

/* w[begin, end) by gradients g; `decays` says whether weight_decay applies there. */
void optimizer_apply(struct optimizer *optimizer, int64_t begin, int64_t end, double rate,
                     bool decays, const nn_real *g, nn_real *w);

#endif
