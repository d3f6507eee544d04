/*
 * kernels_internal.h
 *		What the kernel sets share: their names for the dispatcher.
 */
#ifndef HART_KERNELS_INTERNAL_H
#define HART_KERNELS_INTERNAL_H

#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define HART_X86_KERNELS 1

/* Compilers that know AMX and AVX512-BF16, on a system that lets a process use AMX */
#if defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define HART_BF16_KERNELS 1
#endif
#endif

/* Before a loop whose arrays are to be registers */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

extern const HartKernels hart_kernels_portable;
#ifdef HART_X86_KERNELS
extern const HartKernels hart_kernels_avx2;
extern const HartKernels hart_kernels_avx512;
#endif
#ifdef HART_BF16_KERNELS
extern const HartKernels hart_kernels_avx512vbmi;
extern const HartKernels hart_kernels_amx;
extern void hart_bf12_few_avx512(const struct HartBf16Rows *w, const float *x, size_t m, float *y, size_t ldy);
#endif

#endif							/* HART_KERNELS_INTERNAL_H */
