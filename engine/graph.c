/*
 * Building graphs. A graph only ever grows at its end, so that its nodes are always in an
 * order in which they can run, and a cycle cannot be written.
 */
#include "engine/graph.h"

#include <stdlib.h>
#include <string.h>

/* memory and names */

/* Values by name: open addressing with linear probing, at most half full. */
struct name_slot {
    uint64_t hash;
    int value;                  /* -1: free */
};

struct graph_memory {
    void **blocks;
    size_t n_blocks, max_blocks;
    struct name_slot *slots;
    size_t n_slots;             /* a power of two, or 0 */
    int max_values, max_nodes, max_inputs, max_outputs;
};

struct graph *graph_new(void)
{
    struct graph *g = calloc(1, sizeof *g);
    struct graph_memory *memory = calloc(1, sizeof *memory);
    if (!g || !memory) {
        free(g);
        free(memory);
        return NULL;
    }
    g->memory = memory;
    return g;
}

void graph_free(struct graph *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->memory->n_blocks; i++)
        free(g->memory->blocks[i]);
    free(g->memory->blocks);
    free(g->memory->slots);
    free(g->memory);
    free(g->values);
    free(g->nodes);
    free(g->inputs);
    free(g->outputs);
    free(g);
}

/* Makes `block` the graph's; frees it where that fails. */
static void *keep(struct graph *g, void *block)
{
    struct graph_memory *m = g->memory;
    if (block && m->n_blocks == m->max_blocks) {
        size_t n = m->max_blocks ? 2 * m->max_blocks : 64;
        void **blocks = reallocarray(m->blocks, n, sizeof *blocks);
        if (!blocks) {
            free(block);
            return NULL;
        }
        m->blocks = blocks;
        m->max_blocks = n;
    }
    if (block)
        m->blocks[m->n_blocks++] = block;
    return block;
}

void *graph_allocate(struct graph *g, size_t bytes)
{
    return keep(g, tensor_allocate(bytes));
}

void graph_give_back(struct graph *g, const void *memory)
{
    struct graph_memory *m = g->memory;
    for (size_t i = m->n_blocks; i-- > 0;)
        if (m->blocks[i] == memory) {
            free(m->blocks[i]);
            m->blocks[i] = m->blocks[--m->n_blocks];
            return;
        }
}

/* Room for `n` elements in an array that has *max; 0 or -1. */
static int grow(void *array, int n, int *max, size_t size)
{
    if (n <= *max)
        return 0;
    int wanted = *max ? *max : 16;
    while (wanted < n)
        if (__builtin_mul_overflow(wanted, 2, &wanted))
            return -1;
    void *old, *new;
    memcpy(&old, array, sizeof old);
    new = reallocarray(old, (size_t)wanted, size);
    if (!new)
        return -1;
    memcpy(array, &new, sizeof new);
    *max = wanted;
    return 0;
}

/* FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint64_t hash_name(const char *name)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return hash;
}

/* The slot of that name, or the free one where it belongs. */
static struct name_slot *find_slot(const struct graph *g, const char *name, uint64_t hash)
{
    size_t mask = g->memory->n_slots - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct name_slot *slot = &g->memory->slots[i];
        if (slot->value < 0 ||
            (slot->hash == hash && strcmp(g->values[slot->value].name, name) == 0))
            return slot;
    }
}

int graph_find(const struct graph *g, const char *name)
{
    return g->memory->n_slots ? find_slot(g, name, hash_name(name))->value : -1;
}

static int grow_names(struct graph *g, int n_values)
{
    struct graph_memory *m = g->memory;
    size_t n = m->n_slots ? m->n_slots : 64;
    while (n < 2 * (size_t)n_values)
        n *= 2;
    if (n == m->n_slots)
        return 0;
    struct name_slot *slots = calloc(n, sizeof *slots);
    if (!slots)
        return -1;
    for (size_t i = 0; i < n; i++)
        slots[i].value = -1;
    for (size_t i = 0; i < m->n_slots; i++) {
        if (m->slots[i].value < 0)
            continue;
        size_t at = m->slots[i].hash & (n - 1);
        while (slots[at].value >= 0)
            at = (at + 1) & (n - 1);
        slots[at] = m->slots[i];
    }
    free(m->slots);
    m->slots = slots;
    m->n_slots = n;
    return 0;
}

