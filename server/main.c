/*
 * predictd: serves the models of a folder over HTTP.
 *
 * The main thread accepts connections and takes signals; event loops answer (loop.h); the
 * registry's thread loads models (registry.h).
 */
#include "server/clock.h"
#include "server/guards.h"
#include "server/healthcheck.h"
#include "server/log.h"
#include "server/loop.h"
#include "server/options.h"
#include "server/print_config.h"
#include "server/registry.h"
#include "server/system.h"
#include "server/workers.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOP_DESCRIPTORS = 3,       /* of a loop itself */
    OTHER_DESCRIPTORS = 5,      /* kept for reading models and for accepting */
    NO_DESCRIPTORS_PAUSE = 100, /* milliseconds without accepting when there are none */
    BUSY_PAUSE = 2,             /* the same when no loop has taken what it was given */
    ACCEPTED_AT_ONCE = 64,      /* before signals and the other listener have their turn */
    WAITING_BYTES = 256 << 20,  /* of rows that wait for workers */
};

enum { DATA, ADMIN, LISTENERS };

struct acceptor {
    struct server *server;
    int listeners[LISTENERS];
    unsigned turn;              /* whose is the next connection */
    int pause;                  /* milliseconds; 0: none */
    bool warned;                /* since the last connection that was accepted */
};

/* signals */

/* Handlers, and not signalfd with every signal blocked: OpenBLAS starts threads when it is
 * loaded, before main() could block anything, and the kernel may choose one of them. */
static int signal_pipe[2] = {-1, -1};
/* One more signal ends the process, wherever it is. */
static atomic_bool ending;

static void on_signal(int signal)
{
    int saved = errno;
    unsigned char byte = (unsigned char)signal;
    if (signal != SIGHUP && atomic_exchange(&ending, true))
        _exit(128 + signal);
    ssize_t written = write(signal_pipe[1], &byte, 1);
    (void)written; /* a full pipe will be read */
    errno = saved;
}

static int catch_signals(struct nn_error *error)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    if (pipe2(signal_pipe, O_NONBLOCK | O_CLOEXEC) < 0)
        return nn_fail(error, "out of descriptors");
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    return 0;
}

/* accepting */

/* The next in turn that has room; beyond the limit of all, one that closes the connection.
 * NULL: they are too busy to take any, which may wait in the kernel meanwhile. */
static struct loop *next_loop(struct acceptor *a, int listener)
{
    struct server *s = a->server;
    int data_loops = s->n_loops - 1;
    struct loop *found = NULL;

    if (listener == ADMIN)
        return loop_has_room(&s->loops[data_loops]) ? &s->loops[data_loops] : NULL;
    for (int i = 0; i < data_loops; i++) {
        struct loop *loop = &s->loops[(a->turn + (unsigned)i) % (unsigned)data_loops];
        if (!loop_has_room(loop))
            continue;
        found = loop;
        if (http_n_connections(loop->http) < s->max_connections)
            break;
    }
    return found;
}

/* What the kernel has queued, up to so many connections. Returns how many. */
static int accept_some(struct acceptor *a, int listener, int most)
{
    for (int n = 0; n < most;) {
        struct accepted accepted = {.size = sizeof accepted.address};
        struct loop *loop = next_loop(a, listener);
        if (!loop) {
            a->pause = a->pause ? a->pause : BUSY_PAUSE;
            return n;
        }
        accepted.socket = accept4(a->listeners[listener], (struct sockaddr *)&accepted.address,
                                  &accepted.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted.socket >= 0) {
            a->warned = false;
            if (listener == DATA)
                a->turn = (unsigned)loop->index + 1;
            loop_give(loop, &accepted);
            n++;
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            if (!a->warned)
                log_event(LOG_WARNING, "cannot accept", LOG_TEXT("reason", strerror(errno)));
            a->warned = true;
            a->pause = NO_DESCRIPTORS_PAUSE;
        }
        return n;
    }
    return most;
}

/* What the kernel has queued by now, as soon as the loops have room for it; others may come for
 * ever. */
static void accept_rest(struct acceptor *a, int listener, int64_t until)
{
    int left = SYSTEM_QUEUE + 1;
    do {
        a->pause = 0;
        left -= accept_some(a, listener, left);
        if (a->pause)
            poll(NULL, 0, BUSY_PAUSE);
    } while (left > 0 && a->pause == BUSY_PAUSE && clock_now() < until);
}

/* Accepts until a signal comes or, when `until` is not 0, that time does. Returns the signal
 * or 0. */
