#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/kernels/kernels.h"
#include "tests/graph_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void what_does_not_fit_is_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct graph_refusal rows[] = {
        {"input x 2 3; weight w 4 5; node y = Gemm x w",
         "A [2, 3] and B [4, 5] do not have the same inner dimension"},
        {"input x 2 3; weight w 3 5; node y = Gemm x w transA=1", "A [2, 3] and B [3, 5]"},
        {"input x 2 3; weight w 3 5; node y = Gemm x w transB=1", "A [2, 3] and B [3, 5]"},
        {"input x 2 3 1; weight w 3 5; node y = Gemm x w", "A is a matrix, not [2, 3, 1]"},
        {"input x 2 3; weight w 3; node y = Gemm x w", "B is a matrix, not [3]"},
        {"input x 2 3; weight w 3 5; weight c 3; node y = Gemm x w c",
         "C [3] does not broadcast to [2, 5]"},
        {"input x 1 3; weight w 3 5; weight c 2 5; node y = Gemm x w c",
         "C [2, 5] does not broadcast to [1, 5]"},
        {"input x 2 3; integers w 3 1 = 1 2 3; node y = Gemm x w", "B must be FP32, not INT64"},
        {"input x 2 3; weight w 3 1; integers c = 1; node y = Gemm x w c", "C must be FP32"},
        {"input x 2 3; weight w; node y = MatMul x w", "B is a scalar"},
        {"input x 2 3; weight w 2; node y = MatMul x w", "A [2, 3] and B [2] do not have"},
        {"input x 2 3; weight w 3 4 5; node y = MatMul x w", "A [2, 3] and B [3, 4, 5]"},
        {"input x 2 4 3; weight w 3 3 5; node y = MatMul x w",
         "the leading axes of A [2, 4, 3] and B [3, 3, 5] do not broadcast"},
        {"integers x 1 = 1; weight w 1; node y = MatMul x w", "A must be FP32, not INT64"},
    };
    assert_graphs_refused(rows, sizeof rows / sizeof *rows);
}

static void the_batch_is_followed_or_given_up(void **state)
{
    (void)state;
    static const struct graph_batch_axis rows[] = {
        {"input x -1 3; weight w 3 5; node y = Gemm x w", 0},
        {"input x -1 3; weight w 3 5; weight c 5; node y = Gemm x w c", 0},
        {"input x -1 3; weight w 3 5; weight c 4 5; node y = Gemm x w c", BATCH_LOST},
        {"input x -1 3; weight w 3 5; input c -1 5; node y = Gemm x w c", 0},
        {"input x -1 3; weight w 3 4; input c -1; node y = Gemm x w c", BATCH_LOST},
        {"weight x 4 3; weight w 3 5; input c -1 1; node y = Gemm x w c", BATCH_LOST},
        {"input x -1 4; weight w 4 5; node y = Gemm x w transA=1", BATCH_LOST},
        {"weight x 2 4; input w -1 3; node y = Gemm x w", BATCH_LOST},
        {"weight x 3 2; input w -1 2; node y = Gemm x w transB=1", BATCH_LOST},
        {"weight x 3 2; weight w 2 2; node y = Gemm x w", BATCH_NONE},
        {"input x -1 3; weight w 3 5; node y = MatMul x w", 0},
        {"input x -1 3; weight w 3; node y = MatMul x w", 0},
        {"input x -1 2 3; weight w 3 5; node y = MatMul x w", 0},
        {"input x -1 2 3; weight w 1 3 5; node y = MatMul x w", 0},
        {"input x -1 2 3; weight w 4 3 5; node y = MatMul x w", BATCH_LOST},
        {"input x -1 2 3; input w -1 3 5; node y = MatMul x w", 0},
        {"weight x 2 3; input w -1 3 5; node y = MatMul x w", 0},
        {"input x -1 3; weight w 6 3 5; node y = MatMul x w", 1},
        {"input x -1 3; input w -1 3 5; node y = MatMul x w", BATCH_LOST},
        {"input x -1; weight w 4; node y = MatMul x w", BATCH_LOST},
        {"weight x 4; input w -1; node y = MatMul x w", BATCH_LOST},
        {"weight x 2 4; input w -1 3; node y = MatMul x w", BATCH_LOST},
    };
    assert_batch_axes(rows, sizeof rows / sizeof *rows);
}

