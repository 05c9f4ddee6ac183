/*
 * UNROLL before a loop of at most twelve turns: what is indexed by a loop's variable is in a
 * register only when the loop is gone.
 */
#ifndef KERNELS_UNROLL_H
#define KERNELS_UNROLL_H

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 12")
#endif

#endif
