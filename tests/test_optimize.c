#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/optimize.h"
#include "tests/graph_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Both compute the same, for one row and for several. */
static void assert_same(struct graph *plain, struct graph *optimised, double tolerance)
{
    assert_int_equal(plain->n_outputs, optimised->n_outputs);
    for (int64_t batch = 1; batch <= 3; batch += 2) {
        void **inputs = random_inputs(plain, batch, (uint64_t)batch);
        struct nn_tensor *a = naive_run(plain, batch, (const void *const *)inputs);
        struct nn_tensor *b = naive_run(optimised, batch, (const void *const *)inputs);
        for (int i = 0; i < plain->n_outputs; i++) {
            int va = plain->outputs[i], vb = optimised->outputs[i];
            assert_string_equal(plain->values[va].name, optimised->values[vb].name);
            assert_tensors_near(&a[va], &b[vb], tolerance);
        }
        naive_free(plain, a);
        naive_free(optimised, b);
        free_inputs(plain, inputs);
    }
}

static void check(const char *text, int n_nodes)
{
    struct nn_error error = {""};
    struct graph *plain = graph_text(text), *optimised = graph_text(text);
    if (graph_optimize(optimised, &error) != 0)
        fail_msg("%s\n%s", error.text, text);
    if (optimised->n_nodes != n_nodes)
        fail_msg("%d nodes, not %d\n%s", optimised->n_nodes, n_nodes, text);
    assert_same(plain, optimised, 1e-5);
    graph_free(plain);
    graph_free(optimised);
}

struct row {
    int n_nodes;                /* what is left */
    const char *graph;
};

#define CHECK(rows)                                                                           \
    for (size_t i = 0; i < sizeof(rows) / sizeof((rows)[0]); i++)                             \
    check((rows)[i].graph, (rows)[i].n_nodes)

static void what_depends_on_constants_only_is_computed_once(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {1, "input x -1 3; weight a 3; weight b 3; node c = Add a b; node d = Exp c; "
            "node y = Mul x d; output y"},
        {1, "input x -1 3; weight a 3; node e = Exp a; node f = Exp x; output e; output f"},
        {1, "input x -1 12; integers a 1 = -1; integers b 2 = 3 4; "
            "integers s 3 = -1 3 4; node c = Concat a b axis=0; node y = Reshape x s; output y"},
        {1, "input x -1 3; weight w 4 3; node t = Transpose w; node y = MatMul x t; output y"},
        /* Little that becomes much stays what it is. */
        {3, "input x -1 1; weight a 1024; weight b 1024 1; node c = Add a b; "
            "node d = ReduceMean c; node y = Add x d; output y"},
    };
    CHECK(rows);
}

static void identities_disappear(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {2, "input x -1 3; node i = Identity x; node a = Exp i; node j = Identity a; "
            "node k = Identity j; node y = Neg k; output y"},
        {1, "input x -1 3; node a = Exp x; node y = Identity a; output y"},
        {2, "input x -1 3; node a = Exp x; node y = Identity a; node z = Neg a; output y; "
            "output z"},
        {1, "input x -1 3; node a = Exp x; node b = Identity a; node c = Identity b; "
            "output c"},
        {1, "input x -1 3; node y = Dropout x; node z = Exp y; output z"},
        {1, "input x -1 3; values r = 0.5; node y = Dropout x r; node z = Exp y; output z"},
        /* Two names need two values. */
        {1, "input x -1 3; node y = Identity x; output y"},
        {2, "input x -1 3; node a = Exp x; node y = Identity a; output a; output y"},
        {2, "input x -1 3; node a = Exp x; node y = Identity a; node z = Identity a; output y; "
            "output z"},
        /* Not if it drops outside training, too. */
        {2, "input x 1 30; values r = 0.5; booleans t = 1; node y = Dropout x r t seed=3; "
            "node z = Exp y; output z"},
        {1, "input x -1 3; booleans t = 0; node y = Dropout x - t; node z = Exp y; output z"},
        /* Not if somebody reads the mask. */
        {2, "input x -1 3; node y,m = Dropout x; node z = Exp y; output z; output m"},
    };
    CHECK(rows);
}

