#include "trainer/recipe.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/formats/json_read.h"
#include "trainer/network.h"

enum { MAX_INPUTS = 64, MAX_INPUT_ELEMENTS = 1 << 28 };

/* the rows: every key of a recipe but the layers' and the data's own */

struct root {
    const char *name;
    const json_t *data, *inputs, *layers, *optimizer, *schedule, *training;
    int loss;
};

static const struct field root_fields[] = {
    {"name", FIELD_STRING, offsetof(struct root, name), .required = true},
    {"data", FIELD_JSON, offsetof(struct root, data), .required = true},
    {"inputs", FIELD_JSON, offsetof(struct root, inputs), .required = true},
    {"layers", FIELD_JSON, offsetof(struct root, layers), .required = true},
    {"loss", FIELD_CHOICE, offsetof(struct root, loss), .choices = loss_names,
     .required = true},
    {"optimizer", FIELD_JSON, offsetof(struct root, optimizer), .required = false},
    {"schedule", FIELD_JSON, offsetof(struct root, schedule), .required = false},
    {"training", FIELD_JSON, offsetof(struct root, training), .required = false},
    {0},
};

struct input {
    const char *name;
    const json_t *shape, *columns;
    int datatype;
};

static const char *const datatype_names[NN_DATATYPES + 1] = {
    [NN_FP32] = "FP32",     [NN_FP64] = "FP64",     [NN_FP16] = "FP16",   [NN_BF16] = "BF16",
    [NN_INT8] = "INT8",     [NN_INT16] = "INT16",   [NN_INT32] = "INT32", [NN_INT64] = "INT64",
    [NN_UINT8] = "UINT8",   [NN_UINT16] = "UINT16", [NN_UINT32] = "UINT32",
    [NN_UINT64] = "UINT64", [NN_BOOL] = "BOOL",
};

static const struct field input_fields[] = {
    {"name", FIELD_STRING, offsetof(struct input, name), .required = true},
    {"shape", FIELD_JSON, offsetof(struct input, shape), .required = true},
    {"datatype", FIELD_CHOICE, offsetof(struct input, datatype), .initial = NN_FP32,
     .choices = datatype_names},
    {"columns", FIELD_JSON, offsetof(struct input, columns), .required = false},
    {0},
};

static const char *const target_names[] = {"classes", "values", "input", NULL};

static const struct field target_field = {"target", FIELD_CHOICE, 0, .initial = -1,
                                          .choices = target_names};

#define OPTIMIZER(member) offsetof(struct optimizer_settings, member)

static const struct field optimizer_type = {
    "type", FIELD_CHOICE, OPTIMIZER(kind), .choices = optimizer_names, .required = true};

#define OPTIMIZER_TYPE                                                                         \
    {"type", FIELD_CHOICE, OPTIMIZER(kind), .choices = optimizer_names, .required = true}
#define LEARNING_RATE(rate)                                                                    \
    {"learning_rate", FIELD_REAL, OPTIMIZER(learning_rate), .initial = (rate), .min = 0,       \
     .max = INFINITY, .min_open = true}
#define BETAS                                                                                  \
    {"beta1", FIELD_REAL, OPTIMIZER(beta1), .initial = 0.9, .min = 0, .max = 1,                \
     .max_open = true},                                                                        \
    {"beta2", FIELD_REAL, OPTIMIZER(beta2), .initial = 0.999, .min = 0, .max = 1,              \
     .max_open = true}
#define EPSILON                                                                                \
    {"epsilon", FIELD_REAL, OPTIMIZER(epsilon), .initial = 1e-8, .min = 0, .max = INFINITY,    \
     .min_open = true}

