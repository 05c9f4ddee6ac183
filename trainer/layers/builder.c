#include "trainer/layers/builder.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* errors and shapes */

int builder_fail(const struct layer_builder *builder, struct nn_error *error, const char *key,
                 const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return nn_fail(error, "%s%s%s: %s", builder->path, key ? "." : "", key ? key : "", text);
}

static int no_memory(struct nn_error *error)
{
    return nn_fail(error, "out of memory");
}

const struct nn_shape *builder_shape(const struct layer_builder *builder, int value)
{
    return &builder->types[value].shape;
}

const char *builder_print(const struct layer_builder *builder, int value,
                          struct shape_text *text)
{
    struct nn_shape shape = builder->types[value].shape;
    if (builder->types[value].batch >= 0)
        shape.dims[builder->types[value].batch] = -1;
    return shape_print(&shape, text);
}

void builder_release(struct layer_builder *builder)
{
    free(builder->types);
    free(builder->undecided);
}

/* Room in an array of n elements for one more; the capacity is the next power of two. */
static void *room_for_one(void *array, int n, size_t size)
{
    if (n > 0 && (n & (n - 1)) != 0)
        return array;
    return reallocarray(array, n ? 2 * (size_t)n : 1, size);
}

/* Values are learned in the order of their numbers, each once. */
int builder_learn(struct layer_builder *builder, int value, struct nn_error *error)
{
    struct op_value *types = room_for_one(builder->types, value, sizeof *types);
    if (!types)
        return no_memory(error);
    builder->types = types;
    const struct graph *graph = builder->network->graph;
    const struct graph_value *v = &graph->values[value];
    types[value] = v->type;
    if (v->is_input) {
        types[value].shape = v->declared;
        types[value].shape.dims[0] = BUILDER_BATCH;
        types[value].batch = 0;
    }
    if (v->producer < 0)
        return 0;
    struct op_inference result;
    return graph_infer_node(graph, v->producer, BUILDER_BATCH, types, &result, &types[value],
                            error);
}

/* parameters and constants */

enum { NAME_SIZE = 128 };       /* field_check_name() allows 64, suffixes are ours */

static const char *full_name(const struct layer_builder *builder, const char *suffix,
                             char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "%s%s%s", builder->name, suffix ? "." : "", suffix ? suffix : "");
    return name;
}

static int add_constant(struct layer_builder *builder, const char *suffix,
                        const struct nn_tensor *tensor, struct nn_error *error)
{
    char name[NAME_SIZE];
    int value = graph_add_constant(builder->network->graph,
                                   full_name(builder, suffix, name), tensor, error);
    if (value < 0)
        return nn_fail_in(error, "%s", builder->path);
    return builder_learn(builder, value, error) == 0 ? value : -1;
}

int builder_parameter(struct layer_builder *builder, const char *suffix,
                      enum parameter_kind kind, const struct nn_shape *shape,
                      const struct initializer *initializer, struct nn_error *error)
{
    /* The elements get their place when all parameters are known; until then a graph wants
     * an address that is not NULL. */
    static nn_real placeholder;
    struct network *network = builder->network;
    struct parameter *parameters =
        room_for_one(network->parameters, network->n_parameters, sizeof *parameters);
    if (!parameters)
        return no_memory(error);
    network->parameters = parameters;

    int64_t size = shape_elements(shape);
    int64_t total = network->n_weights;
    if (size < 0 || __builtin_add_overflow(total, size, &total) || total > NETWORK_MAX_WEIGHTS)
        return builder_fail(builder, error, NULL, "more than %lld parameters",
                            (long long)NETWORK_MAX_WEIGHTS);
    struct nn_tensor tensor = {NN_FP32, *shape, &placeholder};
    int value = add_constant(builder, suffix, &tensor, error);
    if (value < 0)
        return -1;
    network->n_weights = total;
    parameters[network->n_parameters++] = (struct parameter){
        .value = value, .kind = kind, .size = size, .initializer = *initializer};
    return value;
}

int builder_reals(struct layer_builder *builder, const char *suffix,
                  const struct nn_shape *shape, const double *elements, struct nn_error *error)
{
    int64_t n = shape_elements(shape);
    nn_real *data = graph_allocate(builder->network->graph, (size_t)n * sizeof *data);
    if (!data)
        return no_memory(error);
    for (int64_t i = 0; i < n; i++)
        data[i] = (nn_real)elements[i];
    struct nn_tensor tensor = {NN_FP32, *shape, data};
    return add_constant(builder, suffix, &tensor, error);
}

int builder_ints(struct layer_builder *builder, const char *suffix, int n,
                 const int64_t *elements, struct nn_error *error)
{
    int64_t *data = graph_allocate(builder->network->graph, (size_t)n * sizeof *data);
    if (!data)
        return no_memory(error);
    memcpy(data, elements, (size_t)n * sizeof *data);
    struct nn_tensor tensor = {NN_INT64, {1, {n}}, data};
    return add_constant(builder, suffix, &tensor, error);
}

int builder_weight(struct layer_builder *builder, const struct nn_shape *shape,
                   int initializer, int64_t fan_in, int64_t fan_out, struct nn_error *error)
{
    struct initializer how = {.kind = INITIALIZER_GLOROT_UNIFORM, .fan_in = fan_in,
                              .fan_out = fan_out};
    if (initializer >= 0)
        how.kind = (enum initializer_kind)(initializer + 1);
    int value = builder_parameter(builder, "weight", PARAMETER_WEIGHT, shape, &how, error);
    if (value < 0 || initializer >= 0)
        return value;
    int *undecided = room_for_one(builder->undecided, builder->n_undecided, sizeof *undecided);
    if (!undecided)
        return no_memory(error);
    builder->undecided = undecided;
    undecided[builder->n_undecided++] = builder->network->n_parameters - 1;
    return value;
}

