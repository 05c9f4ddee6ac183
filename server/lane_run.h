/*
 * A batch of a lane, while a worker has it to itself: no lock is needed.
 */
#ifndef SERVER_LANE_RUN_H
#define SERVER_LANE_RUN_H

#include "server/lane.h"

struct lane_run {
    struct lane_seat *seat; /* whose entries lane_take() has filled */
    int64_t rows, max_batch;
    int64_t began, took; /* clock_now(); nanoseconds */
    int status;          /* 0, or of a failure, which the error describes */
    struct nn_error error;
};

/* Computes the entries' rows, and counts the batch. */
void lane_run_compute(struct lane_run *run, const struct served *served,
                      struct model_counters *counters);

/* What was computed becomes the answers of predictions that are whole, and is kept for others.
 */
void lane_run_deliver(struct lane_run *run);

#endif