static const struct field *const optimizer_fields[] = {
    [OPTIMIZER_SGD] = (const struct field[]){
        OPTIMIZER_TYPE,
        LEARNING_RATE(0.01),
        {"momentum", FIELD_REAL, OPTIMIZER(momentum), .initial = 0, .min = 0, .max = 1,
         .max_open = true},
        {"nesterov", FIELD_BOOL, OPTIMIZER(nesterov), .initial = false},
        {0},
    },
    [OPTIMIZER_ADAM] = (const struct field[]){
        OPTIMIZER_TYPE, LEARNING_RATE(0.001), BETAS, EPSILON, {0},
    },
    [OPTIMIZER_ADAMW] = (const struct field[]){
        OPTIMIZER_TYPE, LEARNING_RATE(0.001), BETAS, EPSILON,
        {"weight_decay", FIELD_REAL, OPTIMIZER(weight_decay), .initial = 0.01, .min = 0,
         .max = INFINITY},
        {0},
    },
    [OPTIMIZER_RMSPROP] = (const struct field[]){
        OPTIMIZER_TYPE, LEARNING_RATE(0.001),
        {"rho", FIELD_REAL, OPTIMIZER(rho), .initial = 0.9, .min = 0, .max = 1,
         .max_open = true},
        EPSILON,
        {0},
    },
};

#define SCHEDULE(member) offsetof(struct schedule_settings, member)

static const struct field schedule_type = {
    "type", FIELD_CHOICE, SCHEDULE(kind), .choices = schedule_names, .required = true};

#define SCHEDULE_COMMON                                                                        \
    {"type", FIELD_CHOICE, SCHEDULE(kind), .choices = schedule_names, .required = true},       \
    {"warmup_steps", FIELD_INT, SCHEDULE(warmup_steps), .initial = 0, .min = 0, .max = 1e9}

static const struct field *const schedule_fields[] = {
    [SCHEDULE_CONSTANT] = (const struct field[]){SCHEDULE_COMMON, {0}},
    [SCHEDULE_STEP] = (const struct field[]){
        SCHEDULE_COMMON,
        {"every_epochs", FIELD_INT, SCHEDULE(every_epochs), .initial = 10, .min = 1,
         .max = 1e6},
        {"gamma", FIELD_REAL, SCHEDULE(gamma), .initial = 0.1, .min = 0, .max = 1,
         .min_open = true},
        {0},
    },
    [SCHEDULE_COSINE] = (const struct field[]){
        SCHEDULE_COMMON,
        {"final_fraction", FIELD_REAL, SCHEDULE(final_fraction), .initial = 0, .min = 0,
         .max = 1},
        {0},
    },
};

struct training {
    int64_t epochs, batch_size, seed, patience;
    double l2, clip_norm, validation_fraction, min_delta;
    const json_t *early_stopping;
};

#define TRAINING(member) offsetof(struct training, member)

static const struct field training_fields[] = {
    {"epochs", FIELD_INT, TRAINING(epochs), .initial = 10, .min = 1, .max = 1e6},
    {"batch_size", FIELD_INT, TRAINING(batch_size), .initial = 32, .min = 1, .max = 65536},
    {"seed", FIELD_INT, TRAINING(seed), .initial = 1, .min = 0, .max = INFINITY},
    {"l2", FIELD_REAL, TRAINING(l2), .initial = 0, .min = 0, .max = INFINITY},
    {"clip_norm", FIELD_REAL, TRAINING(clip_norm), .initial = 0, .min = 0, .max = INFINITY},
    {"validation_fraction", FIELD_REAL, TRAINING(validation_fraction), .initial = 0, .min = 0,
     .max = 1, .max_open = true},
    {"early_stopping", FIELD_JSON, TRAINING(early_stopping), .required = false},
    {0},
};

static const struct field early_stopping_fields[] = {
    {"patience", FIELD_INT, TRAINING(patience), .initial = 3, .min = 1, .max = 1e6},
    {"min_delta", FIELD_REAL, TRAINING(min_delta), .initial = 0, .min = 0, .max = INFINITY},
    {0},
};

/* inputs */

static int read_shape(const json_t *json, const char *path, struct nn_shape *shape,
                      struct nn_error *error)
{
    size_t n = json_array_size(json);
    if (n < 1 || n > NN_MAX_RANK - 1)
        return fields_fail(error, path, "an array of 1 to 7 dimensions, without the batch",
                           json);
    *shape = (struct nn_shape){.rank = (int)n + 1, .dims = {-1}};
    int64_t elements = 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(json, i);
        struct field_path at;
        if (!json_is_integer(item) || json_integer_value(item) < 1)
            return fields_fail(error, field_path_index(&at, path, i), "an integer from 1",
                               item);
        int64_t size = shape->dims[i + 1] = json_integer_value(item);
        if (__builtin_mul_overflow(elements, size, &elements) || elements > MAX_INPUT_ELEMENTS)
            return nn_fail(error, "%s: more than %d elements", path, MAX_INPUT_ELEMENTS);
    }
    return 0;
}

