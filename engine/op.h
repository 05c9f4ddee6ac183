/*
 * The contract of an operation.
 *
 * An operation has the name, inputs, attributes, defaults and meaning of the ONNX operator of
 * that name, opset 17. It lives in one place, engine/ops/<family>.c: equation and shapes in a
 * comment, attributes as rows of data, infer, forward, and below a rule line its gradient.
 * engine/ops.def lists all of them, once.
 */
#ifndef ENGINE_OP_H
#define ENGINE_OP_H

#include "engine/tensor.h"

/* attributes */

enum op_attribute_kind {
    OP_INT,                     /* int64_t */
    OP_FLOAT,                   /* double */
    OP_INTS,                    /* struct op_ints */
    OP_CHOICE,                  /* int: the index into choices */
};

enum { OP_MAX_INTS = 2 * NN_MAX_RANK };

struct op_ints {
    int n;                      /* 0: not given */
    int64_t values[OP_MAX_INTS];
};

/* One row: an attribute is named here once, and is read, checked, written and defaulted by
 * generic code. min and max bound a number and each of ints, unless both are 0. */
struct op_attribute {
    const char *name;           /* NULL ends the rows */
    enum op_attribute_kind kind;
    size_t offset;              /* in the operation's attributes structure */
    double initial, min, max;
    const char *const *choices; /* OP_CHOICE: its names, ended by NULL */
    bool required;
};

/* types and shapes */

/* Which axis of a tensor is the batch: an axis >= 0, or one of these. */
enum {
    BATCH_NONE = -1,            /* the same for every batch: constants and what follows */
    BATCH_LOST = -2,            /* rows were mixed: the batch cannot be told apart any more */
};

/* What is known of a tensor before anything runs. Shapes are always concrete: inference is
 * done for one batch size at a time. */
struct op_value {
    enum nn_datatype datatype;
    struct nn_shape shape;
    int batch;
    const void *constant;       /* its elements where they are known, else NULL */
};

struct op_inference {
    const void *attributes;
    int64_t batch;                          /* rows: the size of every batch axis */
    int n_inputs, n_outputs;
    const struct op_value *const *inputs;   /* NULL: an optional input was left out */
    struct op_value *outputs;               /* to be filled in, batch included */
    bool packed;                            /* forward will find what op->pack() wrote */

    /* To be set where they are not 0. */
    size_t saved;               /* bytes that forward leaves for the gradient (training only) */
    size_t scratch;             /* bytes of passing memory that forward needs */
    size_t gradient_scratch;    /* the same for the gradient */
    double flops;               /* multiplications and additions of one run */
};

/* running */

/* An activation that the optimiser moved into the operation before it; see OP_EPILOGUE. */
enum op_activation { ACTIVATION_NONE, ACTIVATION_RELU, ACTIVATION_LEAKY_RELU,
                     ACTIVATION_SIGMOID, ACTIVATION_TANH, ACTIVATION_CLIP };

struct op_epilogue {
    enum op_activation activation;
    nn_real alpha, beta;        /* LeakyRelu: slope; Clip: minimum, maximum */
};

/* Present while training. */
struct op_training {
    uint64_t key;               /* of the random stream of this node in this step */
    int64_t row;                /* of the whole batch at which this slice begins: what is
                                   drawn for a row must not depend on how a batch was cut */
};

/* One run of a node. Shapes were inferred: nothing here can fail. Tensors are NULL where an
 * optional one was left out or (gradients) where nobody wants it. */
struct op_call {
    const void *attributes;
    int n_inputs, n_outputs;
    const struct nn_tensor *const *inputs;
    struct nn_tensor *const *outputs;
    struct op_epilogue epilogue;            /* only for operations with OP_EPILOGUE */
    const void *packed;                     /* input 1 as op->pack() wrote it; or NULL */
    void *saved;                            /* NULL outside training */
    void *scratch;
    const struct op_training *training;     /* NULL: inference */
    int part, n_parts;                      /* OP_BATCH_STATISTICS: which share of the
                                               channels to do, 0 of 1 elsewhere */

