/*
 * Multiplications and additions by constants, and BatchNormalization, move into the weights
 * of the Conv or Gemm before or after them.
 *
 *     after     s (W x + b) + t = (s W) x + (s b + t)        s, t by output channel
 *     before    W (s x + t) + b = (W s) x + (b + W t)        s, t by input channel
 *
 * Jacob et al., "Quantization and Training of Neural Networks", 2018, 3.2. Everything is
 * computed in double, and nothing is folded that a weight of FP32 cannot hold: it would become
 * infinite, or lose digits near 0. Nor is what cancels: the graph subtracts a mean of 1e9 from
 * raw input exactly, W x + W t would be left with the rounding of two numbers that large.
 */
#include "engine/passes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* y = scale x + shift, with one scale and shift for all of x (n 1) or one per channel, which
 * is axis 1 (n its length). */
struct affine {
    int64_t n;
    double *scale, *shift;
};

/* A Conv or Gemm: y[o] = alpha sum of W[o, c, t] x[channel(o, c)] + beta b[o]. Each of
 * `groups` equal parts of the outputs has its own `channels` inputs. */
struct linear {
    struct graph_node *node;
    int64_t outputs, groups, channels, taps;
    int64_t output_stride, channel_stride;      /* in the weights; that of taps is 1 */
    const nn_real *weights, *bias;              /* bias: NULL: none */
    int64_t n_bias;                             /* 1 or outputs */
    double alpha, beta;
};

/* The most that W t may add up to in an output, by magnitude: what is lost of the sum by
 * rounding stays below 4e-6. */
#define MAX_CANCELLATION 64

/* reading an affine node */

static void affine_release(struct affine *a)
{
    free(a->scale);
    free(a->shift);
}

static int affine_allocate(struct affine *a, int64_t n)
{
    a->n = n;
    a->scale = calloc((size_t)n, sizeof *a->scale);
    a->shift = calloc((size_t)n, sizeof *a->shift);
    return a->scale && a->shift ? 0 : -1;
}

/* How many elements `constant` has where it is one for all of x, or one per channel; 0: it is
 * something else. */
static int64_t constant_channels(const struct nn_shape *constant, const struct nn_shape *x)
{
    int64_t n = shape_elements(constant);
    if (constant->rank > x->rank || n < 1)
        return 0;
    if (n == 1)
        return 1;
    int channel = constant->rank - x->rank + 1;
    return channel >= 0 && channel < constant->rank && constant->dims[channel] == n &&
                   x->dims[1] == n ? n : 0;
}

static void set_arithmetic(struct affine *a, const char *op, bool constant_first,
                           const nn_real *c)
{
    for (int64_t i = 0; i < a->n; i++) {
        bool product = op[0] == 'M' || op[0] == 'D';
        bool negated = op[0] == 'S' && constant_first;
        a->scale[i] = op[0] == 'M' ? c[i] : op[0] == 'D' ? 1 / (double)c[i] : negated ? -1 : 1;
        a->shift[i] = product ? 0 : op[0] == 'S' && !constant_first ? -c[i] : c[i];
    }
}

/* Mul, Div, Add and Sub of `data` and a constant: 1, or 0, or -1 (no memory). */
static int read_arithmetic(struct passes *p, const struct graph_node *n, struct affine *a,
                           int *data)
{
    if (!passes_is(n, "Mul") && !passes_is(n, "Div") && !passes_is(n, "Add") &&
        !passes_is(n, "Sub"))
        return 0;
    int left = passes_input(p, n, 0), right = passes_input(p, n, 1);
    bool constant_first = passes_constant(p, left) != NULL;
    int constant = constant_first ? left : right, x = constant_first ? right : left;
    const nn_real *c = passes_constant(p, constant);
    if (!c || (constant_first && passes_is(n, "Div")))
        return 0;
    const struct graph_value *values = p->g->values;
    int64_t channels =
        constant_channels(&values[constant].type.shape, &values[x].type.shape);
    if (channels == 0 || !shape_equal(&values[x].type.shape,
                                      &values[n->outputs[0]].type.shape))
        return 0;
    if (affine_allocate(a, channels) != 0)
        return -1;
    set_arithmetic(a, n->op->name, constant_first, c);
    *data = constant_first ? 1 : 0;
    return 1;
}

