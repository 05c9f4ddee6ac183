/*
 * The container of bundles. The byte strings named "reference" are those of the tests of
 * huggingface/safetensors (safetensors/src/tensor.rs): what is refused there is refused here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/formats/safetensors.h"
#include "tests/scratch.h"

#define FILE_NAME "case.safetensors"

/* A file of that header and `zeros` bytes of elements. */
static void write_case(const char *header, size_t zeros)
{
    uint64_t length = strlen(header);
    char *data = calloc(1, sizeof length + length + zeros + 1);
    assert_non_null(data);
    memcpy(data, &length, sizeof length);
    memcpy(data + sizeof length, header, length);
    scratch_write(FILE_NAME, data, sizeof length + length + zeros);
    free(data);
}

/* The reason why the case is refused, without the path in front of it. */
static const char *refusal(void)
{
    static char text[512];
    struct safetensors file;
    struct nn_error error = {0};
    const char *path = scratch_path(FILE_NAME);
    if (safetensors_read(&file, path, &error) == 0) {
        safetensors_release(&file);
        return "it was read";
    }
    assert_null(file.entries);
    assert_null(file.data);
    assert_int_equal(strncmp(error.text, path, strlen(path)), 0);
    snprintf(text, sizeof text, "%s", error.text + strlen(path) + 2);
    return text;
}

#define TENSOR(name, dtype, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void every_wrong_header_is_refused_with_its_reason(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t zeros;
        const char *reason;
    } cases[] = {
        /* reference */
        {"\xff", 0, "header: line 1, column 0: unable to decode byte 0xff"},
        {"{", 0, "header: line 1, column 1: string or '}' expected near end of file"},
        {"{" TENSOR("test", "I32", "[2,2]", "0", "4") "}", 16,
         "tensor \"test\": the shape [2, 2] of I32 takes 16 bytes, but its offsets span 4"},
        {"{" TENSOR("test", "I32", "[2,2]", "0", "16") "}", 14,
         "the tensors take 16 bytes, but the file has 14 for them"},
        {"{" TENSOR("test", "I32", "[2,2]", "0", "16") "}", 50,
         "the tensors take 16 bytes, but the file has 50 for them"},
        {"{" TENSOR("test", "I32", "[2,18446744073709551614]", "0", "16") "}", 16,
         "header: line 1, column 54: too big integer near '18446744073709551614'"},
        {"{" TENSOR("test", "I32", "[2,9223372036854775807]", "0", "16") "}", 16,
         "tensor \"test\": the shape [2, 9223372036854775807] is too large"},
        {"{" TENSOR("a", "I32", "[2,2]", "0", "16") "," TENSOR("b", "I32", "[2,2]", "0", "16")
         "}", 16, "tensor \"b\": begins at 0, the one before it ends at 16"},

        /* the document */
        {"", 0, "header: line 1, column 0: '[' or '{' expected near end of file"},
        {"[]", 0, "header: expected an object, got an array"},
        {"null", 0, "header: line 1, column 4: '[' or '{' expected near 'null'"},
        {"{} {}", 0, "header: line 1, column 4: end of file expected near '{'"},
        {"{" TENSOR("a", "U8", "[1]", "0", "1") "," TENSOR("a", "U8", "[1]", "1", "2") "}", 2,
         "header: line 1, column 56: duplicate object key near '\"a\"'"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1,
         "header: line 1, column 26: duplicate object key near '\"dtype\"'"},

        /* a tensor's entry */
        {"{\"a\":[]}", 0, "tensor \"a\": expected an object, got an array"},
        {"{\"a\":{}}", 0, "tensor \"a\": \"dtype\": expected a string, got nothing"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"x\":1}}", 1,
         "tensor \"a\": unknown key \"x\"; known are \"dtype\", \"shape\" and \"data_offsets\""},
        {"{\"a\":{\"dtype\":1,\"shape\":[],\"data_offsets\":[0,1]}}", 1,
         "tensor \"a\": \"dtype\": expected a string, got an integer"},
        {"{" TENSOR("a", "F8_E4M3", "[]", "0", "1") "}", 1,
         "tensor \"a\": \"dtype\": \"F8_E4M3\" is not supported (F64, F32, F16, BF16, I64 to I8, "
         "U64 to U8 and BOOL are)"},
        {"{" TENSOR("a", "F16", "[]", "0", "4") "}", 4,
         "tensor \"a\": the shape [] of F16 takes 2 bytes, but its offsets span 4"},
        {"{" TENSOR("a", "U8", "1", "0", "1") "}", 1,
         "tensor \"a\": \"shape\": expected an array, got an integer"},
        {"{" TENSOR("a", "U8", "[1,1,1,1,1,1,1,1,1]", "0", "1") "}", 1,
         "tensor \"a\": \"shape\": 9 dimensions, at most 8 are supported"},
        {"{" TENSOR("a", "U8", "[1.0]", "0", "1") "}", 1,
         "tensor \"a\": \"shape\"[0]: expected an integer from 0 on, got a number with a "
         "fraction or an exponent"},
        {"{" TENSOR("a", "U8", "[1,-1]", "0", "1") "}", 1,
         "tensor \"a\": \"shape\"[1]: expected an integer from 0 on, got a negative one"},
        {"{" TENSOR("a", "U8", "[2]", "0", "1") "}", 1,
         "tensor \"a\": the shape [2] of U8 takes 2 bytes, but its offsets span 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0]}}", 1,
         "tensor \"a\": \"data_offsets\": expected 2 integers, got 1 elements"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":{}}}", 1,
         "tensor \"a\": \"data_offsets\": expected an array, got an object"},
        {"{" TENSOR("a", "U8", "[]", "-1", "0") "}", 1,
         "tensor \"a\": \"data_offsets\"[0]: expected an integer from 0 on, got a negative one"},
        {"{" TENSOR("a", "U8", "[]", "1", "0") "}", 1,
         "tensor \"a\": its elements end at 0, before they begin at 1"},
        {"{" TENSOR("a", "U8", "[9223372036854775807]", "0", "9223372036854775807") "}", 1,
         "the tensors take 9223372036854775807 bytes, but the file has 1 for them"},

        /* how the tensors lie */
        {"{" TENSOR("a", "U8", "[1]", "1", "2") "}", 2,
         "tensor \"a\": begins at 1, the one before it ends at 0"},
        {"{" TENSOR("a", "U8", "[1]", "0", "1") "," TENSOR("b", "U8", "[1]", "2", "3") "}", 3,
         "tensor \"b\": begins at 2, the one before it ends at 1"},
        {"{" TENSOR("a", "U8", "[2]", "0", "2") "," TENSOR("b", "U8", "[2]", "1", "3") "}", 3,
         "tensor \"b\": begins at 1, the one before it ends at 2"},
        {"{}", 1, "the tensors take 0 bytes, but the file has 1 for them"},

        /* metadata */
        {"{\"__metadata__\":1}", 0, "__metadata__: expected an object, got an integer"},
        {"{\"__metadata__\":{\"k\":{}}}", 0,
         "__metadata__: \"k\": expected a string, got an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_case(cases[i].header, cases[i].zeros);
        assert_string_equal(refusal(), cases[i].reason);
    }
}

