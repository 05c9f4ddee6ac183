/*
 * IDX, the format of the MNIST family (http://yann.lecun.com/exdb/mnist): two bytes 0, a type,
 * the number of dimensions, each dimension as a big-endian 32-bit number, the elements.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/datasets/format.h"

enum idx_type {
    IDX_UBYTE = 0x08,
    IDX_BYTE = 0x09,
    IDX_SHORT = 0x0B,
    IDX_INT = 0x0C,
    IDX_FLOAT = 0x0D,
    IDX_DOUBLE = 0x0E,
};

/* Bytes of an element; 0: there is no such type. */
static int element_size(int type)
{
    switch (type) {
    case IDX_UBYTE:
    case IDX_BYTE:
        return 1;
    case IDX_SHORT:
        return 2;
    case IDX_INT:
    case IDX_FLOAT:
        return 4;
    case IDX_DOUBLE:
        return 8;
    default:
        return 0;
    }
}

/* The number of n bytes, at most 8, the highest first. */
static uint64_t big_endian(const unsigned char *p, int n)
{
    uint64_t number = 0;
    for (int i = 0; i < n; i++)
        number = number << 8 | p[i];
    return number;
}

/* files */

static int read_header(struct source *source, int *type, struct nn_shape *shape,
                       struct nn_error *error)
{
    unsigned char magic[4], dims[4 * NN_MAX_RANK];
    int64_t got = source_read(source, magic, sizeof magic, error);
    if (got < 0)
        return -1;
    if (got < (int64_t)sizeof magic)
        return nn_fail(error, "%s: the header is cut short", source->path);
    if (magic[0] != 0 || magic[1] != 0)
        return nn_fail(error, "%s: not an IDX file: it begins with %02x %02x, expected 00 00",
                       source->path, magic[0], magic[1]);
    *type = magic[2];
    if (element_size(*type) == 0)
        return nn_fail(error,
                       "%s: element type 0x%02x, expected 0x08 (unsigned bytes), 0x09 "
                       "(bytes), 0x0b, 0x0c (integers), 0x0d or 0x0e (floats)",
                       source->path, *type);
    if (magic[3] < 1 || magic[3] > NN_MAX_RANK)
        return nn_fail(error, "%s: %d dimensions, expected 1 to %d", source->path, magic[3],
                       NN_MAX_RANK);

    shape->rank = magic[3];
    got = source_read(source, dims, 4 * shape->rank, error);
    if (got < 0)
        return -1;
    if (got < 4 * shape->rank)
        return nn_fail(error, "%s: the header is cut short", source->path);
    for (int i = 0; i < shape->rank; i++) {
        shape->dims[i] = (int64_t)big_endian(dims + 4 * i, 4);
        if (shape->dims[i] == 0)
            return nn_fail(error, "%s: dimension %d is 0", source->path, i);
    }
    return 0;
}

static nn_real number_of(int type, uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    float single;
    double number;
    switch (type) {
    case IDX_BYTE:
        return (int8_t)bits;
    case IDX_SHORT:
        return (int16_t)bits;
    case IDX_INT:
        return (nn_real)(int32_t)bits;
    case IDX_FLOAT:
        memcpy(&single, &low, sizeof single);
        return (nn_real)single;
    case IDX_DOUBLE:
        memcpy(&number, &bits, sizeof number);
        return (nn_real)number;
    default:
        return (nn_real)bits;
    }
}

/* Numbers as the file has them to nn_real. */
static nn_real *convert(const char *path, int type, const unsigned char *bytes, int64_t n,
                        struct nn_error *error)
{
    size_t size;
    nn_real *values = NULL;
    if (!__builtin_mul_overflow((size_t)n, sizeof(nn_real), &size))
        values = tensor_allocate(size);
    if (!values) {
        nn_fail(error, "%s: no memory for %lld numbers", path, (long long)n);
        return NULL;
    }
    int width = element_size(type);
    for (int64_t i = 0; i < n; i++) {
        values[i] = number_of(type, big_endian(bytes + width * i, width));
        if (!isfinite(values[i])) {
            nn_fail(error, "%s: element %lld is not finite", path, (long long)i);
            free(values);
            return NULL;
        }
    }
    return values;
}

