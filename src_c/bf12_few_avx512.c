/*
 * bf12_few_avx512.c
 *		Products of few rows of x by rows of 12-bit weights in float32, with AVX-512 and VBMI.
 *
 * Sums are those of dot1 (kernels_simd_bf12.h), bit for bit: 16 chains, column l in chain l modulo 16, that v_sum4 of kernels_avx512.c adds up.
 */
#include "bf16_internal.h"

#ifdef HART_BF16_KERNELS

#define BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,fma")))
#define STRIP_ROWS 1

#include "bf16_avx512_pack.h"
#include "avx512_sum4.h"

#define STREAMS 4
#define FEW_X HART_BF12_FEW

typedef struct
{
	const float *x;				/* rows ldx apart */
	size_t		ldx;
	size_t		first;
} XRows;

typedef __m512 Sums[FEW_X][STREAMS];

OP void
add_lines(int m, const __m512i lines[STREAMS], const XRows *x, size_t q, Sums sums)
{
	const float *from = x->x + (x->first + q) * HART_BF16_GROUP;
	__m512		low[STREAMS];
	__m512		high[STREAMS];

	UNROLL for (int s = 0; s < STREAMS; s++)
	{
		low[s] = _mm512_castsi512_ps(_mm512_slli_epi32(lines[s], 16));
		high[s] = _mm512_castsi512_ps(_mm512_and_si512(lines[s], _mm512_set1_epi32((int) 0xffff0000)));
	}
	UNROLL for (int i = 0; i < m; i++)
	{
		__m512		x_low = _mm512_loadu_ps(from + i * x->ldx);
		__m512		x_high = _mm512_loadu_ps(from + i * x->ldx + 16);

		UNROLL for (int s = 0; s < STREAMS; s++)
			sums[i][s] = _mm512_fmadd_ps(low[s], x_low, sums[i][s]);
		UNROLL for (int s = 0; s < STREAMS; s++)
			sums[i][s] = _mm512_fmadd_ps(high[s], x_high, sums[i][s]);
	}
}

OP void
add_chains(const __m512 sums[STREAMS], float out[STREAMS])
{
	v_sum4(sums[0], sums[1], sums[2], sums[3], out);
}

#include "bf12_streams.h"

BF16_TARGET void
hart_bf12_few_avx512(const HartBf16Rows *w, const float *x, size_t m, float *y, size_t ldy)
{
	XRows		rows = {.x = x, .ldx = w->cols};

	multiply_few(w, &rows, m, y, ldy);
}

#endif							/* HART_BF16_KERNELS */
