/*
 * bf16_internal.h
 *		The sets of kernels for bf16 products.
 */
#ifndef HART_BF16_INTERNAL_H
#define HART_BF16_INTERNAL_H

#include "bf16.h"
#include "kernels_internal.h"

#ifdef HART_BF16_KERNELS
extern const HartBf16Kernels hart_bf16_kernels_amx;
extern const HartBf16Kernels hart_bf16_kernels_avx512bf16;
#endif

#endif							/* HART_BF16_INTERNAL_H */
