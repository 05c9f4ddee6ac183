/*
 * libmicrohttpd 0.9.75 takes the first of two lengths, lets "chunked" win over a length and
 * keeps the connection, overwrites a header's name when its value is folded, drops headers
 * without a name, cuts values at a NUL, and takes a bare LF for the end of a line. In front
 * of it may be a proxy that reads each of these differently: then what one of them takes for
 * a body is a request to the other.
 *
 * What the library has not told can be seen from where things lie. It parses in place: key,
 * colon, value, CR LF and the next key lie where the request had them. So every header must
 * begin two bytes behind the one before, and the last must end four bytes before the end of
 * the header section; anything folded, dropped, cut or ended otherwise leaves a gap. This is
 * known of one version; with any other the remaining rules stand alone.
 *
 * Bare LF in the frame of chunks, and extensions of chunks, cannot be seen from here. Proxies
 * frame bodies anew.
 */
#include "server/framing.h"

#include <microhttpd.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define KNOWN_VERSION "0.9.75"

const struct framing_answer framing_answers[FRAMING_FAULTS] = {
    [FRAMING_METHOD] = {400, "method", "method: expected a token and one space"},
    [FRAMING_TARGET] =
        {400, "target",
         "request target: expected a path or an absolute http URL, without blanks "
         "and control characters"},
    [FRAMING_VERSION] = {400, "version", "version: expected HTTP/1.1 or HTTP/1.0"},
    [FRAMING_HEADER_NAME] = {400, "header_name",
                             "header name: expected a token directly before the colon"},
    [FRAMING_HEADER_VALUE] = {400, "header_value",
                              "header value: expected no control characters"},
    [FRAMING_HEADER_LINES] = {400, "header_lines",
                              "header line: expected a name, a colon and a value on one line "
                              "that ends with CR LF"},
    [FRAMING_HEADER_COUNT] = {431, "header_count", "headers: expected at most 100"},
    [FRAMING_HOST] = {400, "host", "host: expected one Host header that names a host"},
    [FRAMING_LENGTH] = {400, "length", "content-length: expected one header, one number"},
    [FRAMING_ENCODING] =
        {400, "encoding",
         "transfer-encoding: expected one header, \"chunked\" alone, HTTP/1.1 and "
         "no content-length"},
    [FRAMING_ENCODING_BLANKS] =
        {501, "encoding_blanks",
         "transfer-encoding: blanks behind \"chunked\" are not supported"},
};

_Static_assert(FRAMING_HEADERS == 100, "as the text says");

struct headers {
    enum framing_fault fault;
    const char *end; /* of the header before, or of the version; NULL: unknown */
    int n, hosts, lengths, encodings;
};

/* RFC 9110, 5.6.2 */
static const bool token_characters[256] = {
    ['0' ... '9'] = true, ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['!'] = true,
    ['#'] = true,         ['$'] = true,         ['%'] = true,         ['&'] = true,
    ['\''] = true,        ['*'] = true,         ['+'] = true,         ['-'] = true,
    ['.'] = true,         ['^'] = true,         ['_'] = true,         ['`'] = true,
    ['|'] = true,         ['~'] = true,
};

static bool is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!token_characters[(unsigned char)s[i]])
            return false;
    return n > 0;
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_named(const char *key, size_t size, const char *name)
{
    return size == strlen(name) && strncasecmp(key, name, size) == 0;
}

/* The size without the blanks at the end, which are no part of a value. */
static size_t trimmed(const char *value, size_t size)
{
    while (size > 0 && is_blank(value[size - 1]))
        size--;
    return size;
}

/* An authority: no blanks, nothing that could end it, and no user before the host. */
static bool is_host(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f || strchr("/?#@\\", s[i]))
            return false;
    return true;
}

static bool lies_behind(const char *end, const char *key, size_t key_size, const char *value)
{
    if (key != end + 2 || value < key + key_size + 1)
        return false;
    for (const char *p = key + key_size + 1; p < value; p++)
        if (!is_blank(*p))
            return false;
    return true;
}

