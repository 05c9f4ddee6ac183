#include "server/batcher.h"

#include "server/batch.h"
#include "server/clock.h"
#include <stdlib.h>
#include <string.h>

enum {
    SLOW_BATCH = 1000000, /* nanoseconds of SERVED_BATCH rows: above, the workers' */
    NUMBER_TIME = 40,     /* nanoseconds to write one: of many outputs it is most of the time */
    LONG_WORK = 5000000,  /* nanoseconds of one request that a loop may be busy */
    LARGE_BODY = 256 << 10, /* bytes that a loop reads itself, at most */
};

struct batcher {
    struct batcher_settings settings;
    size_t n;
    struct batch *batches; /* of each version in the table */
    struct turn turn;
};

static struct batch *find(const struct batcher *b, const struct served *served)
{
    struct batch *batch = b->batches;
    while (batch->served != served)
        batch++;
    return batch;
}

struct batcher *batcher_new(const struct batcher_settings *settings)
{
    struct batcher *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->settings = *settings;
    b->turn.loop = settings->loop;
    return b;
}

void batcher_free(struct batcher *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->n; i++)
        nn_session_free(b->batches[i].session);
    free(b->batches);
    turn_release(&b->turn);
    free(b);
}

bool batcher_run(struct batcher *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->batches[i].jobs)
            batch_flush(&b->turn, &b->batches[i]);
    bool finished = b->turn.finished;
    b->turn.finished = false;
    return finished;
}

/* Takes over the session of the version, if there was one and batches may be as large. */
static void keep_session(struct batcher *b, struct batch *batch)
{
    for (size_t k = 0; k < b->n; k++) {
        struct batch *old = &b->batches[k];
        if (old->served == batch->served && batch_capacity(old) <= batch->max_batch) {
            batch->session = old->session;
            old->session = NULL;
        }
    }
}

/* The table's versions, and what its ensembles are of: members that a failed reload has taken
 * from the table are served there. */
static size_t count_versions(const struct table *table)
{
    size_t n = 0;
    for (size_t i = 0; i < table->n; i++)
        for (size_t k = 0; k < table->models[i]->n; k++)
            n += 1 + table->models[i]->versions[k]->n_members;
    return n;
}

struct batch *batcher_room(const struct table *table)
{
    size_t n = count_versions(table);
    return calloc(n ? n : 1, sizeof(struct batch));
}

struct lane_settings batcher_lane_settings(const struct serving_config *c, int64_t max_batch,
                                           int64_t max_queue)
{
    struct lane_settings lane = {
        .threads = c->threads > 0 ? (int)c->threads : 0,
        .max_batch = c->max_batch_size > 0 ? c->max_batch_size : max_batch,
        .max_queue = c->max_queue_size > 0 ? c->max_queue_size : max_queue,
        .delay = c->max_queue_delay_us > 0 ? c->max_queue_delay_us * 1000 : 0,
        .priorities =
            c->priority_levels > 0 ? (int)c->priority_levels : SERVING_STANDARD_PRIORITIES};
    lane.preferred = c->preferred_batch_size > 0 && c->preferred_batch_size < lane.max_batch
                         ? c->preferred_batch_size
                         : lane.max_batch;
    lane.standard_priority = c->default_priority_level > 0 ? (int)c->default_priority_level
                                                           : (lane.priorities + 1) / 2;
    return lane;
}

/* Nanoseconds that a batch of SERVED_BATCH rows keeps whoever computes and answers it busy. */
static int64_t busy_time(const struct served *served)
{
    const struct nn_model *model = served->model;
    int64_t numbers = 0;
    for (int i = 0; i < nn_model_n_outputs(model) && !nn_model_unbatched(model); i++)
        numbers += tensor_row_elements(nn_model_output(model, i));
    return served->batch_time + SERVED_BATCH * NUMBER_TIME * numbers;
}

/* Whether a loop would be kept from answering others, or the model wants to wait. */
static bool is_apart(const struct served *served, const struct serving_config *c)
{
    return c->threads > 0 || c->max_queue_delay_us > 0 ||
           (c->threads < 0 && busy_time(served) > SLOW_BATCH);
}

static void add_batch(struct batcher *b, struct batch *batch, const struct served *served,
                      const struct serving_config *config)
{
    const struct batcher_settings *s = &b->settings;
    struct lane_settings lane = batcher_lane_settings(config, s->max_batch, s->max_queue);

    *batch = (struct batch){.served = served,
                            .max_batch = lane.max_batch,
                            .deadline = config->deadline_ms > 0 ? config->deadline_ms * 1000000
                                                                : s->deadline,
                            .shares = !nn_model_unbatched(served->model),
                            .apart = s->workers && is_apart(served, config),
                            .row_time = busy_time(served) / SERVED_BATCH,
                            .last = &batch->jobs};
    for (int i = 0; i < nn_model_n_inputs(served->model) && i < TENSOR_MAX_PORTS; i++)
        batch->row_bytes[i] = tensor_row_bytes(nn_model_input(served->model, i));
    keep_session(b, batch);
    if (s->workers && served->lane)
        workers_configure(s->workers, served, &lane);
}

