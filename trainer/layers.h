/*
 * Layers: what a recipe calls "conv2d" or "dense", each lowered to operations.
 *
 * Every layer has "type", and may have "name" (the second conv2d is "conv2d_2" by default; its
 * parameters are "conv2d_2.weight" ...) and "inputs" (default: the layer before, for the first
 * the model's only input; names of layers before it or of the model's inputs). The last
 * layer's output is the network's; every other one must be used.
 *
 *     type                  settings, with their defaults
 *     dense                 units, use_bias true, initializer; input [N, features]
 *     conv1d, conv2d        filters, kernel, stride 1, dilation 1, groups 1, padding "valid",
 *                           use_bias true, initializer; input [N, C, length] or [N, C, H, W]
 *     max_pool,             kernel, stride (default: kernel), padding "valid"; input
 *       average_pool        [N, C, length] or [N, C, H, W]
 *     global_average_pool   [N, C, ...] to [N, C]
 *     batch_norm            momentum 0.9 (of the old value), epsilon 1e-5
 *     dropout               rate 0.5
 *     flatten               [N, ...] to [N, features]
 *     reshape               shape (without the batch; one may be -1)
 *     activation            activation, slope
 *     add                   two or more inputs of one shape
 *     concat                axis 1 (of the whole shape), two or more inputs
 *     scale                 factor 1, offset 0: x * factor + offset
 *     normalize             mean, deviation (numbers, or lists by channel):
 *                           (x - mean) / deviation
 *     standardize           the same with constants computed from the training data: by
 *                           feature for [N, features], else by channel; of a model input
 *
 * Numbers of conv2d and the pools may be pairs [height, width]. padding is "valid" (none),
 * "same" (the output has ceil(input / stride) elements), a number or a pair.
 *
 * dense, conv1d, conv2d, batch_norm, add and concat take "activation": linear (default), relu,
 * leaky_relu ("slope", default 0.01), sigmoid, tanh, softmax, log_softmax. initializer is
 * he_normal, he_uniform, glorot_normal or glorot_uniform; by default he_normal where a
 * rectifier follows (normalisation, pooling, dropout and add in between do not matter), else
 * glorot_uniform. Inputs of another datatype than FP32 are cast to it first.
 */
#ifndef TRAINER_LAYERS_H
#define TRAINER_LAYERS_H

#include "trainer/network.h"

/* The network that is being built, for the layers' own code: trainer/layers/builder.h. */
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

enum { LAYER_MAX_INPUTS = 64, LAYER_MAX_FIELDS = 16 };

extern const struct layer_type *const layer_types[];    /* ended by NULL */

#endif
