/*
 * Files for the tests of data sets, and requests to load them.
 */
#ifndef TESTS_DATASET_FILES_H
#define TESTS_DATASET_FILES_H

#include "trainer/dataset.h"

#define BYTES(text) {text, sizeof text - 1}
#define COUNT(rows) (sizeof rows / sizeof *(rows))

struct bytes {
    const char *data;
    size_t n;
};

/* A folder of the test program's own, for cmocka's group setup and teardown. */
int make_folder(void **state);
int remove_folder(void **state);

const char *folder_of_tests(void);

/* Valid until the next call. */
const char *path_of(const char *name);

/* Removed with the folder. */
void write_file(const char *name, struct bytes bytes);
void write_gzip(const char *name, struct bytes bytes);

/* What to ask for: a recipe with one input. */
struct wish {
    const char *data;           /* JSON */
    enum dataset_target target;
    int n_targets;
    struct dataset_input input;
    const char *columns;        /* JSON, or NULL */
};

/* The data of t.csv, whose last column is the label. */
#define CSV(settings) "{\"format\": \"csv\", \"train\": \"t.csv\", \"label\": -1" settings "}"

#define IMAGE {.name = "image", .shape = {.rank = 4, .dims = {-1, 1, 2, 3}}}
#define ROW(n) {.name = "x", .shape = {.rank = 2, .dims = {-1, n}}}

/* dataset_load() and dataset_load_features(); without a directory from the test's folder. */
int load_from(struct dataset *set, const struct wish *wish, const char *directory,
              enum dataset_part part, struct nn_error *error);
int load(struct dataset *set, const struct wish *wish, enum dataset_part part,
         struct nn_error *error);
int load_features(struct dataset *set, const struct wish *wish, const char *name,
                  struct nn_error *error);

/* The text without the folder of the tests. */
const char *shorten(const struct nn_error *error);

void assert_refused(const struct wish *wish, const char *expected);
void must_load(struct dataset *set, const struct wish *wish, enum dataset_part part);

/* Element i of the first input, which is FP32. */
nn_real real(const struct dataset *set, int64_t i);

#endif
