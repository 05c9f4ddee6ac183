/*
 * Convolution.
 *
 * N images, G groups, C input channels and M filters (of the whole), K = C/G kernel_h kernel_w
 * taps of a filter, P = out_h out_w positions of an output plane. With one spatial axis the
 * height is 1.
 */
#include "engine/ops/window.h"

#include <math.h>
#include <string.h>

/* Conv -- convolution (ONNX Conv-11)
 *
 *     Y[n, m, oy, ox] = B[m] + sum over c, ky, kx of
 *         W[m, c, ky, kx] X[n, g C/G + c, oy sy + ky dy - py, ox sx + kx dx - px]
 *
 * X [N, C, L] or [N, C, H, W]     W [M, C/G, kernel...]     B [M], optional
 * Y [N, M, out...]                g = the group of filter m
 *
 * As a product of matrices, for each group: Y [M/G, P] = W [M/G, K] columns [K, P]. Constant
 * filters are packed, and then there is no matrix of columns: kernel_convolve_packed().
 */
struct conv_attributes {
    struct window_attributes window;
    int64_t group;
};

static const struct op_attribute conv_rows[] = {
    WINDOW_ROWS(struct conv_attributes, false),
    WINDOW_DILATIONS(struct conv_attributes),
    {.name = "group", .kind = OP_INT, .offset = offsetof(struct conv_attributes, group),
     .initial = 1, .min = 1, .max = INT32_MAX},
    {.name = NULL},
};

/* How the products are cut. */
enum conv_path {
    CONV_PLANES, /* a filter sees one channel: no matrices at all */
    CONV_WHOLE,  /* a window is the image: images are the rows of one product */
    CONV_PACKED, /* filters in the order of their kernel */
    CONV_DIRECT, /* 1x1, stride 1: the image is its own columns matrix */
    CONV_ROWS,   /* some rows of an output plane at a time */
    CONV_IMAGES, /* small planes: some images at a time, side by side */
};

enum {
    PLANES_FILTERS = 2,        /* per channel, up to which planes beat a product */
    SMALL_PLANE = 96,          /* positions below which one image makes a poor product */
    WIDE_PRODUCT = 256,        /* columns of a product of several images */
    NARROW_PRODUCT = 64,       /* columns below which a tile is not made narrower */
    TILE_ELEMENTS = 96 * 1024, /* of a columns matrix that stays in the second cache */
    PACKED_SPAN = 64,          /* rows of a window, up to which packed filters pay */
};

