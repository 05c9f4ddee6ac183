#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/kernels/kernels.h"
#include "engine/tensor.h"
#include "tests/graph_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* refusals */

static void what_does_not_fit_is_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct graph_refusal rows[] = {
        {"input x 2 3; weight w 2; node y = Add x w", "[2, 3] and [2] do not broadcast"},
        {"input x 2 3; integers i 3 = 1 2 3; node y = Mul x i", "FP32 and INT64"},
        {"input x 2 3; weight w 2 4; node y = Pow x w", "[2, 3] and [2, 4]"},
        {"integers i 3 = 1 2 3; node y = Sqrt i", "X must be FP32, not INT64"},
        {"integers i 3 = 1 2 3; node y = Relu i", "X must be FP32, not INT64"},
        {"input x 2 3; weight w 2; node y = Clip x w", "min is a scalar, not [2]"},
        {"input x 2 3; integers i = 1; node y = Clip x - i", "max must be FP32, not INT64"},
        {"input x 2 3; node y = Softmax x axis=2", "axis 2 is outside a tensor of rank 2"},
        {"input x 2 3; node y = LogSoftmax x axis=-3", "axis -3 is outside"},
        {"weight w; node y = Softmax w", "axis -1 is outside a tensor of rank 0"},
    };
    assert_graphs_refused(rows, sizeof rows / sizeof *rows);
}

/* broadcasting */

/* Element of `tensor`, broadcast to `out`, at the position whose number there is `flat`. */
static double broadcast_element(const struct nn_tensor *tensor, const struct nn_shape *out,
                                int64_t flat)
{
    int64_t at = 0, stride = 1;
    for (int i = out->rank - 1, own = tensor->shape.rank - 1; i >= 0; i--, own--) {
        int64_t index = flat % out->dims[i];
        flat /= out->dims[i];
        if (own < 0)
            continue;
        at += tensor->shape.dims[own] == 1 ? 0 : index * stride;
        stride *= tensor->shape.dims[own];
    }
    return (double)((const nn_real *)tensor->data)[at];
}

static void tensors_of_random_shapes_are_broadcast_as_onnx_says(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 3, 5};
    for (uint64_t round = 0; round < 400; round++) {
        struct nn_tensor inputs[2] = {{0}};
        struct nn_shape out = {.rank = (int)(kernel_random(round, 0) % 6)};
        for (int i = 0; i < out.rank; i++)
            out.dims[i] = sizes[kernel_random(round, (uint64_t)i + 1) % 4];
        for (uint64_t j = 0; j < 2; j++) {
            struct nn_shape *shape = &inputs[j].shape;
            int left_out = out.rank ? (int)(kernel_random(round, 10 + j) % 3) % out.rank : 0;
            shape->rank = out.rank - left_out;
            for (int i = 0; i < shape->rank; i++)
                shape->dims[i] = kernel_random(round, 20 + 10 * j + (uint64_t)i) % 3
                                     ? out.dims[i + left_out]
                                     : 1;
        }
        assert_int_equal(shape_broadcast(&inputs[0].shape, &inputs[1].shape, &out), 0);

        struct graph *g = graph_new();
        assert_non_null(g);
        int values[2];
        for (int j = 0; j < 2; j++) {
            int64_t n = shape_elements(&inputs[j].shape);
            inputs[j].data = graph_allocate(g, (size_t)n * sizeof(nn_real));
            graph_text_fill(inputs[j].data, n, 2 * round + (uint64_t)j);
            values[j] = graph_add_constant(g, j ? "b" : "a", &inputs[j], NULL);
        }
        int y = graph_add_node(g, op_find("Sub"), NULL, "y", 2, values, NULL);
        struct nn_tensor *tensors = naive_run(g, 1, NULL);
        assert_true(shape_equal(&tensors[y].shape, &out));
        for (int64_t i = 0; i < shape_elements(&out); i++) {
            double expected = broadcast_element(&inputs[0], &out, i) -
                              broadcast_element(&inputs[1], &out, i);
            double got = (double)((nn_real *)tensors[y].data)[i];
            if (!(fabs(got - expected) < 1e-6))
                fail_msg("round %d, element %d: %g, not %g", (int)round, (int)i, got, expected);
        }
        naive_free(g, tensors);
        graph_free(g);
    }
}

/* integers */

/* y = op(a, b), element by element, of one type. */
static void run_integers(const char *op, enum nn_datatype datatype, int64_t n, void *a, void *b,
                         void *y)
{
    struct graph *g = graph_new();
    assert_non_null(g);
    int values[] = {
        graph_add_constant(g, "a", &(struct nn_tensor){datatype, {1, {n}}, a}, NULL),
        graph_add_constant(g, "b", &(struct nn_tensor){datatype, {1, {n}}, b}, NULL)};
    int result = graph_add_node(g, op_find(op), NULL, "y", 2, values, NULL);
    struct nn_tensor *tensors = naive_run(g, 1, NULL);
    assert_int_equal(tensors[result].datatype, datatype);
    memcpy(y, tensors[result].data, (size_t)n * nn_datatype_size(datatype));
    naive_free(g, tensors);
    graph_free(g);
}

