/*
 * From one datatype to another.
 */
#include "engine/datatype.h"
#include "engine/op.h"

/* Cast -- to another datatype (ONNX Cast-13)
 *
 * X [...]     Y [...] of datatype `to`, a number of ONNX's TensorProto.DataType
 *
 * As datatype_convert() says, also where ONNX leaves it open.
 */
struct cast_attributes {
    int64_t to;
};

static const struct op_attribute cast_rows[] = {
    {.name = "to", .kind = OP_INT, .offset = offsetof(struct cast_attributes, to),
     .required = true},
    {.name = NULL},
};

/* [datatype] */
static const int64_t cast_numbers[] = {
    [NN_FP32] = 1,   [NN_FP64] = 11,  [NN_FP16] = 10,   [NN_BF16] = 16,   [NN_INT8] = 3,
    [NN_INT16] = 5,  [NN_INT32] = 6,  [NN_INT64] = 7,   [NN_UINT8] = 2,   [NN_UINT16] = 4,
    [NN_UINT32] = 12, [NN_UINT64] = 13, [NN_BOOL] = 9,
};

static int Cast_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct cast_attributes *a = inference->attributes;
    for (int i = 0; i < NN_DATATYPES; i++)
        if (cast_numbers[i] == a->to) {
            op_infer_same(inference);
            inference->outputs[0].datatype = (enum nn_datatype)i;
            return 0;
        }
    return nn_fail(error, "cannot cast to datatype %lld of ONNX: known are 1 (FP32), 2 (UINT8), "
                   "3 (INT8), 4 (UINT16), 5 (INT16), 6 (INT32), 7 (INT64), 9 (BOOL), "
                   "10 (FP16), 11 (FP64), 12 (UINT32), 13 (UINT64) and 16 (BF16)",
                   (long long)a->to);
}

static void Cast_forward(const struct op_call *call)
{
    const struct nn_tensor *x = call->inputs[0], *y = call->outputs[0];
    datatype_convert(shape_elements(&x->shape), x->datatype, x->data, y->datatype, y->data);
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