struct conv {
    struct window window;       /* k.channels: of one group */
    int64_t n, groups, channels, filters;       /* channels, filters: of one group */
    int64_t taps, positions;                    /* K, P */
    enum conv_path path;
    int64_t rows, images;       /* output rows, or images, of one tile */
    int64_t tile;               /* columns of one tile */
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool is_whole(const struct kernel_window *k)
{
    return k->out_h == 1 && k->out_w == 1 && k->kernel_h == k->height &&
           k->kernel_w == k->width && k->pad_top == 0 && k->pad_left == 0;
}

static bool is_direct(const struct kernel_window *k)
{
    return k->kernel_h == 1 && k->kernel_w == 1 && k->stride_h == 1 && k->stride_w == 1 &&
           k->out_h == k->height && k->out_w == k->width && k->pad_top == 0 && k->pad_left == 0;
}

static void conv_cut(struct conv *c, bool packed)
{
    const struct kernel_window *k = &c->window.k;
    c->rows = k->out_h;
    c->images = 1;
    c->tile = c->positions;
    if (c->channels == 1 && c->filters <= PLANES_FILTERS) {
        c->path = CONV_PLANES;
    } else if (is_whole(k)) {
        c->path = CONV_WHOLE;
        c->images = c->n;
    } else if (packed) {
        c->path = CONV_PACKED;
    } else if (is_direct(k)) {
        c->path = CONV_DIRECT;
    } else if (c->positions < SMALL_PLANE && c->n > 1) {
        c->path = CONV_IMAGES;
        c->images = smaller(c->n, WIDE_PRODUCT / c->positions);
        c->tile = c->images * c->positions;
    } else {
        c->path = CONV_ROWS;
        int64_t columns = TILE_ELEMENTS / c->taps;
        if (columns < NARROW_PRODUCT)
            columns = NARROW_PRODUCT;
        int64_t rows = smaller(k->out_h, (columns + k->out_w - 1) / k->out_w);
        int64_t tiles = (k->out_h + rows - 1) / rows;
        c->rows = (k->out_h + tiles - 1) / tiles;
        c->tile = c->rows * k->out_w;
    }
}

/* For shapes that were inferred, `error` NULL and the result 0. */
static int conv_plan(const struct conv_attributes *a, const struct nn_shape *x,
                     const struct nn_shape *w, bool packed, struct conv *c,
                     struct nn_error *error)
{
    struct shape_text x_text, w_text;
    if (x->rank != 3 && x->rank != 4)
        return nn_fail(error, "X must be [N, C, L] or [N, C, H, W], not %s",
                       shape_print(x, &x_text));
    if (w->rank != x->rank)
        return nn_fail(error, "W %s must have as many axes as X %s", shape_print(w, &w_text),
                       shape_print(x, &x_text));
    if (x->dims[1] < 1 || x->dims[1] % a->group != 0)
        return nn_fail(error, "group %lld does not divide the %lld channels of X",
                       (long long)a->group, (long long)x->dims[1]);
    if (w->dims[0] < 1 || w->dims[0] % a->group != 0)
        return nn_fail(error, "group %lld does not divide the %lld filters of W",
                       (long long)a->group, (long long)w->dims[0]);
    if (w->dims[1] != x->dims[1] / a->group)
        return nn_fail(error, "W %s must have %lld channels (%lld of X in %lld groups), "
                       "not %lld", shape_print(w, &w_text),
                       (long long)(x->dims[1] / a->group), (long long)x->dims[1],
                       (long long)a->group, (long long)w->dims[1]);
    const struct op_ints *kernel = &a->window.kernel_shape;
    for (int i = 0; i < kernel->n && i < w->rank - 2; i++)
        if (kernel->values[i] != w->dims[2 + i])
            return nn_fail(error, "kernel_shape says %lld where W %s has %lld",
                           (long long)kernel->values[i], shape_print(w, &w_text),
                           (long long)w->dims[2 + i]);
    *c = (struct conv){
        .n = x->dims[0],
        .groups = a->group,
        .channels = x->dims[1] / a->group,
        .filters = w->dims[0] / a->group,
        .taps = shape_product(w, 1, w->rank),
    };
    if (window_place(&a->window, x, w->dims + 2, false, &c->window, error) != 0)
        return -1;
    c->window.k.channels = c->channels;
    c->positions = c->window.k.out_h * c->window.k.out_w;
    conv_cut(c, packed);
    return 0;
}

/* The columns of a tile, and its outputs side by side where it has several images. */
static int64_t conv_workspace(const struct conv *c)
{
    if (c->path == CONV_PACKED)
        return kernel_convolve_scratch(&c->window.k, c->filters);
    if (c->path == CONV_PLANES)
        return kernel_convolve_planes_scratch(&c->window.k);
    if (c->path == CONV_WHOLE || c->path == CONV_DIRECT)
        return 0;
    int64_t rows = c->taps + (c->path == CONV_IMAGES ? c->filters : 0), elements;
    if (__builtin_mul_overflow(rows, c->tile, &elements) ||
        elements > PTRDIFF_MAX / (int64_t)sizeof(nn_real))
        return -1;
    return elements * (int64_t)sizeof(nn_real);
}

/* A session plans for its largest batch. Where the rows were mixed, fewer of them can make
 * smaller planes, which are cut in another way and may take more: the most of all ways. */
static int64_t conv_workspace_of_any_rows(const struct conv *c, bool packed)
{
    if (c->path == CONV_PLANES)
        return kernel_convolve_planes_most_scratch(&c->window.k);
    if (packed)
        return kernel_convolve_most_scratch(&c->window.k, c->filters);
    int64_t columns = TILE_ELEMENTS / c->taps + NARROW_PRODUCT + c->window.k.out_w;
    if (columns < WIDE_PRODUCT)
        columns = WIDE_PRODUCT;
    struct conv widest = *c;
    widest.path = CONV_IMAGES;
    widest.tile = columns;
    return conv_workspace(&widest);
}

static int Conv_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct op_value *x = inference->inputs[0], *w = inference->inputs[1];
    const struct op_value *b = inference->n_inputs > 2 ? inference->inputs[2] : NULL;
    struct op_value *y = &inference->outputs[0];
    if (op_need(inference, 0, "X", NN_FP32, error) != 0 ||
        op_need(inference, 1, "W", NN_FP32, error) != 0 ||
        op_need(inference, 2, "B", NN_FP32, error) != 0)
        return -1;
    struct conv c;
    if (conv_plan(inference->attributes, &x->shape, &w->shape, inference->packed, &c, error) !=
        0)
        return -1;
    int64_t n_filters = w->shape.dims[0];
    if (b && (b->shape.rank != 1 || b->shape.dims[0] != n_filters))
        return nn_fail(error, "B must be [%lld], not %s", (long long)n_filters,
                       shape_print(&b->shape, &(struct shape_text){""}));
    bool rows_are_rows = x->batch == 0 || x->batch == BATCH_NONE;
    int64_t workspace =
        rows_are_rows ? conv_workspace(&c) : conv_workspace_of_any_rows(&c, inference->packed);
    if (workspace < 0)
        return nn_fail(error, "the matrix of %lld taps by %lld positions is too large",
                       (long long)c.taps, (long long)c.tile);
    y->datatype = NN_FP32;
    window_shape(&c.window, &x->shape, n_filters, &y->shape);
    y->batch = x->batch == 0 || x->batch == BATCH_NONE ? x->batch : BATCH_LOST;
    if (w->batch != BATCH_NONE || (b && b->batch != BATCH_NONE))
        y->batch = BATCH_LOST;
    inference->scratch = inference->gradient_scratch = (size_t)workspace;
    inference->flops = 2.0 * (double)c.n * (double)n_filters * (double)c.positions *
                       (double)c.taps;
    return 0;
}

