/*
 * The next table, from what the folder holds and the table that is served.
 */
#ifndef SERVER_REBUILD_H
#define SERVER_REBUILD_H

#include "server/scope.h"
#include "server/update.h"

struct rebuild {
    struct updater updater;
    const struct table *old;
    const struct found *found;
    const struct scope *scope; /* what is looked at; the rest stays as it is */
    enum reload_action action;
    bool explicit; /* what is not loaded stays so, if it is not to be loaded */
};

/* A table that shares with the old one what did not change, and in the report what became of
 * each model of the scope, and of ensembles whose members changed. NULL: no memory, which the
 * report says; in either case the report's entries are the caller's to free. */
struct table *table_rebuild(const struct rebuild *rebuild, struct reload_report *report);

/* Whether they serve, and leave, the same. */
bool table_is_same(const struct table *a, const struct table *b);

#endif
