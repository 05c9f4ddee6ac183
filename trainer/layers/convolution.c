/*
 * Convolutions and pools: windows that slide over one or two axes.
 */
#include "trainer/layers/builder.h"

#include <string.h>

enum { MAX_WINDOW = 4096, MAX_FILTERS = 65536 };

struct window {
    int64_t kernel[2], stride[2], dilation[2];
    int64_t pads[4];            /* as ONNX has them: all begins, then all ends */
};

static const char padding_what[] = "\"same\", \"valid\", an integer from 0 or a pair of them";

static bool is_padding(const json_t *json)
{
    return json_is_integer(json) && json_integer_value(json) >= 0 &&
           json_integer_value(json) <= MAX_WINDOW;
}

/* "same": the output has ceil(size / stride) elements; an odd pad goes to the end. */
static void pad_same(struct window *window, int n_axes, const int64_t *sizes)
{
    for (int i = 0; i < n_axes; i++) {
        int64_t extent = (window->kernel[i] - 1) * window->dilation[i] + 1;
        int64_t n_out = (sizes[i] - 1) / window->stride[i] + 1;
        int64_t total = (n_out - 1) * window->stride[i] + extent - sizes[i];
        if (total < 0)
            total = 0;
        window->pads[i] = total / 2;
        window->pads[n_axes + i] = total - total / 2;
    }
}

/* Sets the pads, and checks that the window fits at least once. */
static int place_window(const struct layer_builder *builder, struct window *window, int n_axes,
                        const json_t *padding, const int64_t *sizes, struct nn_error *error)
{
    struct field_path path;
    field_path_key(&path, builder->path, "padding");
    memset(window->pads, 0, sizeof window->pads);
    const char *word = json_string_value(padding);
    if (word && strcmp(word, "same") == 0) {
        pad_same(window, n_axes, sizes);
    } else if (padding && !(word && strcmp(word, "valid") == 0)) {
        bool pair = n_axes == 2 && json_array_size(padding) == 2;
        for (int i = 0; i < n_axes; i++) {
            const json_t *pad = pair ? json_array_get(padding, (size_t)i) : padding;
            if (!is_padding(pad))
                return fields_fail(error, path.text, padding_what, padding);
            window->pads[i] = window->pads[n_axes + i] = json_integer_value(pad);
        }
    }
    for (int i = 0; i < n_axes; i++) {
        int64_t extent = (window->kernel[i] - 1) * window->dilation[i] + 1;
        int64_t padded = sizes[i] + window->pads[i] + window->pads[n_axes + i];
        if (extent > padded)
            return builder_fail(builder, error, "kernel", "%lld%s is larger than its %sinput "
                                "%lld", (long long)extent,
                                extent > window->kernel[i] ? " (dilated)" : "",
                                padded > sizes[i] ? "padded " : "", (long long)padded);
    }
    return 0;
}

/* ---- convolutions ------------------------------------------------------------------------ */

struct convolution {
    int64_t filters, groups;
    struct window window;
    const json_t *padding;
    bool use_bias;
    int initializer;
    struct activation activation;
};

#define CONVOLUTION(member) offsetof(struct convolution, member)
#define CONVOLUTION_FIELDS(KIND)                                                               \
    {"filters", FIELD_INT, CONVOLUTION(filters), .min = 1, .max = MAX_FILTERS,                 \
     .required = true},                                                                        \
    {"kernel", KIND, CONVOLUTION(window.kernel), .min = 1, .max = MAX_WINDOW,                  \
     .required = true},                                                                        \
    {"stride", KIND, CONVOLUTION(window.stride), .initial = 1, .min = 1, .max = MAX_WINDOW},   \
    {"dilation", KIND, CONVOLUTION(window.dilation), .initial = 1, .min = 1,                   \
     .max = MAX_WINDOW},                                                                       \
    {"groups", FIELD_INT, CONVOLUTION(groups), .initial = 1, .min = 1, .max = MAX_FILTERS},    \
    {"padding", FIELD_JSON, CONVOLUTION(padding), .required = false},                          \
    {"use_bias", FIELD_BOOL, CONVOLUTION(use_bias), .initial = true},                          \
    {"initializer", FIELD_CHOICE, CONVOLUTION(initializer), .initial = -1,                     \
     .choices = INITIALIZER_CHOICES},                                                          \
    ACTIVATION_FIELDS(struct convolution),                                                     \
    {0}

static const struct field conv1d_fields[] = {CONVOLUTION_FIELDS(FIELD_INT)};
static const struct field conv2d_fields[] = {CONVOLUTION_FIELDS(FIELD_INT_OR_PAIR)};

/* W [filters, C / groups, kernel...] */
static int lower_convolution(struct layer_builder *builder, const char *type, int n_axes,
                             const struct convolution *settings, int input,
                             struct nn_error *error)
{
    const struct nn_shape x = *builder_shape(builder, input);
    struct shape_text text;
    if (x.rank != n_axes + 2)
        return builder_fail(
            builder, error, NULL, "%s needs an input [-1, channels, %s], got %s", type,
            n_axes == 1 ? "length" : "height, width", builder_print(builder, input, &text));
    int64_t channels = x.dims[1], filters = settings->filters, groups = settings->groups;
    if (channels % groups != 0 || filters % groups != 0)
        return builder_fail(builder, error, "groups", "%lld does not divide %lld channels and "
                            "%lld filters", (long long)groups, (long long)channels,
                            (long long)filters);
    struct window window = settings->window;
    if (place_window(builder, &window, n_axes, settings->padding, x.dims + 2, error) != 0)
        return -1;

