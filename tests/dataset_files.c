#include "tests/dataset_files.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

/* files of the tests, in a folder that goes with them */

static char folder[] = "/tmp/test_dataset.XXXXXX";
static const char *const files[] = {        /* all that tests write */
    "x.idx", "y.idx", "x.gz", "y.gz", "t.csv", "t.jsonl", "data",
};

int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

const char *folder_of_tests(void)
{
    return folder;
}

const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

int remove_folder(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(files); i++)
        unlink(path_of(files[i]));
    return rmdir(folder);
}

void write_file(const char *name, struct bytes bytes)
{
    FILE *file = fopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.n, file), bytes.n);
    assert_int_equal(fclose(file), 0);
}

void write_gzip(const char *name, struct bytes bytes)
{
    gzFile file = gzopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes.data, (unsigned)bytes.n), bytes.n);
    assert_int_equal(gzclose(file), Z_OK);
}

/* requests */

int load_from(struct dataset *set, const struct wish *wish, const char *directory,
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

int load(struct dataset *set, const struct wish *wish, enum dataset_part part,
                struct nn_error *error)
{
    return load_from(set, wish, folder, part, error);
}

int load_features(struct dataset *set, const struct wish *wish, const char *name,
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

const char *shorten(const struct nn_error *error)
{
    size_t n = strlen(folder);
    bool inside = strncmp(error->text, folder, n) == 0;
    return inside ? error->text + n + 1 : error->text;
}

void assert_refused(const struct wish *wish, const char *expected)
{
    struct nn_error error = {0};
    struct dataset set;
    assert_int_equal(load(&set, wish, DATASET_TRAIN, &error), -1);
    assert_string_equal(shorten(&error), expected);
    assert_null(set.features);
    assert_int_equal(set.n, 0);
}

void must_load(struct dataset *set, const struct wish *wish, enum dataset_part part)
{
    struct nn_error error = {0};
    if (load(set, wish, part, &error) != 0)
        fail_msg("%s", error.text);
}

nn_real real(const struct dataset *set, int64_t i)
{
    assert_int_equal(set->features[0].datatype, NN_FP32);
    return ((const nn_real *)set->features[0].data)[i];
}