/* Products of stacks, one number after the other, with the axes that MatMul adds to vectors
 * and takes away again. */

static int64_t stack_offset(const struct nn_shape *matrices, const struct nn_shape *stack,
                            int64_t flat)
{
    int64_t at = 0, stride = shape_product(matrices, matrices->rank - 2, matrices->rank);
    for (int i = stack->rank - 1, own = matrices->rank - 3; i >= 0 && own >= 0; i--, own--) {
        at += matrices->dims[own] == 1 ? 0 : flat % stack->dims[i] * stride;
        stride *= matrices->dims[own];
        flat /= stack->dims[i];
    }
    return at;
}

static void products_of_stacks_are_those_of_their_matrices(void **state)
{
    (void)state;
    static const struct {
        const char *graph;
        struct nn_shape a, b;       /* as matrices */
        struct nn_shape stack, y;
    } rows[] = {
        {"weight a 3 4; weight b 4 5; node y = MatMul a b",
         {2, {3, 4}}, {2, {4, 5}}, {0}, {2, {3, 5}}},
        {"weight a 4; weight b 4 5; node y = MatMul a b",
         {2, {1, 4}}, {2, {4, 5}}, {0}, {1, {5}}},
        {"weight a 3 4; weight b 4; node y = MatMul a b",
         {2, {3, 4}}, {2, {4, 1}}, {0}, {1, {3}}},
        {"weight a 4; weight b 4; node y = MatMul a b",
         {2, {1, 4}}, {2, {4, 1}}, {0}, {0}},
        {"weight a 2 6 3 4; weight b 4 5; node y = MatMul a b",
         {4, {2, 6, 3, 4}}, {2, {4, 5}}, {2, {2, 6}}, {4, {2, 6, 3, 5}}},
        {"weight a 3 4; weight b 2 6 4 5; node y = MatMul a b",
         {2, {3, 4}}, {4, {2, 6, 4, 5}}, {2, {2, 6}}, {4, {2, 6, 3, 5}}},
        {"weight a 2 1 3 4; weight b 6 4 5; node y = MatMul a b",
         {4, {2, 1, 3, 4}}, {3, {6, 4, 5}}, {2, {2, 6}}, {4, {2, 6, 3, 5}}},
        {"weight a 6 3 4; weight b 2 1 4 5; node y = MatMul a b",
         {3, {6, 3, 4}}, {4, {2, 1, 4, 5}}, {2, {2, 6}}, {4, {2, 6, 3, 5}}},
        {"weight a 2 3 4; weight b 2 4 5; node y = MatMul a b",
         {3, {2, 3, 4}}, {3, {2, 4, 5}}, {1, {2}}, {3, {2, 3, 5}}},
        {"weight a 4; weight b 2 4 5; node y = MatMul a b",
         {2, {1, 4}}, {3, {2, 4, 5}}, {1, {2}}, {2, {2, 5}}},
        {"weight a 2 3 4; weight b 4; node y = MatMul a b",
         {3, {2, 3, 4}}, {2, {4, 1}}, {1, {2}}, {2, {2, 3}}},
    };
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        struct graph *g = graph_text(rows[row].graph);
        struct nn_tensor *tensors = naive_run(g, 1, NULL);
        const nn_real *a = tensors[graph_find(g, "a")].data;
        const nn_real *b = tensors[graph_find(g, "b")].data;
        const struct nn_tensor *y = &tensors[graph_find(g, "y")];
        if (!shape_equal(&y->shape, &rows[row].y))
            fail_msg("%s: the shape", rows[row].graph);

        int64_t m = rows[row].a.dims[rows[row].a.rank - 2];
        int64_t k = rows[row].a.dims[rows[row].a.rank - 1];
        int64_t n = rows[row].b.dims[rows[row].b.rank - 1];
        for (int64_t i = 0; i < shape_elements(&y->shape); i++) {
            int64_t matrix = i / (m * n);
            const nn_real *u = a + stack_offset(&rows[row].a, &rows[row].stack, matrix);
            const nn_real *v = b + stack_offset(&rows[row].b, &rows[row].stack, matrix);
            double expected = 0, got = (double)((const nn_real *)y->data)[i];
            for (int64_t p = 0; p < k; p++)
                expected += (double)u[i / n % m * k + p] * (double)v[p * n + i % n];
            if (!(fabs(got - expected) < 1e-5))
                fail_msg("%s: element %d is %g, not %g", rows[row].graph, (int)i, got, expected);
        }
        naive_free(g, tensors);
        graph_free(g);
    }
}

