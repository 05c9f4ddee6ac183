#include "server/number.h"

#include "server/powers_of_ten.h"
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* reading
 *
 * A decimal is  digits * 10^exponent.  Its first 19 significant digits fit into 64 bits. With
 * them, double arithmetic gives the value to within a few units in the last place: not enough
 * for a correctly rounded double, but a float's neighbours are 2^29 times further apart, and
 * only where the double lies next to the middle between two floats can the digits that were
 * lost decide. There, and among subnormal floats, strtof() is asked.
 */

enum { MAX_DIGITS = 19 };

struct decimal {
    bool negative;
    bool whole;                 /* written without fraction and exponent */
    uint64_t digits;            /* the first MAX_DIGITS significant ones */
    bool more;                  /* there are more of them */
    int64_t exponent;           /* of `digits` */
    const char *begin, *end;    /* the text of the digits, with the point in them */
};

static inline bool is_digit(const char *p, const char *end)
{
    return p < end && (unsigned char)(*p - '0') < 10;
}

/* Far beyond every float and yet not beyond an int64_t, when the length of a body is added. */
static const int64_t EXPONENT_LIMIT = INT64_C(1000000000000000);

/* Reads [eE][+-]digits, if they are there. False: they are incomplete. */
static bool scan_exponent(const char **p, const char *end, int64_t *exponent)
{
    const char *s = *p;
    if (s == end || (*s != 'e' && *s != 'E'))
        return true;
    s++;
    bool negative = s < end && *s == '-';
    if (s < end && (*s == '+' || *s == '-'))
        s++;
    if (!is_digit(s, end))
        return false;
    int64_t value = 0;
    for (; is_digit(s, end); s++)
        if (value < EXPONENT_LIMIT)
            value = 10 * value + (*s - '0');
    *exponent += negative ? -value : value;
    *p = s;
    return true;
}

/* Reads the digits again where there are more than a uint64_t holds for sure. Leading zeros
 * are not significant. */
static void scan_many_digits(struct decimal *d)
{
    bool point = false;
    int n = 0;
    d->digits = 0;
    for (const char *s = d->begin; s < d->end; s++) {
        if (*s == '.') {
            point = true;
        } else if (n == MAX_DIGITS) {
            d->more = true;
            d->exponent += !point;
        } else {
            d->digits = 10 * d->digits + (uint64_t)(*s - '0');
            n += d->digits > 0;
            d->exponent -= point;
        }
    }
}

/* RFC 8259, 6: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)? */
static inline bool scan(const char **p, const char *end, struct decimal *d)
{
    const char *s = *p;
    d->negative = s < end && *s == '-';
    s += d->negative;

    uint64_t digits = 0;
    d->begin = s;
    for (; is_digit(s, end); s++)
        digits = 10 * digits + (uint64_t)(*s - '0');
    long n = s - d->begin;
    if (n == 0 || (n > 1 && *d->begin == '0'))
        return false;

    d->exponent = 0;
    d->more = false;
    d->whole = true;
    if (s < end && *s == '.') {
        const char *fraction = ++s;
        for (; is_digit(s, end); s++)
            digits = 10 * digits + (uint64_t)(*s - '0');
        if (s == fraction)
            return false;
        d->exponent = fraction - s;
        d->whole = false;
        n += s - fraction;
    }
    d->digits = digits;
    d->end = s;
    if (n > MAX_DIGITS) {
        d->exponent = 0;
        scan_many_digits(d);
    }
    if (s < end && (*s == 'e' || *s == 'E')) {
        d->whole = false;
        if (!scan_exponent(&s, end, &d->exponent))
            return false;
    }
    *p = s;
    return true;
}

bool number_skip(const char **p, const char *end)
{
    struct decimal d;
    return scan(p, end, &d);
}

/* Every power of ten that a double holds exactly. */
static const double powers[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};
enum { EXACT_POWER = 22 };

/* No middle between two floats has more than 112 significant digits, none between two doubles
 * more than 767, so that all further ones only say "a little more". */
enum { ENOUGH_FOR_FLOAT = 120, ENOUGH_FOR_DOUBLE = 770, EXACT_TEXT = ENOUGH_FOR_DOUBLE + 32 };

