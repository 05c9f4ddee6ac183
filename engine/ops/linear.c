/*
 * Products of matrices.
 */
#include "engine/kernels/kernels.h"
#include "engine/ops/broadcast.h"

#include <math.h>
#include <stddef.h>

static int need_reals(const struct op_inference *inference, const char *const *names,
                      struct nn_error *error)
{
    for (int i = 0; i < inference->n_inputs; i++)
        if (op_need(inference, i, names[i], NN_FP32, error) != 0)
            return -1;
    return 0;
}

static int inner_mismatch(const struct op_value *a, const struct op_value *b,
                          struct nn_error *error)
{
    struct shape_text a_text, b_text;
    return nn_fail(error, "A %s and B %s do not have the same inner dimension",
                   shape_print(&a->shape, &a_text), shape_print(&b->shape, &b_text));
}

/* How a product with a constant B is computed: by one kernel for any number of rows of A, so
 * that what a row gives has the same bits in every batch. In panels, or, where these would be
 * filled badly or few beside a long K, by the rows of B [N, K]. */
static bool is_by_rows(int64_t n, int64_t k)
{
    enum { LONG_K = 128 };
    int64_t lanes = kernel_packed_lanes(), width = (n + lanes - 1) / lanes * lanes;
    return !kernel_gemm_packed_pays(n) && k >= KERNEL_ROWS_MIN_K &&
           (k >= LONG_K || 3 * n < 2 * width);
}

static void multiply_packed(int64_t m, int64_t n, int64_t k, const nn_real *a,
                            const nn_real *packed, nn_real *c)
{
    if (is_by_rows(n, k))
        kernel_gemm_rows(m, n, k, 1, a, k, packed, k, 0, c, n);
    else
        kernel_gemm_packed(m, n, k, a, k, packed, c, n);
}

static void write_rows(bool transposed, int64_t n, int64_t k, const nn_real *b, nn_real *rows)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t p = 0; p < k; p++)
            *rows++ = transposed ? b[j * k + p] : b[p * n + j];
}

/* B: [K, N], or [N, K] transposed. */
static size_t pack_matrix(bool transposed, int64_t n, int64_t k, const nn_real *b, void *packed)
{
    if (is_by_rows(n, k)) {
        if (packed)
            write_rows(transposed, n, k, b, packed);
        return (size_t)(n * k) * sizeof(nn_real);
    }
    if (packed)
        kernel_pack(transposed, n, k, b, transposed ? k : n, packed);
    for (int64_t i = 0; i < n * k && !packed; i++)
        if (!isfinite(b[i])) /* 0 times it counts, and is left out */
            return 0;
    return (size_t)kernel_packed_size(n, k) * sizeof(nn_real);
}

/* Gemm -- affine map (ONNX Gemm-13)
 *
 *     Y = alpha A' B' + beta C
 *
 * A [M, K] or [K, M] if transA     B [K, N] or [N, K] if transB     C broadcastable to [M, N]
 */
struct gemm_attributes {
    double alpha, beta;
    int64_t transpose_a, transpose_b;
};

static const struct op_attribute gemm_rows[] = {
    {.name = "alpha", .kind = OP_FLOAT, .offset = offsetof(struct gemm_attributes, alpha),
     .initial = 1},
    {.name = "beta", .kind = OP_FLOAT, .offset = offsetof(struct gemm_attributes, beta),
     .initial = 1},
    {.name = "transA", .kind = OP_INT, .offset = offsetof(struct gemm_attributes, transpose_a),
     .max = 1},
    {.name = "transB", .kind = OP_INT, .offset = offsetof(struct gemm_attributes, transpose_b),
     .max = 1},
    {.name = NULL},
};

static const struct nn_tensor *addend_of(const struct op_call *call)
{
    return call->n_inputs > 2 ? call->inputs[2] : NULL;
}

