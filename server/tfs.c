#include "server/tfs.h"

#include "server/json_reader.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char INSTANCES[] = "instances", INPUTS[] = "inputs", EXAMPLES[] = "examples";

struct tfs_reader {
    struct json_reader json;
    const char *form; /* where the rows were, or NULL */
    bool examples;    /* wanted instead of instances or inputs */
};

/* reading */

static int read_signature(struct tfs_reader *t)
{
    struct json_text name;
    if (json_scan_peek(&t->json.scan) != '"')
        return json_reader_refuse(&t->json, "'signature_name' key must be a string value.");
    if (json_scan_string(&t->json.scan, &name, t->json.error) != 0)
        return json_reader_fail_syntax(&t->json, NULL);
    if (name.begin == name.end || json_text_equal(&name, TFS_SIGNATURE))
        return 0;
    return json_reader_refuse(&t->json,
                              "Serving signature name: \"%.*s\" not found in signature def",
                              json_text_shown(&name), name.begin);
}

/* Reads instances or examples. */
static int read_instances(struct tfs_reader *t, const char *form)
{
    struct json_scan look = t->json.scan;
    if (!json_scan_take(&look, '['))
        return json_reader_refuse(&t->json, "Expecting '%s' to be an list/array", form);
    char first = json_scan_peek(&look);
    if (first == ']')
        return json_reader_refuse(&t->json, "No values in '%s' array", form);
    if (t->examples && first != '{')
        return json_reader_refuse(&t->json, "Expecting '%s' to be a list of objects", form);
    bool plain = first == '[' || first == '-' || (first >= '0' && first <= '9');
    if (t->json.n_columns > 1 && plain)
        return json_reader_refuse(
            &t->json,
            "%s is a plain list, but expecting list of objects as multiple input "
            "tensors required as per tensorinfo_map",
            form);
    return json_reader_instances(&t->json, form);
}

static int read_member(struct tfs_reader *t, const struct json_text *key)
{
    const char *form = json_text_equal(key, INSTANCES)  ? INSTANCES
                       : json_text_equal(key, INPUTS)   ? INPUTS
                       : json_text_equal(key, EXAMPLES) ? EXAMPLES
                                                        : NULL;
    if (json_text_equal(key, "signature_name"))
        return read_signature(t);
    if (t->examples && json_text_equal(key, "context"))
        return json_reader_refuse(
            &t->json, "'context' is not supported: give its features with each example");
    if (!form || (form == EXAMPLES) != t->examples) {
        if (json_scan_value(&t->json.scan, t->json.error) != 0)
            return json_reader_fail_syntax(&t->json, NULL);
        return 0;
    }
    if (t->form == form)
        return json_reader_refuse(&t->json, "'%s' is there twice", form);
    if (t->form)
        return json_reader_refuse(
            &t->json, "Request has both: expecting only one of 'inputs' or 'instances' keys to "
                      "exist");
    t->form = form;
    return form == INPUTS ? json_reader_inputs(&t->json, form) : read_instances(t, form);
}

static int read_body(struct tfs_reader *t)
{
    struct json_scan *s = &t->json.scan;
    if (!json_scan_take(s, '{'))
        return json_reader_refuse(&t->json, "Expecting the request to be an object, got %s",
                                  json_reader_next(&t->json));
    bool more = !json_scan_take(s, '}');
    while (more) {
        struct json_text key;
        json_scan_space(s);
        if (json_scan_string(s, &key, t->json.error) != 0)
            return json_reader_fail_syntax(&t->json, NULL);
        if (!json_scan_take(s, ':'))
            return json_reader_fail_syntax(&t->json, "':'");
        if (read_member(t, &key) != 0)
            return -1;
        more = json_scan_take(s, ',');
        if (!more && !json_scan_take(s, '}'))
            return json_reader_fail_syntax(&t->json, "',' or '}'");
    }
    json_scan_space(s);
    if (s->p < s->end)
        return json_reader_fail_syntax(&t->json, "nothing more");
    if (t->form)
        return 0;
    return json_reader_refuse(&t->json, t->examples ? "Missing 'examples' key"
                                                    : "Missing 'inputs' or 'instances' key");
}

static void print_names(const struct nn_model *model, char *text, size_t size)
{
    size_t n = 0;
    *text = 0;
    for (int i = 0; i < nn_model_n_inputs(model) && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%s", i ? "," : "",
                              nn_model_input(model, i)->name);
}

/* Puts the protocol's words before ours, which name the place. */
static void explain(struct tfs_reader *t)
{
    char names[256];
    struct nn_error *error = t->json.error;
    switch (t->json.complaint) {
    case JSON_TOO_FEW:
    case JSON_TOO_MANY:
        nn_fail_in(error, "Encountered list at unexpected size");
        break;
    case JSON_WRONG_TYPE:
        nn_fail_in(error, "JSON Value is not of expected type");
        break;
    case JSON_WRONG_INPUTS:
        print_names(t->json.rows->model, names, sizeof names);
        nn_fail_in(error, "keys must be equal to: %s", names);
        break;
    case JSON_OTHER:
        break;
    }
}

