/*
 * Pooling: the largest or the mean element under a sliding window, plane by plane.
 */
#include "engine/ops/window.h"

/* What MaxPool and AveragePool may be told; each has rows for what it knows. */
struct pool_attributes {
    struct window_attributes window;
    int64_t ceil_mode;
    int64_t storage_order;      /* MaxPool: Indices count 0: along rows, 1: down columns */
    int64_t count_include_pad;  /* AveragePool */
};

#define POOL_FLAG(field)                                                                       \
    {.name = #field, .kind = OP_INT, .offset = offsetof(struct pool_attributes, field),        \
     .min = 0, .max = 1}

/* What an output sees of the input along one axis: `first`, one `dilation` after another,
 * before `end`. */
struct span {
    int64_t first, end;
};

static inline struct span pool_span(int64_t at, int64_t stride, int64_t pad, int64_t kernel,
                                    int64_t dilation, int64_t in)
{
    int64_t first = at * stride - pad, end = first + (kernel - 1) * dilation + 1;
    if (first < 0)
        first += (-first + dilation - 1) / dilation * dilation;
    return (struct span){first, end < in ? end : in};
}

static inline struct span rows_of(const struct kernel_window *k, int64_t oy)
{
    return pool_span(oy, k->stride_h, k->pad_top, k->kernel_h, k->dilation_h, k->height);
}

static inline struct span columns_of(const struct kernel_window *k, int64_t ox)
{
    return pool_span(ox, k->stride_w, k->pad_left, k->kernel_w, k->dilation_w, k->width);
}

/* Every window has to see at least one element. It does when the padding is smaller than the
 * window, and no dilated step can pass over the whole input. */
static int check_padding(const char *axis, int64_t pad, int64_t kernel, int64_t dilation,
                         int64_t in, struct nn_error *error)
{
    if (pad > (kernel - 1) * dilation)
        return nn_fail(error, "padding %lld of the %s is not smaller than the kernel %lld",
                       (long long)pad, axis, (long long)((kernel - 1) * dilation + 1));
    if (pad > 0 && dilation > in)
        return nn_fail(error, "dilation %lld of the %s steps over the whole input %lld",
                       (long long)dilation, axis, (long long)in);
    return 0;
}

static int pool_place(const struct pool_attributes *a, const struct nn_shape *x,
                      struct kernel_window *k, struct nn_shape *y, struct nn_error *error)
{
    struct window window;
    if (a->window.kernel_shape.n == 0)
        return nn_fail(error, "attribute \"kernel_shape\" is missing");
    if (window_place(&a->window, x, a->window.kernel_shape.values, a->ceil_mode, &window,
                     error) != 0)
        return -1;
    *k = window.k;
    if (check_padding("height", k->pad_top > window.pad_bottom ? k->pad_top : window.pad_bottom,
                      k->kernel_h, k->dilation_h, k->height, error) != 0 ||
        check_padding("width", k->pad_left > window.pad_right ? k->pad_left : window.pad_right,
                      k->kernel_w, k->dilation_w, k->width, error) != 0)
        return -1;
    window_shape(&window, x, x->dims[1], y);
    return 0;
}

static struct kernel_window pool_window(const struct op_call *call)
{
    struct kernel_window k;
    struct nn_shape y;
    pool_place(call->attributes, &call->inputs[0]->shape, &k, &y, NULL);
    return k;
}

static int pool_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct op_value *x = inference->inputs[0];
    struct op_value *y = &inference->outputs[0];
    struct kernel_window k = {0};
    if (pool_place(inference->attributes, &x->shape, &k, &y->shape, error) != 0)
        return -1;
    y->datatype = x->datatype;
    y->batch = x->batch < 2 ? x->batch : BATCH_LOST;
    inference->flops = (double)x->shape.dims[0] * (double)k.channels * (double)k.out_h *
                       (double)k.out_w * (double)k.kernel_h * (double)k.kernel_w;
    return 0;
}

static int64_t pool_planes(const struct op_call *call)
{
    return shape_product(&call->inputs[0]->shape, 0, 2);
}

/* Two by two without overlap and padding, the most common by far. */
static bool pool_halves(const struct kernel_window *k)
{
    return k->kernel_h == 2 && k->kernel_w == 2 && k->stride_h == 2 && k->stride_w == 2 &&
           k->dilation_h == 1 && k->dilation_w == 1 && k->pad_top == 0 && k->pad_left == 0 &&
           k->out_h == k->height / 2 && k->out_w == k->width / 2;
}

/* MaxPool -- the largest element under a window (ONNX MaxPool-12)
 *
 *     Y[n, c, oy, ox] = max over ky, kx of X[n, c, oy sy + ky dy - py, ox sx + kx dx - px]
 *
 * X [N, C, L] or [N, C, H, W], FP32, UINT8 or INT8     Y [N, C, out...]
 * Indices, optional, INT64: where it was, counted from the first element of the whole X
 *
 * The first of equal elements counts. Not a number is larger than any.
 */
