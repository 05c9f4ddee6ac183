#include "tests/twin.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* tensors by index */

struct index {
    int64_t at[NN_MAX_RANK];
};

static int64_t count(const struct nn_shape *shape)
{
    int64_t n = 1;
    for (int i = 0; i < shape->rank; i++)
        n *= shape->dims[i];
    return n;
}

static struct twin_tensor make(struct nn_shape shape)
{
    struct twin_tensor y = {shape, calloc((size_t)count(&shape) + 1, sizeof(double))};
    assert_non_null(y.elements);
    return y;
}

static struct index index_of(const struct nn_shape *shape, int64_t i)
{
    struct index index = {{0}};
    for (int d = shape->rank - 1; d >= 0; d--) {
        index.at[d] = i % shape->dims[d];
        i /= shape->dims[d];
    }
    return index;
}

static double *element(const struct twin_tensor *x, struct index index)
{
    int64_t i = 0;
    for (int d = 0; d < x->shape.rank; d++)
        i = i * x->shape.dims[d] + index.at[d];
    return &x->elements[i];
}

/* Of x, which is broadcast to `rank` axes. */
static double broadcast(const struct twin_tensor *x, int rank, struct index index)
{
    struct index own = {{0}};
    for (int d = 0; d < x->shape.rank; d++)
        own.at[d] = x->shape.dims[d] == 1 ? 0 : index.at[rank - x->shape.rank + d];
    return *element(x, own);
}

static struct nn_shape broadcast_shape(const struct nn_shape *a, const struct nn_shape *b)
{
    struct nn_shape y = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int d = 0; d < y.rank; d++) {
        int in_a = d - (y.rank - a->rank), in_b = d - (y.rank - b->rank);
        int64_t of_a = in_a < 0 ? 1 : a->dims[in_a], of_b = in_b < 0 ? 1 : b->dims[in_b];
        y.dims[d] = of_a == 1 ? of_b : of_a;
    }
    return y;
}

/* a node and what it is given */

struct call {
    const struct graph_node *node;
    int n;
    const struct twin_tensor *inputs[NODE_MAX_INPUTS]; /* NULL: left out */
    const struct op_value *types[NODE_MAX_INPUTS];
};

static const void *attribute(const struct call *call, const char *name)
{
    const struct op_attribute *a = op_find_attribute(call->node->op, name);
    assert_non_null(a);
    return (const char *)call->node->attributes + a->offset;
}

static int64_t integer(const struct call *call, const char *name)
{
    return *(const int64_t *)attribute(call, name);
}

static double real(const struct call *call, const char *name)
{
    return *(const double *)attribute(call, name);
}

static const struct twin_tensor *input(const struct call *call, int i)
{
    return i < call->n ? call->inputs[i] : NULL;
}

static int axis_of(int64_t axis, int rank)
{
    return (int)(axis < 0 ? axis + rank : axis);
}

/* element by element */

static double unary(const struct call *call, double x)
{
    const char *op = call->node->op->name;
    const struct twin_tensor *low = input(call, 1), *high = input(call, 2);
    switch (op[0]) {
    case 'R':
        return x > 0 ? x : 0;
    case 'N':
        return -x;
    case 'E':
        return exp(x);
    case 'T':
        return tanh(x);
    case 'C':
        x = low && x < low->elements[0] ? low->elements[0] : x;
        return high && x > high->elements[0] ? high->elements[0] : x;
    case 'L':
        return op[1] == 'o' ? log(x) : x < 0 ? real(call, "alpha") * x : x;
    case 'S':
        return op[1] == 'q' ? sqrt(x) : 1 / (1 + exp(-x));
    default:
        return x;
    }
}

static struct twin_tensor run_unary(const struct call *call)
{
    struct twin_tensor y = make(call->inputs[0]->shape);
    for (int64_t i = 0; i < count(&y.shape); i++)
        y.elements[i] = unary(call, call->inputs[0]->elements[i]);
    return y;
}

