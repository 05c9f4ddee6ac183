#include "tests/fuzz/identities.h"

#include "engine/model.h"
#include <jansson.h>
#include <string.h>

enum { LENT = 3, ROOM = 4096 };

static const struct port {
    enum nn_datatype datatype;
    struct nn_shape shape;
} ports[IDENTITIES][3] = {
    {{NN_FP32, {2, {-1, 3}}}},
    {{NN_FP32, {4, {-1, 1, 2, 3}}}},
    {{NN_FP32, {2, {-1, 2}}}, {NN_INT64, {1, {-1}}}, {NN_BOOL, {2, {-1, 1}}}},
    {{NN_FP32, {1, {-1}}}},
    {{NN_FP32, {2, {2, 2}}}},
    {{NN_FP32, {0, {0}}}},
    {{NN_FP32, {2, {-1, 2}}}, {NN_INT32, {1, {2}}}},
    {{NN_UINT8, {2, {-1, 2}}}},
    {{NN_INT32, {3, {-1, 2, 1}}}},
    {{NN_FP64, {2, {-1, 2}}}, {NN_UINT64, {1, {-1}}}, {NN_INT16, {2, {-1, 1}}}},
    {{NN_FP16, {2, {-1, 2}}}, {NN_BF16, {1, {-1}}}},
    {{NN_INT8, {2, {-1, 3}}}, {NN_UINT16, {1, {-1}}}, {NN_UINT32, {2, {-1, 2}}}},
};

static struct served models[IDENTITIES];
static struct nn_session *sessions[IDENTITIES];

/* Inputs x0, x1 ... become outputs y0, y1 ... */
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

void identities_open(void)
{
    nn_engine_start();
    for (int i = 0; i < IDENTITIES; i++) {
        models[i] = (struct served){.name = "m", .version = 1, .model = make_model(ports[i])};
        sessions[i] = nn_session_new(models[i].model, IDENTITIES_ROWS, NULL);
        MUST(sessions[i]);
    }
}

struct tensor_rows identities_rows(uint8_t byte, const struct served **served)
{
    static char lent[3][ROOM];
    *served = &models[byte % IDENTITIES];
    struct tensor_rows rows = {.model = (*served)->model,
                               .capacity = byte / IDENTITIES % (LENT + 1)};
    for (int i = 0; i < nn_model_n_inputs(rows.model) && rows.capacity > 0; i++)
        rows.data[i] = lent[i];
    return rows;
}

static size_t bytes_of(const struct nn_port *port, int64_t rows)
{
    size_t n = nn_datatype_size(port->datatype);
    for (int i = 0; i < port->shape.rank; i++)
        n *= (size_t)(port->shape.dims[i] < 0 ? rows : port->shape.dims[i]);
    return n;
}

bool identities_run(const struct served *served, const struct tensor_rows *rows,
                    struct nn_tensor outputs[TENSOR_MAX_PORTS])
{
    const struct nn_model *model = served->model;
    struct nn_session *session = sessions[served - models];
    struct nn_error error = {""};

    MUST(rows->n >= 1 && rows->n <= IDENTITIES_ROWS && rows->n <= rows->capacity);
    for (int i = 0; i < nn_model_n_inputs(model); i++)
        memcpy(nn_session_input(session, i), rows->data[i],
               bytes_of(nn_model_input(model, i), rows->n));
    if (nn_session_run(session, rows->n, &error) < 0) {
        MUST(nn_model_unbatched(model) && error.text[0]);
        return false;
    }
    for (int i = 0; i < nn_model_n_outputs(model); i++) {
        outputs[i] = *nn_session_output(session, i);
        MUST(memcmp(outputs[i].data, rows->data[i],
                    bytes_of(nn_model_input(model, i), rows->n)) == 0);
    }
    return true;
}

bool fuzz_is_json(const char *text, size_t size)
{
    json_t *value = json_loadb(text, size, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    json_decref(value);
    return value;
}
