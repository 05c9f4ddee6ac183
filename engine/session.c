/*
 * A session: one arena, a tensor per value, a prepared call per node.
 *
 * The tensors' shapes are for `batch` rows. Where shapes depend on the batch in their batch
 * axis only, as in every model that is batched across requests, another batch is a matter of
 * writing that dimension. Elsewhere the graph is inferred anew, in the session's own copy of
 * its values and nodes: the model is shared with other threads.
 */
#include "engine/graph.h"
#include "engine/model.h"
#include "engine/plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* More is a model or a batch that nobody meant. */
#define SESSION_MAX_BYTES ((size_t)8 << 30)

/* Where a model that is not batched does not fit max_batch, smaller ones are tried from here
 * on. */
enum { SESSION_MOST_TRIED = 1024 };

/* A tensor whose shape follows the batch. */
struct follower {
    int value, axis;
};

struct nn_session {
    const struct nn_model *model;
    struct graph graph;         /* the model's, with values and nodes of its own */
    int64_t max_batch;
    int64_t batch;              /* that the tensors' shapes are for; 0: none */
    int64_t planned;            /* the largest batch that can be run */
    bool follows;               /* only `followers` depend on the batch */
    int n_followers;
    struct follower *followers;

    struct plan plan;
    size_t *capacity;           /* [n_values]: bytes at planned rows */
    size_t *scratch_capacity;   /* [n_nodes] */
    void *arena;
    void **wide_inputs;         /* [n_inputs]: of max_batch rows where the arena has not room
                                   for that many, else NULL */
    struct nn_tensor *tensors;  /* [n_values] */
    struct op_call *calls;      /* [n_nodes] */
    struct nn_tensor **operands;    /* the calls' inputs and outputs, one after the other */
};

static bool is_computed(const struct graph_value *v)
{
    return v->is_input || v->producer >= 0;
}

static size_t type_bytes(const struct op_value *type)
{
    return (size_t)tensor_bytes(type->datatype, &type->shape);
}

/* building */

static int copy_graph(struct nn_session *s)
{
    const struct graph *g = s->model->graph;
    s->graph = *g;
    s->graph.values = calloc((size_t)g->n_values + 1, sizeof *g->values);
    s->graph.nodes = calloc((size_t)g->n_nodes + 1, sizeof *g->nodes);
    if (!s->graph.values || !s->graph.nodes)
        return -1;
    for (int i = 0; i < g->n_values; i++)
        s->graph.values[i] = g->values[i];
    for (int i = 0; i < g->n_nodes; i++)
        s->graph.nodes[i] = g->nodes[i];
    return 0;
}

/* Whether the types differ in the size of the batch axis only. */
static bool same_but_batch(const struct op_value *a, const struct op_value *b)
{
    if (a->datatype != b->datatype || a->batch != b->batch || a->batch == BATCH_LOST ||
        a->shape.rank != b->shape.rank)
        return false;
    for (int i = 0; i < a->shape.rank; i++)
        if (i != a->batch && a->shape.dims[i] != b->shape.dims[i])
            return false;
    return true;
}

/* Infers for the largest batch that can be run: max_batch, unless the model is not batched and
 * its shapes do not fit that many. */
static int infer_largest(struct nn_session *s, struct nn_error *error)
{
    struct nn_error failure = {""};
    s->planned = s->max_batch;
    while (graph_infer(&s->graph, s->planned, &failure) != 0) {
        if (!s->model->unbatched || s->planned == 1)
            return nn_fail(error, "%s", failure.text);
        s->planned = s->planned > SESSION_MOST_TRIED ? SESSION_MOST_TRIED : s->planned - 1;
        failure.text[0] = '\0';
    }
    return 0;
}

/* Infers at another batch, too, to find out what depends on it. */
static int infer_types(struct nn_session *s, struct nn_error *error)
{
    struct graph *g = &s->graph;
    struct op_value *other = calloc((size_t)g->n_values + 1, sizeof *other);
    s->followers = calloc((size_t)g->n_values + 1, sizeof *s->followers);
    int status = other && s->followers ? 0 : nn_fail(error, "out of memory");
    if (status == 0) {
        s->follows = graph_infer(g, s->max_batch == 1009 ? 1013 : 1009, NULL) == 0;
        for (int i = 0; i < g->n_values; i++)
            other[i] = g->values[i].type;
        status = infer_largest(s, error);
    }
    for (int i = 0; i < g->n_values && status == 0 && s->follows; i++) {
        if (!is_computed(&g->values[i]))
            continue;
        const struct op_value *type = &g->values[i].type;
        s->follows = same_but_batch(type, &other[i]);
        if (type->batch >= 0)
            s->followers[s->n_followers++] = (struct follower){i, type->batch};
    }
    free(other);
    return status;
}

