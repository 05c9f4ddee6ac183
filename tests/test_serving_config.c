/*
 * serving.json: what is refused and with which words, and what the rest means.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/serving_config.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *text, *says;
} broken[] = {
    {"", "expected an object, got nothing"},
    {" \n", "expected an object, got nothing"},
    {"[]", "expected an object, got an array"},
    {"null", "expected an object, got null"},
    {"{\"warmup\":1", "unexpected end of the body"},
    {"{} {}", "expected nothing more, got '{' (byte 3)"},
    {"{\"max_batchsize\":1}", "max_batchsize: unknown key, did you mean \"max_batch_size\"?"},
    {"{\"frequency_of_it\":1}",
     "frequency_of_it: unknown key, expected one of version_policy, labels, canary_header, "
     "ensemble, max_batch_size, preferred_batch_size, max_queue_delay_us, max_queue_size, "
     "priority_levels, default_priority_level, deadline_ms, warmup, threads"},
    {"{\"warmup\":1,\"warmup\":1}", "warmup: is there twice"},
    {"{\"warmup\":1,\"warm\\u0075p\":1}", "warm\\u0075p: is there twice"},

    {"{\"warmup\":-1}", "warmup: expected an integer from 0 to 65536, got -1"},
    {"{\"warmup\":65537}", "warmup: expected an integer from 0 to 65536, got 65537"},
    {"{\"warmup\":1.0}", "warmup: expected an integer from 0 to 65536, got 1.0"},
    {"{\"warmup\":1e3}", "warmup: expected an integer from 0 to 65536, got 1e3"},
    {"{\"warmup\":99999999999999999999}",
     "warmup: expected an integer from 0 to 65536, got 99999999999999999999"},
    {"{\"warmup\":\"1\"}", "warmup: expected an integer from 0 to 65536, got a string"},
    {"{\"warmup\":null}", "warmup: expected an integer from 0 to 65536, got null"},
    {"{\"max_batch_size\":0}", "max_batch_size: expected an integer from 1 to 65536, got 0"},
    {"{\"max_queue_delay_us\":10000001}",
     "max_queue_delay_us: expected an integer from 0 to 10000000, got 10000001"},
    {"{\"max_queue_size\":0}", "max_queue_size: expected an integer from 1 to 1048576, got 0"},
    {"{\"deadline_ms\":0}", "deadline_ms: expected an integer from 1 to 3600000, got 0"},
    {"{\"threads\":65}", "threads: expected an integer from 0 to 64, got 65"},
    {"{\"preferred_batch_size\":0}",
     "preferred_batch_size: expected an integer from 1 to 65536, got 0"},
    {"{\"preferred_batch_size\":9,\"max_batch_size\":8}",
     "preferred_batch_size: expected at most max_batch_size, 8, got 9"},
    {"{\"threads\":0,\"max_queue_delay_us\":1}",
     "max_queue_delay_us: expected 0, as threads is 0 and event loops do not wait, got 1"},
    {"{\"priority_levels\":11}", "priority_levels: expected an integer from 1 to 10, got 11"},
    {"{\"priority_levels\":0}", "priority_levels: expected an integer from 1 to 10, got 0"},
    {"{\"default_priority_level\":0}",
     "default_priority_level: expected an integer from 1 to 10, got 0"},
    {"{\"default_priority_level\":4}",
     "default_priority_level: expected at most priority_levels, 3, got 4"},
    {"{\"default_priority_level\":3,\"priority_levels\":2}",
     "default_priority_level: expected at most priority_levels, 2, got 3"},

    {"{\"ensemble\":\"a\"}", "ensemble: expected an array of models' names, got a string"},
    {"{\"ensemble\":[]}", "ensemble: expected at least one model"},
    {"{\"ensemble\":[\"a\",1]}", "ensemble[1]: expected the name of a model, got a number"},
    {"{\"ensemble\":[\"a/b\"]}", "ensemble[0]: expected the name of a model, got \"a/b\""},
    {"{\"ensemble\":[\"..\"]}", "ensemble[0]: expected the name of a model, got \"..\""},
    {"{\"ensemble\":[\"a\",\"b\",\"a\"]}", "ensemble[2]: a is there twice"},
    {"{\"ensemble\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\",\"j\",\"k\",\"l\",\"m\","
     "\"n\",\"o\",\"p\",\"q\"]}",
     "ensemble: expected at most 16 models"},
    {"{\"ensemble\":[\"a\"],\"version_policy\":\"all\"}",
     "version_policy: means nothing in an ensemble"},
    {"{\"labels\":{\"a\":1},\"ensemble\":[\"a\"]}", "labels: means nothing in an ensemble"},
    {"{\"ensemble\":[\"a\"],\"canary_header\":\"x\"}",
     "canary_header: means nothing in an ensemble"},
    {"{\"ensemble\":[\"a\"],\"warmup\":1}", "warmup: means nothing in an ensemble"},
    {"{\"ensemble\":[\"a\"],\"threads\":1}", "threads: means nothing in an ensemble"},

    {"{\"version_policy\":\"latest\"}",
     "version_policy: expected \"all\", {\"latest\": N} or {\"specific\": [version, ...]}, got "
     "a string"},
    {"{\"version_policy\":1}",
     "version_policy: expected \"all\", {\"latest\": N} or {\"specific\": [version, ...]}, got "
     "a number"},
    {"{\"version_policy\":{}}",
     "version_policy: expected \"latest\" or \"specific\", got neither"},
    {"{\"version_policy\":{\"latest\":1,\"specific\":[1]}}",
     "version_policy: expected \"latest\" or \"specific\", got both"},
    {"{\"version_policy\":{\"lastest\":1}}",
     "version_policy.lastest: unknown key, did you mean \"latest\"?"},
    {"{\"version_policy\":{\"latest\":0}}",
     "version_policy.latest: expected an integer from 1 to 1000000, got 0"},
    {"{\"version_policy\":{\"specific\":3}}",
     "version_policy.specific: expected an array of versions, got a number"},
    {"{\"version_policy\":{\"specific\":[]}}",
     "version_policy.specific: expected at least one version"},
    {"{\"version_policy\":{\"specific\":[1,\"01\"]}}",
     "version_policy.specific[1]: expected a version, got \"01\""},
    {"{\"version_policy\":{\"specific\":[1,0]}}",
     "version_policy.specific[1]: expected a version, got 0"},
    {"{\"version_policy\":{\"specific\":[1,2.5]}}",
     "version_policy.specific[1]: expected a version, got 2.5"},
    {"{\"version_policy\":{\"specific\":[[1]]}}",
     "version_policy.specific[0]: expected a version, got an array"},
    {"{\"version_policy\":{\"specific\":[7,\"7\"]}}",
     "version_policy.specific[1]: version 7 is there twice"},

    {"{\"labels\":[]}", "labels: expected an object of versions by label, got an array"},
    {"{\"labels\":{\"a b\":1}}",
     "labels.a b: expected a label of 1 to 64 letters, digits, '_', '.' and '-'"},
    {"{\"labels\":{\"\":1}}",
     "labels.: expected a label of 1 to 64 letters, digits, '_', '.' and '-'"},
    {"{\"labels\":{\"stable\":true}}", "labels.stable: expected a version, got a boolean"},
    {"{\"labels\":{\"stable\":\"newest\"}}",
     "labels.stable: expected a version, got \"newest\""},
    {"{\"labels\":{\"stable\":1,\"stable\":2}}", "labels.stable: is there twice"},
    {"{\"labels\":{\"stable\":{}}}", "labels.stable: \"version\" is missing"},
    {"{\"labels\":{\"stable\":{\"version\":1,\"wieght\":1}}}",
     "labels.stable.wieght: unknown key, did you mean \"weight\"?"},
    {"{\"labels\":{\"stable\":{\"version\":1,\"weight\":\"5\"}}}",
     "labels.stable.weight: expected an integer from 0 to 1000000, got a string"},
    {"{\"labels\":{\"stable\":{\"version\":1,\"weight\":-5}}}",
     "labels.stable.weight: expected an integer from 0 to 1000000, got -5"},
    {"{\"labels\":{\"stable\":{\"version\":1,\"weight\":0}}}",
     "labels: expected a weight above 0"},

    {"{\"canary_header\":\"x-user-id\"}", "canary_header: no label has a weight"},
    {"{\"labels\":{\"s\":1},\"canary_header\":\"x-user-id\"}",
     "canary_header: no label has a weight"},
    {"{\"canary_header\":\"x user\"}",
     "canary_header: expected a header's name, got \"x user\""},
    {"{\"canary_header\":\"\"}", "canary_header: expected a header's name, got \"\""},
    {"{\"canary_header\":7}", "canary_header: expected a header's name, got a number"},
};

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct serving_config config;
        struct nn_error error = {0};
        size_t size = strlen(broken[i].text);
        char *copy = malloc(size ? size : 1); /* whoever reads behind it is caught */
        assert_non_null(copy);
        memcpy(copy, broken[i].text, size);
        int result = serving_config_read(&config, copy, size, &error);
        free(copy);
        assert_string_equal(error.text, broken[i].says);
        assert_int_equal(result, -1);
    }
}

