#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/graph_text.h"

#include <stdio.h>
#include <string.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Building or, where that succeeds, inference for one row says exactly this. */
static const struct {
    const char *graph, *error;
} refused[] = {
    {"input x -1 3; input x -1 3", "\"x\" is there already"},
    {"input x 0 3", "input \"x\": shape [0, 3]: only the first dimension may be -1, and every "
                    "other is positive"},
    {"input x 3 -1", "input \"x\": shape [3, -1]: only the first dimension may be -1, and every "
                     "other is positive"},
    {"input x -2", "input \"x\": shape [-2]: only the first dimension may be -1, and every "
                   "other is positive"},
    {"input x -1 4294967296 4294967296",
     "input \"x\": shape [-1, 4294967296, 4294967296] is too large"},
    {"input x -1 1099511627776", "input \"x\": shape [-1, 1099511627776] is too large"},
    {"input x -1 3; values x = 1", "\"x\" is there already"},
    {"input x -1 3; node x = Relu x", "x (Relu): output \"x\" is there already"},
    {"input x -1 3; node y,y = Dropout x", "y (Dropout): output \"y\" is there already"},
    {"input x -1 3; node y = Relu", "y (Relu): takes 1 input, got 0"},
    {"input x -1 3; node y = Relu x x", "y (Relu): takes 1 input, got 2"},
    {"input x -1 3; node y = Gemm x", "y (Gemm): takes 2 to 3 inputs, got 1"},
    {"input x -1 3; node y = Gemm - x", "y (Gemm): input 0 must not be left out"},
    {"input x -1 3; node y = Concat x - axis=1", "y (Concat): input 1 must not be left out"},
    {"input x -1 3; node y,z = Relu x", "y (Relu): has 1 output, got 2"},
    {"input x -1 3; node y,z,u = Dropout x", "y (Dropout): has 1 to 2 outputs, got 3"},
    {"input x -1 3; output x; output x", "output \"x\" is there already"},
    {"input x -1 3; output y", "an output is value -1 of 1"},
    {"input x -1 3; node y = Rellu x", "no operation Rellu; meant Relu?"},
    {"input x -1 3; node y = softmax x", "no operation softmax; meant Softmax?"},
    {"input x -1 3; node y = Softmax x dim=1", "Softmax has no attribute \"dim\""},
    {"input x -1 3 4 4; node y = MaxPool x kernel_shape=2,2 auto_pad=SAME",
     "attribute \"auto_pad\" is one of \"NOTSET\", \"SAME_UPPER\", \"SAME_LOWER\", \"VALID\", "
     "got \"SAME\""},
    {"input x -1 1099511627; values m 1 1 1000 = 1; node y = Mul x m; output y", NULL},
};

static void what_cannot_be_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(refused); i++) {
        struct nn_error error = {""};
        struct graph *g = graph_text_read(refused[i].graph, &error);
        if (g)
            graph_infer(g, 1, &error);
        graph_free(g);
        if (!refused[i].error)
            assert_true(error.text[0] != '\0');
        else
            assert_string_equal(error.text, refused[i].error);
    }
}

static void a_graph_that_refused_something_is_as_it_was(void **state)
{
    (void)state;
    struct graph *g = graph_text("input x -1 3; node y = Relu x; output y");
    int values = g->n_values;
    int x = graph_find(g, "x");
    assert_int_equal(graph_add_node(g, op_find("Relu"), NULL, "y", 1, &x, NULL), -1);
    assert_int_equal(graph_add_node(g, op_find("Relu"), NULL, "z", 1, (int[]){17}, NULL), -1);
    assert_int_equal(graph_add_output(g, 17, NULL), -1);
    assert_int_equal(g->n_values, values);
    assert_int_equal(g->n_nodes, 1);
    assert_int_equal(graph_find(g, "z"), -1);
    graph_free(g);
}

