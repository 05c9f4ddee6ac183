/*
 * Bodies with which libmicrohttpd 0.9.75 gets stuck.
 *
 * While the first line of a chunk fills its buffer without an end, it neither reads on nor
 * refuses, and never rests: it has to be run again and again, for nothing. So after many turns
 * from which no call comes it is not believed that there is something to do at once. Whose
 * fault it is shows by what its client has sent, or the client's end, lying in the kernel all
 * the while: what the library can read, it reads in its next turn.
 *
 * Belongs to the thread of an http_daemon.
 */
#ifndef SERVER_STALL_H
#define SERVER_STALL_H

#include "server/watch.h"

/* Zeros are one that has seen nothing yet. */
struct stall {
    int turns;     /* since the library last called */
    int64_t check; /* when to look again for bodies that are not read */
};

/* The library has called: it gets on. */
static inline void stall_over(struct stall *stall)
{
    stall->turns = 0;
}

/* It has called with a piece of this connection's body. */
static inline void stall_progress(struct watched *watched)
{
    watched->unread = 0;
}

/* Whether there is nothing to do at once, whatever the library says. */
bool stall_is_quiet(const struct stall *stall);

/* Before each run of the library: cuts those off with which it is stuck. */
void stall_turn(struct stall *stall, struct watch *watch, int64_t now);

#endif
