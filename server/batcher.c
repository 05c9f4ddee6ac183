#include "server/batcher.h"

#include "server/clock.h"
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROWS = 8 };

/* A request whose rows are in a batch's session. */
struct job {
    struct http_request *request;
    const struct codec *codec;
    int64_t first, n; /* rows */
    int64_t read;     /* clock_now() when they had been read */
    struct job *next;
};

/* What a loop has for one model. */
struct batch {
    const struct served *served;
    int64_t max_batch, deadline; /* of the model; nanoseconds */
    bool shares; /* rows of different requests may be computed together */
    size_t row_bytes[TENSOR_MAX_PORTS];
    struct nn_session *session; /* NULL until it is needed */
    int64_t used;               /* rows of `jobs` */
    int64_t read;               /* clock_now() when the last request had been read */
    int64_t ended;              /* clock_now() at the end of what was measured last */
    int64_t computed;           /* nanoseconds that the last run took */
    struct job *jobs, **last;
};

struct batcher {
    struct batcher_settings settings;
    size_t n;
    struct batch *batches; /* of each version in the table */
    struct job *free;
    bool finished; /* some request since the last batcher_run() */
};

struct batcher *batcher_new(const struct batcher_settings *settings)
{
    struct batcher *b = calloc(1, sizeof *b);
    if (b)
        b->settings = *settings;
    return b;
}

void batcher_free(struct batcher *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->n; i++)
        nn_session_free(b->batches[i].session);
    free(b->batches);
    for (struct job *j = b->free, *next; j; j = next) {
        next = j->next;
        free(j);
    }
    free(b);
}

static struct model_counters *counters(const struct batcher *b, const struct served *served)
{
    return &served->stats->loops[b->settings.loop];
}

static bool is_late(const struct batch *batch, const struct http_request *r, int64_t now)
{
    return now - r->began > batch->deadline;
}

static int answer_late(const struct batcher *b, const struct batch *batch,
                       struct http_request *r)
{
    counter_add(&counters(b, batch->served)->expired, 1);
    return http_shed(r, SHED_DEADLINE,
                     http_error(r, 504, "the deadline of %lld ms is over",
                                (long long)(batch->deadline / 1000000)));
}

/* Returns the time. */
static int64_t count_answer(const struct batcher *b, const struct batch *batch,
                            struct http_request *r, int status)
{
    int64_t now = clock_now();
    if (status == 200)
        r->stages.nanoseconds[STAGE_ENCODE] = now - batch->ended;
    metrics_count_answer(counters(b, batch->served), &r->stages, status, now - r->began);
    return now;
}

/* sessions */

static void batch_init(struct batch *batch, const struct batcher_settings *settings,
                       const struct serving_config *config, const struct served *served)
{
    *batch = (struct batch){
        .served = served,
        .max_batch = config->max_batch_size > 0 ? config->max_batch_size : settings->max_batch,
        .deadline =
            config->deadline_ms > 0 ? config->deadline_ms * 1000000 : settings->deadline,
        .last = &batch->jobs};
    batch->shares = !nn_model_unbatched(served->model);
    for (int i = 0; i < nn_model_n_inputs(served->model) && i < TENSOR_MAX_PORTS; i++)
        batch->row_bytes[i] = tensor_row_bytes(nn_model_input(served->model, i));
}

static int64_t capacity(const struct batch *batch)
{
    return batch->session ? nn_session_max_batch(batch->session) : 0;
}

/* Makes room for `rows` in a session that holds nothing, at least doubling it, so that a
 * load settles on the size it needs. */
static int reserve(struct batch *batch, int64_t rows, struct nn_error *error)
{
    int64_t wanted = capacity(batch) ? capacity(batch) : FIRST_ROWS;
    while (wanted < rows)
        wanted *= 2;
    if (wanted > batch->max_batch || !batch->shares)
        wanted = rows > batch->max_batch || !batch->shares ? rows : batch->max_batch;
    if (!batch->session) {
        batch->session = nn_session_new(batch->served->model, wanted, error);
        return batch->session ? 0 : -1;
    }
    return wanted > capacity(batch) ? nn_session_reserve(batch->session, wanted, error) : 0;
}

