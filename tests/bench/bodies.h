/*
 * The same images in every protocol, and the probabilities in the answers.
 */
#ifndef BENCH_BODIES_H
#define BENCH_BODIES_H

#include "tests/bench/load.h"

enum { IMAGE = 784, CLASSES = 10 };     /* floats of an image and of its answer */

enum protocol { PREDICT, TENSORFLOW_SERVING, V2_JSON, V2_BINARY, PROTOCOLS };

extern const char *const protocol_names[PROTOCOLS];

/* A request of n images for mnist-mlp. */
struct request images_request(enum protocol protocol, int n);

/* The probabilities in an answer: n * CLASSES floats, or a message and the end. */
void images_answer(int port, const struct request *request, int n, float *probabilities);

#endif
