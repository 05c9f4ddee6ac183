/*
 * Operations that behave otherwise in training: BatchNormalization and Dropout.
 */
#include "engine/kernels/kernels.h"
#include "engine/op.h"

#include <math.h>
#include <string.h>

/* BatchNormalization -- each channel to mean B and deviation scale (ONNX
 * BatchNormalization-15)
 *
 *     Y = scale (X - mean) / sqrt(var + epsilon) + B
 *     running_mean = momentum input_mean + (1 - momentum) mean        (training_mode 1)
 *     running_var  = momentum input_var  + (1 - momentum) var
 *
 * X [N, C, D...]     scale, B, input_mean, input_var [C]     Y as X     running_* [C]
 * mean, var: the inputs; in training those of the batch over N and D, var of the population
 *            (the sum of squares divided by N D, not by one less)
 * saved: mean [C], var [C] of the batch
 */
struct batch_normalization_attributes {
    double epsilon, momentum;
    int64_t training_mode;
};

#define OFFSET(field) offsetof(struct batch_normalization_attributes, field)
static const struct op_attribute batch_normalization_rows[] = {
    {.name = "epsilon", .kind = OP_FLOAT, .offset = OFFSET(epsilon), .initial = 1e-5, .max = 1},
    {.name = "momentum", .kind = OP_FLOAT, .offset = OFFSET(momentum), .initial = 0.9,
     .max = 1},
    {.name = "training_mode", .kind = OP_INT, .offset = OFFSET(training_mode), .max = 1},
    {.name = NULL},
};
#undef OFFSET

static int BatchNormalization_infer(struct op_inference *inference, struct nn_error *error)
{
    static const char *const names[] = {"X", "scale", "B", "input_mean", "input_var"};
    const struct batch_normalization_attributes *a = inference->attributes;
    const struct op_value *x = inference->inputs[0];
    struct shape_text text;
    if (x->shape.rank < 2)
        return nn_fail(error, "X must be [N, C, ...], not %s", shape_print(&x->shape, &text));
    op_infer_same(inference);
    if (x->batch >= 0 && (x->batch == 1 || a->training_mode))
        inference->outputs[0].batch = BATCH_LOST;
    for (int i = 0; i < 5; i++) {
        const struct op_value *v = inference->inputs[i];
        if (op_need(inference, i, names[i], NN_FP32, error) != 0)
            return -1;
        if (i > 0 && (v->shape.rank != 1 || v->shape.dims[0] != x->shape.dims[1]))
            return nn_fail(error, "%s must be [%lld], not %s", names[i],
                           (long long)x->shape.dims[1], shape_print(&v->shape, &text));
        if (i > 0 && v->batch != BATCH_NONE)
            inference->outputs[0].batch = BATCH_LOST;
    }
    if (inference->n_outputs > 1 && !a->training_mode)
        return nn_fail(error, "running_mean and running_var need training_mode 1");
    for (int i = 1; i < inference->n_outputs; i++)
        inference->outputs[i] = (struct op_value){
            .datatype = NN_FP32,
            .shape = {1, {x->shape.dims[1]}},
            .batch = x->batch == BATCH_NONE ? BATCH_NONE : BATCH_LOST,
        };
    inference->saved = 2 * (size_t)x->shape.dims[1] * sizeof(nn_real);
    inference->flops = 4.0 * (double)shape_elements(&x->shape);
    return 0;
}

/* X as [n, channels, plane], and the channels that a call has to do. */
struct normalization {
    int64_t n, channels, plane;
    int64_t begin, end;
    bool of_batch;              /* the batch's own mean and variance */
};

static struct normalization normalization_of(const struct op_call *call)
{
    const struct batch_normalization_attributes *a = call->attributes;
    const struct nn_shape *x = &call->inputs[0]->shape;
    struct normalization z = {
        .n = x->dims[0],
        .channels = x->dims[1],
        .plane = shape_product(x, 2, x->rank),
        .end = x->dims[1],
        .of_batch = call->training || a->training_mode,
    };
    if (z.of_batch && call->n_parts > 1) {
        z.begin = z.channels * call->part / call->n_parts;
        z.end = z.channels * (call->part + 1) / call->n_parts;
    }
    return z;
}

