/*
 * Products of matrices: each kernel in every instruction set against the naive one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/kernels/kernels.h"
#include "tests/random_vector.h"

#include <math.h>
#include <stdlib.h>

enum { SINGLE = sizeof(nn_real) == sizeof(float) };

/* matrix products */

static void compare_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, nn_real alpha,
                         nn_real beta, int64_t extra)
{
    int64_t lda = (ta ? m : k) + extra, ldb = (tb ? k : n) + extra, ldc = n + extra;
    nn_real *a = random_vector((ta ? k : m) * lda + 1, 1);
    nn_real *b = random_vector((tb ? n : k) * ldb + 1, 2);
    nn_real *fast = random_vector(m * ldc + 1, 3);
    nn_real *naive = random_vector(m * ldc + 1, 3);

    if (beta == 0)      /* what C held must not matter */
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                fast[i * ldc + j] = naive[i * ldc + j] = NAN;
    kernel_gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, fast, ldc);
    kernel_gemm_naive(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, naive, ldc);

    double tolerance = (SINGLE ? 1e-6 : 1e-15) * (double)(k + 4);
    for (int64_t i = 0; i < m * ldc + 1; i++)
        if (!(fabs((double)fast[i] - (double)naive[i]) <= tolerance))
            fail_msg("%dx%dx%d ta %d tb %d alpha %g beta %g extra %d, element %d: %g, not %g",
                     (int)m, (int)n, (int)k, ta, tb, (double)alpha, (double)beta, (int)extra,
                     (int)i, (double)fast[i], (double)naive[i]);
    free(a);
    free(b);
    free(fast);
    free(naive);
}

static void products_of_every_shape_agree_with_the_naive_ones(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 3, 7, 16, 33};
    static const nn_real factors[][2] = {{1, 0}, {1, 1}, {0.5f, -2}, {0, 1}};
    enum { N = sizeof sizes / sizeof *sizes };

    for (int i = 0; i < N * N * N; i++)
        for (int transposes = 0; transposes < 4; transposes++)
            for (int f = 0; f < 4; f++)
                compare_gemm(transposes & 1, transposes & 2, sizes[i % N], sizes[i / N % N],
                             sizes[i / N / N], factors[f][0], factors[f][1], i % 3);
    compare_gemm(false, true, 65, 130, 257, 1, 0, 0);
}

static void products_of_few_rows_agree_in_every_instruction_set(void **state)
{
    (void)state;
    static const int64_t ns[] = {1, 2, 3, 4, 5, 10, 33}, ks[] = {16, 17, 31, 32, 40, 63, 100};
    enum { N = sizeof ns / sizeof *ns, K = sizeof ks / sizeof *ks };

    for (int set = 0; set < KERNEL_SETS; set++) {
        if (!kernels_use((enum kernel_set)set))
            continue;
        for (int64_t m = 1; m <= 14; m++)
            for (int i = 0; i < N * K; i++) {
                compare_gemm(false, true, m, ns[i % N], ks[i / N], 1, 0, i % 3);
                compare_gemm(false, true, m, ns[i % N], ks[i / N], 0.5f, -2, i % 5);
            }
        int64_t max = kernel_gemm_max_rows();
        compare_gemm(false, true, max, 7, 65, 1, 1, 3);
        compare_gemm(false, true, max + 1, 7, 65, 1, 1, 3);
    }
    kernels_start();
}

/* A vector that ends where a row does must not take from the next row. */
static void what_is_between_the_rows_is_not_looked_at(void **state)
{
    (void)state;
    enum { M = 5, N = 6, K = 37, LD = 48 };
    nn_real a[M * LD], b[N * LD], c[M * N];
    for (int set = 0; set < KERNEL_SETS; set++) {
        if (!kernels_use((enum kernel_set)set))
            continue;
        for (int i = 0; i < M * LD; i++)
            a[i] = i % LD < K ? 1 : NAN;
        for (int i = 0; i < N * LD; i++)
            b[i] = i % LD < K ? 2 : NAN;
        kernel_gemm_rows(M, N, K, 1, a, LD, b, LD, 0, c, N);
        for (int i = 0; i < M * N; i++)
            assert_true(c[i] == 2 * K);

        /* Nor does what is counted once make a NaN of an infinity. */
        a[K - 16] = INFINITY;
        kernel_gemm_rows(M, N, K, 1, a, LD, b, LD, 0, c, N);
        for (int i = 0; i < M * N; i++)
            assert_true(c[i] == (i < N ? INFINITY : 2 * K));
    }
    kernels_start();
}

