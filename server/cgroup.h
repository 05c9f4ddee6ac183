/*
 * How often the control group's quota took the processor away.
 */
#ifndef SERVER_CGROUP_H
#define SERVER_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

struct cgroup_throttling {
    int64_t periods;   /* in which the group wanted the processor */
    int64_t throttled; /* of them, those in which it was denied */
    double seconds;    /* that its threads waited, all together */
};

/* Of the group that this process is in. `root` is "", or where a test keeps its /proc and /sys.
 * False: nobody counts. */
bool cgroup_read_throttling(const char *root, struct cgroup_throttling *throttling);

#endif
