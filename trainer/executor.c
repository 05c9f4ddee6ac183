#include "trainer/executor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "trainer/tape.h"

/* Weights whose gradients are summed in one turn. */
enum { SUM_RANGE = 8192 };

struct executor {
    struct network *network;
    struct parallel *parallel;
    struct tape tape;
    size_t scratch_size;
    void **scratch;    /* [threads]: passing memory of each */
    nn_real *gradient; /* [n_trained] */
    int64_t n_outputs; /* logits of a row */

    /* the run that is going on */
    const struct tape_cut *cut;
    const struct tape_segment *segment;
    bool training, last; /* last: the loss follows this segment */
    int next_step;       /* backwards: on the whole batch, after this segment; or -1 */
    uint64_t key;
    struct executor_target target;
    double losses[TAPE_MAX_SHARDS];
};

static int make_scratch(struct executor *e, struct nn_error *error)
{
    if (e->tape.scratch <= e->scratch_size)
        return 0;
    for (int i = 0; i < parallel_threads(e->parallel); i++) {
        free(e->scratch[i]);
        e->scratch[i] = tensor_allocate(e->tape.scratch);
        if (!e->scratch[i]) {
            e->scratch_size = 0;
            return nn_fail(error, "no memory to run the network in");
        }
    }
    e->scratch_size = e->tape.scratch;
    return 0;
}

struct executor *executor_new(struct network *network, int64_t max_batch, bool training,
                              struct parallel *parallel, struct nn_error *error)
{
    struct executor *e = calloc(1, sizeof *e);
    if (!e) {
        nn_fail(error, "no memory to run the network in");
        return NULL;
    }
    e->network = network;
    e->parallel = parallel;
    e->scratch = calloc((size_t)parallel_threads(parallel), sizeof *e->scratch);
    e->gradient = tensor_allocate((size_t)(network->n_trained + 1) * sizeof *e->gradient);
    if (!e->scratch || !e->gradient) {
        nn_fail(error, "no memory to run the network in");
        goto fail;
    }
    if (tape_init(&e->tape, network, max_batch, training, error) != 0 ||
        executor_prepare(e, max_batch, error) != 0)
        goto fail;
    const struct nn_shape *shape = &network->graph->values[network->output].type.shape;
    e->n_outputs = shape_product(shape, 1, shape->rank);
    return e;

fail:
    executor_free(e);
    return NULL;
}

void executor_free(struct executor *e)
{
    if (!e)
        return;
    for (int i = 0; e->scratch && i < parallel_threads(e->parallel); i++)
        free(e->scratch[i]);
    free(e->scratch);
    free(e->gradient);
    tape_release(&e->tape);
    free(e);
}

int executor_prepare(struct executor *e, int64_t rows, struct nn_error *error)
{
    if (!tape_cut(&e->tape, rows, error))
        return -1;
    return make_scratch(e, error);
}

void *executor_input(struct executor *e, int i)
{
    return e->tape.values[e->network->graph->inputs[i]];
}

const nn_real *executor_output(const struct executor *e)
{
    return e->tape.values[e->network->output];
}

int64_t executor_output_size(const struct executor *e)
{
    return e->n_outputs;
}

/* ---- forwards --------------------------------------------------------------------------- */

static void prepare_call(const struct executor *e, const struct tape_slice *slice, int node,
                         struct op_training *training, struct op_call *call)
{
    *call = slice->calls[node];
    call->scratch = e->scratch[parallel_self()];
    if (e->training) {
        *training =
            (struct op_training){kernel_random_key(e->key, (uint64_t)node), slice->begin};
        call->training = training;
    } else {
        call->saved = NULL;
    }
}

static void run_node(const struct executor *e, const struct tape_slice *slice, int node,
                     int part, int n_parts)
{
    const struct op *op = e->network->graph->nodes[node].op;
    struct op_training training;
    struct op_call call;
    prepare_call(e, slice, node, &training, &call);
    if (op->flags & OP_VIEW && call.outputs[0]->data == call.inputs[0]->data)
        return;
    call.part = part;
    call.n_parts = n_parts;
    op->forward(&call);
}

static void run_loss(struct executor *e, int shard)
{
    const struct tape_slice *slice = &e->cut->shards[shard];
    const struct executor_target *target = &e->target;
    int output = e->network->output;
    e->losses[shard] =
        loss_run(target->loss, slice->rows, e->n_outputs, slice->values[output].data,
                 target->classes ? target->classes + slice->begin : NULL,
                 target->targets ? target->targets + slice->begin * e->n_outputs : NULL,
                 1.0 / (double)e->cut->rows, e->training ? slice->d_values[output].data : NULL);
}