static void what_nobody_reads_is_removed(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {1, "input x -1 3; node a = Exp x; node b = Neg a; node c = Neg b; output a"},
        {0, "input x -1 3; node a = Exp x; output x"},
        {0, "input x -1 3; weight w 2; node a = Exp x; output w"},
        {1, "input x -1 3; node a,m = Dropout x; node y = Exp a; output y"},
    };
    CHECK(rows);
}

static void a_product_and_its_bias_are_one_gemm(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {1, "input x -1 3; weight w 3 4; weight b 4; node m = MatMul x w; node y = Add m b; "
            "output y"},
        {1, "input x -1 3; weight w 3 4; weight b 1 4; node m = MatMul x w; node y = Add b m; "
            "output y"},
        {1, "input x -1 3; weight w 3 4; values b = 2; node m = MatMul x w; node y = Sub m b; "
            "output y"},
        {1, "input x -1 3; weight w 3 4; values b = 2; node m = MatMul x w; node y = Sub b m; "
            "output y"},
        {1, "input x -1 3; weight w 3 4; weight b 4; weight c 4; node m = Gemm x w b beta=0.5 "
            "alpha=2; node y = Mul m c; output y"},
        {1, "input x -1 3; weight w 4 3; values b = 2; weight c 4; "
            "node m = Gemm x w b transB=1; node y = Add m c; output y"},
        {2, "input x -1 3; weight w 3 4; weight b 4; node m = MatMul x w; node y = Add m b; "
            "output y; output m"},
        {2, "input x -1 3; weight w 3 4; weight b 2 1 4; node m = MatMul x w; node y = Add m b; "
            "output y"},
        {2, "input x -1 2 3; weight w 3 4; weight b 4; node m = MatMul x w; node y = Add m b; "
            "output y"},
        {2, "input x 3 3; weight w 3 4; weight b 3 1; node m = MatMul x w; node y = Add m b; "
            "output y"},
        {2, "input x 3 3; weight w 3 4; weight b 3 4; weight c 4; node m = Gemm x w b; "
            "node y = Mul m c; output y"},
        {2, "input x -1 3; weight w 3 4; values one = 1; node m = MatMul x w; "
            "node y = Div one m; output y"},
    };
    CHECK(rows);
}

#define NORM4 "weight s 4; weight b 4; weight m 4; values v 4 = 0.5 1 2 0.1; "

static void normalisation_moves_into_what_is_before(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {1, "input x -1 3 6 6; weight w 4 3 3 3; " NORM4
            "node c = Conv x w pads=1,1,1,1; node y = BatchNormalization c s b m v; output y"},
        {1, "input x -1 3 6 6; weight w 4 3 3 3; weight d 4; " NORM4
            "node c = Conv x w d; node y = BatchNormalization c s b m v epsilon=0.01; output y"},
        {1, "input x -1 4 6 6; weight w 4 2 3 3; weight d 4; " NORM4
            "node c = Conv x w d group=2; node y = BatchNormalization c s b m v; output y"},
        {1, "input x -1 3; weight w 4 3; weight d 4; " NORM4 "node c = Gemm x w d transB=1; "
            "node y = BatchNormalization c s b m v; output y"},
        {1, "input x -1 3; weight w 3 4; " NORM4 "node c = MatMul x w; "
            "node y = BatchNormalization c s b m v; output y"},
        /* Before it, too, and two in turn. */
        {1, "input x -1 4 6 6; weight w 4 4 3 3; " NORM4
            "node n = BatchNormalization x s b m v; node c = Conv n w; "
            "node o = BatchNormalization c s b m v; "
            "node y = BatchNormalization o s b m v; output y"},
        /* A shift does not go through the zeros of padding. */
        {2, "input x -1 4 6 6; weight w 4 4 3 3; " NORM4
            "node n = BatchNormalization x s b m v; node c = Conv n w pads=0,0,1,0; output c"},
        /* What has another reader stays. */
        {2, "input x -1 3 6 6; weight w 4 3 3 3; " NORM4
            "node c = Conv x w; node y = BatchNormalization c s b m v; output y; output c"},
        {3, "input x -1 3 6 6; weight w 4 3 3 3; " NORM4
            "node c = Conv x w; node n = BatchNormalization c s b m v; node y = Add n c; "
            "output y"},
        /* Not behind an activation. */
        {2, "input x -1 3 6 6; weight w 4 3 3 3; " NORM4
            "node c = Conv x w; node r = Relu c; node y = BatchNormalization r s b m v; "
            "output y"},
    };
    CHECK(rows);
}

