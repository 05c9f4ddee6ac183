#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trainer/network.h"

/* JSON is written with apostrophes here. */
static json_t *parse(const char *text)
{
    char *copy = strdup(text);
    assert_non_null(copy);
    for (char *c = copy; *c; c++)
        if (*c == '\'')
            *c = '"';
    json_t *json = json_loads(copy, JSON_DECODE_ANY, NULL);
    if (!json)
        fail_msg("not JSON: %s", copy);
    free(copy);
    return json;
}

static const char good[] =
    "{'name': 'good',"
    " 'data': {'format': 'digits', 'train': 100, 'test': 10},"
    " 'inputs': [{'name': 'image', 'shape': [1, 28, 28]}],"
    " 'layers': [{'type': 'flatten'}, {'type': 'dense', 'units': 10}],"
    " 'loss': 'softmax_cross_entropy',"
    " 'optimizer': {'type': 'adamw'},"
    " 'schedule': {'type': 'cosine'},"
    " 'training': {'epochs': 2}}";

/* The good recipe with one member replaced (NULL: left out). */
static char *variant(const char *key, const char *value)
{
    json_t *json = parse(good);
    if (value)
        assert_int_equal(json_object_set_new(json, key, parse(value)), 0);
    else if (key)
        json_object_del(json, key);
    char *text = json_dumps(json, 0);
    assert_non_null(text);
    json_decref(json);
    return text;
}

struct bad {
    const char *key, *value, *error;
};

#define FLAT "{'type': 'flatten', 'name': 'flat'}, "

