/*
 * Closed-loop load over HTTP/1.1: connections that are kept, each of which sends its request
 * again as soon as its answer is complete. One thread, epoll. Whatever is not an answer of 200
 * ends the process with a message: such a measurement is worth nothing.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stddef.h>

enum { LOAD_MAX_CONNECTIONS = 1024 };

/* The bytes of a request, head and body. */
struct request {
    char *bytes;
    size_t size, body_size;
};

struct load_result {
    long n;                     /* requests that were answered */
    double seconds;
    double p50, p99;            /* of their latencies, in seconds; within 1 % */
};

/* POST of a body. `headers` are whole lines that end with CR LF, or "". The body is copied. */
struct request request_post(const char *path, const char *headers, const void *body,
                            size_t size);
void request_release(struct request *request);

struct load_result load_run(int port, const struct request *request, int n_connections,
                            double seconds);

/* The answer to one request: head, body and a NUL, and *body at the body. The caller's. */
char *load_once(int port, const struct request *request, char **body, size_t *body_size);

/* A blocking connection to this machine, or -1. */
int load_connect(int port);

double load_now(void);          /* seconds that only ever grow */

void bench_die(const char *what) __attribute__((noreturn)); /* with errno */

#endif
