/*
 * What the operating system gives us: descriptors, memory, listening sockets.
 */
#ifndef SERVER_SYSTEM_H
#define SERVER_SYSTEM_H

#include "engine/engine.h"
#include "server/buffer.h"

/* Raises the limit of open descriptors as far as it goes and returns it. */
int64_t system_raise_descriptors(void);

/* Resident memory in bytes; processor seconds used; open descriptors; -1: unknown. */
int64_t system_resident(void);
double system_processor_seconds(void);
int64_t system_descriptors(void);

/* Adds a regular file's bytes to `text`. -1: the error names the file; also when it has more
 * than `most`. */
int system_read_file(struct buffer *text, const char *path, size_t most,
                     struct nn_error *error);

/* Whether `host` is an address of this machine's loopback, or "localhost". */
bool system_is_loopback(const char *host);

enum { SYSTEM_QUEUE = 1024 }; /* connections that the kernel holds until they are accepted */

/* A listening, non-blocking socket. "0.0.0.0" and "::" mean every address of both
 * protocols, as far as the machine has them. Port 0 takes a free one; *port is the one
 * taken. -1: the error names the host and port. */
int system_listen(const char *host, int64_t *port, struct nn_error *error);

#endif
