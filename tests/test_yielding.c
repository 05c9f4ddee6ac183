#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/yielding.h"

/* by a clock of its own */

#define MILLISECOND INT64_C(1000000)
#define SECOND (1000 * MILLISECOND)

struct scene {
    struct yielding yielding;
    int64_t now;
    uint64_t requests;
    int due;                    /* times */
};

/* Until `end` a turn every `pause`, that brought so many requests. What is given away is back
 * after `took` and brings `brought`. */
static void run(struct scene *s, int64_t end, int64_t pause, int requests, int64_t took,
                int brought)
{
    s->due = 0;
    while (s->now < end) {
        s->now += pause;
        s->requests += (uint64_t)requests;
        if (!yielding_is_due(&s->yielding, s->now, s->requests))
            continue;
        s->due++;
        s->now += took;
        s->requests += (uint64_t)brought;
        yielding_done(&s->yielding, took);
    }
}

static struct scene begin(void)
{
    return (struct scene){.now = 1000 * SECOND};
}

static void a_loop_with_few_requests_keeps_its_processor(void **state)
{
    (void)state;
    struct scene s = begin();
    run(&s, s.now + 10 * SECOND, MILLISECOND, 1, 0, 0);
    assert_int_equal(s.due, 0);
}

static void a_busy_loop_gives_it_away_whenever_it_has_nothing_to_do(void **state)
{
    (void)state;
    struct scene s = begin();
    run(&s, s.now + 20 * MILLISECOND, MILLISECOND / 20, 1, 0, 0);
    run(&s, s.now + SECOND, MILLISECOND / 20, 1, 0, 0);
    assert_int_equal(s.due, 20000);
}

static void a_loop_that_was_busy_keeps_it_when_requests_are_few(void **state)
{
    (void)state;
    struct scene s = begin();
    run(&s, s.now + SECOND, MILLISECOND / 20, 1, 0, 0);
    s.now += 10 * SECOND;
    run(&s, s.now + SECOND, 10 * MILLISECOND, 1, 0, 0);
    assert_int_equal(s.due, 0);
}

/* A slice is three milliseconds or four. */
static void it_is_kept_for_a_while_when_somebody_computes(void **state)
{
    (void)state;
    struct scene s = begin();
    run(&s, s.now + 20 * MILLISECOND, MILLISECOND / 20, 1, 0, 0);
    run(&s, s.now + 400 * MILLISECOND, MILLISECOND / 20, 1, 3 * MILLISECOND, 8);
    assert_int_equal(s.due, 3);
}

static void it_may_be_lost_now_and_then(void **state)
{
    (void)state;
    struct scene s = begin();
    run(&s, s.now + 20 * MILLISECOND, MILLISECOND / 20, 1, 0, 0);
    for (int i = 0; i < 20; i++) {
        run(&s, s.now + 3 * MILLISECOND, MILLISECOND / 20, 1, 3 * MILLISECOND, 8);
        assert_int_equal(s.due, 1);
        run(&s, s.now + 60 * MILLISECOND, MILLISECOND / 20, 1, 0, 0);
        assert_true(s.due > 1000);
    }
}

static void who_goes_on_computing_is_met_ever_less(void **state)
{
    (void)state;
    struct scene s = begin();
    run(&s, s.now + 60 * SECOND, MILLISECOND / 20, 1, 3 * MILLISECOND, 8);
    assert_in_range(s.due, 18, 27); /* three, 0.5, 1, 2, 4, 8, 16, 16 seconds apart */
    run(&s, s.now + 160 * SECOND, MILLISECOND / 20, 1, 3 * MILLISECOND, 8);
    assert_in_range(s.due, 30, 33);
}

static void when_he_is_gone_it_is_given_away_again(void **state)
{
    (void)state;
    struct scene s = begin();
    run(&s, s.now + 60 * SECOND, MILLISECOND / 20, 1, 3 * MILLISECOND, 8);
    run(&s, s.now + 20 * SECOND, MILLISECOND / 20, 1, MILLISECOND / 10, 2);
    run(&s, s.now + SECOND, MILLISECOND / 20, 1, MILLISECOND / 10, 2);
    assert_in_range(s.due, 6000, 7000);

    /* And a later one begins anew. */
    run(&s, s.now + 20 * SECOND, MILLISECOND / 20, 1, MILLISECOND / 10, 2);
    run(&s, s.now + 100 * MILLISECOND, MILLISECOND / 20, 1, 3 * MILLISECOND, 8);
    assert_int_equal(s.due, 3);
    run(&s, s.now + SECOND, MILLISECOND / 20, 1, MILLISECOND / 10, 2);
    assert_true(s.due > 3000);
}

/* Hundreds of clients need as long to send. */
static void a_long_time_that_brings_many_requests_was_worth_it(void **state)
{
    (void)state;
    struct scene s = begin();
    run(&s, s.now + 20 * MILLISECOND, MILLISECOND / 20, 1, 0, 0);
    run(&s, s.now + SECOND, MILLISECOND / 2, 0, 3 * MILLISECOND, 128);
    assert_in_range(s.due, 250, 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_with_few_requests_keeps_its_processor),
        cmocka_unit_test(a_busy_loop_gives_it_away_whenever_it_has_nothing_to_do),
        cmocka_unit_test(a_loop_that_was_busy_keeps_it_when_requests_are_few),
        cmocka_unit_test(it_is_kept_for_a_while_when_somebody_computes),
        cmocka_unit_test(it_may_be_lost_now_and_then),
        cmocka_unit_test(who_goes_on_computing_is_met_ever_less),
        cmocka_unit_test(when_he_is_gone_it_is_given_away_again),
        cmocka_unit_test(a_long_time_that_brings_many_requests_was_worth_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
