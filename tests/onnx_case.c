#include "tests/onnx_case.h"

#include "tests/graph_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_PATH = 1024 };

static enum onnx_result failed(struct nn_error *error, const char *what)
{
    nn_fail(error, "%s", what);
    return ONNX_FAILED;
}

/* NULL where the file is missing or too large. */
static uint8_t *read_file(struct graph *g, const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    uint8_t *bytes = NULL;
    long size;
    if (fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0 && size < 1 << 28 &&
        fseek(file, 0, SEEK_SET) == 0 && (bytes = graph_allocate(g, (size_t)size + 1)))
        *n = fread(bytes, 1, (size_t)size, file);
    fclose(file);
    return bytes;
}

/* The tolerances of ONNX's own runner. */
static enum onnx_result compare(const struct nn_tensor *got, const struct nn_tensor *expected,
                                struct nn_error *error)
{
    struct shape_text got_text, expected_text;
    struct nn_tensor same = *expected;
    if (got->datatype == NN_BF16 && expected->datatype == NN_UINT16) {
        same.datatype = NN_BF16;        /* numpy, which wrote the files, has none */
        expected = &same;
    }
    if (got->datatype != expected->datatype || !shape_equal(&got->shape, &expected->shape)) {
        nn_fail(error, "%s %s, not %s %s", nn_datatype_name(got->datatype),
                shape_print(&got->shape, &got_text), nn_datatype_name(expected->datatype),
                shape_print(&expected->shape, &expected_text));
        return ONNX_FAILED;
    }
    int64_t n = shape_elements(&got->shape);
    for (int64_t i = 0; i < n; i++) {
        double a = nn_tensor_element(got, i), b = nn_tensor_element(expected, i);
        /* These cases' BF16 were cut off, those of later versions are rounded as ours. */
        double relative = got->datatype == NN_BF16 ? 0x1p-7 : 1e-3;
        double tolerance = nn_datatype_is_real(got->datatype) ? 1e-7 + relative * fabs(b) : 0;
        bool equal = isfinite(b) ? fabs(a - b) <= tolerance : a == b || (isnan(a) && isnan(b));
        if (!equal) {
            nn_fail(error, "element %" PRId64 " is %.9g, not %.9g", i, a, b);
            return ONNX_FAILED;
        }
    }
    return ONNX_PASSED;
}

struct data_set {
    struct nn_tensor inputs[ONNX_MAX_PORTS], outputs[ONNX_MAX_PORTS];
    int n_inputs, n_outputs;
};

static enum onnx_result read_ports(struct graph *g, const char *folder, const char *name,
                                   struct nn_tensor *ports, int *n_ports,
                                   struct nn_error *error)
{
    for (*n_ports = 0; *n_ports < ONNX_MAX_PORTS; ++*n_ports) {
        char path[MAX_PATH + 32];
        size_t n;
        snprintf(path, sizeof path, "%s/%s_%d.pb", folder, name, *n_ports);
        const uint8_t *bytes = read_file(g, path, &n);
        if (!bytes)
            break;
        enum onnx_result result = onnx_read_tensor(g, bytes, n, &ports[*n_ports], error);
        if (result != ONNX_PASSED)
            return result;
    }
    return ONNX_PASSED;
}

/* *inferred: it came as far as inference, which failed. */
static enum onnx_result run_data_set(struct graph *g, const char *folder, const char *set,
                                     int n_variable, bool *inferred, struct nn_error *error)
{
    char path[MAX_PATH];
    size_t n;
    struct data_set data;
    *inferred = true;

    snprintf(path, sizeof path, "%s/model.onnx", folder);
    const uint8_t *bytes = read_file(g, path, &n);
    if (!bytes)
        return failed(error, "no model.onnx");
    enum onnx_result result = onnx_check_model(g, bytes, n, error);
    if (result == ONNX_PASSED)
        result = read_ports(g, set, "input", data.inputs, &data.n_inputs, error);
    if (result == ONNX_PASSED)
        result = read_ports(g, set, "output", data.outputs, &data.n_outputs, error);
    if (result == ONNX_PASSED)
        result = onnx_read_model(g, bytes, n, data.inputs, data.n_inputs, n_variable, error);
    if (result != ONNX_PASSED)
        return result;
    if (g->n_outputs != data.n_outputs)
        return failed(error, "the case has not as many outputs as its model");
    if (graph_infer(g, 1, error) != 0) {
        *inferred = false;
        return ONNX_FAILED;
    }

    const void *inputs[ONNX_MAX_PORTS];
    for (int i = 0, n_inputs = 0; i < data.n_inputs && n_inputs < g->n_inputs; i++)
        if (shape_elements(&data.inputs[i].shape) > 0)
            inputs[n_inputs++] = data.inputs[i].data;
    struct nn_tensor *values = naive_run(g, 1, inputs);
    for (int i = 0; i < g->n_outputs && result == ONNX_PASSED; i++) {
        result = compare(&values[g->outputs[i]], &data.outputs[i], error);
        if (result != ONNX_PASSED)
            nn_fail_in(error, "output %d", i);
    }
    naive_free(g, values);
    return result;
}

enum onnx_result onnx_case_run(const char *folder, struct nn_error *error)
{
    enum onnx_result result = ONNX_PASSED;
    for (int set = 0; result == ONNX_PASSED; set++) {
        char path[MAX_PATH];
        snprintf(path, sizeof path, "%s/test_data_set_%d/output_0.pb", folder, set);
        FILE *exists = fopen(path, "rb");
        if (!exists)
            return set > 0 ? result : failed(error, "no data");
        fclose(exists);
        *strrchr(path, '/') = '\0';

        /* All inputs vary; or, where an operation wants constants, only the first. */
        static const int variable[] = {ONNX_MAX_PORTS, 1};
        bool inferred = false;
        for (int attempt = 0; attempt < 2 && !inferred; attempt++) {
            struct graph *g = graph_new();
            struct nn_error reason = {{0}};
            if (!g)
                return failed(error, "out of memory");
            result = run_data_set(g, folder, path, variable[attempt], &inferred, &reason);
            if (result != ONNX_PASSED && (inferred || attempt == 1))
                nn_fail(error, "%s", reason.text);
            graph_free(g);
        }
    }
    return result;
}