/* The number for strtof() and strtod(), whatever the locale: without a point they have none to
 * look up. */
static void print_exactly(char text[EXACT_TEXT], const struct decimal *d, int64_t exponent,
                          int enough)
{
    int n = 0;
    bool more = false;
    int64_t point = 0;          /* kept digits behind it, less those left out before it */
    bool fraction = false;
    for (const char *s = d->begin; s < d->end; s++) {
        if (*s == '.') {
            fraction = true;
            continue;
        }
        if (n < enough) {
            if (n > 0 || *s != '0')
                text[n++] = *s;
            point += fraction;
        } else {
            more |= *s != '0';
            point -= !fraction;
        }
    }
    if (more) {
        text[n++] = '1';
        point++;
    }

    /* What was written behind the digits is what scan() has on top of their own exponent. */
    text[n++] = 'e';
    n += (int)number_write_integer(text + n, exponent - point);
    text[n] = '\0';
}

/* The exponent that was written behind the digits. */
static int64_t written_exponent(const struct decimal *d, const char *after)
{
    int64_t exponent = 0;
    const char *s = d->end;
    scan_exponent(&s, after, &exponent);
    return exponent;
}

static float read_float_exactly(const struct decimal *d, int64_t exponent)
{
    char text[EXACT_TEXT];
    print_exactly(text, d, exponent, ENOUGH_FOR_FLOAT);
    return strtof(text, NULL);
}

/* Whether a double within 4 units of the true value rounds to the same float as that: it is
 * not next to the middle between two. */
static inline bool decides_float(double x)
{
    enum { UNCERTAIN = 8 };
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint64_t below_float = bits & ((UINT64_C(1) << 29) - 1);
    return below_float - (UINT64_C(1) << 28) + UNCERTAIN > 2 * UNCERTAIN;
}

enum number_verdict number_read_float(const char **p, const char *end, float *value)
{
    const char *s = *p;
    struct decimal d;
    if (!scan(&s, end, &d))
        return NUMBER_INVALID;

    /* 0 < digits < 10^20: below 10^-50 everything is 0, from 10^40 on nothing is a float. */
    double x = (double)d.digits;
    if (d.digits == 0 || d.exponent < -70)
        x = 0;
    else if (d.exponent > 40)
        return NUMBER_RANGE;
    else if (d.exponent < -EXACT_POWER)
        for (int64_t e = -d.exponent; e > 0; e -= EXACT_POWER)
            x /= powers[e < EXACT_POWER ? e : EXACT_POWER];
    else if (d.exponent < 0)
        x /= powers[-d.exponent];
    else if (d.exponent > EXACT_POWER)
        x = x * powers[EXACT_POWER] * powers[d.exponent - EXACT_POWER];
    else
        x *= powers[d.exponent];

    /* At most five roundings of half a unit each, and the digits beyond the 19th. */
    float result;
    if (!decides_float(x) || (x < FLT_MIN && x != 0))
        result = read_float_exactly(&d, written_exponent(&d, s));
    else
        result = x > 0x1.ffffffp127 ? INFINITY : (float)x;
    if (isinf(result))
        return NUMBER_RANGE;
    *value = d.negative ? -result : result;
    *p = s;
    return NUMBER_OK;
}

/* The double nearest to  digits * 10^exponent: D. Lemire, "Number parsing at a gigabyte per
 * second" (2021), after M. Eisel.
 *
 * The product of both, each with its leading bit in front, has the double's 53 bits, one to
 * round by, and the rest, which says whether that one is exactly the middle. 64 bits of the
 * power are enough unless all bits of the product behind those are ones, to which the lower
 * half of the power may still add. False: even that does not decide.
 */
