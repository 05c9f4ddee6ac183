/*
 * What a quota took away, as files below a folder that stands for the machine's root. The
 * contents are those of the kernel's documents.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/cgroup.h"
#include "tests/scratch.h"

#define V2 "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 100\nnr_throttled 7\n"
#define V1 "nr_periods 30\nnr_throttled 20\nthrottled_time 2500000000\n"

static const struct machine {
    const char *name, *groups; /* groups: /proc/self/cgroup */
    struct {
        const char *path, *content; /* below /sys/fs/cgroup */
    } files[2];
    bool known;
    struct cgroup_throttling expected;
} machines[] = {
    {"nothing", NULL, {{NULL, NULL}}, false, {0}},
    {"version-2",
     "0::/a\n",
     {{"a/cpu.stat", V2 "throttled_usec 1500000\n"}},
     true,
     {100, 7, 1.5}},
    {"container",
     "0::/docker/f00\n",
     {{"cpu.stat", V2 "throttled_usec 1500000\n"}},
     true,
     {100, 7, 1.5}},
    {"its-own-first",
     "0::/a\n",
     {{"a/cpu.stat", V2 "throttled_usec 500000\n"}, {"cpu.stat", V2 "throttled_usec 7\n"}},
     true,
     {100, 7, 0.5}},
    {"no-controller", "0::/\n", {{"cpu.stat", "usage_usec 9\nuser_usec 5\n"}}, false, {0}},
    {"version-1",
     "5:cpuset:/s\n4:cpu,cpuacct:/a\n0::/\n",
     {{"cpu/a/cpu.stat", V1}},
     true,
     {30, 20, 2.5}},
    {"not-its-hierarchy", "5:cpuset,cpuacct:/s\n", {{"cpu/s/cpu.stat", V1}}, false, {0}},
    {"senseless", "0::/\n", {{"cpu.stat", "nr_throttled many\n"}}, false, {0}},
    {"broken-lines", "\n:\n0:\n0::/\n", {{"cpu.stat", V2}}, true, {100, 7, 0}},
};

static void what_the_quota_took_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        const struct machine *m = &machines[i];
        struct cgroup_throttling t = {0};
        if (m->groups)
            scratch_write_below(m->name, "/proc/self", "cgroup", m->groups);
        for (size_t k = 0; k < 2 && m->files[k].path; k++)
            scratch_write_below(m->name, "/sys/fs/cgroup", m->files[k].path,
                                m->files[k].content);
        if (cgroup_read_throttling(scratch_path(m->name), &t) != m->known)
            fail_msg("%s: is it known?", m->name);
        if (m->known &&
            (t.periods != m->expected.periods || t.throttled != m->expected.throttled ||
             t.seconds != m->expected.seconds))
            fail_msg("%s: %lld of %lld periods, %g s", m->name, (long long)t.throttled,
                     (long long)t.periods, t.seconds);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_quota_took_is_read),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