static const struct bad bad_members[] = {
    /* keys */
    {"name", NULL, "name: missing"},
    {"layers", NULL, "layers: missing"},
    {"loss", NULL, "loss: missing"},
    {"layer", "[]", "layer: unknown key, did you mean \"layers\"?"},
    {"zzzzzzzz", "1",
     "zzzzzzzz: unknown key, expected one of name, data, inputs, layers, "
     "loss, optimizer, schedule, training"},
    {"name", "7", "name: expected a string, got 7"},
    {"name", "''", "name: must not be empty"},

    /* inputs */
    {"inputs", "[]", "inputs: expected an array of 1 to 64 inputs, got []"},
    {"inputs", "[7]", "inputs[0]: expected an object, got 7"},
    {"inputs", "[{'name': 'x'}]", "inputs[0].shape: missing"},
    {"inputs", "[{'name': 'x', 'shape': 784}]",
     "inputs[0].shape: expected an array of 1 to 7 dimensions, without the batch, got 784"},
    {"inputs", "[{'name': 'x', 'shape': [1, 0]}]",
     "inputs[0].shape[1]: expected an integer from 1, got 0"},
    {"inputs", "[{'name': 'x', 'shape': [1, 28.5]}]",
     "inputs[0].shape[1]: expected an integer from 1, got 28.5"},
    {"inputs", "[{'name': 'x', 'shape': [4611686018427387904, 4611686018427387904]}]",
     "inputs[0].shape: more than 268435456 elements"},
    {"inputs", "[{'name': 'a b', 'shape': [4]}]",
     "inputs[0].name: expected 1 to 64 letters, digits or _-./, got \"a b\""},
    {"inputs", "[{'name': 'golden.x', 'shape': [4]}]",
     "inputs[0].name: \"golden.x\" is a name that bundles use themselves"},
    {"inputs", "[{'name': 'x', 'shape': [4], 'datatype': 'FP23'}]",
     "inputs[0].datatype: unknown value \"FP23\", did you mean \"FP32\"?"},
    {"inputs", "[{'name': 'x', 'shape': [4]}, {'name': 'x', 'shape': [4]}]",
     "inputs[1].name: \"x\" is the name of inputs[0] already"},
    {"inputs", "[{'name': 'x', 'shape': [2], 'columns': ['a', 1, 2]}]",
     "inputs[0].columns: 3 columns for a shape of 2 elements"},
    {"inputs", "[{'name': 'x', 'shape': [2], 'columns': ['a', {}]}]",
     "inputs[0].columns[1]: expected a column name or number, got {}"},
    {"inputs", "[{'name': 'x', 'shape': [28, 28]}, {'name': 'y', 'shape': [2]}]",
     "layers[0].inputs: the model has 2 inputs, name those that the first layer takes"},

    /* optimizer, schedule, training */
    {"optimizer", "{}", "optimizer.type: missing"},
    {"optimizer", "'adam'", "optimizer: expected an object, got \"adam\""},
    {"optimizer", "{'type': 'adan'}",
     "optimizer.type: unknown value \"adan\", did you mean \"adam\"?"},
    {"optimizer", "{'type': 3}",
     "optimizer.type: expected one of sgd, adam, adamw, rmsprop, got 3"},
    {"optimizer", "{'type': 'adam', 'learning_rate': 0}",
     "optimizer.learning_rate: expected a number above 0, got 0"},
    {"optimizer", "{'type': 'adam', 'learning_rat': 0.1}",
     "optimizer.learning_rat: unknown key, did you mean \"learning_rate\"?"},
    {"optimizer", "{'type': 'sgd', 'momentum': 1}",
     "optimizer.momentum: expected a number from 0 and below 1, got 1"},
    {"optimizer", "{'type': 'sgd', 'nesterov': 1}",
     "optimizer.nesterov: expected true or false, got 1"},
    {"optimizer", "{'type': 'adam', 'momentum': 0.9}",
     "optimizer.momentum: unknown key, expected one of type, learning_rate, beta1, beta2, "
     "epsilon"},
    {"schedule", "{'type': 'step', 'every_epochs': 0}",
     "schedule.every_epochs: expected an integer from 1 to 1000000, got 0"},
    {"schedule", "{'type': 'cosine', 'gamma': 0.5}",
     "schedule.gamma: unknown key, expected one of type, warmup_steps, final_fraction"},
    {"training", "{'epochs': 0}",
     "training.epochs: expected an integer from 1 to 1000000, got 0"},
    {"training", "{'batch_size': 65537}",
     "training.batch_size: expected an integer from 1 to 65536, got 65537"},
    {"training", "{'batch_size': '32'}",
     "training.batch_size: expected an integer from 1 to 65536, got \"32\""},
    {"training", "{'seed': -1}", "training.seed: expected an integer from 0, got -1"},
    {"training", "{'validation_fraction': 1}",
     "training.validation_fraction: expected a number from 0 and below 1, got 1"},
    {"training", "{'early_stopping': {'patience': 3}}",
     "training.early_stopping: needs training.validation_fraction above 0"},
    {"training", "{'validation_fraction': 0.1, 'early_stopping': {'patience': 0}}",
     "training.early_stopping.patience: expected an integer from 1 to 1000000, got 0"},
    {"training", "{'early_stopping': {'patients': 3}}",
     "training.early_stopping.patients: unknown key, did you mean \"patience\"?"},

    /* layers: names and inputs */
    {"layers", "{}", "layers: expected an array of 1 to 1024 layers, got {}"},
    {"layers", "[]", "layers: expected an array of 1 to 1024 layers, got []"},
    {"layers", "[[]]", "layers[0]: expected an object, got []"},
    {"layers", "[{}]", "layers[0].type: missing"},
    {"layers", "[{'type': 'conv3d'}]",
     "layers[0].type: unknown value \"conv3d\", did you mean \"conv1d\"?"},
    {"layers", "[{'type': 'flatten', 'name': 'x/y z'}]",
     "layers[0].name: expected 1 to 64 letters, digits or _-./, got \"x/y z\""},
    {"layers", "[{'type': 'flatten', 'name': 'image'}]",
     "layers[0].name: \"image\" is the name of an input or layer already"},
    {"layers", "[{'type': 'flatten', 'name': 'predictions'}]",
     "layers[0].name: \"predictions\" is a name that bundles use themselves"},
    {"layers", "[{'type': 'flatten', 'name': 'golden'}]",
     "layers[0].name: \"golden\" is a name that bundles use themselves"},
    {"layers", "[{'type': 'flatten', 'inputs': 'image'}]",
     "layers[0].inputs: expected an array of 1 to 64 names, got \"image\""},
    {"layers", "[{'type': 'flatten', 'inputs': [1]}]",
     "layers[0].inputs[0]: expected the name of an input or a layer, got 1"},
    {"layers", "[" FLAT "{'type': 'dense', 'units': 10, 'inputs': ['flad']}]",
     "layers[1].inputs[0]: nothing before it is called \"flad\", did you mean \"flat\"?"},
    {"layers", "[" FLAT "{'type': 'dense', 'units': 10, 'inputs': ['nowhere']}]",
     "layers[1].inputs[0]: no input and no layer before it is called \"nowhere\""},
    {"layers", "[" FLAT "{'type': 'dense', 'units': 10, 'inputs': ['flat', 'flat']}]",
     "layers[1].inputs: dense takes one, got 2"},
    {"layers", "[" FLAT "{'type': 'add'}]", "layers[1].inputs: add takes two or more, got 1"},
    {"layers",
     "[" FLAT "{'type': 'flatten', 'inputs': ['image']},"
     "{'type': 'dense', 'units': 2}]",
     "layers[0]: no layer takes \"flat\", and it is not the last one"},

    /* layers: settings */
    {"layers", "[{'type': 'dense', 'units': 10}]",
     "layers[0]: dense needs an input [-1, features], got [-1, 1, 28, 28]; put a flatten layer "
     "before it"},
    {"layers", "[" FLAT "{'type': 'dense'}]", "layers[1].units: missing"},
    {"layers", "[" FLAT "{'type': 'dense', 'unit': 3}]",
     "layers[1].unit: unknown key, did you mean \"units\"?"},
    {"layers", "[" FLAT "{'type': 'dense', 'nmae': 'fc', 'units': 3}]",
     "layers[1].nmae: unknown key, did you mean \"name\"?"},
    {"layers", "[" FLAT "{'type': 'dense', 'units': 3, 'initializer': 'constant'}]",
     "layers[1].initializer: unknown value \"constant\", expected one of he_normal, "
     "he_uniform, glorot_normal, glorot_uniform"},
    {"layers", "[" FLAT "{'type': 'dense', 'units': 3, 'slope': 0.1}]",
     "layers[1].slope: only leaky_relu has one"},
    {"layers", "[" FLAT "{'type': 'dropout', 'rate': 1}]",
     "layers[1].rate: expected a number from 0 and below 1, got 1"},
    {"layers", "[{'type': 'conv2d', 'filters': 8, 'kernel': '3'}]",
     "layers[0].kernel: expected an integer or a pair of them from 1 to 4096, got \"3\""},
    {"layers", "[{'type': 'conv2d', 'filters': 8, 'kernel': [3, 3, 3]}]",
     "layers[0].kernel: expected an integer or a pair of them from 1 to 4096, got [3,3,3]"},
    {"layers", "[{'type': 'conv2d', 'filters': 8, 'kernel': 29}]",
     "layers[0].kernel: 29 is larger than its input 28"},
    {"layers", "[{'type': 'conv2d', 'filters': 8, 'kernel': 5, 'dilation': 8, 'padding': 2}]",
     "layers[0].kernel: 33 (dilated) is larger than its padded input 32"},
    {"layers", "[{'type': 'conv2d', 'filters': 8, 'kernel': 3, 'padding': 'sane'}]",
     "layers[0].padding: expected \"same\", \"valid\", an integer from 0 or a pair of them, "
     "got \"sane\""},
    {"layers", "[{'type': 'conv2d', 'filters': 8, 'kernel': 3, 'groups': 2}]",
     "layers[0].groups: 2 does not divide 1 channels and 8 filters"},
    {"layers", "[{'type': 'conv1d', 'filters': 8, 'kernel': 3}]",
     "layers[0]: conv1d needs an input [-1, channels, length], got [-1, 1, 28, 28]"},
    {"layers", "[" FLAT "{'type': 'max_pool', 'kernel': 2}]",
     "layers[1]: needs an input [-1, channels, length] or [-1, channels, height, width], got "
     "[-1, 784]"},
    {"layers", "[{'type': 'max_pool', 'kernel': 2, 'padding': 2}]",
     "layers[0].padding: 2 is not smaller than the kernel 2"},
    {"layers", "[{'type': 'reshape', 'shape': [28, -1, -1]}]",
     "layers[0].shape[2]: expected an integer from 1, or -1 once, got -1"},
    {"layers", "[{'type': 'reshape', 'shape': [27, -1]}]",
     "layers[0].shape: 784 elements do not fit into it"},
    {"layers", "[{'type': 'concat', 'axis': 0, 'inputs': ['image', 'image']}]",
     "layers[0].axis: expected 1 to 3 (0 is the batch), got 0"},
    {"layers", "[" FLAT "{'type': 'concat', 'inputs': ['image', 'flat']}]",
     "layers[1]: cannot join [-1, 1, 28, 28] and [-1, 784] along axis 1"},
    {"layers", "[" FLAT "{'type': 'add', 'inputs': ['flat', 'image']}]",
     "layers[1]: cannot add [-1, 784] and [-1, 1, 28, 28]"},
    {"layers", "[{'type': 'normalize', 'mean': [1, 2], 'deviation': 1}]",
     "layers[0].mean: 2 numbers for 1 channels"},
    {"layers", "[{'type': 'normalize', 'mean': 0, 'deviation': [0]}]",
     "layers[0].deviation[0]: expected a number above 0, got 0"},
    {"layers", "[" FLAT "{'type': 'standardize'}]",
     "layers[1]: standardize takes an input of the model: its constants are those of the data"},

    /* the loss and what the layers give */
    {"loss", "'softmax'",
     "loss: unknown value \"softmax\", expected one of "
     "softmax_cross_entropy, sigmoid_cross_entropy, mean_squared_error"},
    {"layers", "[{'type': 'flatten'}]", "layers: none of them has anything to train"},
    {"layers", "[{'type': 'conv2d', 'filters': 1, 'kernel': 1}]",
     "loss: softmax_cross_entropy needs outputs [-1, classes] of 2 classes at least, the "
     "layers give [-1, 1, 28, 28]"},
    {"layers", "[" FLAT "{'type': 'dense', 'units': 1}]",
     "loss: softmax_cross_entropy needs outputs [-1, classes] of 2 classes at least, the "
     "layers give [-1, 1]"},
    {"layers", "[" FLAT "{'type': 'dense', 'units': 10, 'activation': 'softmax'}]",
     "layers[1]: dense_1 ends with Softmax, which softmax_cross_entropy has built in: leave it "
     "out"},
    {"data", "{'format': 'digits', 'train': 100, 'test': 10, 'target': 'values'}",
     "data.target: softmax_cross_entropy with outputs [-1, 10] is not trained by values"},
    {"data", "{'format': 'csv', 'train': 'x.csv', 'label': -1, 'labels': ['a', 'b']}",
     "data.labels: 2 names, but the layers tell 10 classes apart"},

    /* what the data have to give to inputs and target */
    {"data", "{'format': 'csv', 'train': 'x.csv'}",
     "data.label: missing: which column is to be predicted?"},
    {"data", "{'format': 'csv', 'train': 'x.csv', 'label': [1, 2]}",
     "data.label: 2 columns, expected the one of the class"},
    {"data", "{'format': 'idx', 'train': {'features': 'x.idx'}}", "data.train.labels: missing"},
    {"data", "{'format': 'idx', 'train': {'features': {'imag': 'x'}, 'labels': 'y'}}",
     "data.train.features: no file for input \"image\""},
};

