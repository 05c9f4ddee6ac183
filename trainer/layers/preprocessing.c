/*
 * What is done to raw input, as operations of the graph: a served model takes what the data
 * files held.
 */
#include "trainer/layers/builder.h"

#include <stdlib.h>

/* ---- scale ------------------------------------------------------------------------------- */

struct scale {
    double factor, offset;
};

static const struct field scale_fields[] = {
    {"factor", FIELD_REAL, offsetof(struct scale, factor), .initial = 1},
    {"offset", FIELD_REAL, offsetof(struct scale, offset), .initial = 0},
    {0},
};

static int lower_scale(struct layer_builder *builder, const void *settings, int n_inputs,
                       const int *inputs, struct nn_error *error)
{
    const struct scale *scale = settings;
    (void)n_inputs;
    struct nn_shape scalar = {0};
    int factor = builder_reals(builder, "factor", &scalar, &scale->factor, error);
    if (factor < 0)
        return -1;
    bool shifts = scale->offset != 0;
    int scaled = builder_node(builder, "Mul", shifts ? "scaled" : NULL, NULL, 2,
                              (int[]){inputs[0], factor}, error);
    if (scaled < 0 || !shifts)
        return scaled;
    int offset = builder_reals(builder, "offset", &scalar, &scale->offset, error);
    return offset < 0 ? -1
                      : builder_node(builder, "Add", NULL, NULL, 2, (int[]){scaled, offset},
                                     error);
}

LAYER_TYPE(scale, 1, 1, struct scale)

/* ---- normalize, standardize -------------------------------------------------------------- */

/* What broadcasts along every axis but the channels: [C, 1...], [features] for rank 2. */
static struct nn_shape channel_shape(const struct nn_shape *x)
{
    struct nn_shape shape = {.rank = x->rank - 1};
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = i == 0 ? x->dims[1] : 1;
    return shape;
}

/* (x - mean) / deviation */
static int subtract_and_divide(struct layer_builder *builder, int input, int mean,
                               int deviation, struct nn_error *error)
{
    int centred = builder_node(builder, "Sub", "centred", NULL, 2, (int[]){input, mean}, error);
    return centred < 0 ? -1
                       : builder_node(builder, "Div", NULL, NULL, 2,
                                      (int[]){centred, deviation}, error);
}

struct normalize {
    const json_t *mean, *deviation;
};

static const struct field normalize_fields[] = {
    {"mean", FIELD_JSON, offsetof(struct normalize, mean), .required = true},
    {"deviation", FIELD_JSON, offsetof(struct normalize, deviation), .required = true},
    {0},
};

/* A constant from a number, or from a list of one number per channel. */
static int read_by_channel(struct layer_builder *builder, const char *key, const json_t *json,
                           const struct nn_shape *channels, bool positive,
                           struct nn_error *error)
{
    struct field_path path, at;
    field_path_key(&path, builder->path, key);
    const char *what = positive ? "a number above 0" : "a number";
    struct nn_shape shape = {0};
    int64_t n = 1;
    if (json_is_array(json)) {
        shape = *channels;
        n = channels->dims[0];
        if ((int64_t)json_array_size(json) != n)
            return builder_fail(builder, error, key, "%zu numbers for %lld channels",
                                json_array_size(json), (long long)n);
    }
    double *elements = calloc((size_t)n, sizeof *elements);
    if (!elements)
        return nn_fail(error, "out of memory");
    int value = 0;
    for (int64_t i = 0; i < n && value == 0; i++) {
        const json_t *item = json_is_array(json) ? json_array_get(json, (size_t)i) : json;
        elements[i] = json_number_value(item);
        if (!json_is_number(item) || (positive && !(elements[i] > 0)))
            value = fields_fail(error, json_is_array(json)
                                           ? field_path_index(&at, path.text, (size_t)i)
                                           : path.text, what, item);
    }
    if (value == 0)
        value = builder_reals(builder, key, &shape, elements, error);
    free(elements);
    return value;
}

static int lower_normalize(struct layer_builder *builder, const void *settings, int n_inputs,
                           const int *inputs, struct nn_error *error)
{
    const struct normalize *normalize = settings;
    (void)n_inputs;
    struct nn_shape channels = channel_shape(builder_shape(builder, inputs[0]));
    int mean = read_by_channel(builder, "mean", normalize->mean, &channels, false, error);
    if (mean < 0)
        return -1;
    int deviation = read_by_channel(builder, "deviation", normalize->deviation, &channels, true,
                                    error);
    return deviation < 0 ? -1 : subtract_and_divide(builder, inputs[0], mean, deviation, error);
}

LAYER_TYPE(normalize, 1, 1, struct normalize)

struct standardize {
    char nothing;
};

static const struct field standardize_fields[] = {{0}};

static int lower_standardize(struct layer_builder *builder, const void *settings, int n_inputs,
                             const int *inputs, struct nn_error *error)
{
    (void)settings, (void)n_inputs;
    if (network_raw_input(builder->network->graph, inputs[0]) < 0)
        return builder_fail(builder, error, NULL,
                            "standardize takes an input of the model: its constants are those "
                            "of the data");
    struct nn_shape shape = channel_shape(builder_shape(builder, inputs[0]));
    struct initializer zero = {.kind = INITIALIZER_CONSTANT, .value = 0};
    struct initializer one = {.kind = INITIALIZER_CONSTANT, .value = 1};
    int mean = builder_parameter(builder, "mean", PARAMETER_DATA, &shape, &zero, error);
    if (mean < 0)
        return -1;
    int deviation =
        builder_parameter(builder, "deviation", PARAMETER_DATA, &shape, &one, error);
    return deviation < 0 ? -1 : subtract_and_divide(builder, inputs[0], mean, deviation, error);
}

LAYER_TYPE(standardize, 1, 1, struct standardize)
