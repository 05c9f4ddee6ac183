/*
 * The tape: where everything lies that a batch leaves behind on its way through a network, for
 * the way back; and how a batch of rows is cut into slices of it. executor.c runs it.
 *
 * A value whose batch is axis 0 lies in memory once, for all rows, and a slice sees its own
 * rows of it. Trained weights (and what is computed from weights alone) are seen by all slices:
 * each slice adds to a gradient buffer of its own, all of the same layout, in which the trained
 * weights come first, where the network has them.
 */
#ifndef TRAINER_TAPE_H
#define TRAINER_TAPE_H

#include "trainer/autodiff.h"
#include "trainer/network.h"

enum { TAPE_MAX_SHARDS = 16, TAPE_MAX_PARTS = 16 };

/* A range of rows, or the whole batch. */
struct tape_slice {
    int64_t begin, rows;
    struct nn_tensor *values;   /* [n_values] */
    struct nn_tensor *d_values; /* [n_values]; data is NULL where no gradient is needed */
    struct op_call *calls;      /* [n_nodes]; scratch, training and part are the runner's */
};

/* A batch of `rows` rows. */
struct tape_cut {
    int64_t rows;
    int n_shards;
    struct tape_slice *shards;
    struct tape_slice whole;
};

/* How consecutive nodes are run. */
enum tape_kind {
    TAPE_SHARDS,                /* by rows: each shard all of them, without a barrier between */
    TAPE_PARTS,                 /* one node on the whole batch, by channels */
    TAPE_WHOLE,                 /* one node on the whole batch, at once */
};

struct tape_segment {
    enum tape_kind kind;
    int begin, end;             /* into the nodes, or into the steps of the way back */
};

struct tape_schedule {
    int n;
    struct tape_segment *segments;
};

struct tape {
    const struct network *network;
    const struct graph *graph;
    int64_t max_batch;
    bool training;
    struct tape_schedule forward, inference, backward;
    struct autodiff autodiff;
    bool *skips;                /* [n_steps]: its gradient is in place already */
    int *first_step;            /* [n_values]: before it the gradient is to be zeroed; or -1 */
    int64_t *shared;            /* [n_values]: where in a gradient buffer; -1: not there */
    void **values;              /* [n_values]: elements of max_batch rows */
    void **d_values;            /* [n_values]: the same of gradients that are not shared */
    int64_t gradient_size;      /* elements of a gradient buffer */
    int max_shards;
    nn_real *gradients;         /* [max_shards + 1, gradient_size], the last the whole's */
    size_t scratch;             /* bytes that any node needs, in all cuts */
    int n_cuts;
    struct tape_cut **cuts;
    struct tape_block *blocks;  /* all memory of the above */
};

/* For batches of up to max_batch rows. Infers the network's graph for that. Without `training`
 * there are no gradients. On failure *tape is empty. */
int tape_init(struct tape *tape, struct network *network, int64_t max_batch, bool training,
              struct nn_error *error);
void tape_release(struct tape *tape);

/* The cut for `rows` rows, which is made if it is not there yet (then scratch may grow). */
const struct tape_cut *tape_cut(struct tape *tape, int64_t rows, struct nn_error *error);

/* The same, or NULL when it was never made. */
const struct tape_cut *tape_find_cut(const struct tape *tape, int64_t rows);

#endif
