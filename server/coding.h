/*
 * Content codings (RFC 9110, 8.4 and 12.5.3): bodies that come packed, answers that go so. The
 * server's door to zlib.
 */
#ifndef SERVER_CODING_H
#define SERVER_CODING_H

#include "server/buffer.h"

enum coding {
    CODING_IDENTITY, /* as it is */
    CODING_GZIP,     /* RFC 1952 */
    CODING_DEFLATE,  /* RFC 1950: deflate in zlib's wrapping */
    CODINGS,
    CODING_UNKNOWN = CODINGS,
};

extern const char *const coding_names[CODINGS];

/* The coding that a Content-Encoding header (NULL: none) names. One only: a body that was
 * packed twice is UNKNOWN. */
enum coding coding_of(const char *content_encoding);

/* What the lines of Accept-Encoding say, which together are one list (RFC 9110, 5.3). Zeros:
 * there was none. */
struct coding_wishes {
    bool asked;
    short weights[CODINGS], rest; /* thousandths and 1 more; 0: is not named */
};

void coding_wish(struct coding_wishes *wishes, const char *accept_encoding);

/* The coding that they prefer. *required: without it the answer would not be acceptable. Where
 * nothing that we have is acceptable: IDENTITY. */
enum coding coding_accepted(const struct coding_wishes *wishes, bool *required);

/* unpacking */

enum unpacked {
    UNPACKED_ALL,
    UNPACKED_SOME,   /* the work is used up */
    UNPACKED_LARGE,  /* there is more than the limit */
    UNPACKED_BROKEN, /* not what the coding says, or bytes behind its end */
    UNPACKED_CUT,    /* the end is missing */
    UNPACKED_NO_MEMORY,
};

/* Bytes that an unpacker holds, at most. */
enum { UNPACKER_MEMORY = 48 << 10 };

/* For these bytes, which have to stay. NULL: no memory. */
struct unpacker *unpacker_new(enum coding coding, const char *data, size_t size);
void unpacker_free(struct unpacker *unpacker); /* NULL is allowed */

/* Goes on unpacking to `out`, until that holds `limit` bytes. `*work` is lowered by the bytes
 * that were read and written; some 16 KB are done even when it is less. */
enum unpacked unpacker_run(struct unpacker *unpacker, struct buffer *out, size_t limit,
                           size_t *work);

/* packing */

/* Takes its memory, some 260 KB for each coding, when it is first used. */
struct packer *packer_new(void);
void packer_free(struct packer *packer); /* NULL is allowed */

/* Replaces the buffer's bytes by the packed ones. False: there is no memory, they stay. */
bool packer_pack(struct packer *packer, enum coding coding, struct buffer *bytes);

#endif
