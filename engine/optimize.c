/*
 * One walk over the nodes in their order, so that each sees what its inputs have become: a
 * node that was changed is looked at again by those after it.
 */
#include "engine/optimize.h"

#include "engine/passes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* what the passes share */

/* What `value` has become. */
static int resolve(struct passes *p, int value)
{
    while (p->replaced_by[value] != value) {
        p->replaced_by[value] = p->replaced_by[p->replaced_by[value]];
        value = p->replaced_by[value];
    }
    return value;
}

int passes_input(struct passes *p, const struct graph_node *n, int i)
{
    return i >= n->n_inputs || n->inputs[i] == GRAPH_NONE ? GRAPH_NONE
                                                          : resolve(p, n->inputs[i]);
}

struct graph_node *passes_only_producer(struct passes *p, int value)
{
    int producer = value == GRAPH_NONE ? -1 : p->g->values[value].producer;
    if (producer < 0 || p->uses[value] != 1 || p->g->nodes[producer].outputs[0] != value ||
        p->g->nodes[producer].epilogue.activation != ACTIVATION_NONE)
        return NULL;
    return &p->g->nodes[producer];
}

void passes_remove(struct passes *p, struct graph_node *n)
{
    p->removed[n - p->g->nodes] = true;
    for (int i = 0; i < n->n_inputs; i++)
        if (n->inputs[i] != GRAPH_NONE)
            p->uses[passes_input(p, n, i)]--;
    for (int i = 0; i < n->n_outputs; i++)
        if (n->outputs[i] != GRAPH_NONE) {
            struct graph_value *v = &p->g->values[n->outputs[i]];
            v->producer = -1;
            v->type.constant = NULL;
        }
}

bool passes_bypass(struct passes *p, struct graph_node *n, int i)
{
    int x = passes_input(p, n, i), y = n->outputs[0];
    struct graph_value *values = p->g->values;
    if (!p->is_output[y]) {
        passes_remove(p, n);
        p->replaced_by[y] = x;
        p->uses[x] += p->uses[y];
        return true;
    }

    /* An output of the graph keeps its name: its value takes the place of the input. */
    int producer = values[x].producer;
    if (producer < 0 || p->is_output[x])
        return false;
    passes_remove(p, n);
    struct graph_node *maker = &p->g->nodes[producer];
    for (int j = 0; j < maker->n_outputs; j++)
        if (maker->outputs[j] == x)
            maker->outputs[j] = y;
    values[x].producer = -1;
    values[y].producer = producer;
    p->replaced_by[x] = y;
    p->uses[y] += p->uses[x];
    return true;
}

const nn_real *passes_constant(struct passes *p, int value)
{
    if (value == GRAPH_NONE)
        return NULL;
    const struct graph_value *v = &p->g->values[value];
    bool is_float = v->producer < 0 && !v->is_input && v->type.datatype == NN_FP32;
    return is_float ? v->type.constant : NULL;
}

int passes_set_input(struct passes *p, struct graph_node *n, int i, int value)
{
    if (i >= n->n_inputs) {
        int *inputs = graph_allocate(p->g, (size_t)(i + 1) * sizeof *inputs);
        if (!inputs)
            return -1;
        for (int j = 0; j <= i; j++)
            inputs[j] = j < n->n_inputs ? n->inputs[j] : GRAPH_NONE;
        n->inputs = inputs;
        n->n_inputs = i + 1;
    }
    if (n->inputs[i] != GRAPH_NONE)
        p->uses[passes_input(p, n, i)]--;
    n->inputs[i] = value;
    p->uses[value]++;
    return 0;
}

static int grow_arrays(struct passes *p, int n_values)
{
    if (n_values <= p->max_values)
        return 0;
    size_t n = (size_t)n_values * 2;
    int *uses = reallocarray(p->uses, n, sizeof *uses);
    if (uses)
        p->uses = uses;
    int *replaced_by = reallocarray(p->replaced_by, n, sizeof *replaced_by);
    if (replaced_by)
        p->replaced_by = replaced_by;
    bool *is_ours = reallocarray(p->is_ours, n, sizeof *is_ours);
    if (is_ours)
        p->is_ours = is_ours;
    bool *is_output = reallocarray(p->is_output, n, sizeof *is_output);
    if (is_output)
        p->is_output = is_output;
    if (!uses || !replaced_by || !is_ours || !is_output)
        return -1;
    for (int i = p->max_values; i < (int)n; i++) {
        p->uses[i] = 0;
        p->replaced_by[i] = i;
        p->is_ours[i] = p->is_output[i] = false;
    }
    p->max_values = (int)n;
    return 0;
}

