#include "server/tensor_rows.h"

#include <stdlib.h>
#include <string.h>

int64_t tensor_row_elements(const struct nn_port *port)
{
    int64_t elements = 1;
    for (int d = 1; d < port->shape.rank; d++)
        elements *= port->shape.dims[d];
    return elements;
}

size_t tensor_row_bytes(const struct nn_port *port)
{
    return (size_t)tensor_row_elements(port) * nn_datatype_size(port->datatype);
}

int64_t tensor_fixed_rows(const struct nn_port *port)
{
    return port->shape.rank == 0 ? 1 : port->shape.dims[0] < 0 ? 0 : port->shape.dims[0];
}

int tensor_rows_grow(struct tensor_rows *rows, int64_t capacity, const int64_t *kept)
{
    enum { ALIGNMENT = 64 };
    int n = nn_model_n_inputs(rows->model);
    void *data[TENSOR_MAX_PORTS] = {NULL};
    for (int i = 0; i < n; i++) {
        const struct nn_port *port = nn_model_input(rows->model, i);
        int64_t fixed = tensor_fixed_rows(port);
        size_t bytes;
        if (__builtin_mul_overflow(tensor_row_bytes(port), (size_t)(fixed ? fixed : capacity),
                                   &bytes) ||
            bytes == 0 || posix_memalign(&data[i], ALIGNMENT, bytes) != 0) {
            while (i-- > 0)
                free(data[i]);
            return -1;
        }
        if (kept[i] > 0)
            memcpy(data[i], rows->data[i], tensor_row_bytes(port) * (size_t)kept[i]);
    }
    for (int i = 0; i < n; i++) {
        if (rows->owned)
            free(rows->data[i]);
        rows->data[i] = data[i];
    }
    rows->owned = true;
    rows->capacity = capacity;
    return 0;
}

void tensor_rows_release(struct tensor_rows *rows)
{
    if (rows->owned)
        for (int i = 0; i < TENSOR_MAX_PORTS; i++) {
            free(rows->data[i]);
            rows->data[i] = NULL;
        }
    rows->owned = false;
    rows->capacity = 0;
}

void tensor_rows_copy(const struct tensor_rows *rows, int64_t first, int64_t n,
                      struct nn_session *session, int64_t at)
{
    for (int i = 0; i < nn_model_n_inputs(rows->model); i++) {
        const struct nn_port *port = nn_model_input(rows->model, i);
        size_t bytes = tensor_row_bytes(port);
        int64_t fixed = tensor_fixed_rows(port);
        memcpy((char *)nn_session_input(session, i) + (size_t)at * bytes,
               (const char *)rows->data[i] + (size_t)first * bytes,
               (size_t)(fixed ? fixed : n) * bytes);
    }
}
