/*
 * The trainer's program, as one calls it: from data to bundles that are evaluated, applied and
 * trained on.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/formats/bundle.h"
#include "tests/scratch.h"
#include "tests/train_program.h"

/* One sample for predict: 784 numbers in a line. */
static void write_images(const char *name)
{
    char text[8192];
    int length = 0;
    for (int row = 0; row < 2; row++) {
        text[length++] = '[';
        for (int i = 0; i < 784; i++)
            length += snprintf(text + length, sizeof text - (size_t)length, "%s%d",
                               i ? "," : "", (i * (row + 3)) % 256);
        length += snprintf(text + length, sizeof text - (size_t)length, "]\n");
    }
    scratch_write(name, text, (size_t)length);
}

static void check_predictions(const char *bundle)
{
    write_images("images.jsonl");
    assert_int_equal(RUN("predict", bundle, scratch_path("images.jsonl")), 0);
    char *text = text_of("out"), *rest = text;
    for (int row = 0; row < 2; row++) {
        char *line = strsep(&rest, "\n");
        json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, NULL), *value;
        assert_non_null(json);
        json_t *prediction = json_object_get(json, "prediction");
        assert_int_equal(json_array_size(prediction), 10);
        double sum = 0, best = -1;
        size_t i, class = 0;
        json_array_foreach(prediction, i, value)
        {
            sum += json_real_value(value);
            if (json_real_value(value) > best) {
                best = json_real_value(value);
                class = i;
            }
        }
        assert_true(fabs(sum - 1) < 1e-5);
        char label[16];
        snprintf(label, sizeof label, "%zu", class);
        assert_string_equal(json_string_value(json_object_get(json, "label")), label);
        json_decref(json);
    }
    assert_string_equal(rest, "");
    free(text);
}

static json_t *metadata_of(const char *path, const char *key)
{
    struct bundle bundle;
    struct nn_error error = {0};
    if (bundle_read(&bundle, path, &error) != 0)
        fail_msg("%s", error.text);
    json_t *json = json_loads(bundle_metadata(&bundle, key), 0, NULL);
    assert_non_null(json);
    bundle_release(&bundle);
    return json;
}

static void check_provenance(const char *path)
{
    json_t *recipe = metadata_of(path, "recipe"), *training = metadata_of(path, "training");
    const json_t *used = json_object_get(recipe, "training");
    assert_int_equal(json_integer_value(json_object_get(used, "epochs")), 2);
    assert_int_equal(json_integer_value(json_object_get(used, "seed")), 7);
    assert_int_equal(json_integer_value(json_object_get(training, "epochs")), 2);
    const json_t *metrics = json_object_get(training, "metrics");
    assert_true(json_real_value(json_object_get(metrics, "validation_accuracy")) > 0);
    assert_null(json_object_get(training, "seconds"));
    json_decref(recipe);
    json_decref(training);
}

static void what_is_trained_can_be_evaluated_applied_and_trained_on(void **state)
{
    (void)state;
    char recipe[512], bundle[512];
    snprintf(recipe, sizeof recipe, "%s", write_text("recipe.json", digits_recipe));
    assert_int_equal(RUN("fit", recipe, "--epochs", "2", "--seed=7"), 0);
    assert_file_says("out", "epoch 2/2  loss ");
    assert_file_says("out", "1/model.safetensors");
    snprintf(bundle, sizeof bundle, "%s", scratch_path("1/model.safetensors"));
    check_provenance(bundle);
    char *history = text_of("1/history.csv");
    assert_int_equal(strncmp(history,
                             "epoch,learning_rate,loss,accuracy,validation_loss,"
                             "validation_accuracy,seconds,elapsed_seconds\n1,",
                             87),
                     0);
    free(history);

    assert_int_equal(RUN("evaluate", bundle, "--json"), 0);
    json_t *report = json_of("out");
    double accuracy = json_real_value(json_object_get(report, "accuracy"));
    assert_true(accuracy > 0.2 && accuracy <= 1);
    assert_int_equal(json_integer_value(json_object_get(report, "samples")), 100);
    assert_int_equal(json_array_size(json_object_get(report, "confusion")), 10);
    json_decref(report);
    assert_int_equal(RUN("evaluate", bundle), 0);
    assert_file_says("out", "confusion");

    check_predictions(bundle);
    assert_int_equal(RUN("summary", bundle), 0);
    assert_file_says("out", "edges");
    assert_int_equal(RUN("summary", recipe), 0);
    assert_file_says("out", "edges");

    assert_int_equal(RUN("fit", recipe, "--epochs", "1", "--from", bundle), 0);
    assert_file_says("out", "2/model.safetensors");
    assert_true(exists("2/history.csv"));
    assert_int_equal(RUN("evaluate", scratch_path("2/model.safetensors"), "--json"), 0);
    report = json_of("out");
    assert_true(json_real_value(json_object_get(report, "accuracy")) > accuracy - 0.1);
    json_decref(report);
}

