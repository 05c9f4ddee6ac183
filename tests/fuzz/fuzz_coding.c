/*
 * Content codings. The input is a header, a packed body, and bytes to pack.
 *
 * What holds: a body unpacks to what zlib makes of it in one go, or is refused where zlib
 * refuses it, whatever the length of the turns; what was packed unpacks to itself.
 */
#include "tests/fuzz/fuzz.h"

#include "server/coding.h"
#include <string.h>
#include <zlib.h>

enum { LIMIT = 1 << 16 };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}

static void check_headers(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);
    struct coding_wishes wishes = {0};
    bool required;
    MUST(text);
    coding_wish(&wishes, text);
    enum coding of = coding_of(text), accepted = coding_accepted(&wishes, &required);
    MUST((int)of <= CODING_UNKNOWN && (int)accepted < CODINGS);
    MUST(!required || accepted != CODING_IDENTITY);
    free(text);
}

/* The whole by zlib alone. `out` has LIMIT + 1 bytes. */
static enum unpacked unpack_at_once(enum coding coding, const uint8_t *data, size_t size,
                                    unsigned char *out, size_t *n)
{
    z_stream z = {0};
    MUST(inflateInit2(&z, coding == CODING_GZIP ? 31 : 15) == Z_OK);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)size;
    z.next_out = out;
    z.avail_out = LIMIT + 1;
    int result = inflate(&z, Z_FINISH);
    while (result == Z_STREAM_END && z.avail_in > 0 && z.avail_out > 0 &&
           coding == CODING_GZIP && *z.next_in == 0x1f) {
        MUST(inflateReset(&z) == Z_OK);
        result = inflate(&z, Z_FINISH);
    }
    *n = LIMIT + 1 - z.avail_out;
    bool more = z.avail_in > 0;
    inflateEnd(&z);
    if (*n > LIMIT)
        return UNPACKED_LARGE;
    if (result == Z_STREAM_END)
        return more ? UNPACKED_BROKEN : UNPACKED_ALL;
    return result == Z_BUF_ERROR || result == Z_OK ? UNPACKED_CUT : UNPACKED_BROKEN;
}

static enum unpacked unpack(enum coding coding, const void *data, size_t size, size_t turn,
                            struct buffer *out)
{
    struct unpacker *u = unpacker_new(coding, data, size);
    enum unpacked result;
    MUST(u);
    do {
        size_t work = turn;
        result = unpacker_run(u, out, LIMIT, &work);
    } while (result == UNPACKED_SOME);
    unpacker_free(u);
    return result;
}

static void check_unpacking(enum coding coding, const uint8_t *data, size_t size, size_t turn)
{
    static unsigned char expected[LIMIT + 1];
    struct buffer out = {0};
    size_t n;
    enum unpacked at_once = unpack_at_once(coding, data, size, expected, &n);
    MUST(unpack(coding, data, size, turn, &out) == at_once);
    if (at_once == UNPACKED_ALL)
        MUST(out.size == n && memcmp(out.data, expected, n) == 0);
    buffer_release(&out);
}

static void check_packing(enum coding coding, const uint8_t *data, size_t size, size_t turn)
{
    static struct packer *packer;
    struct buffer bytes = {0}, out = {0};
    if (!packer)
        packer = packer_new();
    MUST(packer);
    buffer_add(&bytes, (const char *)data, size);
    MUST(packer_pack(packer, coding, &bytes));
    MUST(unpack(coding, bytes.data, bytes.size, turn, &out) == UNPACKED_ALL);
    MUST(out.size == size && (size == 0 || memcmp(out.data, data, size) == 0));
    buffer_release(&bytes);
    buffer_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    enum coding coding = data[0] & 1 ? CODING_GZIP : CODING_DEFLATE;
    size_t turn = (size_t)1 << (data[0] >> 3);
    check_headers(data + 1, size - 1);
    check_unpacking(coding, data + 1, size - 1, turn);
    check_packing(coding, data + 1, size - 1, turn);
    return 0;
}
