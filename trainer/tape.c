#include "trainer/tape.h"

#include <stdlib.h>
#include <string.h>

/* A shard has at least this many rows: products of small matrices are slow. */
enum { MIN_SHARD_ROWS = 16 };

/* A shard that does less than this many operations is not worth waking a thread for. */
static const double min_shard_flops = 2e6;

/* Zeroing and summing a shard's own weight gradients must stay cheap against its work. */
static const double min_flops_per_weight = 64;

struct tape_block {
    struct tape_block *next;
    void *memory;
};

static void *allocate(struct tape *t, size_t bytes)
{
    struct tape_block *block = malloc(sizeof *block);
    if (!block)
        return NULL;
    *block = (struct tape_block){t->blocks, tensor_allocate(bytes ? bytes : 1)};
    if (!block->memory) {
        free(block);
        return NULL;
    }
    t->blocks = block;
    return block->memory;
}

static size_t aligned(size_t bytes)
{
    return (bytes + TENSOR_ALIGNMENT - 1) / TENSOR_ALIGNMENT * TENSOR_ALIGNMENT;
}

/* Bytes of a value whose size inference has accepted. */
static size_t value_bytes(const struct op_value *type)
{
    return (size_t)tensor_bytes(type->datatype, &type->shape);
}

static const struct op_value *type_of(const struct tape *t, int value)
{
    return &t->graph->values[value].type;
}

/* Bytes from one row to the next, of a value whose batch is axis 0. */
static size_t row_bytes(const struct tape *t, int value)
{
    return value_bytes(type_of(t, value)) / (size_t)t->max_batch;
}

/* ---- schedules -------------------------------------------------------------------------- */

static bool keeps_rows(const struct tape *t, const struct graph_node *node)
{
    bool batched = false;
    for (int i = 0; i < node->n_inputs; i++) {
        if (node->inputs[i] == GRAPH_NONE)
            continue;
        int batch = type_of(t, node->inputs[i])->batch;
        if (batch != 0 && batch != BATCH_NONE)
            return false;
        batched |= batch == 0;
    }
    for (int i = 0; i < node->n_outputs; i++)
        if (node->outputs[i] != GRAPH_NONE && type_of(t, node->outputs[i])->batch != 0)
            return false;
    return batched;
}

static enum tape_kind kind_of(const struct tape *t, int node, bool training)
{
    if (training && t->graph->nodes[node].op->flags & OP_BATCH_STATISTICS)
        return TAPE_PARTS;
    return keeps_rows(t, &t->graph->nodes[node]) ? TAPE_SHARDS : TAPE_WHOLE;
}

/* `nodes` in their order, or all of the graph (NULL). */
static int schedule(struct tape *t, struct tape_schedule *s, int n, const int *nodes,
                    bool training)
{
    s->segments = allocate(t, (size_t)n * sizeof *s->segments);
    if (!s->segments)
        return -1;
    for (int i = 0; i < n; i++) {
        enum tape_kind kind = kind_of(t, nodes ? nodes[i] : i, training);
        struct tape_segment *last = s->n > 0 ? &s->segments[s->n - 1] : NULL;
        if (last && kind == TAPE_SHARDS && last->kind == TAPE_SHARDS)
            last->end = i + 1;
        else
            s->segments[s->n++] = (struct tape_segment){kind, i, i + 1};
    }
    return 0;
}

/* ---- memory ----------------------------------------------------------------------------- */

/* A view's output is its input's memory: there is nothing to run. */
static int place_values(struct tape *t)
{
    const struct graph *g = t->graph;
    t->values = allocate(t, (size_t)g->n_values * sizeof *t->values);
    if (!t->values)
        return -1;
    for (int v = 0; v < g->n_values; v++) {
        const struct graph_value *value = &g->values[v];
        if (value->producer < 0 && !value->is_input) {
            t->values[v] = (void *)(uintptr_t)value->type.constant;
            continue;
        }
        const struct graph_node *node = value->producer < 0 ? NULL : &g->nodes[value->producer];
        if (node && node->op->flags & OP_VIEW && node->outputs[0] == v)
            t->values[v] = t->values[node->inputs[0]];
        else
            t->values[v] = allocate(t, value_bytes(&value->type));
        if (!t->values[v])
            return -1;
    }
    return 0;
}

