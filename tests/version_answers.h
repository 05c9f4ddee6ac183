/*
 * Answers of the versions of publish_linear() that are told apart by their weights.
 */
#ifndef TESTS_VERSION_ANSWERS_H
#define TESTS_VERSION_ANSWERS_H

#include <stdbool.h>

/* Odd and even versions differ in their weights. */
double version_scale(long version);

/* Whether the body of an answer to x is what the version that it names answers. */
bool version_answers(const char *body, const double x[4]);

#endif
