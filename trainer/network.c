/*
 * From a recipe's layers to a graph, layer by layer in their order. What a layer may name as
 * an input is there before it, so the layers are a directed acyclic graph by construction.
 */
#include "trainer/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/formats/bundle.h"
#include "engine/kernels/kernels.h"
#include "trainer/layers/builder.h"

/* So many, with the longest names, still fit into a bundle's header. */
enum { MAX_LAYERS = 1024, MAX_LAYER_TYPES = 32 };

/* What a layer may name: the model's inputs, then the layers so far. */
struct source {
    const char *name;
    int value;
    bool used;
};

struct assembly {
    struct layer_builder builder;
    const struct recipe *recipe;
    struct source *sources;
    int n_sources;
    int n_of_type[MAX_LAYER_TYPES];
};

/* the model's inputs */

static int add_input(struct assembly *assembly, int i, struct nn_error *error)
{
    struct layer_builder *builder = &assembly->builder;
    const struct dataset_input *input = &assembly->recipe->inputs[i];
    snprintf(builder->path, sizeof builder->path, "inputs[%d]", i);
    builder->name = input->name;
    int value = graph_add_input(builder->network->graph, input->name, input->datatype,
                                &input->shape, error);
    if (value < 0)
        return nn_fail_in(error, "%s", builder->path);
    if (builder_learn(builder, value, error) != 0)
        return -1;
    if (input->datatype != NN_FP32) {
        const int64_t onnx_float = 1;           /* TensorProto.DataType */
        struct node_attribute to[] = {INT_ATTRIBUTE("to", onnx_float), {0}};
        value = builder_node(builder, "Cast", "fp32", to, 1, &value, error);
        if (value < 0)
            return -1;
    }
    assembly->sources[assembly->n_sources++] = (struct source){input->name, value, false};
    return 0;
}

int network_raw_input(const struct graph *graph, int value)
{
    int producer = graph->values[value].producer;
    if (producer >= 0 && strcmp(graph->nodes[producer].op->name, "Cast") == 0)
        value = graph->nodes[producer].inputs[0];
    for (int i = 0; i < graph->n_inputs; i++)
        if (graph->inputs[i] == value)
            return i;
    return -1;
}

/* one layer */

struct layer_common {
    int type;
    const char *name;
    const json_t *inputs;
};

static int find_source(const struct assembly *assembly, const char *name)
{
    for (int i = 0; i < assembly->n_sources; i++)
        if (strcmp(assembly->sources[i].name, name) == 0)
            return i;
    return -1;
}

static int unknown_source(const struct assembly *assembly, const char *path, const char *name,
                          struct nn_error *error)
{
    const char **names = calloc((size_t)assembly->n_sources + 1, sizeof *names);
    for (int i = 0; names && i < assembly->n_sources; i++)
        names[i] = assembly->sources[i].name;
    const char *nearest = names ? nearest_name(name, names) : NULL;
    if (nearest)
        nn_fail(error, "%s: nothing before it is called \"%.64s\", did you mean \"%s\"?", path,
                name, nearest);
    else
        nn_fail(error, "%s: no input and no layer before it is called \"%.64s\"", path, name);
    free(names);
    return -1;
}

/* The values that a layer takes; their number, or -1. */
static int resolve_inputs(struct assembly *assembly, const json_t *json,
                          int values[LAYER_MAX_INPUTS], struct nn_error *error)
{
    const struct layer_builder *builder = &assembly->builder;
    if (!json) {
        bool first = assembly->n_sources == assembly->recipe->n_inputs;
        if (first && assembly->n_sources > 1)
            return builder_fail(builder, error, "inputs", "the model has %d inputs, name those "
                                "that the first layer takes", assembly->n_sources);
        struct source *source = &assembly->sources[assembly->n_sources - 1];
        source->used = true;
        values[0] = source->value;
        return 1;
    }

    struct field_path path, at;
    field_path_key(&path, builder->path, "inputs");
    size_t n = json_array_size(json);
    if (n < 1 || n > LAYER_MAX_INPUTS)
        return fields_fail(error, path.text, "an array of 1 to 64 names", json);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(json, i);
        const char *name = json_string_value(item);
        field_path_index(&at, path.text, i);
        if (!name)
            return fields_fail(error, at.text, "the name of an input or a layer", item);
        int source = find_source(assembly, name);
        if (source < 0)
            return unknown_source(assembly, at.text, name, error);
        assembly->sources[source].used = true;
        values[i] = assembly->sources[source].value;
    }
    return (int)n;
}