static int accept_until(struct acceptor *a, int64_t until)
{
    for (;;) {
        struct pollfd events[] = {{.fd = signal_pipe[0], .events = POLLIN},
                                  {.fd = a->listeners[DATA], .events = POLLIN},
                                  {.fd = a->listeners[ADMIN], .events = POLLIN}};
        int64_t left = until ? (until - clock_now() + 999999) / 1000000 : -1;
        if (until && left <= 0)
            return 0;
        if (a->pause && (left < 0 || left > a->pause))
            left = a->pause;
        poll(events, a->pause ? 1 : 3, (int)left);
        a->pause = 0;

        accept_some(a, DATA, ACCEPTED_AT_ONCE);
        accept_some(a, ADMIN, ACCEPTED_AT_ONCE);
        /* All hangups are one; what ends may stand behind them, or have found no room. */
        unsigned char signals[64];
        if (read(signal_pipe[0], signals, sizeof signals) > 0)
            return atomic_load(&ending) ? SIGTERM : SIGHUP;
    }
}

/* the server */

/* With every reload. */
static int refresh(void *context, struct nn_error *error)
{
    struct server *s = context;
    return guards_reload(&s->guards, error);
}

static int publish(void *context, struct table *table)
{
    struct server *s = context;
    char text[256];
    for (int i = 0; i < s->n_loops; i++)
        if (loop_prepare(&s->loops[i], table) < 0)
            return -1;
    for (int i = 0; i < s->n_loops; i++)
        loop_publish(&s->loops[i], table);
    atomic_store(&s->loaded, true);
    const char *problem = table_problem(table, text);
    log_event(problem ? LOG_WARNING : LOG_INFO, problem ? "not ready" : "ready",
              LOG_INTEGER("models", (int64_t)table->n), LOG_TEXT("reason", problem));
    if (s->options->default_model && table->n > 0 &&
        !table_find(table, s->options->default_model))
        log_event(LOG_WARNING, "no default model", LOG_TEXT("model", s->options->default_model),
                  LOG_TEXT("reason", "/predict is answered 404 until there is a model of this "
                                     "name"));
    return 0;
}

/* Threads that have nothing to do need a moment to end, however little time is left. */
static int64_t moment_after(int64_t time)
{
    int64_t moment = clock_now() + 100 * 1000000;
    return time > moment ? time : moment;
}

/* Serving goes on for the delay; then what the kernel has queued is taken, nobody is accepted
 * any more, and the loops finish. Returns the time by which all has to be over. */
static int64_t drain(struct acceptor *a)
{
    struct server *s = a->server;
    int64_t closing = clock_now() + (int64_t)(s->options->drain_delay * 1e9);
    int64_t close_by = closing + (int64_t)(s->options->drain_timeout * 1e9);

    atomic_store(&s->draining, true);
    log_event(LOG_INFO, "draining", LOG_REAL("delay", s->options->drain_delay),
              LOG_REAL("timeout", s->options->drain_timeout));
    while (accept_until(a, closing))
        ;                       /* no reloads any more */
    for (int i = 0; i < LISTENERS; i++) {
        accept_rest(a, i, close_by);
        close(a->listeners[i]);
    }
    if (!registry_stop(s->registry, moment_after(close_by))) {
        log_event(LOG_WARNING, "stopped while loading a model", LOG_TEXT("end", "at once"));
        _exit(0);
    }
    for (int i = 0; i < s->n_loops; i++)
        loop_stop(&s->loops[i], close_by);
    return close_by;
}

static void finish(struct http_request *request)
{
    loop_finish(request->owner, request);
}

static struct workers *open_workers(const struct server *s, struct nn_error *error)
{
    struct workers_settings settings = {.n = (int)s->options->workers,
                                        .first_counter = s->n_loops,
                                        .threads_of_model = nn_processors(),
                                        .max_instances = s->options->max_instances,
                                        .max_bytes = WAITING_BYTES,
                                        .finish = finish};
    return workers_open(&settings, error);
}

static int open_listeners(struct acceptor *a, const struct options *o, struct nn_error *error)
{
    int64_t port = o->port, admin_port = o->admin_port;

    a->listeners[DATA] = system_listen(o->host, &port, error);
    if (a->listeners[DATA] < 0)
        return -1;
    a->listeners[ADMIN] = system_listen(o->admin_host, &admin_port, error);
    if (a->listeners[ADMIN] < 0)
        return -1;
    log_event(LOG_INFO, "listening", LOG_TEXT("host", o->host), LOG_INTEGER("port", port),
              LOG_TEXT("admin_host", o->admin_host), LOG_INTEGER("admin_port", admin_port),
              LOG_INTEGER("threads", o->threads),
              LOG_TEXT("scheme", o->tls_cert ? "https" : "http"),
              LOG_TEXT("admin_scheme", o->admin_tls_cert ? "https" : "http"),
              LOG_TEXT("version", PREDICTD_VERSION));
    if (!o->admin_tls_cert && !system_is_loopback(o->admin_host))
        log_event(LOG_WARNING, "admin port without TLS",
                  LOG_TEXT("reason", "whoever can listen to the network between learns the "
                                     "token, unless it is encrypted in front"));
    return 0;
}

