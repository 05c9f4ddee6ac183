/*
 * Activations: element by element, and Softmax along an axis.
 */
#include "engine/kernels/kernels.h"

#include "engine/op.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static int activation_infer(struct op_inference *inference, struct nn_error *error)
{
    if (op_need(inference, 0, "X", NN_FP32, error) != 0)
        return -1;
    op_infer_same(inference);
    inference->flops = (double)shape_elements(&inference->inputs[0]->shape);
    return 0;
}

/* Relu -- (ONNX Relu-14), X FP32 of any shape; NaN stays NaN
 *
 *     Y = max(X, 0)
 */
static void Relu_forward(const struct op_call *call)
{
    const nn_real *x = call->inputs[0]->data;
    nn_real *y = call->outputs[0]->data;
    int64_t n = shape_elements(&call->outputs[0]->shape);
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] < 0 ? 0 : x[i];
}

const struct op op_Relu = {
    .name = "Relu",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_IN_PLACE,
    .infer = activation_infer,
    .forward = Relu_forward,
};

/* LeakyRelu -- (ONNX LeakyRelu-16), X FP32 of any shape
 *
 *     Y = X where X >= 0, alpha X elsewhere
 */
struct leaky_relu_attributes {
    double alpha;
};

static const struct op_attribute leaky_relu_rows[] = {
    {.name = "alpha", .kind = OP_FLOAT, .offset = offsetof(struct leaky_relu_attributes, alpha),
     .initial = 0.01f},
    {.name = NULL},
};

static nn_real slope_of(const struct op_call *call)
{
    const struct leaky_relu_attributes *attributes = call->attributes;
    return (nn_real)attributes->alpha;
}

static void LeakyRelu_forward(const struct op_call *call)
{
    const nn_real *x = call->inputs[0]->data;
    nn_real *y = call->outputs[0]->data;
    nn_real slope = slope_of(call);
    int64_t n = shape_elements(&call->outputs[0]->shape);
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] < 0 ? slope * x[i] : x[i];
}

const struct op op_LeakyRelu = {
    .name = "LeakyRelu",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_IN_PLACE,
    .attributes_size = sizeof(struct leaky_relu_attributes),
    .attributes = leaky_relu_rows,
    .infer = activation_infer,
    .forward = LeakyRelu_forward,
};

/* Sigmoid -- (ONNX Sigmoid-13), X FP32 of any shape
 *
 *     Y = 1 / (1 + e^-X)
 */
static void Sigmoid_forward(const struct op_call *call)
{
    kernel_sigmoid(shape_elements(&call->outputs[0]->shape), call->inputs[0]->data,
                   call->outputs[0]->data);
}

const struct op op_Sigmoid = {
    .name = "Sigmoid",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_IN_PLACE,
    .infer = activation_infer,
    .forward = Sigmoid_forward,
};

/* Tanh -- (ONNX Tanh-13), X FP32 of any shape
 *
 *     Y = tanh X
 */
static void Tanh_forward(const struct op_call *call)
{
    kernel_tanh(shape_elements(&call->outputs[0]->shape), call->inputs[0]->data,
                call->outputs[0]->data);
}

const struct op op_Tanh = {
    .name = "Tanh",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_IN_PLACE,
    .infer = activation_infer,
    .forward = Tanh_forward,
};

/* Softmax, LogSoftmax -- along one axis (ONNX Softmax-13, LogSoftmax-13), X FP32
 *
 *     Softmax     Y = e^(X - m) / s
 *     LogSoftmax  Y = X - m - ln s        m = max X, s = sum e^(X - m)
 *
 * Along another axis than the last, its elements are gathered into scratch [axis] first.
 */
struct softmax_attributes {
    int64_t axis;
};

static const struct op_attribute softmax_rows[] = {
    {.name = "axis", .kind = OP_INT, .offset = offsetof(struct softmax_attributes, axis),
     .initial = -1, .min = -NN_MAX_RANK, .max = NN_MAX_RANK - 1},
    {.name = NULL},
};

/* X seen as [outer, length, inner]. */
struct lines {
    int64_t outer, length, inner;
};

