#include "server/tls.h"

#include "server/buffer.h"
#include "server/system.h"
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ROOM = 4 << 20 }; /* bytes: much more than is taken meanwhile, also by others */

struct tls_pair {
    atomic_int references;
    struct buffer certificate, key; /* PEM, and a zero behind it */
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t tickets; /* the key of sessions that are resumed */
    int64_t expires;
};

struct tls {
    const char *certificate_file, *key_file;
    pthread_mutex_t lock; /* guards what follows */
    struct tls_pair *pair;
};

/* GMP aborts where there is no memory for a number, and libtasn1 4.19 writes all the same: both
 * end the process. So neither a handshake nor the reading of a pair is begun where memory is
 * about to run out. */
static bool has_room(void)
{
    void *room = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return false;
    munmap(room, ROOM);
    return true;
}

/* pairs */

void tls_release(struct tls_pair *p)
{
    if (!p || atomic_fetch_sub(&p->references, 1) > 1)
        return;
    if (p->credentials)
        gnutls_certificate_free_credentials(p->credentials);
    if (p->tickets.data)
        gnutls_memset(p->tickets.data, 0, p->tickets.size);
    gnutls_free(p->tickets.data);
    if (p->key.data)
        explicit_bzero(p->key.data, p->key.size);
    buffer_release(&p->certificate);
    buffer_release(&p->key);
    free(p);
}

static int read_pem(struct buffer *text, const char *path, struct nn_error *error)
{
    if (system_read_file(text, path, TLS_FILE, error) < 0)
        return -1;
    buffer_add(text, "", 1);
    return text->failed ? nn_fail(error, "%s: out of memory", path) : 0;
}

static gnutls_datum_t datum(const struct buffer *text)
{
    return (gnutls_datum_t){(unsigned char *)text->data, (unsigned)text->size - 1};
}

/* The chain's first certificate is the server's own. */
static int read_certificate(struct tls_pair *p, const char *path, struct nn_error *error)
{
    gnutls_datum_t pem = datum(&p->certificate);
    gnutls_x509_crt_t *chain = NULL;
    unsigned n = 0;
    int result = gnutls_x509_crt_list_import2(&chain, &n, &pem, GNUTLS_X509_FMT_PEM, 0);

    if (result < 0)
        return nn_fail(error, "%s: expected certificates in PEM: %s", path,
                       gnutls_strerror(result));
    p->expires = n > 0 ? (int64_t)gnutls_x509_crt_get_expiration_time(chain[0]) : 0;
    for (unsigned i = 0; i < n; i++)
        gnutls_x509_crt_deinit(chain[i]);
    gnutls_free(chain);
    return 0;
}

