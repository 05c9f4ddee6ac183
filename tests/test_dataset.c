#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/dataset_files.h"

/* recipes */

static void data_that_no_format_takes_is_refused_by_path(void **state)
{
    (void)state;
    static const struct {
        const char *data, *error;
    } rows[] = {
        {"[]", "data: expected an object, got []"},
        {"{}", "data.format: expected idx, csv or digits, got nothing"},
        {"{\"format\": 3}", "data.format: expected idx, csv or digits, got 3"},
        {"{\"format\": \"digit\"}",
         "data.format: unknown value \"digit\", did you mean \"digits\"?"},
        {"{\"format\": \"parquet\"}",
         "data.format: expected idx, csv or digits, got \"parquet\""},
        {"{\"format\": \"jsonl\"}", "data.format: expected idx, csv or digits, got \"jsonl\""},
        {"{\"format\": \"digits\", \"trian\": 5}",
         "data.trian: unknown key, did you mean \"train\"?"},
        {"{\"format\": \"digits\", \"train\": 0}",
         "data.train: expected an integer from 1 to 10000000, got 0"},
        {"{\"format\": \"digits\", \"labels\": [\"a\", \"b\"]}",
         "data.labels: expected ten names, got [\"a\",\"b\"]"},
        {"{\"format\": \"digits\", \"labels\": []}",
         "data.labels: expected a list of names, got []"},
        {"{\"format\": \"digits\", \"labels\": [\"a\", 1]}",
         "data.labels[1]: expected a name, got 1"},
        {"{\"format\": \"digits\", \"labels\": [\"a\", \"a\"]}",
         "data.labels[1]: \"a\" is there already"},
        {"{\"format\": \"digits\", \"target\": \"class\"}",
         "data.target: unknown value \"class\", did you mean \"classes\"?"},
        {"{\"format\": \"idx\"}", "data.train: missing"},
        {"{\"format\": \"idx\", \"train\": \"f\"}",
         "data.train: expected an object, got \"f\""},
        {"{\"format\": \"idx\", \"train\": {}}", "data.train.features: missing"},
        {"{\"format\": \"idx\", \"train\": {\"features\": 1}}",
         "data.train.features: expected a file, or an object of files by input, got 1"},
        {"{\"format\": \"idx\", \"train\": {\"features\": {\"a\": 1}}}",
         "data.train.features.a: expected a file, got 1"},
        {"{\"format\": \"idx\", \"train\": {\"features\": \"f\"}, \"test\": {\"feature\": \"f\"}}",
         "data.test.feature: unknown key, did you mean \"features\"?"},
        {"{\"format\": \"csv\"}", "data.train: missing"},
        {"{\"format\": \"csv\", \"train\": \"f\", \"delimiter\": \"\"}",
         "data.delimiter: expected one character that is no quote and no line end, got \"\""},
        {"{\"format\": \"csv\", \"train\": \"f\", \"delimiter\": \"\\\"\"}",
         "data.delimiter: expected one character that is no quote and no line end, got \"\"\""},
        {"{\"format\": \"csv\", \"train\": \"f\", \"test\": 0.2}",
         "data.test: expected a file or {\"fraction\": ...}, got 0.2"},
        {"{\"format\": \"csv\", \"train\": \"f\", \"test\": {\"fraction\": 1}}",
         "data.test.fraction: expected a number above 0 and below 1, got 1"},
        {"{\"format\": \"csv\", \"train\": \"f\", \"label\": 1.5}",
         "data.label: expected a column's name or number, got 1.5"},
        {"{\"format\": \"csv\", \"train\": \"f\", \"label\": \"species\"}",
         "data.label: a column has a name only with \"header\": true"},
        {"{\"format\": \"csv\", \"train\": \"f\", \"label\": [0, true]}",
         "data.label[1]: expected a column's name or number, got true"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct nn_error error = {0};
        json_t *data = json_loads(rows[i].data, 0, NULL);
        assert_non_null(data);
        assert_int_equal(dataset_check(data, &error), -1);
        assert_string_equal(error.text, rows[i].error);
        json_decref(data);
    }
}

static void a_missing_file_says_where_data_is_looked_for(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = "{\"format\": \"csv\", \"train\": \"none.csv\", \"label\": 0}", .input = ROW(1),
    };
    assert_refused(&wish, "none.csv: no such file (--data or PREDICTD_DATA names the folder "
                          "that holds data)");

    struct dataset set;
    struct nn_error error = {0};
    assert_int_equal(load_features(&set, &wish, "none.csv", &error), -1);
    assert_string_equal(shorten(&error), "none.csv: No such file or directory");
}

