#include "server/api/api.h"

int api_live(struct http_request *r)
{
    buffer_add_text(&r->answer, "{\"status\":\"live\"}");
    return 200;
}

/* A reload, even one that fails, changes nothing here: the old version goes on serving. */
int api_ready(struct http_request *r)
{
    const struct loop *l = api_loop(r);
    char text[256];
    const char *problem = atomic_load(&l->server->draining) ? "the server is draining"
                          : !l->table                       ? "the models are being loaded"
                                                            : table_problem(l->table, text);
    if (problem)
        return http_error(r, 503, "%s", problem);
    buffer_add_text(&r->answer, "{\"status\":\"ready\"}");
    return 200;
}
