/*
 * What reading a body is made of, inside json_tensor.h: where the reader is, how it fails, and
 * one row of one input.
 */
#ifndef SERVER_JSON_READER_H
#define SERVER_JSON_READER_H

#include "server/json_scan.h"
#include "server/json_tensor.h"

enum { JSON_BAD_REQUEST = 400, JSON_NO_MEMORY = 500 };

/* What is wrong with a value that is JSON, for protocols that have a word for it. */
enum json_complaint {
    JSON_OTHER,
    JSON_TOO_FEW,
    JSON_TOO_MANY,
    JSON_WRONG_TYPE,
    JSON_WRONG_INPUTS,          /* one is missing or unknown */
};

/* An input, as rows of it are read. */
struct json_column {
    const struct nn_port *port;
    int rank;                   /* of a row */
    const int64_t *dims;
    int64_t elements;           /* of a row */
    size_t row_bytes;
    int64_t fixed;              /* exactly so many rows; 0: as many as there are instances */
    int64_t n;                  /* rows that were read */
};

struct json_reader {
    struct json_scan scan;
    struct tensor_rows *rows;
    struct nn_error *error;
    int64_t max_rows;
    int status;                 /* of the first failure; 0: none */
    enum json_complaint complaint;
    int n_columns;
    struct json_column columns[TENSOR_MAX_PORTS];

    /* What TensorFlow Serving allows besides: an only input's rows without its name in
     * "inputs", or with it in "instances"; a row of one element without brackets. */
    bool loose;

    /* Where we are, for messages. */
    const char *form;           /* the field that rows are read from */
    bool by_column;             /* <form>.<name>[row] instead of <form>[row] */
    int64_t row;                /* -1: not in a row yet */
    const struct json_column *column;   /* NULL: not in one yet */
    int depth;                  /* of index, inside the row */
    int64_t index[NN_MAX_RANK];
};

/* Begins with a body; rows->model is set, nothing has been read. */
void json_reader_init(struct json_reader *r, struct tensor_rows *rows, const char *body,
                      size_t size, int64_t max_rows, struct nn_error *error);

/* Describes a failure: its place in words, the reason, and the position of what comes next.
 * Returns -1. */
int json_reader_fail(struct json_reader *r, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same in a protocol's own words alone, with status 400. */
int json_reader_refuse(struct json_reader *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What comes next is not JSON, or not what has to come there; NULL: the scanner has said so.
 * Returns -1. */
int json_reader_fail_syntax(struct json_reader *r, const char *expected);

/* "a string": the kind of value that comes next, by its first character. */
const char *json_reader_next(struct json_reader *r);

/* The two forms of rows, which have to come next: a list of instances, or a list for each
 * input. Sets rows->n. `form` is the field's name. */
int json_reader_instances(struct json_reader *r, const char *form);
int json_reader_inputs(struct json_reader *r, const char *form);

/* Moves behind the '[' that has to come next. */
int json_reader_open(struct json_reader *r);

/* Reads the next row of an input to its place, which is made if there is none. */
int json_reader_row(struct json_reader *r, struct json_column *c);

/* Reads an array of exactly n rows, or of all their elements in row-major order, to the place
 * of the first row, where there is room. */
int json_reader_tensor(struct json_reader *r, struct json_column *c, int64_t n);

#endif
