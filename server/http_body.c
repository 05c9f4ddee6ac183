/*
 * Bodies: bounded as they come, unpacked, and packed as they go.
 *
 * A packed body counts by what it unpacks to, from its first byte: so little can become so much
 * that only the unpacked size says what a request costs.
 */
#include "server/http_request.h"

#include <string.h>

enum { PACKED_MOST = 4 << 20 }; /* bytes of an answer; packing more would hold others up */

/* requests */

static int refuse_size(struct http_request *r)
{
    return http_error(r, 413, "the body has more than %zu bytes",
                      r->pool->application->max_body);
}

static int refuse_bodies(struct http_request *r)
{
    return http_shed(r, SHED_BYTES, http_error(r, 503, "too many bytes of bodies are in work"));
}

static int refuse_memory(struct http_request *r)
{
    return http_error(r, 503, "out of memory");
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
    } else if (length && r->pool->bodies + length > a->max_bodies) {
        r->status = refuse_bodies(r);
    } else if (length && !r->coding && !buffer_reserve(&r->body, length)) {
        r->status = refuse_memory(r);
    }
}

/* Returns 0 or a status. */
static int take_plain(struct http_request *r, const char *data, size_t size)
{
    if (r->pool->bodies + size > r->pool->application->max_bodies)
        return refuse_bodies(r);
    buffer_add(&r->body, data, size);
    if (r->body.failed)
        return refuse_memory(r);
    r->pool->bodies += size;
    return 0;
}

static int open_unpacker(struct http_request *r)
{
    if (r->pool->bodies + UNPACKER_MEMORY > r->pool->application->max_bodies)
        return refuse_bodies(r);
    r->unpacker = unpacker_new(r->coding);
    if (!r->unpacker)
        return refuse_memory(r);
    r->pool->bodies += UNPACKER_MEMORY;
    return 0;
}

static int take_packed(struct http_request *r, const char *data, size_t size)
{
    const struct http_application *a = r->pool->application;
    int status = r->unpacker ? 0 : open_unpacker(r);

    if (status)
        return status;
    size_t before = r->body.size;
    size_t left = a->max_bodies > r->pool->bodies ? a->max_bodies - r->pool->bodies : 0;
    bool crowded = left < a->max_body - before;
    enum unpacked result =
        unpacker_take(r->unpacker, data, size, &r->body, crowded ? before + left : a->max_body);
    r->pool->bodies += r->body.size - before;
    switch (result) {
    case UNPACKED_ALL:
        return 0;
    case UNPACKED_LARGE:
        return crowded ? refuse_bodies(r) : refuse_size(r);
    case UNPACKED_BROKEN:
        return http_error(r, 400, "content-encoding: expected %s and nothing behind it",
                          coding_names[r->coding]);
    case UNPACKED_NO_MEMORY:
        break;
    }
    return refuse_memory(r);
}

bool http_body_take(struct http_request *r, const char *data, size_t size)
{
    r->received += size;
    if (!r->status && r->received > r->pool->application->max_body)
        r->status = refuse_size(r);
    if (!r->status)
        r->status = r->coding ? take_packed(r, data, size) : take_plain(r, data, size);
    if (!r->status)
        return true;
    http_body_drop(r);
    return r->received <= HTTP_DROPPED_BODY;
}

static void close_unpacker(struct http_request *r)
{
    if (!r->unpacker)
        return;
    unpacker_free(r->unpacker);
    r->unpacker = NULL;
    r->pool->bodies -= UNPACKER_MEMORY;
}

void http_body_end(struct http_request *r)
{
    if (!r->unpacker)
        return;
    if (!r->status && !unpacker_is_complete(r->unpacker))
        r->status = http_error(r, 400, "content-encoding: the %s data ends too early",
                               coding_names[r->coding]);
    close_unpacker(r);
}

void http_body_drop(struct http_request *r)
{
    close_unpacker(r);
    r->pool->bodies -= r->body.size;
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

void http_answer_pack(struct http_request *r)
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
