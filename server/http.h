/*
 * The door to libmicrohttpd: connections in, requests out, answers back. Nobody else knows
 * the library.
 *
 * An http_daemon serves the connections that it is given and belongs to one thread. Handlers
 * are functions from a request to a status; what they answer is JSON unless they say
 * otherwise.
 */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include "engine/engine.h"
#include "server/buffer.h"
#include "server/coding.h"
#include "server/metrics.h"
#include "server/names.h"
#include "server/pacing.h"
#include "server/tls.h"
#include <stdatomic.h>
#include <sys/socket.h>

enum http_method {
    HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_OPTIONS,
    HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OTHER,      /* no route has one of these */
};

enum {
    /* Instead of a status, when http_finish() will be called: */
    HTTP_PENDING = 0,    /* before the next http_run(), which costs nothing */
    HTTP_SUSPENDED = -1, /* at any time, by the daemon's thread */
    HTTP_ID_SIZE = 64,
    HTTP_ADDRESS_SIZE = 46,   /* INET6_ADDRSTRLEN */
    HTTP_TRACE_ID_SIZE = 33,  /* 32 hexadecimal digits, and a NUL */
    HTTP_PARENT_ID_SIZE = 17, /* 16 of them */
    HTTP_FIELDS = 12,
    HTTP_DROPPED_BODY = 64 << 20, /* bytes of a refused body that are read and dropped
                                   * so that its connection can go on */
};

struct http_field {
    const char *name, *value;
};

struct http_request {
    /* what came; stays until the request is finished */
    enum http_method method;
    const char *verb;           /* the method as it was sent, a token */
    const char *path;           /* as it was sent: nothing decoded, without the query */
    const char *content_type;   /* NULL: none. Only until the body is read. */
    enum coding coding;         /* of the body as it comes; `body` is unpacked */
    int64_t json_length;        /* Inference-Header-Content-Length: bytes of JSON in front of
                                 * binary data; -1: no such header, -2: it is no number */
    struct buffer body;
    char id[HTTP_ID_SIZE];      /* the client's X-Request-ID where it is sane, or ours */
    int64_t began;              /* clock_now() when its headers had been read */

    /* the answer */
    int status;
    struct buffer answer;
    const char *answer_type;    /* NULL: application/json */
    int n_fields;
    struct http_field fields[HTTP_FIELDS]; /* further headers: http_add_field() */
    int retry_after;            /* seconds; 0: no such header */
    size_t answer_json_length;  /* as json_length; 0: no such header */

    /* the application's */
    void *owner;                /* of the daemon */
    const struct route *route;  /* NULL: none has this path */
    char model[MODEL_NAME_SIZE];                           /* that the path names, or "" */
    char version[MODEL_NAME_SIZE], label[MODEL_NAME_SIZE]; /* the same */
    bool admitted;              /* counts as a prediction in work */
    void *state;                /* what a codec remembers; freed with the request */
    struct stages stages;       /* of a prediction */
    int64_t served_version;     /* of the model, that the prediction went to; 0: none yet */
    enum shed shed;             /* set with http_shed() */
    char trace_id[HTTP_TRACE_ID_SIZE];   /* of its traceparent, or "": for the log */
    char parent_id[HTTP_PARENT_ID_SIZE]; /* the same */
    char client[HTTP_ADDRESS_SIZE];   /* its address; the same */
    int64_t timeout;            /* nanoseconds that it may wait for its turn; 0: not said */
    int64_t priority;           /* 1: before all others; 0: not said */

    /* http.c's */
    struct http_daemon *daemon;
    struct http_pool *pool; /* its */
    struct MHD_Connection *connection;
    struct peer *peer;          /* of the connection */
    struct http_request *previous, *next;       /* of those that are suspended */
    uint64_t received;                          /* bytes of body as they came */
    struct buffer packed;                       /* the body as it came, where it has a coding */
    struct unpacker *unpacker;                  /* NULL: none is needed, or not yet */
    enum coding answer_coding;                  /* that its client prefers */
    bool asks_coding, needs_coding;             /* it says so; it accepts no other */
    size_t held;                                /* bytes of its answer that count */
    bool waiting, suspended, closes;
    bool refused; /* for want of room, and has waited for that if it had to */
    struct paced paced;

