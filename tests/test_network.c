#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/formats/bundle.h"
#include "trainer/executor.h"
#include "trainer/network.h"
#include "trainer/summary.h"

/* A recipe from its inputs and layers, with apostrophes for quotes. */
static char *recipe_json(const char *inputs, const char *layers, const char *loss)
{
    char *text = NULL;
    const char *target = strcmp(loss, "softmax_cross_entropy") == 0 ? "classes" : "values";
    assert_true(asprintf(&text, "{'name': 'x', 'data': {'format': 'digits', 'train': 10, "
                         "'test': 10, 'target': '%s'}, 'inputs': %s, 'layers': %s, "
                         "'loss': '%s'}", target, inputs, layers, loss) > 0);
    for (char *c = text; *c; c++)
        if (*c == '\'')
            *c = '"';
    return text;
}

struct built {
    struct recipe recipe;
    struct network *network;
};

static struct built build(const char *inputs, const char *layers, const char *loss)
{
    char *text = recipe_json(inputs, layers, loss);
    struct built built;
    struct nn_error error = {0};
    if (recipe_parse(&built.recipe, text, &error) != 0)
        fail_msg("%s", error.text);
    built.network = network_new(&built.recipe, &error);
    if (!built.network)
        fail_msg("%s", error.text);
    free(text);
    return built;
}

static void release(struct built *built)
{
    network_free(built->network);
    recipe_release(&built->recipe);
}

#define SOFTMAX "softmax_cross_entropy"
#define SQUARES "mean_squared_error"

/* "name: Op(inputs) shape" of every node, a line each: what a layer is lowered to. */
static void assert_nodes(const struct network *network, const char *expected)
{
    char text[4000];
    size_t n = 0;
    const struct graph *g = network->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct graph_node *node = &g->nodes[i];
        n += (size_t)snprintf(text + n, sizeof text - n, "%s: %s(", node->name, node->op->name);
        for (int j = 0; j < node->n_inputs; j++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", j ? ", " : "",
                                  g->values[node->inputs[j]].name);
        struct shape_text shape;
        n += (size_t)snprintf(text + n, sizeof text - n, ") %s\n",
                              shape_print(&g->values[node->outputs[0]].type.shape, &shape));
    }
    assert_string_equal(text, expected);
}

static const struct parameter *parameter(const struct network *network, const char *name)
{
    int value = graph_find(network->graph, name);
    for (int i = 0; i < network->n_parameters; i++)
        if (network->parameters[i].value == value)
            return &network->parameters[i];
    fail_msg("no parameter %s", name);
    return NULL;
}

/* counts */

static void a_perceptron_784_128_10_has_101770_parameters(void **state)
{
    (void)state;
    struct built built = build(
        "[{'name': 'image', 'shape': [1, 28, 28]}]",
        "[{'type': 'scale', 'factor': 0.5}, {'type': 'flatten'},"
        " {'type': 'dense', 'units': 128, 'activation': 'relu', 'name': 'hidden'},"
        " {'type': 'dense', 'units': 10}]", SOFTMAX);
    assert_nodes(built.network,
                 "scale_1: Mul(image, scale_1.factor) [2, 1, 28, 28]\n"
                 "flatten_1: Flatten(scale_1) [2, 784]\n"
                 "hidden.linear: Gemm(flatten_1, hidden.weight, hidden.bias) [2, 128]\n"
                 "hidden: Relu(hidden.linear) [2, 128]\n"
                 "dense_2: Gemm(hidden, dense_2.weight, dense_2.bias) [2, 10]\n");
    assert_int_equal(built.network->n_weights, 101770);
    assert_int_equal(built.network->n_trained, 101770);
    assert_int_equal(built.network->n_layers, 4);
    assert_int_equal(built.network->layers[2].n_nodes, 2);
    assert_int_equal(built.network->layers[2].n_parameters, 2);
    release(&built);
}

