#ifndef TESTS_MEDIAN_H
#define TESTS_MEDIAN_H

/* The upper one of two in the middle. */
double median(const double *values, int n);

#endif
