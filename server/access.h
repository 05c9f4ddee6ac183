/*
 * Who may ask: the secrets of --admin-token-file and --api-key-file.
 *
 * A file holds one secret a line; blank lines, and lines that begin with #, mean nothing.
 * Several make it possible to change them one after another. Any thread may call what takes an
 * access.
 */
#ifndef SERVER_ACCESS_H
#define SERVER_ACCESS_H

#include "engine/engine.h"

enum {
    ACCESS_SECRETS = 1024, /* of a file, at most */
    ACCESS_SECRET = 256,   /* bytes of each, at most; printable ASCII without blanks */
    ACCESS_FILE = 1 << 20, /* bytes of a file, at most */
};

enum access_role {
    ACCESS_NOBODY, /* no such secret */
    ACCESS_CLIENT, /* an API key */
    ACCESS_ADMIN,  /* an admin token */
};

/* Either file may be NULL. NULL: the error names the file, and the line but not the secret. The
 * names have to stay. */
struct access *access_open(const char *token_file, const char *key_file,
                           struct nn_error *error);
void access_free(struct access *access);

/* Reads the files again. A file that cannot be read, is malformed or holds no secret leaves
 * what was known of it, and -1: the error names the first such file. */
int access_reload(struct access *access, struct nn_error *error);

/* Whether there is a file of this kind. */
bool access_has_tokens(const struct access *access);
bool access_has_keys(const struct access *access);

/* Whose secret this is. The time depends on how many secrets there are, and on nothing that
 * they hold. */
enum access_role access_role(struct access *access, const char *secret, size_t size);

#endif