static bool nearest_double(uint64_t digits, int64_t exponent, uint64_t *bits)
{
    enum { FRACTION = 52, BIAS = 1023, LARGEST = 308, INFINITE = 0x7ff };
    enum { DROPPED = 64 - FRACTION - 3 };       /* behind the bit to round by, at least */
    const uint64_t ones = (UINT64_C(1) << DROPPED) - 1;
    *bits = 0;
    if (digits == 0 || exponent < POWERS_OF_TEN_MIN)
        return true;
    if (exponent > LARGEST) {
        *bits = (uint64_t)INFINITE << FRACTION;
        return true;
    }
    const struct power_of_ten *power = &powers_of_ten[exponent - POWERS_OF_TEN_MIN];
    int leading = __builtin_clzll(digits);
    unsigned __int128 product = (unsigned __int128)(digits << leading) * power->high;
    if (((uint64_t)(product >> 64) & ones) == ones) {
        product += (unsigned __int128)(digits << leading) * power->low >> 64;
        bool exact = exponent >= POWERS_OF_TEN_EXACT_MIN && exponent <= POWERS_OF_TEN_EXACT_MAX;
        if ((uint64_t)product == UINT64_MAX && !exact)
            return false;
    }

    uint64_t upper = (uint64_t)(product >> 64), lower = (uint64_t)product;
    int carry = (int)(upper >> 63), shift = carry + DROPPED;
    uint64_t significand = upper >> shift;      /* FRACTION + 2 bits */
    int field = (int)((217706 * exponent) >> 16) + 63 + carry - leading + BIAS;
    if (field <= 0) {                           /* subnormal */
        if (1 - field >= 64)
            return true;
        significand >>= 1 - field;
        significand += significand & 1;
        *bits = significand >> 1;               /* a carry makes it the smallest normal one */
        return true;
    }
    /* The middle, which only a few powers can hit: to the even one. */
    if (lower <= 1 && exponent >= -4 && exponent <= 23 && (significand & 3) == 1 &&
        significand << shift == upper)
        significand--;
    significand += significand & 1;
    /* The leading bit adds one to the field, and so does a carry. */
    *bits = ((uint64_t)(field - 1) << FRACTION) + (significand >> 1);
    if (*bits >> FRACTION >= INFINITE)
        *bits = (uint64_t)INFINITE << FRACTION;
    return true;
}

enum number_verdict number_read_double(const char **p, const char *end, double *value)
{
    const char *s = *p;
    struct decimal d;
    if (!scan(&s, end, &d))
        return NUMBER_INVALID;

    uint64_t bits, above;
    bool certain = nearest_double(d.digits, d.exponent, &bits);
    if (certain && d.more)      /* between these digits and the next higher ones */
        certain = nearest_double(d.digits + 1, d.exponent, &above) && above == bits;
    double result;
    if (certain) {
        memcpy(&result, &bits, sizeof result);
    } else {
        char text[EXACT_TEXT];
        print_exactly(text, &d, written_exponent(&d, s), ENOUGH_FOR_DOUBLE);
        result = strtod(text, NULL);
    }
    if (isinf(result))
        return NUMBER_RANGE;
    *value = d.negative ? -result : result;
    *p = s;
    return NUMBER_OK;
}

/* runs of numbers */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first character is the lowest");

static inline uint64_t load(const char *s)
{
    uint64_t word;
    memcpy(&word, s, sizeof word);
    return word;
}

/* How many of eight characters, the first in the lowest byte, are digits before one is not. */
static inline int leading_digits(uint64_t word)
{
    word ^= UINT64_C(0x3030303030303030);
    /* A byte above 9 gets its high bit; only behind it may a carry give one to others. */
    uint64_t others =
        ((word + UINT64_C(0x7676767676767676)) | word) & UINT64_C(0x8080808080808080);
    return others ? __builtin_ctzll(others) / 8 : 8;
}

/* The value of the first n > 0 of them, which are digits: neighbours become pairs, pairs fours,
 * fours eight (D. Lemire, "Quickly parsing eight digits", 2018). */
static inline int64_t digits_value(uint64_t word, int n)
{
    word = (word ^ UINT64_C(0x3030303030303030)) << (64 - 8 * n);
    word = (word * 10 + (word >> 8)) & UINT64_C(0x00ff00ff00ff00ff);
    word = (word * 100 + (word >> 16)) & UINT64_C(0x0000ffff0000ffff);
    return (int64_t)((word * 10000 + (word >> 32)) & UINT64_C(0xffffffff));
}

enum {
    PLAIN_DIGITS = 18, /* fit into an int64_t */
    PLAIN_SIZE = 40,   /* more bytes than read_plain() looks at */
};