static void a_folder_is_no_file(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = "{\"format\": \"csv\", \"train\": \".\", \"label\": 0}", .input = ROW(1),
    };
    assert_refused(&wish, ".: not a regular file");
}

/* Nobody writes to it, so opening it could take for ever. */
static void a_named_pipe_is_refused_at_once(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = "{\"format\": \"csv\", \"train\": \"pipe\", \"label\": 0}", .input = ROW(1),
    };
    assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
    assert_refused(&wish, "pipe: not a regular file");
    unlink(path_of("pipe"));
}

/* digits */

static const struct wish digits_wish = {
    .data = "{\"format\": \"digits\", \"train\": 300, \"test\": 200, \"seed\": 5}",
    .n_targets = 10, .input = {.name = "image", .shape = {.rank = 4, .dims = {-1, 1, 28, 28}}},
};

static void digits_fit_only_their_shape(void **state)
{
    (void)state;
    struct wish wish = digits_wish;
    wish.n_targets = 3;
    assert_refused(&wish, "data.format: digits are of ten classes, the network tells 3 apart");
    wish = digits_wish;
    wish.input.shape.dims[3] = 27;
    assert_refused(&wish, "data.format: digits are images of 28x28: they do not fit input \"image\" "
                          "[-1, 1, 28, 27]");
    wish = digits_wish;
    wish.target = TARGET_VALUES;
    assert_refused(&wish, "data.format: digits have classes, no values to predict");
}

static void digits_depend_only_on_the_seed(void **state)
{
    (void)state;
    struct wish other_seed = digits_wish, fewer = digits_wish;
    other_seed.data = "{\"format\": \"digits\", \"train\": 300, \"test\": 200, \"seed\": 6}";
    fewer.data = "{\"format\": \"digits\", \"train\": 100, \"seed\": 5}";
    struct dataset a, b, other, test, few;
    must_load(&a, &digits_wish, DATASET_TRAIN);
    must_load(&b, &digits_wish, DATASET_TRAIN);
    must_load(&other, &other_seed, DATASET_TRAIN);
    must_load(&test, &digits_wish, DATASET_TEST);
    must_load(&few, &fewer, DATASET_TRAIN);
    assert_true(a.digest == b.digest);
    assert_true(a.digest != other.digest);
    assert_memory_equal(a.features[0].data, few.features[0].data, 100 * 784);

    /* No test image is a training image. */
    const uint8_t *train_images = a.features[0].data, *test_images = test.features[0].data;
    for (int64_t i = 0; i < test.n; i++)
        for (int64_t j = 0; j < a.n; j++)
            assert_true(memcmp(test_images + i * 784, train_images + j * 784, 784) != 0);
    int counts[10] = {0};
    for (int64_t i = 0; i < a.n; i++)
        counts[a.classes[i]]++;
    for (int i = 0; i < 10; i++)
        assert_int_equal(counts[i], 30);
    dataset_release(&a);
    dataset_release(&b);
    dataset_release(&other);
    dataset_release(&test);
    dataset_release(&few);
}

/* rows */

