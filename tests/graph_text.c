#include "tests/graph_text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_WORDS = 64 };

struct words {
    int n;
    char *word[MAX_WORDS];
};

void graph_text_fill(nn_real *x, int64_t n, uint64_t seed)
{
    /* Knuth's MMIX generator. */
    uint64_t state = seed * 2654435761u + 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        x[i] = (nn_real)((double)(state >> 40) / (1 << 23) - 1);
    }
}

static struct words split(char *text, const char *separators)
{
    struct words w = {0};
    char *rest = NULL;
    for (char *t = strtok_r(text, separators, &rest); t && w.n < MAX_WORDS;
         t = strtok_r(NULL, separators, &rest))
        w.word[w.n++] = t;
    return w;
}

/* Dimensions from words[2] on, up to "=" or the end, whose place is returned. */
static int read_shape(const struct words *w, struct nn_shape *shape)
{
    int at = 2;
    *shape = (struct nn_shape){0};
    for (; at < w->n && strcmp(w->word[at], "=") != 0; at++)
        shape->dims[shape->rank++] = atoll(w->word[at]);
    return at;
}

static int read_constant(struct graph *g, const struct words *w, struct nn_error *error)
{
    char kind = w->word[0][0];
    struct nn_tensor tensor = {
        .datatype = kind == 'i' ? NN_INT64 : kind == 'b' ? NN_BOOL : NN_FP32};
    int at = read_shape(w, &tensor.shape) + 1;
    int64_t n = shape_elements(&tensor.shape);
    tensor.data = graph_allocate(g, (size_t)tensor_bytes(tensor.datatype, &tensor.shape));
    if (kind == 'w')
        graph_text_fill(tensor.data, n, (uint64_t)g->n_values + 7);
    for (int64_t i = 0; i < n && at < w->n; i++, at++) {
        if (tensor.datatype == NN_INT64)
            ((int64_t *)tensor.data)[i] = atoll(w->word[at]);
        else if (tensor.datatype == NN_BOOL)
            ((uint8_t *)tensor.data)[i] = atoll(w->word[at]) != 0;
        else
            ((nn_real *)tensor.data)[i] = (nn_real)strtod(w->word[at], NULL);
    }
    return graph_add_constant(g, w->word[1], &tensor, error);
}

static int set_attribute(const struct op *op, void *attributes, char *text,
                         struct nn_error *error)
{
    char *value = strchr(text, '=');
    *value++ = '\0';
    const struct op_attribute *a = op_find_attribute(op, text);
    if (a && a->kind == OP_FLOAT)
        return op_set_float(op, attributes, text, strtod(value, NULL), error);
    if (a && a->kind == OP_CHOICE)
        return op_set_string(op, attributes, text, value, error);
    if (!a || a->kind == OP_INT)
        return op_set_int(op, attributes, text, atoll(value), error);
    struct words w = split(value, ",");
    int64_t values[MAX_WORDS];
    for (int i = 0; i < w.n; i++)
        values[i] = atoll(w.word[i]);
    return op_set_ints(op, attributes, text, values, w.n, error);
}

/* node OUTPUTS = OP INPUTS... ATTRIBUTES... */
static int read_node(struct graph *g, const struct words *w, struct nn_error *error)
{
    const struct op *op = op_find(w->word[3]);
    if (!op)
        return nn_fail(error, "no operation %s; meant %s?", w->word[3], op_nearest(w->word[3]));
    void *attributes = graph_allocate(g, op->attributes_size);
    op_attributes_init(op, attributes);
    int inputs[MAX_WORDS], n = 0;
    for (int i = 4; i < w->n; i++) {
        if (strchr(w->word[i], '=')) {
            if (set_attribute(op, attributes, w->word[i], error) != 0)
                return -1;
        } else if (strcmp(w->word[i], "-") == 0) {
            inputs[n++] = GRAPH_NONE;
        } else {
            inputs[n] = graph_find(g, w->word[i]);
            if (inputs[n++] < 0)
                return nn_fail(error, "no value %s", w->word[i]);
        }
    }
    struct words outputs = split(w->word[1], ",");
    return graph_add_node_outputs(g, op, attributes, outputs.n,
                                  (const char *const *)outputs.word, n, inputs, error);
}

static int read_statement(struct graph *g, char *text, struct nn_error *error)
{
    struct words w = split(text, " ");
    if (w.n == 0)
        return 0;
    if (strcmp(w.word[0], "input") == 0) {
        struct nn_shape shape;
        read_shape(&w, &shape);
        return graph_add_input(g, w.word[1], NN_FP32, &shape, error);
    }
    if (strcmp(w.word[0], "output") == 0)
        return graph_add_output(g, graph_find(g, w.word[1]), error);
    if (strcmp(w.word[0], "node") == 0)
        return read_node(g, &w, error);
    return read_constant(g, &w, error);
}

struct graph *graph_text_read(const char *text, struct nn_error *error)
{
    struct graph *g = graph_new();
    char *copy = strdup(text), *rest = NULL;
    int status = 0;
    for (char *s = strtok_r(copy, ";\n", &rest); s && status >= 0;
         s = strtok_r(NULL, ";\n", &rest))
        status = read_statement(g, s, error);
    free(copy);
    if (status >= 0)
        return g;
    graph_free(g);
    return NULL;
}

struct graph *graph_text(const char *text)
{
    struct nn_error error = {""};
    struct graph *g = graph_text_read(text, &error);
    if (!g)
        fail_msg("%s\n%s", error.text, text);
    return g;
}

