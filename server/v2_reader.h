/*
 * What reading a V2 body is made of, inside v2.h: where the reader is, and the kinds of values
 * that the protocol has.
 *
 * Functions that return an int return 0, or -1 when the request is refused: then the reader's
 * status and error say why.
 */
#ifndef SERVER_V2_READER_H
#define SERVER_V2_READER_H

#include "server/json_reader.h"
#include "server/v2.h"

struct v2_reader {
    struct json_reader json;
    struct v2_request *request;
    const char *model;                  /* its name */
    const char *binary, *end;           /* what has not been taken of the binary data */
    bool all_binary;                    /* what outputs are that do not say */
    signed char form[TENSOR_MAX_PORTS]; /* of outputs: 1 binary, 0 JSON, -1 not said */
    bool seen[TENSOR_MAX_PORTS];        /* inputs */
    bool has_inputs, has_outputs;
    int64_t rows; /* 0: not known yet */
};

/* The value that comes next; `what` is its name in messages. */
int v2_reader_string(struct v2_reader *v, const char *what, struct json_text *text);
int v2_reader_boolean(struct v2_reader *v, const char *what, bool *value);

/* At most `max`. Beyond INT64_MAX, which `max` may be, one number is as good as another. */
int v2_reader_unsigned(struct v2_reader *v, const char *what, uint64_t max, int64_t *value);

/* Calls `read` for each member, whose value comes next, or each element. */
typedef int v2_read_member(struct v2_reader *v, const struct json_text *key, void *context);
typedef int v2_read_element(struct v2_reader *v, void *context);
int v2_reader_object(struct v2_reader *v, const char *what, v2_read_member *read,
                     void *context);
int v2_reader_array(struct v2_reader *v, const char *what, v2_read_element *read,
                    void *context);

/* Moves behind any value, or behind one of a parameter that means nothing to us: it is let
 * through when it may be one. */
int v2_reader_skip(struct v2_reader *v);
int v2_reader_skip_parameter(struct v2_reader *v, const struct json_text *key);

/* JSON of the protocol has no numbers of the small floating-point types. */
bool v2_needs_binary(const struct nn_port *port);

#endif
