/*
 * Numbers about the work done, for Prometheus.
 *
 * Each event loop has counters of its own which it alone increases, so that counting costs a
 * plain addition; whoever scrapes adds them up.
 */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "server/buffer.h"
#include <stdatomic.h>
#include <stdint.h>

enum {
    METRICS_ROUTES = 40,
    METRICS_STATUSES = 12,
    METRICS_BUCKETS = 15,
    METRICS_SIZES = 12,
    METRICS_EXACT = 128,        /* batches of up to so many rows are counted by size */
    METRICS_FAULTS = 12,        /* of a request's framing */
    METRICS_STAGES = 4,         /* of a connection */
};

struct counter {
    atomic_uint_fast64_t value;
};

/* Only the counter's own thread may add. */
static inline void counter_add(struct counter *c, uint64_t n)
{
    uint64_t value = atomic_load_explicit(&c->value, memory_order_relaxed);
    atomic_store_explicit(&c->value, value + n, memory_order_relaxed);
}

static inline uint64_t counter_read(struct counter *c)
{
    return atomic_load_explicit(&c->value, memory_order_relaxed);
}

struct histogram {
    struct counter buckets[METRICS_BUCKETS];    /* not cumulative; the last has no bound */
    struct counter nanoseconds;
};

/* Of connections, by http.c. */
struct connection_counters {
    struct counter refused;                     /* there were too many */
    struct counter faults[METRICS_FAULTS];      /* requests refused for their framing */
    struct counter cut[METRICS_STAGES];         /* too slow */
};

/* Of one event loop. */
struct loop_counters {
    struct counter requests[METRICS_ROUTES][METRICS_STATUSES];
    struct counter lost;                        /* the client left before its answer */
    struct counter received, sent;              /* bytes of bodies */
    struct counter connections;                 /* ever taken */
    struct connection_counters connection;
    struct histogram durations[METRICS_ROUTES];
} __attribute__((aligned(64)));

/* Of one model by name, whatever its version, in one event loop. */
struct model_counters {
    struct counter requests, failures, rows, batches, expired;
    struct counter sizes[METRICS_SIZES];        /* batches of up to 1, 2, 4 ... rows */
    struct {
        struct counter batches, nanoseconds;
    } exact[METRICS_EXACT];                     /* of batches of 1, 2, 3 ... rows */
    struct counter reading, waiting, writing;   /* nanoseconds of requests */
    struct counter last;                        /* clock_now() of the last batch; 0: none */
    struct histogram durations;                 /* of requests that were answered 200 */
    struct histogram computations;              /* of batches */
} __attribute__((aligned(64)));

/* Shared by the versions of a model, reference counted; any thread. */
struct model_stats {
    atomic_int references;
    int n_loops;
    struct model_counters loops[];
};

struct model_stats *model_stats_new(int n_loops);       /* NULL: no memory */
struct model_stats *model_stats_share(struct model_stats *stats);
void model_stats_release(struct model_stats *stats);    /* NULL is allowed */

void histogram_add(struct histogram *histogram, int64_t nanoseconds);
void metrics_count_batch(struct model_counters *counters, int64_t rows, int64_t began,
                         int64_t ended);

/* The place of a status in loop_counters.requests, and back. */
int metrics_status_index(int status);
int metrics_status(int index);                  /* 0: any other */

/* The Prometheus text format. Samples of a metric follow its metrics_begin(). `labels` is
 * what goes between the braces, or "". */
void metrics_begin(struct buffer *out, const char *name, const char *type, const char *help);
void metrics_sample(struct buffer *out, const char *name, const char *labels, double value);
void metrics_histogram(struct buffer *out, const char *name, const char *labels,
                       struct histogram *const *parts, int n_parts);
void metrics_sizes(struct buffer *out, const char *name, const char *labels,
                   struct model_stats *stats);

#endif
