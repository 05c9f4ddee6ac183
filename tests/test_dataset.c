#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "trainer/dataset.h"

#define BYTES(text) {text, sizeof text - 1}
#define COUNT(rows) (sizeof rows / sizeof *(rows))

struct bytes {
    const char *data;
    size_t n;
};

/* files of the tests, in a folder that goes with them */

static char folder[] = "/tmp/test_dataset.XXXXXX";
static const char *const files[] = {
    "x.idx", "y.idx", "x.gz", "y.gz", "t.csv", "t.jsonl", "data",
};

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int remove_folder(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(files); i++)
        unlink(path_of(files[i]));
    return rmdir(folder);
}

static void write_file(const char *name, struct bytes bytes)
{
    FILE *file = fopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.n, file), bytes.n);
    assert_int_equal(fclose(file), 0);
}

static void write_gzip(const char *name, struct bytes bytes)
{
    gzFile file = gzopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes.data, (unsigned)bytes.n), bytes.n);
    assert_int_equal(gzclose(file), Z_OK);
}

/* requests */

struct wish {
    const char *data;           /* JSON */
    enum dataset_target target;
    int n_targets;
    struct dataset_input input;
    const char *columns;        /* JSON, or NULL */
};

static int load_from(struct dataset *set, const struct wish *wish, const char *directory,
                     enum dataset_part part, struct nn_error *error)
{
    json_error_t reason;
    json_t *data = json_loads(wish->data, 0, &reason);
    if (!data)
        fail_msg("%s: %s", wish->data, reason.text);
    struct dataset_input input = wish->input;
    json_t *columns = wish->columns ? json_loads(wish->columns, 0, NULL) : NULL;
    input.columns = columns;
    struct dataset_request request = {
        .data = data, .directory = directory, .n_inputs = 1, .inputs = &input,
        .target = wish->target, .n_targets = wish->n_targets,
    };
    int result = dataset_load(set, &request, part, error);
    json_decref(data);
    json_decref(columns);
    return result;
}

static int load(struct dataset *set, const struct wish *wish, enum dataset_part part,
                struct nn_error *error)
{
    return load_from(set, wish, folder, part, error);
}

static int load_features(struct dataset *set, const struct wish *wish, const char *name,
                         struct nn_error *error)
{
    json_t *data = json_loads(wish->data, 0, NULL);
    struct dataset_input input = wish->input;
    struct dataset_request request = {
        .data = data, .directory = folder, .n_inputs = 1, .inputs = &input,
        .target = wish->target, .n_targets = wish->n_targets,
    };
    int result = dataset_load_features(set, path_of(name), &request, error);
    json_decref(data);
    return result;
}

/* The text without the folder of the tests. */
static const char *shorten(const struct nn_error *error)
{
    size_t n = strlen(folder);
    bool inside = strncmp(error->text, folder, n) == 0;
    return inside ? error->text + n + 1 : error->text;
}

static void assert_refused(const struct wish *wish, const char *expected)
{
    struct nn_error error = {0};
    struct dataset set;
    assert_int_equal(load(&set, wish, DATASET_TRAIN, &error), -1);
    assert_string_equal(shorten(&error), expected);
    assert_null(set.features);
    assert_int_equal(set.n, 0);
}

static void must_load(struct dataset *set, const struct wish *wish, enum dataset_part part)
{
    struct nn_error error = {0};
    if (load(set, wish, part, &error) != 0)
        fail_msg("%s", error.text);
}

static nn_real real(const struct dataset *set, int64_t i)
{
    assert_int_equal(set->features[0].datatype, NN_FP32);
    return ((const nn_real *)set->features[0].data)[i];
}

#define IMAGE {.name = "image", .shape = {.rank = 4, .dims = {-1, 1, 2, 3}}}
#define ROW(n) {.name = "x", .shape = {.rank = 2, .dims = {-1, n}}}
#define IDX_DATA "{\"format\": \"idx\", \"train\": {\"features\": \"x.idx\", \"labels\": \"y.idx\"}}"

static const struct wish idx_wish = {.data = IDX_DATA, .n_targets = 10, .input = IMAGE};

