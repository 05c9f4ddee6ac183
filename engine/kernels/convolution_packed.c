/*
 * A convolution with its filters packed once, for one image and one group: no matrix of
 * columns.
 *
 * As a product it is, for each output position p and filter m,
 *
 *     Y[p, m] = sum over c, ky, kx of X[c, oy sy + ky dy, ox sx + kx dx] W[c ky kx, m]
 *
 * Filters lie in panels of a vector's width. A tile is some neighbours in a row of outputs
 * times some panels, kept in registers: each tap reads one vector of each panel, and multiplies
 * it by as many neighbours of X. For them to lie side by side the image is copied, some rows of
 * outputs at a time: with its padding, and the columns of a stride taken apart, every sx-th
 * together. An image that is neither padded nor strided along its rows is read where it lies.
 *
 * Y comes out by position and is turned over at the end. An element is summed in the order of
 * c, ky, kx, some channels at a time, whatever else is computed: its bits are the same.
 */
#include "engine/kernels/image_rows.h"
#include "engine/kernels/unroll.h"

#include <math.h>

enum {
    MAX_NEIGHBOURS = 12, /* of a tile */
    MAX_PANELS = 4,
    BLOCK_TAPS = 128,  /* that are summed before they are added to what came before */
    CACHED = 48 << 10, /* elements of image and result, of some rows of outputs */
};

/* What a tile is computed from. */
struct tile {
    const nn_real *x, *w;
    nn_real *y;
    int64_t plane, panel; /* elements from one channel, or panel, to the next */
    int64_t ldy;          /* elements of y from one position to the next */
    int64_t channels, n_taps;
    const int64_t *taps; /* where they lie behind x, for each channel */
    bool adds;           /* to what y holds */
};

/* Whether a tile's sums, a vector of each panel and an element of x have registers. */
static inline bool fits(int neighbours, int panels, int registers)
{
    return neighbours * panels + panels + 1 <= registers;
}

#define TEMPLATE_FILE "engine/kernels/convolution_packed.inc"
#include "engine/kernels/every_set.inc"

static const struct {
    void (*run_tile)(int neighbours, int panels, const struct tile *t);
    int registers;
} sets[KERNEL_SETS] = {
#ifdef __aarch64__
    [KERNEL_BASELINE] = {run_tile_baseline, 32},
#else
    [KERNEL_BASELINE] = {run_tile_baseline, 16},
    [KERNEL_AVX2] = {run_tile_avx2, 16},
    [KERNEL_AVX512] = {run_tile_avx512, 32},
#endif
};

/* where things lie */

struct place {
    int64_t lanes, panels;     /* of all filters */
    int64_t taps;              /* of a channel */
    bool copied;               /* the image, else it is read where it lies */
    int64_t phases;            /* of a stride, that taps are in */
    int64_t width, row, plane; /* elements of a phase, of a row of the image, of a channel */
    int64_t rows;              /* of outputs at a time */
};

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Rows or columns that a window covers. */
static int64_t span(int64_t kernel, int64_t dilation)
{
    return (kernel - 1) * dilation + 1;
}

static bool is_inside(int64_t pad, int64_t out, int64_t stride, int64_t span, int64_t size)
{
    return pad == 0 && (out - 1) * stride + span <= size;
}

static int64_t rows_of_image(const struct kernel_window *w, int64_t rows)
{
    return (rows - 1) * w->stride_h + span(w->kernel_h, w->dilation_h);
}

/* Elements of memory for so many rows of outputs; false: too many to be counted. */
static bool measure(const struct kernel_window *w, const struct place *p, int64_t rows,
                    int64_t *elements)
{
    int64_t image = 0, result;
    if (p->copied && (__builtin_mul_overflow(rows_of_image(w, rows), p->row, &image) ||
                      __builtin_mul_overflow(image, w->channels, &image)))
        return false;
    return !__builtin_mul_overflow(rows * w->out_w, p->panels * p->lanes, &result) &&
           !__builtin_add_overflow(image, result, elements);
}

/* As if the image were copied. */
static void place_copy(const struct kernel_window *w, int64_t filters, struct place *p)
{
    int64_t across = span(w->kernel_w, w->dilation_w);
    *p = (struct place){.lanes = kernel_packed_lanes(),
                        .taps = w->kernel_h * w->kernel_w,
                        .copied = true,
                        .phases = smaller(w->stride_w, across),
                        .width = w->out_w + (across - 1) / w->stride_w,
                        .rows = 1};
    p->panels = (filters + p->lanes - 1) / p->lanes;
    p->row = p->phases * p->width;
}