/* running */

struct nn_tensor *naive_run(struct graph *g, int64_t batch, const void *const *inputs)
{
    struct nn_error error = {""};
    if (graph_infer(g, batch, &error) != 0)
        fail_msg("%s", error.text);
    struct nn_tensor *tensors = calloc((size_t)g->n_values + 1, sizeof *tensors);
    for (int i = 0; i < g->n_values; i++) {
        const struct graph_value *v = &g->values[i];
        tensors[i] = (struct nn_tensor){v->type.datatype, v->type.shape, NULL};
        if (v->is_input || v->producer >= 0)
            tensors[i].data =
                tensor_allocate((size_t)tensor_bytes(v->type.datatype, &v->type.shape));
        else
            tensors[i].data = (void *)(uintptr_t)v->type.constant;
    }
    for (int i = 0; i < g->n_inputs; i++) {
        struct nn_tensor *t = &tensors[g->inputs[i]];
        memcpy(t->data, inputs[i], (size_t)tensor_bytes(t->datatype, &t->shape));
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct graph_node *n = &g->nodes[i];
        const struct nn_tensor *in[NODE_MAX_INPUTS];
        struct nn_tensor *out[NODE_MAX_OUTPUTS];
        for (int j = 0; j < n->n_inputs; j++)
            in[j] = n->inputs[j] == GRAPH_NONE ? NULL : &tensors[n->inputs[j]];
        for (int j = 0; j < n->n_outputs; j++)
            out[j] = n->outputs[j] == GRAPH_NONE ? NULL : &tensors[n->outputs[j]];
        void *scratch = tensor_allocate(n->scratch);
        n->op->forward(&(struct op_call){.attributes = n->attributes,
                                         .n_inputs = n->n_inputs,
                                         .n_outputs = n->n_outputs,
                                         .inputs = in,
                                         .outputs = out,
                                         .epilogue = n->epilogue,
                                         .packed = n->packed,
                                         .scratch = scratch,
                                         .n_parts = 1});
        free(scratch);
    }
    return tensors;
}

void naive_free(const struct graph *g, struct nn_tensor *tensors)
{
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].is_input || g->values[i].producer >= 0)
            free(tensors[i].data);
    free(tensors);
}

void **random_inputs(const struct graph *g, int64_t batch, uint64_t seed)
{
    void **inputs = calloc((size_t)g->n_inputs + 1, sizeof *inputs);
    for (int i = 0; i < g->n_inputs; i++) {
        const struct graph_value *v = &g->values[g->inputs[i]];
        struct nn_shape shape = v->declared;
        if (shape.rank > 0 && shape.dims[0] == -1)
            shape.dims[0] = batch;
        int64_t n = shape_elements(&shape);
        inputs[i] = tensor_allocate((size_t)tensor_bytes(v->type.datatype, &shape));
        if (v->type.datatype == NN_FP32)
            graph_text_fill(inputs[i], n, seed + (uint64_t)i);
        for (int64_t j = 0; j < n && v->type.datatype == NN_INT64; j++)
            ((int64_t *)inputs[i])[j] = (int64_t)(seed + (uint64_t)j) % 10;
    }
    return inputs;
}

void free_inputs(const struct graph *g, void **inputs)
{
    for (int i = 0; i < g->n_inputs; i++)
        free(inputs[i]);
    free(inputs);
}

void assert_tensors_near(const struct nn_tensor *a, const struct nn_tensor *b,
                         double tolerance)
{
    struct shape_text ta, tb;
    if (a->datatype != b->datatype || !shape_equal(&a->shape, &b->shape))
        fail_msg("%s %s is not %s %s", nn_datatype_name(a->datatype),
                 shape_print(&a->shape, &ta), nn_datatype_name(b->datatype),
                 shape_print(&b->shape, &tb));
    int64_t n = shape_elements(&a->shape);
    if (a->datatype != NN_FP32) {
        assert_memory_equal(a->data, b->data, (size_t)tensor_bytes(a->datatype, &a->shape));
        return;
    }
    const nn_real *x = a->data, *y = b->data;
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)x[i] - (double)y[i]) <= tolerance * fmax(1, fabs((double)x[i]))))
            fail_msg("element %lld: %.9g is not %.9g", (long long)i, (double)x[i],
                     (double)y[i]);
}

int count_nodes(const struct graph *g, const char *op)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n += !op || strcmp(g->nodes[i].op->name, op) == 0;
    return n;
}

void assert_graphs_refused(const struct graph_refusal *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct graph *g = graph_text(rows[i].graph);
        struct nn_error error = {""};
        if (graph_infer(g, 1, &error) == 0)
            fail_msg("taken: %s", rows[i].graph);
        if (!strstr(error.text, rows[i].reason))
            fail_msg("\"%s\" does not say \"%s\"", error.text, rows[i].reason);
        graph_free(g);
    }
}

void assert_batch_axes(const struct graph_batch_axis *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct graph *g = graph_text(rows[i].graph);
        struct nn_error error = {""};
        if (graph_infer(g, 4, &error) != 0)
            fail_msg("%s", error.text);
        int got = g->values[graph_find(g, "y")].type.batch;
        if (got != rows[i].batch)
            fail_msg("%s: batch %d, not %d", rows[i].graph, got, rows[i].batch);
        graph_free(g);
    }
}
