/*
 * The graph that is served: what was trained, without what only training needs, and with the
 * activation that the loss has built in.
 */
#include <stdlib.h>
#include <string.h>

#include "trainer/network.h"

struct publication {
    const struct network *network;
    const nn_real *weights;
    struct graph *graph;
    int *values;                /* by value of the network's graph: its counterpart, or -1 */
};

static int add_inputs(struct publication *publication, struct nn_error *error)
{
    const struct graph *from = publication->network->graph;
    for (int i = 0; i < from->n_inputs; i++) {
        const struct graph_value *v = &from->values[from->inputs[i]];
        int value = graph_add_input(publication->graph, v->name, v->type.datatype, &v->declared,
                                    error);
        if (value < 0)
            return -1;
        publication->values[from->inputs[i]] = value;
    }
    return 0;
}

/* The elements of a constant in what is published. */
static const void *elements_of(struct publication *publication, int value,
                               struct nn_error *error)
{
    const struct network *network = publication->network;
    for (int i = 0; i < network->n_parameters; i++)
        if (network->parameters[i].value == value)
            return publication->weights + network->parameters[i].offset;
    const struct op_value *type = &network->graph->values[value].type;
    size_t bytes = (size_t)tensor_bytes(type->datatype, &type->shape);
    void *copy = graph_allocate(publication->graph, bytes);
    if (!copy)
        nn_fail(error, "out of memory");
    return copy ? memcpy(copy, type->constant, bytes) : NULL;
}

/* The counterpart of a node's input: constants are added where they are first used, so that
 * those of a node that is left out are left out too. */
static int counterpart(struct publication *publication, int value, struct nn_error *error)
{
    if (value == GRAPH_NONE || publication->values[value] >= 0)
        return value == GRAPH_NONE ? GRAPH_NONE : publication->values[value];
    const struct graph_value *v = &publication->network->graph->values[value];
    const void *elements = elements_of(publication, value, error);
    if (!elements)
        return -2;
    /* a graph only reads its constants */
    struct nn_tensor tensor = {v->type.datatype, v->type.shape, (void *)elements};
    int copy = graph_add_constant(publication->graph, v->name, &tensor, error);
    publication->values[value] = copy;
    return copy < 0 ? -2 : copy;
}

static int add_node(struct publication *publication, const struct graph_node *node,
                    struct nn_error *error)
{
    int *values = publication->values;
    if (strcmp(node->op->name, "Dropout") == 0) {
        values[node->outputs[0]] = values[node->inputs[0]];
        return 0;
    }
    int *inputs = calloc((size_t)node->n_inputs + 1, sizeof *inputs);
    if (!inputs)
        return nn_fail(error, "out of memory");
    int status = 0;
    for (int i = 0; i < node->n_inputs && status == 0; i++) {
        inputs[i] = counterpart(publication, node->inputs[i], error);
        status = inputs[i] == -2 ? -1 : 0;
    }
    int value = status != 0 ? -1
                            : graph_add_node(publication->graph, node->op, node->attributes,
                                             node->name, node->n_inputs, inputs, error);
    free(inputs);
    if (value < 0)
        return -1;
    values[node->outputs[0]] = value;
    return 0;
}

/* Identity gives the output its name where the loss has no activation; the engine drops it
 * when it opens the model. */
static int add_output(struct publication *publication, enum loss_kind loss,
                      struct nn_error *error)
{
    static const struct {
        const char *op, *name;
    } ends[] = {
        [LOSS_SOFTMAX_CROSS_ENTROPY] = {"Softmax", "probabilities"},
        [LOSS_SIGMOID_CROSS_ENTROPY] = {"Sigmoid", "probabilities"},
        [LOSS_MEAN_SQUARED_ERROR] = {"Identity", "predictions"},
    };
    int logits = publication->values[publication->network->output];
    int value = graph_add_node(publication->graph, op_find(ends[loss].op), NULL,
                               ends[loss].name, 1, &logits, error);
    if (value < 0 || graph_add_output(publication->graph, value, error) < 0)
        return -1;
    return graph_infer(publication->graph, 1, error);
}

static int publish(struct publication *publication, const struct recipe *recipe,
                   struct nn_error *error)
{
    const struct graph *from = publication->network->graph;
    for (int i = 0; i < from->n_values; i++)
        publication->values[i] = -1;
    if (add_inputs(publication, error) != 0)
        return -1;
    for (int i = 0; i < from->n_nodes; i++)
        if (add_node(publication, &from->nodes[i], error) != 0)
            return -1;
    return add_output(publication, recipe->loss, error);
}

struct graph *network_publication(const struct network *network, const struct recipe *recipe,
                                  const nn_real *weights, struct nn_error *error)
{
    struct publication publication = {.network = network, .weights = weights,
                                      .graph = graph_new()};
    publication.values = calloc((size_t)network->graph->n_values, sizeof *publication.values);
    int status = publication.graph && publication.values
                     ? publish(&publication, recipe, error)
                     : nn_fail(error, "out of memory");
    free(publication.values);
    if (status == 0)
        return publication.graph;
    graph_free(publication.graph);
    return NULL;
}
