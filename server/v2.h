/*
 * Bodies of the Open Inference Protocol V2: JSON, and the binary data that may follow it.
 *
 * Numbers and bytes go straight into input rows. Shape and datatype have to be exactly the
 * model's; a client's mistake is told in Triton's words where it has some.
 */
#ifndef SERVER_V2_H
#define SERVER_V2_H

#include "server/buffer.h"
#include "server/json_scan.h"
#include "server/table.h"
#include "server/tensor_rows.h"

/* An output that is wanted. */
struct v2_output {
    int index;
    bool binary;
    int64_t classes; /* of each row the best so many, as text; 0: the tensor */
    size_t bytes;    /* v2_write()'s own */
};

/* What an answer depends on besides the outputs. */
struct v2_request {
    struct json_text id; /* as it was written, without quotes; begin NULL: none */
    int64_t priority;    /* 1: before all others; 0: not said */
    int64_t timeout;     /* microseconds that the client wants to wait; 0: not said */
    int n_outputs;
    struct v2_output outputs[]; /* each of the model's at most once */
};

/* Reads a body as codec.h says. The first json_length bytes are JSON, the rest is binary data;
 * -1: all is JSON, 0: nothing is, -2: nobody knows. *request is allocated and the caller's,
 * also on failure, and points into the body. */
int v2_read(struct v2_request **request, const struct served *served, struct tensor_rows *rows,
            const char *body, size_t size, int64_t json_length, int64_t max_rows,
            struct nn_error *error);

/* Writes the answer as codec.h says. *json_length becomes the bytes of JSON in front of
 * binary data, or 0 when there is none. */
int v2_write(struct buffer *out, size_t *json_length, struct v2_request *request,
             const struct served *served, const struct nn_tensor *outputs, int64_t first,
             int64_t n, struct nn_error *error);

#endif
