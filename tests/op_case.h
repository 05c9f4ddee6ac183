/*
 * Single operations to be tested: the rows, and a graph of one node to run a row in.
 *
 * An input is text:
 *
 *     "[2, 3]"                 FP32, numbers between -1 and 1, no two the same and none 0
 *     "[-1, 3]"                the same, an input of the graph with the batch as first axis;
 *                              all others are constants
 *     "[2, 3] in 0.5 2"        between these
 *     "INT64 [2] = 0 -1"       these numbers
 *     ""                       left out
 */
#ifndef TESTS_OP_CASE_H
#define TESTS_OP_CASE_H

#include "engine/graph.h"

enum { CASE_INPUTS = 6, CASE_OUTPUTS = 3 };

struct op_case {
    const char *op;
    const char *inputs[CASE_INPUTS];    /* ended by NULL */
    const char *attributes;     /* "pads 1 1 1 1; auto_pad VALID", or NULL */
    const char *output;         /* shape of output 0, -1 on the batch axis: "[-1, 4]" */
    const char *wanted;         /* a letter per input, '-': it has no gradient */
    int n_outputs;              /* 0: 1 */
    bool training;              /* as the trainer would run it */
    int parts;                  /* OP_BATCH_STATISTICS: the shares; 0: 1 */
};

/* At least one for every operation of ops.def, ended by one whose op is NULL. */
extern const struct op_case op_cases[];

struct op_run {
    const struct op_case *row;
    struct graph *g;
    const struct graph_node *node;
    int n_inputs, n_outputs;
    const struct op_value *types[CASE_INPUTS];          /* NULL: left out */
    const struct op_value *output_types[CASE_OUTPUTS];
    struct nn_tensor inputs[CASE_INPUTS], outputs[CASE_OUTPUTS];
    struct nn_tensor d_inputs[CASE_INPUTS], d_output;
    void *saved, *scratch;
    struct op_training training;
};

/* Makes the row's graph and infers it for `batch` rows. -1: the graph refused; whatever
 * happened, op_run_close() frees. A row that is not well-formed ends the program. */
int op_run_open(struct op_run *run, const struct op_case *row, int64_t batch,
                struct nn_error *error);
void op_run_close(struct op_run *run);

void op_run_forward(struct op_run *run);

/* Adds to d_inputs of those inputs whose bit is set in `inputs`. */
void op_run_gradient(struct op_run *run, op_gradient *gradient, unsigned inputs);

/* Elements of a tensor. */
int64_t tensor_length(const struct nn_tensor *tensor);

#endif
