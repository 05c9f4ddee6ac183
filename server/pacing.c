#include "server/pacing.h"

#include <stddef.h>

static const int64_t INTERVAL = 4000000;     /* between refusals */
static const int64_t EARLY = 100 * INTERVAL; /* how far they may be ahead of that */
static const int64_t TURN = 20 * INTERVAL;   /* those of so long are let go together */
static const int64_t LONGEST = 1000000000;   /* that anybody waits: Retry-After's second */

static void count(struct pacing *p, int64_t now)
{
    int64_t earliest = p->first ? now - TURN : now;
    p->next = (p->next > earliest ? p->next : earliest) + INTERVAL;
    /* Who was let go because he had waited long enough is no debt of those who come later. */
    if (p->next > now + EARLY + INTERVAL)
        p->next = now + EARLY + INTERVAL;
}

bool pacing_keep(struct pacing *p, struct paced *refused, int64_t now)
{
    if (!p->first && p->next <= now + EARLY) {
        count(p, now);
        return false;
    }
    *refused = (struct paced){.since = now};
    if (!p->first)
        p->turn = now + TURN;
    *(p->first ? &p->last->next : &p->first) = refused;
    p->last = refused;
    return true;
}

int64_t pacing_due(const struct pacing *p)
{
    return p->first ? p->turn : 0;
}

struct paced *pacing_end(struct pacing *p)
{
    struct paced *first = p->first;
    if (first)
        p->first = first->next;
    return first;
}

struct paced *pacing_take(struct pacing *p, int64_t now)
{
    if (!p->first || now < p->turn)
        return NULL;
    if (p->next > now && p->first->since + LONGEST > now) {
        p->turn = now + TURN;
        return NULL;
    }
    count(p, now);
    return pacing_end(p);
}
