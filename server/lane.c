#include "server/lane.h"

#include <stdlib.h>

struct lane *lane_new(const struct served *served)
{
    struct lane *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->served = served;
    l->settings = (struct lane_settings){.threads = 1,
                                         .max_batch = 1,
                                         .max_queue = 1,
                                         .preferred = 1,
                                         .priorities = 1,
                                         .standard_priority = 1};
    return l;
}

static void free_seat(struct lane_seat *seat)
{
    nn_session_free(seat->session);
    free(seat->entries);
    free(seat);
}

void lane_free(struct lane *l)
{
    if (!l)
        return;
    for (struct lane_seat *seat = l->seats, *next; seat; seat = next) {
        next = seat->next;
        free_seat(seat);
    }
    free(l);
}

/* waiting */

/* As Triton: what is out of range means the standard. */
int lane_priority(const struct lane *l, const struct http_request *r)
{
    bool known = r->priority >= 1 && r->priority <= l->settings.priorities;
    return (known ? (int)r->priority : l->settings.standard_priority) - 1;
}

bool lane_has_room(const struct lane *l, int priority)
{
    return l->waiting[priority] < l->settings.max_queue;
}

void lane_put(struct lane *l, struct prediction_part *part, int priority)
{
    part->next = NULL;
    if (l->last[priority])
        l->last[priority]->next = part;
    else
        l->first[priority] = part;
    l->last[priority] = part;
    l->waiting[priority]++;
    l->n_waiting++;
    l->rows += part->prediction->rows.n;
}

/* Unlinks the part behind `before` (NULL: the first). */
static struct prediction_part *unlink_part(struct lane *l, int priority,
                                           struct prediction_part *before)
{
    struct prediction_part *part = before ? before->next : l->first[priority];
    if (before)
        before->next = part->next;
    else
        l->first[priority] = part->next;
    if (l->last[priority] == part)
        l->last[priority] = before;
    l->waiting[priority]--;
    l->n_waiting--;
    l->rows -= part->prediction->rows.n - part->taken;
    return part;
}

int64_t lane_oldest(const struct lane *l)
{
    int64_t oldest = INT64_MAX;
    for (int i = 0; i < LANE_PRIORITIES; i++)
        if (l->first[i] && l->first[i]->prediction->began < oldest)
            oldest = l->first[i]->prediction->began;
    return oldest;
}

int64_t lane_ready(const struct lane *l, int64_t now)
{
    const struct lane_settings *s = &l->settings;
    if (l->n_waiting == 0 || l->running >= s->threads)
        return INT64_MAX;
    if (s->delay == 0 || l->rows >= s->preferred)
        return 0;
    int64_t over = lane_oldest(l) + s->delay;
    return over <= now ? 0 : over;
}

/* batches */

struct lane_seat *lane_sit(struct lane *l)
{
    struct lane_seat *seat = l->seats;
    if (seat)
        l->seats = seat->next;
    else if (!(seat = calloc(1, sizeof *seat)))
        return NULL;
    if (seat->room < l->settings.max_batch) {
        struct lane_entry *entries =
            reallocarray(seat->entries, (size_t)l->settings.max_batch, sizeof *seat->entries);
        if (!entries && seat->room == 0) {
            free_seat(seat);
            return NULL;
        }
        if (entries) {
            seat->entries = entries;
            seat->room = l->settings.max_batch;
        }
    }
    return seat;
}

void lane_leave(struct lane *l, struct lane_seat *seat)
{
    seat->next = l->seats;
    l->seats = seat;
}

static bool is_unwanted(const struct prediction *p, int64_t now)
{
    return p->status != 0 || now > p->deadline;
}

static void drop(struct lane *l, int priority, struct prediction_part *before,
                 struct prediction_part **dropped)
{
    struct prediction_part *part = unlink_part(l, priority, before);
    part->next = *dropped;
    *dropped = part;
}

/* Adds what is next of the first part to the batch, which has `rows` by now. Returns how many
 * rows that are, 0 when the batch has to do without. */
static int64_t take_from(struct lane *l, struct lane_seat *seat, int priority, int64_t rows)
{
    struct prediction_part *part = l->first[priority];
    const struct prediction *p = part->prediction;
    int64_t room = l->settings.max_batch - rows, n = p->rows.n - part->taken;

    if (p->whole && n > room && seat->n > 0)
        return 0;
    if (!p->whole && n > room)
        n = room;
    seat->entries[seat->n++] =
        (struct lane_entry){.part = part, .at = rows, .first = part->taken, .n = n};
    part->taken += n;
    l->rows -= n;
    if (part->taken == p->rows.n)
        unlink_part(l, priority, NULL);
    return n;
}

int64_t lane_take(struct lane *l, struct lane_seat *seat, int64_t now,
                  struct prediction_part **dropped)
{
    bool alone = nn_model_unbatched(l->served->model) != NULL;
    int64_t rows = 0;

    seat->n = 0;
    for (int i = 0; i < LANE_PRIORITIES; i++) {
        while (l->first[i]) {
            if (is_unwanted(l->first[i]->prediction, now)) {
                drop(l, i, NULL, dropped);
                continue;
            }
            int64_t taken = take_from(l, seat, i, rows);
            rows += taken;
            if (taken == 0 || alone || rows >= l->settings.max_batch || seat->n == seat->room)
                return rows;
        }
    }
    return rows;
}

void lane_drop_late(struct lane *l, int64_t now, struct prediction_part **dropped)
{
    for (int i = 0; i < LANE_PRIORITIES; i++) {
        struct prediction_part *before = NULL, *part = l->first[i];
        while (part) {
            struct prediction_part *next = part->next;
            if (is_unwanted(part->prediction, now))
                drop(l, i, before, dropped);
            else
                before = part;
            part = next;
        }
    }
}
