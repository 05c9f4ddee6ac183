#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/dataset_files.h"

#define IDX_DATA "{\"format\": \"idx\", \"train\": {\"features\": \"x.idx\", \"labels\": \"y.idx\"}}"

static const struct wish idx_wish = {.data = IDX_DATA, .n_targets = 10, .input = IMAGE};

/* two images of 2x3, and their labels */
#define TWO_IMAGES "\0\0\x08\3\0\0\0\2\0\0\0\2\0\0\0\3" "\1\2\3\4\5\6\7\x08\x09\x0a\x0b\xff"
#define TWO_LABELS "\0\0\x08\1\0\0\0\2" "\7\0"

/* IDX */

static void idx_files_that_lie_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct bytes features, labels;
        const char *error;
    } rows[] = {
        {BYTES(""), BYTES(TWO_LABELS), "x.idx: the header is cut short"},
        {BYTES("\0\0\x08"), BYTES(TWO_LABELS), "x.idx: the header is cut short"},
        {BYTES("\0\0\x08\3\0\0\0\2\0\0\0\2"), BYTES(TWO_LABELS),
         "x.idx: the header is cut short"},
        {BYTES("P5\n28 28"), BYTES(TWO_LABELS),
         "x.idx: not an IDX file: it begins with 50 35, expected 00 00"},
        {BYTES("\0\1\x08\3"), BYTES(TWO_LABELS),
         "x.idx: not an IDX file: it begins with 00 01, expected 00 00"},
        {BYTES("\0\0\x0a\1\0\0\0\1........"), BYTES(TWO_LABELS),
         "x.idx: element type 0x0a, expected 0x08 (unsigned bytes), 0x09 (bytes), 0x0b, 0x0c "
         "(integers), 0x0d or 0x0e (floats)"},
        {BYTES("\0\0\x08\0"), BYTES(TWO_LABELS), "x.idx: 0 dimensions, expected 1 to 8"},
        {BYTES("\0\0\x08\x09"), BYTES(TWO_LABELS), "x.idx: 9 dimensions, expected 1 to 8"},
        {BYTES("\0\0\x08\3\0\0\0\2\0\0\0\0\0\0\0\3"), BYTES(TWO_LABELS),
         "x.idx: dimension 1 is 0"},
        {BYTES("\0\0\x08\3\0\0\0\2\0\0\0\2\0\0\0\3\1\2\3\4\5\6\7\x08\x09\x0a\x0b"),
         BYTES(TWO_LABELS), "x.idx: shape [2, 2, 3] needs 12 bytes, 11 are there"},
        {BYTES("\0\0\x08\3\0\xff\xff\xff\0\0\0\2\0\0\0\3\1"), BYTES(TWO_LABELS),
         "x.idx: shape [16777215, 2, 3] needs more bytes than the file holds"},
        {BYTES("\0\0\x0d\4\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
         BYTES(TWO_LABELS),
         "x.idx: shape [4294967295, 4294967295, 4294967295, 4294967295] needs "
         "more bytes than the file holds"},
        {BYTES(TWO_IMAGES "\0"), BYTES(TWO_LABELS),
         "x.idx: bytes behind the elements of shape [2, 2, 3]"},
        {BYTES("\0\0\x08\3\0\0\0\2\0\0\0\1\0\0\0\3\1\2\3\4\5\6"), BYTES(TWO_LABELS),
         "x.idx: shape [2, 1, 3] does not fit input \"image\" [-1, 1, 2, 3]"},
        {BYTES("\0\0\x0d\2\0\0\0\1\0\0\0\6"
               "\0\0\0\0\x7f\x80\0\0"
               "0123456789abcdef"),
         BYTES(TWO_LABELS), "x.idx: element 1 is not finite"},
        {BYTES(TWO_IMAGES), BYTES("\0\0\x08\1\0\0\0\3\1\2\3"), "y.idx: 3 labels for 2 rows"},
        {BYTES(TWO_IMAGES), BYTES("\0\0\x08\2\0\0\0\2\0\0\0\1\1\2"),
         "y.idx: shape [2, 1], expected one class for each row"},
        {BYTES(TWO_IMAGES), BYTES("\0\0\x08\1\0\0\0\2\7\x0a"),
         "y.idx: label 10 of row 1, expected 0 to 9"},
        {BYTES(TWO_IMAGES), BYTES("\0\0\x0c\1\0\0\0\2\xff\xff\xff\xff\0\0\0\1"),
         "y.idx: label -1 of row 0, expected 0 to 9"},
        {BYTES(TWO_IMAGES), BYTES("\0\0\x0d\1\0\0\0\2\0\0\0\0\x3f\0\0\0"),
         "y.idx: label 0.5 of row 1, expected 0 to 9"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        write_file("x.idx", rows[i].features);
        write_file("y.idx", rows[i].labels);
        assert_refused(&idx_wish, rows[i].error);
    }
}

static void a_label_beyond_the_names_is_refused(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = "{\"format\": \"idx\", \"labels\": [\"no\", \"yes\"], "
                "\"train\": {\"features\": \"x.idx\", \"labels\": \"y.idx\"}}",
        .input = IMAGE,
    };
    write_file("x.idx", (struct bytes)BYTES(TWO_IMAGES));
    write_file("y.idx", (struct bytes)BYTES(TWO_LABELS));
    assert_refused(&wish, "y.idx: label 7 of row 0, expected 0 to 1");
}