/* answers */

static int fail_output(struct http_request *r, const struct nn_error *error)
{
    return http_error(r, 500, "%s", error->text);
}

static int write_answer(const struct batch *batch, const struct codec *codec,
                        struct http_request *r, const struct nn_tensor *outputs, int64_t first,
                        int64_t n)
{
    struct nn_error error = {0};
    return codec->write(r, batch->served, outputs, first, n, &error) == 0
               ? 200
               : fail_output(r, &error);
}

static void get_outputs(const struct batch *batch, struct nn_tensor outputs[TENSOR_MAX_PORTS])
{
    for (int i = 0; i < nn_model_n_outputs(batch->served->model) && i < TENSOR_MAX_PORTS; i++)
        outputs[i] = *nn_session_output(batch->session, i);
}

/* the shared batch */

static void finish(struct batcher *b, struct batch *batch, struct job *job, int status)
{
    batch->ended = count_answer(b, batch, job->request, status);
    http_finish(job->request, status);
    b->finished = true;
    job->next = b->free;
    b->free = job;
}

/* Answers what came too late and closes the gaps that it leaves. */
static void drop_late(struct batcher *b, struct batch *batch)
{
    int64_t now = clock_now(), used = 0;
    struct job *job = batch->jobs, *next;

    batch->last = &batch->jobs;
    batch->ended = now;
    for (; job; job = next) {
        next = job->next;
        job->request->stages.nanoseconds[STAGE_QUEUE] = now - job->read;
        if (is_late(batch, job->request, now)) {
            finish(b, batch, job, answer_late(b, batch, job->request));
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

static int run_session(struct batcher *b, struct batch *batch, int64_t rows,
                       struct nn_error *error)
{
    int64_t began = clock_now();
    int result = nn_session_run(batch->session, rows, error);
    batch->ended = clock_now();
    batch->computed = batch->ended - began;
    metrics_count_batch(counters(b, batch->served), rows, began, batch->ended);
    return result;
}

static void flush(struct batcher *b, struct batch *batch)
{
    struct nn_error error = {0};
    struct nn_tensor outputs[TENSOR_MAX_PORTS];

    drop_late(b, batch);
    if (!batch->jobs)
        return;
    int result = run_session(b, batch, batch->used, &error);
    if (result == 0)
        get_outputs(batch, outputs);
    for (struct job *job = batch->jobs, *next; job; job = next) {
        next = job->next;
        job->request->stages.nanoseconds[STAGE_COMPUTE] = batch->computed;
        job->request->stages.batch = batch->used;
        finish(b, batch, job,
               result == 0
                   ? write_answer(batch, job->codec, job->request, outputs, job->first, job->n)
                   : fail_output(job->request, &error));
    }
    batch->jobs = NULL;
    batch->last = &batch->jobs;
    batch->used = 0;
}

bool batcher_run(struct batcher *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->batches[i].jobs)
            flush(b, &b->batches[i]);
    bool finished = b->finished;
    b->finished = false;
    return finished;
}

/* Takes over the session of the version, if there was one and batches may be as large. */
static void keep_session(struct batcher *b, struct batch *batch)
{
    for (size_t k = 0; k < b->n; k++) {
        struct batch *old = &b->batches[k];
        if (old->served == batch->served && capacity(old) <= batch->max_batch) {
            batch->session = old->session;
            old->session = NULL;
        }
    }
}

struct batch *batcher_room(const struct table *table)
{
    return calloc(table->n_versions ? table->n_versions : 1, sizeof(struct batch));
}

void batcher_use(struct batcher *b, const struct table *table, struct batch *batches)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->batches[i].jobs)
            flush(b, &b->batches[i]);
    for (size_t i = 0; i < table->n; i++) {
        const struct served_model *model = table->models[i];
        for (size_t k = 0; k < model->n; k++, n++) {
            batch_init(&batches[n], &b->settings, &model->config, model->versions[k]);
            keep_session(b, &batches[n]);
        }
    }
    for (size_t k = 0; k < b->n; k++)
        nn_session_free(b->batches[k].session);
    free(b->batches);
    b->batches = batches;
    b->n = n;
}