static const struct op_attribute max_pool_rows[] = {
    WINDOW_ROWS(struct pool_attributes, true),
    WINDOW_DILATIONS(struct pool_attributes),
    POOL_FLAG(ceil_mode),
    POOL_FLAG(storage_order),
    {.name = NULL},
};

static int MaxPool_infer(struct op_inference *inference, struct nn_error *error)
{
    enum nn_datatype datatype = inference->inputs[0]->datatype;
    if (datatype != NN_UINT8 && datatype != NN_INT8 &&
        op_need(inference, 0, "X", NN_FP32, error) != 0)
        return -1;
    if (pool_infer(inference, error) != 0)
        return -1;
    if (inference->n_outputs > 1) {
        struct op_value *y = &inference->outputs[0];
        inference->outputs[1] = *y;
        inference->outputs[1].datatype = NN_INT64;
        /* An index tells which row of the batch it is: the same image has others elsewhere. */
        if (y->batch >= 0)
            inference->outputs[1].batch = BATCH_LOST;
    }
    return 0;
}

/* The position of the largest element of a window in its plane. */
#define DEFINE_LARGEST(name, type)                                                             \
    static inline int64_t name(const struct kernel_window *k, const type *x, struct span rows, \
                               struct span columns)                                            \
    {                                                                                          \
        int64_t best = rows.first * k->width + columns.first;                                  \
        for (int64_t iy = rows.first; iy < rows.end; iy += k->dilation_h)                      \
            for (int64_t ix = columns.first; ix < columns.end; ix += k->dilation_w) {          \
                int64_t at = iy * k->width + ix;                                               \
                if (x[at] > x[best] || (x[at] != x[at] && x[best] == x[best]))                 \
                    best = at;                                                                 \
            }                                                                                  \
        return best;                                                                           \
    }
DEFINE_LARGEST(largest_real, nn_real)
DEFINE_LARGEST(largest_uint8, uint8_t)
DEFINE_LARGEST(largest_int8, int8_t)

/* Two choices without a branch, which compilers make vectors of; a or b is not a number: so is
 * the larger. */
static inline nn_real larger(nn_real a, nn_real b)
{
    nn_real larger_or_b = a > b ? a : b;
    return a == a ? larger_or_b : a;
}

static void max_halves(const struct kernel_window *k, const nn_real *restrict x,
                       nn_real *restrict y)
{
    for (int64_t oy = 0; oy < k->out_h; oy++, y += k->out_w) {
        const nn_real *a = x + 2 * oy * k->width, *b = a + k->width;
        for (int64_t ox = 0; ox < k->out_w; ox++)
            y[ox] = larger(larger(a[2 * ox], a[2 * ox + 1]), larger(b[2 * ox], b[2 * ox + 1]));
    }
}

/* Indices: element `best` of a plane, counted from the first element of all planes. */
static int64_t max_index(const struct kernel_window *k, bool down_columns, int64_t plane,
                         int64_t best)
{
    if (down_columns)
        best = best / k->width + best % k->width * k->height;
    return plane * k->height * k->width + best;
}

#define DEFINE_MAX_PLANE(name, type, largest)                                                  \
    static void name(const struct kernel_window *k, int64_t plane, bool down_columns,          \
                     const type *x, type *y, int64_t *indices)                                 \
    {                                                                                          \
        for (int64_t oy = 0; oy < k->out_h; oy++) {                                            \
            struct span rows = rows_of(k, oy);                                                 \
            for (int64_t ox = 0; ox < k->out_w; ox++) {                                        \
                int64_t best = largest(k, x, rows, columns_of(k, ox));                         \
                *y++ = x[best];                                                                \
                if (indices)                                                                   \
                    *indices++ = max_index(k, down_columns, plane, best);                      \
            }                                                                                  \
        }                                                                                      \
    }
DEFINE_MAX_PLANE(max_plane_real, nn_real, largest_real)
DEFINE_MAX_PLANE(max_plane_uint8, uint8_t, largest_uint8)
DEFINE_MAX_PLANE(max_plane_int8, int8_t, largest_int8)

