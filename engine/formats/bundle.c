#include "engine/formats/bundle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/formats/graph_json.h"
#include "engine/formats/json_read.h"

enum { MAX_LABELS = 65536 };

static const char GOLDEN[] = "golden.";
static const char GOLDEN_INPUT[] = "golden.input.";
static const char GOLDEN_OUTPUT[] = "golden.output.";

static bool has_prefix(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

const char *bundle_metadata(const struct bundle *bundle, const char *key)
{
    return safetensors_metadata(&bundle->file, key);
}

static void release_labels(struct bundle *bundle)
{
    for (int i = 0; i < bundle->n_labels; i++)
        free(bundle->labels[i]);
    free(bundle->labels);
    bundle->labels = NULL;
    bundle->n_labels = 0;
}

void bundle_release(struct bundle *bundle)
{
    graph_free(bundle->graph);
    release_labels(bundle);
    free(bundle->golden_inputs);
    free(bundle->golden_outputs);
    safetensors_release(&bundle->file);
    *bundle = (struct bundle){0};
}

/* reading: metadata */

static int check_metadata(const struct safetensors *file, struct nn_error *error)
{
    const char *format = safetensors_metadata(file, "format");
    if (!format)
        return nn_fail(error, "not a predictd bundle: its metadata has no \"format\"");
    if (strcmp(format, BUNDLE_FORMAT) != 0)
        return nn_fail(error, "the format is \"%s\", expected \"%s\"", format, BUNDLE_FORMAT);

    static const char *const known[] = {"format", "graph", "labels", "recipe", "training"};
    for (int i = 0; i < file->n_metadata; i++) {
        size_t k = 0, n = sizeof known / sizeof known[0];
        while (k < n && strcmp(known[k], file->metadata[i].key) != 0)
            k++;
        if (k == n)
            return nn_fail(error, "unknown metadata \"%s\"; known are \"format\", \"graph\", "
                                  "\"labels\", \"recipe\" and \"training\"",
                           file->metadata[i].key);
    }
    return 0;
}

static int check_object(const char *text, struct nn_error *error)
{
    json_t *value = json_read_text(text, strlen(text), error);
    if (!value)
        return -1;
    int result = 0;
    if (!json_is_object(value))
        result = nn_fail(error, "expected an object, got %s", json_read_kind(value));
    json_decref(value);
    return result;
}

/* The descriptions of where a model comes from: "recipe" and "training". */
static int check_provenance(const char *key, const char *text, struct nn_error *error)
{
    return text && check_object(text, error) != 0 ? nn_fail_in(error, "%s", key) : 0;
}

static int take_labels(struct bundle *bundle, const json_t *array, struct nn_error *error)
{
    if (!json_is_array(array))
        return nn_fail(error, "expected an array, got %s", json_read_kind(array));
    size_t n = json_array_size(array);
    if (n == 0 || n > MAX_LABELS)
        return nn_fail(error, "expected 1 to %d labels, got %zu", MAX_LABELS, n);
    bundle->labels = calloc(n, sizeof *bundle->labels);
    if (!bundle->labels)
        return nn_fail(error, "out of memory");

    size_t i;
    json_t *label;
    json_array_foreach((json_t *)array, i, label)
    {
        if (!json_is_string(label))
            return nn_fail(error, "[%zu]: expected a string, got %s", i, json_read_kind(label));
        bundle->labels[i] = strdup(json_string_value(label));
        if (!bundle->labels[i])
            return nn_fail(error, "out of memory");
        bundle->n_labels++;
    }
    return 0;
}

static int read_labels(struct bundle *bundle, struct nn_error *error)
{
    const char *text = bundle_metadata(bundle, "labels");
    if (!text)
        return 0;
    json_t *array = json_read_text(text, strlen(text), error);
    int result = array ? take_labels(bundle, array, error) : -1;
    json_decref(array);
    return result == 0 ? 0 : nn_fail_in(error, "labels");
}

/* reading: tensors */

/* Elements that no weight or sample may have: infinities and NaN, booleans other than 0
 * and 1. */
static int check_elements(const struct nn_tensor *tensor, struct nn_error *error)
{
    int64_t n = shape_elements(&tensor->shape);
    const nn_real *reals = tensor->datatype == NN_FP32 ? tensor->data : NULL;
    bool other = !reals && nn_datatype_is_real(tensor->datatype);
    for (int64_t i = 0; i < n && (reals || other); i++)
        if (reals ? !isfinite(reals[i]) : !isfinite(nn_tensor_element(tensor, i)))
            return nn_fail(error, "element %lld is not finite", (long long)i);
    if (tensor->datatype == NN_BOOL) {
        const uint8_t *x = tensor->data;
        for (int64_t i = 0; i < n; i++)
            if (x[i] > 1)
                return nn_fail(error, "element %lld is %d, not 0 or 1", (long long)i, x[i]);
    }
    return 0;
}

/* Whether `name`, behind its prefix, is one of the graph's inputs or outputs. */
static bool is_port(const struct graph *g, const int *ports, int n, const char *name)
{
    int value = graph_find(g, name);
    for (int i = 0; i < n; i++)
        if (ports[i] == value)
            return true;
    return false;
}

static bool is_golden(const struct graph *g, const char *name)
{
    if (has_prefix(name, GOLDEN_INPUT))
        return is_port(g, g->inputs, g->n_inputs, name + strlen(GOLDEN_INPUT));
    if (has_prefix(name, GOLDEN_OUTPUT))
        return is_port(g, g->outputs, g->n_outputs, name + strlen(GOLDEN_OUTPUT));
    return false;
}

static int check_tensors(const struct bundle *bundle, struct nn_error *error)
{
    const struct graph *g = bundle->graph;
    for (int i = 0; i < bundle->file.n_entries; i++) {
        const struct safetensors_entry *entry = &bundle->file.entries[i];
        if (has_prefix(entry->name, GOLDEN)) {
            if (!is_golden(g, entry->name))
                return nn_fail(error, "tensor \"%s\": the graph has no such input or output",
                               entry->name);
        } else {
            int value = graph_find(g, entry->name);
            if (value < 0 || g->values[value].type.constant != entry->tensor.data)
                return nn_fail(error, "tensor \"%s\": no node uses it", entry->name);
        }
        if (check_elements(&entry->tensor, error) != 0)
            return nn_fail_in(error, "tensor \"%s\"", entry->name);
    }
    return 0;
}

/* reading: golden samples */

/* Finds golden.<what>.<name> of every port. The tensors' elements stay the file's. */
static int find_golden(const struct bundle *bundle, const char *prefix, const int *ports, int n,
                       struct nn_tensor **found, struct nn_error *error)
{
    *found = calloc((size_t)n, sizeof **found);
    char *name = NULL;
    if (!*found)
        return nn_fail(error, "out of memory");
    for (int i = 0; i < n; i++) {
        if (asprintf(&name, "%s%s", prefix, bundle->graph->values[ports[i]].name) < 0)
            return nn_fail(error, "out of memory");
        const struct nn_tensor *tensor = safetensors_find(&bundle->file, name);
        if (!tensor)
            nn_fail(error, "the golden samples are incomplete: tensor \"%s\" is missing", name);
        else
            (*found)[i] = *tensor;
        free(name);
        if (!tensor)
            return -1;
    }
    return 0;
}

static int check_sample(const char *prefix, const char *name, const struct nn_tensor *tensor,
                        enum nn_datatype datatype, const struct nn_shape *shape,
                        struct nn_error *error)
{
    struct shape_text came, expected;
    if (tensor->datatype != datatype)
        return nn_fail(error, "tensor \"%s%s\": expected %s, got %s", prefix, name,
                       nn_datatype_name(datatype), nn_datatype_name(tensor->datatype));
    if (!shape_equal(&tensor->shape, shape))
        return nn_fail(error, "tensor \"%s%s\": expected the shape %s, got %s", prefix, name,
                       shape_print(shape, &expected), shape_print(&tensor->shape, &came));
    return 0;
}

/* The rows of the golden samples: those of the first input with a batch. */
static int64_t golden_rows(const struct bundle *bundle)
{
    const struct graph *g = bundle->graph;
    for (int i = 0; i < g->n_inputs; i++) {
        const struct nn_shape *declared = &g->values[g->inputs[i]].declared;
        const struct nn_shape *shape = &bundle->golden_inputs[i].shape;
        if (declared->rank > 0 && declared->dims[0] == -1)
            return shape->rank > 0 ? shape->dims[0] : 0;
    }
    return 1;
}

static int check_golden(struct bundle *bundle, struct nn_error *error)
{
    struct graph *g = bundle->graph;
    int64_t rows = golden_rows(bundle);
    for (int i = 0; i < g->n_inputs; i++) {
        const struct graph_value *value = &g->values[g->inputs[i]];
        struct nn_shape shape = value->declared;
        if (shape.rank > 0 && shape.dims[0] == -1)
            shape.dims[0] = rows > 0 ? rows : 1;
        if (check_sample(GOLDEN_INPUT, value->name, &bundle->golden_inputs[i],
                         value->type.datatype, &shape, error) != 0)
            return -1;
    }
    if (graph_infer(g, rows, error) != 0)
        return nn_fail_in(error, "%lld golden samples", (long long)rows);
    for (int i = 0; i < g->n_outputs; i++) {
        const struct graph_value *value = &g->values[g->outputs[i]];
        if (check_sample(GOLDEN_OUTPUT, value->name, &bundle->golden_outputs[i],
                         value->type.datatype, &value->type.shape, error) != 0)
            return -1;
    }
    return 0;
}

static int read_golden(struct bundle *bundle, struct nn_error *error)
{
    bool any = false;
    for (int i = 0; i < bundle->file.n_entries; i++)
        any |= has_prefix(bundle->file.entries[i].name, GOLDEN);
    if (!any)
        return 0;

    const struct graph *g = bundle->graph;
    if (find_golden(bundle, GOLDEN_INPUT, g->inputs, g->n_inputs, &bundle->golden_inputs,
                    error) != 0 ||
        find_golden(bundle, GOLDEN_OUTPUT, g->outputs, g->n_outputs,
                       &bundle->golden_outputs, error) != 0)
        return -1;
    return check_golden(bundle, error);
}

static int read_content(struct bundle *bundle, struct nn_error *error)
{
    if (check_metadata(&bundle->file, error) != 0 ||
        check_provenance("recipe", bundle_metadata(bundle, "recipe"), error) != 0 ||
        check_provenance("training", bundle_metadata(bundle, "training"), error) != 0 ||
        read_labels(bundle, error) != 0)
        return -1;

    const char *text = bundle_metadata(bundle, "graph");
    if (!text)
        return nn_fail(error, "its metadata has no \"graph\"");
    bundle->graph = graph_json_read(text, &bundle->file, error);
    if (!bundle->graph)
        return -1;
    bundle->graph->may_discard = true;
    if (check_tensors(bundle, error) != 0 || read_golden(bundle, error) != 0)
        return -1;
    return graph_infer(bundle->graph, 1, error);
}

int bundle_read(struct bundle *bundle, const char *path, struct nn_error *error)
{
    *bundle = (struct bundle){0};
    if (safetensors_read(&bundle->file, path, error) != 0)
        return -1;
    if (read_content(bundle, error) != 0) {
        bundle_release(bundle);
        return nn_fail_in(error, "%s", path);
    }
    return 0;
}

/* writing */

/* The file that is being put together. Names of golden samples and all that is in metadata
 * are its own; elements and the names of constants are the content's. */
struct draft {
    struct safetensors file;
    char *owned[5 + 2 * GRAPH_JSON_MAX_PORTS];
    int n_owned;
};

static int own(struct draft *draft, char *text, struct nn_error *error)
{
    if (!text)
        return nn_fail(error, "out of memory");
    draft->owned[draft->n_owned++] = text;
    return 0;
}

static void add_metadata(struct draft *draft, const char *key, const char *value)
{
    if (value)
        draft->file.metadata[draft->file.n_metadata++] =
            (struct safetensors_metadata){key, value};
}

static void add_tensor(struct draft *draft, const char *name, const struct nn_tensor *tensor)
{
    draft->file.entries[draft->file.n_entries++] =
        (struct safetensors_entry){name, *tensor};
}

static int write_labels(struct draft *draft, const struct bundle_content *content,
                        struct nn_error *error)
{
    if (content->n_labels == 0)
        return 0;
    json_t *array = json_array();
    int result = 0;
    for (int i = 0; i < content->n_labels; i++)
        result |= json_array_append_new(array, json_string(content->labels[i]));
    char *text = result == 0 ? json_print(array, JSON_COMPACT) : NULL;
    json_decref(array);
    if (!text)
        return nn_fail(error, "a label is not UTF-8, or there is no memory for the labels");
    add_metadata(draft, "labels", text);
    return own(draft, text, error);
}

static int write_metadata(struct draft *draft, const struct bundle_content *content,
                          struct nn_error *error)
{
    char *graph = graph_json_write(content->graph, error);
    if (own(draft, graph, error) != 0)
        return -1;
    add_metadata(draft, "format", BUNDLE_FORMAT);
    add_metadata(draft, "graph", graph);
    add_metadata(draft, "recipe", content->recipe);
    add_metadata(draft, "training", content->training);
    if (check_provenance("recipe", content->recipe, error) != 0 ||
        check_provenance("training", content->training, error) != 0)
        return -1;
    return write_labels(draft, content, error);
}

/* Only what a node names: a constant that nobody uses could not be read again. */
static int write_constants(struct draft *draft, const struct graph *g, struct nn_error *error)
{
    bool *used = calloc((size_t)g->n_values + 1, sizeof *used);
    if (!used)
        return nn_fail(error, "out of memory");
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].inputs[k] != GRAPH_NONE)
                used[g->nodes[i].inputs[k]] = true;

    int result = 0;
    for (int i = 0; i < g->n_values && result == 0; i++) {
        const struct graph_value *value = &g->values[i];
        if (!used[i] || value->is_input || value->producer >= 0)
            continue;
        if (has_prefix(value->name, GOLDEN))
            result = nn_fail(error, "constant \"%s\": names in \"%s\" are reserved",
                             value->name, GOLDEN);
        add_tensor(draft, value->name,
                   &(struct nn_tensor){value->type.datatype, value->type.shape,
                                       (void *)value->type.constant});
    }
    free(used);
    return result;
}