static void a_row_has_the_same_bits_in_every_batch(void **state)
{
    (void)state;
    enum { N = 10, K = 100 };
    int64_t max = kernel_gemm_max_rows();
    nn_real *a = random_vector(max * K, 1), *b = random_vector(N * K, 2);
    nn_real *all = random_vector(max * N, 3), *c = random_vector(max * N, 4);
    kernel_gemm(false, true, max, N, K, 1, a, K, b, K, 0, all, N);
    for (int64_t m = 1; m < max; m++) {
        int64_t first = max - m;
        kernel_gemm(false, true, m, N, K, 1, a + first * K, K, b, K, 0, c, N);
        assert_memory_equal(c, all + first * N, (size_t)(m * N) * sizeof *c);
    }
    free(a);
    free(b);
    free(all);
    free(c);
}

/* packed products */

static nn_real *pack(bool transposed, int64_t n, int64_t k, const nn_real *b, int64_t ldb)
{
    int64_t size = kernel_packed_size(n, k);
    nn_real *packed = aligned_alloc(64, ((size_t)size * sizeof *packed + 63) / 64 * 64);
    assert_true(size > 0);
    assert_non_null(packed);
    kernel_pack(transposed, n, k, b, ldb, packed);
    return packed;
}

/* Sets all but `kept` in a hundred elements to zero, some of them to the negative one. */
static void thin_out(nn_real *x, int64_t n, int kept)
{
    for (int64_t i = 0; i < n; i++)
        if (kernel_random_uniform(9, (uint64_t)i) * 100 >= kept)
            x[i] = i % 3 ? 0 : -(nn_real)0;
}

static void compare_packed(bool transposed, int64_t m, int64_t n, int64_t k, int kept,
                           int64_t extra)
{
    int64_t lda = k + extra, ldb = (transposed ? k : n) + extra, ldc = n + extra;
    nn_real *a = random_vector(m * lda, 1);
    nn_real *b = random_vector((transposed ? n : k) * ldb, 2);
    nn_real *fast = random_vector(m * ldc, 3), *naive = random_vector(m * ldc, 3);
    thin_out(a, m * lda, kept);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            fast[i * ldc + j] = NAN;
    nn_real *packed = pack(transposed, n, k, b, ldb);
    kernel_gemm_packed(m, n, k, a, lda, packed, fast, ldc);
    kernel_gemm_naive(false, transposed, m, n, k, 1, a, lda, b, ldb, 0, naive, ldc);

    double tolerance = (SINGLE ? 1e-6 : 1e-15) * (double)(k + 4);
    for (int64_t i = 0; i < m * ldc; i++)
        if (!(fabs((double)fast[i] - (double)naive[i]) <= tolerance))
            fail_msg("%dx%dx%d transposed %d, %d %% kept, extra %d, element %d: %g, not %g",
                     (int)m, (int)n, (int)k, transposed, kept, (int)extra, (int)i,
                     (double)fast[i], (double)naive[i]);
    free(a);
    free(b);
    free(fast);
    free(naive);
    free(packed);
}

static void packed_products_agree_in_every_instruction_set(void **state)
{
    (void)state;
    static const int64_t ns[] = {1, 7, 16, 61, 64, 65, 100, 128, 177},
                         ks[] = {1, 2, 15, 16, 33, 100};
    static const int kept[] = {100, 20, 0};
    enum { N = sizeof ns / sizeof *ns, K = sizeof ks / sizeof *ks };

    for (int set = 0; set < KERNEL_SETS; set++) {
        if (!kernels_use((enum kernel_set)set))
            continue;
        for (int64_t m = 1; m <= 14; m++)
            for (int i = 0; i < N * K; i++)
                compare_packed(i % 2, m, ns[i % N], ks[i / N], kept[(i + m) % 3], i % 4);
        /* More than a block of rows, and of k. */
        compare_packed(true, 50, 70, 20, 30, 0);
        compare_packed(false, 101, 64, 515, 30, 1);
        compare_packed(true, 7, 64, 1025, 100, 0);
        compare_packed(true, 2, 64, 1600, 10, 0);
    }
    kernels_start();
}

/* Whichever rows it is computed with, and whatever these have in common with it. */
static void a_row_of_a_packed_product_has_the_same_bits_in_every_batch(void **state)
{
    (void)state;
    enum { M = 60, N = 72, K = 600 };
    nn_real *a = random_vector(M * K, 1), *b = random_vector(N * K, 2);
    nn_real *all = random_vector(M * N, 3), *one = random_vector(N, 4);
    thin_out(a, M * K, 15);
    for (int i = 0; i < K; i++)
        a[5 * K + i] = 1;
    nn_real *packed = pack(true, N, K, b, K);
    for (int m = 1; m <= M; m++) {
        kernel_gemm_packed(m, N, K, a, K, packed, all, N);
        for (int i = 0; i < m; i++) {
            kernel_gemm_packed(1, N, K, a + i * K, K, packed, one, N);
            for (int j = 0; j < N; j++)
                assert_true(one[j] == all[i * N + j]);
        }
    }
    free(a);
    free(b);
    free(all);
    free(one);
    free(packed);
}