static void scaling_moves_into_weights(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {1, "input x -1 3 6 6; weight w 4 3 3 3; values k = 0.0039; node i = Mul x k; "
            "node y = Conv i w pads=1,1,1,1; output y"},
        {1, "input x -1 3 6 6; weight w 4 3 3 3; weight d 4; values k = 255; "
            "values m 3 1 1 = 0.5 0.4 0.3; values s 1 3 1 1 = 0.2 0.3 0.25; "
            "node i = Div x k; node j = Sub i m; node l = Div j s; node y = Conv l w d; "
            "output y"},
        {1, "input x -1 4 6 6; weight w 4 2 3 3; weight k 4 1 1; weight o 4 1 1; "
            "node i = Mul k x; node j = Sub o i; node y = Conv j w group=2 strides=2,2; "
            "output y"},
        {1, "input x -1 3 7; weight w 4 3 3; weight k 3 1; node i = Add x k; "
            "node y = Conv i w; output y"},
        {1, "input x -1 3 7; weight w 4 3 3; weight k 4 1; node c = Conv x w pads=1,1; "
            "node i = Add c k; node y = Mul i k; output y"},
        /* Zeros of padding do not move with the rest. */
        {2, "input x -1 3 6 6; weight w 4 3 3 3; values k = 0.5; node i = Add x k; "
            "node y = Conv i w pads=1,1,1,1; output y"},
        {2, "input x -1 3 6 6; weight w 4 3 3 3; values k = 0.5; node i = Sub x k; "
            "node y = Conv i w auto_pad=SAME_UPPER; output y"},
        {2, "input x -1 3 6 6; weight w 4 3 3 3; values k = 0.5; node h = Add x k; "
            "node i = Mul h k; node y = Conv i w pads=0,1,0,0; output y"},
        {1, "input x -1 3 6 6; weight w 4 3 3 3; values k = 0.5; node i = Add x k; "
            "node y = Conv i w auto_pad=VALID; output y"},
        /* Not by position. */
        {2, "input x -1 3 6 6; weight w 4 3 3 3; weight k 6; node i = Mul x k; "
            "node y = Conv i w; output y"},

        {1, "input x -1 3; weight w 3 4; weight d 4; weight k 3; node i = Mul x k; "
            "node j = Add i k; node y = Gemm j w d alpha=0.5 beta=3; output y"},
        {2, "input x -1 2 2; weight w 4 5; weight d 5; values k = 0.5; node i = Mul x k; "
            "node j = Sub i k; node f = Flatten j; node y = Gemm f w d; output y"},
        {3, "input x -1 2 2; weight w 4 5; weight k 2 1; node i = Mul x k; "
            "node f = Flatten i; node y = Gemm f w; output y"},
        {2, "input x 4 4; weight w 4 3; weight k 4; node i = Mul x k; "
            "node y = Gemm i w transA=1; output y"},
        /* Two readers: it is computed anyway. */
        {3, "input x -1 3; weight w 3 4; weight k 3; node i = Mul x k; node a = Gemm i w; "
            "node b = MatMul i w; output a; output b"},
    };
    CHECK(rows);
}

