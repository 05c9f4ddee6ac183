/*
 * An event loop: one thread that reads what has arrived, computes it as a batch, and answers.
 * Everybody else talks to it through its mailbox.
 */
#ifndef SERVER_LOOP_H
#define SERVER_LOOP_H

#include "server/batcher.h"
#include "server/guards.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/options.h"
#include "server/registry.h"
#include "server/yielding.h"
#include <pthread.h>

enum { LOOP_MAILBOX = 1024 };

struct accepted {
    int socket;
    socklen_t size;
    struct sockaddr_storage address;
};

struct loop {
    /* fixed before the thread starts */
    const struct server *server;
    int index;
    bool admin;                 /* serves the admin listener */
    pthread_t thread;
    int poll, wake;             /* epoll; eventfd, written after the mailbox was filled */

    /* the thread's own */
    struct http_daemon *http;
    struct batcher *batcher;
    struct yielding yielding;
    struct table *table;
    int64_t in_work;            /* predictions admitted and not yet finished */
    int64_t max_in_work;
    struct loop_counters *counters;

    atomic_bool mail;           /* there is something in the mailbox */
    atomic_bool woken;          /* `wake` was written, or is about to be, and was not read */
    atomic_bool over;           /* it has nothing left to do, as far as it knows */
    pthread_mutex_t lock;       /* guards what follows */
    pthread_cond_t taken;       /* table_waits became NULL */
    int n_accepted;
    struct accepted *accepted;  /* [LOOP_MAILBOX] */
    struct table *table_waits;
    struct batch *room;         /* for it; the publisher's before it waits */
    struct http_request *finished;      /* by another thread; linked by mail */
    int64_t close_by;           /* clock_now() at which to end at the latest; 0: go on */
};

/* What the loops share. Immutable once they run, but for the flags. */
struct server {
    const struct options *options;
    struct registry *registry;
    struct guards guards;
    struct workers *workers;
    struct loop *loops;         /* the last one is the admin listener's */
    int n_loops;
    int max_connections;        /* of each loop */
    int64_t started;            /* seconds since 1970 */
    atomic_bool draining;
    atomic_bool loaded;         /* every loop has a table: nobody who is told that we are ready
                                 * may meet a loop that is not */
};

/* Starts the thread. -1: nothing is left behind. */
int loop_start(struct loop *loop, const struct server *server, int index,
               struct nn_error *error);

/* The following are for other threads. */

/* Whether the loop has taken enough of what it was given that there is room for one more; who
 * gives is one thread. */
bool loop_has_room(struct loop *loop);

/* Hands a connection over; there is room. */
void loop_give(struct loop *loop, const struct accepted *accepted);

/* Takes the memory that loop_publish() of this table needs. -1: there is none. */
int loop_prepare(struct loop *loop, const struct table *table);

/* Has the loop take the table, for which it was prepared, and waits until it has. */
void loop_publish(struct loop *loop, struct table *table);

/* Sends a pending request's answer; its status is set. */
void loop_finish(struct loop *loop, struct http_request *request);

/* No connection comes any more: answer what is there, end by `close_by`. */
void loop_stop(struct loop *loop, int64_t close_by);

/* Waits for the end of the thread. Other loops may still look at its counters. */
void loop_join(struct loop *loop);

/* Releases everything, when every loop has been joined. Returns how many requests ever ended
 * without an answer. */
uint64_t loop_release(struct loop *loop);

#endif