/* Sums in float64 whatever nn_real is; eight lanes let the compiler use vectors. */
enum { LANES = 8 };

static double lane_sum(const double *lanes)
{
    double sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += lanes[i];
    return sum;
}

/* The sum of (x - shift)^power over a channel, power 1 or 2. */
static double channel_moment(const struct normalization *z, const nn_real *x, int64_t c,
                             double shift, int power)
{
    double lanes[LANES] = {0};
    for (int64_t n = 0; n < z->n; n++) {
        const nn_real *plane = x + (n * z->channels + c) * z->plane;
        int64_t i = 0;
        for (; i + LANES <= z->plane; i += LANES)
            for (int l = 0; l < LANES; l++) {
                double d = (double)plane[i + l] - shift;
                lanes[l] += power == 1 ? d : d * d;
            }
        for (; i < z->plane; i++) {
            double d = (double)plane[i] - shift;
            lanes[0] += power == 1 ? d : d * d;
        }
    }
    return lane_sum(lanes);
}

static nn_real *data_of(const struct nn_tensor *const *tensors, int n, int i)
{
    return i < n && tensors[i] ? tensors[i]->data : NULL;
}

static void BatchNormalization_forward(const struct op_call *call)
{
    const struct batch_normalization_attributes *a = call->attributes;
    struct normalization z = normalization_of(call);
    const nn_real *x = call->inputs[0]->data, *scale = call->inputs[1]->data;
    const nn_real *bias = call->inputs[2]->data;
    const nn_real *input_mean = call->inputs[3]->data, *input_var = call->inputs[4]->data;
    const struct nn_tensor *const *outputs = (const struct nn_tensor *const *)call->outputs;
    nn_real *y = call->outputs[0]->data;
    nn_real *running_mean = data_of(outputs, call->n_outputs, 1);
    nn_real *running_var = data_of(outputs, call->n_outputs, 2);
    nn_real *saved = call->saved;

    for (int64_t c = z.begin; c < z.end; c++) {
        double mean = input_mean[c], var = input_var[c];
        if (z.of_batch) {
            double count = (double)(z.n * z.plane);
            mean = channel_moment(&z, x, c, 0, 1) / count;
            var = channel_moment(&z, x, c, mean, 2) / count;
            if (saved) {
                saved[c] = (nn_real)mean;
                saved[z.channels + c] = (nn_real)var;
            }
            if (running_mean)
                running_mean[c] = (nn_real)(a->momentum * (double)input_mean[c] +
                                            (1 - a->momentum) * mean);
            if (running_var)
                running_var[c] = (nn_real)(a->momentum * (double)input_var[c] +
                                           (1 - a->momentum) * var);
        }
        nn_real m = (nn_real)mean, b = bias[c];
        nn_real factor = (nn_real)((double)scale[c] / sqrt(var + a->epsilon));
        for (int64_t n = 0; n < z.n; n++) {
            int64_t at = (n * z.channels + c) * z.plane;
            for (int64_t i = at; i < at + z.plane; i++)
                y[i] = (x[i] - m) * factor + b;
        }
    }
}

const struct op op_BatchNormalization = {
    .name = "BatchNormalization",
    .min_inputs = 5,
    .max_inputs = 5,
    .min_outputs = 1,
    .max_outputs = 3,
    .flags = OP_IN_PLACE | OP_BATCH_STATISTICS,
    .attributes_size = sizeof(struct batch_normalization_attributes),
    .attributes = batch_normalization_rows,
    .infer = BatchNormalization_infer,
    .forward = BatchNormalization_forward,
};

/* Dropout -- zeroes elements at random (ONNX Dropout-13)
 *
 *     Y = X mask / (1 - ratio)     in training, else X     mask[i] = uniform(i) >= ratio
 *
 * X, Y, mask [...]     ratio, training_mode: constant scalars, optional (0.5, false)
 * saved: the mask, a byte per element
 *
 * i counts from the first element of the whole batch, of which X may be a slice. Two elements
 * share a random number, half its bits each. With a training_mode that is true outside the
 * trainer, the numbers follow from the seed alone.
 */
struct dropout_attributes {
    int64_t seed;
};

