/*
 * The files that predictd-train predict reads.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "tests/dataset_files.h"

static void features_are_read_by_what_the_file_is(void **state)
{
    (void)state;
    static const struct wish wish = {.data = CSV(), .n_targets = 2, .input = ROW(2)};
    static const struct {
        const char *name;
        struct bytes bytes;
    } rows[] = {
        {"t.csv", BYTES("1,2\n3,4\n")},
        {"t.csv", BYTES("1,2,whatever\n3,4,\n")}, /* with the column of the label */
        {"data", BYTES("\0\0\x08\2\0\0\0\2\0\0\0\2\1\2\3\4")},
        {"data", BYTES("[1, 2]\n[3, 4]\n")},
        {"t.jsonl", BYTES("[1, 2]\r\n[3.0, 4e0]")},
        {"data", BYTES("{\"x\": [1, 2]}\n\n \t\r\n{\"x\": [3, 4]}\n\n")},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct nn_error error = {0};
        struct dataset set;
        nn_real values[4];
        static const int64_t order[] = {0, 1};
        write_file(rows[i].name, rows[i].bytes);
        if (load_features(&set, &wish, rows[i].name, &error) != 0)
            fail_msg("row %zu: %s", i, error.text);
        assert_int_equal(set.n, 2);
        dataset_gather(&set, 0, order, 2, NN_FP32, values);
        for (int j = 0; j < 4; j++)
            assert_true(values[j] == j + 1);
        assert_null(set.classes);
        assert_null(set.targets);
        dataset_release(&set);
    }
}

static void bad_json_lines_name_the_line(void **state)
{
    (void)state;
    static const struct wish wish = {.data = CSV(), .n_targets = 2, .input = IMAGE};
    static const struct {
        struct bytes bytes;
        const char *error;
    } rows[] = {
        {BYTES(""), "t.jsonl: no rows"},
        {BYTES("[1,2,3,4,5,6]\n[1,2,3,4,5]\n"), "t.jsonl:2: input \"image\": expected numbers of "
                                                "shape [1, 2, 3], got an array of 5"},
        {BYTES("[[[1,2,3],[4,5]]]\n"), "t.jsonl:1: input \"image\"[0][1]: expected numbers of "
                                       "shape [3], got an array of 2"},
        {BYTES("[[1,2,3],[4,5,6]]\n"), "t.jsonl:1: input \"image\": expected numbers of "
                                       "shape [1, 2, 3], got an array of 2"},
        {BYTES("[[[1,2,3],[4,[5],6]]]\n"), "t.jsonl:1: input \"image\"[0][1][1]: expected a "
                                           "number that is a finite float, got an array of 1"},
        {BYTES("[1,2,3,4,5,\"6\"]\n"), "t.jsonl:1: input \"image\"[5]: expected a number that is "
                                       "a finite float, got \"6\""},
        {BYTES("[1,2,3,4,5,1e39]\n"), "t.jsonl:1: input \"image\"[5]: expected a number that is "
                                      "a finite float, got 1e39"},
        {BYTES("7\n"), "t.jsonl:1: input \"image\": expected numbers of shape [1, 2, 3], got 7"},
        {BYTES("{\"picture\": 1}\n"), "t.jsonl:1: there is no input \"picture\""},
        {BYTES("{}\n"), "t.jsonl:1: input \"image\": expected numbers of shape [1, 2, 3], got "
                        "nothing"},
        {BYTES("[1,2,3\n"), "t.jsonl:1: column 6: ']' expected near end of file"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct nn_error error = {0};
        struct dataset set;
        if (sizeof(nn_real) > sizeof(float) && strstr(rows[i].bytes.data, "1e39"))
            continue;                           /* no limit of a build in float64 */
        write_file("t.jsonl", rows[i].bytes);
        assert_int_equal(load_features(&set, &wish, "t.jsonl", &error), -1);
        assert_string_equal(shorten(&error), rows[i].error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_read_by_what_the_file_is),
        cmocka_unit_test(bad_json_lines_name_the_line),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
