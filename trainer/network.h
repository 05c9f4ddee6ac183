/*
 * A network: the graph that a recipe's layers were lowered to, and its parameters in one
 * array.
 */
#ifndef TRAINER_NETWORK_H
#define TRAINER_NETWORK_H

#include "engine/graph.h"
#include "trainer/initializer.h"
#include "trainer/recipe.h"

#define NETWORK_MAX_WEIGHTS (INT64_C(1) << 28)

enum parameter_kind {
    PARAMETER_WEIGHT,           /* trained; L2 and weight decay apply */
    PARAMETER_BIAS,             /* trained; biases, scales and shifts: no decay */
    PARAMETER_STATISTIC,        /* not trained: running mean and variance */
    PARAMETER_DATA,             /* not trained: computed from the training data */
};

struct parameter {
    int value;                  /* in the graph: a constant of that name */
    enum parameter_kind kind;
    int64_t offset, size;       /* its elements are weights[offset ... offset + size) */
    struct initializer initializer;
};

/* Trained parameters come first in `weights`: an optimiser is one loop over n_trained. */
struct network {
    struct graph *graph;        /* its constants point into weights; the output is the logits
                                   (or predictions), without the loss's own activation */
    int n_parameters;
    struct parameter *parameters;
    int64_t n_weights, n_trained;
    nn_real *weights;           /* [n_weights], aligned */
    int output;                 /* value: logits, [batch, n_outputs...] */
    int n_layers;
    struct network_layer {      /* for summary and messages, in the recipe's order */
        const char *name, *type;
        int value;              /* its output */
        int first_node, n_nodes;
        int first_parameter, n_parameters;
    } *layers;
};

/* Lowers the layers (trainer/layers.h) and infers shapes. NULL: the error has the JSON
 * path. */
struct network *network_new(const struct recipe *recipe, struct nn_error *error);
void network_free(struct network *network);

/* Fills all parameters by their initialisers, from `seed`. */
void network_initialize(struct network *network, uint64_t seed);

/* Which of the model's inputs a value is, as it is or cast to FP32; -1: none. */
int network_raw_input(const struct graph *graph, int value);

/* Fills PARAMETER_DATA (standardisation constants) from the training split. */
int network_fit_data(struct network *network, const struct recipe *recipe,
                     const struct dataset *train, struct nn_error *error);

/* Takes the weights of a bundle by name. Every parameter must be there with its shape. */
int network_load(struct network *network, const char *bundle_path, struct nn_error *error);

/* What is published: the same graph with the activation that the loss implies appended
 * (Softmax, Sigmoid, none), its output named "probabilities" or "predictions". Constants
 * point into `weights` (n_weights elements, not necessarily network->weights). The caller
 * frees it. */
struct graph *network_publication(const struct network *network, const struct recipe *recipe,
                                  const nn_real *weights, struct nn_error *error);

#endif
