#include "server/http_request.h"

#include "server/clock.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

enum {
    KEPT_REQUESTS = 256,    /* that wait to be used again */
    KEPT_BUFFER = 64 << 10, /* bytes of a buffer that is kept with them */
};

/* memory */

void http_pool_init(struct http_pool *p, const struct http_application *application)
{
    *p = (struct http_pool){.application = application};
    if (getrandom(&p->id, sizeof p->id, GRND_NONBLOCK) != sizeof p->id)
        p->id = (unsigned)clock_now();
}

static void release(struct http_request *r)
{
    buffer_release(&r->body);
    buffer_release(&r->answer);
    free(r);
}

void http_pool_release(struct http_pool *p)
{
    for (struct http_request *r = p->free, *next; r; r = next) {
        next = r->next;
        release(r);
    }
    packer_free(p->packer);
}

struct http_request *http_request_new(struct http_pool *p)
{
    struct http_request *r = p->free;
    if (r) {
        p->free = r->next;
        p->n_free--;
    } else if (!(r = calloc(1, sizeof *r))) {
        return NULL;
    }
    struct buffer body = r->body, answer = r->answer;
    *r = (struct http_request){
        .body = body, .answer = answer, .pool = p, .owner = p->application->owner};
    r->began = clock_now();
    atomic_fetch_add_explicit(&p->n_requests, 1, memory_order_relaxed);
    return r;
}

void http_buffer_empty(struct buffer *b)
{
    b->size = 0;
    b->failed = false;
    if (b->capacity > KEPT_BUFFER)
        buffer_release(b);
}

void http_request_free(struct http_request *r)
{
    struct http_pool *p = r->pool;
    atomic_fetch_sub_explicit(&p->n_requests, 1, memory_order_relaxed);
    p->n_finished++;
    http_body_drop(r);
    p->bytes -= r->held;
    http_buffer_empty(&r->answer);
    if (p->n_free < KEPT_REQUESTS) {
        r->next = p->free;
        p->free = r;
        p->n_free++;
    } else {
        release(r);
    }
}

/* headers */

void http_headers_add(struct http_headers *h, const char *name, size_t size, const char *value)
{
#define NAMED(text) (size == sizeof text - 1 && strncasecmp(name, text, size) == 0)
    if (NAMED("content-type"))
        h->content_type = value;
    else if (NAMED("content-length"))
        h->length = strtoull(value, NULL, 10);
    else if (NAMED("x-request-id"))
        h->id = value;
    else if (NAMED("inference-header-content-length"))
        h->json_length = value;
    else if (NAMED("content-encoding"))
        h->content_encoding =
            h->content_encoding ? "," : value; /* a list of two is no coding */
    else if (NAMED("accept-encoding"))
        coding_wish(&h->wishes, value);
#undef NAMED
}

/* The library leaves blanks behind a value, where they mean nothing. */
static bool is_blank(const char *text)
{
    return text[strspn(text, " \t")] == 0;
}

/* Bytes of somebody else's id, which is repeated only where it can do no harm in a header or a
 * log; 0: it could. */
static size_t sane_id(const char *id)
{
    size_t n = 0;
    for (char c; (c = id[n]); n++)
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-'))
            break;
    return n < HTTP_ID_SIZE && is_blank(id + n) ? n : 0;
}

static void put_hex(char *out, uint64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value >>= 4)
        out[i] = "0123456789abcdef"[value & 15];
}

static void set_id(struct http_request *r, const char *id)
{
    size_t size = id ? sane_id(id) : 0;
    if (size > 0) {
        memcpy(r->id, id, size);
        r->id[size] = 0;
    } else {
        put_hex(r->id, r->pool->id, 8);
        put_hex(r->id + 8, r->pool->next_id++, 8);
        r->id[16] = 0;
    }
}

static int64_t read_json_length(const char *text)
{
    size_t digits = text ? strspn(text, "0123456789") : 0;
    if (!text)
        return -1;
    return digits == 0 || digits > 18 || !is_blank(text + digits) ? -2
                                                                  : strtoll(text, NULL, 10);
}

static enum http_method method_of(const char *name)
{
    return strcmp(name, "POST") == 0      ? HTTP_POST
           : strcmp(name, "GET") == 0     ? HTTP_GET
           : strcmp(name, "HEAD") == 0    ? HTTP_HEAD
           : strcmp(name, "OPTIONS") == 0 ? HTTP_OPTIONS
           : strcmp(name, "PUT") == 0     ? HTTP_PUT
           : strcmp(name, "PATCH") == 0   ? HTTP_PATCH
           : strcmp(name, "DELETE") == 0  ? HTTP_DELETE
                                          : HTTP_OTHER;
}

void http_request_begin(struct http_request *r, const char *method,
                        const struct http_headers *headers)
{
    r->verb = method;
    r->method = method_of(method);
    r->content_type = headers->content_type;
    r->json_length = read_json_length(headers->json_length);
    if (headers->content_encoding)
        r->coding = coding_of(headers->content_encoding);
    r->asks_coding = headers->wishes.asked;
    r->answer_coding = coding_accepted(&headers->wishes, &r->needs_coding);
    set_id(r, headers->id);
}

/* the answer */

int http_error(struct http_request *r, int status, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    r->answer.size = 0;
    r->answer_type = NULL;
    r->answer_json_length = 0;
    buffer_add_text(&r->answer, "{\"error\":");
    buffer_add_json_string(&r->answer, text);
    buffer_add_text(&r->answer, "}");
    if (status == 503)
        r->retry_after = 1;
    return status;
}

int http_refuse_at_end(struct http_request *r)
{
    return http_shed(r, SHED_DRAINING, http_error(r, 503, "the server is stopping"));
}

void http_add_field(struct http_request *r, const char *name, const char *value)
{
    if (r->n_fields < HTTP_FIELDS)
        r->fields[r->n_fields++] = (struct http_field){name, value};
}
