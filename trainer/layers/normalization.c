/*
 * Layers that behave differently while they are trained, and activations.
 */
#include "trainer/layers/builder.h"

/* ---- batch_norm -------------------------------------------------------------------------- */

struct batch_norm {
    double momentum, epsilon;
    struct activation activation;
};

static const struct field batch_norm_fields[] = {
    {"momentum", FIELD_REAL, offsetof(struct batch_norm, momentum), .initial = 0.9, .min = 0,
     .max = 1, .max_open = true},
    {"epsilon", FIELD_REAL, offsetof(struct batch_norm, epsilon), .initial = 1e-5, .min = 0,
     .max = 1, .min_open = true},
    ACTIVATION_FIELDS(struct batch_norm),
    {0},
};

static int lower_batch_norm(struct layer_builder *builder, const void *settings, int n_inputs,
                            const int *inputs, struct nn_error *error)
{
    const struct batch_norm *norm = settings;
    (void)n_inputs;
    const struct nn_shape *x = builder_shape(builder, inputs[0]);
    struct shape_text text;
    if (x->rank < 2)
        return builder_fail(builder, error, NULL, "needs an input [-1, channels, ...], got %s",
                            builder_print(builder, inputs[0], &text));
    static const struct {
        const char *suffix;
        enum parameter_kind kind;
        double initial;
    } rows[] = {
        {"weight", PARAMETER_BIAS, 1},          /* a scale: not decayed */
        {"bias", PARAMETER_BIAS, 0},
        {"running_mean", PARAMETER_STATISTIC, 0},
        {"running_var", PARAMETER_STATISTIC, 1},
    };
    struct nn_shape shape = {1, {x->dims[1]}};
    int operands[5] = {inputs[0]};
    for (int i = 0; i < 4; i++) {
        struct initializer initial = {.kind = INITIALIZER_CONSTANT, .value = rows[i].initial};
        operands[i + 1] = builder_parameter(builder, rows[i].suffix, rows[i].kind, &shape,
                                            &initial, error);
        if (operands[i + 1] < 0)
            return -1;
    }
    struct node_attribute attributes[] = {
        FLOAT_ATTRIBUTE("epsilon", norm->epsilon),
        FLOAT_ATTRIBUTE("momentum", norm->momentum),
        {0},
    };
    return builder_activated(builder, "BatchNormalization", attributes, 5, operands,
                             &norm->activation, error);
}

LAYER_TYPE(batch_norm, 1, 1, struct batch_norm)

/* ---- dropout ----------------------------------------------------------------------------- */

struct dropout {
    double rate;
};

static const struct field dropout_fields[] = {
    {"rate", FIELD_REAL, offsetof(struct dropout, rate), .initial = 0.5, .min = 0, .max = 1,
     .max_open = true},
    {0},
};

static int lower_dropout(struct layer_builder *builder, const void *settings, int n_inputs,
                         const int *inputs, struct nn_error *error)
{
    const struct dropout *dropout = settings;
    (void)n_inputs;
    struct nn_shape scalar = {0};
    int operands[2] = {inputs[0]};
    operands[1] = builder_reals(builder, "rate", &scalar, &dropout->rate, error);
    return operands[1] < 0 ? -1
                           : builder_node(builder, "Dropout", NULL, NULL, 2, operands, error);
}

LAYER_TYPE(dropout, 1, 1, struct dropout)

/* ---- activation -------------------------------------------------------------------------- */

struct activation_layer {
    struct activation activation;
};

static const struct field activation_fields[] = {
    {"activation", FIELD_CHOICE, offsetof(struct activation_layer, activation.kind),
     .choices = activation_names, .required = true},
    {"slope", FIELD_REAL, offsetof(struct activation_layer, activation.slope), .initial = -1,
     .min = 0, .max = 1},
    {0},
};

static int lower_activation(struct layer_builder *builder, const void *settings, int n_inputs,
                            const int *inputs, struct nn_error *error)
{
    const struct activation_layer *layer = settings;
    (void)n_inputs;
    return builder_activation(builder, inputs[0], &layer->activation, error);
}

LAYER_TYPE(activation, 1, 1, struct activation_layer)