static bool has_batch(const struct batch *batches, size_t n, const struct served *served)
{
    for (size_t i = 0; i < n; i++)
        if (batches[i].served == served)
            return true;
    return false;
}

/* Adds the members of ensembles that the table does not hold any more. */
static size_t add_members(struct batcher *b, const struct table *table, struct batch *batches,
                          size_t n, const struct served *ensemble)
{
    for (size_t i = 0; i < ensemble->n_members; i++) {
        const struct served *member = ensemble->members[i];
        const struct served_model *model = table_find(table, member->name);
        struct serving_config standard;
        serving_config_default(&standard);
        if (!has_batch(batches, n, member))
            add_batch(b, &batches[n++], member, model ? &model->config : &standard);
    }
    return n;
}

void batcher_use(struct batcher *b, const struct table *table, struct batch *batches)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++)
        if (b->batches[i].jobs)
            batch_flush(&b->turn, &b->batches[i]);
    for (size_t i = 0; i < table->n; i++)
        for (size_t k = 0; k < table->models[i]->n; k++)
            add_batch(b, &batches[n++], table->models[i]->versions[k],
                      &table->models[i]->config);
    for (size_t i = 0; i < table->n; i++)
        for (size_t k = 0; k < table->models[i]->n; k++)
            n = add_members(b, table, batches, n, table->models[i]->versions[k]);
    for (size_t k = 0; k < b->n; k++)
        nn_session_free(b->batches[k].session);
    free(b->batches);
    b->batches = batches;
    b->n = n;
}

/* requests that run by themselves */

/* Returns 0, or the status with which the request was refused. */
static int read_body(const struct batcher *b, struct batch *batch, const struct codec *codec,
                     struct http_request *r, struct tensor_rows *rows, int64_t began)
{
    struct nn_error error = {0};
    int status = codec->read(r, batch->served, rows, b->settings.max_instances, &error);
    batch->read = clock_now();
    r->stages.nanoseconds[STAGE_DECODE] = batch->read - began;
    return status ? http_error(r, status, "%s", error.text) : 0;
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

/* Runs what is larger than a batch piece by piece. */
static int run_pieces(struct batcher *b, struct batch *batch, const struct codec *codec,
                      struct http_request *r, struct tensor_rows *rows)
{
    int64_t total = rows->n, piece = batch->max_batch;
    struct prediction *p =
        prediction_new(r, codec, batch->served, rows, piece, batch->deadline);
    struct nn_error error = {0};
    int status = 0;

    if (!p)
        return http_error(r, 500, "out of memory");
    for (int64_t first = 0; first < total && !status; first += piece) {
        int64_t n = total - first < piece ? total - first : piece;
        tensor_rows_copy(&p->rows, first, n, batch->session, 0);
        if (batch_is_late(batch, r, clock_now())) {
            status = batch_answer_late(&b->turn, batch, r);
            break;
        }
        if (batch_run(&b->turn, batch, n, &error) < 0)
            status = batch_fail(r, &error);
        else
            prediction_collect(&p->parts[0], batch->session, 0, first, n);
        note_run(batch, r, n);
    }
    if (!status)
        status = prediction_write_collected(p);
    prediction_free(p);
    return status;
}

/* A model that does not answer row by row gets each request whole. */
static int run_whole(struct batcher *b, struct batch *batch, const struct codec *codec,
                     struct http_request *r, struct tensor_rows *rows)
{
    struct nn_error error = {0};
    int status;

    tensor_rows_copy(rows, 0, rows->n, batch->session, 0);
    if (batch_run(&b->turn, batch, rows->n, &error) < 0) {
        status = http_error(r, 400, "%s", error.text); /* it takes no such number of rows */
    } else {
        note_run(batch, r, rows->n);
        status = batch_write(batch, codec, r, 0, rows->n);
    }
    if (rows->n > batch->max_batch) { /* not worth keeping for the next one */
        nn_session_free(batch->session);
        batch->session = NULL;
    }
    return status;
}

/* Passes it on to the workers. */
static int pass_on(struct batcher *b, struct batch *batch, const struct codec *codec,
                   struct http_request *r, struct tensor_rows *rows)
{
    struct prediction *p =
        prediction_new(r, codec, batch->served, rows, batch->max_batch, batch->deadline);
    if (!p)
        return http_error(r, 500, "out of memory");
    return workers_add(b->settings.workers, p);
}

static int run_alone(struct batcher *b, struct batch *batch, const struct codec *codec,
                     struct http_request *r, struct tensor_rows *rows)
{
    struct nn_error error = {0};