static void forward_shard(void *context, int shard)
{
    struct executor *e = context;
    for (int node = e->segment->begin; node < e->segment->end; node++)
        run_node(e, &e->cut->shards[shard], node, 0, 1);
    if (e->last)
        run_loss(e, shard);
}

static void forward_part(void *context, int part)
{
    struct executor *e = context;
    run_node(e, &e->cut->whole, e->segment->begin, part, TAPE_MAX_PARTS);
}

static void loss_shard(void *context, int shard)
{
    run_loss(context, shard);
}

/* ONNX BatchNormalization: running = momentum running + (1 - momentum) batch. */
static void update_statistics(struct executor *e)
{
    const struct graph *g = e->network->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct graph_node *node = &g->nodes[i];
        if (!(node->op->flags & OP_BATCH_STATISTICS))
            continue;
        const struct op_attribute *row = op_find_attribute(node->op, "momentum");
        double momentum;
        memcpy(&momentum, (const char *)node->attributes + row->offset, sizeof momentum);
        const nn_real *batch = e->cut->whole.calls[i].saved;
        for (int k = 3; k < 5; k++) { /* inputs: running mean, running variance */
            nn_real *running = e->tape.values[node->inputs[k]];
            int64_t n = shape_elements(&g->values[node->inputs[k]].type.shape);
            for (int64_t c = 0; c < n; c++)
                running[c] = (nn_real)(momentum * running[c] + (1 - momentum) * batch[c]);
            batch += n;
        }
    }
}

double executor_forward(struct executor *e, int64_t rows, bool training, uint64_t key,
                        const struct executor_target *target)
{
    const struct tape_schedule *schedule = training ? &e->tape.forward : &e->tape.inference;
    e->cut = tape_find_cut(&e->tape, rows);
    e->training = training;
    e->key = key;
    if (target)
        e->target = *target;
    bool loss_pending = target != NULL;
    for (int i = 0; i < schedule->n; i++) {
        e->segment = &schedule->segments[i];
        if (e->segment->kind == TAPE_SHARDS) {
            e->last = loss_pending && i == schedule->n - 1;
            parallel_run(e->parallel, e->cut->n_shards, forward_shard, e);
            loss_pending &= !e->last;
        } else if (e->segment->kind == TAPE_PARTS) {
            parallel_run(e->parallel, TAPE_MAX_PARTS, forward_part, e);
        } else {
            run_node(e, &e->cut->whole, e->segment->begin, 0, 1);
        }
    }
    if (loss_pending)
        parallel_run(e->parallel, e->cut->n_shards, loss_shard, e);
    if (training)
        update_statistics(e);
    double loss = 0;
    for (int i = 0; target && i < e->cut->n_shards; i++)
        loss += e->losses[i];
    return loss;
}

/* ---- backwards -------------------------------------------------------------------------- */

/* Zeroes the gradients to which a step is the first to add. by_rows: those whose batch is axis
 * 0, else the others. */
static void zero_before(const struct executor *e, const struct tape_slice *slice, int step,
                        bool by_rows)
{
    const struct graph *g = e->network->graph;
    const struct graph_node *node = &g->nodes[e->tape.autodiff.steps[step]];
    for (int i = 0; i < node->n_inputs; i++) {
        int v = node->inputs[i];
        if (v == GRAPH_NONE || e->tape.first_step[v] != step ||
            (g->values[v].type.batch == 0) != by_rows)
            continue;
        const struct nn_tensor *d = &slice->d_values[v];
        memset(d->data, 0, (size_t)tensor_bytes(d->datatype, &d->shape));
    }
}

static void run_step(const struct executor *e, const struct tape_slice *slice, int step,
                     int part, int n_parts)
{
    if (e->tape.skips[step])
        return;
    int node = e->tape.autodiff.steps[step];
    struct op_training training;
    struct op_call call;
    prepare_call(e, slice, node, &training, &call);
    call.part = part;
    call.n_parts = n_parts;
    autodiff_find(e->network->graph->nodes[node].op)(&call);
}

static void zero_buffer(void *context, int i)
{
    struct executor *e = context;
    int64_t n = e->tape.gradient_size;
    int buffer = i < e->cut->n_shards ? i : e->tape.max_shards;
    memset(e->tape.gradients + buffer * n, 0, (size_t)n * sizeof(nn_real));
}

