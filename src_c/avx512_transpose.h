/*
 * avx512_transpose.h
 *		16 vectors of 16 floats with rows and columns exchanged; part of the sets for AVX-512.
 *
 * A set defines OP, what its inline functions begin with, before it includes this.
 */
#include <immintrin.h>

/* v[i] lane j and v[j] lane i change places */
OP void
v_transpose(__m512 v[16])
{
	__m512		a[16];

	/* within quarters of 4 lanes: 4 by 4 blocks */
	UNROLL for (int i = 0; i < 16; i += 4)
	{
		__m512d		low01 = _mm512_castps_pd(_mm512_unpacklo_ps(v[i], v[i + 1]));
		__m512d		high01 = _mm512_castps_pd(_mm512_unpackhi_ps(v[i], v[i + 1]));
		__m512d		low23 = _mm512_castps_pd(_mm512_unpacklo_ps(v[i + 2], v[i + 3]));
		__m512d		high23 = _mm512_castps_pd(_mm512_unpackhi_ps(v[i + 2], v[i + 3]));

		a[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
		a[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
		a[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
		a[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
	}
	/* the blocks among one another */
	UNROLL for (int i = 0; i < 4; i++)
	{
		__m512		even01 = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88);
		__m512		odd01 = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd);
		__m512		even23 = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
		__m512		odd23 = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xdd);

		v[i] = _mm512_shuffle_f32x4(even01, even23, 0x88);
		v[i + 4] = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
		v[i + 8] = _mm512_shuffle_f32x4(even01, even23, 0xdd);
		v[i + 12] = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
	}
}
