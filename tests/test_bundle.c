/*
 * Bundles: what is refused and how it is said, and that what is written is read again. The
 * files are put together with safetensors_write(), which has tests of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/formats/bundle.h"
#include "tests/scratch.h"

#define FILE_NAME "model.safetensors"

#define GRAPH                                                                              \
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]}],"               \
    "\"nodes\":[{\"op\":\"Gemm\",\"inputs\":[\"x\",\"w\",\"b\"],\"outputs\":[\"logits\"]," \
    "\"attributes\":{\"transB\":1,\"alpha\":0.1}},"                                        \
    "{\"op\":\"Softmax\",\"inputs\":[\"logits\"],\"outputs\":[\"y\"]}],"                   \
    "\"outputs\":[\"y\"]}"

static float w[6] = {1, 2, 3, 4, 5, 6}, b[3] = {0.5f, 0, -0.5f};
static float x[4] = {1, 0, 0, 1}, y[6] = {0.5f, 0.25f, 0.25f, 0.125f, 0.5f, 0.375f};
static float not_finite[3] = {0, NAN, 0}, infinite[3] = {0, 0, INFINITY};
static int32_t integers[6];
static uint8_t booleans[3] = {0, 1, 2};

enum { N_METADATA = 5, N_ENTRIES = 4, SPARE = 2 };

/* A good bundle, to be spoilt by each case. */
struct draft {
    struct safetensors file;
    struct safetensors_metadata metadata[N_METADATA + SPARE];
    struct safetensors_entry entries[N_ENTRIES + SPARE];
};

static void begin(struct draft *d)
{
    *d = (struct draft){
        .metadata = {{"format", "predictd/1"}, {"graph", GRAPH},
                     {"labels", "[\"red\",\"green\",\"blue\"]"}, {"recipe", "{\"epochs\":3}"},
                     {"training", "{}"}},
        .entries = {{"w", {NN_FP32, {2, {3, 2}}, w}}, {"b", {NN_FP32, {1, {3}}, b}},
                    {"golden.input.x", {NN_FP32, {2, {2, 2}}, x}},
                    {"golden.output.y", {NN_FP32, {2, {2, 3}}, y}}},
    };
    d->file = (struct safetensors){N_ENTRIES, N_METADATA, d->entries, d->metadata, NULL};
}

static void set_metadata(struct draft *d, const char *key, const char *value)
{
    int i = 0;
    while (i < d->file.n_metadata && strcmp(d->metadata[i].key, key) != 0)
        i++;
    if (value)
        d->metadata[i] = (struct safetensors_metadata){key, value};
    else
        d->metadata[i] = d->metadata[--d->file.n_metadata];
    if (i == d->file.n_metadata && value)
        d->file.n_metadata++;
}

static struct safetensors_entry *find_entry(struct draft *d, const char *name)
{
    for (int i = 0; i < d->file.n_entries; i++)
        if (strcmp(d->entries[i].name, name) == 0)
            return &d->entries[i];
    d->entries[d->file.n_entries].name = name;
    return &d->entries[d->file.n_entries++];
}

/* Reads the file; the reason why it is refused, or "" when it was read. */
static const char *read_reason(void)
{
    static char text[512];
    struct bundle bundle;
    struct nn_error error = {0};
    const char *path = scratch_path(FILE_NAME);
    if (bundle_read(&bundle, path, &error) == 0) {
        assert_string_equal(error.text, "");
        assert_non_null(bundle.graph);
        bundle_release(&bundle);
        return "";
    }
    assert_null(bundle.graph);
    assert_null(bundle.file.data);
    assert_int_equal(strncmp(error.text, path, strlen(path)), 0);
    snprintf(text, sizeof text, "%s", error.text + strlen(path) + 2);
    return text;
}

static const char *refusal(const struct draft *d)
{
    struct nn_error error = {0};
    safetensors_write(&d->file, scratch_path(FILE_NAME), &error);
    assert_string_equal(error.text, "");
    return read_reason();
}

