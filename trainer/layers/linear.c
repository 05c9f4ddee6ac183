#include "trainer/layers/builder.h"

struct dense {
    int64_t units;
    bool use_bias;
    int initializer;
    struct activation activation;
};

static const struct field dense_fields[] = {
    {"units", FIELD_INT, offsetof(struct dense, units), .min = 1, .max = 1 << 20,
     .required = true},
    {"use_bias", FIELD_BOOL, offsetof(struct dense, use_bias), .initial = true},
    {"initializer", FIELD_CHOICE, offsetof(struct dense, initializer), .initial = -1,
     .choices = INITIALIZER_CHOICES},
    ACTIVATION_FIELDS(struct dense),
    {0},
};

/* y = x W' + b, W [units, features] */
static int lower_dense(struct layer_builder *builder, const void *settings, int n_inputs,
                       const int *inputs, struct nn_error *error)
{
    const struct dense *dense = settings;
    (void)n_inputs;
    const struct nn_shape *x = builder_shape(builder, inputs[0]);
    struct shape_text text;
    if (x->rank != 2)
        return builder_fail(builder, error, NULL,
                            "dense needs an input [-1, features], got %s; put a flatten layer "
                            "before it",
                            builder_print(builder, inputs[0], &text));
    int64_t features = x->dims[1];
    struct nn_shape shape = {2, {dense->units, features}};
    int operands[3] = {inputs[0]};
    operands[1] = builder_weight(builder, &shape, dense->initializer, features, dense->units,
                                 error);
    if (operands[1] < 0)
        return -1;
    if (dense->use_bias && (operands[2] = builder_bias(builder, dense->units, error)) < 0)
        return -1;
    struct node_attribute attributes[] = {INT_ATTRIBUTE("transB", 1), {0}};
    return builder_activated(builder, "Gemm", attributes, dense->use_bias ? 3 : 2, operands,
                             &dense->activation, error);
}

LAYER_TYPE(dense, 1, 1, struct dense)