static struct lines lines_of(const struct nn_shape *shape, const void *attributes)
{
    int64_t given = ((const struct softmax_attributes *)attributes)->axis;
    int axis = (int)(given < 0 ? given + shape->rank : given);
    return (struct lines){
        .outer = shape_product(shape, 0, axis),
        .length = shape->dims[axis],
        .inner = shape_product(shape, axis + 1, shape->rank),
    };
}

static int softmax_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct op_value *x = inference->inputs[0];
    const struct softmax_attributes *attributes = inference->attributes;
    int axis;
    if (op_need(inference, 0, "X", NN_FP32, error) != 0 ||
        op_axis(attributes->axis, x->shape.rank, &axis, error) != 0)
        return -1;
    op_infer_same(inference);
    if (x->batch == axis)
        inference->outputs[0].batch = BATCH_LOST;

    struct lines lines = lines_of(&x->shape, attributes);
    if (lines.inner > 1) {
        inference->scratch = (size_t)lines.length * sizeof(nn_real);
        inference->gradient_scratch = 3 * inference->scratch;
    }
    inference->flops = 4 * (double)shape_elements(&x->shape);
    return 0;
}

static void gather(const struct lines *lines, const nn_real *from, nn_real *to)
{
    for (int64_t i = 0; i < lines->length; i++)
        to[i] = from[i * lines->inner];
}

/* y may be x. */
typedef void softmax_line(int64_t n, const nn_real *x, nn_real *y);

static void run_lines(const struct op_call *call, softmax_line *line)
{
    const nn_real *x = call->inputs[0]->data;
    nn_real *y = call->outputs[0]->data, *buffer = call->scratch;
    struct lines lines = lines_of(&call->inputs[0]->shape, call->attributes);

    for (int64_t o = 0; o < lines.outer; o++)
        for (int64_t in = 0; in < lines.inner; in++) {
            int64_t at = o * lines.length * lines.inner + in;
            if (lines.inner == 1) {
                line(lines.length, x + at, y + at);
                continue;
            }
            gather(&lines, x + at, buffer);
            line(lines.length, buffer, buffer);
            for (int64_t i = 0; i < lines.length; i++)
                y[at + i * lines.inner] = buffer[i];
        }
}

static void subtract(int64_t n, const nn_real *x, nn_real amount, nn_real *y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] - amount;
}

static void softmax(int64_t n, const nn_real *x, nn_real *y)
{
    subtract(n, x, kernel_max(n, x), y);
    kernel_exp(n, y, y);
    nn_real factor = 1 / kernel_sum(n, y);
    for (int64_t i = 0; i < n; i++)
        y[i] *= factor;
}

static void log_softmax(int64_t n, const nn_real *x, nn_real *y)
{
    enum { BLOCK = 256 };
    subtract(n, x, kernel_max(n, x), y);
    nn_real sum = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t m = n - begin < BLOCK ? n - begin : BLOCK;
        nn_real block[BLOCK];
        kernel_exp(m, y + begin, block);
        sum += kernel_sum(m, block);
    }
    subtract(n, y, (nn_real)log((double)sum), y);
}

static void Softmax_forward(const struct op_call *call)
{
    run_lines(call, softmax);
}

static void LogSoftmax_forward(const struct op_call *call)
{
    run_lines(call, log_softmax);
}

const struct op op_Softmax = {
    .name = "Softmax",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_IN_PLACE,
    .attributes_size = sizeof(struct softmax_attributes),
    .attributes = softmax_rows,
    .infer = softmax_infer,
    .forward = Softmax_forward,
};

const struct op op_LogSoftmax = {
    .name = "LogSoftmax",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_IN_PLACE,
    .attributes_size = sizeof(struct softmax_attributes),
    .attributes = softmax_rows,
    .infer = softmax_infer,
    .forward = LogSoftmax_forward,
};

/* ---- gradients -------------------------------------------------------------------------- */

op_gradient gradient_Relu, gradient_LeakyRelu, gradient_Sigmoid, gradient_Tanh,
    gradient_Softmax, gradient_LogSoftmax;