/* two images of 2x3, and their labels */
#define TWO_IMAGES "\0\0\x08\3\0\0\0\2\0\0\0\2\0\0\0\3" "\1\2\3\4\5\6\7\x08\x09\x0a\x0b\xff"
#define TWO_LABELS "\0\0\x08\1\0\0\0\2" "\7\0"

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
        {"{\"format\": \"digit\"}", "data.format: unknown value \"digit\", did you mean \"digits\"?"},
        {"{\"format\": \"parquet\"}", "data.format: expected idx, csv or digits, got \"parquet\""},
        {"{\"format\": \"jsonl\"}", "data.format: expected idx, csv or digits, got \"jsonl\""},
        {"{\"format\": \"digits\", \"trian\": 5}",
         "data.trian: unknown key, did you mean \"train\"?"},
        {"{\"format\": \"digits\", \"train\": 0}",
         "data.train: expected an integer from 1 to 10000000, got 0"},
        {"{\"format\": \"digits\", \"labels\": [\"a\", \"b\"]}",
         "data.labels: expected ten names, got [\"a\",\"b\"]"},
        {"{\"format\": \"digits\", \"labels\": []}", "data.labels: expected a list of names, got []"},
        {"{\"format\": \"digits\", \"labels\": [\"a\", 1]}", "data.labels[1]: expected a name, got 1"},
        {"{\"format\": \"digits\", \"labels\": [\"a\", \"a\"]}",
         "data.labels[1]: \"a\" is there already"},
        {"{\"format\": \"digits\", \"target\": \"class\"}",
         "data.target: unknown value \"class\", did you mean \"classes\"?"},
        {"{\"format\": \"idx\"}", "data.train: missing"},
        {"{\"format\": \"idx\", \"train\": \"f\"}", "data.train: expected an object, got \"f\""},
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
}

