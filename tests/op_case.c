#include "tests/op_case.h"

#include "engine/datatype.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void malformed(const struct op_case *row, const char *text)
{
    fprintf(stderr, "%s: a test row says \"%s\"\n", row->op, text);
    abort();
}

static void *need_memory(size_t bytes)
{
    void *memory = tensor_allocate(bytes);
    if (!memory) {
        perror("tests");
        abort();
    }
    return memory;
}

int64_t tensor_length(const struct nn_tensor *tensor)
{
    return shape_elements(&tensor->shape);
}

/* reading rows */

static void set_element(struct nn_tensor *t, int64_t i, double value)
{
    datatype_convert(1, NN_FP64, &value, t->datatype,
                     (char *)t->data + (size_t)i * nn_datatype_size(t->datatype));
}

/* Integers are read as such: a double has not all of 64 bits. */
static char *set_element_text(struct nn_tensor *t, int64_t i, const char *text)
{
    char *end;
    double real = strtod(text, &end);
    if (nn_datatype_is_real(t->datatype)) {
        set_element(t, i, real);
    } else {
        uint64_t bits = strchr(text, '-') < end && strchr(text, '-')
                            ? (uint64_t)strtoll(text, NULL, 10)
                            : strtoull(text, NULL, 10);
        datatype_convert(1, NN_UINT64, &bits, t->datatype,
                         (char *)t->data + (size_t)i * nn_datatype_size(t->datatype));
    }
    return end;
}

/* Evenly spaced numbers in a shuffled order: kinks and ties are far away from all. */
static void fill(struct nn_tensor *t, int input, double low, double high)
{
    static const int64_t strides[CASE_INPUTS] = {7919, 104729, 1299709, 611953, 15485863, 99991};
    int64_t n = tensor_length(t);
    for (int64_t i = 0; i < n; i++)
        set_element(t, i, low + (high - low) *
                                    ((double)((i * strides[input] + input) % n) + 0.3) /
                                    (double)n);
}

static void read_shape(const struct op_case *row, const char **text, struct nn_shape *shape)
{
    const char *c = *text;
    *shape = (struct nn_shape){0};
    if (*c++ != '[')
        malformed(row, *text);
    while (*c && *c != ']') {
        char *end;
        shape->dims[shape->rank++] = strtoll(c, &end, 10);
        if (end == c || shape->rank > NN_MAX_RANK)
            malformed(row, *text);
        for (c = end; *c == ',' || *c == ' '; c++)
            ;
    }
    *text = c + 1;
}

/* Returns the declared shape's first dimension, to tell whether it is the batch. */
static int64_t read_input(const struct op_case *row, int input, int64_t batch,
                          struct nn_tensor *t)
{
    const char *text = row->inputs[input];
    char name[16];
    t->datatype = NN_FP32;
    if (*text != '[') {
        int length = 0;
        int datatype = sscanf(text, "%15s %n", name, &length) == 1 ? nn_datatype_find(name) : -1;
        if (datatype < 0)
            malformed(row, text);
        t->datatype = (enum nn_datatype)datatype;
        text += length;
    }
    read_shape(row, &text, &t->shape);
    int64_t first = t->shape.rank > 0 ? t->shape.dims[0] : 0;
    if (first == -1)
        t->shape.dims[0] = batch;

    int64_t n = tensor_length(t);
    if (n < 0 || n > 1 << 22)           /* a shape to be refused; there is nothing to run */
        return first;
    t->data = need_memory((size_t)n * nn_datatype_size(t->datatype));
    double low = -1, high = 1;
    if (strncmp(text, " =", 2) == 0) {
        text += 2;
        for (int64_t i = 0; i < n; i++) {
            char *end = set_element_text(t, i, text);
            if (end == text)
                malformed(row, row->inputs[input]);
            text = end;
        }
        return first;
    }
    if (*text && sscanf(text, " in %lf %lf", &low, &high) != 2)
        malformed(row, row->inputs[input]);
    if (t->datatype != NN_FP32 && !*text) {
        low = 0;
        high = 2;
    }
    fill(t, input, low, high);
    return first;
}

static int set_attribute(const struct op_case *row, const struct op *op, void *attributes,
                         const char *text, struct nn_error *error)
{
    char name[32], word[32];
    int at = 0, n = 0;
    if (sscanf(text, "%31s %n", name, &at) != 1)
        malformed(row, text);
    const struct op_attribute *a = op_find_attribute(op, name);
    if (!a)
        malformed(row, text);
    if (a->kind == OP_CHOICE && sscanf(text + at, "%31s", word) == 1)
        return op_set_string(op, attributes, name, word, error);
    if (a->kind == OP_FLOAT)
        return op_set_float(op, attributes, name, strtod(text + at, NULL), error);
    int64_t values[OP_MAX_INTS];
    char *end;
    for (const char *c = text + at; n < OP_MAX_INTS; c = end) {
        values[n] = strtoll(c, &end, 10);
        if (end == c)
            break;
        n++;
    }
    if (a->kind == OP_INTS)
        return op_set_ints(op, attributes, name, values, n, error);
    return op_set_int(op, attributes, name, values[0], error);
}

static int set_attributes(const struct op_case *row, const struct op *op, void *attributes,
                          struct nn_error *error)
{
    char text[256], *rest = text;
    op_attributes_init(op, attributes);
    if (!row->attributes)
        return 0;
    snprintf(text, sizeof text, "%s", row->attributes);
    for (char *one; (one = strsep(&rest, ";"));)
        if (set_attribute(row, op, attributes, one, error) != 0)
            return -1;
    return 0;
}

