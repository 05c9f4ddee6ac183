/*
 * The safetensors container: named tensors and string metadata in one file.
 *
 *     u64 little-endian N | N bytes of JSON header | tensors, packed, little-endian
 *
 * https://github.com/huggingface/safetensors, "Format". This reader refuses what the reference
 * reader refuses, and besides: duplicate keys, unknown keys in a tensor's entry, a header
 * above 1 MiB, rank above 8, datatypes that the engine has not.
 */
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include "engine/tensor.h"

enum { SAFETENSORS_MAX_HEADER = 1 << 20 };

struct safetensors_entry {
    const char *name;
    struct nn_tensor tensor;    /* data: in the file's memory, aligned to TENSOR_ALIGNMENT */
};

struct safetensors_metadata {
    const char *key, *value;
};

struct safetensors {
    int n_entries, n_metadata;
    struct safetensors_entry *entries;
    struct safetensors_metadata *metadata;
    void *data;                 /* all tensors' memory, one block */
};

/* Reads the whole file through one descriptor: every size is checked against the file before
 * memory is taken for it, and nothing is mapped. Entries come
 * sorted by name. The text of an error begins with the path. On failure *file is empty. */
int safetensors_read(struct safetensors *file, const char *path, struct nn_error *error);
void safetensors_release(struct safetensors *file);

/* Writes entries (larger elements first, then by name) and metadata (by key), the same bytes
 * for the same content; as atomic_file_write() does, so that a reader sees the old file or
 * the new one. FP32 only as float. */
int safetensors_write(const struct safetensors *file, const char *path,
                      struct nn_error *error);

/* NULL: it is not there. Of files that were read. */
const struct nn_tensor *safetensors_find(const struct safetensors *file, const char *name);
const char *safetensors_metadata(const struct safetensors *file, const char *key);

#endif