static void bad_members_are_refused_by_path(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_members / sizeof *bad_members; i++) {
        const struct bad *bad = &bad_members[i];
        char *text = variant(bad->key, bad->value);
        struct recipe recipe;
        struct nn_error error = {0};
        if (recipe_parse(&recipe, text, &error) == 0)
            fail_msg("accepted: %s", text);
        assert_string_equal(error.text, bad->error);
        assert_null(recipe.json);
        assert_null(recipe.inputs);
        assert_int_equal(recipe_parse(&recipe, text, NULL), -1);
        free(text);
    }
}

static void a_batch_of_one_row_has_no_statistics(void **state)
{
    (void)state;
    static const struct {
        const char *layers, *error;
    } rows[] = {
        {"[" FLAT "{'type': 'dense', 'units': 10}, {'type': 'batch_norm', 'name': 'n'}]",
         "training.batch_size: expected 2 at least, got 1: n (layers[2]) has nothing to average "
         "over"},
        {"[{'type': 'batch_norm'}, " FLAT "{'type': 'dense', 'units': 10}]", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *json = parse(good);
        json_object_set_new(json, "layers", parse(rows[i].layers));
        json_object_set_new(json, "training", parse("{'batch_size': 1}"));
        char *text = json_dumps(json, 0);
        struct recipe recipe;
        struct nn_error error = {0};
        assert_int_equal(recipe_parse(&recipe, text, &error), rows[i].error[0] ? -1 : 0);
        assert_string_equal(error.text, rows[i].error);
        recipe_release(&recipe);
        free(text);
        json_decref(json);
    }
}

static void columns_of_a_table_are_checked_before_it_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *v, *data, *error;
    } rows[] = {
        {"", "", "inputs[1].columns: missing: there are several inputs"},
        {", 'columns': ['b']", "",
         "inputs[1].columns[0]: a column has a name only with \"header\": true"},
        {", 'columns': ['b']", ", 'header': true", NULL},
        {", 'columns': [1]", "", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[800];
        snprintf(text, sizeof text,
                 "{'name': 'two', 'inputs': [{'name': 'u', 'shape': [1], 'columns': [0]},"
                 " {'name': 'v', 'shape': [1]%s}], 'loss': 'mean_squared_error',"
                 " 'data': {'format': 'csv', 'train': 'x.csv', 'label': 2%s},"
                 " 'layers': [{'type': 'concat', 'inputs': ['u', 'v']},"
                 " {'type': 'dense', 'units': 1}]}", rows[i].v, rows[i].data);
        json_t *json = parse(text);
        char *canonical = json_dumps(json, 0);
        struct recipe recipe;
        struct nn_error error = {0};
        assert_int_equal(recipe_parse(&recipe, canonical, &error), rows[i].error ? -1 : 0);
        assert_string_equal(error.text, rows[i].error ? rows[i].error : "");
        recipe_release(&recipe);
        free(canonical);
        json_decref(json);
    }
}