/* The tensor of a file, UINT8 or FP32. Its data is the caller's. */
static int read_tensor(const char *path, struct nn_tensor *tensor, struct nn_error *error)
{
    struct source source;
    struct nn_shape shape;
    struct shape_text text;
    unsigned char *bytes = NULL, behind;
    int type = 0, result = -1;

    if (source_open(&source, path, error) != 0)
        return -1;
    if (read_header(&source, &type, &shape, error) != 0)
        goto done;

    int64_t n = shape_elements(&shape), size;
    if (n < 0 || __builtin_mul_overflow(n, element_size(type), &size))
        size = INT64_MAX;
    if (size > source.most) {
        nn_fail(error, "%s: shape %s needs more bytes than the file holds", path,
                shape_print(&shape, &text));
        goto done;
    }
    if (!(bytes = tensor_allocate((size_t)size))) {
        nn_fail(error, "%s: no memory for %lld bytes", path, (long long)size);
        goto done;
    }
    int64_t got = source_read(&source, bytes, size, error);
    if (got < 0)
        goto done;
    if (got < size) {
        nn_fail(error, "%s: shape %s needs %lld bytes, %lld are there", path,
                shape_print(&shape, &text), (long long)size, (long long)got);
        goto done;
    }
    if ((got = source_read(&source, &behind, 1, error)) != 0) {
        nn_fail(error, "%s: bytes behind the elements of shape %s", path,
                shape_print(&shape, &text));
        goto done;
    }

    *tensor = (struct nn_tensor){.datatype = NN_UINT8, .shape = shape, .data = bytes};
    if (type != IDX_UBYTE) {
        tensor->datatype = NN_FP32;
        if (!(tensor->data = convert(path, type, bytes, n, error)))
            goto done;
    } else {
        bytes = NULL;
    }
    result = 0;

done:
    free(bytes);
    source_close(&source);
    return result;
}

/* features and labels */

static int load_feature(struct dataset *set, const char *path,
                        const struct dataset_request *request, int i, struct nn_error *error)
{
    const struct dataset_input *input = &request->inputs[i];
    struct nn_tensor *feature = &set->features[i];
    struct shape_text got, wanted;
    if (read_tensor(path, feature, error) != 0)
        return -1;

    struct nn_shape *shape = &feature->shape;
    int64_t rows = shape->dims[0];
    if (shape_product(shape, 1, shape->rank) != format_row_elements(request, i))
        return nn_fail(error, "%s: shape %s does not fit input \"%s\" %s", path,
                       shape_print(shape, &got), input->name,
                       shape_print(&input->shape, &wanted));
    *shape = input->shape;
    shape->dims[0] = rows;
    if (i > 0 && rows != set->n)
        return nn_fail(error, "%s: %lld rows, the other inputs have %lld", path,
                       (long long)rows, (long long)set->n);
    set->n = rows;
    return 0;
}

static int take_classes(struct dataset *set, const char *path,
                        const struct dataset_request *request, const json_t *names,
                        const struct nn_tensor *labels, struct nn_error *error)
{
    if (labels->shape.rank != 1) {
        struct shape_text text;
        return nn_fail(error, "%s: shape %s, expected one class for each row", path,
                       shape_print(&labels->shape, &text));
    }
    if (format_name_classes(set, request, names, error) != 0)
        return -1;
    int limit = set->n_labels ? set->n_labels : format_n_classes(request);
    int most = 0;
    if (!(set->classes = malloc((size_t)set->n * sizeof *set->classes)))
        return nn_fail(error, "%s: no memory", path);
    for (int64_t i = 0; i < set->n; i++) {
        double value = format_element(labels, i);
        if (!(value >= 0 && value < (limit ? limit : 1 << 24) && value == floor(value)))
            return nn_fail(error, "%s: label %g of row %lld, expected 0 to %d", path, value,
                           (long long)i, (limit ? limit : 1 << 24) - 1);
        set->classes[i] = (int32_t)value;
        if (set->classes[i] > most)
            most = set->classes[i];
    }
    return set->n_labels ? 0 : format_number_classes(set, limit ? limit : most + 1, error);
}

static int take_values(struct dataset *set, const char *path,
                       const struct dataset_request *request, const struct nn_tensor *labels,
                       struct nn_error *error)
{
    int64_t columns = shape_product(&labels->shape, 1, labels->shape.rank);
    if (columns > INT32_MAX || (request->n_targets > 0 && columns != request->n_targets))
        return nn_fail(error, "%s: %lld values in a row, the network has %d outputs", path,
                       (long long)columns, request->n_targets);
    int64_t n = set->n * columns;
    if (!(set->targets = tensor_allocate((size_t)n * sizeof *set->targets)))
        return nn_fail(error, "%s: no memory", path);
    set->n_targets = (int)columns;
    for (int64_t i = 0; i < n; i++)
        set->targets[i] = (nn_real)format_element(labels, i);
    return 0;
}

/* the recipe */

struct idx_settings {
    struct format_common common;
    const json_t *train, *test;
};

static const struct field idx_fields[] = {
    FORMAT_COMMON_FIELDS,
    {"train", FIELD_JSON, offsetof(struct idx_settings, train), .required = true},
    {"test", FIELD_JSON, offsetof(struct idx_settings, test), .required = false},
    {0},
};

struct idx_part {
    const json_t *features;     /* a file, or files by the inputs' names */
    const char *labels;
};

static const struct field part_fields[] = {
    {"features", FIELD_JSON, offsetof(struct idx_part, features), .required = true},
    {"labels", FIELD_STRING, offsetof(struct idx_part, labels), .required = false},
    {0},
};

