/*
 * Between dataset.c and the reader of each format: one const struct and one row in the list.
 * Private to these files.
 */
#ifndef TRAINER_DATASETS_FORMAT_H
#define TRAINER_DATASETS_FORMAT_H

#include "trainer/dataset.h"
#include "trainer/fields.h"

/* load and load_features fill n, features, and what there is of classes, targets and labels;
 * dataset.c does the rest, and releases the set when they fail. */
struct dataset_format {
    const char *name;           /* "format" in the recipe's data */

    /* Checks the whole "data" member. NULL, like load: not for training. */
    int (*check)(const json_t *data, struct nn_error *error);

    /* The same of what the request wants of it; NULL: load does, which reads no file. */
    int (*check_request)(const struct dataset_request *request, struct nn_error *error);
    int (*load)(struct dataset *set, const struct dataset_request *request,
                enum dataset_part part, struct nn_error *error);

    /* NULL: there are no files of it. */
    int (*load_features)(struct dataset *set, const char *path,
                         const struct dataset_request *request, struct nn_error *error);
};

extern const struct dataset_format idx_format, csv_format, digits_format, jsonl_format;

/* Settings that every format has: the struct of its settings begins with this one, the rows of
 * its fields with these. */
struct format_common {
    const char *format;
    int target;
    const json_t *labels;
};

extern const char *const dataset_target_names[];

#define FORMAT_COMMON_FIELDS                                                               \
    {"format", FIELD_STRING, offsetof(struct format_common, format), .required = true},    \
    {"target", FIELD_CHOICE, offsetof(struct format_common, target),                       \
     .choices = dataset_target_names},                                                     \
    {"labels", FIELD_JSON, offsetof(struct format_common, labels), .required = false}

/* That "labels" is a list of names, none twice. */
int format_check_labels(const struct format_common *common, struct nn_error *error);

/* The path of a file as the recipe names it, which is there; to be freed. */
char *format_path(const struct dataset_request *request, const char *name,
                  struct nn_error *error);

/* Makes room for `rows` rows of all features (as `datatype`) and targets (n_targets in a row),
 * keeping the first set->n of them. */
int format_reserve(struct dataset *set, const struct dataset_request *request,
                   enum nn_datatype datatype, int64_t rows, struct nn_error *error);

/* The elements of a row of input i. */
int64_t format_row_elements(const struct dataset_request *request, int i);

/* Element i of features or labels, UINT8 or FP32. */
static inline double format_element(const struct nn_tensor *tensor, int64_t i)
{
    return tensor->datatype == NN_UINT8 ? ((const uint8_t *)tensor->data)[i]
                                        : ((const nn_real *)tensor->data)[i];
}

/* Computes set->digest from all that it holds. */
void format_digest(struct dataset *set);

/* Sets the names of the classes: those of the request, else "labels", else none: n_labels
 * stays 0. */
int format_name_classes(struct dataset *set, const struct dataset_request *request,
                        const json_t *labels, struct nn_error *error);

/* Names n classes by their numbers. */
int format_number_classes(struct dataset *set, int n, struct nn_error *error);

/* How many classes the network tells apart, 0 when that is not known. */
int format_n_classes(const struct dataset_request *request);

/* source.c: a file, plain or gzip. */

struct source {
    const char *path;
    void *file;                 /* gzFile */
    int64_t most;               /* no more bytes than this can come out of it */
};

int source_open(struct source *source, const char *path, struct nn_error *error);
void source_close(struct source *source);

/* Reads n bytes, fewer only at the end. -1: damaged, cut short, or cannot be read. */
int64_t source_read(struct source *source, void *to, int64_t n, struct nn_error *error);

/* The whole file, with a NUL behind it; to be freed. */
char *source_slurp(const char *path, size_t *n, struct nn_error *error);

#endif
