/*
 * Nodes whose inputs are constants become constants.
 */
#include "engine/passes.h"

#include <stdlib.h>

/* A small bundle must not unfold into much memory: a constant that is larger is left to be
 * computed in the session's arena. */
#define FOLD_MAX_BYTES ((size_t)64 << 20)
#define FOLD_MAX_GROWTH 4
#define FOLD_FREE_BYTES ((size_t)1 << 20)

static size_t value_bytes(const struct graph *g, int value)
{
    const struct op_value *type = &g->values[value].type;
    return (size_t)tensor_bytes(type->datatype, &type->shape);
}

static struct nn_tensor tensor_of(const struct graph *g, int value)
{
    const struct op_value *type = &g->values[value].type;
    return (struct nn_tensor){type->datatype, type->shape, (void *)(uintptr_t)type->constant};
}

static bool is_constant(const struct graph *g, int value)
{
    const struct graph_value *v = &g->values[value];
    return v->producer < 0 && !v->is_input && v->type.constant;
}

static bool worth_folding(struct passes *p, const struct graph_node *n)
{
    size_t in = 0, own = 0, out = 0;
    int n_present = 0;
    for (int i = 0; i < n->n_inputs; i++) {
        int value = passes_input(p, n, i);
        if (value == GRAPH_NONE)
            continue;
        if (!is_constant(p->g, value))
            return false;
        in += value_bytes(p->g, value);
        own += p->uses[value] == 1 ? value_bytes(p->g, value) : 0;
        n_present++;
    }
    for (int i = 0; i < n->n_outputs; i++)
        if (n->outputs[i] != GRAPH_NONE)
            out += value_bytes(p->g, n->outputs[i]);
    return n_present > 0 && out <= FOLD_MAX_BYTES &&
           out <= FOLD_MAX_GROWTH * in + FOLD_FREE_BYTES && n->scratch <= FOLD_MAX_BYTES &&
           n->flops + (double)out <= p->budget &&
           passes_may_copy(p, out, FOLD_MAX_GROWTH * own);
}

int fold_constants(struct passes *p, struct graph_node *n)
{
    if (!worth_folding(p, n))
        return 0;

    struct graph *g = p->g;
    struct nn_tensor inputs[NODE_MAX_INPUTS], outputs[NODE_MAX_OUTPUTS];
    const struct nn_tensor *in[NODE_MAX_INPUTS];
    struct nn_tensor *out[NODE_MAX_OUTPUTS];
    for (int i = 0; i < n->n_inputs; i++) {
        int value = passes_input(p, n, i);
        in[i] = value == GRAPH_NONE ? NULL : &inputs[i];
        if (in[i])
            inputs[i] = tensor_of(g, value);
    }
    for (int i = 0; i < n->n_outputs; i++) {
        out[i] = n->outputs[i] == GRAPH_NONE ? NULL : &outputs[i];
        if (!out[i])
            continue;
        size_t bytes = value_bytes(g, n->outputs[i]);
        outputs[i] = tensor_of(g, n->outputs[i]);
        outputs[i].data = graph_allocate(g, bytes);
        if (!outputs[i].data)
            return -1;
        p->budget -= (double)bytes;
    }
    void *scratch = tensor_allocate(n->scratch);
    if (!scratch)
        return -1;
    n->op->forward(&(struct op_call){
        .attributes = n->attributes,
        .n_inputs = n->n_inputs,
        .n_outputs = n->n_outputs,
        .inputs = in,
        .outputs = out,
        .scratch = scratch,
        .n_parts = 1,
    });
    free(scratch);
    p->budget -= n->flops;

    passes_remove(p, n);
    for (int i = 0; i < n->n_outputs; i++)
        if (out[i])
            g->values[n->outputs[i]].type.constant = outputs[i].data;
    return 1;
}
