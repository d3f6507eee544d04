/*
 * bf12_few_avx512.c
 *		Products of few rows of x by rows of 12-bit weights in float32, with AVX-512 and VBMI.
 *
 * The sum of one row waits for each of its additions, so STREAMS rows are taken side by side, from as many places of the weights: weights are unpacked
 * in registers, and what is read goes on from front to back in each stream. Sums are those of dot1 (kernels_simd_bf12.h), bit for bit: 16 chains,
 * column l in chain l modulo 16, that v_sum4 of kernels_avx512.c adds up.
 */
#include "bf16_internal.h"

#ifdef HART_BF16_KERNELS

#define BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,fma")))

#include "bf16_avx512_pack.h"
#include "bf12_cursor.h"
#include "avx512_sum4.h"

#define STREAMS 4

/* From what is unpacked to what is called into the L2 cache: more misses are under way than the L1 cache keeps track of */
#define BYTES_AHEAD 4096

/* Chains of rows of x by the streams' rows of weights */
typedef __m512 Sums[HART_BF12_FEW][STREAMS];

/* Add the products of the columns of a line of each stream. m is a constant in every call. */
OP void
add_lines(int m, const __m512i lines[STREAMS], const float *x, size_t ldx, Sums sums)
{
	__m512		low[STREAMS];
	__m512		high[STREAMS];

	UNROLL for (int s = 0; s < STREAMS; s++)
	{
		low[s] = _mm512_castsi512_ps(_mm512_slli_epi32(lines[s], 16));
		high[s] = _mm512_castsi512_ps(_mm512_and_si512(lines[s], _mm512_set1_epi32((int) 0xffff0000)));
	}
	UNROLL for (int i = 0; i < m; i++)
	{
		__m512		x_low = _mm512_loadu_ps(x + i * ldx);
		__m512		x_high = _mm512_loadu_ps(x + i * ldx + 16);

		UNROLL for (int s = 0; s < STREAMS; s++)
			sums[i][s] = _mm512_fmadd_ps(low[s], x_low, sums[i][s]);
		UNROLL for (int s = 0; s < STREAMS; s++)
			sums[i][s] = _mm512_fmadd_ps(high[s], x_high, sums[i][s]);
	}
}

/* n blocks of each stream, which lie in its tile and have no exceptions */
OP void
add_plain_blocks(int m, Bf12Cursor streams[STREAMS], const Bf12Places *places, size_t n, const float *x, size_t ldx, Sums sums)
{
	const char *block[STREAMS];

	UNROLL for (int s = 0; s < STREAMS; s++)
		block[s] = streams[s].block;
	for (; n > 0; n--)
	{
		UNROLL for (int s = 0; s < STREAMS; s++)
		{
			UNROLL for (int i = 0; i < HART_BF12_BLOCK_BYTES; i += 64)
				_mm_prefetch((const char *) ((uintptr_t) block[s] + BYTES_AHEAD + i), _MM_HINT_T1);
		}
		UNROLL for (int q = 0; q < 4; q++)
		{
			__m512i		lines[STREAMS];

			UNROLL for (int s = 0; s < STREAMS; s++)
				lines[s] = bf12_line(block[s], streams[s].exponents, places, q);
			add_lines(m, lines, x + q * HART_BF16_GROUP, ldx, sums);
		}
		x += HART_BF12_BLOCK;
		UNROLL for (int s = 0; s < STREAMS; s++)
			block[s] += HART_BF12_BLOCK_BYTES;
	}
	UNROLL for (int s = 0; s < STREAMS; s++)
		streams[s].block = block[s];
}

/* A block of each stream, which may have exceptions */
OP void
add_any_block(int m, Bf12Cursor streams[STREAMS], const Bf12Places *places, const float *x, size_t ldx, Sums sums)
{
	_Alignas(64) char unpacked[STREAMS][4 * HART_BF16_BLOCK];

	UNROLL for (int s = 0; s < STREAMS; s++)
		unpack_this_block(&streams[s], places, unpacked[s]);
	UNROLL for (int q = 0; q < 4; q++)
	{
		__m512i		lines[STREAMS];

		UNROLL for (int s = 0; s < STREAMS; s++)
			lines[s] = _mm512_load_si512(unpacked[s] + q * HART_BF16_BLOCK);
		add_lines(m, lines, x + q * HART_BF16_GROUP, ldx, sums);
	}
}

