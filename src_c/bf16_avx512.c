/*
 * bf16_avx512.c
 *		Products of rows of x by rows of bf16 weights with AVX512-BF16.
 *
 * VDPBF16PS adds to a float the product of two low halves and then that of two high halves.  So a product of two rows is summed in 16 chains, dword i
 * of each group in chain i, and these are added up by halves.  Each term goes through them after the one before it.
 *
 * Packed x: each row's lines, group after group, the terms of a group side by side.
 */
#include "bf16_internal.h"

#ifdef HART_BF16_KERNELS

#define BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512bf16,avx2,fma")))

/* Rows of x in a register block, and of weights, which are a strip: its lines lie in the cache one after the other */
#define X_ROWS 6
#define STRIP_ROWS 4

#include "bf16_avx512_pack.h"

/* Bytes of a panel: a quarter of the L2 cache of processors with AVX512-BF16 and without AMX */
#define PANEL_BYTES (256 * 1024)

/* Rows of x that take 12-bit weights straight out of their tiles, at most, and those that take them strip by strip */
#define STREAMED_ROWS 12
#define STRIPED_ROWS 48

/* Not by _mm512_dpbf16_ps: GCC 12 copies its sum before some uses */
OP __m512
add_products(__m512 sum, __m512i a, __m512i b)
{
	__asm__("vdpbf16ps\t%2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
	return sum;
}

/* Halves of 16 chains added up, and halves of these: what is left of them */
OP __m128
fold(__m512 chains)
{
	__m256		eight = _mm256_add_ps(_mm512_castps512_ps256(chains), _mm512_extractf32x8_ps(chains, 1));

	return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

/* The 16 chains of each of four sums, added up by halves */
OP __m128
add_four(const __m512 chains[4])
{
	__m128		a = fold(chains[0]);
	__m128		b = fold(chains[1]);
	__m128		c = fold(chains[2]);
	__m128		d = fold(chains[3]);
	__m128		ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
	__m128		cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));

	return _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd));
}

#include "bf16_panels.h"

/* rows is a constant in every call, so all sums are in registers; so is the number of terms where it matters */
OP void
multiply_block(const Block *b, int rows, int terms)
{
	const char *x = b->x;
	const char *w = b->w;
	size_t		x_bytes = b->x_bytes;
	__m512		sums[X_ROWS][STRIP_ROWS];

	UNROLL for (int r = 0; r < rows; r++)
	{
		UNROLL for (int c = 0; c < STRIP_ROWS; c++)
			sums[r][c] = _mm512_setzero_ps();
	}
	for (size_t g = b->groups; g > 0; g--, w += GROUP_BYTES)
	{
		for (int t = 0; t < terms; t++, x += HART_BF16_LINE)
		{
			__m512i		lines[X_ROWS];

			UNROLL for (int r = 0; r < rows; r++)
				lines[r] = _mm512_loadu_si512(x + r * x_bytes);
			UNROLL for (int c = 0; c < STRIP_ROWS; c++)
			{
				__m512i		weights = _mm512_load_si512(w + c * HART_BF16_LINE);

				UNROLL for (int r = 0; r < rows; r++)
					sums[r][c] = add_products(sums[r][c], weights, lines[r]);
			}
		}
	}
	UNROLL for (int r = 0; r < rows; r++)
		put_sums(b, r, add_four(sums[r]));
}

#define MULTIPLY_TERMS(rows) \
	MULTIPLY_BLOCK(rows, if (b->terms == 1) multiply_block(b, rows, 1); else multiply_block(b, rows, b->terms))

MULTIPLY_TERMS(1)
MULTIPLY_TERMS(2)
MULTIPLY_TERMS(3)
MULTIPLY_TERMS(4)
MULTIPLY_TERMS(5)
MULTIPLY_TERMS(6)

/* Rows from the one that is unpacked to the one that is called into the cache */
#define ROWS_AHEAD 4

