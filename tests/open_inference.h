/*
 * A server with a client of the Open Inference Protocol V2.
 */
#ifndef TESTS_OPEN_INFERENCE_H
#define TESTS_OPEN_INFERENCE_H

#include "tests/server_fixture.h"

#define PORT(name, datatype, shape) \
    "{\"name\":\"" name "\",\"datatype\":\"" datatype "\",\"shape\":" shape "}"
#define IDENTITY(x, y) "{\"op\":\"Identity\",\"inputs\":[\"" x "\"],\"outputs\":[\"" y "\"]}"

/* A request with the one input x; a row of four numbers for it. */
#define X(members) "{\"inputs\":[{\"name\":\"x\"," members "}]}"
#define FP32_1_4 "\"shape\":[1,4],\"datatype\":\"FP32\""
#define GOOD FP32_1_4 ",\"data\":[1,2,3,4]"

struct v2_client {
    struct fixture server;
    struct client *client;
};

/* Serves batches of at most 4 rows and requests of at most 16 of these models:
 *   m, version 3    publish_linear()
 *   simple          Triton's example: sum and difference of INPUT0 and INPUT1, INT32 [-1, 4]
 *   types           identities of f FP32, l INT64, i INT32, u UINT8, b BOOL to F, L, I, U, B
 *   image           identity of [-1, 1, 2, 2]
 *   classes         identity of [-1, 3], with labels
 *   fixed           identity of [2, 2], without a batch */
void v2_open(struct v2_client *c);
void v2_close(struct v2_client *c);

/* The answer has to be exactly `body`, or to contain it when it does not begin with a brace. */
void v2_expect(struct v2_client *c, const char *method, const char *path, const char *header,
               const char *send, size_t size, int status, const char *body);

/* The answer to a POST has to begin so. */
void v2_expect_begin(struct v2_client *c, const char *path, const char *send, int status,
                     const char *begin);

/* An inference with binary data behind the JSON; to be freed by reply_free(). */
struct reply *v2_send_binary(struct v2_client *c, const char *model, const char *json,
                             const void *data, size_t size);

/* The bytes of JSON in front of an answer's binary data. */
size_t v2_json_length(const struct reply *r);

#endif
