/*
 * Kernels: floats and lengths only; no tensor, no graph, no error.
 *
 * Every fast kernel has a naive twin, the oracle of its tests and the fallback of a processor
 * that has nothing better.
 */
#ifndef KERNELS_H
#define KERNELS_H

#include "engine/tensor.h"

/* Once per process: the kernels for this processor, and one BLAS thread per call (our own
 * threads are the only ones). */
void kernels_start(void);

/* instructions.c: kernels of our own exist for several instruction sets. kernels_start() takes
 * the last one that the processor has; tests take each, while nothing computes. False: it has
 * not got that one. */
enum kernel_set { KERNEL_BASELINE, KERNEL_AVX2, KERNEL_AVX512, KERNEL_SETS };
bool kernels_use(enum kernel_set set);
enum kernel_set kernels_used(void);

/* What the BLAS says of itself: version, options, and the kernels it chose for the processor. */
const char *kernels_blas(void);

/* gemm.c: C [m, n] = alpha op(A) op(B) + beta C, row-major; op(A) is [m, k], op(B) [k, n].
 * lda, ldb, ldc: elements from one row to the next as stored. beta 0 overwrites C, whatever
 * it held. */
void kernel_gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                 nn_real alpha, const nn_real *a, int64_t lda, const nn_real *b, int64_t ldb,
                 nn_real beta, nn_real *c, int64_t ldc);
void kernel_gemm_naive(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                       nn_real alpha, const nn_real *a, int64_t lda, const nn_real *b,
                       int64_t ldb, nn_real beta, nn_real *c, int64_t ldc);

/* gemm_rows.c: C [m, n] = alpha A B' + beta C, with A [m, k] and B [n, k], k >= KERNEL_ROWS_MIN_K:
 * faster than the BLAS up to kernel_gemm_max_rows(), and kernel_gemm() takes it there. A row of
 * C has the same bits however many there are. */
enum { KERNEL_ROWS_MIN_K = 16 };
int64_t kernel_gemm_max_rows(void);
void kernel_gemm_rows(int64_t m, int64_t n, int64_t k, nn_real alpha, const nn_real *a,
                      int64_t lda, const nn_real *b, int64_t ldb, nn_real beta, nn_real *c,
                      int64_t ldc);

/* gemm_packed.c: C [m, n] = A B, with A [m, k] and B, [k, n] or transposed [n, k], packed once
 * into kernel_packed_size() elements, in panels of so many lanes, as only kernels of the same
 * set read them. An element of C has the same bits whatever the other rows are. Elements of A
 * that are 0 are left out, so B has to be finite. A small n does not pay. */
int64_t kernel_packed_lanes(void);
int64_t kernel_packed_size(int64_t n, int64_t k);
bool kernel_gemm_packed_pays(int64_t n);
void kernel_pack(bool transpose_b, int64_t n, int64_t k, const nn_real *b, int64_t ldb,
                 nn_real *packed);
void kernel_gemm_packed(int64_t m, int64_t n, int64_t k, const nn_real *a, int64_t lda,
                        const nn_real *packed, nn_real *c, int64_t ldc);

/* vector_math.c: y may be x. */
void kernel_exp(int64_t n, const nn_real *x, nn_real *y);
void kernel_sigmoid(int64_t n, const nn_real *x, nn_real *y);
void kernel_tanh(int64_t n, const nn_real *x, nn_real *y);
void kernel_axpy(int64_t n, nn_real a, const nn_real *x, nn_real *y);   /* y += a x */
nn_real kernel_sum(int64_t n, const nn_real *x);
nn_real kernel_dot(int64_t n, const nn_real *x, const nn_real *y);
nn_real kernel_max(int64_t n, const nn_real *x);                        /* n > 0 */

/* y [rows, columns] = activation(y + bias), with bias by column [columns] or by row [rows];
 * either may be NULL. `activation` is an enum op_activation with its parameters. */
void kernel_bias_activation(int64_t rows, int64_t columns, nn_real *y, int64_t stride,
                            const nn_real *column_bias, const nn_real *row_bias,
                            int activation, nn_real alpha, nn_real beta);

/* convolution.c: the columns matrix of one image, x [channels, height, width] to
 * columns [channels kernel_h kernel_w, out_h out_w], zero where a tap is outside; and its
 * transpose, which adds columns back into dx. */
struct kernel_window {
    int64_t channels, height, width;
    int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    int64_t pad_top, pad_left;
    int64_t out_h, out_w;
    int64_t column_stride;      /* elements from one row of columns to the next;
                                   0: out_h out_w, without gaps */
};
void kernel_im2col(const struct kernel_window *w, const nn_real *x, nn_real *columns);
void kernel_col2im(const struct kernel_window *w, const nn_real *columns, nn_real *dx);

/* convolution_packed.c: one image x [channels, height, width] with filters [filters, channels
 * kernel_h kernel_w] that kernel_pack() has packed as a transposed B, to y [filters, out_h,
 * out_w]. w->column_stride is not looked at. An element of y has the same bits whatever else
 * is computed. `scratch` has so many bytes, or -1: more than can be counted; and at most
 * kernel_convolve_most_scratch() for any image that is not larger. */
int64_t kernel_convolve_scratch(const struct kernel_window *w, int64_t filters);
int64_t kernel_convolve_most_scratch(const struct kernel_window *w, int64_t filters);
void kernel_convolve_packed(const struct kernel_window *w, int64_t filters, const nn_real *x,
                            const nn_real *packed, nn_real *y, void *scratch);

/* convolution_planes.c: the same for many images x [planes, height, width] of one channel
 * (w->channels is 1), each with filters of its own, weights [planes, filters, kernel_h,
 * kernel_w] as they are, to y [planes, filters, out_h, out_w]. */
int64_t kernel_convolve_planes_scratch(const struct kernel_window *w);
int64_t kernel_convolve_planes_most_scratch(const struct kernel_window *w);
void kernel_convolve_planes(const struct kernel_window *w, int64_t planes, int64_t filters,
                            const nn_real *x, const nn_real *weights, nn_real *y,
                            void *scratch);

/* convolution.c: the gradient of one plane with one filter (w->channels is not looked at),
 * which adds to dx and dfilter; either may be NULL. */
void kernel_plane_gradient(const struct kernel_window *w, const nn_real *x,
                           const nn_real *filter, const nn_real *dy, nn_real *dx,
                           nn_real *dfilter);

/* random.c: numbers by counter, not by state: element i of stream `key` is the same whoever
 * computes it, and in whatever order. */
uint64_t kernel_random_key(uint64_t key, uint64_t stream);      /* a key of its own */
uint64_t kernel_random(uint64_t key, uint64_t i);               /* 64 uniform bits */
double kernel_random_uniform(uint64_t key, uint64_t i);         /* [0, 1) */
double kernel_random_normal(uint64_t key, uint64_t i);          /* mean 0, variance 1 */

#endif
