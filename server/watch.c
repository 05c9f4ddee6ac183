#include "server/watch.h"

#include <stddef.h>
#include <sys/socket.h>

_Static_assert((int)WATCH_STAGES == (int)METRICS_STAGES, "a counter for each");

const char *const watch_stage_names[WATCH_STAGES] = {"header", "body", "answer", "idle"};

void watch_leave(struct watch *w, struct watched *c)
{
    if (c->stage == WATCH_NONE)
        return;
    *(c->previous ? &c->previous->next : &w->first[c->stage]) = c->next;
    *(c->next ? &c->next->previous : &w->last[c->stage]) = c->previous;
    c->stage = WATCH_NONE;
}

void watch_enter(struct watch *w, struct watched *c, enum watch_stage stage, int64_t now)
{
    watch_leave(w, c);
    if (stage == WATCH_NONE)
        return;
    c->stage = stage;
    c->until = now + w->limits[stage];
    c->unread = 0;
    c->next = NULL;
    c->previous = w->last[stage];
    *(c->previous ? &c->previous->next : &w->first[stage]) = c;
    w->last[stage] = c;
}

int64_t watch_next(const struct watch *w)
{
    int64_t next = 0;
    for (int i = 0; i < WATCH_STAGES; i++)
        if (w->first[i] && (next == 0 || w->first[i]->until < next))
            next = w->first[i]->until;
    return next;
}

void watch_cut_off(struct watch *w, struct watched *c)
{
    counter_add(&w->cut[c->stage], 1);
    watch_leave(w, c);
    shutdown(c->socket, SHUT_RDWR);
}

void watch_cut(struct watch *w, int64_t now)
{
    for (int i = 0; i < WATCH_STAGES; i++)
        while (w->first[i] && w->first[i]->until <= now)
            watch_cut_off(w, w->first[i]);
}
