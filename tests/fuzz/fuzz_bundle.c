/*
 * Bundles. Bytes that begin with '{' are the parts of one, so that a change of the graph does
 * not spoil everything that depends on its length: a line with the graph's JSON, and a line
 * for each tensor, "name dtype dim dim ... = element element ..." (elements that are missing
 * are made up). All other bytes are the file. What is accepted runs, unless that takes long.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/datatype.h"
#include "engine/model.h"
#include "server/buffer.h"
#include <string.h>

enum { MAX_BYTES = 64 << 10, MAX_RUN_FLOPS = 4000000, MAX_RUN_BYTES = 16 << 20 };

static struct fuzz_file file;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    nn_engine_start();
    fuzz_file_open(&file);
    return 0;
}

/* putting a file together */

/* What it is in the engine, by the name that safetensors have for it; -1: nothing. */
static int find_dtype(const char *dtype)
{
    static const char *const names[NN_DATATYPES] = {
        [NN_FP32] = "F32", [NN_FP64] = "F64", [NN_FP16] = "F16",   [NN_BF16] = "BF16",
        [NN_INT8] = "I8",  [NN_INT16] = "I16", [NN_INT32] = "I32", [NN_INT64] = "I64",
        [NN_UINT8] = "U8", [NN_UINT16] = "U16", [NN_UINT32] = "U32", [NN_UINT64] = "U64",
        [NN_BOOL] = "BOOL",
    };
    for (int i = 0; i < NN_DATATYPES; i++)
        if (strcmp(names[i], dtype) == 0)
            return i;
    return -1;
}

static void add_element(struct buffer *out, const char *dtype, size_t index, const char *text)
{
    double value = text ? strtod(text, NULL) : (double)(int)(index * 7 % 11) / 4 - 1;
    if (!(value > -1e30 && value < 1e30))
        value = 1e30;
    int found = find_dtype(dtype);
    enum nn_datatype datatype = found < 0 ? NN_UINT8 : (enum nn_datatype)found;
    uint64_t element;
    datatype_convert(1, NN_FP64, &value, datatype, &element);
    buffer_add(out, (const char *)&element, nn_datatype_size(datatype));
}

static void add_tensor(struct buffer *header, struct buffer *elements, char *line)
{
    char *rest = NULL, *name = strtok_r(line, " ", &rest), *dtype = strtok_r(NULL, " ", &rest);
    size_t n = 1, begin = elements->size;
    if (!dtype)
        return;
    buffer_add_text(header, ",");
    buffer_add_json_string(header, name);
    buffer_add_text(header, ":{\"dtype\":");
    buffer_add_json_string(header, dtype);
    buffer_add_text(header, ",\"shape\":[");
    const char *comma = "";
    char *word;
    while ((word = strtok_r(NULL, " ", &rest)) && *word != '=') {
        unsigned dim = (unsigned)atoi(word) % 5000;
        buffer_printf(header, "%s%u", comma, dim);
        n = n * dim > MAX_BYTES ? MAX_BYTES : n * dim;
        comma = ",";
    }
    for (size_t i = 0; i < n && elements->size < MAX_BYTES; i++)
        add_element(elements, dtype, i, word ? strtok_r(NULL, " ", &rest) : NULL);
    buffer_printf(header, "],\"data_offsets\":[%zu,%zu]}", begin, elements->size);
}

static void write_parts(const char *text, size_t size)
{
    struct buffer header = {0}, elements = {0};
    char *copy = strndup(text, size), *rest = NULL;
    MUST(copy);
    buffer_add_text(&header, "{\"__metadata__\":{\"format\":\"predictd/1\",\"graph\":");
    buffer_add_json_string(&header, strtok_r(copy, "\n", &rest));
    buffer_add_text(&header, "}");
    for (char *line; (line = strtok_r(NULL, "\n", &rest));)
        add_tensor(&header, &elements, line);
    buffer_add_text(&header, "}");

    struct buffer whole = {0};
    uint64_t length = header.size;
    buffer_add(&whole, (const char *)&length, sizeof length);
    buffer_add(&whole, header.data, header.size);
    if (elements.size)
        buffer_add(&whole, elements.data, elements.size);
    MUST(!whole.failed);
    fuzz_file_write(&file, whole.data, whole.size);
    buffer_release(&header);
    buffer_release(&elements);
    buffer_release(&whole);
    free(copy);
}

/* running */

static bool is_cheap(const struct graph *g)
{
    double flops = 0, bytes = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        flops += g->nodes[i].flops;
        for (int k = 0; k < g->nodes[i].n_outputs; k++) {
            int value = g->nodes[i].outputs[k];
            if (value != GRAPH_NONE)
                bytes += (double)shape_elements(&g->values[value].type.shape) * 8;
        }
        bytes += (double)g->nodes[i].scratch + (double)g->nodes[i].saved;
    }
    for (int i = 0; i < g->n_inputs; i++)
        bytes += (double)shape_elements(&g->values[g->inputs[i]].type.shape) * 8;
    return flops < MAX_RUN_FLOPS && bytes < MAX_RUN_BYTES;
}

static void run(struct nn_session *session, const struct nn_model *model, int64_t batch)
{
    struct nn_error error = {""};
    for (int i = 0; i < nn_model_n_inputs(model); i++) {
        const struct nn_port *port = nn_model_input(model, i);
        size_t bytes = nn_datatype_size(port->datatype);
        for (int k = 0; k < port->shape.rank; k++)
            bytes *= (size_t)(port->shape.dims[k] < 0 ? batch : port->shape.dims[k]);
        memset(nn_session_input(session, i), 0, bytes);
    }
    if (nn_session_run(session, batch, &error) < 0) {
        MUST(nn_model_unbatched(model) && error.text[0]);
        return;
    }
    for (int i = 0; i < nn_model_n_outputs(model); i++) {
        const struct nn_tensor *y = nn_session_output(session, i);
        uint8_t sum = 0;
        for (int64_t k = 0; k < tensor_bytes(y->datatype, &y->shape); k++)
            sum ^= ((const uint8_t *)y->data)[k];
        (void)*(volatile uint8_t *)&sum;
        const struct nn_shape *shape = &nn_model_output(model, i)->shape;
        MUST(shape->rank == y->shape.rank);
        for (int k = 0; k < shape->rank; k++)
            MUST(shape->dims[k] == -1 || shape->dims[k] == y->shape.dims[k]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nn_error error = {""};
    struct bundle bundle;

    if (size > 0 && data[0] == '{')
        write_parts((const char *)data, size);
    else
        fuzz_file_write(&file, data, size);
    if (bundle_read(&bundle, file.path, &error) < 0) {
        MUST(strncmp(error.text, file.path, strlen(file.path)) == 0);
        return 0;
    }
    if (!is_cheap(bundle.graph)) {
        bundle_release(&bundle);
        return 0;
    }
    struct nn_model *model = model_from_bundle(&bundle, &error);
    MUST(model || error.text[0]);
    if (!model)
        return 0;
    struct nn_session *session = nn_session_new(model, 3, &error);
    MUST(session || error.text[0]);
    if (session) {
        run(session, model, 1);
        run(session, model, 3);
    }
    nn_session_free(session);
    nn_model_close(model);
    return 0;
}