/* All rows of weights by all rows of x, panel_rows at a time */
BF16_KERNEL void
multiply_panels(const HartBf16Rows *w, const PanelX *x, float *y, size_t ldy, size_t panel_rows, char *scratch)
{
	for (size_t row = 0; row < w->n; row += panel_rows)
		for (size_t col = 0; col < w->cols; col += HART_BF16_DEPTH)
		{
			Panel		panel = panel_at(w, row, panel_rows, col, scratch);
			Panel		ahead = panel_at(w, row + ROWS_AHEAD < w->n ? row + ROWS_AHEAD : row, panel_rows, col, scratch);

			for (size_t r = 0; r < panel.n_rows; r++)
				unpack_panel_row(w, &panel, r, &ahead);
			panel_by_rows(&panel, x, y + row, ldy, col > 0);
		}
}

#define STREAMS 4
#define FEW_X 6

/* Of one term */
typedef struct
{
	const char *x;				/* packed rows, x_bytes apart */
	size_t		x_bytes;
	size_t		first;
} XRows;

typedef __m512 Sums[FEW_X][STREAMS];

OP void
add_lines(int m, const __m512i lines[STREAMS], const XRows *x, size_t q, Sums sums)
{
	const char *from = x->x + (x->first + q) * HART_BF16_LINE;

	UNROLL for (int i = 0; i < m; i++)
	{
		__m512i		line = _mm512_loadu_si512(from + i * x->x_bytes);

		UNROLL for (int s = 0; s < STREAMS; s++)
			sums[i][s] = add_products(sums[i][s], lines[s], line);
	}
}

OP void
add_chains(const __m512 sums[STREAMS], float out[STREAMS])
{
	_mm_storeu_ps(out, add_four(sums));
}

#include "bf12_streams.h"

BF16_KERNEL void
multiply(const HartBf16Rows *w, const HartBf16X *x, float *y, size_t ldy, void *scratch)
{
	size_t		n_passes = (x->m + FEW_X - 1) / FEW_X;
	size_t		group_bytes = x->terms * HART_BF16_LINE;
	size_t		x_bytes = hart_bf16_groups(x->cols) * group_bytes;
	PanelX		all = {x->packed, x_bytes, group_bytes, x->terms, x->m};
	bool		whole_blocks = w->format == HART_BF12 && w->cols % HART_BF12_BLOCK == 0 && w->first % HART_BF12_BLOCK == 0;

	if (x->m > STRIPED_ROWS || !whole_blocks)
	{
		multiply_panels(w, &all, y, ldy, hart_bf16_panel_rows(PANEL_BYTES, x->m, w->cols), scratch);
		return;
	}
	if (x->m > STREAMED_ROWS || x->terms > 1)
	{
		multiply_strips(w, &all, y, ldy);
		return;
	}
	for (size_t pass = 0; pass < n_passes; pass++)
	{
		size_t		i = x->m * pass / n_passes;
		XRows		rows = {.x = x->packed + i * x_bytes, .x_bytes = x_bytes};

		multiply_few(w, &rows, x->m * (pass + 1) / n_passes - i, y + i * ldy, ldy);
	}
}

/* The number of terms is a constant in every call */
OP void
pack_row(const float *x, size_t cols, int terms, char *to)
{
	for (size_t col = 0; col < cols; col += HART_BF16_GROUP, to += terms * HART_BF16_LINE)
		split_line(x + col, cols - col < HART_BF16_GROUP ? cols - col : HART_BF16_GROUP, terms, (__m512i *) to);
}

BF16_KERNEL void
pack_x(const HartBf16X *to, const float *x, size_t i)
{
	size_t		row_bytes = hart_bf16_groups(to->cols) * to->terms * HART_BF16_LINE;
	size_t		end = i + HART_BF16_STRIP < to->m ? i + HART_BF16_STRIP : to->m;

	for (size_t r = i; r < end; r++)
	{
		if (to->terms == 1)
			pack_row(x + r * to->cols, to->cols, 1, to->packed + r * row_bytes);
		else if (to->terms == 2)
			pack_row(x + r * to->cols, to->cols, 2, to->packed + r * row_bytes);
		else
			pack_row(x + r * to->cols, to->cols, 3, to->packed + r * row_bytes);
	}
}

const HartBf16Kernels hart_bf16_kernels_avx512bf16 = {
	.name = "avx512bf16",
	.panel_bytes = PANEL_BYTES,
	.rows_together = STRIP_ROWS,
	.pack_x = pack_x,
	.multiply = multiply,
};

#endif							/* HART_BF16_KERNELS */
