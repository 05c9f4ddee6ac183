/*
 * Reverse-mode differentiation of any graph: which gradients have to be computed, in which
 * order, to know that of the loss by the wanted values.
 *
 * Griewank and Walther, "Evaluating Derivatives", chapter 3: the adjoint of a value is the sum
 * of what its uses contribute, so gradients accumulate and fan-out needs no special case.
 */
#ifndef TRAINER_AUTODIFF_H
#define TRAINER_AUTODIFF_H

#include "engine/graph.h"

struct autodiff {
    bool *needed;               /* [n_values]: its gradient is computed */
    int n_steps;
    int *steps;                 /* nodes in the order in which their gradients run */
};

/* The gradient of an operation, or NULL: it has none. */
op_gradient *autodiff_find(const struct op *op);

/* From `output`'s gradient to those of `wanted`. An operation on the way that has no gradient
 * is an error that names the node. */
int autodiff_make(struct autodiff *autodiff, const struct graph *g, int output,
                  int n_wanted, const int *wanted, struct nn_error *error);
void autodiff_release(struct autodiff *autodiff);

#endif
