/*
 * A request to a model, from the rows that were read to the answer, where these are not simply
 * rows of an event loop's batch: a large one is computed in pieces, one to an ensemble by each of
 * its members, and one to a slow model by other threads.
 *
 * A part of it is what one version computes: all rows, in as many pieces as it takes. The
 * members' outputs are kept apart until all are there and averaged in the members' order, so
 * that the answer does not depend on who was first.
 */
#ifndef SERVER_PREDICTION_H
#define SERVER_PREDICTION_H

#include "server/codec.h"
#include "server/table.h"
#include "server/tensor_rows.h"

struct prediction_part {
    struct prediction *prediction;
    int index;
    const struct served *served; /* who computes */
    int64_t taken;               /* rows that are computed, or being */
    struct prediction_part *next; /* of those that wait */
};

struct prediction {
    struct http_request *request; /* waits, so that its answer is the prediction's to write */
    const struct codec *codec;
    struct served *served;   /* who answers; a reference */
    struct tensor_rows rows; /* owned */
    int64_t began;           /* clock_now() when the rows had been read */
    int64_t deadline, limit; /* clock_now() from which on nobody wants the answer; and the
                              * nanoseconds that this is, for the message */
    int status;              /* of the first failure; 0: none */
    int64_t left;            /* rows of all parts that have not been computed */
    bool whole;              /* one part in one piece: its outputs are written as they are */
    struct nn_tensor *outputs;   /* not whole: [parts][outputs], each [rows->n, ...] */
    struct prediction *next;     /* of those that are finished */
    int n_parts;
    struct prediction_part parts[];
};

/* Of a request that a version answers; the rows become the prediction's. It is whole if there is
 * one part and at most max_piece rows. It is late `limit` nanoseconds after the request began,
 * or when it has waited as long as its client wanted to. NULL: no memory; the rows stay the
 * caller's. */
struct prediction *prediction_new(struct http_request *request, const struct codec *codec,
                                  const struct served *served, struct tensor_rows *rows,
                                  int64_t max_piece, int64_t limit);
void prediction_free(struct prediction *prediction);

/* Keeps the n outputs of a run that begin at row `from` as the part's rows [first, first + n). */
void prediction_collect(struct prediction_part *part, const struct nn_session *session,
                        int64_t from, int64_t first, int64_t n);

/* Writes the answer from what was collected. Returns the status. */
int prediction_write_collected(struct prediction *prediction);

/* The same, or with a session from its outputs' rows [from, from + n), where n are all of the
 * prediction's; notes how long it took. */
int prediction_write_timed(struct prediction *prediction, const struct nn_session *session,
                           int64_t from);

/* An ensemble's rows count as one batch, whatever batches of its members they were in. */
void prediction_count_ensemble(const struct prediction *prediction,
                               struct model_counters *counters);

/* Answers a request from the outputs' rows [first, first + n), or says why that cannot be;
 * returns the status. */
int prediction_answer(struct http_request *request, const struct codec *codec,
                      const struct served *served, const struct nn_tensor *outputs,
                      int64_t first, int64_t n);

/* Answers a request that took longer than `limit` nanoseconds; returns the status. */
int prediction_answer_late(struct http_request *request, int64_t limit,
                           struct model_counters *counters);

#endif
