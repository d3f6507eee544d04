/*
 * q8_avx512.c
 *		The kernels for 8-bit tiles for AVX-512 without VNNI.
 */
#include "q8_internal.h"

#ifdef HART_X86_KERNELS

#define SIMD_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define SIMD_SET_NAME "avx512"
#define SIMD_SET hart_q8_kernels_avx512

#include "q8_avx512_ops.h"

/* Pairs add up to less than 2^15 (q8.h) */
#define i_dot(sum, w, x) \
	_mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(w, x), _mm512_set1_epi16(1)))

#include "q8_simd.h"

#endif							/* HART_X86_KERNELS */
