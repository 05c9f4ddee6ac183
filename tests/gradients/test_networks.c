/*
 * Whole networks: executor_backward() against central differences of executor_forward(), in a
 * build with REAL=double. Batches are large enough to be cut into several shards, and their
 * size is odd.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "tests/recipe_text.h"
#include "trainer/executor.h"
#include "trainer/tape.h"

enum { ROWS = 67, SAMPLES = 12 };

static const uint64_t dropout_key = 5;

/* As PyTorch's gradcheck has them: step 1e-6, atol 1e-5, rtol 1e-3. */
static const double step = 1e-6, absolute = 1e-5, relative = 1e-3;

static const struct {
    const char *name, *recipe;
} cases[] = {
    {"one dense layer",
     "'inputs': [{'name': 'x', 'shape': [7]}], 'loss': 'softmax_cross_entropy',"
     "'layers': [{'type': 'dense', 'units': 3}]"},
    {"dense layers in several shards",
     "'inputs': [{'name': 'x', 'shape': [200]}], 'loss': 'softmax_cross_entropy',"
     "'layers': [{'type': 'dense', 'units': 160, 'activation': 'tanh'},"
     "           {'type': 'dense', 'units': 3}]"},
    {"convolutions, batch statistics, dropout and pooling",
     "'inputs': [{'name': 'x', 'shape': [2, 12, 12]}], 'loss': 'softmax_cross_entropy',"
     "'layers': [{'type': 'conv2d', 'filters': 8, 'kernel': 3, 'padding': 'same'},"
     "           {'type': 'batch_norm', 'activation': 'tanh'},"
     "           {'type': 'conv2d', 'filters': 16, 'kernel': 3, 'stride': 1},"
     "           {'type': 'batch_norm', 'activation': 'sigmoid'},"
     "           {'type': 'average_pool', 'kernel': 2},"
     "           {'type': 'dropout', 'rate': 0.3},"
     "           {'type': 'flatten'},"
     "           {'type': 'dense', 'units': 3}]"},
    {"a residual network with fan-out, addition and concatenation",
     "'inputs': [{'name': 'x', 'shape': [3, 10, 10]}], 'loss': 'softmax_cross_entropy',"
     "'layers': [{'type': 'conv2d', 'name': 'a', 'filters': 8, 'kernel': 3, 'padding': 1},"
     "           {'type': 'conv2d', 'name': 'b', 'filters': 8, 'kernel': 3, 'padding': 1,"
     "            'activation': 'tanh'},"
     "           {'type': 'add', 'name': 'c', 'inputs': ['a', 'b']},"
     "           {'type': 'batch_norm', 'name': 'd'},"
     "           {'type': 'concat', 'name': 'e', 'inputs': ['d', 'a', 'c']},"
     "           {'type': 'conv2d', 'filters': 12, 'kernel': 3, 'groups': 4, 'dilation': 2},"
     "           {'type': 'max_pool', 'kernel': 3, 'stride': 2},"
     "           {'type': 'global_average_pool'},"
     "           {'type': 'dense', 'units': 3}]"},
    {"a sequence of convolutions in one dimension",
     "'inputs': [{'name': 'x', 'shape': [4, 30]}], 'loss': 'softmax_cross_entropy',"
     "'layers': [{'type': 'conv1d', 'filters': 8, 'kernel': 5, 'activation': 'leaky_relu'},"
     "           {'type': 'reshape', 'shape': [16, 13]},"
     "           {'type': 'conv1d', 'filters': 4, 'kernel': 3, 'activation': 'relu'},"
     "           {'type': 'flatten'},"
     "           {'type': 'dense', 'units': 3}]"},
};

/* Three classes, whatever the input; features of variance 1. */
static void fill_batch(struct executor *executor, const struct network *network,
                       int32_t *classes)
{
    const struct op_value *type = &network->graph->values[network->graph->inputs[0]].type;
    nn_real *x = executor_input(executor, 0);
    for (int64_t i = 0; i < shape_elements(&type->shape); i++)
        x[i] = kernel_random_normal(1, (uint64_t)i);
    for (int i = 0; i < ROWS; i++)
        classes[i] = (int32_t)(kernel_random(2, (uint64_t)i) % 3);
}