/* Keras' examples/mnist_convnet: "Total params: 34,826"; mnist_cnn of Keras 2: 1,199,882. */
static void the_convnets_of_keras_have_their_published_sizes(void **state)
{
    (void)state;
    struct built built = build(
        "[{'name': 'image', 'shape': [1, 28, 28]}]",
        "[{'type': 'conv2d', 'filters': 32, 'kernel': 3, 'activation': 'relu'},"
        " {'type': 'max_pool', 'kernel': 2},"
        " {'type': 'conv2d', 'filters': 64, 'kernel': 3, 'activation': 'relu'},"
        " {'type': 'max_pool', 'kernel': 2}, {'type': 'flatten'}, {'type': 'dropout'},"
        " {'type': 'dense', 'units': 10}]", SOFTMAX);
    assert_int_equal(built.network->n_weights, 34826);
    release(&built);

    built = build(
        "[{'name': 'image', 'shape': [1, 28, 28]}]",
        "[{'type': 'conv2d', 'filters': 32, 'kernel': 3, 'activation': 'relu'},"
        " {'type': 'conv2d', 'filters': 64, 'kernel': 3, 'activation': 'relu'},"
        " {'type': 'max_pool', 'kernel': 2}, {'type': 'dropout', 'rate': 0.25},"
        " {'type': 'flatten'}, {'type': 'dense', 'units': 128, 'activation': 'relu'},"
        " {'type': 'dropout'}, {'type': 'dense', 'units': 10}]", SOFTMAX);
    assert_int_equal(built.network->n_weights, 1199882);
    release(&built);
}

struct text {
    char bytes[16384];
    size_t n;
};

static void __attribute__((format(printf, 2, 3)))
add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    text->n += (size_t)vsnprintf(text->bytes + text->n, sizeof text->bytes - text->n, format,
                                 arguments);
    va_end(arguments);
    assert_true(text->n < sizeof text->bytes);
}

/* He et al. 2015, "Deep Residual Learning", 4.2, as in Keras' cifar10_resnet (version 1,
 * n = 3): "Total params: 274,442, trainable 273,066, non-trainable 1,376". */
static void resnet20_is_a_residual_graph_of_274442_parameters(void **state)
{
    (void)state;
    struct text text = {.n = 0};
    add(&text, "[{'type': 'conv2d', 'filters': 16, 'kernel': 3, 'padding': 'same'},"
               " {'type': 'batch_norm', 'activation': 'relu', 'name': 'b0'}");
    for (int block = 0; block < 9; block++) {
        int filters = 16 << (block / 3), stride = block == 3 || block == 6 ? 2 : 1;
        add(&text, ", {'type': 'conv2d', 'filters': %d, 'kernel': 3, 'padding': 'same',"
                   " 'stride': %d, 'name': 'c%d'},"
                   " {'type': 'batch_norm', 'activation': 'relu'},"
                   " {'type': 'conv2d', 'filters': %d, 'kernel': 3, 'padding': 'same'},"
                   " {'type': 'batch_norm', 'name': 'n%d'}",
            filters, stride, block, filters, block);
        if (stride == 2)
            add(&text, ", {'type': 'conv2d', 'filters': %d, 'kernel': 1, 'stride': 2,"
                       " 'inputs': ['b%d'], 'name': 's%d'}", filters, block, block);
        add(&text, ", {'type': 'add', 'inputs': ['%s%d', 'n%d'], 'activation': 'relu',"
                   " 'name': 'b%d'}", stride == 2 ? "s" : "b", block, block, block + 1);
    }
    add(&text, ", {'type': 'global_average_pool'}, {'type': 'dense', 'units': 10}]");
    struct built built =
        build("[{'name': 'image', 'shape': [3, 32, 32]}]", text.bytes, SOFTMAX);
    const struct network *network = built.network;
    assert_int_equal(network->n_weights, 274442);
    assert_int_equal(network->n_trained, 273066);
    const struct nn_shape *last =
        &network->graph->values[graph_find(network->graph, "b9")].type.shape;
    assert_true(shape_equal(last, &(struct nn_shape){4, {2, 64, 8, 8}}));
    assert_int_equal(parameter(network, "c0.weight")->initializer.kind, INITIALIZER_HE_NORMAL);
    assert_int_equal(parameter(network, "s3.weight")->initializer.kind, INITIALIZER_HE_NORMAL);
    assert_int_equal(parameter(network, "dense_1.weight")->initializer.kind,
                     INITIALIZER_GLOROT_UNIFORM);
    release(&built);
}

/* lowering */

static void layers_take_named_inputs_of_several_models_inputs(void **state)
{
    (void)state;
    struct built built = build(
        "[{'name': 'a', 'shape': [4]}, {'name': 'b', 'shape': [2, 3], 'datatype': 'UINT8'}]",
        "[{'type': 'flatten', 'inputs': ['b'], 'name': 'flat'},"
        " {'type': 'dense', 'units': 5, 'activation': 'tanh', 'use_bias': false, 'name': 'd'},"
        " {'type': 'concat', 'inputs': ['a', 'd', 'flat'], 'name': 'all'},"
        " {'type': 'dense', 'units': 2, 'name': 'y'}]", SQUARES);
    assert_nodes(built.network,
                 "b.fp32: Cast(b) [2, 2, 3]\n"
                 "flat: Flatten(b.fp32) [2, 6]\n"
                 "d.linear: Gemm(flat, d.weight) [2, 5]\n"
                 "d: Tanh(d.linear) [2, 5]\n"
                 "all: Concat(a, d, flat) [2, 15]\n"
                 "y: Gemm(all, y.weight, y.bias) [2, 2]\n");
    assert_int_equal(built.recipe.target, TARGET_VALUES);
    release(&built);
}

