/*
 * V2's statistics: what proves that requests are computed together.
 *
 * Requests count from the model's first version on, whichever answered them. Triton adds the
 * time of a batch once for each of its requests; here compute_infer counts batches, so that
 * its mean is that of a batch.
 */
#include "server/api/api.h"
#include "server/api/open_inference.h"
#include "server/clock.h"
#include <stddef.h>

/* The sum of a counter, by its place, over the loops. */
static uint64_t sum(struct model_stats *stats, size_t offset)
{
    uint64_t n = 0;
    for (int l = 0; l < stats->n_loops; l++)
        n += counter_read((struct counter *)((char *)&stats->loops[l] + offset));
    return n;
}

#define SUM(stats, member) sum(stats, offsetof(struct model_counters, member))

/* Milliseconds since 1970; 0: never. */
static int64_t last_batch(struct model_stats *stats)
{
    uint64_t last = 0;
    struct timespec now;
    for (int l = 0; l < stats->n_loops; l++) {
        uint64_t t = counter_read(&stats->loops[l].last);
        last = t > last ? t : last;
    }
    if (!last)
        return 0;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 -
           (clock_now() - (int64_t)last) / 1000000;
}

static void add_duration(struct buffer *out, const char *name, uint64_t n, uint64_t nanoseconds)
{
    buffer_printf(out, "\"%s\":{\"count\":%llu,\"ns\":%llu}", name, (unsigned long long)n,
                  (unsigned long long)nanoseconds);
}

static void write_batches(struct buffer *out, struct model_stats *stats)
{
    const char *comma = "";
    buffer_add_text(out, ",\"batch_stats\":[");
    for (size_t i = 0; i < METRICS_EXACT; i++) {
        uint64_t n = SUM(stats, exact[i].batches);
        if (!n)
            continue;
        buffer_printf(out, "%s{\"batch_size\":%zu,", comma, i + 1);
        add_duration(out, "compute_input", 0, 0);
        buffer_add_text(out, ",");
        add_duration(out, "compute_infer", n, SUM(stats, exact[i].nanoseconds));
        buffer_add_text(out, ",");
        add_duration(out, "compute_output", 0, 0);
        buffer_add_text(out, "}");
        comma = ",";
    }
    buffer_add_text(out, "]");
}

static void write_model(struct buffer *out, const struct served *served)
{
    struct model_stats *stats = served->stats;
    uint64_t requests = SUM(stats, requests), failures = SUM(stats, failures);
    uint64_t success = requests > failures ? requests - failures : 0;
    uint64_t batches = SUM(stats, batches);

    buffer_add_text(out, "{\"name\":");
    buffer_add_json_string(out, served->name);
    buffer_printf(out,
                  ",\"version\":\"%lld\",\"last_inference\":%lld,\"inference_count\":%llu,"
                  "\"execution_count\":%llu,\"inference_stats\":{",
                  (long long)served->version, (long long)last_batch(stats),
                  (unsigned long long)SUM(stats, rows), (unsigned long long)batches);
    add_duration(out, "success", success, SUM(stats, durations.nanoseconds));
    buffer_add_text(out, ",");
    add_duration(out, "fail", failures, 0);
    buffer_add_text(out, ",");
    add_duration(out, "queue", success, SUM(stats, waiting));
    buffer_add_text(out, ",");
    add_duration(out, "compute_input", requests, SUM(stats, reading));
    buffer_add_text(out, ",");
    add_duration(out, "compute_infer", batches, SUM(stats, computations.nanoseconds));
    buffer_add_text(out, ",");
    add_duration(out, "compute_output", success, SUM(stats, writing));
    buffer_add_text(out, ",");
    add_duration(out, "cache_hit", 0, 0);
    buffer_add_text(out, ",");
    add_duration(out, "cache_miss", 0, 0);
    buffer_add_text(out, "},\"response_stats\":{}");
    write_batches(out, stats);
    buffer_add_text(out, ",\"memory_usage\":[]}");
}

int v2_statistics(struct http_request *r)
{
    int status;
    const struct served *served = v2_find(r, &status);
    if (!served)
        return status;
    buffer_add_text(&r->answer, "{\"model_stats\":[");
    write_model(&r->answer, served);
    buffer_add_text(&r->answer, "]}");
    return 200;
}

int v2_all_statistics(struct http_request *r)
{
    const struct table *table = api_loop(r)->table;
    const char *comma = "";
    buffer_add_text(&r->answer, "{\"model_stats\":[");
    for (size_t i = 0; table && i < table->n; i++) {
        const struct served_model *m = table->models[i];
        for (size_t k = 0; k < m->n; k++) {
            buffer_add_text(&r->answer, comma);
            write_model(&r->answer, m->versions[k]);
            comma = ",";
        }
    }
    buffer_add_text(&r->answer, "]}");
    return 200;
}
