#include "server/api/api.h"

#include "server/api/open_inference.h"
#include "server/api/path.h"
#include "server/api/tensorflow_serving.h"
#include "server/clock.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const struct route api_routes[] = {
    {"/predict", HTTP_POST, api_predict, .predicts = true, .index = 1},
    {"/models/{m}/predict", HTTP_POST, api_predict, .predicts = true, .index = 2},
    {"/health", HTTP_GET, api_ready, .open = true, .index = 3},
    {"/health/ready", HTTP_GET, api_ready, .open = true, .index = 4},
    {"/health/live", HTTP_GET, api_live, .open = true, .index = 5},
    {"/models", HTTP_GET, api_models, .index = 6},
    {"/models/{m}", HTTP_GET, api_model, .index = 7},
    {"/metrics", HTTP_GET, api_metrics, .index = 8},
    {"/reload", HTTP_POST, api_reload, .admin = true, .index = 9},

    {"/v2/models/{m}[/versions/{v}]/infer", HTTP_POST, v2_infer, .predicts = true,
     .foreign = true, .index = 10},
    {"/v2/health/live", HTTP_GET, v2_live, .foreign = true, .open = true, .index = 11},
    {"/v2/health/ready", HTTP_GET, v2_ready, .foreign = true, .open = true, .index = 12},
    {"/v2", HTTP_GET, v2_server, .foreign = true, .index = 13},
    {"/v2/", HTTP_GET, v2_server, .foreign = true, .index = 13},
    {"/v2/models/stats", HTTP_GET, v2_all_statistics, .foreign = true, .index = 14},
    {"/v2/models/{m}[/versions/{v}]", HTTP_GET, v2_model, .foreign = true, .index = 15},
    {"/v2/models/{m}[/versions/{v}]/ready", HTTP_GET, v2_model_ready, .foreign = true,
     .index = 16},
    {"/v2/models/{m}[/versions/{v}]/stats", HTTP_GET, v2_statistics, .foreign = true,
     .index = 17},
    {"/v2/models/{m}[/versions/{v}]/config", HTTP_GET, v2_config, .foreign = true, .index = 18},
    {"/v2/repository/index", HTTP_POST, v2_index, .foreign = true, .index = 19},
    {"/v2/repository/models/{m}/load", HTTP_POST, v2_load, .admin = true, .foreign = true,
     .index = 20},
    {"/v2/repository/models/{m}/unload", HTTP_POST, v2_unload, .admin = true, .foreign = true,
     .index = 21},

    {"/v1/models/{m}[/versions/{v}][/labels/{l}]:predict", HTTP_POST, tfs_predict,
     .predicts = true, .foreign = true, .index = 22},
    {"/v1/models/{m}[/versions/{v}][/labels/{l}]:classify", HTTP_POST, tfs_classify,
     .predicts = true, .foreign = true, .index = 23},
    {"/v1/models/{m}[/versions/{v}][/labels/{l}]:regress", HTTP_POST, tfs_regress,
     .predicts = true, .foreign = true, .index = 24},
    {"/v1/models/{m}[/versions/{v}][/labels/{l}]", HTTP_GET, tfs_status, .foreign = true,
     .index = 25},
    {"/v1/models/{m}[/versions/{v}][/labels/{l}]/metadata", HTTP_GET, tfs_metadata,
     .foreign = true, .index = 26},
    {"/v1/models", HTTP_GET, tfs_no_model, .foreign = true, .index = 27},

    {"/models/{m}/versions/{v}/predict", HTTP_POST, api_predict, .predicts = true, .index = 28},
    {"/models/{m}/labels/{l}/predict", HTTP_POST, api_predict, .predicts = true, .index = 29},
    {"/openapi.json", HTTP_GET, api_openapi, .index = 30},
};

const int api_n_routes = sizeof api_routes / sizeof api_routes[0];

_Static_assert(sizeof api_routes / sizeof api_routes[0] < METRICS_ROUTES, "a counter for each");