static enum framing_fault check_encoding(struct headers *h, const char *value, size_t size)
{
    if (h->encodings++ > 0 || !is_named(value, trimmed(value, size), "chunked"))
        return FRAMING_ENCODING;
    /* Legal, but the library would wait for the end of a body that it takes for endless. */
    if (!is_named(value, size, "chunked"))
        return FRAMING_ENCODING_BLANKS;
    return FRAMING_SOUND;
}

static enum framing_fault check_header(struct headers *h, const char *key, size_t key_size,
                                       const char *value, size_t value_size)
{
    if (++h->n > FRAMING_HEADERS)
        return FRAMING_HEADER_COUNT;
    if (!is_token(key, key_size))
        return FRAMING_HEADER_NAME;
    if (!value)
        return FRAMING_HEADER_LINES;
    for (size_t i = 0; i < value_size; i++)
        if (is_control(value[i]) && value[i] != '\t')
            return FRAMING_HEADER_VALUE;
    if (h->end) {
        if (!lies_behind(h->end, key, key_size, value))
            return FRAMING_HEADER_LINES;
        h->end = value + value_size;
    }
    if (is_named(key, key_size, "host")) {
        if (h->hosts++ > 0 || !is_host(value, trimmed(value, value_size)))
            return FRAMING_HOST;
    } else if (is_named(key, key_size, "content-length")) {
        if (h->lengths++ > 0 || value_size == 0 || strspn(value, "0123456789") != value_size)
            return FRAMING_LENGTH;
    } else if (is_named(key, key_size, "transfer-encoding")) {
        return check_encoding(h, value, value_size);
    }
    return FRAMING_SOUND;
}

static enum MHD_Result next_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                   size_t key_size, const char *value, size_t value_size)
{
    struct headers *h = cls;
    (void)kind;
    h->fault = check_header(h, key, key_size, value, value_size);
    return h->fault ? MHD_NO : MHD_YES;
}

/* Of an absolute URL, the authority; NULL for anything else. */
static const char *authority(const char *url)
{
    return strncasecmp(url, "http://", 7) == 0    ? url + 7
           : strncasecmp(url, "https://", 8) == 0 ? url + 8
                                                  : NULL;
}

static bool is_target(const char *url, const char *method)
{
    const char *host = authority(url);
    if (host) {
        size_t size = strcspn(host, "/");
        return size > 0 && is_host(host, size);
    }
    return url[0] == '/' || (strcmp(url, "*") == 0 && strcmp(method, "OPTIONS") == 0);
}

const char *framing_path(const char *url)
{
    const char *host = authority(url);
    if (!host)
        return url;
    const char *path = strchr(host, '/');
    return path ? path : "/";
}

const char *framing_target_end(const char *target)
{
    const char *p = target;
    for (; *p; p++)
        if (is_control(*p) || *p == ' ')
            return NULL;
    return p;
}

enum framing_fault framing_check(struct MHD_Connection *connection,
                                 const struct framing_line *line)
{
    bool known = strcmp(MHD_get_version(), KNOWN_VERSION) == 0;
    bool current = strcmp(line->version, "HTTP/1.1") == 0;
    struct headers h = {.end = known ? line->version + strlen(line->version) : NULL};

    if (!is_token(line->method, strlen(line->method)) ||
        (known && line->url != line->method + strlen(line->method) + 1))
        return FRAMING_METHOD;
    /* The version does not follow where the target holds a NUL. */
    if (!line->target_end || !is_target(line->url, line->method) ||
        (known && line->version != line->target_end + 1))
        return FRAMING_TARGET;
    if (!current && strcmp(line->version, "HTTP/1.0") != 0)
        return FRAMING_VERSION;

    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, next_header, &h);
    if (h.fault)
        return h.fault;
    if (known) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
        if (!info || h.end + 4 != line->method + info->header_size)
            return FRAMING_HEADER_LINES;
    }
    if (current && h.hosts == 0)
        return FRAMING_HOST;
    if (h.encodings && (h.lengths || !current))
        return FRAMING_ENCODING;
    return FRAMING_SOUND;
}
