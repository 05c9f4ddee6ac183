/*
 * Numbers between text and memory. The judge is the C library: strtof() is correctly rounded,
 * and printf() with one digit less shows that a text could not be shorter.
 *
 * Writing was compared once with std::to_chars() for all 2^31 - 2^23 finite floats from +0 on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/number.h"

/* xorshift64, G. Marsaglia 2003 */
static uint64_t next_random(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* What the text reads as. Returns how many bytes were taken. */
static size_t read_float(const char *text, enum number_verdict *verdict, float *value)
{
    const char *p = text;
    *verdict = number_read_float(&p, text + strlen(text), value);
    return (size_t)(p - text);
}

/* reading */

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "", "-", "+1", ".5", "-.5", "01", "00", "-01", "1.", "1.e5", "1e", "1e+", "1e-", "1E",
        "0.", "-x", "NaN", "Infinity", "-Infinity", "inf", "nan", "x1", " 1", "\"1\"", "null",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum number_verdict verdict;
        float value = 7;
        size_t taken = read_float(cases[i], &verdict, &value);
        if (verdict != NUMBER_INVALID || taken != 0 || value != 7)
            fail_msg("%s was read", cases[i]);
        int64_t integer;
        const char *p = cases[i];
        assert_int_equal(number_read_integer(&p, p + strlen(p), INT64_MIN, INT64_MAX, &integer),
                         NUMBER_INVALID);
        assert_ptr_equal(p, cases[i]);
    }
}

static void a_number_ends_where_its_grammar_ends(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t taken;
        float value;
    } cases[] = {
        {"0", 1, 0}, {"-0", 2, -0.0f}, {"0.0", 3, 0}, {"-0.0e5", 6, -0.0f}, {"1", 1, 1},
        {"1,2", 1, 1}, {"1.5]", 3, 1.5f}, {"1.5.2", 3, 1.5f}, {"1e2e3", 3, 100},
        {"1E+2 ", 4, 100}, {"1e-2x", 4, 0.01f}, {"12-3", 2, 12}, {"3.0", 3, 3},
        {"0x10", 1, 0}, {"1_000", 1, 1}, {"1e0000000000000000000000000002", 30, 100},
        {"0e99999999999999999999", 22, 0}, {"-0e-99999999999999999999", 24, -0.0f},
        {"1e-400", 6, 0}, {"-1e-99999999999999999999", 24, -0.0f}, {"1e-46", 5, 0},
        {"7.006492321624085e-46", 21, 0},               /* half the smallest: to even */
        {"7.006492321624086e-46", 21, FLT_TRUE_MIN},
        {"3.4028234663852886e38", 21, FLT_MAX},
        {"340282356779733661637539395458142568447.9", 41, FLT_MAX},
        {"16777217", 8, 16777216}, {"16777219", 8, 16777220},
        {"16777217.0000000000000000000000000000000000000000000000000001", 61, 16777218},
        {"0.1", 3, 0.1f}, {"123456789012345678901234567890", 30, 1.2345679e29f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum number_verdict verdict;
        float value;
        size_t taken = read_float(cases[i].text, &verdict, &value);
        if (verdict != NUMBER_OK || taken != cases[i].taken ||
            memcmp(&value, &cases[i].value, sizeof value) != 0)
            fail_msg("%s: verdict %d, %zu bytes, %.9g", cases[i].text, (int)verdict, taken,
                     (double)value);
    }
}

static void what_is_beyond_the_largest_float_is_out_of_range(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "1e39", "-1e39", "1e400", "-1e400", "1e99999999999999999999", "3.4028236e38",
        "340282356779733661637539395458142568448", "1000000000000000000000000000000000000000",
        "0.1e40", "99999999999999999999999999999999999999999999999999999999999999",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum number_verdict verdict;
        float value;
        if (read_float(cases[i], &verdict, &value) != 0 || verdict != NUMBER_RANGE)
            fail_msg("%s: verdict %d", cases[i], (int)verdict);
    }
}

