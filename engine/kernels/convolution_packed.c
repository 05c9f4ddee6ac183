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
 * it by as many neighbours of X, which lie side by side: see image_place.h.
 *
 * Y comes out by position and is turned over at the end. An element is summed in the order of
 * c, ky, kx, some channels at a time, whatever else is computed: its bits are the same.
 */
#include "engine/kernels/image_place.h"
#include "engine/kernels/image_rows.h"
#include "engine/kernels/unroll.h"

#include <math.h>

enum {
    MAX_NEIGHBOURS = 12, /* of a tile */
    MAX_PANELS = 4,
    BLOCK_TAPS = 128, /* that are summed before they are added to what came before */
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
    struct image_place image;
    int64_t lanes, panels; /* of all filters */
    int64_t taps;          /* of a channel */
};

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Elements of a row of outputs; -1: more than can be counted. */
static int64_t result_row(const struct kernel_window *w, int64_t filters)
{
    int64_t lanes = kernel_packed_lanes(), elements;
    bool fits =
        !__builtin_mul_overflow((filters + lanes - 1) / lanes * lanes, w->out_w, &elements);
    return fits ? elements : -1;
}

static bool place(const struct kernel_window *w, int64_t filters, struct place *p)
{
    int64_t row = result_row(w, filters);
    p->lanes = kernel_packed_lanes();
    p->panels = (filters + p->lanes - 1) / p->lanes;
    p->taps = w->kernel_h * w->kernel_w;
    return row >= 0 && image_place(&p->image, w, false, row);
}

int64_t kernel_convolve_scratch(const struct kernel_window *w, int64_t filters)
{
    struct place p;
    return place(w, filters, &p) ? image_place_bytes(&p.image, w) : -1;
}

int64_t kernel_convolve_most_scratch(const struct kernel_window *w, int64_t filters)
{
    int64_t row = result_row(w, filters);
    return row >= 0 ? image_place_most_bytes(w, row) : -1;
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
    if (p->image.row == width && w->stride_h == 1) { /* rows behind each other are one */
        width *= rows;
        rows = 1;
    }
    choose_tile(width, p->panels, &neighbours, &most);

    for (int64_t c = 0; c < w->channels; c += block)
        for (int64_t j = 0, panels; j < p->panels; j += panels) {
            for (panels = most; panels > p->panels - j;)
                panels /= 2;
            struct tile t = {.plane = p->image.plane,
                             .panel = w->channels * p->taps * p->lanes,
                             .ldy = p->panels * p->lanes,
                             .channels = smaller(block, w->channels - c),
                             .n_taps = p->taps,
                             .taps = taps,
                             .adds = c > 0};
            t.w = packed + j * t.panel + c * p->taps * p->lanes;
            for (int64_t oy = 0; oy < rows; oy++)
                for (int64_t ox = 0; ox < width; ox += neighbours) {
                    t.x = x + c * p->image.plane + oy * w->stride_h * p->image.row + ox;
                    t.y = y + (oy * width + ox) * t.ldy + j * p->lanes;
                    sets[kernels_used()].run_tile((int)smaller(neighbours, width - ox),
                                                  (int)panels, &t);
                }
        }
}

/* the result */

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
    image = result + p.image.rows * w->out_w * p.panels * p.lanes;

    image_place_taps(&p.image, w, taps);
    for (int64_t row = 0; row < w->out_h; row += p.image.rows) {
        int64_t rows = smaller(p.image.rows, w->out_h - row);
        if (p.image.copied)
            image_place_copy(&p.image, w, row, x, image);
        multiply(w, &p, rows, p.image.copied ? image : x + row * w->stride_h * w->width, packed,
                 taps, result);
        turn_over(rows * w->out_w, filters, result, p.panels * p.lanes, y + row * w->out_w,
                  w->out_h * w->out_w);
    }
}
