/*
 * evaluate: how good a published model is on the test data of its own recipe.
 */
#ifndef TRAINER_REPORT_H
#define TRAINER_REPORT_H

#include <stdio.h>

#include "trainer/metric.h"
#include "trainer/recipe.h"

struct report {
    enum loss_kind kind;
    int64_t samples;
    double loss;
    struct confusion confusion;                 /* n == 0: not one of several classes */
    int n_answers;                              /* several outputs, each no or yes; else 0 */
    struct confusion *answers;                  /* [n_answers], each of the classes 0 and 1 */
    int64_t n_exact;                            /* samples all of whose answers are right */
    double absolute_error, squared_error;       /* means, of a regression */
    char **labels; /* [confusion.n], or of the answers [n_answers] */
};

/* `directory` is where the recipe's files are looked for. On failure *report is empty. */
int report_make(struct report *report, const char *bundle_path, const char *directory,
                int n_threads, struct nn_error *error);
void report_release(struct report *report);

/* As text for people, or as one JSON object. */
void report_print(const struct report *report, FILE *out);
int report_print_json(const struct report *report, FILE *out);

#endif
