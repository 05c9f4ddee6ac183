#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/kernels/kernels.h"
#include "engine/model.h"
#include "tests/graph_text.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct nn_model *model_of(const char *text)
{
    struct nn_error error = {""};
    struct bundle bundle = {.graph = graph_text(text)};
    struct nn_model *model = model_from_bundle(&bundle, &error);
    if (!model)
        fail_msg("%s\n%s", error.text, text);
    return model;
}

static struct nn_session *session_of(const struct nn_model *model, int64_t max_batch)
{
    struct nn_error error = {""};
    struct nn_session *session = nn_session_new(model, max_batch, &error);
    if (!session)
        fail_msg("%s", error.text);
    return session;
}

/* Runs `batch` random rows and compares with the unoptimised graph, node by node. */
static void check_run(struct nn_session *session, struct graph *plain, int64_t batch,
                      uint64_t seed)
{
    void **inputs = random_inputs(plain, batch, seed);
    struct nn_tensor *expected = naive_run(plain, batch, (const void *const *)inputs);
    for (int i = 0; i < plain->n_inputs; i++) {
        const struct op_value *type = &plain->values[plain->inputs[i]].type;
        memcpy(nn_session_input(session, i), inputs[i],
               (size_t)tensor_bytes(type->datatype, &type->shape));
    }
    struct nn_error error = {""};
    if (nn_session_run(session, batch, &error) != 0)
        fail_msg("%lld rows: %s", (long long)batch, error.text);
    for (int i = 0; i < plain->n_outputs; i++)
        assert_tensors_near(&expected[plain->outputs[i]], nn_session_output(session, i), 1e-5);
    naive_free(plain, expected);
    free_inputs(plain, inputs);
}

static const char convnet[] =
    "input x -1 1 12 12; values k = 255; weight w 4 1 3 3; weight f 144 10; weight g 10; "
    "node a = Div x k; node b = Conv a w pads=1,1,1,1; node c = Relu b; "
    "node d = MaxPool c kernel_shape=2,2 strides=2,2; node e = Flatten d; "
    "node h = MatMul e f; node i = Add h g; node y = Softmax i; output y; output i";

static const char *const batched[] = {
    convnet,
    "input x -1 6; output x",
    "input x -1 6; node f = Flatten x; node r = Relu f; node y = Add r x; output y; output f",
    ("input x -1 6; input z -1 6; weight w 6 6; node a = Gemm x w; node b = Gemm z w; "
     "node y = Concat a b axis=1; output y; output a"),
    ("input x -1 2 6; node t = Transpose x perm=2,0,1; node u = Relu t; "
     "node y = Transpose u perm=1,2,0; output y"),
};

static void any_number_of_rows_gives_what_the_graph_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof batched / sizeof batched[0]; i++) {
        struct graph *plain = graph_text(batched[i]);
        struct nn_model *model = model_of(batched[i]);
        assert_null(nn_model_unbatched(model));
        struct nn_session *session = session_of(model, 7);
        for (int64_t batch = 7; batch >= 1; batch--)
            check_run(session, plain, batch, 3);
        for (int64_t batch = 1; batch <= 7; batch++)
            check_run(session, plain, batch, 4);
        nn_session_free(session);
        nn_model_close(model);
        graph_free(plain);
    }
}

static void a_row_does_not_depend_on_its_company(void **state)
{
    (void)state;
    enum { ROWS = 9, IN = 144, OUT = 10 };
    struct nn_model *model = model_of(convnet);
    struct nn_session *session = session_of(model, ROWS);
    nn_real *rows = calloc(ROWS * IN, sizeof *rows), together[ROWS * OUT];
    graph_text_fill(rows, ROWS * IN, 5);
    memcpy(nn_session_input(session, 0), rows, ROWS * IN * sizeof *rows);
    assert_int_equal(nn_session_run(session, ROWS, NULL), 0);
    memcpy(together, nn_session_output(session, 0)->data, sizeof together);
    for (int i = 0; i < ROWS; i++) {
        memcpy(nn_session_input(session, 0), rows + i * IN, IN * sizeof *rows);
        assert_int_equal(nn_session_run(session, 1, NULL), 0);
        struct nn_tensor alone = {NN_FP32, {2, {1, OUT}}, together + i * OUT};
        assert_tensors_near(&alone, nn_session_output(session, 0), 1e-5);
    }
    free(rows);
    nn_session_free(session);
    nn_model_close(model);
}

