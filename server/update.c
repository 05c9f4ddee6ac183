#include "server/update.h"

#include "server/clock.h"
#include "server/log.h"
#include "server/served.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is being put together. */
struct update {
    const struct updater *updater;
    const struct found_model *found;
    const struct served_model *old; /* NULL: new */
    struct served_model *model;
    bool strict; /* stop at the first version that cannot be served */
};

/* versions */

static struct served *find_unchanged(const struct served_model *old,
                                     const struct found_version *found)
{
    for (size_t i = 0; old && i < old->n; i++)
        if (old->versions[i]->version == found->version &&
            scan_is_same(&old->versions[i]->file, &found->file))
            return old->versions[i];
    return NULL;
}

static void add_unserved(struct served_model *m, int64_t version, const char *problem)
{
    struct unserved *u = &m->unserved[m->n_unserved++];
    u->version = version;
    snprintf(u->problem, sizeof u->problem, "%s", problem);
}

/* Returns whether it is served. */
static bool add_version(struct update *u, const struct found_version *found)
{
    struct served_model *m = u->model;
    struct served *same = find_unchanged(u->old, found);
    struct nn_error error = {0};

    if (same)
        m->versions[m->n] = served_share(same);
    else
        m->versions[m->n] = served_open(u->updater->models, m->name, found->version,
                                        m->config.warmup, u->updater->n_counters, &error);
    if (!m->versions[m->n]) {
        add_unserved(m, found->version, error.text);
        return false;
    }
    m->n++;
    return true;
}

static bool is_there(const struct found_model *found, int64_t version)
{
    for (size_t i = 0; i < found->n; i++)
        if (found->versions[i].version == version)
            return true;
    return false;
}

/* A version that the configuration names and that is not in the folder. */
static void add_missing(struct update *u, int64_t version)
{
    struct served_model *m = u->model;
    char path[PATH_MAX], problem[512];

    if (is_there(u->found, version))
        return;
    for (size_t i = 0; i < m->n_unserved; i++)
        if (m->unserved[i].version == version)
            return;
    scan_config_path(path, u->updater->models, m->name);
    snprintf(problem, sizeof problem, "%.400s: there is no version %lld", path,
             (long long)version);
    add_unserved(m, version, problem);
}

/* From the highest down: those that the configuration names and, of the rest, the latest so
 * many that can be served. -1: one cannot, and the update is strict. */
static int add_versions(struct update *u)
{
    struct served_model *m = u->model;
    const struct serving_config *c = &m->config;

    for (size_t i = u->found->n; i-- > 0;) {
        const struct found_version *v = &u->found->versions[i];
        bool latest = c->policy == SERVING_LATEST && (int64_t)m->n < c->latest;
        if (!latest && c->policy != SERVING_ALL && !serving_config_names(c, v->version))
            continue;
        if (!add_version(u, v) && u->strict)
            return -1;
    }
    for (int i = 0; i < c->n_specific; i++)
        add_missing(u, c->specific[i]);
    for (int i = 0; i < c->n_labels; i++)
        add_missing(u, c->labels[i].version);
    return u->strict && m->n_unserved ? -1 : 0;
}

/* the model */

static int by_version(const void *a, const void *b)
{
    int64_t x = ((const struct unserved *)a)->version;
    int64_t y = ((const struct unserved *)b)->version;
    return (x > y) - (x < y);
}

/* The version labelled "stable", or the highest. */
static const struct served *find_standard(const struct served_model *m)
{
    enum choice why;
    const struct served *stable = served_model_choose(m, NULL, "stable", &why);
    return stable ? stable : m->n ? m->versions[m->n - 1] : NULL;
}

static int complete(struct served_model *m)
{
    for (size_t i = 0; i < m->n / 2; i++) {
        struct served *other = m->versions[m->n - 1 - i];
        m->versions[m->n - 1 - i] = m->versions[i];
        m->versions[i] = other;
    }
    qsort(m->unserved, m->n_unserved, sizeof *m->unserved, by_version);
    m->standard = find_standard(m);
    return served_model_describe(m);
}

static bool is_same_model(const struct served_model *a, const struct served_model *b)
{
    return a->n == b->n && a->n_unserved == b->n_unserved &&
           scan_is_same(&a->config_file, &b->config_file) &&
           memcmp(a->versions, b->versions, a->n * sizeof a->versions[0]) == 0;
}