static void an_activation_ends_the_operation_before_it(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {1, "input x -1 3; weight w 3 4; node c = MatMul x w; node y = Relu c; output y"},
        {1, "input x -1 3; weight w 3 4; node c = Gemm x w; node y = LeakyRelu c alpha=0.3; "
            "output y"},
        {1, "input x -1 3; weight w 3 4; node c = Gemm x w; node y = Sigmoid c; output y"},
        {1, "input x -1 3 5 5; weight w 4 3 3 3; node c = Conv x w; node y = Tanh c; output y"},
        {1, "input x -1 3 5 5; weight w 4 3 3 3; values a = -0.1; values b = 0.2; "
            "node c = Conv x w; node y = Clip c a b; output y"},
        {1, "input x -1 3; weight w 3 4; values b = 0.2; node c = Gemm x w; "
            "node y = Clip c - b; output y"},
        {2, "input x -1 3; weight w 3 4; input b; node c = Gemm x w; node y = Clip c - b; "
            "output y"},
        {2, "input x -1 3; weight w 3 4; node c = Gemm x w; node r = Relu c; node y = Tanh r; "
            "output y"},
        {2, "input x -1 3; weight w 3 4; node c = Gemm x w; node y = Relu c; output c; "
            "output y"},
        {2, "input x -1 3; weight w 3 4; weight b 4; node c = Gemm x w; node r = Relu c; "
            "node y = Add r b; output y"},
        {3, "input x -1 4; weight w 4 4; weight k 4; node c = Gemm x w; node r = Relu c; "
            "node i = Mul r k; node y = Softmax i; output y"},
    };
    CHECK(rows);
}

static void shared_weights_stay_right(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {2, "input x -1 4 5 5; weight w 4 4 3 3; " NORM4
            "node c = Conv x w; node y = BatchNormalization c s b m v; node z = Conv x w; "
            "output y; output z"},
        {2, "input x -1 4; weight w 4 4; values k = 3; node i = Mul x k; node a = Gemm i w; "
            "node b = MatMul x w; output a; output b"},
        {2, "input x -1 4; weight w 4 4; weight d 4; weight k 4; node i = Mul x k; "
            "node a = Gemm i w d; node b = Mul a k; node c = Gemm b w d; node y = Add c d; "
            "output y"},
        {2, "input x -1 4; weight w 4 4; values k = 3; node i = Mul x k; node j = Mul i k; "
            "node a = Gemm j w; node l = Mul a k; node b = Gemm l w; node y = Mul b k; "
            "output y; output w"},
    };
    CHECK(rows);
}

static void whole_networks_shrink(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {7, "input x -1 1 12 12; values k = 255; weight w 4 1 3 3; weight u 4 4 3 3; " NORM4
            "weight f 36 10; weight g 10; weight s2 10; weight b2 10; weight m2 10; "
            "values v2 10 = 1 2 3 4 5 6 7 8 9 10; "
            "node n0 = Div x k; node n1 = Conv n0 w pads=1,1,1,1; "
            "node n2 = BatchNormalization n1 s b m v; node n3 = Relu n2; "
            "node n4 = MaxPool n3 kernel_shape=2,2 strides=2,2; node n5 = Conv n4 u pads=1,1,1,1; "
            "node n6 = BatchNormalization n5 s b m v; node n7 = Relu n6; "
            "node n8 = MaxPool n7 kernel_shape=2,2 strides=2,2; node d = Dropout n8; "
            "node n9 = Flatten d; node n10 = MatMul n9 f; node n11 = Add n10 g; "
            "node n12 = BatchNormalization n11 s2 b2 m2 v2; node n13 = Relu n12; "
            "node y = Softmax n13; output y"},
        /* A residual block: only the first convolution takes its activation. */
        {4, "input x -1 4 5 5; weight w 4 4 3 3; " NORM4
            "node a = Conv x w pads=1,1,1,1; node b1 = BatchNormalization a s b m v; "
            "node c = Relu b1; node d = Conv c w pads=1,1,1,1; "
            "node e = BatchNormalization d s b m v; node f = Add e x; node y = Relu f; "
            "output y"},
    };
    CHECK(rows);
}