/* To the last bit: who asks twice gets the same answer, whoever else asks meanwhile. */
static void a_row_has_the_same_bits_in_every_batch(void **state)
{
    (void)state;
    enum { ROWS = 100, IN = 4 * 36 };
    static const char *const graphs[] = {
        "input x -1 4 36; weight w 36 10; node y = MatMul x w; output y",
        "input x -1 4 36; weight w 36 1; node y = MatMul x w; output y",
        "input x -1 4 36; weight w 36; node y = MatMul x w; output y",
        "input x -1 144; weight w 3 144; weight b 3; node a = Gemm x w b transB=1; "
        "node y = Softmax a; output y",
        "input x -1 144; weight w 144 10; weight q 10; weight v 10 16; weight u 3 16; "
        "node a = MatMul x w; node b = Add a q; node c = Tanh b; node d = Gemm c v; "
        "node e = Relu d; node f = Gemm e u transB=1; node y = Softmax f; output y",
        "input x -1 4 6 6; weight w 16 4 3 3; weight v 256 40; node a = Conv x w; "
        "node b = Flatten a; node y = Gemm b v; output y",
    };
    nn_real *rows = calloc(ROWS * IN, sizeof *rows);
    assert_non_null(rows);
    graph_text_fill(rows, ROWS * IN, 5);
    for (size_t i = 0; i < KERNEL_SETS * sizeof graphs / sizeof graphs[0]; i++) {
        if (!kernels_use((enum kernel_set)(i % KERNEL_SETS)))
            continue;
        struct nn_model *model = model_of(graphs[i / KERNEL_SETS]);
        struct nn_session *session = session_of(model, ROWS);
        char *alone = NULL;
        size_t size = 0;
        for (int row = 0; row < ROWS; row++) {
            memcpy(nn_session_input(session, 0), rows + row * IN, IN * sizeof *rows);
            assert_int_equal(nn_session_run(session, 1, NULL), 0);
            const struct nn_tensor *y = nn_session_output(session, 0);
            size = (size_t)tensor_bytes(y->datatype, &y->shape);
            if (!alone)
                alone = malloc(ROWS * size);
            memcpy(alone + (size_t)row * size, y->data, size);
        }
        for (int n = 2; n <= ROWS; n++) {
            int first = ROWS - n;
            memcpy(nn_session_input(session, 0), rows + first * IN,
                   (size_t)(n * IN) * sizeof *rows);
            assert_int_equal(nn_session_run(session, n, NULL), 0);
            if (memcmp(nn_session_output(session, 0)->data, alone + (size_t)first * size,
                       (size_t)n * size) != 0)
                fail_msg("set %d, %d rows: %s", (int)(i % KERNEL_SETS), n,
                         graphs[i / KERNEL_SETS]);
        }
        free(alone);
        nn_session_free(session);
        nn_model_close(model);
    }
    free(rows);
    kernels_start();
}

/* Rows are mixed, so that shapes are inferred anew for each batch; those above `most` cannot
 * be run. */
static const struct {
    const char *graph;
    int64_t most;
} unbatched[] = {
    {"input x -1 3; node y = Softmax x axis=0; output y", 8},
    {"input x -1 3; node t = Transpose x; node y = MatMul x t; output y", 8},
    {"input x -1 3; node y = Concat x x axis=0; output y", 8},
    {"input x -1 4; integers r 2 = -1 2; node a = Reshape x r; node b = Relu a; "
     "node y = Neg b; output y",
     8},
    {"input x -1 4; integers r 2 = 1 4; node y = Reshape x r; output y", 1},
    /* Three rows can be added to in place, but one becomes three. */
    {"input x -1 4; weight w 3 4; node a = Softmax x axis=0; node b = Exp a; "
     "node y = Add b w; output y",
     3},
    {"input x 2 3; node y = Softmax x axis=0; output y", 8},
    /* Few rows make small planes, of which some are taken together. */
    {"input x -1 2 40; weight w 3 2 1 1; node t = Transpose x perm=2,1,0; "
     "integers s 4 = 2 2 -1 20; node r = Reshape t s; node y = Conv r w; output y",
     8},
    {"input x 2 3; input z -1 3; node y = Relu x; node u = Relu z; output y; output u", 8},
};

