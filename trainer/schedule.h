/*
 * The learning rate over the steps of a training.
 *
 *     constant   rate
 *     step       rate gamma^(epoch / every_epochs)
 *     cosine     final + (rate - final) (1 + cos(pi t)) / 2, t from 0 to 1 after the warm-up
 *
 * each after a linear warm-up from 0 over warmup_steps.
 */
#ifndef TRAINER_SCHEDULE_H
#define TRAINER_SCHEDULE_H

#include <stdint.h>

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_STEP, SCHEDULE_COSINE };

extern const char *const schedule_names[];      /* in the enum's order, ended by NULL */

struct schedule_settings {
    enum schedule_kind kind;
    int64_t warmup_steps;
    int64_t every_epochs;       /* step */
    double gamma;               /* step */
    double final_fraction;      /* cosine: final / rate */
};

/* The rate of step (from 0) of n_steps, with steps_per_epoch. */
double schedule_rate(const struct schedule_settings *settings, double rate, int64_t step,
                     int64_t n_steps, int64_t steps_per_epoch);

#endif
