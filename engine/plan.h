/*
 * One arena for all tensors of a run: values whose lifetimes do not meet share memory.
 */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H

#include "engine/graph.h"

struct plan {
    size_t arena;               /* bytes; every offset below is aligned to TENSOR_ALIGNMENT */
    size_t *offsets;            /* [n_values]: where a value lies, or PLAN_CONSTANT */
    size_t *scratch;            /* [n_nodes]: where its passing memory lies */
};

#define PLAN_CONSTANT SIZE_MAX  /* its elements are the graph's own, or it has none */

/* For the batch size of the last graph_infer(), the largest that will be run. Inputs live
 * from before the first node, outputs until after the last. Where an operation allows it,
 * its output 0 lies where its input 0 lies. 0 or -1. */
int plan_make(struct plan *plan, const struct graph *g, struct nn_error *error);
void plan_release(struct plan *plan);

#endif