static void text_that_is_not_json_is_refused_by_line_and_column(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"", "line 1, column 0: '[' or '{' expected near end of file"},
        {"{\n  \"name\": x\n}", "line 2, column 11: invalid token near 'x'"},
        {"{\n  \"name\": \"a\",\n  \"name\": \"b\"\n}",
         "line 3, column 8: duplicate object key near '\"name\"'"},
        {"{} {}", "line 1, column 4: end of file expected near '{'"},
        {"{\"name\": 1e999}", "line 1, column 14: real number overflow near '1e999'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct recipe recipe;
        struct nn_error error = {0};
        assert_int_equal(recipe_parse(&recipe, rows[i].text, &error), -1);
        assert_string_equal(error.text, rows[i].error);
    }
    struct recipe recipe;
    struct nn_error error = {0};
    assert_int_equal(recipe_parse(&recipe, "[1, 2]", &error), -1);
    assert_string_equal(error.text, "the file: expected an object, got [1,2]");
}

static void a_long_value_is_shortened_in_the_message(void **state)
{
    (void)state;
    char value[300];
    snprintf(value, sizeof value, "{'epochs': '%0200d'}", 0);
    char *text = variant("training", value);
    struct recipe recipe;
    struct nn_error error = {0};
    assert_int_equal(recipe_parse(&recipe, text, &error), -1);
    assert_int_equal(strlen(error.text), strlen("training.epochs: expected an integer from 1 "
                                                "to 1000000, got ") + 63 + strlen("..."));
    free(text);
}

