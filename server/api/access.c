#include "server/api/api.h"
#include <string.h>
#include <strings.h>

#define EXPOSED "Inference-Header-Content-Length, Retry-After, WWW-Authenticate, X-Request-ID"

/* secrets */

static enum access_role role_of_text(struct access *a, const char *text)
{
    size_t size = strlen(text);
    while (size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\t'))
        size--;
    return access_role(a, text, size);
}

static enum access_role role_of(const struct http_request *r, struct access *a, bool *presented)
{
    const char *authorization = http_header(r, "Authorization");
    const char *key = http_header(r, "X-API-Key");
    enum access_role role = ACCESS_NOBODY;

    *presented = authorization || key;
    if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0)
        role = role_of_text(a, authorization + 7 + strspn(authorization + 7, " "));
    if (role == ACCESS_NOBODY && key)
        role = role_of_text(a, key);
    return role;
}

int api_authorize(struct http_request *r)
{
    const struct loop *l = api_loop(r);
    struct access *a = l->server->guards.access;
    bool admin = l->admin || (r->route && r->route->admin), presented;

    if (!a || (r->route && r->route->open) ||
        !(admin ? access_has_tokens(a) : access_has_keys(a)))
        return 0;
    enum access_role role = role_of(r, a, &presented);
    if (role >= (admin ? ACCESS_ADMIN : ACCESS_CLIENT))
        return 0;
    if (role == ACCESS_CLIENT)
        return http_error(r, 403, "expected an admin token, got an API key");
    http_add_field(r, "WWW-Authenticate",
                   presented ? "Bearer error=\"invalid_token\"" : "Bearer");
    if (admin)
        return http_error(r, 401, "expected Authorization: Bearer and an admin token");
    return http_error(r, 401,
                      "expected Authorization: Bearer and an API key, or X-API-Key and one");
}

/* origins */

/* Admin verbs are for no page: without a token, a page could use them through the browser of
 * whoever sits at this machine. */
static int refuse_page(struct http_request *r)
{
    return http_error(r, 403, "this path does not answer requests from a browser's page");
}

/* Whether a header of ours can have this value; the library takes no other, and browsers have
 * none. */
static bool is_value(const char *text)
{
    return *text && !strchr(text, '\t');
}

/* A browser asks whether it may ask; the route knows for which methods. */
static int answer_preflight(struct http_request *r, const char *origin)
{
    const char *headers = http_header(r, "Access-Control-Request-Headers");
    if (!origin)
        return http_error(r, 403, "this origin is not among those that are allowed");
    http_add_field(r, "Access-Control-Allow-Methods", route_methods(r->route));
    if (headers && is_value(headers))
        http_add_field(r, "Access-Control-Allow-Headers", headers);
    http_add_field(r, "Access-Control-Max-Age", "7200");
    return 204;
}

int api_check_origin(struct http_request *r)
{
    const struct cors *cors = api_loop(r)->server->guards.cors;
    bool admin = r->route && r->route->admin;

    if (!cors && !admin)
        return 0;
    const char *origin = http_header(r, "Origin");
    if (admin)
        return origin ? refuse_page(r) : 0;
    if (!cors_allows_any(cors))
        http_add_field(r, "Vary", "Origin");
    if (!origin)
        return 0;
    const char *allowed = cors_allows(cors, origin);
    if (allowed) {
        http_add_field(r, "Access-Control-Allow-Origin", allowed);
        http_add_field(r, "Access-Control-Expose-Headers", EXPOSED);
    }
    if (r->method == HTTP_OPTIONS && r->route &&
        http_header(r, "Access-Control-Request-Method"))
        return answer_preflight(r, allowed);
    return 0;
}
