/*
 * The models that a reload is about, by name.
 */
#ifndef SERVER_SCOPE_H
#define SERVER_SCOPE_H

#include "server/scan.h"

struct scope {
    bool all;
    bool failed; /* a name was lost: no memory */
    size_t n;
    char (*names)[MODEL_NAME_SIZE];
};

void scope_add(struct scope *scope, const char *name);
bool scope_has(const struct scope *scope, const char *name);
void scope_release(struct scope *scope);

/* Names between commas, of which "*" is all. */
void scope_add_list(struct scope *scope, const char *list);

/* Adds the members of the ensembles in it, as their serving.json in the folder names them. */
void scope_add_members(struct scope *scope, const char *models, const struct found *found);

/* Adds the members of an ensemble that is served, but for those of another one. */
void scope_add_dependents(struct scope *scope, const struct table *table, const char *name);

#endif
