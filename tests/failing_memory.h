/*
 * Memory that runs out. The Makefile says whose allocations go through here; Jansson's do, too,
 * after nn_engine_start().
 */
#ifndef TESTS_FAILING_MEMORY_H
#define TESTS_FAILING_MEMORY_H

#include <stdbool.h>

/* Allocation n from now on (from 0) fails; when it is `sticky`, so do all after it. */
void failing_memory_arm(long n, bool sticky);

/* No allocation fails any more. Returns how many did. */
long failing_memory_disarm(void);

#endif
