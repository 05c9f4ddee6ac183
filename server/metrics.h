/*
 * Numbers about the work done, for Prometheus.
 *
 * Each thread has counters of its own which it alone increases, so that counting costs a plain
 * addition; whoever scrapes adds them up.
 */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "server/buffer.h"
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    METRICS_ROUTES = 40,
    METRICS_STATUSES = 16,
    METRICS_BUCKETS = 19,
    METRICS_SIZES = 12,
    METRICS_EXACT = 128, /* batches of up to so many rows are counted by size */
    METRICS_FAULTS = 12, /* of a request's framing */
    METRICS_STAGES = 4,  /* of a connection */
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

static inline uint64_t counter_read(const struct counter *c)
{
    return atomic_load_explicit(&c->value, memory_order_relaxed);
}

/* The ways of a prediction through the server, one after the other. */
enum stage {
    STAGE_DECODE,  /* the body becomes rows */
    STAGE_QUEUE,   /* they wait for a batch to begin */
    STAGE_COMPUTE, /* the model's work on the batch, or on the pieces of a large one */
    STAGE_ENCODE,  /* the outputs become an answer */
    STAGES,
};

extern const char *const stage_names[STAGES];

/* Where the time of one prediction went. Who works on it notes it here. */
struct stages {
    int64_t nanoseconds[STAGES]; /* 0: it did not get there */
    int64_t batch;               /* rows of the batch, or of the last piece; 0: as above */
};

/* Why a prediction failed, in Triton's terms. */
enum failure {
    FAILURE_REJECTED, /* 503, 504: for lack of room or time */
    FAILURE_BACKEND,  /* any other 5xx */
    FAILURE_OTHER,    /* 4xx: the request is wrong */
    FAILURES,
};

/* Why a request was turned away though nothing is wrong with it. */
enum shed {
    SHED_NOT,
    SHED_FULL,  /* too many predictions are in work */
    SHED_BYTES, /* too many bytes of bodies and answers are */
    SHED_DEADLINE,
    SHED_DRAINING, /* the server ends */
    SHEDS,
};

extern const char *const shed_names[SHEDS];

struct histogram {
    struct counter buckets[METRICS_BUCKETS];    /* not cumulative; the last has no bound */
    struct counter nanoseconds;
};

/* What several threads have counted. */
struct histogram_sum {
    uint64_t buckets[METRICS_BUCKETS], nanoseconds;
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
    struct counter shed[SHEDS];
    struct counter received, sent;              /* bytes of bodies */
    struct counter connections;                 /* ever taken */
    struct connection_counters connection;
    struct histogram durations[METRICS_ROUTES];
} __attribute__((aligned(64)));

/* Of one version of a model in one thread. */
struct model_counters {
    struct counter begun;              /* predictions */
    struct counter requests;           /* predictions that were answered */
    struct counter failures[FAILURES]; /* of them */
    struct counter failed;             /* nanoseconds of those */
    struct counter rows, batches, expired;
    struct counter sizes[METRICS_SIZES];        /* batches of up to 1, 2, 4 ... rows */
    struct {
        struct counter batches, nanoseconds;
        struct counter decode, encode;          /* nanoseconds of the requests in them */
    } exact[METRICS_EXACT];                     /* of batches of 1, 2, 3 ... rows */
    struct counter last;                        /* clock_now() of the last batch; 0: none */
    struct histogram durations;                 /* of requests that were answered 200 */
    struct histogram stages[STAGES];            /* of requests that got there */
    struct histogram computations;              /* of batches */
} __attribute__((aligned(64)));

/* Of one version of a model; any thread. */
struct model_stats {
    int n;                         /* threads that count */
    struct model_counters loops[]; /* of the event loops and, behind them, of others */
};

struct model_stats *model_stats_new(int n); /* all zero; NULL: no memory */
void model_stats_free(struct model_stats *stats); /* NULL is allowed */

/* What all threads have counted of the counter or histogram at this place in model_counters. */
uint64_t model_stats_sum(const struct model_stats *stats, size_t offset);
struct histogram_sum model_stats_histogram(const struct model_stats *stats, size_t offset);

#define MODEL_SUM(stats, member) model_stats_sum(stats, offsetof(struct model_counters, member))

void histogram_add(struct histogram *histogram, int64_t nanoseconds);
void histogram_collect(struct histogram_sum *sum, const struct histogram *part);
uint64_t histogram_count(const struct histogram_sum *sum);

/* A batch of so many rows was computed between these times, by clock_now(). */
void metrics_count_batch(struct model_counters *counters, int64_t rows, int64_t began,
                         int64_t ended);

/* A prediction was answered, so many nanoseconds after its headers had been read. */
void metrics_count_answer(struct model_counters *counters, const struct stages *stages,
                          int status, int64_t duration);

/* The place of a status in loop_counters.requests, and back. */
int metrics_status_index(int status);
int metrics_status(int index);                  /* 0: any other */

/* The Prometheus text format, version 0.0.4. Samples of a metric follow its metrics_begin().
 * `labels` is what goes between the braces, or "". */
void metrics_begin(struct buffer *out, const char *name, const char *type, const char *help);
void metrics_sample(struct buffer *out, const char *name, const char *labels, double value);
void metrics_histogram(struct buffer *out, const char *name, const char *labels,
                       const struct histogram_sum *sum);

/* Appends name="value" to labels, which hold `room` bytes. A value that is too long is cut. */
void metrics_label(char *labels, size_t room, const char *name, const char *value);

/* The histogram of how many rows batches had. */
void metrics_sizes(struct buffer *out, const char *name, const char *labels,
                   const struct model_stats *stats);

#endif