static void many_names_are_found(void **state)
{
    (void)state;
    struct graph *g = graph_text("input x -1 3");
    int value = 0;
    char name[32];
    for (int i = 0; i < GRAPH_MAX_NODES; i++) {
        snprintf(name, sizeof name, "n%d", i);
        value = graph_add_node(g, op_find("Neg"), NULL, name, 1, &value, NULL);
        assert_true(value > 0);
    }
    struct nn_error error = {""};
    assert_int_equal(graph_add_node(g, op_find("Neg"), NULL, "one", 1, &value, &error), -1);
    assert_string_equal(error.text, "more than 65536 nodes");
    assert_int_equal(graph_find(g, "n40000"), 40001);
    assert_int_equal(graph_find(g, "n65536"), -1);
    assert_int_equal(graph_infer(g, 1, NULL), 0);
    graph_free(g);
}

static void errors_of_inference_begin_with_the_node(void **state)
{
    (void)state;
    struct graph *g =
        graph_text("input x -1 3; weight w 4 5; node y = Gemm x w; output y");
    struct nn_error error = {""};
    assert_int_equal(graph_infer(g, 1, &error), -1);
    assert_true(strncmp(error.text, "y (Gemm): ", 10) == 0);
    graph_free(g);
}

/* Broadcasting can make much out of little: inference stops before anybody asks for it. */
static void a_graph_cannot_outgrow_its_bound(void **state)
{
    (void)state;
    struct graph *g = graph_text("input x -1 1; weight r 1 4096; weight c 4096 1 1; "
                                 "weight d 4096 1 1 1; weight e 4096 1 1 1 1; node a = Add x r; "
                                 "node b = Add a c; node y = Add b d; node z = Add y e; "
                                 "output z");
    struct nn_error error = {""};
    assert_int_equal(graph_infer(g, 1, &error), -1);
    assert_true(strncmp(error.text, "z (Add): ", 9) == 0);
    graph_free(g);
}

/* following the batch */

static const struct {
    const char *graph;
    const char *unbatched;      /* NULL: it is batched */
    const char *shape;          /* of output 0 */
} batches[] = {
    {"input x -1 3; node y = Relu x; output y", NULL, "[-1, 3]"},
    {"input x -1 3; weight w 3 4; node y = Gemm x w; output y", NULL, "[-1, 4]"},
    {"input x -1 3; weight w 3 4; node y = MatMul x w; output y", NULL, "[-1, 4]"},
    {"input x -1 3 8 8; weight w 4 3 3 3; node y = Conv x w; output y", NULL, "[-1, 4, 6, 6]"},
    {"input x -1 3 8 8; node y = MaxPool x kernel_shape=2,2 strides=2,2; output y", NULL,
     "[-1, 3, 4, 4]"},
    {"input x -1 3 8 8; node y = GlobalAveragePool x; output y", NULL, "[-1, 3, 1, 1]"},
    {"input x -1 3 8 8; node y = Flatten x; output y", NULL, "[-1, 192]"},
    {"input x -1 3; weight w 3; node y = Add x w; output y", NULL, "[-1, 3]"},
    {"input x -1 3; weight w 1 3; node y = Add x w; output y", NULL, "[-1, 3]"},
    {"input x -1 3; input z -1 3; node y = Mul x z; output y", NULL, "[-1, 3]"},
    {"input x -1 3; node y = Softmax x; output y", NULL, "[-1, 3]"},
    {"input x -1 2 3; integers p 3 = 0 2 1; node y = Transpose x perm=0,2,1; output y", NULL,
     "[-1, 3, 2]"},
    {"input x -1 12; integers r 3 = -1 3 4; node y = Reshape x r; output y", NULL,
     "[-1, 3, 4]"},
    {"input x -1 12; integers r 3 = 0 3 4; node y = Reshape x r; output y", NULL,
     "[-1, 3, 4]"},
    {"input x -1 3; node y = Concat x x axis=1; output y", NULL, "[-1, 6]"},
    {"input x -1 3 5; integers a 1 = 1; node y = ReduceSum x a keepdims=0; output y", NULL,
     "[-1, 5]"},
    {"input x -1 3; weight s 3; weight b 3; weight m 3; values v 3 = 1 2 3; "
     "node y = BatchNormalization x s b m v; output y", NULL, "[-1, 3]"},
    {"input x -1 3; node y = Dropout x; output y", NULL, "[-1, 3]"},

    /* What is lost on a way that leads to no output does not matter. */
    {"input x -1 3; node s = Softmax x axis=0; node y = Relu x; output y", NULL, "[-1, 3]"},

    {"input x -1 3; node y = Softmax x axis=0; output y", "y (Softmax): rows are mixed",
     "[-1, 3]"},
    {"input x -1 3; node s = Softmax x axis=0; node y = Relu s; output y",
     "s (Softmax): rows are mixed", "[-1, 3]"},
    {"input x -1 3; node y = Concat x x axis=0; output y", "y (Concat): rows are mixed",
     "[-1, 3]"},
    {"input x -1 3; integers a 1 = 0; node y = ReduceMean x axes=0; output y",
     "y (ReduceMean): rows are mixed", "[1, 3]"},
    {"input x -1 3; node t = Transpose x; output t", "output \"t\" has the batch as axis 1",
     "[3, -1]"},
    {"input x -1 3; node t = Transpose x; node y = MatMul x t; output y",
     "y (MatMul): rows are mixed", "[-1, -1]"},
    {"input x -1 4; integers r 2 = -1 2; node y = Reshape x r; output y",
     "y (Reshape): rows are mixed", "[-1, 2]"},
    {"input x -1 3; weight w 2 3; node y = Add x w; output y", NULL, NULL},
    {"input x 2 3; node y = Relu x; output y", "input \"x\" has no batch axis", "[2, 3]"},
    {"input x -1 3; input z 3; node y = Add x z; output y", "input \"z\" has no batch axis",
     "[-1, 3]"},
    {"input x -1 3; weight w 2 3; node y = Relu x; node z = Relu w; output z",
     "output \"z\" does not depend on the batch", "[2, 3]"},
    {"input x -1 3; output x", NULL, "[-1, 3]"},
};