static void every_other_layer_is_lowered_as_described(void **state)
{
    (void)state;
    struct built built = build(
        "[{'name': 'x', 'shape': [3, 10]}]",
        "[{'type': 'scale', 'factor': 2, 'offset': -1, 'name': 's'},"
        " {'type': 'normalize', 'mean': [1, 2, 3], 'deviation': 0.5, 'name': 'm'},"
        " {'type': 'conv1d', 'filters': 6, 'kernel': 3, 'stride': 2, 'padding': 'same',"
        "  'groups': 3, 'activation': 'leaky_relu', 'name': 'c'},"
        " {'type': 'average_pool', 'kernel': 2, 'stride': 1, 'name': 'p'},"
        " {'type': 'reshape', 'shape': [-1, 2, 2], 'name': 'r'},"
        " {'type': 'activation', 'activation': 'sigmoid', 'name': 'g'},"
        " {'type': 'add', 'inputs': ['r', 'g', 'g'], 'name': 'a'},"
        " {'type': 'global_average_pool', 'name': 'v'}]", SQUARES);
    assert_nodes(built.network,
                 "s.scaled: Mul(x, s.factor) [2, 3, 10]\n"
                 "s: Add(s.scaled, s.offset) [2, 3, 10]\n"
                 "m.centred: Sub(s, m.mean) [2, 3, 10]\n"
                 "m: Div(m.centred, m.deviation) [2, 3, 10]\n"
                 "c.linear: Conv(m, c.weight, c.bias) [2, 6, 5]\n"
                 "c: LeakyRelu(c.linear) [2, 6, 5]\n"
                 "p: AveragePool(c) [2, 6, 4]\n"
                 "r: Reshape(p, r.shape) [2, 6, 2, 2]\n"
                 "g: Sigmoid(r) [2, 6, 2, 2]\n"
                 "a.sum1: Add(r, g) [2, 6, 2, 2]\n"
                 "a: Add(a.sum1, g) [2, 6, 2, 2]\n"
                 "v.pooled: GlobalAveragePool(a) [2, 6, 1, 1]\n"
                 "v: Flatten(v.pooled) [2, 6]\n");
    assert_int_equal(built.network->n_weights, 6 * 1 * 3 + 6);
    const struct parameter *weight = parameter(built.network, "c.weight");
    assert_int_equal(weight->initializer.fan_in, 3);
    assert_int_equal(weight->initializer.fan_out, 6);
    release(&built);
}

static void trained_parameters_come_first(void **state)
{
    (void)state;
    struct built built = build(
        "[{'name': 'x', 'shape': [3]}]",
        "[{'type': 'standardize', 'name': 's'}, {'type': 'batch_norm', 'name': 'n'},"
        " {'type': 'dense', 'units': 2, 'name': 'd'}]", SOFTMAX);
    const struct network *network = built.network;
    assert_int_equal(network->n_trained, 3 + 3 + 3 * 2 + 2);
    assert_int_equal(network->n_weights, network->n_trained + 2 * 3 + 2 * 3);
    assert_int_equal(parameter(network, "s.mean")->kind, PARAMETER_DATA);
    assert_int_equal(parameter(network, "s.mean")->offset, network->n_trained);
    assert_int_equal(parameter(network, "n.weight")->kind, PARAMETER_BIAS);
    assert_int_equal(parameter(network, "n.weight")->offset, 0);
    assert_int_equal(parameter(network, "n.running_var")->kind, PARAMETER_STATISTIC);
    assert_int_equal(parameter(network, "d.weight")->kind, PARAMETER_WEIGHT);
    for (int i = 0; i < network->n_parameters; i++)
        assert_ptr_equal(network->graph->values[network->parameters[i].value].type.constant,
                         network->weights + network->parameters[i].offset);

    network_initialize(built.network, 1);
    assert_true(network->weights[parameter(network, "s.mean")->offset] == 0);
    assert_true(network->weights[parameter(network, "s.deviation")->offset] == 1);
    assert_true(network->weights[parameter(network, "n.running_var")->offset] == 1);
    assert_true(network->weights[parameter(network, "d.weight")->offset] != 0);
    release(&built);
}