static int read_key(struct tls_pair *p, const struct tls *t, struct nn_error *error)
{
    gnutls_datum_t certificate = datum(&p->certificate), key = datum(&p->key);
    int result = gnutls_certificate_allocate_credentials(&p->credentials);

    if (result == 0)
        result = gnutls_session_ticket_key_generate(&p->tickets);
    if (result < 0)
        return nn_fail(error, "%s: %s", t->key_file, gnutls_strerror(result));
    result = gnutls_certificate_set_x509_key_mem2(p->credentials, &certificate, &key,
                                                  GNUTLS_X509_FMT_PEM, NULL, 0);
    if (result == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
        return nn_fail(error, "%s: is not the key of %s", t->key_file, t->certificate_file);
    if (result < 0)
        return nn_fail(error, "%s: expected a private key in PEM, without a password: %s",
                       t->key_file, gnutls_strerror(result));
    return 0;
}

/* NULL: the error says why. */
static struct tls_pair *read_pair(const struct tls *t, struct nn_error *error)
{
    struct tls_pair *p = has_room() ? calloc(1, sizeof *p) : NULL;
    if (!p) {
        nn_fail(error, "%s: out of memory", t->certificate_file);
        return NULL;
    }
    atomic_init(&p->references, 1);
    if (read_pem(&p->certificate, t->certificate_file, error) < 0 ||
        read_pem(&p->key, t->key_file, error) < 0 ||
        read_certificate(p, t->certificate_file, error) < 0 || read_key(p, t, error) < 0) {
        tls_release(p);
        return NULL;
    }
    return p;
}

/* listeners */

struct tls *tls_open(const char *certificate_file, const char *key_file, struct nn_error *error)
{
    struct tls *t = calloc(1, sizeof *t);
    if (!t) {
        nn_fail(error, "out of memory");
        return NULL;
    }
    t->certificate_file = certificate_file;
    t->key_file = key_file;
    t->pair = read_pair(t, error);
    if (!t->pair) {
        free(t);
        return NULL;
    }
    pthread_mutex_init(&t->lock, NULL);
    return t;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    tls_release(t->pair);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

int tls_reload(struct tls *t, struct nn_error *error)
{
    struct tls_pair *pair = read_pair(t, error);
    if (!pair)
        return -1;
    pthread_mutex_lock(&t->lock);
    struct tls_pair *old = t->pair;
    t->pair = pair;
    pthread_mutex_unlock(&t->lock);
    tls_release(old);
    return 0;
}

struct tls_pair *tls_take(struct tls *t)
{
    pthread_mutex_lock(&t->lock);
    struct tls_pair *pair = t->pair;
    atomic_fetch_add(&pair->references, 1);
    pthread_mutex_unlock(&t->lock);
    return pair;
}

const char *tls_file(const struct tls *t)
{
    return t->certificate_file;
}

int64_t tls_expires(struct tls *t)
{
    struct tls_pair *pair = tls_take(t);
    int64_t expires = pair->expires;
    tls_release(pair);
    return expires;
}

const char *tls_certificate(const struct tls_pair *p)
{
    return p->certificate.data;
}

const char *tls_key(const struct tls_pair *p)
{
    return p->key.data;
}

static int before_hello(gnutls_session_t session, unsigned type, unsigned when,
                        unsigned incoming, const gnutls_datum_t *message)
{
    (void)session, (void)type, (void)when, (void)incoming, (void)message;
    return has_room() ? 0 : GNUTLS_E_MEMORY_ERROR;
}

int tls_present(const struct tls_pair *p, void *session)
{
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_CLIENT_HELLO, GNUTLS_HOOK_PRE,
                                       before_hello);
    /* A ticket spares the certificate, so a new pair takes no tickets of an old one. */
    return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, p->credentials) < 0 ||
                   gnutls_session_ticket_enable_server(session, &p->tickets) < 0
               ? -1
               : 0;
}

/* clients */

struct tls_client {
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
};

static int shake_hands(struct tls_client *c, int socket, unsigned milliseconds)
{
    int result = gnutls_certificate_allocate_credentials(&c->credentials);
    if (result == 0)
        result = gnutls_init(&c->session, GNUTLS_CLIENT);
    if (result == 0)
        result = gnutls_set_default_priority(c->session);
    if (result == 0)
        result = gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, c->credentials);
    if (result < 0)
        return result;
    gnutls_transport_set_int(c->session, socket);
    gnutls_handshake_set_timeout(c->session, milliseconds);
    do
        result = gnutls_handshake(c->session);
    while (result == GNUTLS_E_INTERRUPTED || result == GNUTLS_E_WARNING_ALERT_RECEIVED);
    return result;
}

struct tls_client *tls_client_open(int socket, unsigned milliseconds, const char **why)
{
    struct tls_client *c = calloc(1, sizeof *c);
    int result = c ? shake_hands(c, socket, milliseconds) : GNUTLS_E_MEMORY_ERROR;
    if (result == 0)
        return c;
    *why = gnutls_strerror(result);
    tls_client_close(c);
    return NULL;
}

void tls_client_close(struct tls_client *c)
{
    if (!c)
        return;
    if (c->session)
        gnutls_deinit(c->session);
    if (c->credentials)
        gnutls_certificate_free_credentials(c->credentials);
    free(c);
}

static ssize_t with_errno(ssize_t result)
{
    if (result >= 0)
        return result;
    errno = result == GNUTLS_E_AGAIN ? EAGAIN : result == GNUTLS_E_INTERRUPTED ? EINTR : EPROTO;
    return -1;
}

ssize_t tls_client_send(struct tls_client *c, const void *data, size_t size)
{
    return with_errno(gnutls_record_send(c->session, data, size));
}

ssize_t tls_client_receive(struct tls_client *c, void *data, size_t size)
{
    ssize_t n = gnutls_record_recv(c->session, data, size);
    /* Who only closes the connection has said no less. */
    return n == GNUTLS_E_PREMATURE_TERMINATION ? 0 : with_errno(n);
}