static void the_batch_is_followed_through_operations(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(batches); i++) {
        struct graph *g = graph_text(batches[i].graph);
        struct nn_shape shape;
        struct shape_text text;
        const char *unbatched = NULL;
        struct nn_error error = {""};
        if (graph_follow_batch(g, &shape, &unbatched, &error) != 0)
            fail_msg("%s\n%s", error.text, batches[i].graph);
        if (batches[i].shape) {
            if (!unbatched != !batches[i].unbatched)
                fail_msg("%s\n%s", unbatched ? unbatched : "batched", batches[i].graph);
            if (unbatched)
                assert_string_equal(unbatched, batches[i].unbatched);
            assert_string_equal(shape_print(&shape, &text), batches[i].shape);
        } else {
            assert_non_null(unbatched);
        }
        assert_int_equal(g->batch, 1);
        graph_free(g);
    }
}

static void a_shape_that_fits_few_batches_is_a_reason(void **state)
{
    (void)state;
    struct graph *g = graph_text("input x -1 4; integers r 2 = 2 2; node y = Reshape x r; "
                                 "output y");
    struct nn_shape shape;
    const char *unbatched = NULL;
    assert_int_equal(graph_follow_batch(g, &shape, &unbatched, NULL), 0);
    assert_non_null(unbatched);
    assert_true(strncmp(unbatched, "y (Reshape): ", 13) == 0);
    assert_non_null(strstr(unbatched, " (of 1009 rows)"));
    graph_free(g);
}

static void what_fits_no_row_is_an_error(void **state)
{
    (void)state;
    struct graph *g = graph_text("input x -1 4; integers r 2 = 3 2; node y = Reshape x r; "
                                 "output y");
    const char *unbatched;
    struct nn_error error = {""};
    assert_int_equal(graph_follow_batch(g, NULL, &unbatched, &error), -1);
    assert_true(strncmp(error.text, "y (Reshape): ", 13) == 0);
    graph_free(g);
}

static void constants_belong_to_no_batch(void **state)
{
    (void)state;
    struct graph *g = graph_text("input x -1 3; weight w 5 3; node y = Softmax w axis=0; "
                                 "node z = Relu y; output x");
    assert_int_equal(graph_infer(g, 5, NULL), 0);
    assert_int_equal(g->values[graph_find(g, "z")].type.batch, BATCH_NONE);
    graph_free(g);
}

