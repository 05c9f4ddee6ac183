/*
 * The table of operations, their attributes as data, and what the families' infer share.
 */
#include "engine/op.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* the table of operations */

#define OP(name) extern const struct op op_##name;
#define OP_NO_GRADIENT(name) OP(name)
#include "engine/ops.def"
#undef OP

#define OP(name) &op_##name,
const struct op *const op_table[] = {
#include "engine/ops.def"
    NULL,
};
#undef OP
#undef OP_NO_GRADIENT

const struct op *op_find(const char *name)
{
    for (const struct op *const *op = op_table; *op; op++)
        if (strcmp((*op)->name, name) == 0)
            return *op;
    return NULL;
}

static int fold_case(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance of the first 31 characters, without regard to case: no operation's
 * name is longer. */
static int edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 31 };
    int row[LONGEST + 1];
    int length = (int)strnlen(b, LONGEST);
    for (int j = 0; j <= length; j++)
        row[j] = j;
    for (int i = 0; i < LONGEST && a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 1; j <= length; j++) {
            int substituted = diagonal + (fold_case(a[i]) != fold_case(b[j - 1]));
            diagonal = row[j];
            row[j] = least(substituted, 1 + least(row[j], row[j - 1]));
        }
    }
    return row[length];
}

const char *op_nearest(const char *name)
{
    const char *nearest = op_table[0]->name;
    int best = edit_distance(name, nearest);
    for (const struct op *const *op = op_table + 1; *op; op++) {
        int distance = edit_distance(name, (*op)->name);
        if (distance < best) {
            best = distance;
            nearest = (*op)->name;
        }
    }
    return nearest;
}

/* attributes */

void op_attributes_init(const struct op *op, void *attributes)
{
    if (!op->attributes_size)
        return;
    memset(attributes, 0, op->attributes_size);
    for (const struct op_attribute *a = op->attributes; a && a->name; a++) {
        void *field = (char *)attributes + a->offset;
        if (a->kind == OP_INT)
            *(int64_t *)field = (int64_t)a->initial;
        else if (a->kind == OP_FLOAT)
            *(double *)field = a->initial;
        else if (a->kind == OP_CHOICE)
            *(int *)field = (int)a->initial;
    }
}

const struct op_attribute *op_find_attribute(const struct op *op, const char *name)
{
    for (const struct op_attribute *a = op->attributes; a && a->name; a++)
        if (strcmp(a->name, name) == 0)
            return a;
    return NULL;
}

static const char *const kind_names[] = {
    [OP_INT] = "an integer",
    [OP_FLOAT] = "a number",
    [OP_INTS] = "a list of integers",
    [OP_CHOICE] = "a string",
};

/* The field of attribute `name`, which has to be of `kind`; NULL with an error otherwise. */
static void *field_to_set(const struct op *op, void *attributes, const char *name,
                          enum op_attribute_kind kind, const struct op_attribute **row,
                          struct nn_error *error)
{
    const struct op_attribute *a = op_find_attribute(op, name);
    if (!a) {
        nn_fail(error, "%s has no attribute \"%s\"", op->name, name);
        return NULL;
    }
    if (a->kind != kind) {
        nn_fail(error, "attribute \"%s\" is %s, got %s", name, kind_names[a->kind],
                kind_names[kind]);
        return NULL;
    }
    *row = a;
    return (char *)attributes + a->offset;
}

/* A row whose min and max are both 0 has no bounds. */
static bool within(const struct op_attribute *a, double value)
{
    return (a->min == 0 && a->max == 0) || (value >= a->min && value <= a->max);
}

int op_set_int(const struct op *op, void *attributes, const char *name, int64_t value,
               struct nn_error *error)
{
    const struct op_attribute *a = op_find_attribute(op, name);
    if (a && a->kind == OP_FLOAT)       /* a whole number is a number */
        return op_set_float(op, attributes, name, (double)value, error);

    int64_t *field = field_to_set(op, attributes, name, OP_INT, &a, error);
    if (!field)
        return -1;
    if (!within(a, (double)value))
        return nn_fail(error, "attribute \"%s\" is %.15g to %.15g, got %" PRId64, name, a->min,
                       a->max, value);
    *field = value;
    return 0;
}