static void labels_that_are_not_named_are_missing(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = "{\"format\": \"idx\", \"train\": {\"features\": \"x.idx\"}}", .input = IMAGE,
    };
    write_file("x.idx", (struct bytes)BYTES(TWO_IMAGES));
    assert_refused(&wish, "data.train.labels: missing");
}

static const struct wish gzip_wish = {
    .data = "{\"format\": \"idx\", \"train\": {\"features\": \"x.gz\", \"labels\": \"y.gz\"}}",
    .n_targets = 10, .input = IMAGE,
};

static void gzip_cut_at_any_length_is_refused(void **state)
{
    (void)state;
    char packed[200];
    struct nn_error error;
    struct dataset set;
    write_gzip("x.gz", (struct bytes)BYTES(TWO_IMAGES));
    write_gzip("y.gz", (struct bytes)BYTES(TWO_LABELS));
    FILE *file = fopen(path_of("x.gz"), "rb");
    assert_non_null(file);
    size_t n = fread(packed, 1, sizeof packed, file);
    fclose(file);
    assert_in_range(n, 30, sizeof packed - 1);

    must_load(&set, &gzip_wish, DATASET_TRAIN);
    dataset_release(&set);
    for (size_t cut = 0; cut < n; cut++) {
        write_file("x.gz", (struct bytes){packed, cut});
        error.text[0] = '\0';
        assert_int_equal(load(&set, &gzip_wish, DATASET_TRAIN, &error), -1);
        /* Without its two magic bytes it is not even gzip. */
        assert_string_equal(shorten(&error), cut < 2 ? "x.gz: the header is cut short"
                                                     : "x.gz: the gzip data is cut short");
    }
    for (size_t i = 0; i < 8; i++) {            /* the check sum and the length */
        packed[n - 8 + i] ^= 1;
        write_file("x.gz", (struct bytes){packed, n});
        packed[n - 8 + i] ^= 1;
        error.text[0] = '\0';
        assert_int_equal(load(&set, &gzip_wish, DATASET_TRAIN, &error), -1);
        assert_string_equal(shorten(&error),
                            i < 4 ? "x.gz: the gzip data is damaged (incorrect data check)"
                                  : "x.gz: the gzip data is damaged (incorrect length check)");
    }
}

static void idx_plain_and_packed_is_the_same_data(void **state)
{
    (void)state;
    struct dataset plain, packed;
    write_file("x.idx", (struct bytes)BYTES(TWO_IMAGES));
    write_file("y.idx", (struct bytes)BYTES(TWO_LABELS));
    write_gzip("x.gz", (struct bytes)BYTES(TWO_IMAGES));
    write_gzip("y.gz", (struct bytes)BYTES(TWO_LABELS));
    must_load(&plain, &idx_wish, DATASET_TRAIN);
    must_load(&packed, &gzip_wish, DATASET_TRAIN);

    static const int64_t dims[] = {2, 1, 2, 3};
    assert_int_equal(plain.n, 2);
    assert_int_equal(plain.features[0].datatype, NN_UINT8);
    assert_int_equal(plain.features[0].shape.rank, 4);
    assert_memory_equal(plain.features[0].shape.dims, dims, sizeof dims);
    assert_memory_equal(plain.features[0].data, "\1\2\3\4\5\6\7\x08\x09\x0a\x0b\xff", 12);
    assert_int_equal(plain.classes[0], 7);
    assert_int_equal(plain.classes[1], 0);
    assert_int_equal(plain.n_labels, 10);
    assert_string_equal(plain.labels[9], "9");
    assert_true(plain.digest == packed.digest);
    dataset_release(&plain);
    dataset_release(&packed);
}

