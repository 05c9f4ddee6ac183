/*
 * Packed bodies and packed answers: what headers mean, what is refused, and what it may cost.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/coding.h"
#include "tests/server_fixture.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#define BODY "{\"instances\":[[1,2,3,4]]}"

enum { GZIP = 31, ZLIB = 15, RAW = -15 }; /* what zlib calls windowBits */

struct bytes {
    unsigned char *data;
    size_t size;
};

static struct bytes pack(int format, const void *data, size_t size)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, format, 8, Z_DEFAULT_STRATEGY), Z_OK);
    struct bytes packed = {.size = deflateBound(&z, size)};
    packed.data = malloc(packed.size + 64);
    assert_non_null(packed.data);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)size;
    z.next_out = packed.data;
    z.avail_out = (uInt)packed.size;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    packed.size -= z.avail_out;
    deflateEnd(&z);
    return packed;
}

/* The text that it unpacks to; the caller frees it. */
static char *unpack(int format, const void *data, size_t size)
{
    z_stream z = {0};
    size_t room = 1 << 20;
    char *text = calloc(1, room + 1);
    assert_non_null(text);
    assert_int_equal(inflateInit2(&z, format), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)size;
    z.next_out = (Bytef *)text;
    z.avail_out = (uInt)room;
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.avail_in, 0);
    inflateEnd(&z);
    return text;
}

/* headers */

