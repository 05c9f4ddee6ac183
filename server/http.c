/*
 * What libmicrohttpd 0.9.75 asks of whoever uses it:
 *
 * - A response queued on the handler's first call closes the connection, and one queued while
 *   the body is still coming is cut off by a reset: proxies turn that into 502. So a refusal
 *   waits until its body was read and dropped, and every answer is given on the final call.
 * - The library decodes %00 and %2e in place: the unescape callback leaves paths alone.
 * - The timeout is one of inactivity only: a byte a minute keeps a connection. It is off, and
 *   watch.h keeps the time.
 * - Suspending and resuming costs four system calls. A handler that answers nothing on the
 *   final call is called again by the next MHD_run(): that is how a request waits for the
 *   batch of its own turn, and how a body is unpacked over many.
 * - It never rests while a chunk's first line fills its buffer without an end: see stall.h.
 * - A client's end that comes together with its last bytes goes unnoticed: see hangup.h.
 * - In external epoll mode nothing that another thread does wakes the daemon: all calls come
 *   from the loop's thread.
 */
#include "server/http.h"

#include "server/clock.h"
#include "server/framing.h"
#include "server/hangup.h"
#include "server/http_request.h"
#include "server/number.h"
#include "server/stall.h"
#include "server/watch.h"
#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    CONNECTION_MEMORY = 32 << 10, /* headers, and a body's piece; cleared per request */
    MAX_WAIT = 60000,             /* milliseconds */
    UNPACKING = 256 << 10,        /* bytes of bodies in a turn: about a millisecond */
};

_Static_assert((int)FRAMING_FAULTS <= (int)METRICS_FAULTS, "a counter for each");

/* A connection. */
struct peer {
    struct watched watched;     /* first: it is found by it */
    const char *target_end;     /* of the request that is being read */
    struct tls_pair *pair;      /* that it is presented; NULL: the connection is plain */
    struct hangup hangup;
};

struct http_daemon {
    struct http_application application;
    struct watch watch;
    struct hangups hangups;
    struct MHD_Daemon *library;
    int descriptor;
    struct http_request *suspending, *suspended;
    struct pacing pacing;
    struct http_pool pool;
    atomic_int n_connections;
    struct stall stall;
    size_t unpacking; /* bytes of work that are left for it in this turn */
    bool unfinished;  /* a body waits for the next turn to be unpacked further */
    bool closing;     /* nobody would finish what the application takes now */
};

const char *http_header(const struct http_request *r, const char *name)
{
    return r->connection ? MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name)
                         : NULL;
}

void http_client_address(const struct http_request *r, char text[HTTP_ADDRESS_SIZE])
{
    const union MHD_ConnectionInfo *info =
        r->connection
            ? MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)
            : NULL;
    const struct sockaddr *address = info ? info->client_addr : NULL;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;

    *text = 0;
    if (address && address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text,
                  HTTP_ADDRESS_SIZE);
    else if (address && address->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
        inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, text, HTTP_ADDRESS_SIZE);
    else if (address && address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &v6->sin6_addr, text, HTTP_ADDRESS_SIZE);
}

static bool is_draining(const struct http_daemon *d)
{
    return atomic_load_explicit(d->application.draining, memory_order_relaxed);
}

/* the library's callbacks */

static bool add_header(struct MHD_Response *response, const char *name, const char *value)
{
    return MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool add_number(struct MHD_Response *response, const char *name, size_t value)
{
    char text[NUMBER_MAX_TEXT + 1];
    text[number_write_integer(text, (int64_t)value)] = 0;
    return add_header(response, name, text);
}

/* False: no memory. */
static bool add_headers(const struct http_request *r, struct MHD_Response *response)
{
    bool all = true;
    if (r->status != 204)
        all &= add_header(response, "Content-Type",
                          r->answer_type ? r->answer_type : "application/json");
    all &= add_header(response, "X-Request-ID", r->id);
    for (int i = 0; i < r->n_fields; i++)
        all &= add_header(response, r->fields[i].name, r->fields[i].value);
    if (r->retry_after)
        all &= add_number(response, "Retry-After", (size_t)r->retry_after);
    if (r->answer_json_length)
        all &= add_number(response, "Inference-Header-Content-Length", r->answer_json_length);
    if (r->closes || is_draining(r->daemon))
        all &= add_header(response, "Connection", "close");
    return all;
}

static enum MHD_Result send_answer(struct http_request *r)
{
    static const char no_memory[] = "{\"error\":\"out of memory\"}";
    const char *body = no_memory;
    size_t size = sizeof no_memory - 1;

    http_body_drop(r); /* a slow reader holds nothing but its answer */
    if (!r->answer.failed)
        http_answer_prepare(r);
    if (r->answer.failed) {
        r->status = 500;
        r->answer_type = NULL;
        r->answer_json_length = 0;
    } else {
        body = r->answer.data;
        size = r->answer.size;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, (void *)body, MHD_RESPMEM_PERSISTENT);
    if (!response)
        return MHD_NO;
    /* An answer without the header that says how to read it would be misread. */
    enum MHD_Result result =
        add_headers(r, response)
            ? MHD_queue_response(r->connection, (unsigned)r->status, response)
            : MHD_NO;
    MHD_destroy_response(response);
    watch_enter(&r->daemon->watch, &r->peer->watched, WATCH_ANSWER, clock_about());
    return result;
}

static struct peer *peer_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
        ->socket_context;
}

