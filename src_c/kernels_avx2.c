/*
 * kernels_avx2.c
 *		The kernels for AVX2 with FMA and F16C: vectors of 8 floats.
 */
#include "kernels_internal.h"

#ifdef HART_X86_KERNELS

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "bf12.h"
#include "q8.h"

#define SIMD_TARGET __attribute__((target("avx2,fma,f16c")))
#define SIMD_SET_NAME "avx2"
#define SIMD_SET hart_kernels_avx2
#define LANES 8
#define GEMM_ROWS 3
#define PANEL_X_ROWS 6
#define CHAIN_LEAF(chain) (chain)
#define OP static inline __attribute__((always_inline)) SIMD_TARGET

typedef __m256 vec;

#define v_load(p)		_mm256_loadu_ps(p)
#define v_store(p, v)	_mm256_storeu_ps(p, v)
#define v_set1(a)		_mm256_set1_ps(a)
#define v_add(a, b)		_mm256_add_ps(a, b)
#define v_sub(a, b)		_mm256_sub_ps(a, b)
#define v_mul(a, b)		_mm256_mul_ps(a, b)
#define v_div(a, b)		_mm256_div_ps(a, b)
#define v_fma(a, b, c)	_mm256_fmadd_ps(a, b, c)
#define v_round(a)		_mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define v_min(a, b)		_mm256_min_ps(a, b)	/* b if either is NaN */
#define v_max(a, b)		_mm256_max_ps(a, b)	/* the same */

/* All ones in the first n lanes */
OP __m256i
first_lanes(size_t n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32((int) n),
							  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

OP vec
v_load_part(const float *p, size_t n)
{
	return _mm256_maskload_ps(p, first_lanes(n));
}

OP void
v_store_part(float *p, vec v, size_t n)
{
	_mm256_maskstore_ps(p, first_lanes(n), v);
}

OP vec
widen_bf16_words(__m128i words)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
}

OP vec
v_load_f16(const void *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p));
}

OP vec
v_load_bf16(const void *p)
{
	return widen_bf16_words(_mm_loadu_si128((const __m128i *) p));
}

OP vec
v_load_part_16(const void *p, size_t n, bool is_f16)
{
	uint16_t	buffer[LANES] = {0};
	__m128i		words;

	/* AVX2 has no masked loads of 16-bit words */
	memcpy(buffer, p, n * sizeof(uint16_t));
	words = _mm_loadu_si128((const __m128i *) buffer);
	return is_f16 ? _mm256_cvtph_ps(words) : widen_bf16_words(words);
}

OP float
v_max_lanes(vec v)
{
	__m128		max = _mm_max_ps(_mm256_castps256_ps128(v),
								 _mm256_extractf128_ps(v, 1));

	max = _mm_max_ps(max, _mm_movehl_ps(max, max));
	max = _mm_max_ss(max, _mm_movehdup_ps(max));
	return _mm_cvtss_f32(max);
}

/* out[i] = sum of the i-th vector's lanes */
OP void
v_sum4(vec a, vec b, vec c, vec d, float out[4])
{
	vec			sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));

	_mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(sums),
								  _mm256_extractf128_ps(sums, 1)));
}

/* v[i] lane j and v[j] lane i change places */
OP void
v_transpose(vec v[LANES])
{
	vec			a[LANES];

	/* within halves of 4 lanes: 4 by 4 blocks */
	UNROLL for (int i = 0; i < LANES; i += 4)
	{
		__m256d		low01 = _mm256_castps_pd(_mm256_unpacklo_ps(v[i], v[i + 1]));
		__m256d		high01 = _mm256_castps_pd(_mm256_unpackhi_ps(v[i], v[i + 1]));
		__m256d		low23 = _mm256_castps_pd(_mm256_unpacklo_ps(v[i + 2], v[i + 3]));
		__m256d		high23 = _mm256_castps_pd(_mm256_unpackhi_ps(v[i + 2], v[i + 3]));

		a[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23));
		a[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23));
		a[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23));
		a[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23));
	}
	/* the blocks among one another */
	UNROLL for (int i = 0; i < 4; i++)
	{
		v[i] = _mm256_permute2f128_ps(a[i], a[i + 4], 0x20);
		v[i + 4] = _mm256_permute2f128_ps(a[i], a[i + 4], 0x31);
	}
}

/* 2^n for integers -126 <= n <= 127 */
OP vec
power_of_two(__m256i n)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* a * 2^n in two factors, for whole -252 <= n <= 254 */
OP vec
v_scale(vec a, vec n)
{
	__m256i		whole = _mm256_cvtps_epi32(n);
	__m256i		half = _mm256_srai_epi32(whole, 1);

	return v_mul(v_mul(a, power_of_two(half)),
				 power_of_two(_mm256_sub_epi32(whole, half)));
}

typedef __m256i bf12_table;

/* As bytes, in both halves */
OP bf12_table
v_bf12_table(const void *exponents)
{
	return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) exponents));
}

/* Shifts by GCC's operators take both constants, in unrolled loops, and variables */
OP vec
v_bf12(const char *block, bf12_table table, int row, int part)
{
	__v8su		codes = (__v8su) _mm256_loadu_si256((const __m256i *) (block + 32 * part));
	__v8su		mantissas = (__v8su) _mm256_loadu_si256((const __m256i *) (block + 64 + 64 * (row / 4) + 32 * part));
	__v8su		nibbles = codes >> 4 * (row % 2) & 0x0f0f0f0f;
	/* the exponents of four rows, a byte each: those of the even rows or of the odd ones */
	__v8su		exponents = (__v8su) _mm256_shuffle_epi8(table, (__m256i) nibbles);
	int			left = (48 - 8 * (row % 4)) % 32;

	exponents = row / 2 == 3 ? exponents >> 1 : exponents << (23 - 8 * (row / 2)) % 32;
	mantissas = mantissas << left | mantissas >> (32 - left) % 32;
	return _mm256_castsi256_ps((__m256i) ((exponents & 0x7f800000) | (mantissas & 0x807f0000)));
}

#include "kernels_simd.h"

#endif							/* HART_X86_KERNELS */
