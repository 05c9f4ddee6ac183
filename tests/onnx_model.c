#include "tests/onnx_model.h"

#include "tests/protobuf.h"

#include <inttypes.h>
#include <string.h>

static enum onnx_result failed(struct nn_error *error, const char *what)
{
    nn_fail(error, "%s", what);
    return ONNX_FAILED;
}

/* What the bytes of a field hold, ended by 0; kept by the graph. */
static const char *text_of(struct graph *g, const struct wire_field *field)
{
    size_t n = (size_t)(field->bytes.end - field->bytes.at);
    char *text = graph_allocate(g, n + 1);
    if (!text)
        return "";
    if (n > 0)
        memcpy(text, field->bytes.at, n);
    return text;
}

/* tensors: onnx.proto's TensorProto */

static const struct {
    const char *name;
    int datatype;               /* -1: not ours */
    size_t size;                /* in raw_data */
} onnx_types[] = {
    {"UNDEFINED", -1, 0},      {"FLOAT", NN_FP32, 4},    {"UINT8", NN_UINT8, 1},
    {"INT8", NN_INT8, 1},      {"UINT16", NN_UINT16, 2}, {"INT16", NN_INT16, 2},
    {"INT32", NN_INT32, 4},    {"INT64", NN_INT64, 8},   {"STRING", -1, 0},
    {"BOOL", NN_BOOL, 1},      {"FLOAT16", NN_FP16, 2},  {"DOUBLE", NN_FP64, 8},
    {"UINT32", NN_UINT32, 4},  {"UINT64", NN_UINT64, 8}, {"COMPLEX64", -1, 8},
    {"COMPLEX128", -1, 16},    {"BFLOAT16", NN_BF16, 2},
};

enum { N_ONNX_TYPES = sizeof onnx_types / sizeof *onnx_types };

/* Element i of a tensor from its little-endian bits. */
static void store(struct nn_tensor *tensor, int64_t i, uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    size_t size = nn_datatype_size(tensor->datatype);
    float real;
    if (tensor->datatype == NN_FP32) {
        memcpy(&real, &low, sizeof real);
        ((nn_real *)tensor->data)[i] = real;
    } else {                    /* of a little-endian machine, as the bundle's format is */
        memcpy((char *)tensor->data + (size_t)i * size, &bits, size);
    }
}

static enum onnx_result read_tensor(struct graph *g, struct wire w, struct nn_tensor *tensor,
                                    const char **name, struct nn_error *error)
{
    enum { DIMS = 1, DATA_TYPE = 2, FLOAT_DATA = 4, INT32_DATA = 5, INT64_DATA = 7, NAME = 8,
           RAW_DATA = 9, DOUBLE_DATA = 10, UINT64_DATA = 11 };
    struct wire whole = w;
    struct wire_field field;
    uint64_t type = 0, value;

    *tensor = (struct nn_tensor){0};
    *name = "";
    while (wire_next(&w, &field)) {
        if (field.number == NAME && field.type == WIRE_BYTES)
            *name = text_of(g, &field);
        if (field.number == DATA_TYPE)
            type = field.value;
        while (field.number == DIMS && wire_value(&field, WIRE_VARINT, &value)) {
            if (tensor->shape.rank == NN_MAX_RANK)
                return failed(error, "a tensor of too many dimensions");
            tensor->shape.dims[tensor->shape.rank++] = (int64_t)value;
        }
    }
    if (w.bad || type >= N_ONNX_TYPES)
        return failed(error, "a tensor is damaged");
    if (onnx_types[type].datatype < 0) {
        nn_fail(error, "a tensor of %s", onnx_types[type].name);
        return ONNX_NO_TYPE;
    }
    tensor->datatype = (enum nn_datatype)onnx_types[type].datatype;

    int64_t n = shape_elements(&tensor->shape), i = 0;
    size_t size = onnx_types[type].size;
    if (n < 0 || n > 1 << 28)
        return failed(error, "a tensor of an impossible size");
    tensor->data = graph_allocate(g, (size_t)n * nn_datatype_size(tensor->datatype));
    if (!tensor->data)
        return failed(error, "out of memory");

    for (w = whole; wire_next(&w, &field);) {
        if (field.number == RAW_DATA && field.type == WIRE_BYTES) {
            for (const uint8_t *at = field.bytes.at;
                 i < n && (size_t)(field.bytes.end - at) >= size; at += size) {
                uint64_t bits = 0;
                for (size_t byte = 0; byte < size; byte++)
                    bits |= (uint64_t)at[byte] << 8 * byte;
                store(tensor, i++, bits);
            }
        } else if (field.number == FLOAT_DATA) {
            while (i < n && wire_value(&field, WIRE_FIXED32, &value))
                store(tensor, i++, value);
        } else if (field.number == DOUBLE_DATA) {
            while (i < n && wire_value(&field, WIRE_FIXED64, &value))
                store(tensor, i++, value);
        } else if (field.number == INT32_DATA || field.number == INT64_DATA ||
                   field.number == UINT64_DATA) {
            while (i < n && wire_value(&field, WIRE_VARINT, &value))
                store(tensor, i++, value);
        }
    }
    return i == n ? ONNX_PASSED : failed(error, "a tensor has too few elements");
}

