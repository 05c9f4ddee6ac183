#include "engine/formats/json_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where its buffer cannot grow, Jansson 2.14 leaves out a character and goes on: with another
 * number, or into an assertion. So its memory never runs out while it reads: then it gets some
 * of a reserve and no more text, and what it read is thrown away. */

enum {
    PIECE = 64,              /* bytes of text that it is given at a time */
    PIECE_MEMORY = 16 << 10, /* more than it can take for what is in one piece */
};

struct reading {
    const char *p, *end; /* the text that is left */
    char *reserve;       /* for the longest token, twice, and one piece */
    size_t size, used;   /* of the reserve; used: memory ran out */
};

/* What this thread reads; NULL: nothing. */
static _Thread_local struct reading *reading;

static void *allocate(size_t size)
{
    void *memory = malloc(size);
    if (memory || !reading)
        return memory;
    size_t rounded = (size + 15) & ~(size_t)15;
    if (rounded < size || rounded > reading->size - reading->used)
        return NULL;
    memory = reading->reserve + reading->used;
    reading->used += rounded;
    return memory;
}

static void release(void *memory)
{
    const char *p = memory;
    if (reading && p >= reading->reserve && p < reading->reserve + reading->size)
        return;
    free(memory);
}

void json_read_start(void)
{
    json_set_alloc_funcs(allocate, release);
}

static size_t give_piece(void *buffer, size_t size, void *data)
{
    struct reading *r = data;
    size_t n = (size_t)(r->end - r->p);
    n = n > PIECE ? PIECE : n;
    if (r->used > 0 || size < n)
        return 0;
    memcpy(buffer, r->p, n);
    r->p += n;
    return n;
}

json_t *json_read_load(const char *text, size_t size, size_t flags, json_error_t *reason)
{
    struct reading r = {.p = text, .end = text + size};
    json_t *value = NULL;
    if (!__builtin_mul_overflow(size, 2, &r.size) &&
        !__builtin_add_overflow(r.size, PIECE_MEMORY, &r.size))
        r.reserve = malloc(r.size);
    r.used = !r.reserve;
    if (r.reserve) {
        reading = &r;
        value = json_load_callback(give_piece, &r, flags, reason);
        if (r.used) {
            json_decref(value);
            value = NULL;
        }
        reading = NULL;
    }
    if (r.used)
        *reason = (json_error_t){.line = 1, .text = "out of memory"};
    free(r.reserve);
    return value;
}

json_t *json_read_text(const char *text, size_t size, struct nn_error *error)
{
    json_error_t reason;
    json_t *value = json_read_load(text, size, JSON_REJECT_DUPLICATES, &reason);
    if (!value)
        nn_fail(error, "line %d, column %d: %s", reason.line, reason.column, reason.text);
    return value;
}

struct printed {
    char *text;
    size_t size, capacity;
    bool failed;
};

static int add_printed(const char *bytes, size_t n, void *data)
{
    struct printed *p = data;
    size_t needed;
    p->failed |= __builtin_add_overflow(p->size, n + 1, &needed) || needed > SIZE_MAX / 2;
    if (!p->failed && needed > p->capacity) {
        char *text = realloc(p->text, 2 * needed);
        p->failed = !text;
        p->text = text ? text : p->text;
        p->capacity = text ? 2 * needed : p->capacity;
    }
    if (p->failed)
        return -1;
    memcpy(p->text + p->size, bytes, n);
    p->size += n;
    p->text[p->size] = '\0';
    return 0;
}

char *json_print(const json_t *value, size_t flags)
{
    struct printed p = {0};
    if (json_dump_callback(value, add_printed, &p, flags) == 0 && !p.failed)
        return p.text;
    free(p.text);
    return NULL;
}

static const char *type_name(json_type type)
{
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction or an exponent";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

const char *json_read_kind(const json_t *value)
{
    return value ? type_name(json_typeof(value)) : "nothing";
}

int json_read_keys(const json_t *value, const char *const *keys, struct nn_error *error)
{
    if (!json_is_object(value))
        return nn_fail(error, "expected an object, got %s", json_read_kind(value));

    const char *key;
    json_t *member;
    json_object_foreach((json_t *)value, key, member)
    {
        const char *const *known = keys;
        while (*known && strcmp(*known, key) != 0)
            known++;
        if (*known)
            continue;

        char valid[256] = "";
        for (known = keys; *known; known++)
            snprintf(valid + strlen(valid), sizeof valid - strlen(valid), "%s\"%s\"",
                     known == keys ? ""
                     : known[1]    ? ", "
                                   : " and ",
                     *known);
        return nn_fail(error, "unknown key \"%s\"; known are %s", key, valid);
    }
    return 0;
}

json_t *json_read_member(const json_t *object, const char *key, json_type type,
                         struct nn_error *error)
{
    json_t *member = json_object_get(object, key);
    if (member && json_typeof(member) == type)
        return member;
    nn_fail(error, "\"%s\": expected %s, got %s", key, type_name(type), json_read_kind(member));
    return NULL;
}
