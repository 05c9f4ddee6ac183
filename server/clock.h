/*
 * The two clocks: one to measure with, one to tell people the time.
 */
#ifndef SERVER_CLOCK_H
#define SERVER_CLOCK_H

#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* Nanoseconds that only ever grow. */
static inline int64_t clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The same, up to some milliseconds late, at a fifth of the cost. */
static inline int64_t clock_about(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

enum { CLOCK_TEXT = 32 };

/* RFC 3339, UTC, microseconds. */
static inline void clock_text(char text[CLOCK_TEXT], struct timespec t)
{
    struct tm tm;
    gmtime_r(&t.tv_sec, &tm);
    size_t n = strftime(text, CLOCK_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, CLOCK_TEXT - n, ".%06ldZ", t.tv_nsec / 1000);
}

#endif
