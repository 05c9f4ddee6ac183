/*
 * SHA-256 (FIPS 180-4): which file it is that is served, as sha256sum says it, too.
 */
#ifndef SERVER_SHA256_H
#define SERVER_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BLOCK = 64, SHA256_TEXT = 65 };

struct sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    unsigned char block[SHA256_BLOCK];
};

void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *bytes, size_t n);

/* Lower-case hexadecimal digits. */
void sha256_end(struct sha256 *hash, char text[SHA256_TEXT]);

/* Of a file's bytes. -1 with errno; then `text` is empty. */
int sha256_file(char text[SHA256_TEXT], const char *path);

#endif