/* Against sums of doubles; a chain of all of k would be wrong by ten times as much. */
static void long_packed_products_are_exact_enough(void **state)
{
    (void)state;
    enum { M = 7, N = 64, K = 16384 };
    nn_real *a = random_vector(M * K, 1), *b = random_vector(N * K, 2),
            *c = random_vector(M * N, 3);
    for (int set = 0; set < KERNEL_SETS; set++) {
        if (!kernels_use((enum kernel_set)set))
            continue;
        for (int same = 0; same < 2; same++) {
            for (int i = 0; i < N * K && same; i++)
                b[i] = (nn_real)0.1;
            for (int i = 0; i < M * K && same; i++)
                a[i] = 1;
            nn_real *packed = pack(true, N, K, b, K);
            kernel_gemm_packed(M, N, K, a, K, packed, c, N);
            free(packed);
            for (int i = 0; i < M * N; i++) {
                double sum = 0, most;
                for (int p = 0; p < K; p++)
                    sum += (double)a[i / N * K + p] * (double)b[i % N * K + p];
                most = (SINGLE ? 1 : 1e-8) * (same ? 1e-5 * sum : 1.5e-4);
                if (!(fabs((double)c[i] - sum) <= most))
                    fail_msg("set %d, element %d: %.9g, not %.9g", set, i, (double)c[i], sum);
            }
        }
        free(a);
        free(b);
        a = random_vector(M * K, 1);
        b = random_vector(N * K, 2);
    }
    kernels_start();
    free(a);
    free(b);
    free(c);
}

/* A product that underflows leaves -0, and a zero behind it +0: whether that is left out
 * depends on the other rows. */
static void no_sum_is_a_negative_zero(void **state)
{
    (void)state;
    enum { M = 2, N = 64, K = 64 };
    static nn_real a[M * K], b[N * K], c[M * N];
    nn_real tiny = SINGLE ? (nn_real)1e-30 : (nn_real)1e-200;
    for (int i = 0; i < N * K; i++)
        b[i] = i < N ? -tiny : 1;
    a[0] = tiny;
    for (int i = 1; i < K; i++)
        a[K + i] = 1;
    for (int set = 0; set < KERNEL_SETS; set++) {
        if (!kernels_use((enum kernel_set)set))
            continue;
        nn_real *packed = pack(false, N, K, b, N);
        for (int m = 1; m <= M; m++) {
            kernel_gemm_packed(m, N, K, a, K, packed, c, N);
            for (int j = 0; j < N; j++)
                assert_true(c[j] == 0 && !signbit(c[j]));
        }
        free(packed);
    }
    kernels_start();
}

static void what_is_not_a_number_is_not_left_out(void **state)
{
    (void)state;
    enum { M = 4, N = 64, K = 40 };
    nn_real a[M * K] = {0}, b[N * K], c[M * N];
    for (int i = 0; i < N * K; i++)
        b[i] = 2;
    a[1 * K + 7] = NAN;
    a[2 * K + 39] = INFINITY;
    nn_real *packed = pack(false, N, K, b, N);
    kernel_gemm_packed(M, N, K, a, K, packed, c, N);
    for (int j = 0; j < N; j++) {
        assert_true(c[j] == 0 && c[3 * N + j] == 0);
        assert_true(isnan(c[N + j]));
        assert_true(c[2 * N + j] == INFINITY);
    }
    free(packed);
}

static void a_product_over_nothing_is_zero(void **state)
{
    (void)state;
    nn_real c[4] = {NAN, 1, 2, 3};
    kernel_gemm(false, false, 2, 2, 0, 1, c, 1, c, 2, 0, c, 2);
    for (int i = 0; i < 4; i++)
        assert_true(c[i] == 0);
}

int main(void)
{
    kernels_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_every_shape_agree_with_the_naive_ones),
        cmocka_unit_test(products_of_few_rows_agree_in_every_instruction_set),
        cmocka_unit_test(what_is_between_the_rows_is_not_looked_at),
        cmocka_unit_test(a_row_has_the_same_bits_in_every_batch),
        cmocka_unit_test(packed_products_agree_in_every_instruction_set),
        cmocka_unit_test(a_row_of_a_packed_product_has_the_same_bits_in_every_batch),
        cmocka_unit_test(long_packed_products_are_exact_enough),
        cmocka_unit_test(no_sum_is_a_negative_zero),
        cmocka_unit_test(what_is_not_a_number_is_not_left_out),
        cmocka_unit_test(a_product_over_nothing_is_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
