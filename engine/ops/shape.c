/*
 * Operations that move elements, or give them another shape.
 */
#include "engine/kernels/kernels.h"
#include "engine/op.h"

#include <string.h>

/* Where the batch is when the elements keep their order: on the first axis of the same size
 * with as many elements before it. (At one batch size that can be an accident; inference at
 * two tells.) */
static int batch_in_order(const struct op_value *x, const struct nn_shape *y)
{
    if (x->batch < 0)
        return x->batch;
    int64_t size = x->shape.dims[x->batch], before = shape_product(&x->shape, 0, x->batch);
    for (int i = 0; i < y->rank; i++)
        if (y->dims[i] == size && shape_product(y, 0, i) == before)
            return i;
    return BATCH_LOST;
}

static void infer_view(struct op_inference *inference, const struct nn_shape *shape)
{
    const struct op_value *x = inference->inputs[0];
    inference->outputs[0] = (struct op_value){
        .datatype = x->datatype, .shape = *shape, .batch = batch_in_order(x, shape)};
}

static void view_forward(const struct op_call *call)
{
    const struct nn_tensor *x = call->inputs[0];
    if (call->outputs[0]->data != x->data)
        memcpy(call->outputs[0]->data, x->data, (size_t)tensor_bytes(x->datatype, &x->shape));
}

/* Flatten -- as a matrix (ONNX Flatten-13)
 *
 * X [d0 ... dn]     Y [d0 ... d(axis - 1), d(axis) ... dn], each of the two a product
 */
struct flatten_attributes {
    int64_t axis;
};

static const struct op_attribute flatten_rows[] = {
    {.name = "axis", .kind = OP_INT, .offset = offsetof(struct flatten_attributes, axis),
     .initial = 1},
    {.name = NULL},
};

static int Flatten_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct flatten_attributes *a = inference->attributes;
    const struct nn_shape *x = &inference->inputs[0]->shape;
    int axis = x->rank;
    if (a->axis != x->rank && op_axis(a->axis, x->rank, &axis, error) != 0)
        return -1;
    infer_view(inference, &(struct nn_shape){2, {shape_product(x, 0, axis),
                                                 shape_product(x, axis, x->rank)}});
    return 0;
}

const struct op op_Flatten = {
    .name = "Flatten",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_VIEW,
    .attributes_size = sizeof(struct flatten_attributes),
    .attributes = flatten_rows,
    .infer = Flatten_infer,
    .forward = view_forward,
};

/* Reshape -- the same elements in another shape (ONNX Reshape-14)
 *
 * X [...]     shape [r], INT64, constant     Y [shape...]
 *
 * In shape, 0 stands for X's own dimension (unless allowzero is 1) and one -1 for what is left.
 */
struct reshape_attributes {
    int64_t allowzero;
};

static const struct op_attribute reshape_rows[] = {
    {.name = "allowzero", .kind = OP_INT,
     .offset = offsetof(struct reshape_attributes, allowzero), .min = 0, .max = 1},
    {.name = NULL},
};

/* `wanted` with its 0 and -1 replaced; -1: the elements do not fit. */
static int reshape_resolve(const struct nn_shape *x, const struct nn_shape *wanted,
                           bool allow_zero, struct nn_shape *y, struct nn_error *error)
{
    struct shape_text x_text, y_text;
    int left = -1;
    *y = *wanted;
    for (int i = 0; i < y->rank; i++) {
        if (y->dims[i] < -1)
            return nn_fail(error, "shape %s has a dimension below -1",
                           shape_print(wanted, &y_text));
        if (y->dims[i] == 0 && !allow_zero) {
            if (i >= x->rank)
                return nn_fail(error, "shape %s takes axis %d from X %s, which has none",
                               shape_print(wanted, &y_text), i, shape_print(x, &x_text));
            y->dims[i] = x->dims[i];
        } else if (y->dims[i] == -1) {
            if (left >= 0)
                return nn_fail(error, "shape %s has more than one -1",
                               shape_print(wanted, &y_text));
            left = i;
            y->dims[i] = 1;
        }
    }
    int64_t elements = shape_elements(x), known = shape_elements(y);
    if (left >= 0 && known > 0 && elements % known == 0)
        y->dims[left] = elements / known;
    else if (left >= 0 || known != elements)
        return nn_fail(error, "X %s does not fit into shape %s", shape_print(x, &x_text),
                       shape_print(wanted, &y_text));
    return 0;
}

