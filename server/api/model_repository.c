/*
 * V2's model repository. What there is to load is what lies in the folder of models: a request
 * can neither bring a model nor name a place.
 */
#include "server/api/api.h"
#include "server/api/open_inference.h"
#include "server/json_scan.h"
#include <stdio.h>
#include <string.h>

/* Bodies come from outside: they are walked over, where a tree would take memory without
 * bounds. Returns 0 or a status. */
static int check_body(struct http_request *r)
{
    struct nn_error error = {0};
    if (json_scan_document(r->body.data, r->body.size, &error) == 0)
        return 0;
    return http_error(r, 400, "failed to parse the request JSON buffer: %s", error.text);
}

/* Reads {"ready": bool} or nothing. Returns 0 or a status. */
static int read_filter(struct http_request *r, bool *ready)
{
    if (r->body.size == 0)
        return 0;
    int status = check_body(r);
    if (status)
        return status;
    struct json_scan s = {r->body.data, r->body.data, r->body.data + r->body.size};
    if (json_scan_peek(&s) != '{')
        return http_error(r, 400, "expected {\"ready\": boolean} or nothing");
    if (!json_scan_find(&s, "ready"))
        return 0;
    char c = json_scan_peek(&s);
    if (c != 't' && c != 'f')
        return http_error(r, 400, "Invalid value for 'ready': expected a boolean");
    *ready = c == 't';
    return 0;
}

static void write_state(struct buffer *out, const char **comma, const char *name, int64_t version,
                        const char *problem)
{
    buffer_printf(out, "%s{\"name\":", *comma);
    buffer_add_json_string(out, name);
    if (version > 0)
        buffer_printf(out, ",\"version\":\"%lld\"", (long long)version);
    if (problem) {
        buffer_add_text(out, ",\"state\":\"UNAVAILABLE\",\"reason\":");
        buffer_add_json_string(out, problem);
        buffer_add_text(out, "}");
    } else {
        buffer_add_text(out, ",\"state\":\"READY\"}");
    }
    *comma = ",";
}

static void write_states(struct buffer *out, const char **comma, const struct served_model *m,
                         bool ready)
{
    for (size_t i = 0; i < m->n; i++)
        write_state(out, comma, m->name, m->versions[i]->version, NULL);
    for (size_t i = 0; i < m->n_unserved && !ready && m->n; i++)
        write_state(out, comma, m->name, m->unserved[i].version, m->unserved[i].problem);
    if (m->n == 0 && !ready)
        write_state(out, comma, m->name, 0, m->problem);
}

int v2_index(struct http_request *r)
{
    const struct table *table = api_loop(r)->table;
    const char *comma = "";
    bool ready = false;
    int status = read_filter(r, &ready);

    if (status)
        return status;
    buffer_add_text(&r->answer, "[");
    for (size_t i = 0; table && i < table->n; i++)
        write_states(&r->answer, &comma, table->models[i], ready);
    for (size_t i = 0; table && i < table->n_unloaded && !ready; i++)
        write_state(&r->answer, &comma, table->unloaded[i], 0, "unloaded");
    buffer_add_text(&r->answer, "]");
    return 200;
}

static int report_load(struct http_request *r, const char *model,
                       const struct reload_report *report)
{
    if (*report->problem)
        return http_error(r, 500, "failed to load '%s', %s", model, report->problem);
    for (size_t i = 0; i < report->n; i++) {
        const struct reload_entry *e = &report->entries[i];
        if (strcmp(e->name, model) != 0)
            continue;
        if (e->outcome == RELOAD_FAILED)
            return http_error(r, 500, "failed to load '%s', %s", model, e->problem);
        if (e->outcome != RELOAD_REMOVED)
            return 200;
    }
    return http_error(r, 404, "failed to load '%s', there is no such model", model);
}

/* Leaves *s at the brace of {"parameters": {…}}. False: there are none, or *status says that
 * the body is something else. */
static bool find_parameters(struct http_request *r, struct json_scan *s, int *status)
{
    *status = r->body.size ? check_body(r) : 0;
    if (r->body.size == 0 || *status)
        return false;
    *s = (struct json_scan){r->body.data, r->body.data, r->body.data + r->body.size};
    if (json_scan_peek(s) != '{') {
        *status = http_error(r, 400, "expected {\"parameters\": {…}} or nothing");
        return false;
    }
    if (!json_scan_find(s, "parameters"))
        return false;
    if (json_scan_peek(s) != '{')
        *status = http_error(r, 400, "parameters: expected an object");
    return !*status;
}

static int refuse_parameters(struct http_request *r)
{
    struct json_scan s;
    int status;
    if (find_parameters(r, &s, &status) && json_scan_take(&s, '{') && !json_scan_take(&s, '}'))
        return http_error(r, 400,
                          "load takes no parameters: a model is loaded as it lies in the folder "
                          "of models");
    return status;
}

int v2_load(struct http_request *r)
{
    struct reload_waiter wanted = {.action = RELOAD_LOAD};
    int status = refuse_parameters(r);
    if (!status && !name_is_valid(r->model, strlen(r->model)))
        status = http_error(r, 404, "failed to load '%s', there is no such model", r->model);
    if (status)
        return status;
    snprintf(wanted.model, sizeof wanted.model, "%s", r->model);
    return api_start_reload(r, &wanted, report_load);
}

/* unloading */

static int report_unload(struct http_request *r, const char *model,
                         const struct reload_report *report)
{
    if (*report->problem)
        return http_error(r, 500, "failed to unload '%s', %s", model, report->problem);
    for (size_t i = 0; i < report->n; i++) {
        const struct reload_entry *e = &report->entries[i];
        if (strcmp(e->name, model) == 0)
            return e->outcome == RELOAD_FAILED
                       ? http_error(r, 400, "failed to unload '%s', %s", model, e->problem)
                       : 200;
    }
    return http_error(r, 404, "failed to unload '%s', there is no such model", model);
}

/* Reads {"parameters": {"unload_dependents": bool}}, nothing of which has to be there. Returns
 * 0 or a status. */
static int read_dependents(struct http_request *r, bool *dependents)
{
    struct json_scan s;
    int status;
    if (!find_parameters(r, &s, &status) || !json_scan_find(&s, "unload_dependents"))
        return status;
    char c = json_scan_peek(&s);
    if (c != 't' && c != 'f')
        return http_error(r, 400, "parameters.unload_dependents: expected a boolean");
    *dependents = c == 't';
    return 0;
}

int v2_unload(struct http_request *r)
{
    struct reload_waiter wanted = {.action = RELOAD_UNLOAD};
    int status = read_dependents(r, &wanted.dependents);

    if (status)
        return status;
    if (!api_is_explicit(r))
        return http_error(
            r, 400,
            "failed to unload '%s', which needs --model-control explicit: without "
            "it a model goes when its folder does",
            r->model);
    if (!name_is_valid(r->model, strlen(r->model)))
        return http_error(r, 404, "failed to unload '%s', there is no such model", r->model);
    snprintf(wanted.model, sizeof wanted.model, "%s", r->model);
    return api_start_reload(r, &wanted, report_unload);
}
