/*
 * q8_avx512vnni.c
 *		The kernels for 8-bit tiles for AVX-512 with VNNI.
 */
#include "q8_internal.h"

#ifdef HART_X86_KERNELS

#define SIMD_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")))
#define SIMD_SET_NAME "avx512vnni"
#define SIMD_SET hart_q8_kernels_avx512vnni

#include "q8_avx512_ops.h"

/* Not by _mm512_dpbusd_epi32: GCC 12 copies its sum before every use, which halves the speed */
OP ivec
i_dot(ivec sum, ivec w, ivec x)
{
	__asm__("vpdpbusd\t%2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
	return sum;
}

#include "q8_simd.h"

#endif							/* HART_X86_KERNELS */