/* One tile of one group: the images from n on, or the output rows from row on. */
struct conv_tile {
    int64_t images;
    int64_t offset;             /* of its first position in the output plane */
    int64_t columns;
    struct kernel_window window;
};

static struct conv_tile conv_tile(const struct conv *c, int64_t n, int64_t row)
{
    struct conv_tile tile = {.images = smaller(c->images, c->n - n),
                             .window = c->window.k};
    int64_t rows = smaller(c->rows, c->window.k.out_h - row);
    tile.offset = row * c->window.k.out_w;
    tile.columns = tile.images * rows * c->window.k.out_w;
    tile.window.out_h = rows;
    tile.window.pad_top -= row * c->window.k.stride_h;
    tile.window.column_stride = tile.columns;
    return tile;
}

/* Elements of one image of X, and of Y. */
static int64_t conv_in(const struct conv *c)
{
    return c->groups * c->channels * c->window.k.height * c->window.k.width;
}

static int64_t conv_out(const struct conv *c)
{
    return c->groups * c->filters * c->positions;
}

/* x: the group's channels of the tile's first image. */
static void tile_im2col(const struct conv *c, const struct conv_tile *tile, const nn_real *x,
                        nn_real *columns)
{
    for (int64_t i = 0; i < tile->images; i++)
        kernel_im2col(&tile->window, x + i * conv_in(c), columns + i * c->positions);
}

static void conv_forward_tile(const struct conv *c, const struct conv_tile *tile,
                              const nn_real *x, const nn_real *w, nn_real *y,
                              nn_real *columns)
{
    if (c->path == CONV_DIRECT) {
        kernel_gemm(false, false, c->filters, c->positions, c->taps, 1, w, c->taps, x,
                    c->positions, 0, y, c->positions);
        return;
    }
    tile_im2col(c, tile, x, columns);
    if (c->path == CONV_ROWS) {
        kernel_gemm(false, false, c->filters, tile->columns, c->taps, 1, w, c->taps, columns,
                    tile->columns, 0, y + tile->offset, c->positions);
        return;
    }
    nn_real *together = columns + c->taps * tile->columns;      /* [filters, images, P] */
    kernel_gemm(false, false, c->filters, tile->columns, c->taps, 1, w, c->taps, columns,
                tile->columns, 0, together, tile->columns);
    for (int64_t i = 0; i < tile->images; i++)
        for (int64_t m = 0; m < c->filters; m++)
            memcpy(y + i * conv_out(c) + m * c->positions,
                   together + m * tile->columns + i * c->positions,
                   (size_t)c->positions * sizeof *y);
}

/* Y [N, M/G] = X [N, K] W', and its images are that far from each other in x and y. */
static void conv_forward_whole(const struct conv *c, const nn_real *x, const nn_real *w,
                               const nn_real *packed, nn_real *y)
{
    if (packed)
        kernel_gemm_packed(c->n, c->filters, c->taps, x, conv_in(c), packed, y, conv_out(c));
    else
        kernel_gemm(false, true, c->n, c->filters, c->taps, 1, x, conv_in(c), w, c->taps, 0, y,
                    conv_out(c));
}

/* One group of the images from n on, as many as are computed together. */
static void conv_forward_group(const struct conv *c, int64_t n, const nn_real *x,
                               const nn_real *w, const nn_real *packed, nn_real *y,
                               void *scratch)
{
    if (c->path == CONV_WHOLE) {
        conv_forward_whole(c, x, w, packed, y);
    } else if (c->path == CONV_PACKED) {
        kernel_convolve_packed(&c->window.k, c->filters, x, packed, y, scratch);
    } else {
        for (int64_t row = 0; row < c->window.k.out_h; row += c->rows) {
            struct conv_tile tile = conv_tile(c, n, row);
            conv_forward_tile(c, &tile, x, w, y, scratch);
        }
    }
}

