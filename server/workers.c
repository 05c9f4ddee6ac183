/*
 * One lock for all lanes: it is held to put and to take, a few hundred nanoseconds beside
 * batches of milliseconds. Never taken while a loop's lock is held; `finish` takes that.
 */
#include "server/workers.h"

#include "server/clock.h"
#include "server/lane_run.h"
#include "server/reading.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SWEEP = 20 }; /* milliseconds between looks for what is late */

struct worker {
    pthread_t thread;
    struct workers *workers;
    int slot; /* in the counters */
};

struct workers {
    struct workers_settings settings;
    pthread_t sweeper;
    int n_started;

    pthread_mutex_t lock;   /* guards what follows, every lane and `left`, `status` and
                             * `taken` of every prediction that waits */
    pthread_cond_t work;    /* for one worker */
    pthread_cond_t waiting; /* for the sweeper: something waits, or the end */
    bool nothing_waits;     /* the sweeper has to be told; otherwise it looks by itself */
    pthread_cond_t over;    /* a thread has ended */
    int n_running;          /* threads that have not */
    struct lane *lanes;     /* where something waits */
    struct readings bodies; /* that are to be read */
    size_t bytes; /* of rows of all predictions */
    bool stop;
    struct worker threads[];
};

static struct model_counters *counters_of(const struct served *served, int slot)
{
    return &served->stats->loops[slot];
}

/* ends */

static size_t bytes_of(const struct prediction *p)
{
    size_t row = 0;
    for (int i = 0; i < nn_model_n_inputs(p->served->model); i++)
        row += tensor_row_bytes(nn_model_input(p->served->model, i));
    return row * (size_t)p->rows.n;
}

static void finish(struct workers *w, struct http_request *r, struct model_counters *c,
                   int status)
{
    metrics_count_answer(c, &r->stages, status, clock_now() - r->began);
    r->status = status;
    w->settings.finish(r);
}

/* Predictions of which nothing is left; without the lock. */
static void finish_all(struct workers *w, struct prediction *done, int slot)
{
    for (struct prediction *p = done, *next; p; p = next) {
        struct model_counters *c = counters_of(p->served, slot);
        next = p->next;
        prediction_count_ensemble(p, c);
        int status = p->status ? p->status : prediction_write_timed(p, NULL, 0);
        finish(w, p->request, c, status);
        prediction_free(p);
    }
}

/* With the lock: so many rows of a prediction are settled. */
static void settle(struct workers *w, struct prediction *p, int64_t rows,
                   struct prediction **done)
{
    p->left -= rows;
    if (p->left > 0)
        return;
    w->bytes -= bytes_of(p);
    p->next = *done;
    *done = p;
}

static void unlist(struct workers *w, struct lane *l)
{
    if (!l->listed || l->n_waiting > 0)
        return;
    if (l->previous)
        l->previous->next = l->next;
    else
        w->lanes = l->next;
    if (l->next)
        l->next->previous = l->previous;
    l->listed = false;
}

/* With the lock: of what a lane dropped nothing more will be computed. */
static void settle_dropped(struct workers *w, struct prediction_part *dropped, int slot,
                           struct prediction **done)
{
    for (struct prediction_part *part = dropped, *next; part; part = next) {
        struct prediction *p = part->prediction;
        next = part->next;
        if (!p->request->stages.nanoseconds[STAGE_QUEUE])
            p->request->stages.nanoseconds[STAGE_QUEUE] = clock_now() - p->began;
        if (!p->status && w->stop)
            p->status = http_refuse_at_end(p->request);
        else if (!p->status)
            p->status =
                prediction_answer_late(p->request, p->limit, counters_of(p->served, slot));
        settle(w, p, p->rows.n - part->taken, done);
    }
}

/* batches */

/* With the lock: the batch's rows are there, or will not be. */
static void settle_run(struct workers *w, const struct lane_run *run, struct prediction **done)
{
    for (int64_t i = 0; i < run->seat->n; i++) {
        struct prediction *p = run->seat->entries[i].part->prediction;
        int64_t *times = p->request->stages.nanoseconds;
        if (run->status && !p->status)
            p->status = http_error(p->request, run->status, "%s", run->error.text);
        if (!times[STAGE_QUEUE])
            times[STAGE_QUEUE] = run->began - p->began;
        times[STAGE_COMPUTE] += run->took;
        p->request->stages.batch = run->rows;
        settle(w, p, run->seat->entries[i].n, done);
    }
}

