#include "engine/formats/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/formats/atomic_file.h"
#include "engine/formats/json_read.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "elements are copied as they are: the format is little-endian");

enum { LENGTH_BYTES = 8 };      /* the header's length, in front of everything */

static const char METADATA[] = "__metadata__";

static const char *const dtypes[] = {
    [NN_FP32] = "F32",  [NN_FP64] = "F64",   [NN_FP16] = "F16",   [NN_BF16] = "BF16",
    [NN_INT8] = "I8",   [NN_INT16] = "I16",  [NN_INT32] = "I32",  [NN_INT64] = "I64",
    [NN_UINT8] = "U8",  [NN_UINT16] = "U16", [NN_UINT32] = "U32", [NN_UINT64] = "U64",
    [NN_BOOL] = "BOOL",
};

/* The build that checks gradients computes in double: its FP32 tensors are not F32. */
static int check_float(enum nn_datatype datatype, struct nn_error *error)
{
    if (datatype == NN_FP32 && sizeof(nn_real) != sizeof(float))
        return nn_fail(error, "F32 tensors need a build that computes in float");
    return 0;
}

/* searching */

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct safetensors_entry *)a)->name,
                  ((const struct safetensors_entry *)b)->name);
}

static int compare_metadata(const void *a, const void *b)
{
    return strcmp(((const struct safetensors_metadata *)a)->key,
                  ((const struct safetensors_metadata *)b)->key);
}

/* What was read is sorted: a graph of many nodes looks up many names. */
const struct nn_tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    if (file->n_entries == 0)
        return NULL;
    struct safetensors_entry key = {.name = name};
    const struct safetensors_entry *entry =
        bsearch(&key, file->entries, (size_t)file->n_entries, sizeof key, compare_entries);
    return entry ? &entry->tensor : NULL;
}

const char *safetensors_metadata(const struct safetensors *file, const char *key)
{
    for (int i = 0; i < file->n_metadata; i++)
        if (strcmp(file->metadata[i].key, key) == 0)
            return file->metadata[i].value;
    return NULL;
}

void safetensors_release(struct safetensors *file)
{
    for (int i = 0; i < file->n_entries; i++)
        free((char *)file->entries[i].name);
    for (int i = 0; i < file->n_metadata; i++) {
        free((char *)file->metadata[i].key);
        free((char *)file->metadata[i].value);
    }
    free(file->entries);
    free(file->metadata);
    free(file->data);
    *file = (struct safetensors){0};
}

/* reading the header */

/* Where a tensor's elements lie, from the end of the header. */
struct extent {
    int64_t begin, end;
    struct safetensors_entry *entry;
};

static int compare_extents(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int read_dtype(const json_t *value, enum nn_datatype *datatype,
                      struct nn_error *error)
{
    const json_t *name = json_read_member(value, "dtype", JSON_STRING, error);
    if (!name)
        return -1;
    for (int i = 0; i < NN_DATATYPES; i++)
        if (strcmp(dtypes[i], json_string_value(name)) == 0) {
            *datatype = (enum nn_datatype)i;
            return check_float(*datatype, error);
        }
    return nn_fail(error, "\"dtype\": \"%s\" is not supported (F64, F32, F16, BF16, I64 to I8, U64 to "
                   "U8 and BOOL are)", json_string_value(name));
}

/* Writes the elements of an array of integers >= 0 to `out`. */
static int read_sizes(const json_t *value, const char *key, int64_t *out,
                      struct nn_error *error)
{
    size_t i;
    json_t *element;
    json_array_foreach((json_t *)value, i, element)
    {
        if (!json_is_integer(element) || json_integer_value(element) < 0)
            return nn_fail(error, "\"%s\"[%zu]: expected an integer from 0 on, got %s", key, i,
                           json_is_integer(element) ? "a negative one"
                                                    : json_read_kind(element));
        out[i] = json_integer_value(element);
    }
    return 0;
}

static int read_entry(const json_t *value, struct nn_tensor *tensor, struct extent *extent,
                      struct nn_error *error)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets", NULL};
    if (json_read_keys(value, keys, error) != 0)
        return -1;
    if (read_dtype(value, &tensor->datatype, error) != 0)
        return -1;

    const json_t *shape = json_read_member(value, "shape", JSON_ARRAY, error);
    if (!shape)
        return -1;
    if (json_array_size(shape) > NN_MAX_RANK)
        return nn_fail(error, "\"shape\": %zu dimensions, at most %d are supported",
                       json_array_size(shape), NN_MAX_RANK);
    tensor->shape.rank = (int)json_array_size(shape);
    if (read_sizes(shape, "shape", tensor->shape.dims, error) != 0)
        return -1;

    const json_t *offsets = json_read_member(value, "data_offsets", JSON_ARRAY, error);
    if (!offsets)
        return -1;
    if (json_array_size(offsets) != 2)
        return nn_fail(error, "\"data_offsets\": expected 2 integers, got %zu elements",
                       json_array_size(offsets));
    int64_t range[2];
    if (read_sizes(offsets, "data_offsets", range, error) != 0)
        return -1;
    extent->begin = range[0];
    extent->end = range[1];
    if (extent->end < extent->begin)
        return nn_fail(error, "its elements end at %lld, before they begin at %lld",
                       (long long)extent->end, (long long)extent->begin);

    struct shape_text text;
    int64_t bytes = tensor_bytes(tensor->datatype, &tensor->shape);
    if (bytes < 0)
        return nn_fail(error, "the shape %s is too large", shape_print(&tensor->shape, &text));
    if (bytes != extent->end - extent->begin)
        return nn_fail(error, "the shape %s of %s takes %lld bytes, but its offsets span %lld",
                       shape_print(&tensor->shape, &text), dtypes[tensor->datatype],
                       (long long)bytes, (long long)(extent->end - extent->begin));
    return 0;
}