/* By hand: channel 0 has 1, 3, 5, 7 (mean 4, variance 5), channel 1 is constant. */
static void standardisation_takes_the_moments_of_the_data_by_channel(void **state)
{
    (void)state;
    struct built built = build(
        "[{'name': 'x', 'shape': [2, 2]}]",
        "[{'type': 'standardize', 'name': 's'}, {'type': 'flatten'},"
        " {'type': 'dense', 'units': 2}]", SOFTMAX);
    nn_real rows[] = {1, 3, 9, 9, 5, 7, 9, 9};
    struct nn_tensor features = {NN_FP32, {3, {2, 2, 2}}, rows};
    struct dataset set = {.n = 2, .n_features = 1, .features = &features};
    assert_int_equal(network_fit_data(built.network, &built.recipe, &set, NULL), 0);
    const nn_real *mean = built.network->weights + parameter(built.network, "s.mean")->offset;
    const nn_real *deviation =
        built.network->weights + parameter(built.network, "s.deviation")->offset;
    assert_true(fabs((double)mean[0] - 4) < 1e-6);
    assert_true(fabs((double)mean[1] - 9) < 1e-6);
    assert_true(fabs((double)deviation[0] - sqrt(5)) < 1e-6);
    assert_true(deviation[1] == 1);
    release(&built);
}

/* publishing */

static const char small_layers[] =
    "[{'type': 'conv2d', 'filters': 4, 'kernel': 3, 'padding': 'same', 'name': 'c'},"
    " {'type': 'batch_norm', 'activation': 'relu', 'name': 'n'}, {'type': 'flatten'},"
    " {'type': 'dropout'}, {'type': 'reshape', 'shape': [4, -1]},"
    " {'type': 'global_average_pool'}, {'type': 'dropout', 'name': 'last'},"
    " {'type': 'dense', 'units': 3, 'name': 'd'}, {'type': 'dropout'}]";

enum { ROWS = 5, PIXELS = 6 * 6, CLASSES = 3 };

static void publish(const struct built *built, const char *path)
{
    struct nn_error error = {0};
    struct graph *graph = network_publication(built->network, &built->recipe,
                                              built->network->weights, &error);
    if (!graph)
        fail_msg("%s", error.text);
    for (int i = 0; i < graph->n_nodes; i++)
        assert_string_not_equal(graph->nodes[i].op->name, "Dropout");
    assert_int_equal(graph_find(graph, "last.rate"), -1);
    struct bundle_content content = {.graph = graph};
    if (bundle_write(&content, path, &error) != 0)
        fail_msg("%s", error.text);
    graph_free(graph);
}

static void what_is_served_is_the_softmax_of_what_was_trained(void **state)
{
    (void)state;
    if (sizeof(nn_real) != sizeof(float))       /* bundles hold floats */
        skip();
    struct built built = build("[{'name': 'x', 'shape': [1, 6, 6]}]", small_layers, SOFTMAX);
    network_initialize(built.network, 7);
    char folder[] = "/tmp/network-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    publish(&built, path);

    struct nn_error error = {0};
    struct parallel *parallel = parallel_new(1);
    assert_non_null(parallel);
    struct executor *executor =
        executor_new(built.network, ROWS, false, parallel, &error);
    struct nn_model *model = nn_model_open(path, &error);
    struct nn_session *session = model ? nn_session_new(model, ROWS, &error) : NULL;
    if (!executor || !session)
        fail_msg("%s", error.text);
    assert_string_equal(nn_model_output(model, 0)->name, "probabilities");
    assert_null(nn_model_unbatched(model));
    nn_real *x = executor_input(executor, 0), *served = nn_session_input(session, 0);
    for (int i = 0; i < ROWS * PIXELS; i++)
        x[i] = served[i] = (nn_real)sin(i);
    int32_t classes[ROWS] = {0};
    struct executor_target target = {LOSS_SOFTMAX_CROSS_ENTROPY, classes, NULL};
    executor_forward(executor, ROWS, false, 0, &target);
    assert_int_equal(nn_session_run(session, ROWS, &error), 0);
    const nn_real *logits = executor_output(executor);
    const nn_real *p = nn_session_output(session, 0)->data;
    for (int r = 0; r < ROWS; r++, logits += CLASSES, p += CLASSES) {
        double sum = 0;
        for (int i = 0; i < CLASSES; i++)
            sum += exp((double)logits[i]);
        for (int i = 0; i < CLASSES; i++)
            assert_true(fabs(exp((double)logits[i]) / sum - (double)p[i]) < 1e-5);
    }
    nn_session_free(session);
    nn_model_close(model);
    executor_free(executor);
    parallel_free(parallel);
    unlink(path);
    rmdir(folder);
    release(&built);
}