static void MaxPool_forward(const struct op_call *call)
{
    struct kernel_window k = pool_window(call);
    const struct pool_attributes *a = call->attributes;
    const void *x = call->inputs[0]->data;
    void *y = call->outputs[0]->data;
    int64_t *indices = call->n_outputs > 1 && call->outputs[1] ? call->outputs[1]->data : NULL;
    int64_t plane = k.height * k.width, positions = k.out_h * k.out_w;
    enum nn_datatype datatype = call->inputs[0]->datatype;
    bool real = datatype == NN_FP32;
    bool halves = real && !indices && pool_halves(&k);

    for (int64_t p = 0; p < pool_planes(call); p++) {
        int64_t *index = indices ? indices + p * positions : NULL;
        if (halves)
            max_halves(&k, (const nn_real *)x + p * plane, (nn_real *)y + p * positions);
        else if (real)
            max_plane_real(&k, p, a->storage_order, (const nn_real *)x + p * plane,
                           (nn_real *)y + p * positions, index);
        else if (datatype == NN_INT8)
            max_plane_int8(&k, p, a->storage_order, (const int8_t *)x + p * plane,
                           (int8_t *)y + p * positions, index);
        else
            max_plane_uint8(&k, p, a->storage_order, (const uint8_t *)x + p * plane,
                            (uint8_t *)y + p * positions, index);
    }
}

const struct op op_MaxPool = {
    .name = "MaxPool",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 2,
    .attributes_size = sizeof(struct pool_attributes),
    .attributes = max_pool_rows,
    .infer = MaxPool_infer,
    .forward = MaxPool_forward,
};

/* AveragePool -- the mean element under a window (ONNX AveragePool-11)
 *
 *     Y[n, c, oy, ox] = sum over ky, kx of X[n, c, oy sy + ky - py, ox sx + kx - px] / count
 *
 * X [N, C, L] or [N, C, H, W]     Y [N, C, out...]
 * count: elements of X under the window; with count_include_pad those of the padding, too
 */
static const struct op_attribute average_pool_rows[] = {
    WINDOW_ROWS(struct pool_attributes, true),
    POOL_FLAG(ceil_mode),
    POOL_FLAG(count_include_pad),
    {.name = NULL},
};

static int AveragePool_infer(struct op_inference *inference, struct nn_error *error)
{
    return op_need(inference, 0, "X", NN_FP32, error) != 0 ? -1 : pool_infer(inference, error);
}

/* With the padding, a window that ceil_mode let reach beyond it still ends where it ends. */
static nn_real average_count(const struct pool_attributes *a, const struct window *w,
                             int64_t oy, int64_t ox, struct span rows, struct span columns)
{
    const struct kernel_window *k = &w->k;
    if (!a->count_include_pad)
        return (nn_real)((rows.end - rows.first) * (columns.end - columns.first));
    int64_t top = oy * k->stride_h - k->pad_top, left = ox * k->stride_w - k->pad_left;
    int64_t height = k->height + w->pad_bottom - top, width = k->width + w->pad_right - left;
    return (nn_real)((height < k->kernel_h ? height : k->kernel_h) *
                     (width < k->kernel_w ? width : k->kernel_w));
}

static struct window average_window(const struct op_call *call)
{
    struct window w;
    const struct pool_attributes *a = call->attributes;
    window_place(&a->window, &call->inputs[0]->shape, a->window.kernel_shape.values,
                 a->ceil_mode, &w, NULL);
    return w;
}

static void AveragePool_forward(const struct op_call *call)
{
    struct window w = average_window(call);
    const struct kernel_window *k = &w.k;
    const nn_real *x = call->inputs[0]->data;
    nn_real *y = call->outputs[0]->data;
    for (int64_t p = 0; p < pool_planes(call); p++, x += k->height * k->width)
        for (int64_t oy = 0; oy < k->out_h; oy++) {
            struct span rows = rows_of(k, oy);
            for (int64_t ox = 0; ox < k->out_w; ox++) {
                struct span columns = columns_of(k, ox);
                nn_real sum = 0;
                for (int64_t iy = rows.first; iy < rows.end; iy++)
                    for (int64_t ix = columns.first; ix < columns.end; ix++)
                        sum += x[iy * k->width + ix];
                *y++ = sum / average_count(call->attributes, &w, oy, ox, rows, columns);
            }
        }
}

const struct op op_AveragePool = {
    .name = "AveragePool",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes_size = sizeof(struct pool_attributes),
    .attributes = average_pool_rows,
    .infer = AveragePool_infer,
    .forward = AveragePool_forward,
};

/* GlobalAveragePool -- the mean of each plane (ONNX GlobalAveragePool-1)
 *
 *     Y[n, c, 0...] = sum X[n, c, ...] / P
 *
 * X [N, C, D...], P elements in a plane     Y [N, C, 1...]
 */
static int GlobalAveragePool_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct op_value *x = inference->inputs[0];
    struct op_value *y = &inference->outputs[0];
    if (op_need(inference, 0, "X", NN_FP32, error) != 0)
        return -1;
    if (x->shape.rank < 3)
        return nn_fail(error, "X must be [N, C, D...], not %s",
                       shape_print(&x->shape, &(struct shape_text){""}));
    op_infer_same(inference);
    for (int i = 2; i < y->shape.rank; i++)
        y->shape.dims[i] = 1;
    if (x->batch >= 2)
        y->batch = BATCH_LOST;
    inference->flops = (double)shape_elements(&x->shape);
    return 0;
}

