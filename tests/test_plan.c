#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/plan.h"
#include "tests/graph_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A run of the plan without numbers: every 64 bytes of the arena hold the number of what was
 * written there last, and whoever reads checks that it is what he wants. */
struct simulation {
    const struct graph *g;
    const struct plan *plan;
    int *arena;
    int *content;               /* [n_values]: what the value should find in its memory */
};

static size_t units(size_t bytes)
{
    return (bytes + TENSOR_ALIGNMENT - 1) / TENSOR_ALIGNMENT;
}

static size_t value_bytes(const struct graph *g, int value)
{
    const struct op_value *type = &g->values[value].type;
    return (size_t)tensor_bytes(type->datatype, &type->shape);
}

static void put(struct simulation *s, size_t offset, size_t bytes, int content)
{
    assert_int_equal(offset % TENSOR_ALIGNMENT, 0);
    assert_true(offset + bytes <= s->plan->arena);
    for (size_t i = 0; i < units(bytes); i++)
        s->arena[offset / TENSOR_ALIGNMENT + i] = content;
}

static void expect(const struct simulation *s, int value)
{
    size_t offset = s->plan->offsets[value];
    if (offset == PLAN_CONSTANT) {
        assert_non_null(s->g->values[value].type.constant);
        return;
    }
    for (size_t i = 0; i < units(value_bytes(s->g, value)); i++)
        if (s->arena[offset / TENSOR_ALIGNMENT + i] != s->content[value])
            fail_msg("%s was overwritten", s->g->values[value].name);
}

/* Whether `bytes` at `offset` touch the value's memory. */
static bool meets(const struct simulation *s, size_t offset, size_t bytes, int value)
{
    size_t other = s->plan->offsets[value];
    return other != PLAN_CONSTANT && offset < other + value_bytes(s->g, value) &&
           other < offset + bytes;
}

static void simulate_node(struct simulation *s, int node)
{
    const struct graph_node *n = &s->g->nodes[node];
    for (int i = 0; i < n->n_inputs; i++)
        if (n->inputs[i] != GRAPH_NONE)
            expect(s, n->inputs[i]);
    for (int j = 0; j < n->n_outputs; j++) {
        if (n->outputs[j] == GRAPH_NONE)
            continue;
        int out = n->outputs[j];
        size_t offset = s->plan->offsets[out], bytes = value_bytes(s->g, out);
        bool same = j == 0 && (n->op->flags & (OP_VIEW | OP_IN_PLACE)) &&
                    n->inputs[0] != GRAPH_NONE && offset == s->plan->offsets[n->inputs[0]] &&
                    bytes == value_bytes(s->g, n->inputs[0]);
        for (int i = 0; i < n->n_inputs; i++)
            if (n->inputs[i] != GRAPH_NONE && !(same && i == 0) &&
                meets(s, offset, bytes, n->inputs[i]))
                fail_msg("%s is written over its input %d", n->name, i);
        if (n->scratch) {
            assert_false(meets(s, s->plan->scratch[node], n->scratch, out));
            for (int i = 0; i < n->n_inputs; i++)
                assert_false(n->inputs[i] != GRAPH_NONE &&
                             meets(s, s->plan->scratch[node], n->scratch, n->inputs[i]));
        }
        s->content[out] = same && (n->op->flags & OP_VIEW) ? s->content[n->inputs[0]] : out;
    }
    if (n->scratch)
        put(s, s->plan->scratch[node], n->scratch, -1);
    for (int j = 0; j < n->n_outputs; j++)
        if (n->outputs[j] != GRAPH_NONE)
            put(s, s->plan->offsets[n->outputs[j]], value_bytes(s->g, n->outputs[j]),
                s->content[n->outputs[j]]);
}

/* Returns the bytes of the arena. */
static size_t check_plan(struct graph *g, int64_t batch)
{
    struct nn_error error = {""};
    if (graph_infer(g, batch, &error) != 0)
        fail_msg("%s", error.text);
    struct plan plan;
    assert_int_equal(plan_make(&plan, g, &error), 0);
    struct simulation s = {
        .g = g,
        .plan = &plan,
        .arena = calloc(units(plan.arena) + 1, sizeof *s.arena),
        .content = calloc((size_t)g->n_values, sizeof *s.content),
    };
    for (int i = 0; i < g->n_inputs; i++) {
        s.content[g->inputs[i]] = g->inputs[i];
        put(&s, plan.offsets[g->inputs[i]], value_bytes(g, g->inputs[i]), g->inputs[i]);
    }
    for (int i = 0; i < g->n_nodes; i++)
        simulate_node(&s, i);
    for (int i = 0; i < g->n_outputs; i++)
        expect(&s, g->outputs[i]);
    size_t arena = plan.arena;
    free(s.arena);
    free(s.content);
    plan_release(&plan);
    return arena;
}