int passes_add_constant(struct passes *p, const char *like, const struct nn_shape *shape,
                        const nn_real *elements)
{
    size_t bytes = (size_t)tensor_bytes(NN_FP32, shape);
    struct nn_tensor tensor = {NN_FP32, *shape, graph_allocate(p->g, bytes)};
    if (!tensor.data || grow_arrays(p, p->g->n_values + 1) != 0)
        return -1;
    memcpy(tensor.data, elements, bytes);

    /* No name of the graph's can be in the way: the number is that of the value. */
    char *name;
    int value = -1;
    for (int i = p->g->n_values; value < 0; i++) {
        if (asprintf(&name, "%s/%d", like, i) < 0)
            return -1;
        bool taken = graph_find(p->g, name) >= 0;
        if (!taken)
            value = graph_add_constant(p->g, name, &tensor, NULL);
        free(name);
        if (!taken && value < 0)
            return -1;
    }
    p->is_ours[value] = true;
    return value;
}

double passes_attribute(const struct graph_node *n, const char *name)
{
    const struct op_attribute *a = op_find_attribute(n->op, name);
    const void *field = a ? (const char *)n->attributes + a->offset : NULL;
    if (!a)
        return NAN;
    switch (a->kind) {
    case OP_INT:
        return (double)*(const int64_t *)field;
    case OP_FLOAT:
        return *(const double *)field;
    case OP_CHOICE:
        return *(const int *)field;
    case OP_INTS:
        break;
    }
    return NAN;
}

bool passes_may_copy(struct passes *p, size_t bytes, size_t freed)
{
    if (bytes <= freed)
        return true;
    if (bytes - freed > p->copies)
        return false;
    p->copies -= bytes - freed;
    return true;
}

bool passes_is(const struct graph_node *n, const char *op)
{
    return strcmp(n->op->name, op) == 0;
}

/* small passes */

/* Dropout whose training_mode is true is that for everybody. */
static bool always_drops(struct passes *p, const struct graph_node *n)
{
    int mode = passes_input(p, n, 2);
    return mode != GRAPH_NONE && *(const uint8_t *)p->g->values[mode].type.constant;
}

/* Identity, and Dropout outside training. */
static int drop_identity(struct passes *p, struct graph_node *n)
{
    if (!passes_is(n, "Identity") && (!passes_is(n, "Dropout") || always_drops(p, n)))
        return 0;
    for (int i = 1; i < n->n_outputs; i++)
        if (n->outputs[i] != GRAPH_NONE && p->uses[n->outputs[i]] > 0)
            return 0;
    return passes_bypass(p, n, 0);
}

/* A product with a constant matrix is a Gemm, which takes a bias and an epilogue. The node
 * stays. */
static int turn_into_gemm(struct passes *p, struct graph_node *n)
{
    if (!passes_is(n, "MatMul"))
        return 0;
    int a = passes_input(p, n, 0), b = passes_input(p, n, 1);
    if (p->g->values[a].type.shape.rank != 2 || p->g->values[b].type.shape.rank != 2 ||
        !passes_constant(p, b))
        return 0;
    const struct op *gemm = op_find("Gemm");
    void *attributes = graph_allocate(p->g, gemm->attributes_size);
    if (!attributes)
        return -1;
    op_attributes_init(gemm, attributes);
    n->op = gemm;
    n->attributes = attributes;
    return 0;
}

/* A bound of Clip; false: it is not constant. */
static bool clip_bound(struct passes *p, const struct graph_node *n, int i, nn_real absent,
                       nn_real *bound)
{
    int value = passes_input(p, n, i);
    *bound = absent;
    if (value == GRAPH_NONE)
        return true;
    const nn_real *constant = passes_constant(p, value);
    if (!constant || shape_elements(&p->g->values[value].type.shape) != 1)
        return false;
    *bound = constant[0];
    return true;
}