int op_set_float(const struct op *op, void *attributes, const char *name, double value,
                 struct nn_error *error)
{
    const struct op_attribute *a;
    double *field = field_to_set(op, attributes, name, OP_FLOAT, &a, error);
    if (!field)
        return -1;
    if (!isfinite(value))
        return nn_fail(error, "attribute \"%s\" is not finite", name);
    if (!within(a, value))
        return nn_fail(error, "attribute \"%s\" is %.15g to %.15g, got %.15g", name, a->min,
                       a->max, value);
    *field = value;
    return 0;
}

int op_set_ints(const struct op *op, void *attributes, const char *name, const int64_t *values,
                int n, struct nn_error *error)
{
    const struct op_attribute *a;
    struct op_ints *field = field_to_set(op, attributes, name, OP_INTS, &a, error);
    if (!field)
        return -1;
    if (n < 0 || n > OP_MAX_INTS)
        return nn_fail(error, "attribute \"%s\" has at most %d integers, got %d", name,
                       (int)OP_MAX_INTS, n);
    for (int i = 0; i < n; i++)
        if (!within(a, (double)values[i]))
            return nn_fail(error, "attribute \"%s\"[%d] is %.15g to %.15g, got %" PRId64, name,
                           i, a->min, a->max, values[i]);
    field->n = n;
    for (int i = 0; i < n; i++)
        field->values[i] = values[i];
    return 0;
}

int op_set_string(const struct op *op, void *attributes, const char *name, const char *value,
                  struct nn_error *error)
{
    const struct op_attribute *a;
    int *field = field_to_set(op, attributes, name, OP_CHOICE, &a, error);
    if (!field)
        return -1;
    for (int i = 0; a->choices[i]; i++)
        if (strcmp(a->choices[i], value) == 0) {
            *field = i;
            return 0;
        }

    char list[256] = "";
    size_t at = 0;
    for (int i = 0; a->choices[i] && at < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s\"%s\"", i ? ", " : "",
                               a->choices[i]);
    return nn_fail(error, "attribute \"%s\" is one of %s, got \"%s\"", name, list, value);
}

/* helpers of infer */

int op_broadcast_batch(const struct op_value *const *inputs, int n, const struct nn_shape *out)
{
    int batch = BATCH_NONE;
    for (int i = 0; i < n; i++) {
        if (!inputs[i] || inputs[i]->batch == BATCH_NONE)
            continue;
        if (inputs[i]->batch == BATCH_LOST)
            return BATCH_LOST;
        int axis = inputs[i]->batch + out->rank - inputs[i]->shape.rank;
        if (batch != BATCH_NONE && batch != axis)
            return BATCH_LOST;
        batch = axis;
    }
    if (batch == BATCH_NONE)
        return BATCH_NONE;

    /* What is the same for every batch must be the same for every row of it, too. */
    for (int i = 0; i < n; i++) {
        if (!inputs[i] || inputs[i]->batch != BATCH_NONE)
            continue;
        int axis = batch - (out->rank - inputs[i]->shape.rank);
        if (axis >= 0 && inputs[i]->shape.dims[axis] != 1)
            return BATCH_LOST;
    }
    return batch;
}

void op_infer_same(struct op_inference *inference)
{
    const struct op_value *x = inference->inputs[0];
    inference->outputs[0] = (struct op_value){
        .datatype = x->datatype, .shape = x->shape, .batch = x->batch};
}

int op_need(const struct op_inference *inference, int i, const char *name,
            enum nn_datatype datatype, struct nn_error *error)
{
    const struct op_value *input = i < inference->n_inputs ? inference->inputs[i] : NULL;
    if (input && input->datatype != datatype)
        return nn_fail(error, "%s must be %s, not %s", name, nn_datatype_name(datatype),
                       nn_datatype_name(input->datatype));
    return 0;
}

int op_need_arithmetic(enum nn_datatype datatype, const char *name, struct nn_error *error)
{
    if (datatype != NN_FP16 && datatype != NN_BF16 && datatype != NN_BOOL)
        return 0;
    return nn_fail(error, "%s cannot be %s: Cast first", name, nn_datatype_name(datatype));
}

int op_axis(int64_t axis, int rank, int *out, struct nn_error *error)
{
    if (axis < -rank || axis >= rank)
        return nn_fail(error, "axis %" PRId64 " is outside a tensor of rank %d", axis, rank);
    *out = (int)(axis < 0 ? axis + rank : axis);
    return 0;
}