enum onnx_result onnx_read_tensor(struct graph *g, const uint8_t *bytes, size_t n,
                                  struct nn_tensor *tensor, struct nn_error *error)
{
    const char *name;
    return read_tensor(g, (struct wire){.at = bytes, .end = bytes + n}, tensor, &name, error);
}

/* attributes: AttributeProto */

struct attribute {
    const char *name;
    uint64_t type;
    double real;
    int64_t integer;
    const char *string;
    struct wire tensor;
    int64_t integers[OP_MAX_INTS];
    int n_integers;
};

enum { ATTRIBUTE_FLOAT = 1, ATTRIBUTE_INT = 2, ATTRIBUTE_STRING = 3, ATTRIBUTE_TENSOR = 4,
       ATTRIBUTE_INTS = 7 };

static bool read_attribute(struct graph *g, struct wire w, struct attribute *a)
{
    enum { NAME = 1, F = 2, I = 3, S = 4, T = 5, INTS = 8, TYPE = 20 };
    struct wire_field field;
    uint64_t value;
    float real;

    *a = (struct attribute){.name = "", .string = ""};
    while (wire_next(&w, &field)) {
        uint32_t low = (uint32_t)field.value;
        if (field.number == NAME && field.type == WIRE_BYTES)
            a->name = text_of(g, &field);
        else if (field.number == S && field.type == WIRE_BYTES)
            a->string = text_of(g, &field);
        else if (field.number == F && field.type == WIRE_FIXED32)
            a->real = (double)*(float *)memcpy(&real, &low, sizeof real);
        else if (field.number == I)
            a->integer = (int64_t)field.value;
        else if (field.number == T)
            a->tensor = field.bytes;
        else if (field.number == TYPE)
            a->type = field.value;
        while (field.number == INTS && wire_value(&field, WIRE_VARINT, &value)) {
            if (a->n_integers == OP_MAX_INTS)
                return false;
            a->integers[a->n_integers++] = (int64_t)value;
        }
    }
    return !w.bad;
}

static int set_attribute(const struct op *op, void *attributes, const struct attribute *a,
                         struct nn_error *error)
{
    switch (a->type) {
    case ATTRIBUTE_FLOAT:
        return op_set_float(op, attributes, a->name, a->real, error);
    case ATTRIBUTE_INT:
        return op_set_int(op, attributes, a->name, a->integer, error);
    case ATTRIBUTE_STRING:
        return op_set_string(op, attributes, a->name, a->string, error);
    case ATTRIBUTE_INTS:
        return op_set_ints(op, attributes, a->name, a->integers, a->n_integers, error);
    default:
        return nn_fail(error, "attribute \"%s\" is of no type that we have", a->name);
    }
}

/* nodes: NodeProto */

/* The first operator set in which an operation has the meaning of set 17, as far as a model
 * that is valid in its own set can tell. */
static const struct {
    const char *name;
    int opset;
} first_opsets[] = {
    {"Gemm", 7},        {"Add", 7},           {"Sub", 7},      {"Mul", 7},
    {"Div", 7},         {"Pow", 7},           {"Sqrt", 6},     {"Exp", 6},
    {"Log", 6},         {"Neg", 6},           {"Clip", 11},    {"Relu", 6},
    {"LeakyRelu", 6},   {"Sigmoid", 6},       {"Tanh", 6},     {"Softmax", 13},
    {"LogSoftmax", 13}, {"AveragePool", 7},   {"BatchNormalization", 9},
    {"Dropout", 12},    {"Reshape", 5},       {"Concat", 4},   {"Cast", 6},
    {"ReduceSum", 13},
};

static uint64_t first_opset(const char *name)
{
    for (size_t i = 0; i < sizeof first_opsets / sizeof *first_opsets; i++)
        if (strcmp(first_opsets[i].name, name) == 0)
            return (uint64_t)first_opsets[i].opset;
    return 1;
}

struct node {
    const char *type, *domain;
    const char *inputs[ONNX_MAX_PORTS], *outputs[ONNX_MAX_PORTS];
    int n_inputs, n_outputs;
};

