/*
 * Doubles and 64-bit integers between text and memory. The judge is the C library: strtod() is
 * correctly rounded, and printf() with one digit less shows that a text could not be shorter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <inttypes.h>
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

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* reading */

static void assert_read_like_strtod(const char *text)
{
    double expected = strtod(text, NULL), value = 0;
    const char *p = text;
    enum number_verdict verdict = number_read_double(&p, text + strlen(text), &value);
    if (isinf(expected) ? verdict != NUMBER_RANGE || p != text
                        : verdict != NUMBER_OK || *p != '\0' ||
                              memcmp(&value, &expected, sizeof value) != 0)
        fail_msg("%s: verdict %d, %.17g; strtod() says %.17g", text, (int)verdict, value,
                 expected);
}

static void what_is_no_double_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"", "-", "+1", ".5", "01", "1.", "1e", "1e+", "NaN",
                                        "Infinity", "x1", " 1", "\"1\"", "null"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double value = 7;
        const char *p = cases[i];
        assert_int_equal(number_read_double(&p, p + strlen(p), &value), NUMBER_INVALID);
        assert_true(p == cases[i] && value == 7);
    }
}

/* Known to be hard: middles, the ends of the ranges, more digits than 64 bits hold. */
static void hard_decimals_are_rounded_like_strtod(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "0", "-0.0", "1", "0.1", "0.3", "1e23", "8.5e22", "9007199254740993",
        "9007199254740993.00000000000000000000000000000000000000000000000001",
        "9007199254740991", "9007199254740992.5", "18446744073709551615", "1e308",
        "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308",
        "-1.8e308", "1e309", "1e400", "1e99999999999999999999", "2.2250738585072014e-308",
        "2.2250738585072011e-308", "2.2250738585072012e-308", "4.9406564584124654e-324",
        "4.9e-324", "2.4703282292062327208299780e-324", "2.4703282292062327e-324",
        "2.4703282292062328e-324", "1e-323", "1e-324", "1e-400", "-1e-99999999999999999999",
        "0e99999999999999999999", "6.631236846766476e-316", "3.2378839133029012895883524125015e-312",
        "7.2057594037927933e16", "1.00000000000000011102230246251565404236316680908203125",
        "1.00000000000000011102230246251565404236316680908203124",
        "1.00000000000000011102230246251565404236316680908203126",
        "9999999999999999999", "99999999999999999999", "123456789012345678901234567890",
        "0.000000000000000000000000000000000000000000000000000000000000000000000000000000012345",
        "8.442911973260991817129021e-309", "2.225073858507201136057409796709e-308",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_read_like_strtod(cases[i]);
}

static void decimals_are_rounded_like_strtod(void **state)
{
    (void)state;
    for (int i = 0; i < 300000; i++) {
        char text[900];
        double x = double_of(next_random());
        if (!isfinite(x))
            continue;
        double next = nextafter(x, INFINITY);
        switch (i % 5) {
        case 0:                 /* a double in as many digits as you like */
            snprintf(text, sizeof text, "%.*e", (int)(next_random() % 25), x);
            break;
        case 1:                 /* of ordinary size, without an exponent */
            snprintf(text, sizeof text, "%.*f", (int)(next_random() % 30),
                     ldexp((double)(next_random() >> 11), -(int)(next_random() % 90)));
            break;
        case 2:                 /* the middle of two, exactly: long double has a bit for it */
            snprintf(text, sizeof text, "%.*Le", (int)(next_random() % 800),
                     ((long double)x + (long double)next) / 2);
            break;
        case 3:                 /* next to the middle */
            snprintf(text, sizeof text, "%.*Le", (int)(15 + next_random() % 10),
                     ((long double)x + (long double)next) / 2);
            break;
        default:
            snprintf(text, sizeof text, "%s%" PRIu64 ".%" PRIu64 "e%d", i & 16 ? "-" : "",
                     next_random() >> next_random() % 64, next_random(),
                     (int)(next_random() % 700) - 350);
        }
        assert_read_like_strtod(text);
    }
}

static void long_digit_strings_are_read(void **state)
{
    (void)state;
    enum { LENGTH = 100000 };
    static const char *const formats[] = {"0.%s1", "1%s", "1%se-100000", "0.%s1e100001",
                                          "9007199254740993.%s1", "0.5%s", "1%s.5e-100000"};
    char *zeros = malloc(LENGTH + 1), *text = malloc(LENGTH + 64);
    assert_true(zeros && text);
    memset(zeros, '0', LENGTH);
    zeros[LENGTH] = '\0';
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        const char *hole = strstr(formats[i], "%s");
        snprintf(text, LENGTH + 64, "%.*s%s%s", (int)(hole - formats[i]), formats[i], zeros,
                 hole + 2);
        assert_read_like_strtod(text);
    }
    free(zeros);
    free(text);
}

