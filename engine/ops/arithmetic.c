/*
 * Element-wise arithmetic with multidirectional broadcasting.
 *
 * Integers wrap around. What has no integer result never traps: x / 0 is 0, and so is 0 to a
 * negative power; a power that leaves the type is its nearest bound (NaN: 0) where a floating-
 * point exponent made it. FP16 and BF16 are for storage and transport: they are cast first.
 */
#include "engine/kernels/kernels.h"
#include "engine/ops/broadcast.h"

#include <math.h>

#define TEMPLATE static inline __attribute__((always_inline))

/* One row of an operation; the steps are 1 or 0. y may be a. */
typedef void binary_row(int64_t n, const void *a, int64_t a_step, const void *b,
                        int64_t b_step, void *y);

/* Defines such a row for elements u of a and v of b. */
#define BINARY_ROW(name, a_type, b_type, y_type, expression)                              \
    static void name(int64_t n, const void *a_data, int64_t a_step, const void *b_data,   \
                     int64_t b_step, void *y_data)                                        \
    {                                                                                     \
        const a_type *a = a_data;                                                         \
        const b_type *b = b_data;                                                         \
        y_type *y = y_data;                                                               \
        if (a_step && b_step) {                                                           \
            for (int64_t i = 0; i < n; i++) {                                             \
                const a_type u = a[i];                                                    \
                const b_type v = b[i];                                                    \
                y[i] = (y_type)(expression);                                              \
            }                                                                             \
        } else if (a_step) {                                                              \
            const b_type v = *b;                                                          \
            for (int64_t i = 0; i < n; i++) {                                             \
                const a_type u = a[i];                                                    \
                y[i] = (y_type)(expression);                                              \
            }                                                                             \
        } else {                                                                          \
            const a_type u = *a;                                                          \
            for (int64_t i = 0; i < n; i++) {                                             \
                const b_type v = b[i * b_step];                                           \
                y[i] = (y_type)(expression);                                              \
            }                                                                             \
        }                                                                                 \
    }

static void run_rows(const struct op_call *call, binary_row *row)
{
    const struct nn_tensor *a = call->inputs[0], *b = call->inputs[1];
    struct nn_tensor *y = call->outputs[0];
    int64_t a_size = (int64_t)nn_datatype_size(a->datatype);
    int64_t b_size = (int64_t)nn_datatype_size(b->datatype);
    int64_t y_size = (int64_t)nn_datatype_size(y->datatype);

    struct broadcast w;
    for (broadcast_begin(&w, &a->shape, &b->shape, &y->shape); w.rows > 0; broadcast_next(&w))
        row(w.n, (const char *)a->data + w.a * a_size, w.a_step,
            (const char *)b->data + w.b * b_size, w.b_step, (char *)y->data + w.y * y_size);
}

static int same_type_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct op_value *a = inference->inputs[0], *b = inference->inputs[1];
    if (a->datatype != b->datatype)
        return nn_fail(error, "the inputs differ in type: %s and %s",
                       nn_datatype_name(a->datatype), nn_datatype_name(b->datatype));
    if (op_need_arithmetic(a->datatype, "the inputs", error) != 0)
        return -1;
    return broadcast_infer(inference, error);
}

