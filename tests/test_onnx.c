#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/kernels/kernels.h"
#include "tests/onnx_case.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CASES "/usr/share/libonnx-testdata/data"        /* Debian's libonnx-testdata */

static void a_damaged_model_is_refused(void **state)
{
    (void)state;
    static uint8_t bytes[4096];
    FILE *file = fopen(CASES "/node/test_gemm_all_attributes/model.onnx", "rb");
    if (!file)
        skip();
    size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_true(n > 0 && n < sizeof bytes);

    float elements[64] = {0};
    const struct nn_tensor inputs[] = {
        {NN_FP32, {2, {4, 3}}, elements}, {NN_FP32, {2, {5, 4}}, elements},
        {NN_FP32, {2, {1, 5}}, elements}};
    for (size_t cut = 0; cut < n; cut++) {
        /* On the heap at its exact size, so that a sanitizer sees one byte too many. */
        uint8_t *part = malloc(cut + 1);
        assert_non_null(part);
        memcpy(part, bytes, cut);
        struct graph *g = graph_new();
        assert_non_null(g);
        struct nn_error error = {{0}};
        enum onnx_result result = onnx_read_model(g, part, cut, inputs, 3, 3, &error);
        if (result == ONNX_PASSED && g->n_outputs == 1)     /* all but the operator set */
            assert_true(cut > n - 8);
        graph_free(g);

        memcpy(part, bytes, cut);
        if (cut > 0) {
            part[cut / 2] ^= 0xff;
            g = graph_new();
            assert_non_null(g);
            onnx_read_model(g, part, cut, inputs, 3, 3, NULL);
            graph_free(g);
        }
        free(part);
    }
}

static void a_damaged_tensor_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what, *bytes;
        size_t n;
    } rows[] = {
        {"too few elements", "\x08\x02\x10\x01\x4a\x04\0\0\0\0", 10},
        {"no type", "\x08\x02", 2},
        {"a type that does not exist", "\x08\x01\x10\x7f", 4},
        {"raw data behind the end", "\x08\x01\x10\x01\x4a\x7f", 6},
        {"a negative dimension", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x01", 13},
        {"an endless number", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct graph *g = graph_new();
        assert_non_null(g);
        struct nn_tensor tensor;
        if (onnx_read_tensor(g, (const uint8_t *)rows[i].bytes, rows[i].n, &tensor, NULL) ==
            ONNX_PASSED)
            fail_msg("%s", rows[i].what);
        graph_free(g);
    }
}

static int counts[ONNX_RESULTS];

static int is_case(const struct dirent *entry)
{
    return strncmp(entry->d_name, "test_", 5) == 0;
}

/* Cases, by part of their name, that nobody promised. */
static const struct {
    const char *part;
    enum onnx_result skipped;
} limits[] = {
    {"training_dropout", ONNX_NO_TRAINING}, {"averagepool_3d", ONNX_NO_VOLUME},
    {"maxpool_3d", ONNX_NO_VOLUME},         {"AvgPool3d", ONNX_NO_VOLUME},
    {"MaxPool3d", ONNX_NO_VOLUME},          {"Conv3d", ONNX_NO_VOLUME},
    {"reshape_allowzero", ONNX_EMPTY},
};

static enum onnx_result limit(const char *name)
{
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (strstr(name, limits[i].part))
            return limits[i].skipped;
    return ONNX_FAILED;
}

static void run_folder(const char *folder)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, is_case, alphasort);
    int n_failed = 0;
    if (n < 0) {
        print_message("skipped: there is no %s\n", folder);
        skip();
    }
    for (int i = 0; i < n; i++) {
        char path[1024];
        struct nn_error error = {{0}};
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        enum onnx_result result = onnx_case_run(path, &error);
        if (result == ONNX_FAILED)
            result = limit(entries[i]->d_name);
        counts[result]++;
        if (result == ONNX_FAILED) {
            print_error("%s: %s\n", entries[i]->d_name, error.text);
            n_failed++;
        } else if (getenv("ONNX_VERBOSE")) {
            print_message("%s: %s\n", entries[i]->d_name, result ? error.text : "passed");
        }
        free(entries[i]);
    }
    free(entries);
    assert_int_equal(n_failed, 0);
}

static void cases_of_single_operators_compute_what_onnx_says(void **state)
{
    (void)state;
    run_folder(CASES "/node");
}

static void models_of_pytorch_operators_compute_what_pytorch_says(void **state)
{
    (void)state;
    run_folder(CASES "/pytorch-operator");
}

static void models_of_pytorch_layers_compute_what_pytorch_says(void **state)
{
    (void)state;
    run_folder(CASES "/pytorch-converted");
}

static void simple_models_compute_what_onnx_says(void **state)
{
    (void)state;
    run_folder(CASES "/simple");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_model_is_refused),
        cmocka_unit_test(a_damaged_tensor_is_refused),
        cmocka_unit_test(cases_of_single_operators_compute_what_onnx_says),
        cmocka_unit_test(models_of_pytorch_operators_compute_what_pytorch_says),
        cmocka_unit_test(models_of_pytorch_layers_compute_what_pytorch_says),
        cmocka_unit_test(simple_models_compute_what_onnx_says),
    };
    kernels_start();
    int status = cmocka_run_group_tests(tests, NULL, NULL);
    int skipped = 0;
    for (int i = ONNX_NO_OPERATOR; i < ONNX_RESULTS; i++)
        skipped += counts[i];
    printf("onnx: %d cases run, %d skipped (operator %d, type %d, other opset %d, training %d, "
           "3-D window %d, empty %d)\n",
           counts[ONNX_PASSED] + counts[ONNX_FAILED], skipped, counts[ONNX_NO_OPERATOR],
           counts[ONNX_NO_TYPE], counts[ONNX_OTHER_OPSET], counts[ONNX_NO_TRAINING],
           counts[ONNX_NO_VOLUME], counts[ONNX_EMPTY]);
    return status;
}