static int check_name(const struct assembly *assembly, const char *name, struct nn_error *error)
{
    struct field_path path;
    field_path_key(&path, assembly->builder.path, "name");
    if (field_check_name(name, path.text, error) != 0)
        return -1;
    if (find_source(assembly, name) >= 0)
        return nn_fail(error, "%s: \"%s\" is the name of an input or layer already", path.text,
                       name);
    return 0;
}

/* The rows that every layer has, then the type's own, whose settings lie behind. */
static void collect_fields(const struct layer_type *type, const char *const *names,
                           struct field *rows)
{
    int n = 0;
    rows[n++] = (struct field){"type", FIELD_CHOICE, offsetof(struct layer_common, type),
                               .choices = names, .required = true};
    rows[n++] = (struct field){"name", FIELD_STRING, offsetof(struct layer_common, name),
                               .required = false};
    rows[n++] = (struct field){"inputs", FIELD_JSON, offsetof(struct layer_common, inputs),
                               .required = false};
    for (const struct field *own = type->fields; own->key; own++) {
        rows[n] = *own;
        rows[n++].offset += sizeof(struct layer_common);
    }
    rows[n] = (struct field){0};
}

/* The type's own settings lie behind the common ones. */
static int lower_layer(struct assembly *assembly, const struct layer_type *type,
                       const struct layer_common *common, struct nn_error *error)
{
    struct layer_builder *builder = &assembly->builder;
    struct network *network = builder->network;
    char name[64];
    int number = ++assembly->n_of_type[common->type];
    snprintf(name, sizeof name, "%s_%d", type->name, number);
    builder->name = common->name ? common->name : name;
    int values[LAYER_MAX_INPUTS];
    int n = resolve_inputs(assembly, common->inputs, values, error);
    if (n < 0 || check_name(assembly, builder->name, error) != 0)
        return -1;
    if (n < type->min_inputs || n > type->max_inputs)
        return builder_fail(builder, error, "inputs", "%s takes %s, got %d", type->name,
                            type->max_inputs > 1 ? "two or more" : "one", n);

    struct network_layer *layer = &network->layers[network->n_layers];
    *layer = (struct network_layer){.type = type->name,
                                    .first_node = network->graph->n_nodes,
                                    .first_parameter = network->n_parameters};
    layer->value = type->lower(builder, common + 1, n, values, error);
    if (layer->value < 0)
        return -1;
    if (builder->types[layer->value].batch != 0)
        return builder_fail(builder, error, NULL, "mixes the rows of a batch");
    layer->name = network->graph->values[layer->value].name;
    layer->n_nodes = network->graph->n_nodes - layer->first_node;
    layer->n_parameters = network->n_parameters - layer->first_parameter;
    network->n_layers++;
    assembly->sources[assembly->n_sources++] =
        (struct source){layer->name, layer->value, false};
    return 0;
}