    struct nn_shape shape = {n_axes + 2, {filters, channels / groups, window.kernel[0]}};
    if (n_axes == 2)
        shape.dims[3] = window.kernel[1];
    int64_t taps = shape_product(&shape, 2, shape.rank);
    int operands[3] = {input};
    operands[1] = builder_weight(builder, &shape, settings->initializer,
                                 channels / groups * taps, filters / groups * taps, error);
    if (operands[1] < 0)
        return -1;
    if (settings->use_bias && (operands[2] = builder_bias(builder, filters, error)) < 0)
        return -1;
    struct node_attribute attributes[] = {
        INTS_ATTRIBUTE("kernel_shape", window.kernel, n_axes),
        INTS_ATTRIBUTE("strides", window.stride, n_axes),
        INTS_ATTRIBUTE("dilations", window.dilation, n_axes),
        INTS_ATTRIBUTE("pads", window.pads, 2 * n_axes),
        INT_ATTRIBUTE("group", groups),
        {0},
    };
    return builder_activated(builder, "Conv", attributes, settings->use_bias ? 3 : 2, operands,
                             &settings->activation, error);
}

static int lower_conv1d(struct layer_builder *builder, const void *settings, int n_inputs,
                        const int *inputs, struct nn_error *error)
{
    (void)n_inputs;
    return lower_convolution(builder, "conv1d", 1, settings, inputs[0], error);
}

static int lower_conv2d(struct layer_builder *builder, const void *settings, int n_inputs,
                        const int *inputs, struct nn_error *error)
{
    (void)n_inputs;
    return lower_convolution(builder, "conv2d", 2, settings, inputs[0], error);
}

LAYER_TYPE(conv1d, 1, 1, struct convolution)
LAYER_TYPE(conv2d, 1, 1, struct convolution)

/* ---- pools ------------------------------------------------------------------------------- */

struct pool {
    struct window window;
    const json_t *padding;
};

/* stride 0: not given, the kernel's */
#define POOL_FIELDS                                                                            \
    {"kernel", FIELD_INT_OR_PAIR, offsetof(struct pool, window.kernel), .min = 1,              \
     .max = MAX_WINDOW, .required = true},                                                     \
    {"stride", FIELD_INT_OR_PAIR, offsetof(struct pool, window.stride), .initial = 0,          \
     .min = 1, .max = MAX_WINDOW},                                                             \
    {"padding", FIELD_JSON, offsetof(struct pool, padding), .required = false},                \
    {0}

static const struct field max_pool_fields[] = {POOL_FIELDS};
static const struct field average_pool_fields[] = {POOL_FIELDS};

static int lower_pool(struct layer_builder *builder, const char *op,
                      const struct pool *settings, int input, struct nn_error *error)
{
    const struct nn_shape x = *builder_shape(builder, input);
    struct shape_text text;
    if (x.rank != 3 && x.rank != 4)
        return builder_fail(builder, error, NULL, "needs an input [-1, channels, length] or "
                            "[-1, channels, height, width], got %s",
                            builder_print(builder, input, &text));
    int n_axes = x.rank - 2;
    struct window window = settings->window;
    for (int i = 0; i < 2; i++) {
        window.dilation[i] = 1;
        if (window.stride[i] == 0)
            window.stride[i] = window.kernel[i];
    }
    if (n_axes == 1 && (window.kernel[0] != window.kernel[1] ||
                        window.stride[0] != window.stride[1]))
        return builder_fail(builder, error, NULL,
                            "a pair needs an input [-1, channels, height, width], got %s",
                            builder_print(builder, input, &text));
    if (place_window(builder, &window, n_axes, settings->padding, x.dims + 2, error) != 0)
        return -1;
    for (int i = 0; i < n_axes; i++)
        if (window.pads[i] >= window.kernel[i])
            return builder_fail(builder, error, "padding",
                                "%lld is not smaller than the kernel %lld",
                                (long long)window.pads[i], (long long)window.kernel[i]);
    struct node_attribute attributes[] = {
        INTS_ATTRIBUTE("kernel_shape", window.kernel, n_axes),
        INTS_ATTRIBUTE("strides", window.stride, n_axes),
        INTS_ATTRIBUTE("pads", window.pads, 2 * n_axes),
        {0},
    };
    return builder_node(builder, op, NULL, attributes, 1, &input, error);
}

static int lower_max_pool(struct layer_builder *builder, const void *settings, int n_inputs,
                          const int *inputs, struct nn_error *error)
{
    (void)n_inputs;
    return lower_pool(builder, "MaxPool", settings, inputs[0], error);
}

static int lower_average_pool(struct layer_builder *builder, const void *settings, int n_inputs,
                              const int *inputs, struct nn_error *error)
{
    (void)n_inputs;
    return lower_pool(builder, "AveragePool", settings, inputs[0], error);
}

LAYER_TYPE(max_pool, 1, 1, struct pool)
LAYER_TYPE(average_pool, 1, 1, struct pool)

struct global_average_pool {
    char nothing;
};

static const struct field global_average_pool_fields[] = {{0}};

/* [N, C, ...] to [N, C, 1...] to [N, C] */
static int lower_global_average_pool(struct layer_builder *builder, const void *settings,
                                     int n_inputs, const int *inputs, struct nn_error *error)
{
    (void)settings, (void)n_inputs;
    struct shape_text text;
    int rank = builder_shape(builder, inputs[0])->rank;
    if (rank < 3)
        return builder_fail(builder, error, NULL, "needs an input [-1, channels, ...], got %s",
                            builder_print(builder, inputs[0], &text));
    int pooled = builder_node(builder, "GlobalAveragePool", "pooled", NULL, 1, inputs, error);
    return pooled < 0 ? -1 : builder_node(builder, "Flatten", NULL, NULL, 1, &pooled, error);
}

LAYER_TYPE(global_average_pool, 1, 1, struct global_average_pool)
