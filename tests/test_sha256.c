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

static void assert_hash(const char *bytes, size_t n, const char *expected)
{
    char text[SHA256_TEXT];
    scratch_write("file", bytes, n);
    assert_int_equal(sha256_file(text, scratch_path("file")), 0);
    assert_string_equal(text, expected);
}

static void the_published_examples_come_out(void **state)
{
    static char million[1000000];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_hash(cases[i].bytes, strlen(cases[i].bytes), cases[i].expected);
    memset(million, 'a', sizeof million);
    assert_hash(million, sizeof million,
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void what_cannot_be_read_has_none(void **state)
{
    char text[SHA256_TEXT];
    (void)state;
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
        cmocka_unit_test(what_cannot_be_read_has_none),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