/* Memory of gradients. Within a slice one gradient may take the place of another of the same
 * row size that is not needed any more: the rows of different slices never overlap. */
struct slots {
    int n;
    struct slot {
        size_t row_bytes;
        bool free;
        void *memory;
    } *slots; /* [n_values] */
    int *of;   /* [n_values]: the slot of a value's gradient, or -1 */
};

static int slot_take(struct tape *t, struct slots *s, int value)
{
    bool by_rows = type_of(t, value)->batch == 0;
    int slot = 0;
    while (slot < s->n &&
           !(by_rows && s->slots[slot].free && s->slots[slot].row_bytes == row_bytes(t, value)))
        slot++;
    if (slot == s->n) {
        void *memory = allocate(t, value_bytes(type_of(t, value)));
        if (!memory)
            return -1;
        s->slots[s->n++] = (struct slot){by_rows ? row_bytes(t, value) : 0, false, memory};
    }
    s->slots[slot].free = false;
    s->of[value] = slot;
    t->d_values[value] = s->slots[slot].memory;
    return 0;
}

static int count_uses(const struct graph *g, int value)
{
    int uses = 0;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            uses += g->nodes[i].inputs[k] == value;
    return uses;
}

/* A view whose input has no other use: the gradients of both are one. */
static bool shares_gradient(const struct tape *t, const struct graph_node *node)
{
    return node->op->flags & OP_VIEW && node->inputs[0] != t->network->output &&
           type_of(t, node->inputs[0])->batch == 0 &&
           type_of(t, node->outputs[0])->batch == 0 &&
           count_uses(t->graph, node->inputs[0]) == 1;
}

static int place_step(struct tape *t, struct slots *s, int step)
{
    const struct graph_node *node = &t->graph->nodes[t->autodiff.steps[step]];
    const bool *needed = t->autodiff.needed;
    for (int i = 0; i < node->n_inputs; i++) {
        int v = node->inputs[i];
        if (v == GRAPH_NONE || !needed[v] || t->shared[v] >= 0 || s->of[v] >= 0)
            continue;
        if (i == 0 && shares_gradient(t, node)) {
            s->of[v] = s->of[node->outputs[0]];
            t->d_values[v] = t->d_values[node->outputs[0]];
            t->skips[step] = true;
            return 0;
        }
        t->first_step[v] = step;
        if (slot_take(t, s, v) != 0)
            return -1;
    }
    for (int i = 0; i < node->n_outputs; i++)
        if (node->outputs[i] != GRAPH_NONE && s->of[node->outputs[i]] >= 0)
            s->slots[s->of[node->outputs[i]]].free = true;
    return 0;
}

static int place_gradients(struct tape *t)
{
    const struct graph *g = t->graph;
    size_t n = (size_t)g->n_values;
    t->skips = allocate(t, (size_t)t->autodiff.n_steps * sizeof *t->skips);
    t->first_step = allocate(t, n * sizeof *t->first_step);
    t->shared = allocate(t, n * sizeof *t->shared);
    t->d_values = allocate(t, n * sizeof *t->d_values);
    struct slots slots = {.slots = allocate(t, n * sizeof *slots.slots),
                          .of = allocate(t, n * sizeof *slots.of)};
    if (!t->skips || !t->first_step || !t->shared || !t->d_values || !slots.slots || !slots.of)
        return -1;
    for (size_t v = 0; v < n; v++) {
        t->first_step[v] = slots.of[v] = -1;
        t->shared[v] = -1;
    }

    t->gradient_size = t->network->n_trained;
    for (int p = 0; p < t->network->n_parameters; p++)
        if (t->network->parameters[p].kind <= PARAMETER_BIAS)
            t->shared[t->network->parameters[p].value] = t->network->parameters[p].offset;
    for (int v = 0; v < g->n_values; v++)
        if (t->autodiff.needed[v] && g->values[v].producer >= 0 &&
            type_of(t, v)->batch == BATCH_NONE) {
            t->shared[v] = t->gradient_size;
            t->gradient_size += shape_elements(&type_of(t, v)->shape);
        }

    if (slot_take(t, &slots, t->network->output) != 0)
        return -1;
    for (int step = 0; step < t->autodiff.n_steps; step++)
        if (place_step(t, &slots, step) != 0)
            return -1;
    t->gradients = allocate(t, (size_t)(t->max_shards + 1) * (size_t)t->gradient_size *
                                   sizeof *t->gradients);
    return t->gradients ? 0 : -1;
}