/* GRAPH with the first `from` replaced. */
static char *edited(const char *from, const char *to)
{
    const char *at = strstr(GRAPH, from);
    assert_non_null(at);
    char *text = malloc(sizeof GRAPH + strlen(to));
    assert_non_null(text);
    sprintf(text, "%.*s%s%s", (int)(at - GRAPH), GRAPH, to, at + strlen(from));
    return text;
}

static void every_wrong_graph_is_refused_with_its_reason(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *reason;
    } cases[] = {
        /* the document */
        {"{\"inputs\"", "{\"inputs", "graph: line 1, column 16: ':' expected near 'name'"},
        {"{\"inputs\"", "[{\"inputs\"", "graph: line 1, column "},
        {"}],\"outputs\":[\"y\"]", "}],\"outputs\":[\"y\"],\"outputs\":[]",
         "graph: line 1, column 242: duplicate object key near '\"outputs\"'"},
        {"}],\"outputs\":[\"y\"]", "}],\"outputs\":[\"y\"],\"version\":1",
         "graph: unknown key \"version\"; known are \"inputs\", \"nodes\" and \"outputs\""},
        {",\"outputs\":[\"y\"]}", "}", "nodes[1] (Softmax): \"outputs\": expected an array, got "
                                       "nothing"},
        {"}],\"outputs\":[\"y\"]}", "}]}", "graph: \"outputs\": expected an array, got nothing"},

        /* inputs */
        {"[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]}]", "[]",
         "graph: \"inputs\" is empty"},
        {"[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]}]", "[1]",
         "inputs[0]: expected an object, got an integer"},
        {"\"name\":\"x\"", "\"name\":1", "inputs[0]: \"name\": expected a string, got an integer"},
        {"\"name\":\"x\"", "\"name\":\"\"", "inputs[0]: \"name\" is empty"},
        {"\"name\":\"x\"", "\"names\":\"x\"", "inputs[0]: unknown key \"names\"; known are "
                                              "\"name\", \"datatype\" and \"shape\""},
        {"FP32", "FP8", "inputs[0]: unknown datatype \"FP8\"; known are FP64, FP32, FP16, BF16, "
                        "INT64 to INT8, UINT64 to UINT8 and BOOL"},
        {"FP32", "BYTES", "inputs[0]: datatype BYTES: a model takes numbers; no operation here "
                          "knows strings"},
        {"[-1,2]", "2", "inputs[0]: \"shape\": expected an array, got an integer"},
        {"[-1,2]", "[-1,2.0]", "inputs[0]: \"shape\"[1]: expected an integer, got a number with a "
                               "fraction or an exponent"},
        {"[-1,2]", "[1,1,1,1,1,1,1,1,1]", "inputs[0]: \"shape\": 9 dimensions, at most 8 are "
                                          "supported"},
        {"[-1,2]", "[-1,-1]", "inputs[0]: "},
        {"[-1,2]", "[0,2]", "inputs[0]: "},
        {"[-1,2]", "[-1,9223372036854775807]", "inputs[0]: "},
        {"\"shape\":[-1,2]}", "\"shape\":[-1,2]},{\"name\":\"x\",\"datatype\":\"FP32\","
                              "\"shape\":[-1,2]}", "inputs[1]: \"x\" is there already"},

        /* nodes */
        {"\"op\":\"Gemm\"", "\"op\":\"Gem\"",
         "nodes[0]: unknown operation \"Gem\", did you mean \"Gemm\"?"},
        {"\"op\":\"Gemm\"", "\"op\":null", "nodes[0]: \"op\": expected a string, got null"},
        {"{\"op\":\"Softmax\"", "7,{\"op\":\"Softmax\"",
         "nodes[1]: expected an object, got an integer"},
        {"\"op\":\"Softmax\"", "\"op\":\"Softmax\",\"name\":\"s\"",
         "nodes[1] (Softmax): unknown key \"name\"; known are \"op\", \"inputs\", \"outputs\" and "
         "\"attributes\""},
        {"[\"logits\"],\"outputs\"", "\"logits\",\"outputs\"",
         "nodes[1] (Softmax): \"inputs\": expected an array, got a string"},
        {"[\"logits\"],\"outputs\"", "[true],\"outputs\"",
         "nodes[1] (Softmax): \"inputs\"[0]: expected a string, got true"},
        {"[\"logits\"],\"outputs\"", "[],\"outputs\"", "nodes[1] (Softmax): "},
        {"[\"logits\"],\"outputs\"", "[\"\"],\"outputs\"", "nodes[1] (Softmax): "},
        {"[\"logits\"],\"outputs\"", "[\"logit\"],\"outputs\"",
         "nodes[1] (Softmax): \"inputs\"[0]: \"logit\" is neither an input, nor an output of an "
         "earlier node, nor a tensor of the file"},
        {"[\"logits\"],\"outputs\"", "[\"golden.input.x\"],\"outputs\"",
         "nodes[1] (Softmax): \"inputs\"[0]: \"golden.input.x\" is neither an input, nor an "
         "output of an earlier node, nor a tensor of the file"},
        {"[\"x\",\"w\",\"b\"]", "[\"x\",\"w\",\"y\"]",
         "nodes[0] (Gemm): \"inputs\"[2]: \"y\" is neither an input, nor an output of an "
         "earlier node, nor a tensor of the file"},
        {"[\"x\",\"w\",\"b\"]", "[\"x\",\"w\"]", "tensor \"b\": no node uses it"},
        {"[\"x\",\"w\",\"b\"]", "[\"x\",\"w\",\"\"]", "tensor \"b\": no node uses it"},
        {"\"outputs\":[\"logits\"]", "\"outputs\":[]", "nodes[0] (Gemm): "},
        {"\"outputs\":[\"logits\"]", "\"outputs\":[\"x\"]", "nodes[0] (Gemm): "},
        {"\"outputs\":[\"logits\"]", "\"outputs\":[\"w\"]", "nodes[0] (Gemm): "},
        {"\"outputs\":[\"logits\"]", "\"outputs\":[\"logits\",\"more\"]", "nodes[0] (Gemm): "},
        {"\"outputs\":[\"y\"]}]", "\"outputs\":[\"logits\"]}]", "nodes[1] (Softmax): "},

        /* attributes */
        {"{\"transB\":1,\"alpha\":0.1}", "[]",
         "nodes[0] (Gemm): \"attributes\": expected an object, got an array"},
        {"\"transB\"", "\"transC\"", "nodes[0] (Gemm): Gemm has no attribute \"transC\""},
        {"\"transB\":1", "\"transB\":1.0",
         "nodes[0] (Gemm): attribute \"transB\" is an integer, got a number"},
        {"\"transB\":1", "\"transB\":true", "nodes[0] (Gemm): attribute \"transB\" is true"},
        {"\"transB\":1", "\"transB\":[1]",
         "nodes[0] (Gemm): attribute \"transB\" is an integer, got a list of integers"},
        {"\"transB\":1", "\"transB\":[\"1\"]",
         "nodes[0] (Gemm): attribute \"transB\"[0]: expected an integer, got a string"},
        {"\"transB\":1", "\"transB\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]",
         "nodes[0] (Gemm): attribute \"transB\" has 17 integers, at most 16 are supported"},
        {"\"transB\":1", "\"transB\":\"1\"",
         "nodes[0] (Gemm): attribute \"transB\" is an integer, got a string"},
        {"\"transB\":1", "\"transB\":2", "nodes[0] (Gemm): attribute \"transB\" is 0 to 1, got 2"},
        {"\"alpha\":0.1", "\"alpha\":\"0.1\"",
         "nodes[0] (Gemm): attribute \"alpha\" is a number, got a string"},

        /* outputs */
        {"}],\"outputs\":[\"y\"]}", "}],\"outputs\":[]}", "graph: \"outputs\" is empty"},
        {"}],\"outputs\":[\"y\"]}", "}],\"outputs\":[1]}",
         "outputs[0]: expected a string, got an integer"},
        {"}],\"outputs\":[\"y\"]}", "}],\"outputs\":[\"z\"]}",
         "outputs[0]: \"z\" is neither an input nor an output of a node"},
        {"}],\"outputs\":[\"y\"]}", "}],\"outputs\":[\"w\"]}",
         "outputs[0]: \"w\" is neither an input nor an output of a node"},
        {"}],\"outputs\":[\"y\"]}", "}],\"outputs\":[\"y\",\"y\"]}", "outputs[1]: "},

        /* shapes that do not fit */
        {"\"transB\":1", "\"transB\":0", "2 golden samples: logits (Gemm): "},
        {"[-1,2]", "[-1,3]", "tensor \"golden.input.x\": expected the shape [2, 3], got [2, 2]"},
        {"[-1,2]", "[3,2]", "tensor \"golden.input.x\": expected the shape [3, 2], got [2, 2]"},
        {"FP32", "INT64", "tensor \"golden.input.x\": expected INT64, got FP32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct draft d;
        begin(&d);
        char *graph = edited(cases[i].from, cases[i].to);
        set_metadata(&d, "graph", graph);
        const char *reason = refusal(&d);
        size_t n = strlen(cases[i].reason);
        if (n > 2 && cases[i].reason[n - 1] != ' ')
            assert_string_equal(reason, cases[i].reason);
        else if (strncmp(reason, cases[i].reason, n) != 0)
            fail_msg("%s: \"%s\" does not begin with \"%s\"", cases[i].to, reason,
                     cases[i].reason);
        free(graph);
    }
}