static const struct op_attribute dropout_rows[] = {
    {.name = "seed", .kind = OP_INT, .offset = offsetof(struct dropout_attributes, seed)},
    {.name = NULL},
};

/* That an input which was given is a constant of one element. */
static int need_constant_scalar(const struct op_inference *inference, int i, const char *name,
                                struct nn_error *error)
{
    const struct op_value *v = i < inference->n_inputs ? inference->inputs[i] : NULL;
    if (v && (!v->constant || shape_elements(&v->shape) != 1))
        return nn_fail(error, "%s must be a constant with one element", name);
    return 0;
}

static int Dropout_infer(struct op_inference *inference, struct nn_error *error)
{
    if (op_need(inference, 0, "data", NN_FP32, error) != 0 ||
        op_need(inference, 1, "ratio", NN_FP32, error) != 0 ||
        need_constant_scalar(inference, 1, "ratio", error) != 0 ||
        op_need(inference, 2, "training_mode", NN_BOOL, error) != 0 ||
        need_constant_scalar(inference, 2, "training_mode", error) != 0)
        return -1;
    if (inference->n_inputs > 1 && inference->inputs[1]) {
        double ratio = *(const nn_real *)inference->inputs[1]->constant;
        if (!(ratio >= 0 && ratio < 1))
            return nn_fail(error, "ratio must be at least 0 and below 1, not %.15g", ratio);
    }
    op_infer_same(inference);
    struct op_value *y = inference->outputs;
    if (inference->n_inputs > 2 && inference->inputs[2] &&
        *(const uint8_t *)inference->inputs[2]->constant && y->batch >= 0)
        y->batch = BATCH_LOST;
    if (inference->n_outputs > 1) {
        y[1] = y[0];
        y[1].datatype = NN_BOOL;
    }
    inference->saved = (size_t)shape_elements(&y->shape);
    return 0;
}

static double dropout_ratio(const struct op_call *call)
{
    const nn_real *ratio = data_of(call->inputs, call->n_inputs, 1);
    return ratio ? (double)*ratio : 0.5;
}

static bool dropout_drops(const struct op_call *call)
{
    if (call->training)
        return true;
    return call->n_inputs > 2 && call->inputs[2] && *(uint8_t *)call->inputs[2]->data;
}

static void Dropout_forward(const struct op_call *call)
{
    const struct nn_tensor *data = call->inputs[0];
    const struct dropout_attributes *a = call->attributes;
    const nn_real *x = data->data;
    nn_real *y = call->outputs[0]->data;
    uint8_t *mask = call->n_outputs > 1 && call->outputs[1] ? call->outputs[1]->data : NULL;
    uint8_t *saved = call->saved;
    int64_t n = shape_elements(&data->shape);
    if (!dropout_drops(call)) {
        if (y != x)
            memcpy(y, x, (size_t)n * sizeof *y);
        if (mask)
            memset(mask, 1, (size_t)n);
        return;
    }
    uint64_t key = call->training ? call->training->key
                                  : kernel_random_key((uint64_t)a->seed, 0);
    uint64_t begin = 0;
    if (call->training)
        begin = (uint64_t)(call->training->row * shape_product(&data->shape, 1,
                                                               data->shape.rank));
    double ratio = dropout_ratio(call);
    uint64_t threshold = (uint64_t)(ratio * 0x1p32), bits = kernel_random(key, begin / 2);
    /* Factors rather than branches, which nobody could predict. */
    const nn_real factors[2] = {0, (nn_real)(1 / (1 - ratio))};
    for (int64_t i = 0; i < n; i++) {
        uint64_t element = begin + (uint64_t)i;
        if (element % 2 == 0)
            bits = kernel_random(key, element / 2);
        uint8_t kept = (element % 2 ? bits >> 32 : bits & UINT32_MAX) >= threshold;
        y[i] = x[i] * factors[kept];
        if (mask)
            mask[i] = kept;
        if (saved)
            saved[i] = kept;
    }
}

const struct op op_Dropout = {
    .name = "Dropout",
    .min_inputs = 1,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 2,
    .flags = OP_IN_PLACE,
    .attributes_size = sizeof(struct dropout_attributes),
    .attributes = dropout_rows,
    .infer = Dropout_infer,
    .forward = Dropout_forward,
};