static void the_bundles_bytes_do_not_depend_on_the_threads(void **state)
{
    (void)state;
    char recipe[512];
    snprintf(recipe, sizeof recipe, "%s", write_text("same.json", digits_recipe));
    char *first = NULL;
    size_t first_size = 0;
    for (int i = 1; i <= 3; i++) {
        char threads[16], name[64];
        snprintf(threads, sizeof threads, "%d", i);
        assert_int_equal(RUN("fit", recipe, "--epochs", "1", "--threads", threads, "--out",
                             scratch_path("same")),
                         0);
        snprintf(name, sizeof name, "same/%d/model.safetensors", i);
        size_t size;
        char *bytes = scratch_read(name, &size);
        if (first) {
            assert_int_equal(size, first_size);
            assert_memory_equal(bytes, first, size);
            free(bytes);
        } else {
            first = bytes;
            first_size = size;
        }
    }
    free(first);
}

static const char flowers_recipe[] =
    "{\"name\": \"flowers\", \"data\": {\"format\": \"csv\", \"train\": \"flowers.csv\","
    "\"header\": true, \"label\": \"kind\"%s},"
    "\"inputs\": [{\"name\": \"sizes\", \"shape\": [2]}],"
    "\"layers\": [{\"type\": \"standardize\"}, {\"type\": \"dense\", \"units\": 2}],"
    "\"loss\": \"softmax_cross_entropy\","
    "\"optimizer\": {\"type\": \"sgd\", \"learning_rate\": 1},"
    "\"training\": {\"epochs\": 40, \"batch_size\": 4}}";

static void tables_are_learned_and_labelled(void **state)
{
    (void)state;
    char text[2048], folder[512], bundle[512];
    write_text("flowers.csv", "width,kind,length\n1,rose,10\n2,tulip,60\n1.5,rose,12\n"
                              "2.5,tulip,55\n");
    snprintf(text, sizeof text, flowers_recipe, ", \"test\": \"flowers.csv\"");
    const char *recipe = write_text("flowers.json", text);
    snprintf(folder, sizeof folder, "%s", scratch_path("flowers.csv"));
    *strrchr(folder, '/') = '\0';
    assert_int_equal(RUN("fit", recipe, "--data", folder, "--out", scratch_path("flowers")), 0);
    snprintf(bundle, sizeof bundle, "%s", scratch_path("flowers/1/model.safetensors"));

    assert_int_equal(RUN("evaluate", bundle, "--data", folder, "--json"), 0);
    json_t *report = json_of("out");
    assert_true(json_number_value(json_object_get(report, "accuracy")) == 1);
    json_decref(report);
    assert_int_equal(
        RUN("predict", bundle, write_text("new.csv", "width,length\n1.2,11\n2.2,57\n")), 0);
    char *lines = text_of("out");
    const char *rose = strstr(lines, "\"label\":\"rose\"}\n");
    assert_non_null(rose);
    assert_non_null(strstr(rose, "\"label\":\"tulip\"}\n"));
    free(lines);

    /* Columns are found by their names; where those are not there, no row is taken for them. */
    assert_int_equal(
        RUN("predict", bundle, write_text("turned.csv", "id,length,width\n7,11,1.2\n")), 0);
    assert_file_says("out", "\"label\":\"rose\"}\n");
    assert_int_equal(RUN("predict", bundle, write_text("bare.csv", "1.2,11\n2.2,57\n")), 1);
    assert_file_says("err", "bare.csv: no column \"width\"");
    assert_int_equal(RUN("predict", bundle, write_text("bad.csv", "width,length\n1.2,x\n")), 1);
    assert_file_says("err", "bad.csv:2");

    /* Going on with columns in another order. */
    write_text("flowers.csv", "length,kind,width\n10,rose,1\n60,tulip,2\n12,rose,1.5\n"
                              "55,tulip,2.5\n");
    recipe = scratch_path("flowers.json");
    assert_int_equal(RUN("fit", recipe, "--data", folder, "--out", scratch_path("flowers"),
                         "--from", bundle, "--epochs", "1"),
                     0);
    snprintf(bundle, sizeof bundle, "%s", scratch_path("flowers/2/model.safetensors"));
    assert_int_equal(RUN("evaluate", bundle, "--data", folder, "--json"), 0);
    report = json_of("out");
    assert_true(json_number_value(json_object_get(report, "accuracy")) == 1);
    json_decref(report);

    snprintf(text, sizeof text, flowers_recipe, "");
    recipe = write_text("untested.json", text);
    assert_int_equal(RUN("fit", recipe, "--data", folder, "--out", scratch_path("untested")),
                     0);
    assert_int_equal(
        RUN("evaluate", scratch_path("untested/1/model.safetensors"), "--data", folder), 1);
    assert_file_says("err", "names no test data");
}

