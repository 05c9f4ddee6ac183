/*
 * When a loop that has nothing to do gives its processor away before it waits.
 *
 * Who is woken displaces whoever runs on the processor. Where clients or a proxy share the
 * machine, that is often the one who has just sent the request that wakes, and has more to
 * send: then each request is a turn of its own, between two changes of threads, and processors
 * stand idle while others are fought for. A loop that gives its processor away instead finds
 * many requests when it is back, and nobody had to wake it.
 *
 * It comes back late where somebody else computes, by a slice of his, some milliseconds. So
 * only a loop with many requests does this, and stops for a while when it took long and
 * brought little some times. With few requests the loop waits at once, and displaces whom it
 * has to.
 */
#ifndef SERVER_YIELDING_H
#define SERVER_YIELDING_H

#include <stdbool.h>
#include <stdint.h>

/* Times are in nanoseconds by one clock. Zeros are one that has seen nothing yet. */
struct yielding {
    int64_t window;             /* since when the loop's requests are counted */
    uint64_t window_requests;
    bool busy;                  /* there were many in the window before */
    int64_t took;               /* the last time; 0: it was judged */
    uint64_t before;            /* requests, then */
    int64_t first_loss;         /* of those that came soon after each other */
    int losses;
    int64_t resume;             /* when it may be done again */
    int64_t pause;              /* that was made before */
};

/* Whether to give the processor away now. `requests` are those of all time, and have been read
 * as far as they had arrived. */
bool yielding_is_due(struct yielding *yielding, int64_t now, uint64_t requests);

/* It was due, and is over. */
void yielding_done(struct yielding *yielding, int64_t took);

#endif
