#include "server/scan.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { ATTEMPTS = 3 }; /* at a folder that is being replaced */

/* files */

static void cut_too_long(char path[PATH_MAX], int n)
{
    if (n < 0 || n >= PATH_MAX)
        *path = 0;
}

void scan_bundle_path(char path[PATH_MAX], const char *models, const char *name,
                      int64_t version)
{
    cut_too_long(path, snprintf(path, PATH_MAX, "%s/%s/%lld/model.safetensors", models, name,
                                (long long)version));
}

void scan_config_path(char path[PATH_MAX], const char *models, const char *name)
{
    cut_too_long(path, snprintf(path, PATH_MAX, "%s/%s/serving.json", models, name));
}

static int64_t nanoseconds(struct timespec t)
{
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int scan_identify(struct file_identity *id, const char *path)
{
    struct stat s;
    int failed = stat(path, &s) < 0 ? errno : S_ISDIR(s.st_mode) ? EISDIR : 0;
    *id = (struct file_identity){.size = failed && !scan_is_absent(failed) ? -1 : 0};
    if (failed) {
        errno = failed;
        return -1;
    }
    *id = (struct file_identity){s.st_dev, s.st_ino, nanoseconds(s.st_mtim), s.st_size,
                                 nanoseconds(s.st_ctim)};
    return 0;
}

bool scan_is_absent(int error)
{
    return error == ENOENT || error == ENOTDIR || error == EISDIR;
}

bool scan_is_same(const struct file_identity *a, const struct file_identity *b)
{
    return a->device == b->device && a->inode == b->inode && a->modified == b->modified &&
           a->size == b->size;
}

/* the folder */

/* One more element behind an array of n. NULL: no memory, and the array is as it was. */
static void *grow(void *array, size_t n, size_t size)
{
    return n & (n - 1) ? array : realloc(array, (n ? 2 * n : 1) * size);
}

/* Whether the path still leads to the folder that is being read. Where a link or the folder was
 * replaced meanwhile, what is being read may be half removed already. */
static bool is_current(DIR *folder, const char *path)
{
    struct stat read, now;
    return fstat(dirfd(folder), &read) == 0 && stat(path, &now) == 0 &&
           read.st_dev == now.st_dev && read.st_ino == now.st_ino;
}

/* what is left out */

static int leave_out(struct found *found, const char *name, const char *below,
                     const char *reason, struct nn_error *error)
{
    size_t size = strlen(name) + strlen(below) + 2;
    struct left_out *grown = grow(found->left_out, found->n_left_out, sizeof *grown);
    if (grown)
        found->left_out = grown;
    char *path = grown ? malloc(size) : NULL;
    if (!path)
        return nn_fail(error, "%s: out of memory", name);
    snprintf(path, size, "%s%s%s", name, *below ? "/" : "", below);
    found->left_out[found->n_left_out++] = (struct left_out){path, reason};
    return 0;
}

static void take_back(struct found *found, size_t n)
{
    while (found->n_left_out > n)
        free(found->left_out[--found->n_left_out].path);
}

/* Something in the folder of a model that is no version: may it be one that is misnamed? */
static int look_at_other(struct found *found, const char *models, const char *name,
                         const char *other, struct nn_error *error)
{
    bool is_bundle = strcmp(other, "model.safetensors") == 0;
    char path[PATH_MAX];
    struct file_identity id;
    int n = snprintf(path, sizeof path, "%s/%s/%s%s", models, name, other,
                     is_bundle ? "" : "/model.safetensors");
    if (*other == '.' || n < 0 || n >= PATH_MAX || scan_identify(&id, path) < 0)
        return 0;
    return leave_out(found, name, other,
                     is_bundle ? "expected the folder of a version around it"
                               : "expected a version of 1 to 18 digits, no 0 first",
                     error);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct left_out *)a)->path, ((const struct left_out *)b)->path);
}

/* versions */

static int by_version(const void *a, const void *b)
{
    int64_t x = ((const struct found_version *)a)->version;
    int64_t y = ((const struct found_version *)b)->version;
    return (x > y) - (x < y);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct found_model *)a)->name, ((const struct found_model *)b)->name);
}

static int read_versions(struct found *all, struct found_model *model, DIR *folder,
                         const char *models, const char *name, struct nn_error *error)
{
    for (struct dirent *e; (e = readdir(folder));) {
        struct found_version found = {.version = name_version(e->d_name, strlen(e->d_name))};
        char bundle[PATH_MAX];
        if (found.version < 0 && look_at_other(all, models, name, e->d_name, error) < 0)
            return -1;
        if (found.version < 0)
            continue;
        scan_bundle_path(bundle, models, name, found.version);
        /* What may not be read is not gone: loading it will say what is wrong. */
        if (scan_identify(&found.file, bundle) < 0 && scan_is_absent(errno))
            continue;
        struct found_version *grown = grow(model->versions, model->n, sizeof *grown);
        if (!grown)
            return nn_fail(error, "%s/%s: out of memory", models, name);
        model->versions = grown;
        model->versions[model->n++] = found;
    }
    return 0;
}

