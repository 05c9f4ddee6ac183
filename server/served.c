#include "server/served.h"

#include "server/clock.h"
#include "server/json_tensor.h"
#include "server/lane.h"
#include "server/log.h"
#include "server/scan.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    ATTEMPTS = 3, /* at a file that is being replaced */
    MEASURED_RUNS = 5,
    MEASURED_TIME = 50000000, /* nanoseconds, after which no further run begins */
};

/* what GET /models/{m} says of a version */

/* That the bundle's "training" is a JSON object was checked when it was read. */
static void describe_training(struct buffer *out, const struct nn_model *model)
{
    const char *text = nn_model_metadata(model, "training");
    buffer_add_text(out, ",\"training\":");
    buffer_add_text(out, text ? text : "null");
}

static void describe_members(struct buffer *out, const struct served *s)
{
    buffer_add_text(out, ",\"members\":[");
    for (size_t i = 0; i < s->n_members; i++) {
        buffer_add_text(out, i ? ",{\"name\":" : "{\"name\":");
        buffer_add_json_string(out, s->members[i]->name);
        buffer_printf(out, ",\"version\":\"%lld\"}", (long long)s->members[i]->version);
    }
    buffer_add_text(out, "]");
}

static int64_t n_parameters(const struct served *s)
{
    int64_t n = s->n_members ? 0 : nn_model_n_parameters(s->model);
    for (size_t i = 0; i < s->n_members; i++)
        n += nn_model_n_parameters(s->members[i]->model);
    return n;
}

static void describe(struct served *s)
{
    struct buffer *out = &s->description;
    struct timespec now;
    char since[CLOCK_TEXT];

    clock_gettime(CLOCK_REALTIME, &now);
    clock_text(since, now);
    buffer_add_text(out, "{\"name\":");
    buffer_add_json_string(out, s->name);
    const char *unbatched = nn_model_unbatched(s->model);
    buffer_printf(out, ",\"version\":\"%lld\",\"state\":\"ready\",\"since\":\"%s\"",
                  (long long)s->version, since);
    if (s->n_members == 0)
        buffer_printf(out, ",\"batch_milliseconds\":%.4f", (double)s->batch_time / 1e6);
    buffer_printf(out, ",\"load_milliseconds\":%.3f,\"parameters\":%lld,\"batched\":%s",
                  (double)s->load_time / 1e6, (long long)n_parameters(s),
                  unbatched ? "false" : "true");
    if (unbatched) {
        buffer_add_text(out, ",\"unbatched_because\":");
        buffer_add_json_string(out, unbatched);
    }
    if (*s->sha256)
        buffer_printf(out, ",\"sha256\":\"%s\"", s->sha256);
    buffer_add_text(out, ",");
    json_write_ports(out, s->model);
    buffer_add_text(out, ",\"labels\":[");
    for (int i = 0; i < nn_model_n_labels(s->model); i++) {
        buffer_add_text(out, i ? "," : "");
        buffer_add_json_string(out, nn_model_label(s->model, i));
    }
    buffer_add_text(out, "]");
    if (s->n_members)
        describe_members(out, s);
    else
        describe_training(out, s->model);
    buffer_add_text(out, "}");
}

/* opening */

static void write_one(enum nn_datatype datatype, void *element)
{
    const float single = 1;
    const double real = 1;
    const uint16_t fp16 = nn_fp16_round(1), bf16 = nn_bf16_round(1);
    const int64_t integer = 1; /* its low bytes come first */
    const void *one = datatype == NN_FP32   ? (const void *)&single
                      : datatype == NN_FP64 ? (const void *)&real
                      : datatype == NN_FP16 ? (const void *)&fp16
                      : datatype == NN_BF16 ? (const void *)&bf16
                                            : &integer;
    memcpy(element, one, nn_datatype_size(datatype));
}

