/*
 * Files that are replaced whole: a reader sees the old content or the new, also after the
 * machine lost its power.
 */
#ifndef FORMATS_ATOMIC_FILE_H
#define FORMATS_ATOMIC_FILE_H

#include <sys/uio.h>

#include "engine/engine.h"

/* Writes the parts one after another to a temporary file in the folder of `path` (which is
 * made if it is missing, but not what is above it), flushes it to the disk, renames it to
 * `path`, and flushes the folder. On failure `path` is as it was. Threads that write the same
 * path at the same time are for the caller to keep apart. */
int atomic_file_write(const char *path, const struct iovec *parts, int n,
                      struct nn_error *error);

#endif
