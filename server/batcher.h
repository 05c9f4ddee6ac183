/*
 * Requests to one model that arrive together are computed together.
 *
 * A batcher belongs to one event loop. It keeps a session for each version of the loop's table,
 * reads bodies, whatever their protocol, straight into the session's input rows behind those
 * that are already there, and runs them when the loop has read all that had arrived. It never
 * waits for more. What would keep the loop from answering others goes to the workers: slow
 * models, requests of many rows, large bodies, and models that wait for fuller batches.
 */
#ifndef SERVER_BATCHER_H
#define SERVER_BATCHER_H

#include "server/codec.h"
#include "server/http.h"
#include "server/registry.h"
#include "server/workers.h"

struct batcher_settings {
    int loop;                   /* whose counters to use */
    struct workers *workers;    /* NULL: the loop does everything itself */
    int64_t max_batch, max_instances;
    int64_t deadline;           /* nanoseconds from a request's beginning */

    int64_t max_queue;          /* predictions of each priority that wait for the workers, of a
                                 * model that says nothing else */
};

/* How a model's batches are made: as it says itself, or as the server does. */
struct lane_settings batcher_lane_settings(const struct serving_config *config,
                                           int64_t max_batch, int64_t max_queue);

struct batcher *batcher_new(const struct batcher_settings *settings);   /* NULL: no memory */
void batcher_free(struct batcher *batcher);             /* nothing may be pending */

/* Memory to serve from `table` with; NULL: there is none. To be given to batcher_use() or
 * free(). */
struct batch *batcher_room(const struct table *table);

/* Computes what is pending with the models that it was meant for, then serves from `table`
 * (which the caller keeps alive until the next call), in `room`. Sessions of models that both
 * tables hold are kept. */
void batcher_use(struct batcher *batcher, const struct table *table, struct batch *room);

/* Reads the request's body, as the codec says, for a version of the table. HTTP_PENDING:
 * batcher_run() finishes it; HTTP_SUSPENDED: a worker does. Otherwise it was answered at once. */
int batcher_add(struct batcher *batcher, const struct served *served,
                const struct codec *codec, struct http_request *request);

/* Computes and finishes what is pending; false when there was nothing. */
bool batcher_run(struct batcher *batcher);

#endif
