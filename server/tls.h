/*
 * TLS: certificates for a listener, which a reload renews, and a client for --healthcheck. The
 * server's door to GnuTLS; sessions themselves are the HTTP library's.
 */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include "engine/engine.h"
#include <sys/types.h>

/* TLS 1.2 and 1.3, in GnuTLS's words. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

enum { TLS_FILE = 1 << 20 }; /* bytes of a file, at most */

/* A certificate with its chain, and its key. Immutable, reference counted. */
struct tls_pair;

/* What the files are in PEM. NULL: the error names the file. The names have to stay. */
struct tls *tls_open(const char *certificate_file, const char *key_file,
                     struct nn_error *error);
void tls_free(struct tls *tls); /* NULL is allowed */

/* Reads the files again, for the handshakes from then on; any thread. -1: the error says what
 * is wrong, the old pair stays. */
int tls_reload(struct tls *tls, struct nn_error *error);

/* The certificate's file. */
const char *tls_file(const struct tls *tls);

/* When the certificate expires, in seconds since 1970. */
int64_t tls_expires(struct tls *tls);

/* The pair of now; give it back with tls_release(). Any thread. */
struct tls_pair *tls_take(struct tls *tls);
void tls_release(struct tls_pair *pair); /* NULL is allowed */

/* PEM text, for as long as the pair is held. */
const char *tls_certificate(const struct tls_pair *pair);
const char *tls_key(const struct tls_pair *pair);

/* Has a GnuTLS session, whose handshake has not begun, present the pair. The pair has to be
 * held until the session has ended. -1: no memory. */
int tls_present(const struct tls_pair *pair, void *session);

/* a client's side of a connection */

/* Shakes hands on a connected socket within so many milliseconds, with whoever is there:
 * nothing is verified. NULL: *why says why not. */
struct tls_client *tls_client_open(int socket, unsigned milliseconds, const char **why);
void tls_client_close(struct tls_client *client);

/* As send() and recv(), with errno. */
ssize_t tls_client_send(struct tls_client *client, const void *data, size_t size);
ssize_t tls_client_receive(struct tls_client *client, void *data, size_t size);

#endif
