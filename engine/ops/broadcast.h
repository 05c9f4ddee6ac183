/*
 * Walking over two tensors that are broadcast to one another, row by row.
 *
 *     struct broadcast w;
 *     for (broadcast_begin(&w, &a->shape, &b->shape, &y->shape); w.rows > 0; broadcast_next(&w))
 *         ...elements y[w.y] to y[w.y + w.n - 1], from a[w.a + i * w.a_step] and b...
 *
 * Axes along which both tensors simply go on are walked as one: equal shapes are a single row.
 */
#ifndef ENGINE_OPS_BROADCAST_H
#define ENGINE_OPS_BROADCAST_H

#include "engine/op.h"

struct broadcast {
    int64_t rows;               /* left, with the current one */
    int64_t n;                  /* elements of a row */
    int64_t a, b, y;            /* where the current row begins, in elements */
    int64_t a_step, b_step;     /* 1, or 0: one element for the whole row */

    int outer;                  /* axes outside a row, and where we are along them */
    int64_t dims[NN_MAX_RANK], index[NN_MAX_RANK];
    int64_t a_strides[NN_MAX_RANK], b_strides[NN_MAX_RANK];
};

/* `y` is what shape_broadcast() says of `a` and `b`. */
void broadcast_begin(struct broadcast *w, const struct nn_shape *a, const struct nn_shape *b,
                     const struct nn_shape *y);
void broadcast_next(struct broadcast *w);

/* Type, shape and batch of output 0 for the first two inputs, broadcast, with input 0's
 * datatype. */
int broadcast_infer(struct op_inference *inference, struct nn_error *error);

#endif
