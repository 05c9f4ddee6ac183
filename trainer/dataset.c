#include "trainer/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "trainer/datasets/format.h"

/* formats */

/* THE list. */
static const struct dataset_format *const formats[] = {
    &idx_format, &csv_format, &digits_format, &jsonl_format,
};

enum { N_FORMATS = sizeof formats / sizeof *formats };

/* The format that "data" names, or NULL. */
static const struct dataset_format *find_format(const json_t *data, struct nn_error *error)
{
    const char *names[N_FORMATS + 1] = {0};
    const json_t *json = json_object_get(data, "format");
    const char *name = json_string_value(json);
    int n = 0;
    for (int i = 0; i < N_FORMATS; i++) {
        if (!formats[i]->load)
            continue;
        if (name && strcmp(name, formats[i]->name) == 0)
            return formats[i];
        names[n++] = formats[i]->name;
    }
    const char *nearest = name ? nearest_name(name, names) : NULL;
    if (!json_is_object(data))
        fields_fail(error, "data", "an object", data);
    else if (nearest)
        nn_fail(error, "data.format: unknown value \"%.64s\", did you mean \"%s\"?", name,
                nearest);
    else
        fields_fail(error, "data.format", "idx, csv or digits", json);
    return NULL;
}

int dataset_check(const json_t *data, struct nn_error *error)
{
    const struct dataset_format *format = find_format(data, error);
    return format ? format->check(data, error) : -1;
}

static bool ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n >= m && strcmp(path + n - m, end) == 0;
}

/* A file of features by its content, and by its name where that may mean anything. */
static const struct dataset_format *guess_format(const char *path, struct nn_error *error)
{
    struct source source;
    char begin[4] = "";
    if (source_open(&source, path, error) != 0)
        return NULL;
    int64_t n = source_read(&source, begin, sizeof begin, error);
    source_close(&source);
    if (n < 0)
        return NULL;
    if (n == (int64_t)sizeof begin && begin[0] == 0 && begin[1] == 0)
        return &idx_format;
    if (begin[0] == '[' || begin[0] == '{' || ends_with(path, ".jsonl") ||
        ends_with(path, ".json"))
        return &jsonl_format;
    return &csv_format;
}

/* loading */

static int make_features(struct dataset *set, const struct dataset_request *request,
                         struct nn_error *error)
{
    *set = (struct dataset){0};
    if (!(set->features = calloc((size_t)request->n_inputs + 1, sizeof *set->features)))
        return nn_fail(error, "no memory for data");
    set->n_features = request->n_inputs;
    return 0;
}

static double element(const struct nn_tensor *feature, int64_t i)
{
    return feature->datatype == NN_UINT8 ? ((const uint8_t *)feature->data)[i]
                                         : ((const nn_real *)feature->data)[i];
}

/* The bounds of an integer input's values, exclusive; a float64 holds them exactly. */
static bool is_of(enum nn_datatype datatype, double value)
{
    switch (datatype) {
    case NN_FP32:
        return true;
    case NN_INT64:
        return value > -0x1p63 && value < 0x1p63 && value == floor(value);
    case NN_INT32:
        return value > -0x1p31 - 1 && value < 0x1p31 && value == floor(value);
    case NN_UINT8:
        return value >= 0 && value < 256 && value == floor(value);
    case NN_BOOL:
        return value == 0 || value == 1;
    }
    return false;
}

static int check_values(const struct dataset *set, const struct dataset_request *request,
                        struct nn_error *error)
{
    for (int i = 0; i < set->n_features; i++) {
        const struct dataset_input *input = &request->inputs[i];
        int64_t elements = format_row_elements(request, i);
        if (input->datatype == NN_FP32)
            continue;
        for (int64_t j = 0; j < set->n * elements; j++)
            if (!is_of(input->datatype, element(&set->features[i], j)))
                return nn_fail(error, "input \"%s\" is %s: row %lld has %g", input->name,
                               nn_datatype_name(input->datatype), (long long)(j / elements),
                               element(&set->features[i], j));
    }
    return 0;
}