/* Not with zeros, which kernels leave out of their sums. */
static void fill_inputs(const struct nn_model *model, struct nn_session *session, int64_t rows)
{
    for (int i = 0; i < nn_model_n_inputs(model); i++) {
        const struct nn_port *port = nn_model_input(model, i);
        int64_t fixed = tensor_fixed_rows(port);
        size_t bytes = (size_t)(fixed ? fixed : rows) * tensor_row_bytes(port);
        for (size_t at = 0; at < bytes; at += nn_datatype_size(port->datatype))
            write_one(port->datatype, (char *)nn_session_input(session, i) + at);
    }
}

/* The least of a few runs: the first ones bring pages of weights in, and others may have the
 * processor for a while. */
static int measure(struct served *s, struct nn_error *error)
{
    struct nn_session *session = nn_session_new(s->model, SERVED_BATCH, error);
    int64_t begin = clock_now(), least = INT64_MAX;
    if (!session)
        return -1;
    for (int i = 0; i < MEASURED_RUNS && clock_now() - begin < MEASURED_TIME; i++) {
        fill_inputs(s->model, session, SERVED_BATCH);
        int64_t began = clock_now();
        /* A model that is not batched may refuse so many rows: then one has to do. */
        if (nn_session_run(session, SERVED_BATCH, NULL) < 0)
            (void)nn_session_run(session, 1, NULL);
        int64_t took = clock_now() - began;
        least = took < least ? took : least;
    }
    s->batch_time = least;
    nn_session_free(session);
    return 0;
}

/* What a first request would have to wait for happens here: pages of weights come in, the
 * processor's caches fill. */
static int warm_up(const struct nn_model *model, int64_t rows, struct nn_error *error)
{
    if (rows == 0)
        return 0;
    struct nn_session *session = nn_session_new(model, rows, error);
    if (!session)
        return nn_fail_in(error, "warmup of %lld rows", (long long)rows);
    fill_inputs(model, session, rows);
    /* A model that is not batched may refuse so many rows: then it stays cold. */
    (void)nn_session_run(session, rows, NULL);
    nn_session_free(session);
    return 0;
}

/* A file that is replaced while it is read is read again: half of one and half of the other
 * may pass every check. */
static struct nn_model *open_bundle(const char *path, struct file_identity *id,
                                    char sha256[SHA256_TEXT], struct nn_error *error)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        struct file_identity after;
        struct nn_error why = {0};
        if (scan_identify(id, path) < 0) {
            nn_fail(error, "%s: %s", path, strerror(errno));
            return NULL;
        }
        struct nn_model *model = nn_model_open(path, &why);
        if (model && sha256_file(sha256, path) < 0) {
            nn_fail(error, "%s: %s", path, strerror(errno));
            nn_model_close(model);
            return NULL;
        }
        if (scan_identify(&after, path) == 0 && scan_is_same(id, &after)) {
            if (!model)
                nn_fail(error, "%s", why.text);
            return model;
        }
        nn_model_close(model);
    }
    nn_fail(error, "%s: changes while it is read", path);
    return NULL;
}

static struct served *new_served(const char *name, int64_t version, int n_counters)
{
    struct served *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    atomic_init(&s->references, 1);
    memcpy(s->name, name, strlen(name) + 1);
    s->version = version;
    s->stats = model_stats_new(n_counters);
    if (!s->stats) {
        free(s);
        return NULL;
    }
    return s;
}