static void GlobalAveragePool_forward(const struct op_call *call)
{
    const struct nn_shape *shape = &call->inputs[0]->shape;
    int64_t plane = shape_product(shape, 2, shape->rank);
    const nn_real *x = call->inputs[0]->data;
    nn_real *y = call->outputs[0]->data;
    for (int64_t p = 0; p < pool_planes(call); p++)
        y[p] = kernel_sum(plane, x + p * plane) / (nn_real)plane;
}

const struct op op_GlobalAveragePool = {
    .name = "GlobalAveragePool",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .infer = GlobalAveragePool_infer,
    .forward = GlobalAveragePool_forward,
};

/* ------------------------------------------------------------------------------------------ */

/* gradient: dX[where the largest was] += dY */
static void max_halves_gradient(const struct kernel_window *k, const nn_real *x,
                                const nn_real *y, const nn_real *dy, nn_real *dx)
{
    for (int64_t oy = 0; oy < k->out_h; oy++, y += k->out_w, dy += k->out_w) {
        const nn_real *a = x + 2 * oy * k->width, *b = a + k->width;
        nn_real *da = dx + 2 * oy * k->width, *db = da + k->width;
        for (int64_t ox = 0; ox < k->out_w; ox++) {
            nn_real rest = dy[ox], best = y[ox];
            nn_real *const to[4] = {da + 2 * ox, da + 2 * ox + 1, db + 2 * ox, db + 2 * ox + 1};
            const nn_real from[4] = {a[2 * ox], a[2 * ox + 1], b[2 * ox], b[2 * ox + 1]};
            for (int i = 0; i < 4; i++) {
                nn_real part = from[i] == best ? rest : 0;
                *to[i] += part;
                rest -= part;
            }
        }
    }
}

op_gradient gradient_MaxPool;

void gradient_MaxPool(const struct op_call *call)
{
    if (!call->d_inputs[0])
        return;
    struct kernel_window k = pool_window(call);
    int64_t plane = k.height * k.width, positions = k.out_h * k.out_w;
    const nn_real *x = call->inputs[0]->data, *y = call->outputs[0]->data;
    const nn_real *dy = call->d_outputs[0]->data;
    nn_real *dx = call->d_inputs[0]->data;
    bool halves = pool_halves(&k);
    for (int64_t p = 0; p < pool_planes(call); p++, x += plane, dx += plane, y += positions,
                 dy += positions) {
        if (halves) {
            max_halves_gradient(&k, x, y, dy, dx);
            continue;
        }
        for (int64_t oy = 0; oy < k.out_h; oy++) {
            struct span rows = rows_of(&k, oy);
            for (int64_t ox = 0; ox < k.out_w; ox++)
                dx[largest_real(&k, x, rows, columns_of(&k, ox))] += dy[oy * k.out_w + ox];
        }
    }
}

/* gradient: dX[under the window] += dY / count */
op_gradient gradient_AveragePool;

void gradient_AveragePool(const struct op_call *call)
{
    if (!call->d_inputs[0])
        return;
    struct window w = average_window(call);
    const struct kernel_window *k = &w.k;
    const nn_real *dy = call->d_outputs[0]->data;
    nn_real *dx = call->d_inputs[0]->data;
    for (int64_t p = 0; p < pool_planes(call); p++, dx += k->height * k->width)
        for (int64_t oy = 0; oy < k->out_h; oy++) {
            struct span rows = rows_of(k, oy);
            for (int64_t ox = 0; ox < k->out_w; ox++) {
                struct span columns = columns_of(k, ox);
                nn_real d = *dy++ /
                            average_count(call->attributes, &w, oy, ox, rows, columns);
                for (int64_t iy = rows.first; iy < rows.end; iy++)
                    for (int64_t ix = columns.first; ix < columns.end; ix++)
                        dx[iy * k->width + ix] += d;
            }
        }
}

/* gradient: dX += dY / P */
op_gradient gradient_GlobalAveragePool;

void gradient_GlobalAveragePool(const struct op_call *call)
{
    if (!call->d_inputs[0])
        return;
    const struct nn_shape *shape = &call->inputs[0]->shape;
    int64_t plane = shape_product(shape, 2, shape->rank);
    const nn_real *dy = call->d_outputs[0]->data;
    nn_real *dx = call->d_inputs[0]->data;
    for (int64_t p = 0; p < pool_planes(call); p++, dx += plane) {
        nn_real d = dy[p] / (nn_real)plane;
        for (int64_t i = 0; i < plane; i++)
            dx[i] += d;
    }
}
