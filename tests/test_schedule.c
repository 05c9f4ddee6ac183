#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "trainer/schedule.h"

/* 100 steps of 10 in an epoch, base rate 0.5; expected rates by hand. */
static void rates_are_those_worked_out_by_hand(void **state)
{
    (void)state;
    static const struct {
        struct schedule_settings settings;
        int64_t step;
        double rate;
    } rows[] = {
        {{.kind = SCHEDULE_CONSTANT}, 0, 0.5},
        {{.kind = SCHEDULE_CONSTANT}, 99, 0.5},
        {{.kind = SCHEDULE_CONSTANT, .warmup_steps = 4}, 0, 0.125},
        {{.kind = SCHEDULE_CONSTANT, .warmup_steps = 4}, 3, 0.5},
        {{.kind = SCHEDULE_CONSTANT, .warmup_steps = 4}, 4, 0.5},
        {{.kind = SCHEDULE_STEP, .every_epochs = 2, .gamma = 0.1}, 19, 0.5},
        {{.kind = SCHEDULE_STEP, .every_epochs = 2, .gamma = 0.1}, 20, 0.05},
        {{.kind = SCHEDULE_STEP, .every_epochs = 2, .gamma = 0.1}, 40, 0.005},
        {{.kind = SCHEDULE_STEP, .every_epochs = 1, .gamma = 0.5}, 99, 0.5 / 512},
        {{.kind = SCHEDULE_STEP, .every_epochs = 0, .gamma = 0.5}, 10, 0.25},
        {{.kind = SCHEDULE_COSINE}, 0, 0.5},
        {{.kind = SCHEDULE_COSINE}, 50, 0.25},
        {{.kind = SCHEDULE_COSINE}, 25, 0.42677669529663687},   /* (2 + sqrt 2) / 8 */
        {{.kind = SCHEDULE_COSINE}, 100, 0},
        {{.kind = SCHEDULE_COSINE}, 1000, 0},
        {{.kind = SCHEDULE_COSINE, .final_fraction = 0.2}, 50, 0.3},
        {{.kind = SCHEDULE_COSINE, .final_fraction = 0.2}, 100, 0.1},
        {{.kind = SCHEDULE_COSINE, .warmup_steps = 20}, 9, 0.25},
        {{.kind = SCHEDULE_COSINE, .warmup_steps = 20}, 20, 0.5},
        {{.kind = SCHEDULE_COSINE, .warmup_steps = 20}, 60, 0.25},
        {{.kind = SCHEDULE_COSINE, .warmup_steps = 200}, 99, 0.25},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double rate = schedule_rate(&rows[i].settings, 0.5, rows[i].step, 100, 10);
        if (!(fabs(rate - rows[i].rate) < 1e-15))
            fail_msg("row %zu: %.17g, expected %.17g", i, rate, rows[i].rate);
    }
}

static void an_empty_training_has_a_finite_rate(void **state)
{
    (void)state;
    for (int kind = 0; schedule_names[kind]; kind++) {
        struct schedule_settings settings = {.kind = kind, .gamma = 0.5, .every_epochs = 1};
        assert_true(isfinite(schedule_rate(&settings, 1, 0, 0, 0)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_those_worked_out_by_hand),
        cmocka_unit_test(an_empty_training_has_a_finite_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
