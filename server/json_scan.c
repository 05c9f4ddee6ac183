#include "server/json_scan.h"

#include "server/number.h"
#include "server/utf8.h"
#include <stdio.h>
#include <string.h>

int json_scan_fail(struct json_scan *s, const char *expected, struct nn_error *error)
{
    json_scan_space(s);
    if (s->p == s->end)
        return nn_fail(error, "unexpected end of the body");
    char got[16];
    unsigned char c = (unsigned char)*s->p;
    snprintf(got, sizeof got, c >= ' ' && c < 0x7f ? "'%c'" : "byte 0x%02x", c);
    return nn_fail(error, "expected %s, got %s (byte %td)", expected, got, s->p - s->begin);
}

const char *json_scan_kind(char c)
{
    switch (c) {
    case '{':
        return "an object";
    case '[':
        return "an array";
    case '"':
        return "a string";
    case 't':
    case 'f':
        return "a boolean";
    case 'n':
        return "null";
    }
    return c == '-' || (c >= '0' && c <= '9') ? "a number" : "something else";
}

/* strings */

/* The value of four hexadecimal digits, or -1. */
static long hex4(const char *p, const char *end)
{
    long value = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = 16 * value + digit;
    }
    return value;
}

/* The character that an escape at p (behind its backslash) stands for; *p moves behind it. -1:
 * there is no such escape. */
static long read_escape(const char **p, const char *end)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (*p == end || **p == '\0')
        return -1;
    char c = *(*p)++;
    const char *letter = strchr(letters, c);
    if (letter)
        return (unsigned char)meanings[letter - letters];

    long high = c == 'u' ? hex4(*p, end) : -1;
    if (high <= 0)
        return -1;
    *p += 4;
    if (high < 0xd800 || high > 0xdfff)
        return high;
    if (high > 0xdbff || end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u')
        return -1;
    long low = hex4(*p + 2, end);
    if (low < 0xdc00 || low > 0xdfff)
        return -1;
    *p += 6;
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

int json_scan_string(struct json_scan *s, struct json_text *text, struct nn_error *error)
{
    if (!json_scan_take(s, '"'))
        return json_scan_fail(s, "a string", error);
    text->begin = s->p;
    while (s->p < s->end && *s->p != '"') {
        const char *at = s->p;
        if ((unsigned char)*at >= 0x20 && (unsigned char)*at < 0x80 && *at != '\\') {
            s->p++;
            continue;
        }
        if (*at == '\\') {
            s->p++;
            if (read_escape(&s->p, s->end) < 0)
                return nn_fail(error, "an invalid escape in a string (byte %td)",
                               at - s->begin);
            continue;
        }
        if ((unsigned char)*at < 0x20)
            return nn_fail(error, "a control character in a string (byte %td)", at - s->begin);
        size_t n = utf8_character(at, s->end);
        if (n == 0)
            return nn_fail(error, "a string that is not UTF-8 (byte %td)", at - s->begin);
        s->p += n;
    }
    if (s->p == s->end)
        return nn_fail(error, "unexpected end of the body");
    text->end = s->p++;
    return 0;
}

/* Writes a character as UTF-8; returns its length. */
static size_t encode(long character, char *out)
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t n = character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; character >>= 6)
        out[i] = (char)(0x80 | (character & 0x3f));
    out[0] = (char)(lead[n > 1 ? n : 0] | character);
    return n;
}

bool json_text_is(const struct json_text *text, const char *name, size_t left)
{
    size_t size = (size_t)(text->end - text->begin);
    /* An escape is longer than what it stands for. */
    if (size < left || (size == left && memcmp(text->begin, name, size) != 0))
        return false;
    if (!memchr(text->begin, '\\', size))
        return size == left;
    for (const char *p = text->begin; p < text->end;) {
        char character[4];
        size_t n = 1;
        if (*p == '\\') {
            p++;
            n = encode(read_escape(&p, text->end), character);
        } else {
            character[0] = *p++;
        }
        if (n > left || memcmp(name, character, n) != 0)
            return false;
        name += n;
        left -= n;
    }
    return left == 0;
}

/* values */

int json_scan_literal(struct json_scan *s, const char *literal, struct nn_error *error)
{
    size_t n = strlen(literal);
    json_scan_space(s);
    for (size_t i = 0; i < n; i++, s->p++)
        if (s->p == s->end || *s->p != literal[i])
            return json_scan_fail(s, literal, error);
    return 0;
}

static int scan_scalar(struct json_scan *s, struct nn_error *error)
{
    struct json_text text;
    switch (json_scan_peek(s)) {
    case '"':
        return json_scan_string(s, &text, error);
    case 't':
        return json_scan_literal(s, "true", error);
    case 'f':
        return json_scan_literal(s, "false", error);
    case 'n':
        return json_scan_literal(s, "null", error);
    }
    return number_skip(&s->p, s->end) ? 0 : json_scan_fail(s, "a value", error);
}

static int scan_key(struct json_scan *s, struct nn_error *error)
{
    struct json_text key;
    if (json_scan_peek(s) != '"')
        return json_scan_fail(s, "a key", error);
    if (json_scan_string(s, &key, error) != 0)
        return -1;
    return json_scan_take(s, ':') ? 0 : json_scan_fail(s, "':'", error);
}

/* The arrays and objects that are open are bits of a number, the innermost one lowest: 1 is an
 * object. */
int json_scan_value(struct json_scan *s, struct nn_error *error)
{
    uint64_t objects = 0;
    int depth = 0;
    do {
        bool opened = false;
        char c = json_scan_peek(s);
        if (c == '[' || c == '{') {
            if (depth == JSON_SCAN_MAX_DEPTH)
                return nn_fail(error, "nested deeper than %d (byte %td)", JSON_SCAN_MAX_DEPTH,
                               s->p - s->begin);
            objects = objects << 1 | (c == '{');
            depth++;
            s->p++;
            opened = true;
        } else if (scan_scalar(s, error) != 0) {
            return -1;
        }

        /* Close what ends here, until there is a next element to come. */
        while (depth > 0) {
            bool object = objects & 1;
            if (json_scan_take(s, object ? '}' : ']')) {
                objects >>= 1;
                depth--;
                opened = false;
                continue;
            }
            if (!opened && !json_scan_take(s, ','))
                return json_scan_fail(s, object ? "',' or '}'" : "',' or ']'", error);
            if (object && scan_key(s, error) != 0)
                return -1;
            break;
        }
    } while (depth > 0);
    return 0;
}

int json_scan_document(const char *text, size_t size, struct nn_error *error)
{
    struct json_scan s = {text, text, text + size};
    if (json_scan_value(&s, error) != 0)
        return -1;
    json_scan_space(&s);
    return s.p == s.end ? 0 : json_scan_fail(&s, "nothing more", error);
}

bool json_scan_find(struct json_scan *s, const char *name)
{
    struct json_text key;
    if (!json_scan_take(s, '{') || json_scan_take(s, '}'))
        return false;
    do {
        if (json_scan_string(s, &key, NULL) != 0 || !json_scan_take(s, ':'))
            return false;
        if (json_text_equal(&key, name))
            return true;
        if (json_scan_value(s, NULL) != 0)
            return false;
    } while (json_scan_take(s, ','));
    return false;
}
