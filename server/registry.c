#include "server/registry.h"

#include "server/changes.h"
#include "server/clock.h"
#include "server/log.h"
#include "server/rebuild.h"
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOADING_NICE = 5 }; /* a third of the share of other threads, where all are busy */

const char *const model_control_names[] = {"none", "poll", "explicit", NULL};

struct registry {
    struct registry_settings settings;
    struct registry_counts counts;
    pthread_t thread;

    /* the thread's own */
    struct table *table;
    bool first;             /* what is there at the start has not been loaded */
    struct changes changes; /* of the folder */
    int64_t look;           /* clock_now() at which to look at it; 0: never */
    uint64_t left_out;      /* the fingerprint of what was logged as such */
    bool served_asked;      /* the last task was for who does not wait */

    pthread_mutex_t lock;       /* guards what follows */
    pthread_cond_t changed, over; /* they wait by the clock that nobody sets */
    struct reload_waiter *waiting, **last;
    bool asked, stop;           /* asked: by nobody who waits, for all models */
    bool ended;                 /* the thread has no more work */
};

/* What a run is to do. */
struct task {
    enum reload_action action;
    struct scope scope;
    struct reload_waiter *waiting; /* who is told */
};

/* a run */

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

static struct table *rebuild(struct registry *r, const struct task *task,
                             const struct found *found, struct reload_report *report)
{
    const struct rebuild rebuild = {.updater = {.models = r->settings.models,
                                                .n_counters = r->settings.n_counters,
                                                .first = r->first,
                                                .counts = &r->counts},
                                    .old = r->table,
                                    .found = found,
                                    .scope = &task->scope,
                                    .action = task->action,
                                    .explicit = r->settings.control == CONTROL_EXPLICIT};
    return table_rebuild(&rebuild, report);
}