static int read_normalization(struct passes *p, const struct graph_node *n, struct affine *a,
                              int *data)
{
    if (!passes_is(n, "BatchNormalization") || n->n_inputs != 5 ||
        passes_attribute(n, "training_mode") == 1)
        return 0;
    for (int i = 1; i < n->n_outputs; i++)
        if (n->outputs[i] != GRAPH_NONE && p->uses[n->outputs[i]] > 0)
            return 0;

    const struct nn_shape *x = &p->g->values[passes_input(p, n, 0)].type.shape;
    const nn_real *of[5];       /* scale, B, mean, variance from 1 on */
    for (int i = 1; i < 5; i++) {
        int value = passes_input(p, n, i);
        of[i] = passes_constant(p, value);
        if (!of[i] || x->rank < 2 ||
            shape_elements(&p->g->values[value].type.shape) != x->dims[1])
            return 0;
    }
    if (affine_allocate(a, x->dims[1]) != 0)
        return -1;
    double epsilon = passes_attribute(n, "epsilon");
    for (int64_t i = 0; i < a->n; i++) {
        a->scale[i] = of[1][i] / sqrt(of[4][i] + epsilon);
        a->shift[i] = of[2][i] - of[3][i] * a->scale[i];
    }
    *data = 0;
    return 1;
}

static int read_affine(struct passes *p, const struct graph_node *n, struct affine *a,
                       int *data)
{
    *a = (struct affine){0};
    int found = read_arithmetic(p, n, a, data);
    if (found == 0)
        found = read_normalization(p, n, a, data);
    if (found <= 0)
        affine_release(a);
    return found;
}

/* reading a linear node */

static bool read_bias(struct passes *p, struct linear *l)
{
    int value = passes_input(p, l->node, 2);
    if (value == GRAPH_NONE)
        return true;
    const struct nn_shape *shape = &p->g->values[value].type.shape;
    l->bias = passes_constant(p, value);
    l->n_bias = shape_elements(shape);
    bool by_output = l->n_bias == l->outputs && shape->rank > 0 &&
                     shape->dims[shape->rank - 1] == l->outputs;
    return l->bias && (l->n_bias == 1 || by_output);
}

static bool read_linear(struct passes *p, struct graph_node *n, struct linear *l)
{
    if (!passes_is(n, "Conv") && !passes_is(n, "Gemm"))
        return false;
    *l = (struct linear){.node = n, .groups = 1, .taps = 1, .alpha = 1, .beta = 1};
    l->weights = passes_constant(p, passes_input(p, n, 1));
    if (!l->weights)
        return false;
    const struct nn_shape *shape = &p->g->values[passes_input(p, n, 1)].type.shape;
    if (passes_is(n, "Conv")) {
        l->groups = (int64_t)passes_attribute(n, "group");
        l->outputs = shape->dims[0];
        l->channels = shape->dims[1];
        l->taps = shape_product(shape, 2, shape->rank);
        l->channel_stride = l->taps;
        l->output_stride = l->taps * l->channels;
    } else {
        bool transposed = passes_attribute(n, "transB") != 0;
        l->outputs = shape->dims[transposed ? 0 : 1];
        l->channels = shape->dims[transposed ? 1 : 0];
        l->output_stride = transposed ? l->channels : 1;
        l->channel_stride = transposed ? 1 : l->outputs;
        l->alpha = passes_attribute(n, "alpha");
        l->beta = passes_attribute(n, "beta");
    }
    return read_bias(p, l);
}

