#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/model.h"
#include "tests/graph_text.h"
#include "tests/scratch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* y = 2 x + 1 and its double, in FP32. */
static const char line[] = "input x -1 2; values two = 2; values one = 1; "
                           "node t = Mul x two; node y = Add t one; node z = Mul y two; "
                           "output y; output z";

enum { ROWS = 40 };             /* more than are replayed at a time */

struct golden {
    nn_real x[ROWS * 2], y[ROWS * 2], z[ROWS * 2];
};

static void compute_line(struct golden *golden)
{
    for (int i = 0; i < ROWS * 2; i++) {
        golden->x[i] = (nn_real)(i - 30) / 4;
        golden->y[i] = 2 * golden->x[i] + 1;
        golden->z[i] = 2 * golden->y[i];
    }
}

static struct nn_tensor *tensors(int n, nn_real *const *elements)
{
    struct nn_tensor *t = calloc((size_t)n, sizeof *t);
    for (int i = 0; i < n; i++)
        t[i] = (struct nn_tensor){NN_FP32, {2, {ROWS, 2}}, elements[i]};
    return t;
}

static struct nn_model *open_line(struct golden *golden, struct nn_error *error)
{
    struct bundle bundle = {
        .graph = graph_text(line),
        .golden_inputs = tensors(1, (nn_real *[]){golden->x}),
        .golden_outputs = tensors(2, (nn_real *[]){golden->y, golden->z}),
    };
    return model_from_bundle(&bundle, error);
}

static void golden_samples_have_to_reproduce(void **state)
{
    (void)state;
    static const struct {
        int output, element;
        nn_real added;
        const char *error;      /* NULL: within the tolerance */
    } cases[] = {
        {0, 0, (nn_real)0.0011, NULL},      /* |y| is 14 */
        {0, 0, (nn_real)0.25, "golden sample 0 does not reproduce: output \"y\" element 0 "
                              "should be -13.75, is -14"},
        {0, 79, (nn_real)0.5, "golden sample 39 does not reproduce: output \"y\" element 1 "
                              "should be 26, is 25.5"},
        {1, 34, (nn_real)-1, "golden sample 17 does not reproduce: output \"z\" element 0 "
                             "should be 5, is 6"},
        {1, 20, NAN, "golden sample 10 does not reproduce: output \"z\" element 0 should be "
                     "nan, is -8"},
        {1, 21, INFINITY, "golden sample 10 does not reproduce: output \"z\" element 1 should "
                          "be inf, is -7"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct golden golden;
        compute_line(&golden);
        (cases[i].output ? golden.z : golden.y)[cases[i].element] += cases[i].added;
        struct nn_error error = {""};
        struct nn_model *model = open_line(&golden, &error);
        if (cases[i].error)
            assert_string_equal(error.text, cases[i].error);
        else if (!model)
            fail_msg("%s", error.text);
        assert_int_equal(model == NULL, cases[i].error != NULL);
        nn_model_close(model);
    }
}

static void a_result_that_is_not_finite_does_not_reproduce(void **state)
{
    (void)state;
    struct golden golden;
    compute_line(&golden);
    golden.x[7] = NAN;
    struct nn_error error = {""};
    assert_null(open_line(&golden, &error));
    assert_non_null(strstr(error.text, ", is nan"));
}

static void a_model_says_what_it_is(void **state)
{
    (void)state;
    struct golden golden;
    compute_line(&golden);
    struct nn_error error = {""};
    struct nn_model *model = open_line(&golden, &error);
    if (!model)
        fail_msg("%s", error.text);
    assert_int_equal(nn_model_n_inputs(model), 1);
    assert_int_equal(nn_model_n_outputs(model), 2);
    assert_string_equal(nn_model_input(model, 0)->name, "x");
    assert_string_equal(nn_model_output(model, 0)->name, "y");
    assert_string_equal(nn_model_output(model, 1)->name, "z");
    struct shape_text text;
    assert_string_equal(shape_print(&nn_model_input(model, 0)->shape, &text), "[-1, 2]");
    assert_string_equal(shape_print(&nn_model_output(model, 0)->shape, &text), "[-1, 2]");
    assert_null(nn_model_unbatched(model));
    assert_int_equal(nn_model_n_parameters(model), 2);
    assert_int_equal(nn_model_n_golden(model), ROWS);
    assert_int_equal(nn_model_n_labels(model), 0);
    assert_null(nn_model_metadata(model, "training"));
    nn_model_close(model);
    nn_model_close(NULL);
}

static void samples_of_a_model_that_mixes_rows_are_one_batch(void **state)
{
    (void)state;
    nn_real x[ROWS * 2], y[ROWS * 2];
    for (int i = 0; i < ROWS * 2; i++) {
        x[i] = 3;
        y[i] = (nn_real)1 / ROWS;
    }
    struct bundle bundle = {
        .graph = graph_text("input x -1 2; node y = Softmax x axis=0; output y"),
        .golden_inputs = tensors(1, (nn_real *[]){x}),
        .golden_outputs = tensors(1, (nn_real *[]){y}),
    };
    struct nn_error error = {""};
    struct nn_model *model = model_from_bundle(&bundle, &error);
    if (!model)
        fail_msg("%s", error.text);
    assert_string_equal(nn_model_unbatched(model), "y (Softmax): rows are mixed");
    nn_model_close(model);
}

/* The sum takes one row or three. */
static void a_batch_is_open_where_few_sizes_of_it_fit(void **state)
{
    (void)state;
    struct bundle bundle = {
        .graph = graph_text("input x -1 2; input z -1 3; weight c 3; node y = Relu x; "
                            "node t = Transpose z; node u = Add t c; output y; output u")};
    struct nn_error error = {""};
    struct nn_model *model = model_from_bundle(&bundle, &error);
    if (!model)
        fail_msg("%s", error.text);
    struct shape_text text;
    assert_string_equal(shape_print(&nn_model_output(model, 0)->shape, &text), "[-1, 2]");
    assert_non_null(nn_model_unbatched(model));
    nn_model_close(model);
}

/* A few bytes of graph could ask for any amount of memory or time. */
static void what_costs_too_much_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *graph, *error;
    } cases[] = {
        {"input x -1 1; weight r 32768; weight c 65536 1 1; node a = Add x r; node y = Add a c; "
         "output y", "one row takes 8192 MiB, at most 4096"},
        {"input x -1 16000; weight c 16000 1; node a = Mul x c; node b = MatMul a a; output b",
         "one row takes 8.19e+12 operations, at most 1e+12"},
        {"input x -1 2", "the graph has no output"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bundle bundle = {.graph = graph_text(cases[i].graph)};
        struct nn_error error = {""};
        assert_null(model_from_bundle(&bundle, &error));
        if (sizeof(nn_real) == sizeof(float))
            assert_string_equal(error.text, cases[i].error);
    }
}