static void unsigned_integers_are_read_within_their_range(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t max;
        enum number_verdict verdict;
        uint64_t value;
    } cases[] = {
        {"0", 255, NUMBER_OK, 0},
        {"-0", 255, NUMBER_OK, 0},
        {"255", 255, NUMBER_OK, 255},
        {"256", 255, NUMBER_RANGE, 0},
        {"-1", 255, NUMBER_RANGE, 0},
        {"1.0", 255, NUMBER_FRACTION, 0},
        {"1e2", 255, NUMBER_FRACTION, 0},
        {"\"1\"", 255, NUMBER_INVALID, 0},
        {"9223372036854775808", UINT64_MAX, NUMBER_OK, UINT64_C(9223372036854775808)},
        {"9999999999999999999", UINT64_MAX, NUMBER_OK, UINT64_C(9999999999999999999)},
        {"10000000000000000000", UINT64_MAX, NUMBER_OK, UINT64_C(10000000000000000000)},
        {"18446744073709551615", UINT64_MAX, NUMBER_OK, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, NUMBER_RANGE, 0},
        {"18446744073709551625", UINT64_MAX, NUMBER_RANGE, 0},
        {"-18446744073709551615", UINT64_MAX, NUMBER_RANGE, 0},
        {"99999999999999999999", UINT64_MAX, NUMBER_RANGE, 0},
        {"184467440737095516150", UINT64_MAX, NUMBER_RANGE, 0},
        {"18446744073709551615.0", UINT64_MAX, NUMBER_FRACTION, 0},
        {"10000000000000000000", INT64_MAX, NUMBER_RANGE, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *p = cases[i].text;
        uint64_t value = 0;
        enum number_verdict verdict =
            number_read_unsigned(&p, p + strlen(p), cases[i].max, &value);
        if (verdict != cases[i].verdict || value != cases[i].value ||
            p != cases[i].text + (verdict == NUMBER_OK ? strlen(cases[i].text) : 0))
            fail_msg("%s: verdict %d, %" PRIu64, cases[i].text, (int)verdict, value);
    }
}

/* writing */

static void doubles_are_written_as_people_write_them(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0, "0.0"}, {-0.0, "-0.0"}, {3, "3.0"}, {-1, "-1.0"}, {0.5, "0.5"}, {0.1, "0.1"},
        {0.1 + 0.2, "0.30000000000000004"}, {1.0 / 3, "0.3333333333333333"},
        {1e15, "1000000000000000.0"}, {1e16, "1e16"}, {1e23, "1e23"}, {1.5e20, "1.5e20"},
        {0.000012, "0.000012"}, {0.0000012, "1.2e-6"}, {5e-324, "5e-324"},
        {9007199254740991, "9007199254740991.0"}, {9007199254740993.0, "9007199254740992.0"},
        {DBL_MAX, "1.7976931348623157e308"}, {-DBL_MAX, "-1.7976931348623157e308"},
        {DBL_MIN, "2.2250738585072014e-308"}, {2.98023223876953125e-8, "2.9802322387695312e-8"},
        {-1.2345678901234568e-5, "-0.000012345678901234568"}, {123456.789, "123456.789"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[NUMBER_MAX_TEXT + 1];
        text[number_write_double(text, cases[i].value)] = '\0';
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

/* Shortest, and of the shortest ones the nearest: what printf() rounds to, if it reads back. */
static void assert_shortest(double value)
{
    char text[NUMBER_MAX_TEXT + 1], other[64];
    size_t n = number_write_double(text, value);
    assert_true(n <= NUMBER_MAX_TEXT);
    text[n] = '\0';
    double back = strtod(text, NULL);
    if (memcmp(&back, &value, sizeof value) != 0)
        fail_msg("%a was written as %s", value, text);
    int digits = significant_digits(text);
    if (digits > 1) {
        snprintf(other, sizeof other, "%.*e", digits - 2, value);
        if (strtod(other, NULL) == value)
            fail_msg("%a was written as %s, but %s is enough", value, text, other);
    }
    snprintf(other, sizeof other, "%.*e", digits > 0 ? digits - 1 : 0, value);
    if (strtod(other, NULL) == value && fabs(strtod(other, NULL) - back) > 0)
        fail_msg("%a was written as %s, but %s is nearer", value, text, other);
    assert_read_like_strtod(text);
}

static void every_double_is_written_shortest_and_read_back(void **state)
{
    (void)state;
    for (uint64_t exponent = 0; exponent < 2047; exponent++)
        for (uint64_t i = 0; i < 16; i++) {
            uint64_t low = i < 8 ? i : (UINT64_MAX >> 12) - (i - 8);
            assert_shortest(double_of(exponent << 52 | low));
        }
    for (int i = 0; i < 200000; i++) {
        double value = double_of(next_random());
        if (isfinite(value))
            assert_shortest(value);
    }
    for (int i = 0; i < 100000; i++)        /* probabilities, and decimals of a few digits */
        assert_shortest(i & 1 ? (double)(next_random() >> 11) / 9007199254740992.0
                              : (double)(next_random() % 100000) / 1000);
    for (int k = -323; k <= 308; k++) {
        char text[16];
        snprintf(text, sizeof text, "1e%d", k);
        assert_shortest(strtod(text, NULL));
    }
}

static void unsigned_integers_are_written_whole(void **state)
{
    (void)state;
    static const uint64_t cases[] = {0, 7, 255, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[NUMBER_MAX_TEXT + 1], expected[32];
        text[number_write_unsigned(text, cases[i])] = '\0';
        snprintf(expected, sizeof expected, "%" PRIu64, cases[i]);
        assert_string_equal(text, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_double_is_refused),
        cmocka_unit_test(hard_decimals_are_rounded_like_strtod),
        cmocka_unit_test(decimals_are_rounded_like_strtod),
        cmocka_unit_test(long_digit_strings_are_read),
        cmocka_unit_test(unsigned_integers_are_read_within_their_range),
        cmocka_unit_test(doubles_are_written_as_people_write_them),
        cmocka_unit_test(every_double_is_written_shortest_and_read_back),
        cmocka_unit_test(unsigned_integers_are_written_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
