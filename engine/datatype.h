/*
 * Elements of every datatype, and from one datatype to another.
 */
#ifndef ENGINE_DATATYPE_H
#define ENGINE_DATATYPE_H

#include "engine/tensor.h"

/* Numbers below 0 exist: all but BOOL and the unsigned integers. */
bool datatype_is_signed(enum nn_datatype datatype);

/* The element of an integer type or BOOL as 64 bits, those of a signed one extended. */
uint64_t datatype_integer(enum nn_datatype datatype, const void *data, int64_t i);

/* Converts n elements as ONNX and numpy do:
 *
 *   to a floating-point type   to the nearest, of two equally near ones to the even one, in one
 *                              rounding; beyond the largest to infinity
 *   from it to an integer      towards zero; what the type cannot hold, which they leave open,
 *                              becomes its nearest value, and NaN becomes 0
 *   between integers           the low bits
 *   to BOOL                    whether it is not 0
 *
 * The elements do not overlap. */
void datatype_convert(int64_t n, enum nn_datatype from, const void *x, enum nn_datatype to,
                      void *y);

#endif