/* ---- cutting a batch -------------------------------------------------------------------- */

/* Halving keeps the shards of a usual batch equal in size. */
static int count_shards(const struct tape *t, int64_t rows)
{
    double flops = 0;
    for (int i = 0; i < t->graph->n_nodes; i++)
        flops += t->graph->nodes[i].flops;
    flops *= (double)rows / (double)t->max_batch;
    double least = min_flops_per_weight * (double)t->network->n_trained;
    if (least < min_shard_flops)
        least = min_shard_flops;
    int n = TAPE_MAX_SHARDS;
    while (n > 1 && (rows / n < MIN_SHARD_ROWS || flops / n < least))
        n /= 2;
    return n;
}

/* What inference says of a slice of `rows` rows. */
struct slice_types {
    struct op_value *types; /* [n_values] */
    struct needs {
        size_t saved, scratch;
    } *needs; /* [n_nodes] */
};

static int check_type(const struct tape *t, int value, const struct op_value *type, bool shard,
                      int64_t rows, struct nn_error *error)
{
    const struct op_value *full = type_of(t, value);
    int64_t row = shape_product(&full->shape, full->shape.rank > 0, full->shape.rank);
    if (value_bytes(type) > value_bytes(full) ||
        (shard && (type->batch != 0 || type->shape.dims[0] != rows ||
                   shape_product(&type->shape, 1, type->shape.rank) != row)))
        return nn_fail(error, "%s: its shape for %lld rows does not follow from that for %lld",
                       t->graph->values[value].name, (long long)rows, (long long)t->max_batch);
    return 0;
}

/* whole: the types of the whole batch, for what a shard sees of it; NULL: this is the whole. */
static int infer_slice(struct tape *t, int64_t rows, const struct op_value *whole,
                       struct slice_types *slice, struct nn_error *error)
{
    const struct graph *g = t->graph;
    size_t n = (size_t)g->n_values;
    slice->types = allocate(t, n * sizeof *slice->types);
    slice->needs = allocate(t, (size_t)g->n_nodes * sizeof *slice->needs);
    struct op_value *outputs = allocate(t, n * sizeof *outputs);
    if (!slice->types || !slice->needs || !outputs)
        return nn_fail(error, "no memory for a batch of %lld rows", (long long)rows);
    for (int v = 0; v < g->n_values; v++) {
        slice->types[v] = whole ? whole[v] : g->values[v].type;
        if ((whole || g->values[v].is_input) && slice->types[v].batch == 0)
            slice->types[v].shape.dims[0] = rows;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct graph_node *node = &g->nodes[i];
        if (whole && !keeps_rows(t, node))
            continue;
        struct op_inference result = {0};
        if (graph_infer_node(g, i, rows, slice->types, &result, outputs, error) != 0)
            return -1;
        for (int k = 0; k < node->n_outputs; k++) {
            if (node->outputs[k] == GRAPH_NONE)
                continue;
            if (check_type(t, node->outputs[k], &outputs[k], whole != NULL, rows, error) != 0)
                return -1;
            slice->types[node->outputs[k]] = outputs[k];
        }
        size_t scratch =
            result.scratch > result.gradient_scratch ? result.scratch : result.gradient_scratch;
        slice->needs[i] = (struct needs){aligned(result.saved), scratch};
        if (scratch > t->scratch)
            t->scratch = scratch;
    }
    return 0;
}