static void every_wrong_length_is_refused_with_its_reason(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *reason;
    } cases[] = {
        {"", 0, "0 bytes are too few for a safetensors file"},
        {"\x02\0\0\0\0\0\0", 7, "7 bytes are too few for a safetensors file"},
        {"<\0\0\0\0\0\0\0", 8, "a header of 60 bytes in a file of 8"},
        {"\x03\0\0\0\0\0\0\0{}", 10, "a header of 3 bytes in a file of 10"},
        {"<\0\0\0\0\xff\xff\xff{}", 10,
         "a header of 18446742974197923900 bytes; the limit is 1048576"},
        {"\x01\0\x10\0\0\0\0\0{}", 10, "a header of 1048577 bytes; the limit is 1048576"},
        {"\x03\0\0\0\0\0\0\0{}\0", 11,
         "header: line 1, column 3: end of file expected near end of file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        scratch_write(FILE_NAME, cases[i].bytes, cases[i].size);
        assert_string_equal(refusal(), cases[i].reason);
    }
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    enum { DEPTH = 150000 };
    char *header = calloc(1, DEPTH + 16);
    assert_non_null(header);
    strcpy(header, "{\"a\":");
    memset(header + 5, '[', DEPTH);
    write_case(header, 0);
    free(header);
    assert_non_null(strstr(refusal(), "maximum parsing depth reached"));
}

