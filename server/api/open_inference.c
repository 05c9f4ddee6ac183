#include "server/api/open_inference.h"

#include "server/api/api.h"
#include "server/json_tensor.h"
#include "server/v2.h"
#include <string.h>

/* health */

int v2_live(struct http_request *r)
{
    buffer_add_text(&r->answer, "{\"live\":true}");
    return 200;
}

int v2_ready(struct http_request *r)
{
    int status = api_ready(r);
    if (status == 200) {
        r->answer.size = 0;
        buffer_add_text(&r->answer, "{\"ready\":true}");
    }
    return status;
}

/* metadata */

int v2_server(struct http_request *r)
{
    buffer_add_text(&r->answer,
                    "{\"name\":\"predictd\",\"version\":\"" PREDICTD_VERSION
                    "\",\"extensions\":["
                    "\"binary_tensor_data\",\"classification\",\"model_configuration\","
                    "\"model_repository\",\"model_repository(unload_dependents)\","
                    "\"parameters\",\"statistics\"]}");
    return 200;
}

static bool is_number(const char *text)
{
    return *text && !text[strspn(text, "0123456789")];
}

const struct served *v2_find(struct http_request *r, int *status)
{
    const struct table *table = api_loop(r)->table;
    const struct served_model *model = table ? table_find(table, r->model) : NULL;
    enum choice why;
    const struct served *served = api_choose(r, model, &why);

    if (!table) {
        *status = http_error(r, 503, "the models are being loaded");
    } else if (*r->version && !is_number(r->version)) {
        *status =
            http_error(r, 400, "failed to get model version from specified version string '%s'",
                       r->version);
    } else if (!model) {
        *status = http_error(r, 404, "Request for unknown model: '%s' is not found", r->model);
    } else if (why == CHOICE_NO_VERSION) {
        *status = http_error(r, 404, "Request for unknown model: '%s' version %s is not found",
                             r->model, r->version);
    } else if (!served && *r->version) {
        *status = http_error(
            r, 503, "model '%s' is not at ready state: version %s cannot be served", r->model,
            r->version);
    } else if (!served) {
        *status = http_error(
            r, 503, "model '%s' is not at ready state: no version can be served", r->model);
    }
    return served;
}

static void write_versions(struct buffer *out, const struct served_model *model)
{
    buffer_add_text(out, ",\"versions\":[");
    for (size_t i = 0; i < model->n; i++)
        buffer_printf(out, "%s\"%lld\"", i ? "," : "", (long long)model->versions[i]->version);
    buffer_add_text(out, "]");
}

static const char *platform(const struct served *served)
{
    return served->n_members ? "ensemble" : "predictd";
}

int v2_model(struct http_request *r)
{
    int status;
    const struct served *served = v2_find(r, &status);
    struct buffer *out = &r->answer;

    if (!served)
        return status;
    buffer_add_text(out, "{\"name\":");
    buffer_add_json_string(out, served->name);
    write_versions(out, table_find(api_loop(r)->table, r->model));
    buffer_printf(out, ",\"platform\":\"%s\",", platform(served));
    json_write_ports(out, served->model);
    buffer_add_text(out, "}");
    return 200;
}

int v2_model_ready(struct http_request *r)
{
    int status;
    const struct served *served = v2_find(r, &status);
    if (!served)
        return status;
    buffer_add_text(&r->answer, "{\"name\":");
    buffer_add_json_string(&r->answer, served->name);
    buffer_add_text(&r->answer, ",\"ready\":true}");
    return 200;
}

/* configuration, as Triton's protocol buffer says it in JSON */

static void write_config_ports(struct buffer *out, const char *key,
                               const struct nn_model *model, int n,
                               const struct nn_port *(*port)(const struct nn_model *, int))
{
    int first = nn_model_unbatched(model) ? 0 : 1; /* dims leave the batch out */
    buffer_printf(out, ",\"%s\":[", key);
    for (int i = 0; i < n; i++) {
        const struct nn_port *p = port(model, i);
        buffer_add_text(out, i ? ",{\"name\":" : "{\"name\":");
        buffer_add_json_string(out, p->name);
        buffer_printf(out, ",\"data_type\":\"TYPE_%s\",\"dims\":[",
                      nn_datatype_name(p->datatype));
        for (int d = first; d < p->shape.rank; d++)
            buffer_printf(out, "%s%lld", d > first ? "," : "", (long long)p->shape.dims[d]);
        buffer_add_text(out, "]}");
    }
    buffer_add_text(out, "]");
}

static void write_policy(struct buffer *out, const struct serving_config *c)
{
    buffer_add_text(out, ",\"version_policy\":{");
    if (c->policy == SERVING_ALL)
        buffer_add_text(out, "\"all\":{}}");
    else if (c->policy == SERVING_LATEST)
        buffer_printf(out, "\"latest\":{\"num_versions\":%lld}}", (long long)c->latest);
    if (c->policy != SERVING_SPECIFIED)
        return;
    buffer_add_text(out, "\"specific\":{\"versions\":[");
    for (int i = 0; i < c->n_specific; i++)
        buffer_printf(out, "%s%lld", i ? "," : "", (long long)c->specific[i]);
    buffer_add_text(out, "]}}");
}

