#include "server/guards.h"

#include "server/log.h"
#include <time.h>

/* Expired, it is presented all the same: some clients do not mind, and nothing at all would be
 * worse for them. */
static void log_certificate(struct tls *tls)
{
    int64_t expires = tls_expires(tls);
    bool expired = expires <= time(NULL);
    log_event(expired ? LOG_WARNING : LOG_INFO, expired ? "certificate expired" : "certificate",
              LOG_TEXT("file", tls_file(tls)), LOG_INTEGER("expires", expires));
}

/* 0 also where no files are named. */
static int open_tls(struct tls **tls, const char *certificate, const char *key,
                    struct nn_error *error)
{
    if (!certificate)
        return 0;
    *tls = tls_open(certificate, key, error);
    if (!*tls)
        return -1;
    log_certificate(*tls);
    return 0;
}

int guards_open(struct guards *g, const struct options *o, struct nn_error *error)
{
    *g = (struct guards){0};
    if (o->cors_origins && !(g->cors = cors_open(o->cors_origins, error)))
        return -1;
    if ((o->admin_token_file || o->api_key_file) &&
        !(g->access = access_open(o->admin_token_file, o->api_key_file, error)))
        return -1;
    if (open_tls(&g->tls, o->tls_cert, o->tls_key, error) < 0)
        return -1;
    return open_tls(&g->admin_tls, o->admin_tls_cert, o->admin_tls_key, error);
}

void guards_close(struct guards *g)
{
    access_free(g->access);
    cors_free(g->cors);
    tls_free(g->tls);
    tls_free(g->admin_tls);
}

static int kept(const char *event, const struct nn_error *why, struct nn_error *error)
{
    log_event(LOG_ERROR, event, LOG_TEXT("reason", why->text));
    return nn_fail(error, "%s", why->text);
}

static int reload_tls(struct tls *tls, struct nn_error *error)
{
    struct nn_error why = {0};
    if (!tls)
        return 0;
    if (tls_reload(tls, &why) < 0)
        return kept("certificate kept", &why, error);
    log_certificate(tls);
    return 0;
}

int guards_reload(struct guards *g, struct nn_error *error)
{
    struct nn_error why = {0};
    int result = 0;
    if (g->access && access_reload(g->access, &why) < 0)
        result = kept("secrets kept", &why, error);
    if (reload_tls(g->tls, error) < 0)
        result = -1;
    if (reload_tls(g->admin_tls, error) < 0)
        result = -1;
    return result;
}
