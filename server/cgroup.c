/*
 * Version 2 has one hierarchy, version 1 one for each controller; in a container what is
 * mounted is the group itself, whatever /proc/self/cgroup calls it (cgroups(7)).
 */
#include "server/cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Whether `name` is in a list with commas. */
static bool has(const char *list, const char *name)
{
    size_t size = strlen(name);
    for (const char *p = list; (p = strstr(p, name)); p += size)
        if ((p == list || p[-1] == ',') && (p[size] == ',' || p[size] == 0))
            return true;
    return false;
}

static bool read_stat(const char *path, struct cgroup_throttling *t)
{
    char name[64];
    long long value;
    bool found = false;
    FILE *file = fopen(path, "re");

    if (!file)
        return false;
    *t = (struct cgroup_throttling){0};
    while (fscanf(file, "%63s %lld", name, &value) == 2) {
        found |= strcmp(name, "nr_throttled") == 0;
        if (strcmp(name, "nr_periods") == 0)
            t->periods = value;
        else if (strcmp(name, "nr_throttled") == 0)
            t->throttled = value;
        else if (strcmp(name, "throttled_usec") == 0)
            t->seconds = (double)value / 1e6;
        else if (strcmp(name, "throttled_time") == 0)
            t->seconds = (double)value / 1e9;
    }
    fclose(file);
    return found;
}

/* The group at `path`, or the one that is mounted. */
static bool read_group(const char *root, const char *hierarchy, const char *path,
                       struct cgroup_throttling *t)
{
    char file[PATH_MAX];
    snprintf(file, sizeof file, "%s/sys/fs/cgroup%s%s/cpu.stat", root, hierarchy, path);
    if (read_stat(file, t))
        return true;
    snprintf(file, sizeof file, "%s/sys/fs/cgroup%s/cpu.stat", root, hierarchy);
    return read_stat(file, t);
}

bool cgroup_read_throttling(const char *root, struct cgroup_throttling *t)
{
    char path[PATH_MAX], line[PATH_MAX];
    bool found = false;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    /* number ":" controllers ":" path; version 2 has no controllers */
    while (!found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = 0;
        controllers++;
        if (!*controllers)
            found = read_group(root, "", group, t) || read_group(root, "/unified", group, t);
        else if (has(controllers, "cpu"))
            found = read_group(root, "/cpu", group, t);
    }
    fclose(file);
    return found;
}
