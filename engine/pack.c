/*
 * Constant weights in the order that their kernels read.
 */
#include "engine/passes.h"

int pack_constant(struct passes *p, struct graph_node *n)
{
    int value = n->op->pack ? passes_input(p, n, 1) : GRAPH_NONE;
    const void *elements = passes_constant(p, value);
    size_t bytes = elements ? n->op->pack(n->attributes, &p->g->values[value].type, NULL) : 0;
    if (bytes == 0)
        return 0;
    void *packed = graph_allocate(p->g, bytes);
    if (!packed)
        return -1;
    n->op->pack(n->attributes, &p->g->values[value].type, packed);
    n->packed = packed;
    if (p->is_ours[value] && p->uses[value] == 1) {
        graph_give_back(p->g, elements);
        p->g->values[value].type.constant = NULL;
    }
    return 0;
}