static int read_config(struct update *u, struct nn_error *error)
{
    struct served_model *m = u->model;
    char path[PATH_MAX];

    m->config_file = u->found->config_file;
    if (u->old && u->old->n && scan_is_same(&u->old->config_file, &m->config_file)) {
        m->config = u->old->config;
        return 0;
    }
    scan_config_path(path, u->updater->models, m->name);
    if (serving_config_load(&m->config, path, error) == 0)
        return 0;
    serving_config_default(&m->config);
    return -1;
}

/* Puts together what is to be served. -1: the error says why it is not all. */
static int load(struct update *u, struct nn_error *error)
{
    serving_config_default(&u->model->config);
    if (*u->found->problem)
        return nn_fail(error, "%s", u->found->problem);
    if (read_config(u, error) < 0)
        return -1;
    if (u->model->config.n_members)
        return nn_fail(error,
                       "%s/%s/serving.json: ensemble: expected no versions, but the folder has "
                       "version %lld",
                       u->updater->models, u->found->name,
                       (long long)u->found->versions[0].version);
    if (add_versions(u) < 0 || u->model->n_unserved)
        return nn_fail(error, "%s", u->model->unserved[0].problem);
    return 0;
}

static void report_unserved(const struct updater *u, const struct served_model *m)
{
    for (size_t i = 0; i < m->n_unserved; i++) {
        log_event(LOG_ERROR, "version skipped", LOG_TEXT("model", m->name),
                  LOG_INTEGER("version", m->unserved[i].version),
                  LOG_TEXT("reason", m->unserved[i].problem));
        u->counts->skipped++;
    }
}

static int update_found(const struct updater *updater, const struct found_model *found,
                        struct served_model *old, struct served_model **after,
                        struct reload_entry *entry)
{
    struct update u = {.updater = updater, .found = found, .old = old, .strict = old && old->n};
    struct nn_error error = {0};

    u.model = served_model_new(found->name, found->n + SERVING_SPECIFIC + SERVING_LABELS);
    if (!u.model)
        return -1;
    if (load(&u, &error) < 0) {
        entry->outcome = RELOAD_FAILED;
        snprintf(entry->problem, sizeof entry->problem, "%s", error.text);
        if (u.strict) {
            served_model_release(u.model);
            *after = served_model_share(old);
            return 0;
        }
        report_unserved(updater, u.model);
        if (u.model->n == 0 && !old && !updater->first) {
            served_model_release(u.model);
            return 0;
        }
        snprintf(u.model->problem, sizeof u.model->problem, "%s", error.text);
    }
    if (complete(u.model) < 0) {
        served_model_release(u.model);
        return -1;
    }
    if (entry->outcome == RELOAD_UNCHANGED && old && is_same_model(u.model, old)) {
        served_model_release(u.model);
        *after = served_model_share(old);
        return 0;
    }
    if (entry->outcome == RELOAD_UNCHANGED)
        entry->outcome = RELOAD_LOADED;
    *after = u.model;
    return 0;
}

static int64_t standard_version(const struct served_model *m)
{
    return m && m->standard ? m->standard->version : -1;
}

void update_begin(struct reload_entry *entry, const char *name, const struct served_model *old)
{
    *entry = (struct reload_entry){.before = standard_version(old), .began = clock_now()};
    snprintf(entry->name, sizeof entry->name, "%s", name);
}

void update_end(const struct updater *u, const struct served_model *after,
                struct reload_entry *entry)
{
    entry->after = standard_version(after);
    entry->milliseconds = (double)(clock_now() - entry->began) / 1e6;
    u->counts->loaded += entry->outcome == RELOAD_LOADED;
    u->counts->removed += entry->outcome == RELOAD_REMOVED;
    u->counts->failed += entry->outcome == RELOAD_FAILED;
}

int model_update(const struct updater *u, const struct found_model *found,
                 struct served_model *old, struct served_model **after,
                 struct reload_entry *entry)
{
    *after = NULL;
    update_begin(entry, found ? found->name : old->name, old);
    entry->outcome = found ? RELOAD_UNCHANGED : RELOAD_REMOVED;
    if (found && update_found(u, found, old, after, entry) < 0)
        return -1;
    update_end(u, *after, entry);
    return 0;
}
