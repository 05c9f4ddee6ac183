/*
 * From one datatype to another.
 */
#include "engine/op.h"

#include <string.h>

/* Cast -- to another datatype (ONNX Cast-13)
 *
 * X [...]     Y [...] of datatype `to`, a number of ONNX's TensorProto.DataType
 *
 * From FP32 toward zero; what the datatype cannot hold becomes its nearest value, and not a
 * number 0. Between integers: the low bits. To BOOL: whether it is not 0.
 */
struct cast_attributes {
    int64_t to;
};

static const struct op_attribute cast_rows[] = {
    {.name = "to", .kind = OP_INT, .offset = offsetof(struct cast_attributes, to),
     .required = true},
    {.name = NULL},
};

static const struct {
    int64_t number;
    enum nn_datatype datatype;
} cast_numbers[] = {
    {1, NN_FP32}, {2, NN_UINT8}, {6, NN_INT32}, {7, NN_INT64}, {9, NN_BOOL},
};

static int Cast_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct cast_attributes *a = inference->attributes;
    for (size_t i = 0; i < sizeof cast_numbers / sizeof cast_numbers[0]; i++)
        if (cast_numbers[i].number == a->to) {
            op_infer_same(inference);
            inference->outputs[0].datatype = cast_numbers[i].datatype;
            return 0;
        }
    return nn_fail(error, "cannot cast to datatype %lld: it must be 1 (FP32), 2 (UINT8), "
                   "6 (INT32), 7 (INT64) or 9 (BOOL)", (long long)a->to);
}

/* `high` is one more than the largest value: a power of two, exact in float. */
static int64_t saturate(nn_real x, nn_real low, nn_real high, int64_t min, int64_t max)
{
    return x != x ? 0 : x <= low ? min : x >= high ? max : (int64_t)x;
}

static int64_t cast_from_real(nn_real x, enum nn_datatype to)
{
    switch (to) {
    case NN_INT64:
        return saturate(x, -0x1p63, 0x1p63, INT64_MIN, INT64_MAX);
    case NN_INT32:
        return saturate(x, -0x1p31, 0x1p31, INT32_MIN, INT32_MAX);
    case NN_UINT8:
        return saturate(x, 0, 256, 0, UINT8_MAX);
    default:
        return x != 0;
    }
}

static int64_t cast_integer(const void *data, enum nn_datatype datatype, int64_t i)
{
    if (datatype == NN_INT64)
        return ((const int64_t *)data)[i];
    if (datatype == NN_INT32)
        return ((const int32_t *)data)[i];
    return ((const uint8_t *)data)[i];
}

static void Cast_forward(const struct op_call *call)
{
    const struct nn_tensor *x = call->inputs[0], *y = call->outputs[0];
    int64_t n = shape_elements(&x->shape);
    if (x->datatype == y->datatype) {
        memcpy(y->data, x->data, (size_t)tensor_bytes(x->datatype, &x->shape));
        return;
    }
    if (x->datatype == NN_UINT8 && y->datatype == NN_FP32) {   /* images: worth a loop */
        const uint8_t *from = x->data;
        nn_real *to = y->data;
        for (int64_t i = 0; i < n; i++)
            to[i] = from[i];
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t value = x->datatype == NN_FP32
                            ? cast_from_real(((const nn_real *)x->data)[i], y->datatype)
                            : cast_integer(x->data, x->datatype, i);
        switch (y->datatype) {
        case NN_FP32:
            ((nn_real *)y->data)[i] = (nn_real)value;
            break;
        case NN_INT64:
            ((int64_t *)y->data)[i] = value;
            break;
        case NN_INT32:
            ((int32_t *)y->data)[i] = (int32_t)value;
            break;
        case NN_UINT8:
            ((uint8_t *)y->data)[i] = (uint8_t)value;
            break;
        case NN_BOOL:
            ((uint8_t *)y->data)[i] = value != 0;
            break;
        }
    }
}

const struct op op_Cast = {
    .name = "Cast",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes_size = sizeof(struct cast_attributes),
    .attributes = cast_rows,
    .infer = Cast_infer,
    .forward = Cast_forward,
};
