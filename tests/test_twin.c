/*
 * Random graphs: what a model answers, optimised and planned, against the same graph in
 * float64 by ONNX's text, for many numbers of rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/model.h"
#include "tests/graph_text.h"
#include "tests/twin.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t batches[] = {1, 2, 3, 7, 33, 64};
enum { N_BATCHES = sizeof batches / sizeof batches[0], MOST_ROWS = 64 };

/* a random graph, a statement at a time */

struct draft {
    uint64_t state;
    char text[16384];
    int n;                 /* v0 ... v(n - 1) are computed so far */
    struct nn_shape shape; /* of the last, for one row */
    int n_constants;
};

/* 0 ... n - 1. */
static int pick(struct draft *d, int n)
{
    d->state = d->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int)((d->state >> 33) % (uint64_t)n);
}

#define CHOOSE(d, ...)                         \
    ((const char *const[]){__VA_ARGS__})[pick( \
        d, (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))]

/* Whether the graph is one with this, too; the draft goes on with what it computes. */
static bool extend(struct draft *d, const char *statements)
{
    static char longer[2 * sizeof d->text];
    char name[16];
    snprintf(longer, sizeof longer, "%.16000s%.16000s; ", d->text, statements);
    snprintf(name, sizeof name, "v%d", d->n);
    struct graph *g = graph_text_read(longer, NULL);
    bool taken = g && graph_infer(g, 1, NULL) == 0 && graph_find(g, name) >= 0;
    if (taken) {
        const struct nn_shape *shape = &g->values[graph_find(g, name)].type.shape;
        taken = shape_elements(shape) <= 600 && strlen(longer) < sizeof d->text - 64;
        if (taken) {
            d->shape = *shape;
            d->n++;
            strcpy(d->text, longer);
        }
    }
    graph_free(g);
    return taken;
}

static void print_dims(FILE *out, const int64_t *dims, int n)
{
    for (int i = 0; i < n; i++)
        fprintf(out, " %lld", (long long)dims[i]);
}

/* "name=1,2" with numbers from `least` on. */
static void print_list(struct draft *d, FILE *out, const char *name, int n, int least,
                       int range)
{
    for (int i = 0; i < n; i++)
        fprintf(out, "%s%d", i ? "," : name, least + pick(d, range));
    fputc(' ', out);
}

static void print_unary(struct draft *d, FILE *out)
{
    int last = d->n - 1, next = d->n;
    const char *form =
        CHOOSE(d, "Relu @", "LeakyRelu @ alpha=0.3", "Sigmoid @", "Tanh @", "Neg @",
               "Identity @", "Dropout @", "Clip @ - half", "Clip @ low half", "Clip @",
               "Softmax @ axis=0", "Softmax @", "LogSoftmax @ axis=-2", "LogSoftmax @ axis=1",
               "Softmax @ axis=2", "Flatten @ axis=-1", "Flatten @", "Flatten @ axis=2",
               "GlobalAveragePool @", "Transpose @", "ReduceSum @",
               "ReduceMean @ axes=-1 keepdims=0", "ReduceMean @ axes=1,-1",
               "ReduceSum @ one keepdims=0", "ReduceSum @ - noop_with_empty_axes=1",
               "Reshape @ rest", "Reshape @ merge", "Reshape @ split");
    if (pick(d, 8) == 0) {      /* of numbers between 0.27 and 0.73 */
        form = CHOOSE(d, "Sqrt", "Log", "Exp", "Pow");
        fprintf(out, "node t%d = Tanh v%d; node s%d = Sigmoid t%d; node v%d = %s s%d%s", next,
                last, next, next, next, form, next, form[0] == 'P' ? " half" : "");
        return;
    }
    const char *place = strchr(form, '@');
    fprintf(out, "node v%d = %.*sv%d%s", next, (int)(place - form), form, last, place + 1);
}