static int Gemm_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct gemm_attributes *g = inference->attributes;
    const struct op_value *a = inference->inputs[0], *b = inference->inputs[1];
    const struct op_value *c = inference->n_inputs > 2 ? inference->inputs[2] : NULL;
    struct op_value *y = &inference->outputs[0];
    struct shape_text text, y_text;

    if (need_reals(inference, (const char *const[]){"A", "B", "C"}, error) != 0)
        return -1;
    if (a->shape.rank != 2)
        return nn_fail(error, "A is a matrix, not %s", shape_print(&a->shape, &text));
    if (b->shape.rank != 2)
        return nn_fail(error, "B is a matrix, not %s", shape_print(&b->shape, &text));
    int a_rows = g->transpose_a ? 1 : 0, b_rows = g->transpose_b ? 1 : 0;
    int64_t k = a->shape.dims[1 - a_rows];
    if (k != b->shape.dims[b_rows])
        return inner_mismatch(a, b, error);

    *y = (struct op_value){
        .datatype = NN_FP32,
        .shape = {2, {a->shape.dims[a_rows], b->shape.dims[1 - b_rows]}},
        .batch = b->batch != BATCH_NONE    ? BATCH_LOST
                 : a->batch == BATCH_NONE ? BATCH_NONE
                 : a->batch == a_rows     ? 0
                                          : BATCH_LOST,
    };
    if (c) {
        struct nn_shape sum;
        if (shape_broadcast(&c->shape, &y->shape, &sum) != 0 || !shape_equal(&sum, &y->shape))
            return nn_fail(error, "C %s does not broadcast to %s",
                           shape_print(&c->shape, &text), shape_print(&y->shape, &y_text));
        const struct op_value product = *y;
        y->batch = op_broadcast_batch((const struct op_value *const[]){&product, c}, 2,
                                      &y->shape);
    }
    inference->flops = 2 * (double)k * (double)shape_elements(&y->shape);
    return 0;
}

static void Gemm_forward(const struct op_call *call)
{
    const struct gemm_attributes *g = call->attributes;
    const struct nn_tensor *a = call->inputs[0], *b = call->inputs[1], *c = addend_of(call);
    struct nn_tensor *y = call->outputs[0];
    int64_t m = y->shape.dims[0], n = y->shape.dims[1];
    int64_t k = a->shape.dims[g->transpose_a ? 0 : 1];
    nn_real *y_data = y->data;

    /* A row or a column is added with the activation, in one pass over Y; every other C is
     * what the product is added to. */
    const nn_real *column_bias = NULL, *row_bias = NULL;
    bool add_product = false;
    if (call->packed)
        multiply_packed(m, n, k, a->data, call->packed, y_data);
    if (c) {
        const nn_real *c_data = c->data;
        int64_t steps[2];
        shape_broadcast_strides(&c->shape, &y->shape, steps);
        if (g->beta == 1 && steps[0] == 0 && steps[1] == 1) {
            column_bias = c_data;
        } else if (g->beta == 1 && steps[0] == 1 && steps[1] == 0) {
            row_bias = c_data;
        } else {
            add_product = true;
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = 0; j < n; j++)
                    y_data[i * n + j] = (nn_real)g->beta * c_data[i * steps[0] + j * steps[1]] +
                                        (call->packed ? y_data[i * n + j] : 0);
        }
    }
    if (!call->packed)
        kernel_gemm(g->transpose_a, g->transpose_b, m, n, k, (nn_real)g->alpha, a->data,
                    a->shape.dims[1], b->data, b->shape.dims[1], add_product ? 1 : 0, y_data,
                    n);
    kernel_bias_activation(m, n, y_data, n, column_bias, row_bias, call->epilogue.activation,
                           call->epilogue.alpha, call->epilogue.beta);
}

static size_t Gemm_pack(const void *attributes, const struct op_value *b, void *packed)
{
    const struct gemm_attributes *g = attributes;
    if (g->transpose_a || g->alpha != 1)
        return 0;
    int64_t rows = b->shape.dims[0], columns = b->shape.dims[1];
    return g->transpose_b ? pack_matrix(true, rows, columns, b->constant, packed)
                          : pack_matrix(false, columns, rows, b->constant, packed);
}

const struct op op_Gemm = {
    .name = "Gemm",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_EPILOGUE,
    .attributes_size = sizeof(struct gemm_attributes),
    .attributes = gemm_rows,
    .infer = Gemm_infer,
    .forward = Gemm_forward,
    .pack = Gemm_pack,
};

/* MatMul -- product of matrices, of stacks of them, and of vectors (ONNX MatMul-13)
 *
 *     Y = A B
 *
 * A [..., M, K] or [K]     B [..., K, N] or [K]     Y [..., M, N]
 *
 * The leading axes are broadcast. A vector A is a row and a vector B a column, and the axis
 * that makes them so is not in Y.
 */
struct matmul {
    int64_t m, n, k;
    struct nn_shape a_stack, b_stack;   /* the leading axes */
};

