#include "server/hangup.h"

#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void hangup_watch(struct hangups *all, struct hangup *one, int socket)
{
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = one};
    one->socket = socket;
    if (all->poll >= 0)
        (void)epoll_ctl(all->poll, EPOLL_CTL_ADD, socket, &event);
}

void hangup_look(struct hangups *all, struct hangup *one)
{
    if (!one->ended || one->listed)
        return;
    one->listed = true;
    one->previous = NULL;
    one->next = all->first;
    if (one->next)
        one->next->previous = one;
    all->first = one;
}

void hangup_forget(struct hangups *all, struct hangup *one)
{
    if (!one->listed)
        return;
    *(one->previous ? &one->previous->next : &all->first) = one->next;
    if (one->next)
        one->next->previous = one->previous;
    one->listed = false;
}

void hangup_note(struct hangups *all, struct hangup *one)
{
    one->ended = true;
    hangup_look(all, one);
}

/* Whether the library has still to read what came before the end; it looks by itself. */
static bool has_more(const struct hangup *one)
{
    char byte;
    return recv(one->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void hangup_pass_on(struct hangups *all)
{
    for (struct hangup *one = all->first, *next; one; one = next) {
        next = one->next;
        if (has_more(one))
            continue;
        hangup_forget(all, one);
        /* This side has ended already: it changes nothing, but wakes whoever polls. */
        shutdown(one->socket, SHUT_RD);
    }
}