static int Reshape_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct reshape_attributes *a = inference->attributes;
    const struct op_value *shape = inference->inputs[1];
    if (op_need(inference, 1, "shape", NN_INT64, error) != 0)
        return -1;
    if (!shape->constant || shape->shape.rank != 1)
        return nn_fail(error, "shape must be a constant list");
    if (shape->shape.dims[0] > NN_MAX_RANK)
        return nn_fail(error, "shape has %lld axes; there may be %d",
                       (long long)shape->shape.dims[0], NN_MAX_RANK);
    struct nn_shape y, wanted = {.rank = (int)shape->shape.dims[0]};
    memcpy(wanted.dims, shape->constant, (size_t)wanted.rank * sizeof wanted.dims[0]);
    if (reshape_resolve(&inference->inputs[0]->shape, &wanted, a->allowzero, &y, error) != 0)
        return -1;
    infer_view(inference, &y);
    return 0;
}

const struct op op_Reshape = {
    .name = "Reshape",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_VIEW,
    .attributes_size = sizeof(struct reshape_attributes),
    .attributes = reshape_rows,
    .infer = Reshape_infer,
    .forward = view_forward,
};

/* Identity -- Y = X (ONNX Identity-16) */
static int Identity_infer(struct op_inference *inference, struct nn_error *error)
{
    (void)error;
    op_infer_same(inference);
    return 0;
}

const struct op op_Identity = {
    .name = "Identity",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_VIEW,
    .infer = Identity_infer,
    .forward = view_forward,
};

/* Transpose -- axes in another order (ONNX Transpose-13)
 *
 * X [d0 ... dn]     Y [d(perm[0]) ... d(perm[n])]     perm: from last to first where not given
 */
struct transpose_attributes {
    struct op_ints perm;
};

static const struct op_attribute transpose_rows[] = {
    {.name = "perm", .kind = OP_INTS, .offset = offsetof(struct transpose_attributes, perm),
     .min = 0, .max = NN_MAX_RANK - 1},
    {.name = NULL},
};

/* Axis i of Y is axis transpose_axis(i) of X. */
static int transpose_axis(const struct transpose_attributes *a, int rank, int i)
{
    return a->perm.n ? (int)a->perm.values[i] : rank - 1 - i;
}

static int Transpose_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct transpose_attributes *a = inference->attributes;
    const struct op_value *x = inference->inputs[0];
    struct op_value *y = &inference->outputs[0];
    int rank = x->shape.rank;
    if (a->perm.n && a->perm.n != rank)
        return nn_fail(error, "perm has %d axes, X has %d", a->perm.n, rank);
    bool seen[NN_MAX_RANK] = {false};
    op_infer_same(inference);
    for (int i = 0; i < rank; i++) {
        int axis = transpose_axis(a, rank, i);
        if (axis >= rank || seen[axis])
            return nn_fail(error, "perm must name each of the axes 0 to %d once", rank - 1);
        seen[axis] = true;
        y->shape.dims[i] = x->shape.dims[axis];
        if (x->batch == axis)
            y->batch = i;
    }
    return 0;
}

/* Where the elements of Y lie in X: line by line along Y's last axis. */
struct transpose_walk {
    int rank;                           /* without the last axis */
    int64_t dims[NN_MAX_RANK], strides[NN_MAX_RANK], at[NN_MAX_RANK];
    int64_t length, stride;             /* of a line */
    int64_t offset;                     /* of its first element */
};

