/*
 * Runs a network forwards and backwards over a batch that is cut into shards.
 *
 * The activations of the whole batch are in memory, and a shard is a range of rows of them. A
 * shard runs all consecutive operations that keep rows apart; an operation that mixes them
 * (BatchNormalization in training, a reduction over the batch) runs on the whole batch between
 * two barriers. Each shard adds to weight gradients of its own, which are summed in the order
 * of the shards. How a batch is cut depends only on its size and the network, so every figure
 * is the same for any number of threads.
 */
#ifndef TRAINER_EXECUTOR_H
#define TRAINER_EXECUTOR_H

#include "trainer/dataset.h"
#include "trainer/network.h"
#include "trainer/parallel.h"

struct executor;

/* For batches of up to max_batch rows; without `training` there is no executor_backward(). The
 * network's graph is inferred for max_batch, and that size is prepared. The network and the
 * threads must outlive the executor. */
struct executor *executor_new(struct network *network, int64_t max_batch, bool training,
                              struct parallel *parallel, struct nn_error *error);
void executor_free(struct executor *executor);

/* To be called once for each number of rows that will be run, 0 < rows <= max_batch. */
int executor_prepare(struct executor *executor, int64_t rows, struct nn_error *error);

/* The elements of input i, [max_batch, ...]: to be filled before a run. */
void *executor_input(struct executor *executor, int i);

/* What the rows of a batch should give. */
struct executor_target {
    enum loss_kind loss;
    const int32_t *classes;     /* [rows] or NULL */
    const nn_real *targets;     /* [rows, n] or NULL */
};

/* One forward pass over `rows` rows, a number that was prepared. training: dropout drops (from
 * `key`), batch statistics are used and the running ones updated. Returns the sum of the
 * losses. */
double executor_forward(struct executor *executor, int64_t rows, bool training, uint64_t key,
                        const struct executor_target *target);

/* The gradient of the mean loss of the last forward pass, which was one for training, over all
 * trained weights: [n_trained]. The caller may change it; it is valid until the next call. */
nn_real *executor_backward(struct executor *executor);

/* The logits of the last forward pass, [rows, n]. */
const nn_real *executor_output(const struct executor *executor);
int64_t executor_output_size(const struct executor *executor);      /* n */

/* The first layer whose output of the last pass is not finite (by its name), or NULL. */
const char *executor_nonfinite(const struct executor *executor);

#endif
