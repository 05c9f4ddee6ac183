/*
 * Opening a model: everything that can be checked or computed once is, so that what is left
 * for a session is to run.
 */
#include "engine/model.h"

#include "engine/formats/json_read.h"
#include "engine/kernels/kernels.h"
#include "engine/optimize.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What one row may cost, and the replay of all golden samples: far above any model that is
 * served from a processor, and low enough that a hostile bundle cannot stop the process. */
#define MODEL_MAX_ROW_BYTES (INT64_C(4) << 30)
#define MODEL_MAX_ROW_FLOPS 1e12
#define MODEL_MAX_GOLDEN_FLOPS 4e12

enum { GOLDEN_SLICE = 16 };     /* rows that are replayed at a time */

void nn_engine_start(void)
{
    kernels_start();
    json_read_start();
}

/* ports */

static int make_ports(struct nn_model *model, struct nn_error *error)
{
    struct graph *g = model->graph;
    if (g->n_outputs < 1)
        return nn_fail(error, "the graph has no output");
    model->inputs = calloc((size_t)g->n_inputs + 1, sizeof *model->inputs);
    model->outputs = calloc((size_t)g->n_outputs + 1, sizeof *model->outputs);
    struct nn_shape *shapes = calloc((size_t)g->n_outputs, sizeof *shapes);
    int status = -1;
    if (!model->inputs || !model->outputs || !shapes) {
        nn_fail(error, "out of memory");
        goto done;
    }
    if (graph_follow_batch(g, shapes, &model->unbatched, error) != 0)
        goto done;
    for (int i = 0; i < g->n_inputs; i++) {
        const struct graph_value *v = &g->values[g->inputs[i]];
        model->inputs[i] = (struct nn_port){v->name, v->type.datatype, v->declared};
    }
    for (int i = 0; i < g->n_outputs; i++) {
        const struct graph_value *v = &g->values[g->outputs[i]];
        model->outputs[i] = (struct nn_port){v->name, v->type.datatype, shapes[i]};
    }
    status = 0;

done:
    free(shapes);
    return status;
}

static int64_t count_parameters(const struct graph *g)
{
    int64_t n = 0;
    for (int i = 0; i < g->n_values; i++) {
        const struct graph_value *v = &g->values[i];
        if (!v->is_input && v->producer < 0 && nn_datatype_is_real(v->type.datatype))
            n += shape_elements(&v->type.shape);
    }
    return n;
}

/* For the one row that the graph was inferred for. */
static int check_cost(const struct graph *g, double *flops, struct nn_error *error)
{
    int64_t bytes = 0;
    *flops = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        double elements = 0;
        for (int j = 0; j < n->n_outputs; j++) {
            if (n->outputs[j] == GRAPH_NONE)
                continue;
            const struct op_value *type = &g->values[n->outputs[j]].type;
            elements += (double)shape_elements(&type->shape);
            bytes += tensor_bytes(type->datatype, &type->shape);
        }
        *flops += n->flops > elements ? n->flops : elements;
    }
    if (bytes > MODEL_MAX_ROW_BYTES)
        return nn_fail(error, "one row takes %" PRId64 " MiB, at most %" PRId64, bytes >> 20,
                       MODEL_MAX_ROW_BYTES >> 20);
    if (*flops > MODEL_MAX_ROW_FLOPS)
        return nn_fail(error, "one row takes %.3g operations, at most %.3g", *flops,
                       MODEL_MAX_ROW_FLOPS);
    return 0;
}

/* golden samples */

/* Rows [begin, begin + rows) of a tensor whose first dimension is the batch. */
static struct nn_tensor slice(const struct nn_tensor *tensor, int64_t begin, int64_t rows)
{
    struct nn_tensor part = *tensor;
    size_t row = (size_t)shape_product(&part.shape, 1, part.shape.rank)
                 * nn_datatype_size(part.datatype);
    part.shape.dims[0] = rows;
    part.data = (char *)part.data + (size_t)begin * row;
    return part;
}

/* How far an element may be from the sample: where the type is coarser than that, by a unit of
 * its last place, since the same number may be rounded up here and down there. */
static double tolerance_of(enum nn_datatype datatype, double wanted)
{
    double relative = datatype == NN_FP16   ? 0x1p-10
                      : datatype == NN_BF16 ? 0x1p-7
                                            : MODEL_GOLDEN_TOLERANCE;
    return relative * fmax(1, fabs(wanted));
}

/* `first` is the row of all samples with which `expected` begins. */
static int compare(const char *name, const struct nn_tensor *expected,
                   const struct nn_tensor *got, int64_t first, struct nn_error *error)
{
    int64_t n = shape_elements(&got->shape);
    int64_t row = got->shape.rank > 0 ? n / got->shape.dims[0] : n;
    for (int64_t i = 0; i < n; i++) {
        double wanted = nn_tensor_element(expected, i), is = nn_tensor_element(got, i);
        /* NaN is a difference, and so is what should be infinite. */
        if (!(fabs(is - wanted) <= tolerance_of(got->datatype, wanted)) || !isfinite(wanted))
            return nn_fail(error, "golden sample %" PRId64 " does not reproduce: output \"%s\" "
                           "element %" PRId64 " should be %.9g, is %.9g", first + i / row, name,
                           i % row, wanted, is);
    }
    return 0;
}

