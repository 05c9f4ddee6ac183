/*
 * The models that are served, and their replacement while they are.
 *
 * A table is immutable and reference counted: every event loop holds the one that it answers
 * from. Loading happens on the registry's own thread, which builds a new table, has it
 * published, and lets go of the old one; so the last reference to a model that is replaced is
 * nearly always dropped here and not in a loop. On any failure the old version stays.
 */
#ifndef SERVER_REGISTRY_H
#define SERVER_REGISTRY_H

#include "server/table.h"

/* What became of one model in a reload. */
struct reload_entry {
    char name[MODEL_NAME_SIZE];
    enum { RELOAD_UNCHANGED, RELOAD_LOADED, RELOAD_REMOVED, RELOAD_FAILED } outcome;
    int64_t before, after;      /* versions; -1: none */
    int64_t began;              /* clock_now() */
    double milliseconds;
    char problem[512];          /* RELOAD_FAILED: why it stayed, or fell back */
};

struct reload_report {
    size_t n;
    struct reload_entry *entries;       /* by name */
    char problem[512];          /* the folder itself could not be read, or "" */
    char beside[512];           /* what is reread besides the models was not, or "" */
    bool stopping;              /* the server ends: nothing was done */
};

/* Who decides what is loaded, and when. */
enum model_control {
    CONTROL_NONE, /* all that is in the folder, at the start and when a reload is asked for */
    CONTROL_POLL, /* and besides when something in the folder has changed */
    CONTROL_EXPLICIT, /* what is asked for by name */
};

extern const char *const model_control_names[]; /* NULL ends them */

enum reload_action {
    RELOAD_AGAIN,  /* what the folder holds; explicitly: of what is loaded */
    RELOAD_LOAD,   /* explicitly: whether it is loaded or not, and the members of an ensemble */
    RELOAD_UNLOAD, /* only explicitly */
};

/* Somebody who waits for a reload. */
struct reload_waiter {
    enum reload_action action;
    char model[MODEL_NAME_SIZE]; /* "": all; not to be unloaded */
    bool dependents;             /* with an ensemble its members are unloaded, too */

    /* Called once, on the registry's thread, when a run that began after registry_reload()
     * has been published. */
    void (*done)(struct reload_waiter *waiter, const struct reload_report *report);

    struct reload_waiter *next; /* the registry's */
};

struct registry_settings {
    const char *models;
    int n_counters; /* threads that count what a version does */
    enum model_control control;
    double poll_interval; /* seconds */
    const char *load;     /* CONTROL_EXPLICIT: what is loaded at the start, names between
                           * commas, "*" for all; NULL: nothing */

    /* Has every loop take the table before it returns. -1: none has, there is no memory. Called
     * on the registry's thread. */
    int (*publish)(void *context, struct table *table);

    /* Rereads what else a reload is to take, on the same thread; what fails stays as it was.
     * -1: the error says what. May be NULL; is not called for the first load. */
    int (*refresh)(void *context, struct nn_error *error);
    void *context;
};

/* Settings are copied, but for their texts, which have to stay. Starts the thread, which loads
 * what is there first of all. NULL: the error says why. */
struct registry *registry_open(const struct registry_settings *settings,
                               struct nn_error *error);

/* Lets the run that is going on finish and ends the thread; who waits for another run gets a
 * report that says so. False: that took longer than until `stop_by` (clock_now()). */
bool registry_stop(struct registry *registry, int64_t stop_by);
void registry_free(struct registry *registry);          /* after it stopped */

/* Asks for a reload; any thread. `waiter` may be NULL, otherwise it is kept until done. Who
 * asks while a run is going on shares the next one. False: the registry was stopped. */
bool registry_reload(struct registry *registry, struct reload_waiter *waiter);

/* Loads and reports without a registry: `predictd --check`. 0 when every model is sound, and
 * those that are named, by `load` or as the default (NULL: none is), are there. */
int registry_check(const struct registry_settings *settings, const char *default_model,
                   struct nn_error *error);

/* Ever: outcomes of models in reloads, versions at start that were skipped as broken. */
struct registry_counts {
    atomic_uint_fast64_t loaded, failed, removed, skipped;
    atomic_int_fast64_t last_success;   /* seconds since 1970; 0: never */
    atomic_bool last_failed;            /* the last one */
};

const struct registry_counts *registry_counts(const struct registry *registry);

#endif
