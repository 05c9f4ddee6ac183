/*
 * A training as one watches it: a bar with rate and time to go on a terminal, and a line for
 * each epoch there and elsewhere.
 */
#ifndef TRAINER_PROGRESS_H
#define TRAINER_PROGRESS_H

#include <stdio.h>

#include "trainer/fit.h"

struct progress {
    FILE *out;
    bool bar;                   /* out is a terminal */
    bool drawn;                 /* the bar is on the last line */
    int n_epochs;
    double begun, painted;      /* seconds of the monotonic clock */
};

void progress_init(struct progress *progress, FILE *out, int n_epochs);

/* For struct fit_options; the context is the progress. */
void progress_step(void *progress, const struct fit_progress *step);
void progress_epoch(void *progress, const struct fit_epoch *epoch);

/* Leaves the cursor at the beginning of an empty line. */
void progress_end(struct progress *progress);

#endif
