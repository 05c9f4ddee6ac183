#include "server/coding.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

enum {
    WINDOW = 15,      /* log2 of bytes, the format's most */
    GZIP_FORMAT = 16, /* is added to it */
    PIECE = 16 << 10, /* bytes that are unpacked at a time */
    LEVEL = 1,        /* of 9: an answer is packed while others wait */
    FULL = 1000,      /* a weight of 1 */
};

const char *const coding_names[CODINGS] = {"identity", "gzip", "deflate"};

static const int formats[CODINGS] = {
    [CODING_GZIP] = WINDOW + GZIP_FORMAT, [CODING_DEFLATE] = WINDOW};

/* headers */

static enum coding named(const char *name, size_t size)
{
    for (int i = 0; i < CODINGS; i++)
        if (strlen(coding_names[i]) == size && strncasecmp(coding_names[i], name, size) == 0)
            return (enum coding)i;
    return size == 6 && strncasecmp(name, "x-gzip", size) == 0 ? CODING_GZIP : CODING_UNKNOWN;
}

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t");
}

enum coding coding_of(const char *content_encoding)
{
    if (!content_encoding)
        return CODING_IDENTITY;
    const char *name = skip_blanks(content_encoding);
    size_t size = strcspn(name, " \t,;");
    if (!*name)
        return CODING_IDENTITY; /* a list of none */
    return *skip_blanks(name + size) ? CODING_UNKNOWN : named(name, size);
}

/* ;q= and 0 to 1 with at most three decimals, or nothing, up to a comma or the end; -1: it is
 * something else. */
static int read_weight(const char *p)
{
    static const int parts[] = {100, 10, 1};
    p = skip_blanks(p);
    if (*p == ',' || !*p)
        return FULL;
    if (*p++ != ';')
        return -1;
    p = skip_blanks(p);
    if ((*p != 'q' && *p != 'Q') || p[1] != '=' || (p[2] != '0' && p[2] != '1'))
        return -1;
    int weight = p[2] == '1' ? FULL : 0;
    p += 3;
    if (*p == '.') {
        p++;
        for (int i = 0; i < 3 && *p >= '0' && *p <= '9'; i++)
            weight += (*p++ - '0') * parts[i];
    }
    p = skip_blanks(p);
    return weight > FULL || (*p && *p != ',') ? -1 : weight;
}

void coding_wish(struct coding_wishes *w, const char *accept_encoding)
{
    w->asked = true;
    for (const char *p = accept_encoding; *p; p += *p == ',') {
        p = skip_blanks(p);
        size_t size = strcspn(p, " \t,;");
        enum coding coding = named(p, size);
        short weight = (short)(read_weight(p + size) + 1);
        if (size == 1 && *p == '*' && weight > 0)
            w->rest = weight;
        else if (coding != CODING_UNKNOWN && weight > 0)
            w->weights[coding] = weight;
        p += strcspn(p, ",");
    }
}

enum coding coding_accepted(const struct coding_wishes *w, bool *required)
{
    int weights[CODINGS], rest = w->rest - 1; /* -1: is not named */

    *required = false;
    for (int i = 0; i < CODINGS; i++)
        weights[i] = w->weights[i] - 1;
    for (int i = CODING_GZIP; i < CODINGS; i++)
        if (weights[i] < 0)
            weights[i] = rest > 0 ? rest : 0;
    enum coding best =
        weights[CODING_DEFLATE] > weights[CODING_GZIP] ? CODING_DEFLATE : CODING_GZIP;
    /* Who does not name identity takes it, but likes anything better that he names. */
    if (weights[best] == 0 || weights[CODING_IDENTITY] > weights[best])
        return CODING_IDENTITY;
    *required = weights[CODING_IDENTITY] == 0 || (weights[CODING_IDENTITY] < 0 && rest == 0);
    return best;
}

/* unpacking */

struct unpacker {
    z_stream stream;
    enum coding coding;
    size_t left; /* bytes that the stream was not shown yet */
};

