/*
 * Constant weights in the order that their kernels read, and what becomes of those that nobody
 * reads any more.
 */
#include "engine/passes.h"

static void drop_unread(struct passes *p, int value)
{
    struct graph_value *v = &p->g->values[value];
    void *elements = (void *)(uintptr_t)v->type.constant;
    if (p->uses[value] > 0 || v->producer >= 0 || v->is_input || !elements)
        return;
    if (p->is_ours[value])
        graph_give_back(p->g, elements);
    else if (p->g->may_discard)
        tensor_discard(elements, (size_t)tensor_bytes(v->type.datatype, &v->type.shape));
    else
        return;
    v->type.constant = NULL;
}

static int pack(struct passes *p, struct graph_node *n)
{
    int value = n->op->pack ? passes_input(p, n, 1) : GRAPH_NONE;
    const struct op_value *type = value == GRAPH_NONE ? NULL : &p->g->values[value].type;
    size_t bytes = passes_constant(p, value) ? n->op->pack(n->attributes, type, NULL) : 0;
    if (bytes == 0)
        return 0;
    void *packed = graph_allocate(p->g, bytes);
    if (!packed)
        return -1;
    n->op->pack(n->attributes, type, packed);
    n->packed = packed;
    p->uses[value]--;
    drop_unread(p, value);
    return 0;
}

int pack_constants(struct passes *p)
{
    for (int i = 0; i < p->g->n_values; i++)
        drop_unread(p, i); /* what was folded into others */
    for (int i = 0; i < p->g->n_nodes; i++)
        if (pack(p, &p->g->nodes[i]) != 0)
            return -1;
    return 0;
}
