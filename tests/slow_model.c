#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include "tests/slow_model.h"
#include <stdio.h>
#include <string.h>

enum { WIDTH = 3000, PAIRS = 20 };

/* x is spread over WIDTH columns, which go through exp and log, and averaged. */
void publish_slow(const char *models, const char *name, int version)
{
    static float ones[WIDTH];
    static int64_t shape[3] = {-1, 4, 1};
    static char graph[8000], elements[sizeof shape + sizeof ones], tensors[256];
    size_t n = 0;

#define ADD(...) n += (size_t)snprintf(graph + n, sizeof graph - n, __VA_ARGS__)
    ADD("{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,4]}],\"nodes\":["
        "{\"op\":\"Reshape\",\"inputs\":[\"x\",\"a_shape\"],\"outputs\":[\"column\"]},"
        "{\"op\":\"Mul\",\"inputs\":[\"column\",\"ones\"],\"outputs\":[\"v0\"]}");
    for (int i = 0; i < PAIRS; i++)
        ADD(",{\"op\":\"Exp\",\"inputs\":[\"v%d\"],\"outputs\":[\"e%d\"]}"
            ",{\"op\":\"Log\",\"inputs\":[\"e%d\"],\"outputs\":[\"v%d\"]}",
            i, i, i, i + 1);
    ADD(",{\"op\":\"ReduceMean\",\"inputs\":[\"v%d\"],\"outputs\":[\"y\"],"
        "\"attributes\":{\"axes\":[2],\"keepdims\":0}}],\"outputs\":[\"y\"]}",
        PAIRS);
#undef ADD
    assert_true(n < sizeof graph - 1);
    for (int i = 0; i < WIDTH; i++)
        ones[i] = 1;
    memcpy(elements, shape, sizeof shape);
    memcpy(elements + sizeof shape, ones, sizeof ones);
    snprintf(tensors, sizeof tensors,
             "\"a_shape\":{\"dtype\":\"I64\",\"shape\":[3],\"data_offsets\":[0,24]},"
             "\"ones\":{\"dtype\":\"F32\",\"shape\":[1,1,%d],\"data_offsets\":[24,%d]}",
             WIDTH, 24 + 4 * WIDTH);
    publish_bundle(models, name, version, graph, tensors, elements, sizeof elements);
}
