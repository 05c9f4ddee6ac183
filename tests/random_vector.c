#include "tests/random_vector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/kernels/kernels.h"

#include <stdlib.h>

nn_real *random_vector(int64_t n, uint64_t key)
{
    nn_real *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (nn_real)(2 * kernel_random_uniform(key, (uint64_t)i) - 1);
    return x;
}
