/*
 * A recipe: everything about a training in one JSON file. This is the reference of its keys.
 *
 *     {"name":   "mnist",
 *      "data":   {"format": "idx", ...},                       trainer/dataset.h
 *      "inputs": [{"name": "image", "shape": [1, 28, 28]}],
 *      "layers": [{"type": "scale", "factor": 0.00392156862745098},
 *                 {"type": "conv2d", "name": "conv1", "filters": 32, "kernel": 3, ...},
 *                 ...],                                        trainer/layers.h
 *      "loss":   "softmax_cross_entropy",                      trainer/loss.h
 *      "optimizer": {"type": "adamw", "learning_rate": 0.002, "weight_decay": 0.01},
 *      "schedule":  {"type": "cosine", "warmup_steps": 100},
 *      "training":  {"epochs": 8, "batch_size": 128, "seed": 1,
 *                    "validation_fraction": 0.1, "early_stopping": {"patience": 3}}}
 *
 * The first five are required. Keys, with their defaults:
 *
 *     inputs[]     name, shape (without the batch), datatype "FP32", columns (CSV: names or
 *                  numbers; default all but the labels)
 *     data.target  "classes", "values" (numbers) or "input" (an autoencoder); by default what
 *                  the loss is made for: classes for softmax_cross_entropy and for
 *                  sigmoid_cross_entropy with one output, else values
 *     optimizer    type adam; learning_rate 0.001 (sgd: 0.01);
 *                  sgd: momentum 0, nesterov false; adam, adamw: beta1 0.9, beta2 0.999,
 *                  epsilon 1e-8; adamw: weight_decay 0.01; rmsprop: rho 0.9, epsilon 1e-8
 *     schedule     type constant; warmup_steps 0; step: every_epochs 10, gamma 0.1;
 *                  cosine: final_fraction 0 (of the rate)
 *     training     epochs 10, batch_size 32, seed 1, l2 0, clip_norm 0 (none),
 *                  validation_fraction 0 (of the training data),
 *                  early_stopping none: patience 3 epochs, min_delta 0
 *
 * It is checked completely before any data is read.
 */
#ifndef TRAINER_RECIPE_H
#define TRAINER_RECIPE_H

#include <jansson.h>

#include "trainer/dataset.h"
#include "trainer/fields.h"
#include "trainer/loss.h"
#include "trainer/optimizer.h"
#include "trainer/schedule.h"

struct network;

struct recipe {
    json_t *json;               /* the whole; strings below are in it */
    const char *name;
    int n_inputs;
    struct dataset_input *inputs;
    const json_t *data, *layers;
    enum loss_kind loss;
    enum dataset_target target; /* "target" in data: "input" trains an autoencoder */
    struct optimizer_settings optimizer;
    struct schedule_settings schedule;
    int epochs, batch_size;
    uint64_t seed;
    double l2;                  /* added to the loss as l2/2 |w|^2, weights only */
    double clip_norm;           /* 0: gradients are not clipped */
    double validation_fraction; /* of the training data; 0: none */
    int patience;               /* epochs without improvement before stopping; 0: never */
    double min_delta;
};

/* Reads and checks a recipe: keys (with the nearest valid one), types, ranges, and that the
 * layers' shapes fit. Errors are "FILE: layers[2].kernel: ...". On failure *recipe is
 * empty. */
int recipe_read(struct recipe *recipe, const char *path, struct nn_error *error);

/* The same from the text that a bundle holds. */
int recipe_parse(struct recipe *recipe, const char *text, struct nn_error *error);
void recipe_release(struct recipe *recipe);

/* Canonical JSON (sorted keys, compact) for the bundle; to be freed. */
char *recipe_text(const struct recipe *recipe);

#endif
