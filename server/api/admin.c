#include "server/api/api.h"

#include "server/json_scan.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A request that waits for a reload. */
struct pending {
    struct reload_waiter waiter;
    struct http_request *request;
    int (*report)(struct http_request *request, const char *model,
                  const struct reload_report *report);
};

static void add_version(struct buffer *out, const char *key, int64_t version)
{
    if (version < 0)
        buffer_printf(out, ",\"%s\":null", key);
    else
        buffer_printf(out, ",\"%s\":\"%lld\"", key, (long long)version);
}

static void add_entry(struct buffer *out, const struct reload_entry *e)
{
    static const char *const outcomes[] = {"unchanged", "loaded", "removed", "failed"};
    buffer_add_json_string(out, e->name);
    buffer_printf(out, ":{\"outcome\":\"%s\"", outcomes[e->outcome]);
    add_version(out, "before", e->before);
    add_version(out, "after", e->after);
    buffer_printf(out, ",\"milliseconds\":%.3f", e->milliseconds);
    if (*e->problem) {
        buffer_add_text(out, ",\"error\":");
        buffer_add_json_string(out, e->problem);
    }
    buffer_add_text(out, "}");
}

/* The report of `model`, or of all when it is "". Returns the status. */
static int write_report(struct http_request *r, const char *model,
                        const struct reload_report *report)
{
    struct buffer *out = &r->answer;
    const struct reload_entry *failed = NULL;
    int n = 0;

    if (*report->problem)
        return http_error(r, 500, "%s", report->problem);
    buffer_add_text(out, "{\"models\":{");
    for (size_t i = 0; i < report->n; i++) {
        const struct reload_entry *e = &report->entries[i];
        if (*model && strcmp(model, e->name) != 0)
            continue;
        if (e->outcome == RELOAD_FAILED && !failed)
            failed = e;
        buffer_add_text(out, n++ ? "," : "");
        add_entry(out, e);
    }
    buffer_add_text(out, "}");
    if (*model && n == 0)
        return http_error(r, 404, "there is no model %s%s", model,
                          api_is_explicit(r) ? ", or it is not loaded" : "");
    const char *problem = failed ? failed->problem : report->beside;
    if (*problem) {
        buffer_add_text(out, ",\"error\":");
        buffer_add_json_string(out, problem);
    }
    buffer_add_text(out, "}");
    return *problem ? 500 : 200;
}

/* On the registry's thread: the request waits, so nobody else touches it. */
static void reload_done(struct reload_waiter *waiter, const struct reload_report *report)
{
    struct pending *p = (struct pending *)waiter;
    p->request->status = report->stopping ? http_error(p->request, 503, "%s", report->problem)
                                          : p->report(p->request, waiter->model, report);
    loop_finish(api_loop(p->request), p->request);
    free(p);
}

/* Nothing, or {"model": name}. Returns 0 or a status. Jansson, which must never want for memory
 * (engine/formats/json_read.c), is kept away from what comes from outside. */
static int read_body(struct http_request *r, char model[MODEL_NAME_SIZE])
{
    struct json_scan s = {r->body.data, r->body.data, r->body.data + r->body.size};
    struct nn_error error = {0};
    struct json_text key, name;

    if (json_scan_document(r->body.data, r->body.size, &error) != 0)
        return http_error(r, 400, "%s", error.text);
    if (!json_scan_take(&s, '{'))
        return http_error(r, 400, "expected {\"model\": name} or nothing");
    for (bool more = !json_scan_take(&s, '}'); more; more = json_scan_take(&s, ',')) {
        json_scan_string(&s, &key, NULL);
        json_scan_take(&s, ':');
        if (!json_text_equal(&key, "model"))
            return http_error(r, 400, "%.*s: there is no such field; \"model\" is one",
                              json_text_shown(&key), key.begin);
        if (*model)
            return http_error(r, 400, "model: is there twice");
        if (json_scan_peek(&s) != '"' || json_scan_string(&s, &name, NULL) != 0 ||
            !name_is_valid(name.begin, (size_t)(name.end - name.begin)))
            return http_error(r, 400, "model: expected the name of a model");
        snprintf(model, MODEL_NAME_SIZE, "%.*s", (int)(name.end - name.begin), name.begin);
    }
    return 0;
}

int api_start_reload(struct http_request *r, const struct reload_waiter *wanted,
                     int (*report)(struct http_request *, const char *,
                                   const struct reload_report *))
{
    struct pending *p = calloc(1, sizeof *p);
    if (!p)
        return http_error(r, 500, "out of memory");
    p->request = r;
    p->report = report;
    p->waiter = *wanted;
    p->waiter.done = reload_done;
    if (registry_reload(api_loop(r)->server->registry, &p->waiter))
        return HTTP_SUSPENDED;
    free(p);
    return http_error(r, 503, "the server is stopping");
}

int api_reload(struct http_request *r)
{
    struct reload_waiter wanted = {.action = RELOAD_AGAIN};
    int status = r->body.size ? read_body(r, wanted.model) : 0;
    return status ? status : api_start_reload(r, &wanted, write_report);
}
