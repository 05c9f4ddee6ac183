/*
 * Layers that rearrange and combine values.
 */
#include "trainer/layers/builder.h"

#include <stdio.h>

/* ---- flatten ----------------------------------------------------------------------------- */

struct flatten {
    char nothing;
};

static const struct field flatten_fields[] = {{0}};

static int lower_flatten(struct layer_builder *builder, const void *settings, int n_inputs,
                         const int *inputs, struct nn_error *error)
{
    (void)settings, (void)n_inputs;
    return builder_node(builder, "Flatten", NULL, NULL, 1, inputs, error);
}

LAYER_TYPE(flatten, 1, 1, struct flatten)

/* ---- reshape ----------------------------------------------------------------------------- */

struct reshape {
    const json_t *shape;
};

static const struct field reshape_fields[] = {
    {"shape", FIELD_JSON, offsetof(struct reshape, shape), .required = true},
    {0},
};

/* dims[1 ... rank) from the array, with its -1 resolved to hold `elements`. */
static int read_dimensions(const struct layer_builder *builder, const json_t *json,
                           int64_t elements, struct nn_shape *shape, struct nn_error *error)
{
    struct field_path path, at;
    field_path_key(&path, builder->path, "shape");
    size_t n = json_array_size(json);
    if (n < 1 || n > NN_MAX_RANK - 1)
        return fields_fail(error, path.text, "an array of 1 to 7 dimensions, without the batch",
                           json);
    *shape = (struct nn_shape){.rank = (int)n + 1};
    int64_t known = 1;
    int open = 0;               /* the dimension that is -1; 0: none */
    for (int i = 1; i < shape->rank; i++) {
        const json_t *item = json_array_get(json, (size_t)i - 1);
        int64_t size = json_integer_value(item);
        if (!json_is_integer(item) || size == 0 || size < -1 || (size == -1 && open))
            return fields_fail(error, field_path_index(&at, path.text, (size_t)i - 1),
                               "an integer from 1, or -1 once", item);
        shape->dims[i] = size;
        if (size == -1)
            open = i;
        else if (__builtin_mul_overflow(known, size, &known))
            known = INT64_MAX;
    }
    if (open && elements % known == 0) {
        shape->dims[open] = elements / known;
        known = elements;
    }
    if (known != elements)
        return builder_fail(builder, error, "shape", "%lld elements do not fit into it",
                            (long long)elements);
    return 0;
}

static int lower_reshape(struct layer_builder *builder, const void *settings, int n_inputs,
                         const int *inputs, struct nn_error *error)
{
    const struct reshape *reshape = settings;
    (void)n_inputs;
    const struct nn_shape *x = builder_shape(builder, inputs[0]);
    struct nn_shape shape;
    if (read_dimensions(builder, reshape->shape, shape_product(x, 1, x->rank), &shape,
                        error) != 0)
        return -1;
    /* 0 takes the input's dimension over: the batch */
    int operands[2] = {inputs[0]};
    operands[1] = builder_ints(builder, "shape", shape.rank, shape.dims, error);
    return operands[1] < 0 ? -1
                           : builder_node(builder, "Reshape", NULL, NULL, 2, operands, error);
}

LAYER_TYPE(reshape, 1, 1, struct reshape)

/* ---- add --------------------------------------------------------------------------------- */

struct add {
    struct activation activation;
};

static const struct field add_fields[] = {ACTIVATION_FIELDS(struct add), {0}};

static int lower_add(struct layer_builder *builder, const void *settings, int n_inputs,
                     const int *inputs, struct nn_error *error)
{
    const struct add *add = settings;
    struct shape_text first, other;
    for (int i = 1; i < n_inputs; i++)
        if (!shape_equal(builder_shape(builder, inputs[0]), builder_shape(builder, inputs[i])))
            return builder_fail(builder, error, NULL, "cannot add %s and %s",
                                builder_print(builder, inputs[0], &first),
                                builder_print(builder, inputs[i], &other));
    int sum = inputs[0];
    for (int i = 1; i < n_inputs - 1; i++) {
        char suffix[16];
        snprintf(suffix, sizeof suffix, "sum%d", i);
        sum = builder_node(builder, "Add", suffix, NULL, 2, (int[]){sum, inputs[i]}, error);
        if (sum < 0)
            return -1;
    }
    return builder_activated(builder, "Add", NULL, 2, (int[]){sum, inputs[n_inputs - 1]},
                             &add->activation, error);
}

LAYER_TYPE(add, 2, LAYER_MAX_INPUTS, struct add)

/* ---- concat ------------------------------------------------------------------------------ */

struct concat {
    int64_t axis;
    struct activation activation;
};

static const struct field concat_fields[] = {
    {"axis", FIELD_INT, offsetof(struct concat, axis), .initial = 1, .min = -(NN_MAX_RANK - 1),
     .max = NN_MAX_RANK - 1},
    ACTIVATION_FIELDS(struct concat),
    {0},
};

static int lower_concat(struct layer_builder *builder, const void *settings, int n_inputs,
                        const int *inputs, struct nn_error *error)
{
    const struct concat *concat = settings;
    const struct nn_shape x = *builder_shape(builder, inputs[0]);
    int axis = (int)(concat->axis < 0 ? concat->axis + x.rank : concat->axis);
    if (axis < 1 || axis >= x.rank)
        return builder_fail(builder, error, "axis",
                            "expected 1 to %d (0 is the batch), got %lld", x.rank - 1,
                            (long long)concat->axis);
    struct shape_text first, other;
    for (int i = 1; i < n_inputs; i++) {
        struct nn_shape y = *builder_shape(builder, inputs[i]);
        if (y.rank == x.rank)
            y.dims[axis] = x.dims[axis];
        if (!shape_equal(&x, &y))
            return builder_fail(builder, error, NULL, "cannot join %s and %s along axis %d",
                                builder_print(builder, inputs[0], &first),
                                builder_print(builder, inputs[i], &other), axis);
    }
    struct node_attribute attributes[] = {INT_ATTRIBUTE("axis", axis), {0}};
    return builder_activated(builder, "Concat", attributes, n_inputs, inputs,
                             &concat->activation, error);
}

LAYER_TYPE(concat, 2, LAYER_MAX_INPUTS, struct concat)