static int check_columns(const json_t *columns, const char *path, const struct nn_shape *shape,
                         struct nn_error *error)
{
    size_t n = json_array_size(columns);
    if (n == 0)
        return fields_fail(error, path, "an array of column names or numbers", columns);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(columns, i);
        struct field_path at;
        if (!json_is_string(item) && !json_is_integer(item))
            return fields_fail(error, field_path_index(&at, path, i), "a column name or number",
                               item);
    }
    if ((int64_t)n != shape_product(shape, 1, shape->rank))
        return nn_fail(error, "%s: %zu columns for a shape of %lld elements", path, n,
                       (long long)shape_product(shape, 1, shape->rank));
    return 0;
}

static int read_input(struct recipe *recipe, const json_t *json, int i, struct nn_error *error)
{
    struct field_path path, at;
    field_path_index(&path, "inputs", (size_t)i);
    struct input input;
    struct dataset_input *out = &recipe->inputs[i];
    if (fields_read(json, path.text, input_fields, &input, error) != 0 ||
        read_shape(input.shape, field_path_key(&at, path.text, "shape"), &out->shape,
                   error) != 0)
        return -1;
    if (field_check_name(input.name, field_path_key(&at, path.text, "name"), error) != 0)
        return -1;
    for (int j = 0; j < i; j++)
        if (strcmp(recipe->inputs[j].name, input.name) == 0)
            return nn_fail(error, "%s.name: \"%s\" is the name of inputs[%d] already",
                           path.text, input.name, j);
    if (input.columns && check_columns(input.columns, field_path_key(&at, path.text, "columns"),
                                       &out->shape, error) != 0)
        return -1;
    out->name = input.name;
    out->datatype = (enum nn_datatype)input.datatype;
    out->columns = input.columns;
    return 0;
}

static int read_inputs(struct recipe *recipe, const json_t *json, struct nn_error *error)
{
    size_t n = json_array_size(json);
    if (n < 1 || n > MAX_INPUTS)
        return fields_fail(error, "inputs", "an array of 1 to 64 inputs", json);
    recipe->inputs = calloc(n, sizeof *recipe->inputs);
    if (!recipe->inputs)
        return nn_fail(error, "out of memory");
    for (recipe->n_inputs = 0; recipe->n_inputs < (int)n; recipe->n_inputs++) {
        int i = recipe->n_inputs;
        if (read_input(recipe, json_array_get(json, (size_t)i), i, error) != 0)
            return -1;
    }
    return 0;
}

/* the other members */

static int read_optimizer(struct optimizer_settings *settings, const json_t *json,
                          struct nn_error *error)
{
    *settings = (struct optimizer_settings){
        .kind = OPTIMIZER_ADAM, .learning_rate = 0.001, .beta1 = 0.9, .beta2 = 0.999,
        .epsilon = 1e-8, .rho = 0.9};
    if (!json)
        return 0;
    if (field_read(json, "optimizer", &optimizer_type, settings, error) != 0)
        return -1;
    return fields_read(json, "optimizer", optimizer_fields[settings->kind], settings, error);
}

static int read_schedule(struct schedule_settings *settings, const json_t *json,
                         struct nn_error *error)
{
    *settings = (struct schedule_settings){.kind = SCHEDULE_CONSTANT, .every_epochs = 1,
                                           .gamma = 1};
    if (!json)
        return 0;
    if (field_read(json, "schedule", &schedule_type, settings, error) != 0)
        return -1;
    return fields_read(json, "schedule", schedule_fields[settings->kind], settings, error);
}

