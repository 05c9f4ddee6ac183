/*
 * The HTTP interface: a table of routes, and a handler for each.
 *
 * A handler gets a complete request with an acceptable method and content type, fills
 * request->answer and returns the status, or HTTP_PENDING.
 */
#ifndef SERVER_API_API_H
#define SERVER_API_API_H

#include "server/http.h"
#include "server/loop.h"

struct route {
    const char *path;           /* a pattern of path.h */
    enum http_method method;    /* HTTP_GET includes HEAD */
    int (*answer)(struct http_request *request);
    bool admin;                 /* on the data listener only where there are admin tokens */
    bool open;                  /* asks nobody for a secret: probes hold none */
    bool predicts;              /* bounded by --max-queue */
    bool foreign;               /* a protocol that others have defined: names are decoded, the
                                 * content type is not looked at */
    int index;                  /* in the metrics */
};

/* The routes in the order of the metrics; index 0 is "no such path". */
extern const struct route api_routes[];
extern const int api_n_routes;

/* The methods that a route answers, as Allow lists them. */
const char *route_methods(const struct route *route);

/* The four calls of struct http_application; the owner is the loop. */
int api_begin(struct http_request *request);
int api_answer(struct http_request *request);
void api_suspended(struct http_request *request);
void api_finished(struct http_request *request, bool sent);

static inline struct loop *api_loop(const struct http_request *request)
{
    return request->owner;
}

static inline bool api_is_explicit(const struct http_request *request)
{
    return api_loop(request)->server->options->model_control == CONTROL_EXPLICIT;
}

/* The version that a request to the model (NULL: there is none) means by its path: the version
 * or label in it, or what the model's name alone means, which a route that predicts shares out
 * among the labels. NULL: *why says why not. */
const struct served *api_choose(struct http_request *request,
                                const struct served_model *model, enum choice *why);

/* Has the registry do what `wanted` says (of which it takes a copy); `report` writes the
 * answer, on the registry's thread. Returns the status for now. */
int api_start_reload(struct http_request *request, const struct reload_waiter *wanted,
                     int (*report)(struct http_request *request, const char *model,
                                   const struct reload_report *report));

const char *api_method_name(enum http_method method);

/* Logs a request that was answered, or lost, so many nanoseconds after it began. */
void api_log_access(const struct http_request *request, bool sent, int64_t duration);

/* Takes the ids out of the value of a traceparent header (NULL: there is none). False: it is
 * not what W3C Trace Context asks for, and to be ignored. */
bool api_read_traceparent(const char *text, char trace[HTTP_TRACE_ID_SIZE],
                          char parent[HTTP_PARENT_ID_SIZE]);

/* What /metrics says of the versions that are served. */
void api_write_model_metrics(struct buffer *out, const struct server *server,
                             const struct table *table);

/* What it says of the process. */
void api_write_process_metrics(struct buffer *out, const struct server *server);

/* Whether who asks may, once the route is known or there is none. 0, or the status of the
 * refusal: 401, or 403 for an API key where an admin token is needed. */
int api_authorize(struct http_request *request);

/* Lets pages of the allowed origins read the answer, and keeps all pages from admin verbs.
 * 0, or a status: the answer to a preflight request, or a refusal. */
int api_check_origin(struct http_request *request);

int api_predict(struct http_request *request);
int api_live(struct http_request *request);
int api_ready(struct http_request *request);
int api_models(struct http_request *request);
int api_model(struct http_request *request);
int api_metrics(struct http_request *request);
int api_reload(struct http_request *request);
int api_openapi(struct http_request *request);

#endif