static void a_content_encoding_names_one_coding(void **state)
{
    static const struct {
        const char *header;
        enum coding coding;
    } rows[] = {{NULL, CODING_IDENTITY},        {"identity", CODING_IDENTITY},
                {"gzip", CODING_GZIP},          {"GZip", CODING_GZIP},
                {"x-gzip", CODING_GZIP},        {" gzip\t", CODING_GZIP},
                {"deflate", CODING_DEFLATE},    {"br", CODING_UNKNOWN},
                {"gzip, gzip", CODING_UNKNOWN}, {"gzip,", CODING_UNKNOWN},
                {"", CODING_IDENTITY},          {"gzi", CODING_UNKNOWN},
                {"gzip;q=1", CODING_UNKNOWN}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (coding_of(rows[i].header) != rows[i].coding)
            fail_msg("%s: %d", rows[i].header, coding_of(rows[i].header));
}

/* RFC 9110, 12.5.3; its own examples are among these. */
static void an_accept_encoding_is_read_with_its_weights(void **state)
{
    static const struct {
        const char *header;
        enum coding coding;
        bool required;
    } rows[] = {
        {NULL, CODING_IDENTITY, false},
        {"", CODING_IDENTITY, false},
        {"compress, gzip", CODING_GZIP, false},
        {"*", CODING_GZIP, false},
        {"compress;q=0.5, gzip;q=1.0", CODING_GZIP, false},
        {"gzip;q=1.0, identity; q=0.5, *;q=0", CODING_GZIP, false},
        {"gzip, deflate, br, zstd", CODING_GZIP, false},
        {"deflate", CODING_DEFLATE, false},
        {"gzip;q=0.5,deflate;q=0.501", CODING_DEFLATE, false},
        {"GZIP ; Q=0.001", CODING_GZIP, false},
        {"gzip;q=0", CODING_IDENTITY, false},
        {"gzip;q=0.000, *", CODING_DEFLATE, false},
        {"identity", CODING_IDENTITY, false},
        {"gzip;q=0.4, identity;q=0.5", CODING_IDENTITY, false},
        {"identity;q=0, gzip", CODING_GZIP, true},
        {"gzip, *;q=0", CODING_GZIP, true},
        {"identity;q=0", CODING_IDENTITY, false}, /* nothing is acceptable */
        {"br;q=1.0, *;q=0.0", CODING_IDENTITY, false},
        {"gzip;q=1.001", CODING_IDENTITY, false}, /* no weights at all */
        {"gzip;q=0.5000", CODING_IDENTITY, false},
        {"gzip;q=-1, deflate", CODING_DEFLATE, false},
        {"gzip;level=9", CODING_IDENTITY, false},
        {"gzip deflate", CODING_IDENTITY, false},
        {",, ,gzip", CODING_GZIP, false},
        {"gzip;", CODING_IDENTITY, false},
        {"gzip;q=", CODING_IDENTITY, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct coding_wishes wishes = {0};
        bool required;
        if (rows[i].header)
            coding_wish(&wishes, rows[i].header);
        enum coding coding = coding_accepted(&wishes, &required);
        if (coding != rows[i].coding || required != rows[i].required)
            fail_msg("%s: %d%s", rows[i].header, coding, required ? ", required" : "");
    }
}

/* unpacking */

/* In turns of so much work. */
static enum unpacked run(enum coding coding, const struct bytes *packed, size_t turn,
                         struct buffer *out, size_t limit)
{
    struct unpacker *u = unpacker_new(coding, (char *)packed->data, packed->size);
    enum unpacked result;
    assert_non_null(u);
    do {
        size_t work = turn;
        result = unpacker_run(u, out, limit, &work);
    } while (result == UNPACKED_SOME);
    unpacker_free(u);
    return result;
}

static void turns_of_any_length_unpack_to_the_same(void **state)
{
    static const size_t turns[] = {1, 16384, 16385, 100000, 1 << 30};
    size_t size = 100000;
    unsigned char *data = malloc(size);
    (void)state;
    assert_non_null(data);
    for (size_t i = 0; i < size; i++) /* half of it noise, half of it long runs */
        data[i] = (unsigned char)(i < size / 2 ? i * i >> 5 ^ i : i >> 12);
    for (int format = 0; format < 2; format++) {
        enum coding coding = format ? CODING_DEFLATE : CODING_GZIP;
        struct bytes packed = pack(format ? ZLIB : GZIP, data, size);
        for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++) {
            struct buffer out = {0};
            assert_int_equal(run(coding, &packed, turns[i], &out, size), UNPACKED_ALL);
            assert_int_equal(out.size, size);
            assert_memory_equal(out.data, data, size);
            out.size = 0;
            assert_int_equal(run(coding, &packed, turns[i], &out, size - 1), UNPACKED_LARGE);
            assert_int_equal(out.size, size);
            buffer_release(&out);
        }
        free(packed.data);
    }
    free(data);
}

static void a_turn_does_no_more_than_its_work(void **state)
{
    size_t size = 10 << 20, work = 1 << 20;
    char *zeros = calloc(1, size);
    (void)state;
    assert_non_null(zeros);
    struct bytes packed = pack(GZIP, zeros, size);
    struct unpacker *u = unpacker_new(CODING_GZIP, (char *)packed.data, packed.size);
    struct buffer out = {0};
    assert_non_null(u);
    assert_int_equal(unpacker_run(u, &out, size, &work), UNPACKED_SOME);
    assert_int_equal(work, 0);
    assert_in_range(out.size, (1 << 20) - 40000, (1 << 20) + 40000);
    unpacker_free(u);
    buffer_release(&out);
    free(packed.data);
    free(zeros);
}

static void what_is_cut_off_or_followed_by_something_is_noticed(void **state)
{
    struct bytes packed = pack(GZIP, BODY, strlen(BODY));
    size_t whole = packed.size;
    struct buffer out = {0};
    (void)state;
    for (packed.size = 0; packed.size < whole; packed.size++) {
        out.size = 0;
        assert_int_equal(run(CODING_GZIP, &packed, 1, &out, 1000), UNPACKED_CUT);
    }
    for (packed.size = whole + 1; packed.size < whole + 20; packed.size++) {
        packed.data[packed.size - 1] = 'x';
        out.size = 0;
        assert_int_equal(run(CODING_GZIP, &packed, 1, &out, 1000), UNPACKED_BROKEN);
    }
    buffer_release(&out);
    free(packed.data);
}

/* RFC 1952, 2.2; a zlib stream is one. */
static void members_of_gzip_behind_each_other_are_one_body(void **state)
{
    (void)state;
    for (int format = 0; format < 2; format++) {
        enum coding coding = format ? CODING_DEFLATE : CODING_GZIP;
        struct bytes one = pack(format ? ZLIB : GZIP, BODY, strlen(BODY)),
                     two = {malloc(2 * one.size), 0};
        size_t length = strlen(BODY);
        struct buffer out = {0};
        assert_non_null(two.data);
        memcpy(two.data, one.data, one.size);
        memcpy(two.data + one.size, one.data, one.size);
        two.size = 2 * one.size;
        for (size_t turn = 1; turn < 1000; turn *= 10) {
            out.size = 0;
            assert_int_equal(run(coding, &two, turn, &out, 1000),
                             format ? UNPACKED_BROKEN : UNPACKED_ALL);
            assert_int_equal(out.size, format ? length : 2 * length);
        }
        for (two.size--; two.size > one.size && !format; two.size--) {
            out.size = 0;
            assert_int_equal(run(coding, &two, 1, &out, 1000), UNPACKED_CUT);
        }
        buffer_release(&out);
        free(one.data);
        free(two.data);
    }
}

/* requests */

/* In chunks of one byte. */
static void send_chunked(int port, const struct bytes *body, int status, const char *says)
{
    char answer[1024], chunk[8] = "1\r\n?\r\n";
    int fd = socket_connect(port);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n");
    for (size_t i = 0; i < body->size; i++) {
        chunk[3] = (char)body->data[i];
        assert_int_equal(send(fd, chunk, 6, MSG_NOSIGNAL), 6);
    }
    socket_send(fd, "0\r\n\r\n");
    assert_int_equal(socket_answer(fd, answer, sizeof answer), status);
    assert_non_null(strstr(answer, says));
    close(fd);
}

static struct reply *post(struct client *c, int port, const char *path, const char *header,
                          const struct bytes *body)
{
    return client_send(c, port, "POST", path, header, body->data, body->size);
}

static void expect(struct client *c, int port, const char *header, const struct bytes *body,
                   int status, const char *says)
{
    struct reply *reply = post(c, port, "/predict", header, body);
    if (reply->status != status || !strstr(reply->body, says))
        fail_msg("%s: %d %s", header, reply->status, reply->body);
    if (status == 415)
        assert_non_null(strstr(reply->headers, "\r\nAccept-Encoding: gzip, deflate\r\n"));
    reply_free(reply);
}

static void a_packed_request_is_answered_like_a_plain_one(void **state)
{
    static const char infer[] =
        "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,4],"
        "\"parameters\":{\"binary_data_size\":16}}]}";
    static const float x[4] = {1, 2, 3, 4};
    char body[256], plain[1024], header[128];
    struct fixture f;
    struct client *c = client_new();
    struct bytes gzip = pack(GZIP, BODY, strlen(BODY)), zlib = pack(ZLIB, BODY, strlen(BODY)),
                 none = {(unsigned char *)BODY, strlen(BODY)}, nothing = {(void *)"", 0};
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    assert_int_equal(request(f.port, "POST", "/predict", BODY, plain, sizeof plain), 200);
    expect(c, f.port, "Content-Encoding: gzip", &gzip, 200, plain);
    expect(c, f.port, "Content-Encoding: X-GZIP", &gzip, 200, plain);
    expect(c, f.port, "Content-Encoding: deflate", &zlib, 200, plain);
    expect(c, f.port, "Content-Encoding: identity", &none, 200, plain);
    send_chunked(f.port, &gzip, 200, plain);
    gzip.size--;
    send_chunked(f.port, &gzip, 400, "the gzip data ends too early");
    gzip.size++;
    expect(c, f.port, "Content-Encoding: gzip", &nothing, 400, "byte 0");

    memcpy(body, infer, sizeof infer - 1);
    memcpy(body + sizeof infer - 1, x, sizeof x);
    struct bytes packed = pack(GZIP, body, sizeof infer - 1 + sizeof x);
    snprintf(header, sizeof header,
             "Content-Encoding: gzip\r\nInference-Header-Content-Length: %zu",
             sizeof infer - 1);
    struct reply *reply = post(c, f.port, "/v2/models/m/infer", header, &packed);
    assert_int_equal(reply->status, 200);
    assert_non_null(strstr(reply->body, "\"outputs\""));
    reply_free(reply);
    reply = post(c, f.port, "/v1/models/m:predict", "Content-Encoding: gzip", &gzip);
    assert_int_equal(reply->status, 200);
    reply_free(reply);

    free(packed.data);
    free(gzip.data);
    free(zlib.data);
    client_free(c);
    fixture_end(&f);
}

static void a_broken_packing_is_refused_and_the_connection_goes_on(void **state)
{
    struct fixture f;
    struct client *c = client_new();
    struct bytes gzip = pack(GZIP, BODY, strlen(BODY)), raw = pack(RAW, BODY, strlen(BODY)),
                 plain = {(unsigned char *)BODY, strlen(BODY)};
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    expect(c, f.port, "Content-Encoding: br", &gzip, 415, "expected gzip or deflate");
    expect(c, f.port, "Content-Encoding: gzip, gzip", &gzip, 415, "expected gzip or deflate");
    expect(c, f.port, "Content-Encoding: gzip\r\nContent-Encoding: identity", &gzip, 415,
           "expected gzip or deflate");
    expect(c, f.port, "Content-Encoding: gzip", &plain, 400,
           "expected gzip and nothing behind");
    expect(c, f.port, "Content-Encoding: deflate", &gzip, 400, "expected deflate and nothing");
    expect(c, f.port, "Content-Encoding: deflate", &raw, 400, "expected deflate and nothing");
    gzip.size--;
    expect(c, f.port, "Content-Encoding: gzip", &gzip, 400, "the gzip data ends too early");
    gzip.data[gzip.size - 2] ^= 1; /* of its length */
    gzip.size++;
    expect(c, f.port, "Content-Encoding: gzip", &gzip, 400, "expected gzip and nothing behind");
    gzip.data[gzip.size - 3] ^= 1;
    gzip.data[gzip.size++] = 0;
    expect(c, f.port, "Content-Encoding: gzip", &gzip, 400, "expected gzip and nothing behind");
    gzip.size--;
    struct reply *reply = post(c, f.port, "/predict", "Content-Encoding: gzip", &gzip);
    assert_int_equal(reply->status, 200);
    assert_true(reply->reused);
    reply_free(reply);
    free(gzip.data);
    free(raw.data);
    client_free(c);
    fixture_end(&f);
}

static void a_small_body_that_unpacks_to_a_huge_one_costs_little(void **state)
{
    static const char *const arguments[] = {"--max-body", "1048576", NULL};
    size_t size = 256 << 20;
    char *zeros = calloc(1, size);
    struct fixture f;
    struct client *c = client_new();
    (void)state;
    assert_non_null(zeros);
    struct bytes bomb = pack(GZIP, zeros, size);
    free(zeros);
    assert_true(bomb.size < 1 << 20);
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    int64_t before = fixture_resident(&f);
    for (int i = 0; i < 5; i++)
        expect(c, f.port, "Content-Encoding: gzip", &bomb, 413, "more than 1048576 bytes");
    assert_true(fixture_resident(&f) - before < 64 << 20);
    free(bomb.data);
    client_free(c);
    fixture_end(&f);
}

static void a_client_may_leave_while_its_body_is_unpacked(void **state)
{
    size_t size = 60 << 20;
    char *blanks = malloc(size), head[256];
    struct fixture f;
    (void)state;
    assert_non_null(blanks);
    memset(blanks, ' ', size);
    struct bytes packed = pack(GZIP, blanks, size);
    free(blanks);
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    snprintf(head, sizeof head,
             "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n"
             "Content-Length: %zu\r\n\r\n",
             packed.size);
    for (int i = 0; i < 4; i++) {
        int fd = socket_connect(f.port);
        socket_send(fd, head);
        for (size_t at = 0; at < packed.size;) {
            ssize_t n = send(fd, packed.data + at, packed.size - at, MSG_NOSIGNAL);
            assert_true(n > 0);
            at += (size_t)n;
        }
        if (i % 2) { /* by a reset */
            struct linger now = {.l_onoff = 1};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        }
        close(fd);
        assert_int_equal(request(f.port, "POST", "/predict", BODY, NULL, 0), 200);
    }
    free(packed.data);
    fixture_end(&f);
}

/* answers */

static const struct {
    const char *path, *accept, *coding;
    bool small, varies;
} answers[] = {
    {"/metrics", NULL, NULL, false, true},
    {"/metrics", "gzip", "gzip", false, true},
    {"/metrics", "gzip;q=0.5, deflate", "deflate", false, true},
    {"/metrics", "gzip;q=0", NULL, false, true},
    {"/metrics", "br", NULL, false, true},
    {"/health", NULL, NULL, true, false},
    {"/health", "gzip", NULL, true, true},
    {"/nothing", "gzip", NULL, true, true},
    {"/metrics", "identity;q=0, gzip", "gzip", false, true},
    /* Several lines are one list. */
    {"/metrics", "br\r\nAccept-Encoding: gzip", "gzip", false, true},
    {"/metrics", "gzip;q=0.5\r\nX-Other: 1\r\naccept-encoding: deflate", "deflate", false,
     true},
};

static void an_answer_is_packed_for_who_accepts_it(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct client *c = client_new();
        char header[128] = "Accept:", line[64];
        if (answers[i].accept)
            snprintf(header, sizeof header, "Accept-Encoding: %s", answers[i].accept);
        struct reply *reply = client_call(c, f.port, "GET", answers[i].path, header, NULL);
        const char *coding = answers[i].coding;
        snprintf(line, sizeof line, "\r\nContent-Encoding: %s\r\n", coding ? coding : "");
        bool varies = strstr(reply->headers, "\r\nVary: Accept-Encoding\r\n");
        bool packed = strstr(reply->headers, "\r\nContent-Encoding: ");
        if (varies != answers[i].varies || packed != (coding != NULL) ||
            (coding && !strstr(reply->headers, line)))
            fail_msg("%s, %s:\n%s", answers[i].path, header, reply->headers);
        if (coding) {
            char *text =
                unpack(strcmp(coding, "gzip") == 0 ? GZIP : ZLIB, reply->body, reply->size);
            assert_non_null(strstr(text, "# TYPE predictd_http_requests_total counter\n"));
            assert_true(reply->size < strlen(text) / 2);
            free(text);
        } else if (!answers[i].small) {
            assert_non_null(strstr(reply->body, "# TYPE predictd_http_requests_total counter\n"));
        }
        reply_free(reply);
        client_free(c);
    }
    fixture_end(&f);
}

