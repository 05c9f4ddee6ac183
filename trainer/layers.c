/*
 * The list of layer types; each is defined in trainer/layers/<family>.c.
 */
#include "trainer/layers.h"

#define LAYERS(LAYER)                                                                          \
    LAYER(dense) LAYER(conv1d) LAYER(conv2d)                                                   \
    LAYER(max_pool) LAYER(average_pool) LAYER(global_average_pool)                             \
    LAYER(batch_norm) LAYER(dropout) LAYER(activation)                                         \
    LAYER(flatten) LAYER(reshape) LAYER(add) LAYER(concat)                                     \
    LAYER(scale) LAYER(normalize) LAYER(standardize)

#define DECLARE(name) extern const struct layer_type layer_##name;
LAYERS(DECLARE)

#define ROW(name) &layer_##name,
const struct layer_type *const layer_types[] = {LAYERS(ROW) NULL};
