/*
 * The servers that are measured: child processes that listen on a free port.
 */
#ifndef BENCH_SERVERS_H
#define BENCH_SERVERS_H

#include <stdbool.h>
#include <sys/types.h>

struct server {
    pid_t pid;
    int port;
    int pipe;                   /* what keeps a server that ends with its input, or holds a log */
    bool ends_with_input;
};

/* They end the process with a message where a server does not start. */
struct server server_bare(const char *build);
struct server server_predictd(const char *build, const char *models);

/* Any program that prints its port and ends with its input. `arguments` end with NULL. */
struct server server_by_input(const char *const *arguments);

void server_stop(struct server *server);

bool server_is_ready(const struct server *server);

/* Seconds of processor time that the server and its children have had. */
double server_cpu(const struct server *server);
double server_resident_mb(const struct server *server);

#endif
