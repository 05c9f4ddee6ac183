#include "server/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Upper bounds in seconds; the last bucket has none. */
static const double bounds[METRICS_BUCKETS - 1] = {.0001, .00025, .0005, .001, .0025, .005, .01,
                                                   .025,  .05,    .1,    .25,  .5,    1,    2.5};

static const int statuses[METRICS_STATUSES] = {200, 400, 404, 405, 413, 415,
                                                431, 500, 501, 503, 504, 0};

/* model statistics */

struct model_stats *model_stats_new(int n_loops)
{
    size_t size = sizeof(struct model_stats) + (size_t)n_loops * sizeof(struct model_counters);
    struct model_stats *stats = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!stats)
        return NULL;
    memset(stats, 0, size);
    stats->n_loops = n_loops;
    atomic_init(&stats->references, 1);
    return stats;
}

struct model_stats *model_stats_share(struct model_stats *stats)
{
    atomic_fetch_add(&stats->references, 1);
    return stats;
}

void model_stats_release(struct model_stats *stats)
{
    if (stats && atomic_fetch_sub(&stats->references, 1) == 1)
        free(stats);
}

/* counting */

void histogram_add(struct histogram *h, int64_t nanoseconds)
{
    int i = 0;
    while (i < METRICS_BUCKETS - 1 && (double)nanoseconds > bounds[i] * 1e9)
        i++;
    counter_add(&h->buckets[i], 1);
    counter_add(&h->nanoseconds, (uint64_t)nanoseconds);
}

void metrics_count_batch(struct model_counters *c, int64_t rows, int64_t began, int64_t ended)
{
    int64_t nanoseconds = ended - began;
    int i = 0;
    while (i < METRICS_SIZES - 1 && rows > (int64_t)1 << i)
        i++;
    counter_add(&c->sizes[i], 1);
    counter_add(&c->batches, 1);
    counter_add(&c->rows, (uint64_t)rows);
    histogram_add(&c->computations, nanoseconds);
    if (rows <= METRICS_EXACT) {
        counter_add(&c->exact[rows - 1].batches, 1);
        counter_add(&c->exact[rows - 1].nanoseconds, (uint64_t)nanoseconds);
    }
    atomic_store_explicit(&c->last.value, (uint64_t)ended, memory_order_relaxed);
}

int metrics_status_index(int status)
{
    int i = 0;
    while (i < METRICS_STATUSES - 1 && statuses[i] != status)
        i++;
    return i;
}

int metrics_status(int index)
{
    return statuses[index];
}

/* text */

void metrics_begin(struct buffer *out, const char *name, const char *type, const char *help)
{
    buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_sample(struct buffer *out, const char *name, const char *labels, double value)
{
    if (*labels)
        buffer_printf(out, "%s{%s} %.15g\n", name, labels, value);
    else
        buffer_printf(out, "%s %.15g\n", name, value);
}

static void add_bucket(struct buffer *out, const char *name, const char *labels,
                       const char *bound, uint64_t value)
{
    buffer_printf(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", name, labels, *labels ? "," : "", bound,
                  (unsigned long long)value);
}

static void add_suffixed(struct buffer *out, const char *name, const char *suffix,
                         const char *labels, double value)
{
    buffer_printf(out, "%s_%s%s%s%s %.15g\n", name, suffix, *labels ? "{" : "", labels,
                  *labels ? "}" : "", value);
}

void metrics_histogram(struct buffer *out, const char *name, const char *labels,
                       struct histogram *const *parts, int n_parts)
{
    uint64_t total = 0, nanoseconds = 0;
    for (int i = 0; i < METRICS_BUCKETS; i++) {
        char bound[32] = "+Inf";
        for (int p = 0; p < n_parts; p++)
            total += counter_read(&parts[p]->buckets[i]);
        if (i < METRICS_BUCKETS - 1)
            snprintf(bound, sizeof bound, "%g", bounds[i]);
        add_bucket(out, name, labels, bound, total);
    }
    for (int p = 0; p < n_parts; p++)
        nanoseconds += counter_read(&parts[p]->nanoseconds);
    add_suffixed(out, name, "sum", labels, (double)nanoseconds / 1e9);
    add_suffixed(out, name, "count", labels, (double)total);
}

void metrics_sizes(struct buffer *out, const char *name, const char *labels,
                   struct model_stats *s)
{
    uint64_t total = 0, rows = 0;
    for (int i = 0; i < METRICS_SIZES; i++) {
        char bound[32] = "+Inf";
        for (int l = 0; l < s->n_loops; l++)
            total += counter_read(&s->loops[l].sizes[i]);
        if (i < METRICS_SIZES - 1)
            snprintf(bound, sizeof bound, "%d", 1 << i);
        add_bucket(out, name, labels, bound, total);
    }
    for (int l = 0; l < s->n_loops; l++)
        rows += counter_read(&s->loops[l].rows);
    add_suffixed(out, name, "sum", labels, (double)rows);
    add_suffixed(out, name, "count", labels, (double)total);
}
