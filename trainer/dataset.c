#include "trainer/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/datatype.h"
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

int dataset_check_request(const struct dataset_request *request, struct nn_error *error)
{
    const struct dataset_format *format = find_format(request->data, error);
    if (!format)
        return -1;
    return format->check_request ? format->check_request(request, error) : 0;
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

/* Whether a value is one of an integer type: converted to it, it is still the same. The largest
 * of 64 bits are not float64 and round up to what is not of the type. */
static bool is_of(enum nn_datatype datatype, double value)
{
    double limit = datatype == NN_UINT64 ? 0x1p64 : 0x1p63;
    uint64_t element;
    double back;
    datatype_convert(1, NN_FP64, &value, datatype, &element);
    datatype_convert(1, datatype, &element, NN_FP64, &back);
    return back == value && value < limit;
}

static int check_values(const struct dataset *set, const struct dataset_request *request,
                        struct nn_error *error)
{
    for (int i = 0; i < set->n_features; i++) {
        const struct dataset_input *input = &request->inputs[i];
        int64_t elements = format_row_elements(request, i);
        if (nn_datatype_is_real(input->datatype))
            continue;
        for (int64_t j = 0; j < set->n * elements; j++)
            if (!is_of(input->datatype, format_element(&set->features[i], j)))
                return nn_fail(error, "input \"%s\" is %s: row %lld has %g", input->name,
                               nn_datatype_name(input->datatype), (long long)(j / elements),
                               format_element(&set->features[i], j));
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
        set->targets[i] = (nn_real)format_element(&set->features[0], i);
    return 0;
}

static int finish(struct dataset *set, const struct dataset_request *request,
                  struct nn_error *error)
{
    for (int i = 0; i < set->n_features; i++)
        set->features[i].shape.dims[0] = set->n;
    if (check_values(set, request, error) != 0)
        return -1;
    format_digest(set);
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
    json_decref(set->columns);
    *set = (struct dataset){0};
}
