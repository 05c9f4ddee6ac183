/* SHA-256 beside the examples of FIPS 180 and of NIST's validation programme. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/sha256.h"
#include "tests/scratch.h"
#include <errno.h>
#include <string.h>

static const struct {
    const char *bytes, *expected;
} cases[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
     "lmnopqrsmnopqrstnopqrstu",
     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
};

static void the_published_examples_come_out(void **state)
{
    struct sha256 hash;
    char text[SHA256_TEXT];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sha256_begin(&hash);
        sha256_add(&hash, cases[i].bytes, strlen(cases[i].bytes));
        sha256_end(&hash, text);
        assert_string_equal(text, cases[i].expected);
    }
    sha256_begin(&hash);
    for (int i = 0; i < 1000000; i++)
        sha256_add(&hash, "a", 1);
    sha256_end(&hash, text);
    assert_string_equal(text,
                        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Lengths around the end of a block and of the padding, in pieces of every size. */
static void pieces_make_no_difference(void **state)
{
    unsigned char bytes[200];
    char whole[SHA256_TEXT], pieces[SHA256_TEXT];
    struct sha256 hash;
    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        sha256_begin(&hash);
        sha256_add(&hash, bytes, n);
        sha256_end(&hash, whole);
        for (size_t piece = 1; piece <= 65; piece += 8) {
            sha256_begin(&hash);
            for (size_t at = 0; at < n; at += piece)
                sha256_add(&hash, bytes + at, n - at < piece ? n - at : piece);
            sha256_end(&hash, pieces);
            assert_string_equal(whole, pieces);
        }
    }
}

static void a_file_is_hashed_whole(void **state)
{
    static char bytes[200000];
    char text[SHA256_TEXT], expected[SHA256_TEXT];
    struct sha256 hash;
    (void)state;
    memset(bytes, 'x', sizeof bytes);
    scratch_write("file", bytes, sizeof bytes);
    sha256_begin(&hash);
    sha256_add(&hash, bytes, sizeof bytes);
    sha256_end(&hash, expected);
    assert_int_equal(sha256_file(text, scratch_path("file")), 0);
    assert_string_equal(text, expected);
    assert_int_equal(sha256_file(text, scratch_path("none")), -1);
    assert_int_equal(errno, ENOENT);
    assert_string_equal(text, "");
    assert_int_equal(sha256_file(text, scratch_path("")), -1);
    assert_int_equal(errno, EISDIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_examples_come_out),
        cmocka_unit_test(pieces_make_no_difference),
        cmocka_unit_test(a_file_is_hashed_whole),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
