/*
 * C = A B' of few rows: kernel_gemm_rows() in every instruction set that the processor has, and
 * kernel_gemm_packed() in the last of them, also with four fifths of A zero at random (counted
 * as if they were computed), beside the BLAS, whose single row is its product of a matrix and a
 * vector. Interleaved rounds; the best round of each. Then the products that the convolutions
 * of models/mnist are made of, which are the BLAS's.
 *
 *     bench_kernels [ROUNDS]
 */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/kernels/kernels.h"

enum { PACKED = KERNEL_SETS, SPARSE, BLAS, CONTESTANTS };

static const char *const names[CONTESTANTS] = {
    [KERNEL_BASELINE] = "baseline",
    [KERNEL_AVX2] = "AVX2",
    [KERNEL_AVX512] = "AVX-512",
    [PACKED] = "packed",
    [SPARSE] = "zeros",
    [BLAS] = "BLAS",
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float *random_floats(int64_t n)
{
    float *x = aligned_alloc(64, ((size_t)n * sizeof *x + 63) / 64 * 64);
    if (!x)
        exit(1);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)kernel_random_uniform(1, (uint64_t)i) - 0.5f;
    return x;
}

static void multiply(int who, int m, int n, int k, const float *a, const float *b,
                     const float *packed, float *c)
{
    if (who < KERNEL_SETS)
        kernel_gemm_rows(m, n, k, 1, a, k, b, k, 0, c, n);
    else if (who != BLAS)
        kernel_gemm_packed(m, n, k, a, k, packed, c, n);
    else if (m == 1)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1, b, k, a, 1, 0, c, 1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, a, k, b, k, 0, c, n);
}

static void bench(int m, int n, int k, int rounds)
{
    float *a = random_floats((int64_t)m * k), *b = random_floats((int64_t)n * k);
    float *c = random_floats((int64_t)m * n), *zeros = random_floats((int64_t)m * k);
    kernels_start();
    int64_t size = kernel_packed_size(n, k);
    float *packed = random_floats(size ? size : 1);
    if (size)
        kernel_pack(true, n, k, b, k, packed);
    for (int64_t i = 0; i < (int64_t)m * k; i++)
        if (kernel_random_uniform(2, (uint64_t)i) < 0.8)
            zeros[i] = 0;
    double flops = 2.0 * m * n * k, best[CONTESTANTS] = {0};
    int runs = (int)(2e7 / flops) + 1;
    for (int round = 0; round < rounds; round++)
        for (int who = 0; who < CONTESTANTS; who++) {
            if (who < KERNEL_SETS ? !kernels_use((enum kernel_set)who) : who != BLAS && !size)
                continue;
            double begin = now();
            for (int i = 0; i < runs; i++)
                multiply(who, m, n, k, who == SPARSE ? zeros : a, b, packed, c);
            double rate = flops * runs / (now() - begin) / 1e9;
            if (rate > best[who])
                best[who] = rate;
        }
    double ours = 0;
    printf("%4d %4d %5d", m, n, k);
    for (int who = 0; who < CONTESTANTS; who++) {
        printf(" %9.1f", best[who]);
        if (who <= PACKED && best[who] > 0)
            ours = best[who];
    }
    printf(" %9.2f\n", ours / best[BLAS]);
    free(a);
    free(b);
    free(c);
    free(zeros);
    free(packed);
}

/* The filters [m, k taps] times the columns [k, n positions] of an image. */
static void bench_convolution(int m, int n, int k, int rounds)
{
    float *a = random_floats((int64_t)m * k), *b = random_floats((int64_t)n * k);
    float *c = random_floats((int64_t)m * n);
    double flops = 2.0 * m * n * k, best = 0;
    int runs = (int)(2e7 / flops) + 1;
    for (int round = 0; round < rounds; round++) {
        double begin = now();
        for (int i = 0; i < runs; i++)
            kernel_gemm(false, false, m, n, k, 1, a, k, b, n, 0, c, n);
        double rate = flops * runs / (now() - begin) / 1e9;
        if (rate > best)
            best = rate;
    }
    printf("%4d %4d %5d %9.1f\n", m, n, k, best);
    free(a);
    free(b);
    free(c);
}

int main(int argc, char **argv)
{
    static const int ms[] = {1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64};
    static const int nks[][2] = {{10, 128}, {64, 64}, {128, 128}, {128, 784}, {512, 784},
                                 {512, 1024}};
    static const int convolutions[][3] = {
        {16, 576, 25}, {32, 144, 144}, {32, 144, 288}, {64, 36, 288}, {32, 784, 288}};
    int rounds = argc > 1 ? atoi(argv[1]) : 15;

    if (sizeof(nn_real) != sizeof(float))
        return 0;
    kernels_start();
    printf("   m    n     k");
    for (int who = 0; who < CONTESTANTS; who++)
        printf(" %9s", names[who]);
    printf("   GFLOP/s; what serves / BLAS\n");
    for (size_t i = 0; i < sizeof nks / sizeof *nks; i++)
        for (size_t j = 0; j < sizeof ms / sizeof *ms; j++)
            bench(ms[j], nks[i][0], nks[i][1], rounds);
    printf("\nconvolutions: filters, positions, taps, GFLOP/s\n");
    for (size_t i = 0; i < sizeof convolutions / sizeof *convolutions; i++)
        bench_convolution(convolutions[i][0], convolutions[i][1], convolutions[i][2], rounds);
    return 0;
}
