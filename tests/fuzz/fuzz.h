/*
 * A fuzz target: a function that may be given any bytes at all.
 *
 * `make fuzz` links each with libFuzzer, which invents them; `make test` links each with
 * replay.c, which takes the files in tests/fuzz/corpus/<target>/. A target aborts where it
 * finds that something does not hold.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* The names are libFuzzer's. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                    \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

/* A file without a place in any folder, for readers that want a path. */
struct fuzz_file {
    int fd;
    char path[32];
};

void fuzz_file_open(struct fuzz_file *file);
void fuzz_file_write(const struct fuzz_file *file, const void *data, size_t size);

#endif
