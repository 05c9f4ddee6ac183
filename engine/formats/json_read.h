/*
 * What reading checked JSON through Jansson, and writing it, has in common wherever a file is
 * described in it.
 */
#ifndef FORMATS_JSON_READ_H
#define FORMATS_JSON_READ_H

#include <jansson.h>

#include "engine/engine.h"

/* Has Jansson allocate through us; by nn_engine_start(). */
void json_read_start(void);

/* json_loadb(), but that where memory runs out it always returns NULL and says so. */
json_t *json_read_load(const char *text, size_t size, size_t flags, json_error_t *reason);

/* Parses a document, refusing duplicate keys. The caller owns what is returned; NULL: the
 * error says where, "line 1, column 7: ...". */
json_t *json_read_text(const char *text, size_t size, struct nn_error *error);

/* json_dumps(), but never with something left out: Jansson 2.14 overlooks that there was no
 * memory for a key. To be given back with free(); NULL: no memory, or the value has no text. */
char *json_print(const json_t *value, size_t flags);

/* "a string", "an integer", "nothing" (NULL) ...: what came, for messages. */
const char *json_read_kind(const json_t *value);

/* Checks that `value` is an object with no other keys than `keys`, which NULL ends. */
int json_read_keys(const json_t *value, const char *const *keys, struct nn_error *error);

/* The member `key` of an object if it is of `type`, borrowed; NULL with an error otherwise. */
json_t *json_read_member(const json_t *object, const char *key, json_type type,
                         struct nn_error *error);

#endif