static void every_wrong_metadata_is_refused_with_its_reason(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *reason;
    } cases[] = {
        {"format", NULL, "not a predictd bundle: its metadata has no \"format\""},
        {"format", "predictd/2", "the format is \"predictd/2\", expected \"predictd/1\""},
        {"graph", NULL, "its metadata has no \"graph\""},
        {"graph", "", "graph: line 1, column 0: '[' or '{' expected near end of file"},
        {"graph", "[]", "graph: expected an object, got an array"},
        {"author", "me", "unknown metadata \"author\"; known are \"format\", \"graph\", "
                         "\"labels\", \"recipe\" and \"training\""},
        {"labels", "", "labels: line 1, column 0: '[' or '{' expected near end of file"},
        {"labels", "{}", "labels: expected an array, got an object"},
        {"labels", "[]", "labels: expected 1 to 65536 labels, got 0"},
        {"labels", "[\"a\",1]", "labels: [1]: expected a string, got an integer"},
        {"recipe", "[]", "recipe: expected an object, got an array"},
        {"recipe", "{\"a\":1,\"a\":2}",
         "recipe: line 1, column 10: duplicate object key near '\"a\"'"},
        {"training", "{", "training: line 1, column 1: string or '}' expected near end of file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct draft d;
        begin(&d);
        set_metadata(&d, cases[i].key, cases[i].value);
        assert_string_equal(refusal(&d), cases[i].reason);
    }
}

