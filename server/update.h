/*
 * What becomes of one model in a reload.
 *
 * Either all that serving.json asks for can be loaded, or everything stays as it was. Only
 * where nothing is served yet, what is sound is served without the rest.
 */
#ifndef SERVER_UPDATE_H
#define SERVER_UPDATE_H

#include "server/registry.h"
#include "server/scan.h"

struct updater {
    const char *models;
    int n_counters; /* threads that count what a version does */
    bool first; /* the server starts: a broken model keeps it from being ready;
                 * later a new one that is broken is left out */
    struct registry_counts *counts;
};

/* From what was `found` (NULL: nothing) and the `old` model (NULL: it is new) to what is served
 * from now on: *after, a reference or NULL. Versions whose file is the same are shared with the
 * old one. -1: no memory. */
int model_update(const struct updater *updater, const struct found_model *found,
                 struct served_model *old, struct served_model **after,
                 struct reload_entry *entry);

/* What every update begins and ends with. */
void update_begin(struct reload_entry *entry, const char *name, const struct served_model *old);
void update_end(const struct updater *updater, const struct served_model *after,
                struct reload_entry *entry);

#endif
