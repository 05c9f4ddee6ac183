/*
 * Layers: what a recipe calls "conv2d" or "dense", each lowered to operations.
 *
 * Every layer has "type", and may have "name" (default: type and number, "conv2d_2"; its
 * parameters are "<name>.weight" ...) and "inputs" (default: the layer before; names of layers
 * or of the model's inputs). Most take "activation": relu, leaky_relu, sigmoid, tanh, softmax,
 * log_softmax, linear.
 *
 *     dense        units, use_bias, initializer
 *     conv1d       filters, kernel, stride, dilation, groups, padding (same, valid, or number)
 *     conv2d       the same with a number or a pair
 *     max_pool, average_pool       kernel, stride (default: kernel), padding
 *     global_average_pool          [N, C, ...] to [N, C]
 *     batch_norm   momentum (of the old value, default 0.9), epsilon
 *     dropout      rate
 *     flatten
 *     reshape      shape (without the batch; one may be -1)
 *     activation   activation, slope (leaky_relu)
 *     add          two or more inputs
 *     concat       axis (of the whole shape, default 1), two or more inputs
 *     scale        factor, offset: x * factor + offset
 *     normalize    mean, deviation: numbers or a list by channel: (x - mean) / deviation
 *     standardize  the same with constants computed from the training data
 */
#ifndef TRAINER_LAYERS_H
#define TRAINER_LAYERS_H

#include "trainer/network.h"

/* The network that is being built, for the layers' own code. */
struct layer_builder;

/* Lowers one layer: adds its nodes and parameters. `inputs` are values; returns the layer's
 * output value or -1, with the JSON path in the error. */
struct layer_type {
    const char *name;
    int min_inputs, max_inputs;
    size_t settings_size;
    const struct field *fields; /* besides type, name, inputs */
    int (*lower)(struct layer_builder *builder, const void *settings, int n_inputs,
                 const int *inputs, struct nn_error *error);
};

extern const struct layer_type *const layer_types[];    /* ended by NULL */

#endif