static struct op_epilogue find_activation(struct passes *p, const struct graph_node *n)
{
    struct op_epilogue e = {.activation = ACTIVATION_NONE};
    if (passes_is(n, "Relu")) {
        e.activation = ACTIVATION_RELU;
    } else if (passes_is(n, "LeakyRelu")) {
        e.activation = ACTIVATION_LEAKY_RELU;
        e.alpha = (nn_real)passes_attribute(n, "alpha");
    } else if (passes_is(n, "Sigmoid")) {
        e.activation = ACTIVATION_SIGMOID;
    } else if (passes_is(n, "Tanh")) {
        e.activation = ACTIVATION_TANH;
    } else if (passes_is(n, "Clip") && clip_bound(p, n, 1, -INFINITY, &e.alpha) &&
               clip_bound(p, n, 2, INFINITY, &e.beta)) {
        e.activation = ACTIVATION_CLIP;
    }
    return e;
}

static int fuse_activation(struct passes *p, struct graph_node *n)
{
    struct op_epilogue epilogue = find_activation(p, n);
    struct graph_node *producer = passes_only_producer(p, passes_input(p, n, 0));
    if (epilogue.activation == ACTIVATION_NONE || !producer ||
        !(producer->op->flags & OP_EPILOGUE) ||
        p->g->values[n->outputs[0]].type.datatype != NN_FP32 ||
        !passes_bypass(p, n, 0))
        return 0;
    producer->epilogue = epilogue;
    return 1;
}

/* putting in order */

static void count_uses(struct passes *p)
{
    const struct graph *g = p->g;
    for (int i = 0; i < g->n_nodes; i++)
        for (int j = 0; j < g->nodes[i].n_inputs; j++)
            if (g->nodes[i].inputs[j] != GRAPH_NONE)
                p->uses[g->nodes[i].inputs[j]]++;
    for (int i = 0; i < g->n_outputs; i++) {
        p->uses[g->outputs[i]]++;
        p->is_output[g->outputs[i]] = true;
    }
}

static void remove_dead(struct passes *p)
{
    for (int i = p->g->n_nodes - 1; i >= 0; i--) {
        struct graph_node *n = &p->g->nodes[i];
        bool used = false;
        for (int j = 0; j < n->n_outputs; j++)
            used |= n->outputs[j] != GRAPH_NONE && p->uses[n->outputs[j]] > 0;
        if (!used && !p->removed[i])
            passes_remove(p, n);
    }
}

static void compact(struct passes *p)
{
    struct graph *g = p->g;
    int kept = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        if (p->removed[i])
            continue;
        struct graph_node *n = &g->nodes[i];
        for (int j = 0; j < n->n_inputs; j++)
            n->inputs[j] = passes_input(p, n, j);
        for (int j = 0; j < n->n_outputs; j++)
            if (n->outputs[j] != GRAPH_NONE)
                g->values[n->outputs[j]].producer = kept;
        g->nodes[kept++] = *n;
    }
    g->n_nodes = kept;
}

static int visit(struct passes *p, struct graph_node *n)
{
    static int (*const passes[])(struct passes *, struct graph_node *) = {
        fold_constants, drop_identity, turn_into_gemm,
        fold_affine_after, fold_affine_before, fuse_activation,
    };
    int done = 0;
    for (size_t i = 0; i < sizeof passes / sizeof passes[0] && done == 0; i++)
        done = passes[i](p, n);
    return done < 0 ? -1 : 0;
}

int graph_optimize(struct graph *g, struct nn_error *error)
{
    if (graph_infer(g, 1, error) != 0)
        return -1;
    struct passes p = {.g = g, .budget = PASSES_BUDGET, .copies = PASSES_COPIES};
    int status = grow_arrays(&p, g->n_values + 1);
    p.removed = calloc((size_t)g->n_nodes + 1, sizeof *p.removed);
    if (status == 0 && p.removed) {
        count_uses(&p);
        remove_dead(&p);
        for (int i = 0; i < g->n_nodes && status == 0; i++)
            if (!p.removed[i])
                status = visit(&p, &g->nodes[i]);
        remove_dead(&p);
        compact(&p);
        memset(p.uses, 0, (size_t)g->n_values * sizeof *p.uses);
        count_uses(&p);
        if (status == 0)
            status = pack_constants(&p);
    }
    if (!p.removed || status != 0)
        status = nn_fail(error, "out of memory");
    free(p.uses);
    free(p.replaced_by);
    free(p.is_ours);
    free(p.is_output);
    free(p.removed);
    return status;
}
