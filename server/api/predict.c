#include "server/api/api.h"

#include "server/json_tensor.h"
#include <string.h>

const struct served *api_choose(struct http_request *r, const struct served_model *model,
                                enum choice *why)
{
    if (!model || !r->route->predicts || *r->version || *r->label)
        return served_model_choose(model, r->version, r->label, why);
    const char *header = model->config.canary_header;
    return served_model_split(model, *header ? http_header(r, header) : NULL, why);
}

/* The model that the path names, or the default one. NULL: request is answered, *status tells
 * how. */
static const struct served_model *find_model(struct http_request *r, int *status)
{
    const struct loop *l = api_loop(r);
    const struct table *table = l->table;
    const char *name = *r->model ? r->model : l->server->options->default_model;
    const struct served_model *model = NULL;

    if (!table || table->n == 0)
        *status = http_error(r, 503, "%s",
                             table ? "no models are served" : "the models are being loaded");
    else if (!name && table->n > 1)
        *status =
            http_error(r, 404, "%zu models are served: use /models/{name}/predict", table->n);
    else if (!(model = name ? table_find(table, name) : table->models[0]))
        *status = http_error(r, 404, "there is no model %s", name);
    return model;
}

static int read_rows(struct http_request *r, const struct served *served,
                     struct tensor_rows *rows, int64_t max_rows, struct nn_error *error)
{
    (void)served;
    return json_rows_read(rows, r->body.data, r->body.size, max_rows, error);
}

static void write_labels(struct buffer *out, const struct nn_model *model,
                         const struct nn_tensor *output, int64_t first, int64_t n)
{
    size_t before = out->size;
    buffer_add_text(out, ",\"labels\":");
    if (!json_write_labels(out, model, output, first, n))
        out->size = before;
}

static int write_rows(struct http_request *r, const struct served *served,
                      const struct nn_tensor *outputs, int64_t first, int64_t n,
                      struct nn_error *error)
{
    struct buffer *out = &r->answer;
    buffer_add_text(out, "{\"predictions\":");
    if (json_write_predictions(out, served->model, outputs, first, n, error) < 0)
        return -1;
    write_labels(out, served->model, &outputs[0], first, n);
    buffer_add_text(out, ",\"model_name\":");
    buffer_add_json_string(out, served->name);
    buffer_add_text(out, ",\"model_version\":\"");
    buffer_add_integer(out, served->version);
    buffer_add_text(out, "\"}");
    return 0;
}

static const struct codec codec = {.read = read_rows, .write = write_rows};

int api_model(struct http_request *r)
{
    int status = 0;
    const struct served_model *model = find_model(r, &status);
    if (!model)
        return status;
    buffer_add(&r->answer, model->description.data, model->description.size);
    return 200;
}

int api_predict(struct http_request *r)
{
    int status = 0;
    enum choice why;
    const struct served_model *model = find_model(r, &status);
    const struct served *served = model ? api_choose(r, model, &why) : NULL;

    if (!model)
        return status;
    memcpy(r->model, model->name, sizeof r->model); /* "/predict" names none */
    if (served)
        return batcher_add(api_loop(r)->batcher, served, &codec, r);
    if (why == CHOICE_NO_VERSION)
        return http_error(r, 404, "model %s has no version %s", model->name, r->version);
    if (why == CHOICE_NO_LABEL)
        return http_error(r, 404, "model %s has no label %s", model->name, r->label);
    if (model->n == 0)
        return http_error(r, 503, "model %s has no version that can be served", model->name);
    return http_error(r, 503, "%s %s of model %s cannot be served",
                      *r->label ? "label" : "version", *r->label ? r->label : r->version,
                      model->name);
}
