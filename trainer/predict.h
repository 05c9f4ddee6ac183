/*
 * predict: a file of samples in, a line of JSON for each out.
 *
 *     {"prediction":[0.01,0.98,0.01],"label":"versicolor"}
 *
 * Several outputs give an object by name. The label is left out where the bundle names none.
 */
#ifndef TRAINER_PREDICT_H
#define TRAINER_PREDICT_H

#include <stdio.h>

#include "engine/engine.h"

int predict(FILE *out, const char *bundle_path, const char *file, int n_threads,
            struct nn_error *error);

#endif
