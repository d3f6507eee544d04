/*
 * q8_avx2.c
 *		The kernels for 8-bit tiles for AVX2 with FMA.
 */
#include "q8_internal.h"

#ifdef HART_X86_KERNELS

#include <immintrin.h>
#include <math.h>

#define SIMD_TARGET __attribute__((target("avx2,fma")))
#define SIMD_SET_NAME "avx2"
#define SIMD_SET hart_q8_kernels_avx2
#define LANES 8
#define X_ROWS 2
#define STREAMS 1
#define OP static inline __attribute__((always_inline)) SIMD_TARGET

typedef __m256 vec;
typedef __m256i ivec;

#define i_zero()			_mm256_setzero_si256()
#define i_load(p)			_mm256_loadu_si256((const __m256i *) (p))
#define i_add(a, b)			_mm256_add_epi32(a, b)
#define i_shift_left(a, n)	_mm256_slli_epi32(a, n)
#define i_round(a)			_mm256_cvtps_epi32(a)	/* to nearest, ties to even */

/* Pairs add up to less than 2^15 (q8.h) */
#define i_dot(sum, w, x) \
	_mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)))

#define v_load(p)			_mm256_loadu_ps(p)
#define v_set1(a)			_mm256_set1_ps(a)
#define v_mul(a, b)			_mm256_mul_ps(a, b)
#define v_fma(a, b, c)		_mm256_fmadd_ps(a, b, c)
#define v_from_int(a)		_mm256_cvtepi32_ps(a)

/* All ones in the first n lanes */
OP ivec
first_lanes(size_t n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32((int) n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

OP ivec
i_load_part(const char *p, size_t n)
{
	return _mm256_maskload_epi32((const int *) p, first_lanes(n));
}

OP void
i_store_part(char *p, ivec a, size_t n)
{
	_mm256_maskstore_epi32((int *) p, first_lanes(n), a);
}

OP ivec
i_abs_max(ivec max, vec a)
{
	return _mm256_max_epu32(max, _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x7fffffff)));
}

OP uint32_t
i_max_lanes(ivec a)
{
	__m128i		four = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
	__m128i		two = _mm_max_epu32(four, _mm_unpackhi_epi64(four, four));

	return (uint32_t) _mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32(two, 1)));
}

OP int32_t
i_sum_lanes(ivec a)
{
	__m128i		four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
	__m128i		two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));

	return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

OP void
i_split(ivec q, ivec *high, ivec *low)
{
	*high = _mm256_srai_epi32(_mm256_add_epi32(q, _mm256_set1_epi32(64)), 7);
	*low = _mm256_sub_epi32(q, _mm256_slli_epi32(*high, 7));
}

/* The low bytes of 4 lanes at a time, to quads of one block */
OP void
i_store_quads(ivec a, int8_t *to)
{
	ivec		bytes = _mm256_shuffle_epi8(a, _mm256_set1_epi32(0x0c080400));
	int32_t		quads[2] = {_mm256_extract_epi32(bytes, 0), _mm256_extract_epi32(bytes, 4)};

	for (int i = 0; i < 2; i++)
		memcpy(to + i * 4 * HART_Q8_GROUP, &quads[i], 4);
}

/* bfloat16 numbers first to first + LANES - 1 of n */
OP vec
v_load_scales(const char *scales, size_t first, size_t n)
{
	uint16_t	part[LANES] = {0};
	__m128i		halves;

	if (n >= first + LANES)
		halves = _mm_loadu_si128((const __m128i *) (scales + 2 * first));
	else
	{
		/* AVX2 has no masked loads of 16-bit words */
		if (n > first)
			memcpy(part, scales + 2 * first, 2 * (n - first));
		halves = _mm_loadu_si128((const __m128i *) part);
	}
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

OP __m128
v_fold(const vec sums[2])
{
	__m256		eight = _mm256_add_ps(sums[0], sums[1]);

	return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

#include "q8_simd.h"

#endif							/* HART_X86_KERNELS */
