/*
 * Inference over a graph: types, shapes, the batch axis, and what a run needs. Nothing here
 * allocates, except for the words of why a graph is not batched.
 */
#include "engine/graph.h"

#include <inttypes.h>
#include <string.h>

/* What an operation said of its output has to hold; and no operation can bring rows back that
 * were mixed before it, or make a batch of what is the same for every batch. */
static int check_output(struct op_value *out, int output, int64_t batch, bool any_batch,
                        bool any_lost, struct nn_error *error)
{
    struct shape_text text;
    int64_t bytes = tensor_bytes(out->datatype, &out->shape);
    if (bytes <= 0 || bytes > GRAPH_MAX_BYTES)
        return nn_fail(error, "output %d would have the shape %s", output,
                       shape_print(&out->shape, &text));
    if (any_lost)
        out->batch = BATCH_LOST;
    else if (!any_batch)
        out->batch = BATCH_NONE;
    else if (out->batch < 0 || out->batch >= out->shape.rank ||
             out->shape.dims[out->batch] != batch)
        out->batch = BATCH_LOST;
    return 0;
}

static int infer(const struct graph_node *n, int64_t batch,
                 const struct op_value *const *inputs, struct op_inference *result,
                 struct op_value *outputs, struct nn_error *error)
{
    bool any_batch = false, any_lost = false;
    for (int i = 0; i < n->n_inputs; i++) {
        any_batch |= inputs[i] && inputs[i]->batch >= 0;
        any_lost |= inputs[i] && inputs[i]->batch == BATCH_LOST;
    }
    for (int i = 0; i < n->n_outputs; i++)
        outputs[i] = (struct op_value){.batch = BATCH_NONE};

    *result = (struct op_inference){
        .attributes = n->attributes,
        .batch = batch,
        .n_inputs = n->n_inputs,
        .n_outputs = n->n_outputs,
        .inputs = inputs,
        .outputs = outputs,
        .packed = n->packed != NULL,
    };
    int status = n->op->infer(result, error);
    for (int i = 0; i < n->n_outputs && status == 0; i++)
        if (n->outputs[i] != GRAPH_NONE)
            status = check_output(&outputs[i], i, batch, any_batch, any_lost, error);
    result->inputs = NULL;
    return status == 0 ? 0 : nn_fail_in(error, "%s (%s)", n->name, n->op->name);
}

int graph_infer_node(const struct graph *g, int node, int64_t batch,
                     const struct op_value *types, struct op_inference *result,
                     struct op_value *outputs, struct nn_error *error)
{
    const struct graph_node *n = &g->nodes[node];
    const struct op_value *inputs[NODE_MAX_INPUTS];
    for (int i = 0; i < n->n_inputs; i++)
        inputs[i] = n->inputs[i] == GRAPH_NONE ? NULL : &types[n->inputs[i]];
    return infer(n, batch, inputs, result, outputs, error);
}

/* Adds up what the graph takes; false: more than GRAPH_MAX_BYTES. */
static bool add_bytes(int64_t *total, size_t bytes)
{
    if (bytes > (size_t)GRAPH_MAX_BYTES)
        return false;
    *total += (int64_t)bytes;
    return *total <= GRAPH_MAX_BYTES;
}

static bool add_value(int64_t *total, const struct op_value *type)
{
    int64_t bytes = tensor_bytes(type->datatype, &type->shape);
    return bytes >= 0 && add_bytes(total, (size_t)bytes);
}

static int too_large(struct nn_error *error)
{
    return nn_fail(error, "the tensors take more than %" PRId64 " GiB", GRAPH_MAX_BYTES >> 30);
}

int graph_infer(struct graph *g, int64_t batch, struct nn_error *error)
{
    if (batch < 1)
        return nn_fail(error, "a batch of %" PRId64 " rows", batch);
    g->batch = batch;

    int64_t total = 0;
    for (int i = 0; i < g->n_inputs; i++) {
        struct graph_value *v = &g->values[g->inputs[i]];
        v->type.shape = v->declared;
        v->type.batch = BATCH_NONE;
        if (v->declared.rank > 0 && v->declared.dims[0] == -1) {
            v->type.shape.dims[0] = batch;
            v->type.batch = 0;
        }
        if (!add_value(&total, &v->type)) {
            too_large(error);
            return nn_fail_in(error, "input \"%s\"", v->name);
        }
    }

    for (int i = 0; i < g->n_nodes; i++) {
        struct graph_node *n = &g->nodes[i];
        const struct op_value *inputs[NODE_MAX_INPUTS];
        struct op_value outputs[NODE_MAX_OUTPUTS];
        struct op_inference result;
        for (int j = 0; j < n->n_inputs; j++)
            inputs[j] = n->inputs[j] == GRAPH_NONE ? NULL : &g->values[n->inputs[j]].type;
        if (infer(n, batch, inputs, &result, outputs, error) != 0)
            return -1;
        n->saved = result.saved;
        n->scratch = result.scratch;
        n->gradient_scratch = result.gradient_scratch;
        n->flops = result.flops;

        bool fits = add_bytes(&total, n->scratch);
        for (int j = 0; j < n->n_outputs; j++)
            if (n->outputs[j] != GRAPH_NONE) {
                g->values[n->outputs[j]].type = outputs[j];
                fits = fits && add_value(&total, &outputs[j]);
            }
        if (!fits) {
            too_large(error);
            return nn_fail_in(error, "%s (%s)", n->name, n->op->name);
        }
    }
    return 0;
}