static void every_text_that_is_cut_is_refused(void **state)
{
    static const char text[] =
        "{\"version_policy\":{\"specific\":[1,\"2\"]},\"labels\":{\"a\":{\"version\":1,"
        "\"weight\":2},\"b\":\"2\"},\"canary_header\":\"X-User\",\"warmup\":3}";
    struct serving_config config;
    (void)state;
    assert_int_equal(serving_config_read(&config, text, sizeof text - 1, NULL), 0);
    for (size_t size = 0; size < sizeof text - 1; size++) {
        char *copy = malloc(size ? size : 1);
        assert_non_null(copy);
        memcpy(copy, text, size);
        assert_int_equal(serving_config_read(&config, copy, size, NULL), -1);
        free(copy);
    }
}

static void read_sound(struct serving_config *config, const char *text)
{
    struct nn_error error = {0};
    if (serving_config_read(config, text, strlen(text), &error) != 0)
        fail_msg("%s: %s", text, error.text);
}

static void what_is_not_said_has_a_default(void **state)
{
    struct serving_config c;
    (void)state;
    read_sound(&c, "{}");
    assert_int_equal(c.policy, SERVING_LATEST);
    assert_int_equal(c.latest, 1);
    assert_int_equal(c.n_labels, 0);
    assert_int_equal(c.weights, 0);
    assert_string_equal(c.canary_header, "");
    assert_int_equal(c.warmup, 1);
    assert_int_equal(c.n_members, 0);
    const int64_t flags[] = {c.max_batch_size,  c.preferred_batch_size,  c.max_queue_delay_us,
                             c.max_queue_size,  c.deadline_ms,           c.threads,
                             c.priority_levels, c.default_priority_level};
    for (int i = 0; i < 8; i++)
        assert_int_equal(flags[i], -1);
}

