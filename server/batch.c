#include "server/batch.h"

#include "server/clock.h"
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROWS = 8 };

void turn_release(struct turn *t)
{
    for (struct job *j = t->free, *next; j; j = next) {
        next = j->next;
        free(j);
    }
}

struct model_counters *batch_counters(const struct turn *t, const struct served *served)
{
    return &served->stats->loops[t->loop];
}

int batch_answer_late(const struct turn *t, const struct batch *batch, struct http_request *r)
{
    return prediction_answer_late(r, batch->deadline, batch_counters(t, batch->served));
}

bool batch_is_late(const struct batch *batch, const struct http_request *r, int64_t now)
{
    return now - r->began > batch->deadline;
}

int64_t batch_count(const struct turn *t, const struct batch *batch,
                    const struct served *served, struct http_request *r, int status)
{
    int64_t now = clock_now();
    if (status == 200)
        r->stages.nanoseconds[STAGE_ENCODE] = now - batch->ended;
    metrics_count_answer(batch_counters(t, served), &r->stages, status, now - r->began);
    return now;
}

/* sessions */

int64_t batch_capacity(const struct batch *batch)
{
    return batch->session ? nn_session_max_batch(batch->session) : 0;
}

int batch_reserve(struct batch *batch, int64_t rows, struct nn_error *error)
{
    int64_t wanted = batch_capacity(batch) ? batch_capacity(batch) : FIRST_ROWS;
    while (wanted < rows)
        wanted *= 2;
    if (wanted > batch->max_batch || !batch->shares)
        wanted = rows > batch->max_batch || !batch->shares ? rows : batch->max_batch;
    if (!batch->session) {
        batch->session = nn_session_new(batch->served->model, wanted, error);
        return batch->session ? 0 : -1;
    }
    return wanted > batch_capacity(batch) ? nn_session_reserve(batch->session, wanted, error)
                                          : 0;
}

/* answers */

int batch_fail(struct http_request *r, const struct nn_error *error)
{
    return http_error(r, 500, "%s", error->text);
}

static void get_outputs(const struct batch *batch, struct nn_tensor outputs[TENSOR_MAX_PORTS])
{
    for (int i = 0; i < nn_model_n_outputs(batch->served->model) && i < TENSOR_MAX_PORTS; i++)
        outputs[i] = *nn_session_output(batch->session, i);
}

int batch_write(const struct batch *batch, const struct codec *codec, struct http_request *r,
                int64_t first, int64_t n)
{
    struct nn_tensor outputs[TENSOR_MAX_PORTS];
    get_outputs(batch, outputs);
    return prediction_answer(r, codec, batch->served, outputs, first, n);
}

/* the shared batch */

static void keep_job(struct turn *t, struct job *job)
{
    job->next = t->free;
    t->free = job;
}

static void finish(struct turn *t, struct batch *batch, const struct served *served,
                   struct http_request *r, int status)
{
    batch->ended = batch_count(t, batch, served, r, status);
    http_finish(r, status);
    t->finished = true;
}

void batch_finish_part(struct turn *t, struct batch *batch, struct prediction *p, int64_t rows,
                       int status)
{
    if (!p->status)
        p->status = status;
    p->left -= rows;
    if (p->left > 0)
        return;
    prediction_count_ensemble(p, batch_counters(t, p->served));
    if (!p->status)
        p->status = prediction_write_collected(p);
    finish(t, batch, p->served, p->request, p->status);
    prediction_free(p);
}

static void finish_job(struct turn *t, struct batch *batch, struct job *job, int status)
{
    if (job->part)
        batch_finish_part(t, batch, job->part->prediction, job->n, status);
    else
        finish(t, batch, batch->served, job->request, status);
    keep_job(t, job);
}

/* Whether nobody wants the job's outputs any more; the answer says why. What a part is of has
 * its own time, and may have failed elsewhere. */
static int give_up(struct turn *t, const struct batch *batch, struct job *job, int64_t now)
{
    struct prediction *p = job->part ? job->part->prediction : NULL;
    if (p && p->status)
        return p->status;
    if (p && now > p->deadline)
        return prediction_answer_late(job->request, p->limit, batch_counters(t, p->served));
    if (!p && batch_is_late(batch, job->request, now))
        return batch_answer_late(t, batch, job->request);
    return 0;
}