/* The only answer that is given on the first call: what follows such headers is no body and
 * no request to anybody. */
static enum MHD_Result refuse(struct http_request *r, enum framing_fault fault)
{
    const struct framing_answer *answer = &framing_answers[fault];
    counter_add(&r->daemon->application.counters->faults[fault], 1);
    r->status = http_error(r, answer->status, "%s", answer->text);
    r->closes = true;
    return send_answer(r);
}

/* One pass for all that is looked at in any request. */
static enum MHD_Result read_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   size_t size, const char *value, size_t value_size)
{
    (void)kind, (void)value_size;
    if (value)
        http_headers_add(cls, name, size, value);
    return MHD_YES;
}

/* The first call: headers only. */
static enum MHD_Result begin(struct http_daemon *d, struct MHD_Connection *connection,
                             struct framing_line *line, void **state)
{
    struct peer *peer = peer_of(connection);
    struct http_request *r = peer ? http_request_new(&d->pool) : NULL;
    struct http_headers headers = {0};

    if (!r)
        return MHD_NO;
    *state = r;
    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, read_header, &headers);
    r->daemon = d;
    r->connection = connection;
    r->peer = peer;
    r->path = framing_path(line->url);
    http_request_begin(r, line->method, &headers);
    line->target_end = peer->target_end;

    enum framing_fault fault = framing_check(connection, line);
    if (fault)
        return refuse(r, fault);
    watch_enter(&d->watch, &peer->watched, WATCH_BODY, r->began);
    r->status = d->application.begin(r);
    http_body_begin(r, &headers);
    if (headers.length > HTTP_DROPPED_BODY && r->status) {
        r->closes = true;       /* not worth reading: the reset is accepted */
        return send_answer(r);
    }
    return MHD_YES;
}

/* Not from within the handler: the library would not note that the request is complete, and
 * read on when it is resumed. The end of a client that has said all it will say would be taken
 * for that of its connection. */
static void suspend(struct http_request *r)
{
    struct http_daemon *d = r->daemon;
    d->application.suspended(r);
    r->next = d->suspending;
    d->suspending = r;
}

static void suspend_all(struct http_daemon *d)
{
    for (struct http_request *r = d->suspending, *next; r; r = next) {
        next = r->next;
        if (!r->connection)
            continue; /* gone meanwhile */
        MHD_suspend_connection(r->connection);
        r->suspended = true;
        r->previous = NULL;
        r->next = d->suspended;
        if (r->next)
            r->next->previous = r;
        d->suspended = r;
    }
    d->suspending = NULL;
}

static void resume(struct http_request *r)
{
    if (r->previous)
        r->previous->next = r->next;
    else
        r->daemon->suspended = r->next;
    if (r->next)
        r->next->previous = r->previous;
    r->suspended = false;
    MHD_resume_connection(r->connection);
}

/* Whether the refusal has to wait for its turn. A server that stops lets nobody wait. */
static bool wait_for_refusal(struct http_request *r)
{
    struct http_daemon *d = r->daemon;
    if (r->refused || d->closing || is_draining(d) ||
        (r->shed != SHED_FULL && r->shed != SHED_BYTES))
        return false;
    r->refused = true;
    if (!pacing_keep(&d->pacing, &r->paced, clock_now()))
        return false;
    watch_leave(&d->watch, &r->peer->watched); /* its body has come, or is not to come */
    http_body_drop(r);
    r->waiting = true;
    suspend(r);
    return true;
}

