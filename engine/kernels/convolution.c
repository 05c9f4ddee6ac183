/*
 * Images as matrices, and the gradient of a convolution of single planes.
 *
 * Tap (ky, kx) of the output (oy, ox) is the element (oy stride + ky dilation - pad) of the
 * input, by axis. For one tap the outputs that see the image are a range, so that the inner
 * loops test nothing.
 */
#include "engine/kernels/image_rows.h"

#include <string.h>

static struct range tap_rows(const struct kernel_window *w, int64_t ky)
{
    return tap_range(ky, w->dilation_h, w->stride_h, w->pad_top, w->height, w->out_h);
}

static struct range tap_columns(const struct kernel_window *w, int64_t kx)
{
    return tap_range(kx, w->dilation_w, w->stride_w, w->pad_left, w->width, w->out_w);
}

/* An output as wide as its input, stride 1: a tap's whole plane is the image, shifted. What
 * the shift carried round the edge is then set to zero. */
static void shift_plane(const struct kernel_window *w, const nn_real *x, struct range rows,
                        struct range columns, nn_real *to)
{
    int64_t width = w->width;
    int64_t shift = rows.offset * width + columns.offset;
    int64_t begin = rows.begin * width, end = rows.end * width;
    if (begin + shift < 0)
        begin = -shift;
    if (end + shift > w->height * width)
        end = w->height * width - shift;
    memset(to, 0, (size_t)(rows.begin * width) * sizeof(nn_real));
    if (begin < end)
        memcpy(to + begin, x + begin + shift, (size_t)(end - begin) * sizeof(nn_real));
    for (int64_t oy = rows.begin; oy < rows.end; oy++) {
        zero_short(to + oy * width, columns.begin);
        zero_short(to + oy * width + columns.end, width - columns.end);
    }
    memset(to + rows.end * width, 0, (size_t)((w->out_h - rows.end) * width) * sizeof(nn_real));
}

static void gather_plane(const struct kernel_window *w, const nn_real *x, struct range rows,
                         struct range columns, nn_real *to)
{
    int64_t n = columns.end - columns.begin;
    memset(to, 0, (size_t)(rows.begin * w->out_w) * sizeof(nn_real));
    for (int64_t oy = rows.begin; oy < rows.end; oy++) {
        nn_real *row = to + oy * w->out_w;
        const nn_real *from = x + (oy * w->stride_h + rows.offset) * w->width +
                              columns.begin * w->stride_w + columns.offset;
        zero_short(row, columns.begin);
        if (n > 0)
            copy_strided(row + columns.begin, from, n, w->stride_w);
        zero_short(row + columns.end, w->out_w - columns.end);
    }
    memset(to + rows.end * w->out_w, 0,
           (size_t)((w->out_h - rows.end) * w->out_w) * sizeof(nn_real));
}

static int64_t column_stride(const struct kernel_window *w)
{
    return w->column_stride ? w->column_stride : w->out_h * w->out_w;
}

void kernel_im2col(const struct kernel_window *w, const nn_real *x, nn_real *columns)
{
    bool shifts = w->stride_h == 1 && w->stride_w == 1 && w->out_w == w->width;
    for (int64_t c = 0; c < w->channels; c++, x += w->height * w->width)
        for (int64_t ky = 0; ky < w->kernel_h; ky++) {
            struct range rows = tap_rows(w, ky);
            for (int64_t kx = 0; kx < w->kernel_w; kx++, columns += column_stride(w))
                (shifts ? shift_plane : gather_plane)(w, x, rows, tap_columns(w, kx),
                                                      columns);
        }
}

void kernel_col2im(const struct kernel_window *w, const nn_real *columns, nn_real *dx)
{
    for (int64_t c = 0; c < w->channels; c++, dx += w->height * w->width)
        for (int64_t ky = 0; ky < w->kernel_h; ky++) {
            struct range rows = tap_rows(w, ky);
            for (int64_t kx = 0; kx < w->kernel_w; kx++, columns += column_stride(w)) {
                struct range across = tap_columns(w, kx);
                for (int64_t oy = rows.begin; oy < rows.end; oy++) {
                    const nn_real *from = columns + oy * w->out_w;
                    nn_real *to = dx + (oy * w->stride_h + rows.offset) * w->width;
                    if (w->stride_w == 1)
                        for (int64_t ox = across.begin; ox < across.end; ox++)
                            to[ox + across.offset] += from[ox];
                    else
                        for (int64_t ox = across.begin; ox < across.end; ox++)
                            to[ox * w->stride_w + across.offset] += from[ox];
                }
            }
        }
}

void kernel_plane_gradient(const struct kernel_window *w, const nn_real *x,
                           const nn_real *filter, const nn_real *dy, nn_real *dx,
                           nn_real *dfilter)
{
    for (int64_t ky = 0; ky < w->kernel_h; ky++) {
        struct range rows = tap_rows(w, ky);
        for (int64_t kx = 0; kx < w->kernel_w; kx++) {
            int64_t tap = ky * w->kernel_w + kx;
            struct range across = tap_columns(w, kx);
            nn_real f = filter[tap], sum = 0;
            for (int64_t oy = rows.begin; oy < rows.end; oy++) {
                int64_t row = (oy * w->stride_h + rows.offset) * w->width + across.offset;
                const nn_real *from = dy + oy * w->out_w;
                if (dx)
                    for (int64_t ox = across.begin; ox < across.end; ox++)
                        dx[row + ox * w->stride_w] += f * from[ox];
                nn_real part = 0; /* one sum of all would round too much */
                if (dfilter)
                    for (int64_t ox = across.begin; ox < across.end; ox++)
                        part += from[ox] * x[row + ox * w->stride_w];
                sum += part;
            }
            if (dfilter)
                dfilter[tap] += sum;
        }
    }
}
