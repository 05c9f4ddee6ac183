/*
 * Constant weights in the order that their kernels read, and what becomes of those that nobody
 * reads any more. A network that was unrolled reads its weights at every step: they are packed
 * once for all of them.
 */
#include "engine/passes.h"

#include <stdlib.h>
#include <string.h>

/* In how many ways a constant is packed; what reads it in yet another one takes it as it is. */
enum { MAX_WAYS = 4 };

struct packed {
    int way[MAX_WAYS]; /* the first node that read the constant in this way */
    int n_ways;
};

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

/* What is packed depends on the constant, the operation and its attributes. */
static const struct graph_node *find_same(const struct graph *g, const struct packed *packed,
                                          const struct graph_node *n)
{
    for (int i = 0; i < packed->n_ways; i++) {
        const struct graph_node *other = &g->nodes[packed->way[i]];
        if (other->op == n->op &&
            memcmp(other->attributes, n->attributes, n->op->attributes_size) == 0)
            return other;
    }
    return NULL;
}

/* 0 or -1 (no memory); n->packed stays NULL where there is nothing to gain. */
static int write_packed(struct graph *g, struct graph_node *n, const struct op_value *type)
{
    size_t bytes = n->op->pack(n->attributes, type, NULL);
    if (bytes == 0)
        return 0;
    void *packed = graph_allocate(g, bytes);
    if (!packed)
        return -1;
    n->op->pack(n->attributes, type, packed);
    n->packed = packed;
    return 0;
}

static int pack(struct passes *p, int node, struct packed *all)
{
    struct graph_node *n = &p->g->nodes[node];
    int value = n->op->pack ? passes_input(p, n, 1) : GRAPH_NONE;
    if (!passes_constant(p, value))
        return 0;
    struct packed *packed = &all[value];
    const struct graph_node *same = find_same(p->g, packed, n);
    if (same) {
        n->packed = same->packed;
    } else if (packed->n_ways < MAX_WAYS) {
        packed->way[packed->n_ways++] = node;
        if (write_packed(p->g, n, &p->g->values[value].type) != 0)
            return -1;
    }
    if (n->packed) {
        p->uses[value]--;
        drop_unread(p, value);
    }
    return 0;
}

int pack_constants(struct passes *p)
{
    struct packed *all = calloc((size_t)p->g->n_values + 1, sizeof *all);
    int status = all ? 0 : -1;
    for (int i = 0; i < p->g->n_values && status == 0; i++)
        drop_unread(p, i); /* what was folded into others */
    for (int i = 0; i < p->g->n_nodes && status == 0; i++)
        status = pack(p, i, all);
    free(all);
    return status;
}