/* ------------------------------------------------------------------------------------------ */

/* gradient, with h = (X - mean) / sqrt(var + epsilon) and m = N D:
 *
 *     dB = sum dY     dscale = sum dY h
 *     of the batch:   dX = scale / sqrt(var + epsilon) (dY - dB / m - h dscale / m)
 *     of the inputs:  dX = scale / sqrt(var + epsilon) dY
 *                     dmean = - scale / sqrt(var + epsilon) dB
 *                     dvar = - scale / 2 / (var + epsilon) dscale
 */
op_gradient gradient_BatchNormalization;

/* The sums of dY and dY (X - mean) over a channel. */
static void channel_gradients(const struct normalization *z, const nn_real *x,
                              const nn_real *dy, int64_t c, double mean, double *sum,
                              double *product)
{
    double sums[LANES] = {0}, products[LANES] = {0};
    for (int64_t n = 0; n < z->n; n++) {
        int64_t at = (n * z->channels + c) * z->plane, i = 0;
        for (; i + LANES <= z->plane; i += LANES)
            for (int l = 0; l < LANES; l++) {
                double d = dy[at + i + l];
                sums[l] += d;
                products[l] += d * ((double)x[at + i + l] - mean);
            }
        for (; i < z->plane; i++) {
            sums[0] += dy[at + i];
            products[0] += (double)dy[at + i] * ((double)x[at + i] - mean);
        }
    }
    *sum = lane_sum(sums);
    *product = lane_sum(products);
}

void gradient_BatchNormalization(const struct op_call *call)
{
    const struct batch_normalization_attributes *a = call->attributes;
    struct normalization z = normalization_of(call);
    const nn_real *x = call->inputs[0]->data, *scale = call->inputs[1]->data;
    const nn_real *means = z.of_batch ? call->saved : call->inputs[3]->data;
    const nn_real *vars = z.of_batch ? means + z.channels : call->inputs[4]->data;
    const nn_real *dy = call->d_outputs[0]->data;
    nn_real *d[5];
    for (int i = 0; i < 5; i++)
        d[i] = call->d_inputs[i] ? call->d_inputs[i]->data : NULL;

    for (int64_t c = z.begin; c < z.end; c++) {
        double mean = means[c], spread = (double)vars[c] + a->epsilon, sum, product;
        double inverse = 1 / sqrt(spread), factor = (double)scale[c] * inverse;
        channel_gradients(&z, x, dy, c, mean, &sum, &product);
        double d_scale = product * inverse;
        if (d[1])
            d[1][c] += (nn_real)d_scale;
        if (d[2])
            d[2][c] += (nn_real)sum;
        if (d[3] && !z.of_batch)
            d[3][c] -= (nn_real)(factor * sum);
        if (d[4] && !z.of_batch)
            d[4][c] -= (nn_real)((double)scale[c] / 2 / spread * d_scale);
        if (!d[0])
            continue;
        double count = (double)(z.n * z.plane);
        nn_real m = (nn_real)mean, f = (nn_real)factor;
        nn_real offset = z.of_batch ? (nn_real)(sum / count) : 0;
        nn_real slope = z.of_batch ? (nn_real)(d_scale * inverse / count) : 0;
        for (int64_t n = 0; n < z.n; n++) {
            int64_t at = (n * z.channels + c) * z.plane;
            for (int64_t i = at; i < at + z.plane; i++)
                d[0][i] += f * (dy[i] - offset - (x[i] - m) * slope);
        }
    }
}

/* gradient: dX += dY mask / (1 - ratio) */
op_gradient gradient_Dropout;

void gradient_Dropout(const struct op_call *call)
{
    if (!call->d_inputs[0])
        return;
    int64_t n = shape_elements(&call->inputs[0]->shape);
    const nn_real *dy = call->d_outputs[0]->data;
    nn_real *dx = call->d_inputs[0]->data;
    if (!dropout_drops(call)) {
        kernel_axpy(n, 1, dy, dx);
        return;
    }
    const uint8_t *mask = call->saved;
    nn_real factor = (nn_real)(1 / (1 - dropout_ratio(call)));
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * (factor * (nn_real)mask[i]);
}
