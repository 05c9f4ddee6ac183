/*
 * Greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
 * Inference", 2020, 5.2): the largest buffer first, each at the lowest place where nothing
 * lies that lives at the same time.
 */
#include "engine/plan.h"

#include <stdlib.h>

/* Memory of one value, of several that share it, or of a node's scratch. It is taken from the
 * start of node `first` to the end of node `last`; -1 is before the first node, n_nodes after
 * the last one. */
struct buffer {
    size_t size, offset;
    int first, last;
};

struct planner {
    const struct graph *g;
    int n_buffers;
    struct buffer *buffers;
    int *last_use;              /* [n_values]: the last node that reads it */
    int *buffer_of;             /* [n_values]: -1: it has none */
    int *scratch_of;            /* [n_nodes] */
};

static size_t value_size(const struct graph *g, int value)
{
    const struct op_value *type = &g->values[value].type;
    return (size_t)tensor_bytes(type->datatype, &type->shape);
}

static size_t round_up(size_t bytes)
{
    return (bytes + TENSOR_ALIGNMENT - 1) / TENSOR_ALIGNMENT * TENSOR_ALIGNMENT;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static int add_buffer(struct planner *p, size_t size, int first, int last)
{
    p->buffers[p->n_buffers] = (struct buffer){round_up(size), 0, first, last};
    return p->n_buffers++;
}

static void find_last_uses(struct planner *p)
{
    const struct graph *g = p->g;
    for (int i = 0; i < g->n_values; i++)
        p->last_use[i] = g->values[i].producer;
    for (int i = 0; i < g->n_nodes; i++)
        for (int j = 0; j < g->nodes[i].n_inputs; j++)
            if (g->nodes[i].inputs[j] != GRAPH_NONE)
                p->last_use[g->nodes[i].inputs[j]] = i;
    for (int i = 0; i < g->n_outputs; i++)
        p->last_use[g->outputs[i]] = g->n_nodes;
}

/* The buffer of input 0 if output 0 of the node may lie in it, else -1. A view only reads, so
 * that both live on together; what is written in place has to be the last that lives there,
 * and must not be read through another input meanwhile. Sizes that are equal here have to be
 * so for every batch: where rows were mixed, an input of five rows may become one of one row
 * that is broadcast to five. */
static int shared_buffer(const struct planner *p, int node)
{
    const struct graph_node *n = &p->g->nodes[node];
    if (!(n->op->flags & (OP_VIEW | OP_IN_PLACE)) || n->n_inputs < 1 ||
        n->inputs[0] == GRAPH_NONE || n->outputs[0] == GRAPH_NONE)
        return -1;
    int buffer = p->buffer_of[n->inputs[0]];
    if (buffer < 0 || value_size(p->g, n->inputs[0]) != value_size(p->g, n->outputs[0]))
        return -1;
    if (n->op->flags & OP_VIEW)
        return buffer;
    int batch = p->g->values[n->inputs[0]].type.batch;
    if (p->buffers[buffer].last > node || batch == BATCH_LOST ||
        batch != p->g->values[n->outputs[0]].type.batch)
        return -1;
    for (int i = 1; i < n->n_inputs; i++)
        if (n->inputs[i] != GRAPH_NONE && p->buffer_of[n->inputs[i]] == buffer)
            return -1;
    return buffer;
}

static void make_buffers(struct planner *p)
{
    const struct graph *g = p->g;
    for (int i = 0; i < g->n_values; i++)
        p->buffer_of[i] = -1;
    for (int i = 0; i < g->n_inputs; i++) {
        int value = g->inputs[i];
        p->buffer_of[value] = add_buffer(p, value_size(g, value), -1, p->last_use[value]);
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        int shared = shared_buffer(p, i);
        for (int j = 0; j < n->n_outputs; j++) {
            int value = n->outputs[j];
            if (value == GRAPH_NONE)
                continue;
            if (j == 0 && shared >= 0) {
                p->buffer_of[value] = shared;
                p->buffers[shared].last =
                    larger(p->buffers[shared].last, p->last_use[value]);
            } else {
                p->buffer_of[value] =
                    add_buffer(p, value_size(g, value), i, p->last_use[value]);
            }
        }
        p->scratch_of[i] = n->scratch ? add_buffer(p, n->scratch, i, i) : -1;
    }
}

static int by_size(const void *a, const void *b)
{
    const struct buffer *x = *(struct buffer *const *)a, *y = *(struct buffer *const *)b;
    if (x->size != y->size)
        return x->size > y->size ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* `placed` is ordered by offset: one pass over it finds the lowest gap. */
static size_t place(struct buffer *b, struct buffer **placed, int n)
{
    size_t offset = 0;
    for (int i = 0; i < n; i++) {
        const struct buffer *other = placed[i];
        if (other->first > b->last || b->first > other->last)
            continue;
        if (other->offset >= offset + b->size)
            break;
        if (other->offset + other->size > offset)
            offset = other->offset + other->size;
    }
    b->offset = offset;

    int at = n;
    for (; at > 0 && placed[at - 1]->offset > offset; at--)
        placed[at] = placed[at - 1];
    placed[at] = b;
    return offset + b->size;
}

static int place_all(struct planner *p, size_t *arena)
{
    size_t n = (size_t)p->n_buffers;
    struct buffer **order = calloc(n + 1, sizeof(struct buffer *));
    struct buffer **placed = calloc(n + 1, sizeof(struct buffer *));
    if (order && placed) {
        for (size_t i = 0; i < n; i++)
            order[i] = &p->buffers[i];
        qsort(order, n, sizeof(struct buffer *), by_size);
        *arena = 0;
        for (size_t i = 0; i < n; i++) {
            size_t end = place(order[i], placed, (int)i);
            if (end > *arena)
                *arena = end;
        }
    }
    int status = order && placed ? 0 : -1;
    free(order);
    free(placed);
    return status;
}

int plan_make(struct plan *plan, const struct graph *g, struct nn_error *error)
{
    size_t n_values = (size_t)g->n_values, n_nodes = (size_t)g->n_nodes;
    size_t most = n_values + n_nodes + 1;
    struct planner p = {
        .g = g,
        .buffers = calloc(most, sizeof *p.buffers),
        .last_use = calloc(n_values + 1, sizeof *p.last_use),
        .buffer_of = calloc(n_values + 1, sizeof *p.buffer_of),
        .scratch_of = calloc(n_nodes + 1, sizeof *p.scratch_of),
    };
    *plan = (struct plan){
        .offsets = calloc(n_values + 1, sizeof *plan->offsets),
        .scratch = calloc(n_nodes + 1, sizeof *plan->scratch),
    };
    int status = -1;
    if (!p.buffers || !p.last_use || !p.buffer_of || !p.scratch_of || !plan->offsets ||
        !plan->scratch)
        goto done;

    find_last_uses(&p);
    make_buffers(&p);
    if (place_all(&p, &plan->arena) != 0)
        goto done;
    for (int i = 0; i < g->n_values; i++)
        plan->offsets[i] =
            p.buffer_of[i] < 0 ? PLAN_CONSTANT : p.buffers[p.buffer_of[i]].offset;
    for (int i = 0; i < g->n_nodes; i++)
        plan->scratch[i] = p.scratch_of[i] < 0 ? 0 : p.buffers[p.scratch_of[i]].offset;
    status = 0;

done:
    if (status != 0) {
        plan_release(plan);
        nn_fail(error, "out of memory");
    }
    free(p.buffers);
    free(p.last_use);
    free(p.buffer_of);
    free(p.scratch_of);
    return status;
}

void plan_release(struct plan *plan)
{
    free(plan->offsets);
    free(plan->scratch);
    *plan = (struct plan){0};
}
