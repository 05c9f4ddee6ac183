#include "server/cors.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct cors {
    char *text; /* each ends with a zero */
    size_t n;
    const char *origins[];
};

/* A scheme, a host and perhaps a port, as a browser sends it: without a path. */
static bool is_origin(const char *s)
{
    const char *host = strstr(s, "://");
    if (!host || host == s ||
        strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != (size_t)(host - s))
        return false;
    host += 3;
    for (const char *p = host; *p; p++)
        if (*p <= ' ' || *p > '~' || strchr("/?#@\\*\"", *p))
            return false;
    return *host && *host != ':';
}

static int bad_origin(const char *origin, struct nn_error *error)
{
    return nn_fail(
        error,
        "--cors-origins: expected * or origins like https://example.org, with commas "
        "between them, got \"%s\"",
        origin);
}

struct cors *cors_open(const char *list, struct nn_error *error)
{
    size_t room = 1;
    for (const char *p = list; *p; p++)
        room += *p == ',';
    struct cors *c = calloc(1, sizeof *c + room * sizeof c->origins[0]);
    if (!c || !(c->text = strdup(list))) {
        free(c);
        nn_fail(error, "out of memory");
        return NULL;
    }
    for (char *next = c->text, *origin; (origin = strsep(&next, ","));) {
        origin += strspn(origin, " ");
        origin[strcspn(origin, " ")] = 0;
        if (strcmp(origin, "*") != 0 && !is_origin(origin)) {
            bad_origin(origin, error);
            cors_free(c);
            return NULL;
        }
        c->origins[c->n++] = origin;
    }
    return c;
}

void cors_free(struct cors *c)
{
    if (c)
        free(c->text);
    free(c);
}

const char *cors_allows(const struct cors *c, const char *origin)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->origins[i], "*") == 0 || strcasecmp(c->origins[i], origin) == 0)
            return c->origins[i];
    return NULL;
}

bool cors_allows_any(const struct cors *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->origins[i], "*") == 0)
            return true;
    return false;
}
