/*
 * The network that is being built: what the layers' code adds nodes and parameters to.
 *
 * Lowering a layer appends operations to the graph, and infers each as it is added, so that
 * shapes are known at once and an error has the layer's JSON path. Shapes are inferred for
 * BUILDER_BATCH rows; axis 0 is the batch.
 */
#ifndef LAYERS_BUILDER_H
#define LAYERS_BUILDER_H

#include "trainer/fields.h"
#include "trainer/layers.h"

enum { BUILDER_BATCH = 2 };

struct layer_builder {
    struct network *network;
    struct op_value *types;     /* of the graph's values so far */
    char path[32];              /* of the layer: "layers[2]" */
    const char *name;
    int *undecided;             /* parameters whose initialiser depends on what follows */
    int n_undecided;
};

void builder_release(struct layer_builder *builder);

/* Makes the type of a value that was just added known to the functions below. */
int builder_learn(struct layer_builder *builder, int value, struct nn_error *error);

/* "layers[2].KEY: ..."; key NULL: "layers[2]: ...". Returns -1. */
int builder_fail(const struct layer_builder *builder, struct nn_error *error, const char *key,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Of a value that was added before. */
const struct nn_shape *builder_shape(const struct layer_builder *builder, int value);

/* The same as a text, with -1 for the batch. */
const char *builder_print(const struct layer_builder *builder, int value,
                          struct shape_text *text);

/* A parameter "<layer>.<suffix>" of that shape; its value, or -1. */
int builder_parameter(struct layer_builder *builder, const char *suffix,
                      enum parameter_kind kind, const struct nn_shape *shape,
                      const struct initializer *initializer, struct nn_error *error);

/* Constants "<layer>.<suffix>" of the graph; their value, or -1. */
int builder_reals(struct layer_builder *builder, const char *suffix,
                  const struct nn_shape *shape, const double *elements,
                  struct nn_error *error);
int builder_ints(struct layer_builder *builder, const char *suffix, int n,
                 const int64_t *elements, struct nn_error *error);

/* Attributes of a node by name, ended by {0}. */
struct node_attribute {
    const char *name;
    enum op_attribute_kind kind;
    int64_t integer;
    double real;
    const int64_t *integers;
    int n;
};
#define INT_ATTRIBUTE(name, value) {(name), OP_INT, .integer = (value)}
#define FLOAT_ATTRIBUTE(name, value) {(name), OP_FLOAT, .real = (value)}
#define INTS_ATTRIBUTE(name, values, count) \
    {(name), OP_INTS, .integers = (values), .n = (count)}

/* A node whose output is "<layer>.<suffix>", or the layer's own name for suffix NULL; its
 * value, or -1. attributes NULL: all at their defaults. */
int builder_node(struct layer_builder *builder, const char *op, const char *suffix,
                 const struct node_attribute *attributes, int n_inputs, const int *inputs,
                 struct nn_error *error);

/* "activation" and "slope" of a layer. */
struct activation {
    int kind;                   /* an index into activation_names */
    double slope;               /* -1: not given */
};
extern const char *const activation_names[];

#define ACTIVATION_FIELDS(type)                                                                \
    {"activation", FIELD_CHOICE, offsetof(type, activation.kind), .choices = activation_names},\
    {"slope", FIELD_REAL, offsetof(type, activation.slope), .initial = -1, .min = 0, .max = 1}

/* The activation alone, under the layer's name. */
int builder_activation(struct layer_builder *builder, int input,
                       const struct activation *activation, struct nn_error *error);

/* The layer's main operation and its activation: without one the operation's output has the
 * layer's name, else "<layer>.linear". */
int builder_activated(struct layer_builder *builder, const char *op,
                      const struct node_attribute *attributes, int n_inputs,
                      const int *inputs, const struct activation *activation,
                      struct nn_error *error);

/* "<layer>.weight" and "<layer>.bias": initializer is an index into INITIALIZER_CHOICES,
 * or -1 for He before a rectifier and Glorot elsewhere. */
#define INITIALIZER_CHOICES (initializer_names + 1)
int builder_weight(struct layer_builder *builder, const struct nn_shape *shape,
                   int initializer, int64_t fan_in, int64_t fan_out, struct nn_error *error);
int builder_bias(struct layer_builder *builder, int64_t n, struct nn_error *error);

/* Once all layers are there: the initialisers that were left open. */
void builder_decide_initializers(struct layer_builder *builder);

/* Defines layer_<name> from <name>_fields and lower_<name>, for the list of layers.c. */
#define LAYER_TYPE(name, min_inputs, max_inputs, settings)                                     \
    extern const struct layer_type layer_##name;                                               \
    const struct layer_type layer_##name = {#name, min_inputs, max_inputs, sizeof(settings),   \
                                            name##_fields, lower_##name};

#endif