static double binary(char op, double a, double b)
{
    return op == 'A'   ? a + b
           : op == 'S' ? a - b
           : op == 'M' ? a * b
           : op == 'D' ? a / b
                       : pow(a, b);
}

static struct twin_tensor run_binary(const struct call *call)
{
    const struct twin_tensor *a = call->inputs[0], *b = call->inputs[1];
    struct twin_tensor y = make(broadcast_shape(&a->shape, &b->shape));
    for (int64_t i = 0; i < count(&y.shape); i++) {
        struct index at = index_of(&y.shape, i);
        y.elements[i] = binary(call->node->op->name[0], broadcast(a, y.shape.rank, at),
                               broadcast(b, y.shape.rank, at));
    }
    return y;
}

static struct twin_tensor run_softmax(const struct call *call)
{
    const struct twin_tensor *x = call->inputs[0];
    bool is_log = call->node->op->name[0] == 'L';
    int axis = axis_of(integer(call, "axis"), x->shape.rank);
    struct twin_tensor y = make(x->shape);
    for (int64_t i = 0; i < count(&y.shape); i++) {
        struct index at = index_of(&y.shape, i), other = at;
        double sum = 0, own = *element(x, at);
        for (other.at[axis] = 0; other.at[axis] < x->shape.dims[axis]; other.at[axis]++)
            sum += exp(*element(x, other) - own);
        y.elements[i] = is_log ? -log(sum) : 1 / sum;
    }
    return y;
}

/* products */

static struct twin_tensor run_gemm(const struct call *call)
{
    const struct twin_tensor *a = call->inputs[0], *b = call->inputs[1], *c = input(call, 2);
    bool ta = integer(call, "transA"), tb = integer(call, "transB");
    int64_t inner = a->shape.dims[ta ? 0 : 1];
    struct twin_tensor y =
        make((struct nn_shape){2, {a->shape.dims[ta ? 1 : 0], b->shape.dims[tb ? 0 : 1]}});
    for (int64_t i = 0; i < count(&y.shape); i++) {
        struct index at = index_of(&y.shape, i);
        double sum = 0;
        for (int64_t k = 0; k < inner; k++)
            sum += *element(a, (struct index){{ta ? k : at.at[0], ta ? at.at[0] : k}}) *
                   *element(b, (struct index){{tb ? at.at[1] : k, tb ? k : at.at[1]}});
        y.elements[i] =
            real(call, "alpha") * sum + (c ? real(call, "beta") * broadcast(c, 2, at) : 0);
    }
    return y;
}

/* A vector as a matrix: of one row (first), or of one column. */
static struct twin_tensor as_matrix(const struct twin_tensor *x, bool first)
{
    struct twin_tensor m = *x;
    if (x->shape.rank == 1)
        m.shape =
            (struct nn_shape){2, {first ? 1 : x->shape.dims[0], first ? x->shape.dims[0] : 1}};
    return m;
}

static struct twin_tensor run_matmul(const struct call *call)
{
    const struct twin_tensor a = as_matrix(call->inputs[0], true);
    const struct twin_tensor b = as_matrix(call->inputs[1], false);
    struct nn_shape a_stack = a.shape, b_stack = b.shape;
    a_stack.rank -= 2;
    b_stack.rank -= 2;
    struct nn_shape full = broadcast_shape(&a_stack, &b_stack);
    full.dims[full.rank++] = a.shape.dims[a_stack.rank];
    full.dims[full.rank++] = b.shape.dims[b_stack.rank + 1];
    struct twin_tensor y = make(full);
    for (int64_t i = 0; i < count(&full); i++) {
        struct index at = index_of(&full, i), in_a = {{0}}, in_b = {{0}};
        for (int d = 0; d < a_stack.rank; d++)
            in_a.at[d] = a_stack.dims[d] == 1 ? 0 : at.at[full.rank - 2 - a_stack.rank + d];
        for (int d = 0; d < b_stack.rank; d++)
            in_b.at[d] = b_stack.dims[d] == 1 ? 0 : at.at[full.rank - 2 - b_stack.rank + d];
        in_a.at[a_stack.rank] = at.at[full.rank - 2];
        in_b.at[b_stack.rank + 1] = at.at[full.rank - 1];
        for (int64_t k = 0; k < b.shape.dims[b_stack.rank]; k++) {
            in_a.at[a_stack.rank + 1] = in_b.at[b_stack.rank] = k;
            y.elements[i] += *element(&a, in_a) * *element(&b, in_b);
        }
    }
    y.shape.rank = full.rank - 2;
    if (call->inputs[0]->shape.rank > 1)
        y.shape.dims[y.shape.rank++] = full.dims[full.rank - 2];
    if (call->inputs[1]->shape.rank > 1)
        y.shape.dims[y.shape.rank++] = full.dims[full.rank - 1];
    return y;
}

