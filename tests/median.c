#include "tests/median.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(const double *values, int n)
{
    size_t bytes = (size_t)n * sizeof *values;
    double *sorted = malloc(bytes);
    if (!sorted)
        exit(1);
    memcpy(sorted, values, bytes);
    qsort(sorted, (size_t)n, sizeof *sorted, compare);
    double result = sorted[n / 2];
    free(sorted);
    return result;
}
