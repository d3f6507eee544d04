/*
 * avx512_sum4.h
 *		The sums of four vectors of floats, with AVX-512.
 *
 * A set defines OP, for its functions, before it includes this.
 */

/* out[i] = sum of the i-th vector's lanes */
OP void
v_sum4(__m512 a, __m512 b, __m512 c, __m512 d, float out[4])
{
	__m256		a8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
	__m256		b8 = _mm256_add_ps(_mm512_castps512_ps256(b), _mm512_extractf32x8_ps(b, 1));
	__m256		c8 = _mm256_add_ps(_mm512_castps512_ps256(c), _mm512_extractf32x8_ps(c, 1));
	__m256		d8 = _mm256_add_ps(_mm512_castps512_ps256(d), _mm512_extractf32x8_ps(d, 1));
	__m256		sums = _mm256_hadd_ps(_mm256_hadd_ps(a8, b8), _mm256_hadd_ps(c8, d8));

	_mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(sums),
								  _mm256_extractf128_ps(sums, 1)));
}