static void every_wrong_tensor_is_refused_with_its_reason(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct nn_tensor tensor;        /* data NULL: the tensor is left out */
        const char *reason;
    } cases[] = {
        {"w", {NN_FP32, {0}, NULL},
         "nodes[0] (Gemm): \"inputs\"[1]: \"w\" is neither an input, nor an output of an "
         "earlier node, nor a tensor of the file"},
        {"b", {NN_FP32, {1, {3}}, not_finite}, "tensor \"b\": element 1 is not finite"},
        {"b", {NN_FP32, {1, {3}}, infinite}, "tensor \"b\": element 2 is not finite"},
        {"b", {NN_BOOL, {1, {3}}, booleans}, "tensor \"b\": element 2 is 2, not 0 or 1"},
        {"w", {NN_INT32, {2, {3, 2}}, integers}, "2 golden samples: logits (Gemm): "},
        {"w", {NN_FP32, {2, {2, 3}}, w}, "2 golden samples: logits (Gemm): "},
        {"w", {NN_FP32, {2, {0, 2}}, w}, "2 golden samples: logits (Gemm): "},
        {"extra", {NN_FP32, {1, {3}}, b}, "tensor \"extra\": no node uses it"},
        {"logits", {NN_FP32, {1, {3}}, b}, "tensor \"logits\": no node uses it"},
        {"x", {NN_FP32, {1, {3}}, b}, "tensor \"x\": no node uses it"},
        {"golden.input.x", {NN_FP32, {0}, NULL},
         "the golden samples are incomplete: tensor \"golden.input.x\" is missing"},
        {"golden.output.y", {NN_FP32, {0}, NULL},
         "the golden samples are incomplete: tensor \"golden.output.y\" is missing"},
        {"golden.input.z", {NN_FP32, {1, {3}}, b},
         "tensor \"golden.input.z\": the graph has no such input or output"},
        {"golden.output.x", {NN_FP32, {2, {2, 2}}, x},
         "tensor \"golden.output.x\": the graph has no such input or output"},
        {"golden.y", {NN_FP32, {1, {3}}, b},
         "tensor \"golden.y\": the graph has no such input or output"},
        {"golden.input.x", {NN_INT32, {2, {2, 2}}, integers},
         "tensor \"golden.input.x\": expected FP32, got INT32"},
        {"golden.input.x", {NN_FP32, {1, {2}}, x},
         "tensor \"golden.input.x\": expected the shape [2, 2], got [2]"},
        {"golden.input.x", {NN_FP32, {0}, x},
         "tensor \"golden.input.x\": expected the shape [1, 2], got []"},
        {"golden.input.x", {NN_FP32, {2, {0, 2}}, x},
         "tensor \"golden.input.x\": expected the shape [1, 2], got [0, 2]"},
        {"golden.input.x", {NN_FP32, {2, {1, 2}}, x},
         "tensor \"golden.output.y\": expected the shape [1, 3], got [2, 3]"},
        {"golden.output.y", {NN_INT32, {2, {2, 3}}, integers},
         "tensor \"golden.output.y\": expected FP32, got INT32"},
        {"golden.output.y", {NN_FP32, {2, {3, 2}}, y},
         "tensor \"golden.output.y\": expected the shape [2, 3], got [3, 2]"},
        {"golden.output.y", {NN_FP32, {1, {3}}, not_finite},
         "tensor \"golden.output.y\": element 1 is not finite"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct draft d;
        begin(&d);
        struct safetensors_entry *entry = find_entry(&d, cases[i].name);
        if (cases[i].tensor.data)
            entry->tensor = cases[i].tensor;
        else
            *entry = d.entries[--d.file.n_entries];
        const char *reason = refusal(&d);
        size_t n = strlen(cases[i].reason);
        if (cases[i].reason[n - 1] != ' ')
            assert_string_equal(reason, cases[i].reason);
        else if (strncmp(reason, cases[i].reason, n) != 0)
            fail_msg("\"%s\" does not begin with \"%s\"", reason, cases[i].reason);
    }
}

