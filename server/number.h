/*
 * Numbers between JSON and memory, both ways exact.
 */
#ifndef SERVER_NUMBER_H
#define SERVER_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum number_verdict {
    NUMBER_OK,
    NUMBER_INVALID,             /* not a number of RFC 8259 */
    NUMBER_RANGE,               /* a number, but not of this type's range */
    NUMBER_FRACTION,            /* a fraction or an exponent where an integer is wanted */
};

/* Reads the JSON number that begins at *p (before end) and moves *p behind it; on failure
 * *p stays. Floats and doubles are correctly rounded; beyond FLT_MAX or DBL_MAX is
 * NUMBER_RANGE. */
enum number_verdict number_read_float(const char **p, const char *end, float *value);
enum number_verdict number_read_double(const char **p, const char *end, double *value);
enum number_verdict number_read_integer(const char **p, const char *end, int64_t min,
                                        int64_t max, int64_t *value);
enum number_verdict number_read_unsigned(const char **p, const char *end, uint64_t max,
                                         uint64_t *value);

/* Reads up to n numbers, each with the comma behind it and at most one blank before it, and
 * moves *p behind the last of these commas. Stops at the first that is not so or that
 * number_read_float() refuses. Returns how many it read. */
int64_t number_read_run(const char **p, const char *end, float *values, int64_t n);

/* Moves *p behind the JSON number that begins there, whatever its range. */
bool number_skip(const char **p, const char *end);

enum { NUMBER_MAX_TEXT = 24 };

/* The shortest decimal that reads back to the same float or double, as JSON; not for NaN or
 * infinity. Returns its length (no zero byte is written). */
size_t number_write_float(char *out, float value);
size_t number_write_double(char *out, double value);
size_t number_write_integer(char *out, int64_t value);
size_t number_write_unsigned(char *out, uint64_t value);

#endif