static void what_is_said_is_read(void **state)
{
    struct serving_config c;
    (void)state;
    read_sound(&c,
               "{\"default_priority_level\":3}"); /* of 3 levels where nobody says how many */
    assert_int_equal(c.default_priority_level, 3);
    assert_int_equal(c.priority_levels, -1);
    read_sound(&c,
               " {\"version_policy\": {\"latest\": 3}, \"max_batch_size\": 8,\n"
               "\"max_queue_delay_us\": 250, \"max_queue_size\": 100, \"deadline_ms\": 40,\n"
               "\"warmup\": 0, \"threads\": 2,\n"
               "\"labels\": {\"stable\": {\"version\": 3, \"weight\": 95}, \"old\": \"1\",\n"
               "             \"canary\": {\"weight\": 5, \"version\": \"4\"}},\n"
               "\"canary_header\": \"X-User-ID\"} ");
    assert_int_equal(c.policy, SERVING_LATEST);
    assert_int_equal(c.latest, 3);
    assert_int_equal(c.max_batch_size, 8);
    assert_int_equal(c.max_queue_delay_us, 250);
    assert_int_equal(c.max_queue_size, 100);
    assert_int_equal(c.deadline_ms, 40);
    assert_int_equal(c.warmup, 0);
    assert_int_equal(c.threads, 2);
    assert_int_equal(c.n_labels, 3);
    assert_string_equal(c.labels[0].name, "stable");
    assert_int_equal(c.labels[0].version, 3);
    assert_int_equal(c.labels[0].weight, 95);
    assert_string_equal(c.labels[1].name, "old");
    assert_int_equal(c.labels[1].version, 1);
    assert_int_equal(c.labels[1].weight, -1);
    assert_string_equal(c.labels[2].name, "canary");
    assert_int_equal(c.labels[2].version, 4);
    assert_int_equal(c.weights, 100);
    assert_string_equal(c.canary_header, "X-User-ID");

    read_sound(&c, "{\"default_priority_level\":2,\"priority_levels\":3,"
                   "\"preferred_batch_size\":8,\"max_batch_size\":8}");
    assert_int_equal(c.priority_levels, 3);
    assert_int_equal(c.default_priority_level, 2);
    assert_int_equal(c.preferred_batch_size, 8);

    read_sound(&c, "{\"ensemble\": [ \"a\" , \"b-2\"], \"deadline_ms\": 9}");
    assert_int_equal(c.n_members, 2);
    assert_string_equal(c.members[0], "a");
    assert_string_equal(c.members[1], "b-2");
    assert_int_equal(c.deadline_ms, 9);

    read_sound(&c, "{\"version_policy\":\"all\"}");
    assert_int_equal(c.policy, SERVING_ALL);
    read_sound(&c, "{\"version_policy\":{\"specific\":[7,\"2\"]},\"labels\":{\"a\":9}}");
    assert_int_equal(c.policy, SERVING_SPECIFIED);
    for (int version = 1; version < 12; version++)
        assert_int_equal(serving_config_names(&c, version),
                         version == 2 || version == 7 || version == 9);
}