/* With a constant that is broadcast, or that x is broadcast to; or with another value. */
static void print_binary(struct draft *d, FILE *out)
{
    int last = d->n - 1, constant = d->n_constants++;
    const char *op = CHOOSE(d, "Add", "Sub", "Mul", "Div");
    if (pick(d, 3) == 0) {
        fprintf(out, "node v%d = %s v%d v%d", d->n, op[0] == 'D' ? "Add" : op, last,
                pick(d, d->n));
        return;
    }
    int from = pick(d, d->shape.rank + 1);
    fprintf(out, "weight k%d", constant);
    for (int i = from; i < d->shape.rank; i++)
        fprintf(out, " %lld", (long long)(i == 0 || pick(d, 3) == 0 ? 1 : d->shape.dims[i]));
    fprintf(out, "; node e%d = Exp k%d; node v%d = %s ", constant, constant, d->n, op);
    if (op[0] == 'D' || pick(d, 2) == 0)
        fprintf(out, "v%d e%d", last, constant);
    else
        fprintf(out, "e%d v%d", constant, last);
}

static void print_product(struct draft *d, FILE *out)
{
    int rank = d->shape.rank, constant = d->n_constants++;
    int n = pick(d, 5) ? 1 + pick(d, 7) : 49 + pick(d, 20); /* now and then one is packed */
    int64_t inner = d->shape.dims[rank - 1], rows = rank > 1 ? d->shape.dims[rank - 2] : 1;
    bool turned = pick(d, 2);
    switch (pick(d, rank == 2 ? 6 : 4)) {
    case 0:
        fprintf(out, "weight k%d %lld; node v%d = MatMul v%d k%d", constant, (long long)inner,
                d->n, d->n - 1, constant);
        return;
    case 1:
        fprintf(out, "weight k%d %d %lld; node v%d = MatMul k%d v%d", constant, n,
                (long long)rows, d->n, constant, d->n - 1);
        return;
    case 2:
        fprintf(out, "weight k%d", constant);
        print_dims(out, d->shape.dims + 1, rank > 2 ? rank - 3 : 0);
        fprintf(out, " %lld %d; node v%d = MatMul v%d k%d", (long long)inner, n, d->n, d->n - 1,
                constant);
        return;
    case 3:
        fprintf(out, "weight k%d %lld %d; node v%d = MatMul v%d k%d", constant,
                (long long)inner, n, d->n, d->n - 1, constant);
        return;
    default:
        fprintf(
            out,
            "weight k%d %lld %lld; weight c%d %d; node v%d = Gemm v%d k%d %s%d %s transB=%d",
            constant, turned ? (long long)n : (long long)inner,
            turned ? (long long)inner : (long long)n, constant, pick(d, 3) ? n : 1, d->n,
            d->n - 1, constant, pick(d, 4) ? "c" : "- c", constant,
            CHOOSE(d, "", "alpha=0.5", "beta=2", "alpha=-1 beta=0.5"), turned);
    }
}

static void print_convolution(struct draft *d, FILE *out)
{
    int n = d->shape.rank - 2, constant = d->n_constants++;
    int64_t channels = d->shape.dims[1];
    int64_t group = channels % 3 == 0 && pick(d, 2)   ? 3
                    : channels % 2 == 0 && pick(d, 2) ? 2
                                                      : 1;
    if (pick(d, 5) == 0)
        group = channels;
    int64_t filters = group * (1 + pick(d, 4));
    fprintf(out, "weight k%d %lld %lld", constant, (long long)filters,
            (long long)(channels / group));
    for (int i = 0; i < n; i++)
        fprintf(out, " %d", 1 + pick(d, 4));
    fprintf(out, "; weight c%d %lld; node v%d = Conv v%d k%d ", constant, (long long)filters,
            d->n, d->n - 1, constant);
    if (pick(d, 3))
        fprintf(out, "c%d ", constant);
    fprintf(out, "group=%lld ", (long long)group);
    if (pick(d, 2))
        print_list(d, out, "strides=", n, 1, 3);
    if (pick(d, 2))
        print_list(d, out, "dilations=", n, 1, 3);
    if (pick(d, 3) == 0)
        fprintf(out, "auto_pad=%s", CHOOSE(d, "SAME_UPPER", "SAME_LOWER", "VALID"));
    else if (pick(d, 3))
        print_list(d, out, "pads=", 2 * n, 0, 4);
}

