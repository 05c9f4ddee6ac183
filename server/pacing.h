/*
 * Refusals for want of room, one after the other.
 *
 * To refuse costs as much of a processor as to serve a small model. Clients that come back at
 * once, whatever Retry-After says, would take it all: of 1,000 connections where 8 are served
 * at a time, hardly one would be served. So only so many are refused in a second; the others
 * wait for their answer, and who waits sends nothing. Whoever is refused now and then, or
 * passes requests on for many, is refused at once.
 *
 * Belongs to the thread of an http_daemon.
 */
#ifndef SERVER_PACING_H
#define SERVER_PACING_H

#include <stdbool.h>
#include <stdint.h>

/* Part of a request that is refused. */
struct paced {
    struct paced *next;
    int64_t since; /* nanoseconds, as all times here */
};

/* Zeros are one in which nobody waits. */
struct pacing {
    struct paced *first, *last;
    int n;        /* that wait */
    int64_t next; /* when the next refusal is due, if all came evenly */
    int64_t turn; /* when some may be let go */
};

/* Whether the refusal has to wait; then it is kept until pacing_take() returns it. */
bool pacing_keep(struct pacing *pacing, struct paced *refused, int64_t now);

/* The first that has waited long enough; NULL: nobody has. */
struct paced *pacing_take(struct pacing *pacing, int64_t now);

/* When somebody will have; 0: nobody waits. */
int64_t pacing_due(const struct pacing *pacing);

/* Lets go of the first whatever the time; NULL: nobody waits. */
struct paced *pacing_end(struct pacing *pacing);

#endif