static void constant_matrices_are_packed(void **state)
{
    (void)state;
    static const struct {
        int n_packed; /* different ones */
        const char *graph;
    } rows[] = {
        {1, "input x -1 20; weight w 20 70; node y = Gemm x w; output y"},
        {1,
         "input x -1 20; weight w 70 20; weight b 70; node y = Gemm x w b transB=1; output y"},
        {1, "input x -1 20; weight w 20 70; weight b 1; node y = Gemm x w b beta=2; output y"},
        {1,
         "input x -1 20; weight w 70 20; weight b 70; node g = Gemm x w b beta=-0.5 transB=1; "
         "node y = Relu g; output y"},
        {1, "input x -1 20; weight w 20 70; node m = MatMul x w; node y = Tanh m; output y"},
        {1, "input x -1 3 20; weight w 20 70; node y = MatMul x w; output y"},
        {1, "input x -1 2 3 20; weight w 20 70; node y = MatMul x w; output y"},
        /* A scale that is folded makes a constant of its own; the old one stays for others. */
        {1, "input x -1 20; values k = 0.5; weight w 20 70; node s = Mul x k; "
            "node y = Gemm s w; output y"},
        {2, "input x -1 20; values k = 0.5; weight w 20 70; node s = Mul x k; "
            "node y = Gemm s w; node z = Gemm x w; output y; output z"},
        {2, "input x -1 64; weight w 64 64; node a = Gemm x w; node y = Gemm a w transB=1; "
            "output y"},
        /* Once for all that read it in the same way, and in four ways: a network that was
         * unrolled must not take the memory of its weights for every step. */
        {1, "input x -1 64; weight w 64 64; weight b 64; node a = Gemm x w; node c = Tanh a; "
            "node d = Gemm c w b; node e = Tanh d; node y = MatMul e w; output y"},
        {2, "input x -1 64; weight w 64 64; node a = Gemm x w; node b = Tanh a; "
            "node c = Gemm b w transB=1; node d = Tanh c; node e = Gemm d w; node f = Tanh e; "
            "node g = Gemm f w transB=1; node h = Gemm x w alpha=0.5; output g; output h"},
        {4,
         "input x -1 64; weight w 64 64; weight b 1; node c = Gemm x w b beta=1; "
         "node d = Gemm x w b beta=2; node e = Gemm x w b beta=3; node f = Gemm x w b beta=4; "
         "node g = Gemm x w b beta=5; node h = Gemm x w b beta=6; node i = Gemm x w b beta=1; "
         "output c; output d; output e; output f; output g; output h; output i"},
        /* Few columns, by the rows of B where K is long, and a vector. */
        {1, "input x -1 20; weight w 20 8; node y = Gemm x w; output y"},
        {1, "input x -1 200; weight w 200 30; node y = Gemm x w; output y"},
        {1, "input x -1 200; weight w 3 200; node y = Gemm x w transB=1; output y"},
        {1, "input x -1 5 20; weight w 20; node y = MatMul x w; output y"},
        /* In A's place, scaled, one of a stack, not constant. */
        {0, "input x -1 20 70; weight w 64 20; node y = MatMul w x; output y"},
        {0, "input x -1 20; weight w 20 70; node y = Gemm x w alpha=0.5; output y"},
        {0, "input x -1 3 20; weight w 3 20 70; node y = MatMul x w; output y"},
        {0, "input x -1 4 5; input w -1 5 70; node y = MatMul x w; output y"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct graph *plain = graph_text(rows[i].graph), *g = graph_text(rows[i].graph);
        int n_packed = 0;
        assert_int_equal(graph_optimize(g, NULL), 0);
        for (int j = 0; j < g->n_nodes; j++) {
            bool is_new = g->nodes[j].packed != NULL;
            for (int k = 0; k < j; k++)
                is_new &= g->nodes[k].packed != g->nodes[j].packed;
            n_packed += is_new;
        }
        if (n_packed != rows[i].n_packed)
            fail_msg("%d packed, not %d\n%s", n_packed, rows[i].n_packed, rows[i].graph);
        assert_same(plain, g, 1e-5);
        graph_free(plain);
        graph_free(g);
    }
}

/* Nothing times infinity is not nothing. */
static void a_matrix_that_is_not_finite_is_not_packed(void **state)
{
    (void)state;
    struct graph *g =
        graph_text("input x -1 1; values i = 1e38; weight w 1 64; "
                   "node v = Mul w i; node u = Mul v i; node y = Gemm x u; output y");
    assert_int_equal(graph_optimize(g, NULL), 0);
    assert_int_equal(g->n_nodes, 1);
    if (sizeof(nn_real) == sizeof(float))
        assert_null(g->nodes[0].packed);
    graph_free(g);
}

/* Dividing by the root of 0, and by 0: what the operations give is not finite, and it must
 * not spread over the weights. */
static void what_is_not_finite_is_not_folded(void **state)
{
    (void)state;
    static const char *const graphs[] = {
        ("input x -1 3; weight w 3 2; weight s 2; weight b 2; weight m 2; values v 2 = 0 1; "
         "node c = Gemm x w; node y = BatchNormalization c s b m v epsilon=0; output y"),
        ("input x -1 3; weight w 3 2; values k 2 = 1 0; node c = Gemm x w; node y = Div c k; "
         "output y"),
        ("input x -1 3; weight w 3 2; values k = 3e38; node i = Mul x k; node j = Mul i k; "
         "node y = Gemm j w; output y"),
    };
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        struct graph *g = graph_text(graphs[i]);
        assert_int_equal(graph_optimize(g, NULL), 0);
        for (int j = 0; j < g->n_values; j++) {
            const struct op_value *type = &g->values[j].type;
            if (!type->constant)
                continue;
            const nn_real *x = type->constant;
            for (int64_t k = 0; k < shape_elements(&type->shape); k++)
                assert_true(isfinite(x[k]));
        }
        if (sizeof(nn_real) == sizeof(float))
            assert_int_equal(g->n_nodes, 2);
        graph_free(g);
    }
}