/* Whether some taps of a Conv meet zeros instead of the input. */
static bool is_padded(const struct graph_node *n)
{
    if (!passes_is(n, "Conv"))
        return false;
    const struct op_attribute *a = op_find_attribute(n->op, "auto_pad");
    const char *mode = a->choices[(int)passes_attribute(n, "auto_pad")];
    if (strncmp(mode, "SAME", 4) == 0)
        return true;
    const struct op_ints *pads = (const void *)((const char *)n->attributes
                                                + op_find_attribute(n->op, "pads")->offset);
    for (int i = 0; i < pads->n; i++)
        if (pads->values[i] != 0)
            return true;
    return false;
}

/* writing the weights */

/* Constants are shared: what is written is a copy, unless it is one already. */
static int write_constant(struct passes *p, const struct linear *l, int input,
                          const struct nn_shape *shape, const nn_real *elements)
{
    int old = passes_input(p, l->node, input);
    if (old != GRAPH_NONE && p->is_ours[old] && p->uses[old] == 1 &&
        shape_equal(&p->g->values[old].type.shape, shape)) {
        memcpy((void *)(uintptr_t)p->g->values[old].type.constant, elements,
               (size_t)tensor_bytes(NN_FP32, shape));
        return 0;
    }
    int new = passes_add_constant(p, l->node->name, shape, elements);
    return new < 0 ? -1 : passes_set_input(p, l->node, input, new);
}

/* By magnitude, what the shift before adds up to in the output where that is the most. */
static double cancellation(const struct linear *l, const struct affine *a)
{
    int64_t group = l->outputs / l->groups;
    double most = 0;
    for (int64_t o = 0; o < l->outputs; o++) {
        double sum = 0;
        for (int64_t c = 0; c < l->channels; c++) {
            const nn_real *w = l->weights + o * l->output_stride + c * l->channel_stride;
            double shift = a->shift[a->n == 1 ? 0 : o / group * l->channels + c];
            for (int64_t t = 0; t < l->taps && shift != 0; t++)
                sum += fabs(l->alpha * w[t] * shift);
        }
        most = fmax(most, sum);
    }
    return most;
}