/* Answers what came too late and closes the gaps that it leaves. */
static void drop_late(struct turn *t, struct batch *batch)
{
    int64_t now = clock_now(), used = 0;
    struct job *job = batch->jobs, *next;

    batch->last = &batch->jobs;
    batch->ended = now;
    for (; job; job = next) {
        next = job->next;
        job->request->stages.nanoseconds[STAGE_QUEUE] = now - job->read;
        int status = give_up(t, batch, job, now);
        if (status) {
            finish_job(t, batch, job, status);
            continue;
        }
        for (int i = 0; used != job->first && i < nn_model_n_inputs(batch->served->model);
             i++) {
            char *rows = nn_session_input(batch->session, i);
            memmove(rows + (size_t)used * batch->row_bytes[i],
                    rows + (size_t)job->first * batch->row_bytes[i],
                    (size_t)job->n * batch->row_bytes[i]);
        }
        job->first = used;
        used += job->n;
        *batch->last = job;
        batch->last = &job->next;
    }
    *batch->last = NULL;
    batch->used = used;
}

int batch_run(struct turn *t, struct batch *batch, int64_t rows, struct nn_error *error)
{
    int64_t began = clock_now();
    int result = nn_session_run(batch->session, rows, error);
    batch->ended = clock_now();
    batch->computed = batch->ended - began;
    metrics_count_batch(batch_counters(t, batch->served), rows, began, batch->ended);
    return result;
}

void batch_flush(struct turn *t, struct batch *batch)
{
    struct nn_error error = {0};
    struct nn_tensor outputs[TENSOR_MAX_PORTS];

    drop_late(t, batch);
    if (!batch->jobs)
        return;
    int result = batch_run(t, batch, batch->used, &error);
    if (result == 0)
        get_outputs(batch, outputs);
    for (struct job *job = batch->jobs, *next; job; job = next) {
        int status = 0;
        next = job->next;
        job->request->stages.nanoseconds[STAGE_COMPUTE] += batch->computed;
        job->request->stages.batch = batch->used;
        if (result != 0)
            status = batch_fail(job->request, &error);
        else if (job->part)
            prediction_collect(job->part, batch->session, job->first, 0, job->n);
        else
            status = prediction_answer(job->request, job->codec, batch->served, outputs,
                                       job->first, job->n);
        finish_job(t, batch, job, status);
    }
    batch->jobs = NULL;
    batch->last = &batch->jobs;
    batch->used = 0;
}

/* jobs */

static struct job *job_new(struct turn *t)
{
    struct job *job = t->free;
    if (!job)
        return malloc(sizeof *job);
    t->free = job->next;
    return job;
}

int batch_enqueue(struct turn *t, struct batch *batch, const struct codec *codec,
                  struct http_request *r, int64_t n, struct prediction_part *part)
{
    struct job *job = job_new(t);
    if (!job)
        return http_error(r, 500, "out of memory");
    *job = (struct job){.request = r,
                        .codec = codec,
                        .part = part,
                        .first = batch->used,
                        .n = n,
                        .read = batch->read};
    *batch->last = job;
    batch->last = &job->next;
    batch->used += n;
    return HTTP_PENDING;
}

int batch_enqueue_copy(struct turn *t, struct batch *batch, const struct codec *codec,
                       struct http_request *r, const struct tensor_rows *rows,
                       struct prediction_part *part)
{
    struct nn_error error = {0};
    int64_t n = rows->n, wanted = batch->used + n;

    if (wanted > batch_capacity(batch)) {
        if (batch->jobs)
            batch_flush(t, batch);
        int64_t most = batch->max_batch;
        if (batch_reserve(batch, wanted < most ? wanted : most, &error) < 0)
            return http_error(r, 500, "%s", error.text);
    }
    tensor_rows_copy(rows, 0, n, batch->session, batch->used);
    return batch_enqueue(t, batch, codec, r, n, part);
}
