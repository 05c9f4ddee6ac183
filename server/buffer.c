#include "server/buffer.h"

#include "server/number.h"
#include "server/utf8.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buffer_release(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){0};
}

char *buffer_reserve(struct buffer *b, size_t more)
{
    if (b->failed)
        return NULL;
    if (more <= b->capacity - b->size)
        return b->data + b->size;

    size_t wanted, capacity = b->capacity < 128 ? 256 : 2 * b->capacity;
    char *data = NULL;
    if (!__builtin_add_overflow(b->size, more, &wanted) && wanted <= SIZE_MAX / 4)
        data = realloc(b->data, wanted > capacity ? wanted : capacity);
    if (!data) {
        b->failed = true;
        return NULL;
    }
    b->data = data;
    b->capacity = wanted > capacity ? wanted : capacity;
    return b->data + b->size;
}

void buffer_add(struct buffer *b, const char *bytes, size_t n)
{
    char *out = n > 0 ? buffer_reserve(b, n) : NULL;
    if (out) {
        memcpy(out, bytes, n);
        b->size += n;
    }
}

void buffer_add_text(struct buffer *b, const char *text)
{
    buffer_add(b, text, strlen(text));
}

void buffer_add_integer(struct buffer *b, int64_t value)
{
    char *out = buffer_reserve(b, NUMBER_MAX_TEXT);
    if (out)
        b->size += number_write_integer(out, value);
}

void buffer_printf(struct buffer *b, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int n = vsnprintf(NULL, 0, format, arguments);
    char *out = n >= 0 ? buffer_reserve(b, (size_t)n + 1) : NULL;
    if (out) {
        vsnprintf(out, (size_t)n + 1, format, again);
        b->size += (size_t)n;
    } else {
        b->failed = true;
    }
    va_end(again);
    va_end(arguments);
}

/* Bytes of text, up to the first that JSON may want otherwise. */
static size_t plain(const char *text)
{
    size_t n = 0;
    while ((unsigned char)text[n] >= 0x20 && (unsigned char)text[n] < 0x80 && text[n] != '"' &&
           text[n] != '\\')
        n++;
    return n;
}

/* The letter behind the backslash for characters that have a short escape, else 0. */
static char escape_letter(char c)
{
    switch (c) {
    case '"':
    case '\\':
        return c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    }
    return 0;
}

void buffer_add_json_string(struct buffer *b, const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";       /* U+FFFD */
    const char *end = text + strlen(text);
    buffer_add(b, "\"", 1);
    for (size_t n; text < end; text += n ? n : 1) {
        n = plain(text);
        if (n > 0) {
            buffer_add(b, text, n);
            continue;
        }
        n = utf8_character(text, end);
        char letter = escape_letter(*text);
        if (n == 0)
            buffer_add_text(b, replacement);
        else if (letter)
            buffer_add(b, (char[]){'\\', letter}, 2);
        else if ((unsigned char)*text < 0x20)
            buffer_printf(b, "\\u%04x", (unsigned)*text);
        else
            buffer_add(b, text, n);
    }
    buffer_add(b, "\"", 1);
}