/* A model that cannot be looked at is no reason not to serve the others. */
static void note_problem(struct found_model *model, const char *name, const char *path,
                         const char *reason)
{
    snprintf(model->name, sizeof model->name, "%s", name);
    snprintf(model->problem, sizeof model->problem, "%.200s: %s", path, reason);
}

static int scan_versions(struct found *found, struct found_model *model, const char *models,
                         const char *name, struct nn_error *error)
{
    const size_t n_left_out = found->n_left_out;
    char path[PATH_MAX];
    bool current = false;
    int result = 0;

    *model = (struct found_model){0};
    if (snprintf(path, sizeof path, "%s/%s", models, name) >= (int)sizeof path)
        return 0;
    for (int attempt = 0; attempt < ATTEMPTS && result == 0 && !current; attempt++) {
        model->n = 0;
        take_back(found, n_left_out);
        DIR *folder = opendir(path);
        if (!folder && scan_is_absent(errno))
            return 0;
        if (!folder) {
            note_problem(model, name, path, strerror(errno));
            return 0;
        }
        result = read_versions(found, model, folder, models, name, error);
        current = is_current(folder, path);
        closedir(folder);
    }
    if (result == 0 && !current) {
        model->n = 0;
        note_problem(model, name, path, "changes while it is read");
    }
    if (model->n)
        qsort(model->versions, model->n, sizeof *model->versions, by_version);
    snprintf(model->name, sizeof model->name, "%s", name);
    scan_config_path(path, models, name);
    (void)scan_identify(&model->config_file, path); /* absent is all zero */
    return result;
}

/* FNV-1a. */
static uint64_t hash(uint64_t h, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3;
    return h;
}

static uint64_t fingerprint(const struct found_model *m)
{
    uint64_t h = hash(0xcbf29ce484222325, &m->config_file, sizeof m->config_file);
    h = hash(h, m->problem, strlen(m->problem));
    return hash(h, m->versions, m->n * sizeof *m->versions);
}

static bool is_model(const struct found_model *m)
{
    static const struct file_identity none;
    return m->n || *m->problem || !scan_is_same(&m->config_file, &none);
}

/* A folder of this name is no model, whatever it holds; of what may not be read (lost+found)
 * nobody can say. */
static int look_at_misnamed(struct found *found, const char *models, const char *name,
                            struct nn_error *error)
{
    const size_t n_left_out = found->n_left_out;
    struct found_model model;

    if (*name == '.')
        return 0;
    int result = scan_versions(found, &model, models, name, error);
    bool held = found->n_left_out > n_left_out || (!*model.problem && is_model(&model));
    free(model.versions);
    take_back(found, n_left_out);
    if (result < 0 || !held)
        return result;
    return leave_out(found, name, "",
                     "expected a name of 1 to 64 letters, digits, '_', '-' and '.', no '.' "
                     "first",
                     error);
}

static int read_models(struct found *found, DIR *folder, const char *models,
                       struct nn_error *error)
{
    int result = 0;
    for (struct dirent *e; result == 0 && (e = readdir(folder));) {
        struct found_model model;
        if (!name_is_valid(e->d_name, strlen(e->d_name))) {
            result = look_at_misnamed(found, models, e->d_name, error);
            continue;
        }
        result = scan_versions(found, &model, models, e->d_name, error);
        if (result < 0 || !is_model(&model)) {
            free(model.versions);
            continue;
        }
        struct found_model *grown = grow(found->models, found->n, sizeof *grown);
        if (!grown) {
            free(model.versions);
            return nn_fail(error, "%s: out of memory", models);
        }
        found->models = grown;
        model.fingerprint = fingerprint(&model);
        found->models[found->n++] = model;
    }
    return result;
}

int scan_folder(struct found *found, const char *models, struct nn_error *error)
{
    bool current = false;
    int result = 0;

    *found = (struct found){0};
    for (int attempt = 0; attempt < ATTEMPTS && result == 0 && !current; attempt++) {
        scan_release(found);
        DIR *folder = opendir(models);
        if (!folder)
            return nn_fail(error, "%s: %s", models, strerror(errno));
        result = read_models(found, folder, models, error);
        current = is_current(folder, models);
        closedir(folder);
    }
    if (result == 0 && !current)
        result = nn_fail(error, "%s: changes while it is read", models);
    if (found->n)
        qsort(found->models, found->n, sizeof *found->models, by_name);
    if (found->n_left_out)
        qsort(found->left_out, found->n_left_out, sizeof *found->left_out, by_path);
    for (size_t i = 0; i < found->n_left_out; i++)
        found->left_out_fingerprint = hash(found->left_out_fingerprint, found->left_out[i].path,
                                           strlen(found->left_out[i].path) + 1);
    if (result < 0)
        scan_release(found);
    return result;
}

static int compare_name(const void *name, const void *model)
{
    return strcmp(name, ((const struct found_model *)model)->name);
}

const struct found_model *scan_find(const struct found *found, const char *name)
{
    return found->n
               ? bsearch(name, found->models, found->n, sizeof *found->models, compare_name)
               : NULL;
}

void scan_release(struct found *found)
{
    for (size_t i = 0; i < found->n; i++)
        free(found->models[i].versions);
    free(found->models);
    take_back(found, 0);
    free(found->left_out);
    *found = (struct found){0};
}
