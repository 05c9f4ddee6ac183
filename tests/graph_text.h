/*
 * Graphs written in a few words, random weights, and the simplest executor there is: the
 * oracle of what is planned and optimised.
 *
 *     input x -1 3 8 8                    its dimensions
 *     weight w 4 3 3 3                    random numbers in [-1, 1)
 *     values s 2 1 = 0.5 -1               dimensions = elements
 *     integers shape 2 = -1 12            the same as INT64
 *     booleans t = 1                      the same as BOOL
 *     node y = Conv x w pads=1,1,1,1      inputs, "-" for one that is left out, attributes
 *     node y,mask = Dropout x
 *     output y
 *
 * Statements end with a newline or a semicolon.
 */
#ifndef TESTS_GRAPH_TEXT_H
#define TESTS_GRAPH_TEXT_H

#include "engine/graph.h"

/* NULL: the error says why. The elements of constants belong to the graph. */
struct graph *graph_text_read(const char *text, struct nn_error *error);

/* The same, with a failed test where it does not read. */
struct graph *graph_text(const char *text);

/* Random numbers in [-1, 1): the same for the same seed. */
void graph_text_fill(nn_real *x, int64_t n, uint64_t seed);

/* Every node into memory of its own: the tensors of all values, [n_values], or a failed
 * test. Infers the graph for `batch`. inputs[i]: elements of input i. */
struct nn_tensor *naive_run(struct graph *g, int64_t batch, const void *const *inputs);
void naive_free(const struct graph *g, struct nn_tensor *tensors);

/* Random inputs for `batch` rows, [n_inputs]; to be given back with free_inputs(). Integers
 * are 0 to 9. */
void **random_inputs(const struct graph *g, int64_t batch, uint64_t seed);
void free_inputs(const struct graph *g, void **inputs);

/* Fails the test where a and b differ by more than `tolerance` max(1, |a|), or in type. */
void assert_tensors_near(const struct nn_tensor *a, const struct nn_tensor *b,
                         double tolerance);

/* What inference has to say of a graph that does not fit, and which axis of the value `y` is the
 * batch (or BATCH_NONE, BATCH_LOST) in one that does. */
struct graph_refusal {
    const char *graph, *reason;
};
struct graph_batch_axis {
    const char *graph;
    int batch;
};
void assert_graphs_refused(const struct graph_refusal *rows, size_t n);
void assert_batch_axes(const struct graph_batch_axis *rows, size_t n);

/* The number of nodes of that operation; NULL: of all. */
int count_nodes(const struct graph *g, const char *op);

#endif
