#include "server/number.h"

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

/* The exact way, whatever the locale: without a point strtof() has none to look up. No middle
 * between two floats has more than 112 significant digits, so that all further ones only
 * say "a little more". */
static float read_exactly(const struct decimal *d, int64_t exponent)
{
    enum { ENOUGH = 120 };
    char text[ENOUGH + 32];
    int n = 0;
    bool more = false;
    int64_t point = 0;          /* kept digits behind it, less those left out before it */
    bool fraction = false;
    for (const char *s = d->begin; s < d->end; s++) {
        if (*s == '.') {
            fraction = true;
            continue;
        }
        if (n < ENOUGH) {
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
    return strtof(text, NULL);
}

/* The exponent that was written behind the digits. */
static int64_t written_exponent(const struct decimal *d, const char *after)
{
    int64_t exponent = 0;
    const char *s = d->end;
    scan_exponent(&s, after, &exponent);
    return exponent;
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

    /* At most five roundings of half a unit each, and the digits beyond the 19th: within 4
     * units of the true value. */
    enum { UNCERTAIN = 8 };
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint64_t below_float = bits & ((UINT64_C(1) << 29) - 1);
    uint64_t above_middle = below_float - (UINT64_C(1) << 28) + UNCERTAIN;
    float result;
    if (above_middle <= 2 * UNCERTAIN || (x < FLT_MIN && x != 0))
        result = read_exactly(&d, written_exponent(&d, s));
    else
        result = x > 0x1.ffffffp127 ? INFINITY : (float)x;
    if (isinf(result))
        return NUMBER_RANGE;
    *value = d.negative ? -result : result;
    *p = s;
    return NUMBER_OK;
}

/* The first n of eight bytes as they lie in memory, n <= 8. */
static inline uint64_t mask_bytes(size_t n)
{
    uint64_t unwanted = n == 8 ? 0 : UINT64_MAX >> 8 * n;
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ~__builtin_bswap64(unwanted) : ~unwanted;
}

/* Where a number is written like the one before it, as most zeros of an image are, eight
 * bytes are compared instead of read. */
int64_t number_read_run(const char **p, const char *end, float *values, int64_t n)
{
    const char *s = *p;
    uint64_t mask = 0, before = 1;      /* nothing is like it */
    size_t size = 0;
    int64_t i = 0;
    for (float value = 0; i < n; i++) {
        uint64_t word = 0;
        if (end - s >= 8) {
            memcpy(&word, s, sizeof word);
            if ((word & mask) == before) {
                values[i] = value;
                s += size;
                continue;
            }
        }
        const char *begin = s, *number = s + (s < end && *s == ' ');
        if (number_read_float(&number, end, &value) != NUMBER_OK || number == end ||
            *number != ',')
            break;
        values[i] = value;
        s = number + 1;
        size = (size_t)(s - begin);
        bool fits = size <= 8 && end - begin >= 8;
        mask = fits ? mask_bytes(size) : 0;
        before = fits ? word & mask : 1;
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

/* writing */

static size_t write_digits(char *out, uint64_t value)
{
    char reversed[20];
    size_t n = 0;
    do {
        reversed[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    for (size_t i = 0; i < n; i++)
        out[i] = reversed[n - 1 - i];
    return n;
}

size_t number_write_integer(char *out, int64_t value)
{
    if (value >= 0)
        return write_digits(out, (uint64_t)value);
    *out = '-';
    return 1 + write_digits(out + 1, 0 - (uint64_t)value);
}

/* The shortest decimal of a float: R. Giulietti, "The Schubfach way to render doubles" (2020).
 *
 * A float  c 2^q  stands for every number between the middles to its neighbours. With k such
 * that 10^k is not wider than this interval and 10^(k+1) wider, the interval holds one multiple
 * of 10^k or more, and at most one of 10^(k+1): that one if it is there, else the nearest of
 * the others. The ends of the interval and the float are compared as multiples of 10^k/4, by a
 * product with 64 bits of 10^-k, rounded to odd so that nothing decides wrongly.
 */

enum { MIN_POWER = -31 };

/* 10^k / 2^(floor(log2(10^k)) - 63), rounded up, from k = MIN_POWER on. */
static const uint64_t scaled_powers[] = {
    0x81CEB32C4B43FCF5, 0xA2425FF75E14FC32, 0xCAD2F7F5359A3B3F, 0xFD87B5F28300CA0E,
    0x9E74D1B791E07E49, 0xC612062576589DDB, 0xF79687AED3EEC552, 0x9ABE14CD44753B53,
    0xC16D9A0095928A28, 0xF1C90080BAF72CB2, 0x971DA05074DA7BEF, 0xBCE5086492111AEB,
    0xEC1E4A7DB69561A6, 0x9392EE8E921D5D08, 0xB877AA3236A4B44A, 0xE69594BEC44DE15C,
    0x901D7CF73AB0ACDA, 0xB424DC35095CD810, 0xE12E13424BB40E14, 0x8CBCCC096F5088CC,
    0xAFEBFF0BCB24AAFF, 0xDBE6FECEBDEDD5BF, 0x89705F4136B4A598, 0xABCC77118461CEFD,
    0xD6BF94D5E57A42BD, 0x8637BD05AF6C69B6, 0xA7C5AC471B478424, 0xD1B71758E219652C,
    0x83126E978D4FDF3C, 0xA3D70A3D70A3D70B, 0xCCCCCCCCCCCCCCCD, 0x8000000000000000,
    0xA000000000000000, 0xC800000000000000, 0xFA00000000000000, 0x9C40000000000000,
    0xC350000000000000, 0xF424000000000000, 0x9896800000000000, 0xBEBC200000000000,
    0xEE6B280000000000, 0x9502F90000000000, 0xBA43B74000000000, 0xE8D4A51000000000,
    0x9184E72A00000000, 0xB5E620F480000000, 0xE35FA931A0000000, 0x8E1BC9BF04000000,
    0xB1A2BC2EC5000000, 0xDE0B6B3A76400000, 0x8AC7230489E80000, 0xAD78EBC5AC620000,
    0xD8D726B7177A8000, 0x878678326EAC9000, 0xA968163F0A57B400, 0xD3C21BCECCEDA100,
    0x84595161401484A0, 0xA56FA5B99019A5C8, 0xCECB8F27F4200F3A, 0x813F3978F8940985,
    0xA18F07D736B90BE6, 0xC9F2C9CD04674EDF, 0xFC6F7C4045812297, 0x9DC5ADA82B70B59E,
    0xC5371912364CE306, 0xF684DF56C3E01BC7, 0x9A130B963A6C115D, 0xC097CE7BC90715B4,
    0xF0BDC21ABB48DB21, 0x96769950B50D88F5, 0xBC143FA4E250EB32, 0xEB194F8E1AE525FE,
    0x92EFD1B8D0CF37BF, 0xB7ABC627050305AE, 0xE596B7B0C643C71A, 0x8F7E32CE7BEA5C70,
    0xB35DBF821AE4F38C,
};

/* floor(a / 2^n), also of negative numbers */
static int floor_shift(int a, int n)
{
    return a >= 0 ? a >> n : -((-a + (1 << n) - 1) >> n);
}

static uint32_t round_to_odd(uint64_t power, uint32_t factor)
{
    unsigned __int128 product = (unsigned __int128)power * factor;
    uint32_t quotient = (uint32_t)(product >> 64), rest = (uint32_t)(product >> 32);
    return quotient | (rest > 1);
}

/* |value| = returned * 10^*exponent, for bits of a float that is finite and not 0. */
static uint32_t shortest(uint32_t bits, int *exponent)
{
    uint32_t fraction = bits & 0x7fffff;
    int biased = bits >> 23 & 0xff;
    uint32_t c = biased ? fraction | 0x800000 : fraction;
    int q = (biased ? biased : 1) - 150;

    if (q <= 0 && q > -24 && (c & ((1u << -q) - 1)) == 0) {
        *exponent = 0;          /* a whole number below 2^24 */
        return c >> -q;
    }

    /* Below a power of two the neighbour is half as far away. The ends belong to the interval
     * when ties go to c, which is then even. */
    uint32_t closer = fraction == 0 && biased > 1;
    uint32_t odd = c & 1;
    int k = floor_shift(q * 1262611 - (closer ? 524031 : 0), 22);       /* log10 of 2^q */
    int h = q + floor_shift(-k * 1741647, 19) + 1;                      /* log2 of 10^-k */
    uint64_t power = scaled_powers[-k - MIN_POWER];
    uint32_t lower = round_to_odd(power, (4 * c - 2 + closer) << h) + odd;
    uint32_t middle = round_to_odd(power, 4 * c << h);
    uint32_t upper = round_to_odd(power, (4 * c + 2) << h) - odd;

    uint32_t s = middle / 4;
    if (s >= 10) {
        uint32_t tens = s / 10;
        bool below = lower <= 40 * tens, above = 40 * tens + 40 <= upper;
        if (below != above) {
            *exponent = k + 1;
            return tens + above;
        }
    }
    *exponent = k;
    bool below = lower <= 4 * s, above = 4 * s + 4 <= upper;
    if (below != above)
        return s + above;
    return s + (middle > 4 * s + 2 || (middle == 4 * s + 2 && (s & 1)));
}

/* Behind the n digits at `out` come zeros up to the point, and ".0". */
static size_t write_whole(char *out, size_t n, int point)
{
    for (; n < (size_t)point; n++)
        out[n] = '0';
    memcpy(out + n, ".0", 2);
    return n + 2;
}

size_t number_write_float(char *out, float value)
{
    enum { MIN_POINT = -4, MAX_POINT = 16 };    /* 0.00001 and 10^16 */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    char *start = out;
    if (bits >> 31)
        *out++ = '-';
    if (bits << 1 == 0) {
        memcpy(out, "0.0", 3);
        return (size_t)(out - start) + 3;
    }

    int exponent;
    uint32_t decimal = shortest(bits, &exponent);
    for (; decimal % 10 == 0; decimal /= 10)
        exponent++;
    char digits[20];
    int n = (int)write_digits(digits, decimal);
    int point = n + exponent;   /* the digits before the point; 0 and less: zeros behind it */

    if (point < MIN_POINT || point > MAX_POINT) {
        *out++ = digits[0];
        if (n > 1) {
            *out++ = '.';
            memcpy(out, digits + 1, (size_t)n - 1);
            out += n - 1;
        }
        *out++ = 'e';
        out += number_write_integer(out, point - 1);
    } else if (point <= 0) {
        memcpy(out, "0.0000", 6);
        out += 2 - point;
        memcpy(out, digits, (size_t)n);
        out += n;
    } else if (point >= n) {
        memcpy(out, digits, (size_t)n);
        out += write_whole(out, (size_t)n, point);
    } else {
        memcpy(out, digits, (size_t)point);
        out[point] = '.';
        memcpy(out + point + 1, digits + point, (size_t)(n - point));
        out += n + 1;
    }
    return (size_t)(out - start);
}
