/*
 * The rows of requests to one version that an event loop computes together: a session, and
 * whose its rows are.
 */
#ifndef SERVER_BATCH_H
#define SERVER_BATCH_H

#include "server/prediction.h"

/* A request whose rows are in a batch's session. */
struct job {
    struct http_request *request;
    const struct codec *codec;
    struct prediction_part *part; /* whose outputs these are to be; NULL: the answer itself */
    int64_t first, n;             /* rows */
    int64_t read;                 /* clock_now() when they had been read */
    struct job *next;
};

/* What the batches of a loop share. */
struct turn {
    int loop; /* whose counters to use */
    struct job *free;
    bool finished; /* some request was, since the last look */
};

/* What a loop has for one version. */
struct batch {
    const struct served *served;
    int64_t max_batch, deadline; /* of the model; nanoseconds */
    bool shares;                 /* rows of different requests may be computed together */
    bool apart;                  /* the workers compute it */
    int64_t row_time;            /* nanoseconds, about */
    size_t row_bytes[TENSOR_MAX_PORTS];
    struct nn_session *session; /* NULL until it is needed */
    int64_t used;               /* rows of `jobs` */
    int64_t read;               /* clock_now() when the last request had been read */
    int64_t ended;              /* clock_now() at the end of what was measured last */
    int64_t computed;           /* nanoseconds that the last run took */
    struct job *jobs, **last;
};

void turn_release(struct turn *turn); /* what it holds; no job is in a batch */

/* The loop's counters of a version. */
struct model_counters *batch_counters(const struct turn *turn, const struct served *served);

/* Whether the model's deadline is over for a request, and the answer then: 504. */
bool batch_is_late(const struct batch *batch, const struct http_request *request, int64_t now);
int batch_answer_late(const struct turn *turn, const struct batch *batch,
                      struct http_request *request);

int64_t batch_capacity(const struct batch *batch); /* rows */

/* Makes room for `rows` in a batch that holds nothing, at least doubling it, so that a load
 * settles on the size it needs. -1: no memory. */
int batch_reserve(struct batch *batch, int64_t rows, struct nn_error *error);

/* Runs the first rows of the session, and counts. -1: the model refuses them, and why. */
int batch_run(struct turn *turn, struct batch *batch, int64_t rows, struct nn_error *error);

/* Counts the answer to a request; returns the time. */
int64_t batch_count(const struct turn *turn, const struct batch *batch,
                    const struct served *served, struct http_request *request, int status);

/* Answers from the outputs' rows [first, first + n), or with what went wrong. Both return the
 * status. */
int batch_write(const struct batch *batch, const struct codec *codec,
                struct http_request *request, int64_t first, int64_t n);
int batch_fail(struct http_request *request, const struct nn_error *error);

/* The next n rows of the session become the request's, or a part of one's: HTTP_PENDING until
 * the batch is flushed. The second copies them there first, for which it may flush what there
 * is. Any other status: the request is answered. */
int batch_enqueue(struct turn *turn, struct batch *batch, const struct codec *codec,
                  struct http_request *request, int64_t n, struct prediction_part *part);
int batch_enqueue_copy(struct turn *turn, struct batch *batch, const struct codec *codec,
                       struct http_request *request, const struct tensor_rows *rows,
                       struct prediction_part *part);

/* Computes what is in it, and finishes those requests. */
void batch_flush(struct turn *turn, struct batch *batch);

/* So many rows of a prediction are there, or (with a status) will not be: with the last ones it
 * is finished. */
void batch_finish_part(struct turn *turn, struct batch *batch, struct prediction *prediction,
                       int64_t rows, int status);

#endif