static void errors_of_a_file_begin_with_its_path(void **state)
{
    (void)state;
    struct recipe recipe;
    struct nn_error error = {0};
    assert_int_equal(recipe_read(&recipe, "/nowhere/recipe.json", &error), -1);
    assert_string_equal(error.text, "/nowhere/recipe.json: No such file or directory");

    error.text[0] = '\0';
    assert_int_equal(recipe_read(&recipe, "tests", &error), -1);
    assert_string_equal(error.text, "tests: cannot be read");

    char path[] = "/tmp/recipe-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    char *text = variant("training", "{'epochs': 0}");
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    error.text[0] = '\0';
    int status = recipe_read(&recipe, path, &error);
    unlink(path);
    free(text);
    assert_int_equal(status, -1);
    char expected[200];
    snprintf(expected, sizeof expected,
             "%s: training.epochs: expected an integer from 1 to 1000000, got 0", path);
    assert_string_equal(error.text, expected);
}

static void what_is_left_out_has_its_default(void **state)
{
    (void)state;
    char *text = variant("schedule", NULL);
    struct recipe recipe;
    struct nn_error error = {0};
    if (recipe_parse(&recipe, text, &error) != 0)
        fail_msg("%s", error.text);
    assert_int_equal(recipe.optimizer.kind, OPTIMIZER_ADAMW);
    assert_true(recipe.optimizer.learning_rate == 0.001);
    assert_true(recipe.optimizer.beta1 == 0.9);
    assert_true(recipe.optimizer.beta2 == 0.999);
    assert_true(recipe.optimizer.weight_decay == 0.01);
    assert_int_equal(recipe.schedule.kind, SCHEDULE_CONSTANT);
    assert_int_equal(recipe.epochs, 2);
    assert_int_equal(recipe.batch_size, 32);
    assert_int_equal(recipe.seed, 1);
    assert_int_equal(recipe.patience, 0);
    assert_int_equal(recipe.target, TARGET_CLASSES);
    assert_int_equal(recipe.n_inputs, 1);
    assert_string_equal(recipe.inputs[0].name, "image");
    assert_int_equal(recipe.inputs[0].shape.rank, 4);
    assert_int_equal(recipe.inputs[0].shape.dims[0], -1);
    assert_int_equal(recipe.inputs[0].shape.dims[3], 28);
    recipe_release(&recipe);
    recipe_release(&recipe);
    free(text);
}

