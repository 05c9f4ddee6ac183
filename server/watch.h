/*
 * The clock of slow clients: how long a connection may stay in each stage.
 *
 * A stage has one limit for all connections, so the list of those in it is sorted by the time
 * at which they entered: entering and leaving cost a few pointers, looking costs the first
 * of each list. Belongs to one thread.
 */
#ifndef SERVER_WATCH_H
#define SERVER_WATCH_H

#include "server/metrics.h"
#include <stdint.h>

enum watch_stage {
    WATCH_HEADER, /* until the headers were read */
    WATCH_BODY,   /* until the body was */
    WATCH_ANSWER, /* until the answer was taken */
    WATCH_IDLE,   /* until the first line of the next request */
    WATCH_STAGES,
    WATCH_NONE = WATCH_STAGES, /* the turn is ours: no limit here */
};

extern const char *const watch_stage_names[WATCH_STAGES];

/* A connection that is watched; the caller's, and in place until watch_leave(). */
struct watched {
    int socket;
    enum watch_stage stage;
    int64_t until; /* clock_now() */
    int unread;    /* how often stall.c has found a body's rest unread */
    struct watched *previous, *next;
};

struct watch {
    int64_t limits[WATCH_STAGES]; /* nanoseconds */
    struct watched *first[WATCH_STAGES], *last[WATCH_STAGES];
    struct counter *cut; /* [WATCH_STAGES] */
};

/* Begins a stage, whichever the connection was in; a new one is all zeros but for its socket
 * and WATCH_NONE. */
void watch_enter(struct watch *watch, struct watched *watched, enum watch_stage stage,
                 int64_t now);
void watch_leave(struct watch *watch, struct watched *watched);

/* When the next limit is over; 0: nobody is watched. */
int64_t watch_next(const struct watch *watch);

/* Shuts the socket down, whatever the time, and counts it. */
void watch_cut_off(struct watch *watch, struct watched *watched);

/* Shuts the sockets down whose limit is over, so that their owner sees their end, and counts
 * them. */
void watch_cut(struct watch *watch, int64_t now);

#endif