static bool read_node(struct graph *g, struct wire w, struct node *node)
{
    enum { INPUT = 1, OUTPUT = 2, OP_TYPE = 4, DOMAIN = 7 };
    struct wire_field field;
    *node = (struct node){.type = "", .domain = ""};
    while (wire_next(&w, &field)) {
        if (field.type != WIRE_BYTES || field.number > DOMAIN)
            continue;
        if (node->n_inputs == ONNX_MAX_PORTS || node->n_outputs == ONNX_MAX_PORTS)
            return false;
        if (field.number == INPUT)
            node->inputs[node->n_inputs++] = text_of(g, &field);
        else if (field.number == OUTPUT)
            node->outputs[node->n_outputs++] = text_of(g, &field);
        else if (field.number == OP_TYPE)
            node->type = text_of(g, &field);
        else if (field.number == DOMAIN)
            node->domain = text_of(g, &field);
    }
    return !w.bad;
}

static enum onnx_result add_constant(struct graph *g, struct wire w, const char *name,
                                     struct nn_error *error)
{
    struct nn_tensor tensor;
    const char *own_name;
    enum onnx_result result = read_tensor(g, w, &tensor, &own_name, error);
    if (result == ONNX_PASSED &&
        graph_add_constant(g, name ? name : own_name, &tensor, error) < 0)
        result = ONNX_FAILED;
    return result;
}

static bool next_attribute(struct graph *g, struct wire *w, struct attribute *a)
{
    enum { ATTRIBUTE = 5 };
    struct wire_field field;
    while (wire_next(w, &field))
        if (field.number == ATTRIBUTE && field.type == WIRE_BYTES)
            return read_attribute(g, field.bytes, a);
    return false;
}

/* The one operation that is none: a node Constant is a constant of the graph. */
static enum onnx_result add_constant_node(struct graph *g, struct wire w,
                                          const struct node *node, struct nn_error *error)
{
    struct attribute a;
    if (node->n_outputs != 1 || !next_attribute(g, &w, &a) || a.type != ATTRIBUTE_TENSOR) {
        nn_fail(error, "a Constant that is no tensor");
        return ONNX_NO_TYPE;
    }
    return add_constant(g, a.tensor, node->outputs[0], error);
}

static enum onnx_result check_node(struct graph *g, struct wire w, uint64_t opset,
                                   struct nn_error *error)
{
    struct node node;
    if (!read_node(g, w, &node))
        return failed(error, "a node is damaged");
    if (strcmp(node.type, "Constant") == 0)
        return ONNX_PASSED;
    if (!op_find(node.type) || node.domain[0]) {
        nn_fail(error, "operator %s", node.type);
        return ONNX_NO_OPERATOR;
    }
    if (opset < first_opset(node.type)) {
        nn_fail(error, "%s of operator set %" PRIu64, node.type, opset);
        return ONNX_OTHER_OPSET;
    }
    return ONNX_PASSED;
}

static enum onnx_result add_node(struct graph *g, struct wire w, struct nn_error *error)
{
    struct node node;
    struct attribute a;
    if (!read_node(g, w, &node))
        return failed(error, "a node is damaged");
    if (strcmp(node.type, "Constant") == 0)
        return add_constant_node(g, w, &node, error);

    const struct op *op = op_find(node.type);
    void *attributes = op ? graph_allocate(g, op->attributes_size) : NULL;
    if (!attributes)
        return failed(error, "no such operator, or no memory");
    op_attributes_init(op, attributes);
    while (next_attribute(g, &w, &a)) {
        if (strcmp(a.name, "training_mode") == 0 && a.integer != 0) {
            nn_fail(error, "%s in training", node.type);
            return ONNX_NO_TRAINING;
        }
        if (set_attribute(op, attributes, &a, error) != 0)
            return ONNX_FAILED;
    }

    int inputs[ONNX_MAX_PORTS];
    for (int i = 0; i < node.n_inputs; i++) {
        inputs[i] = node.inputs[i][0] ? graph_find(g, node.inputs[i]) : GRAPH_NONE;
        if (node.inputs[i][0] && inputs[i] < 0)
            return failed(error, "a node has an unknown input");
    }
    return graph_add_node_outputs(g, op, attributes, node.n_outputs, node.outputs,
                                  node.n_inputs, inputs, error) < 0
               ? ONNX_FAILED
               : ONNX_PASSED;
}

/* graphs: GraphProto and ModelProto */

enum { GRAPH_NODE = 1, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };

/* ValueInfoProto: the name, whether it is a tensor, and of what. */
static const char *value_name(struct graph *g, struct wire value_info, bool *is_tensor,
                              uint64_t *element)
{
    enum { NAME = 1, TYPE = 2, TENSOR_TYPE = 1, ELEMENT_TYPE = 1 };
    struct wire_field field, type, part;
    const char *name = "";
    *is_tensor = false;
    *element = 0;
    while (wire_next(&value_info, &field)) {
        if (field.number == NAME && field.type == WIRE_BYTES)
            name = text_of(g, &field);
        while (field.number == TYPE && wire_next(&field.bytes, &type)) {
            *is_tensor |= type.number == TENSOR_TYPE;
            while (type.number == TENSOR_TYPE && wire_next(&type.bytes, &part))
                *element = part.number == ELEMENT_TYPE ? part.value : *element;
        }
    }
    return name;
}