static bool place(const struct kernel_window *w, int64_t filters, struct place *p)
{
    int64_t across = span(w->kernel_w, w->dilation_w), down = span(w->kernel_h, w->dilation_h);
    int64_t elements;
    place_copy(w, filters, p);
    if (w->stride_w == 1 && is_inside(w->pad_left, w->out_w, 1, across, w->width) &&
        is_inside(w->pad_top, w->out_h, w->stride_h, down, w->height)) {
        p->copied = false;
        p->row = p->width = w->width;
        p->plane = w->width * w->height;
    }
    if (!measure(w, p, 1, &elements))
        return false;
    while (p->rows < w->out_h && measure(w, p, smaller(2 * p->rows, w->out_h), &elements) &&
           elements <= CACHED)
        p->rows = smaller(2 * p->rows, w->out_h);
    int64_t tiles = (w->out_h + p->rows - 1) / p->rows;
    p->rows = (w->out_h + tiles - 1) / tiles;
    if (p->copied)
        p->plane = rows_of_image(w, p->rows) * p->row;
    return true;
}

static int64_t bytes(const struct place *p, int64_t elements)
{
    int64_t taps = p->taps * (int64_t)sizeof(int64_t), result;
    return __builtin_mul_overflow(elements, (int64_t)sizeof(nn_real), &result) ||
                   __builtin_add_overflow(result, taps, &result)
               ? -1
               : result;
}

int64_t kernel_convolve_scratch(const struct kernel_window *w, int64_t filters)
{
    struct place p;
    int64_t elements;
    return place(w, filters, &p) && measure(w, &p, p.rows, &elements) ? bytes(&p, elements)
                                                                      : -1;
}

int64_t kernel_convolve_most_scratch(const struct kernel_window *w, int64_t filters)
{
    struct place p;
    int64_t row;
    place_copy(w, filters, &p);
    return measure(w, &p, 1, &row) ? bytes(&p, larger(row, CACHED)) : -1;
}

static void place_taps(const struct kernel_window *w, const struct place *p, int64_t *taps)
{
    for (int64_t ky = 0; ky < w->kernel_h; ky++)
        for (int64_t kx = 0; kx < w->kernel_w; kx++) {
            int64_t at = kx * w->dilation_w;
            *taps++ =
                ky * w->dilation_h * p->row + at % w->stride_w * p->width + at / w->stride_w;
        }
}

/* the image */

/* What the outputs from `row` on need of the image. */
static void copy_image(const struct kernel_window *w, const struct place *p, int64_t row,
                       const nn_real *x, nn_real *image)
{
    int64_t rows = p->plane / p->row, top = row * w->stride_h - w->pad_top;
    for (int64_t phase = 0; phase < p->phases; phase++) {
        struct range across = tap_range(phase, 1, w->stride_w, w->pad_left, w->width, p->width);
        int64_t n = across.end - across.begin;
        for (int64_t c = 0; c < w->channels; c++)
            for (int64_t r = 0; r < rows; r++) {
                int64_t y = top + r;
                nn_real *to = image + c * p->plane + r * p->row + phase * p->width;
                if (y < 0 || y >= w->height) {
                    zero_short(to, p->width);
                    continue;
                }
                const nn_real *from = x + (c * w->height + y) * w->width +
                                      across.begin * w->stride_w + across.offset;
                zero_short(to, across.begin);
                if (w->stride_w == 1)
                    copy_short(to + across.begin, from, n);
                else
                    for (int64_t k = 0; k < n; k++)
                        to[across.begin + k] = from[k * w->stride_w];
                zero_short(to + across.end, p->width - across.end);
            }
    }
}

/* the product */

/* The tile that reads least for what it computes, of rows of n outputs. A vector counts twice:
 * it may come from farther away than an element. */