static int read_training(struct recipe *recipe, const json_t *json, struct nn_error *error)
{
    json_t *none = json ? NULL : json_object();
    if (!json && !none)
        return nn_fail(error, "out of memory");
    struct training training = {0};
    int status = fields_read(json ? json : none, "training", training_fields, &training, error);
    json_decref(none);
    if (status != 0)
        return -1;
    if (training.early_stopping) {
        const char *path = "training.early_stopping";
        if (fields_read(training.early_stopping, path, early_stopping_fields, &training,
                        error) != 0)
            return -1;
        if (training.validation_fraction == 0)
            return nn_fail(error, "%s: needs training.validation_fraction above 0", path);
    }
    recipe->epochs = (int)training.epochs;
    recipe->batch_size = (int)training.batch_size;
    recipe->seed = (uint64_t)training.seed;
    recipe->l2 = training.l2;
    recipe->clip_norm = training.clip_norm;
    recipe->validation_fraction = training.validation_fraction;
    recipe->patience = (int)training.patience;
    recipe->min_delta = training.min_delta;
    return 0;
}

/* what has to fit together */

static const char *const target_nouns[] = {"classes", "values", "the input"};

/* Which targets a loss can be computed from. */
static bool loss_takes(enum loss_kind loss, enum dataset_target target, int64_t n_outputs)
{
    switch (loss) {
    case LOSS_SOFTMAX_CROSS_ENTROPY:
        return target == TARGET_CLASSES;
    case LOSS_SIGMOID_CROSS_ENTROPY:
        return target != TARGET_CLASSES || n_outputs == 1;
    case LOSS_MEAN_SQUARED_ERROR:
        return target != TARGET_CLASSES;
    }
    return false;
}

static enum dataset_target default_target(enum loss_kind loss, int64_t n_outputs)
{
    return loss_takes(loss, TARGET_CLASSES, n_outputs) ? TARGET_CLASSES : TARGET_VALUES;
}

/* A loss that has its own softmax or sigmoid must not be given a second one. */
static int check_logits(enum loss_kind loss, const struct network *network,
                        struct nn_error *error)
{
    int producer = network->graph->values[network->output].producer;
    const char *op = producer < 0 ? "" : network->graph->nodes[producer].op->name;
    bool twice = loss == LOSS_SOFTMAX_CROSS_ENTROPY
                     ? strcmp(op, "Softmax") == 0 || strcmp(op, "LogSoftmax") == 0
                     : loss == LOSS_SIGMOID_CROSS_ENTROPY && strcmp(op, "Sigmoid") == 0;
    if (!twice)
        return 0;
    return nn_fail(error, "layers[%d]: %s ends with %s, which %s has built in: leave it out",
                   network->n_layers - 1, network->layers[network->n_layers - 1].name, op,
                   loss_names[loss]);
}

/* One number has no variance: what is normalised by it is always 0. */
static int check_statistics(const struct recipe *recipe, const struct network *network,
                            struct nn_error *error)
{
    for (int i = 0; i < network->n_layers && recipe->batch_size == 1; i++) {
        const struct network_layer *layer = &network->layers[i];
        const struct nn_shape *shape = &network->graph->values[layer->value].type.shape;
        if (strcmp(layer->type, "batch_norm") == 0 && shape_product(shape, 2, shape->rank) == 1)
            return nn_fail(error, "training.batch_size: expected 2 at least, got 1: %s "
                           "(layers[%d]) has nothing to average over", layer->name, i);
    }
    return 0;
}

static int check_labels(const struct recipe *recipe, int64_t n_outputs, struct nn_error *error)
{
    const json_t *labels = json_object_get(recipe->data, "labels");
    int64_t n_classes = n_outputs == 1 ? 2 : n_outputs;
    if (recipe->target == TARGET_CLASSES && json_is_array(labels) &&
        (int64_t)json_array_size(labels) != n_classes)
        return nn_fail(error, "data.labels: %zu names, but the layers tell %lld classes apart",
                       json_array_size(labels), (long long)n_classes);
    if (recipe->target == TARGET_VALUES && json_is_array(labels) &&
        (int64_t)json_array_size(labels) != n_outputs)
        return nn_fail(error, "data.labels: %zu names, but the layers give %lld values",
                       json_array_size(labels), (long long)n_outputs);

    const json_t *columns = json_object_get(recipe->data, "label");
    size_t n_columns = json_is_array(columns) ? json_array_size(columns) : 1;
    if (recipe->target == TARGET_VALUES && columns && (int64_t)n_columns != n_outputs)
        return nn_fail(error, "data.label: %zu columns, but the layers give %lld outputs",
                       n_columns, (long long)n_outputs);
    return 0;
}

