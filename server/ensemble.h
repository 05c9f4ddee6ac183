/*
 * What becomes of one ensemble in a reload: a model that answers with the mean of others.
 *
 * Its members are what their names mean in the table that is being built, their standard
 * versions; so an ensemble is looked at after them. Where it cannot be put together anew, it
 * goes on with the members that it has, even if nobody else serves these any more.
 */
#ifndef SERVER_ENSEMBLE_H
#define SERVER_ENSEMBLE_H

#include "server/update.h"

/* As model_update(), with the members in `table`. `found` is a folder without versions; NULL:
 * serving.json is not read again. 1: it is no ensemble, and there is none to end. */
int ensemble_update(const struct updater *updater, const struct found_model *found,
                    struct served_model *old, const struct table *table,
                    struct served_model **after, struct reload_entry *entry);

/* The model of that name, if it may be a member: an ensemble may not. */
const struct served_model *ensemble_member(const struct table *table, const char *name);

#endif