static double mean_loss(struct executor *executor, const int32_t *classes)
{
    const struct executor_target target = {LOSS_SOFTMAX_CROSS_ENTROPY, classes, NULL};
    return executor_forward(executor, ROWS, true, dropout_key, &target) / ROWS;
}

static void check_parameter(struct executor *executor, struct network *network,
                            const struct parameter *p, const nn_real *gradient,
                            const int32_t *classes)
{
    int64_t stride = p->size > SAMPLES ? p->size / SAMPLES : 1;
    for (int64_t i = 0; i < p->size; i += stride) {
        nn_real *w = &network->weights[p->offset + i], kept = *w;
        *w = kept + step;
        double above = mean_loss(executor, classes);
        *w = kept - step;
        double below = mean_loss(executor, classes);
        *w = kept;
        double expected = (above - below) / (2 * step), got = gradient[p->offset + i];
        if (!(fabs(got - expected) <= absolute + relative * fabs(expected)))
            fail_msg("%s[%lld]: %g, expected %g", network->graph->values[p->value].name,
                     (long long)i, got, expected);
    }
}

static void check_network(struct network *network, int n_threads)
{
    struct nn_error error = {0};
    struct parallel *parallel = parallel_new(n_threads);
    struct executor *executor = executor_new(network, ROWS, true, parallel, &error);
    if (!executor)
        fail_msg("%s", error.text);
    int32_t classes[ROWS];
    fill_batch(executor, network, classes);
    mean_loss(executor, classes);
    size_t bytes = (size_t)network->n_trained * sizeof(nn_real);
    nn_real *gradient = malloc(bytes);
    assert_non_null(gradient);
    memcpy(gradient, executor_backward(executor), bytes);

    /* The same once more: nothing may be left over from the first time. */
    mean_loss(executor, classes);
    assert_memory_equal(gradient, executor_backward(executor), bytes);

    for (int i = 0; i < network->n_parameters; i++)
        if (network->parameters[i].kind <= PARAMETER_BIAS)
            check_parameter(executor, network, &network->parameters[i], gradient, classes);
    free(gradient);
    executor_free(executor);
    parallel_free(parallel);
}

static void gradients_of_networks_are_differences_of_the_loss(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[4096];
        snprintf(text, sizeof text,
                 "{'name': 'x', 'data': {'format': 'idx', 'labels':"
                 "['a', 'b', 'c'], 'train': {'features': 'x', 'labels': 'y'}}, %s}",
                 cases[i].recipe);
        print_message("%s\n", cases[i].name);
        struct recipe_text built = recipe_text_build(text);
        check_network(built.network, 2);
        recipe_text_release(&built);
    }
}

static int shards_of(struct network *network)
{
    struct nn_error error = {0};
    struct tape tape;
    assert_int_equal(tape_init(&tape, network, ROWS, true, &error), 0);
    const struct tape_cut *cut = tape_cut(&tape, ROWS, &error);
    if (!cut)
        fail_msg("%s", error.text);
    int n = cut->n_shards;
    tape_release(&tape);
    return n;
}

static int constant(struct network *network, const char *name, int64_t rows, int64_t columns)
{
    struct parameter *p = &network->parameters[network->n_parameters++];
    *p = (struct parameter){.kind = PARAMETER_WEIGHT,
                            .offset = network->n_weights,
                            .size = rows * columns,
                            .initializer = {INITIALIZER_GLOROT_NORMAL, 0, rows, columns}};
    network->n_weights += p->size;
    network->n_trained = network->n_weights;
    const struct nn_tensor tensor = {
        NN_FP32, {2, {rows, columns}}, network->weights + p->offset};
    return p->value = graph_add_constant(network->graph, name, &tensor, NULL);
}