/* windows */

struct slide {
    int64_t in, kernel, stride, dilation, begin, end, out;
};

static int64_t one_of(const struct op_ints *list, int i, int64_t otherwise)
{
    return list && list->n ? list->values[i] : otherwise;
}

/* Along spatial axis i of n. */
static struct slide slide_of(const struct call *call, int i, int n, int64_t kernel)
{
    const char *op = call->node->op->name;
    const struct op_ints *pads = attribute(call, "pads");
    int mode = *(const int *)attribute(call, "auto_pad"); /* NOTSET, UPPER, LOWER, VALID */
    struct slide s = {.in = call->inputs[0]->shape.dims[2 + i],
                      .kernel = kernel,
                      .stride = one_of(attribute(call, "strides"), i, 1),
                      .dilation = op[0] == 'A' ? 1 : one_of(attribute(call, "dilations"), i, 1),
                      .begin = one_of(pads, i, 0),
                      .end = one_of(pads, n + i, 0)};
    int64_t extent = (s.kernel - 1) * s.dilation + 1;
    if (mode == 1 || mode == 2) {
        s.out = (s.in + s.stride - 1) / s.stride;
        int64_t total = (s.out - 1) * s.stride + extent - s.in;
        total = total < 0 ? 0 : total;
        s.begin = mode == 1 ? total / 2 : total - total / 2;
        s.end = total - s.begin;
        return s;
    }
    double steps = (double)(s.in + s.begin + s.end - extent) / (double)s.stride;
    bool up = op[0] != 'C' && integer(call, "ceil_mode");
    s.out = (int64_t)(up ? ceil(steps) : floor(steps)) + 1;
    if (up && (s.out - 1) * s.stride >= s.in + s.begin)
        s.out--;
    return s;
}

/* The two spatial axes; a missing one has one element. kernel: [n]. */
static void slides_of(const struct call *call, const int64_t *kernel, struct slide slides[2])
{
    int n = call->inputs[0]->shape.rank - 2;
    slides[0] = slides[1] = (struct slide){1, 1, 1, 1, 0, 0, 1};
    for (int i = 0; i < n; i++)
        slides[2 - n + i] = slide_of(call, i, n, kernel[i]);
}

static struct nn_shape slid_shape(const struct nn_shape *x, int64_t channels,
                                  const struct slide slides[2])
{
    struct nn_shape y = *x;
    y.dims[1] = channels;
    for (int i = 2; i < y.rank; i++)
        y.dims[i] = slides[2 - (y.rank - 2) + (i - 2)].out;
    return y;
}

static double pixel(const struct twin_tensor *x, int64_t n, int64_t c, int64_t iy, int64_t ix)
{
    return *element(x, x->shape.rank == 3 ? (struct index){{n, c, ix}}
                                          : (struct index){{n, c, iy, ix}});
}

static bool inside(const struct slide *s, int64_t i)
{
    return i >= 0 && i < s->in;
}

/* What is under the window of output position (oy, ox) of channel c. */
struct seen {
    double sum, most;
    int64_t n, padded; /* elements; and with those of the padding */
};