struct served *served_open(const char *models, const char *name, int64_t version,
                           int64_t warmup, int n_counters, struct nn_error *error)
{
    char path[PATH_MAX];
    int64_t began = clock_now();
    struct served *s = new_served(name, version, n_counters);

    if (!s) {
        nn_fail(error, "%s: out of memory", name);
        return NULL;
    }
    scan_bundle_path(path, models, name, version);
    s->model = open_bundle(path, &s->file, s->sha256, error);
    if (!s->model)
        goto fail;
    if (nn_model_n_inputs(s->model) > TENSOR_MAX_PORTS ||
        nn_model_n_outputs(s->model) > TENSOR_MAX_PORTS) {
        nn_fail(error, "%s: at most %d inputs and outputs can be served", path,
                TENSOR_MAX_PORTS);
        goto fail;
    }
    if (warm_up(s->model, warmup, error) < 0 || measure(s, error) < 0) {
        nn_fail_in(error, "%s", path);
        goto fail;
    }
    log_event(LOG_INFO, "model measured", LOG_TEXT("model", name),
              LOG_INTEGER("version", version), LOG_INTEGER("batch_rows", SERVED_BATCH),
              LOG_REAL("batch_milliseconds", (double)s->batch_time / 1e6));
    s->lane = lane_new(s);
    s->load_time = clock_now() - began;
    describe(s);
    if (!s->lane || s->description.failed) {
        nn_fail(error, "%s: out of memory", path);
        goto fail;
    }
    return s;

fail:
    served_release(s);
    return NULL;
}

struct served *served_open_ensemble(const char *name, struct served *const *members, size_t n,
                                    int n_counters)
{
    struct served *s = new_served(name, 1, n_counters);
    struct served **shared = calloc(n, sizeof *shared);

    if (!s || !shared) {
        free(shared);
        served_release(s);
        return NULL;
    }
    s->model = members[0]->model;
    s->members = shared;
    for (s->n_members = 0; s->n_members < n; s->n_members++)
        shared[s->n_members] = served_share(members[s->n_members]);
    describe(s);
    if (s->description.failed) {
        served_release(s);
        return NULL;
    }
    return s;
}

/* what GET /models/{m} says of the model */

static void describe_unserved(struct buffer *out, const struct unserved *u)
{
    buffer_printf(
        out, "{\"version\":\"%lld\",\"state\":\"failed\",\"reason\":", (long long)u->version);
    buffer_add_json_string(out, u->problem);
    buffer_add_text(out, "}");
}

/* Both lists are ascending; so is what is written. */
static void describe_versions(struct buffer *out, const struct served_model *m)
{
    size_t i = 0, k = 0;
    buffer_add_text(out, ",\"versions\":[");
    while (i < m->n || k < m->n_unserved) {
        buffer_add_text(out, i + k ? "," : "");
        if (k == m->n_unserved ||
            (i < m->n && m->versions[i]->version < m->unserved[k].version))
            buffer_printf(out, "{\"version\":\"%lld\",\"state\":\"ready\"}",
                          (long long)m->versions[i++]->version);
        else
            describe_unserved(out, &m->unserved[k++]);
    }
    buffer_add_text(out, "]");
}

static void describe_labels(struct buffer *out, const struct serving_config *c)
{
    buffer_add_text(out, ",\"version_labels\":{");
    for (int i = 0; i < c->n_labels; i++) {
        buffer_add_text(out, i ? "," : "");
        buffer_add_json_string(out, c->labels[i].name);
        buffer_printf(out, ":{\"version\":\"%lld\"", (long long)c->labels[i].version);
        if (c->labels[i].weight >= 0)
            buffer_printf(out, ",\"weight\":%lld", (long long)c->labels[i].weight);
        buffer_add_text(out, "}");
    }
    buffer_add_text(out, "}");
}

int served_model_describe(struct served_model *m)
{
    struct buffer *out = &m->description;
    if (m->standard) {
        const struct buffer *standard = &m->standard->description;
        buffer_add(out, standard->data, standard->size - strlen("}"));
    } else {
        buffer_add_text(out, "{\"name\":");
        buffer_add_json_string(out, m->name);
        buffer_add_text(out, ",\"version\":null,\"state\":\"failed\",\"reason\":");
        buffer_add_json_string(out, m->problem);
    }
    describe_versions(out, m);
    describe_labels(out, &m->config);
    buffer_add_text(out, "}");
    return out->failed ? -1 : 0;
}