static int add_layer(struct assembly *assembly, int i, struct nn_error *error)
{
    struct layer_builder *builder = &assembly->builder;
    const json_t *json = json_array_get(assembly->recipe->layers, (size_t)i);
    snprintf(builder->path, sizeof builder->path, "layers[%d]", i);

    const char *names[MAX_LAYER_TYPES + 1] = {NULL};
    for (int t = 0; t < MAX_LAYER_TYPES && layer_types[t]; t++)
        names[t] = layer_types[t]->name;
    struct field type_field = {"type", FIELD_CHOICE, 0, .choices = names, .required = true};
    int t;
    if (field_read(json, builder->path, &type_field, &t, error) != 0)
        return -1;

    const struct layer_type *type = layer_types[t];
    struct field rows[LAYER_MAX_FIELDS];
    collect_fields(type, names, rows);
    struct layer_common *common = calloc(1, sizeof *common + type->settings_size);
    if (!common)
        return nn_fail(error, "out of memory");
    int status = fields_read(json, builder->path, rows, common, error);
    if (status == 0)
        status = lower_layer(assembly, type, common, error);
    free(common);
    return status;
}

/* the whole */

static int check_all_used(const struct assembly *assembly, struct nn_error *error)
{
    int n_inputs = assembly->recipe->n_inputs;
    for (int i = 0; i < assembly->n_sources - 1; i++) {
        if (assembly->sources[i].used)
            continue;
        if (i < n_inputs)
            return nn_fail(error, "inputs[%d]: no layer takes \"%s\"", i,
                           assembly->sources[i].name);
        return nn_fail(error, "layers[%d]: no layer takes \"%s\", and it is not the last one",
                       i - n_inputs, assembly->sources[i].name);
    }
    return 0;
}

static bool is_trained(const struct parameter *parameter)
{
    return parameter->kind == PARAMETER_WEIGHT || parameter->kind == PARAMETER_BIAS;
}

/* Gives every parameter its place in `weights`, those that are trained first. */
static int place_parameters(struct network *network, struct nn_error *error)
{
    for (int i = 0; i < network->n_parameters; i++)
        if (is_trained(&network->parameters[i]))
            network->n_trained += network->parameters[i].size;
    if (network->n_trained == 0)
        return nn_fail(error, "layers: none of them has anything to train");
    network->weights = tensor_allocate((size_t)network->n_weights * sizeof *network->weights);
    if (!network->weights)
        return nn_fail(error, "out of memory for %lld weights", (long long)network->n_weights);
    int64_t trained = 0, other = network->n_trained;        /* where the next one goes */
    for (int i = 0; i < network->n_parameters; i++) {
        struct parameter *parameter = &network->parameters[i];
        int64_t *next = is_trained(parameter) ? &trained : &other;
        parameter->offset = *next;
        *next += parameter->size;
        network->graph->values[parameter->value].type.constant =
            network->weights + parameter->offset;
    }
    return 0;
}

static int assemble(struct assembly *assembly, struct nn_error *error)
{
    const struct recipe *recipe = assembly->recipe;
    struct network *network = assembly->builder.network;
    size_t n_layers = json_array_size(recipe->layers);
    if (n_layers < 1 || n_layers > MAX_LAYERS)
        return fields_fail(error, "layers", "an array of 1 to 1024 layers", recipe->layers);
    network->layers = calloc(n_layers, sizeof *network->layers);
    assembly->sources = calloc((size_t)recipe->n_inputs + n_layers, sizeof *assembly->sources);
    if (!network->layers || !assembly->sources)
        return nn_fail(error, "out of memory");

    for (int i = 0; i < recipe->n_inputs; i++)
        if (add_input(assembly, i, error) != 0)
            return -1;
    for (int i = 0; i < (int)n_layers; i++)
        if (add_layer(assembly, i, error) != 0)
            return -1;
    if (check_all_used(assembly, error) != 0)
        return -1;
    builder_decide_initializers(&assembly->builder);
    network->output = network->layers[network->n_layers - 1].value;
    if (place_parameters(network, error) != 0 ||
        graph_add_output(network->graph, network->output, error) < 0)
        return -1;
    return graph_infer(network->graph, BUILDER_BATCH, error);
}

