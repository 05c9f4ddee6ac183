/*
 * Random numbers by counter: Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random
 * numbers: as easy as 1, 2, 3" (SC11). A block cipher's worth of mixing of (counter, key), so
 * that nearby keys and counters give independent numbers.
 */
#include "engine/kernels/kernels.h"

#include <math.h>

struct block {
    uint32_t words[4];
};

/* Counter words 0 and 1 are `low`, 2 and 3 are `high`, least significant word first. */
static struct block philox(uint64_t key, uint64_t low, uint64_t high)
{
    uint32_t key0 = (uint32_t)key, key1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)low, c1 = (uint32_t)(low >> 32);
    uint32_t c2 = (uint32_t)high, c3 = (uint32_t)(high >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t product0 = UINT64_C(0xD2511F53) * c0;
        uint64_t product1 = UINT64_C(0xCD9E8D57) * c2;
        c0 = (uint32_t)(product1 >> 32) ^ c1 ^ key0;
        c1 = (uint32_t)product1;
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ key1;
        c3 = (uint32_t)product0;
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
    return (struct block){{c0, c1, c2, c3}};
}

static uint64_t first_half(const struct block *b)
{
    return (uint64_t)b->words[1] << 32 | b->words[0];
}

static uint64_t second_half(const struct block *b)
{
    return (uint64_t)b->words[3] << 32 | b->words[2];
}

static double unit(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

/* Keys are made from counters whose upper half no element has. */
uint64_t kernel_random_key(uint64_t key, uint64_t stream)
{
    struct block b = philox(key, stream, UINT64_MAX);
    return first_half(&b);
}

uint64_t kernel_random(uint64_t key, uint64_t i)
{
    struct block b = philox(key, i, 0);
    return first_half(&b);
}

double kernel_random_uniform(uint64_t key, uint64_t i)
{
    return unit(kernel_random(key, i));
}

/* Box-Muller; 1 - u is never 0. */
double kernel_random_normal(uint64_t key, uint64_t i)
{
    struct block b = philox(key, i, 0);
    double radius = sqrt(-2 * log(1 - unit(first_half(&b))));
    return radius * cos(2 * 3.14159265358979323846 * unit(second_half(&b)));
}