static void drop_for_memory(struct lane *l, struct prediction_part **dropped)
{
    lane_drop_late(l, INT64_MAX, dropped);
    for (struct prediction_part *part = *dropped; part; part = part->next)
        if (!part->prediction->status)
            part->prediction->status =
                http_error(part->prediction->request, 500, "out of memory");
}

/* With the lock, which is let go of meanwhile. */
static void run_batch(struct workers *w, struct lane *l, int slot)
{
    struct prediction_part *dropped = NULL;
    struct prediction *done = NULL;
    struct served *served = served_share(l->served);
    struct lane_run run = {.seat = lane_sit(l), .max_batch = l->settings.max_batch};

    if (run.seat)
        run.rows = lane_take(l, run.seat, clock_now(), &dropped);
    else
        drop_for_memory(l, &dropped);
    settle_dropped(w, dropped, slot, &done);
    unlist(w, l);
    if (run.rows > 0) {
        l->running++;
        pthread_mutex_unlock(&w->lock);
        lane_run_compute(&run, served, counters_of(served, slot));
        if (!run.status)
            lane_run_deliver(&run);
        if (run.rows > run.max_batch) { /* not worth keeping for the next one */
            nn_session_free(run.seat->session);
            run.seat->session = NULL;
        }
        pthread_mutex_lock(&w->lock);
        l->running--;
        settle_run(w, &run, &done);
    }
    if (run.seat)
        lane_leave(l, run.seat);
    pthread_mutex_unlock(&w->lock);
    finish_all(w, done, slot);
    served_release(served); /* after a reload perhaps the last reference */
    pthread_mutex_lock(&w->lock);
}

/* bodies */

/* A body that nobody reads any more was answered. Without the lock. */
static void end_reading(struct workers *w, struct reading *reading, int slot, int status)
{
    finish(w, reading->request, counters_of(reading->served, slot), status);
    reading_free(reading);
}

/* Without the lock. */
static void answer_late(struct workers *w, struct reading *late, int slot)
{
    for (struct reading *next; late; late = next) {
        next = late->next;
        end_reading(w, late, slot,
                    prediction_answer_late(late->request, late->limit,
                                           counters_of(late->served, slot)));
    }
}

/* Reads a body and passes the prediction on. Without the lock. */
static void read_body(struct workers *w, struct reading *reading, int slot)
{
    struct http_request *r = reading->request;
    struct model_counters *c = counters_of(reading->served, slot);
    struct tensor_rows rows = {.model = reading->served->model};
    struct nn_error error = {0};
    int64_t began = clock_now();
    struct prediction *p = NULL;
    int status;

    if (reading_is_late(reading, began))
        status = prediction_answer_late(r, reading->limit, c);
    else if ((status = reading->codec->read(r, reading->served, &rows,
                                            w->settings.max_instances, &error)))
        http_error(r, status, "%s", error.text);
    else if (!(p = prediction_new(r, reading->codec, reading->served, &rows, reading->max_piece,
                                  reading->limit)))
        status = http_error(r, 500, "out of memory");
    r->stages.nanoseconds[STAGE_DECODE] = clock_now() - began;
    if (p)
        status = workers_add(w, p);
    tensor_rows_release(&rows);
    if (status != HTTP_SUSPENDED) {
        end_reading(w, reading, slot, status);
        return;
    }
    reading_free(reading);
}

/* the threads */

/* With the lock: the lane to serve, or NULL and when to look again. */
static struct lane *choose(struct workers *w, int64_t now, int64_t *again)
{
    struct lane *chosen = NULL;
    int64_t oldest = INT64_MAX;
    *again = INT64_MAX;
    for (struct lane *l = w->lanes; l; l = l->next) {
        int64_t ready = w->stop ? 0 : lane_ready(l, now);
        if (ready && ready < *again)
            *again = ready;
        if (!ready && lane_oldest(l) < oldest) {
            oldest = lane_oldest(l);
            chosen = l;
        }
    }
    return chosen;
}

static void wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t until)
{
    struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
    pthread_cond_timedwait(condition, lock, &t);
}

