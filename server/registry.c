#include "server/registry.h"

#include "server/clock.h"
#include "server/log.h"
#include "server/scan.h"
#include "server/served.h"
#include "server/update.h"
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
    pthread_cond_t over; /* waits by the clock that nobody sets */
    struct reload_waiter *waiting;
    bool asked, stop;           /* asked: by nobody who waits, for all models */
    bool ended;                 /* the thread has no more work */
};

/* a run */

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

/* Merges what was found with what is served, both by name. Of a reload of `only` one model
 * the others stay as they are. NULL: the report says why. */
static struct table *build(struct registry *r, const struct found *found, const char *only,
                           struct reload_report *report)
{
    const struct table *old = r->table;
    const struct updater updater = {.models = r->settings.models,
                                    .n_counters = r->settings.n_counters,
                                    .first = r->first,
                                    .counts = &r->counts};
    size_t room = found->n + old->n, f = 0, o = 0;
    struct table *table = table_new(room);

    report->entries = calloc(room ? room : 1, sizeof *report->entries);
    if (!table || !report->entries)
        goto fail;
    while (f < found->n || o < old->n) {
        int order = f == found->n ? 1
                    : o == old->n ? -1
                                  : strcmp(found->models[f].name, old->models[o]->name);
        const struct found_model *model = order <= 0 ? &found->models[f++] : NULL;
        struct served_model *before = order >= 0 ? old->models[o++] : NULL, *after = NULL;
        if (only && strcmp(only, model ? model->name : before->name) != 0)
            after = before ? served_model_share(before) : NULL;
        else if (model_update(&updater, model, before, &after, &report->entries[report->n]) < 0)
            goto fail;
        else
            log_entry(&report->entries[report->n++]);
        if (after)
            table_add(table, after);
    }
    return table;

fail:
    snprintf(report->problem, sizeof report->problem, "out of memory");
    table_release(table);
    return NULL;
}

static bool is_same_table(const struct table *a, const struct table *b)
{
    return a->n == b->n && memcmp(a->models, b->models, a->n * sizeof a->models[0]) == 0;
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
    else if (r->settings.refresh && r->settings.refresh(r->settings.context, &error) < 0)
        snprintf(report->beside, sizeof report->beside, "%s", error.text);
    error = (struct nn_error){0};
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
    pthread_mutex_lock(&r->lock);
    r->ended = true;
    pthread_cond_signal(&r->over);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static void open_conditions(struct registry *r)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&r->over, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_cond_init(&r->changed, NULL);
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
    open_conditions(r);
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
    const struct timespec until = {.tv_sec = stop_by / 1000000000,
                                   .tv_nsec = stop_by % 1000000000};
    int waited = 0;

    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_signal(&r->changed);
    while (!r->ended && waited == 0)
        waited = pthread_cond_timedwait(&r->over, &r->lock, &until);
    bool ended = r->ended;
    pthread_mutex_unlock(&r->lock);
    return ended && pthread_join(r->thread, NULL) == 0;
}

void registry_free(struct registry *r)
{
    table_release(r->table);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    pthread_cond_destroy(&r->over);
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
    struct registry_counts counts = {0};
    const struct updater updater = {
        .models = models, .n_counters = 1, .first = true, .counts = &counts};
    struct found found;
    int result = 0;

    if (scan_folder(&found, models, error) < 0)
        return -1;
    if (found.n == 0)
        result = nn_fail(error, "%s: holds no <model>/<version>/model.safetensors", models);
    for (size_t i = 0; i < found.n; i++) {
        struct reload_entry entry = {.outcome = RELOAD_FAILED, .problem = "out of memory"};
        struct served_model *model = NULL;
        (void)model_update(&updater, &found.models[i], NULL, &model, &entry);
        bool sound = entry.outcome == RELOAD_LOADED;
        log_event(sound ? LOG_INFO : LOG_ERROR, sound ? "model is sound" : "model is broken",
                  LOG_TEXT("model", found.models[i].name), LOG_INTEGER("version", entry.after),
                  LOG_TEXT("reason", sound ? NULL : entry.problem));
        if (!sound)
            result = nn_fail(error, "%s", entry.problem);
        served_model_release(model);
    }
    scan_release(&found);
    return result;
}