static void assert_read_like_strtof(const char *text)
{
    float expected = strtof(text, NULL), value = 0;
    enum number_verdict verdict;
    size_t taken = read_float(text, &verdict, &value);
    if (isinf(expected) ? verdict != NUMBER_RANGE
                        : verdict != NUMBER_OK || taken != strlen(text) ||
                              memcmp(&value, &expected, sizeof value) != 0)
        fail_msg("%s: verdict %d, %.9g; strtof() says %.9g", text, (int)verdict, (double)value,
                 (double)expected);
}

static void decimals_are_rounded_like_strtof(void **state)
{
    (void)state;
    for (int i = 0; i < 300000; i++) {
        char text[320];
        float below = float_of((uint32_t)next_random());
        float above = nextafterf(below, INFINITY);
        if (!isfinite(below) || !isfinite(above))
            continue;
        double middle = ((double)below + (double)above) / 2;
        switch (i % 6) {
        case 0:                 /* a float in as many digits as you like */
            snprintf(text, sizeof text, "%.*e", (int)(next_random() % 20), (double)below);
            break;
        case 1:                 /* the middle of two floats, exactly or nearly */
            snprintf(text, sizeof text, "%.*e", (int)(next_random() % 150), middle);
            break;
        case 2:
            snprintf(text, sizeof text, "%.*e", (int)(10 + next_random() % 12), middle);
            break;
        case 3:                 /* next to the middle */
            snprintf(text, sizeof text, "%.17g", nextafter(middle, i & 8 ? INFINITY : -INFINITY));
            break;
        case 4:                 /* without an exponent, the last digit changed */
            snprintf(text, sizeof text, "%.170f", middle);
            text[strlen(text) - 1] = '1';
            break;
        default:
            snprintf(text, sizeof text, "%s%llu.%llue%d", i & 16 ? "-" : "",
                     (unsigned long long)(next_random() >> next_random() % 64),
                     (unsigned long long)next_random(), (int)(next_random() % 120) - 70);
        }
        assert_read_like_strtof(text);
    }
}

static void long_digit_strings_are_read(void **state)
{
    (void)state;
    enum { LENGTH = 100000 };
    static const char *const formats[] = {"0.%s1", "1%s", "1%se-100000", "0.%s1e100001",
                                          "16777217.%s1", "0.5%s", "1%s.5e-100000"};
    char *zeros = malloc(LENGTH + 1), *text = malloc(LENGTH + 64);
    assert_true(zeros && text);
    memset(zeros, '0', LENGTH);
    zeros[LENGTH] = '\0';
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        const char *hole = strstr(formats[i], "%s");
        snprintf(text, LENGTH + 64, "%.*s%s%s", (int)(hole - formats[i]), formats[i], zeros,
                 hole + 2);
        assert_read_like_strtof(text);
    }
    free(zeros);
    free(text);
}

/* A number as clients write them: whole, few decimals, all that a double has, the middle
 * between two floats. */
static int print_any(char *out, size_t size)
{
    double uniform = (double)(next_random() >> 11) / 9007199254740992.0;
    const char *sign = next_random() % 4 == 0 ? "-" : "";
    float near = (float)uniform * 100;
    switch (next_random() % 6) {
    case 0:
        return snprintf(out, size, "%s%d", sign, (int)(next_random() % 256));
    case 1:
        return snprintf(out, size, "%s%.*f", sign, (int)(next_random() % 8), uniform * 255);
    case 2:
        return snprintf(out, size, "%s%.*f", sign, (int)(next_random() % 19), uniform);
    case 3:
        return snprintf(out, size, "%s%lld", sign,
                        (long long)(next_random() >> (40 + next_random() % 24)));
    case 4:
        return snprintf(out, size, "%s%.17g", sign, uniform);
    default:
        return snprintf(out, size, "%s%.16f", sign,
                        ((double)near + (double)nextafterf(near, 1e9f)) / 2);
    }
}

/* Exactly as long as the text: reading behind it is seen by the address sanitizer. */
static int64_t read_run(const char *text, float *values, int64_t n, size_t *taken)
{
    size_t size = strlen(text);
    char *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, text, size);
    const char *p = copy;
    int64_t read = number_read_run(&p, copy + size, values, n);
    *taken = (size_t)(p - copy);
    free(copy);
    return read;
}