/* Reads what nearly every number is: without an exponent, not too long, before a comma. No
 * branch depends on how long it is, which no processor could foresee. Returns what is behind
 * the comma; NULL: it is something else, or needs more care. */
static inline const char *read_plain(const char *s, float *value)
{
    static const int64_t tens[] = {1,      10,      100,      1000,     10000,
                                   100000, 1000000, 10000000, 100000000};
    bool negative = *s == '-';
    s += negative;
    uint64_t word = load(s);
    int n = leading_digits(word), places = 0;
    if (n == 0 || n == 8 || (n > 1 && *s == '0'))
        return NULL;
    int64_t digits = digits_value(word, n);
    s += n;
    if (*s == '.') {
        int left = PLAIN_DIGITS - n;
        s++;
        do {
            word = load(s);
            n = leading_digits(word);
            places += n;
            if (n == 0 || places > left)
                return NULL;
            digits = digits * tens[n] + digits_value(word, n);
            s += n;
        } while (n == 8);
    }
    double x = (double)digits / powers[places];
    if (*s != ',' || !decides_float(x))
        return NULL;
    *value = (float)(negative ? -x : x);
    return s + 1;
}

/* The first n of eight characters, n <= 8. */
static inline uint64_t first_bytes(size_t n)
{
    return n == 8 ? UINT64_MAX : ~(UINT64_MAX << 8 * n);
}

/* How a zero was written, with its comma: in eight bytes, of which the mask says which. */
struct spelling {
    uint64_t word, mask;
    size_t size;
};

/* Where a zero is written like the last one, eight bytes are compared instead of read: most of
 * an image of strokes, and of what is counted or one-hot. */
int64_t number_read_run(const char **p, const char *end, float *values, int64_t n)
{
    struct spelling zero = {.word = 1}; /* nothing is like it */
    const char *s = *p;
    int64_t i = 0;

    for (; i < n; i++) {
        bool inside = end - s > PLAIN_SIZE;
        if (inside && (load(s) & zero.mask) == zero.word) {
            values[i] = 0;
            s += zero.size;
            continue;
        }
        const char *begin = s, *number = s + (s < end && *s == ' ');
        const char *next = inside ? read_plain(number, &values[i]) : NULL;
        if (!next) {
            next = number;
            if (number_read_float(&next, end, &values[i]) != NUMBER_OK || next == end ||
                *next != ',')
                break;
            next++;
        }
        s = next;
        size_t size = (size_t)(s - begin);
        if (inside && size <= 8 && values[i] == 0 && !signbit(values[i])) {
            uint64_t mask = first_bytes(size);
            zero = (struct spelling){load(begin) & mask, mask, size};
        }
    }
    *p = s;
    return i;
}

enum number_verdict number_read_integer(const char **p, const char *end, int64_t min,
                                        int64_t max, int64_t *value)
{
    const char *s = *p;
    struct decimal d;
    if (!scan(&s, end, &d))
        return NUMBER_INVALID;
    if (!d.whole)
        return NUMBER_FRACTION;

    uint64_t largest = (uint64_t)INT64_MAX + d.negative;
    if (d.more || d.digits > largest)
        return NUMBER_RANGE;
    int64_t x = (int64_t)(d.negative ? 0 - d.digits : d.digits);
    if (x < min || x > max)
        return NUMBER_RANGE;
    *value = x;
    *p = s;
    return NUMBER_OK;
}

enum number_verdict number_read_unsigned(const char **p, const char *end, uint64_t max,
                                         uint64_t *value)
{
    const char *s = *p;
    struct decimal d;
    if (!scan(&s, end, &d))
        return NUMBER_INVALID;
    if (!d.whole)
        return NUMBER_FRACTION;
    /* Twenty digits may be less than 2^64, too. */
    uint64_t x = d.digits;
    if (d.more && (d.end - d.begin != MAX_DIGITS + 1 || __builtin_mul_overflow(x, 10, &x) ||
                   __builtin_add_overflow(x, (uint64_t)(d.end[-1] - '0'), &x)))
        return NUMBER_RANGE;
    if (x > max || (d.negative && x > 0))
        return NUMBER_RANGE;
    *value = x;
    *p = s;
    return NUMBER_OK;
}