static int read_request(struct http_request *request, bool examples, struct tensor_rows *rows,
                        int64_t max_rows, const char **form, struct nn_error *error)
{
    const struct buffer *body = &request->body;
    struct tfs_reader t = {.examples = examples};

    if (body->size == 0) {
        nn_fail(error, "JSON Parse error: The document is empty");
        return JSON_BAD_REQUEST;
    }
    json_reader_init(&t.json, rows, body->data, body->size, max_rows, error);
    t.json.loose = true;
    if (read_body(&t) == 0) {
        *form = t.form;
        return 0;
    }
    tensor_rows_release(rows);
    struct nn_error syntax = {0};
    if (t.json.status == JSON_BAD_REQUEST &&
        json_scan_document(body->data, body->size, &syntax) != 0) {
        if (error)
            *error = syntax;
        nn_fail_in(error, "JSON Parse error");
    } else {
        explain(&t);
    }
    return t.json.status;
}

/* predict */

/* By column or by row: that is all that an answer depends on. */
struct tfs_request {
    bool by_column;
};

static int read_predict(struct http_request *r, const struct served *served,
                        struct tensor_rows *rows, int64_t max_rows, struct nn_error *error)
{
    (void)served;
    struct tfs_request *request = malloc(sizeof *request);
    const char *form = NULL;
    r->state = request;
    if (!request) {
        nn_fail(error, "out of memory");
        return JSON_NO_MEMORY;
    }
    int status = read_request(r, false, rows, max_rows, &form, error);
    request->by_column = form == INPUTS;
    return status;
}

static int write_predict(struct http_request *r, const struct served *served,
                         const struct nn_tensor *outputs, int64_t first, int64_t n,
                         struct nn_error *error)
{
    const struct tfs_request *request = r->state;
    buffer_add_text(&r->answer, request->by_column ? "{\"outputs\":" : "{\"predictions\":");
    if ((request->by_column ? json_write_columns : json_write_predictions)(
            &r->answer, served->model, outputs, first, n, error) < 0)
        return -1;
    buffer_add_text(&r->answer, "}");
    return 0;
}

const struct codec tfs_predict_codec = {.read = read_predict, .write = write_predict};

/* classify and regress */

static bool has_scores(const struct served *served, bool single)
{
    const struct nn_port *port = nn_model_output(served->model, 0);
    return nn_datatype_is_real(port->datatype) && !nn_model_unbatched(served->model) &&
           (!single || tensor_row_elements(port) == 1);
}

static int read_examples(struct http_request *r, const struct served *served, bool single,
                         struct tensor_rows *rows, int64_t max_rows, struct nn_error *error)
{
    const char *form;
    if (!has_scores(served, single)) {
        nn_fail(error, "Expecting a model that answers row by row, first of all with %s",
                single ? "one value for each" : "the scores of each");
        return JSON_BAD_REQUEST;
    }
    return read_request(r, true, rows, max_rows, &form, error);
}

static int read_classify(struct http_request *r, const struct served *served,
                         struct tensor_rows *rows, int64_t max_rows, struct nn_error *error)
{
    return read_examples(r, served, false, rows, max_rows, error);
}

static int read_regress(struct http_request *r, const struct served *served,
                        struct tensor_rows *rows, int64_t max_rows, struct nn_error *error)
{
    return read_examples(r, served, true, rows, max_rows, error);
}

static int fail_output(const struct served *served, struct nn_error *error)
{
    return nn_fail(error, "output \"%s\" is not finite",
                   nn_model_output(served->model, 0)->name);
}

static int write_classify(struct http_request *r, const struct served *served,
                          const struct nn_tensor *outputs, int64_t first, int64_t n,
                          struct nn_error *error)
{
    const struct nn_model *model = served->model;
    int64_t classes = tensor_row_elements(nn_model_output(model, 0));
    bool labelled = nn_model_n_labels(model) == classes;
    struct buffer *out = &r->answer;

    buffer_add_text(out, "{\"results\":[");
    for (int64_t i = 0; i < n; i++) {
        buffer_add_text(out, i ? ",[" : "[");
        for (int64_t k = 0; k < classes; k++) {
            buffer_add_text(out, k ? ",[" : "[");
            buffer_add_json_string(out, labelled ? nn_model_label(model, (int)k) : "");
            buffer_add_text(out, ",");
            if (json_write_element(out, &outputs[0], (first + i) * classes + k) < 0)
                return fail_output(served, error);
            buffer_add_text(out, "]");
        }
        buffer_add_text(out, "]");
    }
    buffer_add_text(out, "]}");
    return 0;
}

static int write_regress(struct http_request *r, const struct served *served,
                         const struct nn_tensor *outputs, int64_t first, int64_t n,
                         struct nn_error *error)
{
    buffer_add_text(&r->answer, "{\"results\":");
    if (json_write_elements(&r->answer, &outputs[0], first, n) < 0)
        return fail_output(served, error);
    buffer_add_text(&r->answer, "}");
    return 0;
}

const struct codec tfs_classify_codec = {.read = read_classify, .write = write_classify};
const struct codec tfs_regress_codec = {.read = read_regress, .write = write_regress};