static int write_golden(struct draft *draft, const struct graph *g, const char *prefix,
                        const int *ports, int n, const struct nn_tensor *tensors,
                        struct nn_error *error)
{
    for (int i = 0; tensors && i < n; i++) {
        char *name;
        if (asprintf(&name, "%s%s", prefix, g->values[ports[i]].name) < 0)
            name = NULL;
        if (own(draft, name, error) != 0)
            return -1;
        add_tensor(draft, name, &tensors[i]);
    }
    return 0;
}

static int write_draft(struct draft *draft, const struct bundle_content *content,
                       struct nn_error *error)
{
    const struct graph *g = content->graph;
    if (g->n_inputs > GRAPH_JSON_MAX_PORTS || g->n_outputs > GRAPH_JSON_MAX_PORTS)
        return nn_fail(error, "a graph of %d inputs and %d outputs; the limit is %d",
                       g->n_inputs, g->n_outputs, GRAPH_JSON_MAX_PORTS);
    draft->file.metadata = calloc(5, sizeof *draft->file.metadata);
    draft->file.entries = calloc((size_t)(g->n_values + g->n_inputs + g->n_outputs) + 1,
                                 sizeof *draft->file.entries);
    if (!draft->file.metadata || !draft->file.entries)
        return nn_fail(error, "out of memory");

    if (write_metadata(draft, content, error) != 0 || write_constants(draft, g, error) != 0)
        return -1;
    if (write_golden(draft, g, GOLDEN_INPUT, g->inputs, g->n_inputs, content->golden_inputs,
                     error) != 0)
        return -1;
    return write_golden(draft, g, GOLDEN_OUTPUT, g->outputs, g->n_outputs,
                        content->golden_outputs, error);
}

int bundle_write(const struct bundle_content *content, const char *path,
                 struct nn_error *error)
{
    struct draft draft = {0};
    int result = write_draft(&draft, content, error);
    if (result == 0)
        result = safetensors_write(&draft.file, path, error);
    else
        nn_fail_in(error, "%s", path);

    for (int i = 0; i < draft.n_owned; i++)
        free(draft.owned[i]);
    free(draft.file.metadata);
    free(draft.file.entries);
    return result;
}
