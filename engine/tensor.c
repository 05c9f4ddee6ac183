#include "engine/tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* shapes */

int64_t shape_elements(const struct nn_shape *shape)
{
    int64_t n = 1;
    bool empty = false, overflow = false;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dims[i] < 0)
            return -1;
        empty |= shape->dims[i] == 0;
        overflow |= __builtin_mul_overflow(n, shape->dims[i], &n);
    }
    return empty ? 0 : overflow ? -1 : n;
}

int64_t shape_product(const struct nn_shape *shape, int begin, int end)
{
    int64_t n = 1;
    for (int i = begin; i < end && n; i++)
        n *= shape->dims[i];
    return n;
}

bool shape_equal(const struct nn_shape *a, const struct nn_shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i])
            return false;
    return true;
}

/* The dimension of `shape` that meets dimension i of a shape of `rank` when both are aligned
 * at their ends; 1 where there is none. */
static int64_t aligned(const struct nn_shape *shape, int rank, int i)
{
    int own = i - (rank - shape->rank);
    return own < 0 ? 1 : shape->dims[own];
}

int shape_broadcast(const struct nn_shape *a, const struct nn_shape *b, struct nn_shape *out)
{
    struct nn_shape result = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int i = 0; i < result.rank; i++) {
        int64_t da = aligned(a, result.rank, i), db = aligned(b, result.rank, i);
        if (da != db && da != 1 && db != 1)
            return -1;
        result.dims[i] = da == 1 ? db : da;
    }
    *out = result;
    return 0;
}

void shape_broadcast_strides(const struct nn_shape *shape, const struct nn_shape *out,
                             int64_t *strides)
{
    int64_t stride = 1;
    for (int i = out->rank - 1; i >= 0; i--) {
        int64_t dim = aligned(shape, out->rank, i);
        strides[i] = dim == 1 ? 0 : stride;
        stride *= dim;
    }
}

const char *shape_print(const struct nn_shape *shape, struct shape_text *text)
{
    size_t at = 0, size = sizeof text->text;
    at += (size_t)snprintf(text->text, size, "[");
    for (int i = 0; i < shape->rank; i++)
        at += (size_t)snprintf(text->text + at, size - at, "%s%" PRId64, i ? ", " : "",
                               shape->dims[i]);
    snprintf(text->text + at, size - at, "]");
    return text->text;
}

/* tensors */

int64_t tensor_bytes(enum nn_datatype datatype, const struct nn_shape *shape)
{
    int64_t bytes, n = shape_elements(shape);
    if (n < 0 || __builtin_mul_overflow(n, (int64_t)nn_datatype_size(datatype), &bytes))
        return -1;
    return bytes;
}

void *tensor_allocate(size_t bytes)
{
    /* aligned_alloc() wants a multiple of the alignment; no elements are still an address. */
    size_t size;
    if (__builtin_add_overflow(bytes ? bytes : 1, (size_t)TENSOR_ALIGNMENT - 1, &size))
        return NULL;
    size -= size % TENSOR_ALIGNMENT;
    void *memory = aligned_alloc(TENSOR_ALIGNMENT, size);
    if (memory)
        memset(memory, 0, size);
    return memory;
}

void tensor_discard(void *elements, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)elements;
    uintptr_t end = (begin + bytes) / page * page;
    begin = (begin + page - 1) / page * page;
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}
