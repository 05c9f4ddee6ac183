/*
 * Tensors as JSON: from a request's body straight into input tensors, from output tensors
 * into an answer. No tree, no recursion, memory bounded by the limits.
 */
#ifndef SERVER_JSON_TENSOR_H
#define SERVER_JSON_TENSOR_H

#include "engine/engine.h"
#include "server/buffer.h"
#include "server/tensor_rows.h"

/* Reads the body of a predict request:
 *
 *     {"instances": [row, ...]}    a row is a value of exactly the input's nesting, or its
 *                                  elements flat in row-major order; with several inputs an
 *                                  object of them by name
 *     {"inputs": {name: [row, ...], ...}}
 *
 * into rows->data. The caller sets model, and capacity and data to memory that it lends (or
 * capacity 0); when more rows come, they move to memory of their own (owned). An input with a
 * fixed first dimension takes exactly that many rows.
 *
 * Returns 0, or the HTTP status: 400 (also more than max_rows instances), 500 (no memory). The
 * error says where: "instances[2][0][5]: expected a number, got a string (byte 134)"; bytes
 * count from 0. A body that is not JSON is told so before anything else. On failure nothing is
 * owned. */
int json_rows_read(struct tensor_rows *rows, const char *body, size_t size, int64_t max_rows,
                   struct nn_error *error);

/* Writes the rows [first, first + n) of the outputs (concrete tensors, in the model's order)
 * as the value of "predictions": an array by row, of objects by name when there are several
 * outputs. Where one does not have a row for each of the request they are written whole, as
 * {"name": ...} or alone. -1: an element is not finite. */
int json_write_predictions(struct buffer *out, const struct nn_model *model,
                           const struct nn_tensor *outputs, int64_t first, int64_t n,
                           struct nn_error *error);

/* The same by column: an array, or an object of arrays by name when there are several outputs.
 * -1: an element is not finite. */
int json_write_columns(struct buffer *out, const struct nn_model *model,
                       const struct nn_tensor *outputs, int64_t first, int64_t n,
                       struct nn_error *error);

/* Writes n elements from number `first` on as one flat array. -1: one is not finite. */
int json_write_elements(struct buffer *out, const struct nn_tensor *tensor, int64_t first,
                        int64_t n);

/* One element. -1: it is not finite. */
int json_write_element(struct buffer *out, const struct nn_tensor *tensor, int64_t i);

/* {"name": ..., "datatype": "FP32", "shape": [-1, 4]} */
void json_write_port(struct buffer *out, const struct nn_port *port);

/* "inputs": [port, ...], "outputs": [port, ...] */
void json_write_ports(struct buffer *out, const struct nn_model *model);

/* The value of "labels": by row the name of the largest element of output 0; for a single
 * output per row and two labels, whether it is above 0.5. Nothing and false when the model
 * names no classes or their number does not fit. */
bool json_write_labels(struct buffer *out, const struct nn_model *model,
                       const struct nn_tensor *output, int64_t first, int64_t n);

#endif
