/*
 * The graph: operations (nodes) on named tensors (values), in an order in which they can run.
 *
 *     struct graph *g = graph_new();
 *     int x = graph_add_input(g, "x", NN_FP32, &(struct nn_shape){2, {-1, 784}}, error);
 *     int w = graph_add_constant(g, "w", &weights, error);
 *     int y = graph_add_node(g, op_find("MatMul"), NULL, "y", 2, (int[]){x, w}, error);
 *     graph_add_output(g, y, error);
 *     graph_infer(g, 1, error);
 *
 * Values are numbers, handed out in order from 0. A graph is built or read, checked, and then
 * differentiated (trainer) or optimised and run (model, session).
 */
#ifndef ENGINE_GRAPH_H
#define ENGINE_GRAPH_H

#include "engine/op.h"

enum { GRAPH_NONE = -1 };       /* in a node's inputs: an optional input that was left out */

enum {
    GRAPH_MAX_NODES = 65536,
    NODE_MAX_INPUTS = 1024,
    NODE_MAX_OUTPUTS = 8,
};

/* What all tensors of a graph take together; inference refuses more. */
#define GRAPH_MAX_BYTES (INT64_C(1) << 40)

struct graph_value {
    const char *name;           /* unique in the graph; owned by it */
    struct nn_shape declared;   /* inputs: with -1 for the batch */
    struct op_value type;       /* of the last graph_infer(); `constant` of constants from
                                   the start */
    int producer;               /* the node that computes it; -1: an input or a constant */
    bool is_input;
};

struct graph_node {
    const char *name;           /* for messages: the name of its first output */
    const struct op *op;
    void *attributes;           /* op->attributes_size bytes */
    int n_inputs, n_outputs;
    int *inputs;                /* values, or GRAPH_NONE */
    int *outputs;
    struct op_epilogue epilogue;
    const void *packed; /* input 1 as op->pack() wrote it; NULL: as it is */
    size_t saved, scratch, gradient_scratch;    /* of the last graph_infer() */
    double flops;
};

struct graph {
    int n_values, n_nodes, n_inputs, n_outputs;
    struct graph_value *values;
    struct graph_node *nodes;   /* every input is made by an earlier node */
    int *inputs, *outputs;      /* values */
    int64_t batch;              /* of the last graph_infer() */
    bool may_discard;           /* the elements of constants that nothing reads any more */
    struct graph_memory *memory;
};

struct graph *graph_new(void);              /* NULL: no memory */
void graph_free(struct graph *g);           /* NULL is allowed */

/* Zeroed, aligned memory that is freed with the graph; NULL when there is none. */
void *graph_allocate(struct graph *g, size_t bytes);

/* Frees what graph_allocate() has returned before the graph is freed. */
void graph_give_back(struct graph *g, const void *memory);

/* The functions below copy names and return a value, or -1. A name is that of one value only.
 * A graph that refused something is as it was. */

/* The first dimension may be -1, the batch; every other one is positive. */
int graph_add_input(struct graph *g, const char *name, enum nn_datatype datatype,
                    const struct nn_shape *shape, struct nn_error *error);

/* The elements stay the caller's and must outlive the graph (or come from
 * graph_allocate()). */
int graph_add_constant(struct graph *g, const char *name, const struct nn_tensor *tensor,
                       struct nn_error *error);

/* Adds a node after all others and returns its first output, named `output`. attributes
 * (op->attributes_size bytes, copied) may be NULL: defaults. */
int graph_add_node(struct graph *g, const struct op *op, const void *attributes,
                   const char *output, int n_inputs, const int *inputs,
                   struct nn_error *error);

/* The same with several outputs; a NULL or "" name leaves an optional one out. Returns the
 * node's index. */
int graph_add_node_outputs(struct graph *g, const struct op *op, const void *attributes,
                           int n_outputs, const char *const *outputs, int n_inputs,
                           const int *inputs, struct nn_error *error);

int graph_add_output(struct graph *g, int value, struct nn_error *error);

/* The value of that name, or -1. */
int graph_find(const struct graph *g, const char *name);

/* Types, shapes, batch axes and memory needs of everything, for `batch` rows. Errors name the
 * node: "conv1 (Conv): kernel 5 is larger than its input 3". */
int graph_infer(struct graph *g, int64_t batch, struct nn_error *error);

/* The same for one node, with the values' types given by the caller: shapes of a slice of
 * the batch, for the trainer. `outputs` has n_outputs elements. */
int graph_infer_node(const struct graph *g, int node, int64_t batch,
                     const struct op_value *types, struct op_inference *result,
                     struct op_value *outputs, struct nn_error *error);

/* Follows the batch through the graph, by inference at two batch sizes that are a dimension
 * of no graph by accident. *unbatched becomes NULL when every input and output has the batch
 * as axis 0 and no row of an output can depend on another row; else the reason in words, owned
 * by the graph. output_shapes ([n_outputs], NULL allowed) have -1 where they depend on the
 * batch. Leaves the graph inferred for one row; fails where that cannot be done. */
int graph_follow_batch(struct graph *g, struct nn_shape *output_shapes,
                       const char **unbatched, struct nn_error *error);

#endif