static void a_fraction_cuts_test_data_out_of_one_file(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = CSV(", \"test\": {\"fraction\": 0.25}"), .input = ROW(1),
    };
    char text[2000];
    size_t n = 0;
    for (int i = 0; i < 80; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%d,%s\n", i, i % 4 ? "a" : "b");
    write_file("t.csv", (struct bytes){text, n});

    struct dataset train, test;
    int seen[80] = {0}, classes[2] = {0};
    must_load(&train, &wish, DATASET_TRAIN);
    must_load(&test, &wish, DATASET_TEST);
    assert_int_equal(train.n, 60);
    assert_int_equal(test.n, 20);
    for (int64_t i = 0; i < train.n; i++)
        seen[(int)real(&train, i)]++;
    for (int64_t i = 0; i < test.n; i++) {
        seen[(int)real(&test, i)]++;
        classes[test.classes[i]]++;
    }
    for (int i = 0; i < 80; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(classes[0], 15);
    assert_int_equal(classes[1], 5);
    dataset_release(&train);
    dataset_release(&test);
}

static void a_split_is_disjoint_stratified_and_repeatable(void **state)
{
    (void)state;
    struct dataset set, rest, again, again_rest, other, other_rest, whole;
    struct nn_error error = {0};
    must_load(&whole, &digits_wish, DATASET_TRAIN);
    must_load(&set, &digits_wish, DATASET_TRAIN);
    must_load(&again, &digits_wish, DATASET_TRAIN);
    must_load(&other, &digits_wish, DATASET_TRAIN);
    assert_int_equal(dataset_split(&set, 0.1, 3, &rest, &error), 0);
    assert_int_equal(dataset_split(&again, 0.1, 3, &again_rest, &error), 0);
    assert_int_equal(dataset_split(&other, 0.1, 4, &other_rest, &error), 0);
    assert_int_equal(set.n, 270);
    assert_int_equal(rest.n, 30);
    assert_true(rest.digest == again_rest.digest && set.digest == again.digest);
    assert_true(rest.digest != other_rest.digest);
    assert_int_equal(rest.n_labels, 10);
    assert_string_equal(rest.labels[3], "3");

    int counts[10] = {0};
    for (int64_t i = 0; i < rest.n; i++)
        counts[rest.classes[i]]++;
    for (int i = 0; i < 10; i++)
        assert_int_equal(counts[i], 3);

    /* Every row of the whole is in exactly one side, with its class. */
    for (int64_t i = 0; i < whole.n; i++) {
        int found = 0;
        const struct dataset *sides[] = {&set, &rest};
        for (int s = 0; s < 2; s++)
            for (int64_t j = 0; j < sides[s]->n; j++)
                if (memcmp((uint8_t *)whole.features[0].data + i * 784,
                           (uint8_t *)sides[s]->features[0].data + j * 784, 784) == 0) {
                    assert_int_equal(sides[s]->classes[j], whole.classes[i]);
                    found++;
                }
        assert_int_equal(found, 1);
    }
    struct dataset *all[] = {&set, &rest, &again, &again_rest, &other, &other_rest, &whole};
    for (size_t i = 0; i < COUNT(all); i++)
        dataset_release(all[i]);
}

/* A fifth of two rows rounds to none, a fifth of all ten is two. */
static void classes_too_small_to_share_are_split_together(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = "{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": 1, "
                "\"test\": {\"fraction\": 0.2}}",
        .n_targets = 5, .input = ROW(1),
    };
    struct dataset train, test;
    write_file("t.csv", (struct bytes)BYTES("1,a\n2,a\n3,b\n4,b\n5,c\n6,c\n7,d\n8,d\n9,e\n0,e\n"));
    must_load(&train, &wish, DATASET_TRAIN);
    must_load(&test, &wish, DATASET_TEST);
    assert_int_equal(train.n, 8);
    assert_int_equal(test.n, 2);
    dataset_release(&train);
    dataset_release(&test);
}

static void a_split_that_leaves_nothing_is_refused(void **state)
{
    (void)state;
    struct dataset set, rest;
    struct nn_error error = {0};
    must_load(&set, &digits_wish, DATASET_TRAIN);
    assert_int_equal(dataset_split(&set, 0.001, 1, &rest, &error), -1);
    assert_string_equal(error.text, "a fraction of 0.001 of 300 rows leaves one side without any");
    assert_int_equal(set.n, 300);
    dataset_release(&set);
}

