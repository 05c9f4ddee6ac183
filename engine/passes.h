/*
 * The inside of graph_optimize(): what its passes share. Values are replaced, nodes marked as
 * removed; the arrays of the graph are put in order once, at the end.
 */
#ifndef ENGINE_PASSES_H
#define ENGINE_PASSES_H

#include "engine/graph.h"

/* What all passes together may spend, in elements and flops: seconds. A graph that would take
 * more is left as it is from there on. */
#define PASSES_BUDGET 1e9

/* What constants may take, in bytes, that are made of others which have to stay: where every
 * step of an unrolled network folds something into the weights that all of them read, each
 * would have its own. */
#define PASSES_COPIES ((size_t)64 << 20)

struct passes {
    struct graph *g;
    double budget;              /* what is left of it */
    size_t copies;              /* what is left of PASSES_COPIES */
    int max_values;             /* room of the four arrays */
    int *uses;                  /* [n_values]: inputs of nodes and outputs of the graph */
    int *replaced_by;           /* [n_values]: another value, or itself */
    bool *is_ours;              /* [n_values]: a constant that a pass made */
    bool *is_output;            /* [n_values]: of the graph */
    bool *removed;              /* [n_nodes] */
};

/* Input `i` of the node as it is now; GRAPH_NONE: left out. */
int passes_input(struct passes *p, const struct graph_node *n, int i);

/* The node that computes `value` and whose output is used once; NULL: there is none. Its
 * epilogue is empty: it computes what its name says. */
struct graph_node *passes_only_producer(struct passes *p, int value);

/* Marks the node as removed; it uses its inputs no more and makes no output. */
void passes_remove(struct passes *p, struct graph_node *n);

/* Makes `n`, whose only use of its data is input `i`, superfluous: what used its output 0 uses
 * that input. False: it has to stay, as the input and the output of the graph have two
 * names. */
bool passes_bypass(struct passes *p, struct graph_node *n, int i);

/* Elements of an FP32 constant, or NULL: it is something else. */
const nn_real *passes_constant(struct passes *p, int value);

/* Sets input `i` of the node, growing it; 0 or -1 (no memory). */
int passes_set_input(struct passes *p, struct graph_node *n, int i, int value);

/* A new constant [n] or of `shape`, named after `like`; its elements are copied. -1: no
 * memory. */
int passes_add_constant(struct passes *p, const char *like, const struct nn_shape *shape,
                        const nn_real *elements);

/* An attribute as a number: of an int, a float, or the index of a choice. */
double passes_attribute(const struct graph_node *n, const char *name);

/* Whether a constant of `bytes` may be made of some of which `freed` bytes go. */
bool passes_may_copy(struct passes *p, size_t bytes, size_t freed);

bool passes_is(const struct graph_node *n, const char *op);

/* the passes, for one node at a time, in an order in which they can run: 1: done, the node is
 * gone; 0: nothing to do; -1: no memory */

int fold_constants(struct passes *p, struct graph_node *n);     /* fold.c */
int fold_affine_before(struct passes *p, struct graph_node *n); /* affine.c: into Conv, Gemm */
int fold_affine_after(struct passes *p, struct graph_node *n);

/* Lets operations pack their constant inputs 1, one after the other, when all other passes are
 * done, the graph is in order and uses[] counted anew; then it counts who reads a constant as
 * it is. 0 or -1 (no memory). */
int pack_constants(struct passes *p); /* pack.c */

#endif