static void a_recipe_survives_its_canonical_text(void **state)
{
    (void)state;
    char *text = variant("optimizer", "{'type': 'sgd', 'learning_rate': 0.1, 'momentum': 0.9}");
    struct recipe first, second;
    assert_int_equal(recipe_parse(&first, text, NULL), 0);
    char *canonical = recipe_text(&first);
    assert_non_null(canonical);
    assert_int_equal(recipe_parse(&second, canonical, NULL), 0);
    char *again = recipe_text(&second);
    assert_string_equal(canonical, again);
    assert_true(second.optimizer.learning_rate == 0.1);
    free(again);
    free(canonical);
    free(text);
    recipe_release(&first);
    recipe_release(&second);
}

static void the_committed_recipes_are_good(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "models/digits/recipe.json", "models/mnist/recipe.json",
        "models/mnist-mlp/recipe.json", "models/iris/recipe.json"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct recipe recipe;
        struct nn_error error = {0};
        if (recipe_read(&recipe, paths[i], &error) != 0)
            fail_msg("%s", error.text);
        recipe_release(&recipe);
    }
}

/* Replaces every value of the tree in turn, and reads what came of the whole. */
static void put_anything_anywhere(json_t *root, json_t *at)
{
    static const char *const odd[] = {"null", "true", "-1", "0", "1e308", "9223372036854775807",
                                      "'x'", "''", "[]", "{}", "[[1]]", "[1, 'a', 3]", "0.5"};
    size_t n = json_is_array(at) ? json_array_size(at) : json_object_size(at);
    void *member = json_object_iter(at);
    for (size_t i = 0; i < n; i++, member = json_object_iter_next(at, member)) {
        json_t *before =
            json_is_array(at) ? json_array_get(at, i) : json_object_iter_value(member);
        json_incref(before);
        put_anything_anywhere(root, before);
        for (size_t j = 0; j <= sizeof odd / sizeof *odd; j++) {
            bool restored = j == sizeof odd / sizeof *odd;
            json_t *value = restored ? before : parse(odd[j]);
            if (json_is_array(at))
                json_array_set_new(at, i, value);
            else
                json_object_iter_set_new(at, member, value);
            char *text = json_dumps(root, 0);
            struct recipe recipe;
            struct nn_error error = {0};
            if (recipe_parse(&recipe, text, &error) == 0)
                recipe_release(&recipe);
            else if (restored || !strchr(error.text, ':'))
                fail_msg("%s for %s", error.text, text);
            free(text);
        }
    }
}

