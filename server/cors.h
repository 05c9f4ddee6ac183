/*
 * Which pages of other origins may use the server from a browser (the Fetch standard's CORS
 * protocol): the list of --cors-origins. Immutable.
 */
#ifndef SERVER_CORS_H
#define SERVER_CORS_H

#include "engine/engine.h"

/* `list`: origins like https://example.org:8443, with commas between them, or * for any. NULL:
 * the error says what is wrong with it. */
struct cors *cors_open(const char *list, struct nn_error *error);
void cors_free(struct cors *cors);

/* What Access-Control-Allow-Origin says to this origin, which stays as long as the list; NULL:
 * it is not allowed. */
const char *cors_allows(const struct cors *cors, const char *origin);

/* Whether the answer is the same for every origin. */
bool cors_allows_any(const struct cors *cors);

#endif
