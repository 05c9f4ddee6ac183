/*
 * What has changed in the folder of models since it was loaded, found by looking now and then.
 *
 * A change is taken up when two looks in a row see the same: what is still being written is
 * left alone. It is taken up once, whether what came could be served or not.
 */
#ifndef SERVER_CHANGES_H
#define SERVER_CHANGES_H

#include "server/scope.h"

#define CHANGES_SETTLE \
    1.0 /* seconds at most between the look that sees a change and the next */

/* What is known of a model. */
struct change {
    char name[MODEL_NAME_SIZE];
    uint64_t taken, looked; /* fingerprints; 0: it was not there */
};

/* All zero at first, when nothing has been taken. Belongs to one thread. */
struct changes {
    size_t n;
    struct change *models; /* by name */
    bool unreadable;       /* the folder, when it was last looked at */
};

/* Adds to the scope what is to be loaded again. Returns whether something is still changing. */
bool changes_look(struct changes *changes, const struct found *found, struct scope *scope);

/* The models of the scope were loaded as found. */
void changes_taken(struct changes *changes, const struct found *found,
                   const struct scope *scope);

void changes_release(struct changes *changes);

#endif
