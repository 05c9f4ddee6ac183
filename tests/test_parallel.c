#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "trainer/parallel.h"

static void count_turn(void *context, int i)
{
    __atomic_add_fetch((int *)context + i, 1, __ATOMIC_RELAXED);
}

static void every_turn_is_taken_once(void **state)
{
    (void)state;
    struct parallel *parallel = parallel_new(3);
    assert_non_null(parallel);
    for (int n = 0; n < 200; n++) {
        int counts[200] = {0};
        parallel_run(parallel, n, count_turn, counts);
        for (int i = 0; i < n; i++)
            assert_int_equal(counts[i], 1);
    }
    parallel_free(parallel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_turn_is_taken_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
