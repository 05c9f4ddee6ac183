/*
 * What a test and the server that it starts under failing_malloc.so share: a file, named by
 * FAILING_MALLOC, that both have mapped.
 */
#ifndef TESTS_PRELOAD_FAILING_MALLOC_H
#define TESTS_PRELOAD_FAILING_MALLOC_H

#include <stdatomic.h>

struct failing_malloc {
    atomic_long left;   /* allocations until one fails; negative: none does */
    atomic_int sticky;  /* so do all after it, until left is set again */
    atomic_long failed; /* how many did */
};

#endif
