/*
 * Where a container or a service has a quota of processor time, more threads than that are
 * stopped in turn and only wait for one another. A process is in one control group of version
 * 2, or in one for each controller of version 1 (cgroups(7); the kernel's documents
 * "admin-guide/cgroup-v2" and "scheduler/sched-bwc").
 */
#include "engine/processors.h"

#include "engine/engine.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 8192, LINE_SIZE = 4096 };

/* Reads up to two numbers of a small file and returns how many there are: none in "max". */
static int read_numbers(const char *folder, const char *name, long long *a, long long *b)
{
    char path[PATH_SIZE];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    int n = fscanf(file, "%18lld %18lld", a, b);
    fclose(file);
    return n;
}

/* What the quota of one group leaves of `most`, rounded up. */
static int quota_of(const char *folder, bool unified, int most)
{
    long long quota = 0, period = 0, unused;
    if (unified) {
        if (read_numbers(folder, "cpu.max", &quota, &period) != 2)
            return most;
    } else if (read_numbers(folder, "cpu.cfs_quota_us", &quota, &unused) < 1 ||
               read_numbers(folder, "cpu.cfs_period_us", &period, &unused) < 1) {
        return most;
    }
    if (quota <= 0 || period <= 0)
        return most;
    long long n = (quota - 1) / period + 1;
    return n < most ? (int)n : most;
}

/* The same for a group and those above it, whose quotas hold too. `group` is cut up. In a
 * container it may be the name that the host knows: then only the root is there. */
static int quota_along(const char *mount, char *group, bool unified, int most)
{
    for (;;) {
        char folder[PATH_SIZE];
        if (snprintf(folder, sizeof folder, "%s%s", mount, group) < (int)sizeof folder)
            most = quota_of(folder, unified, most);
        char *slash = strrchr(group, '/');
        if (!slash)
            return most;
        *slash = '\0';
    }
}

static bool names_cpu(const char *controllers)
{
    for (const char *p = controllers; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, "cpu", 3) == 0 && (p[3] == ',' || p[3] == '\0'))
            return true;
    }
    return false;
}

int processors_under(const char *root, int most)
{
    char path[PATH_SIZE], line[LINE_SIZE];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    /* "0::/group" (version 2) or "4:cpu,cpuacct:/group" (version 1) */
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(++controllers, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        bool unified = *controllers == '\0';
        if (!unified && !names_cpu(controllers))
            continue;
        snprintf(path, sizeof path, "%s/sys/fs/cgroup%s", root, unified ? "" : "/cpu");
        most = quota_along(path, group, unified, most);
    }
    if (file)
        fclose(file);
    return most > 1 ? most : 1;
}

int nn_processors(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                        : (int)sysconf(_SC_NPROCESSORS_ONLN);
    return processors_under("", n);
}
