/*
 * Publishing: a training's result becomes the next version of a model.
 */
#ifndef TRAINER_PUBLISH_H
#define TRAINER_PUBLISH_H

#include "trainer/fit.h"

/* What was trained, on what, and what came of it. */
struct publication {
    const struct network *network;
    const struct recipe *recipe;
    const struct dataset *train, *validation;   /* validation may be NULL */
    uint64_t data_digest;                       /* of all training data, before the split */
    const struct fit_result *result;
};

/* Writes DIRECTORY/<highest version + 1>/model.safetensors, with golden samples drawn from the
 * data, and history.csv beside it. The same training gives the same bytes of bundle. Returns
 * the bundle's path, to be freed, or NULL. */
char *publish(const struct publication *publication, const char *directory,
              struct nn_error *error);

/* Whether a version could be published in that folder, as far as that can be told before: it,
 * or the first of its parents that is there, is a folder that may be written to. */
int publish_check(const char *directory, struct nn_error *error);

#endif
