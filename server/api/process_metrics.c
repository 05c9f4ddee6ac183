/*
 * What /metrics says of the process as a whole: reloads, resources, limits.
 */
#include "server/api/api.h"

#include "server/cgroup.h"
#include "server/system.h"
#include <sys/resource.h>

static void write_reloads(struct buffer *out, const struct server *s)
{
    const struct registry_counts *c = registry_counts(s->registry);
    const char *name = "predictd_model_reloads_total";
    metrics_begin(out, name, "counter", "Models by what became of them in a reload.");
    metrics_sample(out, name, "result=\"loaded\"", (double)atomic_load(&c->loaded));
    metrics_sample(out, name, "result=\"failed\"", (double)atomic_load(&c->failed));
    metrics_sample(out, name, "result=\"removed\"", (double)atomic_load(&c->removed));
    name = "predictd_model_versions_skipped_total";
    metrics_begin(out, name, "counter", "Broken versions that were passed over.");
    metrics_sample(out, name, "", (double)atomic_load(&c->skipped));
    name = "predictd_last_successful_reload_timestamp_seconds";
    metrics_begin(out, name, "gauge", "When everything there was could be loaded.");
    metrics_sample(out, name, "", (double)atomic_load(&c->last_success));
    name = "predictd_last_reload_successful";
    metrics_begin(out, name, "gauge",
                  "Whether the last reload could load everything there was.");
    metrics_sample(out, name, "", !atomic_load(&c->last_failed));
}

static void write_process(struct buffer *out, const struct server *s)
{
    struct rlimit limit = {0};
    const struct {
        const char *name, *type, *help;
        double value;
    } samples[] = {
        {"process_cpu_seconds_total", "counter", "Processor time used.",
         system_processor_seconds()},
        {"process_resident_memory_bytes", "gauge", "Resident memory.",
         (double)system_resident()},
        {"process_open_fds", "gauge", "Open descriptors.", (double)system_descriptors()},
        {"process_max_fds", "gauge", "Descriptors that may be open.",
         getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (double)limit.rlim_cur : -1},
        {"process_start_time_seconds", "gauge", "Start, since 1970.", (double)s->started},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        metrics_begin(out, samples[i].name, samples[i].type, samples[i].help);
        metrics_sample(out, samples[i].name, "", samples[i].value);
    }
    char labels[256] = "";
    metrics_label(labels, sizeof labels, "version", PREDICTD_VERSION);
    metrics_label(labels, sizeof labels, "libmicrohttpd", http_library());
    metrics_begin(out, "predictd_build_info", "gauge", "What this is.");
    metrics_sample(out, "predictd_build_info", labels, 1);
}

/* Where the quota is too small, batches take long for no reason that is seen in here. */
static void write_throttling(struct buffer *out)
{
    struct cgroup_throttling t;
    if (!cgroup_read_throttling("", &t))
        return;
    const struct {
        const char *name, *help;
        double value;
    } samples[] = {
        {"predictd_cgroup_cpu_periods_total", "Periods in which the processor was wanted.",
         (double)t.periods},
        {"predictd_cgroup_cpu_throttled_periods_total",
         "Of them, periods in which the quota was used up.", (double)t.throttled},
        {"predictd_cgroup_cpu_throttled_seconds_total", "Time that threads waited for that.",
         t.seconds},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        metrics_begin(out, samples[i].name, "counter", samples[i].help);
        metrics_sample(out, samples[i].name, "", samples[i].value);
    }
}

static void write_limits(struct buffer *out, const struct server *s)
{
    const char *name = "predictd_event_loops";
    metrics_begin(out, name, "gauge", "Event loops, without the admin port's.");
    metrics_sample(out, name, "", s->n_loops - 1);
    name = "predictd_predictions_limit";
    metrics_begin(out, name, "gauge", "Predictions that may be in work.");
    metrics_sample(out, name, "", (double)s->options->max_queue);
    name = "predictd_draining";
    metrics_begin(out, name, "gauge", "Whether the server is ending.");
    metrics_sample(out, name, "", atomic_load(&s->draining));
}

void api_write_process_metrics(struct buffer *out, const struct server *server)
{
    write_reloads(out, server);
    write_limits(out, server);
    write_process(out, server);
    write_throttling(out);
}
