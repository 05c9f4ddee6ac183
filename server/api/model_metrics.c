/*
 * What /metrics says of each version of a model, under names of our own and, behind them, under
 * Triton's, which its dashboards ask for.
 *
 * Counters are a version's since it was loaded; sum by (model) is the model's. Triton's names
 * are not what Prometheus advises (no _total, microseconds): they are as they are.
 */
#include "server/api/api.h"

#include <stdio.h>

enum { LABELS = 256 };

static void version_labels(char labels[LABELS], const struct served *served)
{
    char version[24];
    snprintf(version, sizeof version, "%lld", (long long)served->version);
    *labels = 0;
    metrics_label(labels, LABELS, "model", served->name);
    metrics_label(labels, LABELS, "version", version);
}

/* Calls `write` for every version of every model. */
static void for_each(struct buffer *out, const struct table *t, const char *name,
                     void (*write)(struct buffer *, const char *, const struct served *))
{
    for (size_t m = 0; m < t->n; m++)
        for (size_t i = 0; i < t->models[m]->n; i++)
            write(out, name, t->models[m]->versions[i]);
}

/* sums of counters */

struct metric {
    const char *name, *help;
    size_t offset;
    double scale;
};

#define AT(member) offsetof(struct model_counters, member)
#define STAGE(stage) offsetof(struct model_counters, stages[stage].nanoseconds)

static const struct metric counters[] = {
    {"predictd_predictions_total", "Predictions that were answered.", AT(requests), 1},
    {"predictd_predictions_expired_total", "Predictions whose deadline was over.", AT(expired),
     1},
    {"predictd_batches_total", "Batches computed.", AT(batches), 1},
    {"predictd_instances_total", "Rows computed.", AT(rows), 1},
    {"nv_inference_count", "Rows computed.", AT(rows), 1},
    {"nv_inference_exec_count", "Batches computed.", AT(batches), 1},
    {"nv_inference_request_duration_us", "Predictions that succeeded, in all.",
     AT(durations.nanoseconds), 1e-3},
    {"nv_inference_queue_duration_us", "Waiting for a batch to begin, in all.",
     STAGE(STAGE_QUEUE), 1e-3},
    {"nv_inference_compute_input_duration_us", "Reading bodies, in all.", STAGE(STAGE_DECODE),
     1e-3},
    {"nv_inference_compute_infer_duration_us",
     "Computing, in all; of a batch once for each of its predictions.", STAGE(STAGE_COMPUTE),
     1e-3},
    {"nv_inference_compute_output_duration_us", "Writing answers, in all.", STAGE(STAGE_ENCODE),
     1e-3},
};

static void write_counter(struct buffer *out, const struct table *t,
                          const struct metric *metric)
{
    metrics_begin(out, metric->name, "counter", metric->help);
    for (size_t m = 0; m < t->n; m++) {
        for (size_t i = 0; i < t->models[m]->n; i++) {
            const struct served *served = t->models[m]->versions[i];
            char labels[LABELS];
            version_labels(labels, served);
            metrics_sample(out, metric->name, labels,
                           (double)model_stats_sum(served->stats, metric->offset) *
                               metric->scale);
        }
    }
}

/* what is counted otherwise */

static uint64_t failures(const struct model_stats *stats)
{
    uint64_t n = 0;
    for (size_t i = 0; i < FAILURES; i++)
        n += MODEL_SUM(stats, failures[i]);
    return n;
}

static void write_failures(struct buffer *out, const char *name, const struct served *s)
{
    char labels[LABELS];
    version_labels(labels, s);
    metrics_sample(out, name, labels, (double)failures(s->stats));
}

static void write_success(struct buffer *out, const char *name, const struct served *s)
{
    char labels[LABELS];
    struct histogram_sum sum = model_stats_histogram(s->stats, AT(durations));
    version_labels(labels, s);
    metrics_sample(out, name, labels, (double)histogram_count(&sum));
}

static void write_reasons(struct buffer *out, const char *name, const struct served *s)
{
    static const char *const reasons[FAILURES] = {"REJECTED", "BACKEND", "OTHER"};
    for (size_t i = 0; i < FAILURES; i++) {
        char labels[LABELS];
        version_labels(labels, s);
        metrics_label(labels, sizeof labels, "reason", reasons[i]);
        metrics_sample(out, name, labels, (double)MODEL_SUM(s->stats, failures[i]));
    }
}

/* What was answered is read first: it never exceeds what has begun. */
static void write_pending(struct buffer *out, const char *name, const struct served *s)
{
    char labels[LABELS];
    uint64_t answered = MODEL_SUM(s->stats, requests), begun = MODEL_SUM(s->stats, begun);
    version_labels(labels, s);
    metrics_sample(out, name, labels, (double)(begun > answered ? begun - answered : 0));
}

