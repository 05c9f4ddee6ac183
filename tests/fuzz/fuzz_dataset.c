/*
 * Files of data. The first byte chooses the format and what is asked of it; for IDX, the
 * second one says how many bytes are the labels' file.
 */
#include "tests/fuzz/fuzz.h"

#include "trainer/dataset.h"
#include <string.h>

enum { N_FILES = 2 };

static const struct wish {
    const char *data; /* %s: the files; NULL: a file of features */
    enum dataset_target target;
    int n_targets;
    struct dataset_input input;
    const char *columns;
} wishes[] = {
    {"{\"format\":\"csv\",\"train\":\"%s\",\"label\":-1}",
     TARGET_CLASSES,
     0,
     {.name = "x", .shape = {2, {-1, 2}}},
     NULL},
    {"{\"format\":\"csv\",\"train\":\"%s\",\"label\":\"y\",\"header\":true,"
     "\"test\":{\"fraction\":0.5}}",
     TARGET_CLASSES,
     3,
     {.name = "x", .shape = {2, {-1, 2}}},
     "[\"a\",\"b\"]"},
    {"{\"format\":\"csv\",\"train\":\"%s\",\"label\":[0,-1],\"delimiter\":\";\"}",
     TARGET_VALUES,
     2,
     {.name = "x", .shape = {2, {-1, 2}}},
     NULL},
    {"{\"format\":\"csv\",\"train\":\"%s\",\"label\":0,\"labels\":[\"no\",\"yes\"]}",
     TARGET_CLASSES,
     1,
     {.name = "x", .shape = {2, {-1, 1}}},
     NULL},
    {"{\"format\":\"idx\",\"train\":{\"features\":\"%s\",\"labels\":\"%s\"}}",
     TARGET_CLASSES,
     0,
     {.name = "x", .shape = {4, {-1, 1, 2, 3}}},
     NULL},
    {"{\"format\":\"idx\",\"train\":{\"features\":\"%s\",\"labels\":\"%s\"}}",
     TARGET_VALUES,
     2,
     {.name = "x", .shape = {2, {-1, 2}}},
     NULL},
    {NULL, TARGET_CLASSES, 0, {.name = "x", .shape = {2, {-1, 2}}}, NULL},
    {NULL, TARGET_CLASSES, 0, {.name = "x", .shape = {4, {-1, 1, 2, 3}}}, NULL},
};

enum { N_WISHES = sizeof wishes / sizeof wishes[0] };

static struct fuzz_file files[N_FILES];
static json_t *data_of[N_WISHES], *columns_of[N_WISHES];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    for (int i = 0; i < N_FILES; i++)
        fuzz_file_open(&files[i]);
    for (int i = 0; i < N_WISHES; i++) {
        char text[512];
        const char *format = wishes[i].data
                                 ? wishes[i].data
                                 : "{\"format\":\"csv\",\"train\":\"%s\",\"label\":0}";
        char *first = strstr(format, "%s"), *second = strstr(first + 2, "%s");
        snprintf(text, sizeof text, "%.*s%s%.*s%s%s", (int)(first - format), format,
                 files[0].path, second ? (int)(second - first - 2) : (int)strlen(first + 2),
                 first + 2, second ? files[1].path : "", second ? second + 2 : "");
        data_of[i] = json_loads(text, 0, NULL);
        MUST(data_of[i] && dataset_check(data_of[i], NULL) == 0);
        columns_of[i] = wishes[i].columns ? json_loads(wishes[i].columns, 0, NULL) : NULL;
    }
    return 0;
}

static void check(const struct dataset *set, const struct dataset_request *request)
{
    MUST(set->n > 0 && set->n_features == 1);
    MUST(set->features[0].shape.dims[0] == set->n);
    MUST(set->n <= 1 << 20);
    for (int64_t i = 0; set->classes && i < set->n; i++)
        MUST(set->classes[i] >= 0 && set->classes[i] < set->n_labels);
    nn_real row[16];
    int64_t last = set->n - 1;
    dataset_gather(set, 0, &last, 1, NN_FP32, row);
    nn_real mean[16], deviation[16];
    dataset_moments(set, 0, request->inputs[0].shape.dims[1], mean, deviation);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    int w = data[0] % N_WISHES;
    const struct wish *wish = &wishes[w];
    size_t rest = size - 2, labels = data[1] < rest ? data[1] : rest;
    if (!wish->data || strstr(wish->data, "csv"))
        labels = 0;
    fuzz_file_write(&files[0], data + 2, rest - labels);
    fuzz_file_write(&files[1], data + 2 + rest - labels, labels);

    struct dataset_input input = wish->input;
    input.columns = columns_of[w];
    struct dataset_request request = {.data = data_of[w],
                                      .directory = "/",
                                      .n_inputs = 1,
                                      .inputs = &input,
                                      .target = wish->target,
                                      .n_targets = wish->n_targets};
    struct nn_error error = {""};
    struct dataset set;
    int status = wish->data ? dataset_load(&set, &request, DATASET_TRAIN, &error)
                            : dataset_load_features(&set, files[0].path, &request, &error);
    if (status < 0) {
        MUST(error.text[0] && set.n == 0 && !set.features);
        return 0;
    }
    check(&set, &request);
    dataset_release(&set);
    return 0;
}
