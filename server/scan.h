/*
 * The folder of models: what is in it, and opening one version.
 */
#ifndef SERVER_SCAN_H
#define SERVER_SCAN_H

#include "server/registry.h"

/* A folder that holds versions, in numeric order. */
struct found_model {
    char name[MODEL_NAME_SIZE];
    size_t n;
    int64_t *versions;          /* ascending, at least one */
};

struct found {
    size_t n;
    struct found_model *models; /* by name */
};

/* Links are followed; what is no model is left out. On failure nothing is owned. */
int scan_folder(struct found *found, const char *models, struct nn_error *error);
void scan_release(struct found *found);

/* -1: there is no such file. */
int scan_identify(struct file_identity *identity, const char *models, const char *name,
                  int64_t version);

/* Opens a version. `stats` is shared. NULL: the error names the file. */
struct served *served_open(const char *models, const char *name, int64_t version,
                           struct model_stats *stats, struct nn_error *error);

/* An entry for a model of which no version could be loaded. NULL: no memory. */
struct served *served_broken(const char *name, const char *problem, struct model_stats *stats);

struct served *served_share(struct served *served);
void served_release(struct served *served);     /* NULL is allowed */

#endif
