/*
 * C = A B with B packed once for all products: its columns lie in panels of a vector's width,
 * so that a step along k reads one vector of each and adds it, times an element of A, to a row
 * of C that is kept in registers.
 *
 * Where an element of A is zero in every row of a tile, nothing is to be added, and the panels'
 * vectors are not even read: that is most of an image of strokes, of a one-hot row, of counts
 * of words. An element of C is summed in the order of k, block by block, whatever the other
 * rows are, however many there are, and whatever was left out: its bits are the same. Sums of
 * blocks are added up, so that the rounding errors of a long k stay those of two short ones.
 */
#include "engine/kernels/kernels.h"
#include "engine/kernels/unroll.h"

#include <string.h>

enum {
    MAX_ROWS = 6, /* of a tile */
    MAX_PANELS = 8,
    BLOCK_K = 128, /* of B that is used while it is in a cache, for BLOCK_ROWS */
    BLOCK_ROWS = 48,
    MAX_TILES = BLOCK_ROWS / MAX_ROWS,
    MIN_PANELS = 4, /* of fewer, a tile of few rows has too little to do at once */
    MAX_LANES = 16,
};

/* What a tile is computed from. */
struct tile {
    const nn_real *a, *b;
    nn_real *c;
    int64_t lda, ldc, panel; /* elements from one row, or panel of B, to the next */
    int64_t n;
    const uint16_t *order;
    bool adds; /* to what C holds */
};

/* What the comparison of two vectors gives for each lane: 0 or -1. */
typedef __typeof__(_Generic((nn_real)0, float : (int32_t)0, double : (int64_t)0)) truth;

/* Whether a tile's sums, a vector of each panel and an element of A have registers. Of a
 * single row the panels' vectors are read as they are used. */
static inline bool fits(int rows, int panels, int registers)
{
    return rows * panels + (rows == 1 ? 1 : panels) + 1 <= registers;
}

static bool is_sparse(int64_t n_used, int64_t k)
{
    return n_used <= k - k / 8;
}

#define TEMPLATE_FILE "engine/kernels/gemm_packed.inc"
#include "engine/kernels/every_set.inc"

static const struct {
    int64_t (*find_columns)(int rows, int64_t k, const nn_real *a, int64_t lda,
                            uint16_t *order);
    void (*run_tile)(int rows, int panels, const struct tile *t);
    int lanes, registers;
} sets[KERNEL_SETS] = {
#ifdef __aarch64__
    [KERNEL_BASELINE] = {find_columns_baseline, run_tile_baseline, 4, 32},
#else
    [KERNEL_BASELINE] = {find_columns_baseline, run_tile_baseline, 4, 16},
    [KERNEL_AVX2] = {find_columns_avx2, run_tile_avx2, 8, 16},
    [KERNEL_AVX512] = {find_columns_avx512, run_tile_avx512, 16, 32},
#endif
};

int64_t kernel_packed_lanes(void)
{
    return sets[kernels_used()].lanes;
}

int64_t kernel_packed_size(int64_t n, int64_t k)
{
    int64_t lanes = kernel_packed_lanes();
    return (n + lanes - 1) / lanes * lanes * k;
}

bool kernel_gemm_packed_pays(int64_t n)
{
    return n > (MIN_PANELS - 1) * kernel_packed_lanes();
}

void kernel_pack(bool transpose_b, int64_t n, int64_t k, const nn_real *b, int64_t ldb,
                 nn_real *packed)
{
    int lanes = sets[kernels_used()].lanes;
    for (int64_t j = 0; j < n; j += lanes)
        for (int64_t p = 0; p < k; p++)
            for (int64_t q = j; q < j + lanes; q++)
                *packed++ = q >= n ? 0 : transpose_b ? b[q * ldb + p] : b[p * ldb + q];
}

static int rows_of_tile(int64_t m)
{
    int64_t tiles = (m + MAX_ROWS - 1) / MAX_ROWS;
    return (int)((m + tiles - 1) / tiles);
}

/* As many panels as fit into a tile of so many rows, a power of two. */
static int panels_of_tile(int64_t left, int rows)
{
    int panels = MAX_PANELS;
    while (panels > left || !fits(rows, panels, sets[kernels_used()].registers))
        panels /= 2;
    return panels;
}

/* The last panel may be wider than what is left of C: `room` holds the tile instead. */
static void run_narrow_tile(int rows, int panels, int64_t columns, const struct tile *t)
{
    nn_real room[MAX_ROWS * MAX_PANELS * MAX_LANES] = {0};
    struct tile wide = *t;
    wide.c = room;
    wide.ldc = panels * sets[kernels_used()].lanes;
    for (int i = 0; i < rows && t->adds; i++)
        memcpy(room + i * wide.ldc, t->c + i * t->ldc, (size_t)columns * sizeof *room);
    sets[kernels_used()].run_tile(rows, panels, &wide);
    for (int i = 0; i < rows; i++)
        memcpy(t->c + i * t->ldc, room + i * wide.ldc, (size_t)columns * sizeof *room);
}

/* C [m, n] = A [m, k] B, or += where something came before; m up to BLOCK_ROWS, k up to
 * BLOCK_K. */
static void multiply_block(int64_t m, int64_t n, int64_t k, const nn_real *a, int64_t lda,
                           const nn_real *b, int64_t panel, nn_real *c, int64_t ldc, bool adds)
{
    int64_t lanes = sets[kernels_used()].lanes, n_panels = (n + lanes - 1) / lanes;
    uint16_t order[MAX_TILES][BLOCK_K];
    int64_t used[MAX_TILES];

    for (int64_t i = 0, rows, tile = 0; i < m; i += rows, tile++) {
        rows = rows_of_tile(m - i);
        used[tile] =
            sets[kernels_used()].find_columns((int)rows, k, a + i * lda, lda, order[tile]);
    }
    for (int64_t j = 0, panels; j < n_panels; j += panels) {
        panels = panels_of_tile(n_panels - j, rows_of_tile(m));
        for (int64_t i = 0, rows, tile = 0; i < m; i += rows, tile++) {
            rows = rows_of_tile(m - i);
            int64_t columns = n - j * lanes;
            bool skips = is_sparse(used[tile], k);
            struct tile t = {.a = a + i * lda,
                             .b = b + j * panel,
                             .c = c + i * ldc + j * lanes,
                             .lda = lda,
                             .ldc = ldc,
                             .panel = panel,
                             .n = skips ? used[tile] : k,
                             .order = skips ? order[tile] : NULL,
                             .adds = adds};
            if (columns < panels * lanes)
                run_narrow_tile((int)rows, (int)panels, columns, &t);
            else
                sets[kernels_used()].run_tile((int)rows, (int)panels, &t);
        }
    }
}

void kernel_gemm_packed(int64_t m, int64_t n, int64_t k, const nn_real *a, int64_t lda,
                        const nn_real *packed, nn_real *c, int64_t ldc)
{
    int64_t lanes = sets[kernels_used()].lanes;
    for (int64_t p = 0; p < k; p += BLOCK_K)
        for (int64_t i = 0; i < m; i += BLOCK_ROWS)
            multiply_block(m - i < BLOCK_ROWS ? m - i : BLOCK_ROWS, n,
                           k - p < BLOCK_K ? k - p : BLOCK_K, a + i * lda + p, lda,
                           packed + p * lanes, k * lanes, c + i * ldc, ldc, p > 0);
}