static struct seen look(const struct twin_tensor *x, const struct slide s[2], int64_t n,
                        int64_t c, int64_t oy, int64_t ox)
{
    struct seen seen = {.most = -INFINITY};
    for (int64_t ky = 0; ky < s[0].kernel; ky++)
        for (int64_t kx = 0; kx < s[1].kernel; kx++) {
            int64_t iy = oy * s[0].stride + ky * s[0].dilation - s[0].begin;
            int64_t ix = ox * s[1].stride + kx * s[1].dilation - s[1].begin;
            seen.padded += iy < s[0].in + s[0].end && ix < s[1].in + s[1].end;
            if (!inside(&s[0], iy) || !inside(&s[1], ix))
                continue;
            double value = pixel(x, n, c, iy, ix);
            seen.n++;
            seen.sum += value;
            seen.most = fmax(seen.most, value);
        }
    return seen;
}

static struct twin_tensor run_pool(const struct call *call)
{
    const struct twin_tensor *x = call->inputs[0];
    bool is_max = call->node->op->name[0] == 'M';
    struct slide slides[2];
    const struct op_ints *kernel = attribute(call, "kernel_shape");
    slides_of(call, kernel->values, slides);
    struct twin_tensor y = make(slid_shape(&x->shape, x->shape.dims[1], slides));
    for (int64_t i = 0; i < count(&y.shape); i++) {
        struct index at = index_of(&y.shape, i);
        struct seen seen = look(x, slides, at.at[0], at.at[1], y.shape.rank == 3 ? 0 : at.at[2],
                                at.at[y.shape.rank - 1]);
        y.elements[i] =
            is_max ? seen.most
                   : seen.sum /
                         (double)(integer(call, "count_include_pad") ? seen.padded : seen.n);
    }
    return y;
}

static struct twin_tensor run_conv(const struct call *call)
{
    const struct twin_tensor *x = call->inputs[0], *w = call->inputs[1], *b = input(call, 2);
    struct slide s[2];
    slides_of(call, w->shape.dims + 2, s);
    int64_t filters = w->shape.dims[0], channels = w->shape.dims[1];
    int64_t per_group = filters / integer(call, "group");
    struct twin_tensor y = make(slid_shape(&x->shape, filters, s));
    for (int64_t i = 0; i < count(&y.shape); i++) {
        struct index at = index_of(&y.shape, i);
        int64_t m = at.at[1], oy = y.shape.rank == 3 ? 0 : at.at[2];
        int64_t ox = at.at[y.shape.rank - 1];
        double sum = b ? b->elements[m] : 0;
        for (int64_t c = 0; c < channels; c++)
            for (int64_t ky = 0; ky < s[0].kernel; ky++)
                for (int64_t kx = 0; kx < s[1].kernel; kx++) {
                    int64_t iy = oy * s[0].stride + ky * s[0].dilation - s[0].begin;
                    int64_t ix = ox * s[1].stride + kx * s[1].dilation - s[1].begin;
                    if (inside(&s[0], iy) && inside(&s[1], ix))
                        sum += pixel(w, m, c, ky, kx) *
                               pixel(x, at.at[0], m / per_group * channels + c, iy, ix);
                }
        y.elements[i] = sum;
    }
    return y;
}

static struct twin_tensor run_normalization(const struct call *call)
{
    const struct twin_tensor *x = call->inputs[0];
    struct twin_tensor y = make(x->shape);
    for (int64_t i = 0; i < count(&y.shape); i++) {
        int64_t c = index_of(&y.shape, i).at[1];
        y.elements[i] = call->inputs[1]->elements[c] *
                            (x->elements[i] - call->inputs[3]->elements[c]) /
                            sqrt(call->inputs[4]->elements[c] + real(call, "epsilon")) +
                        call->inputs[2]->elements[c];
    }
    return y;
}

/* reductions */

