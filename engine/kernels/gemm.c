/*
 * Matrix products, by BLAS where we have nothing better: the only file that knows cblas.h.
 */
#include "engine/kernels/kernels.h"

#include <cblas.h>
#include <limits.h>

/* The BLAS function for what nn_real is. */
#define BLAS(name) _Generic((nn_real)0, float: cblas_s##name, double: cblas_d##name)

void kernels_start(void)
{
    int set = KERNEL_SETS - 1;
    while (!kernels_use((enum kernel_set)set))
        set--;
    openblas_set_num_threads(1);
}

const char *kernels_blas(void)
{
    return openblas_get_config();
}

void kernel_gemm_naive(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                       nn_real alpha, const nn_real *a, int64_t lda, const nn_real *b,
                       int64_t ldb, nn_real beta, nn_real *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            nn_real sum = 0;
            for (int64_t p = 0; p < k; p++)
                sum += (transpose_a ? a[p * lda + i] : a[i * lda + p]) *
                       (transpose_b ? b[j * ldb + p] : b[p * ldb + j]);
            nn_real *out = &c[i * ldc + j];
            *out = alpha * sum + (beta == 0 ? 0 : beta * *out);
        }
    }
}

/* y [rows] += alpha op(matrix) x, where op(matrix) is [rows, columns]. */
static void add_matrix_vector(bool transpose, int64_t rows, int64_t columns, nn_real alpha,
                              const nn_real *matrix, int64_t ld, const nn_real *x,
                              int64_t x_step, nn_real *y, int64_t y_step)
{
    BLAS(gemv)(CblasRowMajor, transpose ? CblasTrans : CblasNoTrans,
               (blasint)(transpose ? columns : rows), (blasint)(transpose ? rows : columns),
               alpha, matrix, (blasint)ld, x, (blasint)x_step, 1, y, (blasint)y_step);
}

void kernel_gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                 nn_real alpha, const nn_real *a, int64_t lda, const nn_real *b, int64_t ldb,
                 nn_real beta, nn_real *c, int64_t ldc)
{
    /* The bitwise or of lengths is at least the largest of them. */
    bool blas_can = (m | n | k | lda | ldb | ldc) <= INT_MAX && m > 0 && n > 0 && k > 0;

    if (!transpose_a && transpose_b && k >= KERNEL_ROWS_MIN_K && m <= kernel_gemm_max_rows()) {
        kernel_gemm_rows(m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    } else if (!blas_can) {
        kernel_gemm_naive(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c,
                          ldc);
    } else if (m == 1 || n == 1) {
        /* BLAS may compute 0 * y for beta 0, which keeps a NaN: scaled here instead. */
        int64_t step = m == 1 ? 1 : ldc;
        int64_t length = m == 1 ? n : m;
        if (beta != 1)
            for (int64_t i = 0; i < length; i++)
                c[i * step] = beta == 0 ? 0 : beta * c[i * step];
        if (m == 1)
            add_matrix_vector(!transpose_b, n, k, alpha, b, ldb, a, transpose_a ? lda : 1, c, 1);
        else
            add_matrix_vector(transpose_a, m, k, alpha, a, lda, b, transpose_b ? 1 : ldb, c,
                              ldc);
    } else {
        BLAS(gemm)(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                   transpose_b ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)k,
                   alpha, a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
    }
}
