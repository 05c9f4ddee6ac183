/*
 * Reads ONNX models and tensors (onnx.proto, https://github.com/onnx/onnx) into a graph, as far
 * as the conformance cases take it.
 */
#ifndef TESTS_ONNX_MODEL_H
#define TESTS_ONNX_MODEL_H

#include "engine/graph.h"

enum { ONNX_MAX_PORTS = 64 };   /* inputs or outputs of a node or a model */

enum onnx_result {
    ONNX_PASSED,
    ONNX_FAILED,                /* it should work */
    ONNX_NO_OPERATOR,           /* skipped: it has an operation that we do not have */
    ONNX_NO_TYPE,               /* skipped: a type of tensor that we do not have */
    ONNX_OTHER_OPSET,           /* skipped: the operation meant something else then */
    ONNX_NO_TRAINING,           /* skipped: it computes what training does */
    ONNX_NO_VOLUME,             /* skipped: it convolves or pools along three axes */
    ONNX_EMPTY,                 /* skipped: it computes a tensor without elements */
    ONNX_RESULTS,
};

/* ONNX_PASSED if a model has only operations and kinds of values that we have. */
enum onnx_result onnx_check_model(struct graph *g, const uint8_t *bytes, size_t n,
                                  struct nn_error *error);

/* Adds the nodes of a checked model to an empty graph. Its inputs are given: the first `n_variable`
 * as inputs of the graph, the others (and what has no elements) as constants. */
enum onnx_result onnx_read_model(struct graph *g, const uint8_t *bytes, size_t n,
                                 const struct nn_tensor *inputs, int n_inputs,
                                 int n_variable, struct nn_error *error);

/* Reads a TensorProto; its elements belong to the graph. */
enum onnx_result onnx_read_tensor(struct graph *g, const uint8_t *bytes, size_t n,
                                  struct nn_tensor *tensor, struct nn_error *error);

#endif
