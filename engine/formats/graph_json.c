#include "engine/formats/graph_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/formats/json_read.h"

/* reading */

static int read_shape(const json_t *array, struct nn_shape *shape, struct nn_error *error)
{
    if (json_array_size(array) > NN_MAX_RANK)
        return nn_fail(error, "\"shape\": %zu dimensions, at most %d are supported",
                       json_array_size(array), NN_MAX_RANK);
    shape->rank = (int)json_array_size(array);
    for (int i = 0; i < shape->rank; i++) {
        const json_t *dim = json_array_get(array, (size_t)i);
        if (!json_is_integer(dim))
            return nn_fail(error, "\"shape\"[%d]: expected an integer, got %s", i,
                           json_read_kind(dim));
        shape->dims[i] = json_integer_value(dim);
    }
    return 0;
}

static int read_input(struct graph *g, const json_t *value, struct nn_error *error)
{
    static const char *const keys[] = {"name", "datatype", "shape", NULL};
    if (json_read_keys(value, keys, error) != 0)
        return -1;
    const json_t *name = json_read_member(value, "name", JSON_STRING, error);
    const json_t *datatype = json_read_member(value, "datatype", JSON_STRING, error);
    const json_t *dims = json_read_member(value, "shape", JSON_ARRAY, error);
    if (!name || !datatype || !dims)
        return -1;

    int type = nn_datatype_find(json_string_value(datatype));
    if (strcmp(json_string_value(datatype), "BYTES") == 0)
        return nn_fail(error, "datatype BYTES: a model takes numbers; no operation here knows "
                              "strings");
    if (type < 0)
        return nn_fail(error, "unknown datatype \"%s\"; known are FP64, FP32, FP16, BF16, INT64 "
                              "to INT8, UINT64 to UINT8 and BOOL", json_string_value(datatype));
    if (json_string_length(name) == 0)
        return nn_fail(error, "\"name\" is empty");
    struct nn_shape shape;
    if (read_shape(dims, &shape, error) != 0)
        return -1;
    return graph_add_input(g, json_string_value(name), (enum nn_datatype)type, &shape,
                           error) < 0 ? -1 : 0;
}

static int read_ints(const struct op *op, void *attributes, const char *key,
                     const json_t *array, struct nn_error *error)
{
    int64_t values[OP_MAX_INTS];
    if (json_array_size(array) > OP_MAX_INTS)
        return nn_fail(error, "attribute \"%s\" has %zu integers, at most %d are supported",
                       key, json_array_size(array), OP_MAX_INTS);
    int n = (int)json_array_size(array);
    for (int i = 0; i < n; i++) {
        const json_t *element = json_array_get(array, (size_t)i);
        if (!json_is_integer(element))
            return nn_fail(error, "attribute \"%s\"[%d]: expected an integer, got %s", key, i,
                           json_read_kind(element));
        values[i] = json_integer_value(element);
    }
    return op_set_ints(op, attributes, key, values, n, error);
}

/* What came decides which function it is handed to; that one says when it does not fit. */
static int read_attribute(const struct op *op, void *attributes, const char *key,
                          const json_t *value, struct nn_error *error)
{
    if (json_is_integer(value))
        return op_set_int(op, attributes, key, json_integer_value(value), error);
    if (json_is_real(value))
        return op_set_float(op, attributes, key, json_real_value(value), error);
    if (json_is_string(value))
        return op_set_string(op, attributes, key, json_string_value(value), error);
    if (json_is_array(value))
        return read_ints(op, attributes, key, value, error);
    return nn_fail(error, "attribute \"%s\" is %s", key, json_read_kind(value));
}

static int read_attributes(const struct op *op, void *attributes, const json_t *object,
                           struct nn_error *error)
{
    op_attributes_init(op, attributes);
    if (object && !json_is_object(object))
        return nn_fail(error, "\"attributes\": expected an object, got %s",
                       json_read_kind(object));

    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        if (read_attribute(op, attributes, key, value, error) != 0)
            return -1;
    }
    for (const struct op_attribute *row = op->attributes; row && row->name; row++)
        if (row->required && !json_object_get(object, row->name))
            return nn_fail(error, "attribute \"%s\" is missing", row->name);
    return 0;
}

