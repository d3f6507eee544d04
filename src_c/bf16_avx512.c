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

#include "bf16_avx512_pack.h"

/* Rows of x and of weights in a register block */
#define X_ROWS 6
#define W_ROWS 4

/* Rows from the one that is unpacked to the one that is called into the cache */
#define ROWS_AHEAD 4

/* Products of rows of x, x_bytes apart, by W_ROWS rows of a strip of weights. rows is a constant in every call, so all sums are in registers. */
OP void
multiply_block(int rows, const char *x, size_t x_bytes, int terms, const char *w, size_t groups, float *y, size_t ldy, size_t n, bool add)
{
	__m512		sum[X_ROWS][W_ROWS];

	UNROLL for (int r = 0; r < rows; r++)
	{
		UNROLL for (int c = 0; c < W_ROWS; c++)
			sum[r][c] = _mm512_setzero_ps();
	}
	for (size_t g = 0; g < groups; g++)
		for (int t = 0; t < terms; t++)
		{
			__m512bh	lines[X_ROWS];

			UNROLL for (int r = 0; r < rows; r++)
				lines[r] = (__m512bh) _mm512_loadu_si512(x + r * x_bytes + (g * terms + t) * HART_BF16_LINE);
			UNROLL for (int c = 0; c < W_ROWS; c++)
			{
				__m512bh	line = (__m512bh) _mm512_loadu_si512(w + g * HART_BF16_BLOCK + c * HART_BF16_LINE);

				UNROLL for (int r = 0; r < rows; r++)
					sum[r][c] = _mm512_dpbf16_ps(sum[r][c], line, lines[r]);
			}
		}
	UNROLL for (int r = 0; r < rows; r++)
	{
		UNROLL for (int c = 0; c < W_ROWS; c++)
			if ((size_t) c < n)
				y[r * ldy + c] = (add ? y[r * ldy + c] : 0) + _mm512_reduce_add_ps(sum[r][c]);
	}
}

#define BLOCK_CASE(r) \
	case r: \
		multiply_block(r, strip, x_bytes, x->terms, weights, groups, y + i * ldy + row, ldy, n - row, add); \
		break

/* A panel by all rows of x: some of these at a time stay in the nearest cache */
BF16_KERNEL void
panel_by_rows(const Panel *panel, const HartBf16X *x, float *y, size_t ldy, bool add)
{
	size_t		groups = hart_bf16_groups(panel->n_cols);
	size_t		n = panel->n_rows;
	size_t		x_bytes = hart_bf16_groups(x->cols) * x->terms * HART_BF16_LINE;

	for (size_t i = 0; i < x->m; i += X_ROWS)
	{
		const char *strip = x->packed + i * x_bytes + panel->col / HART_BF16_GROUP * x->terms * HART_BF16_LINE;

		for (size_t row = 0; row < n; row += W_ROWS)
		{
			const char *weights = panel->strips + row / HART_BF16_STRIP * groups * HART_BF16_BLOCK + row % HART_BF16_STRIP * HART_BF16_LINE;

			switch (x->m - i)
			{
					BLOCK_CASE(1);
					BLOCK_CASE(2);
					BLOCK_CASE(3);
					BLOCK_CASE(4);
					BLOCK_CASE(5);
				default:
					multiply_block(X_ROWS, strip, x_bytes, x->terms, weights, groups, y + i * ldy + row, ldy, n - row, add);
			}
		}
	}
}

BF16_KERNEL void
multiply(const HartBf16Rows *w, const HartBf16X *x, float *y, size_t ldy, void *scratch)
{
	size_t		panel_rows = hart_bf16_panel_rows(x->m, w->cols);

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

BF16_KERNEL void
pack_x(const HartBf16X *to, const float *x, size_t i)
{
	size_t		groups = hart_bf16_groups(to->cols);
	size_t		end = i + HART_BF16_STRIP < to->m ? i + HART_BF16_STRIP : to->m;

	for (size_t r = i; r < end; r++)
		for (size_t g = 0; g < groups; g++)
		{
			size_t		col = g * HART_BF16_GROUP;
			size_t		n = to->cols - col < HART_BF16_GROUP ? to->cols - col : HART_BF16_GROUP;

			split_line(x + r * to->cols + col, n, to->terms, (__m512i *) (to->packed + (r * groups + g) * to->terms * HART_BF16_LINE));
		}
}

const HartBf16Kernels hart_bf16_kernels_avx512bf16 = {
	.name = "avx512bf16",
	.pack_x = pack_x,
	.multiply = multiply,
};

#endif							/* HART_BF16_KERNELS */
