/*
 * Every number of the small floating-point types, and conversions between all datatypes. The
 * judge is arithmetic in long double, which holds every element exactly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/datatype.h"
#include "engine/formats/safetensors.h"
#include "tests/scratch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* the small types */

struct small {
    enum nn_datatype datatype;
    int fraction_bits, exponent_bits;
    float (*read)(uint16_t bits);
    uint16_t (*round)(double x);
};

static const struct small smalls[] = {
    {NN_FP16, 10, 5, nn_fp16_read, nn_fp16_round},
    {NN_BF16, 7, 8, nn_bf16_read, nn_bf16_round},
};

static const struct small *small_of(enum nn_datatype datatype)
{
    return datatype == NN_FP16 ? &smalls[0] : datatype == NN_BF16 ? &smalls[1] : NULL;
}

/* IEEE 754, 3.4: (-1)^s 2^(e - bias) (1 + f), and (-1)^s 2^(1 - bias) f below those. */
static double formula(const struct small *t, uint16_t bits)
{
    int bias = (1 << (t->exponent_bits - 1)) - 1, largest = (1 << t->exponent_bits) - 1;
    int f = bits & ((1 << t->fraction_bits) - 1), e = bits >> t->fraction_bits & largest;
    double fraction = ldexp(f, -t->fraction_bits);
    double x = e == largest ? (f ? NAN : INFINITY)
               : e == 0     ? ldexp(fraction, 1 - bias)
                            : ldexp(1 + fraction, e - bias);
    return bits >> 15 ? -x : x;
}

static void every_number_of_16_bits_is_read_and_written_back(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2; k++)
        for (uint32_t bits = 0; bits < 0x10000; bits++) {
            double x = formula(&smalls[k], (uint16_t)bits);
            float read = smalls[k].read((uint16_t)bits);
            uint16_t back = smalls[k].round((double)read);
            if (isnan(x)) {
                assert_true(isnan(read) && signbit(read) == (int)(bits >> 15) * signbit(read));
                assert_true(isnan(formula(&smalls[k], back)));
                assert_int_equal(back >> 15, bits >> 15);
                continue;
            }
            if ((double)read != x || !signbit(read) != !signbit(x) || back != bits)
                fail_msg("%s %04x: %a, not %a; back %04x", nn_datatype_name(smalls[k].datatype),
                         (unsigned)bits, (double)read, x, back);
        }
}

/* The middle between two neighbours goes to the even one, what is next to it to the nearer. */
static void what_is_between_two_numbers_of_16_bits_goes_to_the_nearest(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        const struct small *t = &smalls[k];
        uint16_t infinity = (uint16_t)(((1 << t->exponent_bits) - 1) << t->fraction_bits);
        for (uint16_t low = 0; low < infinity; low++) {
            uint16_t high = (uint16_t)(low + 1);
            double a = formula(t, low);
            /* Above the largest lies what would be the next number. */
            double b = high == infinity ? 2 * a - formula(t, (uint16_t)(low - 1))
                                        : formula(t, high);
            double middle = a + (b - a) / 2;
            uint16_t even = low & 1 ? high : low;
            assert_int_equal(t->round(middle), even);
            assert_int_equal(t->round(nextafter(middle, 0)), low);
            assert_int_equal(t->round(nextafter(middle, INFINITY)), high);
            assert_int_equal(t->round(-middle), even | 0x8000);
            assert_int_equal(t->round(nextafter(-middle, -INFINITY)), high | 0x8000);
            assert_int_equal(t->round(nextafter(a, INFINITY)), low);
        }
        assert_int_equal(t->round(INFINITY), infinity);
        assert_int_equal(t->round(-1e300), infinity | 0x8000);
        assert_int_equal(t->round(0x1p-1074), 0);
        assert_int_equal(t->round(-0.0), 0x8000);
    }
}

/* conversions */

union element {
    nn_real real;
    double fp64;
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
};