#define ONE_ROW "\2\0\0\0\1\0\0\0\2"
static void idx_floats_and_integers_are_big_endian(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = IDX_DATA, .target = TARGET_VALUES, .n_targets = 1, .input = ROW(2),
    };
    static const struct {
        struct bytes features, target;
        double wanted[3];
    } rows[] = {
        {BYTES("\0\0\x0d" ONE_ROW "\x3f\x80\0\0\xc0\x20\0\0"),
         BYTES("\0\0\x0c\1\0\0\0\1\xff\xff\xff\xfe"),
         {1, -2.5, -2}},
        {BYTES("\0\0\x0e" ONE_ROW "\x3f\xf0\0\0\0\0\0\0\xc0\x04\0\0\0\0\0\0"),
         BYTES("\0\0\x0b\1\0\0\0\1\xff\xfe"),
         {1, -2.5, -2}},
        {BYTES("\0\0\x0b" ONE_ROW "\x7f\xff\x80\0"),
         BYTES("\0\0\x09\1\0\0\0\1\x80"),
         {32767, -32768, -128}},
        {BYTES("\0\0\x09" ONE_ROW "\xff\x7f"), BYTES("\0\0\x08\1\0\0\0\1\xff"), {-1, 127, 255}},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct dataset set;
        write_file("x.idx", rows[i].features);
        write_file("y.idx", rows[i].target);
        must_load(&set, &wish, DATASET_TRAIN);
        assert_true(real(&set, 0) == rows[i].wanted[0] && real(&set, 1) == rows[i].wanted[1]);
        assert_true(set.n_targets == 1 && set.targets[0] == rows[i].wanted[2]);
        assert_null(set.classes);
        dataset_release(&set);
    }
}

static void an_autoencoder_has_its_input_as_target(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = "{\"format\": \"idx\", \"target\": \"input\", \"train\": {\"features\": \"x.idx\"}}",
        .target = TARGET_INPUT, .n_targets = 6, .input = IMAGE,
    };
    struct dataset set;
    write_file("x.idx", (struct bytes)BYTES(TWO_IMAGES));
    must_load(&set, &wish, DATASET_TRAIN);
    assert_int_equal(set.n_targets, 6);
    assert_true(set.targets[0] == 1 && set.targets[11] == 255);
    dataset_release(&set);
}

/* CSV */

#define HEADER ", \"header\": true"

