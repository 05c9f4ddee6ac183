/*
 * Other servers of mnist-mlp, as far as `make bench-peers` installed them: fastify with
 * onnxruntime-node in two processes, and FastAPI with PyTorch in two.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include "tests/bench/servers.h"

enum { PEERS = 2 };

struct peers {
    int n;
    const char *names[PEERS];
    struct server servers[PEERS];
};

/* Starts those that are installed with the weights of the bundle; false: there are none. They
 * answer POST /predict as predictd does. */
bool peers_start(struct peers *peers, const char *build, const char *bundle);
void peers_stop(struct peers *peers);

#endif