static void integers_wrap_and_divisions_never_trap(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        int64_t a, b, y64;
        int32_t y32;
    } rows[] = {
        {"Add", INT64_MAX, 1, INT64_MIN, 0},
        {"Add", INT32_MAX, 1, INT64_C(0x80000000), INT32_MIN},
        {"Sub", INT64_MIN, 1, INT64_MAX, -1},
        {"Mul", INT64_MIN, -1, INT64_MIN, 0},
        {"Mul", 65536, 65536, INT64_C(0x100000000), 0},
        {"Div", 7, 0, 0, 0},
        {"Div", INT64_MIN, -1, INT64_MIN, 0},
        {"Div", INT32_MIN, -1, INT64_C(0x80000000), INT32_MIN},
        {"Div", -7, 2, -3, -3},
        {"Div", 7, -2, -3, -3},
        {"Pow", 3, 4, 81, 81},
        {"Pow", -2, 63, INT64_MIN, 0},
        {"Pow", 2, -1, 0, 0},
        {"Pow", -1, -3, -1, -1},
        {"Pow", 0, -1, 0, 0},
        {"Pow", 0, 0, 1, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t a = rows[i].a, b = rows[i].b, y;
        run_integers(rows[i].op, NN_INT64, 1, &a, &b, &y);
        if (y != rows[i].y64)
            fail_msg("%s(%lld, %lld) = %lld", rows[i].op, (long long)a, (long long)b,
                     (long long)y);
        int32_t a32 = (int32_t)a, b32 = (int32_t)b, y32;
        run_integers(rows[i].op, NN_INT32, 1, &a32, &b32, &y32);
        if (y32 != rows[i].y32)
            fail_msg("%s(%d, %d) = %d", rows[i].op, a32, b32, y32);
    }
    uint8_t a[] = {250, 3, 200, 9}, b[] = {10, 5, 2, 0}, y[4];
    run_integers("Add", NN_UINT8, 4, a, b, y);
    assert_memory_equal(y, ((uint8_t[]){4, 8, 202, 9}), 4);
    run_integers("Sub", NN_UINT8, 4, a, b, y);
    assert_memory_equal(y, ((uint8_t[]){240, 254, 198, 9}), 4);
    run_integers("Div", NN_UINT8, 4, a, b, y);
    assert_memory_equal(y, ((uint8_t[]){25, 0, 100, 0}), 4);
}

static void powers_of_integers_stay_in_their_type(void **state)
{
    (void)state;
    struct graph *g = graph_text("integers a 6 = 10 -10 2 -8 9 5\n"
                                 "values b 6 = 40 41 0.5 0.5 0.5 -1\n"
                                 "node y = Pow a b\n"
                                 "output y");
    struct nn_tensor *tensors = naive_run(g, 1, NULL);
    static const int64_t expected[] = {INT64_MAX, INT64_MIN, 1, 0, 3, 0};
    assert_memory_equal(tensors[g->outputs[0]].data, expected, sizeof expected);
    naive_free(g, tensors);
    graph_free(g);
}

/* batches and memory */

static void the_batch_is_followed_or_given_up(void **state)
{
    (void)state;
    static const struct graph_batch_axis rows[] = {
        {"input x -1 3; weight w 3; node y = Add x w", 0},
        {"input x -1 3; weight w 3; node y = Add w x", 0},
        {"input x -1 3; weight w 1 3; node y = Mul x w", 0},
        {"input x -1 3; weight w 2 1 3; node y = Add x w", 1},
        {"input x -1 3; weight w 4 3; node y = Add x w", BATCH_LOST},
        {"input x -1 3; input z -1 1; node y = Add x z", 0},
        {"input x -1 1; input z -1; node y = Add x z", BATCH_LOST},
        {"input x -1; node y = Clip x", 0},
        {"input x -1 3; node y = Exp x", 0},
        {"weight w 3; node y = Exp w", BATCH_NONE},
        {"input x -1 3; node y = Softmax x", 0},
        {"input x -1 3; node y = Softmax x axis=0", BATCH_LOST},
        {"input x -1 3; node y = LogSoftmax x axis=-2", BATCH_LOST},
        {"input x -1 3 2; node y = LogSoftmax x axis=1", 0},
    };
    assert_batch_axes(rows, sizeof rows / sizeof *rows);
}

