/*
 * Where a sliding window stands (ONNX: Conv, MaxPool, AveragePool).
 *
 *     extent = (kernel - 1) dilation + 1
 *     out = floor((in + pad_begin + pad_end - extent) / stride) + 1      (ceil with ceil_mode)
 *     SAME: out = ceil(in / stride), the odd row of padding at the end (UPPER) or begin (LOWER)
 */
#include "engine/ops/window.h"

const char *const window_auto_pads[] = {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", NULL};

struct axis {
    int64_t in, kernel, stride, dilation, pad_begin, pad_end, out;
};

static int axis_place(struct axis *x, int auto_pad, bool ceil_mode, struct nn_error *error)
{
    if (x->in < 1 || x->in > INT32_MAX)
        return nn_fail(error, "a window needs an axis of 1 to %d elements, not %lld", INT32_MAX,
                       (long long)x->in);
    if (x->kernel < 1 || x->kernel > WINDOW_MAX)
        return nn_fail(error, "a kernel has 1 to %d taps along an axis, not %lld", WINDOW_MAX,
                       (long long)x->kernel);
    int64_t extent = (x->kernel - 1) * x->dilation + 1;
    if (auto_pad == AUTO_PAD_SAME_UPPER || auto_pad == AUTO_PAD_SAME_LOWER) {
        x->out = (x->in - 1) / x->stride + 1;
        int64_t pad = (x->out - 1) * x->stride + extent - x->in;
        if (pad < 0)
            pad = 0;
        x->pad_begin = auto_pad == AUTO_PAD_SAME_UPPER ? pad / 2 : pad - pad / 2;
        x->pad_end = pad - x->pad_begin;
        return 0;
    }
    int64_t padded = x->in + x->pad_begin + x->pad_end;
    if (extent > padded && extent == x->kernel && padded == x->in)
        return nn_fail(error, "kernel %lld is larger than its input %lld", (long long)extent,
                       (long long)padded);
    if (extent > padded)
        return nn_fail(error, "kernel %lld with dilation %lld is larger than its input %lld "
                       "with padding %lld", (long long)x->kernel, (long long)x->dilation,
                       (long long)x->in, (long long)(padded - x->in));
    int64_t steps = padded - extent;
    x->out = (steps + (ceil_mode ? x->stride - 1 : 0)) / x->stride + 1;
    if (ceil_mode && (x->out - 1) * x->stride >= x->in + x->pad_begin)
        x->out--;
    return 0;
}

static int check_length(const char *name, const struct op_ints *ints, int expected,
                        struct nn_error *error)
{
    if (ints->n != 0 && ints->n != expected)
        return nn_fail(error, "%s must have %d elements, not %d", name, expected, ints->n);
    return 0;
}

static int64_t element(const struct op_ints *ints, int i, int64_t otherwise)
{
    return ints->n ? ints->values[i] : otherwise;
}

int window_place(const struct window_attributes *a, const struct nn_shape *x,
                 const int64_t *kernel, bool ceil_mode, struct window *window,
                 struct nn_error *error)
{
    if (x->rank != 3 && x->rank != 4)
        return nn_fail(error, "X must be [N, C, L] or [N, C, H, W], not %s",
                       shape_print(x, &(struct shape_text){""}));
    int n = x->rank - 2;
    if (check_length("kernel_shape", &a->kernel_shape, n, error) != 0 ||
        check_length("strides", &a->strides, n, error) != 0 ||
        check_length("dilations", &a->dilations, n, error) != 0 ||
        check_length("pads", &a->pads, 2 * n, error) != 0)
        return -1;
    struct axis axes[2] = {{1, 1, 1, 1, 0, 0, 1}};      /* a single axis is the second */
    for (int i = 0; i < n; i++) {
        struct axis *axis = &axes[2 - n + i];
        *axis = (struct axis){
            .in = x->dims[2 + i],
            .kernel = kernel[i],
            .stride = element(&a->strides, i, 1),
            .dilation = element(&a->dilations, i, 1),
            .pad_begin = element(&a->pads, i, 0),
            .pad_end = element(&a->pads, n + i, 0),
        };
        if (a->auto_pad != AUTO_PAD_NOTSET && (axis->pad_begin || axis->pad_end))
            return nn_fail(error, "pads and auto_pad %s exclude each other",
                           window_auto_pads[a->auto_pad]);
        if (axis_place(axis, a->auto_pad, ceil_mode, error) != 0)
            return -1;
    }
    *window = (struct window){
        .k = {.channels = x->dims[1], .height = axes[0].in, .width = axes[1].in,
              .kernel_h = axes[0].kernel, .kernel_w = axes[1].kernel,
              .stride_h = axes[0].stride, .stride_w = axes[1].stride,
              .dilation_h = axes[0].dilation, .dilation_w = axes[1].dilation,
              .pad_top = axes[0].pad_begin, .pad_left = axes[1].pad_begin,
              .out_h = axes[0].out, .out_w = axes[1].out},
        .pad_bottom = axes[0].pad_end,
        .pad_right = axes[1].pad_end,
    };
    return 0;
}

void window_shape(const struct window *window, const struct nn_shape *x, int64_t channels,
                  struct nn_shape *out)
{
    *out = *x;
    out->dims[1] = channels;
    if (x->rank == 4)
        out->dims[2] = window->k.out_h;
    out->dims[x->rank - 1] = window->k.out_w;
}
