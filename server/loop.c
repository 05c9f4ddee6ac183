#include "server/loop.h"

#include "server/api/api.h"
#include "server/clock.h"
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    CLOSING_TURN = 10,   /* milliseconds between looks at the clock while closing */
    CLOSING_QUIET = 200, /* milliseconds without a request after which nobody is
                          * expected to send one on a connection that is left open */
    EVENTS = 64,         /* that are taken from the kernel at once */
    BYTES = 256 << 20,   /* of bodies and answers of all loops, or one body of each */
};

/* the mailbox */

static void wake(struct loop *l)
{
    uint64_t one = 1;
    atomic_store(&l->mail, true);
    /* Once until it looks, and again where that failed. */
    if (!atomic_exchange(&l->woken, true) && write(l->wake, &one, sizeof one) < 0)
        atomic_store(&l->woken, false);
}

bool loop_has_room(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    bool room = l->n_accepted < LOOP_MAILBOX;
    pthread_mutex_unlock(&l->lock);
    return room;
}

void loop_give(struct loop *l, const struct accepted *accepted)
{
    pthread_mutex_lock(&l->lock);
    l->accepted[l->n_accepted++] = *accepted;
    pthread_mutex_unlock(&l->lock);
    wake(l);
}

int loop_prepare(struct loop *l, const struct table *table)
{
    free(l->room);              /* of a table that was not published after all */
    l->room = batcher_room(table);
    return l->room ? 0 : -1;
}

