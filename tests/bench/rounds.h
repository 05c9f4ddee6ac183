/*
 * Rounds that alternate between contestants, and the table of their medians. What disturbs a
 * machine for seconds disturbs all of them: a ratio is the median of the ratios of rounds.
 */
#ifndef BENCH_ROUNDS_H
#define BENCH_ROUNDS_H

#include "tests/bench/load.h"
#include "tests/bench/servers.h"

enum { MAX_ROUNDS = 101, MAX_CONTESTANTS = 16 };

/* What is measured of a contestant in each round. */
enum figure { RATE, CPU, P50, P99, FIGURES };

struct contestant {
    const char *name;
    const struct server *server;
    const struct request *request;
    int connections;
    int reference;              /* the contestant that it is compared with; -1: none */
    double figures[FIGURES][MAX_ROUNDS];        /* 1/s, us of CPU a request, us, us */
};

struct rounds {
    int n;
    struct contestant contestants[MAX_CONTESTANTS];
};

/* Adds a contestant; returns its number. What is pointed to stays the caller's. */
int rounds_add(struct rounds *rounds, const char *name, const struct server *server,
               const struct request *request, int connections, int reference);

/* Measures and prints. */
void rounds_run(struct rounds *rounds, const char *title, int n_rounds, double seconds);

#endif