static void end(struct http_request *r, bool sent)
{
    r->daemon->application.finished(r, sent);
    http_request_free(r);
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **state)
{
    struct http_daemon *d = cls;
    struct http_request *r = *state;

    stall_over(&d->stall);
    if (!r) {
        struct framing_line line = {.method = method, .url = path, .version = version};
        return begin(d, connection, &line, state);
    }
    hangup_look(&d->hangups, &r->peer->hangup);
    if (*size) {
        stall_progress(&r->peer->watched);
        bool goes_on = http_body_take(r, data, *size);
        *size = 0;
        return goes_on ? MHD_YES : MHD_NO;
    }
    if (r->waiting)
        return MHD_YES;
    if (!r->status) {
        watch_leave(&d->watch, &r->peer->watched);
        if (!http_body_finish(r, &d->unpacking)) {
            d->unfinished = true;
            return MHD_YES; /* and is called again */
        }
    }
    if (!r->status && d->closing)
        r->status = http_refuse_at_end(r);
    if (!r->status) {
        int status = d->application.answer(r);
        if (status == HTTP_PENDING || status == HTTP_SUSPENDED) {
            r->waiting = true;
            if (status == HTTP_SUSPENDED)
                suspend(r);
            return MHD_YES;
        }
        r->status = status;
    }
    return wait_for_refusal(r) ? MHD_YES : send_answer(r);
}

void http_finish(struct http_request *r, int status)
{
    r->status = status;
    r->waiting = false;
    if (r->connection && !r->answer.failed)
        http_answer_hold(r);
    if (r->suspended)
        resume(r);
    else if (!r->connection)
        end(r, false);
}

/* A request that waits is still in somebody's hands: then http_finish() ends it. */
static void completed(void *cls, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode code)
{
    struct http_daemon *d = cls;
    struct http_request *r = *state;
    struct peer *peer = peer_of(connection);
    *state = NULL;
    if (peer) {
        watch_enter(&d->watch, &peer->watched, WATCH_IDLE, clock_about());
        hangup_look(&d->hangups, &peer->hangup);
    }
    if (r && r->waiting) {
        r->connection = NULL;
        r->path = "";           /* was the connection's */
        r->peer = NULL;
    } else if (r) {
        end(r, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    }
}

/* A request's first line was read. What is returned becomes *state. */
static void *line_read(void *cls, const char *target, struct MHD_Connection *connection)
{
    struct http_daemon *d = cls;
    struct peer *peer = peer_of(connection);
    stall_over(&d->stall);
    if (!peer)
        return NULL;
    peer->target_end = framing_target_end(target);
    if (peer->watched.stage == WATCH_IDLE)
        watch_enter(&d->watch, &peer->watched, WATCH_HEADER, clock_about());
    return NULL;
}

/* The library's own way to renew certificates is a callback that is told nothing of whose
 * connection it is for, and copies for every handshake. Here each connection holds the pair
 * that was valid when it began. */
static int present_certificate(struct http_daemon *d, struct MHD_Connection *connection,
                               struct peer *peer)
{
    if (!d->application.tls)
        return 0;
    peer->pair = tls_take(d->application.tls);
    return tls_present(
        peer->pair,
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session);
}

static void connection_changed(void *cls, struct MHD_Connection *connection, void **context,
                               enum MHD_ConnectionNotificationCode code)
{
    struct http_daemon *d = cls;
    bool started = code == MHD_CONNECTION_NOTIFY_STARTED;
    struct peer *peer = *context;

    stall_over(&d->stall);
    atomic_fetch_add_explicit(&d->n_connections, started ? 1 : -1, memory_order_relaxed);
    if (!started) {
        if (peer) {
            watch_leave(&d->watch, &peer->watched);
            hangup_forget(&d->hangups, &peer->hangup);
            tls_release(peer->pair);
        }
        free(peer);
        *context = NULL;
        return;
    }
    int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    peer = calloc(1, sizeof *peer);
    *context = peer;
    if (peer)
        peer->watched = (struct watched){.socket = fd, .stage = WATCH_NONE};
    if (!peer || present_certificate(d, connection, peer) < 0) {
        shutdown(fd, SHUT_RDWR);
        return;
    }
    watch_enter(&d->watch, &peer->watched, WATCH_HEADER, clock_about());
    hangup_watch(&d->hangups, &peer->hangup, fd);
}

static size_t leave_escaped(void *cls, struct MHD_Connection *connection, char *text)
{
    (void)cls, (void)connection;
    return strlen(text);
}

/* What the library wants to say about a single connection is of no use to anybody. */
static void ignore_message(void *cls, const char *format, va_list arguments)
{
    (void)cls, (void)format, (void)arguments;
}

/* daemons */

static struct MHD_Daemon *start_library(struct http_daemon *d)
{
    const struct http_application *a = &d->application;
    struct tls_pair *pair = a->tls ? tls_take(a->tls) : NULL;
    struct MHD_OptionItem secure[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, pair ? (void *)tls_certificate(pair) : NULL},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, pair ? (void *)tls_key(pair) : NULL},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)TLS_PRIORITIES},
        {MHD_OPTION_END, 0, NULL}};
    struct MHD_Daemon *library = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
            MHD_USE_ERROR_LOG | (pair ? MHD_USE_TLS : 0),
        0, NULL, NULL, handle, d, MHD_OPTION_EXTERNAL_LOGGER, ignore_message, NULL, /* first */
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)a->max_connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_STRICT_FOR_CLIENT, 0,
        MHD_OPTION_URI_LOG_CALLBACK, line_read, d, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped,
        NULL, MHD_OPTION_NOTIFY_COMPLETED, completed, d, MHD_OPTION_NOTIFY_CONNECTION,
        connection_changed, d, MHD_OPTION_ARRAY, pair ? secure : secure + 3, MHD_OPTION_END);
    tls_release(pair); /* read by now */
    return library;
}

