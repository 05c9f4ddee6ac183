/*
 * Element types, shapes and broadcasting, for the engine and the trainer.
 */
#ifndef ENGINE_TENSOR_H
#define ENGINE_TENSOR_H

#include "engine/engine.h"

/* What FP32 tensors hold. The builds that check gradients by differences define NN_REAL as
 * double; everything that ships is float. */
#ifndef NN_REAL
#define NN_REAL float
#endif
typedef NN_REAL nn_real;

enum { TENSOR_ALIGNMENT = 64 };

/* The number of elements, or -1 when a dimension is negative or the product leaves int64. */
int64_t shape_elements(const struct nn_shape *shape);

/* The product of dims[begin] ... dims[end - 1]; 1 when there are none. For shapes that
 * shape_elements() has accepted. */
int64_t shape_product(const struct nn_shape *shape, int begin, int end);

bool shape_equal(const struct nn_shape *a, const struct nn_shape *b);

/* Multidirectional broadcasting (ONNX, "Broadcasting in ONNX"). -1: they do not fit. */
int shape_broadcast(const struct nn_shape *a, const struct nn_shape *b, struct nn_shape *out);

/* Element strides of `shape` when it is broadcast to `out`: 0 along what is repeated.
 * strides has out->rank elements. */
void shape_broadcast_strides(const struct nn_shape *shape, const struct nn_shape *out,
                             int64_t *strides);

/* "[2, 3, -1]" into the caller's buffer, which is also returned. */
struct shape_text {
    char text[NN_MAX_RANK * 22 + 3];
};
const char *shape_print(const struct nn_shape *shape, struct shape_text *text);

/* elements * size of the datatype, or -1 when that leaves int64. */
int64_t tensor_bytes(enum nn_datatype datatype, const struct nn_shape *shape);

/* Zeroed memory at TENSOR_ALIGNMENT, to be given back with free(); NULL when there is none. */
void *tensor_allocate(size_t bytes);

/* Gives the memory of elements that nobody reads any more back to the system, as far as it is
 * whole pages. The block that they lie in is freed as before. */
void tensor_discard(void *elements, size_t bytes);

#endif
