#include "server/v2_outputs.h"

enum { MAX_CLASSES = 1 << 20 }; /* strings in an answer */

static int add_output(struct v2_reader *v, int index)
{
    struct v2_request *q = v->request;
    for (int i = 0; i < q->n_outputs; i++)
        if (q->outputs[i].index == index)
            return json_reader_refuse(&v->json, "output '%s' already exists in request",
                                      nn_model_output(v->json.rows->model, index)->name);
    v->form[q->n_outputs] = -1;
    q->outputs[q->n_outputs++] = (struct v2_output){.index = index};
    return 0;
}

struct v2_wanted {
    int index; /* -1: no name yet */
    bool said, binary;
    int64_t classes;
};

static int read_output_parameter(struct v2_reader *v, const struct json_text *key,
                                 void *context)
{
    struct v2_wanted *w = context;
    if (json_text_equal(key, "classification"))
        return v2_reader_unsigned(v, "classification", UINT64_MAX, &w->classes);
    if (!json_text_equal(key, "binary_data"))
        return v2_reader_skip_parameter(v, key);
    w->said = true;
    return v2_reader_boolean(v, "binary_data", &w->binary);
}

static int read_output_member(struct v2_reader *v, const struct json_text *key, void *context)
{
    struct v2_wanted *w = context;
    const struct nn_model *model = v->json.rows->model;
    struct json_text name;

    if (json_text_equal(key, "parameters"))
        return v2_reader_object(v, "parameters", read_output_parameter, w);
    if (!json_text_equal(key, "name"))
        return v2_reader_skip(v);
    if (w->index >= 0)
        return json_reader_refuse(&v->json, "an output has two names");
    if (v2_reader_string(v, "name", &name) != 0)
        return -1;
    for (int i = 0; i < nn_model_n_outputs(model); i++) {
        if (json_text_equal(&name, nn_model_output(model, i)->name)) {
            w->index = i;
            return 0;
        }
    }
    return json_reader_refuse(&v->json, "unexpected inference output '%.*s' for model '%s'",
                              json_text_shown(&name), name.begin, v->model);
}

static int read_output(struct v2_reader *v, void *context)
{
    struct v2_wanted w = {.index = -1};
    (void)context;
    if (v2_reader_object(v, "outputs", read_output_member, &w) != 0)
        return -1;
    if (w.index < 0)
        return json_reader_refuse(&v->json, "an output has no 'name'");
    if (add_output(v, w.index) != 0)
        return -1;
    int i = v->request->n_outputs - 1;
    v->form[i] = w.said ? w.binary : -1;
    v->request->outputs[i].classes = w.classes;
    return 0;
}

int v2_outputs_read(struct v2_reader *v)
{
    return v2_reader_array(v, "outputs", read_output, NULL);
}

int v2_outputs_finish(struct v2_reader *v)
{
    struct v2_request *q = v->request;
    const struct nn_model *model = v->json.rows->model;
    if (q->n_outputs == 0)
        for (int i = 0; i < nn_model_n_outputs(model); i++)
            add_output(v, i);
    for (int i = 0; i < q->n_outputs; i++) {
        struct v2_output *o = &q->outputs[i];
        const struct nn_port *port = nn_model_output(model, o->index);
        int64_t elements = tensor_row_elements(port), rows = v->json.rows->n;
        int64_t classes = o->classes < elements ? o->classes : elements;
        o->binary = v->form[i] < 0 ? v->all_binary : v->form[i];
        if (v2_needs_binary(port) && !o->binary && !o->classes)
            return json_reader_refuse(
                &v->json,
                "sending %s data via JSON is not supported. Please use the binary data "
                "format for output %s",
                nn_datatype_name(port->datatype), port->name);
        if (classes > 0 && rows > MAX_CLASSES / classes)
            return json_reader_refuse(&v->json,
                                      "output '%s': a classification of more than %d elements",
                                      port->name, MAX_CLASSES);
    }
    return 0;
}