static void predictions_are_packed_like_anything_else(void **state)
{
    char *body = linear_body(1000), *plain, *text;
    struct fixture f;
    struct client *c = client_new();
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    struct reply *reply = client_call(c, f.port, "POST", "/predict", NULL, body);
    assert_int_equal(reply->status, 200);
    assert_null(strstr(reply->headers, "Vary"));
    plain = strdup(reply->body);
    reply_free(reply);
    for (int i = 0; i < 3; i++) { /* the packer is used again */
        reply = client_call(c, f.port, "POST", "/predict", "Accept-Encoding: gzip", body);
        assert_non_null(strstr(reply->headers, "Content-Encoding: gzip"));
        text = unpack(GZIP, reply->body, reply->size);
        assert_string_equal(text, plain);
        free(text);
        reply_free(reply);
    }
    /* Small ones only where nothing else is accepted. */
    reply = client_call(c, f.port, "POST", "/predict", "Accept-Encoding: gzip", BODY);
    assert_null(strstr(reply->headers, "Content-Encoding"));
    reply_free(reply);
    reply =
        client_call(c, f.port, "POST", "/predict", "Accept-Encoding: gzip, identity;q=0", BODY);
    assert_non_null(strstr(reply->headers, "Content-Encoding: gzip"));
    text = unpack(GZIP, reply->body, reply->size);
    assert_non_null(strstr(text, "\"predictions\":[["));
    free(text);
    reply_free(reply);
    free(plain);
    free(body);
    client_free(c);
    fixture_end(&f);
}

