/*
 * What Conv, MaxPool and AveragePool share: a window that slides over the last one or two
 * axes of [N, C, L] or [N, C, H, W].
 */
#ifndef OPS_WINDOW_H
#define OPS_WINDOW_H

#include "engine/kernels/kernels.h"
#include "engine/op.h"

enum window_auto_pad { AUTO_PAD_NOTSET, AUTO_PAD_SAME_UPPER, AUTO_PAD_SAME_LOWER,
                       AUTO_PAD_VALID };

extern const char *const window_auto_pads[];

struct window_attributes {
    int auto_pad;
    struct op_ints kernel_shape, strides, dilations, pads;
};

enum { WINDOW_MAX = 1 << 24 };  /* of each number: products of two cannot overflow */

/* The rows of a `struct window_attributes window` in `type`. */
#define WINDOW_ROWS(type, kernel_required)                                                     \
    {.name = "auto_pad", .kind = OP_CHOICE, .offset = offsetof(type, window.auto_pad),         \
     .choices = window_auto_pads},                                                             \
    {.name = "kernel_shape", .kind = OP_INTS, .offset = offsetof(type, window.kernel_shape),   \
     .min = 1, .max = WINDOW_MAX, .required = kernel_required},                                \
    {.name = "strides", .kind = OP_INTS, .offset = offsetof(type, window.strides),             \
     .min = 1, .max = WINDOW_MAX},                                                             \
    {.name = "pads", .kind = OP_INTS, .offset = offsetof(type, window.pads),                   \
     .max = WINDOW_MAX}
#define WINDOW_DILATIONS(type)                                                                 \
    {.name = "dilations", .kind = OP_INTS, .offset = offsetof(type, window.dilations),         \
     .min = 1, .max = WINDOW_MAX}

/* A window in place: all in kernel_window but column_stride, and the padding at the end. */
struct window {
    struct kernel_window k;     /* a single axis lies along the width; channels: x's */
    int64_t pad_bottom, pad_right;
};

/* Places the window on x. `kernel` has an element per spatial axis. ceil_mode: a last window
 * that x fills only in part counts, unless it would begin in the padding. */
int window_place(const struct window_attributes *a, const struct nn_shape *x,
                 const int64_t *kernel, bool ceil_mode, struct window *window,
                 struct nn_error *error);

/* The shape of the result: x's first axis, `channels`, and the spatial axes. */
void window_shape(const struct window *window, const struct nn_shape *x, int64_t channels,
                  struct nn_shape *out);

#endif