    struct http_request *mail;  /* the next in a loop's mailbox */
};

struct http_application {
    void *owner;

    /* The headers were read, the body was not. Returns 0, or the status of a refusal: the
     * body is dropped, and then the request is answered with it. */
    int (*begin)(struct http_request *request);

    /* The request is complete. Returns its status, HTTP_PENDING or HTTP_SUSPENDED. */
    int (*answer)(struct http_request *request);

    /* It waits, for others or for its refusal: nothing of it is in work in this thread. */
    void (*suspended)(struct http_request *request);

    /* Its answer was sent, or its client is gone (then not `sent`). Its memory is reused. */
    void (*finished)(struct http_request *request, bool sent);

    size_t max_body;            /* bytes of one request */
    size_t max_bytes;           /* of the bodies and answers of all requests together; small
                                 * ones and one large answer may be beyond it */
    size_t pack_from;           /* bytes of the smallest answer that is packed; 0: none is */
    int max_connections;

    /* The epoll descriptor that the owner waits on. Its events for connections, which point to
     * something, are for http_hangup(). -1: what these tell shows only by the timeouts. */
    int poll;

    /* Nanoseconds from the connection or a request's first line to the end of its headers,
     * for a body to come and for an answer to be taken, and between two requests. */
    int64_t header_timeout, body_timeout, idle_timeout;

    struct tls *tls;                    /* NULL: connections are plain */
    const atomic_bool *draining;        /* answers say Connection: close */
    struct connection_counters *counters;
};

/* The application is copied; what it points to has to stay. NULL: the error says why. */
struct http_daemon *http_open(const struct http_application *application,
                              struct nn_error *error);

/* Answers what waits with 503, closes every connection. */
void http_close(struct http_daemon *daemon);

/* Takes an accepted, non-blocking socket over; closes it on failure, which is counted. */
void http_add(struct http_daemon *daemon, int socket, const struct sockaddr *address,
              socklen_t size);

/* Becomes readable when there is something to do, besides when http_timeout() is over. */
int http_descriptor(const struct http_daemon *daemon);
int http_timeout(struct http_daemon *daemon);           /* milliseconds; -1: none */

/* A connection will send no more than it has: before the next http_run(). */
void http_hangup(struct http_daemon *daemon, void *event);

/* Reads, calls the handlers, writes; never blocks. */
void http_run(struct http_daemon *daemon);

/* Ends the waiting of a request; the next http_run() sends its answer. */
void http_finish(struct http_request *request, int status);

int http_n_connections(const struct http_daemon *daemon);       /* any thread */
int http_n_requests(const struct http_daemon *daemon); /* being read or answered; any thread */
uint64_t http_n_begun(const struct http_daemon *daemon);        /* ever */
uint64_t http_n_finished(const struct http_daemon *daemon);     /* ever */

/* A header of a request that has not been answered, by its name in any case; NULL: there is
 * none, or its client is gone. */
const char *http_header(const struct http_request *request, const char *name);

/* Writes the numeric address of a request's client, or "". */
void http_client_address(const struct http_request *request, char text[HTTP_ADDRESS_SIZE]);

/* Makes {"error": text} the answer and returns the status. */
int http_error(struct http_request *request, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Notes why a request was turned away; returns the status. */
static inline int http_shed(struct http_request *request, enum shed why, int status)
{
    request->shed = why;
    return status;
}

/* Refuses what nobody will answer any more: the server ends. Returns the status, 503. */
int http_refuse_at_end(struct http_request *request);

/* One more header for the answer; the texts have to stay until it is sent. */
void http_add_field(struct http_request *request, const char *name, const char *value);

/* What libmicrohttpd calls itself. */
const char *http_library(void);

#endif