/* the graph of one node */

static int add_input(struct op_run *run, int i, int64_t batch, struct nn_error *error)
{
    char name[16];
    snprintf(name, sizeof name, "x%d", i);
    struct nn_tensor *t = &run->inputs[i];
    struct nn_shape declared;
    bool batched = read_input(run->row, i, batch, t) == -1;
    declared = t->shape;
    if (batched)
        declared.dims[0] = -1;
    return batched || !t->data ? graph_add_input(run->g, name, t->datatype, &declared, error)
                               : graph_add_constant(run->g, name, t, error);
}

static int add_node(struct op_run *run, const struct op *op, const int *inputs,
                    struct nn_error *error)
{
    static const char *const names[CASE_OUTPUTS] = {"y", "y1", "y2"};
    char attributes[1024] __attribute__((aligned(16)));
    if (op->attributes_size > sizeof attributes)
        malformed(run->row, "attributes");
    if (set_attributes(run->row, op, attributes, error) != 0)
        return -1;
    int node = graph_add_node_outputs(run->g, op, attributes, run->n_outputs, names,
                                      run->n_inputs, inputs, error);
    if (node < 0)
        return -1;
    run->node = &run->g->nodes[node];
    return graph_add_output(run->g, run->node->outputs[0], error) < 0 ? -1 : 0;
}

int op_run_open(struct op_run *run, const struct op_case *row, int64_t batch,
                struct nn_error *error)
{
    int inputs[CASE_INPUTS];
    const struct op *op = op_find(row->op);
    *run = (struct op_run){.row = row, .g = graph_new(),
                           .n_outputs = row->n_outputs ? row->n_outputs : 1,
                           .training = {.key = 2026}};
    if (!op || !run->g)
        malformed(row, "op");
    for (int i = 0; i < CASE_INPUTS && row->inputs[i]; i++, run->n_inputs++) {
        inputs[i] = *row->inputs[i] ? add_input(run, i, batch, error) : GRAPH_NONE;
        if (*row->inputs[i] && inputs[i] < 0)
            return -1;
    }
    if (add_node(run, op, inputs, error) != 0 || graph_infer(run->g, batch, error) != 0)
        return -1;

    for (int i = 0; i < run->n_inputs; i++)
        if (inputs[i] != GRAPH_NONE) {
            run->types[i] = &run->g->values[inputs[i]].type;
            run->d_inputs[i] = run->inputs[i];
            run->d_inputs[i].data = need_memory((size_t)tensor_bytes(NN_FP32,
                                                                     &run->inputs[i].shape));
        }
    for (int i = 0; i < run->n_outputs; i++) {
        const struct op_value *type = &run->g->values[run->node->outputs[i]].type;
        run->output_types[i] = type;
        run->outputs[i] = (struct nn_tensor){type->datatype, type->shape,
            need_memory((size_t)tensor_bytes(type->datatype, &type->shape))};
    }
    run->d_output = run->outputs[0];
    run->d_output.data = need_memory((size_t)tensor_bytes(NN_FP32, &run->d_output.shape));
    run->saved = need_memory(run->node->saved);
    size_t scratch = run->node->scratch, gradient = run->node->gradient_scratch;
    run->scratch = need_memory(scratch > gradient ? scratch : gradient);
    return 0;
}

void op_run_close(struct op_run *run)
{
    for (int i = 0; i < CASE_INPUTS; i++) {
        free(run->inputs[i].data);
        free(run->d_inputs[i].data);
    }
    for (int i = 0; i < CASE_OUTPUTS; i++)
        free(run->outputs[i].data);
    free(run->d_output.data);
    free(run->saved);
    free(run->scratch);
    graph_free(run->g);
}

static void run_call(struct op_run *run, op_gradient *gradient, unsigned wanted)
{
    const struct nn_tensor *inputs[CASE_INPUTS], *d_outputs[CASE_OUTPUTS] = {&run->d_output};
    struct nn_tensor *outputs[CASE_OUTPUTS], *d_inputs[CASE_INPUTS];
    for (int i = 0; i < run->n_inputs; i++) {
        inputs[i] = run->inputs[i].data ? &run->inputs[i] : NULL;
        d_inputs[i] = inputs[i] && (wanted >> i & 1) ? &run->d_inputs[i] : NULL;
    }
    for (int i = 0; i < run->n_outputs; i++)
        outputs[i] = &run->outputs[i];
    int parts = run->row->parts ? run->row->parts : 1;
    for (int part = 0; part < parts; part++) {
        struct op_call call = {
            .attributes = run->node->attributes,
            .n_inputs = run->n_inputs,
            .n_outputs = run->n_outputs,
            .inputs = inputs,
            .outputs = outputs,
            .epilogue = run->node->epilogue,
            .packed = gradient ? NULL : run->node->packed,
            .saved = run->saved,
            .scratch = run->scratch,
            .training = run->row->training ? &run->training : NULL,
            .part = part,
            .n_parts = parts,
            .d_outputs = d_outputs,
            .d_inputs = d_inputs,
        };
        if (gradient)
            gradient(&call);
        else
            run->node->op->forward(&call);
    }
}

void op_run_forward(struct op_run *run)
{
    run_call(run, NULL, 0);
}

void op_run_gradient(struct op_run *run, op_gradient *gradient, unsigned inputs)
{
    run_call(run, gradient, inputs);
}