static long double value_of(enum nn_datatype datatype, const union element *e)
{
    switch (datatype) {
    case NN_FP32:
        return (long double)e->real;
    case NN_FP64:
        return e->fp64;
    case NN_FP16:
    case NN_BF16:
        return formula(small_of(datatype), e->u16);
    case NN_INT8:
        return e->i8;
    case NN_INT16:
        return e->i16;
    case NN_INT32:
        return e->i32;
    case NN_INT64:
        return e->i64;
    case NN_UINT8:
    case NN_BOOL:
        return e->u8;
    case NN_UINT16:
        return e->u16;
    case NN_UINT32:
        return e->u32;
    case NN_UINT64:
        return e->u64;
    }
    return 0;
}

/* Found by the formula: it grows with the bits. */
static uint16_t nearest_small(const struct small *t, long double x)
{
    uint16_t infinity = (uint16_t)(((1 << t->exponent_bits) - 1) << t->fraction_bits);
    long double largest = formula(t, (uint16_t)(infinity - 1));
    long double half_a_unit = (largest - formula(t, (uint16_t)(infinity - 2))) / 2;
    uint16_t sign = signbit(x) ? 0x8000 : 0, low = 0, high = (uint16_t)(infinity - 1);
    if (isnan(x))
        return (uint16_t)(sign | infinity | 1 << (t->fraction_bits - 1));
    x = fabsl(x);
    if (x >= largest + half_a_unit)
        return sign | infinity;
    if (x >= largest)
        return sign | high;
    while (high - low > 1) {            /* low <= x < high */
        uint16_t middle = (uint16_t)((low + high) / 2);
        if (formula(t, middle) <= x)
            low = middle;
        else
            high = middle;
    }
    long double below = x - formula(t, low), above = formula(t, high) - x;
    return sign | (below < above || (below == above && !(low & 1)) ? low : high);
}

static int width_of(enum nn_datatype datatype)
{
    return 8 * (int)nn_datatype_size(datatype);
}

static union element expected_of(enum nn_datatype from, long double x, enum nn_datatype to)
{
    union element e = {0};
    if (to == NN_FP32) {
        e.real = (nn_real)x;
    } else if (to == NN_FP64) {
        e.fp64 = (double)x;
    } else if (small_of(to)) {
        e.u16 = nearest_small(small_of(to), x);
    } else if (to == NN_BOOL) {
        e.u8 = x != 0;
    } else if (nn_datatype_is_real(from)) {
        int n = width_of(to) - datatype_is_signed(to);
        long double high = ldexpl(1, n), low = datatype_is_signed(to) ? -high : 0;
        x = isnan(x) ? 0 : truncl(x);
        x = x < low ? low : x > high - 1 ? high - 1 : x;
        e.u64 = x < 0 ? 0 - (uint64_t)-x : (uint64_t)x;
    } else {
        e.u64 = x < 0 ? 0 - (uint64_t)-x : (uint64_t)x;
    }
    return e;
}

/* Numbers around every bound: powers of two and their neighbours, and some without pattern. */
static void every_datatype_is_converted_to_every_other(void **state)
{
    (void)state;
    enum { MAX = 2000 };
    static long double numbers[MAX];
    int n = 0;
    for (int e = -2; e <= 64; e++)
        for (int d = -2; d <= 2; d++) {
            numbers[n++] = ldexpl(1, e) + d;
            numbers[n++] = -ldexpl(1, e) + d;
        }
    static const double others[] = {0.5, 1.5, -0.5, 254.9, 255.5, 127.99, -128.9, 1e-8, 6e-8,
                                    65504, 65519.99, 65520, 1e38, 3.5e38, -1e300, 1e-45, 0.1,
                                    INFINITY, -INFINITY, NAN, -0.0, 2049, 2051, 1e10, 3e-5};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        numbers[n++] = others[i];
    /* Nearly the middle between two BF16: more bits than a double has. */
    numbers[n++] = 9259400833873739777.0L, numbers[n++] = 9259400833873739775.0L;
    numbers[n++] = -4629700416936869889.0L;
    assert_true(n <= MAX);

    for (int from = 0; from < NN_DATATYPES; from++)
        for (int i = 0; i < n; i++) {
            union element x = {0};
            bool fits = nn_datatype_is_real((enum nn_datatype)from) ||
                        (numbers[i] == truncl(numbers[i]) &&
                         fabsl(numbers[i]) <= ldexpl(1, width_of((enum nn_datatype)from)));
            if (!fits)
                continue;
            x = expected_of(from == NN_FP64 ? NN_FP64 : NN_UINT64, numbers[i],
                            (enum nn_datatype)from);
            long double value = value_of((enum nn_datatype)from, &x);
            for (int to = 0; to < NN_DATATYPES; to++) {
                if (to == from)
                    continue;
                union element y, z = expected_of((enum nn_datatype)from, value,
                                                 (enum nn_datatype)to);
                datatype_convert(1, (enum nn_datatype)from, &x, (enum nn_datatype)to, &y);
                bool both_nan = isnan(value) && nn_datatype_is_real((enum nn_datatype)to) &&
                                isnan(value_of((enum nn_datatype)to, &y));
                if (!both_nan && memcmp(&y, &z, nn_datatype_size((enum nn_datatype)to)) != 0)
                    fail_msg("%Lg of %s is %Lg as %s, not %Lg", value,
                             nn_datatype_name((enum nn_datatype)from),
                             value_of((enum nn_datatype)to, &y),
                             nn_datatype_name((enum nn_datatype)to),
                             value_of((enum nn_datatype)to, &z));
            }
        }
}

