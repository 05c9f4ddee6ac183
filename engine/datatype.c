#include "engine/datatype.h"

#include <string.h>

/* For functions that are compiled once for each pair of datatypes that has to be fast. */
#define TEMPLATE static inline __attribute__((always_inline))

static const struct {
    const char *name;
    size_t size;
    bool is_real, is_signed;
} datatypes[] = {
    [NN_FP32] = {"FP32", sizeof(nn_real), true, true},
    [NN_FP64] = {"FP64", sizeof(double), true, true},
    [NN_FP16] = {"FP16", sizeof(uint16_t), true, true},
    [NN_BF16] = {"BF16", sizeof(uint16_t), true, true},
    [NN_INT8] = {"INT8", sizeof(int8_t), false, true},
    [NN_INT16] = {"INT16", sizeof(int16_t), false, true},
    [NN_INT32] = {"INT32", sizeof(int32_t), false, true},
    [NN_INT64] = {"INT64", sizeof(int64_t), false, true},
    [NN_UINT8] = {"UINT8", sizeof(uint8_t), false, false},
    [NN_UINT16] = {"UINT16", sizeof(uint16_t), false, false},
    [NN_UINT32] = {"UINT32", sizeof(uint32_t), false, false},
    [NN_UINT64] = {"UINT64", sizeof(uint64_t), false, false},
    [NN_BOOL] = {"BOOL", sizeof(uint8_t), false, false},
};

_Static_assert(sizeof datatypes / sizeof datatypes[0] == NN_DATATYPES, "one row for each");

const char *nn_datatype_name(enum nn_datatype datatype)
{
    return datatypes[datatype].name;
}

int nn_datatype_find(const char *name)
{
    for (int i = 0; i < NN_DATATYPES; i++)
        if (strcmp(datatypes[i].name, name) == 0)
            return i;
    return -1;
}

size_t nn_datatype_size(enum nn_datatype datatype)
{
    return datatypes[datatype].size;
}

bool nn_datatype_is_real(enum nn_datatype datatype)
{
    return datatypes[datatype].is_real;
}

bool datatype_is_signed(enum nn_datatype datatype)
{
    return datatypes[datatype].is_signed;
}

/* the small floating-point types
 *
 * Each is  sign | exponent + bias | fraction;  exponent field 0 is for subnormal numbers, the
 * largest one for infinity (fraction 0) and NaN.
 */

struct format {
    int fraction_bits, max_exponent;    /* the largest exponent, which is also the bias */
};

static const struct format fp16 = {10, 15}, bf16 = {7, 127};

enum { DOUBLE_FRACTION = 52, DOUBLE_BIAS = 1023 };

static uint16_t round_to(struct format f, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint64_t fraction = bits & ((UINT64_C(1) << DOUBLE_FRACTION) - 1);
    int exponent = (int)(bits >> DOUBLE_FRACTION & 0x7ff) - DOUBLE_BIAS;
    uint32_t sign = (uint32_t)(bits >> 63) << 15;
    uint32_t infinity = (uint32_t)(2 * f.max_exponent + 1) << f.fraction_bits;
    if (exponent > DOUBLE_BIAS && fraction) {
        /* A quiet NaN, with what its fraction has room for. */
        uint32_t quiet = UINT32_C(1) << (f.fraction_bits - 1);
        return (uint16_t)(sign | infinity | quiet |
                          (uint32_t)(fraction >> (DOUBLE_FRACTION - f.fraction_bits)));
    }
    if (exponent > f.max_exponent)
        return (uint16_t)(sign | infinity);

    /* What is dropped behind the last place that the format has at this exponent. */
    int lowest = 1 - f.max_exponent;
    int dropped = DOUBLE_FRACTION - f.fraction_bits;
    if (exponent < lowest)
        dropped += lowest - exponent;
    if (dropped > DOUBLE_FRACTION + 1)
        return (uint16_t)sign;          /* below half of the smallest */
    uint64_t significand = fraction | UINT64_C(1) << DOUBLE_FRACTION;
    uint64_t kept = significand >> dropped;
    uint64_t rest = significand & ((UINT64_C(1) << dropped) - 1);
    uint64_t half = UINT64_C(1) << (dropped - 1);
    kept += rest > half || (rest == half && (kept & 1));

    /* `kept` has the leading 1 where the number is normal: it adds one to the exponent field,
     * and so does a carry out of the fraction, up to infinity. */
    uint32_t field = exponent < lowest ? 0 : (uint32_t)(exponent - lowest);
    return (uint16_t)(sign | ((field << f.fraction_bits) + (uint32_t)kept));
}

