/*
 * Each allocation in turn fails, once or with all that follow, in everything that reads what
 * is foreign: each time there is a defined outcome, an error says that memory ran out, and
 * nothing leaks (which the build with AddressSanitizer sees).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/model.h"
#include "server/json_tensor.h"
#include "tests/dataset_files.h"
#include "tests/failing_memory.h"
#include "tests/graph_text.h"
#include "trainer/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 5000 }; /* allocations of one scenario */

/* What may fail: 0, or -1 with the error filled in and nothing left behind. */
typedef int scenario(struct nn_error *error);

static bool says_no_memory(const struct nn_error *error)
{
    return strstr(error->text, "memory") || strstr(error->text, "is not UTF-8");
}

static void torture(scenario *run)
{
    for (int sticky = 0; sticky < 2; sticky++) {
        bool untouched = false;
        for (long n = 0; !untouched; n++) {
            struct nn_error error = {""};
            assert_in_range(n, 0, MOST);
            failing_memory_arm(n, sticky);
            int status = run(&error);
            untouched = failing_memory_disarm() == 0;
            if (untouched && status != 0)
                fail_msg("without a failure: %s", error.text);
            if (status != 0 && !says_no_memory(&error))
                fail_msg("allocation %ld failed: %s", n, error.text);
        }
    }
}

/* bundles */

static const char *bundle_path(void)
{
    return path_of("model.safetensors");
}

static const char graph[] =
    "input x -1 1 4 4; weight w 2 1 3 3; weight f 8 2; weight b 2; node a = Conv x w; "
    "node r = Relu a; node e = Flatten r; node m = MatMul e f; node l = Add m b; "
    "node y = Softmax l; output y";

static char yes[] = "yes", no[] = "no";
static char *const labels[] = {yes, no};

static int write_bundle(struct nn_error *error)
{
    struct graph *g = graph_text(graph);
    float x[16] = {0}, y[2] = {0};
    struct nn_tensor *tensors = naive_run(g, 1, (const void *[]){x});
    memcpy(y, tensors[g->outputs[0]].data, sizeof y);
    naive_free(g, tensors);
    struct nn_tensor input = {NN_FP32, {4, {1, 1, 4, 4}}, x},
                     output = {NN_FP32, {2, {1, 2}}, y};
    struct bundle_content content = {.graph = g,
                                     .n_labels = 2,
                                     .labels = labels,
                                     .golden_inputs = &input,
                                     .golden_outputs = &output,
                                     .recipe = "{}",
                                     .training = "{\"epochs\":1}"};
    int status = bundle_write(&content, bundle_path(), error);
    graph_free(g);
    return status;
}

static int open_bundle(struct nn_error *error)
{
    struct nn_model *model = nn_model_open(bundle_path(), error);
    struct nn_session *session = model ? nn_session_new(model, 2, error) : NULL;
    int status = -1;
    if (session && nn_session_reserve(session, 20, error) == 0) {
        memset(nn_session_input(session, 0), 0, 20 * 16 * sizeof(float));
        status = nn_session_run(session, 20, error);
    }
    nn_session_free(session);
    nn_model_close(model);
    return status;
}

static void a_bundle_opens_whole_or_not_at_all(void **state)
{
    (void)state;
    struct nn_error error = {""};
    if (write_bundle(&error) != 0)
        fail_msg("%s", error.text);
    torture(open_bundle);
}

/* Everything but bundle_write() has its memory. */
static long write_at;
static bool write_sticky;

static int write_with_little(struct nn_error *error)
{
    struct graph *g = graph_text(graph);
    struct bundle_content content = {
        .graph = g, .n_labels = 1, .labels = labels, .recipe = "{}"};
    failing_memory_arm(write_at, write_sticky);
    int status = bundle_write(&content, path_of("written.safetensors"), error);
    graph_free(g);
    return status;
}

/* An allocation that failed may not have mattered. */
static void assert_written(void)
{
    static char bytes[2][8192];
    const char *const names[] = {"expected.safetensors", "written.safetensors"};
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(path_of(names[i]), "rb");
        assert_non_null(file);
        n[i] = fread(bytes[i], 1, sizeof bytes[i], file);
        fclose(file);
    }
    assert_true(n[0] > 0 && n[0] == n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
}

static void a_bundle_is_written_whole_or_not_at_all(void **state)
{
    (void)state;
    write_at = -1;
    assert_int_equal(write_with_little(NULL), 0);
    char *written = strdup(path_of("written.safetensors"));
    assert_int_equal(rename(written, path_of("expected.safetensors")), 0);
    free(written);
    for (int i = 0; i < 2; i++) {
        bool untouched = false;
        write_sticky = i;
        for (write_at = 0; !untouched; write_at++) {
            struct nn_error error = {""};
            int status = write_with_little(&error);
            untouched = failing_memory_disarm() == 0;
            if (status == 0)
                assert_written();
            if (status != 0 && !says_no_memory(&error))
                fail_msg("allocation %ld failed: %s", write_at, error.text);
        }
    }
    struct nn_model *model = nn_model_open(path_of("written.safetensors"), NULL);
    assert_non_null(model);
    nn_model_close(model);
}

/* request bodies */

static struct nn_model *model_of_bodies;