/* Room for n more values, so that adding them cannot fail. */
static int reserve_values(struct graph *g, int n)
{
    if (grow(&g->values, g->n_values + n, &g->memory->max_values, sizeof *g->values) != 0)
        return -1;
    return grow_names(g, g->n_values + n);
}

static int no_memory(struct nn_error *error)
{
    return nn_fail(error, "out of memory");
}

/* Takes the room that reserve_values() made; `name` is the graph's already. */
static int append_value(struct graph *g, const char *name, int producer)
{
    int value = g->n_values++;
    g->values[value] = (struct graph_value){
        .name = name, .producer = producer, .type.batch = BATCH_NONE};
    uint64_t hash = hash_name(name);
    *find_slot(g, name, hash) = (struct name_slot){hash, value};
    return value;
}

static int check_name(const struct graph *g, const char *name, struct nn_error *error)
{
    if (!name || !name[0])
        return nn_fail(error, "a value has no name");
    if (graph_find(g, name) >= 0)
        return nn_fail(error, "\"%s\" is there already", name);
    return 0;
}

/* inputs, constants, outputs */

int graph_add_input(struct graph *g, const char *name, enum nn_datatype datatype,
                    const struct nn_shape *shape, struct nn_error *error)
{
    if (check_name(g, name, error) != 0)
        return -1;
    struct shape_text text;
    if (shape->rank < 0 || shape->rank > NN_MAX_RANK)
        return nn_fail(error, "input \"%s\": rank %d is not 0 to %d", name, shape->rank,
                       (int)NN_MAX_RANK);
    struct nn_shape row = *shape;
    if (row.rank > 0 && row.dims[0] == -1)
        row.dims[0] = 1;
    for (int i = 0; i < row.rank; i++)
        if (row.dims[i] < 1)
            return nn_fail(error, "input \"%s\": shape %s: only the first dimension may be -1, "
                           "and every other is positive", name, shape_print(shape, &text));
    int64_t bytes = tensor_bytes(datatype, &row);
    if (bytes < 0 || bytes > GRAPH_MAX_BYTES)
        return nn_fail(error, "input \"%s\": shape %s is too large", name,
                       shape_print(shape, &text));

    char *copy = NULL;
    if (reserve_values(g, 1) != 0 ||
        grow(&g->inputs, g->n_inputs + 1, &g->memory->max_inputs, sizeof *g->inputs) != 0 ||
        !(copy = keep(g, strdup(name))))
        return no_memory(error);
    int value = append_value(g, copy, -1);
    g->values[value].declared = *shape;
    g->values[value].type.datatype = datatype;
    g->values[value].is_input = true;
    g->inputs[g->n_inputs++] = value;
    return value;
}

int graph_add_constant(struct graph *g, const char *name, const struct nn_tensor *tensor,
                       struct nn_error *error)
{
    if (check_name(g, name, error) != 0)
        return -1;
    if (tensor->shape.rank < 0 || tensor->shape.rank > NN_MAX_RANK)
        return nn_fail(error, "constant \"%s\": rank %d is not 0 to %d", name,
                       tensor->shape.rank, (int)NN_MAX_RANK);
    struct shape_text text;
    if (tensor_bytes(tensor->datatype, &tensor->shape) < 0)
        return nn_fail(error, "constant \"%s\": shape %s is not possible", name,
                       shape_print(&tensor->shape, &text));
    if (!tensor->data)
        return nn_fail(error, "constant \"%s\" has no elements", name);

    char *copy = NULL;
    if (reserve_values(g, 1) != 0 || !(copy = keep(g, strdup(name))))
        return no_memory(error);
    int value = append_value(g, copy, -1);
    g->values[value].type = (struct op_value){.datatype = tensor->datatype,
                                              .shape = tensor->shape,
                                              .batch = BATCH_NONE,
                                              .constant = tensor->data};
    return value;
}

int graph_add_output(struct graph *g, int value, struct nn_error *error)
{
    if (value < 0 || value >= g->n_values)
        return nn_fail(error, "an output is value %d of %d", value, g->n_values);
    for (int i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == value)
            return nn_fail(error, "output \"%s\" is there already", g->values[value].name);
    if (grow(&g->outputs, g->n_outputs + 1, &g->memory->max_outputs, sizeof *g->outputs) != 0)
        return no_memory(error);
    g->outputs[g->n_outputs++] = value;
    return value;
}

/* nodes */

