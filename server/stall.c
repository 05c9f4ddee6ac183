#include "server/stall.h"

#include <sys/socket.h>

enum {
    QUIET_TURNS = 256,
    CHECKS = 4, /* in which something lay unread */
};

static const int64_t BETWEEN = 100000000; /* nanoseconds from one to the next, and a run */

bool stall_is_quiet(const struct stall *s)
{
    return s->turns >= QUIET_TURNS;
}

/* The end of what is sent can be read, too. */
static bool has_unread(int socket)
{
    char byte;
    return recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

void stall_turn(struct stall *s, struct watch *w, int64_t now)
{
    s->turns += s->turns < QUIET_TURNS;
    if (!w->first[WATCH_BODY] || now < s->check)
        return;
    s->check = now + BETWEEN;
    for (struct watched *c = w->first[WATCH_BODY], *next; c; c = next) {
        next = c->next;
        c->unread = has_unread(c->socket) ? c->unread + 1 : 0;
        if (c->unread == CHECKS)
            watch_cut_off(w, c);
    }
}
