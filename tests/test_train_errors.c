/*
 * Calls of the trainer's program that are wrong, or of what cannot be done.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/scratch.h"
#include "tests/train_program.h"

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
        assert_int_equal(train_finish(train_start(cases[i].words)), 2);
        assert_file_says("err", cases[i].says);
    }
}

static void help_and_version_are_given(void **state)
{
    (void)state;
    assert_int_equal(RUN("--help"), 0);
    assert_file_says("out", "predictd-train fit RECIPE [--data DIR] [--out DIR] [--from BUNDLE] "
                       "[--epochs N] [--seed N] [--threads N]");
    assert_int_equal(RUN("fit", "--help"), 0);
    assert_file_says("out", "--from    BUNDLE");
    assert_int_equal(RUN("--version"), 0);
    assert_file_says("out", "predictd-train " PREDICTD_VERSION);
}

static void what_cannot_be_done_is_named_and_ends_with_1(void **state)
{
    (void)state;
    const char *recipe = write_text("bad.json", "{\"name\": \"x\", \"layrs\": []}");
    assert_int_equal(RUN("fit", recipe), 1);
    assert_file_says("err", "bad.json: ");
    assert_file_says("err", "layrs");
    assert_int_equal(RUN("fit", "/nonexistent/recipe.json"), 1);
    assert_file_says("err", "/nonexistent/recipe.json");
    assert_int_equal(RUN("evaluate", "/nonexistent/model.safetensors"), 1);
    assert_file_says("err", "/nonexistent/model.safetensors");
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
        assert_file_says("err", cases[i].says);
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
    assert_file_says("err", "the output cannot be written");
}

static void a_training_that_explodes_names_a_layer_and_publishes_nothing(void **state)
{
    (void)state;
    char *text = strdup(digits_recipe), *rate = strstr(text, "0.003");
    memcpy(rate, "1e+35", 5);
    const char *recipe = write_text("explodes.json", text);
    free(text);
    assert_int_equal(RUN("fit", recipe, "--out", scratch_path("exploded")), 1);
    assert_file_says("err", "gave values that are not finite");
    assert_file_says("err", "nothing is published");
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
        assert_file_says("err", i ? "Not a directory" : "file: Not a directory");
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
    assert_file_says("err", "no version can follow 999999999999999999");
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
    assert_file_says("err", "\"dense_1.weight\" is FP32 [10, 1352], the recipe's is FP32 [3, 2]");
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
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