/* Evaluates a model of 2 x + 1 on answers that are all 0.5 too large, and one of two kinds of
 * flowers on four rows of which the last has the wrong name: by hand, the matrix is
 *
 *              rose tulip
 *     rose        2     1         precision of rose 2/2, recall 2/3
 *     tulip       0     1         precision of tulip 1/2, recall 1/1
 */
static void figures_of_an_evaluation_are_those_by_hand(void **state)
{
    (void)state;
    char folder[512], recipe[512], text[2048];
    write_text("line.csv", "0,1\n1,3\n2,5\n-1,-1\n");
    write_text("shifted.csv", "0,1.5\n1,3.5\n5,11.5\n");
    snprintf(recipe, sizeof recipe, "%s", write_text("line.json",
             "{\"name\": \"line\", \"data\": {\"format\": \"csv\", \"train\": \"line.csv\","
             "\"test\": \"shifted.csv\", \"label\": 1, \"target\": \"values\"},"
             "\"inputs\": [{\"name\": \"x\", \"shape\": [1]}],"
             "\"layers\": [{\"type\": \"dense\", \"units\": 1}], \"loss\": \"mean_squared_error\","
             "\"optimizer\": {\"type\": \"sgd\", \"learning_rate\": 0.2},"
             "\"training\": {\"epochs\": 200, \"batch_size\": 4}}"));
    snprintf(folder, sizeof folder, "%s", recipe);
    *strrchr(folder, '/') = '\0';
    assert_int_equal(RUN("fit", recipe, "--data", folder, "--out", scratch_path("line")), 0);
    assert_int_equal(RUN("evaluate", scratch_path("line/1/model.safetensors"), "--data", folder,
                         "--json"), 0);
    json_t *report = json_of("out");
    assert_true(fabs(json_real_value(json_object_get(report, "loss")) - 0.25) < 1e-4);
    assert_true(fabs(json_real_value(json_object_get(report, "mean_absolute_error")) - 0.5)
                < 1e-4);
    assert_null(json_object_get(report, "accuracy"));
    json_decref(report);

    write_text("flowers.csv", "width,kind,length\n1,rose,10\n2,tulip,60\n1.5,rose,12\n"
                              "2.5,tulip,55\n");
    write_text("wrong.csv", "width,kind,length\n1,rose,10\n2,tulip,60\n1.5,rose,12\n"
                            "2.5,rose,55\n");
    snprintf(text, sizeof text, flowers_recipe, ", \"test\": \"wrong.csv\"");
    snprintf(recipe, sizeof recipe, "%s", write_text("wrong.json", text));
    assert_int_equal(RUN("fit", recipe, "--data", folder, "--out", scratch_path("wrong")), 0);
    assert_int_equal(RUN("evaluate", scratch_path("wrong/1/model.safetensors"), "--data", folder,
                         "--json"), 0);
    report = json_of("out");
    json_error_t error;
    int a, b, c, d;
    double accuracy, rose[3], tulip[3];
    if (json_unpack_ex(report, &error, 0,
                       "{s:F, s:[[ii][ii]], s:{s:{s:F,s:F,s:F}, s:{s:F,s:F,s:F}}}", "accuracy",
                       &accuracy, "confusion", &a, &b, &c, &d, "classes", "rose", "precision",
                       &rose[0], "recall", &rose[1], "f1", &rose[2], "tulip", "precision",
                       &tulip[0], "recall", &tulip[1], "f1", &tulip[2]) != 0)
        fail_msg("%s", error.text);
    assert_true(accuracy == 0.75);
    assert_true(a == 2 && b == 1 && c == 0 && d == 1);
    assert_true(rose[0] == 1 && fabs(rose[1] - 2.0 / 3) < 1e-6 && fabs(rose[2] - 0.8) < 1e-6);
    assert_true(tulip[0] == 0.5 && tulip[1] == 1 && fabs(tulip[2] - 2.0 / 3) < 1e-6);
    json_decref(report);
}

