/*
 * Element-wise arithmetic of one tensor.
 */
#include "engine/datatype.h"
#include "engine/kernels/kernels.h"
#include "engine/op.h"

#include <math.h>

#define TEMPLATE static inline __attribute__((always_inline))

/* Sqrt, Exp, Log -- (ONNX Sqrt-13, Exp-13, Log-13), X FP32 of any shape
 *
 *     Y = X^1/2    Y = e^X    Y = ln X
 */
static int real_infer(struct op_inference *inference, struct nn_error *error)
{
    if (op_need(inference, 0, "X", NN_FP32, error) != 0)
        return -1;
    op_infer_same(inference);
    inference->flops = (double)shape_elements(&inference->inputs[0]->shape);
    return 0;
}

static void Sqrt_forward(const struct op_call *call)
{
    const nn_real *x = call->inputs[0]->data;
    nn_real *y = call->outputs[0]->data;
    int64_t n = shape_elements(&call->outputs[0]->shape);
    for (int64_t i = 0; i < n; i++)
        y[i] = sizeof *x == sizeof(float) ? (nn_real)sqrtf((float)x[i]) : (nn_real)sqrt(x[i]);
}

static void Exp_forward(const struct op_call *call)
{
    kernel_exp(shape_elements(&call->outputs[0]->shape), call->inputs[0]->data,
               call->outputs[0]->data);
}

static void Log_forward(const struct op_call *call)
{
    const nn_real *x = call->inputs[0]->data;
    nn_real *y = call->outputs[0]->data;
    int64_t n = shape_elements(&call->outputs[0]->shape);
    for (int64_t i = 0; i < n; i++)
        y[i] = sizeof *x == sizeof(float) ? (nn_real)logf((float)x[i]) : (nn_real)log(x[i]);
}

#define UNARY_OP(operation, infer_function) \
    const struct op op_##operation = {      \
        .name = #operation,                 \
        .min_inputs = 1,                    \
        .max_inputs = 1,                    \
        .min_outputs = 1,                   \
        .max_outputs = 1,                   \
        .flags = OP_IN_PLACE,               \
        .infer = infer_function,            \
        .forward = operation##_forward,     \
    };

UNARY_OP(Sqrt, real_infer)
UNARY_OP(Exp, real_infer)
UNARY_OP(Log, real_infer)

/* Neg -- (ONNX Neg-13), X FP32, FP64 or a signed integer of any shape
 *
 *     Y = -X
 */
static int Neg_infer(struct op_inference *inference, struct nn_error *error)
{
    enum nn_datatype datatype = inference->inputs[0]->datatype;
    if (op_need_arithmetic(datatype, "X", error) != 0)
        return -1;
    if (!datatype_is_signed(datatype))
        return nn_fail(error, "X has a sign, it cannot be %s", nn_datatype_name(datatype));
    op_infer_same(inference);
    inference->flops = (double)shape_elements(&inference->inputs[0]->shape);
    return 0;
}

#define NEGATE(type, expression)                       \
    do {                                               \
        const type *x = call->inputs[0]->data;         \
        type *y = call->outputs[0]->data;              \
        for (int64_t i = 0; i < n; i++)                \
            y[i] = (type)(expression);                 \
    } while (0)

static void Neg_forward(const struct op_call *call)
{
    int64_t n = shape_elements(&call->outputs[0]->shape);
    switch (call->inputs[0]->datatype) {
    case NN_FP32:
        NEGATE(nn_real, -x[i]);
        break;
    case NN_FP64:
        NEGATE(double, -x[i]);
        break;
    case NN_INT64:
        NEGATE(int64_t, 0 - (uint64_t)x[i]);
        break;
    case NN_INT32:
        NEGATE(int32_t, 0 - (uint32_t)x[i]);
        break;
    case NN_INT16:
        NEGATE(int16_t, -x[i]);
        break;
    default:
        NEGATE(int8_t, -x[i]);
        break;
    }
}

UNARY_OP(Neg, Neg_infer)

/* Clip -- (ONNX Clip-13)
 *
 *     Y = min(max(X, low), high)
 *
 * X FP32, FP64 or integers    low, high scalars of X's type, without bound where they are left out
 */
static int Clip_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct op_value *x = inference->inputs[0];
    if (op_need_arithmetic(x->datatype, "X", error) != 0)
        return -1;
    op_infer_same(inference);
    inference->flops = 2 * (double)shape_elements(&x->shape);
    for (int i = 1; i < inference->n_inputs; i++) {
        const struct op_value *bound = inference->inputs[i];
        const char *name = i == 1 ? "min" : "max";
        struct shape_text text;
        if (!bound)
            continue;
        if (op_need(inference, i, name, x->datatype, error) != 0)
            return -1;
        if (shape_elements(&bound->shape) != 1)
            return nn_fail(error, "%s is a scalar, not %s", name,
                           shape_print(&bound->shape, &text));
        if (bound->batch != BATCH_NONE)
            inference->outputs[0].batch = BATCH_LOST;
    }
    return 0;
}

static const void *bound_of(const struct op_call *call, int i)
{
    return i < call->n_inputs && call->inputs[i] ? call->inputs[i]->data : NULL;
}