int builder_bias(struct layer_builder *builder, int64_t n, struct nn_error *error)
{
    struct initializer zero = {.kind = INITIALIZER_CONSTANT, .value = 0};
    struct nn_shape shape = {1, {n}};
    return builder_parameter(builder, "bias", PARAMETER_BIAS, &shape, &zero, error);
}

/* nodes */

static int set_attributes(const struct op *op, void *block,
                          const struct node_attribute *attributes, struct nn_error *error)
{
    op_attributes_init(op, block);
    for (const struct node_attribute *a = attributes; a && a->name; a++) {
        int status = a->kind == OP_INT ? op_set_int(op, block, a->name, a->integer, error)
                   : a->kind == OP_FLOAT ? op_set_float(op, block, a->name, a->real, error)
                   : op_set_ints(op, block, a->name, a->integers, a->n, error);
        if (status != 0)
            return -1;
    }
    return 0;
}

int builder_node(struct layer_builder *builder, const char *op_name, const char *suffix,
                 const struct node_attribute *attributes, int n_inputs, const int *inputs,
                 struct nn_error *error)
{
    const struct op *op = op_find(op_name);
    if (!op)
        return builder_fail(builder, error, NULL, "the engine has no operation %s", op_name);
    void *block = calloc(1, op->attributes_size + 1);
    if (!block)
        return no_memory(error);
    char name[NAME_SIZE];
    int value = -1;
    if (set_attributes(op, block, attributes, error) == 0)
        value = graph_add_node(builder->network->graph, op, block,
                               full_name(builder, suffix, name), n_inputs, inputs, error);
    free(block);
    if (value < 0 || builder_learn(builder, value, error) != 0)
        return nn_fail_in(error, "%s", builder->path);
    return value;
}

/* activations */

const char *const activation_names[] = {"linear", "relu", "leaky_relu", "sigmoid", "tanh",
                                        "softmax", "log_softmax", NULL};

static const char *const activation_ops[] = {"Identity", "Relu", "LeakyRelu", "Sigmoid", "Tanh",
                                             "Softmax", "LogSoftmax"};

enum { LINEAR, RELU, LEAKY_RELU, SIGMOID, TANH, SOFTMAX, LOG_SOFTMAX };

int builder_activation(struct layer_builder *builder, int input,
                       const struct activation *activation, struct nn_error *error)
{
    int kind = activation->kind;
    if (activation->slope >= 0 && kind != LEAKY_RELU)
        return builder_fail(builder, error, "slope", "only leaky_relu has one");
    struct node_attribute attributes[2] = {{0}};
    if (kind == LEAKY_RELU)
        attributes[0] = (struct node_attribute)FLOAT_ATTRIBUTE(
            "alpha", activation->slope < 0 ? 0.01 : activation->slope);
    if (kind == SOFTMAX || kind == LOG_SOFTMAX)             /* over the channels */
        attributes[0] = (struct node_attribute)INT_ATTRIBUTE("axis", 1);
    return builder_node(builder, activation_ops[kind], NULL, attributes, 1, &input, error);
}

int builder_activated(struct layer_builder *builder, const char *op,
                      const struct node_attribute *attributes, int n_inputs,
                      const int *inputs, const struct activation *activation,
                      struct nn_error *error)
{
    bool linear = activation->kind == LINEAR && activation->slope < 0;
    int value = builder_node(builder, op, linear ? NULL : "linear", attributes, n_inputs,
                             inputs, error);
    if (value < 0 || linear)
        return value;
    return builder_activation(builder, value, activation, error);
}

/* initialisers that depend on what follows */

/* The first node after `node` (-1: from the start) that reads the value, or -1. */
static int reader_of(const struct graph *graph, int value, int node)
{
    for (int i = node + 1; i < graph->n_nodes; i++)
        for (int j = 0; j < graph->nodes[i].n_inputs; j++)
            if (graph->nodes[i].inputs[j] == value)
                return i;
    return -1;
}

/* He et al. derive their variance for what a rectifier halves; what lies between a weight
 * and its rectifier (normalisation, a shortcut, pooling) does not change that. */
static bool feeds_rectifier(const struct graph *graph, int weight)
{
    static const char *const between[] = {"BatchNormalization", "Add", "Dropout", "MaxPool",
                                          "AveragePool", "Flatten", "Identity"};
    int node = reader_of(graph, weight, -1);
    while (node >= 0) {
        node = reader_of(graph, graph->nodes[node].outputs[0], node);
        if (node < 0)
            return false;
        const char *op = graph->nodes[node].op->name;
        if (strcmp(op, "Relu") == 0 || strcmp(op, "LeakyRelu") == 0)
            return true;
        size_t i = 0, n = sizeof between / sizeof *between;
        while (i < n && strcmp(op, between[i]) != 0)
            i++;
        if (i == n)
            return false;
    }
    return false;
}

void builder_decide_initializers(struct layer_builder *builder)
{
    struct network *network = builder->network;
    for (int i = 0; i < builder->n_undecided; i++) {
        struct parameter *parameter = &network->parameters[builder->undecided[i]];
        if (feeds_rectifier(network->graph, parameter->value))
            parameter->initializer.kind = INITIALIZER_HE_NORMAL;
    }
}