static void a_folder_is_no_file(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = "{\"format\": \"csv\", \"train\": \".\", \"label\": 0}", .input = ROW(1),
    };
    assert_refused(&wish, ".: not a regular file");
}

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
        {BYTES("\0\0\x08\3\0\0\0\2\0\0\0\2"), BYTES(TWO_LABELS), "x.idx: the header is cut short"},
        {BYTES("P5\n28 28"), BYTES(TWO_LABELS),
         "x.idx: not an IDX file: it begins with 50 35, expected 00 00"},
        {BYTES("\0\1\x08\3"), BYTES(TWO_LABELS),
         "x.idx: not an IDX file: it begins with 00 01, expected 00 00"},
        {BYTES("\0\0\x0e\1\0\0\0\1........"), BYTES(TWO_LABELS),
         "x.idx: element type 0x0e, expected 0x08 (unsigned bytes), 0x0c (integers) or 0x0d "
         "(floats)"},
        {BYTES("\0\0\x08\0"), BYTES(TWO_LABELS), "x.idx: 0 dimensions, expected 1 to 8"},
        {BYTES("\0\0\x08\x09"), BYTES(TWO_LABELS), "x.idx: 9 dimensions, expected 1 to 8"},
        {BYTES("\0\0\x08\3\0\0\0\2\0\0\0\0\0\0\0\3"), BYTES(TWO_LABELS),
         "x.idx: dimension 1 is 0"},
        {BYTES("\0\0\x08\3\0\0\0\2\0\0\0\2\0\0\0\3\1\2\3\4\5\6\7\x08\x09\x0a\x0b"),
         BYTES(TWO_LABELS), "x.idx: shape [2, 2, 3] needs 12 bytes, 11 are there"},
        {BYTES("\0\0\x08\3\0\xff\xff\xff\0\0\0\2\0\0\0\3\1"), BYTES(TWO_LABELS),
         "x.idx: shape [16777215, 2, 3] needs more bytes than the file holds"},
        {BYTES("\0\0\x0d\4\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
         BYTES(TWO_LABELS), "x.idx: shape [4294967295, 4294967295, 4294967295, 4294967295] needs "
                            "more bytes than the file holds"},
        {BYTES(TWO_IMAGES "\0"), BYTES(TWO_LABELS),
         "x.idx: bytes behind the elements of shape [2, 2, 3]"},
        {BYTES("\0\0\x08\3\0\0\0\2\0\0\0\1\0\0\0\3\1\2\3\4\5\6"), BYTES(TWO_LABELS),
         "x.idx: shape [2, 1, 3] does not fit input \"image\" [-1, 1, 2, 3]"},
        {BYTES("\0\0\x0d\2\0\0\0\1\0\0\0\6" "\0\0\0\0\x7f\x80\0\0" "0123456789abcdef"),
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

static void idx_floats_and_integers_are_big_endian(void **state)
{
    (void)state;
    static const struct wish wish = {
        .data = IDX_DATA, .target = TARGET_VALUES, .n_targets = 1, .input = ROW(2),
    };
    struct dataset set;
    write_file("x.idx", (struct bytes)BYTES("\0\0\x0d\2\0\0\0\1\0\0\0\2"
                                            "\x3f\x80\0\0\xc0\x20\0\0"));
    write_file("y.idx", (struct bytes)BYTES("\0\0\x0c\1\0\0\0\1\xff\xff\xff\xfe"));
    must_load(&set, &wish, DATASET_TRAIN);
    assert_true(real(&set, 0) == 1 && real(&set, 1) == -2.5f);
    assert_true(set.n_targets == 1 && set.targets[0] == -2);
    assert_null(set.classes);
    dataset_release(&set);
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

#define CSV(settings) "{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": -1" settings "}"
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
        {CSV(), BYTES("1,2,x\n\n3,4,y\n"), "t.csv:2: column 1 is missing: 1 columns, expected 3"},
        {CSV(), BYTES("1,2,x\n3,abc,y\n"), "t.csv:2: column 1: expected a number, got \"abc\""},
        {CSV(HEADER), BYTES("a,petal width,kind\n1,2,x\n3,abc,y\n"),
         "t.csv:3: column 1 (\"petal width\"): expected a number, got \"abc\""},
        {CSV(), BYTES("1,2,x\n3,,y\n"), "t.csv:2: column 1: expected a number, got nothing"},
        {CSV(), BYTES("1,2,x\n3,4,\n"), "t.csv:2: column 2: expected a class, got nothing"},
        {CSV(), BYTES("1,nan,x\n"), "t.csv:1: column 1: expected a number, got \"nan\" (a first "
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
        {CSV(), BYTES("1,x\n"), "t.csv: 1 columns of features (of 2 columns) do not fit input "
                                "\"x\" [-1, 2]"},
        {CSV(), BYTES("1,2,3,x\n"), "t.csv: 3 columns of features (of 4 columns) do not fit "
                                    "input \"x\" [-1, 2]"},
        {CSV(), BYTES("1,\"2,x\n3,4,y\n"), "t.csv:1: column 1: the quote is never closed"},
        {CSV(), BYTES("1,2,x\n1,\"2\"3,y\n"), "t.csv:2: column 1: text behind the closing quote"},
        {CSV(), BYTES("1,2,x\n1,2,\0\n"), "t.csv:2: a NUL byte: this is not text"},
        {CSV(), BYTES("1,2,\"x\n\ny\"\n3,?,x\n"),
         "t.csv:4: column 1: expected a number, got \"?\""},
        {"{\"format\": \"csv\", \"train\": \"t.csv\"}", BYTES("1,2\n"),
         "data.label: missing: which column is to be predicted?"},
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": 3}", BYTES("1,2,x\n"),
         "t.csv: no column 3: there are 3"},
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": -4}", BYTES("1,2,x\n"),
         "t.csv: no column -4: there are 3"},
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": \"specis\"" HEADER "}",
         BYTES("a,b,species\n1,2,x\n"), "t.csv: no column \"specis\", did you mean \"species\"?"},
        {"{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": [0, 1]}", BYTES("1,2,x\n"),
         "data.label: 2 columns, expected the one of the class"},
        {CSV(", \"labels\": [\"x\", \"y\"]"), BYTES("1,2,x\n1,2,z\n"),
         "t.csv:2: column 2: class \"z\" is none of the 2 classes (\"x\" ...)"},
        {CSV(", \"labels\": [\"x\", \"y\"]"), BYTES("1,2,0\n1,2,2\n"),
         "t.csv:2: column 2: class \"2\" is none of the 2 classes (\"x\" ...)"},
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
        {CSV(), BYTES("1,2,aaa\n3,4,bbb\n\n\r\n\n"), {"aaa", "bbb"}},
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

/* features for predict */