/* An operation with a row for each type of number. */
#define BINARY_OP(operation, real_expression, integer_expression, unsigned_expression)    \
    BINARY_ROW(operation##_real, nn_real, nn_real, nn_real, real_expression)              \
    BINARY_ROW(operation##_double, double, double, double, real_expression)               \
    BINARY_ROW(operation##_int8, int8_t, int8_t, int8_t, integer_expression)              \
    BINARY_ROW(operation##_int16, int16_t, int16_t, int16_t, integer_expression)          \
    BINARY_ROW(operation##_int32, int32_t, int32_t, int32_t, integer_expression)          \
    BINARY_ROW(operation##_int64, int64_t, int64_t, int64_t, integer_expression)          \
    BINARY_ROW(operation##_uint8, uint8_t, uint8_t, uint8_t, integer_expression)          \
    BINARY_ROW(operation##_uint16, uint16_t, uint16_t, uint16_t, integer_expression)      \
    BINARY_ROW(operation##_uint32, uint32_t, uint32_t, uint32_t, integer_expression)      \
    BINARY_ROW(operation##_uint64, uint64_t, uint64_t, uint64_t, unsigned_expression)     \
    static void operation##_forward(const struct op_call *call)                           \
    {                                                                                     \
        static binary_row *const rows[] = {                                               \
            [NN_FP32] = operation##_real,     [NN_FP64] = operation##_double,             \
            [NN_INT8] = operation##_int8,     [NN_INT16] = operation##_int16,             \
            [NN_INT32] = operation##_int32,   [NN_INT64] = operation##_int64,             \
            [NN_UINT8] = operation##_uint8,   [NN_UINT16] = operation##_uint16,           \
            [NN_UINT32] = operation##_uint32, [NN_UINT64] = operation##_uint64,           \
        };                                                                                \
        run_rows(call, rows[call->inputs[0]->datatype]);                                  \
    }                                                                                     \
    const struct op op_##operation = {                                                    \
        .name = #operation,                                                               \
        .min_inputs = 2,                                                                  \
        .max_inputs = 2,                                                                  \
        .min_outputs = 1,                                                                 \
        .max_outputs = 1,                                                                 \
        .flags = OP_IN_PLACE,                                                             \
        .infer = same_type_infer,                                                         \
        .forward = operation##_forward,                                                   \
    };

/* Add, Sub, Mul, Div -- (ONNX Add-14, Sub-14, Mul-14, Div-14)
 *
 *     Y = A + B    Y = A - B    Y = A B    Y = A / B, for integers towards 0
 *
 * A, B broadcastable to one another; FP32, FP64 and all integers
 */
static int64_t quotient(int64_t u, int64_t v)
{
    return v == 0 ? 0 : v == -1 ? (int64_t)(0 - (uint64_t)u) : u / v;
}

BINARY_OP(Add, u + v, (uint64_t)u + (uint64_t)v, u + v)
BINARY_OP(Sub, u - v, (uint64_t)u - (uint64_t)v, u - v)
BINARY_OP(Mul, u * v, (uint64_t)u * (uint64_t)v, u * v)
BINARY_OP(Div, u / v, quotient(u, v), v == 0 ? 0 : u / v)

/* Pow -- (ONNX Pow-15)
 *
 *     Y = A ^ B, in the type of A
 *
 * A FP32, INT64, INT32    B any number    broadcastable to one another
 */
TEMPLATE nn_real power_real(nn_real u, double v)
{
    return v == 2 ? u * u : (nn_real)pow((double)u, v);
}

static int64_t power_unsigned(int64_t u, uint64_t v)
{
    uint64_t result = 1;
    for (uint64_t factor = (uint64_t)u; v > 0; v >>= 1, factor *= factor)
        result *= v & 1 ? factor : 1;
    return (int64_t)result;
}

static int64_t power_integer(int64_t u, int64_t v)
{
    if (v < 0)
        return u == 1 ? 1 : u == -1 ? (v % 2 ? -1 : 1) : 0;
    return power_unsigned(u, (uint64_t)v);
}

static int64_t power_bounded(int64_t u, double v, int64_t min, int64_t max)
{
    double result = pow((double)u, v);
    return isnan(result)             ? 0
           : result >= (double)max ? max
           : result <= (double)min ? min
                                   : (int64_t)result;
}

#define POWER_ROWS(v_name, v_type)                                                         \
    BINARY_ROW(power_real_##v_name, nn_real, v_type, nn_real, power_real(u, (double)v))   \
    BINARY_ROW(power_int64_##v_name, int64_t, v_type, int64_t, power_integer(u, v))       \
    BINARY_ROW(power_int32_##v_name, int32_t, v_type, int32_t, power_integer(u, v))

BINARY_ROW(power_real_real, nn_real, nn_real, nn_real, power_real(u, (double)v))
BINARY_ROW(power_int64_real, int64_t, nn_real, int64_t,
           power_bounded(u, (double)v, INT64_MIN, INT64_MAX))
BINARY_ROW(power_int32_real, int32_t, nn_real, int32_t,
           power_bounded(u, (double)v, INT32_MIN, INT32_MAX))
POWER_ROWS(int8, int8_t)
POWER_ROWS(int16, int16_t)
POWER_ROWS(int32, int32_t)
POWER_ROWS(int64, int64_t)
POWER_ROWS(uint8, uint8_t)
POWER_ROWS(uint16, uint16_t)
POWER_ROWS(uint32, uint32_t)
BINARY_ROW(power_real_uint64, nn_real, uint64_t, nn_real, power_real(u, (double)v))
BINARY_ROW(power_int64_uint64, int64_t, uint64_t, int64_t, power_unsigned(u, v))
BINARY_ROW(power_int32_uint64, int32_t, uint64_t, int32_t, power_unsigned(u, v))

#define POWER_TABLE(u_name)                                                               \
    {                                                                                     \
        [NN_FP32] = power_##u_name##_real, [NN_INT8] = power_##u_name##_int8,             \
        [NN_INT16] = power_##u_name##_int16, [NN_INT32] = power_##u_name##_int32,         \
        [NN_INT64] = power_##u_name##_int64, [NN_UINT8] = power_##u_name##_uint8,         \
        [NN_UINT16] = power_##u_name##_uint16, [NN_UINT32] = power_##u_name##_uint32,     \
        [NN_UINT64] = power_##u_name##_uint64,                                            \
    }

static binary_row *const power_rows[NN_DATATYPES][NN_DATATYPES] = {
    [NN_FP32] = POWER_TABLE(real),
    [NN_INT64] = POWER_TABLE(int64),
    [NN_INT32] = POWER_TABLE(int32),
};

static int Pow_infer(struct op_inference *inference, struct nn_error *error)
{
    enum nn_datatype a = inference->inputs[0]->datatype, b = inference->inputs[1]->datatype;
    if (!power_rows[a][b])
        return nn_fail(error, "%s to the power of %s is not defined", nn_datatype_name(a),
                       nn_datatype_name(b));
    return broadcast_infer(inference, error);
}

static void Pow_forward(const struct op_call *call)
{
    run_rows(call, power_rows[call->inputs[0]->datatype][call->inputs[1]->datatype]);
}

const struct op op_Pow = {
    .name = "Pow",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_IN_PLACE,
    .infer = Pow_infer,
    .forward = Pow_forward,
};

/* ---- gradients -------------------------------------------------------------------------- */

op_gradient gradient_Add, gradient_Sub, gradient_Mul, gradient_Div, gradient_Pow;

/* Adds dY * partial(a, b) to the gradient of input `which`, summed over what was broadcast.
 * Products go through a block, so that both ways to add them up are vector loops. */
TEMPLATE void add_partial(const struct op_call *call, int which,
                          nn_real (*partial)(nn_real a, nn_real b))
{
    enum { BLOCK = 256 };
    const struct nn_tensor *a_tensor = call->inputs[0], *b_tensor = call->inputs[1];
    const nn_real *dy_data = call->d_outputs[0]->data;
    if (!call->d_inputs[which])
        return;
    nn_real *d_data = call->d_inputs[which]->data;

    struct broadcast w;
    for (broadcast_begin(&w, &a_tensor->shape, &b_tensor->shape, &call->outputs[0]->shape);
         w.rows > 0; broadcast_next(&w)) {
        for (int64_t begin = 0; begin < w.n; begin += BLOCK) {
            int64_t n = w.n - begin < BLOCK ? w.n - begin : BLOCK;
            const nn_real *a = (const nn_real *)a_tensor->data + w.a + begin * w.a_step;
            const nn_real *b = (const nn_real *)b_tensor->data + w.b + begin * w.b_step;
            const nn_real *dy = dy_data + w.y + begin;
            nn_real products[BLOCK];
            if (w.a_step && w.b_step)
                for (int64_t i = 0; i < n; i++)
                    products[i] = dy[i] * partial(a[i], b[i]);
            else if (w.a_step)
                for (int64_t i = 0; i < n; i++)
                    products[i] = dy[i] * partial(a[i], *b);
            else
                for (int64_t i = 0; i < n; i++)
                    products[i] = dy[i] * partial(*a, b[i * w.b_step]);

            int64_t step = which == 0 ? w.a_step : w.b_step;
            nn_real *d = d_data + (which == 0 ? w.a : w.b) + begin * step;
            if (step)
                kernel_axpy(n, 1, products, d);
            else
                *d += kernel_sum(n, products);
        }
    }
}

TEMPLATE nn_real one(nn_real a, nn_real b)
{
    (void)a, (void)b;
    return 1;
}

TEMPLATE nn_real minus_one(nn_real a, nn_real b)
{
    (void)a, (void)b;
    return -1;
}

TEMPLATE nn_real first(nn_real a, nn_real b)
{
    (void)b;
    return a;
}

TEMPLATE nn_real second(nn_real a, nn_real b)
{
    (void)a;
    return b;
}

TEMPLATE nn_real div_a(nn_real a, nn_real b)
{
    (void)a;
    return 1 / b;
}

TEMPLATE nn_real div_b(nn_real a, nn_real b)
{
    return -(a / b) / b;
}

/* A constant 0 times an infinite power is 0. */
TEMPLATE nn_real pow_a(nn_real a, nn_real b)
{
    return b == 0   ? 0
           : b == 2 ? 2 * a
                    : (nn_real)((double)b * pow((double)a, (double)b - 1));
}

/* Only defined for a >= 0, where the limit at 0 is 0. */
TEMPLATE nn_real pow_b(nn_real a, nn_real b)
{
    return a == 0 && b >= 0 ? 0 : (nn_real)(pow((double)a, (double)b) * log((double)a));
}

/* gradient: dA = dY    dB = dY, both summed over what was broadcast, here and below */
void gradient_Add(const struct op_call *call)
{
    add_partial(call, 0, one);
    add_partial(call, 1, one);
}

/* gradient: dA = dY    dB = -dY */
void gradient_Sub(const struct op_call *call)
{
    add_partial(call, 0, one);
    add_partial(call, 1, minus_one);
}

/* gradient: dA = dY B    dB = dY A */
void gradient_Mul(const struct op_call *call)
{
    add_partial(call, 0, second);
    add_partial(call, 1, first);
}

/* gradient: dA = dY / B    dB = -dY A / B^2 */
void gradient_Div(const struct op_call *call)
{
    add_partial(call, 0, div_a);
    add_partial(call, 1, div_b);
}

/* gradient: dA = dY B A^(B - 1)    dB = dY A^B ln A */
void gradient_Pow(const struct op_call *call)
{
    add_partial(call, 0, pow_a);
    add_partial(call, 1, pow_b);
}
