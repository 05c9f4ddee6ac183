/*
 * What the readers of several formats need.
 */
#include "trainer/datasets/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const dataset_target_names[] = {
    [TARGET_CLASSES] = "classes",
    [TARGET_VALUES] = "values",
    [TARGET_INPUT] = "input",
    NULL,
};

int format_check_labels(const struct format_common *common, struct nn_error *error)
{
    const json_t *labels = common->labels;
    int result = 0;
    if (!labels)
        return 0;
    if (!json_is_array(labels) || json_array_size(labels) == 0 ||
        json_array_size(labels) > INT32_MAX)
        return fields_fail(error, "data.labels", "a list of names", labels);

    json_t *seen = json_object();
    if (!seen)
        return nn_fail(error, "data.labels: no memory");
    for (size_t i = 0; i < json_array_size(labels) && result == 0; i++) {
        const json_t *label = json_array_get(labels, i);
        struct field_path path;
        field_path_index(&path, "data.labels", i);
        if (!json_is_string(label))
            result = fields_fail(error, path.text, "a name", label);
        else if (json_object_get(seen, json_string_value(label)))
            result = nn_fail(error, "%s: \"%.64s\" is there already", path.text,
                             json_string_value(label));
        else if (json_object_set_new(seen, json_string_value(label), json_true()) != 0)
            result = nn_fail(error, "data.labels: no memory");
    }
    json_decref(seen);
    return result;
}

char *format_path(const struct dataset_request *request, const char *name,
                  struct nn_error *error)
{
    char *path;
    if (*name == '/' || !request->directory || !*request->directory)
        path = strdup(name);
    else if (asprintf(&path, "%s/%s", request->directory, name) < 0)
        path = NULL;
    if (!path) {
        nn_fail(error, "%s: no memory", name);
    } else if (access(path, F_OK) != 0 && errno == ENOENT) {
        nn_fail(error, "%s: no such file (--data or PREDICTD_DATA names the folder that holds "
                       "data)", path);
        free(path);
        path = NULL;
    }
    return path;
}

int64_t format_row_elements(const struct dataset_request *request, int i)
{
    const struct nn_shape *shape = &request->inputs[i].shape;
    return shape_product(shape, 1, shape->rank);
}

/* Replaces *data, `used` bytes of it in use, by `bytes` bytes. */
static int grow(void **data, size_t used, size_t bytes)
{
    void *grown = tensor_allocate(bytes);
    if (!grown)
        return -1;
    if (used)
        memcpy(grown, *data, used);
    free(*data);
    *data = grown;
    return 0;
}

int format_reserve(struct dataset *set, const struct dataset_request *request,
                   enum nn_datatype datatype, int64_t rows, struct nn_error *error)
{
    struct nn_shape shape;
    for (int i = 0; i < set->n_features; i++) {
        shape = request->inputs[i].shape;
        shape.dims[0] = rows;
        int64_t bytes = tensor_bytes(datatype, &shape);
        shape.dims[0] = set->n;
        if (bytes < 0 || grow(&set->features[i].data, (size_t)tensor_bytes(datatype, &shape),
                              (size_t)bytes) != 0)
            return nn_fail(error, "no memory for %lld rows of data", (long long)rows);
        set->features[i].datatype = datatype;
        set->features[i].shape = shape;
    }
    shape = (struct nn_shape){.rank = 2, .dims = {rows, set->n_targets}};
    int64_t bytes = tensor_bytes(NN_FP32, &shape);
    void *targets = set->targets;
    if (set->n_targets > 0 &&
        (bytes < 0 || grow(&targets, (size_t)(set->n * set->n_targets) * sizeof(nn_real),
                           (size_t)bytes) != 0))
        return nn_fail(error, "no memory for %lld rows of data", (long long)rows);
    set->targets = targets;
    return 0;
}

static int reserve_labels(struct dataset *set, int n, struct nn_error *error)
{
    if (!(set->labels = calloc((size_t)n, sizeof *set->labels)))
        return nn_fail(error, "no memory for %d names of classes", n);
    set->n_labels = n;
    return 0;
}

int format_name_classes(struct dataset *set, const struct dataset_request *request,
                        const json_t *labels, struct nn_error *error)
{
    bool given = request->labels && request->n_labels > 0;
    int n = given ? request->n_labels : (int)json_array_size(labels);
    if (n == 0)
        return 0;
    if (reserve_labels(set, n, error) != 0)
        return -1;
    for (int i = 0; i < n; i++) {
        const char *name = given ? request->labels[i]
                                 : json_string_value(json_array_get(labels, (size_t)i));
        if (!(set->labels[i] = strdup(name)))
            return nn_fail(error, "no memory for %d names of classes", n);
    }
    return 0;
}

int format_number_classes(struct dataset *set, int n, struct nn_error *error)
{
    if (reserve_labels(set, n, error) != 0)
        return -1;
    for (int i = 0; i < n; i++)
        if (asprintf(&set->labels[i], "%d", i) < 0) {
            set->labels[i] = NULL;
            return nn_fail(error, "no memory for %d names of classes", n);
        }
    return 0;
}

int format_n_classes(const struct dataset_request *request)
{
    return request->n_targets == 1 ? 2 : request->n_targets;
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

void format_digest(struct dataset *set)
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