static struct matmul matmul_of(const struct nn_shape *a, const struct nn_shape *b)
{
    struct matmul p = {
        .m = a->rank > 1 ? a->dims[a->rank - 2] : 1,
        .k = a->dims[a->rank - 1],
        .n = b->rank > 1 ? b->dims[b->rank - 1] : 1,
        .a_stack = *a,
        .b_stack = *b,
    };
    p.a_stack.rank = a->rank > 2 ? a->rank - 2 : 0;
    p.b_stack.rank = b->rank > 2 ? b->rank - 2 : 0;
    return p;
}

/* Rows of A are rows of Y; the leading axes keep the batch as element-wise operations do. */
static int matmul_batch(const struct op_value *a, const struct op_value *b,
                        const struct matmul *p, const struct nn_shape *stack)
{
    bool a_leads = a->batch < p->a_stack.rank, b_leads = b->batch < p->b_stack.rank;
    if (!b_leads)
        return BATCH_LOST;
    if (!a_leads)
        return a->batch == a->shape.rank - 2 && b->batch == BATCH_NONE ? stack->rank
                                                                       : BATCH_LOST;
    const struct op_value stacks[] = {
        {.shape = p->a_stack, .batch = a->batch},
        {.shape = p->b_stack, .batch = b->batch},
    };
    return op_broadcast_batch((const struct op_value *const[]){&stacks[0], &stacks[1]}, 2,
                              stack);
}

static int MatMul_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct op_value *a = inference->inputs[0], *b = inference->inputs[1];
    struct op_value *y = &inference->outputs[0];
    if (need_reals(inference, (const char *const[]){"A", "B"}, error) != 0)
        return -1;
    if (a->shape.rank == 0 || b->shape.rank == 0)
        return nn_fail(error, "%s is a scalar", a->shape.rank == 0 ? "A" : "B");
    if (a->shape.dims[a->shape.rank - 1] !=
        b->shape.dims[b->shape.rank > 1 ? b->shape.rank - 2 : 0])
        return inner_mismatch(a, b, error);

    struct matmul p = matmul_of(&a->shape, &b->shape);
    struct nn_shape stack;
    struct shape_text a_text, b_text;
    if (shape_broadcast(&p.a_stack, &p.b_stack, &stack) != 0)
        return nn_fail(error, "the leading axes of A %s and B %s do not broadcast",
                       shape_print(&a->shape, &a_text), shape_print(&b->shape, &b_text));

    *y = (struct op_value){.datatype = NN_FP32, .shape = stack};
    if (a->shape.rank > 1)
        y->shape.dims[y->shape.rank++] = p.m;
    if (b->shape.rank > 1)
        y->shape.dims[y->shape.rank++] = p.n;
    y->batch = matmul_batch(a, b, &p, &stack);
    inference->flops = 2 * (double)p.k * (double)shape_elements(&y->shape);
    return 0;
}

/* One product of a stack. Where B is the same for a run of matrices A, these are one tall
 * matrix. */
struct matmul_walk {
    struct matmul p;
    struct broadcast w;
    int64_t i;                  /* in the row of w */
    int64_t rows;               /* of A and Y */
    int64_t a, b, y;            /* where they begin, in elements */
};

/* Advances to the next product; false: there is none. */
static bool matmul_next(struct matmul_walk *walk)
{
    const struct matmul *p = &walk->p;
    struct broadcast *w = &walk->w;
    if (w->rows > 0 && walk->i == w->n) {
        broadcast_next(w);
        walk->i = 0;
    }
    if (w->rows == 0)
        return false;

    int64_t matrices = w->a_step == 1 && w->b_step == 0 ? w->n : 1;
    walk->rows = matrices * p->m;
    walk->a = (w->a + walk->i * w->a_step) * p->m * p->k;
    walk->b = (w->b + walk->i * w->b_step) * p->k * p->n;
    walk->y = (w->y + walk->i) * p->m * p->n;
    walk->i += matrices;
    return true;
}

static struct matmul_walk matmul_begin(const struct op_call *call)
{
    struct matmul_walk walk = {.p = matmul_of(&call->inputs[0]->shape,
                                              &call->inputs[1]->shape)};
    struct nn_shape stack;
    shape_broadcast(&walk.p.a_stack, &walk.p.b_stack, &stack);
    broadcast_begin(&walk.w, &walk.p.a_stack, &walk.p.b_stack, &stack);
    return walk;
}