static int read_body(struct nn_error *error)
{
    static const char body[] =
        "{\"instances\": [[[[1,2,3,4],[5,6,7,8],[9,10,11,12],[13,14,15,16]]],"
        "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16],[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16],"
        "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16],[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]]}";
    struct tensor_rows rows = {.model = model_of_bodies};
    int status = json_rows_read(&rows, body, sizeof body - 1, 64, error);
    if (status != 0) {
        assert_int_equal(status, 500);
        assert_false(rows.owned);
        return -1;
    }
    assert_int_equal(rows.n, 5);
    tensor_rows_release(&rows);
    return 0;
}

static void a_body_for_which_there_is_no_memory_is_our_fault(void **state)
{
    (void)state;
    struct bundle bundle = {.graph = graph_text(graph)};
    model_of_bodies = model_from_bundle(&bundle, NULL);
    assert_non_null(model_of_bodies);
    torture(read_body);
    nn_model_close(model_of_bodies);
}

/* recipes */

static int build_recipe(struct nn_error *error)
{
    static const char text[] =
        "{\"name\":\"t\",\"data\":{\"format\":\"csv\",\"train\":\"a\",\"label\":-1},"
        "\"inputs\":[{\"name\":\"x\",\"shape\":[1,4,4]}],\"layers\":["
        "{\"type\":\"scale\",\"factor\":0.5},"
        "{\"type\":\"conv2d\",\"filters\":2,\"kernel\":3,\"activation\":\"relu\"},"
        "{\"type\":\"batch_norm\"},{\"type\":\"flatten\"},"
        "{\"type\":\"dropout\"},{\"type\":\"dense\",\"units\":3}],"
        "\"loss\":\"softmax_cross_entropy\"}";
    struct recipe recipe;
    if (recipe_parse(&recipe, text, error) != 0)
        return -1;
    int status = -1;
    struct network *network = network_new(&recipe, error);
    if (network) {
        network_initialize(network, 1);
        struct graph *g = network_publication(network, &recipe, network->weights, error);
        status = g ? 0 : -1;
        graph_free(g);
    }
    network_free(network);
    recipe_release(&recipe);
    return status;
}

static void a_recipe_becomes_a_network_or_a_reason(void **state)
{
    (void)state;
    torture(build_recipe);
}

/* data */

/* What the wish's JSON is parsed to is there before memory runs out. */
static struct dataset_request wanted;
static const char *features; /* a file of them, or NULL: the request's own */

static int load_wanted(struct nn_error *error)
{
    struct dataset set;
    int status = features ? dataset_load_features(&set, features, &wanted, error)
                          : dataset_load(&set, &wanted, DATASET_TRAIN, error);
    if (status == 0) {
        assert_int_equal(set.n, 2);
        dataset_release(&set);
    } else {
        assert_null(set.features);
    }
    return status;
}

static void torture_loading(const struct wish *wish, const char *file)
{
    struct dataset_input input = wish->input;
    json_t *columns = wish->columns ? json_loads(wish->columns, 0, NULL) : NULL;
    json_t *data = json_loads(wish->data, 0, NULL);
    input.columns = columns;
    wanted = (struct dataset_request){.data = data,
                                      .directory = folder_of_tests(),
                                      .n_inputs = 1,
                                      .inputs = &input,
                                      .target = wish->target,
                                      .n_targets = wish->n_targets};
    features = file;
    torture(load_wanted);
    json_decref(data);
    json_decref(columns);
}

static void data_are_loaded_whole_or_not_at_all(void **state)
{
    (void)state;
    write_file("a.csv", (struct bytes)BYTES("a,b,c\n1,2,u\n3,4,\"v\"\n5,6,u\n7,8,v\n"));
    write_file("images", (struct bytes)BYTES("\0\0\10\3\0\0\0\2\0\0\0\2\0\0\0\3abcdefghijkl"));
    write_gzip("labels", (struct bytes)BYTES("\0\0\10\1\0\0\0\2\0\1"));
    write_file("rows.jsonl", (struct bytes)BYTES("[1,2]\n{\"x\":[3,4]}\n"));
    torture_loading(
        &(struct wish){
            "{\"format\":\"csv\",\"train\":\"a.csv\",\"label\":\"c\",\"header\":true,"
            "\"test\":{\"fraction\":0.5}}",
            TARGET_CLASSES, 2, ROW(2), "[\"a\",\"b\"]"},
        NULL);
    torture_loading(&(struct wish){"{\"format\":\"idx\",\"train\":{\"features\":\"images\","
                                   "\"labels\":\"labels\"}}",
                                   TARGET_CLASSES, 2, IMAGE, NULL},
                    NULL);
    torture_loading(&(struct wish){"{\"format\":\"csv\",\"train\":\"a.csv\",\"label\":0}",
                                   TARGET_CLASSES, 0, ROW(2), NULL},
                    path_of("rows.jsonl"));
}

static int remove_files(void **state)
{
    static const char *const names[] = {"model.safetensors",
                                        "expected.safetensors",
                                        "written.safetensors",
                                        "a.csv",
                                        "images",
                                        "labels",
                                        "rows.jsonl"};
    for (size_t i = 0; i < COUNT(names); i++)
        unlink(path_of(names[i]));
    return remove_folder(state);
}

int main(void)
{
    nn_engine_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bundle_opens_whole_or_not_at_all),
        cmocka_unit_test(a_bundle_is_written_whole_or_not_at_all),
        cmocka_unit_test(a_body_for_which_there_is_no_memory_is_our_fault),
        cmocka_unit_test(a_recipe_becomes_a_network_or_a_reason),
        cmocka_unit_test(data_are_loaded_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_files);
}