/* The value that a node's input names: what is already in the graph, or a constant that is
 * now added to it. */
static int find_value(struct graph *g, const char *name, const struct safetensors *constants,
                      int *value, struct nn_error *error)
{
    *value = GRAPH_NONE;
    if (name[0] == '\0')
        return 0;
    *value = graph_find(g, name);
    if (*value >= 0)
        return 0;
    const struct nn_tensor *tensor = safetensors_find(constants, name);
    if (!tensor || strncmp(name, "golden.", 7) == 0)
        return nn_fail(error, "\"%s\" is neither an input, nor an output of an earlier node, "
                              "nor a tensor of the file", name);
    *value = graph_add_constant(g, name, tensor, error);
    return *value < 0 ? nn_fail_in(error, "constant \"%s\"", name) : 0;
}

/* Borrows the strings of an array into `names`, room for all of them. */
static int read_names(const json_t *array, const char *key, const char **names,
                      struct nn_error *error)
{
    size_t i;
    json_t *name;
    json_array_foreach((json_t *)array, i, name)
    {
        if (!json_is_string(name))
            return nn_fail(error, "\"%s\"[%zu]: expected a string, got %s", key, i,
                           json_read_kind(name));
        names[i] = json_string_value(name);
    }
    return 0;
}

static int read_node(struct graph *g, const struct op *op, const json_t *node,
                     const struct safetensors *constants, struct nn_error *error)
{
    static const char *const keys[] = {"op", "inputs", "outputs", "attributes", NULL};
    if (json_read_keys(node, keys, error) != 0)
        return -1;
    const json_t *inputs = json_read_member(node, "inputs", JSON_ARRAY, error);
    const json_t *outputs = json_read_member(node, "outputs", JSON_ARRAY, error);
    if (!inputs || !outputs)
        return -1;

    int result = -1;
    size_t n_inputs = json_array_size(inputs), n_outputs = json_array_size(outputs);
    const char **names = calloc(n_inputs + n_outputs + 1, sizeof *names);
    int *values = calloc(n_inputs + 1, sizeof *values);
    void *attributes = calloc(1, op->attributes_size + 1);
    if (!names || !values || !attributes) {
        nn_fail(error, "out of memory");
        goto done;
    }
    if (read_names(inputs, "inputs", names, error) != 0 ||
        read_names(outputs, "outputs", names + n_inputs, error) != 0 ||
        read_attributes(op, attributes, json_object_get(node, "attributes"), error) != 0)
        goto done;
    for (size_t i = 0; i < n_inputs; i++)
        if (find_value(g, names[i], constants, &values[i], error) != 0) {
            nn_fail_in(error, "\"inputs\"[%zu]", i);
            goto done;
        }
    result = graph_add_node_outputs(g, op, attributes, (int)n_outputs, names + n_inputs,
                                    (int)n_inputs, values, error) < 0 ? -1 : 0;

done:
    free(attributes);
    free(values);
    free(names);
    return result;
}

static int read_nodes(struct graph *g, const json_t *nodes,
                      const struct safetensors *constants, struct nn_error *error)
{
    size_t i;
    json_t *node;
    json_array_foreach((json_t *)nodes, i, node)
    {
        if (!json_is_object(node))
            return nn_fail(error, "nodes[%zu]: expected an object, got %s", i,
                           json_read_kind(node));
        const json_t *name = json_read_member(node, "op", JSON_STRING, error);
        if (!name)
            return nn_fail_in(error, "nodes[%zu]", i);
        const struct op *op = op_find(json_string_value(name));
        if (!op)
            return nn_fail(error, "nodes[%zu]: unknown operation \"%s\", did you mean \"%s\"?",
                           i, json_string_value(name), op_nearest(json_string_value(name)));
        if (read_node(g, op, node, constants, error) != 0)
            return nn_fail_in(error, "nodes[%zu] (%s)", i, op->name);
    }
    return 0;
}