static void what_the_reference_reads_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t zeros;
        int n;
    } cases[] = {
        {"{" TENSOR("test", "I32", "[2,2]", "0", "16") "}", 16, 1},
        {"{" TENSOR("test", "I32", "[]", "0", "4") "}", 4, 1},
        {"{" TENSOR("test", "I32", "[2,0]", "0", "0") "}", 0, 1},
        {"{" TENSOR("test", "I32", "[]", "0", "4") "}    ", 4, 1},
        {"\t\r\n " "{" TENSOR("test", "I32", "[]", "0", "4") "}", 4, 1},
        {"{}", 0, 0},
        {"{\"__metadata__\":{}}", 0, 0},
        {"{" TENSOR("b", "U8", "[0]", "1", "1") "," TENSOR("a", "U8", "[1]", "0", "1") "}", 1, 2},
        {"{" TENSOR("b", "I32", "[1]", "1", "5") "," TENSOR("a", "U8", "[1]", "0", "1") "}", 5, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_case(cases[i].header, cases[i].zeros);
        struct safetensors file;
        struct nn_error error = {0};
        safetensors_read(&file, scratch_path(FILE_NAME), &error);
        assert_string_equal(error.text, "");
        assert_int_equal(file.n_entries, cases[i].n);
        for (int k = 0; k < file.n_entries; k++)
            assert_int_equal((uintptr_t)file.entries[k].tensor.data % TENSOR_ALIGNMENT, 0);
        safetensors_release(&file);
    }
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkdir(scratch_path("folder"), 0777), 0);
    assert_int_equal(mkfifo(scratch_path("fifo"), 0666), 0);
    scratch_write("unreadable", "", 0);
    assert_int_equal(chmod(scratch_path("unreadable"), 0), 0);
    static const struct {
        const char *name, *reason;
    } cases[] = {
        {"missing", "No such file or directory"},
        {"missing/model.safetensors", "No such file or directory"},
        {"folder", "not a regular file"},
        {"fifo", "not a regular file"},
        {"unreadable", "Permission denied"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (geteuid() == 0 && strcmp(cases[i].name, "unreadable") == 0)
            continue;           /* root reads everything */
        char expected[512];
        struct safetensors file;
        struct nn_error error = {0};
        const char *path = scratch_path(cases[i].name);
        assert_int_equal(safetensors_read(&file, path, &error), -1);
        snprintf(expected, sizeof expected, "%s: %s", path, cases[i].reason);
        assert_string_equal(error.text, expected);
    }
}

/* The example of the reference's test_serialization: one F32 tensor of shape [1, 2, 3]. */
static void a_tensor_is_written_as_the_reference_writes_it(void **state)
{
    (void)state;
    static const char expected[] =
        "\x40\0\0\0\0\0\0\0"
        "{\"attn.0\":{\"dtype\":\"F32\",\"shape\":[1,2,3],\"data_offsets\":[0,24]}}"
        "\0\0\0\0\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40";
    float elements[6] = {0, 1, 2, 3, 4, 5};
    struct safetensors_entry entry = {"attn.0", {NN_FP32, {3, {1, 2, 3}}, elements}};
    struct safetensors file = {.n_entries = 1, .entries = &entry};
    struct nn_error error = {0};
    safetensors_write(&file, scratch_path(FILE_NAME), &error);
    assert_string_equal(error.text, "");

    size_t size;
    char *bytes = scratch_read(FILE_NAME, &size);
    assert_int_equal(size, 96);
    assert_memory_equal(bytes, expected, size);
    free(bytes);
}

/* Content whose order in memory is not the one in the file. */
static uint8_t bytes_of_b[3] = {1, 2, 3};
static int64_t words_of_a[2] = {-1, INT64_MAX};
static float reals_of_z[1] = {0.5f};
static struct safetensors_entry entries[] = {
    {"b", {NN_UINT8, {1, {3}}, bytes_of_b}},
    {"z", {NN_FP32, {0, {0}}, reals_of_z}},
    {"empty", {NN_FP32, {2, {0, 4}}, reals_of_z}},
    {"a", {NN_INT64, {2, {1, 2}}, words_of_a}},
};
static struct safetensors_metadata metadata[] = {
    {"key \"2\"", "\xc3\xa4\n"}, {"key 1", ""},
};
static const struct safetensors content = {4, 2, entries, metadata, NULL};

