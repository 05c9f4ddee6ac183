#include "server/api/api.h"

#include "server/framing.h"
#include "server/watch.h"
#include <stddef.h>
#include <stdio.h>

/* NULL: there is no route of that index. */
static const char *route_path(int index)
{
    for (int i = 0; i < api_n_routes; i++)
        if (api_routes[i].index == index)
            return api_routes[i].path;
    return index == 0 ? "other" : NULL;
}

/* Routes of a protocol that nobody speaks here are left out. */
static bool is_used(const struct server *s, int route)
{
    bool foreign = !route_path(route);
    uint64_t n = 0;
    for (int i = 0; i < api_n_routes; i++)
        foreign |= api_routes[i].index == route && api_routes[i].foreign;
    for (int l = 0; l < s->n_loops; l++)
        for (int i = 0; i < METRICS_STATUSES; i++)
            n += counter_read(&s->loops[l].counters->requests[route][i]);
    return !foreign || n > 0;
}

static void write_requests(struct buffer *out, const struct server *s)
{
    char labels[128];

    metrics_begin(out, "predictd_http_requests_total", "counter", "Requests answered.");
    for (int route = 0; route < METRICS_ROUTES; route++) {
        for (int i = 0; i < METRICS_STATUSES; i++) {
            uint64_t n = 0;
            for (int l = 0; l < s->n_loops; l++)
                n += counter_read(&s->loops[l].counters->requests[route][i]);
            if (n == 0)
                continue;
            snprintf(labels, sizeof labels, "route=\"%s\",code=\"%d\"", route_path(route),
                     metrics_status(i));
            metrics_sample(out, "predictd_http_requests_total", labels, (double)n);
        }
    }
    metrics_begin(out, "predictd_http_request_duration_seconds", "histogram",
                  "From the end of a request's headers to the end of its answer.");
    for (int route = 0; route < METRICS_ROUTES; route++) {
        struct histogram_sum sum = {0};
        if (!is_used(s, route))
            continue;
        for (int l = 0; l < s->n_loops; l++)
            histogram_collect(&sum, &s->loops[l].counters->durations[route]);
        snprintf(labels, sizeof labels, "route=\"%s\"", route_path(route));
        metrics_histogram(out, "predictd_http_request_duration_seconds", labels, &sum);
    }
}

/* A counter that every loop has, by its place. */
static const struct {
    const char *name, *help;
    size_t offset;
} per_loop[] = {
    {"predictd_http_requests_lost_total", "Clients that left before their answer.",
     offsetof(struct loop_counters, lost)},
    {"predictd_http_received_bytes_total", "Bodies of requests.",
     offsetof(struct loop_counters, received)},
    {"predictd_http_sent_bytes_total", "Bodies of answers.",
     offsetof(struct loop_counters, sent)},
    {"predictd_connections_accepted_total", "Connections taken.",
     offsetof(struct loop_counters, connections)},
    {"predictd_connections_refused_total", "Connections closed because there were too many.",
     offsetof(struct loop_counters, connection.refused)},
};

/* Sums one of the counters that every loop has. */
static double sum_of(const struct server *s, size_t offset)
{
    uint64_t n = 0;
    for (int l = 0; l < s->n_loops; l++)
        n +=
            counter_read((const struct counter *)((const char *)s->loops[l].counters + offset));
    return (double)n;
}

static void write_refusals(struct buffer *out, const struct server *s)
{
    const char *name = "predictd_http_rejected_total";
    char labels[128];

    metrics_begin(out, name, "counter", "Requests refused for their framing.");
    for (size_t i = 1; i < FRAMING_FAULTS; i++) {
        snprintf(labels, sizeof labels, "reason=\"%s\"", framing_answers[i].label);
        metrics_sample(out, name, labels,
                       sum_of(s, offsetof(struct loop_counters, connection.faults) +
                                     i * sizeof(struct counter)));
    }
    name = "predictd_requests_shed_total";
    metrics_begin(out, name, "counter", "Requests turned away for lack of room or time.");
    for (size_t i = SHED_NOT + 1; i < SHEDS; i++) {
        snprintf(labels, sizeof labels, "reason=\"%s\"", shed_names[i]);
        metrics_sample(
            out, name, labels,
            sum_of(s, offsetof(struct loop_counters, shed) + i * sizeof(struct counter)));
    }
    name = "predictd_connections_cut_total";
    metrics_begin(out, name, "counter", "Connections cut off because a client was slow.");
    for (size_t i = 0; i < WATCH_STAGES; i++) {
        snprintf(labels, sizeof labels, "stage=\"%s\"", watch_stage_names[i]);
        metrics_sample(out, name, labels,
                       sum_of(s, offsetof(struct loop_counters, connection.cut) +
                                     i * sizeof(struct counter)));
    }
}

static void write_loops(struct buffer *out, const struct server *s)
{
    for (size_t i = 0; i < sizeof per_loop / sizeof per_loop[0]; i++) {
        metrics_begin(out, per_loop[i].name, "counter", per_loop[i].help);
        metrics_sample(out, per_loop[i].name, "", sum_of(s, per_loop[i].offset));
    }
    int connections = 0;
    for (int l = 0; l < s->n_loops; l++)
        connections += http_n_connections(s->loops[l].http);
    metrics_begin(out, "predictd_connections", "gauge", "Open connections.");
    metrics_sample(out, "predictd_connections", "", connections);
    int requests = 0;
    for (int l = 0; l < s->n_loops; l++)
        requests += http_n_requests(s->loops[l].http);
    metrics_begin(out, "predictd_http_requests_in_flight", "gauge",
                  "Requests that are read or answered, this one among them.");
    metrics_sample(out, "predictd_http_requests_in_flight", "", requests);
}

static void write_certificates(struct buffer *out, const struct server *s)
{
    struct tls *const listeners[] = {s->guards.tls, s->guards.admin_tls};
    static const char *const labels[] = {"listener=\"data\"", "listener=\"admin\""};
    const char *name = "predictd_certificate_expiry_timestamp_seconds";

    if (!listeners[0] && !listeners[1])
        return;
    metrics_begin(out, name, "gauge", "When the certificate that is presented expires.");
    for (int i = 0; i < 2; i++)
        if (listeners[i])
            metrics_sample(out, name, labels[i], (double)tls_expires(listeners[i]));
}

int api_metrics(struct http_request *r)
{
    const struct loop *l = api_loop(r);
    struct buffer *out = &r->answer;

    r->answer_type = "text/plain; version=0.0.4; charset=utf-8";
    write_requests(out, l->server);
    write_loops(out, l->server);
    write_refusals(out, l->server);
    write_certificates(out, l->server);
    if (l->table)
        api_write_model_metrics(out, l->server, l->table);
    api_write_process_metrics(out, l->server);
    return 200;
}