static void write_info(struct buffer *out, const char *name, const struct served *s)
{
    char labels[LABELS];
    version_labels(labels, s);
    if (*s->sha256)
        metrics_label(labels, sizeof labels, "sha256", s->sha256);
    metrics_sample(out, name, labels, 1);
}

static void write_load_duration(struct buffer *out, const char *name, const struct served *s)
{
    char labels[LABELS];
    version_labels(labels, s);
    metrics_sample(out, name, labels, (double)s->load_time / 1e9);
}

static void write_durations(struct buffer *out, const char *name, const struct served *s)
{
    char labels[LABELS];
    struct histogram_sum sum = model_stats_histogram(s->stats, AT(durations));
    version_labels(labels, s);
    metrics_histogram(out, name, labels, &sum);
}

static void write_stages(struct buffer *out, const char *name, const struct served *s)
{
    for (size_t i = 0; i < STAGES; i++) {
        char labels[LABELS];
        struct histogram_sum sum = model_stats_histogram(s->stats, AT(stages[i]));
        version_labels(labels, s);
        metrics_label(labels, sizeof labels, "stage", stage_names[i]);
        metrics_histogram(out, name, labels, &sum);
    }
}

static void write_computations(struct buffer *out, const char *name, const struct served *s)
{
    char labels[LABELS];
    struct histogram_sum sum = model_stats_histogram(s->stats, AT(computations));
    version_labels(labels, s);
    metrics_histogram(out, name, labels, &sum);
}

static void write_sizes(struct buffer *out, const char *name, const struct served *s)
{
    char labels[LABELS];
    version_labels(labels, s);
    metrics_sizes(out, name, labels, s->stats);
}

static const struct {
    const char *name, *type, *help;
    void (*write)(struct buffer *, const char *, const struct served *);
} others[] = {
    {"predictd_model_info", "gauge", "The versions that are served, and of which file.",
     write_info},
    {"predictd_model_load_duration_seconds", "gauge",
     "Reading, checking and warming up the version.", write_load_duration},
    {"predictd_prediction_failures_total", "counter", "Predictions that were not answered 200.",
     write_failures},
    {"predictd_predictions_in_work", "gauge", "Predictions that are not answered yet.",
     write_pending},
    {"predictd_prediction_duration_seconds", "histogram",
     "From the end of a request's headers to its answer.", write_durations},
    {"predictd_prediction_stage_duration_seconds", "histogram",
     "Where the time of predictions goes: reading the body, waiting for a batch to begin, the "
     "batch, writing the answer.",
     write_stages},
    {"predictd_computation_duration_seconds", "histogram", "The model's work on one batch.",
     write_computations},
    {"predictd_batch_size", "histogram", "Rows of a batch.", write_sizes},
    {"nv_inference_request_success", "counter", "Predictions that were answered 200.",
     write_success},
    {"nv_inference_request_failure", "counter", "Predictions that were not.", write_reasons},
    {"nv_inference_pending_request_count", "gauge", "Predictions that are not answered yet.",
     write_pending},
};

/* models */

static void write_ready(struct buffer *out, const struct table *t)
{
    metrics_begin(out, "predictd_model_ready", "gauge",
                  "Whether the model has a version to serve.");
    for (size_t m = 0; m < t->n; m++) {
        char labels[LABELS] = "";
        metrics_label(labels, sizeof labels, "model", t->models[m]->name);
        metrics_sample(out, "predictd_model_ready", labels, t->models[m]->n > 0);
    }
}

static void write_queue(struct buffer *out, const struct server *server, const struct table *t)
{
    const char *name = "predictd_queue_depth";
    metrics_begin(out, name, "gauge", "Predictions that wait for a worker.");
    for (size_t m = 0; m < t->n; m++) {
        for (size_t i = 0; i < t->models[m]->n; i++) {
            const struct served *served = t->models[m]->versions[i];
            char labels[LABELS];
            version_labels(labels, served);
            metrics_sample(out, name, labels,
                           server->workers && served->lane
                               ? (double)workers_waiting(server->workers, served)
                               : 0);
        }
    }
}

void api_write_model_metrics(struct buffer *out, const struct server *server,
                             const struct table *t)
{
    write_ready(out, t);
    write_queue(out, server, t);
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++)
        write_counter(out, t, &counters[i]);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        metrics_begin(out, others[i].name, others[i].type, others[i].help);
        for_each(out, t, others[i].name, others[i].write);
    }
}