/* Gemm against its equation, for every way to add C, and with every activation behind it. */

static void gemm_adds_every_kind_of_c_and_applies_the_activation(void **state)
{
    (void)state;
    static const char *const addends[] = {"", "weight c", "weight c 1", "weight c 7",
                                          "weight c 1 7", "weight c 5 1", "weight c 5 7"};
    static const char *const activations[] = {
        [ACTIVATION_NONE] = "Identity z", [ACTIVATION_RELU] = "Relu z",
        [ACTIVATION_LEAKY_RELU] = "LeakyRelu z alpha=0.5", [ACTIVATION_SIGMOID] = "Sigmoid z",
        [ACTIVATION_TANH] = "Tanh z", [ACTIVATION_CLIP] = "Clip z low high"};

    for (int variant = 0; variant < 7 * 4 * 2 * 6; variant++) {
        const char *addend = addends[variant % 7];
        bool ta = variant / 7 & 1, tb = variant / 14 & 1, scaled = variant / 28 & 1;
        int activation = variant / 56;
        char text[512];
        snprintf(text, sizeof text,
                 "weight a %s; weight b %s; %s; values k = %s; values alpha = %s\n"
                 "values low = -0.25; values high = 0.5\n"
                 "node y = Gemm a b %s transA=%d transB=%d alpha=%s beta=%s\n"
                 "%s; node m = MatMul %s %s; node s = Mul m alpha\n"
                 "%s; node t = %s\n",
                 ta ? "3 5" : "5 3", tb ? "7 3" : "3 7", addend, scaled ? "-2" : "1",
                 scaled ? "0.5" : "1", addend[0] ? "c" : "", ta, tb, scaled ? "0.5" : "1",
                 scaled ? "-2" : "1",
                 ta && tb ? "node at = Transpose a; node bt = Transpose b"
                 : ta     ? "node at = Transpose a"
                 : tb     ? "node bt = Transpose b"
                          : "",
                 ta ? "at" : "a", tb ? "bt" : "b",
                 addend[0] ? "node kc = Mul c k; node z = Add s kc" : "node z = Identity s",
                 activations[activation]);
        struct graph *g = graph_text(text);
        g->nodes[0].epilogue = (struct op_epilogue){
            .activation = (enum op_activation)activation,
            .alpha = activation == ACTIVATION_CLIP ? -0.25f : 0.5f,
            .beta = 0.5f,
        };
        struct nn_tensor *tensors = naive_run(g, 1, NULL);
        assert_tensors_near(&tensors[graph_find(g, "y")], &tensors[graph_find(g, "t")], 1e-5);
        naive_free(g, tensors);

        /* The same behind a MatMul of its own. */
        struct op_epilogue epilogue = g->nodes[0].epilogue;
        graph_free(g);
        snprintf(text, sizeof text,
                 "weight a 2 5 3; weight b 3 7; values low = -0.25; values high = 0.5\n"
                 "node y = MatMul a b; node z = MatMul a b; node t = %s",
                 activations[activation]);
        g = graph_text(text);
        g->nodes[0].epilogue = epilogue;
        tensors = naive_run(g, 1, NULL);
        assert_tensors_near(&tensors[graph_find(g, "y")], &tensors[graph_find(g, "t")], 1e-5);
        naive_free(g, tensors);
        graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_is_refused_with_a_reason),
        cmocka_unit_test(the_batch_is_followed_or_given_up),
        cmocka_unit_test(products_of_stacks_are_those_of_their_matrices),
        cmocka_unit_test(gemm_adds_every_kind_of_c_and_applies_the_activation),
    };
    kernels_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