/* From the ensemble's names to a member's, which are the same. */
static void write_map(struct buffer *out, const char *key, const struct nn_model *model, int n,
                      const struct nn_port *(*port)(const struct nn_model *, int))
{
    buffer_printf(out, ",\"%s\":{", key);
    for (int i = 0; i < n; i++) {
        buffer_add_text(out, i ? "," : "");
        buffer_add_json_string(out, port(model, i)->name);
        buffer_add_text(out, ":");
        buffer_add_json_string(out, port(model, i)->name);
    }
    buffer_add_text(out, "}");
}

static void write_steps(struct buffer *out, const struct served *ensemble)
{
    const struct nn_model *model = ensemble->model;
    buffer_add_text(out, ",\"ensemble_scheduling\":{\"step\":[");
    for (size_t i = 0; i < ensemble->n_members; i++) {
        const struct served *member = ensemble->members[i];
        buffer_add_text(out, i ? ",{\"model_name\":" : "{\"model_name\":");
        buffer_add_json_string(out, member->name);
        buffer_printf(out, ",\"model_version\":%lld", (long long)member->version);
        write_map(out, "input_map", model, nn_model_n_inputs(model), nn_model_input);
        write_map(out, "output_map", model, nn_model_n_outputs(model), nn_model_output);
        buffer_add_text(out, "}");
    }
    buffer_add_text(out, "]}");
}

static void write_batching(struct buffer *out, const struct serving_config *c,
                           const struct options *options)
{
    struct lane_settings lane = batcher_lane_settings(c, options->max_batch, options->max_queue);
    buffer_printf(out,
                  ",\"dynamic_batching\":{\"preferred_batch_size\":[%lld],"
                  "\"max_queue_delay_microseconds\":%lld,\"priority_levels\":%d,"
                  "\"default_priority_level\":%d,\"default_queue_policy\":"
                  "{\"allow_timeout_override\":true,\"max_queue_size\":%lld}}",
                  (long long)lane.preferred, (long long)(lane.delay / 1000), lane.priorities,
                  lane.standard_priority, (long long)lane.max_queue);
}

/* max_batch_size is what clients take it for: the most rows of a request. What is more than
 * preferred_batch_size is split. */
int v2_config(struct http_request *r)
{
    int status;
    const struct options *options = api_loop(r)->server->options;
    const struct served *served = v2_find(r, &status);
    struct buffer *out = &r->answer;

    if (!served)
        return status;
    const struct serving_config *config = &table_find(api_loop(r)->table, r->model)->config;
    bool batched = !nn_model_unbatched(served->model);
    buffer_add_text(out, "{\"name\":");
    buffer_add_json_string(out, served->name);
    buffer_printf(out, ",\"platform\":\"%s\",\"backend\":\"%s\"", platform(served),
                  served->n_members ? "" : "predictd");
    write_policy(out, config);
    buffer_printf(out, ",\"max_batch_size\":%lld",
                  batched ? (long long)options->max_instances : 0LL);
    write_config_ports(out, "input", served->model, nn_model_n_inputs(served->model),
                       nn_model_input);
    write_config_ports(out, "output", served->model, nn_model_n_outputs(served->model),
                       nn_model_output);
    if (served->n_members)
        write_steps(out, served);
    else if (batched)
        write_batching(out, config, options);
    buffer_add_text(out, "}");
    return 200;
}

/* inference */

static int read_request(struct http_request *r, const struct served *served,
                        struct tensor_rows *rows, int64_t max_rows, struct nn_error *error)
{
    struct v2_request *request;
    int status = v2_read(&request, served, rows, r->body.data, r->body.size, r->json_length,
                         max_rows, error);
    r->state = request;
    if (!status) {
        r->priority = request->priority;
        r->timeout = request->timeout < INT64_MAX / 1000 ? request->timeout * 1000 : 0;
    }
    return status;
}

static int write_answer(struct http_request *r, const struct served *served,
                        const struct nn_tensor *outputs, int64_t first, int64_t n,
                        struct nn_error *error)
{
    if (v2_write(&r->answer, &r->answer_json_length, r->state, served, outputs, first, n,
                 error) < 0)
        return -1;
    if (r->answer_json_length)
        r->answer_type = "application/octet-stream";
    return 0;
}

static const struct codec codec = {.read = read_request, .write = write_answer};

int v2_infer(struct http_request *r)
{
    int status;
    const struct served *served = v2_find(r, &status);
    return served ? batcher_add(api_loop(r)->batcher, served, &codec, r) : status;
}