static void results_may_lie_over_the_first_input(void **state)
{
    (void)state;
    static const char *const graphs[] = {
        "input x 3 7 5; weight w 5; node y = Add x w",
        "input x 3 7 5; weight w 7 1; node y = Div x w",
        "input x 3 7 5; node y = Mul x x",
        "input x 3 7 5; values w = 2; node y = Pow x w",
        "input x 3 7 5; node y = Exp x",
        "input x 3 7 5; node y = Neg x",
        "input x 3 7 5; values w = 0; node y = Clip x w",
        "input x 3 7 5; node y = LeakyRelu x alpha=0.25",
        "input x 3 7 5; node y = Sigmoid x",
        "input x 3 7 5; node y = Tanh x",
        "input x 3 7 5; node y = Softmax x",
        "input x 3 7 5; node y = Softmax x axis=1",
        "input x 3 7 5; node y = LogSoftmax x",
        "input x 3 7 5; node y = LogSoftmax x axis=0",
    };
    for (size_t i = 0; i < sizeof graphs / sizeof *graphs; i++) {
        struct graph *g = graph_text(graphs[i]);
        void **inputs = random_inputs(g, 1, i);
        struct nn_tensor *tensors = naive_run(g, 1, (const void *const *)inputs);
        const struct graph_node *node = &g->nodes[0];
        struct nn_tensor x = tensors[node->inputs[0]], y = x;
        const struct nn_tensor *in[2] = {&x, node->n_inputs > 1 ? &tensors[node->inputs[1]]
                                                                : NULL};
        if (node->n_inputs > 1 && node->inputs[1] == node->inputs[0])
            in[1] = &x;
        assert_true(node->op->flags & OP_IN_PLACE);
        void *scratch = tensor_allocate(node->scratch);
        assert_non_null(scratch);
        node->op->forward(&(struct op_call){
            .attributes = node->attributes, .n_inputs = node->n_inputs, .n_outputs = 1,
            .inputs = in, .outputs = (struct nn_tensor *[]){&y}, .scratch = scratch,
            .n_parts = 1});
        if (memcmp(y.data, tensors[node->outputs[0]].data,
                   (size_t)tensor_bytes(y.datatype, &y.shape)) != 0)
            fail_msg("%s", graphs[i]);
        free(scratch);
        naive_free(g, tensors);
        free_inputs(g, inputs);
        graph_free(g);
    }
}

/* Softmax */

static void softmax_sums_to_one_along_every_axis(void **state)
{
    (void)state;
    for (int axis = 0; axis < 3; axis++) {
        char text[128];
        snprintf(text, sizeof text,
                 "input x 4 300 3; node y = Softmax x axis=%d\n"
                 "node z = LogSoftmax x axis=%d; node e = Exp z", axis, axis);
        struct graph *g = graph_text(text);
        void **inputs = random_inputs(g, 1, 3);
        struct nn_tensor *tensors = naive_run(g, 1, (const void *const *)inputs);
        const struct nn_tensor *y = &tensors[graph_find(g, "y")];
        assert_tensors_near(y, &tensors[graph_find(g, "e")], 1e-6);

        int64_t inner = shape_product(&y->shape, axis + 1, 3), length = y->shape.dims[axis];
        for (int64_t line = 0; line < 3600 / length; line++) {
            const nn_real *at = (const nn_real *)y->data +
                                line / inner * length * inner + line % inner;
            double sum = 0;
            for (int64_t i = 0; i < length; i++)
                sum += (double)at[i * inner];
            assert_true(fabs(sum - 1) < 1e-5);
        }
        naive_free(g, tensors);
        free_inputs(g, inputs);
        graph_free(g);
    }
}

static void softmax_of_extreme_numbers_is_finite_or_nan(void **state)
{
    (void)state;
    struct graph *g = graph_text("values x 4 2 = 3e38 -3e38 -inf 0 nan 0 -inf -inf\n"
                                 "node y = Softmax x; output y");
    struct nn_tensor *tensors = naive_run(g, 1, NULL);
    const nn_real *y = tensors[g->outputs[0]].data;
    assert_true(y[0] == 1 && y[1] == 0 && y[2] == 0 && y[3] == 1);
    for (int i = 4; i < 8; i++)
        assert_true(isnan(y[i]));
    naive_free(g, tensors);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_is_refused_with_a_reason),
        cmocka_unit_test(tensors_of_random_shapes_are_broadcast_as_onnx_says),
        cmocka_unit_test(integers_wrap_and_divisions_never_trap),
        cmocka_unit_test(powers_of_integers_stay_in_their_type),
        cmocka_unit_test(the_batch_is_followed_or_given_up),
        cmocka_unit_test(results_may_lie_over_the_first_input),
        cmocka_unit_test(softmax_sums_to_one_along_every_axis),
        cmocka_unit_test(softmax_of_extreme_numbers_is_finite_or_nan),
    };
    kernels_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