static void print_pool(struct draft *d, FILE *out)
{
    int n = d->shape.rank - 2;
    bool is_max = pick(d, 2);
    fprintf(out, "node v%d = %s v%d ", d->n, is_max ? "MaxPool" : "AveragePool", d->n - 1);
    print_list(d, out, "kernel_shape=", n, 1, 4);
    if (pick(d, 3))
        print_list(d, out, "strides=", n, 1, 3);
    if (is_max && pick(d, 3) == 0)
        print_list(d, out, "dilations=", n, 1, 2);
    if (!is_max && pick(d, 2))
        fprintf(out, "count_include_pad=1 ");
    if (pick(d, 2))
        fprintf(out, "ceil_mode=1 ");
    if (pick(d, 4) == 0)
        fprintf(out, "auto_pad=%s", CHOOSE(d, "SAME_UPPER", "SAME_LOWER", "VALID"));
    else if (pick(d, 2))
        print_list(d, out, "pads=", 2 * n, 0, 2);
}

static void print_normalization(struct draft *d, FILE *out)
{
    int constant = d->n_constants++;
    for (const char *name = "klm"; *name; name++)
        fprintf(out, "weight %c%d %lld; ", *name, constant, (long long)d->shape.dims[1]);
    fprintf(out, "weight w%d %lld; node u%d = Exp w%d; ", constant, (long long)d->shape.dims[1],
            constant, constant);
    fprintf(out, "node v%d = BatchNormalization v%d k%d l%d m%d u%d%s", d->n, d->n - 1,
            constant, constant, constant, constant, pick(d, 2) ? " epsilon=0.01" : "");
}

static void print_moved(struct draft *d, FILE *out)
{
    int rank = d->shape.rank, order[NN_MAX_RANK];
    if (pick(d, 2)) {
        fprintf(out, "node v%d = Concat v%d v%d v%d axis=%d", d->n, d->n - 1, d->n - 1,
                pick(d, 2) ? d->n - 1 : pick(d, d->n), pick(d, 2 * rank) - rank);
        return;
    }
    for (int i = 0; i < rank; i++)
        order[i] = i;
    for (int i = rank - 1, keep = pick(d, 3) ? 1 : 0; i > keep; i--) {
        int other = keep + pick(d, i + 1 - keep), swap = order[i];
        order[i] = order[other];
        order[other] = swap;
    }
    fprintf(out, "node v%d = Transpose v%d ", d->n, d->n - 1);
    for (int i = 0; i < rank; i++)
        fprintf(out, "%s%d", i ? "," : "perm=", order[i]);
}

static void print_statement(struct draft *d, FILE *out)
{
    int rank = d->shape.rank, kind = pick(d, 16);
    if (kind < 3 && (rank == 3 || rank == 4))
        print_convolution(d, out);
    else if (kind < 6 && (rank == 3 || rank == 4))
        print_pool(d, out);
    else if (kind < 7 && rank >= 2)
        print_normalization(d, out);
    else if (kind < 9 && rank >= 1)
        print_product(d, out);
    else if (kind < 11 && rank >= 1)
        print_moved(d, out);
    else if (kind < 13)
        print_binary(d, out);
    else
        print_unary(d, out);
}

static void make_graph(struct draft *d, uint64_t seed)
{
    static const char *const inputs[] = {
        "-1 3 7 6",         "-1 4 9", "-1 5",      "-1 1 8 8", "-1 6 5 5",  "-1 2 3 2 2",
        "-1 2 1 2 1 2 2 2", "-1",     "-1 2 13 1", "-1 1",     "-1 12 4 4", "-1 2 40",
    };
    *d = (struct draft){.state = seed * 7919 + 1};
    char first[256];
    snprintf(d->text, sizeof d->text,
             "input x %s; values half = 0.5; values low 1 = -0.25; integers one 1 = 1; "
             "integers rest 2 = 0 -1; integers merge 3 = 0 0 -1; integers split 3 = -1 2 2; ",
             inputs[pick(d, (int)(sizeof inputs / sizeof inputs[0]))]);
    snprintf(first, sizeof first, "node v0 = Tanh x");
    assert_true(extend(d, first));
    for (int tries = 0, wanted = 2 + pick(d, 9); tries < 60 && d->n < wanted; tries++) {
        char *statement;
        size_t length;
        FILE *out = open_memstream(&statement, &length);
        print_statement(d, out);
        fclose(out);
        extend(d, statement);
        free(statement);
    }
    char *end = d->text + strlen(d->text);
    end += sprintf(end, "output v%d; ", d->n - 1);
    if (d->n > 1 && pick(d, 2))
        sprintf(end, "output v%d; ", pick(d, d->n - 1));
}

/* comparing */