/* Sums, or means, along the marked axes. */
static struct twin_tensor reduced(const struct twin_tensor *x, const bool *along, bool keep,
                                  bool mean)
{
    struct nn_shape kept = x->shape, left = {0};
    int64_t n = 1;
    for (int d = 0; d < x->shape.rank; d++) {
        if (along[d]) {
            kept.dims[d] = 1;
            n *= x->shape.dims[d];
        }
        if (!along[d] || keep)
            left.dims[left.rank++] = kept.dims[d];
    }
    struct twin_tensor y = make(kept);
    for (int64_t i = 0; i < count(&x->shape); i++) {
        struct index at = index_of(&x->shape, i);
        for (int d = 0; d < x->shape.rank; d++)
            at.at[d] = along[d] ? 0 : at.at[d];
        *element(&y, at) += x->elements[i] / (mean ? (double)n : 1);
    }
    y.shape = left;
    return y;
}

static struct twin_tensor run_reduce(const struct call *call)
{
    const struct twin_tensor *x = call->inputs[0];
    bool is_sum = strcmp(call->node->op->name, "ReduceSum") == 0, along[NN_MAX_RANK] = {false};
    const int64_t *axes = NULL;
    int64_t n = 0;
    if (!is_sum) {
        const struct op_ints *given = attribute(call, "axes");
        axes = given->values;
        n = given->n;
    } else if (call->n > 1 && call->types[1]) {
        axes = call->types[1]->constant;
        n = call->types[1]->shape.dims[0];
    }
    for (int64_t i = 0; i < n; i++)
        along[axis_of(axes[i], x->shape.rank)] = true;
    for (int d = 0; d < x->shape.rank && n == 0; d++)
        along[d] = !is_sum || !integer(call, "noop_with_empty_axes");
    return reduced(x, along, integer(call, "keepdims"), !is_sum);
}

static struct twin_tensor run_global_pool(const struct call *call)
{
    bool along[NN_MAX_RANK];
    for (int d = 0; d < NN_MAX_RANK; d++)
        along[d] = d >= 2;
    return reduced(call->inputs[0], along, true, true);
}

/* moving */

static struct twin_tensor copy_as(const struct twin_tensor *x, struct nn_shape shape)
{
    struct twin_tensor y = make(shape);
    assert_int_equal(count(&shape), count(&x->shape));
    memcpy(y.elements, x->elements, (size_t)count(&shape) * sizeof(double));
    return y;
}

static struct twin_tensor run_flatten(const struct call *call)
{
    const struct nn_shape *x = &call->inputs[0]->shape;
    struct nn_shape y = {2, {1, 1}};
    int axis = axis_of(integer(call, "axis"), x->rank);
    for (int d = 0; d < x->rank; d++)
        y.dims[d < axis ? 0 : 1] *= x->dims[d];
    return copy_as(call->inputs[0], y);
}

static struct twin_tensor run_reshape(const struct call *call)
{
    const struct twin_tensor *x = call->inputs[0];
    const int64_t *wanted = call->types[1]->constant;
    struct nn_shape y = {.rank = (int)call->types[1]->shape.dims[0]};
    int64_t known = 1;
    for (int d = 0; d < y.rank; d++) {
        y.dims[d] = wanted[d] == 0 ? x->shape.dims[d] : wanted[d];
        known *= y.dims[d] == -1 ? 1 : y.dims[d];
    }
    for (int d = 0; d < y.rank; d++)
        if (y.dims[d] == -1)
            y.dims[d] = count(&x->shape) / known;
    return copy_as(x, y);
}

static struct twin_tensor run_transpose(const struct call *call)
{
    const struct twin_tensor *x = call->inputs[0];
    const struct op_ints *perm = attribute(call, "perm");
    struct nn_shape shape = x->shape;
    for (int d = 0; d < shape.rank; d++)
        shape.dims[d] = x->shape.dims[one_of(perm, d, shape.rank - 1 - d)];
    struct twin_tensor y = make(shape);
    for (int64_t i = 0; i < count(&shape); i++) {
        struct index at = index_of(&shape, i), from = {{0}};
        for (int d = 0; d < shape.rank; d++)
            from.at[one_of(perm, d, shape.rank - 1 - d)] = at.at[d];
        y.elements[i] = *element(x, from);
    }
    return y;
}