static bool has_method(const struct route *route, enum http_method method)
{
    return method == route->method || (method == HTTP_HEAD && route->method == HTTP_GET);
}

/* Absent, JSON, and what `curl -d` sends when it is told nothing. */
static bool is_acceptable(const char *content_type)
{
    static const char *const types[] = {"application/json", "application/x-www-form-urlencoded"};
    if (!content_type)
        return true;
    size_t size = strcspn(content_type, "; \t");
    for (int i = 0; i < 2; i++)
        if (size == strlen(types[i]) && strncasecmp(content_type, types[i], size) == 0)
            return true;
    return false;
}

const char *api_method_name(enum http_method method)
{
    static const char *const methods[] = {"GET", "HEAD",  "POST",   "OPTIONS",
                                          "PUT", "PATCH", "DELETE", "other"};
    return methods[method];
}

const char *route_methods(const struct route *route)
{
    return route->method == HTTP_POST ? "POST" : "GET, HEAD";
}

static int refuse_path(struct http_request *r)
{
    if (tfs_is_path(r->path))
        return tfs_malformed(r);
    if (strncmp(r->path, "/v2/", 4) == 0)
        return http_error(r, 404, "Not Found");
    return http_error(r, 404, "there is nothing at this path");
}

static int refuse_method(struct http_request *r)
{
    if (tfs_is_path(r->path))
        return tfs_malformed(r);
    const char *methods = route_methods(r->route);
    http_add_field(r, "Allow", methods);
    if (r->route->foreign)
        return http_error(r, 405, "Method Not Allowed");
    return http_error(r, 405, "this path answers %s only", methods);
}

static const struct route *find_route(struct http_request *r)
{
    const struct loop *l = api_loop(r);
    const struct access *access = l->server->guards.access;
    bool admin = l->admin || (access && access_has_tokens(access));

    for (int i = 0; i < api_n_routes; i++)
        if ((!api_routes[i].admin || admin) &&
            path_matches(api_routes[i].path, r, api_routes[i].foreign))
            return &api_routes[i];
    return NULL;
}

int api_begin(struct http_request *r)
{
    struct loop *l = api_loop(r);

    if (l->server->options->access_log) {
        api_read_traceparent(http_header(r, "traceparent"), r->trace_id, r->parent_id);
        http_client_address(r, r->client);
    }
    r->route = find_route(r);
    int status = api_check_origin(r);
    if (!status)
        status = api_authorize(r);
    if (status)
        return status;
    if (!r->route)
        return refuse_path(r);
    if (!has_method(r->route, r->method))
        return refuse_method(r);
    if (r->method == HTTP_POST && !r->route->foreign && !is_acceptable(r->content_type))
        return http_error(r, 415, "expected the content type application/json");
    if (r->route->predicts) {
        if (l->in_work >= l->max_in_work)
            return http_shed(r, SHED_FULL,
                             http_error(r, 503, "too many predictions are in work"));
        l->in_work++;
        r->admitted = true;
    }
    return 0;
}

int api_answer(struct http_request *r)
{
    return r->route->answer(r);
}

/* What waits for a worker is bounded there, by model: a slow one takes no place of others. */
void api_suspended(struct http_request *r)
{
    api_loop(r)->in_work -= r->admitted;
    r->admitted = false;
}

void api_finished(struct http_request *r, bool sent)
{
    struct loop *l = api_loop(r);
    struct loop_counters *c = l->counters;
    int route = r->route ? r->route->index : 0;
    int64_t duration = clock_now() - r->began;

    free(r->state);
    l->in_work -= r->admitted;
    counter_add(&c->received, r->received);
    counter_add(&c->sent, r->answer.size);
    histogram_add(&c->durations[route], duration);
    if (r->shed)
        counter_add(&c->shed[r->shed], 1);
    counter_add(sent ? &c->requests[route][metrics_status_index(r->status)] : &c->lost, 1);
    if (l->server->options->access_log)
        api_log_access(r, sent, duration);
}
