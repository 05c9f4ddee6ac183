#include "trainer/autodiff.h"

#include <stdlib.h>

#define OP(name)                      \
    extern const struct op op_##name; \
    op_gradient gradient_##name;
#define OP_NO_GRADIENT(name) extern const struct op op_##name;
#include "engine/ops.def"
#undef OP
#undef OP_NO_GRADIENT

static const struct {
    const struct op *op;
    op_gradient *gradient;
} gradients[] = {
#define OP(name) {&op_##name, gradient_##name},
#define OP_NO_GRADIENT(name) {&op_##name, NULL},
#include "engine/ops.def"
#undef OP
#undef OP_NO_GRADIENT
};

op_gradient *autodiff_find(const struct op *op)
{
    for (size_t i = 0; i < sizeof gradients / sizeof *gradients; i++)
        if (gradients[i].op == op)
            return gradients[i].gradient;
    return NULL;
}

static bool any(const bool *marks, int n, const int *values)
{
    for (int i = 0; i < n; i++)
        if (values[i] != GRAPH_NONE && marks[values[i]])
            return true;
    return false;
}

static void mark(bool *marks, int n, const int *values)
{
    for (int i = 0; i < n; i++)
        if (values[i] != GRAPH_NONE)
            marks[values[i]] = true;
}

/* A gradient is needed where a value depends on a wanted one (forwards) and the output on it
 * (backwards). */
int autodiff_make(struct autodiff *autodiff, const struct graph *g, int output, int n_wanted,
                  const int *wanted, struct nn_error *error)
{
    *autodiff = (struct autodiff){0};
    size_t n = (size_t)g->n_values;
    bool *depends = calloc(n + 1, sizeof *depends);
    autodiff->needed = calloc(n + 1, sizeof *autodiff->needed);
    autodiff->steps = calloc((size_t)g->n_nodes + 1, sizeof *autodiff->steps);
    if (!depends || !autodiff->needed || !autodiff->steps) {
        nn_fail(error, "no memory to differentiate the graph");
        goto fail;
    }
    mark(depends, n_wanted, wanted);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct graph_node *node = &g->nodes[i];
        if (any(depends, node->n_inputs, node->inputs))
            mark(depends, node->n_outputs, node->outputs);
    }

    bool *reaches = autodiff->needed;
    reaches[output] = true;
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct graph_node *node = &g->nodes[i];
        if (!any(reaches, node->n_outputs, node->outputs))
            continue;
        mark(reaches, node->n_inputs, node->inputs);
        if (!any(depends, node->n_outputs, node->outputs))
            continue;
        if (!autodiff_find(node->op)) {
            nn_fail(error, "%s (%s): the operation has no gradient", node->name,
                    node->op->name);
            goto fail;
        }
        autodiff->steps[autodiff->n_steps++] = i;
    }
    for (size_t v = 0; v < n; v++)
        autodiff->needed[v] = reaches[v] && depends[v];
    free(depends);
    return 0;

fail:
    free(depends);
    autodiff_release(autodiff);
    return -1;
}

void autodiff_release(struct autodiff *autodiff)
{
    free(autodiff->needed);
    free(autodiff->steps);
    *autodiff = (struct autodiff){0};
}
