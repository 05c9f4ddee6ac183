/*
 * The inside of nn_processors(), for its tests.
 */
#ifndef ENGINE_PROCESSORS_H
#define ENGINE_PROCESSORS_H

/* What the quotas leave of `most` processors, at least 1, where the machine's /proc and /sys
 * are below the folder `root`. */
int processors_under(const char *root, int most);

#endif