/* Older models list their initializers among the inputs, too. */
static enum onnx_result add_inputs(struct graph *g, struct wire w,
                                   const struct nn_tensor *inputs, int n_inputs,
                                   int n_variable, struct nn_error *error)
{
    struct wire_field field;
    int n = 0;
    while (wire_next(&w, &field)) {
        if (field.number != GRAPH_INPUT || field.type != WIRE_BYTES)
            continue;
        bool is_tensor;
        uint64_t element;
        const char *name = value_name(g, field.bytes, &is_tensor, &element);
        if (graph_find(g, name) >= 0)
            continue;
        if (n == n_inputs)
            return failed(error, "the case has fewer inputs than its model");
        struct nn_tensor input = inputs[n];
        const struct nn_tensor *x = &input;
        if (element < N_ONNX_TYPES && onnx_types[element].datatype == NN_BF16)
            input.datatype = NN_BF16;   /* numpy, which wrote the files, has none: UINT16 */
        bool variable = n++ < n_variable && shape_elements(&x->shape) > 0;
        int value = variable ? graph_add_input(g, name, x->datatype, &x->shape, error)
                             : graph_add_constant(g, name, x, error);
        if (value < 0)
            return ONNX_FAILED;
    }
    return ONNX_PASSED;
}

/* The graph's bytes and the operator set; false: the model is damaged. */
static bool open_model(struct wire w, struct wire *graph, uint64_t *opset)
{
    enum { GRAPH = 7, OPSET_IMPORT = 8, DOMAIN = 1, VERSION = 2 };
    struct wire_field field, part;

    *graph = (struct wire){0};
    *opset = 1;
    while (wire_next(&w, &field)) {
        if (field.number == GRAPH)
            *graph = field.bytes;
        if (field.number != OPSET_IMPORT)
            continue;
        bool own_domain = false;
        uint64_t version = 0;
        while (wire_next(&field.bytes, &part)) {
            own_domain |= part.number == DOMAIN && part.bytes.at != part.bytes.end;
            version = part.number == VERSION ? part.value : version;
        }
        if (!own_domain)
            *opset = version;
    }
    return !w.bad && graph->at;
}

enum onnx_result onnx_check_model(struct graph *g, const uint8_t *bytes, size_t n,
                                  struct nn_error *error)
{
    struct wire w;
    struct wire_field field;
    uint64_t opset;
    enum onnx_result result = ONNX_PASSED;
    if (!open_model((struct wire){.at = bytes, .end = bytes + n}, &w, &opset))
        return failed(error, "the model is damaged");
    while (result == ONNX_PASSED && wire_next(&w, &field)) {
        bool is_tensor = true;
        uint64_t element;
        if (field.number == GRAPH_NODE)
            result = check_node(g, field.bytes, opset, error);
        else if (field.number == GRAPH_INPUT || field.number == GRAPH_OUTPUT)
            value_name(g, field.bytes, &is_tensor, &element);
        if (!is_tensor) {
            nn_fail(error, "a value that is no tensor");
            result = ONNX_NO_TYPE;
        }
    }
    return result == ONNX_PASSED && w.bad ? failed(error, "the graph is damaged") : result;
}

enum onnx_result onnx_read_model(struct graph *g, const uint8_t *bytes, size_t n,
                                 const struct nn_tensor *inputs, int n_inputs,
                                 int n_variable, struct nn_error *error)
{
    struct wire w;
    struct wire_field field;
    uint64_t opset;
    enum onnx_result result = ONNX_PASSED;
    if (!open_model((struct wire){.at = bytes, .end = bytes + n}, &w, &opset))
        return failed(error, "the model is damaged");

    for (struct wire at = w; result == ONNX_PASSED && wire_next(&at, &field);)
        if (field.number == GRAPH_INITIALIZER)
            result = add_constant(g, field.bytes, NULL, error);
    if (result == ONNX_PASSED)
        result = add_inputs(g, w, inputs, n_inputs, n_variable, error);
    for (struct wire at = w; result == ONNX_PASSED && wire_next(&at, &field);)
        if (field.number == GRAPH_NODE)
            result = add_node(g, field.bytes, error);
    while (result == ONNX_PASSED && wire_next(&w, &field)) {
        bool is_tensor;
        uint64_t element;
        if (field.number == GRAPH_OUTPUT &&
            graph_add_output(g, graph_find(g, value_name(g, field.bytes, &is_tensor, &element)),
                             error) < 0)
            result = ONNX_FAILED;
    }
    return result == ONNX_PASSED && w.bad ? failed(error, "the graph is damaged") : result;
}