static char *good_file(size_t *size)
{
    struct draft d;
    begin(&d);
    assert_string_equal(refusal(&d), "");
    char *bytes = scratch_read(FILE_NAME, size);
    assert_true(*size < 4096);
    return bytes;
}

static void a_cut_file_is_refused_at_every_length(void **state)
{
    (void)state;
    size_t size;
    char *bytes = good_file(&size);
    for (size_t n = 0; n < size; n++) {
        scratch_write(FILE_NAME, bytes, n);
        if (*read_reason() == '\0')
            fail_msg("the first %zu bytes of %zu were read", n, size);
    }
    scratch_write(FILE_NAME, bytes, size + 1);      /* with the zero behind it */
    assert_string_not_equal(read_reason(), "");
    free(bytes);
}

/* Whatever comes of it: an answer, no crash, nothing lost (which the sanitizers see). */
static void a_flipped_bit_of_the_header_is_survived(void **state)
{
    (void)state;
    size_t size, refused = 0;
    char *bytes = good_file(&size);
    uint64_t length;
    memcpy(&length, bytes, sizeof length);
    for (size_t i = 0; i < sizeof length + length; i++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (char)(1 << bit);
            scratch_write(FILE_NAME, bytes, size);
            refused += *read_reason() != '\0';
            bytes[i] ^= (char)(1 << bit);
        }
    assert_true(refused > 8 * length / 2);
    free(bytes);
}

