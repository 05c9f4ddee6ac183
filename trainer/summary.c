#include "trainer/summary.h"

#include <errno.h>
#include <string.h>

#include "engine/formats/bundle.h"
#include "trainer/network.h"

/* One line of the table; the texts stay the caller's. */
struct row {
    const char *name, *type;
    struct nn_shape shape;      /* with -1 for the batch */
    int64_t parameters;
    double flops;
};

/* "1,234,567" */
struct count_text {
    char text[32];
};

static const char *print_count(struct count_text *out, int64_t n)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)n);
    char *to = out->text;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return out->text;
}

static const char *print_flops(struct count_text *out, double flops)
{
    static const struct {
        double unit;
        const char *prefix;
    } units[] = {{1e9, " G"}, {1e6, " M"}, {1e3, " k"}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (flops >= units[i].unit) {
            snprintf(out->text, sizeof out->text, "%.2f%s", flops / units[i].unit,
                     units[i].prefix);
            return out->text;
        }
    snprintf(out->text, sizeof out->text, "%.0f ", flops);
    return out->text;
}

static void print_line(FILE *out, const char *name, const char *type, const char *shape,
                       const char *parameters, const char *flops)
{
    fprintf(out, "%-24s %-20s %-20s %12s %12s\n", name, type, shape, parameters, flops);
}

static void print_head(FILE *out)
{
    print_line(out, "layer", "type", "output", "parameters", "FLOP");
}

static void print_row(FILE *out, const struct row *row)
{
    struct shape_text shape;
    struct count_text parameters, flops;
    print_line(out, row->name, row->type, shape_print(&row->shape, &shape),
               print_count(&parameters, row->parameters), print_flops(&flops, row->flops));
}

static struct nn_shape open_shape(const struct op_value *type)
{
    struct nn_shape shape = type->shape;
    if (type->batch >= 0)
        shape.dims[type->batch] = -1;
    return shape;
}

static void print_inputs(FILE *out, const struct graph *graph)
{
    for (int i = 0; i < graph->n_inputs; i++) {
        const struct graph_value *v = &graph->values[graph->inputs[i]];
        print_row(out, &(struct row){v->name, nn_datatype_name(v->type.datatype), v->declared,
                                     0, 0});
    }
}

/* by layers */

static void summarize_network(FILE *out, const struct network *network)
{
    const struct graph *graph = network->graph;
    double total = 0;
    int64_t trained = network->n_trained;
    print_head(out);
    print_inputs(out, graph);
    for (int i = 0; i < network->n_layers; i++) {
        const struct network_layer *layer = &network->layers[i];
        struct row row = {layer->name, layer->type,
                          open_shape(&graph->values[layer->value].type), 0, 0};
        for (int j = 0; j < layer->n_nodes; j++)
            row.flops += graph->nodes[layer->first_node + j].flops;
        for (int j = 0; j < layer->n_parameters; j++)
            row.parameters += network->parameters[layer->first_parameter + j].size;
        total += row.flops;
        print_row(out, &row);
    }
    struct count_text all, taught, fixed, flops;
    fprintf(out, "\n%s parameters, %s trained, %s not; %sFLOP for one sample\n",
            print_count(&all, network->n_weights), print_count(&taught, trained),
            print_count(&fixed, network->n_weights - trained), print_flops(&flops, total));
}

static int summarize_recipe(FILE *out, const struct recipe *recipe, struct nn_error *error)
{
    struct network *network = network_new(recipe, error);
    if (!network)
        return -1;
    int status = graph_infer(network->graph, 1, error);
    if (status == 0) {
        fprintf(out, "%s\n\n", recipe->name);
        summarize_network(out, network);
    }
    network_free(network);
    return status;
}

/* by nodes */

static bool is_constant(const struct graph *graph, int value)
{
    return value != GRAPH_NONE && !graph->values[value].is_input &&
           graph->values[value].producer < 0;
}

/* Whether a node before `node` reads the constant too: it counts once. */
static bool is_read_before(const struct graph *graph, int value, int node)
{
    for (int i = 0; i < node; i++)
        for (int j = 0; j < graph->nodes[i].n_inputs; j++)
            if (graph->nodes[i].inputs[j] == value)
                return true;
    return false;
}

static void summarize_graph(FILE *out, const struct graph *graph)
{
    double total = 0;
    int64_t parameters = 0;
    print_head(out);
    print_inputs(out, graph);
    for (int i = 0; i < graph->n_nodes; i++) {
        const struct graph_node *node = &graph->nodes[i];
        struct row row = {node->name, node->op->name,
                          open_shape(&graph->values[node->outputs[0]].type), 0, node->flops};
        for (int j = 0; j < node->n_inputs; j++) {
            int value = node->inputs[j];
            if (is_constant(graph, value) && !is_read_before(graph, value, i))
                row.parameters += shape_elements(&graph->values[value].type.shape);
        }
        total += row.flops;
        parameters += row.parameters;
        print_row(out, &row);
    }
    struct count_text all, flops;
    fprintf(out, "\n%s elements of constants; %sFLOP for one sample\n",
            print_count(&all, parameters), print_flops(&flops, total));
}

static int summarize_bundle(FILE *out, const char *path, struct nn_error *error)
{
    struct bundle bundle;
    if (bundle_read(&bundle, path, error) != 0)
        return -1;
    const char *text = bundle_metadata(&bundle, "recipe");
    int status;
    if (text) {
        struct recipe recipe;
        status = recipe_parse(&recipe, text, error);
        if (status == 0) {
            status = summarize_recipe(out, &recipe, error);
            recipe_release(&recipe);
        }
        if (status != 0)
            nn_fail_in(error, "%s: its recipe", path);
    } else {
        status = graph_infer(bundle.graph, 1, error);
        if (status == 0)
            summarize_graph(out, bundle.graph);
        else
            nn_fail_in(error, "%s", path);
    }
    bundle_release(&bundle);
    return status;
}

/* A bundle begins with a length of 8 bytes below 2^24, so with zeros among them. */
static int is_text(const char *path, bool *result, struct nn_error *error)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return nn_fail(error, "%s: %s", path, strerror(errno));
    char bytes[8];
    size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    *result = memchr(bytes, 0, n) == NULL;
    return 0;
}

int summary(FILE *out, const char *path, struct nn_error *error)
{
    bool is_recipe = false;
    if (is_text(path, &is_recipe, error) != 0)
        return -1;
    if (!is_recipe)
        return summarize_bundle(out, path, error);
    struct recipe recipe;
    if (recipe_read(&recipe, path, error) != 0)
        return -1;
    int status = summarize_recipe(out, &recipe, error);
    recipe_release(&recipe);
    return status;
}
