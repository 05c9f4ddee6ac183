/*
 * Powers of ten to 128 bits, for the conversions of number.h.
 */
#ifndef SERVER_POWERS_OF_TEN_H
#define SERVER_POWERS_OF_TEN_H

#include <stdint.h>

enum { POWERS_OF_TEN_MIN = -342, POWERS_OF_TEN_MAX = 324 };

/* Of these the 128 bits are all; the others are rounded down. */
enum { POWERS_OF_TEN_EXACT_MIN = 0, POWERS_OF_TEN_EXACT_MAX = 55 };

/* 10^k = (high 2^64 + low) 2^(floor(log2(10^k)) - 127), at [k - POWERS_OF_TEN_MIN]. */
struct power_of_ten {
    uint64_t high, low;
};

extern const struct power_of_ten powers_of_ten[];

#endif