static struct twin_tensor run_concat(const struct call *call)
{
    struct nn_shape shape = call->inputs[0]->shape;
    int axis = axis_of(integer(call, "axis"), shape.rank);
    for (int i = 1; i < call->n; i++)
        shape.dims[axis] += call->inputs[i]->shape.dims[axis];
    struct twin_tensor y = make(shape);
    int64_t begin = 0;
    for (int i = 0; i < call->n; i++) {
        const struct twin_tensor *x = call->inputs[i];
        for (int64_t k = 0; k < count(&x->shape); k++) {
            struct index at = index_of(&x->shape, k);
            at.at[axis] += begin;
            *element(&y, at) = x->elements[k];
        }
        begin += x->shape.dims[axis];
    }
    return y;
}

/* all of them */

static struct twin_tensor run(const struct call *call)
{
    static const struct {
        const char *names;
        struct twin_tensor (*run)(const struct call *call);
    } rows[] = {
        {" Relu LeakyRelu Sigmoid Tanh Neg Exp Log Sqrt Clip Identity Dropout ", run_unary},
        {" Add Sub Mul Div Pow ", run_binary},
        {" Softmax LogSoftmax ", run_softmax},
        {" Gemm ", run_gemm},
        {" MatMul ", run_matmul},
        {" Conv ", run_conv},
        {" MaxPool AveragePool ", run_pool},
        {" GlobalAveragePool ", run_global_pool},
        {" BatchNormalization ", run_normalization},
        {" ReduceSum ReduceMean ", run_reduce},
        {" Flatten ", run_flatten},
        {" Reshape ", run_reshape},
        {" Transpose ", run_transpose},
        {" Concat ", run_concat},
    };
    char name[64];
    snprintf(name, sizeof name, " %s ", call->node->op->name);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strstr(rows[i].names, name))
            return rows[i].run(call);
    fail_msg("no twin of%s", name);
    return (struct twin_tensor){0};
}

static struct twin_tensor of_reals(struct nn_shape shape, const nn_real *elements)
{
    struct twin_tensor x = make(shape);
    for (int64_t i = 0; i < count(&shape); i++)
        x.elements[i] = elements[i];
    return x;
}

struct twin_tensor *twin_run(const struct graph *g, int64_t batch, const void *const *inputs)
{
    struct twin_tensor *tensors = calloc((size_t)g->n_values + 1, sizeof *tensors);
    assert_non_null(tensors);
    for (int i = 0; i < g->n_values; i++) {
        const struct op_value *type = &g->values[i].type;
        if (type->constant && type->datatype == NN_FP32)
            tensors[i] = of_reals(type->shape, type->constant);
    }
    for (int i = 0; i < g->n_inputs; i++) {
        struct nn_shape shape = g->values[g->inputs[i]].declared;
        if (shape.rank > 0 && shape.dims[0] == -1)
            shape.dims[0] = batch;
        tensors[g->inputs[i]] = of_reals(shape, inputs[i]);
    }
    for (int i = 0; i < g->n_nodes; i++) {
        struct call call = {.node = &g->nodes[i], .n = g->nodes[i].n_inputs};
        for (int k = 0; k < call.n; k++) {
            int value = call.node->inputs[k];
            call.inputs[k] = value == GRAPH_NONE ? NULL : &tensors[value];
            call.types[k] = value == GRAPH_NONE ? NULL : &g->values[value].type;
        }
        tensors[call.node->outputs[0]] = run(&call);
    }
    return tensors;
}

void twin_free(const struct graph *g, struct twin_tensor *tensors)
{
    for (int i = 0; i < g->n_values; i++)
        free(tensors[i].elements);
    free(tensors);
}