static void what_was_read_is_what_was_written(void **state)
{
    (void)state;
    struct draft d;
    begin(&d);
    assert_string_equal(refusal(&d), "");

    struct bundle bundle;
    struct nn_error error = {0};
    bundle_read(&bundle, scratch_path(FILE_NAME), &error);
    assert_string_equal(error.text, "");
    assert_int_equal(bundle.graph->n_nodes, 2);
    assert_string_equal(bundle.graph->nodes[0].op->name, "Gemm");
    assert_string_equal(bundle.graph->nodes[1].name, "y");
    int value = graph_find(bundle.graph, "w");
    assert_memory_equal(bundle.graph->values[value].type.constant, w, sizeof w);
    assert_int_equal(bundle.n_labels, 3);
    assert_string_equal(bundle.labels[2], "blue");
    assert_string_equal(bundle_metadata(&bundle, "recipe"), "{\"epochs\":3}");
    assert_null(bundle_metadata(&bundle, "weather"));
    assert_memory_equal(bundle.golden_inputs[0].data, x, sizeof x);
    assert_memory_equal(bundle.golden_outputs[0].data, y, sizeof y);
    bundle_release(&bundle);
}

static void a_bundle_without_the_optional_parts_is_read(void **state)
{
    (void)state;
    struct draft d;
    begin(&d);
    d.file.n_entries = 2;
    set_metadata(&d, "labels", NULL);
    set_metadata(&d, "recipe", NULL);
    set_metadata(&d, "training", NULL);
    assert_string_equal(refusal(&d), "");

    struct bundle bundle;
    assert_int_equal(bundle_read(&bundle, scratch_path(FILE_NAME), NULL), 0);
    assert_null(bundle.golden_inputs);
    assert_int_equal(bundle.n_labels, 0);
    bundle_release(&bundle);
}

/* Reads FILE_NAME and writes it again as `name`. */
static void copy_bundle(const char *name)
{
    struct bundle bundle;
    struct nn_error error = {0};
    bundle_read(&bundle, scratch_path(FILE_NAME), &error);
    assert_string_equal(error.text, "");
    struct bundle_content content = {
        .graph = bundle.graph, .n_labels = bundle.n_labels, .labels = bundle.labels,
        .golden_inputs = bundle.golden_inputs, .golden_outputs = bundle.golden_outputs,
        .recipe = bundle_metadata(&bundle, "recipe"),
        .training = bundle_metadata(&bundle, "training"),
    };
    bundle_write(&content, scratch_path(name), &error);
    assert_string_equal(error.text, "");
    bundle_release(&bundle);
}

static void assert_same_files(const char *first, const char *second)
{
    size_t first_size, second_size;
    char *first_bytes = scratch_read(first, &first_size);
    char *second_bytes = scratch_read(second, &second_size);
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first_bytes, second_bytes, first_size);
    free(first_bytes);
    free(second_bytes);
}