static int node(struct network *network, const char *op, const char *name, int a, int b)
{
    return graph_add_node(network->graph, op_find(op), NULL, name, b < 0 ? 1 : 2, (int[]){a, b},
                          NULL);
}

/* One matrix W is used twice as it is and once as tanh(W), which is computed from weights
 * alone; and between two transpositions the batch is the second axis:
 *
 *     y = transpose(tanh(transpose(x W))) W + x tanh(W),   logits = y V */
static struct network *tied_network(void)
{
    enum { N = 128 };
    struct network *network = calloc(1, sizeof *network);
    assert_non_null(network);
    network->graph = graph_new();
    network->parameters = calloc(2, sizeof *network->parameters);
    network->weights = tensor_allocate((N * N + N * 3) * sizeof(nn_real));
    struct graph *g = network->graph;
    int x = graph_add_input(g, "x", NN_FP32, &(struct nn_shape){2, {-1, N}}, NULL);
    int w = constant(network, "w", N, N), v = constant(network, "v", N, 3);
    int across = node(network, "Transpose", "across", node(network, "MatMul", "xw", x, w), -1);
    int back =
        node(network, "Transpose", "back", node(network, "Tanh", "tanh", across, -1), -1);
    int twice = node(network, "MatMul", "twice", back, w);
    int bent = node(network, "MatMul", "bent", x, node(network, "Tanh", "tanh_w", w, -1));
    int sum = node(network, "Add", "sum", twice, bent);
    network->output = node(network, "MatMul", "logits", sum, v);
    graph_add_output(g, network->output, NULL);
    network_initialize(network, 3);
    return network;
}

static void weights_that_are_used_in_several_places_get_the_sum_of_gradients(void **state)
{
    (void)state;
    struct network *network = tied_network();
    assert_true(shards_of(network) > 1);
    check_network(network, 2);
    network_free(network);
}

static void an_operation_without_a_gradient_on_the_way_is_named(void **state)
{
    (void)state;
    struct graph *g = graph_new();
    nn_real w[2] = {1, 2};
    int x = graph_add_input(g, "x", NN_FP32, &(struct nn_shape){2, {-1, 2}}, NULL);
    int weight = graph_add_constant(g, "w", &(struct nn_tensor){NN_FP32, {1, {2}}, w}, NULL);
    int cast = graph_add_node(g, op_find("Cast"), NULL, "rounded", 1, (int[]){weight}, NULL);
    int y = graph_add_node(g, op_find("Mul"), NULL, "y", 2, (int[]){x, cast}, NULL);
    struct autodiff autodiff;
    struct nn_error error = {0};
    assert_int_equal(autodiff_make(&autodiff, g, y, 1, &weight, &error), -1);
    assert_string_equal(error.text, "rounded (Cast): the operation has no gradient");
    graph_free(g);
}

static void values_that_do_not_lead_to_a_weight_need_no_gradient(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(
        "{'name': 'x', 'data': {'format': 'digits', 'train': 1, 'test': 1},"
        "'inputs': [{'name': 'x', 'shape': [4], 'datatype': 'UINT8'}],"
        "'loss': 'softmax_cross_entropy',"
        "'layers': [{'type': 'scale', 'factor': 0.5}, {'type': 'dense', 'units': 10}]}");
    const struct graph *g = built.network->graph;
    int wanted[] = {built.network->parameters[0].value};
    struct autodiff autodiff;
    assert_int_equal(autodiff_make(&autodiff, g, built.network->output, 1, wanted, NULL), 0);
    assert_int_equal(autodiff.n_steps, 1);
    assert_false(autodiff.needed[g->inputs[0]]);
    assert_true(autodiff.needed[wanted[0]]);
    autodiff_release(&autodiff);
    recipe_text_release(&built);
}

int main(void)
{
    kernels_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_operation_without_a_gradient_on_the_way_is_named),
        cmocka_unit_test(values_that_do_not_lead_to_a_weight_need_no_gradient),
        cmocka_unit_test(gradients_of_networks_are_differences_of_the_loss),
        cmocka_unit_test(weights_that_are_used_in_several_places_get_the_sum_of_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
