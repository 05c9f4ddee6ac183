/*
 * Load from one thread over many connections: as fast as it is answered, or at a constant rate
 * whatever the server does.
 */
#ifndef TESTS_SOAK_LOAD_H
#define TESTS_SOAK_LOAD_H

#include <stdbool.h>
#include <stddef.h>

struct load {
    int port, connections;
    double rate;    /* requests per second; 0: each connection sends when it was answered */
    double seconds;
    const char *request;
    size_t size;

    /* Whether an answer of 200 is right; any other status is looked at by nobody. NULL: all
     * are. */
    bool (*is_right)(const char *body);
};

/* Times are from when a request was due, not from when it could be sent: a server that stands
 * still for a second is a second late for all that was due in it. */
struct load_result {
    long served, refused; /* 200, 503 */
    long failed, wrong;   /* anything else, or a connection that ended; is_right() said no */
    double seconds;       /* in which requests were sent */
    size_t n;
    double *milliseconds; /* of those served, in no order; the caller frees them */
};

/* Adds to the result, which begins as zeros. */
void load_run(const struct load *load, struct load_result *result);

/* The q-th quantile, 0 to 1; sorts. */
double load_quantile(struct load_result *result, double q);

void load_release(struct load_result *result);

#endif