/* TARGET_INPUT: the first input's own values are what is to be predicted. */
static int copy_targets(struct dataset *set, const struct dataset_request *request,
                        struct nn_error *error)
{
    int64_t elements = format_row_elements(request, 0), n;
    size_t bytes;
    if (elements > INT32_MAX || __builtin_mul_overflow(set->n, elements, &n) ||
        __builtin_mul_overflow((size_t)n, sizeof(nn_real), &bytes) ||
        !(set->targets = tensor_allocate(bytes)))
        return nn_fail(error, "no memory for %lld rows of targets", (long long)set->n);
    set->n_targets = (int)elements;
    for (int64_t i = 0; i < n; i++)
        set->targets[i] = (nn_real)element(&set->features[0], i);
    return 0;
}

/* Eight bytes at a time; the multiplier and the rotation are MurmurHash3's. */
static uint64_t digest_bytes(uint64_t digest, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = 0;
        memcpy(&word, p + i, n - i < 8 ? n - i : 8);
        digest = (digest ^ word) * 0x87c37b91114253d5u;
        digest ^= digest >> 31;
    }
    return (digest ^ n) * 0x4cf5ad432745937fu;
}

static void digest_set(struct dataset *set)
{
    uint64_t digest = digest_bytes(0, &set->n, sizeof set->n);
    for (int i = 0; i < set->n_features; i++) {
        const struct nn_tensor *feature = &set->features[i];
        digest = digest_bytes(digest, feature->shape.dims,
                              (size_t)feature->shape.rank * sizeof *feature->shape.dims);
        digest = digest_bytes(digest, feature->data,
                              (size_t)tensor_bytes(feature->datatype, &feature->shape));
    }
    if (set->classes)
        digest = digest_bytes(digest, set->classes, (size_t)set->n * sizeof *set->classes);
    if (set->targets)
        digest = digest_bytes(digest, set->targets,
                              (size_t)(set->n * set->n_targets) * sizeof *set->targets);
    for (int i = 0; i < set->n_labels; i++)
        digest = digest_bytes(digest, set->labels[i], strlen(set->labels[i]));
    set->digest = digest ^ digest >> 32;
}

static int finish(struct dataset *set, const struct dataset_request *request,
                  struct nn_error *error)
{
    for (int i = 0; i < set->n_features; i++)
        set->features[i].shape.dims[0] = set->n;
    if (check_values(set, request, error) != 0)
        return -1;
    digest_set(set);
    return 0;
}

int dataset_load(struct dataset *set, const struct dataset_request *request,
                 enum dataset_part part, struct nn_error *error)
{
    *set = (struct dataset){0};
    const struct dataset_format *format = find_format(request->data, error);
    if (!format)
        return -1;
    if (make_features(set, request, error) != 0 ||
        format->load(set, request, part, error) != 0 ||
        (request->target == TARGET_INPUT && copy_targets(set, request, error) != 0) ||
        finish(set, request, error) != 0) {
        dataset_release(set);
        return -1;
    }
    return 0;
}

int dataset_load_features(struct dataset *set, const char *path,
                          const struct dataset_request *request, struct nn_error *error)
{
    *set = (struct dataset){0};
    const struct dataset_format *format = guess_format(path, error);
    if (!format)
        return -1;
    if (make_features(set, request, error) != 0 ||
        format->load_features(set, path, request, error) != 0 ||
        finish(set, request, error) != 0) {
        dataset_release(set);
        return -1;
    }
    return 0;
}

void dataset_release(struct dataset *set)
{
    for (int i = 0; set->features && i < set->n_features; i++)
        free(set->features[i].data);
    free(set->features);
    free(set->classes);
    free(set->targets);
    for (int i = 0; set->labels && i < set->n_labels; i++)
        free(set->labels[i]);
    free(set->labels);
    *set = (struct dataset){0};
}

/* rows */

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
    digest_set(out);
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