static void features_are_read_by_what_the_file_is(void **state)
{
    (void)state;
    static const struct wish wish = {.data = CSV(), .n_targets = 2, .input = ROW(2)};
    static const struct {
        const char *name;
        struct bytes bytes;
    } rows[] = {
        {"t.csv", BYTES("1,2\n3,4\n")},
        {"t.csv", BYTES("1,2,whatever\n3,4,\n")},       /* with the column of the label */
        {"data", BYTES("\0\0\x08\2\0\0\0\2\0\0\0\2\1\2\3\4")},
        {"data", BYTES("[1, 2]\n[3, 4]\n")},
        {"t.jsonl", BYTES("[1, 2]\r\n[3.0, 4e0]")},
        {"data", BYTES("{\"x\": [1, 2]}\n{\"x\": [3, 4]}\n\n")},
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
                                                "shape [1, 2, 3], got another number of them"},
        {BYTES("[[[1,2,3],[4,5]]]\n"), "t.jsonl:1: input \"image\": expected numbers of "
                                       "shape [1, 2, 3], got another number of them"},
        {BYTES("[[1,2,3],[4,5,6]]\n"), "t.jsonl:1: input \"image\": expected numbers of "
                                       "shape [1, 2, 3], got another number of them"},
        {BYTES("[1,2,3,4,5,\"6\"]\n"), "t.jsonl:1: input \"image\": expected numbers of shape "
                                       "[1, 2, 3], got something else"},
        {BYTES("[1,2,3,4,5,1e39]\n"), "t.jsonl:1: input \"image\": expected numbers of shape "
                                      "[1, 2, 3], got one that is not a finite float"},
        {BYTES("7\n"), "t.jsonl:1: input \"image\": expected numbers of shape [1, 2, 3], got "
                       "fewer dimensions"},
        {BYTES("{\"picture\": 1}\n"), "t.jsonl:1: there is no input \"picture\""},
        {BYTES("{}\n"), "t.jsonl:1: input \"image\": expected numbers of shape [1, 2, 3], got "
                        "nothing"},
        {BYTES("[1,2,3\n"), "t.jsonl:1: ']' expected near end of file"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct nn_error error = {0};
        struct dataset set;
        write_file("t.jsonl", rows[i].bytes);
        assert_int_equal(load_features(&set, &wish, "t.jsonl", &error), -1);
        /* float32's limit does not bind a build in float64 */
        if (sizeof(nn_real) == sizeof(float) || !strstr(rows[i].bytes.data, "1e39"))
            assert_string_equal(shorten(&error), rows[i].error);
    }
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
    assert_refused(&wish, "digits are of ten classes, the network tells 3 apart");
    wish = digits_wish;
    wish.input.shape.dims[3] = 27;
    assert_refused(&wish, "digits are images of 28x28: they do not fit input \"image\" "
                          "[-1, 1, 28, 27]");
    wish = digits_wish;
    wish.target = TARGET_VALUES;
    assert_refused(&wish, "digits have classes, no values to predict");
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
    struct dataset set;
    static const int64_t order[] = {1, 0, 1};
    static const int expected[] = {7, 8, 9, 10, 11, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255};
    write_file("x.idx", (struct bytes)BYTES(TWO_IMAGES));
    write_file("y.idx", (struct bytes)BYTES(TWO_LABELS));
    must_load(&set, &idx_wish, DATASET_TRAIN);
    nn_real reals[18];
    int64_t longs[18];
    int32_t ints[18];
    uint8_t bytes[18];
    dataset_gather(&set, 0, order, 3, NN_FP32, reals);
    dataset_gather(&set, 0, order, 3, NN_INT64, longs);
    dataset_gather(&set, 0, order, 3, NN_INT32, ints);
    dataset_gather(&set, 0, order, 3, NN_UINT8, bytes);
    for (int i = 0; i < 18; i++) {
        assert_true(reals[i] == (nn_real)expected[i]);
        assert_true(longs[i] == expected[i] && ints[i] == expected[i]);
        assert_int_equal(bytes[i], expected[i]);
    }
    dataset_release(&set);
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
        cmocka_unit_test(idx_files_that_lie_are_refused),
        cmocka_unit_test(a_label_beyond_the_names_is_refused),
        cmocka_unit_test(labels_that_are_not_named_are_missing),
        cmocka_unit_test(gzip_cut_at_any_length_is_refused),
        cmocka_unit_test(a_bad_csv_names_line_and_column),
        cmocka_unit_test(a_line_without_end_is_refused),
        cmocka_unit_test(integers_of_an_integer_input_are_integers),
        cmocka_unit_test(bad_json_lines_name_the_line),
        cmocka_unit_test(digits_fit_only_their_shape),
        cmocka_unit_test(a_split_that_leaves_nothing_is_refused),
        cmocka_unit_test(idx_plain_and_packed_is_the_same_data),
        cmocka_unit_test(idx_floats_and_integers_are_big_endian),
        cmocka_unit_test(an_autoencoder_has_its_input_as_target),
        cmocka_unit_test(csv_is_read_as_its_standard_says),
        cmocka_unit_test(classes_are_their_names_or_their_numbers),
        cmocka_unit_test(columns_choose_and_order_the_features),
        cmocka_unit_test(a_fraction_cuts_test_data_out_of_one_file),
        cmocka_unit_test(features_are_read_by_what_the_file_is),
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