static int resident_pages(const struct nn_tensor *tensor)
{
    unsigned char pages[1024];
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)tensor->data;
    uintptr_t end = (begin + (size_t)tensor_bytes(tensor->datatype, &tensor->shape)) & -page;
    int n = 0;
    begin = (begin + page - 1) & -page;
    assert_true(end > begin && (end - begin) / page <= sizeof pages);
    assert_int_equal(mincore((void *)begin, end - begin, pages), 0);
    for (size_t i = 0; i < (end - begin) / page; i++)
        n += pages[i] & 1;
    return n;
}

/* Weights that were packed are there once, those that somebody reads as they are stay. */
static void weights_are_in_memory_once(void **state)
{
    (void)state;
    static const char text[] =
        "input x -1 256; weight w 256 512; weight v 512 256; "
        "node h = Gemm x w; node g = Gemm h v; node y = Gemm g w alpha=2; "
        "output y";
    if (sizeof(nn_real) != sizeof(float))
        return;
    struct graph *plain = graph_text(text);
    struct nn_error error = {""};
    const char *path = scratch_path("packed.safetensors");
    if (bundle_write(&(struct bundle_content){.graph = plain}, path, &error) != 0)
        fail_msg("%s", error.text);
    struct nn_model *model = nn_model_open(path, &error);
    if (!model)
        fail_msg("%s", error.text);
    assert_true(resident_pages(safetensors_find(&model->bundle.file, "w")) > 100);
    assert_int_equal(resident_pages(safetensors_find(&model->bundle.file, "v")), 0);

    void **inputs = random_inputs(plain, 3, 1);
    struct nn_tensor *expected = naive_run(plain, 3, (const void *const *)inputs);
    struct nn_session *session = nn_session_new(model, 3, &error);
    assert_non_null(session);
    memcpy(nn_session_input(session, 0), inputs[0], 3 * 256 * sizeof(float));
    assert_int_equal(nn_session_run(session, 3, &error), 0);
    assert_tensors_near(&expected[plain->outputs[0]], nn_session_output(session, 0), 1e-2);
    nn_session_free(session);
    nn_model_close(model);
    naive_free(plain, expected);
    free_inputs(plain, inputs);
    graph_free(plain);
}

static void a_file_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct nn_error error = {""};
    assert_null(nn_model_open("build/no/such/model.safetensors", &error));
    assert_true(strncmp(error.text, "build/no/such/model.safetensors: ", 33) == 0);
    assert_null(nn_model_open("build/no/such/model.safetensors", NULL));
}

int main(void)
{
    nn_engine_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_samples_have_to_reproduce),
        cmocka_unit_test(a_result_that_is_not_finite_does_not_reproduce),
        cmocka_unit_test(a_model_says_what_it_is),
        cmocka_unit_test(samples_of_a_model_that_mixes_rows_are_one_batch),
        cmocka_unit_test(a_batch_is_open_where_few_sizes_of_it_fit),
        cmocka_unit_test(what_costs_too_much_is_refused),
        cmocka_unit_test(weights_are_in_memory_once),
        cmocka_unit_test(a_file_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
