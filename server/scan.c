#include "server/scan.h"

#include "server/clock.h"
#include "server/json_tensor.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool registry_is_name(const char *name, size_t size)
{
    if (size == 0 || size >= MODEL_NAME_SIZE || name[0] == '.')
        return false;
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '.' || c == '-'))
            return false;
    }
    return true;
}

/* A version as it is written: no sign, no leading zero. -1: it is none. */
static int64_t read_version(const char *name)
{
    int64_t version = 0;
    size_t n = strlen(name);
    if (n == 0 || n > 18 || name[0] == '0')
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (name[i] < '0' || name[i] > '9')
            return -1;
        version = version * 10 + (name[i] - '0');
    }
    return version;
}

static int bundle_path(char path[PATH_MAX], const char *models, const char *name, int64_t version)
{
    int n = snprintf(path, PATH_MAX, "%s/%s/%lld/model.safetensors", models, name,
                     (long long)version);
    return n < PATH_MAX ? 0 : -1;
}

int scan_identify(struct file_identity *id, const char *models, const char *name, int64_t version)
{
    char path[PATH_MAX];
    struct stat s;
    if (bundle_path(path, models, name, version) < 0 || stat(path, &s) < 0 || S_ISDIR(s.st_mode))
        return -1;
    *id = (struct file_identity){s.st_dev, s.st_ino,
                                 s.st_mtim.tv_sec * 1000000000LL + s.st_mtim.tv_nsec, s.st_size};
    return 0;
}

/* the folder */

/* One more element behind an array of n. NULL: no memory, and the array is as it was. */
static void *grow(void *array, size_t n, size_t size)
{
    return n & (n - 1) ? array : realloc(array, (n ? 2 * n : 1) * size);
}

static int by_version(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct found_model *)a)->name, ((const struct found_model *)b)->name);
}

static int scan_versions(struct found_model *model, const char *models, const char *name,
                         struct nn_error *error)
{
    char path[PATH_MAX];
    struct file_identity id;
    int result = 0;

    *model = (struct found_model){0};
    if (snprintf(path, sizeof path, "%s/%s", models, name) >= (int)sizeof path)
        return 0;
    DIR *folder = opendir(path);
    if (!folder)
        return errno == ENOTDIR || errno == ENOENT
                   ? 0
                   : nn_fail(error, "%s: %s", path, strerror(errno));
    for (struct dirent *e; result == 0 && (e = readdir(folder));) {
        int64_t version = read_version(e->d_name);
        if (version < 0 || scan_identify(&id, models, name, version) < 0)
            continue;
        int64_t *grown = grow(model->versions, model->n, sizeof *grown);
        if (!grown) {
            result = nn_fail(error, "%s: out of memory", path);
            break;
        }
        model->versions = grown;
        model->versions[model->n++] = version;
    }
    closedir(folder);
    if (model->n)
        qsort(model->versions, model->n, sizeof *model->versions, by_version);
    snprintf(model->name, sizeof model->name, "%s", name);
    return result;
}

int scan_folder(struct found *found, const char *models, struct nn_error *error)
{
    DIR *folder = opendir(models);
    int result = 0;

    *found = (struct found){0};
    if (!folder)
        return nn_fail(error, "%s: %s", models, strerror(errno));
    for (struct dirent *e; result == 0 && (e = readdir(folder));) {
        struct found_model model;
        if (!registry_is_name(e->d_name, strlen(e->d_name)))
            continue;
        result = scan_versions(&model, models, e->d_name, error);
        if (result < 0 || model.n == 0) {
            free(model.versions);
            continue;
        }
        struct found_model *grown = grow(found->models, found->n, sizeof *grown);
        if (!grown) {
            free(model.versions);
            result = nn_fail(error, "%s: out of memory", models);
            break;
        }
        found->models = grown;
        found->models[found->n++] = model;
    }
    closedir(folder);
    if (found->n)
        qsort(found->models, found->n, sizeof *found->models, by_name);
    if (result < 0)
        scan_release(found);
    return result;
}

void scan_release(struct found *found)
{
    for (size_t i = 0; i < found->n; i++)
        free(found->models[i].versions);
    free(found->models);
    *found = (struct found){0};
}

/* what GET /models/{m} says */

static void describe_ports(struct buffer *out, const char *key, const struct nn_model *model,
                           int n, const struct nn_port *(*port)(const struct nn_model *, int))
{
    buffer_printf(out, ",\"%s\":[", key);
    for (int i = 0; i < n; i++) {
        buffer_add_text(out, i ? "," : "");
        json_write_port(out, port(model, i));
    }
    buffer_add_text(out, "]");
}