static int read_part(const json_t *json, const char *path, struct idx_part *part,
                     struct nn_error *error)
{
    struct field_path at;
    const char *name;
    json_t *file;
    if (fields_read(json, path, part_fields, part, error) != 0)
        return -1;
    field_path_key(&at, path, "features");
    if (!json_is_string(part->features) && !json_is_object(part->features))
        return fields_fail(error, at.text, "a file, or an object of files by input",
                           part->features);
    json_object_foreach((json_t *)part->features, name, file)
        if (!json_is_string(file)) {
            struct field_path member;
            return fields_fail(error, field_path_key(&member, at.text, name), "a file", file);
        }
    return 0;
}

static int check_idx(const json_t *data, struct nn_error *error)
{
    struct idx_settings settings;
    struct idx_part part;
    if (fields_read(data, "data", idx_fields, &settings, error) != 0 ||
        format_check_labels(&settings.common, error) != 0 ||
        read_part(settings.train, "data.train", &part, error) != 0)
        return -1;
    return settings.test ? read_part(settings.test, "data.test", &part, error) : 0;
}

/* The file of input i's features. */
static const char *file_of(const struct idx_part *part, const char *path,
                           const struct dataset_request *request, int i, struct nn_error *error)
{
    const char *name = json_string_value(part->features), *input = request->inputs[i].name;
    if (name && request->n_inputs > 1) {
        nn_fail(error, "%s.features: one file for %d inputs, expected an object of files by "
                       "input", path, request->n_inputs);
        return NULL;
    }
    if (!name)
        name = json_string_value(json_object_get(part->features, input));
    if (!name)
        nn_fail(error, "%s.features: no file for input \"%s\"", path, input);
    return name;
}

static int check_part(const json_t *json, const char *path,
                      const struct dataset_request *request, struct nn_error *error)
{
    struct idx_part part;
    if (!json)
        return 0;
    if (read_part(json, path, &part, error) != 0)
        return -1;
    for (int i = 0; i < request->n_inputs; i++)
        if (!file_of(&part, path, request, i, error))
            return -1;
    if (!part.labels && request->target != TARGET_INPUT)
        return nn_fail(error, "%s.labels: missing", path);
    return 0;
}

static int check_idx_request(const struct dataset_request *request, struct nn_error *error)
{
    struct idx_settings settings;
    if (fields_read(request->data, "data", idx_fields, &settings, error) != 0 ||
        check_part(settings.train, "data.train", request, error) != 0)
        return -1;
    return check_part(settings.test, "data.test", request, error);
}

static int load_features_of_part(struct dataset *set, const struct dataset_request *request,
                                 const struct idx_part *part, const char *part_path,
                                 struct nn_error *error)
{
    for (int i = 0; i < request->n_inputs; i++) {
        const char *name = file_of(part, part_path, request, i, error);
        if (!name)
            return -1;
        char *path = format_path(request, name, error);
        int result = path ? load_feature(set, path, request, i, error) : -1;
        free(path);
        if (result != 0)
            return -1;
    }
    return 0;
}

static int load_idx(struct dataset *set, const struct dataset_request *request,
                    enum dataset_part which, struct nn_error *error)
{
    struct idx_settings settings;
    struct idx_part part;
    struct nn_tensor labels = {0};
    char *path = NULL;
    int result = -1;

    const char *part_path = which == DATASET_TRAIN ? "data.train" : "data.test";
    if (fields_read(request->data, "data", idx_fields, &settings, error) != 0)
        return -1;
    const json_t *json = which == DATASET_TRAIN ? settings.train : settings.test;
    if (!json)
        return nn_fail(error, "%s: missing", part_path);
    if (read_part(json, part_path, &part, error) != 0 ||
        load_features_of_part(set, request, &part, part_path, error) != 0)
        return -1;
    if (request->target == TARGET_INPUT)
        return 0;

    if (!part.labels)
        return nn_fail(error, "%s.labels: missing", part_path);
    if (!(path = format_path(request, part.labels, error)) ||
        read_tensor(path, &labels, error) != 0)
        goto done;
    if (labels.shape.dims[0] != set->n) {
        nn_fail(error, "%s: %lld labels for %lld rows", path, (long long)labels.shape.dims[0],
                (long long)set->n);
        goto done;
    }
    result = request->target == TARGET_CLASSES
           ? take_classes(set, path, request, settings.common.labels, &labels, error)
           : take_values(set, path, request, &labels, error);

done:
    free(labels.data);
    free(path);
    return result;
}

static int load_idx_features(struct dataset *set, const char *path,
                             const struct dataset_request *request, struct nn_error *error)
{
    if (request->n_inputs != 1)
        return nn_fail(error, "%s: an IDX file cannot hold %d inputs", path, request->n_inputs);
    return load_feature(set, path, request, 0, error);
}

const struct dataset_format idx_format = {
    .name = "idx",
    .check = check_idx,
    .check_request = check_idx_request,
    .load = load_idx,
    .load_features = load_idx_features,
};
