/*
 * The "data" member of a recipe whose format is CSV. Private to the reader of CSV.
 */
#ifndef TRAINER_DATASETS_CSV_SETTINGS_H
#define TRAINER_DATASETS_CSV_SETTINGS_H

#include "trainer/datasets/format.h"

struct csv_settings {
    struct format_common common;
    const char *train;
    const json_t *test;         /* a file, or {"fraction": f} of the one of train */
    double fraction;            /* 0: test is a file */
    bool header;
    const char *delimiter;
    const json_t *label;        /* NULL: none */
    int64_t seed;               /* of the rows that "fraction" draws */
};

int csv_read_settings(const json_t *data, struct csv_settings *settings, struct nn_error *error);

/* Which columns the inputs take. */
int csv_check_inputs(const struct csv_settings *settings,
                     const struct dataset_request *request, struct nn_error *error);

/* Both, and which columns the target takes. */
int csv_read_request(const struct dataset_request *request, struct csv_settings *settings,
                     struct nn_error *error);

#endif
