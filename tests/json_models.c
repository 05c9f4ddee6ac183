#include "tests/json_models.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/formats/safetensors.h"
#include "tests/scratch.h"

struct nn_model *json_models[N_JSON_MODELS];

#define INPUT(name, datatype, shape) \
    "{\"name\":\"" name "\",\"datatype\":\"" datatype "\",\"shape\":" shape "}"
#define IDENTITY(x, y) "{\"op\":\"Identity\",\"inputs\":[\"" x "\"],\"outputs\":[\"" y "\"]}"
#define SINGLE(datatype, shape) \
    "{\"inputs\":[" INPUT("x", datatype, shape) "],\"nodes\":[" IDENTITY("x", "y") "]," \
    "\"outputs\":[\"y\"]}"

static const char *const graphs[N_JSON_MODELS] = {
    [IMAGE] = SINGLE("FP32", "[-1,1,2,3]"),
    [PAIR] = "{\"inputs\":[" INPUT("a", "FP32", "[-1,2]") "," INPUT("b", "INT64", "[-1]") "],"
             "\"nodes\":[" IDENTITY("a", "c") "," IDENTITY("b", "d") "],"
             "\"outputs\":[\"c\",\"d\"]}",
    [NUMBER] = SINGLE("FP32", "[-1]"),
    [VECTOR] = SINGLE("FP32", "[-1,3]"),
    [FIXED] = SINGLE("FP32", "[2,2]"),
    [BYTE] = SINGLE("UINT8", "[-1,2]"),
    [LONG] = SINGLE("INT64", "[-1,2]"),
    [INT] = SINGLE("INT32", "[-1,2]"),
    [FLAG] = SINGLE("BOOL", "[-1,2]"),
};

/* Labels go to the models whose rows have three elements, or one. */
static const char *const labels[N_JSON_MODELS] = {
    [VECTOR] = "[\"red\",\"a \\\"green\\\" one\",\"blue\"]",
    [NUMBER] = "[\"no\",\"yes\"]",
    [IMAGE] = "[\"too\",\"few\"]",
};

int json_models_open(void **state)
{
    if (scratch_setup(state) != 0)
        return -1;
    nn_engine_start();
    for (int i = 0; i < N_JSON_MODELS; i++) {
        struct safetensors_metadata metadata[] = {
            {"format", "predictd/1"}, {"graph", graphs[i]}, {"labels", labels[i]}};
        struct safetensors file = {.n_metadata = labels[i] ? 3 : 2, .metadata = metadata};
        struct nn_error error = {0};
        const char *path = scratch_path("model.safetensors");
        if (safetensors_write(&file, path, &error) == 0)
            json_models[i] = nn_model_open(path, &error);
        if (!json_models[i]) {
            print_message("%s\n", error.text);
            return -1;
        }
    }
    return 0;
}

int json_models_close(void **state)
{
    for (int i = 0; i < N_JSON_MODELS; i++)
        nn_model_close(json_models[i]);
    return scratch_teardown(state);
}
