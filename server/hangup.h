/*
 * Clients that have sent all they will ever send, because they left or said so.
 *
 * libmicrohttpd 0.9.75 waits for edges, and takes a socket that gave less than it had room for
 * as read to its end. The end of a connection that came together with the last bytes is no new
 * edge: it would be noticed only when some time is over, and until then a client that left
 * within its body is a request in work, which a drain waits for. So the ends are watched here,
 * and when all before one was read the library is made to look once more.
 *
 * Of one event loop's connections; no locks.
 */
#ifndef SERVER_HANGUP_H
#define SERVER_HANGUP_H

#include <stdbool.h>

/* A connection's; zeroed in the beginning. */
struct hangup {
    int socket;
    bool ended; /* nothing more will come than lies there */
    bool listed;
    struct hangup *previous, *next; /* of those at which the library is to look */
};

struct hangups {
    int poll; /* an epoll descriptor that the loop waits on; -1: nothing is watched */
    struct hangup *first;
};

/* Events of `poll` for the socket point to the hangup. Without memory in the kernel for that it
 * is not watched. */
void hangup_watch(struct hangups *all, struct hangup *one, int socket);
void hangup_forget(struct hangups *all, struct hangup *one);

/* There was the event. */
void hangup_note(struct hangups *all, struct hangup *one);

/* The library has read from the connection, or begins anew with it. */
void hangup_look(struct hangups *all, struct hangup *one);

/* After each run of the library. */
void hangup_pass_on(struct hangups *all);

#endif