static void any_value_anywhere_is_taken_or_refused_by_path(void **state)
{
    (void)state;
    static const char layers[] =
        "[{'type': 'standardize', 'name': 's'},"
        " {'type': 'conv2d', 'filters': 4, 'kernel': [3, 3], 'stride': 1, 'padding': 'same',"
        "  'dilation': 1, 'groups': 1, 'use_bias': false, 'initializer': 'he_normal'},"
        " {'type': 'batch_norm', 'activation': 'leaky_relu', 'slope': 0.1, 'momentum': 0.9},"
        " {'type': 'max_pool', 'kernel': 2, 'stride': [2, 2], 'padding': 0, 'name': 'p'},"
        " {'type': 'scale', 'factor': 2, 'offset': 1, 'name': 'c'},"
        " {'type': 'normalize', 'mean': [0, 0, 0, 0], 'deviation': 1, 'inputs': ['p'],"
        "  'name': 'm'}, {'type': 'concat', 'axis': 1, 'inputs': ['m', 'c', 'p']},"
        " {'type': 'reshape', 'shape': [14, -1]}, {'type': 'flatten'},"
        " {'type': 'dropout', 'rate': 0.5}, {'type': 'dense', 'units': 10}]";
    json_t *root = parse(good);
    json_object_set_new(root, "layers", parse(layers));
    static const char training[] =
        "{'validation_fraction': 0.1, 'early_stopping': {'patience': 2}}";
    json_object_set_new(root, "training", parse(training));
    put_anything_anywhere(root, root);
    json_decref(root);
}

static void the_nearest_name_is_near(void **state)
{
    (void)state;
    static const char *const names[] = {"kernel", "stride", "units", "l2", NULL};
    assert_string_equal(nearest_name("kernal", names), "kernel");
    assert_string_equal(nearest_name("strides", names), "stride");
    assert_string_equal(nearest_name("l1", names), "l2");
    assert_null(nearest_name("ab", names));
    assert_null(nearest_name("activation", names));
    assert_null(nearest_name("", names));
    char word[200];
    memset(word, 'k', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    assert_null(nearest_name(word, names));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_members_are_refused_by_path),
        cmocka_unit_test(a_batch_of_one_row_has_no_statistics),
        cmocka_unit_test(columns_of_a_table_are_checked_before_it_is_read),
        cmocka_unit_test(text_that_is_not_json_is_refused_by_line_and_column),
        cmocka_unit_test(a_long_value_is_shortened_in_the_message),
        cmocka_unit_test(errors_of_a_file_begin_with_its_path),
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(a_recipe_survives_its_canonical_text),
        cmocka_unit_test(the_committed_recipes_are_good),
        cmocka_unit_test(any_value_anywhere_is_taken_or_refused_by_path),
        cmocka_unit_test(the_nearest_name_is_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
