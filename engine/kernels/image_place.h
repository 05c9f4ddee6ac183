/*
 * An image as kernels read it that keep outputs side by side in vectors: with its padding, and
 * the columns of a stride taken apart, every stride-th together, so that what neighbours in a row
 * of outputs need of a tap lies side by side. Some rows of outputs at a time, as many as a cache
 * holds. An image that is neither padded nor strided along its rows can be read where it lies.
 */
#ifndef KERNELS_IMAGE_PLACE_H
#define KERNELS_IMAGE_PLACE_H

#include "engine/kernels/kernels.h"

struct image_place {
    int64_t result; /* elements that a row of outputs takes beside the image: the caller's */
    bool copied;    /* else the image is read where it lies */
    int64_t phases; /* of a stride, that taps are in */
    int64_t width, row, plane; /* elements of a phase, of a row of the image, of a channel */
    int64_t rows;              /* of outputs at a time */
};

/* `copies`: it is copied in any case. False: it takes more elements than can be counted. */
bool image_place(struct image_place *place, const struct kernel_window *w, bool copies,
                 int64_t result);

/* Elements of a row of the copied image. */
int64_t image_place_row(const struct kernel_window *w);

/* Bytes for the taps, the results and the images of as many rows of outputs as are computed at
 * a time; -1: more than can be counted. */
int64_t image_place_bytes(const struct image_place *place, const struct kernel_window *w);

/* At most so many for any image that is not larger. */
int64_t image_place_most_bytes(const struct kernel_window *w, int64_t result);

/* Where the taps [kernel_h kernel_w] of output 0 lie in a channel of the image. */
void image_place_taps(const struct image_place *place, const struct kernel_window *w,
                      int64_t *taps);

/* What the outputs from `row` on need of the image. */
void image_place_copy(const struct image_place *place, const struct kernel_window *w,
                      int64_t row, const nn_real *x, nn_real *image);

#endif