static struct nn_tensor tensor_at(const struct op_value *type, void *base, size_t offset)
{
    return (struct nn_tensor){type->datatype, type->shape, base ? (char *)base + offset : NULL};
}

/* Pointers to the tensors of some values; NULL where there is none or it has no elements. */
static struct nn_tensor **pick(struct tape *t, int n, const int *values,
                               struct nn_tensor *tensors)
{
    struct nn_tensor **picked = allocate(t, (size_t)n * sizeof *picked);
    for (int i = 0; picked && i < n; i++)
        if (values[i] != GRAPH_NONE && tensors[values[i]].data)
            picked[i] = &tensors[values[i]];
    return picked;
}

static int make_call(struct tape *t, struct tape_slice *slice, int index, size_t saved)
{
    const struct graph_node *node = &t->graph->nodes[index];
    struct op_call *call = &slice->calls[index];
    *call = (struct op_call){.attributes = node->attributes,
                             .n_inputs = node->n_inputs,
                             .n_outputs = node->n_outputs,
                             .n_parts = 1};
    struct nn_tensor **inputs = pick(t, node->n_inputs, node->inputs, slice->values);
    struct nn_tensor **outputs = pick(t, node->n_outputs, node->outputs, slice->values);
    struct nn_tensor **d_inputs = pick(t, node->n_inputs, node->inputs, slice->d_values);
    struct nn_tensor **d_outputs = pick(t, node->n_outputs, node->outputs, slice->d_values);
    if (!inputs || !outputs || !d_inputs || !d_outputs)
        return -1;
    call->inputs = (const struct nn_tensor *const *)inputs;
    call->outputs = outputs;
    call->d_inputs = d_inputs;
    call->d_outputs = (const struct nn_tensor *const *)d_outputs;
    if (saved > 0 && t->training && !(call->saved = allocate(t, saved)))
        return -1;
    return 0;
}

/* `buffer`: which gradient buffer the slice adds to. */
static int make_slice(struct tape *t, struct tape_slice *slice, const struct slice_types *types,
                      int buffer, bool shard)
{
    const struct graph *g = t->graph;
    size_t n = (size_t)g->n_values;
    slice->values = allocate(t, n * sizeof *slice->values);
    slice->d_values = allocate(t, n * sizeof *slice->d_values);
    slice->calls = allocate(t, (size_t)g->n_nodes * sizeof *slice->calls);
    if (!slice->values || !slice->d_values || !slice->calls)
        return -1;
    for (int v = 0; v < g->n_values; v++) {
        const struct op_value *type = &types->types[v];
        size_t offset = type->batch == 0 ? (size_t)slice->begin * row_bytes(t, v) : 0;
        slice->values[v] = tensor_at(type, t->values[v], offset);
        if (!t->training || !t->autodiff.needed[v])
            continue;
        if (t->shared[v] < 0)
            slice->d_values[v] = tensor_at(type, t->d_values[v], offset);
        else
            slice->d_values[v] =
                tensor_at(type, t->gradients + buffer * t->gradient_size + t->shared[v], 0);
    }
    for (int i = 0; i < g->n_nodes; i++) {
        bool sharded = kind_of(t, i, t->training) == TAPE_SHARDS;
        if (shard && !keeps_rows(t, &g->nodes[i]))
            continue;
        if (make_call(t, slice, i, sharded == shard ? types->needs[i].saved : 0) != 0)
            return -1;
    }
    return 0;
}

const struct tape_cut *tape_find_cut(const struct tape *t, int64_t rows)
{
    for (int i = 0; i < t->n_cuts; i++)
        if (t->cuts[i]->rows == rows)
            return t->cuts[i];
    return NULL;
}

