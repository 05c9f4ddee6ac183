/*
 * C = A B' of few rows: kernel_gemm_rows() in every instruction set that the processor has, and
 * kernel_gemm_packed() in the last of them, also with four fifths of A zero at random (counted
 * as if they were computed), beside the BLAS, whose single row is its product of a matrix and a
 * vector. Then the convolutions of models/mnist and some larger ones, with packed filters and
 * as a matrix of columns times the BLAS. Interleaved rounds; the best round of each.
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

static int last_set(void)
{
    kernels_start();
    return (int)kernels_used();
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
    int serves = kernel_gemm_packed_pays(n) ? PACKED : last_set();
    printf("%4d %4d %5d", m, n, k);
    for (int who = 0; who < CONTESTANTS; who++)
        printf(" %9.1f", best[who]);
    printf(" %9.2f\n", best[serves] / best[BLAS]);
    free(a);
    free(b);
    free(c);
    free(zeros);
    free(packed);
}

/* `filters` of kernel x kernel, over `channels` of side x side, as many outputs. */
struct convolution {
    int channels, side, filters, kernel;
};

static double packed_seconds(const struct kernel_window *w, int filters, const float *x,
                             const float *packed, float *y, void *scratch, int runs)
{
    double begin = now();
    for (int i = 0; i < runs; i++)
        kernel_convolve_packed(w, filters, x, packed, y, scratch);
    return now() - begin;
}

static double columns_seconds(const struct kernel_window *w, int filters, const float *x,
                              const float *weights, float *y, float *columns, int runs)
{
    int positions = (int)(w->out_h * w->out_w);
    int taps = (int)(w->channels * w->kernel_h * w->kernel_w);
    double begin = now();
    for (int i = 0; i < runs; i++) {
        kernel_im2col(w, x, columns);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, filters, positions, taps, 1,
                    weights, taps, columns, positions, 0, y, positions);
    }
    return now() - begin;
}

static void bench_convolution(const struct convolution *c, int rounds)
{
    const int pad = c->kernel / 2;
    const struct kernel_window w = {.channels = c->channels,
                                    .height = c->side,
                                    .width = c->side,
                                    .kernel_h = c->kernel,
                                    .kernel_w = c->kernel,
                                    .stride_h = 1,
                                    .stride_w = 1,
                                    .dilation_h = 1,
                                    .dilation_w = 1,
                                    .pad_top = pad,
                                    .pad_left = pad,
                                    .out_h = c->side,
                                    .out_w = c->side};
    int64_t positions = (int64_t)c->side * c->side, taps = c->channels * c->kernel * c->kernel;
    float *x = random_floats(c->channels * positions);
    float *weights = random_floats(c->filters * taps);
    float *y = random_floats(c->filters * positions),
          *columns = random_floats(taps * positions);
    kernels_start();
    float *packed = random_floats(kernel_packed_size(c->filters, taps));
    void *scratch = malloc((size_t)kernel_convolve_scratch(&w, c->filters));
    if (!scratch)
        exit(1);
    kernel_pack(true, c->filters, taps, weights, taps, packed);
    double flops = 2.0 * c->filters * (double)positions * (double)taps;
    double packed_rate = 0, columns_rate = 0;
    int runs = (int)(2e7 / flops) + 1;
    for (int round = 0; round < rounds; round++) {
        double work = flops * runs / 1e9;
        double rate = work / packed_seconds(&w, c->filters, x, packed, y, scratch, runs);
        packed_rate = rate > packed_rate ? rate : packed_rate;
        rate = work / columns_seconds(&w, c->filters, x, weights, y, columns, runs);
        columns_rate = rate > columns_rate ? rate : columns_rate;
    }
    printf("%4d of %dx%d, %4d channels of %3dx%-3d %9.1f %9.1f %9.2f\n", c->filters, c->kernel,
           c->kernel, c->channels, c->side, c->side, packed_rate, columns_rate,
           packed_rate / columns_rate);
    free(x);
    free(weights);
    free(y);
    free(columns);
    free(packed);
    free(scratch);
}

int main(int argc, char **argv)
{
    static const int ms[] = {1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64};
    static const int nks[][2] = {{10, 128}, {64, 64}, {128, 128}, {128, 784}, {512, 784},
                                 {512, 1024}};
    static const struct convolution convolutions[] = {
        {1, 28, 16, 5},  {16, 12, 32, 3},   {32, 12, 32, 3},  {32, 6, 64, 3},
        {64, 56, 64, 3}, {128, 28, 128, 3}, {256, 14, 256, 3}};
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
    printf(
        "\nfilters                              packed   columns   GFLOP/s; packed / columns\n");
    for (size_t i = 0; i < sizeof convolutions / sizeof *convolutions; i++)
        bench_convolution(&convolutions[i], rounds);
    return 0;
}