/* The largest number on the way: of all values, and of what sums add up. */
static double largest(const struct graph *g, const struct twin_tensor *tensors)
{
    double most = 1;
    for (int i = 0; i < g->n_values; i++)
        for (int64_t k = 0; tensors[i].elements && k < shape_elements(&tensors[i].shape); k++)
            most = fmax(most, fabs(tensors[i].elements[k]));
    for (int i = 0; i < g->n_nodes; i++) {
        const struct twin_tensor *x = &tensors[g->nodes[i].inputs[0]];
        double sum = 0;
        for (int64_t k = 0; k < shape_elements(&x->shape); k++)
            sum += fabs(x->elements[k]);
        if (strcmp(g->nodes[i].op->name, "ReduceSum") == 0)
            most = fmax(most, sum);
    }
    return most;
}

static void compare(const struct twin_tensor *wanted, const struct nn_tensor *got,
                    double tolerance, int64_t batch, const char *text)
{
    struct shape_text a, b;
    if (!shape_equal(&wanted->shape, &got->shape))
        fail_msg("%lld rows: %s, not %s\n%s", (long long)batch, shape_print(&got->shape, &a),
                 shape_print(&wanted->shape, &b), text);
    const nn_real *elements = got->data;
    for (int64_t i = 0; i < shape_elements(&wanted->shape); i++)
        if (!(fabs((double)elements[i] - wanted->elements[i]) <= tolerance))
            fail_msg("%lld rows, element %lld: %.9g, not %.9g\n%s", (long long)batch,
                     (long long)i, (double)elements[i], wanted->elements[i], text);
}

/* Rounding is relative to the largest number on the way. */
static double tolerance_of(const struct graph *g, const struct twin_tensor *tensors)
{
    return (sizeof(nn_real) == sizeof(float) ? 1e-5 : 1e-11) * largest(g, tensors);
}

/* The number of batches that the graph could take. */
static int check_graph(const char *text, uint64_t seed)
{
    struct nn_error error = {""};
    struct graph *plain = graph_text(text);
    struct bundle bundle = {.graph = graph_text(text)};
    struct nn_model *model = model_from_bundle(&bundle, &error);
    struct nn_session *session = model ? nn_session_new(model, MOST_ROWS, &error) : NULL;
    int taken = 0;
    if (!session)
        fail_msg("%s\n%s", error.text, text);
    for (int b = 0; b < N_BATCHES; b++) {
        int64_t batch = batches[b];
        if (graph_infer(plain, batch, NULL) != 0) {
            assert_int_equal(nn_session_run(session, batch, NULL), -1);
            continue;
        }
        taken++;
        void **inputs = random_inputs(plain, batch, seed);
        const struct nn_shape *shape = &plain->values[plain->inputs[0]].type.shape;
        memcpy(nn_session_input(session, 0), inputs[0], (size_t)tensor_bytes(NN_FP32, shape));
        struct twin_tensor *twins = twin_run(plain, batch, (const void *const *)inputs);
        struct nn_tensor *naive = naive_run(plain, batch, (const void *const *)inputs);
        double tolerance = tolerance_of(plain, twins);
        for (int i = 0; i < plain->n_nodes; i++) {
            int value = plain->nodes[i].outputs[0];
            compare(&twins[value], &naive[value], tolerance, batch, text);
        }
        if (nn_session_run(session, batch, &error) != 0)
            fail_msg("%s\n%s", error.text, text);
        for (int i = 0; i < plain->n_outputs; i++)
            compare(&twins[plain->outputs[i]], nn_session_output(session, i), tolerance, batch,
                    text);
        naive_free(plain, naive);
        twin_free(plain, twins);
        free_inputs(plain, inputs);
    }
    nn_session_free(session);
    nn_model_close(model);
    graph_free(plain);
    return taken;
}

/* TWIN_SEED and TWIN_GRAPHS look further. */
static void random_graphs_answer_as_their_twins_in_float64(void **state)
{
    (void)state;
    const char *first = getenv("TWIN_SEED"), *many = getenv("TWIN_GRAPHS");
    uint64_t seed = first ? strtoull(first, NULL, 10) : 1;
    int n = many ? atoi(many) : 500, taken = 0;
    for (int i = 0; i < n; i++, seed++) {
        static struct draft draft;
        make_graph(&draft, seed);
        taken += check_graph(draft.text, seed);
    }
    assert_true(taken > 4 * n);
}

int main(void)
{
    nn_engine_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_graphs_answer_as_their_twins_in_float64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