static int check_output(struct recipe *recipe, const struct network *network,
                        struct nn_error *error)
{
    struct nn_shape shape = network->graph->values[network->output].type.shape;
    struct shape_text text;
    shape.dims[0] = -1;
    shape_print(&shape, &text);
    int64_t n = shape_product(&shape, 1, shape.rank);

    if (recipe->loss == LOSS_SOFTMAX_CROSS_ENTROPY && (shape.rank != 2 || n < 2))
        return nn_fail(error, "loss: %s needs outputs [-1, classes] of 2 classes at least, the "
                       "layers give %s", loss_names[recipe->loss], text.text);

    int target;
    if (field_read(recipe->data, "data", &target_field, &target, error) != 0)
        return -1;
    recipe->target = target < 0 ? default_target(recipe->loss, n) : (enum dataset_target)target;
    if (!loss_takes(recipe->loss, recipe->target, n))
        return nn_fail(error, "data.target: %s with outputs %s is not trained by %s",
                       loss_names[recipe->loss], text.text, target_nouns[recipe->target]);
    int64_t n_input = shape_product(&recipe->inputs[0].shape, 1, recipe->inputs[0].shape.rank);
    if (recipe->target == TARGET_INPUT && n != n_input)
        return nn_fail(error, "data.target: the layers give %lld outputs, the input has %lld "
                       "elements", (long long)n, (long long)n_input);
    if (check_logits(recipe->loss, network, error) != 0 ||
        check_statistics(recipe, network, error) != 0 ||
        check_labels(recipe, n, error) != 0)
        return -1;
    const struct dataset_request request = {.data = recipe->data,
                                            .n_inputs = recipe->n_inputs,
                                            .inputs = recipe->inputs,
                                            .target = recipe->target,
                                            .n_targets = (int)n};
    return dataset_check_request(&request, error);
}

static int check_fit(struct recipe *recipe, struct nn_error *error)
{
    struct network *network = network_new(recipe, error);
    int status = network ? check_output(recipe, network, error) : -1;
    network_free(network);
    return status;
}

/* reading */

/* Takes `json` over. */
static int read_json(struct recipe *recipe, json_t *json, struct nn_error *error)
{
    *recipe = (struct recipe){.json = json};
    struct root root;
    if (fields_read(json, "", root_fields, &root, error) != 0)
        goto failed;
    if (*root.name == '\0') {
        nn_fail(error, "name: must not be empty");
        goto failed;
    }
    recipe->name = root.name;
    recipe->data = root.data;
    recipe->layers = root.layers;
    recipe->loss = (enum loss_kind)root.loss;
    if (read_inputs(recipe, root.inputs, error) != 0 ||
        read_optimizer(&recipe->optimizer, root.optimizer, error) != 0 ||
        read_schedule(&recipe->schedule, root.schedule, error) != 0 ||
        read_training(recipe, root.training, error) != 0 ||
        dataset_check(recipe->data, error) != 0 || check_fit(recipe, error) != 0)
        goto failed;
    return 0;
failed:
    recipe_release(recipe);
    return -1;
}

int recipe_parse(struct recipe *recipe, const char *text, struct nn_error *error)
{
    *recipe = (struct recipe){0};
    json_t *json = json_read_text(text, strlen(text), error);
    return json ? read_json(recipe, json, error) : -1;
}

int recipe_read(struct recipe *recipe, const char *path, struct nn_error *error)
{
    *recipe = (struct recipe){0};
    FILE *file = fopen(path, "r");
    if (!file)
        return nn_fail(error, "%s: %s", path, strerror(errno));
    json_error_t reason;
    json_t *json = json_loadf(file, JSON_REJECT_DUPLICATES, &reason);
    int status;
    if (ferror(file))
        status = nn_fail(error, "cannot be read");
    else
        status = json ? read_json(recipe, json, error)
                      : nn_fail(error, "line %d, column %d: %s", reason.line, reason.column,
                                reason.text);
    fclose(file);
    return status == 0 ? 0 : nn_fail_in(error, "%s", path);
}

void recipe_release(struct recipe *recipe)
{
    json_decref(recipe->json);
    free(recipe->inputs);
    *recipe = (struct recipe){0};
}

char *recipe_text(const struct recipe *recipe)
{
    return json_print(recipe->json, JSON_SORT_KEYS | JSON_COMPACT);
}
