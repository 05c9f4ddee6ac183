#include "server/utf8.h"

#include <stdint.h>

size_t utf8_character(const char *p, const char *end)
{
    const unsigned char *s = (const unsigned char *)p;
    if (p >= end)
        return 0;
    if (s[0] < 0x80)
        return 1;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || (size_t)(end - p) < n)
        return 0;
    uint32_t character = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        character = character << 6 | (s[i] & 0x3f);
    }
    if (n == 3 && (character < 0x800 || (character >= 0xd800 && character < 0xe000)))
        return 0;
    if (n == 4 && (character < 0x10000 || character > 0x10ffff))
        return 0;
    return n;
}