/* Inputs have room for max_batch rows, whether or not so many can be run. */
static int allocate_wide_inputs(struct nn_session *s)
{
    const struct graph *g = &s->graph;
    s->wide_inputs = calloc((size_t)g->n_inputs + 1, sizeof *s->wide_inputs);
    if (!s->wide_inputs)
        return -1;
    for (int i = 0; i < g->n_inputs && s->planned < s->max_batch; i++) {
        const struct op_value *type = &g->values[g->inputs[i]].type;
        if (type->batch == BATCH_NONE)
            continue;
        struct nn_shape shape = type->shape;
        shape.dims[0] = s->max_batch;
        int64_t bytes = tensor_bytes(type->datatype, &shape);
        if (bytes < 0 || (size_t)bytes > SESSION_MAX_BYTES ||
            !(s->wide_inputs[i] = tensor_allocate((size_t)bytes)))
            return -1;
    }
    return 0;
}

static int allocate_arena(struct nn_session *s, struct nn_error *error)
{
    const struct graph *g = &s->graph;
    if (plan_make(&s->plan, g, error) != 0)
        return -1;
    if (s->plan.arena > SESSION_MAX_BYTES)
        return nn_fail(error, "%" PRId64 " rows would take %zu MiB of memory, at most %zu",
                       s->planned, s->plan.arena >> 20, SESSION_MAX_BYTES >> 20);

    /* Not cleared: every tensor is written before it is read, and what of a large arena is
     * never used should not take memory. */
    s->arena = aligned_alloc(TENSOR_ALIGNMENT, s->plan.arena + TENSOR_ALIGNMENT);
    s->capacity = calloc((size_t)g->n_values + 1, sizeof *s->capacity);
    s->scratch_capacity = calloc((size_t)g->n_nodes + 1, sizeof *s->scratch_capacity);
    if (!s->arena || !s->capacity || !s->scratch_capacity || allocate_wide_inputs(s) != 0)
        return nn_fail(error, "out of memory for %" PRId64 " rows", s->max_batch);
    for (int i = 0; i < g->n_values; i++)
        s->capacity[i] = is_computed(&g->values[i]) ? type_bytes(&g->values[i].type) : 0;
    for (int i = 0; i < g->n_nodes; i++)
        s->scratch_capacity[i] = g->nodes[i].scratch;
    return 0;
}

static void place_tensors(struct nn_session *s)
{
    const struct graph *g = &s->graph;
    for (int i = 0; i < g->n_values; i++) {
        const struct op_value *type = &g->values[i].type;
        s->tensors[i] = (struct nn_tensor){
            .datatype = type->datatype,
            .shape = type->shape,
            /* Operations only read their inputs, and no constant is an output of a node. */
            .data = s->plan.offsets[i] == PLAN_CONSTANT
                        ? (void *)(uintptr_t)type->constant
                        : (char *)s->arena + s->plan.offsets[i],
        };
    }
    for (int i = 0; i < g->n_inputs; i++)
        if (s->wide_inputs[i])
            s->tensors[g->inputs[i]].data = s->wide_inputs[i];
}

/* The tensors of `values` at `at`; returns the place after them. */
static struct nn_tensor **gather(struct nn_session *s, struct nn_tensor **at, int n,
                                 const int *values)
{
    for (int i = 0; i < n; i++)
        *at++ = values[i] == GRAPH_NONE ? NULL : &s->tensors[values[i]];
    return at;
}