static void wait_for_output(const char *expected)
{
    for (int i = 0; i < 3000; i++) {
        if (exists("out")) {
            char *text = text_of("out");
            bool found = strstr(text, expected) != NULL;
            free(text);
            if (found)
                return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    fail_msg("\"%s\" did not come", expected);
}

static void ctrl_c_publishes_the_best_so_far(void **state)
{
    (void)state;
    const char *recipe = write_text("endless.json", digits_recipe);
    unlink(scratch_path("out"));
    const char *const words[] = {
        "fit", recipe, "--epochs", "1000000", "--out", scratch_path("interrupted"), NULL};
    pid_t child = train_start(words);
    wait_for_output("epoch 1/1000000");
    kill(child, SIGINT);
    assert_int_equal(train_finish(child), 0);
    assert_file_says("out", "interrupted: epoch ");
    assert_int_equal(RUN("evaluate", scratch_path("interrupted/1/model.safetensors")), 0);
}

/* Two answers a row, each yes or no; the loss of a model is the mean over both. */
static void several_labels_are_learned_and_their_loss_is_the_mean(void **state)
{
    (void)state;
    char folder[512], recipe[512], table[4096] = "a,b,A,B\n";
    for (int i = 0; i < 100; i++) {
        int a = i % 10 - 5, b = i / 10 - 5;
        snprintf(table + strlen(table), sizeof table - strlen(table), "%d.5,%d.5,%d,%d\n", a, b,
                 a >= 0, b >= 0);
    }
    write_text("both.csv", table);
    snprintf(recipe, sizeof recipe, "%s", write_text("both.json",
             "{\"name\": \"both\", \"data\": {\"format\": \"csv\", \"train\": \"both.csv\","
             "\"test\": \"both.csv\", \"header\": true, \"label\": [\"A\", \"B\"]},"
             "\"inputs\": [{\"name\": \"x\", \"shape\": [2]}],"
             "\"layers\": [{\"type\": \"dense\", \"units\": 2}],"
             "\"loss\": \"sigmoid_cross_entropy\","
             "\"optimizer\": {\"type\": \"adam\", \"learning_rate\": 0.1},"
             "\"training\": {\"epochs\": 60, \"batch_size\": 20}}"));
    snprintf(folder, sizeof folder, "%s", recipe);
    *strrchr(folder, '/') = '\0';
    assert_int_equal(RUN("fit", recipe, "--data", folder, "--out", scratch_path("both")), 0);
    assert_file_says("out", "accuracy 100.00%");
    char bundle[512];
    snprintf(bundle, sizeof bundle, "%s", scratch_path("both/1/model.safetensors"));
    assert_int_equal(RUN("predict", bundle, scratch_path("both.csv")), 0);
    char *text = text_of("out"), *rest = text;
    double loss = 0;
    for (int i = 0; i < 100; i++) {
        json_t *json = json_loads(strsep(&rest, "\n"), 0, NULL);
        for (int k = 0; k < 2; k++) {
            double p = json_number_value(
                json_array_get(json_object_get(json, "prediction"), (size_t)k));
            bool yes = (k ? i / 10 : i % 10) >= 5;
            assert_true(yes == (p > 0.5));
            loss -= log(yes ? p : 1 - p) / 200;
        }
        json_decref(json);
    }
    free(text);
    assert_int_equal(RUN("evaluate", bundle, "--data", folder, "--json"), 0);
    json_t *report = json_of("out");
    assert_true(fabs(json_number_value(json_object_get(report, "loss")) - loss) < 1e-6);
    json_decref(report);

    /* By hand: of two rows both answers, and the one for B, are what the model says. */
    write_text("both.csv", "a,b,A,B\n4.5,4.5,1,1\n-4.5,4.5,1,1\n");
    assert_int_equal(RUN("evaluate", bundle, "--data", folder, "--json"), 0);
    assert_file_says("out", "\"accuracy\": 0.75");
    assert_file_says("out", "\"exact_match\": 0.5");
    assert_file_says("out",
                     "\"A\": {\"f1\": 0.666666667, \"precision\": 1.0, \"recall\": 0.5, ");
    assert_file_says("out", "\"B\": {\"f1\": 1.0, \"precision\": 1.0, \"recall\": 1.0, ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_trained_can_be_evaluated_applied_and_trained_on),
        cmocka_unit_test(the_bundles_bytes_do_not_depend_on_the_threads),
        cmocka_unit_test(tables_are_learned_and_labelled),
        cmocka_unit_test(figures_of_an_evaluation_are_those_by_hand),
        cmocka_unit_test(several_labels_are_learned_and_their_loss_is_the_mean),
        cmocka_unit_test(ctrl_c_publishes_the_best_so_far),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
