/*
 * C = alpha A B' + beta C for few rows of A, where B changes from one product to the next, or
 * has so few rows that gemm_packed.c has no use for it: a BLAS copies all of B into an order
 * that it likes better, at every call. Here a tile of C is kept in registers and both A and B
 * are read along their rows, as they lie in memory.
 *
 * An element of C is summed in the same order whatever the other rows are, and however many.
 */
#include "engine/kernels/kernels.h"
#include "engine/kernels/unroll.h"

enum { COLUMNS = 4 };

typedef nn_real four __attribute__((vector_size(4 * sizeof(nn_real))));

static inline void keep(int rows, int columns, nn_real alpha, const four *sums, nn_real beta,
                        nn_real *c, int64_t ldc)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            nn_real *out = &c[i * ldc + j];
            *out = alpha * sums[i][j] + (beta == 0 ? 0 : beta * *out);
        }
}

/* What every processor of the architecture has: SSE2, NEON. */
#define SET(name) name##_baseline
#define TARGET
#define LANES 4
#ifdef __aarch64__
#define ROWS 4
#else
#define ROWS 2
#endif
#include "engine/kernels/gemm_rows.inc"

#ifdef __x86_64__
#define SET(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define ROWS 3
#include "engine/kernels/gemm_rows.inc"

#define SET(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define LANES 16
#define ROWS 6
#include "engine/kernels/gemm_rows.inc"
#endif

typedef void gemm_rows(int64_t m, int64_t n, int64_t k, nn_real alpha, const nn_real *a,
                       int64_t lda, const nn_real *b, int64_t ldb, nn_real beta, nn_real *c,
                       int64_t ldc);

/* max_rows: where OpenBLAS with kernels of the same set (0.3.21; Prescott, Haswell, SkylakeX)
 * comes near, measured on a Zen 5 with n up to 1000 and k up to 4096. Below, twice to eight
 * times its rate is common; only its AVX-512 kernels for a product of less than 10^6 are as
 * good or better, which Zen does not get. */
static const struct {
    gemm_rows *run;
    int64_t max_rows;
} sets[KERNEL_SETS] = {
    [KERNEL_BASELINE] = {gemm_rows_baseline, 16},
#ifdef __x86_64__
    [KERNEL_AVX2] = {gemm_rows_avx2, 32},
    [KERNEL_AVX512] = {gemm_rows_avx512, 64},
#endif
};

int64_t kernel_gemm_max_rows(void)
{
    return sets[kernels_used()].max_rows;
}

void kernel_gemm_rows(int64_t m, int64_t n, int64_t k, nn_real alpha, const nn_real *a,
                      int64_t lda, const nn_real *b, int64_t ldb, nn_real beta, nn_real *c,
                      int64_t ldc)
{
    sets[kernels_used()].run(m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
