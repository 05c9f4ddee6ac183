/*
 * Bodies that wait for a worker to read them, in the order in which they came.
 *
 * No locks: whoever uses a list holds the workers'.
 */
#ifndef SERVER_READING_H
#define SERVER_READING_H

#include "server/codec.h"
#include "server/table.h"

struct reading {
    struct http_request *request;
    const struct codec *codec;
    struct served *served; /* a reference */
    int64_t limit;         /* nanoseconds from the request's beginning */
    int64_t max_piece;     /* as for prediction_new() */
    struct reading *next;
};

/* Zeros are an empty one. */
struct readings {
    struct reading *first, *last;
};

/* A copy of what was wanted, with a reference of its own to the version. NULL: no memory. */
struct reading *reading_new(const struct reading *wanted);
void reading_free(struct reading *reading);

/* Whether nobody wants the answer any more. */
bool reading_is_late(const struct reading *reading, int64_t now);

void readings_put(struct readings *all, struct reading *reading);
struct reading *readings_take(struct readings *all); /* NULL: there is none */

/* Takes all those out that are late, linked by next. */
struct reading *readings_take_late(struct readings *all, int64_t now);

#endif