static int prepare_calls(struct nn_session *s, struct nn_error *error)
{
    const struct graph *g = &s->graph;
    size_t n_operands = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n_operands += (size_t)g->nodes[i].n_inputs + (size_t)g->nodes[i].n_outputs;
    s->tensors = calloc((size_t)g->n_values + 1, sizeof *s->tensors);
    s->calls = calloc((size_t)g->n_nodes + 1, sizeof *s->calls);
    s->operands = calloc(n_operands + 1, sizeof(struct nn_tensor *));
    if (!s->tensors || !s->calls || !s->operands)
        return nn_fail(error, "out of memory");

    place_tensors(s);
    struct nn_tensor **at = s->operands;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        struct nn_tensor **inputs = at, **outputs = gather(s, inputs, n->n_inputs, n->inputs);
        at = gather(s, outputs, n->n_outputs, n->outputs);
        s->calls[i] = (struct op_call){
            .attributes = n->attributes,
            .n_inputs = n->n_inputs,
            .n_outputs = n->n_outputs,
            .inputs = (const struct nn_tensor *const *)inputs,
            .outputs = outputs,
            .epilogue = n->epilogue,
            .packed = n->packed,
            .scratch = n->scratch ? (char *)s->arena + s->plan.scratch[i] : NULL,
            .part = 0,
            .n_parts = 1,
        };
    }
    s->batch = s->planned;
    return 0;
}

struct nn_session *nn_session_new(const struct nn_model *model, int64_t max_batch,
                                  struct nn_error *error)
{
    if (max_batch < 1) {
        nn_fail(error, "a session for %" PRId64 " rows", max_batch);
        return NULL;
    }
    struct nn_session *s = calloc(1, sizeof *s);
    if (!s) {
        nn_fail(error, "out of memory");
        return NULL;
    }
    s->model = model;
    s->max_batch = max_batch;
    if (copy_graph(s) != 0)
        nn_fail(error, "out of memory");
    else if (infer_types(s, error) == 0 && allocate_arena(s, error) == 0 &&
             prepare_calls(s, error) == 0)
        return s;
    nn_session_free(s);
    return NULL;
}

void nn_session_free(struct nn_session *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->graph.n_inputs && s->wide_inputs; i++)
        free(s->wide_inputs[i]);
    free(s->wide_inputs);
    free(s->graph.values);
    free(s->graph.nodes);
    free(s->followers);
    plan_release(&s->plan);
    free(s->capacity);
    free(s->scratch_capacity);
    free(s->arena);
    free(s->tensors);
    free(s->calls);
    free(s->operands);
    free(s);
}

int64_t nn_session_max_batch(const struct nn_session *s)
{
    return s->max_batch;
}

int nn_session_reserve(struct nn_session *s, int64_t max_batch, struct nn_error *error)
{
    if (max_batch <= s->max_batch)
        return 0;
    struct nn_session *larger = nn_session_new(s->model, max_batch, error);
    if (!larger)
        return -1;
    struct nn_session old = *s;
    *s = *larger;
    *larger = old;
    nn_session_free(larger);
    return 0;
}

/* running */

void *nn_session_input(struct nn_session *s, int i)
{
    return s->tensors[s->graph.inputs[i]].data;
}

/* The shapes for another batch where they do not just follow it. */
static int infer_again(struct nn_session *s, int64_t batch, struct nn_error *error)
{
    struct graph *g = &s->graph;
    s->batch = 0;
    if (graph_infer(g, batch, error) != 0)
        return nn_fail_in(error, "the model cannot take %" PRId64 " rows", batch);
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].scratch > s->scratch_capacity[i])
            return nn_fail(error, "the model cannot take %" PRId64 " rows", batch);
    for (int i = 0; i < g->n_values; i++) {
        if (!is_computed(&g->values[i]))
            continue;
        if (type_bytes(&g->values[i].type) > s->capacity[i])
            return nn_fail(error, "the model cannot take %" PRId64 " rows", batch);
        s->tensors[i].datatype = g->values[i].type.datatype;
        s->tensors[i].shape = g->values[i].type.shape;
    }
    s->batch = batch;
    return 0;
}

static int set_batch(struct nn_session *s, int64_t batch, struct nn_error *error)
{
    if (batch < 1 || batch > s->max_batch)
        return nn_fail(error, "%" PRId64 " rows in a session for 1 to %" PRId64, batch,
                       s->max_batch);
    if (!s->follows)
        return infer_again(s, batch, error);
    for (int i = 0; i < s->n_followers; i++)
        s->tensors[s->followers[i].value].shape.dims[s->followers[i].axis] = batch;
    s->batch = batch;
    return 0;
}

int nn_session_run(struct nn_session *s, int64_t batch, struct nn_error *error)
{
    if (batch != s->batch && set_batch(s, batch, error) != 0)
        return -1;
    for (int i = 0; i < s->graph.n_nodes; i++)
        s->graph.nodes[i].op->forward(&s->calls[i]);
    return 0;
}

const struct nn_tensor *nn_session_output(const struct nn_session *s, int i)
{
    return &s->tensors[s->graph.outputs[i]];
}
