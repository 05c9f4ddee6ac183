/*
 * Reading JSON objects by description: a row names a key once, and reads, checks, defaults
 * and documents it.
 *
 *     static const struct field pool_fields[] = {
 *         {"kernel", FIELD_INT_OR_PAIR, offsetof(struct pool, kernel), .min = 1, .max = 4096,
 *          .required = true},
 *         {0},
 *     };
 */
#ifndef TRAINER_FIELDS_H
#define TRAINER_FIELDS_H

#include <jansson.h>

#include "engine/engine.h"

enum field_kind { FIELD_INT, FIELD_REAL, FIELD_BOOL, FIELD_STRING, FIELD_CHOICE, FIELD_JSON,
                  FIELD_INT_OR_PAIR };

struct field {
    const char *key;            /* NULL ends the rows */
    enum field_kind kind;
    size_t offset;              /* int64_t, double, bool, const char *, int, const json_t *,
                                   int64_t[2]; strings and JSON stay the object's */
    double initial;             /* when the key is absent; NULL for strings and JSON */
    double min, max;            /* of numbers; both 0: any that is finite */
    const char *const *choices; /* FIELD_CHOICE: names ended by NULL; the value is the index */
    bool required;
    bool min_open, max_open;    /* min or max itself is not allowed; max may be INFINITY */
};

/* Fills `out` from the object by its rows. Every key must have a row: the error is
 * "PATH.kernal: unknown key, did you mean \"kernel\"?". `path` is the object's own, "" for
 * the whole file. */
int fields_read(const json_t *object, const char *path, const struct field *fields, void *out,
                struct nn_error *error);

/* The same for one row, whatever other keys the object has. */
int field_read(const json_t *object, const char *path, const struct field *field, void *out,
               struct nn_error *error);

/* The nearest of the names (ended by NULL) to `word`, by edit distance: at most 3, and less
 * than the word is long; or NULL. */
const char *nearest_name(const char *word, const char *const *names);

/* "expected WHAT, got VALUE" at a path, with the value as JSON, shortened; or "expected WHAT,
 * got nothing" for NULL. Returns -1. */
int fields_fail(struct nn_error *error, const char *path, const char *what,
                const json_t *got);

/* Names of inputs and layers become names of tensors: 1 to 64 letters, digits or _-./ and none
 * that a bundle uses itself (golden..., probabilities, predictions). */
int field_check_name(const char *name, const char *path, struct nn_error *error);

/* "PATH.KEY" ("KEY" for path "") and "PATH[INDEX]" into the caller's buffer, which is also
 * returned; what does not fit is cut. */
struct field_path {
    char text[256];
};
const char *field_path_key(struct field_path *out, const char *path, const char *key);
const char *field_path_index(struct field_path *out, const char *path, size_t index);

#endif
