/*
 * What a request's body is read into: rows of every input of a model, side by side, in memory
 * that is lent (a session's) or owned.
 */
#ifndef SERVER_TENSOR_ROWS_H
#define SERVER_TENSOR_ROWS_H

#include "engine/engine.h"

enum { TENSOR_MAX_PORTS = 64 };

struct tensor_rows {
    const struct nn_model *model;
    int64_t n;                    /* rows that were read */
    int64_t capacity;             /* rows that data has room for */
    bool owned;                   /* data was allocated here, not lent by the caller */
    void *data[TENSOR_MAX_PORTS]; /* per input, [capacity, ...] */
};

/* Moves the rows to memory of their own with room for `capacity`; of input i the first kept[i]
 * come along. -1: no memory; nothing has changed. */
int tensor_rows_grow(struct tensor_rows *rows, int64_t capacity, const int64_t *kept);
void tensor_rows_release(struct tensor_rows *rows);

/* Copies n rows, from `first` on, to a session's inputs from row `at` on. */
void tensor_rows_copy(const struct tensor_rows *rows, int64_t first, int64_t n,
                      struct nn_session *session, int64_t at);

/* Of an element of the first axis; of the whole where there is no axis. */
int64_t tensor_row_elements(const struct nn_port *port);
size_t tensor_row_bytes(const struct nn_port *port);

/* How many rows an input takes whatever the number of instances; 0: one for each. */
int64_t tensor_fixed_rows(const struct nn_port *port);

#endif