    /* Only for the gradient, which reads inputs, outputs and saved as forward left them and
     * adds to d_inputs. */
    const struct nn_tensor *const *d_outputs;
    struct nn_tensor *const *d_inputs;
};

enum op_flags {
    OP_VIEW = 1,                /* output 0 has input 0's elements in their order: when both
                                   have the same memory there is nothing to do */
    OP_IN_PLACE = 2,            /* output 0 may be written over input 0 (same size) */
    OP_EPILOGUE = 4,            /* forward applies call->epilogue to output 0 */
    OP_BATCH_STATISTICS = 8,    /* in training it works on the whole batch at once, by
                                   channels: call->part of call->n_parts; `saved` begins with
                                   mean [C] and variance [C] of the batch, as nn_real */
    OP_VARIADIC = 16,           /* any number of inputs from min_inputs on */
};

struct op {
    const char *name;
    int min_inputs, max_inputs;
    int min_outputs, max_outputs;
    unsigned flags;
    size_t attributes_size;
    const struct op_attribute *attributes;  /* NULL: it has none */

    /* Fills in `outputs`; pure. The text of a failure says what was expected and what came,
     * without the node's name, which the caller puts before it. */
    int (*infer)(struct op_inference *inference, struct nn_error *error);
    void (*forward)(const struct op_call *call);

    /* Writes the constant input 1 in the order that suits the kernels in use, once, for
     * forward to find in call->packed; returns the bytes that this takes. With `packed` NULL
     * it only tells them; 0: forward takes the constant as it is. NULL: the operation has
     * nothing to pack. */
    size_t (*pack)(const void *attributes, const struct op_value *input, void *packed);
};

/* Adds to the gradients of the inputs that are wanted. Defined next to the operation, but
 * never pointed at by it: the server links none. trainer/autodiff.c has the table. */
typedef void op_gradient(const struct op_call *call);

/* the table of operations */

extern const struct op *const op_table[];   /* in the order of ops.def, ended by NULL */

const struct op *op_find(const char *name); /* NULL: there is none */
const char *op_nearest(const char *name);   /* the most similar name, for error messages */

/* Attributes at their defaults into op->attributes_size bytes. */
void op_attributes_init(const struct op *op, void *attributes);

/* Set one attribute by name, checked against its row. */
int op_set_int(const struct op *op, void *attributes, const char *name, int64_t value,
               struct nn_error *error);
int op_set_float(const struct op *op, void *attributes, const char *name, double value,
                 struct nn_error *error);
int op_set_ints(const struct op *op, void *attributes, const char *name,
                const int64_t *values, int n, struct nn_error *error);
int op_set_string(const struct op *op, void *attributes, const char *name,
                  const char *value, struct nn_error *error);

/* The row of an attribute, or NULL. */
const struct op_attribute *op_find_attribute(const struct op *op, const char *name);

/* helpers of infer */

/* The batch axis of an element-wise result of shape `out`: where the inputs (NULL allowed)
 * that carry the batch agree, else BATCH_LOST. */
int op_broadcast_batch(const struct op_value *const *inputs, int n,
                       const struct nn_shape *out);

/* Copies datatype, shape and batch of input 0 to output 0. */
void op_infer_same(struct op_inference *inference);

/* That input i, which ONNX calls `name`, has this datatype; left out, it has. */
int op_need(const struct op_inference *inference, int i, const char *name,
            enum nn_datatype datatype, struct nn_error *error);

/* That `name` has a datatype that is calculated with besides FP32: FP64 or an integer. */
int op_need_arithmetic(enum nn_datatype datatype, const char *name, struct nn_error *error);

/* Axis in [-rank, rank) to [0, rank). -1 with an error otherwise. */
int op_axis(int64_t axis, int rank, int *out, struct nn_error *error);

#endif