/* With the lock: nothing is computed any more. */
static void drop_all(struct workers *w, int slot)
{
    struct prediction *done = NULL;
    while (w->lanes) {
        struct lane *l = w->lanes;
        struct prediction_part *dropped = NULL;
        lane_drop_late(l, INT64_MAX, &dropped);
        settle_dropped(w, dropped, slot, &done);
        unlist(w, l);
    }
    pthread_mutex_unlock(&w->lock);
    finish_all(w, done, slot);
    pthread_mutex_lock(&w->lock);
}

/* With the lock, of which it lets go. */
static void end_thread(struct workers *w)
{
    w->n_running--;
    pthread_cond_signal(&w->over);
    pthread_mutex_unlock(&w->lock);
}

static void *run_worker(void *arg)
{
    struct worker *me = arg;
    struct workers *w = me->workers;
    int64_t again = INT64_MAX;

    pthread_mutex_lock(&w->lock);
    for (;;) {
        struct reading *reading = readings_take(&w->bodies);
        struct lane *lane = reading || w->stop ? NULL : choose(w, clock_now(), &again);
        if ((reading || lane) && (w->lanes || w->bodies.first))
            pthread_cond_signal(&w->work); /* somebody else may look at the rest */
        if (reading) {
            pthread_mutex_unlock(&w->lock);
            read_body(w, reading, me->slot);
            pthread_mutex_lock(&w->lock);
        } else if (w->stop) {
            break;
        } else if (lane) {
            run_batch(w, lane, me->slot);
        } else if (again == INT64_MAX) {
            pthread_cond_wait(&w->work, &w->lock);
        } else {
            wait_until(&w->work, &w->lock, again);
        }
    }
    drop_all(w, me->slot);
    end_thread(w);
    return NULL;
}

/* Answers in time what is late while all workers are busy. */
static void *run_sweeper(void *arg)
{
    struct workers *w = arg;
    int slot = w->settings.first_counter + w->settings.n;

    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        struct prediction *done = NULL;
        if (!w->lanes && !w->bodies.first) {
            w->nothing_waits = true;
            pthread_cond_wait(&w->waiting, &w->lock);
        }
        /* Also where a worker has taken it already: it is told once in this time. */
        if (!w->stop)
            wait_until(&w->waiting, &w->lock, clock_now() + SWEEP * 1000000LL);
        for (struct lane *l = w->lanes, *next; l; l = next) {
            struct prediction_part *dropped = NULL;
            next = l->next;
            lane_drop_late(l, clock_now(), &dropped);
            settle_dropped(w, dropped, slot, &done);
            unlist(w, l);
        }
        struct reading *late = readings_take_late(&w->bodies, clock_now());
        pthread_mutex_unlock(&w->lock);
        finish_all(w, done, slot);
        answer_late(w, late, slot);
        pthread_mutex_lock(&w->lock);
    }
    end_thread(w);
    return NULL;
}

/* starting and stopping */

static void ask_to_stop(struct workers *w)
{
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->work);
    pthread_cond_broadcast(&w->waiting);
    pthread_mutex_unlock(&w->lock);
}

static int start(struct workers *w)
{
    for (; w->n_started < w->settings.n; w->n_started++) {
        struct worker *worker = &w->threads[w->n_started];
        *worker =
            (struct worker){.workers = w, .slot = w->settings.first_counter + w->n_started};
        if (pthread_create(&worker->thread, NULL, run_worker, worker) != 0)
            return -1;
    }
    return pthread_create(&w->sweeper, NULL, run_sweeper, w) == 0 ? 0 : -1;
}

struct workers *workers_open(const struct workers_settings *settings, struct nn_error *error)
{
    struct workers *w = calloc(1, sizeof *w + (size_t)settings->n * sizeof w->threads[0]);
    pthread_condattr_t monotonic;

    if (!w) {
        nn_fail(error, "out of memory");
        return NULL;
    }
    w->settings = *settings;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, &monotonic);
    pthread_cond_init(&w->waiting, &monotonic);
    pthread_cond_init(&w->over, &monotonic);
    w->n_running = settings->n + 1;
    pthread_condattr_destroy(&monotonic);
    if (start(w) == 0)
        return w;
    nn_fail(error, "cannot start the threads that compute");
    ask_to_stop(w);
    for (int i = 0; i < w->n_started; i++)
        pthread_join(w->threads[i].thread, NULL);
    workers_free(w);
    return NULL;
}

static int join(pthread_t thread)
{
    return pthread_join(thread, NULL);
}