static void models_that_mix_rows_run_with_any_batch_that_fits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof unbatched / sizeof unbatched[0]; i++) {
        struct graph *plain = graph_text(unbatched[i].graph);
        struct nn_model *model = model_of(unbatched[i].graph);
        assert_non_null(nn_model_unbatched(model));
        struct nn_session *session = session_of(model, 8);
        for (int round = 0; round < 2; round++)
            for (int64_t batch = 1; batch <= 8; batch++) {
                if (graph_infer(plain, batch, NULL) == 0)
                    check_run(session, plain, batch, 6);
                else
                    assert_int_equal(nn_session_run(session, batch, NULL), -1);
            }
        assert_int_equal(graph_infer(plain, unbatched[i].most, NULL), 0);
        nn_session_free(session);
        nn_model_close(model);
        graph_free(plain);
    }
}

static void a_batch_that_does_not_fit_is_refused_with_the_reason(void **state)
{
    (void)state;
    struct nn_model *model = model_of("input x -1 4; integers r 2 = 1 4; node y = Reshape x r; "
                                      "output y");
    struct nn_session *session = session_of(model, 4);
    memset(nn_session_input(session, 0), 0, 4 * 4 * sizeof(nn_real));
    struct nn_error error = {""};
    assert_int_equal(nn_session_run(session, 2, &error), -1);
    assert_non_null(strstr(error.text, "the model cannot take 2 rows: y (Reshape): "));
    assert_int_equal(nn_session_run(session, 1, NULL), 0);
    nn_session_free(session);
    nn_model_close(model);
}

static void a_model_of_one_row_gets_room_for_any_number(void **state)
{
    (void)state;
    struct nn_model *model = model_of("input x -1 4; integers r 2 = 1 4; node y = Reshape x r; "
                                      "output y");
    struct nn_session *session = session_of(model, 1000000);
    assert_int_equal(nn_session_max_batch(session), 1000000);
    memset(nn_session_input(session, 0), 0, 1000000 * 4 * sizeof(nn_real));
    assert_int_equal(nn_session_run(session, 1, NULL), 0);
    assert_int_equal(nn_session_run(session, 1000000, NULL), -1);
    nn_session_free(session);
    nn_model_close(model);
}

static void only_batches_with_room_are_run(void **state)
{
    (void)state;
    static const int64_t batches[] = {0, -1, 5, INT64_MAX};
    struct nn_model *model = model_of(convnet);
    struct nn_session *session = session_of(model, 4);
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++)
        assert_int_equal(nn_session_run(session, batches[i], NULL), -1);
    struct nn_error error = {""};
    nn_session_run(session, 5, &error);
    assert_string_equal(error.text, "5 rows in a session for 1 to 4");
    nn_session_free(session);

    error.text[0] = '\0';
    assert_null(nn_session_new(model, 0, &error));
    assert_string_equal(error.text, "a session for 0 rows");
    nn_model_close(model);
}

static void reserve_makes_room_or_changes_nothing(void **state)
{
    (void)state;
    struct graph *plain = graph_text(convnet);
    struct nn_model *model = model_of(convnet);
    struct nn_session *session = session_of(model, 2);
    check_run(session, plain, 2, 1);
    assert_int_equal(nn_session_reserve(session, 16, NULL), 0);
    assert_int_equal(nn_session_max_batch(session), 16);
    check_run(session, plain, 16, 1);
    check_run(session, plain, 3, 1);

    void *input = nn_session_input(session, 0);
    assert_int_equal(nn_session_reserve(session, 4, NULL), 0);
    assert_int_equal(nn_session_max_batch(session), 16);
    struct nn_error error = {""};
    assert_int_equal(nn_session_reserve(session, INT64_C(1) << 40, &error), -1);
    assert_true(error.text[0] != '\0');
    error.text[0] = '\0';
    assert_int_equal(nn_session_reserve(session, 50000000, &error), -1);
    assert_non_null(strstr(error.text, "50000000 rows would take "));
    assert_int_equal(nn_session_max_batch(session), 16);
    assert_ptr_equal(nn_session_input(session, 0), input);
    check_run(session, plain, 16, 2);
    nn_session_free(session);
    nn_model_close(model);
    graph_free(plain);
}