static void a_chain_takes_two_buffers(void **state)
{
    (void)state;
    struct graph *g = graph_text("input x -1 256; weight w 256 256; node a = Gemm x w; "
                                 "node b = Gemm a w; node c = Gemm b w; node d = Gemm c w; "
                                 "output d");
    assert_int_equal(check_plan(g, 4), 2 * 4 * 256 * sizeof(nn_real));
    graph_free(g);
}

static void views_and_what_is_done_in_place_take_nothing(void **state)
{
    (void)state;
    struct graph *g = graph_text("input x -1 4 64; node f = Flatten x; node r = Relu f; "
                                 "node s = Sigmoid r; output s");
    assert_int_equal(check_plan(g, 3), 3 * 256 * sizeof(nn_real));
    graph_free(g);
}

/* Each of these would be wrong if the first input were taken without a look. */
static void what_is_still_read_is_not_overwritten(void **state)
{
    (void)state;
    static const char *const graphs[] = {
        "input x -1 64; node r = Relu x; node y = Add r x; output y",
        "input x -1 64; node r = Relu x; output r; output x",
        "input x -1 64; node f = Flatten x; node r = Relu f; node y = Add r x; output y",
        "input x -1 64; node f = Flatten x; node r = Relu x; node y = Add r f; output y",
        "input x -1 64; node f = Flatten x; node r = Relu f; output r; output f",
        "input x -1 64; node f = Flatten x; output f; output x",
        "input x -1 64; node y = Add x x; output y",
        "input x -1 64; node f = Flatten x; node y = Add x f; output y",
        "input x -1 1; weight w 64; node y = Add x w; output y",
        "input x -1 64; weight w 2 64; node r = Relu w; node s = Flatten w; output s; output r",
        "input x -1 64; weight w 2 64; output w",
        ("input x -1 64; input unused -1 64; node a = Relu x; node b = Exp x; "
         "node c = Add a b; output c; output unused"),
        "input x -1 64; node y,m = Dropout x; node z = Exp y; output z; output y",
    };
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        struct graph *g = graph_text(graphs[i]);
        for (int64_t batch = 1; batch < 4; batch++)
            check_plan(g, batch);
        graph_free(g);
    }
}

static void scratch_meets_nothing(void **state)
{
    (void)state;
    struct graph *g =
        graph_text("input x -1 3 9 9; weight w 4 3 3 3; weight v 4 4 3 3; "
                   "node a = Conv x w pads=1,1,1,1; node b = Conv a v pads=1,1,1,1; "
                   "node c = Add a b; node d = Conv c v; output d");
    check_plan(g, 1);
    check_plan(g, 5);
    graph_free(g);
}

/* Random graphs of operations that keep [-1, n]. */
static struct graph *random_graph(unsigned seed)
{
    static const char *const unary[] = {"Relu", "Neg", "Flatten", "Softmax", "Identity", "Exp"};
    static const char *const binary[] = {"Add", "Mul", "Sub"};
    struct graph *g = graph_text("input x0 -1 48; input x1 -1 48; weight w 48 48");
    int n_nodes = 5 + (int)(seed % 60);
    int values[80] = {graph_find(g, "x0"), graph_find(g, "x1")}, n = 2;
    for (int i = 0; i < n_nodes; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned dice = seed >> 16;
        /* Mostly young values, so that old ones die. */
        int a = values[n - 1 - (int)(dice % 7) % n], b = values[n - 1 - (int)(dice / 7 % 5) % n];
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        int inputs[] = {a, b};
        const char *op = unary[dice / 64 % 6];
        int n_inputs = 1;
        if (dice / 8 % 8 < 3) {
            op = binary[dice / 64 % 3];
            n_inputs = 2;
        } else if (dice / 8 % 8 == 3) {
            op = "Gemm";
            inputs[1] = graph_find(g, "w");
            n_inputs = 2;
        }
        values[n] = graph_add_node(g, op_find(op), NULL, name, n_inputs, inputs, NULL);
        assert_true(values[n] >= 0);
        if (dice / 512 % 16 == 0)
            graph_add_output(g, values[n], NULL);
        n++;
    }
    graph_add_output(g, values[n - 1], NULL);
    return g;
}

static void no_two_live_values_of_random_graphs_meet(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 500; seed++) {
        struct graph *g = random_graph(seed);
        size_t arena = check_plan(g, 1 + seed % 4), sum = 0;
        for (int i = 0; i < g->n_values; i++)
            sum += units(value_bytes(g, i)) * TENSOR_ALIGNMENT;
        assert_true(arena < sum);
        graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_takes_two_buffers),
        cmocka_unit_test(views_and_what_is_done_in_place_take_nothing),
        cmocka_unit_test(what_is_still_read_is_not_overwritten),
        cmocka_unit_test(scratch_meets_nothing),
        cmocka_unit_test(no_two_live_values_of_random_graphs_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
