/*
 * evaluate: bundles that are sound for the server, but not what their own recipe describes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/formats/bundle.h"
#include "tests/graph_text.h"
#include "tests/scratch.h"
#include "trainer/report.h"

#include <string.h>

static const char recipe[] =
    "{\"name\":\"flowers\",\"data\":{\"format\":\"csv\",\"train\":\"flowers.csv\","
    "\"test\":\"flowers.csv\",\"label\":2},"
    "\"inputs\":[{\"name\":\"sizes\",\"shape\":[2]}],"
    "\"layers\":[{\"type\":\"dense\",\"units\":2}],\"loss\":\"softmax_cross_entropy\"}";

static char rose[] = "rose", tulip[] = "tulip";
static char *const labels[] = {rose, tulip};

/* Evaluates a model of that graph on two flowers. */
static int evaluate_graph(const char *text, struct report *report, struct nn_error *error)
{
    static const char flowers[] = "1,10,rose\n2,60,tulip\n";
    scratch_write("flowers.csv", flowers, sizeof flowers - 1);
    struct graph *g = graph_text(text);
    const struct bundle_content content = {
        .graph = g, .n_labels = 2, .labels = labels, .recipe = recipe};
    const char *path = scratch_path("model.safetensors");
    assert_int_equal(bundle_write(&content, path, error), 0);
    graph_free(g);
    return report_make(report, path, scratch_path(""), 1, error);
}

/* A row of x is 1 10 or 2 60; its two figures are those of roses and tulips. */
static void outputs_are_compared_with_the_classes(void **state)
{
    (void)state;
    struct report report;
    struct nn_error error = {0};
    int status = evaluate_graph("input sizes -1 2;values w 2 2 = 0 0 -1 0;values b 2 = 30 0;"
                                "node z = Gemm sizes w b;node p = Softmax z;output p",
                                &report, &error);
    assert_string_equal(error.text, "");
    assert_int_equal(status, 0);
    assert_int_equal(report.samples, 2);
    assert_true(confusion_accuracy(&report.confusion) == 1);
    report_release(&report);
}

static void outputs_that_are_not_the_classes_are_refused(void **state)
{
    static const char *const graphs[] = {
        "input sizes -1 2;values w 2 1 = 1 1;node p = MatMul sizes w;output p",
        "input sizes -1 2;values w 2 3 = 1 1 1 1 1 1;node p = MatMul sizes w;output p",
    };
    (void)state;
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        struct report report;
        struct nn_error error = {0};
        assert_int_equal(evaluate_graph(graphs[i], &report, &error), -1);
        assert_non_null(strstr(error.text, i == 0 ? "the model has 1 outputs, the data 2 classes"
                                                  : "the model has 3 outputs"));
        assert_null(report.labels);
    }
}

int main(void)
{
    nn_engine_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_are_compared_with_the_classes),
        cmocka_unit_test(outputs_that_are_not_the_classes_are_refused),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