/* bundle_read() has checked the shapes: those of the inputs, and what inference gives for
 * them. Without an input that has the batch there is one sample. */
static int64_t count_golden(const struct nn_model *model)
{
    for (int i = 0; i < model->graph->n_inputs; i++) {
        const struct nn_shape *shape = &model->inputs[i].shape;
        if (shape->rank > 0 && shape->dims[0] == -1)
            return model->bundle.golden_inputs[i].shape.dims[0];
    }
    return 1;
}

static int replay_rows(const struct nn_model *model, struct nn_session *session, int64_t begin,
                       int64_t rows, struct nn_error *error)
{
    bool sliced = !model->unbatched;
    for (int i = 0; i < model->graph->n_inputs; i++) {
        struct nn_tensor golden = model->bundle.golden_inputs[i];
        if (sliced)
            golden = slice(&golden, begin, rows);
        memcpy(nn_session_input(session, i), golden.data,
               (size_t)tensor_bytes(golden.datatype, &golden.shape));
    }
    if (nn_session_run(session, rows, error) != 0)
        return nn_fail_in(error, "golden samples");
    for (int i = 0; i < model->graph->n_outputs; i++) {
        struct nn_tensor golden = model->bundle.golden_outputs[i];
        if (sliced)
            golden = slice(&golden, begin, rows);
        if (compare(model->outputs[i].name, &golden, nn_session_output(session, i), begin,
                    error) != 0)
            return -1;
    }
    return 0;
}

static int replay_golden(struct nn_model *model, double flops, struct nn_error *error)
{
    if (!model->bundle.golden_inputs)
        return 0;
    int64_t rows = count_golden(model);
    if (flops * (double)rows > MODEL_MAX_GOLDEN_FLOPS)
        return nn_fail(error, "%" PRId64 " golden samples take %.3g operations, at most %.3g",
                       rows, flops * (double)rows, MODEL_MAX_GOLDEN_FLOPS);

    int64_t step = model->unbatched || rows < GOLDEN_SLICE ? rows : GOLDEN_SLICE;
    struct nn_session *session = nn_session_new(model, step, error);
    if (!session)
        return nn_fail_in(error, "golden samples");
    int status = 0;
    for (int64_t begin = 0; begin < rows && status == 0; begin += step)
        status = replay_rows(model, session, begin, rows - begin < step ? rows - begin : step,
                             error);
    nn_session_free(session);
    model->n_golden = rows;
    return status;
}

/* opening */

struct nn_model *model_from_bundle(struct bundle *bundle, struct nn_error *error)
{
    struct nn_model *model = calloc(1, sizeof *model);
    if (!model) {
        bundle_release(bundle);
        nn_fail(error, "out of memory");
        return NULL;
    }
    model->bundle = *bundle;
    *bundle = (struct bundle){0};
    model->graph = model->bundle.graph;
    model->n_parameters = count_parameters(model->graph);

    double flops;
    if (make_ports(model, error) == 0 && check_cost(model->graph, &flops, error) == 0 &&
        graph_optimize(model->graph, error) == 0 && graph_infer(model->graph, 1, error) == 0 &&
        replay_golden(model, flops, error) == 0)
        return model;
    nn_model_close(model);
    return NULL;
}

struct nn_model *nn_model_open(const char *path, struct nn_error *error)
{
    struct bundle bundle;
    if (bundle_read(&bundle, path, error) != 0)
        return NULL;
    struct nn_model *model = model_from_bundle(&bundle, error);
    if (!model)
        nn_fail_in(error, "%s", path);
    return model;
}

void nn_model_close(struct nn_model *model)
{
    if (!model)
        return;
    free(model->inputs);
    free(model->outputs);
    bundle_release(&model->bundle);
    free(model);
}

/* what is known of it */

int nn_model_n_inputs(const struct nn_model *model)
{
    return model->graph->n_inputs;
}

int nn_model_n_outputs(const struct nn_model *model)
{
    return model->graph->n_outputs;
}

const struct nn_port *nn_model_input(const struct nn_model *model, int i)
{
    return &model->inputs[i];
}

const struct nn_port *nn_model_output(const struct nn_model *model, int i)
{
    return &model->outputs[i];
}

const char *nn_model_unbatched(const struct nn_model *model)
{
    return model->unbatched;
}

int nn_model_n_labels(const struct nn_model *model)
{
    return model->bundle.n_labels;
}

const char *nn_model_label(const struct nn_model *model, int i)
{
    return model->bundle.labels[i];
}

const char *nn_model_metadata(const struct nn_model *model, const char *key)
{
    return bundle_metadata(&model->bundle, key);
}

int64_t nn_model_n_parameters(const struct nn_model *model)
{
    return model->n_parameters;
}

int64_t nn_model_n_golden(const struct nn_model *model)
{
    return model->n_golden;
}