/* requests that run by themselves */

static void copy_rows(struct batch *batch, const struct tensor_rows *rows, int64_t first,
                      int64_t n)
{
    const struct nn_model *model = batch->served->model;
    for (int i = 0; i < nn_model_n_inputs(model); i++) {
        const struct nn_port *port = nn_model_input(model, i);
        size_t bytes = batch->row_bytes[i];
        int64_t fixed = tensor_fixed_rows(port);
        size_t count = (size_t)(fixed ? fixed : n);
        char *to = nn_session_input(batch->session, i);
        const char *from = rows->data[i];
        memcpy(to + (size_t)batch->used * bytes, from + (size_t)first * bytes, count * bytes);
    }
}

static void release_collected(struct nn_tensor collected[TENSOR_MAX_PORTS])
{
    for (int i = 0; i < TENSOR_MAX_PORTS; i++)
        free(collected[i].data);
}

/* Adds the n rows of a run's outputs at row `first` of tensors for all the `total` rows, which
 * are made with the first piece. -1: no memory. */
static int collect(const struct batch *batch, struct nn_tensor collected[TENSOR_MAX_PORTS],
                   int64_t first, int64_t n, int64_t total)
{
    for (int i = 0; i < nn_model_n_outputs(batch->served->model); i++) {
        const struct nn_tensor *output = nn_session_output(batch->session, i);
        size_t bytes = tensor_row_bytes(nn_model_output(batch->served->model, i));
        if (!collected[i].data) {
            collected[i] = *output;
            collected[i].shape.dims[0] = total;
            collected[i].data = reallocarray(NULL, (size_t)total, bytes);
            if (!collected[i].data)
                return -1;
        }
        memcpy((char *)collected[i].data + (size_t)first * bytes, output->data,
               (size_t)n * bytes);
    }
    return 0;
}

/* Notes a run of a request's own. */
static void note_run(const struct batch *batch, struct http_request *r, int64_t rows)
{
    int64_t *times = r->stages.nanoseconds;
    if (!times[STAGE_COMPUTE])
        times[STAGE_QUEUE] = batch->ended - batch->computed - batch->read;
    times[STAGE_COMPUTE] += batch->computed;
    r->stages.batch = rows;
}

/* Runs what is larger than a batch piece by piece, then answers it as one. */
static int run_pieces(struct batcher *b, struct batch *batch, const struct codec *codec,
                      struct http_request *r, const struct tensor_rows *rows)
{
    struct nn_tensor collected[TENSOR_MAX_PORTS] = {0};
    struct nn_error error = {0};
    int64_t piece = batch->max_batch;
    int status = 0;

    for (int64_t first = 0; first < rows->n && !status; first += piece) {
        int64_t n = rows->n - first < piece ? rows->n - first : piece;
        copy_rows(batch, rows, first, n);
        if (is_late(batch, r, clock_now())) {
            status = answer_late(b, batch, r);
            break;
        }
        if (run_session(b, batch, n, &error) < 0)
            status = fail_output(r, &error);
        else if (collect(batch, collected, first, n, rows->n) < 0)
            status = http_error(r, 500, "out of memory");
        note_run(batch, r, n);
    }
    if (!status)
        status = write_answer(batch, codec, r, collected, 0, rows->n);
    release_collected(collected);
    return status;
}

/* A model that does not answer row by row gets each request whole. */
static int run_whole(struct batcher *b, struct batch *batch, const struct codec *codec,
                     struct http_request *r, const struct tensor_rows *rows)
{
    struct nn_tensor outputs[TENSOR_MAX_PORTS];
    struct nn_error error = {0};
    int status;

    copy_rows(batch, rows, 0, rows->n);
    if (run_session(b, batch, rows->n, &error) < 0) {
        status = http_error(r, 400, "%s", error.text); /* it takes no such number of rows */
    } else {
        note_run(batch, r, rows->n);
        get_outputs(batch, outputs);
        status = write_answer(batch, codec, r, outputs, 0, rows->n);
    }
    if (rows->n > batch->max_batch) { /* not worth keeping for the next one */
        nn_session_free(batch->session);
        batch->session = NULL;
    }
    return status;
}

