/*
 * A published model applied to a data set: the way the server runs it, on all threads.
 */
#ifndef TRAINER_APPLY_H
#define TRAINER_APPLY_H

#include "trainer/recipe.h"

/* What the outputs of all rows are, one tensor [n, ...] per output of the model; owned. */
struct application {
    int n_outputs;
    struct nn_tensor *outputs;
};

/* The model's inputs have to have the shapes of the data's rows. On failure *application is
 * empty. */
int apply_model(struct application *application, const struct nn_model *model,
                const struct dataset *set, int n_threads, struct nn_error *error);
void application_release(struct application *application);

/* The recipe that a bundle holds: 1; 0 when it holds none; -1: it cannot be read. */
int apply_find_recipe(struct recipe *recipe, const struct nn_model *model,
                      struct nn_error *error);

/* What data the model takes: by its recipe (NULL: it has none), with the model's own inputs and
 * labels. `inputs` has room for all inputs of the model, `labels` for all labels; the request
 * points to them. */
struct dataset_request apply_request(const struct nn_model *model, const struct recipe *recipe,
                                     const char *directory, struct dataset_input *inputs,
                                     char **labels);

#endif
