/*
 * The operations once more, as ONNX's text has them: float64, an element at a time, by indices.
 * Nothing here comes from engine/ops, neither shapes nor values, so that a mistake there is not
 * one here.
 */
#ifndef TESTS_TWIN_H
#define TESTS_TWIN_H

#include "engine/graph.h"

struct twin_tensor {
    struct nn_shape shape;
    double *elements; /* NULL: of a type that is not FP32 */
};

/* All values of the graph, [n_values], for inputs of `batch` rows. FP32 throughout, but for
 * INT64 lists of axes and shapes; a failed test where an operation is missing here. */
struct twin_tensor *twin_run(const struct graph *g, int64_t batch, const void *const *inputs);
void twin_free(const struct graph *g, struct twin_tensor *tensors);

#endif