/* That the bundle's "training" is a JSON object was checked when it was read. */
static void describe_training(struct buffer *out, const struct nn_model *model)
{
    const char *text = nn_model_metadata(model, "training");
    buffer_add_text(out, ",\"training\":");
    buffer_add_text(out, text ? text : "null");
}

static void describe(struct served *s, double milliseconds)
{
    struct buffer *out = &s->description;
    struct timespec now;
    char since[CLOCK_TEXT];

    clock_gettime(CLOCK_REALTIME, &now);
    clock_text(since, now);
    buffer_add_text(out, "{\"name\":");
    buffer_add_json_string(out, s->name);
    if (!s->model) {
        buffer_add_text(out, ",\"version\":null,\"state\":\"failed\",\"reason\":");
        buffer_add_json_string(out, s->problem);
        buffer_add_text(out, "}");
        return;
    }
    const char *unbatched = nn_model_unbatched(s->model);
    buffer_printf(out, ",\"version\":\"%lld\",\"state\":\"ready\",\"since\":\"%s\"",
                  (long long)s->version, since);
    buffer_printf(out, ",\"load_milliseconds\":%.3f,\"parameters\":%lld,\"batched\":%s",
                  milliseconds, (long long)nn_model_n_parameters(s->model),
                  unbatched ? "false" : "true");
    if (unbatched) {
        buffer_add_text(out, ",\"unbatched_because\":");
        buffer_add_json_string(out, unbatched);
    }
    describe_ports(out, "inputs", s->model, nn_model_n_inputs(s->model), nn_model_input);
    describe_ports(out, "outputs", s->model, nn_model_n_outputs(s->model), nn_model_output);
    buffer_add_text(out, ",\"labels\":[");
    for (int i = 0; i < nn_model_n_labels(s->model); i++) {
        buffer_add_text(out, i ? "," : "");
        buffer_add_json_string(out, nn_model_label(s->model, i));
    }
    buffer_add_text(out, "]");
    describe_training(out, s->model);
    buffer_add_text(out, "}");
}

/* served versions */

static struct served *served_new(const char *name, int64_t version, struct model_stats *stats)
{
    struct served *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    atomic_init(&s->references, 1);
    snprintf(s->name, sizeof s->name, "%s", name);
    s->version = version;
    s->stats = model_stats_share(stats);
    return s;
}

struct served *served_open(const char *models, const char *name, int64_t version,
                           struct model_stats *stats, struct nn_error *error)
{
    char path[PATH_MAX];
    int64_t began = clock_now();
    struct served *s = served_new(name, version, stats);

    if (!s) {
        nn_fail(error, "%s: out of memory", name);
        return NULL;
    }
    /* Identified before it is read: a file that is replaced meanwhile is read again by the
     * next reload, never taken for the new one. */
    if (bundle_path(path, models, name, version) < 0 ||
        scan_identify(&s->file, models, name, version) < 0) {
        nn_fail(error, "%s: version %lld is gone", name, (long long)version);
        goto fail;
    }
    s->model = nn_model_open(path, error);
    if (!s->model)
        goto fail;
    if (nn_model_n_inputs(s->model) > TENSOR_MAX_PORTS ||
        nn_model_n_outputs(s->model) > TENSOR_MAX_PORTS) {
        nn_fail(error, "%s: at most %d inputs and outputs can be served", path,
                TENSOR_MAX_PORTS);
        goto fail;
    }
    describe(s, (double)(clock_now() - began) / 1e6);
    if (s->description.failed) {
        nn_fail(error, "%s: out of memory", path);
        goto fail;
    }
    return s;

fail:
    served_release(s);
    return NULL;
}

struct served *served_broken(const char *name, const char *problem, struct model_stats *stats)
{
    struct served *s = served_new(name, -1, stats);
    if (s) {
        snprintf(s->problem, sizeof s->problem, "%s", problem);
        describe(s, 0);
    }
    return s;
}

struct served *served_share(struct served *s)
{
    atomic_fetch_add(&s->references, 1);
    return s;
}

void served_release(struct served *s)
{
    if (!s || atomic_fetch_sub(&s->references, 1) != 1)
        return;
    nn_model_close(s->model);
    model_stats_release(s->stats);
    buffer_release(&s->description);
    free(s);
}