struct unpacker *unpacker_new(enum coding coding, const char *data, size_t size)
{
    struct unpacker *u = calloc(1, sizeof *u);
    if (u && inflateInit2(&u->stream, formats[coding]) != Z_OK) {
        free(u);
        return NULL;
    }
    if (u) {
        u->stream.next_in = (Bytef *)(uintptr_t)data;
        u->coding = coding;
        u->left = size;
    }
    return u;
}

void unpacker_free(struct unpacker *u)
{
    if (u)
        inflateEnd(&u->stream);
    free(u);
}

static void show_more(struct unpacker *u)
{
    size_t more = u->left < PIECE ? u->left : PIECE;
    if (u->stream.avail_in > 0)
        return;
    u->stream.avail_in = (uInt)more;
    u->left -= more;
}

enum unpacked unpacker_run(struct unpacker *u, struct buffer *out, size_t limit, size_t *work)
{
    z_stream *z = &u->stream;

    do {
        /* One byte more than there may be shows that there is more. */
        size_t room = limit - out->size + 1;
        room = room < PIECE ? room : PIECE;
        z->next_out = (Bytef *)buffer_reserve(out, room);
        z->avail_out = (uInt)room;
        if (!z->next_out)
            return UNPACKED_NO_MEMORY;
        show_more(u);
        size_t shown = z->avail_in;
        int result = inflate(z, Z_NO_FLUSH);
        size_t written = room - z->avail_out, done = written + shown - z->avail_in;
        out->size += written;
        *work -= done < *work ? done : *work;
        if (out->size > limit)
            return UNPACKED_LARGE;
        if (result == Z_STREAM_END) {
            if (!z->avail_in && !u->left)
                return UNPACKED_ALL;
            /* gzip may have another member behind (RFC 1952, 2.2 and 2.3.1). */
            if (u->coding != CODING_GZIP || *z->next_in != 0x1f || inflateReset(z) != Z_OK)
                return UNPACKED_BROKEN;
            continue;
        }
        if (result == Z_BUF_ERROR)
            return UNPACKED_CUT; /* there is nothing left to read */
        if (result != Z_OK)
            return result == Z_MEM_ERROR ? UNPACKED_NO_MEMORY : UNPACKED_BROKEN;
    } while (*work > 0);
    return UNPACKED_SOME;
}

/* packing */

struct packer {
    z_stream streams[CODINGS];
    bool open[CODINGS];
};

struct packer *packer_new(void)
{
    return calloc(1, sizeof(struct packer));
}

void packer_free(struct packer *p)
{
    for (int i = 0; p && i < CODINGS; i++)
        if (p->open[i])
            deflateEnd(&p->streams[i]);
    free(p);
}

static z_stream *stream_for(struct packer *p, enum coding coding)
{
    z_stream *z = &p->streams[coding];
    if (p->open[coding])
        return deflateReset(z) == Z_OK ? z : NULL;
    if (deflateInit2(z, LEVEL, Z_DEFLATED, formats[coding], 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return NULL;
    p->open[coding] = true;
    return z;
}

bool packer_pack(struct packer *p, enum coding coding, struct buffer *bytes)
{
    z_stream *z = bytes->size <= UINT_MAX / 2 ? stream_for(p, coding) : NULL;
    struct buffer packed = {0};
    size_t room = z ? deflateBound(z, bytes->size) : 0;

    if (!z || !buffer_reserve(&packed, room))
        return false;
    z->next_in = (Bytef *)bytes->data;
    z->avail_in = (uInt)bytes->size;
    z->next_out = (Bytef *)packed.data;
    z->avail_out = (uInt)room;
    if (deflate(z, Z_FINISH) != Z_STREAM_END) {
        buffer_release(&packed);
        return false;
    }
    packed.size = room - z->avail_out;
    buffer_release(bytes);
    *bytes = packed;
    return true;
}
