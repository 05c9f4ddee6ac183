/*
 * SHA-256 (FIPS 180-4) of a file: which one it is that is served, as sha256sum says it, too.
 */
#ifndef SERVER_SHA256_H
#define SERVER_SHA256_H

enum { SHA256_TEXT = 65 };

/* Lower-case hexadecimal digits. -1 with errno; then `text` is empty. */
int sha256_file(char text[SHA256_TEXT], const char *path);

#endif
