/*
 * Bodies of predict requests: the first byte chooses the model and the rows of memory that
 * are lent. What is accepted is JSON to Jansson, too, and so is the answer to it.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/model.h"
#include "server/json_tensor.h"
#include <jansson.h>
#include <string.h>

enum { MAX_ROWS = 8, LENT = 3, ROOM = 4096 };

static const struct port {
    enum nn_datatype datatype;
    struct nn_shape shape;
} ports[][3] = {
    {{NN_FP32, {2, {-1, 3}}}},
    {{NN_FP32, {4, {-1, 1, 2, 3}}}},
    {{NN_FP32, {2, {-1, 2}}}, {NN_INT64, {1, {-1}}}, {NN_BOOL, {2, {-1, 1}}}},
    {{NN_FP32, {1, {-1}}}},
    {{NN_FP32, {2, {2, 2}}}},
    {{NN_FP32, {0, {0}}}},
    {{NN_FP32, {2, {-1, 2}}}, {NN_INT32, {1, {2}}}},
    {{NN_UINT8, {2, {-1, 2}}}},
    {{NN_INT32, {3, {-1, 2, 1}}}},
};

enum { N_MODELS = sizeof ports / sizeof ports[0] };

static struct nn_model *models[N_MODELS];
static struct nn_session *sessions[N_MODELS];

/* Identities: inputs x0, x1 ... become outputs y0, y1 ... */
static struct nn_model *make_model(const struct port *port)
{
    struct bundle bundle = {.graph = graph_new()};
    for (int i = 0; i < 3 && (i == 0 || port[i].shape.rank > 0); i++) {
        char in[] = {'x', (char)('0' + i), 0}, out[] = {'y', (char)('0' + i), 0};
        int x = graph_add_input(bundle.graph, in, port[i].datatype, &port[i].shape, NULL);
        int y = graph_add_node(bundle.graph, op_find("Identity"), NULL, out, 1, &x, NULL);
        MUST(graph_add_output(bundle.graph, y, NULL) >= 0);
    }
    MUST(graph_infer(bundle.graph, 1, NULL) == 0);
    struct nn_error error = {""};
    struct nn_model *model = model_from_bundle(&bundle, &error);
    fputs(error.text, stderr);
    MUST(model);
    return model;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    nn_engine_start();
    for (int i = 0; i < N_MODELS; i++) {
        models[i] = make_model(ports[i]);
        sessions[i] = nn_session_new(models[i], MAX_ROWS, NULL);
        MUST(sessions[i]);
    }
    return 0;
}

static bool is_json(const char *text, size_t size)
{
    json_t *value = json_loadb(text, size, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    json_decref(value);
    return value;
}

static size_t bytes_of(const struct nn_port *port, int64_t rows)
{
    size_t n = nn_datatype_size(port->datatype);
    for (int i = 0; i < port->shape.rank; i++)
        n *= (size_t)(port->shape.dims[i] < 0 ? rows : port->shape.dims[i]);
    return n;
}

/* The identities answer with what was read. */
static void answer(int m, const struct tensor_rows *rows)
{
    const struct nn_model *model = models[m];
    struct nn_tensor outputs[TENSOR_MAX_PORTS];
    struct nn_error error = {""};
    struct buffer out = {0};

    for (int i = 0; i < nn_model_n_inputs(model); i++)
        memcpy(nn_session_input(sessions[m], i), rows->data[i],
               bytes_of(nn_model_input(model, i), rows->n));
    if (nn_session_run(sessions[m], rows->n, &error) < 0) {
        MUST(nn_model_unbatched(model) && error.text[0]);
        return;
    }
    for (int i = 0; i < nn_model_n_outputs(model); i++) {
        outputs[i] = *nn_session_output(sessions[m], i);
        MUST(memcmp(outputs[i].data, rows->data[i],
                    bytes_of(nn_model_input(model, i), rows->n)) == 0);
    }
    MUST(json_write_predictions(&out, model, outputs, 0, rows->n, &error) == 0);
    MUST(!out.failed && is_json(out.data, out.size));
    buffer_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char lent[3][ROOM];
    if (size < 1)
        return 0;
    int m = data[0] % N_MODELS;
    struct tensor_rows rows = {.model = models[m], .capacity = data[0] / N_MODELS % (LENT + 1)};
    for (int i = 0; i < nn_model_n_inputs(models[m]) && rows.capacity > 0; i++)
        rows.data[i] = lent[i];
    struct nn_error error = {""};
    const char *body = (const char *)data + 1;
    int status = json_rows_read(&rows, body, size - 1, MAX_ROWS, &error);
    if (status == 0) {
        MUST(rows.n >= 1 && rows.n <= MAX_ROWS && rows.n <= rows.capacity);
        MUST(is_json(body, size - 1));
        answer(m, &rows);
        tensor_rows_release(&rows);
    } else {
        MUST((status == 400 || status == 500) && error.text[0] && !rows.owned);
    }
    return 0;
}