static void a_shuffle_is_a_permutation_of_its_key(void **state)
{
    (void)state;
    enum { N = 1000 };
    int64_t order[N], again[N], other[N];
    int seen[N] = {0}, fixed = 0, same = 0;
    dataset_shuffle(order, N, 1);
    dataset_shuffle(again, N, 1);
    dataset_shuffle(other, N, 2);
    assert_memory_equal(order, again, sizeof order);
    for (int i = 0; i < N; i++) {
        assert_in_range(order[i], 0, N - 1);
        seen[order[i]]++;
        fixed += order[i] == i;
        same += order[i] == other[i];
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(seen[i], 1);
    assert_true(fixed < 10 && same < 10);       /* one is expected of each */
    dataset_shuffle(order, 0, 1);
    dataset_shuffle(order, 1, 1);
    assert_int_equal(order[0], 0);
}

/* All 24 orders of 4, each as often: chi-square with 23 degrees of freedom exceeds 49.7 once in
 * a thousand. */
static void shuffles_are_fair(void **state)
{
    (void)state;
    enum { RUNS = 24000 };
    int counts[256] = {0};
    double chi_square = 0;
    for (uint64_t key = 0; key < RUNS; key++) {
        int64_t order[4];
        dataset_shuffle(order, 4, key);
        counts[order[0] * 64 + order[1] * 16 + order[2] * 4 + order[3]]++;
    }
    for (int i = 0; i < 256; i++)
        if (counts[i])
            chi_square += (counts[i] - 1000.0) * (counts[i] - 1000.0) / 1000;
    assert_true(chi_square < 49.7);
}

static void gathering_converts_to_any_type(void **state)
{
    (void)state;
    static const struct wish wish = {.data = CSV(), .input = ROW(3)};
    static const int64_t order[] = {1, 0, 1};
    static const int expected[9] = {7, 8, 255, 1, 2, 3, 7, 8, 255};
    write_file("x.idx", (struct bytes)BYTES("\0\0\x08\2\0\0\0\2\0\0\0\3" "\1\2\3\7\x08\xff"));
    write_file("t.csv", (struct bytes)BYTES("1,2,3\n7,8,255\n"));
    for (int from_reals = 0; from_reals < 2; from_reals++) {
        struct nn_error error = {0};
        struct dataset set;
        nn_real reals[9];
        int64_t longs[9];
        int32_t ints[9];
        uint8_t bytes[9];
        if (load_features(&set, &wish, from_reals ? "t.csv" : "x.idx", &error) != 0)
            fail_msg("%s", error.text);
        assert_int_equal(set.features[0].datatype, from_reals ? NN_FP32 : NN_UINT8);
        dataset_gather(&set, 0, order, 3, NN_FP32, reals);
        dataset_gather(&set, 0, order, 3, NN_INT64, longs);
        dataset_gather(&set, 0, order, 3, NN_INT32, ints);
        dataset_gather(&set, 0, order, 3, NN_UINT8, bytes);
        for (int i = 0; i < 9; i++) {
            assert_true(reals[i] == (nn_real)expected[i]);
            assert_true(longs[i] == expected[i] && ints[i] == expected[i]);
            assert_int_equal(bytes[i], expected[i]);
        }
        dataset_release(&set);
    }
}

/* By hand: 1 3 5 has mean 3 and deviation sqrt(8/3). */
static void moments_are_those_worked_out_by_hand(void **state)
{
    (void)state;
    static const struct wish wish = {.data = CSV(), .input = ROW(4)};
    struct dataset set;
    nn_real mean[4], deviation[4];
    write_file("t.csv", (struct bytes)BYTES("1,0.1,16777210,2,x\n3,0.1,16777212,4,x\n"
                                            "5,0.1,16777214,6,x\n"));
    must_load(&set, &wish, DATASET_TRAIN);
    dataset_moments(&set, 0, 4, mean, deviation);
    assert_true(mean[0] == 3 && mean[1] == (nn_real)0.1 && mean[2] == 16777212 && mean[3] == 4);
    assert_true(fabs(deviation[0] - sqrt(8 / 3.0)) < 1e-6);
    assert_true(deviation[1] == 1);             /* constant */
    assert_true(fabs(deviation[2] - sqrt(8 / 3.0)) < 1e-6);

    /* Two channels of two elements: 1 .1 3 .1 5 .1, and the others. */
    dataset_moments(&set, 0, 2, mean, deviation);
    assert_true(fabs(mean[0] - 9.3 / 6) < 1e-6);
    double square = 0, values[] = {1, .1, 3, .1, 5, .1};
    for (int i = 0; i < 6; i++)
        square += (values[i] - 9.3 / 6) * (values[i] - 9.3 / 6) / 6;
    assert_true(fabs(deviation[0] - sqrt(square)) < 1e-6);
    dataset_release(&set);
}

/* real data */

static const char *data_folder(void)
{
    const char *given = getenv("PREDICTD_DATA");
    return given && *given ? given : "data";
}

static void need(const char *name)
{
    char path[1000];
    snprintf(path, sizeof path, "%s/%s", data_folder(), name);
    if (access(path, R_OK) != 0) {
        print_message("skipped: there is no %s\n", path);
        skip();
    }
}

/* Counts and first labels as published (LeCun, Cortes and Burges). */
static void mnist_is_what_was_published(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = "{\"format\": \"idx\","
                " \"train\": {\"features\": \"mnist/train-images-idx3-ubyte.gz\","
                "             \"labels\": \"mnist/train-labels-idx1-ubyte.gz\"},"
                " \"test\": {\"features\": \"mnist/t10k-images-idx3-ubyte.gz\","
                "            \"labels\": \"mnist/t10k-labels-idx1-ubyte.gz\"}}",
        .n_targets = 10,
        .input = {.name = "image", .shape = {.rank = 4, .dims = {-1, 1, 28, 28}}},
    };
    static const struct {
        int64_t n;
        int32_t first[5];
        int counts[10];
    } parts[] = {
        [DATASET_TRAIN] = {60000, {5, 0, 4, 1, 9},
                           {5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949}},
        [DATASET_TEST] = {10000, {7, 2, 1, 0, 4},
                          {980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009}},
    };
    need("mnist/train-images-idx3-ubyte.gz");
    for (int part = DATASET_TRAIN; part <= DATASET_TEST; part++) {
        struct nn_error error = {0};
        struct dataset set;
        if (load_from(&set, &wish, data_folder(), part, &error) != 0)
            fail_msg("%s", error.text);
        int counts[10] = {0};
        assert_int_equal(set.n, parts[part].n);
        for (int64_t i = 0; i < set.n; i++)
            counts[set.classes[i]]++;
        assert_memory_equal(counts, parts[part].counts, sizeof counts);
        assert_memory_equal(set.classes, parts[part].first, sizeof parts[part].first);
        if (part == DATASET_TRAIN) {
            /* The mean and deviation that every tutorial uses: 0.1307 and 0.3081 of 255. */
            nn_real mean, deviation;
            dataset_moments(&set, 0, 1, &mean, &deviation);
            assert_true(fabs(mean / 255 - 0.1307) < 5e-5);
            assert_true(fabs(deviation / 255 - 0.3081) < 5e-5);
        }
        dataset_release(&set);
    }
}

