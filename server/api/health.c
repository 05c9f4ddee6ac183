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
    const char *problem = NULL;
    char text[256];

    if (atomic_load(&l->server->draining))
        problem = "the server is draining";
    else if (!atomic_load(&l->server->loaded) || !l->table)
        problem = "the models are being loaded";
    else
        problem = table_problem(l->table, text);
    if (problem)
        return http_error(r, 503, "%s", problem);
    buffer_add_text(&r->answer, "{\"status\":\"ready\"}");
    return 200;
}
