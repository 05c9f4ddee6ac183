/*
 * A folder of its own for the files of one test program.
 */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <stddef.h>

/* For cmocka_run_group_tests(): make the folder, and remove it with all that is in it. */
int scratch_setup(void **state);
int scratch_teardown(void **state);

/* "<folder>/<name>". Valid until the eighth call after this one. */
const char *scratch_path(const char *name);

/* Write or read a whole file there; what is read ends with a NUL behind its `size` bytes, and
 * is to be given back with free(). */
void scratch_write(const char *name, const void *data, size_t size);
void *scratch_read(const char *name, size_t *size);

/* Writes a text to the file <root><top>/<path> there, where `root` stands for that of a
 * machine, and makes the folders on the way to it. */
void scratch_write_below(const char *root, const char *top, const char *path,
                         const char *text);

#endif
