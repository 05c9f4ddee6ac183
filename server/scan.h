/*
 * The folder of models: what is in it, without opening any of it.
 */
#ifndef SERVER_SCAN_H
#define SERVER_SCAN_H

#include "server/table.h"
#include <limits.h>

struct found_version {
    int64_t version;
    struct file_identity file;
};

/* A folder that holds versions, or else serving.json: an ensemble, it may be. */
struct found_model {
    char name[MODEL_NAME_SIZE];
    struct file_identity config_file; /* serving.json */
    size_t n;
    struct found_version *versions; /* ascending */
    char problem[256];              /* why its folder could not be read, or "" */
    uint64_t fingerprint;           /* changes with everything that is in here */
};

/* What would be a model or a version if only it were named so. Nothing that is named with a dot
 * first is meant to be one. */
struct left_out {
    char *path; /* within the folder of models */
    const char *reason;
};

struct found {
    size_t n;
    struct found_model *models; /* by name */
    size_t n_left_out;
    struct left_out *left_out;     /* by path */
    uint64_t left_out_fingerprint; /* changes with it */
};

/* Links are followed; what is no model is left out. On failure nothing is owned. */
int scan_folder(struct found *found, const char *models, struct nn_error *error);
void scan_release(struct found *found);

/* NULL: it is not there. */
const struct found_model *scan_find(const struct found *found, const char *name);

/* -1: errno says why; scan_is_absent() tells a file that is not there, or is a folder, from one
 * that may not be looked at, whose identity is then that of no other file. */
int scan_identify(struct file_identity *identity, const char *path);

bool scan_is_absent(int error);
bool scan_is_same(const struct file_identity *a, const struct file_identity *b);

/* What is too long becomes "". */
void scan_bundle_path(char path[PATH_MAX], const char *models, const char *name,
                      int64_t version);
void scan_config_path(char path[PATH_MAX], const char *models, const char *name);

#endif
