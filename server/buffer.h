/*
 * A growing run of bytes.
 */
#ifndef SERVER_BUFFER_H
#define SERVER_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    char *data;                 /* NULL while capacity is 0 */
    size_t size, capacity;
    bool failed;                /* memory ran out: what is in it is incomplete */
};

void buffer_release(struct buffer *b);

/* Room for `more` bytes behind data + size, which is returned; NULL when there is none. The
 * caller adds to size what it used. */
char *buffer_reserve(struct buffer *b, size_t more);

void buffer_add(struct buffer *b, const char *bytes, size_t n);
void buffer_add_text(struct buffer *b, const char *text);
void buffer_add_integer(struct buffer *b, int64_t value);
void buffer_printf(struct buffer *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void buffer_add_json_string(struct buffer *b, const char *text);

#endif