static void a_run_reads_what_number_by_number_is_read(void **state)
{
    (void)state;
    enum { N = 200 };
    static char text[N * 40];
    float values[N];
    for (int round = 0; round < 2000; round++) {
        const char *comma = round % 2 ? ", " : ",";
        size_t size = 0, taken;
        for (int i = 0; i < N; i++) {
            size += (size_t)print_any(text + size, sizeof text - size);
            size += (size_t)sprintf(text + size, "%s", comma);
        }
        int64_t wanted = round % 3 ? N : (int64_t)(next_random() % N);
        for (size_t at = 0; at < size;) {       /* goes on behind what a run does not take */
            int64_t n = read_run(text + at, values, wanted, &taken);
            assert_true(n <= wanted);
            size_t p = at;
            for (int64_t i = 0; i < n; i++) {
                char *end;
                float expected = strtof(text + p, &end);
                if (memcmp(&values[i], &expected, sizeof expected) != 0)
                    fail_msg("%.40s: %.9g; strtof() says %.9g", text + p, (double)values[i],
                             (double)expected);
                assert_int_equal(*end, ',');
                p = (size_t)(end - text) + 1;
            }
            assert_int_equal(p, at + taken);
            at = p + strcspn(text + p, ",") + 1;
        }
    }
}

static void a_run_stops_where_something_else_begins(void **state)
{
    (void)state;
    static const char *const others[] = {
        "",    "-",   "+1",    ".5",   "1.",  "01",  "-01", "1e",     "0x10",     "NaN",
        "null", "true", "\"1\"", "[1]",  "{}",  "1 ",  "  1", "\t1",    "1.2.3",    "1-2",
        "--1", "1.-2", "1:2",  "1/2",  "\x80", "1]", "1\n", "- 1",   "00000000", "1\xb1",
        "1e39", "-1e400",
    };
    char text[400];
    float values[100];
    for (size_t k = 0; k < sizeof others / sizeof others[0]; k++)
        for (int before = 0; before < 40; before++) {
            size_t size = 0, taken;
            for (int i = 0; i < before; i++)
                size += (size_t)sprintf(text + size, "%d,", i % 10);
            size_t place = size;
            size += (size_t)sprintf(text + size, "%s,", others[k]);
            for (int i = 0; i < 60; i++)
                size += (size_t)sprintf(text + size, "7,");
            if (read_run(text, values, 100, &taken) != before || taken != place)
                fail_msg("\"%s\" behind %d numbers was read", others[k], before);
        }
}

static void integers_are_read_within_their_range(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t min, max;
        enum number_verdict verdict;
        int64_t value;
    } cases[] = {
        {"0", 0, 255, NUMBER_OK, 0},
        {"-0", 0, 255, NUMBER_OK, 0},
        {"255", 0, 255, NUMBER_OK, 255},
        {"256", 0, 255, NUMBER_RANGE, 0},
        {"-1", 0, 255, NUMBER_RANGE, 0},
        {"1.0", 0, 255, NUMBER_FRACTION, 0},
        {"1e2", 0, 255, NUMBER_FRACTION, 0},
        {"1e-2", 0, 255, NUMBER_FRACTION, 0},
        {"9223372036854775807", INT64_MIN, INT64_MAX, NUMBER_OK, INT64_MAX},
        {"-9223372036854775808", INT64_MIN, INT64_MAX, NUMBER_OK, INT64_MIN},
        {"9223372036854775808", INT64_MIN, INT64_MAX, NUMBER_RANGE, 0},
        {"-9223372036854775809", INT64_MIN, INT64_MAX, NUMBER_RANGE, 0},
        {"18446744073709551617", INT64_MIN, INT64_MAX, NUMBER_RANGE, 0},
        {"10000000000000000000000000000000000000001", INT64_MIN, INT64_MAX, NUMBER_RANGE, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *p = cases[i].text;
        int64_t value = 0;
        enum number_verdict verdict =
            number_read_integer(&p, p + strlen(p), cases[i].min, cases[i].max, &value);
        if (verdict != cases[i].verdict || value != cases[i].value ||
            p != cases[i].text + (verdict == NUMBER_OK ? strlen(cases[i].text) : 0))
            fail_msg("%s: verdict %d, %lld", cases[i].text, (int)verdict, (long long)value);
    }
}

