#include "server/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Upper bounds in nanoseconds; the last bucket has none. */
static const int64_t bounds[METRICS_BUCKETS - 1] = {
    10000,     25000,     50000,     100000,     250000,     500000,
    1000000,   2500000,   5000000,   10000000,   25000000,   50000000,
    100000000, 250000000, 500000000, 1000000000, 2500000000, 10000000000};

const char *const stage_names[STAGES] = {"decode", "queue", "compute", "encode"};

const char *const shed_names[SHEDS] = {[SHED_NOT] = "",
                                       [SHED_FULL] = "full",
                                       [SHED_BYTES] = "bytes",
                                       [SHED_DEADLINE] = "deadline",
                                       [SHED_DRAINING] = "draining"};

static const int statuses[METRICS_STATUSES] = {200, 204, 400, 401, 403, 404, 405, 413,
                                               415, 429, 431, 500, 501, 503, 504, 0};

/* model statistics */

struct model_stats *model_stats_new(int n)
{
    size_t size = sizeof(struct model_stats) + (size_t)n * sizeof(struct model_counters);
    struct model_stats *stats = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!stats)
        return NULL;
    memset(stats, 0, size);
    stats->n = n;
    return stats;
}

void model_stats_free(struct model_stats *stats)
{
    free(stats);
}

uint64_t model_stats_sum(const struct model_stats *stats, size_t offset)
{
    uint64_t n = 0;
    for (int i = 0; i < stats->n; i++)
        n += counter_read((const struct counter *)((const char *)&stats->loops[i] + offset));
    return n;
}

struct histogram_sum model_stats_histogram(const struct model_stats *stats, size_t offset)
{
    struct histogram_sum sum = {0};
    for (int i = 0; i < stats->n; i++)
        histogram_collect(&sum,
                          (const struct histogram *)((const char *)&stats->loops[i] + offset));
    return sum;
}

/* counting */

void histogram_add(struct histogram *h, int64_t nanoseconds)
{
    int i = 0;
    while (i < METRICS_BUCKETS - 1 && nanoseconds > bounds[i])
        i++;
    counter_add(&h->buckets[i], 1);
    counter_add(&h->nanoseconds, (uint64_t)nanoseconds);
}

void histogram_collect(struct histogram_sum *sum, const struct histogram *part)
{
    for (int i = 0; i < METRICS_BUCKETS; i++)
        sum->buckets[i] += counter_read(&part->buckets[i]);
    sum->nanoseconds += counter_read(&part->nanoseconds);
}

uint64_t histogram_count(const struct histogram_sum *sum)
{
    uint64_t n = 0;
    for (int i = 0; i < METRICS_BUCKETS; i++)
        n += sum->buckets[i];
    return n;
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

void metrics_count_answer(struct model_counters *c, const struct stages *stages, int status,
                          int64_t duration)
{
    const int64_t *times = stages->nanoseconds;

    counter_add(&c->requests, 1);
    for (int i = 0; i < STAGES; i++)
        if (times[i])
            histogram_add(&c->stages[i], times[i]);
    if (stages->batch > 0 && stages->batch <= METRICS_EXACT) {
        counter_add(&c->exact[stages->batch - 1].decode, (uint64_t)times[STAGE_DECODE]);
        counter_add(&c->exact[stages->batch - 1].encode, (uint64_t)times[STAGE_ENCODE]);
    }
    if (status == 200) {
        histogram_add(&c->durations, duration);
        return;
    }
    counter_add(&c->failures[status == 503 || status == 504 ? FAILURE_REJECTED
                             : status >= 500                ? FAILURE_BACKEND
                                                            : FAILURE_OTHER],
                1);
    counter_add(&c->failed, (uint64_t)duration);
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

void metrics_label(char *labels, size_t room, const char *name, const char *value)
{
    size_t n = strlen(labels);
    int head = snprintf(labels + n, room - n, "%s%s=\"", n ? "," : "", name);

    if (head < 0 || (size_t)head + sizeof "\"" > room - n) {
        labels[n] = 0;
        return;
    }
    n += (size_t)head;
    for (; *value && n + sizeof "\\n\"" <= room; value++) {
        if (*value == '\\' || *value == '"' || *value == '\n')
            labels[n++] = '\\';
        labels[n++] = *value == '\n' ? 'n' : *value;
    }
    labels[n++] = '"';
    labels[n] = 0;
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
                       const struct histogram_sum *sum)
{
    uint64_t total = 0;
    for (int i = 0; i < METRICS_BUCKETS; i++) {
        char bound[32] = "+Inf";
        total += sum->buckets[i];
        if (i < METRICS_BUCKETS - 1)
            snprintf(bound, sizeof bound, "%g", (double)bounds[i] / 1e9);
        add_bucket(out, name, labels, bound, total);
    }
    add_suffixed(out, name, "sum", labels, (double)sum->nanoseconds / 1e9);
    add_suffixed(out, name, "count", labels, (double)total);
}

void metrics_sizes(struct buffer *out, const char *name, const char *labels,
                   const struct model_stats *s)
{
    uint64_t total = 0;
    for (size_t i = 0; i < METRICS_SIZES; i++) {
        char bound[32] = "+Inf";
        total += MODEL_SUM(s, sizes[i]);
        if (i < METRICS_SIZES - 1)
            snprintf(bound, sizeof bound, "%d", 1 << i);
        add_bucket(out, name, labels, bound, total);
    }
    add_suffixed(out, name, "sum", labels, (double)MODEL_SUM(s, rows));
    add_suffixed(out, name, "count", labels, (double)total);
}
