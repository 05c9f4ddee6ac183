#include "server/api/api.h"

const struct served *api_find_model(struct http_request *r, int *status)
{
    const struct loop *l = api_loop(r);
    const struct table *table = l->table;
    const char *name = *r->model ? r->model : l->server->options->default_model;
    const struct served *served = NULL;

    if (!table || table->n == 0)
        *status = http_error(r, 503, "%s", table ? "no models are served"
                                                 : "the models are being loaded");
    else if (!name && table->n > 1)
        *status = http_error(r, 404, "%zu models are served: use /models/{name}/predict",
                             table->n);
    else if (!(served = name ? table_find(table, name) : table->served[0]))
        *status = http_error(r, 404, "there is no model %s", name);
    return served;
}

int api_predict(struct http_request *r)
{
    int status = 0;
    const struct served *served = api_find_model(r, &status);
    if (!served)
        return status;
    if (!served->model)
        return http_error(r, 503, "model %s has no version that can be served", served->name);
    return batcher_add(api_loop(r)->batcher, served, r);
}
