/*
 * Quotas of control groups, as files below a folder that stands for the machine's root. The
 * contents are those of the kernel's documents.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/engine.h"
#include "engine/processors.h"
#include "tests/scratch.h"

#include <sched.h>

struct machine {
    const char *name, *groups;          /* groups: /proc/self/cgroup */
    struct {
        const char *path, *content;     /* below /sys/fs/cgroup */
    } files[4];
    int expected;                       /* of 8 */
};

static const struct machine machines[] = {
    {"without-groups", NULL, {{NULL, NULL}}, 8},
    {"unlimited", "0::/\n", {{"cpu.max", "max 100000\n"}}, 8},
    {"half", "0::/\n", {{"cpu.max", "50000 100000\n"}}, 1},
    {"exactly-two", "0::/\n", {{"cpu.max", "200000 100000\n"}}, 2},
    {"rounded-up", "0::/\n", {{"cpu.max", "200001 100000\n"}}, 3},
    {"more-than-there-are", "0::/\n", {{"cpu.max", "9900000 100000\n"}}, 8},
    {"the-tightest-counts", "0::/a/b\n",
     {{"a/b/cpu.max", "500000 100000\n"}, {"a/cpu.max", "300000 100000\n"},
      {"cpu.max", "max 100000\n"}}, 3},
    {"named-by-the-host", "0::/docker/f00\n", {{"cpu.max", "400000 100000\n"}}, 4},
    {"empty", "0::/\n", {{"cpu.max", ""}}, 8},
    {"senseless", "0::/\n", {{"cpu.max", "100000 0\n"}}, 8},
    {"version-1", "5:memory:/m\n4:cpu,cpuacct:/a\n1:cpuset:/s\n",
     {{"cpu/a/cpu.cfs_quota_us", "150000\n"}, {"cpu/a/cpu.cfs_period_us", "50000\n"},
      {"cpu/s/cpu.cfs_quota_us", "50000\n"}, {"cpu/s/cpu.cfs_period_us", "50000\n"}}, 3},
    {"version-1-unlimited", "4:cpu:/\n",
     {{"cpu/cpu.cfs_quota_us", "-1\n"}, {"cpu/cpu.cfs_period_us", "100000\n"}}, 8},
    {"broken-lines", "\n:\n0:\n0::/\n", {{"cpu.max", "100000 100000\n"}}, 1},
};

static void quotas_bound_the_processors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        const struct machine *m = &machines[i];
        if (m->groups)
            scratch_write_below(m->name, "/proc/self", "cgroup", m->groups);
        for (size_t k = 0; k < 4 && m->files[k].path; k++)
            scratch_write_below(m->name, "/sys/fs/cgroup", m->files[k].path,
                                m->files[k].content);
        int found = processors_under(scratch_path(m->name), 8);
        if (found != m->expected)
            fail_msg("%s: %d processors, not %d", m->name, found, m->expected);
    }
}

static void the_affinity_bounds_the_processors(void **state)
{
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_in_range(nn_processors(), 1, CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(nn_processors(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quotas_bound_the_processors),
        cmocka_unit_test(the_affinity_bounds_the_processors),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