/* errors and shapes */

static void the_first_error_wins(void **state)
{
    (void)state;
    struct nn_error error = {""};
    assert_int_equal(nn_fail(&error, "kernel %d", 5), -1);
    nn_fail(&error, "later");
    assert_int_equal(nn_fail_in(&error, "conv%d", 1), -1);
    assert_string_equal(error.text, "conv1: kernel 5");
    assert_int_equal(nn_fail(NULL, "nobody asks"), -1);
    assert_int_equal(nn_fail_in(NULL, "nobody asks"), -1);

    char name[2 * sizeof error.text];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    nn_fail_in(&error, "%s", name);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
}

static void impossible_shapes_have_no_elements(void **state)
{
    (void)state;
    static const struct {
        struct nn_shape shape;
        int64_t elements;
    } cases[] = {
        {{0, {0}}, 1},
        {{1, {0}}, 0},
        {{3, {2, 3, 4}}, 24},
        {{2, {2, -1}}, -1},
        {{2, {0, -1}}, -1},
        {{2, {INT64_MAX, 2}}, -1},
        {{3, {INT64_MAX, 2, 0}}, 0},
        {{4, {1 << 16, 1 << 16, 1 << 16, 1 << 16}}, -1},
        {{3, {1 << 16, 1 << 16, 1 << 16}}, INT64_C(1) << 48},
    };
    for (size_t i = 0; i < LENGTH(cases); i++)
        assert_int_equal(shape_elements(&cases[i].shape), cases[i].elements);
    assert_int_equal(tensor_bytes(NN_INT64, &(struct nn_shape){1, {INT64_MAX / 4}}), -1);
    assert_null(tensor_allocate(SIZE_MAX));
}

static void shapes_broadcast_as_onnx_says(void **state)
{
    (void)state;
    static const struct {
        struct nn_shape a, b;
        const char *out;        /* NULL: they do not fit */
    } cases[] = {
        {{4, {2, 3, 4, 5}}, {0, {0}}, "[2, 3, 4, 5]"},
        {{4, {2, 3, 4, 5}}, {1, {5}}, "[2, 3, 4, 5]"},
        {{2, {4, 5}}, {4, {2, 3, 4, 5}}, "[2, 3, 4, 5]"},
        {{4, {1, 4, 5, 1}}, {4, {2, 3, 1, 1}}, NULL},
        {{3, {1, 4, 5}}, {4, {2, 3, 1, 1}}, "[2, 3, 4, 5]"},
        {{2, {3, 4}}, {1, {3}}, NULL},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct nn_shape out;
        struct shape_text text;
        int status = shape_broadcast(&cases[i].a, &cases[i].b, &out);
        assert_int_equal(status, cases[i].out ? 0 : -1);
        if (cases[i].out)
            assert_string_equal(shape_print(&out, &text), cases[i].out);
    }
    int64_t strides[3];
    shape_broadcast_strides(&(struct nn_shape){2, {3, 1}}, &(struct nn_shape){3, {2, 3, 4}},
                            strides);
    assert_int_equal(strides[0], 0);
    assert_int_equal(strides[1], 1);
    assert_int_equal(strides[2], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_is_refused_by_name),
        cmocka_unit_test(a_graph_that_refused_something_is_as_it_was),
        cmocka_unit_test(many_names_are_found),
        cmocka_unit_test(errors_of_inference_begin_with_the_node),
        cmocka_unit_test(a_graph_cannot_outgrow_its_bound),
        cmocka_unit_test(the_batch_is_followed_through_operations),
        cmocka_unit_test(a_shape_that_fits_few_batches_is_a_reason),
        cmocka_unit_test(what_fits_no_row_is_an_error),
        cmocka_unit_test(constants_belong_to_no_batch),
        cmocka_unit_test(the_first_error_wins),
        cmocka_unit_test(impossible_shapes_have_no_elements),
        cmocka_unit_test(shapes_broadcast_as_onnx_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