/* Returns how many loops were started. */
static int start_loops(struct server *s, struct nn_error *error)
{
    int64_t left = system_raise_descriptors() - system_descriptors() - OTHER_DESCRIPTORS -
                   LOOP_DESCRIPTORS * s->n_loops;
    int64_t share = left / s->n_loops;
    int64_t most = (s->options->max_connections + s->n_loops - 2) / (s->n_loops - 1);
    s->max_connections = (int)(share < most ? share : most);
    if (s->max_connections < 1)
        s->max_connections = 1;
    for (int i = 0; i < s->n_loops; i++)
        if (loop_start(&s->loops[i], s, i, error) < 0)
            return i;
    return s->n_loops;
}

static int serve(const struct options *o, struct nn_error *error)
{
    struct server server = {
        .options = o, .n_loops = (int)o->threads + 1, .started = time(NULL)};
    struct acceptor a = {.server = &server, .listeners = {-1, -1}};
    struct registry_settings settings = {.models = o->models,
                                         .n_counters = server.n_loops +
                                                       workers_counters((int)o->workers),
                                         .control = (enum model_control)o->model_control,
                                         .poll_interval = o->poll_interval,
                                         .load = o->load_model,
                                         .publish = publish,
                                         .refresh = refresh,
                                         .context = &server};
    int64_t close_by = INT64_MAX;
    int started = 0, result = -1;
    int64_t began = clock_now();
    uint64_t lost = 0;

    server.loops = calloc((size_t)server.n_loops, sizeof *server.loops);
    if (!server.loops) {
        nn_fail(error, "out of memory");
        goto done;
    }
    if (guards_open(&server.guards, o, error) < 0 || catch_signals(error) < 0 ||
        open_listeners(&a, o, error) < 0)
        goto done;
    nn_engine_start();
    server.workers = open_workers(&server, error);
    if (!server.workers)
        goto done;
    started = start_loops(&server, error);
    if (started < server.n_loops)
        goto done;
    server.registry = registry_open(&settings, error);
    if (!server.registry)
        goto done;

    while (accept_until(&a, 0) == SIGHUP)
        registry_reload(server.registry, NULL);
    close_by = drain(&a);
    result = 0;

done:
    for (int i = 0; i < started; i++) {
        if (result < 0)
            loop_stop(&server.loops[i], 1);
        loop_join(&server.loops[i]);
    }
    if (server.workers && !workers_stop(server.workers, moment_after(close_by))) {
        log_event(LOG_WARNING, "stopped while computing", LOG_TEXT("end", "at once"));
        _exit(result == 0 ? 0 : 1);
    }
    for (int i = 0; i < started; i++)
        lost += loop_release(&server.loops[i]);
    if (server.registry)
        registry_free(server.registry);
    guards_close(&server.guards);
    workers_free(server.workers);
    free(server.loops);
    if (result == 0)
        log_event(LOG_INFO, "stopped",
                  LOG_INTEGER("seconds", (clock_now() - began) / 1000000000),
                  LOG_INTEGER("lost", (int64_t)lost));
    return result;
}

static int check(const struct options *o, struct nn_error *error)
{
    struct guards guards;
    int result = guards_open(&guards, o, error);
    guards_close(&guards);
    nn_engine_start();
    const struct registry_settings settings = {.models = o->models, .load = o->load_model};
    return registry_check(&settings, o->default_model, error) < 0 ? -1 : result;
}

int main(int argc, char **argv)
{
    struct options options;
    struct nn_error error = {0};

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a log that may not grow is no reason to end */
    if (options_read(&options, argc, argv, &error) < 0)
        goto fail;
    log_set_level((enum log_level)options.log_level);
    if (options.help) {
        options_print_help(stdout);
        return 0;
    }
    if (options.version) {
        printf("predictd %s (libmicrohttpd %s)\n", PREDICTD_VERSION, http_library());
        return 0;
    }
    if (options.healthcheck) {
        if (healthcheck(&options, &error) < 0)
            goto fail;
        puts("ready");
        return 0;
    }
    options_warn_of_variables();
    if (options.print_config) {
        if (print_config(&options, stdout, &error) < 0)
            goto fail;
        return 0;
    }
    if (options.check) {
        if (check(&options, &error) < 0)
            goto fail;
        return 0;
    }
    if (serve(&options, &error) == 0)
        return 0;

fail:
    fprintf(stderr, "predictd: %s\n", error.text);
    return 1;
}