static void head_says_what_get_would_and_nothing_is_packed_without_a_minimum(void **state)
{
    static const char *const arguments[] = {"--compress-min", "0", NULL};
    struct fixture f;
    struct client *c = client_new();
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    struct reply *reply =
        client_call(c, f.port, "HEAD", "/metrics", "Accept-Encoding: gzip", NULL);
    assert_int_equal(reply->status, 200);
    assert_non_null(strstr(reply->headers, "Content-Encoding: gzip"));
    assert_int_equal(reply->size, 0);
    reply_free(reply);
    assert_int_equal(fixture_stop(&f), 0);
    fixture_serve(&f, arguments);
    reply =
        client_call(c, f.port, "GET", "/metrics", "Accept-Encoding: gzip, identity;q=0", NULL);
    assert_null(strstr(reply->headers, "Content-Encoding"));
    reply_free(reply);
    client_free(c);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_content_encoding_names_one_coding),
        cmocka_unit_test(an_accept_encoding_is_read_with_its_weights),
        cmocka_unit_test(turns_of_any_length_unpack_to_the_same),
        cmocka_unit_test(a_turn_does_no_more_than_its_work),
        cmocka_unit_test(members_of_gzip_behind_each_other_are_one_body),
        cmocka_unit_test(what_is_cut_off_or_followed_by_something_is_noticed),
        cmocka_unit_test(a_packed_request_is_answered_like_a_plain_one),
        cmocka_unit_test(a_broken_packing_is_refused_and_the_connection_goes_on),
        cmocka_unit_test(a_small_body_that_unpacks_to_a_huge_one_costs_little),
        cmocka_unit_test(a_client_may_leave_while_its_body_is_unpacked),
        cmocka_unit_test(an_answer_is_packed_for_who_accepts_it),
        cmocka_unit_test(predictions_are_packed_like_anything_else),
        cmocka_unit_test(head_says_what_get_would_and_nothing_is_packed_without_a_minimum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
