/*
 * q8_avx512_ops.h
 *		Vectors of 16 dwords for q8_simd.h; i_dot is the including set's.
 */
#include <immintrin.h>
#include <math.h>

#define LANES 16
#define X_ROWS 4
#define STREAMS 4
#define OP static inline __attribute__((always_inline)) SIMD_TARGET

typedef __m512 vec;
typedef __m512i ivec;

#define i_zero()			_mm512_setzero_si512()
#define i_load(p)			_mm512_loadu_si512((const void *) (p))
#define i_add(a, b)			_mm512_add_epi32(a, b)
#define i_shift_left(a, n)	_mm512_slli_epi32(a, n)
#define i_round(a)			_mm512_cvtps_epi32(a)	/* to nearest, ties to even */
#define i_max_lanes(a)		_mm512_reduce_max_epu32(a)
#define i_sum_lanes(a)		_mm512_reduce_add_epi32(a)

#define v_load(p)			_mm512_loadu_ps(p)
#define v_set1(a)			_mm512_set1_ps(a)
#define v_mul(a, b)			_mm512_mul_ps(a, b)
#define v_fma(a, b, c)		_mm512_fmadd_ps(a, b, c)
#define v_from_int(a)		_mm512_cvtepi32_ps(a)

/* The first n lanes */
OP __mmask16
first_lanes(size_t n)
{
	return (__mmask16) ((1u << n) - 1);
}

OP ivec
i_load_part(const char *p, size_t n)
{
	return _mm512_maskz_loadu_epi32(first_lanes(n), p);
}

OP void
i_store_part(char *p, ivec a, size_t n)
{
	_mm512_mask_storeu_epi32(p, first_lanes(n), a);
}

OP ivec
i_abs_max(ivec max, vec a)
{
	return _mm512_max_epu32(max, _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)));
}

OP void
i_split(ivec q, ivec *high, ivec *low)
{
	*high = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(64)), 7);
	*low = _mm512_sub_epi32(q, _mm512_slli_epi32(*high, 7));
}

/* The low bytes of 4 lanes at a time, to quads of one block */
OP void
i_store_quads(ivec a, int8_t *to)
{
	__m128i		bytes = _mm512_cvtepi32_epi8(a);
	int32_t		quads[4];

	_mm_storeu_si128((__m128i *) quads, bytes);
	for (int i = 0; i < 4; i++)
		memcpy(to + i * 4 * HART_Q8_GROUP, &quads[i], 4);
}

/* bfloat16 numbers first to first + LANES - 1 of n */
OP vec
v_load_scales(const char *scales, size_t first, size_t n)
{
	__m256i		halves = _mm256_maskz_loadu_epi16(first_lanes(n), scales);

	(void) first;
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

OP __m128
v_fold(const vec sums[1])
{
	__m256		eight = _mm256_add_ps(_mm512_castps512_ps256(sums[0]), _mm512_extractf32x8_ps(sums[0], 1));

	return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}