static void only_a_sound_file_of_bounded_size_is_read(void **state)
{
    char folder[] = "/tmp/predictd-test-XXXXXX", path[64], expected[160];
    struct serving_config c;
    struct nn_error error = {0};
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/serving.json", folder);
    assert_int_equal(serving_config_load(&c, path, NULL), 0);
    assert_int_equal(c.latest, 1);

    assert_int_equal(symlink("nowhere", path), 0);
    assert_int_equal(serving_config_load(&c, path, &error), -1);
    snprintf(expected, sizeof expected, "%s: No such file or directory", path);
    assert_string_equal(error.text, expected);
    unlink(path);

    assert_int_equal(mkfifo(path, 0600), 0);
    error.text[0] = 0;
    assert_int_equal(serving_config_load(&c, path, &error), -1);
    snprintf(expected, sizeof expected, "%s: expected a file", path);
    assert_string_equal(error.text, expected);
    unlink(path);

    for (int extra = 0; extra < 2; extra++) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        for (int i = 0; i < SERVING_FILE - 2 + extra; i++)
            fputc(' ', file);
        fputs("{}", file);
        assert_int_equal(fclose(file), 0);
        error.text[0] = 0;
        assert_int_equal(serving_config_load(&c, path, &error), -extra);
    }
    snprintf(expected, sizeof expected, "%s: expected at most 65536 bytes", path);
    assert_string_equal(error.text, expected);
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(every_text_that_is_cut_is_refused),
        cmocka_unit_test(what_is_not_said_has_a_default),
        cmocka_unit_test(what_is_said_is_read),
        cmocka_unit_test(only_a_sound_file_of_bounded_size_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
