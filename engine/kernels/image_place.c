#include "engine/kernels/image_place.h"

#include "engine/kernels/image_rows.h"

enum { CACHED = 48 << 10 }; /* elements of image and result, of some rows of outputs */

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
static bool measure(const struct image_place *p, const struct kernel_window *w, int64_t rows,
                    int64_t *elements)
{
    int64_t image = 0, result;
    if (p->copied && (__builtin_mul_overflow(rows_of_image(w, rows), p->row, &image) ||
                      __builtin_mul_overflow(image, w->channels, &image)))
        return false;
    return !__builtin_mul_overflow(rows, p->result, &result) &&
           !__builtin_add_overflow(image, result, elements);
}

/* As if the image were copied. */
static void place_copy(struct image_place *p, const struct kernel_window *w, int64_t result)
{
    int64_t across = span(w->kernel_w, w->dilation_w);
    *p = (struct image_place){.result = result,
                              .copied = true,
                              .phases = smaller(w->stride_w, across),
                              .width = w->out_w + (across - 1) / w->stride_w,
                              .rows = 1};
    p->row = p->phases * p->width;
}

int64_t image_place_row(const struct kernel_window *w)
{
    struct image_place p;
    place_copy(&p, w, 0);
    return p.row;
}

bool image_place(struct image_place *p, const struct kernel_window *w, bool copies,
                 int64_t result)
{
    int64_t across = span(w->kernel_w, w->dilation_w), down = span(w->kernel_h, w->dilation_h);
    int64_t elements;
    place_copy(p, w, result);
    if (!copies && w->stride_w == 1 && is_inside(w->pad_left, w->out_w, 1, across, w->width) &&
        is_inside(w->pad_top, w->out_h, w->stride_h, down, w->height)) {
        p->copied = false;
        p->row = p->width = w->width;
        p->plane = w->width * w->height;
    }
    if (!measure(p, w, 1, &elements))
        return false;
    while (p->rows < w->out_h && measure(p, w, smaller(2 * p->rows, w->out_h), &elements) &&
           elements <= CACHED)
        p->rows = smaller(2 * p->rows, w->out_h);
    int64_t tiles = (w->out_h + p->rows - 1) / p->rows;
    p->rows = (w->out_h + tiles - 1) / tiles;
    if (p->copied)
        p->plane = rows_of_image(w, p->rows) * p->row;
    return true;
}

static int64_t bytes(const struct kernel_window *w, int64_t elements)
{
    int64_t taps = w->kernel_h * w->kernel_w * (int64_t)sizeof(int64_t), result;
    return __builtin_mul_overflow(elements, (int64_t)sizeof(nn_real), &result) ||
                   __builtin_add_overflow(result, taps, &result)
               ? -1
               : result;
}

int64_t image_place_bytes(const struct image_place *p, const struct kernel_window *w)
{
    int64_t elements;
    return measure(p, w, p->rows, &elements) ? bytes(w, elements) : -1;
}

int64_t image_place_most_bytes(const struct kernel_window *w, int64_t result)
{
    struct image_place p;
    int64_t row;
    place_copy(&p, w, result);
    return measure(&p, w, 1, &row) ? bytes(w, row > CACHED ? row : CACHED) : -1;
}

void image_place_taps(const struct image_place *p, const struct kernel_window *w, int64_t *taps)
{
    for (int64_t ky = 0; ky < w->kernel_h; ky++)
        for (int64_t kx = 0; kx < w->kernel_w; kx++) {
            int64_t at = kx * w->dilation_w;
            *taps++ =
                ky * w->dilation_h * p->row + at % w->stride_w * p->width + at / w->stride_w;
        }
}

void image_place_copy(const struct image_place *p, const struct kernel_window *w, int64_t row,
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
                copy_strided(to + across.begin, from, n, w->stride_w);
                zero_short(to + across.end, p->width - across.end);
            }
    }
}
