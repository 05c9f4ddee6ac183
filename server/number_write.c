/*
 * Numbers as text: the other half of number.h.
 */
#include "server/number.h"

#include "server/powers_of_ten.h"
#include <string.h>

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

size_t number_write_unsigned(char *out, uint64_t value)
{
    return write_digits(out, value);
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

/* The same for a double, with 128 bits of the power. */
static uint64_t round_to_odd_wide(const struct power_of_ten *power, bool exact, uint64_t factor)
{
    unsigned __int128 low = power->low, high = power->high;
    low += !exact;              /* rounded up; no power ends in 64 ones */
    low *= factor;
    high = high * factor + (low >> 64);
    return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

static uint64_t shortest_double(uint64_t bits, int *exponent)
{
    uint64_t fraction = bits & (UINT64_MAX >> 12);
    int biased = (int)(bits >> 52 & 0x7ff);
    uint64_t c = biased ? fraction | UINT64_C(1) << 52 : fraction;
    int q = (biased ? biased : 1) - 1075;

    if (q <= 0 && q > -53 && (c & ((UINT64_C(1) << -q) - 1)) == 0) {
        *exponent = 0;          /* a whole number below 2^53 */
        return c >> -q;
    }

    uint64_t closer = fraction == 0 && biased > 1;
    uint64_t odd = c & 1;
    int k = floor_shift(q * 1262611 - (closer ? 524031 : 0), 22);
    int h = q + floor_shift(-k * 1741647, 19) + 1;
    const struct power_of_ten *power = &powers_of_ten[-k - POWERS_OF_TEN_MIN];
    bool exact = -k >= POWERS_OF_TEN_EXACT_MIN && -k <= POWERS_OF_TEN_EXACT_MAX;
    uint64_t lower = round_to_odd_wide(power, exact, (4 * c - 2 + closer) << h) + odd;
    uint64_t middle = round_to_odd_wide(power, exact, 4 * c << h);
    uint64_t upper = round_to_odd_wide(power, exact, (4 * c + 2) << h) - odd;

    uint64_t s = middle / 4;
    if (s >= 10) {
        uint64_t tens = s / 10;
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

/* decimal 10^exponent, without zeros at the end of `decimal`. */
static inline __attribute__((always_inline)) size_t write_decimal(char *out, uint64_t decimal,
                                                                  int exponent)
{
    enum { MIN_POINT = -4, MAX_POINT = 16 };    /* 0.00001 and 10^16 */
    char *start = out;
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

size_t number_write_float(char *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    *out = '-';
    size_t sign = bits >> 31;
    if (bits << 1 == 0) {
        memcpy(out + sign, "0.0", 3);
        return sign + 3;
    }
    int exponent;
    uint32_t decimal = shortest(bits, &exponent);
    for (; decimal % 10 == 0; decimal /= 10)
        exponent++;
    return sign + write_decimal(out + sign, decimal, exponent);
}

size_t number_write_double(char *out, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    *out = '-';
    size_t sign = bits >> 63;
    if (bits << 1 == 0) {
        memcpy(out + sign, "0.0", 3);
        return sign + 3;
    }
    int exponent;
    uint64_t decimal = shortest_double(bits, &exponent);
    for (; decimal % 10 == 0; decimal /= 10)
        exponent++;
    return sign + write_decimal(out + sign, decimal, exponent);
}
