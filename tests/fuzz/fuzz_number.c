/*
 * Numbers: what number.h reads is what the C library reads, bit by bit; what it writes reads
 * back; and all readers agree on what a number is.
 */
#include "tests/fuzz/fuzz.h"

#include "server/number.h"
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <string.h>

static locale_t c_locale;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    c_locale = newlocale(LC_ALL_MASK, "C", NULL);
    MUST(c_locale);
    return 0;
}

static void check_float(const char *begin, const char *behind, enum number_verdict verdict,
                        float value)
{
    char *text = strndup(begin, (size_t)(behind - begin)), *end;
    MUST(text);
    float expected = strtof_l(text, &end, c_locale);
    MUST(*end == 0 && end > text);
    if (verdict == NUMBER_OK)
        MUST(memcmp(&value, &expected, sizeof value) == 0);
    else
        MUST(isinf(expected));
    free(text);
}

static void check_double(const char *begin, const char *behind, enum number_verdict verdict,
                         double value)
{
    char *text = strndup(begin, (size_t)(behind - begin));
    MUST(text);
    double expected = strtod_l(text, NULL, c_locale);
    if (verdict == NUMBER_OK)
        MUST(memcmp(&value, &expected, sizeof value) == 0);
    else
        MUST(isinf(expected));
    free(text);
}

static void check_unsigned(const char *begin, const char *behind, enum number_verdict verdict,
                           uint64_t value)
{
    char *text = strndup(begin, (size_t)(behind - begin)), *end;
    MUST(text);
    errno = 0;
    unsigned long long expected = strtoull(text, &end, 10);     /* which negates: -1 is 2^64-1 */
    bool whole = *end == 0, negative = *text == '-' && expected != 0;
    if (verdict == NUMBER_OK)
        MUST(whole && !negative && errno == 0 && value == expected);
    else if (verdict == NUMBER_RANGE)
        MUST(whole && (negative || errno == ERANGE));
    else
        MUST(verdict == NUMBER_FRACTION && !whole);
    free(text);
}

static void check_integer(const char *begin, const char *behind, enum number_verdict verdict,
                          int64_t value)
{
    char *text = strndup(begin, (size_t)(behind - begin)), *end;
    MUST(text);
    errno = 0;
    long long expected = strtoll(text, &end, 10);
    bool whole = *end == 0;
    if (verdict == NUMBER_OK)
        MUST(whole && errno == 0 && value == expected && expected >= -1000);
    else if (verdict == NUMBER_RANGE)
        MUST(whole && (errno == ERANGE || expected < -1000));
    else
        MUST(verdict == NUMBER_FRACTION && !whole);
    free(text);
}

static void check_writing(const uint8_t *data)
{
    char text[NUMBER_MAX_TEXT];
    float value, back;
    memcpy(&value, data, sizeof value);
    if (!isfinite(value))
        return;
    const char *p = text, *end = text + number_write_float(text, value);
    MUST(end > text && end <= text + sizeof text);
    MUST(number_read_float(&p, end, &back) == NUMBER_OK && p == end);
    MUST(memcmp(&back, &value, sizeof value) == 0);
}

static void check_writing_double(const uint8_t *data)
{
    char text[NUMBER_MAX_TEXT];
    double value, back;
    memcpy(&value, data, sizeof value);
    if (!isfinite(value))
        return;
    const char *p = text, *end = text + number_write_double(text, value);
    MUST(end > text && end <= text + sizeof text);
    MUST(number_read_double(&p, end, &back) == NUMBER_OK && p == end);
    MUST(memcmp(&back, &value, sizeof value) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *begin = (const char *)data, *end = begin + size;
    const char *f = begin, *i = begin, *s = begin;
    float value = 0;
    int64_t integer = 0;

    bool skipped = number_skip(&s, end);
    enum number_verdict verdict = number_read_float(&f, end, &value);
    MUST(skipped == (verdict == NUMBER_OK || verdict == NUMBER_RANGE));
    MUST(f == (verdict == NUMBER_OK ? s : begin));
    if (skipped)
        check_float(begin, s, verdict, value);

    verdict = number_read_integer(&i, end, -1000, INT64_MAX, &integer);
    MUST(skipped == (verdict != NUMBER_INVALID));
    MUST(i == (verdict == NUMBER_OK ? s : begin));
    if (skipped)
        check_integer(begin, s, verdict, integer);

    const char *d = begin, *u = begin;
    double wide = 0;
    verdict = number_read_double(&d, end, &wide);
    MUST(skipped == (verdict == NUMBER_OK || verdict == NUMBER_RANGE));
    MUST(d == (verdict == NUMBER_OK ? s : begin));
    if (skipped)
        check_double(begin, s, verdict, wide);

    uint64_t natural = 0;
    verdict = number_read_unsigned(&u, end, UINT64_MAX, &natural);
    MUST(skipped == (verdict != NUMBER_INVALID));
    MUST(u == (verdict == NUMBER_OK ? s : begin));
    if (skipped)
        check_unsigned(begin, s, verdict, natural);

    if (size >= 4)
        check_writing(data);
    if (size >= 8)
        check_writing_double(data);
    return 0;
}