static int read_output(struct graph *g, const json_t *name, struct nn_error *error)
{
    if (!json_is_string(name))
        return nn_fail(error, "expected a string, got %s", json_read_kind(name));
    int value = graph_find(g, json_string_value(name));
    if (value < 0 || (g->values[value].producer < 0 && !g->values[value].is_input))
        return nn_fail(error, "\"%s\" is neither an input nor an output of a node",
                       json_string_value(name));
    return graph_add_output(g, value, error) < 0 ? -1 : 0;
}

static int check_count(const json_t *array, const char *key, size_t minimum, size_t maximum,
                       struct nn_error *error)
{
    size_t n = json_array_size(array);
    if (n < minimum)
        return nn_fail(error, "\"%s\" is empty", key);
    if (n > maximum)
        return nn_fail(error, "%zu %s; the limit is %zu", n, key, maximum);
    return 0;
}

static int read_graph(struct graph *g, const json_t *document,
                      const struct safetensors *constants, struct nn_error *error)
{
    static const char *const keys[] = {"inputs", "nodes", "outputs", NULL};
    if (json_read_keys(document, keys, error) != 0)
        return nn_fail_in(error, "graph");
    const json_t *inputs = json_read_member(document, "inputs", JSON_ARRAY, error);
    const json_t *nodes = json_read_member(document, "nodes", JSON_ARRAY, error);
    const json_t *outputs = json_read_member(document, "outputs", JSON_ARRAY, error);
    if (!inputs || !nodes || !outputs ||
        check_count(inputs, "inputs", 1, GRAPH_JSON_MAX_PORTS, error) != 0 ||
        check_count(nodes, "nodes", 0, GRAPH_MAX_NODES, error) != 0 ||
        check_count(outputs, "outputs", 1, GRAPH_JSON_MAX_PORTS, error) != 0)
        return nn_fail_in(error, "graph");

    size_t i;
    json_t *value;
    json_array_foreach((json_t *)inputs, i, value)
    {
        if (read_input(g, value, error) != 0)
            return nn_fail_in(error, "inputs[%zu]", i);
    }
    if (read_nodes(g, nodes, constants, error) != 0)
        return -1;
    json_array_foreach((json_t *)outputs, i, value)
    {
        if (read_output(g, value, error) != 0)
            return nn_fail_in(error, "outputs[%zu]", i);
    }
    return 0;
}

struct graph *graph_json_read(const char *text, const struct safetensors *constants,
                              struct nn_error *error)
{
    json_t *document = json_read_text(text, strlen(text), error);
    if (!document) {
        nn_fail_in(error, "graph");
        return NULL;
    }
    struct graph *g = graph_new();
    if (!g)
        nn_fail(error, "out of memory");
    else if (read_graph(g, document, constants, error) != 0) {
        graph_free(g);
        g = NULL;
    }
    json_decref(document);
    return g;
}

/* writing
 *
 * Jansson passes a NULL on: a value that could not be made is refused where it is put into an
 * array or object, which returns -1. A json_pack() that fails leaks what "o" should have handed
 * over, so everything is packed by "O". */