static int read_metadata(const json_t *object, struct safetensors *file,
                         struct nn_error *error)
{
    if (!json_is_object(object))
        return nn_fail(error, "%s: expected an object, got %s", METADATA,
                       json_read_kind(object));
    file->metadata = calloc(json_object_size(object) + 1, sizeof *file->metadata);
    if (!file->metadata)
        return nn_fail(error, "out of memory");

    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        if (!json_is_string(value))
            return nn_fail(error, "%s: \"%s\": expected a string, got %s", METADATA, key,
                           json_read_kind(value));
        struct safetensors_metadata *metadata = &file->metadata[file->n_metadata++];
        metadata->key = strdup(key);
        metadata->value = strdup(json_string_value(value));
        if (!metadata->key || !metadata->value)
            return nn_fail(error, "out of memory");
    }
    return 0;
}

/* Fills in file's entries and metadata, and `extents` (one per entry, by position). */
static int read_header(const json_t *header, struct safetensors *file,
                       struct extent *extents, struct nn_error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)header, key, value)
    {
        if (strcmp(key, METADATA) == 0) {
            if (read_metadata(value, file, error) != 0)
                return -1;
            continue;
        }
        struct safetensors_entry *entry = &file->entries[file->n_entries];
        struct extent *extent = &extents[file->n_entries++];
        entry->name = strdup(key);
        if (!entry->name)
            return nn_fail(error, "out of memory");
        extent->entry = entry;
        if (read_entry(value, &entry->tensor, extent, error) != 0)
            return nn_fail_in(error, "tensor \"%s\"", key);
    }
    return 0;
}

/* Without holes, overlaps and trailing bytes there is nothing in a file but what its header
 * describes. */
static int check_tiling(const struct extent *extents, int n, int64_t size,
                        struct nn_error *error)
{
    int64_t end = 0;
    for (int i = 0; i < n; i++) {
        if (extents[i].begin != end)
            return nn_fail(error,
                           "tensor \"%s\": begins at %lld, the one before it ends at %lld",
                           extents[i].entry->name, (long long)extents[i].begin,
                           (long long)end);
        end = extents[i].end;
    }
    if (end != size)
        return nn_fail(error, "the tensors take %lld bytes, but the file has %lld for them",
                       (long long)end, (long long)size);
    return 0;
}

/* reading the file */