static void a_bad_csv_names_line_and_column(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        struct bytes csv;
        const char *error;
    } rows[] = {
        {CSV(), BYTES(""), "t.csv: no rows"},
        {CSV(), BYTES("\n\r\n\n"), "t.csv: no rows"},
        {CSV(HEADER), BYTES("a,b,c\n"), "t.csv: no rows"},
        {CSV(), BYTES("1,2,x\n3,y\n"), "t.csv:2: column 2 is missing: 2 columns, expected 3"},
        {CSV(HEADER), BYTES("a,b,kind\n1,2,x\n3\n"),
         "t.csv:3: column 1 (\"b\") is missing: 1 columns, expected 3"},
        {CSV(), BYTES("1,2,x\n3,4,y,z\n"), "t.csv:2: 4 columns, expected 3"},
        {CSV(), BYTES("1,2,x\n3,abc,y\n"), "t.csv:2: column 1: expected a number, got \"abc\""},
        {CSV(HEADER), BYTES("a,petal width,kind\n1,2,x\n3,abc,y\n"),
         "t.csv:3: column 1 (\"petal width\"): expected a number, got \"abc\""},
        {CSV(), BYTES("1,2,x\n3,,y\n"), "t.csv:2: column 1: expected a number, got nothing"},
        {CSV(), BYTES("1,2,x\n3,4,\n"), "t.csv:2: column 2: expected a class, got nothing"},
        {CSV(), BYTES("1,nan,x\n"),
         "t.csv:1: column 1: expected a number, got \"nan\" (a first "
         "line of names needs \"header\": true)"},
        {CSV(), BYTES("1,2,x\n1,inf,x\n"), "t.csv:2: column 1: expected a number, got \"inf\""},
        {CSV(), BYTES("1,2,x\n1,0x1,x\n"), "t.csv:2: column 1: expected a number, got \"0x1\""},
        {CSV(), BYTES("1,2,x\n1,1e,x\n"), "t.csv:2: column 1: expected a number, got \"1e\""},
        {CSV(), BYTES("1,2,x\n1,1 2,x\n"), "t.csv:2: column 1: expected a number, got \"1 2\""},
        {CSV(), BYTES("1,2,x\n1,1e400,x\n"),
         "t.csv:2: column 1: expected a number that is a finite float, got \"1e400\""},
        {CSV(), BYTES("length,width,kind\n1,2,x\n"),
         "t.csv:1: column 0: expected a number, got \"length\" (a first line of names needs "
         "\"header\": true)"},
        {CSV(HEADER), BYTES("a,b,kind\nred,2,x\n"),
         "t.csv:2: column 0 (\"a\"): expected a number, got \"red\" (\"columns\" of an input "
         "chooses those that are numbers)"},
        {CSV(), BYTES("1,x\n"),
         "t.csv: 1 columns of features (of 2 columns) do not fit input "
         "\"x\" [-1, 2]"},
        {CSV(), BYTES("1,2,3,x\n"),
         "t.csv: 3 columns of features (of 4 columns) do not fit "
         "input \"x\" [-1, 2]"},
        {CSV(), BYTES("1,\"2,x\n3,4,y\n"), "t.csv:1: column 1: the quote is never closed"},
        {CSV(), BYTES("1,2,x\n1,\"2\"3,y\n"),
         "t.csv:2: column 1: text behind the closing quote"},
        {CSV(), BYTES("1,2,x\n1,2,\0\n"), "t.csv:2: a NUL byte: this is not text"},
        {CSV(), BYTES("1,2,\"x\n\ny\"\n3,?,x\n"),
         "t.csv:4: column 1: expected a number, got \"?\""},
        {"{\"format\": \"csv\", \"train\": \"t.csv\"}", BYTES("1,2\n"),
         "data.label: missing: which column is to be predicted?"},
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": 3}", BYTES("1,2,x\n"),
         "t.csv: no column 3: there are 3 (data.label)"},
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": -4}", BYTES("1,2,x\n"),
         "t.csv: no column -4: there are 3 (data.label)"},
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": \"specis\"" HEADER "}",
         BYTES("a,b,species\n1,2,x\n"),
         "t.csv: no column \"specis\", did you mean \"species\"? (data.label)"},
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": 2}", BYTES("1;2;x\n"),
         "t.csv: no column 2: there are 1 (data.label); does data.delimiter have to be \";\"?"},
        {CSV(", \"delimiter\": \";\""), BYTES("1,2,x\n"),
         "t.csv: 0 columns of features (of 1 columns) do not fit input \"x\" [-1, 2]; does "
         "data.delimiter have to be \",\"?"},
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": [0, 1]}", BYTES("1,2,x\n"),
         "data.label: 2 columns, expected the one of the class"},
        {CSV(", \"labels\": [\"x\", \"y\"]"), BYTES("1,2,x\n1,2,z\n"),
         "t.csv:2: column 2: class \"z\" is none of the 2 classes (\"x\" ...)"},
        {CSV(", \"labels\": [\"x\", \"y\"]"), BYTES("1,2,0\n1,2,2\n"),
         "t.csv:2: column 2: class \"2\" is none of the 2 classes (\"x\" ...)"},
        {CSV(), BYTES("1,2,x\n3,4,m\xfcll\n3,4,m\xfcll\n"),
         "t.csv:2: column 2: the name of a class is not UTF-8"},
        {CSV(), BYTES("1,2,x\n3,4,y\n5,6,z\n"),
         "t.csv: column 2 has 3 classes, the network tells 2 apart"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct wish wish = {.data = rows[i].data, .n_targets = 2, .input = ROW(2)};
        write_file("t.csv", rows[i].csv);
        assert_refused(&wish, rows[i].error);
    }
}