struct http_daemon *http_open(const struct http_application *application, struct nn_error *error)
{
    struct http_daemon *d = calloc(1, sizeof *d);
    if (!d) {
        nn_fail(error, "out of memory");
        return NULL;
    }
    d->application = *application;
    d->watch = (struct watch){.limits = {[WATCH_HEADER] = application->header_timeout,
                                         [WATCH_BODY] = application->body_timeout,
                                         [WATCH_ANSWER] = application->body_timeout,
                                         [WATCH_IDLE] = application->idle_timeout},
                              .cut = application->counters->cut};
    d->hangups.poll = application->poll;
    http_pool_init(&d->pool, &d->application);
    d->library = start_library(d);
    if (!d->library) {
        free(d);
        nn_fail(error, "libmicrohttpd does not start");
        return NULL;
    }
    d->descriptor = MHD_get_daemon_info(d->library, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    return d;
}

void http_close(struct http_daemon *d)
{
    d->closing = true;
    while (pacing_end(&d->pacing))
        continue;
    /* The library aborts when it is stopped with a suspended connection. */
    while (d->suspended)
        http_finish(d->suspended, http_refuse_at_end(d->suspended));
    MHD_run(d->library); /* resumes, and asks for the answers */
    MHD_run(d->library); /* and sends them */
    MHD_stop_daemon(d->library);
    http_pool_release(&d->pool);
    free(d);
}

void http_add(struct http_daemon *d, int socket, const struct sockaddr *address, socklen_t size)
{
    /* On failure, and beyond the limit, the library closes the socket. */
    if (MHD_add_connection(d->library, socket, address, size) != MHD_YES)
        counter_add(&d->application.counters->refused, 1);
}

int http_descriptor(const struct http_daemon *d)
{
    return d->descriptor;
}

int http_timeout(struct http_daemon *d)
{
    MHD_UNSIGNED_LONG_LONG timeout;
    int64_t next = watch_next(&d->watch), due = pacing_due(&d->pacing), left;
    if (d->unfinished)
        return 0;
    if (MHD_get_timeout(d->library, &timeout) == MHD_YES && timeout == 0)
        return stall_is_quiet(&d->stall) ? 1 : 0;
    if (due && (!next || due < next))
        next = due;
    if (!next)
        return -1;
    left = next - clock_now();
    if (left <= 0)
        return 0;
    return left > MAX_WAIT * 1000000LL ? MAX_WAIT : (int)(left / 1000000) + 1;
}

void http_hangup(struct http_daemon *d, void *event)
{
    hangup_note(&d->hangups, event);
}

static struct http_request *request_of(struct paced *paced)
{
    return (struct http_request *)((char *)paced - offsetof(struct http_request, paced));
}

static void finish_refusals(struct http_daemon *d)
{
    bool all = is_draining(d);
    struct paced *paced;
    int64_t now;

    if (!d->pacing.first)
        return;
    now = clock_now();
    while ((paced = all ? pacing_end(&d->pacing) : pacing_take(&d->pacing, now)))
        http_finish(request_of(paced), request_of(paced)->status);
}

void http_run(struct http_daemon *d)
{
    finish_refusals(d);
    stall_turn(&d->stall, &d->watch, clock_about());
    d->unpacking = UNPACKING;
    d->unfinished = false;
    MHD_run(d->library);
    suspend_all(d);
    hangup_pass_on(&d->hangups);
    /* Only now: what came while the thread was busy was read and is no reason to cut. */
    if (watch_next(&d->watch))
        watch_cut(&d->watch, clock_now());
}

int http_n_connections(const struct http_daemon *d)
{
    return atomic_load_explicit(&d->n_connections, memory_order_relaxed);
}

int http_n_requests(const struct http_daemon *d)
{
    return atomic_load_explicit(&d->pool.n_requests, memory_order_relaxed);
}

uint64_t http_n_begun(const struct http_daemon *d)
{
    return d->pool.n_finished + (uint64_t)http_n_requests(d);
}

uint64_t http_n_finished(const struct http_daemon *d)
{
    return d->pool.n_finished;
}

const char *http_library(void)
{
    return MHD_get_version();
}
