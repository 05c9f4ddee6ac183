/*
 * UTF-8 (RFC 3629).
 */
#ifndef SERVER_UTF8_H
#define SERVER_UTF8_H

#include <stddef.h>

/* The bytes (1 to 4) of the character that begins at p, before end; 0: there is none, or it is
 * overlong, a surrogate or above U+10FFFF. */
size_t utf8_character(const char *p, const char *end);

#endif