/* Blocks of a stream that add_plain_blocks takes, at most n */
OP size_t
plain_blocks(const Bf12Cursor *stream, size_t n)
{
	/* an exception beyond the tile does no harm either */
	const char *stop = stream->exceptional && stream->exceptional < stream->end ? stream->exceptional : stream->end;
	size_t		left = (size_t) (stop - stream->block) / HART_BF12_BLOCK_BYTES;

	return left < n ? left : n;
}

/* out[i * STREAMS + s] = the products of x row i by the next n blocks of stream s */
OP void
multiply_blocks(int m, Bf12Cursor streams[STREAMS], const Bf12Places *places, size_t n, const float *x, size_t ldx, float *out)
{
	Sums		sums;

	UNROLL for (int i = 0; i < m; i++)
	{
		UNROLL for (int s = 0; s < STREAMS; s++)
			sums[i][s] = _mm512_setzero_ps();
	}
	while (n > 0)
	{
		size_t		taken = n;

		UNROLL for (int s = 0; s < STREAMS; s++)
		{
			enter_next_tile(&streams[s]);
			taken = plain_blocks(&streams[s], taken);
		}
		if (taken > 0)
			add_plain_blocks(m, streams, places, taken, x, ldx, sums);
		else
		{
			add_any_block(m, streams, places, x, ldx, sums);
			taken = 1;
		}
		n -= taken;
		x += taken * HART_BF12_BLOCK;
	}
	UNROLL for (int i = 0; i < m; i++)
		v_sum4(sums[i][0], sums[i][1], sums[i][2], sums[i][3], out + i * STREAMS);
}

/* n successive rows of weights from each of n_streams others on, by m rows of x */
OP void
multiply_streams(int m, const HartBf16Rows *w, const size_t first[STREAMS], size_t n_streams, size_t n, const float *x, float *y, size_t ldy)
{
	Bf12Places	places = bf12_places();
	Bf12Cursor	streams[STREAMS];

	UNROLL for (int s = 0; s < STREAMS; s++)
		streams[s] = open_cursor(w, w->first + first[s] * w->cols);
	for (size_t r = 0; r < n; r++)
		for (size_t col = 0; col < w->cols; col += HART_DOT_DEPTH)
		{
			size_t		depth = w->cols - col < HART_DOT_DEPTH ? w->cols - col : HART_DOT_DEPTH;
			float		out[HART_BF12_FEW * STREAMS];

			multiply_blocks(m, streams, &places, depth / HART_BF12_BLOCK, x + col, w->cols, out);
			for (int i = 0; i < m; i++)
				for (size_t s = 0; s < n_streams; s++)
				{
					float	   *to = y + i * ldy + first[s] + r;

					*to = col > 0 ? *to + out[i * STREAMS + s] : out[i * STREAMS + s];
				}
		}
}

/* All rows of weights by m rows of x: a stretch of them in each stream, then those that are left over side by side */
OP void
multiply_rows(int m, const HartBf16Rows *w, const float *x, float *y, size_t ldy)
{
	size_t		stretch = w->n / STREAMS;
	size_t		n_left = w->n % STREAMS;
	size_t		first[STREAMS];

	for (size_t s = 0; s < STREAMS; s++)
		first[s] = s * stretch;
	if (stretch > 0)
		multiply_streams(m, w, first, STREAMS, stretch, x, y, ldy);
	/* streams that have none take the last row too */
	for (size_t s = 0; s < STREAMS; s++)
		first[s] = STREAMS * stretch + (s < n_left ? s : n_left - 1);
	if (n_left > 0)
		multiply_streams(m, w, first, n_left, 1, x, y, ldy);
}

#define ROWS(m) \
	BF16_KERNEL __attribute__((noinline)) void \
	multiply_rows_##m(const HartBf16Rows *w, const float *x, float *y, size_t ldy) \
	{ \
		multiply_rows(m, w, x, y, ldy); \
	}

ROWS(1)
ROWS(2)
ROWS(3)
ROWS(4)

BF16_TARGET void
hart_bf12_few_avx512(const HartBf16Rows *w, const float *x, size_t m, float *y, size_t ldy)
{
	static void (*const multiply[HART_BF12_FEW]) (const HartBf16Rows *w, const float *x, float *y, size_t ldy) =
	{multiply_rows_1, multiply_rows_2, multiply_rows_3, multiply_rows_4};

	multiply[m - 1] (w, x, y, ldy);
}

#endif							/* HART_BF16_KERNELS */