static void weights_come_back_from_a_bundle(void **state)
{
    (void)state;
    if (sizeof(nn_real) != sizeof(float))       /* bundles hold floats */
        skip();
    const char *inputs = "[{'name': 'x', 'shape': [1, 6, 6]}]";
    struct built first = build(inputs, small_layers, SOFTMAX);
    struct built second = build(inputs, small_layers, SOFTMAX);
    network_initialize(first.network, 7);
    network_initialize(second.network, 8);
    char folder[] = "/tmp/network-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    publish(&first, path);
    struct nn_error error = {0};
    if (network_load(second.network, path, &error) != 0)
        fail_msg("%s", error.text);
    assert_memory_equal(first.network->weights, second.network->weights,
                        (size_t)first.network->n_weights * sizeof(nn_real));
    release(&second);

    static const struct {
        const char *layers, *error;
    } rows[] = {
        {"[{'type': 'flatten'}, {'type': 'dense', 'units': 3, 'name': 'd'}]",
         "\"d.weight\" is FP32 [3, 4], the recipe's is FP32 [3, 36]"},
        {"[{'type': 'flatten'}, {'type': 'dense', 'units': 3, 'name': 'e'}]",
         "has no \"e.weight\" [3, 36]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct built other = build(inputs, rows[i].layers, SOFTMAX);
        char expected[200];
        snprintf(expected, sizeof expected, "%s: %s", path, rows[i].error);
        error.text[0] = '\0';
        assert_int_equal(network_load(other.network, path, &error), -1);
        assert_string_equal(error.text, expected);
        release(&other);
    }
    unlink(path);
    rmdir(folder);
    release(&first);
}

static void the_output_is_named_by_the_loss(void **state)
{
    (void)state;
    static const struct {
        const char *loss, *op, *name;
    } rows[] = {
        {SOFTMAX, "Softmax", "probabilities"},
        {"sigmoid_cross_entropy", "Sigmoid", "probabilities"},
        {SQUARES, "Identity", "predictions"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct built built = build("[{'name': 'x', 'shape': [4], 'datatype': 'INT64'}]",
                                   "[{'type': 'dense', 'units': 2}]", rows[i].loss);
        struct nn_error error = {0};
        struct graph *graph = network_publication(built.network, &built.recipe,
                                                  built.network->weights, &error);
        if (!graph)
            fail_msg("%s", error.text);
        const struct graph_node *last = &graph->nodes[graph->n_nodes - 1];
        assert_string_equal(last->op->name, rows[i].op);
        assert_string_equal(last->name, rows[i].name);
        assert_int_equal(graph->n_outputs, 1);
        assert_int_equal(graph->values[graph->inputs[0]].type.datatype, NN_INT64);
        graph_free(graph);
        release(&built);
    }
}

/* Gemm takes a multiplication and an addition per weight, and an addition per bias: 2 x 784 x
 * 128 + 128 of the hidden layer at least. */
static void the_summary_of_a_recipe_is_a_table_with_totals(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    struct nn_error error = {0};
    if (summary(out, "models/mnist-mlp/recipe.json", &error) != 0)
        fail_msg("%s", error.text);
    fclose(out);
    assert_non_null(strstr(text, "hidden                   dense                [-1, 128]"
                                 "                 100,480"));
    assert_non_null(strstr(text, "101,770 parameters, 101,770 trained, 0 not;"));
    free(text);
    assert_int_equal(summary(stdout, "/nowhere", &error), -1);
    assert_string_equal(error.text, "/nowhere: No such file or directory");
}

int main(void)
{
    nn_engine_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_perceptron_784_128_10_has_101770_parameters),
        cmocka_unit_test(the_convnets_of_keras_have_their_published_sizes),
        cmocka_unit_test(resnet20_is_a_residual_graph_of_274442_parameters),
        cmocka_unit_test(layers_take_named_inputs_of_several_models_inputs),
        cmocka_unit_test(every_other_layer_is_lowered_as_described),
        cmocka_unit_test(trained_parameters_come_first),
        cmocka_unit_test(standardisation_takes_the_moments_of_the_data_by_channel),
        cmocka_unit_test(what_is_served_is_the_softmax_of_what_was_trained),
        cmocka_unit_test(weights_come_back_from_a_bundle),
        cmocka_unit_test(the_output_is_named_by_the_loss),
        cmocka_unit_test(the_summary_of_a_recipe_is_a_table_with_totals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
