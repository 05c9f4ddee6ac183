/*
 * Memory runs out at every allocation in turn: each time opening fails with a reason, and
 * nothing leaks (which the build with AddressSanitizer sees).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/model.h"
#include "tests/failing_memory.h"
#include "tests/graph_text.h"

#include <stdlib.h>
#include <string.h>

static const char network[] =
    "input x -1 1 12 12; values k = 255; weight w 4 1 3 3; weight l 144 60; weight f 60 10; "
    "weight g 10; weight q 10; node z = Add g q; node a = Div x k; node b = Conv a w pads=1,1,1,1; "
    "node c = Relu b; node d = MaxPool c kernel_shape=2,2 strides=2,2; node e = Flatten d; "
    "node m = MatMul e l; node n = Tanh m; node h = MatMul n f; node i = Add h z; "
    "node y = Softmax i; output y";

enum { ROWS = 3 };

static nn_real golden_x[ROWS * 144], golden_y[ROWS * 10];

static struct bundle make_bundle(void)
{
    struct bundle bundle = {
        .graph = graph_text(network),
        .golden_inputs = calloc(1, sizeof *bundle.golden_inputs),
        .golden_outputs = calloc(1, sizeof *bundle.golden_outputs),
    };
    bundle.golden_inputs[0] = (struct nn_tensor){NN_FP32, {4, {ROWS, 1, 12, 12}}, golden_x};
    bundle.golden_outputs[0] = (struct nn_tensor){NN_FP32, {2, {ROWS, 10}}, golden_y};
    return bundle;
}

static void compute_golden(void)
{
    struct graph *g = graph_text(network);
    graph_text_fill(golden_x, ROWS * 144, 1);
    struct nn_tensor *tensors = naive_run(g, ROWS, (const void *[]){golden_x});
    memcpy(golden_y, tensors[g->outputs[0]].data, sizeof golden_y);
    naive_free(g, tensors);
    graph_free(g);
}

/* Opens, makes a session and lets it grow with `n` allocations; true: that was enough. */
static bool open_with(long n)
{
    struct bundle bundle = make_bundle();
    struct nn_error error = {""};
    failing_memory_arm(n, true);
    struct nn_model *model = model_from_bundle(&bundle, &error);
    struct nn_session *session = model ? nn_session_new(model, 2, &error) : NULL;
    bool done = session && nn_session_reserve(session, 50, &error) == 0;
    failing_memory_disarm();
    if (!done)
        assert_non_null(strstr(error.text, "out of memory"));
    if (session)
        assert_int_equal(nn_session_run(session, 2, NULL), 0);
    nn_session_free(session);
    nn_model_close(model);
    return done;
}

static void opening_fails_or_succeeds_whole(void **state)
{
    (void)state;
    compute_golden();
    long n = 0;
    while (!open_with(n))
        n++;
    assert_in_range(n, 20, 1000);
}

static void a_graph_that_could_not_grow_is_as_it_was(void **state)
{
    (void)state;
    struct nn_shape shape = {2, {-1, 3}};
    for (long n = 0; n < 20; n++) {
        struct graph *g = graph_new();
        int x = graph_add_input(g, "x", NN_FP32, &shape, NULL);
        struct nn_error error = {""};
        failing_memory_arm(n, true);
        int y = graph_add_node(g, op_find("Relu"), NULL, "y", 1, &x, &error);
        failing_memory_disarm();
        if (y < 0) {
            assert_string_equal(error.text, "out of memory");
            assert_int_equal(g->n_nodes, 0);
            assert_int_equal(graph_find(g, "y"), -1);
            y = graph_add_node(g, op_find("Relu"), NULL, "y", 1, &x, NULL);
        }
        assert_int_equal(y, graph_find(g, "y"));
        assert_int_equal(graph_infer(g, 1, NULL), 0);
        graph_free(g);
    }
}

int main(void)
{
    nn_engine_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_fails_or_succeeds_whole),
        cmocka_unit_test(a_graph_that_could_not_grow_is_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
