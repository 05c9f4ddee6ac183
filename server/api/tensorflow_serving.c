#include "server/api/tensorflow_serving.h"

#include "server/api/api.h"
#include "server/tfs.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool tfs_is_path(const char *path)
{
    return strncasecmp(path, "/v1/", 4) == 0;
}

int tfs_malformed(struct http_request *r)
{
    return http_error(r, 400, "Malformed request: %s %s", r->verb, r->path);
}

int tfs_no_model(struct http_request *r)
{
    return http_error(r, 400, "Missing model name in request.");
}

/* Whether decimal digits are more than int64. */
static bool is_too_large(const char *digits)
{
    int64_t value = 0;
    for (; *digits; digits++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *digits - '0', &value))
            return true;
    return false;
}

static int fail_unknown(struct http_request *r)
{
    if (*r->version)
        return http_error(r, 404, "Servable not found for request: Specific(%s, %s)", r->model,
                          r->version);
    return http_error(r, 404, "Servable not found for request: Latest(%s)", r->model);
}

/* The model of the path, which may be one without a version that can be served. NULL: request
 * is answered, *status tells how. */
static const struct served_model *find_model(struct http_request *r, int *status)
{
    const struct table *table = api_loop(r)->table;
    const struct served_model *model = table ? table_find(table, r->model) : NULL;

    if (r->version[strspn(r->version, "0123456789")] || (*r->version && *r->label))
        *status = tfs_malformed(r);
    else if (is_too_large(r->version))
        *status = http_error(r, 400, "Failed to convert version: %s", r->version);
    else if (!table)
        *status = http_error(r, 503, "the models are being loaded");
    else if (!model)
        *status = fail_unknown(r);
    else
        return model;
    return NULL;
}

static int fail_choice(struct http_request *r, const struct served_model *model, enum choice why)
{
    if (why == CHOICE_NO_LABEL)
        return http_error(r, 400, "Unrecognized servable version label: %s", r->label);
    if (why == CHOICE_NO_VERSION)
        return fail_unknown(r);
    if (model->n == 0)
        return http_error(r, 503, "model %s has no version that can be served", model->name);
    return http_error(r, 503, "that version of model %s cannot be served", model->name);
}

static const struct served *find(struct http_request *r, int *status)
{
    enum choice why;
    const struct served_model *model = find_model(r, status);
    const struct served *served = model ? api_choose(r, model, &why) : NULL;
    if (model && !served)
        *status = fail_choice(r, model, why);
    return served;
}

static int add(struct http_request *r, const struct codec *codec)
{
    int status;
    const struct served *served = find(r, &status);
    return served ? batcher_add(api_loop(r)->batcher, served, codec, r) : status;
}

int tfs_predict(struct http_request *r)
{
    return add(r, &tfs_predict_codec);
}

int tfs_classify(struct http_request *r)
{
    return add(r, &tfs_classify_codec);
}

int tfs_regress(struct http_request *r)
{
    return add(r, &tfs_regress_codec);
}

static void write_status(struct buffer *out, const char *comma, int64_t version,
                         const char *problem)
{
    buffer_printf(out,
                  "%s{\"version\":\"%lld\",\"state\":\"%s\",\"status\":{\"error_code\":\"%s\","
                  "\"error_message\":",
                  comma, (long long)version, *problem ? "END" : "AVAILABLE",
                  *problem ? "UNKNOWN" : "OK");
    buffer_add_json_string(out, problem);
    buffer_add_text(out, "}}");
}

static int64_t label_version(const struct served_model *model, const char *label)
{
    for (int i = 0; i < model->config.n_labels; i++)
        if (strcmp(model->config.labels[i].name, label) == 0)
            return model->config.labels[i].version;
    return 0;
}

/* Of the version or label in the path, or of all versions, the highest first. */
int tfs_status(struct http_request *r)
{
    int status = 0;
    enum choice why;
    const struct served_model *model = find_model(r, &status);
    const char *comma = "";

    if (!model)
        return status;
    if (!api_choose(r, model, &why) && why != CHOICE_BROKEN)
        return fail_choice(r, model, why);
    int64_t one = *r->label ? label_version(model, r->label) : strtoll(r->version, NULL, 10);
    buffer_add_text(&r->answer, "{\"model_version_status\":[");
    for (size_t i = model->n; i-- > 0;) {
        if (one && model->versions[i]->version != one)
            continue;
        write_status(&r->answer, comma, model->versions[i]->version, "");
        comma = ",";
    }
    for (size_t i = model->n_unserved; i-- > 0;) {
        if (one && model->unserved[i].version != one)
            continue;
        write_status(&r->answer, comma, model->unserved[i].version, model->unserved[i].problem);
        comma = ",";
    }
    if (!*comma)                /* its serving.json is broken */
        write_status(&r->answer, comma, 0, model->problem);
    buffer_add_text(&r->answer, "]}");
    return 200;
}

static const char *dtype(enum nn_datatype datatype)
{
    static const char *const names[] = {
        [NN_FP32] = "DT_FLOAT",   [NN_FP64] = "DT_DOUBLE",  [NN_FP16] = "DT_HALF",
        [NN_BF16] = "DT_BFLOAT16", [NN_INT8] = "DT_INT8",    [NN_INT16] = "DT_INT16",
        [NN_INT32] = "DT_INT32",  [NN_INT64] = "DT_INT64",  [NN_UINT8] = "DT_UINT8",
        [NN_UINT16] = "DT_UINT16", [NN_UINT32] = "DT_UINT32", [NN_UINT64] = "DT_UINT64",
        [NN_BOOL] = "DT_BOOL",
    };
    return names[datatype];
}

/* {name: {"dtype", "tensor_shape", "name"}, ...}; sizes are text, as protocol buffers write
 * what has 64 bits. */
static void write_ports(struct buffer *out, const struct nn_model *model, int n,
                        const struct nn_port *(*port)(const struct nn_model *, int))
{
    buffer_add_text(out, "{");
    for (int i = 0; i < n; i++) {
        const struct nn_port *p = port(model, i);
        buffer_add_text(out, i ? "," : "");
        buffer_add_json_string(out, p->name);
        buffer_printf(out, ":{\"dtype\":\"%s\",\"tensor_shape\":{\"dim\":[",
                      dtype(p->datatype));
        for (int d = 0; d < p->shape.rank; d++)
            buffer_printf(out, "%s{\"size\":\"%lld\",\"name\":\"\"}", d ? "," : "",
                          (long long)p->shape.dims[d]);
        buffer_add_text(out, "],\"unknown_rank\":false},\"name\":");
        buffer_add_json_string(out, p->name);
        buffer_add_text(out, "}");
    }
    buffer_add_text(out, "}");
}

int tfs_metadata(struct http_request *r)
{
    int status;
    const struct served *served = find(r, &status);
    struct buffer *out = &r->answer;

    if (!served)
        return status;
    buffer_add_text(out, "{\"model_spec\":{\"name\":");
    buffer_add_json_string(out, served->name);
    buffer_printf(out,
                  ",\"signature_name\":\"\",\"version\":\"%lld\"},\"metadata\":"
                  "{\"signature_def\":{\"signature_def\":{\"" TFS_SIGNATURE "\":{\"inputs\":",
                  (long long)served->version);
    write_ports(out, served->model, nn_model_n_inputs(served->model), nn_model_input);
    buffer_add_text(out, ",\"outputs\":");
    write_ports(out, served->model, nn_model_n_outputs(served->model), nn_model_output);
    buffer_add_text(out, ",\"method_name\":\"tensorflow/serving/predict\"}}}}}");
    return 200;
}