static void the_same_bundle_gives_the_same_bytes(void **state)
{
    (void)state;
    struct draft d;
    begin(&d);
    assert_string_equal(refusal(&d), "");
    copy_bundle("1/model.safetensors");
    copy_bundle("2/model.safetensors");
    assert_same_files("1/model.safetensors", "2/model.safetensors");

    size_t size;
    char *bytes = scratch_read("1/model.safetensors", &size);
    scratch_write(FILE_NAME, bytes, size);
    free(bytes);
    copy_bundle("3");
    assert_same_files("1/model.safetensors", "3");
}

static void attributes_are_written_where_they_differ_and_exactly(void **state)
{
    (void)state;
    static const struct {
        const char *given, *written;
    } cases[] = {
        {"\"transB\":1,\"alpha\":0.1", "\"attributes\":{\"alpha\":0.1,\"transB\":1}"},
        {"\"transB\":1,\"alpha\":1", "\"attributes\":{\"transB\":1}"},
        {"\"transB\":1,\"alpha\":1.0,\"beta\":1e0", "\"attributes\":{\"transB\":1}"},
        {"\"transB\":1,\"alpha\":2", "\"attributes\":{\"alpha\":2.0,\"transB\":1}"},
        {"\"transB\":1,\"alpha\":0.30000000000000004",
         "\"attributes\":{\"alpha\":0.30000000000000004,\"transB\":1}"},
        {"\"transB\":1,\"alpha\":1e-05", "\"attributes\":{\"alpha\":1e-5,\"transB\":1}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct draft d;
        begin(&d);
        char *graph = edited("\"transB\":1,\"alpha\":0.1", cases[i].given);
        set_metadata(&d, "graph", graph);
        assert_string_equal(refusal(&d), "");
        free(graph);
        copy_bundle("written");

        struct bundle bundle;
        assert_int_equal(bundle_read(&bundle, scratch_path("written"), NULL), 0);
        const char *text = bundle_metadata(&bundle, "graph");
        if (!strstr(text, cases[i].written))
            fail_msg("%s has no %s", text, cases[i].written);
        bundle_release(&bundle);
    }
}

static void wrong_content_is_not_written(void **state)
{
    (void)state;
    struct draft d;
    begin(&d);
    assert_string_equal(refusal(&d), "");
    struct bundle bundle;
    struct nn_error error = {0};
    assert_int_equal(bundle_read(&bundle, scratch_path(FILE_NAME), &error), 0);

    char a_umlaut[] = "\xe4", *latin[] = {a_umlaut};
    const struct bundle_content contents[] = {
        {.graph = bundle.graph, .recipe = "[]"},
        {.graph = bundle.graph, .training = "{"},
        {.graph = bundle.graph, .n_labels = 1, .labels = latin},
    };
    static const char *const reasons[] = {
        "recipe: expected an object, got an array",
        "training: line 1, column 1: string or '}' expected near end of file",
        "a label is not UTF-8, or there is no memory for the labels",
    };
    for (int i = 0; i < 3; i++) {
        char expected[512];
        const char *path = scratch_path("never");
        error = (struct nn_error){0};
        assert_int_equal(bundle_write(&contents[i], path, &error), -1);
        snprintf(expected, sizeof expected, "%s: %s", path, reasons[i]);
        assert_string_equal(error.text, expected);
    }
    bundle_release(&bundle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_wrong_graph_is_refused_with_its_reason),
        cmocka_unit_test(every_wrong_metadata_is_refused_with_its_reason),
        cmocka_unit_test(every_wrong_tensor_is_refused_with_its_reason),
        cmocka_unit_test(a_cut_file_is_refused_at_every_length),
        cmocka_unit_test(a_flipped_bit_of_the_header_is_survived),
        cmocka_unit_test(what_was_read_is_what_was_written),
        cmocka_unit_test(a_bundle_without_the_optional_parts_is_read),
        cmocka_unit_test(the_same_bundle_gives_the_same_bytes),
        cmocka_unit_test(attributes_are_written_where_they_differ_and_exactly),
        cmocka_unit_test(wrong_content_is_not_written),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
