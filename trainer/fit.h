/*
 * fit() and evaluate().
 */
#ifndef TRAINER_FIT_H
#define TRAINER_FIT_H

#include <signal.h>

#include "trainer/metric.h"
#include "trainer/network.h"
#include "trainer/parallel.h"

/* One line of history. Accuracy is NAN for a regression, validation figures without a
 * validation split. */
struct fit_epoch {
    int epoch;                  /* from 1 */
    double learning_rate, seconds;
    double loss, accuracy;      /* over the training data, as it was trained */
    double validation_loss, validation_accuracy;
};

struct fit_progress {           /* within an epoch */
    int epoch, n_epochs;
    int64_t step, n_steps, samples;
    double seconds, loss, accuracy;
};

enum fit_end { FIT_DONE, FIT_STOPPED_EARLY, FIT_INTERRUPTED, FIT_NOT_FINITE };

struct fit_result {
    enum fit_end end;
    const char *layer;          /* FIT_NOT_FINITE: the first layer that went wrong */
    int n_epochs, best_epoch;
    struct fit_epoch *epochs;   /* owned by the result */
    nn_real *weights;           /* the best (by validation loss where there is one, else the
                                   last good), [n_weights]; owned by the result */
};

struct fit_options {
    int n_threads;
    const volatile sig_atomic_t *interrupted;               /* Ctrl-C; or NULL */
    void (*on_progress)(void *context, const struct fit_progress *progress);
    void (*on_epoch)(void *context, const struct fit_epoch *epoch);
    void *context;
};

/* Trains the network in place: it ends with the result's weights. `validation` may be NULL. -1
 * only when there is nothing to keep: no memory, or data that do not fit the network. */
int fit(struct network *network, const struct recipe *recipe, const struct dataset *train,
        const struct dataset *validation, const struct fit_options *options,
        struct fit_result *result, struct nn_error *error);
void fit_result_release(struct fit_result *result);

/* Loss and accuracy (NAN for a regression) of the network on a data set. */
int evaluate(struct network *network, const struct recipe *recipe, const struct dataset *set,
             int n_threads, double *loss, double *accuracy, struct nn_error *error);

#endif