bool workers_stop(struct workers *w, int64_t stop_by)
{
    ask_to_stop(w);
    pthread_mutex_lock(&w->lock);
    while (w->n_running > 0 && clock_now() < stop_by)
        wait_until(&w->over, &w->lock, stop_by);
    bool ended = w->n_running == 0;
    pthread_mutex_unlock(&w->lock);
    int (*leave)(pthread_t) = ended ? join : pthread_detach;
    for (int i = 0; i < w->n_started; i++)
        leave(w->threads[i].thread);
    leave(w->sweeper);
    return ended;
}

void workers_free(struct workers *w)
{
    if (!w)
        return;
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->waiting);
    pthread_cond_destroy(&w->over);
    free(w);
}

/* adding */

void workers_configure(struct workers *w, const struct served *served,
                       const struct lane_settings *settings)
{
    pthread_mutex_lock(&w->lock);
    served->lane->settings = *settings;
    if (settings->threads == 0)
        served->lane->settings.threads = w->settings.threads_of_model;
    pthread_mutex_unlock(&w->lock);
}

int64_t workers_waiting(struct workers *w, const struct served *served)
{
    pthread_mutex_lock(&w->lock);
    int64_t n = served->lane->n_waiting;
    pthread_mutex_unlock(&w->lock);
    return n;
}

static void put(struct workers *w, struct prediction_part *part)
{
    struct lane *l = part->served->lane;
    lane_put(l, part, lane_priority(l, part->prediction->request));
    if (l->listed)
        return;
    l->listed = true;
    l->previous = NULL;
    l->next = w->lanes;
    if (l->next)
        l->next->previous = l;
    w->lanes = l;
}

static int refuse_full(struct http_request *r)
{
    return http_shed(r, SHED_FULL, http_error(r, 503, "Exceeds maximum queue size"));
}

/* With the lock. Returns 0, or the status of a prediction that is not taken. */
static int refuse(struct workers *w, const struct prediction *p)
{
    struct http_request *r = p->request;
    size_t bytes = bytes_of(p);

    if (w->stop)
        return http_refuse_at_end(r);
    if (w->bytes > 0 && w->bytes + bytes > w->settings.max_bytes)
        return http_shed(r, SHED_BYTES,
                         http_error(r, 503, "too many bytes of predictions are in work"));
    for (int i = 0; i < p->n_parts; i++) {
        const struct lane *l = p->parts[i].served->lane;
        if (!lane_has_room(l, lane_priority(l, r)))
            return refuse_full(r);
    }
    return 0;
}

int workers_admit(struct workers *w, struct http_request *r, const struct served *served)
{
    static const char member[] = "\"priority\"";

    pthread_mutex_lock(&w->lock);
    bool full = !lane_has_room(served->lane, lane_priority(served->lane, r));
    pthread_mutex_unlock(&w->lock);
    if (!full ||
        (r->body.size && memmem(r->body.data, r->body.size, member, sizeof member - 1)))
        return 0;
    return refuse_full(r);
}

/* With the lock: something waits. */
static void wake_sweeper(struct workers *w)
{
    if (w->nothing_waits)
        pthread_cond_signal(&w->waiting);
    w->nothing_waits = false;
}

int workers_add(struct workers *w, struct prediction *p)
{
    pthread_mutex_lock(&w->lock);
    int status = refuse(w, p);
    if (!status) {
        w->bytes += bytes_of(p);
        for (int i = 0; i < p->n_parts; i++) {
            put(w, &p->parts[i]);
            pthread_cond_signal(&w->work);
        }
        wake_sweeper(w);
    }
    pthread_mutex_unlock(&w->lock);
    if (!status)
        return HTTP_SUSPENDED;
    prediction_free(p);
    return status;
}

int workers_read(struct workers *w, struct http_request *r, const struct codec *codec,
                 const struct served *served, int64_t limit, int64_t max_piece)
{
    struct reading *reading = reading_new(&(struct reading){.request = r,
                                                            .codec = codec,
                                                            .served = (struct served *)served,
                                                            .limit = limit,
                                                            .max_piece = max_piece});
    if (!reading)
        return http_error(r, 500, "out of memory");
    pthread_mutex_lock(&w->lock);
    bool stop = w->stop;
    if (!stop) {
        readings_put(&w->bodies, reading);
        wake_sweeper(w);
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
    if (!stop)
        return HTTP_SUSPENDED;
    reading_free(reading);
    return http_refuse_at_end(r);
}
