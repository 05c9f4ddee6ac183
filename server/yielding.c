#include "server/yielding.h"

static const int64_t WINDOW = 10000000;         /* at least */
static const int64_t BUSY = 200000;             /* for a request of a busy loop, at most */
static const int64_t LONG = 1500000;            /* more than clients need to send again */
static const int64_t WORTH = 50000;             /* of a long time, for a request */
static const int64_t FIRST_PAUSE = 500000000, LAST_PAUSE = 16000000000;
static const int64_t SOON = 100000000; /* in which it may be lost some times */
enum { LOSSES = 3 };

static void count(struct yielding *y, int64_t now, uint64_t requests)
{
    int64_t time = now - y->window;
    if (time < WINDOW)
        return;
    y->busy = (int64_t)(requests - y->window_requests) > time / BUSY;
    y->window = now;
    y->window_requests = requests;
}

/* Somebody who goes on computing is left alone for longer every time. */
static void judge(struct yielding *y, int64_t now, uint64_t requests)
{
    bool lost = y->took > LONG && (int64_t)(requests - y->before) < y->took / WORTH;
    y->took = 0;
    if (!lost)
        return;
    if (now - y->first_loss > SOON) {
        y->first_loss = now;
        y->losses = 0;
    }
    if (++y->losses < LOSSES)
        return;
    y->losses = 0;
    bool again = y->pause && now - y->resume < y->pause;
    y->pause = !again ? FIRST_PAUSE : y->pause < LAST_PAUSE / 2 ? 2 * y->pause : LAST_PAUSE;
    y->resume = now + y->pause;
}

bool yielding_is_due(struct yielding *y, int64_t now, uint64_t requests)
{
    count(y, now, requests);
    judge(y, now, requests);
    y->before = requests;
    return y->busy && now >= y->resume;
}

void yielding_done(struct yielding *y, int64_t took)
{
    y->took = took;
}
