#include "engine/ops/broadcast.h"

void broadcast_begin(struct broadcast *w, const struct nn_shape *a, const struct nn_shape *b,
                     const struct nn_shape *y)
{
    int64_t a_strides[NN_MAX_RANK], b_strides[NN_MAX_RANK];
    shape_broadcast_strides(a, y, a_strides);
    shape_broadcast_strides(b, y, b_strides);

    /* From the innermost axis outwards: an axis joins the one inside it where a step along it
     * is the same as walking the whole inner one, in both tensors. */
    *w = (struct broadcast){.n = 1};
    int64_t dims[NN_MAX_RANK];
    int axes = 0;
    for (int i = y->rank - 1; i >= 0; i--) {
        if (y->dims[i] == 1)
            continue;
        int inner = axes - 1;
        if (axes > 0 && a_strides[i] == w->a_strides[inner] * dims[inner] &&
            b_strides[i] == w->b_strides[inner] * dims[inner]) {
            dims[inner] *= y->dims[i];
            continue;
        }
        dims[axes] = y->dims[i];
        w->a_strides[axes] = a_strides[i];
        w->b_strides[axes] = b_strides[i];
        axes++;
    }

    w->rows = 1;
    if (axes == 0)
        return;
    w->n = dims[0];
    w->a_step = w->a_strides[0];
    w->b_step = w->b_strides[0];
    w->outer = axes - 1;
    for (int i = 0; i < w->outer; i++) {
        w->dims[i] = dims[i + 1];
        w->a_strides[i] = w->a_strides[i + 1];
        w->b_strides[i] = w->b_strides[i + 1];
        w->rows *= w->dims[i];
    }
}

void broadcast_next(struct broadcast *w)
{
    w->rows--;
    w->y += w->n;
    for (int i = 0; i < w->outer; i++) {
        w->a += w->a_strides[i];
        w->b += w->b_strides[i];
        if (++w->index[i] < w->dims[i])
            return;
        w->index[i] = 0;
        w->a -= w->a_strides[i] * w->dims[i];
        w->b -= w->b_strides[i] * w->dims[i];
    }
}

int broadcast_infer(struct op_inference *inference, struct nn_error *error)
{
    const struct op_value *a = inference->inputs[0], *b = inference->inputs[1];
    struct op_value *y = &inference->outputs[0];
    struct shape_text a_text, b_text;
    if (shape_broadcast(&a->shape, &b->shape, &y->shape) != 0)
        return nn_fail(error, "the shapes %s and %s do not broadcast",
                       shape_print(&a->shape, &a_text), shape_print(&b->shape, &b_text));
    y->datatype = a->datatype;
    y->batch = op_broadcast_batch(inference->inputs, 2, &y->shape);
    inference->flops = (double)shape_elements(&y->shape);
    return 0;
}
