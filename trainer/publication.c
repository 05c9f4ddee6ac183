/*
 * The graph that is served: what was trained, without what only training needs, and with the
 * activation that the loss has built in.
 */
#include <stdlib.h>
#include <string.h>

#include "trainer/network.h"

struct graph_copy {
    const struct network *network;
    const nn_real *weights;
    struct graph *graph;
    int *values;                /* by value of the network's graph: its counterpart, or -1 */
};

static int add_inputs(struct graph_copy *copy, struct nn_error *error)
{
    const struct graph *from = copy->network->graph;
    for (int i = 0; i < from->n_inputs; i++) {
        const struct graph_value *v = &from->values[from->inputs[i]];
        int value =
            graph_add_input(copy->graph, v->name, v->type.datatype, &v->declared, error);
        if (value < 0)
            return -1;
        copy->values[from->inputs[i]] = value;
    }
    return 0;
}

/* The elements of a constant in what is published. */
static const void *elements_of(struct graph_copy *copy, int value, struct nn_error *error)
{
    const struct network *network = copy->network;
    for (int i = 0; i < network->n_parameters; i++)
        if (network->parameters[i].value == value)
            return copy->weights + network->parameters[i].offset;
    const struct op_value *type = &network->graph->values[value].type;
    size_t bytes = (size_t)tensor_bytes(type->datatype, &type->shape);
    void *elements = graph_allocate(copy->graph, bytes);
    if (!elements)
        nn_fail(error, "out of memory");
    return elements ? memcpy(elements, type->constant, bytes) : NULL;
}

/* The counterpart of a node's input: constants are added where they are first used, so that
 * those of a node that is left out are left out too. */
static int counterpart(struct graph_copy *copy, int value, struct nn_error *error)
{
    if (value == GRAPH_NONE || copy->values[value] >= 0)
        return value == GRAPH_NONE ? GRAPH_NONE : copy->values[value];
    const struct graph_value *v = &copy->network->graph->values[value];
    const void *elements = elements_of(copy, value, error);
    if (!elements)
        return -2;
    /* A graph only reads its constants. */
    struct nn_tensor tensor = {v->type.datatype, v->type.shape, (void *)elements};
    int added = graph_add_constant(copy->graph, v->name, &tensor, error);
    copy->values[value] = added;
    return added < 0 ? -2 : added;
}

static int add_node(struct graph_copy *copy, const struct graph_node *node,
                    struct nn_error *error)
{
    int *values = copy->values;
    if (strcmp(node->op->name, "Dropout") == 0) {
        values[node->outputs[0]] = values[node->inputs[0]];
        return 0;
    }
    int *inputs = calloc((size_t)node->n_inputs + 1, sizeof *inputs);
    if (!inputs)
        return nn_fail(error, "out of memory");
    int status = 0;
    for (int i = 0; i < node->n_inputs && status == 0; i++) {
        inputs[i] = counterpart(copy, node->inputs[i], error);
        status = inputs[i] == -2 ? -1 : 0;
    }
    int value = status != 0 ? -1
                            : graph_add_node(copy->graph, node->op, node->attributes,
                                             node->name, node->n_inputs, inputs, error);
    free(inputs);
    if (value < 0)
        return -1;
    values[node->outputs[0]] = value;
    return 0;
}

/* Identity gives the output its name where the loss has no activation; the engine drops it
 * when it opens the model. */
static int add_output(struct graph_copy *copy, enum loss_kind loss, struct nn_error *error)
{
    static const struct {
        const char *op, *name;
    } ends[] = {
        [LOSS_SOFTMAX_CROSS_ENTROPY] = {"Softmax", "probabilities"},
        [LOSS_SIGMOID_CROSS_ENTROPY] = {"Sigmoid", "probabilities"},
        [LOSS_MEAN_SQUARED_ERROR] = {"Identity", "predictions"},
    };
    int logits = copy->values[copy->network->output];
    int value = graph_add_node(copy->graph, op_find(ends[loss].op), NULL,
                               ends[loss].name, 1, &logits, error);
    if (value < 0 || graph_add_output(copy->graph, value, error) < 0)
        return -1;
    return graph_infer(copy->graph, 1, error);
}

static int copy_graph(struct graph_copy *copy, enum loss_kind loss, struct nn_error *error)
{
    const struct graph *from = copy->network->graph;
    for (int i = 0; i < from->n_values; i++)
        copy->values[i] = -1;
    if (add_inputs(copy, error) != 0)
        return -1;
    for (int i = 0; i < from->n_nodes; i++)
        if (add_node(copy, &from->nodes[i], error) != 0)
            return -1;
    return add_output(copy, loss, error);
}

struct graph *network_publication(const struct network *network, const struct recipe *recipe,
                                  const nn_real *weights, struct nn_error *error)
{
    struct graph_copy copy = {.network = network, .weights = weights, .graph = graph_new()};
    copy.values = calloc((size_t)network->graph->n_values, sizeof *copy.values);
    int status = copy.graph && copy.values ? copy_graph(&copy, recipe->loss, error)
                                           : nn_fail(error, "out of memory");
    free(copy.values);
    if (status == 0)
        return copy.graph;
    graph_free(copy.graph);
    return NULL;
}
