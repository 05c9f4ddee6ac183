/*
 * The trainer's program, as one calls it: $PREDICTD_BUILD/predictd-train.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/formats/bundle.h"
#include "tests/scratch.h"

enum { MAX_WORDS = 16 };

/* Starts the program with words up to NULL; its outputs go to files "out" and "err". */
static pid_t start(const char *const *words)
{
    const char *build = getenv("PREDICTD_BUILD");
    char program[512];
    snprintf(program, sizeof program, "%s/predictd-train", build ? build : "build");
    char *arguments[MAX_WORDS + 2] = {program};
    for (int i = 0; words[i]; i++)
        arguments[i + 1] = (char *)(uintptr_t)words[i];
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        unsetenv("PREDICTD_DATA");
        dup2(open(scratch_path("out"), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
        dup2(open(scratch_path("err"), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
        execv(program, arguments);
        _exit(127);
    }
    return child;
}

static int finish(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#define RUN(...) finish(start((const char *const[]){__VA_ARGS__, NULL}))

/* A whole file of the scratch folder as text; to be freed. */
static char *text_of(const char *name)
{
    size_t size;
    return scratch_read(name, &size);
}

static void assert_says(const char *file, const char *expected)
{
    char *text = text_of(file);
    if (!strstr(text, expected))
        fail_msg("\"%s\" is not in:\n%s", expected, text);
    free(text);
}

static json_t *json_of(const char *name)
{
    char *text = text_of(name);
    json_error_t error;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        fail_msg("%s: %s\n%s", name, error.text, text);
    free(text);
    return json;
}

static const char *write_text(const char *name, const char *text)
{
    scratch_write(name, text, strlen(text));
    return scratch_path(name);
}

static bool exists(const char *name)
{
    return access(scratch_path(name), F_OK) == 0;
}

static const char digits_recipe[] =
    "{\"name\": \"digits\", \"data\": {\"format\": \"digits\", \"train\": 600, \"test\": 100,"
    "\"seed\": 1}, \"inputs\": [{\"name\": \"image\", \"shape\": [1, 28, 28]}],"
    "\"layers\": [{\"type\": \"scale\", \"factor\": 0.004},"
    "{\"type\": \"conv2d\", \"name\": \"edges\", \"filters\": 8, \"kernel\": 3, \"stride\": 2},"
    "{\"type\": \"batch_norm\", \"activation\": \"relu\"}, {\"type\": \"flatten\"},"
    "{\"type\": \"dropout\", \"rate\": 0.1}, {\"type\": \"dense\", \"units\": 10}],"
    "\"loss\": \"softmax_cross_entropy\","
    "\"optimizer\": {\"type\": \"adam\", \"learning_rate\": 0.003},"
    "\"training\": {\"epochs\": 3, \"batch_size\": 50, \"validation_fraction\": 0.1}}";

/* ---- calls that are wrong --------------------------------------------------------------- */

static void wrong_calls_are_named_and_end_with_2(void **state)
{
    (void)state;
    static const struct {
        const char *words[5], *says;
    } cases[] = {
        {{"train"}, "unknown command \"train\""},
        {{"fits", "x"}, "unknown command \"fits\", did you mean \"fit\"?"},
        {{"--verbose"}, "unknown option \"--verbose\""},
        {{"fit"}, "arguments are missing; it takes \"RECIPE\""},
        {{"fit", "a", "b"}, "one argument too many: \"b\""},
        {{"fit", "a", "--epoch", "3"},
         "unknown option \"--epoch\", did you mean \"--epochs\"?"},
        {{"fit", "a", "--epochs"}, "a value is missing after \"--epochs\""},
        {{"fit", ""}, "an argument is empty; it takes \"RECIPE\""},
        {{"fit", "a", "--epochs", "0"}, "--epochs \"0\": expected N from 1 to 1000000"},
        {{"fit", "a", "--epochs=3x"}, "--epochs \"3x\": expected N"},
        {{"fit", "a", "--seed", "-1"}, "--seed \"-1\": expected N from 0"},
        {{"fit", "a", "--threads", ""}, "--threads \"\": expected N from 1"},
        {{"fit", "a", "--json"}, "unknown option \"--json\""},
        {{"evaluate", "a", "--json=1"}, "an option without a value: \"--json\""},
        {{"predict", "a"}, "it takes \"BUNDLE FILE\""},
        {{"summary", "a", "--out", "b"}, "unknown option \"--out\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(finish(start(cases[i].words)), 2);
        assert_says("err", cases[i].says);
    }
}

static void help_and_version_are_given(void **state)
{
    (void)state;
    assert_int_equal(RUN("--help"), 0);
    assert_says("out", "predictd-train fit RECIPE [--data DIR] [--out DIR] [--from BUNDLE] "
                       "[--epochs N] [--seed N] [--threads N]");
    assert_int_equal(RUN("fit", "--help"), 0);
    assert_says("out", "--from    BUNDLE");
    assert_int_equal(RUN("--version"), 0);
    assert_says("out", "predictd-train " PREDICTD_VERSION);
}

static void what_cannot_be_done_is_named_and_ends_with_1(void **state)
{
    (void)state;
    const char *recipe = write_text("bad.json", "{\"name\": \"x\", \"layrs\": []}");
    assert_int_equal(RUN("fit", recipe), 1);
    assert_says("err", "bad.json: ");
    assert_says("err", "layrs");
    assert_int_equal(RUN("fit", "/nonexistent/recipe.json"), 1);
    assert_says("err", "/nonexistent/recipe.json");
    assert_int_equal(RUN("evaluate", "/nonexistent/model.safetensors"), 1);
    assert_says("err", "/nonexistent/model.safetensors");
    assert_int_equal(RUN("predict", "/nonexistent/model.safetensors", "x"), 1);
    assert_int_equal(RUN("summary", recipe), 1);
}

static void a_fraction_without_a_row_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *fraction, *validation, *says;
    } cases[] = {
        {"0.001", "0", "four.csv: data.test.fraction: a fraction of 0.001 of 4 rows"},
        {"0.5", "0.999",
         "cut.json: training.validation_fraction: a fraction of 0.999 of 2 rows"},
    };
    write_text("four.csv", "1,0\n2,1\n3,0\n4,1\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char recipe[512];
        snprintf(recipe, sizeof recipe,
                 "{\"name\": \"cut\", \"data\": {\"format\": \"csv\", \"train\": \"four.csv\","
                 "\"label\": -1, \"test\": {\"fraction\": %s}},"
                 "\"inputs\": [{\"name\": \"x\", \"shape\": [1]}],"
                 "\"layers\": [{\"type\": \"dense\", \"units\": 2}],"
                 "\"loss\": \"softmax_cross_entropy\","
                 "\"training\": {\"validation_fraction\": %s}}",
                 cases[i].fraction, cases[i].validation);
        assert_int_equal(
            RUN("fit", "--data", scratch_path("."), write_text("cut.json", recipe)), 1);
        assert_says("err", cases[i].says);
    }
}

static void an_output_that_is_full_is_a_failure(void **state)
{
    (void)state;
    const char *recipe = write_text("digits.json", digits_recipe);
    unlink(scratch_path("out"));
    assert_int_equal(symlink("/dev/full", scratch_path("out")), 0);
    assert_int_equal(RUN("summary", recipe), 1);
    unlink(scratch_path("out"));
    assert_says("err", "the output cannot be written");
}

static void a_training_that_explodes_names_a_layer_and_publishes_nothing(void **state)
{
    (void)state;
    char *text = strdup(digits_recipe), *rate = strstr(text, "0.003");
    memcpy(rate, "1e+35", 5);
    const char *recipe = write_text("explodes.json", text);
    free(text);
    assert_int_equal(RUN("fit", recipe, "--out", scratch_path("exploded")), 1);
    assert_says("err", "gave values that are not finite");
    assert_says("err", "nothing is published");
    assert_false(exists("exploded"));
}

static void a_folder_that_cannot_be_published_in_is_refused_before_the_training(void **state)
{
    (void)state;
    const char *recipe = write_text("digits.json", digits_recipe);
    const char *file = write_text("file", "no folder");
    char inside[512];
    snprintf(inside, sizeof inside, "%s/deeper/still", file);
    const char *const folders[] = {file, inside};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(RUN("fit", recipe, "--out", folders[i]), 1);
        assert_says("err", i ? "Not a directory" : "file: Not a directory");
        char *out = text_of("out");
        assert_string_equal(out, "");       /* no epoch was trained */
        free(out);
    }
    /* The number of the last version that there can be is taken. */
    mkdir(scratch_path("full"), 0700);
    mkdir(scratch_path("full/999999999999999999"), 0700);
    assert_int_equal(RUN("fit", scratch_path("digits.json"), "--epochs", "1", "--out",
                         scratch_path("full")),
                     1);
    assert_says("err", "no version can follow 999999999999999999");
}

/* A bundle of another net is refused for that, not for the data of the recipe. */
static void weights_to_go_on_from_are_looked_at_before_the_data(void **state)
{
    (void)state;
    const char *recipe = write_text("digits.json", digits_recipe);
    assert_int_equal(RUN("fit", recipe, "--epochs", "1", "--out", scratch_path("from")), 0);
    const char *other = write_text(
        "other.json", "{\"name\": \"other\", \"inputs\": [{\"name\": \"x\", \"shape\": [2]}],"
                      " \"data\": {\"format\": \"csv\", \"train\": \"none\", \"label\": 2},"
                      " \"layers\": [{\"type\": \"dense\", \"units\": 3}],"
                      " \"loss\": \"softmax_cross_entropy\"}");
    assert_int_equal(RUN("fit", other, "--from", scratch_path("from/1/model.safetensors")), 1);
    assert_says("err", "\"dense_1.weight\" is FP32 [10, 1352], the recipe's is FP32 [3, 2]");
}

/* ---- the whole path --------------------------------------------------------------------- */

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
    assert_says("out", "epoch 2/2  loss ");
    assert_says("out", "1/model.safetensors");
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
    assert_says("out", "confusion");

    check_predictions(bundle);
    assert_int_equal(RUN("summary", bundle), 0);
    assert_says("out", "edges");
    assert_int_equal(RUN("summary", recipe), 0);
    assert_says("out", "edges");

    assert_int_equal(RUN("fit", recipe, "--epochs", "1", "--from", bundle), 0);
    assert_says("out", "2/model.safetensors");
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
    assert_says("out", "\"label\":\"rose\"}\n");
    assert_int_equal(RUN("predict", bundle, write_text("bare.csv", "1.2,11\n2.2,57\n")), 1);
    assert_says("err", "bare.csv: no column \"width\"");
    assert_int_equal(RUN("predict", bundle, write_text("bad.csv", "width,length\n1.2,x\n")), 1);
    assert_says("err", "bad.csv:2");

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
    assert_says("err", "names no test data");
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
    pid_t child = start(words);
    wait_for_output("epoch 1/1000000");
    kill(child, SIGINT);
    assert_int_equal(finish(child), 0);
    assert_says("out", "interrupted: epoch ");
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
    assert_says("out", "accuracy 100.00%");
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
    assert_says("out", "\"accuracy\": 0.75");
    assert_says("out", "\"exact_match\": 0.5");
    assert_says("out", "\"A\": {\"f1\": 0.666666667, \"precision\": 1.0, \"recall\": 0.5, ");
    assert_says("out", "\"B\": {\"f1\": 1.0, \"precision\": 1.0, \"recall\": 1.0, ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_calls_are_named_and_end_with_2),
        cmocka_unit_test(help_and_version_are_given),
        cmocka_unit_test(what_cannot_be_done_is_named_and_ends_with_1),
        cmocka_unit_test(a_fraction_without_a_row_is_named),
        cmocka_unit_test(an_output_that_is_full_is_a_failure),
        cmocka_unit_test(a_training_that_explodes_names_a_layer_and_publishes_nothing),
        cmocka_unit_test(a_folder_that_cannot_be_published_in_is_refused_before_the_training),
        cmocka_unit_test(weights_to_go_on_from_are_looked_at_before_the_data),
        cmocka_unit_test(what_is_trained_can_be_evaluated_applied_and_trained_on),
        cmocka_unit_test(the_bundles_bytes_do_not_depend_on_the_threads),
        cmocka_unit_test(tables_are_learned_and_labelled),
        cmocka_unit_test(figures_of_an_evaluation_are_those_by_hand),
        cmocka_unit_test(several_labels_are_learned_and_their_loss_is_the_mean),
        cmocka_unit_test(ctrl_c_publishes_the_best_so_far),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