int graph_add_node(struct graph *g, const struct op *op, const void *attributes,
                   const char *output, int n_inputs, const int *inputs, struct nn_error *error)
{
    int node = graph_add_node_outputs(g, op, attributes, 1, &output, n_inputs, inputs, error);
    return node < 0 ? -1 : g->nodes[node].outputs[0];
}

static int check_inputs(const struct graph *g, const struct op *op, int n, const int *inputs,
                        struct nn_error *error)
{
    bool variadic = op->flags & OP_VARIADIC;
    int most = variadic ? NODE_MAX_INPUTS : op->max_inputs;
    if (n < op->min_inputs || n > most) {
        if (op->min_inputs == most)
            return nn_fail(error, "takes %d input%s, got %d", most, most == 1 ? "" : "s", n);
        return nn_fail(error, "takes %d to %d inputs, got %d", op->min_inputs, most, n);
    }
    for (int i = 0; i < n; i++) {
        if (inputs[i] == GRAPH_NONE && (variadic || i < op->min_inputs))
            return nn_fail(error, "input %d must not be left out", i);
        if (inputs[i] != GRAPH_NONE && (inputs[i] < 0 || inputs[i] >= g->n_values))
            return nn_fail(error, "input %d is value %d of %d", i, inputs[i], g->n_values);
    }
    return 0;
}

static bool left_out(const char *name)
{
    return !name || !name[0];
}

static int check_outputs(const struct graph *g, const struct op *op, int n,
                         const char *const *names, struct nn_error *error)
{
    if (n < op->min_outputs || n > op->max_outputs) {
        if (op->min_outputs == op->max_outputs)
            return nn_fail(error, "has %d output%s, got %d", op->max_outputs,
                           op->max_outputs == 1 ? "" : "s", n);
        return nn_fail(error, "has %d to %d outputs, got %d", op->min_outputs, op->max_outputs,
                       n);
    }
    for (int i = 0; i < n; i++) {
        if (left_out(names[i])) {
            if (i < op->min_outputs)
                return nn_fail(error, "output %d has no name", i);
            continue;
        }
        bool twice = graph_find(g, names[i]) >= 0;
        for (int j = 0; j < i; j++)
            twice |= !left_out(names[j]) && strcmp(names[i], names[j]) == 0;
        if (twice)
            return nn_fail(error, "output \"%s\" is there already", names[i]);
    }
    return 0;
}

int graph_add_node_outputs(struct graph *g, const struct op *op, const void *attributes,
                           int n_outputs, const char *const *outputs, int n_inputs,
                           const int *inputs, struct nn_error *error)
{
    if (g->n_nodes >= GRAPH_MAX_NODES)
        return nn_fail(error, "more than %d nodes", (int)GRAPH_MAX_NODES);
    if (check_inputs(g, op, n_inputs, inputs, error) != 0 ||
        check_outputs(g, op, n_outputs, outputs, error) != 0)
        return nn_fail_in(error, "%s (%s)",
                          n_outputs < 1 || left_out(outputs[0]) ? "node" : outputs[0],
                          op->name);

    struct graph_node node = {.op = op, .n_inputs = n_inputs, .n_outputs = n_outputs};
    if (reserve_values(g, n_outputs) != 0 ||
        grow(&g->nodes, g->n_nodes + 1, &g->memory->max_nodes, sizeof *g->nodes) != 0)
        return no_memory(error);
    node.inputs = keep(g, calloc((size_t)n_inputs + 1, sizeof *node.inputs));
    node.outputs = keep(g, calloc((size_t)n_outputs + 1, sizeof *node.outputs));
    node.attributes = graph_allocate(g, op->attributes_size);
    if (!node.inputs || !node.outputs || !node.attributes)
        return no_memory(error);
    char *names[NODE_MAX_OUTPUTS] = {NULL};
    for (int i = 0; i < n_outputs; i++)
        if (!left_out(outputs[i]) && !(names[i] = keep(g, strdup(outputs[i]))))
            return no_memory(error);

    if (attributes)
        memcpy(node.attributes, attributes, op->attributes_size);
    else
        op_attributes_init(op, node.attributes);
    for (int i = 0; i < n_inputs; i++)
        node.inputs[i] = inputs[i];
    for (int i = 0; i < n_outputs; i++)
        node.outputs[i] = names[i] ? append_value(g, names[i], g->n_nodes) : GRAPH_NONE;
    node.name = names[0];
    g->nodes[g->n_nodes] = node;
    return g->n_nodes++;
}
