/*
 * A version of a model is opened, checked, warmed up, and described.
 */
#ifndef SERVER_SERVED_H
#define SERVER_SERVED_H

#include "server/table.h"

/* Opens a version and computes `warmup` rows with it; `n_counters` threads will count what it
 * does. NULL: the error names the file. */
struct served *served_open(const char *models, const char *name, int64_t version,
                           int64_t warmup, int n_counters, struct nn_error *error);

/* Makes the one version of an ensemble from its members, which are shared; they fit together.
 * NULL: no memory. */
struct served *served_open_ensemble(const char *name, struct served *const *members, size_t n,
                                    int n_counters);

/* Writes the description of a model whose other fields are filled in. -1: no memory. */
int served_model_describe(struct served_model *model);

#endif
