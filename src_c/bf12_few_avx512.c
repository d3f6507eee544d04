/*
 * bf12_few_avx512.c
 *		Products of few rows of x by rows of 12-bit weights in float32, with AVX-512 and VBMI.
 *
 * Sums are those of dot1 (kernels_simd_bf12.h), bit for bit: 16 chains, column l in chain l modulo 16, that v_sum4 (avx512_sum4.h) adds up.
 */
#include "bf16_internal.h"

#ifdef HART_BF16_KERNELS

#define BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,fma")))

/* Rows of x in a register block, and of weights, which are a strip */
#define X_ROWS 6
#define STRIP_ROWS 4

#include "bf16_avx512_pack.h"
#include "bf16_panels.h"
#include "avx512_sum4.h"

#define STREAMS 4
#define FEW_X 4

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

/* Add the products of rows of x, 16 columns of each, by the low or the high halves of the lines of a strip; rows and high are constants in every call */
OP void
add_half(int rows, bool high, const char *x, size_t x_bytes, const char *w, __m512 sums[X_ROWS][STRIP_ROWS])
{
	__m512		weights[STRIP_ROWS];

	UNROLL for (int c = 0; c < STRIP_ROWS; c++)
	{
		__m512i		line = _mm512_load_si512(w + c * HART_BF16_LINE);

		weights[c] = _mm512_castsi512_ps(high ? _mm512_and_si512(line, _mm512_set1_epi32((int) 0xffff0000)) : _mm512_slli_epi32(line, 16));
	}
	UNROLL for (int r = 0; r < rows; r++)
	{
		__m512		columns = _mm512_loadu_ps(x + r * x_bytes);

		UNROLL for (int c = 0; c < STRIP_ROWS; c++)
			sums[r][c] = _mm512_fmadd_ps(weights[c], columns, sums[r][c]);
	}
	/* nothing is loaded before it is needed, which would put sums out of the registers */
	__asm__ volatile("" ::: "memory");
}

OP void
multiply_block(const Block *b, int rows)
{
	const char *x = b->x;
	const char *w = b->w;
	__m512		sums[X_ROWS][STRIP_ROWS];

	UNROLL for (int r = 0; r < rows; r++)
	{
		UNROLL for (int c = 0; c < STRIP_ROWS; c++)
			sums[r][c] = _mm512_setzero_ps();
	}
	for (size_t g = b->groups; g > 0; g--, w += GROUP_BYTES, x += HART_BF16_GROUP * sizeof(float))
	{
		add_half(rows, false, x, b->x_bytes, w, sums);
		add_half(rows, true, x + 16 * sizeof(float), b->x_bytes, w, sums);
	}
	UNROLL for (int r = 0; r < rows; r++)
	{
		float		out[STRIP_ROWS];

		v_sum4(sums[r][0], sums[r][1], sums[r][2], sums[r][3], out);
		put_sums(b, r, _mm_loadu_ps(out));
	}
}

MULTIPLY_BLOCK(1, multiply_block(b, 1))
MULTIPLY_BLOCK(2, multiply_block(b, 2))
MULTIPLY_BLOCK(3, multiply_block(b, 3))
MULTIPLY_BLOCK(4, multiply_block(b, 4))
MULTIPLY_BLOCK(5, multiply_block(b, 5))
MULTIPLY_BLOCK(6, multiply_block(b, 6))

/* Rows of x that take weights straight out of their tiles, at most; for more a strip of these is unpacked first */
#define STREAMED_ROWS (2 * FEW_X)

BF16_TARGET void
hart_bf12_few_avx512(const HartBf16Rows *w, const float *x, size_t m, float *y, size_t ldy)
{
	if (m > STREAMED_ROWS)
	{
		PanelX		rows = {(const char *) x, w->cols * sizeof(float), HART_BF16_GROUP * sizeof(float), 1, m};

		multiply_strips(w, &rows, y, ldy);
		return;
	}
	for (size_t i = 0; i < m; i += FEW_X)
	{
		XRows		rows = {.x = x + i * w->cols, .ldx = w->cols};

		multiply_few(w, &rows, m - i < FEW_X ? m - i : FEW_X, y + i * ldy, ldy);
	}
}

#endif							/* HART_BF16_KERNELS */