/* gradient: dX = dY where Y > 0 */
void gradient_Relu(const struct op_call *call)
{
    if (!call->d_inputs[0])
        return;
    const nn_real *y = call->outputs[0]->data, *dy = call->d_outputs[0]->data;
    nn_real *restrict dx = call->d_inputs[0]->data;
    int64_t n = shape_elements(&call->outputs[0]->shape);
    for (int64_t i = 0; i < n; i++) {
        nn_real d = dy[i];      /* read in any case: a loop without a branch becomes vectors */
        dx[i] += y[i] > 0 ? d : 0;
    }
}

/* gradient: dX = dY where X >= 0, alpha dY elsewhere */
void gradient_LeakyRelu(const struct op_call *call)
{
    if (!call->d_inputs[0])
        return;
    const nn_real *x = call->inputs[0]->data, *dy = call->d_outputs[0]->data;
    nn_real *restrict dx = call->d_inputs[0]->data;
    nn_real slope = slope_of(call);
    int64_t n = shape_elements(&call->outputs[0]->shape);
    for (int64_t i = 0; i < n; i++)
        dx[i] += x[i] < 0 ? slope * dy[i] : dy[i];
}

/* gradient: dX = dY Y (1 - Y) */
void gradient_Sigmoid(const struct op_call *call)
{
    if (!call->d_inputs[0])
        return;
    const nn_real *y = call->outputs[0]->data, *dy = call->d_outputs[0]->data;
    nn_real *restrict dx = call->d_inputs[0]->data;
    int64_t n = shape_elements(&call->outputs[0]->shape);
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * y[i] * (1 - y[i]);
}

/* gradient: dX = dY (1 - Y^2) */
void gradient_Tanh(const struct op_call *call)
{
    if (!call->d_inputs[0])
        return;
    const nn_real *y = call->outputs[0]->data, *dy = call->d_outputs[0]->data;
    nn_real *restrict dx = call->d_inputs[0]->data;
    int64_t n = shape_elements(&call->outputs[0]->shape);
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * (1 - y[i] * y[i]);
}

/* Adds to dx. */
typedef void softmax_gradient_line(int64_t n, const nn_real *y, const nn_real *dy,
                                   nn_real *dx);

static void run_gradient_lines(const struct op_call *call, softmax_gradient_line *line)
{
    if (!call->d_inputs[0])
        return;
    const nn_real *y = call->outputs[0]->data, *dy = call->d_outputs[0]->data;
    nn_real *dx = call->d_inputs[0]->data, *buffer = call->scratch;
    struct lines lines = lines_of(&call->inputs[0]->shape, call->attributes);

    for (int64_t o = 0; o < lines.outer; o++)
        for (int64_t in = 0; in < lines.inner; in++) {
            int64_t at = o * lines.length * lines.inner + in;
            if (lines.inner == 1) {
                line(lines.length, y + at, dy + at, dx + at);
                continue;
            }
            nn_real *dy_line = buffer + lines.length, *dx_line = dy_line + lines.length;
            gather(&lines, y + at, buffer);
            gather(&lines, dy + at, dy_line);
            memset(dx_line, 0, (size_t)lines.length * sizeof *dx_line);
            line(lines.length, buffer, dy_line, dx_line);
            for (int64_t i = 0; i < lines.length; i++)
                dx[at + i * lines.inner] += dx_line[i];
        }
}

static void softmax_gradient(int64_t n, const nn_real *y, const nn_real *dy,
                             nn_real *restrict dx)
{
    nn_real mean = kernel_dot(n, dy, y);
    for (int64_t i = 0; i < n; i++)
        dx[i] += y[i] * (dy[i] - mean);
}

static void log_softmax_gradient(int64_t n, const nn_real *y, const nn_real *dy,
                                 nn_real *restrict dx)
{
    enum { BLOCK = 256 };
    nn_real sum = kernel_sum(n, dy);
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t m = n - begin < BLOCK ? n - begin : BLOCK;
        nn_real block[BLOCK];
        kernel_exp(m, y + begin, block);
        for (int64_t i = 0; i < m; i++)
            dx[begin + i] += dy[begin + i] - block[i] * sum;
    }
}

/* gradient: dX = Y (dY - sum dY Y) */
void gradient_Softmax(const struct op_call *call)
{
    run_gradient_lines(call, softmax_gradient);
}

/* gradient: dX = dY - e^Y sum dY */
void gradient_LogSoftmax(const struct op_call *call)
{
    run_gradient_lines(call, log_softmax_gradient);
}
