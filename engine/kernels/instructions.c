/*
 * Which of the processor's instruction sets our kernels use. They are compiled for several, and
 * each family has a table of them, by enum kernel_set. Chosen once and not resolved by the
 * loader (target_clones): sanitizers are not ready when that happens, and tests want them all.
 */
#include "engine/kernels/kernels.h"

static enum kernel_set current = KERNEL_BASELINE;

static bool processor_has(enum kernel_set set)
{
    switch (set) {
    case KERNEL_BASELINE:
        return true;
#ifdef __x86_64__
    case KERNEL_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case KERNEL_AVX512:
        return __builtin_cpu_supports("avx512f") && processor_has(KERNEL_AVX2);
#endif
    default:
        return false;
    }
}

bool kernels_use(enum kernel_set set)
{
    if (!processor_has(set))
        return false;
    current = set;
    return true;
}

enum kernel_set kernels_used(void)
{
    return current;
}