    if (b->settings.workers && rows->n > LONG_WORK / (batch->row_time + 1))
        return pass_on(b, batch, codec, r, rows);
    if (batch->jobs)
        batch_flush(&b->turn, batch);
    if (batch_reserve(batch, batch->shares ? batch->max_batch : rows->n, &error) < 0)
        return http_error(r, 500, "%s", error.text);
    return (batch->shares ? run_pieces : run_whole)(b, batch, codec, r, rows);
}

/* ensembles */

/* Whether the loop computes a request of n rows to it. */
static bool is_short(const struct batcher *b, const struct served *ensemble, int64_t n)
{
    int64_t time = 0;
    for (size_t i = 0; i < ensemble->n_members; i++) {
        const struct batch *batch = find(b, ensemble->members[i]);
        if (batch->apart || !batch->shares || n > batch->max_batch)
            return false;
        time += batch->row_time;
    }
    return n <= LONG_WORK / (time + 1);
}

/* Each member gets the rows into its own batch, where other requests' are. */
static int add_parts(struct batcher *b, struct batch *batch, struct prediction *p)
{
    struct http_request *r = p->request;
    int64_t n = p->rows.n;
    int n_parts = p->n_parts, added = 0, status = HTTP_PENDING;

    for (; added < n_parts; added++) {
        struct batch *member = find(b, p->parts[added].served);
        member->read = p->began;
        status = batch_enqueue_copy(&b->turn, member, p->codec, r, &p->rows, &p->parts[added]);
        if (status != HTTP_PENDING)
            break;
    }
    if (added == n_parts)
        return HTTP_PENDING;
    if (p->left == n * n_parts && added == 0) {
        prediction_free(p);
        return status;
    }
    /* What was added finishes it. */
    batch_finish_part(&b->turn, batch, p, n * (n_parts - added), status);
    return HTTP_PENDING;
}

/* Reads rows into memory of their own: for several, or for other threads. */
static int read_apart(struct batcher *b, struct batch *batch, const struct codec *codec,
                      struct http_request *r)
{
    struct tensor_rows rows = {.model = batch->served->model};
    int64_t began = clock_now();

    if (batch_is_late(batch, r, began))
        return batch_answer_late(&b->turn, batch, r);
    int status = read_body(b, batch, codec, r, &rows, began);
    if (status)
        return status;
    if (!batch->served->n_members || !is_short(b, batch->served, rows.n)) {
        if (b->settings.workers)
            status = pass_on(b, batch, codec, r, &rows);
        else
            status = http_error(r, 500, "there are no worker threads");
    } else {
        struct prediction *p =
            prediction_new(r, codec, batch->served, &rows, batch->max_batch, batch->deadline);
        status = p ? add_parts(b, batch, p) : http_error(r, 500, "out of memory");
    }
    tensor_rows_release(&rows);
    return status;
}

/* adding */

static int read_and_enqueue(struct batcher *b, struct batch *batch, const struct codec *codec,
                            struct http_request *r)
{
    const struct nn_model *model = batch->served->model;
    struct nn_error error = {0};
    struct tensor_rows rows = {.model = model};

    int64_t began = clock_now();
    if (batch_is_late(batch, r, began))
        return batch_answer_late(&b->turn, batch, r);
    if (batch->shares) {
        if (batch->used == batch_capacity(batch)) {
            int64_t most = batch->max_batch, wanted = batch->used + 1;
            if (batch->jobs)
                batch_flush(&b->turn, batch);
            if (batch_reserve(batch, wanted < most ? wanted : most, &error) < 0)
                return http_error(r, 500, "%s", error.text);
        }
        rows.capacity = batch_capacity(batch) - batch->used;
        for (int i = 0; i < nn_model_n_inputs(model); i++)
            rows.data[i] = (char *)nn_session_input(batch->session, i) +
                           (size_t)batch->used * batch->row_bytes[i];
    }

    int status = read_body(b, batch, codec, r, &rows, began);
    if (status)
        return status;
    if (!rows.owned)
        return batch_enqueue(&b->turn, batch, codec, r, rows.n, NULL);
    status = batch->shares && rows.n <= batch->max_batch
                 ? batch_enqueue_copy(&b->turn, batch, codec, r, &rows, NULL)
                 : run_alone(b, batch, codec, r, &rows);
    tensor_rows_release(&rows);
    return status;
}

static int add(struct batcher *b, struct batch *batch, const struct codec *codec,
               struct http_request *r)
{
    const struct served *served = batch->served;
    struct workers *workers = b->settings.workers;
    bool large = workers && r->body.size > LARGE_BODY;

    if (served->n_members == 0 && (large || batch->apart)) {
        int status = workers_admit(workers, r, served);
        if (status)
            return status;
    }
    if (large)
        return workers_read(workers, r, codec, served, batch->deadline, batch->max_batch);
    if (batch->apart || served->n_members)
        return read_apart(b, batch, codec, r);
    return read_and_enqueue(b, batch, codec, r);
}

int batcher_add(struct batcher *b, const struct served *served, const struct codec *codec,
                struct http_request *r)
{
    struct batch *batch = find(b, served);

    counter_add(&batch_counters(&b->turn, served)->begun, 1);
    r->served_version = served->version;
    int status = add(b, batch, codec, r);
    if (status != HTTP_PENDING && status != HTTP_SUSPENDED)
        batch_count(&b->turn, batch, served, r, status);
    return status;
}
