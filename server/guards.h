/*
 * What stands between the network and the server, by its options: secrets, origins,
 * certificates. All of it is reread with a reload.
 */
#ifndef SERVER_GUARDS_H
#define SERVER_GUARDS_H

#include "server/access.h"
#include "server/cors.h"
#include "server/options.h"
#include "server/tls.h"

struct guards {
    struct access *access;       /* NULL: anybody may ask */
    struct cors *cors;           /* NULL: no page of another origin may */
    struct tls *tls, *admin_tls; /* of the listeners; NULL: plain */
};

/* -1: the error names the flag or the file; guards_close() all the same. */
int guards_open(struct guards *guards, const struct options *options, struct nn_error *error);
void guards_close(struct guards *guards);

/* Rereads the files. What fails stays as it was and is logged; -1: the error is the first. Any
 * thread, but one at a time. */
int guards_reload(struct guards *guards, struct nn_error *error);

#endif
