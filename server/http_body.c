/*
 * Bodies: bounded as they come, unpacked, and packed as they go.
 *
 * A packed body is unpacked when all of it has come, a little in each turn of the loop: a
 * thousandth of its size may have come in one piece, and others wait for their answers. It is
 * bounded by what it unpacks to, as it unpacks.
 */
#include "server/http_request.h"

#include <string.h>

enum {
    ANNOUNCED = 1 << 20,   /* bytes that are made room for before any of them has come */
    PACKED_MOST = 1 << 20, /* bytes of an answer: more would hold others up for too long */
    SMALL = 64 << 10,      /* bytes of a body or an answer that may come and go whatever
                            * others hold: a connection has one of them at a time */
};

/* requests */

static int refuse_size(struct http_request *r)
{
    return http_error(r, 413, "the body has more than %zu bytes",
                      r->pool->application->max_body);
}

static int refuse_bytes(struct http_request *r)
{
    return http_shed(r, SHED_BYTES,
                     http_error(r, 503, "too many bytes of bodies and answers are in work"));
}

static int refuse_memory(struct http_request *r)
{
    return http_error(r, 503, "out of memory");
}

/* Whether there is no room for so many bytes more, with which the body as it comes would have
 * `size`. */
static bool is_too_much(const struct http_request *r, size_t more, size_t size)
{
    bool is_small = size <= SMALL && !r->coding;
    return !is_small && r->pool->bytes + more > r->pool->application->max_bytes;
}

void http_body_begin(struct http_request *r, const struct http_headers *headers)
{
    const struct http_application *a = r->pool->application;
    uint64_t length = headers->length;

    if (r->status)
        return;
    if (r->coding == CODING_UNKNOWN) {
        http_add_field(r, "Accept-Encoding", "gzip, deflate");
        r->status = http_error(r, 415, "content-encoding: expected gzip or deflate");
    } else if (length > a->max_body) {
        r->status = http_error(r, 413, "the body has %llu bytes; at most %zu are read",
                               (unsigned long long)length, a->max_body);
    } else if (length && is_too_much(r, length, length)) {
        r->status = refuse_bytes(r);
    } else if (length && !r->coding &&
               !buffer_reserve(&r->body, length < ANNOUNCED ? length : ANNOUNCED)) {
        r->status = refuse_memory(r);
    }
}

/* Returns 0 or a status. */
static int take(struct http_request *r, struct buffer *to, const char *data, size_t size)
{
    if (is_too_much(r, size, to->size + size))
        return refuse_bytes(r);
    buffer_add(to, data, size);
    if (to->failed)
        return refuse_memory(r);
    r->pool->bytes += size;
    return 0;
}

bool http_body_take(struct http_request *r, const char *data, size_t size)
{
    r->received += size;
    if (!r->status && r->received > r->pool->application->max_body)
        r->status = refuse_size(r);
    if (!r->status)
        r->status = take(r, r->coding ? &r->packed : &r->body, data, size);
    if (!r->status)
        return true;
    http_body_drop(r);
    return r->received <= HTTP_DROPPED_BODY;
}

/* Returns 0 or a status. */
static int open_unpacker(struct http_request *r)
{
    if (r->pool->bytes + UNPACKER_MEMORY > r->pool->application->max_bytes)
        return refuse_bytes(r);
    r->unpacker = unpacker_new(r->coding, r->packed.data, r->packed.size);
    if (!r->unpacker)
        return refuse_memory(r);
    r->pool->bytes += UNPACKER_MEMORY;
    return 0;
}

/* Returns 0 or a status; false in *done: there is more to do. */
static int unpack(struct http_request *r, size_t *work, bool *done)
{
    const struct http_application *a = r->pool->application;
    size_t before = r->body.size;
    size_t left = a->max_bytes > r->pool->bytes ? a->max_bytes - r->pool->bytes : 0;
    bool crowded = left < a->max_body - before;
    enum unpacked result =
        unpacker_run(r->unpacker, &r->body, crowded ? before + left : a->max_body, work);

    r->pool->bytes += r->body.size - before;
    *done = result != UNPACKED_SOME;
    switch (result) {
    case UNPACKED_ALL:
    case UNPACKED_SOME:
        return 0;
    case UNPACKED_LARGE:
        return crowded ? refuse_bytes(r) : refuse_size(r);
    case UNPACKED_BROKEN:
        return http_error(r, 400, "content-encoding: expected %s and nothing behind it",
                          coding_names[r->coding]);
    case UNPACKED_CUT:
        return http_error(r, 400, "content-encoding: the %s data ends too early",
                          coding_names[r->coding]);
    case UNPACKED_NO_MEMORY:
        break;
    }
    return refuse_memory(r);
}

static void drop_packed(struct http_request *r)
{
    if (r->unpacker)
        r->pool->bytes -= UNPACKER_MEMORY;
    unpacker_free(r->unpacker);
    r->unpacker = NULL;
    r->pool->bytes -= r->packed.size;
    buffer_release(&r->packed);
}

bool http_body_finish(struct http_request *r, size_t *work)
{
    bool done = true;

    if (r->status || r->packed.size == 0)
        return true;
    if (*work == 0)
        return false;
    if (!r->unpacker)
        r->status = open_unpacker(r);
    if (!r->status)
        r->status = unpack(r, work, &done);
    if (r->status)
        http_body_drop(r);
    else if (done)
        drop_packed(r);
    return done;
}

void http_body_drop(struct http_request *r)
{
    drop_packed(r);
    r->pool->bytes -= r->body.size;
    http_buffer_empty(&r->body);
}

/* answers */

/* Tensors in binary form are left alone: their bits do not become fewer. */
static bool is_worth_packing(const struct http_request *r)
{
    size_t size = r->answer.size;
    return size >= r->pool->application->pack_from && size <= PACKED_MOST &&
           !(r->answer_type && strcmp(r->answer_type, "application/octet-stream") == 0);
}

static void pack(struct http_request *r)
{
    struct http_pool *p = r->pool;

    /* What others keep for whoever asks next differs by what this one accepts. */
    if (p->application->pack_from == 0 || (!r->asks_coding && r->method == HTTP_POST))
        return;
    bool worth = is_worth_packing(r);
    if (r->asks_coding || worth)
        http_add_field(r, "Vary", "Accept-Encoding");
    if (!r->answer_coding || !(worth || r->needs_coding))
        return;
    if (!p->packer && !(p->packer = packer_new()))
        return;
    if (packer_pack(p->packer, r->answer_coding, &r->answer))
        http_add_field(r, "Content-Encoding", coding_names[r->answer_coding]);
}

static void count(struct http_request *r)
{
    r->pool->bytes += r->answer.size - r->held;
    r->held = r->answer.size;
}

void http_answer_hold(struct http_request *r)
{
    const struct http_pool *p = r->pool;

    if (r->answer.size > SMALL && p->bytes >= p->application->max_bytes) {
        buffer_release(&r->answer);
        r->status = refuse_bytes(r);
    }
    count(r);
}

void http_answer_prepare(struct http_request *r)
{
    if (!r->held)
        http_answer_hold(r);
    pack(r);
    count(r);
}