static void elements_are_told_as_numbers(void **state)
{
    (void)state;
    static const struct {
        enum nn_datatype datatype;
        union element element;
        double value;
    } rows[] = {
        {NN_FP32, {.real = 0.5}, 0.5},        {NN_FP64, {.fp64 = 0.1}, 0.1},
        {NN_FP16, {.u16 = 0xc000}, -2},       {NN_BF16, {.u16 = 0x3f80}, 1},
        {NN_INT8, {.i8 = -128}, -128},        {NN_INT16, {.i16 = -32768}, -32768},
        {NN_INT32, {.i32 = INT32_MIN}, -0x1p31}, {NN_INT64, {.i64 = INT64_MIN}, -0x1p63},
        {NN_UINT8, {.u8 = 255}, 255},         {NN_UINT16, {.u16 = 65535}, 65535},
        {NN_UINT32, {.u32 = UINT32_MAX}, 4294967295.0},
        {NN_UINT64, {.u64 = UINT64_MAX}, 0x1p64}, {NN_BOOL, {.u8 = 1}, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        union element element = rows[i].element;
        const struct nn_tensor tensor = {rows[i].datatype, {0}, &element};
        assert_true(nn_tensor_element(&tensor, 0) == rows[i].value);
        assert_int_equal(nn_datatype_find(nn_datatype_name(rows[i].datatype)),
                         rows[i].datatype);
    }
    assert_int_equal(nn_datatype_find("BYTES"), -1);
}

/* models */

/* The sum of an input and a constant of any datatype, as FP32 and cast back. */
static const char sum_graph[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"%s\",\"shape\":[-1,2]}],\"nodes\":["
    "{\"op\":\"Cast\",\"inputs\":[\"x\"],\"outputs\":[\"a\"],\"attributes\":{\"to\":1}},"
    "{\"op\":\"Cast\",\"inputs\":[\"c\"],\"outputs\":[\"b\"],\"attributes\":{\"to\":1}},"
    "{\"op\":\"Add\",\"inputs\":[\"a\",\"b\"],\"outputs\":[\"s\"]},"
    "{\"op\":\"Cast\",\"inputs\":[\"s\"],\"outputs\":[\"y\"],\"attributes\":{\"to\":%d}},"
    "{\"op\":\"Identity\",\"inputs\":[\"x\"],\"outputs\":[\"z\"]}],"
    "\"outputs\":[\"y\",\"z\"]}";

static const int onnx_numbers[NN_DATATYPES] = {
    [NN_FP32] = 1,   [NN_FP64] = 11,   [NN_FP16] = 10,   [NN_BF16] = 16, [NN_INT8] = 3,
    [NN_INT16] = 5,  [NN_INT32] = 6,   [NN_INT64] = 7,   [NN_UINT8] = 2, [NN_UINT16] = 4,
    [NN_UINT32] = 12, [NN_UINT64] = 13, [NN_BOOL] = 9,
};

/* n whole numbers as elements of a type. */
static struct nn_tensor tensor_of(enum nn_datatype datatype, int rank, const double *numbers,
                                  uint64_t *memory)
{
    struct nn_tensor tensor = {datatype, {rank, {2, 2}}, memory};
    datatype_convert(rank == 2 ? 4 : 2, NN_FP64, numbers, datatype, memory);
    return tensor;
}

static void write_bundle(enum nn_datatype datatype, const double *wanted)
{
    static const double x[] = {1, 0, 0, 1}, c[] = {0, 1};
    char graph[1024];
    uint64_t memory[4][4];
    snprintf(graph, sizeof graph, sum_graph, nn_datatype_name(datatype),
             onnx_numbers[datatype]);
    struct safetensors_metadata metadata[] = {{"format", "predictd/1"}, {"graph", graph}};
    struct safetensors_entry entries[] = {
        {"c", tensor_of(datatype, 1, c, memory[0])},
        {"golden.input.x", tensor_of(datatype, 2, x, memory[1])},
        {"golden.output.y", tensor_of(datatype, 2, wanted, memory[2])},
        {"golden.output.z", tensor_of(datatype, 2, x, memory[3])},
    };
    struct safetensors file = {4, 2, entries, metadata, NULL};
    struct nn_error error = {0};
    if (safetensors_write(&file, scratch_path("m"), &error) != 0)
        fail_msg("%s", error.text);
}

static void a_bundle_of_every_datatype_reproduces_its_golden_samples(void **state)
{
    (void)state;
    static const double sums[] = {1, 1, 0, 2}, booleans[] = {1, 1, 0, 1};
    static const double wrong[] = {1, 1, 1, 2};
    for (int i = 0; i < NN_DATATYPES; i++) {
        enum nn_datatype datatype = (enum nn_datatype)i;
        struct nn_error error = {0};
        write_bundle(datatype, datatype == NN_BOOL ? booleans : sums);
        struct nn_model *model = nn_model_open(scratch_path("m"), &error);
        if (!model)
            fail_msg("%s", error.text);
        assert_int_equal(nn_model_output(model, 0)->datatype, datatype);
        assert_int_equal(nn_model_n_golden(model), 2);
        assert_null(nn_model_unbatched(model));
        struct nn_session *session = nn_session_new(model, 3, &error);
        assert_non_null(session);
        static const double rows[] = {1, 1, 0, 1};
        datatype_convert(4, NN_FP64, rows, datatype, nn_session_input(session, 0));
        assert_int_equal(nn_session_run(session, 2, &error), 0);
        assert_true(nn_tensor_element(nn_session_output(session, 0), 0) == 1);
        assert_true(nn_tensor_element(nn_session_output(session, 1), 3) == 1);
        nn_session_free(session);
        nn_model_close(model);

        write_bundle(datatype, wrong);
        assert_null(nn_model_open(scratch_path("m"), &error));
        assert_non_null(strstr(error.text, "golden sample 1 does not reproduce: output \"y\" "
                                           "element 0"));
    }
}

static void weights_of_small_types_have_to_be_finite(void **state)
{
    (void)state;
    static const enum nn_datatype types[] = {NN_FP16, NN_BF16, NN_FP64};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        static const double infinite[] = {1, INFINITY, 0, 2};
        struct nn_error error = {0};
        write_bundle(types[i], infinite);
        assert_null(nn_model_open(scratch_path("m"), &error));
        assert_non_null(strstr(error.text, "\"golden.output.y\": element 1 is not finite"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_of_16_bits_is_read_and_written_back),
        cmocka_unit_test(what_is_between_two_numbers_of_16_bits_goes_to_the_nearest),
        cmocka_unit_test(every_datatype_is_converted_to_every_other),
        cmocka_unit_test(elements_are_told_as_numbers),
        cmocka_unit_test(a_bundle_of_every_datatype_reproduces_its_golden_samples),
        cmocka_unit_test(weights_of_small_types_have_to_be_finite),
    };
    nn_engine_start();
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