static void what_was_written_is_read_again(void **state)
{
    (void)state;
    struct nn_error error = {0};
    safetensors_write(&content, scratch_path("new folder/file"), &error);
    assert_string_equal(error.text, "");

    struct safetensors file;
    safetensors_read(&file, scratch_path("new folder/file"), &error);
    assert_string_equal(error.text, "");
    assert_int_equal(file.n_entries, content.n_entries);
    for (int i = 0; i < content.n_entries; i++) {
        const struct nn_tensor *expected = &entries[i].tensor;
        const struct nn_tensor *tensor = safetensors_find(&file, entries[i].name);
        assert_non_null(tensor);
        assert_int_equal(tensor->datatype, expected->datatype);
        assert_true(shape_equal(&tensor->shape, &expected->shape));
        assert_memory_equal(tensor->data, expected->data,
                            tensor_bytes(expected->datatype, &expected->shape));
    }
    for (int i = 0; i < content.n_metadata; i++)
        assert_string_equal(safetensors_metadata(&file, metadata[i].key), metadata[i].value);
    assert_null(safetensors_find(&file, "c"));
    assert_null(safetensors_metadata(&file, "c"));
    safetensors_release(&file);
}

/* A reader that maps the file finds every element at a multiple of its size. */
static void elements_are_aligned_in_the_file(void **state)
{
    (void)state;
    struct nn_error error = {0};
    safetensors_write(&content, scratch_path(FILE_NAME), &error);
    assert_string_equal(error.text, "");
    size_t size;
    char *bytes = scratch_read(FILE_NAME, &size);
    uint64_t length;
    memcpy(&length, bytes, sizeof length);
    assert_int_equal(length % 8, 0);
    assert_memory_equal(bytes + 8 + length, words_of_a, sizeof words_of_a);
    free(bytes);
}

static void the_same_content_gives_the_same_bytes(void **state)
{
    (void)state;
    struct nn_error error = {0};
    safetensors_write(&content, scratch_path("first"), &error);
    struct safetensors_entry turned[4];
    for (int i = 0; i < 4; i++)
        turned[i] = entries[3 - i];
    struct safetensors_metadata swapped[2] = {metadata[1], metadata[0]};
    struct safetensors other = {4, 2, turned, swapped, NULL};
    safetensors_write(&other, scratch_path("second"), &error);
    assert_string_equal(error.text, "");

    size_t first_size, second_size;
    char *first = scratch_read("first", &first_size);
    char *second = scratch_read("second", &second_size);
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first, second, first_size);
    free(first);
    free(second);
}

static void a_failed_write_leaves_the_old_file(void **state)
{
    (void)state;
    scratch_write(FILE_NAME, "old", 3);
    struct safetensors_entry twice[2] = {entries[0], entries[0]};
    struct safetensors_entry reserved = {"__metadata__", entries[0].tensor};
    struct safetensors_entry negative = {"n", {NN_UINT8, {1, {-1}}, bytes_of_b}};
    struct safetensors_entry latin = {"\xe4", entries[0].tensor};
    static const char *const reasons[] = {
        "\"b\" is there twice",
        "tensor \"__metadata__\": this name is reserved",
        "tensor \"n\": its shape is too large or has a negative dimension",
        "\"\xe4\" is not UTF-8, or there is no memory for it",
    };
    const struct safetensors files[] = {
        {2, 0, twice, NULL, NULL},
        {1, 0, &reserved, NULL, NULL},
        {1, 0, &negative, NULL, NULL},
        {1, 0, &latin, NULL, NULL},
    };
    for (size_t i = 0; i < 4; i++) {
        struct nn_error error = {0};
        char expected[512];
        const char *path = scratch_path(FILE_NAME);
        assert_int_equal(safetensors_write(&files[i], path, &error), -1);
        snprintf(expected, sizeof expected, "%s: %s", path, reasons[i]);
        assert_string_equal(error.text, expected);
    }
    struct nn_error error = {0};
    assert_int_equal(safetensors_write(&content, scratch_path("no/such/folder"), &error), -1);

    size_t size;
    char *bytes = scratch_read(FILE_NAME, &size);
    assert_string_equal(bytes, "old");
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_wrong_header_is_refused_with_its_reason),
        cmocka_unit_test(every_wrong_length_is_refused_with_its_reason),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(what_the_reference_reads_is_read),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(a_tensor_is_written_as_the_reference_writes_it),
        cmocka_unit_test(what_was_written_is_read_again),
        cmocka_unit_test(elements_are_aligned_in_the_file),
        cmocka_unit_test(the_same_content_gives_the_same_bytes),
        cmocka_unit_test(a_failed_write_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