static int read_fully(int fd, void *data, size_t size, struct nn_error *error)
{
    for (char *p = data; size > 0;) {
        ssize_t n = read(fd, p, size < (1 << 30) ? size : (1 << 30));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return nn_fail(error, "cannot be read: %s", strerror(errno));
        if (n == 0)
            return nn_fail(error, "the file ends while it is being read");
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

static size_t slot(const struct nn_tensor *tensor)
{
    size_t bytes = (size_t)tensor_bytes(tensor->datatype, &tensor->shape);
    return (bytes + TENSOR_ALIGNMENT - 1) / TENSOR_ALIGNMENT * TENSOR_ALIGNMENT;
}

/* In the file tensors are packed; in memory each gets an aligned slot. */
static int read_tensors(int fd, struct safetensors *file, const struct extent *extents,
                        struct nn_error *error)
{
    size_t total = 0;           /* <= file size + alignment * entries: cannot overflow */
    for (int i = 0; i < file->n_entries; i++)
        total += slot(&file->entries[i].tensor);
    file->data = tensor_allocate(total > 0 ? total : TENSOR_ALIGNMENT);
    if (!file->data)
        return nn_fail(error, "out of memory for %zu bytes of tensors", total);

    char *p = file->data;
    for (int i = 0; i < file->n_entries; i++) {
        struct nn_tensor *tensor = &extents[i].entry->tensor;
        tensor->data = p;
        p += slot(tensor);
        if (read_fully(fd, tensor->data, (size_t)(extents[i].end - extents[i].begin),
                       error) != 0)
            return -1;
    }
    qsort(file->entries, (size_t)file->n_entries, sizeof *file->entries, compare_entries);
    return 0;
}

static int read_length(int fd, int64_t size, uint64_t *length, struct nn_error *error)
{
    if (size < LENGTH_BYTES)
        return nn_fail(error, "%lld bytes are too few for a safetensors file",
                       (long long)size);
    if (read_fully(fd, length, sizeof *length, error) != 0)
        return -1;
    if (*length > SAFETENSORS_MAX_HEADER)
        return nn_fail(error, "a header of %llu bytes; the limit is %d",
                       (unsigned long long)*length, SAFETENSORS_MAX_HEADER);
    if (*length > (uint64_t)(size - LENGTH_BYTES))
        return nn_fail(error, "a header of %llu bytes in a file of %lld",
                       (unsigned long long)*length, (long long)size);
    return 0;
}

static int read_descriptor(int fd, struct safetensors *file, struct nn_error *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return nn_fail(error, "cannot be examined: %s", strerror(errno));
    if (!S_ISREG(status.st_mode))
        return nn_fail(error, "not a regular file");

    uint64_t length;
    if (read_length(fd, status.st_size, &length, error) != 0)
        return -1;

    int result = -1;
    char *text = malloc(length + 1);
    json_t *header = NULL;
    struct extent *extents = NULL;
    if (!text) {
        nn_fail(error, "out of memory");
        goto done;
    }
    if (read_fully(fd, text, length, error) != 0)
        goto done;
    header = json_read_text(text, length, error);
    if (!header) {
        nn_fail_in(error, "header");
        goto done;
    }
    if (!json_is_object(header)) {
        nn_fail(error, "header: expected an object, got %s", json_read_kind(header));
        goto done;
    }

    size_t n = json_object_size(header);
    file->entries = calloc(n + 1, sizeof *file->entries);
    extents = calloc(n + 1, sizeof *extents);
    if (!file->entries || !extents) {
        nn_fail(error, "out of memory");
        goto done;
    }
    if (read_header(header, file, extents, error) != 0)
        goto done;
    qsort(extents, (size_t)file->n_entries, sizeof *extents, compare_extents);
    if (check_tiling(extents, file->n_entries, status.st_size - LENGTH_BYTES - (int64_t)length,
                     error) != 0)
        goto done;
    result = read_tensors(fd, file, extents, error);

done:
    free(extents);
    json_decref(header);
    free(text);
    return result;
}

int safetensors_read(struct safetensors *file, const char *path, struct nn_error *error)
{
    *file = (struct safetensors){0};

    /* Not blocking: a FIFO without a writer must not hold us up before it is refused. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return nn_fail(error, "%s: %s", path, strerror(errno));
    int result = read_descriptor(fd, file, error);
    close(fd);
    if (result != 0) {
        safetensors_release(file);
        nn_fail_in(error, "%s", path);
    }
    return result;
}

/* writing */

/* Larger elements first, so that each lies at a multiple of its size; then by name. */
static int compare_layout(const void *a, const void *b)
{
    const struct safetensors_entry *x = *(const struct safetensors_entry *const *)a;
    const struct safetensors_entry *y = *(const struct safetensors_entry *const *)b;
    size_t x_size = nn_datatype_size(x->tensor.datatype);
    size_t y_size = nn_datatype_size(y->tensor.datatype);
    if (x_size != y_size)
        return x_size > y_size ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* {"dtype", "shape", "data_offsets"} of a tensor that begins at *offset, which is moved
 * behind it. NULL: no memory. */
static json_t *describe_entry(const struct nn_tensor *tensor, int64_t *offset)
{
    json_t *shape = json_array();
    int result = 0;
    for (int i = 0; i < tensor->shape.rank; i++)
        result |= json_array_append_new(shape, json_integer(tensor->shape.dims[i]));
    int64_t begin = *offset;
    *offset += tensor_bytes(tensor->datatype, &tensor->shape);
    /* O, not o: a json_pack() that fails leaks what it should have taken over. */
    json_t *entry = result == 0 ? json_pack("{s:s, s:O, s:[I, I]}", "dtype",
                                            dtypes[tensor->datatype], "shape", shape,
                                            "data_offsets", (json_int_t)begin,
                                            (json_int_t)*offset)
                                : NULL;
    json_decref(shape);
    return entry;
}

static int check_entry(const struct safetensors_entry *entry, struct nn_error *error)
{
    const struct nn_tensor *tensor = &entry->tensor;
    if (strcmp(entry->name, METADATA) == 0)
        return nn_fail(error, "this name is reserved");
    if (tensor_bytes(tensor->datatype, &tensor->shape) < 0)
        return nn_fail(error, "its shape is too large or has a negative dimension");
    return check_float(tensor->datatype, error);
}

/* Sets a member of the header; steals `value`. */
static int describe(json_t *object, const char *key, json_t *value, struct nn_error *error)
{
    if (json_object_get(object, key)) {
        json_decref(value);
        return nn_fail(error, "\"%s\" is there twice", key);
    }
    if (json_object_set_new(object, key, value) != 0)
        return nn_fail(error, "\"%s\" is not UTF-8, or there is no memory for it", key);
    return 0;
}

/* The header of `entries`, which are in the order of their elements. NULL: it failed. */
static json_t *describe_file(const struct safetensors *file,
                             const struct safetensors_entry *const *entries,
                             struct nn_error *error)
{
    json_t *header = json_object(), *metadata = json_object();
    for (int i = 0; i < file->n_metadata; i++)
        if (describe(metadata, file->metadata[i].key, json_string(file->metadata[i].value),
                     error) != 0)
            goto fail;
    if (file->n_metadata > 0 && describe(header, METADATA, json_incref(metadata), error) != 0)
        goto fail;

    int64_t offset = 0;
    for (int i = 0; i < file->n_entries; i++) {
        if (check_entry(entries[i], error) != 0) {
            nn_fail_in(error, "tensor \"%s\"", entries[i]->name);
            goto fail;
        }
        if (describe(header, entries[i]->name, describe_entry(&entries[i]->tensor, &offset),
                     error) != 0)
            goto fail;
    }
    json_decref(metadata);
    return header;

fail:
    json_decref(metadata);
    json_decref(header);
    return NULL;
}

/* Length and text of the header, padded so that the elements begin at a multiple of 8. NULL:
 * it failed. */
static char *print_header(const json_t *header, size_t *size, struct nn_error *error)
{
    size_t length = json_dumpb(header, NULL, 0, JSON_COMPACT);
    uint64_t padded = (length + 7) / 8 * 8;
    if (padded > SAFETENSORS_MAX_HEADER) {
        nn_fail(error, "a header of %zu bytes; the limit is %d", length,
                SAFETENSORS_MAX_HEADER);
        return NULL;
    }
    char *text = malloc(LENGTH_BYTES + padded);
    if (!text || length == 0) {
        free(text);
        nn_fail(error, "out of memory");
        return NULL;
    }
    memcpy(text, &padded, LENGTH_BYTES);
    memset(text + LENGTH_BYTES, ' ', padded);
    if (json_dumpb(header, text + LENGTH_BYTES, length, JSON_COMPACT) != length) {
        free(text);
        nn_fail(error, "out of memory");
        return NULL;
    }
    *size = LENGTH_BYTES + padded;
    return text;
}

int safetensors_write(const struct safetensors *file, const char *path,
                      struct nn_error *error)
{
    int result = -1;
    size_t n = (size_t)file->n_entries, n_metadata = (size_t)file->n_metadata;
    struct safetensors sorted = *file;
    const struct safetensors_entry **entries = calloc(n + 1, sizeof *entries);
    struct iovec *parts = calloc(n + 1, sizeof *parts);
    sorted.metadata = calloc(n_metadata + 1, sizeof *sorted.metadata);
    json_t *header = NULL;
    char *text = NULL;
    if (!entries || !parts || !sorted.metadata) {
        nn_fail(error, "out of memory");
        goto done;
    }

    for (size_t i = 0; i < n; i++)
        entries[i] = &file->entries[i];
    qsort(entries, n, sizeof *entries, compare_layout);
    for (size_t i = 0; i < n_metadata; i++)
        sorted.metadata[i] = file->metadata[i];
    qsort(sorted.metadata, n_metadata, sizeof *sorted.metadata, compare_metadata);

    header = describe_file(&sorted, entries, error);
    if (!header)
        goto done;
    text = print_header(header, &parts[0].iov_len, error);
    if (!text)
        goto done;
    parts[0].iov_base = text;
    for (size_t i = 0; i < n; i++)
        parts[i + 1] = (struct iovec){
            entries[i]->tensor.data,
            (size_t)tensor_bytes(entries[i]->tensor.datatype, &entries[i]->tensor.shape)};
    result = atomic_file_write(path, parts, file->n_entries + 1, error);

done:
    if (result != 0)
        nn_fail_in(error, "%s", path);
    free(text);
    json_decref(header);
    free(sorted.metadata);
    free(parts);
    free(entries);
    return result;
}