static void a_line_without_end_is_refused(void **state)
{
    (void)state;
    static const struct wish wish = {.data = CSV(), .input = ROW(2)};
    size_t n = (1 << 20) + 100;
    char *line = malloc(n);
    assert_non_null(line);
    for (size_t i = 0; i < n; i++)
        line[i] = i % 2 ? ',' : '1';
    write_file("t.csv", (struct bytes){line, n});
    assert_refused(&wish, "t.csv:1: the record is longer than 1048576 bytes");
    free(line);
}

static void integers_of_an_integer_input_are_integers(void **state)
{
    (void)state;
    struct wish wish = {.data = CSV(), .input = ROW(2)};
    wish.input.datatype = NN_INT32;
    write_file("t.csv", (struct bytes)BYTES("1,2,x\n3,4.5,y\n"));
    assert_refused(&wish, "input \"x\" is INT32: row 1 has 4.5");
    write_file("t.csv", (struct bytes)BYTES("1,2,x\n3e9,4,y\n"));
    assert_refused(&wish, "input \"x\" is INT32: row 1 has 3e+09");
    wish.input.datatype = NN_INT8;
    write_file("t.csv", (struct bytes)BYTES("-128,127,x\n3,128,y\n"));
    assert_refused(&wish, "input \"x\" is INT8: row 1 has 128");
    wish.input.datatype = NN_UINT64;
    write_file("t.csv", (struct bytes)BYTES("18446742974197923840,0,x\n18446744073709551616,4,y\n"));
    assert_refused(&wish, "input \"x\" is UINT64: row 1 has 1.84467e+19");
}

/* The examples of RFC 4180, section 2, and what spreadsheets add to them. */
static void csv_is_read_as_its_standard_says(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        struct bytes csv;
        const char *labels[2];
    } rows[] = {
        {CSV(), BYTES("1,2,aaa\r\n3,4,bbb\r\n"), {"aaa", "bbb"}},
        {CSV(), BYTES("1,2,aaa\n3,4,bbb"), {"aaa", "bbb"}},
        {CSV(), BYTES("\n1,2,aaa\n \n\r\n3,4,bbb\n\n\r\n\n"), {"aaa", "bbb"}},
        {CSV(), BYTES("\"1\",\"2\",\"aaa\"\n3,4,bbb\n"), {"aaa", "bbb"}},
        {CSV(), BYTES("1,2,\"b,bb\"\n3,4,\"b\r\nbb\"\n"), {"b\r\nbb", "b,bb"}},
        {CSV(), BYTES("1,2,\"b\"\"bb\"\n3,4,\"\"\"\"\n"), {"\"", "b\"bb"}},
        {CSV(), BYTES("\xEF\xBB\xBF" "1,2,aaa\n3,4,bbb\n"), {"aaa", "bbb"}},
        {CSV(), BYTES(" 1 ,\t2, aaa\n3 , 4,\"bbb\" \n"), {"aaa", "bbb"}},
        {CSV(), BYTES("+1,2e0,aaa\n3.,.4e1,bbb\n"), {"aaa", "bbb"}},
        {CSV(", \"delimiter\": \";\""), BYTES("1;2;a,a\n3;4;b,b\n"), {"a,a", "b,b"}},
        {CSV(", \"delimiter\": \"\\t\""), BYTES("1\t2\taaa\n3\t4\tbbb\n"), {"aaa", "bbb"}},
        {CSV(HEADER), BYTES("u,v,\"the kind\"\n1,2,aaa\n3,4,bbb\n"), {"aaa", "bbb"}},
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": \"kind\"" HEADER "}",
         BYTES("kind,u,v\naaa,1,2\nbbb,3,4\n"), {"aaa", "bbb"}},
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": 1}",
         BYTES("1,aaa,2\n3,bbb,4\n"), {"aaa", "bbb"}},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct wish wish = {.data = rows[i].data, .n_targets = 2, .input = ROW(2)};
        struct dataset set;
        write_file("t.csv", rows[i].csv);
        must_load(&set, &wish, DATASET_TRAIN);
        assert_int_equal(set.n, 2);
        for (int j = 0; j < 4; j++)
            assert_true(real(&set, j) == j + 1);
        assert_int_equal(set.n_labels, 2);
        assert_string_equal(set.labels[0], rows[i].labels[0]);
        assert_string_equal(set.labels[1], rows[i].labels[1]);
        assert_int_equal(set.classes[0] + set.classes[1], 1);
        dataset_release(&set);
    }
}