static void conv_epilogue(const struct conv *c, const struct op_epilogue *e, int64_t images,
                          const nn_real *b, nn_real *y)
{
    int64_t filters = c->groups * c->filters;
    if (!b && e->activation == ACTIVATION_NONE)
        return;
    if (c->path == CONV_WHOLE)
        kernel_bias_activation(images, filters, y, filters, b, NULL, e->activation, e->alpha,
                               e->beta);
    else
        for (int64_t i = 0; i < images; i++)
            kernel_bias_activation(filters, c->positions, y + i * conv_out(c), c->positions,
                                   NULL, b, e->activation, e->alpha, e->beta);
}

static void Conv_forward(const struct op_call *call)
{
    struct conv c;
    conv_plan(call->attributes, &call->inputs[0]->shape, &call->inputs[1]->shape,
              call->packed != NULL, &c, NULL);
    const nn_real *x = call->inputs[0]->data, *w = call->inputs[1]->data;
    const nn_real *b = call->n_inputs > 2 && call->inputs[2] ? call->inputs[2]->data : NULL;
    const nn_real *packed = call->packed;
    nn_real *y = call->outputs[0]->data;
    int64_t x_group = conv_in(&c) / c.groups, y_group = conv_out(&c) / c.groups;
    int64_t packed_group = packed ? kernel_packed_size(c.filters, c.taps) : 0;

    for (int64_t n = 0; n < c.n; n += c.images) {
        const nn_real *xn = x + n * conv_in(&c);
        nn_real *yn = y + n * conv_out(&c);
        if (c.path == CONV_PLANES)
            kernel_convolve_planes(&c.window.k, c.groups, c.filters, xn, w, yn, call->scratch);
        for (int64_t g = 0; g < c.groups && c.path != CONV_PLANES; g++)
            conv_forward_group(&c, n, xn + g * x_group, w + g * c.filters * c.taps,
                               packed ? packed + g * packed_group : NULL, yn + g * y_group,
                               call->scratch);
        conv_epilogue(&c, &call->epilogue, smaller(c.images, c.n - n), b, yn);
    }
}

/* Filters that would fill less than two thirds of their panels, points, and windows of which a
 * few rows of outputs need much of the image, stay as they are; so do those of which a product
 * may not leave out what a 0 is multiplied with. */
static size_t Conv_pack(const void *attributes, const struct op_value *w, void *packed)
{
    const struct conv_attributes *a = attributes;
    int64_t filters = w->shape.dims[0] / a->group,
            taps = shape_product(&w->shape, 1, w->shape.rank);
    int64_t size = kernel_packed_size(filters, taps);
    bool is_plane = w->shape.rank == 4;
    int64_t dilation =
        is_plane && a->window.dilations.n > 0 ? a->window.dilations.values[0] : 1;
    int64_t rows = is_plane ? (w->shape.dims[2] - 1) * dilation + 1 : 1;

    if (taps == w->shape.dims[1] || 3 * filters * taps < 2 * size || rows > PACKED_SPAN)
        return 0;
    const nn_real *constant = w->constant;
    for (int64_t i = 0; i < a->group * filters * taps && !packed; i++)
        if (!isfinite(constant[i]))
            return 0;
    for (int64_t g = 0; g < a->group && packed; g++)
        kernel_pack(true, filters, taps, constant + g * filters * taps, taps,
                    (nn_real *)packed + g * size);
    return (size_t)(a->group * size) * sizeof(nn_real);
}

const struct op op_Conv = {
    .name = "Conv",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_EPILOGUE,
    .attributes_size = sizeof(struct conv_attributes),
    .attributes = conv_rows,
    .infer = Conv_infer,
    .forward = Conv_forward,
    .pack = Conv_pack,
};

/* ------------------------------------------------------------------------------------------ */

/* gradient, for each group:
 *
 *     dW = dY columns'     dcolumns = W' dY, added back to where they came from     dB = sum dY
 */