static struct transpose_walk transpose_start(const struct op_call *call)
{
    const struct nn_shape *x = &call->inputs[0]->shape;
    struct transpose_walk walk = {.length = 1};
    for (int i = 0; i < x->rank; i++) {
        int axis = transpose_axis(call->attributes, x->rank, i);
        walk.dims[i] = x->dims[axis];
        walk.strides[i] = shape_product(x, axis + 1, x->rank);
    }
    if (x->rank > 0) {
        walk.rank = x->rank - 1;
        walk.length = walk.dims[walk.rank];
        walk.stride = walk.strides[walk.rank];
    }
    return walk;
}

static bool transpose_next(struct transpose_walk *walk)
{
    for (int i = walk->rank - 1; i >= 0; i--) {
        walk->offset += walk->strides[i];
        if (++walk->at[i] < walk->dims[i])
            return true;
        walk->offset -= walk->dims[i] * walk->strides[i];
        walk->at[i] = 0;
    }
    return false;
}

static void Transpose_forward(const struct op_call *call)
{
    const struct nn_tensor *x = call->inputs[0];
    size_t size = nn_datatype_size(x->datatype);
    char *y = call->outputs[0]->data;
    struct transpose_walk walk = transpose_start(call);
    do {
        const char *from = (const char *)x->data + (size_t)walk.offset * size;
        size_t step = (size_t)walk.stride * size;
        if (walk.stride == 1)
            memcpy(y, from, (size_t)walk.length * size);
        else if (size == 4)
            for (int64_t i = 0; i < walk.length; i++)
                memcpy(y + i * 4, from + (size_t)i * step, 4);
        else if (size == 8)
            for (int64_t i = 0; i < walk.length; i++)
                memcpy(y + i * 8, from + (size_t)i * step, 8);
        else if (size == 2)
            for (int64_t i = 0; i < walk.length; i++)
                memcpy(y + i * 2, from + (size_t)i * step, 2);
        else
            for (int64_t i = 0; i < walk.length; i++)
                y[i] = from[(size_t)i * step];
        y += (size_t)walk.length * size;
    } while (transpose_next(&walk));
}

const struct op op_Transpose = {
    .name = "Transpose",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes_size = sizeof(struct transpose_attributes),
    .attributes = transpose_rows,
    .infer = Transpose_infer,
    .forward = Transpose_forward,
};

/* Concat -- one after the other along an axis (ONNX Concat-13)
 *
 * X_i [d0 ... a_i ... dn]     Y [d0 ... sum of a_i ... dn], a at `axis`
 */
struct concat_attributes {
    int64_t axis;
};

static const struct op_attribute concat_rows[] = {
    {.name = "axis", .kind = OP_INT, .offset = offsetof(struct concat_attributes, axis),
     .required = true},
    {.name = NULL},
};

/* An input that is the same for every batch has rows of its own on Y's batch axis, which fit
 * this batch size by accident: the batch is lost. */
static int concat_batch(const struct op_inference *inference, int axis)
{
    int batch = inference->inputs[0]->batch;
    for (int i = 1; i < inference->n_inputs; i++)
        if (inference->inputs[i]->batch != batch)
            return BATCH_LOST;
    return batch == axis ? BATCH_LOST : batch;
}

static int Concat_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct concat_attributes *a = inference->attributes;
    const struct op_value *first = inference->inputs[0];
    struct op_value *y = &inference->outputs[0];
    int axis;
    if (op_axis(a->axis, first->shape.rank, &axis, error) != 0)
        return -1;
    op_infer_same(inference);
    for (int i = 1; i < inference->n_inputs; i++) {
        const struct op_value *x = inference->inputs[i];
        struct shape_text x_text, first_text;
        if (x->datatype != first->datatype)
            return nn_fail(error, "input %d must be %s as input 0, not %s", i,
                           nn_datatype_name(first->datatype), nn_datatype_name(x->datatype));
        struct nn_shape other = x->shape;
        if (other.rank == first->shape.rank)
            other.dims[axis] = first->shape.dims[axis];
        if (!shape_equal(&other, &first->shape))
            return nn_fail(error, "input %d %s differs from input 0 %s in more than axis %d", i,
                           shape_print(&x->shape, &x_text),
                           shape_print(&first->shape, &first_text), axis);
        if (__builtin_add_overflow(y->shape.dims[axis], x->shape.dims[axis],
                                   &y->shape.dims[axis]))
            return nn_fail(error, "axis %d becomes too long", axis);
    }
    y->batch = concat_batch(inference, axis);
    return 0;
}