static bool all_finite(const nn_real *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static bool all_are(const double *x, int64_t n, double value)
{
    for (int64_t i = 0; i < n; i++)
        if (x[i] != value)
            return false;
    return true;
}

/* The weights [outputs, channels, taps] and bias [outputs] with `a` after or before them; in
 * the order in which the weights lie. False: a weight is no normal number of its type. */
static bool fold_weights(const struct linear *l, const struct affine *a, bool before,
                         nn_real *weights, double *bias)
{
    for (int64_t o = 0; o < l->outputs; o++) {
        int64_t i = a->n > 1 ? o : 0;
        bias[o] = l->bias ? l->beta * l->bias[l->n_bias > 1 ? o : 0] : 0;
        if (!before)
            bias[o] = bias[o] * a->scale[i] + a->shift[i];
    }

    bool rows = l->output_stride > l->channel_stride;
    int64_t outer = rows ? l->outputs : l->channels, inner = rows ? l->channels : l->outputs;
    int64_t group = l->outputs / l->groups;
    bool normal = true;
    for (int64_t j = 0; j < outer; j++)
        for (int64_t k = 0; k < inner; k++) {
            int64_t o = rows ? j : k, c = rows ? k : j;
            int64_t i = a->n == 1 ? 0 : before ? o / group * l->channels + c : o;
            int64_t at = o * l->output_stride + c * l->channel_stride;
            double sum = 0;
            for (int64_t t = at; t < at + l->taps; t++) {
                double scaled = l->weights[t] * a->scale[i];
                weights[t] = (nn_real)scaled;
                normal &= scaled == 0 || isnormal(weights[t]);
                sum += l->weights[t];
            }
            if (before)
                bias[o] += l->alpha * sum * a->shift[i];
        }
    return normal;
}

static int set_bias(struct passes *p, const struct linear *l, const nn_real *bias)
{
    bool all_zero = true;
    for (int64_t o = 0; o < l->outputs; o++)
        all_zero &= bias[o] == 0;
    if (!l->bias && all_zero)
        return 0;
    if (passes_is(l->node, "Gemm"))
        op_set_float(l->node->op, l->node->attributes, "beta", 1, NULL);
    struct nn_shape shape = {1, {l->outputs}};
    return write_constant(p, l, 2, &shape, bias);
}

/* Whether scaled weights of n elements may stand beside those that other nodes read. */
static bool may_scale(struct passes *p, const struct linear *l, const struct affine *a,
                      int64_t n)
{
    size_t bytes = (size_t)n * sizeof(nn_real);
    bool shared = p->uses[passes_input(p, l->node, 1)] > 1;
    return all_are(a->scale, a->n, 1) || passes_may_copy(p, bytes, shared ? 0 : bytes);
}

/* 1: folded; 0: that would leave the normal numbers, or cancel, or take too long; -1: no
 * memory. */
static int fold(struct passes *p, const struct linear *l, const struct affine *a, bool before)
{
    int64_t n = l->outputs * l->channels * l->taps;
    if ((double)n > p->budget)
        return 0;
    p->budget -= (double)n;
    if ((before && cancellation(l, a) > MAX_CANCELLATION) || !may_scale(p, l, a, n))
        return 0;
    nn_real *weights = calloc((size_t)n + 1, sizeof *weights);
    nn_real *bias = calloc((size_t)l->outputs + 1, sizeof *bias);
    double *sums = calloc((size_t)l->outputs + 1, sizeof *sums);
    int status = -1;
    if (!weights || !bias || !sums)
        goto done;
    bool normal = fold_weights(l, a, before, weights, sums);
    for (int64_t o = 0; o < l->outputs; o++)
        bias[o] = (nn_real)sums[o];
    status = 0;
    if (!normal || !all_finite(bias, l->outputs))
        goto done;
    struct nn_shape shape = p->g->values[passes_input(p, l->node, 1)].type.shape;
    if ((!all_are(a->scale, a->n, 1) && write_constant(p, l, 1, &shape, weights) != 0) ||
        set_bias(p, l, bias) != 0)
        status = -1;
    else
        status = 1;

done:
    free(weights);
    free(bias);
    free(sums);
    return status;
}

/* the passes */

int fold_affine_after(struct passes *p, struct graph_node *n)
{
    struct affine a;
    struct linear l;
    int data;
    int found = read_affine(p, n, &a, &data);
    if (found <= 0)
        return found;
    struct graph_node *producer = passes_only_producer(p, passes_input(p, n, data));
    int status = 0;
    if (producer && read_linear(p, producer, &l) && (a.n == 1 || a.n == l.outputs))
        status = fold(p, &l, &a, false);
    if (status == 1)
        passes_bypass(p, n, data);
    affine_release(&a);
    return status;
}

/* What an affine node may stand behind and still reach `value` element by element. */
static struct graph_node *skip_views(struct passes *p, int value, bool *direct)
{
    struct graph_node *n = passes_only_producer(p, value);
    *direct = true;
    while (n && (passes_is(n, "Flatten") || passes_is(n, "Reshape"))) {
        n = passes_only_producer(p, passes_input(p, n, 0));
        *direct = false;
    }
    return n;
}

/* Takes in the affine node right before; 1: there may be another one. */
static int take_in(struct passes *p, struct graph_node *n)
{
    struct linear l;
    if (!read_linear(p, n, &l) || passes_attribute(n, "transA") == 1)
        return 0;
    bool direct;
    struct graph_node *scaling = skip_views(p, passes_input(p, n, 0), &direct);
    struct affine a;
    int data;
    int found = scaling ? read_affine(p, scaling, &a, &data) : 0;
    if (found <= 0)
        return found;
    int status = 0;
    bool fits = a.n == 1 || (direct && a.n == l.groups * l.channels);
    if (fits && (!is_padded(n) || all_are(a.shift, a.n, 0)))
        status = fold(p, &l, &a, true);
    if (status == 1)
        passes_bypass(p, scaling, data);
    affine_release(&a);
    return status;
}

int fold_affine_before(struct passes *p, struct graph_node *n)
{
    int status;
    while ((status = take_in(p, n)) == 1)
        ;
    return status;
}