/* Statement `i` of a random network: everything is [-1, 6], and mostly what was computed last
 * is used, so that there is something to fold. */
static void print_random_node(FILE *text, unsigned dice, int i)
{
    static const char *const forms[] = {
        "Identity %s", "Dropout %s", "Relu %s", "Tanh %s", "Clip %s - half", "Flatten %s",
        "Gemm %s w c transB=1 beta=0.5", "MatMul %s w", "MatMul %s u", "Gemm %s u",
        "Add %s c", "Sub c %s", "Mul %s s", "Div %s s", "Mul half %s", "Sub %s half",
        "BatchNormalization %s s c m v", "Add %s x", "Mul %s x", "Add %s n0",
    };
    enum { N_FORMS = sizeof forms / sizeof forms[0] };
    char input[16];
    int back = dice % 4 == 0 ? 1 + (int)(dice / 4 % 3) : 1;
    snprintf(input, sizeof input, "n%d", i - back < 0 ? 0 : i - back);
    fprintf(text, "node n%d = ", i);
    const char *form = forms[dice / 16 % N_FORMS], *place = strstr(form, "%s");
    fprintf(text, "%.*s%s%s; ", (int)(place - form), form, input, place + 2);
    if (dice / 512 % 8 == 0)
        fprintf(text, "output n%d; ", i);
}

static void random_networks_compute_the_same(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (int round = 0; round < 2000; round++) {
        char *text;
        size_t length;
        FILE *out = open_memstream(&text, &length);
        fprintf(out, "input x -1 6; weight w 6 6; weight u 6 6; weight c 6; weight m 6; "
                     "values s 6 = 0.5 1.5 -0.7 0.8 1.1 -1; values v 6 = 1 0.5 2 0.9 1 3; "
                     "values half = 0.5; node n0 = Exp x; ");
        int n = 2 + round % 12;
        for (int i = 1; i < n; i++) {
            seed = seed * 1664525 + 1013904223;
            print_random_node(out, seed >> 8, i);
        }
        fprintf(out, "node last = Neg n%d; output last", n - 1);
        fclose(out);

        struct graph *plain = graph_text(text), *optimised = graph_text(text);
        assert_int_equal(graph_optimize(optimised, NULL), 0);
        assert_true(optimised->n_nodes <= plain->n_nodes);
        assert_same(plain, optimised, sizeof(nn_real) == sizeof(float) ? 1e-3 : 1e-9);
        graph_free(plain);
        graph_free(optimised);
        free(text);
    }
}

/* Input far from 0, as years and times are: the difference is exact, and W x + W t would not
 * be. Weights beside 0 would lose their digits. */
