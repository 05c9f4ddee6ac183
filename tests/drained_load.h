/*
 * A server that is drained while clients use it.
 */
#ifndef TESTS_DRAINED_LOAD_H
#define TESTS_DRAINED_LOAD_H

#include <stdbool.h>

enum { DRAIN_CLIENTS = 8 };

/* Starts a server, loads it, stops it with this --drain-delay, and fails where anything whose
 * headers were read was lost, an answer was wrong, or the server did not exit with 0. Clients
 * that check ask /health now and then and leave at the first 503; others reconnect until they
 * are refused. Returns how many requests on new connections were reset; adds to `answered`,
 * which may be NULL, how many were answered. */
int drain_under_load(const char *delay, bool checks, long *answered);

#endif
