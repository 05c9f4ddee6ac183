#include "server/reading.h"

#include <stdlib.h>

struct reading *reading_new(const struct reading *wanted)
{
    struct reading *reading = malloc(sizeof *reading);
    if (!reading)
        return NULL;
    *reading = *wanted;
    reading->served = served_share(wanted->served);
    reading->next = NULL;
    return reading;
}

void reading_free(struct reading *reading)
{
    served_release(reading->served);
    free(reading);
}

bool reading_is_late(const struct reading *reading, int64_t now)
{
    return now - reading->request->began > reading->limit;
}

void readings_put(struct readings *all, struct reading *reading)
{
    reading->next = NULL;
    *(all->last ? &all->last->next : &all->first) = reading;
    all->last = reading;
}

struct reading *readings_take(struct readings *all)
{
    struct reading *reading = all->first;
    if (reading)
        all->first = reading->next;
    if (!all->first)
        all->last = NULL;
    return reading;
}

struct reading *readings_take_late(struct readings *all, int64_t now)
{
    struct reading *late = NULL, *reading;
    all->last = NULL;
    for (struct reading **at = &all->first; (reading = *at);) {
        if (reading_is_late(reading, now)) {
            *at = reading->next;
            reading->next = late;
            late = reading;
        } else {
            all->last = reading;
            at = &reading->next;
        }
    }
    return late;
}
