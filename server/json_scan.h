/*
 * JSON text, walked over in one pass: no tree, no recursion, no memory.
 *
 * What is accepted is RFC 8259 as Jansson reads it: UTF-8 without a mark in front, no lone
 * surrogates and no \u0000 in strings. Nesting ends at JSON_SCAN_MAX_DEPTH. Positions in
 * messages count bytes from 0.
 */
#ifndef SERVER_JSON_SCAN_H
#define SERVER_JSON_SCAN_H

#include "engine/engine.h"
#include <string.h>

enum { JSON_SCAN_MAX_DEPTH = 64 };

struct json_scan {
    const char *begin, *p, *end;        /* p: what comes next */
};

/* A string's text between its quotes, as it was written. */
struct json_text {
    const char *begin, *end;
};

static inline void json_scan_space(struct json_scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
        s->p++;
}

/* What comes next, behind white space; '\0' at the end (and for a zero byte). */
static inline char json_scan_peek(struct json_scan *s)
{
    json_scan_space(s);
    return s->p < s->end ? *s->p : '\0';
}

/* Moves behind `c` if it comes next. */
static inline bool json_scan_take(struct json_scan *s, char c)
{
    if (json_scan_peek(s) != c || s->p == s->end)
        return false;
    s->p++;
    return true;
}

/* "expected a comma, got '}' (byte 17)", or "unexpected end of the body". Returns -1. */
int json_scan_fail(struct json_scan *s, const char *expected, struct nn_error *error);

/* What kind of value begins with that character: "a string", "a number" ... */
const char *json_scan_kind(char c);

/* Moves behind the string, literal or value that comes next. */
int json_scan_string(struct json_scan *s, struct json_text *text, struct nn_error *error);
int json_scan_literal(struct json_scan *s, const char *literal, struct nn_error *error);
int json_scan_value(struct json_scan *s, struct nn_error *error);

/* Whether the whole text is one JSON value. */
int json_scan_document(const char *text, size_t size, struct nn_error *error);

/* In a text that json_scan_document() accepted: moves to the value of the object's first member
 * of that name. false: what comes next is no object, or has none. */
bool json_scan_find(struct json_scan *s, const char *name);

/* How many bytes of a text a message shows, for %.*s. */
static inline int json_text_shown(const struct json_text *text)
{
    return text->end - text->begin > 60 ? 60 : (int)(text->end - text->begin);
}

/* Whether a string, its escapes resolved, is the `size` bytes of a name. */
bool json_text_is(const struct json_text *text, const char *name, size_t size);

/* The same for a name that ends with a NUL. */
static inline bool json_text_equal(const struct json_text *text, const char *name)
{
    return json_text_is(text, name, strlen(name));
}

#endif