/* `found` is NULL where the folder could not be read, which the report says. */
static void run(struct registry *r, struct task *task, const struct found *found,
                struct reload_report *report)
{
    static const struct found nothing;
    struct table *table = NULL;
    struct nn_error error = {0};
    if (!r->first && r->settings.refresh && r->settings.refresh(r->settings.context, &error) < 0)
        snprintf(report->beside, sizeof report->beside, "%s", error.text);
    if (task->action == RELOAD_LOAD && found)
        scope_add_members(&task->scope, r->settings.models, found);
    if (found || r->first)
        table = rebuild(r, task, found ? found : &nothing, report);
    if (table && table_is_same(table, r->table) && !r->first) {
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
    else if (found && r->settings.control == CONTROL_POLL)
        changes_taken(&r->changes, found, &task->scope);
    for (size_t i = 0; i < report->n; i++)
        failed |= report->entries[i].outcome == RELOAD_FAILED;
    failed |= *report->beside != 0;
    r->counts.last_failed = failed;
    if (!failed)
        r->counts.last_success = time(NULL);
}

static void tell(struct reload_waiter *waiting, const struct reload_report *report)
{
    for (struct reload_waiter *next; waiting; waiting = next) {
        next = waiting->next;
        waiting->done(waiting, report);
    }
}

static void log_left_out(const struct found *found)
{
    for (size_t i = 0; i < found->n_left_out; i++)
        log_event(LOG_WARNING, "left out", LOG_TEXT("path", found->left_out[i].path),
                  LOG_TEXT("reason", found->left_out[i].reason));
}

static void run_task(struct registry *r, struct task *task)
{
    struct reload_report report = {0};
    struct nn_error error = {0};
    struct found found;
    bool read = scan_folder(&found, r->settings.models, &error) == 0;

    if (!read) {
        snprintf(report.problem, sizeof report.problem, "%s", error.text);
        r->counts.failed++;
    } else if (task->scope.all) {
        log_left_out(&found);
        r->left_out = found.left_out_fingerprint;
    }
    run(r, task, read ? &found : NULL, &report);
    tell(task->waiting, &report);
    free(report.entries);
    if (read)
        scan_release(&found);
}

/* polling */

static void look(struct registry *r)
{
    struct task task = {.action = RELOAD_AGAIN};
    struct reload_report report = {0};
    struct nn_error error = {0};
    struct found found;
    double pause = r->settings.poll_interval;

    if (scan_folder(&found, r->settings.models, &error) < 0) {
        if (!r->changes.unreadable)
            log_event(LOG_ERROR, "cannot look for changes", LOG_TEXT("reason", error.text));
        r->counts.failed += !r->changes.unreadable;
        r->changes.unreadable = true;
    } else {
        r->changes.unreadable = false;
        if (found.left_out_fingerprint != r->left_out)
            log_left_out(&found);
        r->left_out = found.left_out_fingerprint;
        if (changes_look(&r->changes, &found, &task.scope) && pause > CHANGES_SETTLE)
            pause = CHANGES_SETTLE;
        if (task.scope.n)
            run(r, &task, &found, &report);
        free(report.entries);
        scope_release(&task.scope);
        scan_release(&found);
    }
    r->look = clock_now() + (int64_t)(pause * 1e9);
}

/* the thread */

/* At the start everything is loaded, or what the settings name. */
static void add_first(const struct registry *r, struct task *task)
{
    task->action = RELOAD_LOAD;
    if (r->settings.control != CONTROL_EXPLICIT)
        task->scope.all = true;
    else if (r->settings.load)
        scope_add_list(&task->scope, r->settings.load);
}

/* Those who wait for the same are served by one run, in the order in which they came. */
static void take_waiters(struct registry *r, struct task *task, bool asked)
{
    struct reload_waiter **end = &r->waiting;

    task->action = asked || !r->waiting ? RELOAD_AGAIN : r->waiting->action;
    task->scope.all = asked;
    for (; *end && (*end)->action == task->action; end = &(*end)->next) {
        const struct reload_waiter *w = *end;
        if (!*w->model)
            task->scope.all = true;
        else
            scope_add(&task->scope, w->model);
        if (w->dependents)
            scope_add_dependents(&task->scope, r->table, w->model);
    }
    struct reload_waiter *rest = *end;
    task->waiting = r->waiting == rest ? NULL : r->waiting;
    *end = NULL;
    r->waiting = rest;
    if (!rest)
        r->last = &r->waiting;
}

static bool has_time(const struct registry *r)
{
    return r->look && clock_now() >= r->look;
}

static void wait_for_work(struct registry *r)
{
    while (!r->stop && !r->asked && !r->waiting && !has_time(r)) {
        struct timespec until = {r->look / 1000000000, r->look % 1000000000};
        if (r->look)
            pthread_cond_clockwait(&r->changed, &r->lock, CLOCK_MONOTONIC, &until);
        else
            pthread_cond_wait(&r->changed, &r->lock);
    }
}

/* Requests cannot wait for a processor, what loads and checks a model can. On Linux a thread
 * has a priority of its own, which anybody may lower. */
static void yield_to_requests(bool *yields)
{
    int priority = *yields ? 0 : nice(LOADING_NICE);
    (void)priority;
    *yields = true;
}

/* With the lock: what to do next. False: to look, which takes its turn even where there is
 * always something to do. Who asks without waiting and those who wait take turns, too: whoever
 * comes again and again keeps nobody else from his own. */
static bool choose_task(struct registry *r, struct task *task)
{
    bool asked = r->asked && !(r->waiting && r->served_asked);

    *task = (struct task){0};
    if (has_time(r) || (!r->asked && !r->waiting))
        return false;
    take_waiters(r, task, asked);
    if (r->first) /* there was no memory */
        add_first(r, task);
    if (asked)
        r->asked = false;
    r->served_asked = asked;
    return true;
}

static void *run_registry(void *arg)
{
    struct registry *r = arg;
    struct task task = {0};
    bool stop = false, works = true, yields = false;

    add_first(r, &task);
    if (r->settings.control == CONTROL_POLL)
        r->look = clock_now();
    while (!stop) {
        if (!r->first)
            yield_to_requests(&yields);
        if (works)
            run_task(r, &task);
        else
            look(r);
        scope_release(&task.scope);
        pthread_mutex_lock(&r->lock);
        wait_for_work(r);
        works = choose_task(r, &task);
        stop = r->stop;
        pthread_mutex_unlock(&r->lock);
    }
    struct reload_report report = {.problem = "the server is stopping", .stopping = true};
    tell(task.waiting, &report);
    tell(r->waiting, &report); /* nobody is added any more */
    scope_release(&task.scope);
    changes_release(&r->changes);
    pthread_mutex_lock(&r->lock);
    r->ended = true;
    pthread_cond_signal(&r->over);
    pthread_mutex_unlock(&r->lock);
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
    r->last = &r->waiting;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    pthread_cond_init(&r->over, NULL);
    if (pthread_create(&r->thread, NULL, run_registry, r) != 0) {
        nn_fail(error, "cannot start the thread that loads models");
        registry_free(r);
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
        waited = pthread_cond_clockwait(&r->over, &r->lock, CLOCK_MONOTONIC, &until);
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
        waiter->next = NULL;
        *r->last = waiter;
        r->last = &waiter->next;
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

/* checking */

static int check_named(const struct found *found, const char *what, const char *name,
                       struct nn_error *error)
{
    if (scan_find(found, name))
        return 0;
    return nn_fail(error, "%s: there is no model %s", what, name);
}

/* Models that are named on the command line are there. */
static int check_names(const struct registry_settings *s, const char *default_model,
                       const struct found *found, struct nn_error *error)
{
    struct scope scope = {0};
    int result = 0;

    if (s->load)
        scope_add_list(&scope, s->load);
    for (size_t i = 0; i < scope.n; i++)
        if (check_named(found, "--load-model", scope.names[i], error) < 0)
            result = -1;
    if (default_model && check_named(found, "--default-model", default_model, error) < 0)
        result = -1;
    scope_release(&scope);
    return result;
}

static int check_entries(const struct reload_report *report, struct nn_error *error)
{
    int result = 0;
    for (size_t i = 0; i < report->n; i++) {
        const struct reload_entry *e = &report->entries[i];
        bool sound = e->outcome != RELOAD_FAILED;
        log_event(sound ? LOG_INFO : LOG_ERROR, sound ? "model is sound" : "model is broken",
                  LOG_TEXT("model", e->name), LOG_INTEGER("version", e->after),
                  LOG_TEXT("reason", sound ? NULL : e->problem));
        if (!sound)
            result = nn_fail(error, "%s", e->problem);
    }
    return result;
}

int registry_check(const struct registry_settings *s, const char *default_model,
                   struct nn_error *error)
{
    static const struct table nothing;
    struct registry_counts counts = {0};
    struct reload_report report = {0};
    struct found found;
    const struct scope scope = {.all = true};
    const struct rebuild rebuild = {
        .updater = {.models = s->models, .n_counters = 1, .first = true, .counts = &counts},
        .old = &nothing,
        .found = &found,
        .scope = &scope};

    if (scan_folder(&found, s->models, error) < 0)
        return -1;
    log_left_out(&found);
    struct table *table = table_rebuild(&rebuild, &report);
    int result = table ? check_entries(&report, error) : nn_fail(error, "%s", report.problem);
    if (check_names(s, default_model, &found, error) < 0)
        result = -1;
    if (result == 0 && table->n == 0)
        result = nn_fail(error, "%s: holds no <model>/<version>/model.safetensors", s->models);
    table_release(table);
    free(report.entries);
    scan_release(&found);
    return result;
}
