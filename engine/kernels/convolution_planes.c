/*
 * A convolution of one channel, as depthwise convolutions are made of:
 *
 *     Y[m, oy, ox] = sum over ky, kx of X[oy sy + ky dy, ox sx + kx dx] W[m, ky, kx]
 *
 * A vector holds neighbours in a row of outputs, whose elements of X lie side by side: see
 * image_place.h. Where a window goes down one row at a time, the rows of the image behind each
 * other are a single long one, so that vectors are full in small planes, too: what is computed
 * at its seams is left out. The last vector reads, and writes, beyond the last output.
 *
 * An element is summed in the order of ky, kx, whatever else is computed: its bits are the same.
 */
#include "engine/kernels/image_place.h"
#include "engine/kernels/image_rows.h"
#include "engine/kernels/unroll.h"

enum {
    MAX_VECTORS = 4, /* at a time, as many chains of sums */
    SLACK = 16,      /* elements of the widest vector */
    SHORT = 8,       /* elements that are copied as one */
};

/* Outputs y [n] from x, and where their taps lie behind it. */
struct stretch {
    const nn_real *x, *w;
    nn_real *y;
    const int64_t *taps;
    int64_t n_taps, n;
};

#define TEMPLATE_FILE "engine/kernels/convolution_planes.inc"
#include "engine/kernels/every_set.inc"

static void (*const run_stretch[KERNEL_SETS])(const struct stretch *s) = {
    [KERNEL_BASELINE] = run_stretch_baseline,
#ifdef __x86_64__
    [KERNEL_AVX2] = run_stretch_avx2,
    [KERNEL_AVX512] = run_stretch_avx512,
#endif
};

static int64_t with_slack(int64_t bytes)
{
    const int64_t slack = 2 * SLACK * (int64_t)sizeof(nn_real);
    return bytes < 0 || bytes > INT64_MAX - slack ? -1 : bytes + slack;
}

int64_t kernel_convolve_planes_scratch(const struct kernel_window *w)
{
    struct image_place p;
    return image_place(&p, w, true, image_place_row(w)) ? with_slack(image_place_bytes(&p, w))
                                                        : -1;
}

int64_t kernel_convolve_planes_most_scratch(const struct kernel_window *w)
{
    return with_slack(image_place_most_bytes(w, image_place_row(w)));
}

/* y [rows, out_w] from rows that are row elements apart. */
static void take_rows(int64_t rows, int64_t out_w, const nn_real *from, int64_t row, nn_real *y)
{
    int64_t at = 0;
    /* What is too much of a short row is overwritten by the next one. */
    for (; out_w < SHORT && at + SHORT <= rows * out_w; at += out_w, from += row)
        memcpy(y + at, from, SHORT * sizeof *y);
    for (; at < rows * out_w; at += out_w, from += row)
        copy_short(y + at, from, out_w);
}

/* Of one channel: y [filters, out_h, out_w], from the output `row` on as many as are placed. */
static void convolve_rows(const struct kernel_window *w, const struct image_place *p,
                          int64_t filters, int64_t row, struct stretch s, nn_real *y)
{
    void (*run)(const struct stretch *) = run_stretch[kernels_used()];
    int64_t rows = w->out_h - row < p->rows ? w->out_h - row : p->rows;
    const nn_real *image = s.x;
    nn_real *result = s.y;

    for (int64_t m = 0; m < filters; m++, s.w += s.n_taps) {
        s.x = image;
        s.y = result;
        if (w->stride_h == 1) {
            s.n = (rows - 1) * p->row + w->out_w;
            run(&s);
        } else {
            s.n = w->out_w;
            for (int64_t oy = 0; oy < rows; oy++, s.x += w->stride_h * p->row, s.y += p->row)
                run(&s);
        }
        take_rows(rows, w->out_w, result, p->row, y + (m * w->out_h + row) * w->out_w);
    }
}

void kernel_convolve_planes(const struct kernel_window *w, int64_t planes, int64_t filters,
                            const nn_real *x, const nn_real *weights, nn_real *y, void *scratch)
{
    struct image_place p;
    image_place(&p, w, true, image_place_row(w));
    int64_t *taps = scratch, n_taps = w->kernel_h * w->kernel_w;
    nn_real *result = (nn_real *)(taps + n_taps), *image = result + p.rows * p.row + SLACK;
    struct stretch s = {.x = image, .y = result, .taps = taps, .n_taps = n_taps};

    image_place_taps(&p, w, taps);
    memset(image + p.plane, 0, SLACK * sizeof *image);
    for (int64_t c = 0; c < planes; c++, x += w->height * w->width) {
        s.w = weights + c * filters * n_taps;
        for (int64_t row = 0; row < w->out_h; row += p.rows) {
            image_place_copy(&p, w, row, x, image);
            convolve_rows(w, &p, filters, row, s, y + c * filters * w->out_h * w->out_w);
        }
    }
}
