/*
 * V2's statistics: what proves that requests are computed together.
 *
 * They are a version's since it was loaded. As Triton's: the counts of inference_stats are
 * requests, so the time of a batch is in compute_infer once for each of its requests; the
 * counts of batch_stats are batches, and what its requests took is added up.
 */
#include "server/api/api.h"
#include "server/api/open_inference.h"
#include "server/clock.h"

/* Milliseconds since 1970; 0: never. */
static int64_t last_batch(const struct model_stats *stats)
{
    uint64_t last = 0;
    struct timespec now;
    for (int l = 0; l < stats->n; l++) {
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

static void write_batches(struct buffer *out, const struct model_stats *stats)
{
    const char *comma = "";
    buffer_add_text(out, ",\"batch_stats\":[");
    for (size_t i = 0; i < METRICS_EXACT; i++) {
        uint64_t n = MODEL_SUM(stats, exact[i].batches);
        if (!n)
            continue;
        buffer_printf(out, "%s{\"batch_size\":%zu,", comma, i + 1);
        add_duration(out, "compute_input", n, MODEL_SUM(stats, exact[i].decode));
        buffer_add_text(out, ",");
        add_duration(out, "compute_infer", n, MODEL_SUM(stats, exact[i].nanoseconds));
        buffer_add_text(out, ",");
        add_duration(out, "compute_output", n, MODEL_SUM(stats, exact[i].encode));
        buffer_add_text(out, "}");
        comma = ",";
    }
    buffer_add_text(out, "]");
}

static void add_histogram(struct buffer *out, const char *name, const struct model_stats *stats,
                          size_t offset)
{
    struct histogram_sum sum = model_stats_histogram(stats, offset);
    add_duration(out, name, histogram_count(&sum), sum.nanoseconds);
    buffer_add_text(out, ",");
}

static void write_stats(struct buffer *out, const struct model_stats *stats)
{
    static const struct {
        const char *name;
        enum stage stage;
    } stages[] = {{"queue", STAGE_QUEUE},
                  {"compute_input", STAGE_DECODE},
                  {"compute_infer", STAGE_COMPUTE},
                  {"compute_output", STAGE_ENCODE}};
    uint64_t failures = 0;

    for (size_t i = 0; i < FAILURES; i++)
        failures += MODEL_SUM(stats, failures[i]);
    add_histogram(out, "success", stats, offsetof(struct model_counters, durations));
    add_duration(out, "fail", failures, MODEL_SUM(stats, failed));
    buffer_add_text(out, ",");
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
        add_histogram(out, stages[i].name, stats,
                      offsetof(struct model_counters, stages[stages[i].stage]));
    add_duration(out, "cache_hit", 0, 0);
    buffer_add_text(out, ",");
    add_duration(out, "cache_miss", 0, 0);
}

static void write_model(struct buffer *out, const struct served *served)
{
    const struct model_stats *stats = served->stats;

    buffer_add_text(out, "{\"name\":");
    buffer_add_json_string(out, served->name);
    buffer_printf(out,
                  ",\"version\":\"%lld\",\"last_inference\":%lld,\"inference_count\":%llu,"
                  "\"execution_count\":%llu,\"inference_stats\":{",
                  (long long)served->version, (long long)last_batch(stats),
                  (unsigned long long)MODEL_SUM(stats, rows),
                  (unsigned long long)MODEL_SUM(stats, batches));
    write_stats(out, stats);
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