const struct tape_cut *tape_cut(struct tape *t, int64_t rows, struct nn_error *error)
{
    const struct tape_cut *known = tape_find_cut(t, rows);
    if (known)
        return known;
    struct tape_cut **cuts = realloc(t->cuts, (size_t)(t->n_cuts + 1) * sizeof *cuts);
    if (cuts)
        t->cuts = cuts;
    struct tape_cut *cut = allocate(t, sizeof *cut);
    int n = count_shards(t, rows);
    struct tape_slice *shards = allocate(t, (size_t)n * sizeof *shards);
    if (!cuts || !cut || !shards)
        goto no_memory;
    *cut = (struct tape_cut){rows, n, shards, {.rows = rows}};

    struct slice_types whole, longer, shorter;
    if (infer_slice(t, rows, NULL, &whole, error) != 0 ||
        infer_slice(t, rows / n, whole.types, &shorter, error) != 0 ||
        infer_slice(t, (rows + n - 1) / n, whole.types, &longer, error) != 0)
        return NULL;
    if (make_slice(t, &cut->whole, &whole, t->max_shards, false) != 0)
        goto no_memory;
    for (int i = 0; i < n; i++) {
        int64_t begin = rows * i / n;
        shards[i] = (struct tape_slice){.begin = begin, .rows = rows * (i + 1) / n - begin};
        if (make_slice(t, &shards[i], shards[i].rows == rows / n ? &shorter : &longer, i,
                       true) != 0)
            goto no_memory;
    }
    return t->cuts[t->n_cuts++] = cut;

no_memory:
    nn_fail(error, "no memory for a batch of %lld rows", (long long)rows);
    return NULL;
}

/* ---- the whole -------------------------------------------------------------------------- */

static int differentiate(struct tape *t, struct nn_error *error)
{
    const struct network *network = t->network;
    int *wanted = allocate(t, (size_t)network->n_parameters * sizeof *wanted);
    if (!wanted)
        return nn_fail(error, "no memory to differentiate the graph");
    int n = 0;
    for (int p = 0; p < network->n_parameters; p++)
        if (network->parameters[p].kind <= PARAMETER_BIAS)
            wanted[n++] = network->parameters[p].value;
    return autodiff_make(&t->autodiff, t->graph, network->output, n, wanted, error);
}

int tape_init(struct tape *t, struct network *network, int64_t max_batch, bool training,
              struct nn_error *error)
{
    struct graph *g = network->graph;
    *t = (struct tape){
        .network = network, .graph = g, .max_batch = max_batch, .training = training};
    if (graph_infer(g, max_batch, error) != 0)
        goto fail;
    const struct op_value *output = type_of(t, network->output);
    if (output->batch != 0) {
        nn_fail(error, "%s: the network's output does not keep the rows of the batch",
                g->values[network->output].name);
        goto fail;
    }
    t->max_shards = count_shards(t, max_batch);
    if (training && differentiate(t, error) != 0)
        goto fail;
    if (place_values(t) != 0 || schedule(t, &t->inference, g->n_nodes, NULL, false) != 0 ||
        schedule(t, &t->forward, g->n_nodes, NULL, true) != 0 ||
        (training && (place_gradients(t) != 0 || schedule(t, &t->backward, t->autodiff.n_steps,
                                                          t->autodiff.steps, true) != 0))) {
        nn_fail(error, "no memory for batches of %lld rows", (long long)max_batch);
        goto fail;
    }
    return 0;

fail:
    tape_release(t);
    return -1;
}

void tape_release(struct tape *t)
{
    autodiff_release(&t->autodiff);
    free(t->cuts);
    while (t->blocks) {
        struct tape_block *next = t->blocks->next;
        free(t->blocks->memory);
        free(t->blocks);
        t->blocks = next;
    }
    *t = (struct tape){0};
}
