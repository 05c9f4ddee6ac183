/*
 * Data sets: everything in memory, as it was stored.
 */
#ifndef TRAINER_DATASET_H
#define TRAINER_DATASET_H

#include <jansson.h>

#include "engine/tensor.h"

/* n samples. Either classes (classification) or targets (regression, several labels). */
struct dataset {
    int64_t n;
    int n_features;
    struct nn_tensor *features; /* one per input of the recipe, [n, ...], UINT8 or FP32 */
    int32_t *classes;           /* [n], each in [0, n_labels); or NULL */
    nn_real *targets;           /* [n, n_targets]; or NULL */
    int n_targets;
    int n_labels;
    char **labels;              /* the classes' names */
    json_t *columns;            /* CSV: the names of an only input's columns where the header
                                   names them all and differently, in order; or NULL */
    uint64_t digest;            /* of all bytes above: which data it was */
};

/* What a recipe wants from its data: the inputs' names and shapes, [-1, ...]. */
struct dataset_input {
    const char *name;
    enum nn_datatype datatype;
    struct nn_shape shape;
    const json_t *columns;      /* CSV: array of names or numbers, or NULL: all but the
                                   labels (one input only) */
};

enum dataset_target { TARGET_CLASSES, TARGET_VALUES, TARGET_INPUT };
enum dataset_part { DATASET_TRAIN, DATASET_TEST };

/* The recipe's "data" member, checked by dataset_check(). Three formats:
 *
 *     {"format": "idx", "train": {"features": FILE, "labels": FILE}, "test": {...}}
 *     {"format": "csv", "train": FILE, "test": FILE or {"fraction": 0.2}, "seed": 0,
 *      "header": false, "delimiter": ",", "label": COLUMN or [COLUMN, ...]}
 *     {"format": "digits", "train": 20000, "test": 4000, "seed": 1}
 *
 * Files may be gzip. For several inputs, the features of IDX are an object of files by input.
 * A column of a CSV is a name or a number, from 0, and from the end when negative. "fraction"
 * cuts the test data out of the one file, drawn by "seed": no row is in both.
 *
 * Besides, for any format: "target": "classes", "values" or "input", and "labels": the names
 * of the classes, or of the values. A CSV's classes are these names or their numbers; without
 * "labels", they are the values found in the file, sorted: numbers by their value, names by
 * their bytes. */
struct dataset_request {
    const json_t *data;
    const char *directory;      /* where files that are not absolute are looked for */
    int n_inputs;
    const struct dataset_input *inputs;
    enum dataset_target target;
    int n_targets;              /* the network's outputs: so many values in a row, or classes
                                   (two for one output); 0: not known */
    char *const *labels;        /* evaluation: the classes as the bundle has them; or NULL */
    int n_labels;
};

/* Checks the "data" member without touching a file. Errors name the JSON path ("data.label:
 * ..."), the nearest valid key for an unknown one. */
int dataset_check(const json_t *data, struct nn_error *error);

/* The same for a whole request: whether its data give what its inputs and target need, as far as
 * that can be told without touching a file. */
int dataset_check_request(const struct dataset_request *request, struct nn_error *error);

/* Errors name the file, and the line and column of a CSV. On failure *set is empty. */
int dataset_load(struct dataset *set, const struct dataset_request *request,
                 enum dataset_part part, struct nn_error *error);
void dataset_release(struct dataset *set);

/* A file of features without labels for `predict`: IDX (also gzip), CSV, or JSON lines, by
 * its content and name. Classes and targets stay NULL. */
int dataset_load_features(struct dataset *set, const char *path,
                          const struct dataset_request *request, struct nn_error *error);

/* Cuts off `fraction` of the rows, drawn by `seed`, as the second set; both own their
 * memory. Classes keep their proportions. */
int dataset_split(struct dataset *set, double fraction, uint64_t seed, struct dataset *rest,
                  struct nn_error *error);

/* A permutation of 0 ... n - 1, the same for the same key. */
void dataset_shuffle(int64_t *order, int64_t n, uint64_t key);

/* Rows order[0 .. rows) of feature i, converted to `datatype`, into out. */
void dataset_gather(const struct dataset *set, int i, const int64_t *order, int64_t rows,
                    enum nn_datatype datatype, void *out);

/* Mean and standard deviation of feature i by channel (float64 sums), for standardisation: a
 * row's elements are n_channels runs of equal length. A deviation of 0 becomes 1. Both have
 * n_channels elements. */
void dataset_moments(const struct dataset *set, int i, int64_t n_channels, nn_real *mean,
                     nn_real *deviation);

#endif