static int run_alone(struct batcher *b, struct batch *batch, const struct codec *codec,
                     struct http_request *r, const struct tensor_rows *rows)
{
    struct nn_error error = {0};

    if (batch->jobs)
        flush(b, batch);
    if (reserve(batch, batch->shares ? batch->max_batch : rows->n, &error) < 0)
        return http_error(r, 500, "%s", error.text);
    return (batch->shares ? run_pieces : run_whole)(b, batch, codec, r, rows);
}

/* adding */

static struct job *job_new(struct batcher *b)
{
    struct job *job = b->free;
    if (!job)
        return malloc(sizeof *job);
    b->free = job->next;
    return job;
}

/* The rows [used, used + n) of the session become the request's. */
static int enqueue(struct batcher *b, struct batch *batch, const struct codec *codec,
                   struct http_request *r, int64_t n)
{
    struct job *job = job_new(b);
    if (!job)
        return http_error(r, 500, "out of memory");
    *job = (struct job){
        .request = r, .codec = codec, .first = batch->used, .n = n, .read = batch->read};
    *batch->last = job;
    batch->last = &job->next;
    batch->used += n;
    return HTTP_PENDING;
}

/* Puts rows that did not fit where they were read into the session after all. */
static int enqueue_copy(struct batcher *b, struct batch *batch, const struct codec *codec,
                        struct http_request *r, const struct tensor_rows *rows)
{
    struct nn_error error = {0};
    int64_t n = rows->n, wanted = batch->used + n;

    if (wanted > capacity(batch)) {
        if (batch->jobs)
            flush(b, batch);
        int64_t most = batch->max_batch;
        if (reserve(batch, wanted < most ? wanted : most, &error) < 0)
            return http_error(r, 500, "%s", error.text);
    }
    copy_rows(batch, rows, 0, n);
    return enqueue(b, batch, codec, r, n);
}

static int read_and_enqueue(struct batcher *b, struct batch *batch, const struct codec *codec,
                            struct http_request *r)
{
    const struct nn_model *model = batch->served->model;
    struct nn_error error = {0};
    struct tensor_rows rows = {.model = model};

    int64_t began = clock_now();
    if (is_late(batch, r, began))
        return answer_late(b, batch, r);
    if (batch->shares) {
        if (batch->used == capacity(batch)) {
            int64_t most = batch->max_batch, wanted = batch->used + 1;
            if (batch->jobs)
                flush(b, batch);
            if (reserve(batch, wanted < most ? wanted : most, &error) < 0)
                return http_error(r, 500, "%s", error.text);
        }
        rows.capacity = capacity(batch) - batch->used;
        for (int i = 0; i < nn_model_n_inputs(model); i++)
            rows.data[i] = (char *)nn_session_input(batch->session, i) +
                           (size_t)batch->used * batch->row_bytes[i];
    }

    int status = codec->read(r, batch->served, &rows, b->settings.max_instances, &error);
    batch->read = clock_now();
    r->stages.nanoseconds[STAGE_DECODE] = batch->read - began;
    if (status)
        return http_error(r, status, "%s", error.text);
    if (!rows.owned)
        return enqueue(b, batch, codec, r, rows.n);
    status = (batch->shares && rows.n <= batch->max_batch ? enqueue_copy : run_alone)(
        b, batch, codec, r, &rows);
    tensor_rows_release(&rows);
    return status;
}

int batcher_add(struct batcher *b, const struct served *served, const struct codec *codec,
                struct http_request *r)
{
    struct batch *batch = b->batches;
    if (served->n_members)
        return http_error(r, 501, "ensembles are not computed yet");
    while (batch->served != served)
        batch++;
    counter_add(&counters(b, served)->begun, 1);
    r->served_version = served->version;
    int status = read_and_enqueue(b, batch, codec, r);
    if (status != HTTP_PENDING)
        count_answer(b, batch, r, status);
    return status;
}
