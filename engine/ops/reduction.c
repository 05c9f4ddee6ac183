/*
 * Reductions: sums and means along some axes.
 */
#include "engine/kernels/kernels.h"
#include "engine/op.h"

#include <string.h>

/* ReduceSum, ReduceMean -- the sum, or the mean, along axes (ONNX ReduceSum-13, ReduceMean-13)
 *
 *     Y[kept] = sum over the reduced axes of X        (ReduceMean: / their elements)
 *
 * X [d0 ... dn], FP32, INT32 or INT64     Y: with 1 for a reduced axis, or without it where
 *                                         keepdims is 0
 * axes: an input [r], INT64, constant (ReduceSum); an attribute (ReduceMean). Where there are
 * none all axes are reduced, or with noop_with_empty_axes nothing.
 *
 * Sums of integers wrap around; their mean is rounded toward zero.
 */
struct reduce_attributes {
    int64_t keepdims;
    int64_t noop_with_empty_axes;       /* ReduceSum */
    struct op_ints axes;                /* ReduceMean */
};

#define KEEPDIMS                                                                               \
    {.name = "keepdims", .kind = OP_INT, .offset = offsetof(struct reduce_attributes, keepdims),\
     .initial = 1, .min = 0, .max = 1}

static const struct op_attribute reduce_sum_rows[] = {
    KEEPDIMS,
    {.name = "noop_with_empty_axes", .kind = OP_INT,
     .offset = offsetof(struct reduce_attributes, noop_with_empty_axes), .min = 0, .max = 1},
    {.name = NULL},
};

static const struct op_attribute reduce_mean_rows[] = {
    KEEPDIMS,
    {.name = "axes", .kind = OP_INTS, .offset = offsetof(struct reduce_attributes, axes),
     .min = -NN_MAX_RANK, .max = NN_MAX_RANK - 1},
    {.name = NULL},
};

/* Which axes of a tensor of `rank` are reduced. */
static int reduce_axes(const struct reduce_attributes *a, const int64_t *axes, int64_t n,
                       int rank, bool *reduced, struct nn_error *error)
{
    for (int i = 0; i < rank; i++)
        reduced[i] = n == 0 && !a->noop_with_empty_axes;
    for (int64_t i = 0; i < n; i++) {
        int axis;
        if (op_axis(axes[i], rank, &axis, error) != 0)
            return -1;
        if (reduced[axis])
            return nn_fail(error, "axis %d is named twice", axis);
        reduced[axis] = true;
    }
    return 0;
}

static void reduce_result(const struct reduce_attributes *a, const struct op_value *x,
                          const bool *reduced, struct op_value *y)
{
    *y = (struct op_value){.datatype = x->datatype, .batch = x->batch};
    for (int i = 0; i < x->shape.rank; i++) {
        if (i == x->batch)
            y->batch = reduced[i] ? BATCH_LOST : y->shape.rank;
        if (!reduced[i] || a->keepdims)
            y->shape.dims[y->shape.rank++] = reduced[i] ? 1 : x->shape.dims[i];
    }
}

static int reduce_infer(struct op_inference *inference, const int64_t *axes, int64_t n,
                        struct nn_error *error)
{
    const struct op_value *x = inference->inputs[0];
    if (x->datatype != NN_INT32 && x->datatype != NN_INT64 &&
        op_need(inference, 0, "X", NN_FP32, error) != 0)
        return -1;
    bool reduced[NN_MAX_RANK];
    if (reduce_axes(inference->attributes, axes, n, x->shape.rank, reduced, error) != 0)
        return -1;
    reduce_result(inference->attributes, x, reduced, &inference->outputs[0]);
    inference->flops = (double)shape_elements(&x->shape);
    return 0;
}

static int ReduceSum_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct op_value *axes = inference->n_inputs > 1 ? inference->inputs[1] : NULL;
    if (op_need(inference, 1, "axes", NN_INT64, error) != 0)
        return -1;
    if (axes && (!axes->constant || axes->shape.rank != 1))
        return nn_fail(error, "axes must be a constant list");
    return reduce_infer(inference, axes ? axes->constant : NULL,
                        axes ? axes->shape.dims[0] : 0, error);
}

static int ReduceMean_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct reduce_attributes *a = inference->attributes;
    return reduce_infer(inference, a->axes.values, a->axes.n, error);
}

/* X as runs of elements that lie together and are reduced to one, or none of which is reduced
 * with another of them. Axes of the same kind side by side are one. */
struct reduction {
    int n;                              /* axes outside a run */
    int64_t dims[NN_MAX_RANK], strides[NN_MAX_RANK], at[NN_MAX_RANK];
    int64_t length, step;               /* of a run; step in Y: 0 or 1 */
    int64_t x, y;                       /* where the run begins */
};