/* following the batch */

static const char *keep_reason(struct graph *g, const char *text)
{
    char *copy = graph_allocate(g, strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

static bool has_batch_axis(const struct graph_value *input)
{
    return input->declared.rank > 0 && input->declared.dims[0] == -1;
}

/* The first node on the way to `output` that mixes rows. `wanted` has room for n_values. */
static const struct graph_node *find_mixer(const struct graph *g, int output, bool *wanted)
{
    memset(wanted, 0, (size_t)g->n_values * sizeof *wanted);
    wanted[output] = true;
    const struct graph_node *mixer = NULL;
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct graph_node *n = &g->nodes[i];
        bool on_the_way = false, lost = false;
        for (int j = 0; j < n->n_outputs; j++)
            if (n->outputs[j] != GRAPH_NONE && wanted[n->outputs[j]]) {
                on_the_way = true;
                lost |= g->values[n->outputs[j]].type.batch == BATCH_LOST;
            }
        if (!on_the_way)
            continue;
        for (int j = 0; j < n->n_inputs; j++)
            if (n->inputs[j] != GRAPH_NONE)
                wanted[n->inputs[j]] = true;
        if (lost)
            mixer = n;
    }
    return mixer;
}

/* Why the outputs do not follow the batch of the last inference, into `reason`; false: they
 * do. */
static bool explain(struct graph *g, bool *wanted, struct nn_error *reason)
{
    for (int i = 0; i < g->n_inputs; i++) {
        const struct graph_value *v = &g->values[g->inputs[i]];
        if (!has_batch_axis(v))
            return nn_fail(reason, "input \"%s\" has no batch axis", v->name);
    }
    for (int i = 0; i < g->n_outputs; i++) {
        const struct graph_value *v = &g->values[g->outputs[i]];
        if (v->type.batch == BATCH_LOST) {
            const struct graph_node *n = find_mixer(g, g->outputs[i], wanted);
            return nn_fail(reason, "%s (%s): rows are mixed", n->name, n->op->name);
        }
        if (v->type.batch == BATCH_NONE)
            return nn_fail(reason, "output \"%s\" does not depend on the batch", v->name);
        if (v->type.batch > 0)
            return nn_fail(reason, "output \"%s\" has the batch as axis %d", v->name,
                           v->type.batch);
    }
    return false;
}

/* -1 in `shapes` where the outputs' shapes of the last inference differ. A rank that depends
 * on the batch does not exist: no operation makes one. */
static void compare_shapes(const struct graph *g, struct nn_shape *shapes)
{
    for (int i = 0; i < g->n_outputs && shapes; i++) {
        const struct nn_shape *now = &g->values[g->outputs[i]].type.shape;
        for (int j = 0; j < shapes[i].rank && j < now->rank; j++)
            if (shapes[i].dims[j] != now->dims[j])
                shapes[i].dims[j] = -1;
    }
}

int graph_follow_batch(struct graph *g, struct nn_shape *output_shapes, const char **unbatched,
                       struct nn_error *error)
{
    /* Primes: a product of dimensions, or a quotient, cannot be one of them by accident. At 2
     * only shapes are looked at: what cannot be inferred at a prime may have two rows. */
    static const int64_t sizes[] = {1009, 1013, 2};
    enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

    *unbatched = NULL;
    if (graph_infer(g, 1, error) != 0)
        return -1;
    bool *wanted = graph_allocate(g, (size_t)g->n_values * sizeof *wanted);
    if (!wanted)
        return nn_fail(error, "out of memory");
    for (int i = 0; i < g->n_outputs && output_shapes; i++) {
        const struct op_value *type = &g->values[g->outputs[i]].type;
        output_shapes[i] = type->shape;
        /* Even where no other size that is tried can be inferred: some may be. */
        if (type->batch >= 0)
            output_shapes[i].dims[type->batch] = -1;
    }

    struct nn_error reason = {""};
    for (int i = 0; i < N_SIZES; i++) {
        struct nn_error failure = {""};
        if (graph_infer(g, sizes[i], &failure) == 0) {
            compare_shapes(g, output_shapes);
            if (sizes[i] > 2)
                explain(g, wanted, &reason);
        } else if (sizes[i] > 2) {
            nn_fail(&reason, "%s (of %" PRId64 " rows)", failure.text, sizes[i]);
        }
    }
    if (reason.text[0] && !(*unbatched = keep_reason(g, reason.text)))
        return nn_fail(error, "out of memory");
    return graph_infer(g, 1, error);
}