static void what_cancels_or_vanishes_is_not_folded(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {2, "input x -1 3; weight w 3 4; values m 3 = 1.7e9 2010 0; values s 3 = 1e5 3 1; "
            "node i = Sub x m; node j = Div i s; node y = Gemm j w; output y"},
        {2, "input x -1 3; weight w 4 3; values v 3 = 1e-8 1 1; values m 3 = 1 0 0; "
            "values s 3 = 1 1 1; values b 3 = 0 0 0; "
            "node i = BatchNormalization x s b m v epsilon=0; node y = Gemm i w transB=1; "
            "output y"},
        {2, "input x -1 3 6; weight w 4 3 2; values m = 3e4; node i = Sub x m; "
            "node y = Conv i w; output y"},
        {2, "input x -1 3; weight w 3 4; values s = 1e38; node i = Div x s; node y = Gemm i w; "
            "output y"},
        {1, "input x -1 3; weight w 3 4; values s = 0; node y = Gemm x w; node z = Mul y s; "
            "output z"},
        {1, "input x -1 3; weight w 3 4; values m 3 = 5.8 3 3.7; values s 3 = 0.8 0.4 1.7; "
            "node i = Sub x m; node j = Div i s; node y = Gemm j w; output y"},
    };
    CHECK(rows);
}

/* Every step of an unrolled network would have weights of its own: 4 MiB each, of 64 that
 * copies may take. */
static void folding_does_not_multiply_shared_weights(void **state)
{
    (void)state;
    enum { STEPS = 40, SIDE = sizeof(nn_real) == sizeof(float) ? 1024 : 724 };
    for (int way = 0; way < 2; way++) {
        static char text[STEPS * 80 + 100];
        char last[16] = "x";
        int at = sprintf(text, "input x -1 %d; weight w %d %d; values half = 0.5; ", SIDE, SIDE,
                         SIDE);
        for (int i = 0; i < STEPS; i++) {
            if (way == 0)
                at += sprintf(text + at, "node g%d = Gemm %s w; node h%d = Mul g%d half; ", i,
                              last, i, i);
            else
                at += sprintf(text + at, "node g%d = Mul w half; node h%d = Gemm %s g%d; ", i,
                              i, last, i);
            sprintf(last, "h%d", i);
        }
        sprintf(text + at, "output %s", last);
        struct graph *g = graph_text(text);
        assert_int_equal(graph_optimize(g, NULL), 0);
        assert_in_range(count_nodes(g, "Mul"), STEPS - 17, STEPS - 14);
        graph_free(g);
    }
}

static void a_long_chain_takes_no_time(void **state)
{
    (void)state;
    struct graph *g = graph_text("input x -1 3; weight w 3 3");
    int y = graph_find(g, "x");
    for (int i = 0; i < 60000; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        y = graph_add_node(g, op_find("Identity"), NULL, name, 1, &y, NULL);
    }
    y = graph_add_node(g, op_find("MatMul"), NULL, "y", 2, (int[]){y, graph_find(g, "w")}, NULL);
    graph_add_output(g, y, NULL);
    assert_int_equal(graph_optimize(g, NULL), 0);
    assert_int_equal(g->n_nodes, 1);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_depends_on_constants_only_is_computed_once),
        cmocka_unit_test(identities_disappear),
        cmocka_unit_test(what_nobody_reads_is_removed),
        cmocka_unit_test(a_product_and_its_bias_are_one_gemm),
        cmocka_unit_test(normalisation_moves_into_what_is_before),
        cmocka_unit_test(scaling_moves_into_weights),
        cmocka_unit_test(an_activation_ends_the_operation_before_it),
        cmocka_unit_test(shared_weights_stay_right),
        cmocka_unit_test(whole_networks_shrink),
        cmocka_unit_test(constant_matrices_are_packed),
        cmocka_unit_test(a_matrix_that_is_not_finite_is_not_packed),
        cmocka_unit_test(what_is_not_finite_is_not_folded),
        cmocka_unit_test(random_networks_compute_the_same),
        cmocka_unit_test(what_cancels_or_vanishes_is_not_folded),
        cmocka_unit_test(folding_does_not_multiply_shared_weights),
        cmocka_unit_test(a_long_chain_takes_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