static void conv_gradient_tile(const struct conv *c, const struct conv_tile *tile,
                               const nn_real *x, const nn_real *w, const nn_real *dy,
                               nn_real *dx, nn_real *dw, nn_real *columns)
{
    if (c->path == CONV_DIRECT) {
        if (dw)
            kernel_gemm(false, true, c->filters, c->taps, c->positions, 1, dy, c->positions, x,
                        c->positions, 1, dw, c->taps);
        if (dx)
            kernel_gemm(true, false, c->taps, c->positions, c->filters, 1, w, c->taps, dy,
                        c->positions, 1, dx, c->positions);
        return;
    }
    const nn_real *d = dy + tile->offset;
    int64_t stride = c->positions;
    if (c->path == CONV_IMAGES) {
        nn_real *together = columns + c->taps * tile->columns;
        for (int64_t m = 0; m < c->filters; m++)
            for (int64_t i = 0; i < tile->images; i++)
                memcpy(together + m * tile->columns + i * c->positions,
                       dy + i * conv_out(c) + m * c->positions,
                       (size_t)c->positions * sizeof *dy);
        d = together;
        stride = tile->columns;
    }
    if (dw) {
        tile_im2col(c, tile, x, columns);
        kernel_gemm(false, true, c->filters, c->taps, tile->columns, 1, d, stride, columns,
                    tile->columns, 1, dw, c->taps);
    }
    if (dx) {
        kernel_gemm(true, false, c->taps, tile->columns, c->filters, 1, w, c->taps, d, stride,
                    0, columns, tile->columns);
        for (int64_t i = 0; i < tile->images; i++)
            kernel_col2im(&tile->window, columns + i * c->positions, dx + i * conv_in(c));
    }
}

static void conv_gradient_whole(const struct conv *c, const nn_real *x, const nn_real *w,
                                const nn_real *dy, nn_real *dx, nn_real *dw)
{
    if (dw)
        kernel_gemm(true, false, c->filters, c->taps, c->n, 1, dy, conv_out(c), x, conv_in(c),
                    1, dw, c->taps);
    if (dx)
        kernel_gemm(false, false, c->n, c->taps, c->filters, 1, dy, conv_out(c), w, c->taps, 1,
                    dx, conv_in(c));
}

static void conv_gradient_planes(const struct conv *c, const nn_real *x, const nn_real *w,
                                 const nn_real *dy, nn_real *dx, nn_real *dw)
{
    int64_t plane = c->window.k.height * c->window.k.width;
    for (int64_t m = 0; m < c->groups * c->filters; m++) {
        int64_t at = m / c->filters * plane;
        kernel_plane_gradient(&c->window.k, x + at, w + m * c->taps, dy + m * c->positions,
                              dx ? dx + at : NULL, dw ? dw + m * c->taps : NULL);
    }
}

op_gradient gradient_Conv;

void gradient_Conv(const struct op_call *call)
{
    struct conv c;
    conv_plan(call->attributes, &call->inputs[0]->shape, &call->inputs[1]->shape, false, &c,
              NULL);
    const nn_real *x = call->inputs[0]->data, *w = call->inputs[1]->data;
    const nn_real *dy = call->d_outputs[0]->data;
    nn_real *dx = call->d_inputs[0] ? call->d_inputs[0]->data : NULL;
    nn_real *dw = call->d_inputs[1] ? call->d_inputs[1]->data : NULL;
    nn_real *db = call->n_inputs > 2 && call->d_inputs[2] ? call->d_inputs[2]->data : NULL;
    int64_t x_group = conv_in(&c) / c.groups, y_group = conv_out(&c) / c.groups;
    int64_t w_group = c.filters * c.taps;

    for (int64_t n = 0; (dx || dw) && n < c.n; n += c.images) {
        int64_t x_at = n * conv_in(&c), y_at = n * conv_out(&c);
        if (c.path == CONV_PLANES) {
            conv_gradient_planes(&c, x + x_at, w, dy + y_at, dx ? dx + x_at : NULL, dw);
            continue;
        }
        for (int64_t g = 0; g < c.groups; g++) {
            const nn_real *xg = x + x_at + g * x_group, *wg = w + g * w_group;
            const nn_real *dyg = dy + y_at + g * y_group;
            nn_real *dxg = dx ? dx + x_at + g * x_group : NULL;
            nn_real *dwg = dw ? dw + g * w_group : NULL;
            if (c.path == CONV_WHOLE) {
                conv_gradient_whole(&c, xg, wg, dyg, dxg, dwg);
                continue;
            }
            for (int64_t row = 0; row < c.window.k.out_h; row += c.rows) {
                struct conv_tile tile = conv_tile(&c, n, row);
                conv_gradient_tile(&c, &tile, xg, wg, dyg, dxg, dwg, call->scratch);
            }
        }
    }
    if (db)
        for (int64_t i = 0; i < c.n * c.groups * c.filters; i++)
            db[i % (c.groups * c.filters)] += kernel_sum(c.positions, dy + i * c.positions);
}
