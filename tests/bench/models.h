/*
 * The models that are measured: made from their recipes, with weights that are not trained,
 * since what a weight is does not change what it costs.
 */
#ifndef BENCH_MODELS_H
#define BENCH_MODELS_H

enum { MODEL_PATH = 600 };

/* Publishes models/<name>/recipe.json as version 1 in a folder of models, which is made, and
 * tells the bundle's path. Ends the process with a message where that fails. */
void make_model(const char *folder, const char *name, char bundle[MODEL_PATH]);

#endif