#define CLIP(name, type, least, greatest)                                                 \
    static void name(const struct op_call *call)                                          \
    {                                                                                     \
        const type *x = call->inputs[0]->data;                                            \
        const type *min = bound_of(call, 1), *max = bound_of(call, 2);                    \
        type *y = call->outputs[0]->data;                                                 \
        type low = min ? *min : least, high = max ? *max : greatest;                      \
        int64_t n = shape_elements(&call->outputs[0]->shape);                             \
        for (int64_t i = 0; i < n; i++) {                                                 \
            type raised = x[i] < low ? low : x[i];                                        \
            y[i] = raised > high ? high : raised;                                         \
        }                                                                                 \
    }

CLIP(clip_real, nn_real, -INFINITY, INFINITY)
CLIP(clip_double, double, -INFINITY, INFINITY)
CLIP(clip_int8, int8_t, INT8_MIN, INT8_MAX)
CLIP(clip_int16, int16_t, INT16_MIN, INT16_MAX)
CLIP(clip_int32, int32_t, INT32_MIN, INT32_MAX)
CLIP(clip_int64, int64_t, INT64_MIN, INT64_MAX)
CLIP(clip_uint8, uint8_t, 0, UINT8_MAX)
CLIP(clip_uint16, uint16_t, 0, UINT16_MAX)
CLIP(clip_uint32, uint32_t, 0, UINT32_MAX)
CLIP(clip_uint64, uint64_t, 0, UINT64_MAX)

static void Clip_forward(const struct op_call *call)
{
    static void (*const functions[])(const struct op_call *) = {
        [NN_FP32] = clip_real,     [NN_FP64] = clip_double,   [NN_INT8] = clip_int8,
        [NN_INT16] = clip_int16,   [NN_INT32] = clip_int32,   [NN_INT64] = clip_int64,
        [NN_UINT8] = clip_uint8,   [NN_UINT16] = clip_uint16, [NN_UINT32] = clip_uint32,
        [NN_UINT64] = clip_uint64,
    };
    functions[call->inputs[0]->datatype](call);
}

const struct op op_Clip = {
    .name = "Clip",
    .min_inputs = 1,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_IN_PLACE,
    .infer = Clip_infer,
    .forward = Clip_forward,
};

/* ---- gradients -------------------------------------------------------------------------- */

op_gradient gradient_Sqrt, gradient_Exp, gradient_Log, gradient_Neg, gradient_Clip;

/* Adds dY * partial(x, y) to dX. */
TEMPLATE void add_unary(const struct op_call *call, nn_real (*partial)(nn_real x, nn_real y))
{
    if (!call->d_inputs[0])
        return;
    const nn_real *x = call->inputs[0]->data, *y = call->outputs[0]->data;
    const nn_real *dy = call->d_outputs[0]->data;
    nn_real *restrict dx = call->d_inputs[0]->data;
    int64_t n = shape_elements(&call->outputs[0]->shape);
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * partial(x[i], y[i]);
}

TEMPLATE nn_real sqrt_partial(nn_real x, nn_real y)
{
    (void)x;
    return 1 / (2 * y);
}

/* gradient: dX = dY / (2 Y) */
void gradient_Sqrt(const struct op_call *call)
{
    add_unary(call, sqrt_partial);
}

TEMPLATE nn_real exp_partial(nn_real x, nn_real y)
{
    (void)x;
    return y;
}

/* gradient: dX = dY Y */
void gradient_Exp(const struct op_call *call)
{
    add_unary(call, exp_partial);
}

TEMPLATE nn_real log_partial(nn_real x, nn_real y)
{
    (void)y;
    return 1 / x;
}

/* gradient: dX = dY / X */
void gradient_Log(const struct op_call *call)
{
    add_unary(call, log_partial);
}

TEMPLATE nn_real neg_partial(nn_real x, nn_real y)
{
    (void)x, (void)y;
    return -1;
}

/* gradient: dX = -dY */
void gradient_Neg(const struct op_call *call)
{
    add_unary(call, neg_partial);
}

/* gradient: dX = dY where low <= X <= high; dlow, dhigh = sum of dY where they are the result */
void gradient_Clip(const struct op_call *call)
{
    const nn_real *x = call->inputs[0]->data, *dy = call->d_outputs[0]->data;
    const nn_real *min = bound_of(call, 1), *max = bound_of(call, 2);
    nn_real low = min ? *min : -INFINITY, high = max ? *max : INFINITY;
    int64_t n = shape_elements(&call->outputs[0]->shape);
    if (call->d_inputs[0]) {
        nn_real *restrict dx = call->d_inputs[0]->data;
        for (int64_t i = 0; i < n; i++)
            dx[i] += x[i] >= low && x[i] <= high ? dy[i] : 0;
    }
    if (min && call->d_inputs[1])
        for (int64_t i = 0; i < n; i++)
            *(nn_real *)call->d_inputs[1]->data += x[i] < low && low <= high ? dy[i] : 0;
    if (max && call->d_inputs[2])
        for (int64_t i = 0; i < n; i++)
            *(nn_real *)call->d_inputs[2]->data += x[i] > high || low > high ? dy[i] : 0;
}
