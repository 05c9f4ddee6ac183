/*
 * What a body means, apart from how rows are computed: the batcher reads requests of any
 * protocol into one batch and has each answered in its own.
 *
 * A codec belongs to a route. What it has to remember between reading and writing (which
 * outputs are wanted, in what form) is one block at request->state, freed with the request; it
 * may point into request->body, which stays.
 */
#ifndef SERVER_CODEC_H
#define SERVER_CODEC_H

#include "server/http.h"
#include "server/table.h"
#include "server/tensor_rows.h"

struct codec {
    /* Reads the body into rows->data, at most max_rows instances. The caller sets rows->model,
     * and capacity and data to memory that it lends (or capacity 0); where that is not enough
     * the rows move to memory of their own. Returns 0, or a status and why in the error; then
     * nothing is owned. */
    int (*read)(struct http_request *request, const struct served *served,
                struct tensor_rows *rows, int64_t max_rows, struct nn_error *error);

    /* Writes the whole answer from rows [first, first + n) of the outputs: concrete tensors in
     * the model's order. An output that does not begin with the batch is the request's as a
     * whole. -1: it cannot be said (status 500), and why. */
    int (*write)(struct http_request *request, const struct served *served,
                 const struct nn_tensor *outputs, int64_t first, int64_t n,
                 struct nn_error *error);
};

#endif
