/*
 * What waits for the worker threads at one version of a model, by priority.
 *
 * A lane has no lock of its own: whoever uses it holds the workers'. It lives as long as its
 * version, which every prediction that waits holds a reference to.
 */
#ifndef SERVER_LANE_H
#define SERVER_LANE_H

#include "server/prediction.h"

enum { LANE_PRIORITIES = SERVING_PRIORITIES };

struct lane_settings {
    int threads;                /* that compute it at the same time, at most; 0: as the workers'
                                 * settings say */
    int64_t max_batch;          /* rows that are computed together */
    int64_t max_queue;          /* predictions that wait, of each priority */
    int64_t delay;              /* nanoseconds to wait for a preferred batch; 0: never wait */
    int64_t preferred;          /* rows from which on nobody waits for more; at most
                                 * max_batch */
    int priorities;             /* 1 is the most urgent, this the least */
    int standard_priority;      /* of requests that say none, or one that there is not */
};

/* Rows of a part in a batch. */
struct lane_entry {
    struct prediction_part *part;
    int64_t at;                 /* the first of them, in the batch */
    int64_t first, n;           /* the same in the prediction */
};

/* The memory to run batches in, of one thread at a time. */
struct lane_seat {
    struct nn_session *session; /* NULL until it is needed */
    int64_t n, room;
    struct lane_entry *entries;
    struct lane_seat *next;     /* of those that are free */
};

struct lane {
    const struct served *served;
    struct lane_settings settings;
    int running;                /* batches that are being computed */
    int64_t waiting[LANE_PRIORITIES];   /* predictions */
    int64_t n_waiting;
    int64_t rows;               /* of all that wait, not yet taken */
    struct prediction_part *first[LANE_PRIORITIES], *last[LANE_PRIORITIES];
    struct lane_seat *seats;    /* that are free */
    struct lane *previous, *next;       /* of those where something waits */
    bool listed;
};

struct lane *lane_new(const struct served *served);     /* NULL: no memory */
void lane_free(struct lane *lane);      /* nothing waits and nobody computes; NULL is allowed */

/* The place of a request's priority in the lane's lists. */
int lane_priority(const struct lane *lane, const struct http_request *request);

/* Whether there is room for one more of that priority. */
bool lane_has_room(const struct lane *lane, int priority);
void lane_put(struct lane *lane, struct prediction_part *part, int priority);

/* 0: a batch may be computed now; otherwise when (clock_now()), INT64_MAX: not before something
 * changes. */
int64_t lane_ready(const struct lane *lane, int64_t now);

/* When the one that is next has come; the lane is not empty. */
int64_t lane_oldest(const struct lane *lane);

/* A seat with room for a batch of the lane's size. NULL: no memory. */
struct lane_seat *lane_sit(struct lane *lane);
void lane_leave(struct lane *lane, struct lane_seat *seat);

/* Takes the next batch's rows: seat->entries, whose number of rows is returned. Parts whose
 * prediction has failed or is late go where `dropped` tells, linked by next; they are not in the
 * batch, which may be empty. */
int64_t lane_take(struct lane *lane, struct lane_seat *seat, int64_t now,
                  struct prediction_part **dropped);

/* Takes those out that have failed or are late (with INT64_MAX: all). */
void lane_drop_late(struct lane *lane, int64_t now, struct prediction_part **dropped);

#endif
