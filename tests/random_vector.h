/*
 * Vectors to compute with: numbers in [-1, 1), the same for the same key.
 */
#ifndef TESTS_RANDOM_VECTOR_H
#define TESTS_RANDOM_VECTOR_H

#include "engine/tensor.h"

/* To be given back with free(); without memory the test fails. */
nn_real *random_vector(int64_t n, uint64_t key);

#endif