static void backward_shard(void *context, int shard)
{
    struct executor *e = context;
    const struct tape_slice *slice = &e->cut->shards[shard];
    for (int step = e->segment->begin; step < e->segment->end; step++) {
        zero_before(e, slice, step, true);
        run_step(e, slice, step, 0, 1);
    }
    if (e->next_step >= 0)
        zero_before(e, slice, e->next_step, true);
}

static void zero_shard(void *context, int shard)
{
    struct executor *e = context;
    zero_before(e, &e->cut->shards[shard], e->segment->begin, true);
}

static void backward_part(void *context, int part)
{
    struct executor *e = context;
    run_step(e, &e->cut->whole, e->segment->begin, part, TAPE_MAX_PARTS);
}

/* sum[0, n) = the shards' buffers from `offset` on, in their order, and then the whole's. */
static void sum_buffers(const struct executor *e, int64_t offset, int64_t n, nn_real *sum)
{
    const nn_real *buffers = e->tape.gradients + offset;
    int64_t size = e->tape.gradient_size;
    memcpy(sum, buffers, (size_t)n * sizeof *sum);
    for (int s = 1; s < e->cut->n_shards; s++)
        kernel_axpy(n, 1, buffers + s * size, sum);
    kernel_axpy(n, 1, buffers + e->tape.max_shards * size, sum);
}

/* What was computed from weights alone is read by all shards, but was computed once: its
 * gradient goes on once, with the shards' gradients summed. */
static void gather_shared(struct executor *e, int step)
{
    const struct graph *g = e->network->graph;
    const struct graph_node *node = &g->nodes[e->tape.autodiff.steps[step]];
    for (int i = 0; i < node->n_outputs; i++) {
        int v = node->outputs[i];
        if (v == GRAPH_NONE || e->tape.shared[v] < 0)
            continue;
        int64_t offset = e->tape.shared[v], n = shape_elements(&g->values[v].type.shape);
        nn_real *whole =
            e->tape.gradients + e->tape.max_shards * e->tape.gradient_size + offset;
        for (int s = 0; s < e->cut->n_shards; s++)
            kernel_axpy(n, 1, e->tape.gradients + s * e->tape.gradient_size + offset, whole);
    }
}

static void sum_range(void *context, int i)
{
    struct executor *e = context;
    int64_t begin = (int64_t)i * SUM_RANGE, end = begin + SUM_RANGE;
    if (end > e->network->n_trained)
        end = e->network->n_trained;
    sum_buffers(e, begin, end - begin, e->gradient + begin);
}

nn_real *executor_backward(struct executor *e)
{
    const struct tape_schedule *schedule = &e->tape.backward;
    parallel_run(e->parallel, e->cut->n_shards + 1, zero_buffer, e);
    bool zeroed = false;
    for (int i = 0; i < schedule->n; i++) {
        e->segment = &schedule->segments[i];
        if (e->segment->kind == TAPE_SHARDS) {
            const struct tape_segment *next = e->segment + 1;
            zeroed = i + 1 < schedule->n && next->kind != TAPE_SHARDS;
            e->next_step = zeroed ? next->begin : -1;
            parallel_run(e->parallel, e->cut->n_shards, backward_shard, e);
            continue;
        }
        if (!zeroed)
            parallel_run(e->parallel, e->cut->n_shards, zero_shard, e);
        zeroed = false;
        zero_before(e, &e->cut->whole, e->segment->begin, false);
        gather_shared(e, e->segment->begin);
        if (e->segment->kind == TAPE_PARTS)
            parallel_run(e->parallel, TAPE_MAX_PARTS, backward_part, e);
        else
            run_step(e, &e->cut->whole, e->segment->begin, 0, 1);
    }
    int ranges = (int)((e->network->n_trained + SUM_RANGE - 1) / SUM_RANGE);
    parallel_run(e->parallel, ranges, sum_range, e);
    return e->gradient;
}

const char *executor_nonfinite(const struct executor *e)
{
    for (int i = 0; i < e->network->n_layers; i++) {
        const struct nn_tensor *value = &e->cut->whole.values[e->network->layers[i].value];
        const nn_real *x = value->data;
        int64_t n = value->datatype == NN_FP32 ? shape_elements(&value->shape) : 0;
        for (int64_t k = 0; k < n; k++)
            if (!isfinite(x[k]))
                return e->network->layers[i].name;
    }
    return NULL;
}
