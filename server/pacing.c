#include "server/pacing.h"

#include <stddef.h>

static const int64_t INTERVAL = 4000000;     /* between refusals */
static const int64_t EARLY = 100 * INTERVAL; /* how far they may be ahead of that */
static const int64_t TURN = 5 * INTERVAL;    /* those of so long are let go together */
static const int64_t LONGEST = 1000000000;   /* that anybody waits: Retry-After's second */

/* Where so many wait that the last would wait too long, all are refused faster: those who came
 * together would otherwise be let go together, and come back as one crowd each time. */
static int64_t interval(const struct pacing *p)
{
    return p->n > LONGEST / INTERVAL ? LONGEST / p->n : INTERVAL;
}

static void count(struct pacing *p, int64_t now)
{
    int64_t earliest = p->first ? now - TURN : now;
    p->next = (p->next > earliest ? p->next : earliest) + interval(p);
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
    p->n++;
    return true;
}

int64_t pacing_due(const struct pacing *p)
{
    return p->first ? p->turn : 0;
}

struct paced *pacing_end(struct pacing *p)
{
    struct paced *first = p->first;
    if (first) {
        p->first = first->next;
        p->n--;
    }
    return first;
}

struct paced *pacing_take(struct pacing *p, int64_t now)
{
    if (!p->first || now < p->turn)
        return NULL;
    if (p->next <= now) {
        count(p, now);
    } else if (p->first->since + LONGEST > now) {
        p->turn = now + TURN;
        return NULL;
    } /* else he has waited long enough, which is no debt of those who come later */
    return pacing_end(p);
}