/* writing */

static void floats_are_written_as_people_write_them(void **state)
{
    (void)state;
    static const struct {
        float value;
        const char *text;
    } cases[] = {
        {0, "0.0"}, {-0.0f, "-0.0"}, {3, "3.0"}, {-1, "-1.0"}, {10, "10.0"}, {0.5f, "0.5"},
        {0.1f, "0.1"}, {1.0f / 3, "0.33333334"}, {123456, "123456.0"}, {123.456f, "123.456"},
        {0.00012f, "0.00012"}, {0.000012f, "0.000012"}, {0.0000012f, "1.2e-6"},
        {1e15f, "1000000000000000.0"}, {1e16f, "1e16"}, {1.5e20f, "1.5e20"},
        {16777216, "16777216.0"}, {FLT_MAX, "3.4028235e38"}, {-FLT_MAX, "-3.4028235e38"},
        {FLT_MIN, "1.1754944e-38"}, {FLT_TRUE_MIN, "1e-45"}, {-FLT_TRUE_MIN, "-1e-45"},
        {33554432, "33554432.0"}, {8589973504.0f, "8589974000.0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[NUMBER_MAX_TEXT + 1];
        text[number_write_float(text, cases[i].value)] = '\0';
        assert_string_equal(text, cases[i].text);
    }
}

static int significant_digits(const char *text)
{
    int n = 0, zeros = 0;
    for (; *text && *text != 'e'; text++)
        if (*text >= '1' && *text <= '9') {
            n += zeros + 1;
            zeros = 0;
        } else if (*text == '0' && n > 0) {
            zeros++;
        }
    return n;
}

static void assert_shortest(float value)
{
    char text[NUMBER_MAX_TEXT + 1], shorter[64];
    size_t n = number_write_float(text, value);
    assert_true(n <= NUMBER_MAX_TEXT);
    text[n] = '\0';
    float back = strtof(text, NULL);
    if (memcmp(&back, &value, sizeof value) != 0)
        fail_msg("%a was written as %s", (double)value, text);
    int digits = significant_digits(text);
    if (digits < 2)
        return;
    snprintf(shorter, sizeof shorter, "%.*e", digits - 2, (double)value);
    if (strtof(shorter, NULL) == value)
        fail_msg("%a was written as %s, but %s is enough", (double)value, text, shorter);
    assert_read_like_strtof(text);
}

static void every_float_is_written_shortest_and_read_back(void **state)
{
    (void)state;
    for (uint32_t exponent = 0; exponent < 255; exponent++)
        for (uint32_t i = 0; i < 64; i++) {
            uint32_t low = i < 32 ? i : 0x7fffff - (i - 32);
            assert_shortest(float_of(exponent << 23 | low));
        }
    for (int i = 0; i < 300000; i++) {
        float value = float_of((uint32_t)next_random());
        if (isfinite(value))
            assert_shortest(value);
    }
    for (int i = 0; i < 100000; i++)        /* probabilities */
        assert_shortest((float)(next_random() >> 40) / 16777216.0f);
}

static void integers_are_written_whole(void **state)
{
    (void)state;
    static const int64_t cases[] = {0, 7, -7, 10, 255, -2147483648, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[NUMBER_MAX_TEXT + 1], expected[32];
        text[number_write_integer(text, cases[i])] = '\0';
        snprintf(expected, sizeof expected, "%lld", (long long)cases[i]);
        assert_string_equal(text, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(a_number_ends_where_its_grammar_ends),
        cmocka_unit_test(what_is_beyond_the_largest_float_is_out_of_range),
        cmocka_unit_test(decimals_are_rounded_like_strtof),
        cmocka_unit_test(long_digit_strings_are_read),
        cmocka_unit_test(a_run_reads_what_number_by_number_is_read),
        cmocka_unit_test(a_run_stops_where_something_else_begins),
        cmocka_unit_test(integers_are_read_within_their_range),
        cmocka_unit_test(floats_are_written_as_people_write_them),
        cmocka_unit_test(every_float_is_written_shortest_and_read_back),
        cmocka_unit_test(integers_are_written_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