struct thread {
    const struct nn_model *model;
    const nn_real *rows, *expected;
    int failures;
};

enum { THREAD_ROWS = 6, ROUNDS = 50 };

static void *run_rounds(void *argument)
{
    struct thread *t = argument;
    struct nn_session *session = nn_session_new(t->model, THREAD_ROWS, NULL);
    for (int i = 0; i < ROUNDS && session; i++) {
        int64_t batch = 1 + i % THREAD_ROWS;
        memcpy(nn_session_input(session, 0), t->rows, (size_t)batch * 144 * sizeof(nn_real));
        if (nn_session_run(session, batch, NULL) != 0) {
            t->failures++;
            continue;
        }
        const nn_real *y = nn_session_output(session, 0)->data;
        for (int64_t j = 0; j < batch * 10; j++)
            t->failures += !(y[j] - t->expected[j] < 1e-5 && t->expected[j] - y[j] < 1e-5);
    }
    t->failures += !session;
    nn_session_free(session);
    return NULL;
}

static void threads_share_a_model_with_sessions_of_their_own(void **state)
{
    (void)state;
    struct nn_model *model = model_of(convnet);
    nn_real rows[THREAD_ROWS * 144], expected[THREAD_ROWS * 10];
    graph_text_fill(rows, THREAD_ROWS * 144, 9);
    struct nn_session *session = session_of(model, THREAD_ROWS);
    memcpy(nn_session_input(session, 0), rows, sizeof rows);
    assert_int_equal(nn_session_run(session, THREAD_ROWS, NULL), 0);
    memcpy(expected, nn_session_output(session, 0)->data, sizeof expected);
    nn_session_free(session);

    struct thread threads[3];
    pthread_t ids[3];
    for (int i = 0; i < 3; i++) {
        threads[i] = (struct thread){model, rows, expected, 0};
        assert_int_equal(pthread_create(&ids[i], NULL, run_rounds, &threads[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(ids[i], NULL);
        assert_int_equal(threads[i].failures, 0);
    }
    nn_model_close(model);
}

/* The shapes of a model that mixes rows are written while it runs: not in the model. */
static void *run_unbatched(void *argument)
{
    struct thread *t = argument;
    struct nn_session *session = nn_session_new(t->model, 8, NULL);
    for (int64_t i = 0; i < ROUNDS && session; i++) {
        int64_t batch = 1 + i % 8;
        memset(nn_session_input(session, 0), 0, (size_t)batch * 3 * sizeof(nn_real));
        t->failures += nn_session_run(session, batch, NULL) != 0 ||
                       nn_session_output(session, 0)->shape.dims[0] != batch;
    }
    t->failures += !session;
    nn_session_free(session);
    return NULL;
}

static void threads_share_a_model_that_mixes_rows(void **state)
{
    (void)state;
    struct nn_model *model = model_of(unbatched[1].graph);
    struct thread threads[3];
    pthread_t ids[3];
    for (int i = 0; i < 3; i++) {
        threads[i] = (struct thread){.model = model};
        assert_int_equal(pthread_create(&ids[i], NULL, run_unbatched, &threads[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(ids[i], NULL);
        assert_int_equal(threads[i].failures, 0);
    }
    nn_model_close(model);
}

static int start_engine(void **state)
{
    (void)state;
    nn_engine_start();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_rows_gives_what_the_graph_says),
        cmocka_unit_test(a_row_does_not_depend_on_its_company),
        cmocka_unit_test(a_row_has_the_same_bits_in_every_batch),
        cmocka_unit_test(models_that_mix_rows_run_with_any_batch_that_fits),
        cmocka_unit_test(a_batch_that_does_not_fit_is_refused_with_the_reason),
        cmocka_unit_test(a_model_of_one_row_gets_room_for_any_number),
        cmocka_unit_test(only_batches_with_room_are_run),
        cmocka_unit_test(reserve_makes_room_or_changes_nothing),
        cmocka_unit_test(threads_share_a_model_with_sessions_of_their_own),
        cmocka_unit_test(threads_share_a_model_that_mixes_rows),
    };
    return cmocka_run_group_tests(tests, start_engine, NULL);
}