static void MatMul_forward(const struct op_call *call)
{
    const nn_real *a = call->inputs[0]->data, *b = call->inputs[1]->data;
    nn_real *y = call->outputs[0]->data;
    struct matmul_walk walk = matmul_begin(call);
    while (matmul_next(&walk)) {
        const struct matmul *p = &walk.p;
        if (call->packed) /* one matrix, for all of the stack */
            multiply_packed(walk.rows, p->n, p->k, a + walk.a, call->packed, y + walk.y);
        else
            kernel_gemm(false, false, walk.rows, p->n, p->k, 1, a + walk.a, p->k, b + walk.b,
                        p->n, 0, y + walk.y, p->n);
        kernel_bias_activation(walk.rows, p->n, y + walk.y, p->n, NULL, NULL,
                               call->epilogue.activation, call->epilogue.alpha,
                               call->epilogue.beta);
    }
}

static size_t MatMul_pack(const void *attributes, const struct op_value *b, void *packed)
{
    (void)attributes;
    int64_t columns = b->shape.rank > 1 ? b->shape.dims[1] : 1;
    return b->shape.rank > 2
               ? 0
               : pack_matrix(false, columns, b->shape.dims[0], b->constant, packed);
}

const struct op op_MatMul = {
    .name = "MatMul",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .flags = OP_EPILOGUE,
    .infer = MatMul_infer,
    .forward = MatMul_forward,
    .pack = MatMul_pack,
};

/* ---- gradients -------------------------------------------------------------------------- */

op_gradient gradient_Gemm, gradient_MatMul;

/* gradient: dA = alpha dY B'^T    dB = alpha A'^T dY    dC = beta sum over what was broadcast */
void gradient_Gemm(const struct op_call *call)
{
    const struct gemm_attributes *g = call->attributes;
    const struct nn_tensor *a = call->inputs[0], *b = call->inputs[1], *c = addend_of(call);
    const nn_real *dy = call->d_outputs[0]->data;
    int64_t m = call->outputs[0]->shape.dims[0], n = call->outputs[0]->shape.dims[1];
    int64_t k = a->shape.dims[g->transpose_a ? 0 : 1];
    int64_t lda = a->shape.dims[1], ldb = b->shape.dims[1];
    nn_real alpha = (nn_real)g->alpha, beta = (nn_real)g->beta;

    if (call->d_inputs[0] && g->transpose_a)
        kernel_gemm(g->transpose_b, true, k, m, n, alpha, b->data, ldb, dy, n, 1,
                    call->d_inputs[0]->data, lda);
    else if (call->d_inputs[0])
        kernel_gemm(false, !g->transpose_b, m, k, n, alpha, dy, n, b->data, ldb, 1,
                    call->d_inputs[0]->data, lda);

    if (call->d_inputs[1] && g->transpose_b)
        kernel_gemm(true, g->transpose_a, n, k, m, alpha, dy, n, a->data, lda, 1,
                    call->d_inputs[1]->data, ldb);
    else if (call->d_inputs[1])
        kernel_gemm(!g->transpose_a, false, k, n, m, alpha, a->data, lda, dy, n, 1,
                    call->d_inputs[1]->data, ldb);

    if (c && call->d_inputs[2]) {
        nn_real *dc = call->d_inputs[2]->data;
        int64_t steps[2];
        shape_broadcast_strides(&c->shape, &call->outputs[0]->shape, steps);
        for (int64_t i = 0; i < m; i++)
            if (steps[1] == 1)
                kernel_axpy(n, beta, dy + i * n, dc + i * steps[0]);
            else
                dc[i * steps[0]] += beta * kernel_sum(n, dy + i * n);
    }
}

/* gradient: dA = dY B^T    dB = A^T dY, summed over what was broadcast */
void gradient_MatMul(const struct op_call *call)
{
    const nn_real *a = call->inputs[0]->data, *b = call->inputs[1]->data;
    const nn_real *dy = call->d_outputs[0]->data;
    struct matmul_walk walk = matmul_begin(call);
    while (matmul_next(&walk)) {
        int64_t n = walk.p.n, k = walk.p.k;
        if (call->d_inputs[0])
            kernel_gemm(false, true, walk.rows, k, n, 1, dy + walk.y, n, b + walk.b, n, 1,
                        (nn_real *)call->d_inputs[0]->data + walk.a, k);
        if (call->d_inputs[1])
            kernel_gemm(true, false, k, n, walk.rows, 1, a + walk.a, k, dy + walk.y, n, 1,
                        (nn_real *)call->d_inputs[1]->data + walk.b, n);
    }
}
