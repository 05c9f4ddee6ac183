#include "server/api/tensorflow_serving.h"

#include "server/api/api.h"
#include "server/tfs.h"
#include <string.h>
#include <strings.h>

bool tfs_is_path(const char *path)
{
    return strncasecmp(path, "/v1/", 4) == 0;
}

int tfs_malformed(struct http_request *r, const char *method)
{
    return http_error(r, 400, "Malformed request: %s %s", method, r->path);
}

int tfs_no_model(struct http_request *r)
{
    return http_error(r, 400, "Missing model name in request.");
}

static int fail_malformed(struct http_request *r)
{
    return tfs_malformed(r, r->method == HTTP_POST ? "POST" : "GET");
}

/* The number of decimal digits, or -1: it is more than int64. */
static int64_t read_version(const char *text)
{
    int64_t value = 0;
    for (; *text; text++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *text - '0', &value))
            return -1;
    return value;
}

/* The model of the path, which may be one without a version that can be served. NULL: request
 * is answered, *status tells how. */
static const struct served *find(struct http_request *r, int *status)
{
    const struct table *table = api_loop(r)->table;
    const struct served *served = table ? table_find(table, r->model) : NULL;
    int64_t version = read_version(r->version);

    if (r->version[strspn(r->version, "0123456789")] || (*r->version && *r->label))
        *status = fail_malformed(r);
    else if (version < 0)
        *status = http_error(r, 400, "Failed to convert version: %s", r->version);
    else if (!table)
        *status = http_error(r, 503, "the models are being loaded");
    else if (served && *r->label)
        *status = http_error(r, 400, "Unrecognized servable version label: %s", r->label);
    else if (*r->version && (!served || served->version != version))
        *status = http_error(r, 404, "Servable not found for request: Specific(%s, %lld)",
                             r->model, (long long)version);
    else if (!served)
        *status = http_error(r, 404, "Servable not found for request: Latest(%s)", r->model);
    else
        return served;
    return NULL;
}

static const struct served *find_available(struct http_request *r, int *status)
{
    const struct served *served = find(r, status);
    if (!served || served->model)
        return served;
    *status = http_error(r, 503, "model %s has no version that can be served", served->name);
    return NULL;
}

static int add(struct http_request *r, const struct codec *codec)
{
    int status;
    const struct served *served = find_available(r, &status);
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

int tfs_status(struct http_request *r)
{
    int status;
    const struct served *served = find(r, &status);
    struct buffer *out = &r->answer;

    if (!served)
        return status;
    buffer_printf(out,
                  "{\"model_version_status\":[{\"version\":\"%lld\",\"state\":\"%s\","
                  "\"status\":{\"error_code\":\"%s\",\"error_message\":",
                  served->model ? (long long)served->version : 0LL,
                  served->model ? "AVAILABLE" : "END", served->model ? "OK" : "UNKNOWN");
    buffer_add_json_string(out, served->problem);
    buffer_add_text(out, "}}]}");
    return 200;
}

static const char *dtype(enum nn_datatype datatype)
{
    static const char *const names[] = {[NN_FP32] = "DT_FLOAT",
                                        [NN_INT64] = "DT_INT64",
                                        [NN_INT32] = "DT_INT32",
                                        [NN_UINT8] = "DT_UINT8",
                                        [NN_BOOL] = "DT_BOOL"};
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
    const struct served *served = find_available(r, &status);
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
