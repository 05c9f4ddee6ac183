/*
 * The threads that do what would keep an event loop from answering others: the batches of slow
 * models, of models that wait for more rows, of ensembles of such, and the reading of large
 * bodies.
 *
 * A batch is what waits at a version's lane, most urgent first and otherwise in the order of
 * arrival, from all loops together; a prediction of more rows than a batch is computed in pieces,
 * by several threads at once where the model allows it. A thread that is free takes the lane
 * whose first prediction has waited longest. Nobody waits for a fuller batch unless the lane's
 * settings ask for that.
 */
#ifndef SERVER_WORKERS_H
#define SERVER_WORKERS_H

#include "server/lane.h"

struct workers_settings {
    int n;                      /* threads */
    int first_counter;          /* in model_stats, of the first thread; the others follow, and
                                 * one more: workers_counters() in all */
    int threads_of_model;       /* that compute a version at the same time, if it does not say */
    int64_t max_instances;      /* of a request */
    size_t max_bytes;           /* of rows that wait, all together; or of a single prediction */

    /* Sends the answer of a request that waits; its status is set. Called on any thread. */
    void (*finish)(struct http_request *request);
};

/* How many places in model_stats so many threads need. */
static inline int workers_counters(int n)
{
    return n + 1;
}

/* Settings are copied. NULL: nothing is left behind. */
struct workers *workers_open(const struct workers_settings *settings, struct nn_error *error);

/* Answers what waits with 503 and waits for what is being computed. False: that took longer
 * than until `stop_by` (clock_now()); then neither workers_free() nor anything that a prediction
 * refers to may be released. */
bool workers_stop(struct workers *workers, int64_t stop_by);
void workers_free(struct workers *workers);     /* after it stopped; NULL is allowed */

/* Any thread, for all of the following. */

/* From now on the lane of the version works so. */
void workers_configure(struct workers *workers, const struct served *served,
                       const struct lane_settings *settings);

/* Whether a request may be read at all: 0, or the status with which it was refused because there
 * is no room at the version's lane, unless its body may say another priority. Refusing has to cost
 * much less than serving, or a server that is asked for more and more serves less and less. */
int workers_admit(struct workers *workers, struct http_request *request,
                  const struct served *served);

/* Takes the prediction over, whose request waits from now on (HTTP_SUSPENDED); any other status:
 * it was refused, the answer says why, and the prediction is gone. */
int workers_add(struct workers *workers, struct prediction *prediction);

/* The same before the body was read: `limit` is the model's deadline in nanoseconds, max_piece as
 * for prediction_new(). */
int workers_read(struct workers *workers, struct http_request *request,
                 const struct codec *codec, const struct served *served, int64_t limit,
                 int64_t max_piece);

/* Predictions that wait for the version. */
int64_t workers_waiting(struct workers *workers, const struct served *served);

#endif