void loop_publish(struct loop *l, struct table *table)
{
    pthread_mutex_lock(&l->lock);
    l->table_waits = table_share(table);
    wake(l);
    while (l->table_waits)
        pthread_cond_wait(&l->taken, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

void loop_finish(struct loop *l, struct http_request *request)
{
    pthread_mutex_lock(&l->lock);
    request->mail = l->finished;
    l->finished = request;
    pthread_mutex_unlock(&l->lock);
    wake(l);
}

void loop_stop(struct loop *l, int64_t close_by)
{
    pthread_mutex_lock(&l->lock);
    l->close_by = close_by;
    pthread_mutex_unlock(&l->lock);
    wake(l);
}

static void take_table(struct loop *l, struct table *table)
{
    batcher_use(l->batcher, table, l->room);
    table_release(l->table);
    l->table = table;
    pthread_mutex_lock(&l->lock);
    l->room = NULL;
    l->table_waits = NULL;
    pthread_cond_signal(&l->taken);
    pthread_mutex_unlock(&l->lock);
}

static void finish_all(struct http_request *finished)
{
    for (struct http_request *next; finished; finished = next) {
        next = finished->mail;
        http_finish(finished, finished->status);
    }
}

/* Returns the time at which to end, or 0. `taken` has room for LOOP_MAILBOX connections. */
static int64_t read_mailbox(struct loop *l, struct accepted *taken)
{
    uint64_t count;
    if (read(l->wake, &count, sizeof count) < 0)
        count = 0;
    pthread_mutex_lock(&l->lock);
    atomic_store(&l->mail, false);
    atomic_store(&l->woken, false);
    int n = l->n_accepted;
    memcpy(taken, l->accepted, (size_t)n * sizeof *taken);
    l->n_accepted = 0;
    struct table *table = l->table_waits;
    struct http_request *finished = l->finished;
    l->finished = NULL;
    int64_t close_by = l->close_by;
    pthread_mutex_unlock(&l->lock);

    if (table)
        take_table(l, table);
    finish_all(finished);
    for (int i = 0; i < n; i++) {
        counter_add(&l->counters->connections, 1);
        http_add(l->http, taken[i].socket, (struct sockaddr *)&taken[i].address, taken[i].size);
    }
    return close_by;
}

/* the thread */

/* Whether a loop that gets no connections any more has nothing left to do. An open connection
 * may be about to send a request: it gets a little time. */
static bool is_over(struct loop *l, int64_t now, uint64_t *finished, int64_t *quiet_since)
{
    if (http_n_requests(l->http) > 0 || http_n_finished(l->http) != *finished) {
        *finished = http_n_finished(l->http);
        *quiet_since = now;
        return false;
    }
    return http_n_connections(l->http) == 0 || now - *quiet_since > CLOSING_QUIET * 1000000LL;
}

/* The loops end together: what is open at one would be neither answered nor closed while
 * another one still waits for a request. */
static bool ends(struct loop *l, int64_t close_by, uint64_t *finished, int64_t *quiet_since)
{
    const struct server *s = l->server;
    int64_t now = clock_now();

    if (now >= close_by)
        return true;
    atomic_store(&l->over, is_over(l, now, finished, quiet_since));
    for (int i = 0; i < s->n_loops; i++)
        if (!atomic_load(&s->loops[i].over))
            return false;
    return true;
}

static void let_others_run(struct loop *l)
{
    int64_t began = clock_now();
    if (!yielding_is_due(&l->yielding, began, http_n_begun(l->http)))
        return;
    sched_yield();
    yielding_done(&l->yielding, clock_now() - began);
}

static void *run_loop(void *arg)
{
    struct loop *l = arg;
    struct accepted *taken = l->accepted + LOOP_MAILBOX;
    int64_t close_by = 0, quiet_since = 0;
    uint64_t finished = 0;

    for (;;) {
        struct epoll_event events[EVENTS];
        int wait = http_timeout(l->http);
        if (close_by && (wait < 0 || wait > CLOSING_TURN))
            wait = CLOSING_TURN;
        if (wait != 0)
            let_others_run(l);
        int n = epoll_wait(l->poll, events, EVENTS, wait);
        /* Woken without mail, too: it was read before the one who gave it had written, and
         * what he wrote would wake for ever. */
        bool woken = false;
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr == l)
                woken = true;
            else if (events[i].data.ptr)
                http_hangup(l->http, events[i].data.ptr);
        do {
            if (woken || atomic_load(&l->mail)) {
                int64_t stop = read_mailbox(l, taken);
                if (stop && !close_by)
                    quiet_since = clock_now();
                close_by = stop;
                woken = false;
            }
            http_run(l->http); /* reads, fills the batches, and answers */
        } while (batcher_run(l->batcher));
        if (close_by && ends(l, close_by, &finished, &quiet_since))
            break;
    }
    return NULL;
}

static int open_parts(struct loop *l, struct nn_error *error)
{
    const struct options *o = l->server->options;
    int n = l->server->n_loops;
    int64_t share = BYTES / n > o->max_body ? BYTES / n : o->max_body;
    l->counters = aligned_alloc(64, sizeof *l->counters);
    if (!l->counters)
        return nn_fail(error, "out of memory");
    memset(l->counters, 0, sizeof *l->counters);

    l->poll = epoll_create1(EPOLL_CLOEXEC);
    if (l->poll < 0)
        return nn_fail(error, "cannot start an event loop: out of descriptors");
    struct http_application application = {.owner = l,
                                           .begin = api_begin,
                                           .answer = api_answer,
                                           .suspended = api_suspended,
                                           .finished = api_finished,
                                           .max_body = (size_t)o->max_body,
                                           .max_bytes = (size_t)share,
                                           .pack_from = (size_t)o->compress_min,
                                           .max_connections = l->server->max_connections,
                                           .poll = l->poll,
                                           .header_timeout = (int64_t)(o->header_timeout * 1e9),
                                           .body_timeout = (int64_t)(o->body_timeout * 1e9),
                                           .idle_timeout = (int64_t)(o->idle_timeout * 1e9),
                                           .tls = l->admin ? l->server->guards.admin_tls
                                                           : l->server->guards.tls,
                                           .draining = &l->server->draining,
                                           .counters = &l->counters->connection};
    struct batcher_settings settings = {.loop = l->index,
                                        .workers = l->server->workers,
                                        .max_queue = o->max_queue,
                                        .max_batch = o->max_batch,
                                        .max_instances = o->max_instances,
                                        .deadline = o->deadline * 1000000};

    l->http = http_open(&application, error);
    if (!l->http)
        return -1;
    l->batcher = batcher_new(&settings);
    l->accepted = calloc(2 * LOOP_MAILBOX, sizeof *l->accepted);
    l->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!l->batcher || !l->accepted || l->wake < 0)
        return nn_fail(error, "cannot start an event loop: out of memory or descriptors");

    struct epoll_event mail = {.events = EPOLLIN, .data.ptr = l};
    struct epoll_event requests = {.events = EPOLLIN};
    if (epoll_ctl(l->poll, EPOLL_CTL_ADD, l->wake, &mail) < 0 ||
        epoll_ctl(l->poll, EPOLL_CTL_ADD, http_descriptor(l->http), &requests) < 0)
        return nn_fail(error, "cannot start an event loop: epoll_ctl failed");
    return 0;
}

uint64_t loop_release(struct loop *l)
{
    uint64_t lost = 0;
    finish_all(l->finished);
    if (l->http)
        http_close(l->http);
    if (l->counters)
        lost = counter_read(&l->counters->lost);
    batcher_free(l->batcher);
    table_release(l->table);
    for (int i = 0; i < l->n_accepted; i++)
        close(l->accepted[i].socket);
    free(l->accepted);
    free(l->room);
    free(l->counters);
    if (l->poll >= 0)
        close(l->poll);
    if (l->wake >= 0)
        close(l->wake);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->taken);
    return lost;
}

int loop_start(struct loop *l, const struct server *server, int index, struct nn_error *error)
{
    int64_t queue = server->options->max_queue;
    int data_loops = server->n_loops - 1;
    *l = (struct loop){.server = server,
                       .index = index,
                       .admin = index == data_loops,
                       .max_in_work = (queue + data_loops - 1) / data_loops,
                       .poll = -1,
                       .wake = -1};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->taken, NULL);
    if (open_parts(l, error) < 0)
        goto fail;
    if (pthread_create(&l->thread, NULL, run_loop, l) != 0) {
        nn_fail(error, "cannot start an event loop: no thread");
        goto fail;
    }
    return 0;

fail:
    loop_release(l);
    return -1;
}

void loop_join(struct loop *l)
{
    pthread_join(l->thread, NULL);
}