static void classes_are_their_names_or_their_numbers(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = CSV(", \"labels\": [\"no\", \"yes\", \"1\"]"), .input = ROW(1),
    };
    struct dataset set;
    write_file("t.csv", (struct bytes)BYTES("5,yes\n6,0\n7,1\n"));
    must_load(&set, &wish, DATASET_TRAIN);
    assert_int_equal(set.classes[0], 1);
    assert_int_equal(set.classes[1], 0);
    assert_int_equal(set.classes[2], 2);        /* the name comes first */
    dataset_release(&set);
}

static void classes_that_are_numbers_are_in_their_order(void **state)
{
    (void)state;
    static const struct wish wish = {.data = CSV(), .input = ROW(1)};
    static const char *const sorted[] = {"-1", "0", "1.5", "2", "010", "10", "b10", "b2"};
    struct dataset set;
    write_file("t.csv", (struct bytes)BYTES("5,10\n5,b2\n5,0\n5,010\n5,2\n5,-1\n5,b10\n5,1.5\n"));
    must_load(&set, &wish, DATASET_TRAIN);
    assert_int_equal(set.n_labels, (int)COUNT(sorted));
    for (size_t i = 0; i < COUNT(sorted); i++)
        assert_string_equal(set.labels[i], sorted[i]);
    dataset_release(&set);
}

/* A class that training has not seen is no number of one that it has. */
static void a_number_among_classes_found_in_the_file_is_a_name(void **state)
{
    (void)state;
    static char *bundle_labels[] = {(char *)"1", (char *)"2"};
    struct dataset_input input = ROW(1);
    struct dataset_request request = {
        .data = json_loads(CSV(), 0, NULL), .directory = folder_of_tests(), .n_inputs = 1,
        .inputs = &input, .n_targets = 2, .labels = bundle_labels, .n_labels = 2,
    };
    struct nn_error error = {0};
    struct dataset set;
    write_file("t.csv", (struct bytes)BYTES("1,2\n2,0\n"));
    assert_int_equal(dataset_load(&set, &request, DATASET_TRAIN, &error), -1);
    assert_string_equal(shorten(&error),
                        "t.csv:2: column 1: class \"0\" is none of the 2 classes (\"1\" ...)");
    json_decref((json_t *)request.data);
}

static void columns_choose_and_order_the_features(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = "{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": [\"y\", 0]" HEADER "}",
        .target = TARGET_VALUES, .n_targets = 2, .input = ROW(2), .columns = "[\"c\", -4]",
    };
    struct dataset set;
    write_file("t.csv", (struct bytes)BYTES("a,b,word,c,y\n1,2,w,3,4\n5,6,w,7,8\n"));
    struct wish four = wish;
    four.columns = "[\"c\", 1]";
    for (int i = 0; i < 2; i++) {
        must_load(&set, i ? &four : &wish, DATASET_TRAIN);
        assert_int_equal(set.n, 2);
        assert_true(real(&set, 0) == 3 && real(&set, 1) == 2);
        assert_true(real(&set, 2) == 7 && real(&set, 3) == 6);
        assert_true(set.targets[0] == 4 && set.targets[1] == 1);
        assert_true(set.targets[2] == 8 && set.targets[3] == 5);
        dataset_release(&set);
    }
}

/* several inputs */