struct network *network_new(const struct recipe *recipe, struct nn_error *error)
{
    struct network *network = calloc(1, sizeof *network);
    if (!network || !(network->graph = graph_new())) {
        free(network);
        nn_fail(error, "out of memory");
        return NULL;
    }
    struct assembly assembly = {.builder = {.network = network}, .recipe = recipe};
    int status = assemble(&assembly, error);
    builder_release(&assembly.builder);
    free(assembly.sources);
    if (status == 0)
        return network;
    network_free(network);
    return NULL;
}

void network_free(struct network *network)
{
    if (!network)
        return;
    graph_free(network->graph);
    free(network->parameters);
    free(network->weights);
    free(network->layers);
    free(network);
}

/* weights */

void network_initialize(struct network *network, uint64_t seed)
{
    for (int i = 0; i < network->n_parameters; i++) {
        const struct parameter *parameter = &network->parameters[i];
        initializer_fill(&parameter->initializer, kernel_random_key(seed, (uint64_t)i),
                         parameter->size, network->weights + parameter->offset);
    }
}

static const struct parameter *parameter_of(const struct network *network, int value)
{
    for (int i = 0; i < network->n_parameters; i++)
        if (network->parameters[i].value == value)
            return &network->parameters[i];
    return NULL;
}

/* standardize is Sub(input, mean), then Div(..., deviation). */
int network_fit_data(struct network *network, const struct recipe *recipe,
                     const struct dataset *train, struct nn_error *error)
{
    const struct graph *graph = network->graph;
    for (int i = 0; i < network->n_layers; i++) {
        const struct network_layer *layer = &network->layers[i];
        if (layer->n_parameters == 0 ||
            network->parameters[layer->first_parameter].kind != PARAMETER_DATA)
            continue;
        const struct graph_node *sub = &graph->nodes[layer->first_node];
        const struct graph_node *div = &graph->nodes[layer->first_node + 1];
        const struct parameter *mean = parameter_of(network, sub->inputs[1]);
        const struct parameter *deviation = parameter_of(network, div->inputs[1]);
        int input = network_raw_input(graph, sub->inputs[0]);
        if (train->n < 1 || input >= train->n_features)
            return nn_fail(error, "%s: the training data has %lld rows of %d inputs, the "
                           "recipe %d inputs", layer->name, (long long)train->n, train->n_features,
                           recipe->n_inputs);
        dataset_moments(train, input, mean->size, network->weights + mean->offset,
                        network->weights + deviation->offset);
    }
    return 0;
}

static int load_parameter(struct network *network, const struct parameter *parameter,
                          const struct safetensors *file, struct nn_error *error)
{
    const struct graph_value *value = &network->graph->values[parameter->value];
    const struct nn_tensor *tensor = safetensors_find(file, value->name);
    struct shape_text expected, got;
    if (!tensor)
        return nn_fail(error, "has no \"%s\" %s", value->name,
                       shape_print(&value->type.shape, &expected));
    if (tensor->datatype != NN_FP32 || !shape_equal(&tensor->shape, &value->type.shape))
        return nn_fail(error, "\"%s\" is %s %s, the recipe's is FP32 %s", value->name,
                       nn_datatype_name(tensor->datatype), shape_print(&tensor->shape, &got),
                       shape_print(&value->type.shape, &expected));
    memcpy(network->weights + parameter->offset, tensor->data,
           (size_t)parameter->size * sizeof *network->weights);
    return 0;
}

int network_load(struct network *network, const char *bundle_path, struct nn_error *error)
{
    struct bundle bundle;
    if (bundle_read(&bundle, bundle_path, error) != 0)
        return -1;
    int status = 0;
    for (int i = 0; i < network->n_parameters && status == 0; i++)
        status = load_parameter(network, &network->parameters[i], &bundle.file, error);
    bundle_release(&bundle);
    return status == 0 ? 0 : nn_fail_in(error, "%s", bundle_path);
}
