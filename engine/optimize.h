/*
 * What makes a graph faster without changing what it computes, for serving: inference only.
 */
#ifndef ENGINE_OPTIMIZE_H
#define ENGINE_OPTIMIZE_H

#include "engine/graph.h"

/* All passes, in their order: constants are folded, Identity and inference-time Dropout
 * dropped, BatchNormalization and input scaling folded into Conv and Gemm, activations moved
 * into the operation before them, dead nodes removed. Inputs and outputs keep their names,
 * types and order. graph_infer() has to be called again afterwards. */
int graph_optimize(struct graph *g, struct nn_error *error);

#endif
