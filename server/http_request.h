/*
 * Requests as http.c holds them, without the library: their memory, what their headers say,
 * and their bodies as far as these are read.
 *
 * For http.c only. A pool belongs to a daemon and its thread.
 */
#ifndef SERVER_HTTP_REQUEST_H
#define SERVER_HTTP_REQUEST_H

#include "server/http.h"

struct http_pool {
    const struct http_application *application;
    struct http_request *free; /* linked by next */
    int n_free;
    atomic_int n_requests; /* not finished; any thread reads */
    uint64_t n_finished, next_id;
    size_t bytes;          /* of all bodies, what unpacks them, and answers that are sent */
    struct packer *packer; /* NULL: nothing was packed yet */
    unsigned id;   /* of this pool, in the ids of its requests */
};

/* The headers that are looked at in any request. */
struct http_headers {
    const char *content_type, *id, *json_length, *content_encoding;
    struct coding_wishes wishes; /* of the answer */
    uint64_t length; /* of the body; 0 also when it is not known */
};

/* The application has to stay. */
void http_pool_init(struct http_pool *pool, const struct http_application *application);
void http_pool_release(struct http_pool *pool);

/* NULL: no memory. */
struct http_request *http_request_new(struct http_pool *pool);
void http_request_free(struct http_request *request);

/* Takes note of a header when it is one of ours. The library has refused lengths that are no
 * numbers. */
void http_headers_add(struct http_headers *headers, const char *name, size_t size,
                      const char *value);
void http_request_begin(struct http_request *request, const char *method,
                        const struct http_headers *headers);

/* What the body is known to be before it comes. Sets status when it is refused, unless it is
 * refused already. */
void http_body_begin(struct http_request *request, const struct http_headers *headers);

/* A piece of it. False: too much of a refused body came, the connection is to be closed. */
bool http_body_take(struct http_request *request, const char *data, size_t size);

/* All of it came. Unpacks what is packed, as far as `*work` allows, which is lowered by the
 * bytes that this took. False: call again. Sets status when the body is refused after all. */
bool http_body_finish(struct http_request *request, size_t *work);

/* Lets go of its memory. */
void http_body_drop(struct http_request *request);

/* Counts the bytes of an answer that waits to be sent, until the request is freed. A large one
 * is replaced by a refusal where too many are held: of one turn of the loop, or for clients
 * that send little and read nothing, there could otherwise be any number of them. */
void http_answer_hold(struct http_request *request);

/* Before it is sent: holds it, and packs it where its client asks for that and it is worth it.
 */
void http_answer_prepare(struct http_request *request);

/* Empties a buffer that is kept, and keeps its memory unless it is much. */
void http_buffer_empty(struct buffer *buffer);

#endif
