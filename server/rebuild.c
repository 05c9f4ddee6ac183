#include "server/rebuild.h"

#include "server/ensemble.h"
#include "server/log.h"
#include "server/served.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is being built. */
struct building {
    const struct rebuild *r;
    struct table *table;
    struct reload_report *report; /* with room for every model */
};

/* One name of the folder, the old table, or both. */
struct place {
    const char *name;
    const struct found_model *found; /* NULL: it is not there, or to be unloaded */
    struct served_model *old;
    bool in_scope;
};

/* A pass over all places; -1: no memory. */
typedef int pass(struct building *b, const struct place *place);

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

static struct reload_entry *next_entry(struct building *b)
{
    return &b->report->entries[b->report->n];
}

/* There is room for every name that was found. */
static void list_unloaded(struct table *t, const char *name)
{
    snprintf(t->unloaded[t->n_unloaded++], MODEL_NAME_SIZE, "%s", name);
}

/* Takes over what an update said of what was found (NULL: nothing). */
static void add(struct building *b, const struct found_model *found, struct served_model *after)
{
    log_entry(next_entry(b));
    b->report->n++;
    if (after)
        table_add(b->table, after);
    else if (found && b->r->explicit)
        list_unloaded(b->table, found->name);
}

static void keep(struct building *b, const struct place *p)
{
    if (p->old)
        table_add(b->table, served_model_share(p->old));
}

static int each_place(struct building *b, pass *call)
{
    const struct rebuild *r = b->r;
    const struct found *found = r->found;
    const struct table *old = r->old;

    for (size_t f = 0, o = 0; f < found->n || o < old->n;) {
        int order = f == found->n ? 1
                    : o == old->n ? -1
                                  : strcmp(found->models[f].name, old->models[o]->name);
        struct place p = {.found = order <= 0 ? &found->models[f++] : NULL,
                          .old = order >= 0 ? old->models[o++] : NULL};
        p.name = p.found ? p.found->name : p.old->name;
        p.in_scope = scope_has(r->scope, p.name);
        if (call(b, &p) < 0)
            return -1;
    }
    return 0;
}

/* what is loaded on demand */

static bool stays_unloaded(const struct rebuild *r, const struct place *p)
{
    return r->explicit && !p->old && !(p->in_scope && r->action == RELOAD_LOAD);
}

/* The name of a loaded ensemble that it is a member of and that stays. */
static const char *ensemble_of(const struct rebuild *r, const char *member)
{
    for (size_t i = 0; i < r->old->n; i++) {
        const struct served_model *m = r->old->models[i];
        for (int k = 0; k < m->config.n_members; k++)
            if (strcmp(m->config.members[k], member) == 0 && !scope_has(r->scope, m->name))
                return m->name;
    }
    return NULL;
}

static void unload(struct building *b, const struct place *p)
{
    const char *ensemble = ensemble_of(b->r, p->name);
    struct reload_entry *e = next_entry(b);

    update_begin(e, p->name, p->old);
    if (ensemble && p->old) {
        e->outcome = RELOAD_FAILED;
        snprintf(e->problem, sizeof e->problem,
                 "it is a member of the ensemble %s, which is loaded", ensemble);
        update_end(&b->r->updater, p->old, e);
        add(b, p->found, served_model_share(p->old));
        return;
    }
    e->outcome = p->old ? RELOAD_REMOVED : RELOAD_UNCHANGED;
    update_end(&b->r->updater, NULL, e);
    add(b, p->found, NULL);
}

/* What was to be loaded, could not be, and now is not even there. */
static bool is_absent(const struct rebuild *r, const struct place *p)
{
    return r->explicit && p->in_scope && !p->found && p->old->n == 0;
}

/* A model that was asked for and is not there: as long as it is not, the server is not ready.
 */
static int add_absent(struct building *b, const char *name, struct served_model *old)
{
    const struct updater *u = &b->r->updater;
    struct reload_entry *e = next_entry(b);
    struct served_model *m = served_model_new(name, 0);

    if (!m)
        return -1;
    update_begin(e, name, old);
    e->outcome = RELOAD_FAILED;
    snprintf(e->problem, sizeof e->problem, "%.400s/%s: there is no such model", u->models,
             name);
    serving_config_default(&m->config);
    memcpy(m->problem, e->problem, sizeof m->problem);
    if (served_model_describe(m) < 0) {
        served_model_release(m);
        return -1;
    }
    update_end(u, m, e);
    add(b, NULL, m);
    return 0;
}

/* the passes */