static void choose_tile(int64_t n, int64_t n_panels, int *neighbours, int *panels)
{
    double least = HUGE_VAL;
    for (int p = MAX_PANELS; p >= 1; p /= 2) {
        int most = MAX_NEIGHBOURS;
        while (!fits(most, p, sets[kernels_used()].registers))
            most--;
        if (p > n_panels || most < 1)
            continue;
        int64_t tiles = (n + most - 1) / most;
        double reads = (double)(n + 2 * p * tiles) / p;
        if (reads >= least)
            continue;
        least = reads;
        *neighbours = (int)((n + tiles - 1) / tiles);
        *panels = p;
    }
}

/* Y [rows out_w, panels lanes] */
static void multiply(const struct kernel_window *w, const struct place *p, int64_t rows,
                     const nn_real *x, const nn_real *packed, const int64_t *taps, nn_real *y)
{
    int64_t block = larger(BLOCK_TAPS / p->taps, 1), width = w->out_w;
    int neighbours = 1, most = 1;
    if (p->row == width && w->stride_h == 1) { /* rows behind each other are one */
        width *= rows;
        rows = 1;
    }
    choose_tile(width, p->panels, &neighbours, &most);

    for (int64_t c = 0; c < w->channels; c += block)
        for (int64_t j = 0, panels; j < p->panels; j += panels) {
            for (panels = most; panels > p->panels - j;)
                panels /= 2;
            struct tile t = {.plane = p->plane,
                             .panel = w->channels * p->taps * p->lanes,
                             .ldy = p->panels * p->lanes,
                             .channels = smaller(block, w->channels - c),
                             .n_taps = p->taps,
                             .taps = taps,
                             .adds = c > 0};
            t.w = packed + j * t.panel + c * p->taps * p->lanes;
            for (int64_t oy = 0; oy < rows; oy++)
                for (int64_t ox = 0; ox < width; ox += neighbours) {
                    t.x = x + c * p->plane + oy * w->stride_h * p->row + ox;
                    t.y = y + (oy * width + ox) * t.ldy + j * p->lanes;
                    sets[kernels_used()].run_tile((int)smaller(neighbours, width - ox),
                                                  (int)panels, &t);
                }
        }
}

/* the result */

typedef nn_real four
    __attribute__((vector_size(4 * sizeof(nn_real)), aligned(sizeof(nn_real)), may_alias));

static void turn_four(const nn_real *from, int64_t ld_from, nn_real *to, int64_t ld_to)
{
    four a = *(const four *)from, b = *(const four *)(from + ld_from),
         c = *(const four *)(from + 2 * ld_from), d = *(const four *)(from + 3 * ld_from);
    four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    four ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    four cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(four *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(four *)(to + ld_to) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(four *)(to + 2 * ld_to) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    *(four *)(to + 3 * ld_to) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

/* `to` [columns, rows] becomes `from` [rows, columns], turned over: four rows of it at a time,
 * as planes can lie so that parts of all of them have no place in the cache together. */
static void turn_over(int64_t rows, int64_t columns, const nn_real *from, int64_t ld_from,
                      nn_real *to, int64_t ld_to)
{
    int64_t by_four = rows / 4 * 4, j = 0;
    for (; j + 4 <= columns; j += 4) {
        for (int64_t i = 0; i < by_four; i += 4)
            turn_four(from + i * ld_from + j, ld_from, to + j * ld_to + i, ld_to);
        for (int64_t i = by_four; i < rows; i++)
            for (int64_t k = j; k < j + 4; k++)
                to[k * ld_to + i] = from[i * ld_from + k];
    }
    for (; j < columns; j++)
        for (int64_t i = 0; i < rows; i++)
            to[j * ld_to + i] = from[i * ld_from + j];
}

void kernel_convolve_packed(const struct kernel_window *w, int64_t filters, const nn_real *x,
                            const nn_real *packed, nn_real *y, void *scratch)
{
    struct place p;
    place(w, filters, &p);
    int64_t *taps = scratch;
    nn_real *result = (nn_real *)(taps + p.taps), *image;
    image = result + p.rows * w->out_w * p.panels * p.lanes;

    place_taps(w, &p, taps);
    for (int64_t row = 0; row < w->out_h; row += p.rows) {
        int64_t rows = smaller(p.rows, w->out_h - row);
        if (p.copied)
            copy_image(w, &p, row, x, image);
        multiply(w, &p, rows, p.copied ? image : x + row * w->stride_h * w->width, packed, taps,
                 result);
        turn_over(rows * w->out_w, filters, result, p.panels * p.lanes, y + row * w->out_w,
                  w->out_h * w->out_w);
    }
}
