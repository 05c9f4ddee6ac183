/*
 * Rows of images, as kernels of windows read them.
 */
#ifndef KERNELS_IMAGE_ROWS_H
#define KERNELS_IMAGE_ROWS_H

#include "engine/kernels/kernels.h"

#include <string.h>

struct range {
    int64_t begin, end; /* outputs whose tap lies in the image; begin == end: none */
    int64_t offset;     /* the input of output 0; may be negative */
};

static inline struct range tap_range(int64_t tap, int64_t dilation, int64_t stride, int64_t pad,
                                     int64_t size, int64_t out)
{
    int64_t offset = tap * dilation - pad;
    int64_t begin = offset < 0 ? (-offset + stride - 1) / stride : 0;
    int64_t end = offset < size ? (size - 1 - offset) / stride + 1 : 0;
    if (end > out)
        end = out;
    if (begin > end)
        begin = end;
    return (struct range){begin, end, offset};
}

/* Rows of images are short: a call of memcpy for each would cost more than the copy. */
static inline void copy_short(nn_real *to, const nn_real *from, int64_t n)
{
    enum { BLOCK = 8 };
    if (n < BLOCK) {
        for (int64_t i = 0; i < n; i++) {
            to[i] = from[i];
            __asm__("" ::: "memory"); /* or the compiler makes it a memcpy again */
        }
        return;
    }
    for (int64_t i = 0; i + BLOCK <= n; i += BLOCK)
        memcpy(to + i, from + i, BLOCK * sizeof(nn_real));
    memcpy(to + n - BLOCK, from + n - BLOCK, BLOCK * sizeof(nn_real));
}

typedef nn_real four
    __attribute__((vector_size(4 * sizeof(nn_real)), aligned(sizeof(nn_real)), may_alias));

/* Every stride-th element. */
static inline void copy_strided(nn_real *to, const nn_real *from, int64_t n, int64_t stride)
{
    int64_t i = 0;
    if (stride == 1) {
        copy_short(to, from, n);
        return;
    }
    for (; stride == 2 && i + 4 < n; i += 4) {
        four a = *(const four *)(from + 2 * i), b = *(const four *)(from + 2 * i + 4);
        *(four *)(to + i) = __builtin_shufflevector(a, b, 0, 2, 4, 6);
    }
    for (; i < n; i++)
        to[i] = from[i * stride];
}

static inline void zero_short(nn_real *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        to[i] = 0;
        __asm__("" ::: "memory");
    }
}

#endif
