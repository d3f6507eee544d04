/*
 * kernels_avx512.c
 *		The kernels for AVX-512 (F, BW, DQ and VL): vectors of 16 floats.
 */
#include "kernels_internal.h"

#ifdef HART_X86_KERNELS

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "bf12.h"
#include "q8.h"

#define SIMD_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#define SIMD_SET_NAME "avx512"
#define SIMD_SET hart_kernels_avx512
#define LANES 16
#define GEMM_ROWS 6
#define PANEL_X_ROWS 12
#define CHAIN_LEAF(chain) ((chain) % 8 * 2 + (chain) / 8)
#define OP static inline __attribute__((always_inline)) SIMD_TARGET

typedef __m512 vec;

#define v_load(p)		_mm512_loadu_ps(p)
#define v_store(p, v)	_mm512_storeu_ps(p, v)
#define v_set1(a)		_mm512_set1_ps(a)
#define v_add(a, b)		_mm512_add_ps(a, b)
#define v_sub(a, b)		_mm512_sub_ps(a, b)
#define v_mul(a, b)		_mm512_mul_ps(a, b)
#define v_div(a, b)		_mm512_div_ps(a, b)
#define v_fma(a, b, c)	_mm512_fmadd_ps(a, b, c)
#define v_round(a)		_mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define v_scale(a, n)	_mm512_scalef_ps(a, n)	/* a * 2^n */
#define v_min(a, b)		_mm512_min_ps(a, b)	/* b if either is NaN */
#define v_max(a, b)		_mm512_max_ps(a, b)	/* the same */

/* The first n lanes */
OP __mmask16
first_lanes(size_t n)
{
	return (__mmask16) ((1u << n) - 1);
}

OP vec
v_load_part(const float *p, size_t n)
{
	return _mm512_maskz_loadu_ps(first_lanes(n), p);
}

OP void
v_store_part(float *p, vec v, size_t n)
{
	_mm512_mask_storeu_ps(p, first_lanes(n), v);
}

OP vec
widen_bf16_words(__m256i words)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
}

OP vec
v_load_f16(const void *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p));
}

OP vec
v_load_bf16(const void *p)
{
	return widen_bf16_words(_mm256_loadu_si256((const __m256i *) p));
}

OP vec
v_load_part_16(const void *p, size_t n, bool is_f16)
{
	__m256i		words = _mm256_maskz_loadu_epi16(first_lanes(n), p);

	return is_f16 ? _mm512_cvtph_ps(words) : widen_bf16_words(words);
}

OP float
v_max_lanes(vec v)
{
	return _mm512_reduce_max_ps(v);
}

#include "avx512_sum4.h"
#include "avx512_transpose.h"

typedef __m512i bf12_table;

OP bf12_table
v_bf12_table(const void *exponents)
{
	return _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) exponents)), 23);
}

/* Shifts by GCC's operators take both constants, in unrolled loops, and variables */
OP vec
v_bf12(const char *block, bf12_table table, int row, int part)
{
	__v16su		codes = (__v16su) _mm512_loadu_si512(block);
	__v16su		mantissas = (__v16su) _mm512_loadu_si512(block + 64 + 64 * (row / 4));
	int			left = (48 - 8 * (row % 4)) % 32;
	__m512i		exponents = _mm512_permutexvar_epi32((__m512i) (codes >> (4 * row)), table);

	(void) part;
	mantissas = mantissas << left | mantissas >> (32 - left) % 32;
	/* exponents | (mantissas & mask) */
	return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(exponents, (__m512i) mantissas, _mm512_set1_epi32((int) 0x807f0000), 0xf8));
}

#include "kernels_simd.h"

#ifdef HART_BF16_KERNELS
/* The same with VBMI, which unpacks weights of 12 bits faster */
const HartKernels hart_kernels_avx512vbmi = SIMD_KERNELS(SIMD_SET_NAME, .few_bf12 = hart_bf12_few_avx512);

/* The same where products with bf16 weights are those of AMX: bf16_amx.c */
const HartKernels hart_kernels_amx = SIMD_KERNELS("amx", .few_bf12 = NULL);
#endif

#endif							/* HART_X86_KERNELS */