/* Bytes, or elements for size 1, that lie together in `shape` from `axis` on. */
static size_t concat_run(const struct nn_shape *shape, int axis, size_t size)
{
    return (size_t)shape_product(shape, axis, shape->rank) * size;
}

static int concat_axis(const struct op_call *call)
{
    const struct concat_attributes *a = call->attributes;
    int axis = 0;
    op_axis(a->axis, call->inputs[0]->shape.rank, &axis, NULL);
    return axis;
}

static void Concat_forward(const struct op_call *call)
{
    const struct nn_tensor *y = call->outputs[0];
    int axis = concat_axis(call);
    size_t size = nn_datatype_size(y->datatype), stride = concat_run(&y->shape, axis, size);
    int64_t n = shape_product(&y->shape, 0, axis);
    char *to = y->data;
    for (int i = 0; i < call->n_inputs; i++) {
        const char *from = call->inputs[i]->data;
        size_t run = concat_run(&call->inputs[i]->shape, axis, size);
        for (int64_t j = 0; j < n; j++)
            memcpy(to + (size_t)j * stride, from + (size_t)j * run, run);
        to += run;
    }
}

const struct op op_Concat = {
    .name = "Concat",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_VARIADIC,
    .attributes_size = sizeof(struct concat_attributes),
    .attributes = concat_rows,
    .infer = Concat_infer,
    .forward = Concat_forward,
};

/* ------------------------------------------------------------------------------------------ */

/* gradient of Flatten, Reshape and Identity: dX += dY, element by element */
op_gradient gradient_Flatten, gradient_Reshape, gradient_Identity;

static void view_gradient(const struct op_call *call)
{
    if (call->d_inputs[0])
        kernel_axpy(shape_elements(&call->inputs[0]->shape), 1, call->d_outputs[0]->data,
                    call->d_inputs[0]->data);
}

void gradient_Flatten(const struct op_call *call)
{
    view_gradient(call);
}

void gradient_Reshape(const struct op_call *call)
{
    view_gradient(call);
}

void gradient_Identity(const struct op_call *call)
{
    view_gradient(call);
}

/* gradient: dX += dY, transposed back */
op_gradient gradient_Transpose;

void gradient_Transpose(const struct op_call *call)
{
    if (!call->d_inputs[0])
        return;
    const nn_real *dy = call->d_outputs[0]->data;
    nn_real *dx = call->d_inputs[0]->data;
    struct transpose_walk walk = transpose_start(call);
    do {
        for (int64_t i = 0; i < walk.length; i++)
            dx[walk.offset + i * walk.stride] += *dy++;
    } while (transpose_next(&walk));
}

/* gradient: dX_i += its part of dY */
op_gradient gradient_Concat;

void gradient_Concat(const struct op_call *call)
{
    const struct nn_tensor *y = call->d_outputs[0];
    int axis = concat_axis(call);
    size_t stride = concat_run(&y->shape, axis, 1);
    int64_t n = shape_product(&y->shape, 0, axis);
    const nn_real *dy = y->data;
    for (int i = 0; i < call->n_inputs; i++) {
        size_t run = concat_run(&call->inputs[i]->shape, axis, 1);
        for (int64_t j = 0; call->d_inputs[i] && j < n; j++)
            kernel_axpy((int64_t)run, 1, dy + (size_t)j * stride,
                        (nn_real *)call->d_inputs[i]->data + (size_t)j * run);
        dy += run;
    }
}