uint16_t nn_fp16_round(double x)
{
    return round_to(fp16, x);
}

uint16_t nn_bf16_round(double x)
{
    return round_to(bf16, x);
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

float nn_fp16_read(uint16_t half)
{
    enum { FLOAT_FRACTION = 23, REBIAS = 127 - 15 };
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    uint32_t shifted = magnitude << (FLOAT_FRACTION - 10);
    if (magnitude >= 0x7c00)
        return float_of(sign | UINT32_C(0x7f800000) | shifted);
    if (magnitude >= 0x0400)
        return float_of(sign | (shifted + ((uint32_t)REBIAS << FLOAT_FRACTION)));
    float subnormal = (float)magnitude * 0x1p-24f;
    return sign ? -subnormal : subnormal;
}

float nn_bf16_read(uint16_t bits)
{
    return float_of((uint32_t)bits << 16);
}

/* elements */

TEMPLATE double real_element(enum nn_datatype datatype, const void *data, int64_t i)
{
    switch (datatype) {
    case NN_FP32:
        return (double)((const nn_real *)data)[i];
    case NN_FP64:
        return ((const double *)data)[i];
    case NN_FP16:
        return (double)nn_fp16_read(((const uint16_t *)data)[i]);
    default:
        return (double)nn_bf16_read(((const uint16_t *)data)[i]);
    }
}

uint64_t datatype_integer(enum nn_datatype datatype, const void *data, int64_t i)
{
    switch (datatype) {
    case NN_INT8:
        return (uint64_t)((const int8_t *)data)[i];
    case NN_INT16:
        return (uint64_t)((const int16_t *)data)[i];
    case NN_INT32:
        return (uint64_t)((const int32_t *)data)[i];
    case NN_INT64:
    case NN_UINT64:
        return ((const uint64_t *)data)[i];
    case NN_UINT16:
        return ((const uint16_t *)data)[i];
    case NN_UINT32:
        return ((const uint32_t *)data)[i];
    default:
        return ((const uint8_t *)data)[i];
    }
}

double nn_tensor_element(const struct nn_tensor *tensor, int64_t i)
{
    if (nn_datatype_is_real(tensor->datatype))
        return real_element(tensor->datatype, tensor->data, i);
    uint64_t bits = datatype_integer(tensor->datatype, tensor->data, i);
    return datatype_is_signed(tensor->datatype) ? (double)(int64_t)bits : (double)bits;
}

/* conversions */

TEMPLATE void put_real(enum nn_datatype datatype, void *data, int64_t i, double x)
{
    switch (datatype) {
    case NN_FP32:
        ((nn_real *)data)[i] = (nn_real)x;
        break;
    case NN_FP64:
        ((double *)data)[i] = x;
        break;
    case NN_FP16:
        ((uint16_t *)data)[i] = nn_fp16_round(x);
        break;
    default:
        ((uint16_t *)data)[i] = nn_bf16_round(x);
        break;
    }
}

/* The low bits. */
static void put_integer(enum nn_datatype datatype, void *data, int64_t i, uint64_t bits)
{
    switch (nn_datatype_size(datatype)) {
    case 1:
        ((uint8_t *)data)[i] = (uint8_t)bits;
        break;
    case 2:
        ((uint16_t *)data)[i] = (uint16_t)bits;
        break;
    case 4:
        ((uint32_t *)data)[i] = (uint32_t)bits;
        break;
    default:
        ((uint64_t *)data)[i] = bits;
        break;
    }
}

/* Towards zero, to the nearest value of a type of `width` bits. The bounds are powers of two:
 * exact. */
static uint64_t truncate_signed(double x, int width)
{
    double limit = (double)(UINT64_C(1) << (width - 1));
    uint64_t most = (UINT64_C(1) << (width - 1)) - 1;
    return x != x ? 0 : x <= -limit ? ~most : x >= limit ? most : (uint64_t)(int64_t)x;
}

static uint64_t truncate_unsigned(double x, int width)
{
    double limit = 2 * (double)(UINT64_C(1) << (width - 1));
    return !(x > 0) ? 0 : x >= limit ? UINT64_MAX >> (64 - width) : (uint64_t)x;
}

/* An integer in a double from which one rounding to any smaller type is right: where digits
 * are lost the last one is made odd, so that it is never the middle between two numbers. */
static double round_integer_to_odd(uint64_t magnitude)
{
    if (magnitude >> 53)
        magnitude = (magnitude >> 11 | ((magnitude & 0x7ff) != 0)) << 11;
    return (double)magnitude;
}

static void put_integer_as_real(enum nn_datatype to, void *y, int64_t i, uint64_t bits,
                                bool is_signed)
{
    bool negative = is_signed && (int64_t)bits < 0;
    uint64_t magnitude = negative ? 0 - bits : bits;
    if (to == NN_FP32) {
        nn_real x = (nn_real)magnitude;
        ((nn_real *)y)[i] = negative ? -x : x;
    } else if (to == NN_FP64) {
        double x = (double)magnitude;
        ((double *)y)[i] = negative ? -x : x;
    } else {
        double x = round_integer_to_odd(magnitude);
        put_real(to, y, i, negative ? -x : x);
    }
}

TEMPLATE void convert_from_real(int64_t n, enum nn_datatype from, const void *x,
                                enum nn_datatype to, void *y)
{
    int width = 8 * (int)nn_datatype_size(to);
    for (int64_t i = 0; i < n; i++) {
        double value = real_element(from, x, i);
        if (nn_datatype_is_real(to))
            put_real(to, y, i, value);
        else if (to == NN_BOOL)
            ((uint8_t *)y)[i] = value != 0;
        else
            put_integer(to, y, i, datatype_is_signed(to) ? truncate_signed(value, width)
                                                         : truncate_unsigned(value, width));
    }
}

static void convert_from_integer(int64_t n, enum nn_datatype from, const void *x,
                                 enum nn_datatype to, void *y)
{
    bool is_signed = datatype_is_signed(from);
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = datatype_integer(from, x, i);
        if (nn_datatype_is_real(to))
            put_integer_as_real(to, y, i, bits, is_signed);
        else if (to == NN_BOOL)
            ((uint8_t *)y)[i] = bits != 0;
        else
            put_integer(to, y, i, bits);
    }
}

void datatype_convert(int64_t n, enum nn_datatype from, const void *x, enum nn_datatype to,
                      void *y)
{
    if (from == to) {
        memcpy(y, x, (size_t)n * nn_datatype_size(from));
    } else if (from == NN_UINT8 && to == NN_FP32) {     /* images: worth a loop */
        const uint8_t *bytes = x;
        nn_real *reals = y;
        for (int64_t i = 0; i < n; i++)
            reals[i] = bytes[i];
    } else if (from == NN_FP16 && to == NN_FP32) {      /* so are these */
        convert_from_real(n, NN_FP16, x, NN_FP32, y);
    } else if (from == NN_BF16 && to == NN_FP32) {
        convert_from_real(n, NN_BF16, x, NN_FP32, y);
    } else if (from == NN_FP32 && to == NN_FP16) {
        convert_from_real(n, NN_FP32, x, NN_FP16, y);
    } else if (from == NN_FP32 && to == NN_BF16) {
        convert_from_real(n, NN_FP32, x, NN_BF16, y);
    } else if (nn_datatype_is_real(from)) {
        convert_from_real(n, from, x, to, y);
    } else {
        convert_from_integer(n, from, x, to, y);
    }
}
