/*
 * A published model applied to data: the way the server runs it, on all threads.
 */
#ifndef TRAINER_APPLY_H
#define TRAINER_APPLY_H

#include "trainer/recipe.h"

/* A model, and what data it takes: by the recipe that its bundle holds, with the inputs and
 * labels of the model itself. */
struct published {
    struct nn_model *model;
    bool has_recipe;
    struct recipe recipe;               /* without has_recipe: empty */
    struct dataset_request request;     /* points to the others, and to the directory */
    struct dataset_input *inputs;
    char **labels;
};

/* `directory`, where the data's files are looked for, must outlive the published. Errors begin
 * with the path. On failure *published is empty. */
int published_open(struct published *published, const char *bundle_path, const char *directory,
                   struct nn_error *error);
void published_close(struct published *published);

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

#endif