static json_t *write_shape(const struct nn_shape *shape)
{
    json_t *array = json_array();
    for (int i = 0; i < shape->rank; i++)
        if (json_array_append_new(array, json_integer(shape->dims[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

static json_t *write_names(const struct graph *g, const int *values, int n)
{
    json_t *array = json_array();
    for (int i = 0; i < n; i++) {
        const char *name = values[i] == GRAPH_NONE ? "" : g->values[values[i]].name;
        if (json_array_append_new(array, json_string(name)) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* The digits after which strtod() gives `value` again, 17 at most. Both functions follow the
 * same locale. */
static size_t digits_of(double value)
{
    char text[64];
    for (int digits = 1; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            return (size_t)digits;
    }
    return 17;
}

static json_t *write_ints(const struct op_ints *ints)
{
    json_t *array = json_array();
    for (int i = 0; i < ints->n; i++)
        if (json_array_append_new(array, json_integer(ints->values[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

/* Adds an attribute to `object` unless it has its default. *digits grows to what it needs. */
static int write_attribute(json_t *object, const struct op_attribute *row,
                           const void *attributes, const void *defaults, size_t *digits)
{
    json_t *value = NULL;
    const void *field = (const char *)attributes + row->offset;
    const void *initial = (const char *)defaults + row->offset;
    switch (row->kind) {
    case OP_INT: {
        int64_t number = *(const int64_t *)field;
        if (!row->required && number == *(const int64_t *)initial)
            return 0;
        value = json_integer(number);
        break;
    }
    case OP_FLOAT: {
        double number = *(const double *)field;
        if (!row->required && number == *(const double *)initial)
            return 0;
        size_t needed = digits_of(number);
        *digits = needed > *digits ? needed : *digits;
        value = json_real(number);
        break;
    }
    case OP_INTS: {
        const struct op_ints *ints = field, *other = initial;
        if (ints->n == other->n &&
            memcmp(ints->values, other->values, (size_t)ints->n * sizeof ints->values[0]) == 0)
            return 0;
        value = write_ints(ints);
        break;
    }
    case OP_CHOICE: {
        int choice = *(const int *)field;
        if (!row->required && choice == *(const int *)initial)
            return 0;
        value = json_string(row->choices[choice]);
        break;
    }
    }
    return json_object_set_new(object, row->name, value);
}

static int write_attributes(json_t *node, const struct op *op, const void *attributes,
                            size_t *digits)
{
    void *defaults = calloc(1, op->attributes_size + 1);
    json_t *object = json_object();
    if (!defaults || !object) {
        json_decref(object);
        free(defaults);
        return -1;
    }
    op_attributes_init(op, defaults);
    int result = 0;
    for (const struct op_attribute *row = op->attributes; row && row->name; row++)
        result |= write_attribute(object, row, attributes, defaults, digits);
    if (json_object_size(object) > 0)
        result |= json_object_set(node, "attributes", object);
    json_decref(object);
    free(defaults);
    return result;
}

static json_t *write_input(const struct graph_value *value)
{
    json_t *shape = write_shape(&value->declared);
    json_t *object = json_pack("{s:s, s:s, s:O}", "name", value->name, "datatype",
                               nn_datatype_name(value->type.datatype), "shape", shape);
    json_decref(shape);
    return object;
}

static json_t *write_node(const struct graph *g, const struct graph_node *node, size_t *digits)
{
    json_t *inputs = write_names(g, node->inputs, node->n_inputs);
    json_t *outputs = write_names(g, node->outputs, node->n_outputs);
    json_t *object = json_pack("{s:s, s:O, s:O}", "op", node->op->name, "inputs", inputs,
                               "outputs", outputs);
    json_decref(inputs);
    json_decref(outputs);
    if (object && write_attributes(object, node->op, node->attributes, digits) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

char *graph_json_write(const struct graph *g, struct nn_error *error)
{
    json_t *inputs = json_array(), *nodes = json_array();
    size_t digits = 1;          /* of the longest of all: Jansson has one setting for all */
    int result = 0;
    for (int i = 0; i < g->n_inputs; i++)
        result |= json_array_append_new(inputs, write_input(&g->values[g->inputs[i]]));
    for (int i = 0; i < g->n_nodes; i++)
        result |= json_array_append_new(nodes, write_node(g, &g->nodes[i], &digits));

    json_t *outputs = write_names(g, g->outputs, g->n_outputs);
    json_t *document =
        json_pack("{s:O, s:O, s:O}", "inputs", inputs, "nodes", nodes, "outputs", outputs);
    char *text = NULL;
    if (result == 0 && document)
        text = json_print(document,
                          JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(digits));
    if (!text)
        nn_fail(error, "the graph has a name that is not UTF-8, an attribute that is not "
                       "finite, or there is no memory to write it");
    json_decref(document);
    json_decref(inputs);
    json_decref(nodes);
    json_decref(outputs);
    return text;
}