static struct reduction reduction_start(const struct nn_shape *x, const bool *reduced)
{
    struct reduction r = {0};
    bool kinds[NN_MAX_RANK];
    for (int i = 0; i < x->rank; i++) {
        if (x->dims[i] == 1)
            continue;
        if (r.n > 0 && kinds[r.n - 1] == reduced[i]) {
            r.dims[r.n - 1] *= x->dims[i];
        } else {
            kinds[r.n] = reduced[i];
            r.dims[r.n++] = x->dims[i];
        }
    }
    int64_t stride = 1;
    for (int i = r.n - 1; i >= 0; i--) {
        r.strides[i] = kinds[i] ? 0 : stride;
        stride *= kinds[i] ? 1 : r.dims[i];
    }
    r.length = 1;
    if (r.n > 0) {
        r.n--;
        r.length = r.dims[r.n];
        r.step = r.strides[r.n];
    }
    return r;
}

static bool reduction_next(struct reduction *r)
{
    r->x += r->length;
    for (int i = r->n - 1; i >= 0; i--) {
        r->y += r->strides[i];
        if (++r->at[i] < r->dims[i])
            return true;
        r->y -= r->dims[i] * r->strides[i];
        r->at[i] = 0;
    }
    return false;
}

static struct reduction reduction_of(const struct op_call *call, bool is_sum)
{
    const struct reduce_attributes *a = call->attributes;
    const struct nn_shape *x = &call->inputs[0]->shape;
    const struct nn_tensor *axes =
        is_sum && call->n_inputs > 1 ? call->inputs[1] : NULL;
    bool reduced[NN_MAX_RANK];
    if (is_sum)
        reduce_axes(a, axes ? axes->data : NULL, axes ? axes->shape.dims[0] : 0, x->rank,
                    reduced, NULL);
    else
        reduce_axes(a, a->axes.values, a->axes.n, x->rank, reduced, NULL);
    return reduction_start(x, reduced);
}

/* Elements of X that make one of Y. */
static int64_t reduction_count(const struct op_call *call)
{
    return shape_elements(&call->inputs[0]->shape) / shape_elements(&call->outputs[0]->shape);
}

/* Unsigned: signed integers must not overflow. */
#define DEFINE_REDUCE(name, type)                                                              \
    static void name(struct reduction r, const type *x, type *y)                               \
    {                                                                                          \
        do                                                                                     \
            for (int64_t i = 0; i < r.length; i++)                                             \
                y[r.y + i * r.step] += x[r.x + i];                                             \
        while (reduction_next(&r));                                                            \
    }
DEFINE_REDUCE(reduce_int32, uint32_t)
DEFINE_REDUCE(reduce_int64, uint64_t)

static void reduce_real(struct reduction r, const nn_real *x, nn_real *y)
{
    do
        if (r.step == 0)
            y[r.y] += kernel_sum(r.length, x + r.x);
        else
            kernel_axpy(r.length, 1, x + r.x, y + r.y);
    while (reduction_next(&r));
}

static void reduce(const struct op_call *call, struct reduction r)
{
    const struct nn_tensor *x = call->inputs[0], *y = call->outputs[0];
    memset(y->data, 0, (size_t)tensor_bytes(y->datatype, &y->shape));
    if (x->datatype == NN_FP32)
        reduce_real(r, x->data, y->data);
    else if (x->datatype == NN_INT32)
        reduce_int32(r, x->data, y->data);
    else
        reduce_int64(r, x->data, y->data);
}

static void ReduceSum_forward(const struct op_call *call)
{
    reduce(call, reduction_of(call, true));
}

static void ReduceMean_forward(const struct op_call *call)
{
    const struct nn_tensor *y = call->outputs[0];
    int64_t n = shape_elements(&y->shape), count = reduction_count(call);
    reduce(call, reduction_of(call, false));
    for (int64_t i = 0; i < n; i++)
        if (y->datatype == NN_FP32)
            ((nn_real *)y->data)[i] /= (nn_real)count;
        else if (y->datatype == NN_INT32)
            ((int32_t *)y->data)[i] = (int32_t)(((int32_t *)y->data)[i] / count);
        else
            ((int64_t *)y->data)[i] /= count;
}

const struct op op_ReduceSum = {
    .name = "ReduceSum",
    .min_inputs = 1,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes_size = sizeof(struct reduce_attributes),
    .attributes = reduce_sum_rows,
    .infer = ReduceSum_infer,
    .forward = ReduceSum_forward,
};

const struct op op_ReduceMean = {
    .name = "ReduceMean",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes_size = sizeof(struct reduce_attributes),
    .attributes = reduce_mean_rows,
    .infer = ReduceMean_infer,
    .forward = ReduceMean_forward,
};

/* ------------------------------------------------------------------------------------------ */

/* gradient: dX += dY, repeated along the reduced axes     (ReduceMean: / their elements) */
op_gradient gradient_ReduceSum, gradient_ReduceMean;

static void reduce_gradient(const struct op_call *call, struct reduction r, nn_real factor)
{
    if (!call->d_inputs[0])
        return;
    const nn_real *dy = call->d_outputs[0]->data;
    nn_real *dx = call->d_inputs[0]->data;
    do
        for (int64_t i = 0; i < r.length; i++)
            dx[r.x + i] += factor * dy[r.y + i * r.step];
    while (reduction_next(&r));
}

void gradient_ReduceSum(const struct op_call *call)
{
    reduce_gradient(call, reduction_of(call, true), 1);
}

void gradient_ReduceMean(const struct op_call *call)
{
    reduce_gradient(call, reduction_of(call, false), 1 / (nn_real)reduction_count(call));
}
