#include "server/registry.h"

#include "server/clock.h"
#include "server/log.h"
#include "server/scan.h"
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct registry {
    struct registry_settings settings;
    struct registry_counts counts;
    pthread_t thread;
    struct table *table;        /* the thread's own */
    bool first;                 /* what is there at the start has not been loaded */

    pthread_mutex_t lock;       /* guards what follows */
    pthread_cond_t changed;
    struct reload_waiter *waiting;
    bool asked, stop;           /* asked: by nobody who waits, for all models */
};

/* tables */

static struct table *table_new(size_t room)
{
    struct table *t = calloc(1, sizeof *t + room * sizeof t->served[0]);
    if (t)
        atomic_init(&t->references, 1);
    return t;
}

struct table *table_share(struct table *t)
{
    atomic_fetch_add(&t->references, 1);
    return t;
}

void table_release(struct table *t)
{
    if (!t || atomic_fetch_sub(&t->references, 1) != 1)
        return;
    for (size_t i = 0; i < t->n; i++)
        served_release(t->served[i]);
    free(t);
}

const struct served *table_find(const struct table *t, const char *name)
{
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(name, t->served[middle]->name);
        if (order == 0)
            return t->served[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *table_problem(const struct table *t, char text[256])
{
    if (t->n == 0)
        return "no models are served";
    for (size_t i = 0; i < t->n; i++) {
        if (!t->served[i]->model) {
            snprintf(text, 256, "model %s has no version that can be served",
                     t->served[i]->name);
            return text;
        }
    }
    return NULL;
}

/* one model */

static bool is_same_file(const struct file_identity *a, const struct file_identity *b)
{
    return a->device == b->device && a->inode == b->inode && a->modified == b->modified &&
           a->size == b->size;
}

static bool is_unchanged(const struct registry *r, const struct served *old, int64_t version)
{
    struct file_identity now;
    return old && old->model && old->version == version &&
           scan_identify(&now, r->settings.models, old->name, version) == 0 &&
           is_same_file(&now, &old->file);
}

/* The highest version below number `n` that can be served. NULL: none. */
static struct served *open_lower(struct registry *r, const struct found_model *found, size_t n,
                                 struct model_stats *stats)
{
    struct served *served = NULL;
    while (!served && n-- > 0) {
        struct nn_error error = {0};
        served = served_open(r->settings.models, found->name, found->versions[n], stats, &error);
        if (!served) {
            log_event(LOG_ERROR, "version skipped", LOG_TEXT("model", found->name),
                      LOG_INTEGER("version", found->versions[n]),
                      LOG_TEXT("reason", error.text));
            r->counts.skipped++;
        }
    }
    return served;
}

/* What takes the place of `old` (NULL: the model is new): a reference to it, to what was
 * loaded, or NULL. */
static struct served *update_found(struct registry *r, const struct found_model *found,
                                   struct served *old, struct model_stats *stats,
                                   struct reload_entry *entry)
{
    struct nn_error error = {0};
    int64_t highest = found->versions[found->n - 1];

    if (is_unchanged(r, old, highest))
        return served_share(old);
    struct served *served =
        served_open(r->settings.models, found->name, highest, stats, &error);
    if (served) {
        entry->outcome = RELOAD_LOADED;
        return served;
    }
    entry->outcome = RELOAD_FAILED;
    snprintf(entry->problem, sizeof entry->problem, "%s", error.text);
    if (old && old->model)
        return served_share(old);

    log_event(LOG_ERROR, "version skipped", LOG_TEXT("model", found->name),
              LOG_INTEGER("version", highest), LOG_TEXT("reason", error.text));
    r->counts.skipped++;
    served = open_lower(r, found, found->n - 1, stats);
    /* A new model that is broken does not enter the table of a server that is ready. */
    if (!served && (old || r->first))
        served = served_broken(found->name, error.text, stats);
    return served;
}

static void log_entry(const struct reload_entry *e)
{
    static const char *const events[] = {"model unchanged", "model loaded", "model removed",
                                         "model failed"};
    log_event(e->outcome == RELOAD_FAILED      ? LOG_ERROR
              : e->outcome == RELOAD_UNCHANGED ? LOG_DEBUG
                                               : LOG_INFO,
              events[e->outcome], LOG_TEXT("model", e->name), LOG_INTEGER("before", e->before),
              LOG_INTEGER("after", e->after), LOG_REAL("milliseconds", e->milliseconds),
              LOG_TEXT("reason", *e->problem ? e->problem : NULL));
}

/* `found` or `old` may be NULL, not both. -1: no memory. */
static int update(struct registry *r, const struct found_model *found, struct served *old,
                  struct served **served, struct reload_entry *entry)
{
    int64_t began = clock_now();
    struct model_stats *stats =
        old ? model_stats_share(old->stats) : model_stats_new(r->settings.n_loops);
    if (!stats)
        return -1;
    snprintf(entry->name, sizeof entry->name, "%s", found ? found->name : old->name);
    entry->before = old ? old->version : -1;
    entry->outcome = found ? RELOAD_UNCHANGED : RELOAD_REMOVED;
    *served = found ? update_found(r, found, old, stats, entry) : NULL;
    entry->after = *served ? (*served)->version : -1;
    entry->milliseconds = (double)(clock_now() - began) / 1e6;
    model_stats_release(stats);
    r->counts.loaded += entry->outcome == RELOAD_LOADED;
    r->counts.removed += entry->outcome == RELOAD_REMOVED;
    r->counts.failed += entry->outcome == RELOAD_FAILED;
    log_entry(entry);
    return 0;
}

/* a run */

/* Merges what was found with what is served, both by name. Of a reload of `only` one model
 * the others stay as they are. NULL: the report says why. */
static struct table *build(struct registry *r, const struct found *found, const char *only,
                           struct reload_report *report)
{
    const struct table *old = r->table;
    size_t room = found->n + old->n, f = 0, o = 0;
    struct table *table = table_new(room);

    report->entries = calloc(room ? room : 1, sizeof *report->entries);
    if (!table || !report->entries)
        goto fail;
    while (f < found->n || o < old->n) {
        int order = f == found->n ? 1
                    : o == old->n ? -1
                                  : strcmp(found->models[f].name, old->served[o]->name);
        const struct found_model *model = order <= 0 ? &found->models[f++] : NULL;
        struct served *before = order >= 0 ? old->served[o++] : NULL, *after = NULL;
        if (only && strcmp(only, model ? model->name : before->name) != 0)
            after = before ? served_share(before) : NULL;
        else if (update(r, model, before, &after, &report->entries[report->n++]) < 0)
            goto fail;
        if (after)
            table->served[table->n++] = after;
    }
    return table;

fail:
    snprintf(report->problem, sizeof report->problem, "out of memory");
    table_release(table);
    return NULL;
}

static bool is_same_table(const struct table *a, const struct table *b)
{
    return a->n == b->n && memcmp(a->served, b->served, a->n * sizeof a->served[0]) == 0;
}

/* Takes the table over. Without memory to serve from it the old one stays. */
static void replace(struct registry *r, struct table *table, struct reload_report *report)
{
    struct table *old = r->table;
    if (r->settings.publish(r->settings.context, table) == 0) {
        r->table = table;
        r->first = false;
        table = old;
    } else if (!*report->problem) {
        snprintf(report->problem, sizeof report->problem, "out of memory");
    }
    table_release(table);
}

static void run(struct registry *r, const char *only, struct reload_report *report)
{
    struct nn_error error = {0};
    struct found found;
    struct table *table = NULL;

    if (r->first)
        only = NULL;            /* nothing has been served yet */
    if (scan_folder(&found, r->settings.models, &error) < 0) {
        snprintf(report->problem, sizeof report->problem, "%s", error.text);
        r->counts.failed++;
    } else {
        table = build(r, &found, only, report);
        scan_release(&found);
    }
    if (table && is_same_table(table, r->table) && !r->first) {
        table_release(table);
    } else if (table || r->first) {
        replace(r, table ? table : table_share(r->table), report);
        /* What a replaced model leaves behind goes back to the system, so that memory stays
         * flat however often models are replaced. */
        malloc_trim(0);
    }
    bool failed = *report->problem != 0;
    if (failed)
        log_event(LOG_ERROR, "reload failed", LOG_TEXT("reason", report->problem));
    for (size_t i = 0; i < report->n; i++)
        failed |= report->entries[i].outcome == RELOAD_FAILED;
    if (!failed)
        r->counts.last_success = time(NULL);
}

/* the thread */

/* The one model that everybody waits for, or NULL. */
static const char *only_one(const struct reload_waiter *waiting, bool asked)
{
    if (asked || !waiting || !*waiting->model)
        return NULL;
    for (const struct reload_waiter *w = waiting->next; w; w = w->next)
        if (strcmp(w->model, waiting->model) != 0)
            return NULL;
    return waiting->model;
}

static void tell(struct reload_waiter *waiting, const struct reload_report *report)
{
    for (struct reload_waiter *next; waiting; waiting = next) {
        next = waiting->next;
        waiting->done(waiting, report);
    }
}

static void *run_registry(void *arg)
{
    struct registry *r = arg;
    struct reload_waiter *waiting = NULL;
    bool stop = false, asked = true;    /* the first load */

    while (!stop) {
        if (asked || waiting) {
            struct reload_report report = {0};
            run(r, only_one(waiting, asked), &report);
            tell(waiting, &report);
            free(report.entries);
        }
        pthread_mutex_lock(&r->lock);
        while (!r->stop && !r->asked && !r->waiting)
            pthread_cond_wait(&r->changed, &r->lock);
        waiting = r->waiting;
        asked = r->asked;
        stop = r->stop;
        r->waiting = NULL;
        r->asked = false;
        pthread_mutex_unlock(&r->lock);
    }
    struct reload_report report = {.problem = "the server is stopping"};
    tell(waiting, &report);
    return NULL;
}

struct registry *registry_open(const struct registry_settings *settings, struct nn_error *error)
{
    struct registry *r = calloc(1, sizeof *r);
    if (r)
        r->table = table_new(0);
    if (!r || !r->table) {
        free(r);
        nn_fail(error, "out of memory");
        return NULL;
    }
    r->settings = *settings;
    r->first = true;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    if (pthread_create(&r->thread, NULL, run_registry, r) != 0) {
        nn_fail(error, "cannot start the thread that loads models");
        table_release(r->table);
        free(r);
        return NULL;
    }
    return r;
}

bool registry_stop(struct registry *r, int64_t stop_by)
{
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);

    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    int64_t left = stop_by - clock_now();
    if (left > 0) {
        until.tv_sec += left / 1000000000;
        until.tv_nsec += left % 1000000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
    }
    return pthread_timedjoin_np(r->thread, NULL, &until) == 0;
}

void registry_free(struct registry *r)
{
    table_release(r->table);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    free(r);
}

bool registry_reload(struct registry *r, struct reload_waiter *waiter)
{
    pthread_mutex_lock(&r->lock);
    bool accepted = !r->stop;
    if (accepted && waiter) {
        waiter->next = r->waiting;
        r->waiting = waiter;
    } else {
        r->asked = true;
    }
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return accepted;
}

const struct registry_counts *registry_counts(const struct registry *r)
{
    return &r->counts;
}

int registry_check(const char *models, struct nn_error *error)
{
    struct model_stats *stats = model_stats_new(1);
    struct found found;
    int result = 0;

    if (!stats)
        return nn_fail(error, "out of memory");
    if (scan_folder(&found, models, error) < 0) {
        model_stats_release(stats);
        return -1;
    }
    if (found.n == 0)
        result = nn_fail(error, "%s: holds no <model>/<version>/model.safetensors", models);
    for (size_t i = 0; i < found.n; i++) {
        const struct found_model *m = &found.models[i];
        struct nn_error why = {0};
        int64_t version = m->versions[m->n - 1];
        struct served *served = served_open(models, m->name, version, stats, &why);
        log_event(served ? LOG_INFO : LOG_ERROR, served ? "model is sound" : "model is broken",
                  LOG_TEXT("model", m->name), LOG_INTEGER("version", version),
                  LOG_TEXT("reason", served ? NULL : why.text));
        if (!served)
            result = nn_fail(error, "%s", why.text);
        served_release(served);
    }
    scan_release(&found);
    model_stats_release(stats);
    return result;
}
