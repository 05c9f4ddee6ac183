#include "trainer/schedule.h"

#include <math.h>
#include <stddef.h>

const char *const schedule_names[] = {
    [SCHEDULE_CONSTANT] = "constant",
    [SCHEDULE_STEP] = "step",
    [SCHEDULE_COSINE] = "cosine",
    NULL,
};

static double step_factor(const struct schedule_settings *settings, int64_t epoch)
{
    int64_t every = settings->every_epochs > 0 ? settings->every_epochs : 1;
    return pow(settings->gamma, (double)(epoch / every));
}

static double cosine_factor(const struct schedule_settings *settings, int64_t step,
                            int64_t n_steps)
{
    int64_t after = step - settings->warmup_steps, length = n_steps - settings->warmup_steps;
    double t = after <= 0 ? 0 : after >= length ? 1 : (double)after / (double)length;
    return settings->final_fraction
         + (1 - settings->final_fraction) * (1 + cos(acos(-1) * t)) / 2;
}

double schedule_rate(const struct schedule_settings *settings, double rate, int64_t step,
                     int64_t n_steps, int64_t steps_per_epoch)
{
    /* The line starts at 0 just before the first step: a step at rate 0 would be wasted. */
    if (step < settings->warmup_steps)
        rate *= (double)(step + 1) / (double)settings->warmup_steps;

    switch (settings->kind) {
    case SCHEDULE_STEP:
        return rate * step_factor(settings, steps_per_epoch > 0 ? step / steps_per_epoch : 0);
    case SCHEDULE_COSINE:
        return rate * cosine_factor(settings, step, n_steps);
    case SCHEDULE_CONSTANT:
        break;
    }
    return rate;
}