static void iris_is_what_was_published(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = "{\"format\": \"csv\", \"train\": \"iris/iris.data\", \"label\": -1,"
                " \"test\": {\"fraction\": 0.2}}",
        .n_targets = 3, .input = ROW(4),
    };
    static const char *const names[] = {"Iris-setosa", "Iris-versicolor", "Iris-virginica"};
    need("iris/iris.data");
    for (int part = DATASET_TRAIN; part <= DATASET_TEST; part++) {
        struct nn_error error = {0};
        struct dataset set;
        if (load_from(&set, &wish, data_folder(), part, &error) != 0)
            fail_msg("%s", error.text);
        int counts[3] = {0};
        for (int64_t i = 0; i < set.n; i++)
            counts[set.classes[i]]++;
        for (int i = 0; i < 3; i++) {
            assert_string_equal(set.labels[i], names[i]);
            assert_int_equal(counts[i], part == DATASET_TRAIN ? 40 : 10);
        }
        dataset_release(&set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_that_no_format_takes_is_refused_by_path),
        cmocka_unit_test(a_missing_file_says_where_data_is_looked_for),
        cmocka_unit_test(a_folder_is_no_file),
        cmocka_unit_test(a_named_pipe_is_refused_at_once),
        cmocka_unit_test(digits_fit_only_their_shape),
        cmocka_unit_test(classes_too_small_to_share_are_split_together),
        cmocka_unit_test(a_split_that_leaves_nothing_is_refused),
        cmocka_unit_test(a_fraction_cuts_test_data_out_of_one_file),
        cmocka_unit_test(digits_depend_only_on_the_seed),
        cmocka_unit_test(a_split_is_disjoint_stratified_and_repeatable),
        cmocka_unit_test(a_shuffle_is_a_permutation_of_its_key),
        cmocka_unit_test(shuffles_are_fair),
        cmocka_unit_test(gathering_converts_to_any_type),
        cmocka_unit_test(moments_are_those_worked_out_by_hand),
        cmocka_unit_test(mnist_is_what_was_published),
        cmocka_unit_test(iris_is_what_was_published),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
