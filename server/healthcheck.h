/*
 * predictd --healthcheck: asks the server that has these options, on this machine, whether it
 * is ready. For container engines, whose images hold no curl.
 */
#ifndef SERVER_HEALTHCHECK_H
#define SERVER_HEALTHCHECK_H

#include "server/options.h"

/* GET /health on the data port; 0: it answered 200. -1: the error says what came instead.
 * Takes three seconds at most for each address of the host. */
int healthcheck(const struct options *options, struct nn_error *error);

#endif