static void several_inputs_take_their_own_columns_files_and_members(void **state)
{
    (void)state;
    static const struct {
        const char *data, *file;        /* with a file: features for predict */
    } rows[] = {
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": 3}", NULL},
        {"{\"format\": \"idx\", \"train\": {\"labels\": \"y.idx\", \"features\": "
         "{\"left\": \"x.idx\", \"right\": \"x.gz\"}}}", NULL},
        {"{\"format\": \"digits\"}", "t.jsonl"},
    };
    json_t *columns[2] = {json_loads("[0, 2]", 0, NULL), json_loads("[1]", 0, NULL)};
    struct dataset_input inputs[2] = {
        {.name = "left", .shape = {.rank = 2, .dims = {-1, 2}}, .columns = columns[0]},
        {.name = "right", .shape = {.rank = 2, .dims = {-1, 1}}, .columns = columns[1]},
    };
    write_file("t.csv", (struct bytes)BYTES("1,3,2,a\n4,6,5,b\n"));
    write_file("x.idx", (struct bytes)BYTES("\0\0\x08\2\0\0\0\2\0\0\0\2\1\2\4\5"));
    write_gzip("x.gz", (struct bytes)BYTES("\0\0\x08\1\0\0\0\2\3\6"));
    write_file("y.idx", (struct bytes)BYTES("\0\0\x08\1\0\0\0\2\0\1"));
    write_file("t.jsonl", (struct bytes)BYTES("{\"left\": [1, 2], \"right\": 3}\n"
                                              "{\"right\": [6], \"left\": [4, 5]}\n"));
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct dataset_request request = {
            .data = json_loads(rows[i].data, 0, NULL), .directory = folder_of_tests(),
            .n_inputs = 2, .inputs = inputs, .n_targets = 2,
        };
        struct nn_error error = {0};
        struct dataset set;
        if ((rows[i].file ? dataset_load_features(&set, path_of(rows[i].file), &request, &error)
                          : dataset_load(&set, &request, DATASET_TRAIN, &error)) != 0)
            fail_msg("row %zu: %s", i, error.text);
        for (int64_t j = 0; j < 2; j++) {
            nn_real left[2], right;
            dataset_gather(&set, 0, &j, 1, NN_FP32, left);
            dataset_gather(&set, 1, &j, 1, NN_FP32, &right);
            assert_true(left[0] == 3 * j + 1 && left[1] == 3 * j + 2 && right == 3 * j + 3);
            assert_true(rows[i].file || set.classes[j] == j);
        }
        dataset_release(&set);
        json_decref((json_t *)request.data);
    }
    json_decref(columns[0]);
    json_decref(columns[1]);
}

static void evaluation_counts_classes_as_the_bundle_does(void **state)
{
    (void)state;
    static char *bundle_labels[] = {(char *)"z", (char *)"a", (char *)"m"};
    struct dataset_input input = ROW(1);
    struct dataset_request request = {
        .data = json_loads(CSV(), 0, NULL), .directory = folder_of_tests(), .n_inputs = 1,
        .inputs = &input, .n_targets = 3, .labels = bundle_labels, .n_labels = 3,
    };
    struct nn_error error = {0};
    struct dataset set;
    write_file("t.csv", (struct bytes)BYTES("1,a\n2,m\n3,a\n"));
    assert_int_equal(dataset_load(&set, &request, DATASET_TRAIN, &error), 0);
    assert_int_equal(set.n_labels, 3);
    assert_int_equal(set.classes[0], 1);
    assert_int_equal(set.classes[1], 2);
    assert_int_equal(set.classes[2], 1);
    dataset_release(&set);
    json_decref((json_t *)request.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idx_files_that_lie_are_refused),
        cmocka_unit_test(a_label_beyond_the_names_is_refused),
        cmocka_unit_test(labels_that_are_not_named_are_missing),
        cmocka_unit_test(gzip_cut_at_any_length_is_refused),
        cmocka_unit_test(a_bad_csv_names_line_and_column),
        cmocka_unit_test(a_line_without_end_is_refused),
        cmocka_unit_test(integers_of_an_integer_input_are_integers),
        cmocka_unit_test(idx_plain_and_packed_is_the_same_data),
        cmocka_unit_test(idx_floats_and_integers_are_big_endian),
        cmocka_unit_test(an_autoencoder_has_its_input_as_target),
        cmocka_unit_test(csv_is_read_as_its_standard_says),
        cmocka_unit_test(classes_are_their_names_or_their_numbers),
        cmocka_unit_test(classes_that_are_numbers_are_in_their_order),
        cmocka_unit_test(a_number_among_classes_found_in_the_file_is_a_name),
        cmocka_unit_test(columns_choose_and_order_the_features),
        cmocka_unit_test(several_inputs_take_their_own_columns_files_and_members),
        cmocka_unit_test(evaluation_counts_classes_as_the_bundle_does),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