/* What is not looked at is what it was. */
static bool is_ensemble(const struct place *p)
{
    if (p->found && (p->in_scope || !p->old) && !*p->found->problem)
        return p->found->n == 0;
    return p->old && p->old->config.n_members;
}

static int update_plain(struct building *b, const struct place *p)
{
    const struct rebuild *r = b->r;
    struct served_model *after;

    if (r->action == RELOAD_UNLOAD && p->in_scope) {
        unload(b, p);
        return 0;
    }
    if (stays_unloaded(r, p)) {
        list_unloaded(b->table, p->name);
        return 0;
    }
    if (is_absent(r, p))
        return add_absent(b, p->name, p->old);
    if (is_ensemble(p))
        return 0;
    if (!p->in_scope) {
        keep(b, p);
        return 0;
    }
    if (model_update(&r->updater, p->found, p->old, &after, next_entry(b)) < 0)
        return -1;
    add(b, p->found, after);
    return 0;
}

/* Whether one of its members is another one, or new, or gone. */
static bool has_new_members(const struct building *b, const struct serving_config *c)
{
    for (int i = 0; i < c->n_members; i++)
        if (ensemble_member(b->r->old, c->members[i]) !=
            ensemble_member(b->table, c->members[i]))
            return true;
    return false;
}

/* Outside the scope an ensemble follows its members, and does not look at its folder; unless it
 * was left out because its members were not there. */
static bool follows_members(const struct building *b, const struct place *p)
{
    struct serving_config config;
    char path[PATH_MAX];

    if (p->old)
        return has_new_members(b, &p->old->config);
    scan_config_path(path, b->r->updater.models, p->name);
    return serving_config_load(&config, path, NULL) == 0 && has_new_members(b, &config);
}

static int update_ensemble(struct building *b, const struct place *p)
{
    const struct rebuild *r = b->r;
    struct reload_entry *e = next_entry(b);
    struct served_model *after;

    if ((r->action == RELOAD_UNLOAD && p->in_scope) || stays_unloaded(r, p) ||
        is_absent(r, p) || !is_ensemble(p))
        return 0;
    if (!p->in_scope && !follows_members(b, p)) {
        keep(b, p);
        return 0;
    }
    if (!p->found && p->in_scope) {
        int result = model_update(&r->updater, NULL, p->old, &after, e);
        if (result == 0)
            add(b, p->found, after);
        return result;
    }
    int result = ensemble_update(&r->updater, p->in_scope || !p->old ? p->found : NULL, p->old,
                                 b->table, &after, e);
    if (result == 0 && (p->in_scope || e->outcome != RELOAD_UNCHANGED))
        add(b, p->found, after);
    else if (result == 0 && after)
        table_add(b->table, after);
    return result < 0 ? -1 : 0;
}

/* Of what is to be loaded, what is neither in the folder nor served. */
static int add_all_absent(struct building *b)
{
    const struct rebuild *r = b->r;
    if (!r->explicit || !r->updater.first)
        return 0;
    for (size_t i = 0; i < r->scope->n; i++)
        if (!scan_find(r->found, r->scope->names[i]) &&
            add_absent(b, r->scope->names[i], NULL) < 0)
            return -1;
    return 0;
}

/* the table */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct reload_entry *)a)->name,
                  ((const struct reload_entry *)b)->name);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

struct table *table_rebuild(const struct rebuild *r, struct reload_report *report)
{
    size_t room = r->found->n + r->old->n + r->scope->n + 1;
    struct building b = {.r = r, .table = table_new(room), .report = report};

    report->entries = calloc(room, sizeof *report->entries);
    if (b.table)
        b.table->unloaded = calloc(r->found->n + 1, sizeof *b.table->unloaded);
    if (!b.table || !b.table->unloaded || !report->entries || r->scope->failed ||
        each_place(&b, update_plain) < 0 || add_all_absent(&b) < 0 ||
        each_place(&b, update_ensemble) < 0) {
        snprintf(report->problem, sizeof report->problem, "out of memory");
        table_release(b.table);
        return NULL;
    }
    qsort(report->entries, report->n, sizeof *report->entries, by_name);
    qsort(b.table->unloaded, b.table->n_unloaded, MODEL_NAME_SIZE, by_text);
    return b.table;
}

bool table_is_same(const struct table *a, const struct table *b)
{
    return a->n == b->n && memcmp(a->models, b->models, a->n * sizeof a->models[0]) == 0 &&
           a->n_unloaded == b->n_unloaded &&
           (a->n_unloaded == 0 ||
            memcmp(a->unloaded, b->unloaded, a->n_unloaded * sizeof a->unloaded[0]) == 0);
}
