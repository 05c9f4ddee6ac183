/*
 * Requests whose framing two servers may read differently, each followed by a request that
 * must never be executed: its answer would hold FRAMING_HIDDEN.
 */
#ifndef TESTS_FRAMING_CASES_H
#define TESTS_FRAMING_CASES_H

#include <stddef.h>

#define FRAMING_HIDDEN "hidden"

struct framing_case {
    const char *name;
    const char *bytes;
    size_t size;
    int status;        /* 0: closed without an answer */
    const char *error; /* how the answer's text begins; NULL: the library's own */
};

extern const struct framing_case framing_cases[];
extern const size_t n_framing_cases;

#endif
