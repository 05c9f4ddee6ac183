/*
 * Names of models and of their versions, and what a misspelt word was meant to be.
 */
#ifndef SERVER_NAMES_H
#define SERVER_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_NAME_SIZE = 65 };

/* [A-Za-z0-9_.-]{1,64}, not beginning with a dot: a model's name, or a label's. */
bool name_is_valid(const char *name, size_t size);

/* A version as it is written: 1 to 18 digits, no leading zero. -1: it is none. */
int64_t name_version(const char *text, size_t size);

/* The most similar of `names`, which NULL ends; NULL: none is similar. */
const char *name_nearest(const char *word, const char *const *names);

#endif
