/*
 * kernels_internal.h
 *		What the kernel sets share: their names for the dispatcher, and the
 *		sizes that decide how much scratch a matrix product needs.
 */
#ifndef HART_KERNELS_INTERNAL_H
#define HART_KERNELS_INTERNAL_H

#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define HART_X86_KERNELS 1
#endif

extern const HartKernels hart_kernels_portable;
#ifdef HART_X86_KERNELS
extern const HartKernels hart_kernels_avx2;
extern const HartKernels hart_kernels_avx512;
#endif

/*
 * Block sizes of gemm_nt.  A packed block of w (GEMM_COLUMNS * GEMM_DEPTH
 * floats) stays in the L2 cache; half of it and GEMM_MAX_ROWS rows of x pass
 * through the L1 cache.
 */
#define GEMM_COLUMNS	64
#define GEMM_DEPTH		384
#define GEMM_MAX_ROWS	14

/* Rows of x are copied this far apart, so that they do not share cache sets */
#define GEMM_X_STRIDE	(GEMM_DEPTH + 16)

/* Scratch may begin anywhere; the packed blocks begin at a cache line */
#define GEMM_ALIGN_FLOATS 16

#endif							/* HART_KERNELS_INTERNAL_H */