/* Class by class, so that their proportions stay; with no classes all rows are of one. */
static int draw_stratified(const struct dataset *set, double fraction, uint64_t seed,
                           bool *drawn)
{
    int n_classes = set->classes ? set->n_labels : 1;
    int64_t *begins = calloc((size_t)n_classes + 1, sizeof *begins);
    int64_t *members = malloc((size_t)set->n * sizeof *members);
    int result = -1;
    if (!begins || !members)
        goto done;

    /* A counting sort: in the end class c's rows begin at members[begins[c + 1]]. */
    for (int64_t i = 0; i < set->n; i++)
        begins[(set->classes ? set->classes[i] : 0) + 1]++;
    for (int c = 0; c < n_classes; c++)
        begins[c + 1] += begins[c];
    for (int64_t i = set->n - 1; i >= 0; i--)
        members[--begins[(set->classes ? set->classes[i] : 0) + 1]] = i;
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

int dataset_split(struct dataset *set, double fraction, uint64_t seed, struct dataset *rest,
                  struct nn_error *error)
{
    struct dataset kept = {0};
    int64_t n_kept = 0, n_drawn = 0;
    int result = -1;
    *rest = (struct dataset){0};

    bool *drawn = calloc((size_t)set->n + 1, sizeof *drawn);
    int64_t *rows = malloc(((size_t)set->n + 1) * sizeof *rows);
    if (!drawn || !rows || draw_stratified(set, fraction, seed, drawn) != 0) {
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
    dataset_release(set);
    *set = kept;
    result = 0;

done:
    free(drawn);
    free(rows);
    return result;
}

/* reading */

#define CONVERT(from_type, to_type, n, from, to)                                           \
    do {                                                                                   \
        const from_type *from_ = (from);                                                   \
        to_type *to_ = (to);                                                               \
        for (int64_t i_ = 0; i_ < (n); i_++)                                               \
            to_[i_] = (to_type)from_[i_];                                                  \
    } while (0)

static void convert_bytes(int64_t n, const uint8_t *from, enum nn_datatype datatype, void *to)
{
    switch (datatype) {
    case NN_FP32:
        CONVERT(uint8_t, nn_real, n, from, to);
        break;
    case NN_INT64:
        CONVERT(uint8_t, int64_t, n, from, to);
        break;
    case NN_INT32:
        CONVERT(uint8_t, int32_t, n, from, to);
        break;
    case NN_UINT8:
    case NN_BOOL:
        memcpy(to, from, (size_t)n);
        break;
    }
}

static void convert_reals(int64_t n, const nn_real *from, enum nn_datatype datatype, void *to)
{
    switch (datatype) {
    case NN_FP32:
        memcpy(to, from, (size_t)n * sizeof *from);
        break;
    case NN_INT64:
        CONVERT(nn_real, int64_t, n, from, to);
        break;
    case NN_INT32:
        CONVERT(nn_real, int32_t, n, from, to);
        break;
    case NN_UINT8:
    case NN_BOOL:
        CONVERT(nn_real, uint8_t, n, from, to);
        break;
    }
}

void dataset_gather(const struct dataset *set, int i, const int64_t *order, int64_t rows,
                    enum nn_datatype datatype, void *out)
{
    const struct nn_tensor *feature = &set->features[i];
    int64_t n = shape_product(&feature->shape, 1, feature->shape.rank);
    size_t row_bytes = (size_t)n * nn_datatype_size(datatype);
    for (int64_t j = 0; j < rows; j++) {
        void *to = (char *)out + (size_t)j * row_bytes;
        if (feature->datatype == NN_UINT8)
            convert_bytes(n, (const uint8_t *)feature->data + order[j] * n, datatype, to);
        else
            convert_reals(n, (const nn_real *)feature->data + order[j] * n, datatype, to);
    }
}

/* Adds (x - origin)^power over a row's run of elements. */
static double run_sum(const struct nn_tensor *feature, int64_t begin, int64_t n, double origin,
                      int power)
{
    double sum = 0;
    for (int64_t i = begin; i < begin + n; i++) {
        double d = element(feature, i) - origin;
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
            origin[c] = element(feature, (begin + c) * run);
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
