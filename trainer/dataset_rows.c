/*
 * What is done with the rows of a data set once it is loaded: splitting, shuffling, reading.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/datatype.h"
#include "engine/kernels/kernels.h"
#include "trainer/datasets/format.h"

/* drawing */

/* A number in [0, n) from 64 random bits: the high half of a product (Lemire 2019, "Fast
 * Random Integer Generation in an Interval", without the rejection: n is far below 2^64). */
static int64_t random_below(uint64_t key, uint64_t i, int64_t n)
{
    return (int64_t)((unsigned __int128)kernel_random(key, i) * (uint64_t)n >> 64);
}

static void shuffle(int64_t *order, int64_t n, uint64_t key)
{
    for (int64_t i = n - 1; i > 0; i--) {               /* Fisher and Yates */
        int64_t j = random_below(key, (uint64_t)i, i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

void dataset_shuffle(int64_t *order, int64_t n, uint64_t key)
{
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    shuffle(order, n, key);
}

static int take_rows(const struct dataset *set, const int64_t *rows, int64_t n,
                     struct dataset *out, struct nn_error *error)
{
    *out = (struct dataset){.n = n, .n_targets = set->n_targets};
    if (!(out->features = calloc((size_t)set->n_features + 1, sizeof *out->features)))
        goto fail;
    out->n_features = set->n_features;
    for (int i = 0; i < set->n_features; i++) {
        struct nn_tensor *to = &out->features[i];
        *to = (struct nn_tensor){.datatype = set->features[i].datatype,
                                 .shape = set->features[i].shape};
        to->shape.dims[0] = n;
        if (!(to->data = tensor_allocate((size_t)tensor_bytes(to->datatype, &to->shape))))
            goto fail;
        dataset_gather(set, i, rows, n, to->datatype, to->data);
    }
    if (set->classes && !(out->classes = malloc((size_t)n * sizeof *out->classes)))
        goto fail;
    for (int64_t i = 0; set->classes && i < n; i++)
        out->classes[i] = set->classes[rows[i]];

    size_t row = (size_t)set->n_targets;
    if (set->targets && !(out->targets = tensor_allocate((size_t)n * row * sizeof(nn_real))))
        goto fail;
    for (int64_t i = 0; set->targets && i < n; i++)
        memcpy(out->targets + (size_t)i * row, set->targets + (size_t)rows[i] * row,
               row * sizeof(nn_real));

    if (set->n_labels && !(out->labels = calloc((size_t)set->n_labels, sizeof *out->labels)))
        goto fail;
    out->n_labels = set->n_labels;
    for (int i = 0; i < set->n_labels; i++)
        if (!(out->labels[i] = strdup(set->labels[i])))
            goto fail;
    format_digest(out);
    return 0;

fail:
    dataset_release(out);
    return nn_fail(error, "no memory for %lld rows of data", (long long)n);
}

/* Moves `fraction` of the members, drawn by key, to the other side. */
static void draw(int64_t *members, int64_t n, double fraction, uint64_t key, bool *drawn)
{
    int64_t wanted = llround(fraction * (double)n);
    shuffle(members, n, key);
    for (int64_t i = 0; i < wanted; i++)
        drawn[members[i]] = true;
}

/* Class by class, so that their proportions stay; without `classes` all rows are of one. */
static int draw_stratified(const struct dataset *set, const int32_t *classes, double fraction,
                           uint64_t seed, bool *drawn)
{
    int n_classes = classes ? set->n_labels : 1;
    int64_t *begins = calloc((size_t)n_classes + 1, sizeof *begins);
    int64_t *members = malloc((size_t)set->n * sizeof *members);
    int result = -1;
    if (!begins || !members)
        goto done;

    /* A counting sort: in the end class c's rows begin at members[begins[c + 1]]. */
    for (int64_t i = 0; i < set->n; i++)
        begins[(classes ? classes[i] : 0) + 1]++;
    for (int c = 0; c < n_classes; c++)
        begins[c + 1] += begins[c];
    for (int64_t i = set->n - 1; i >= 0; i--)
        members[--begins[(classes ? classes[i] : 0) + 1]] = i;
    for (int c = 0; c < n_classes; c++) {
        int64_t begin = begins[c + 1], end = c + 1 < n_classes ? begins[c + 2] : set->n;
        draw(members + begin, end - begin, fraction,
             kernel_random_key(seed, (uint64_t)c), drawn);
    }
    result = 0;

done:
    free(begins);
    free(members);
    return result;
}

static bool is_one_sided(const bool *drawn, int64_t n)
{
    for (int64_t i = 1; i < n; i++)
        if (drawn[i] != drawn[0])
            return false;
    return true;
}

/* Where every class is too small for a share of its own, the rows are drawn from all. */
static int draw_rows(const struct dataset *set, double fraction, uint64_t seed, bool *drawn)
{
    if (draw_stratified(set, set->classes, fraction, seed, drawn) != 0)
        return -1;
    if (!set->classes || !is_one_sided(drawn, set->n))
        return 0;
    memset(drawn, 0, (size_t)set->n * sizeof *drawn);
    return draw_stratified(set, NULL, fraction, seed, drawn);
}

int dataset_split(struct dataset *set, double fraction, uint64_t seed, struct dataset *rest,
                  struct nn_error *error)
{
    struct dataset kept = {0};
    int64_t n_kept = 0, n_drawn = 0;
    int result = -1;
    *rest = (struct dataset){0};

    bool *drawn = calloc((size_t)set->n + 1, sizeof *drawn);
    int64_t *rows = malloc(((size_t)set->n + 1) * sizeof *rows);
    if (!drawn || !rows || draw_rows(set, fraction, seed, drawn) != 0) {
        nn_fail(error, "no memory to split %lld rows", (long long)set->n);
        goto done;
    }
    for (int64_t i = 0; i < set->n; i++)
        if (drawn[i])
            rows[set->n - ++n_drawn] = i;
        else
            rows[n_kept++] = i;
    if (n_kept == 0 || n_drawn == 0) {
        nn_fail(error, "a fraction of %g of %lld rows leaves one side without any", fraction,
                (long long)set->n);
        goto done;
    }
    /* The drawn ones stand behind the others, from the end: turn them round. */
    for (int64_t i = n_kept, j = set->n - 1; i < j; i++, j--) {
        int64_t swap = rows[i];
        rows[i] = rows[j];
        rows[j] = swap;
    }
    if (take_rows(set, rows, n_kept, &kept, error) != 0 ||
        take_rows(set, rows + n_kept, n_drawn, rest, error) != 0) {
        dataset_release(&kept);
        goto done;
    }
    kept.columns = json_incref(set->columns);
    dataset_release(set);
    *set = kept;
    result = 0;

done:
    free(drawn);
    free(rows);
    return result;
}

/* reading */

void dataset_gather(const struct dataset *set, int i, const int64_t *order, int64_t rows,
                    enum nn_datatype datatype, void *out)
{
    const struct nn_tensor *feature = &set->features[i];
    int64_t n = shape_product(&feature->shape, 1, feature->shape.rank);
    size_t row_bytes = (size_t)n * nn_datatype_size(datatype);
    size_t feature_bytes = (size_t)n * nn_datatype_size(feature->datatype);
    for (int64_t j = 0; j < rows; j++)
        datatype_convert(n, feature->datatype,
                         (const char *)feature->data + (size_t)order[j] * feature_bytes, datatype,
                         (char *)out + (size_t)j * row_bytes);
}

/* Adds (x - origin)^power over a row's run of elements. */
static double run_sum(const struct nn_tensor *feature, int64_t begin, int64_t n, double origin,
                      int power)
{
    double sum = 0;
    for (int64_t i = begin; i < begin + n; i++) {
        double d = format_element(feature, i) - origin;
        sum += power == 1 ? d : d * d;
    }
    return sum;
}

/* The first pass subtracts the first row: a constant channel has then a deviation of exactly
 * 0, and one of large values that hardly differ keeps its digits. Some channels at a time, in
 * row order, so that memory is read in long pieces. */
void dataset_moments(const struct dataset *set, int i, int64_t n_channels, nn_real *mean,
                     nn_real *deviation)
{
    enum { BLOCK = 64 };
    const struct nn_tensor *feature = &set->features[i];
    int64_t row_elements = shape_product(&feature->shape, 1, feature->shape.rank);
    int64_t run = row_elements / n_channels;
    double count = (double)set->n * (double)run;

    for (int64_t begin = 0; begin < n_channels; begin += BLOCK) {
        int64_t channels = n_channels - begin < BLOCK ? n_channels - begin : BLOCK;
        double origin[BLOCK], sums[2][BLOCK] = {{0}};
        for (int64_t c = 0; c < channels; c++)
            origin[c] = format_element(feature, (begin + c) * run);
        for (int power = 1; power <= 2; power++) {
            double *sum = sums[power - 1];
            for (int64_t row = 0; row < set->n; row++)
                for (int64_t c = 0; c < channels; c++)
                    sum[c] += run_sum(feature, row * row_elements + (begin + c) * run, run,
                                      origin[c], power);
            for (int64_t c = 0; power == 1 && c < channels; c++)
                origin[c] += sum[c] / count;            /* the mean, for the second pass */
        }
        for (int64_t c = 0; c < channels; c++) {
            nn_real root = (nn_real)sqrt(sums[1][c] / count);
            mean[begin + c] = (nn_real)origin[c];
            deviation[begin + c] = root > 0 ? root : 1;
        }
    }
}
