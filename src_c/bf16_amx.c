/*
 * bf16_amx.c
 *		Products of rows of x by rows of bf16 weights with AMX: tiles of 16 rows by 64 bytes.
 *
 * TDPBF16PS multiplies a strip of weights, as it lies, by a block of x with rows and columns exchanged, so that only x is
 * turned, once for all weights.  What it adds to, 16 rows of weights by 16 rows of x, is turned on its way to y.
 *
 * Packed x: for each strip of it, each group and each term 16 dwords of 16 rows, rows side by side, and those that fill the last strip
 * up 0; few rows of x are a narrower strip.
 */
#include "bf16_internal.h"

#ifdef HART_BF16_KERNELS

#define BF16_TARGET __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512bf16,avx2,fma")))

#define STRIP HART_BF16_STRIP
#define STRIP_ROWS STRIP

#include "bf16_avx512_pack.h"
#include "avx512_transpose.h"

#define BLOCK GROUP_BYTES
#define LINE HART_BF16_LINE
#define PAIR (2 * STRIP)		/* rows of weights that are multiplied together */

/* Rows from the one that is unpacked to the one that is called, for many rows of x */
#define ROWS_AHEAD 4

/* What was written is in memory: compilers do not all know that instructions on tiles read it */
OP void
written(void)
{
	__asm__ volatile("" ::: "memory");
}

/* Tiles of 16 rows: 0 to 3 for sums and 4, 5 for x, with a column for each of so many rows of x, 6, 7 for weights */
BF16_KERNEL void
configure(size_t columns)
{
	struct
	{
		uint8_t		palette;
		uint8_t		start_row;
		uint8_t		reserved[14];
		uint16_t	row_bytes[16];
		uint8_t		rows[16];
	}			config = {.palette = 1};

	for (int tile = 0; tile < 8; tile++)
	{
		config.rows[tile] = STRIP;
		config.row_bytes[tile] = (uint16_t) (tile < 6 ? 4 * columns : LINE);
	}
	written();
	_tile_loadconfig(&config);
}

/*
 * Add to tiles 0 to 3, (strip of weights, strip of x), the products of two strips of weights by two of x, for some groups; begin says that these are the
 * first. Of what is needed after this, some lines a group are called into the cache.
 */
BF16_KERNEL void
multiply_groups(const char *const w[2], const char *const x[2], int terms, size_t from, size_t to, bool begin, const char *ahead, size_t lines)
{
	written();
	if (begin)
	{
		_tile_zero(0);
		_tile_zero(1);
		_tile_zero(2);
		_tile_zero(3);
	}
	for (size_t g = from; g < to; g++)
	{
		for (size_t i = g * lines; i < (g + 1) * lines; i++)
			_mm_prefetch((const char *) ((uintptr_t) ahead + i * 64), _MM_HINT_T1);
		_tile_loadd(6, w[0] + g * BLOCK, LINE);
		_tile_loadd(7, w[1] + g * BLOCK, LINE);
		for (int t = terms - 1; t >= 0; t--)
		{
			_tile_loadd(4, x[0] + (g * terms + t) * BLOCK, LINE);
			_tile_dpbf16ps(0, 6, 4);
			_tile_dpbf16ps(2, 7, 4);
			_tile_loadd(5, x[1] + (g * terms + t) * BLOCK, LINE);
			_tile_dpbf16ps(1, 6, 5);
			_tile_dpbf16ps(3, 7, 5);
		}
	}
}

/* What is made of sums: y (m, n) of n rows of weights, or y += that */
typedef struct
{
	size_t		m;
	size_t		n;
	float	   *y;				/* rows ldy apart */
	size_t		ldy;
	bool		add;
} Result;

/* The part of a result that begins with a row of x and a row of weights */
OP Result
result_from(Result all, size_t i, size_t row)
{
	return (Result) {all.m - i, all.n - row, all.y + i * all.ldy + row, all.ldy, all.add};
}

/* Put a row's sums in y, or add them to it */
OP void
put(const Result *to, size_t i, __m512 sum)
{
	__mmask16	columns = (__mmask16) (to->n >= STRIP ? 0xffff : (1u << to->n) - 1);
	float	   *y = to->y + i * to->ldy;

	if (to->add)
		sum = _mm512_add_ps(_mm512_maskz_loadu_ps(columns, y), sum);
	_mm512_mask_storeu_ps(y, columns, sum);
}

/* Of the sums (row of weights, row of x) of one strip of each */
BF16_KERNEL void
turn_sums(const float *sums, Result to)
{
	__m512		v[STRIP];

	UNROLL for (int r = 0; r < STRIP; r++)
		v[r] = _mm512_loadu_ps(sums + r * STRIP);
	v_transpose(v);
	UNROLL for (int i = 0; i < STRIP; i++)
		if ((size_t) i < to.m)
			put(&to, i, v[i]);
}

#include "bf16_amx_few.h"

/* Sums that were taken out of the tiles, and where they belong; those of strips that are not there have no rows */
typedef struct
{
	float	   *sums;			/* (strip of weights, strip of x, row of weights, row of x) */
	Result		to[4];
} Taken;

BF16_KERNEL void
take_sums(Taken *taken, Result to)
{
	_tile_stored(0, taken->sums, LINE);
	_tile_stored(1, taken->sums + STRIP * STRIP, LINE);
	_tile_stored(2, taken->sums + 2 * STRIP * STRIP, LINE);
	_tile_stored(3, taken->sums + 3 * STRIP * STRIP, LINE);
	for (size_t i = 0; i < 4; i++)
	{
		size_t		row = i / 2 * STRIP;
		size_t		x_row = i % 2 * STRIP;

		taken->to[i] = row < to.n && x_row < to.m ? result_from(to, x_row, row) : (Result) {.m = 0};
	}
}

/*
 * Many rows of x: a panel of weights in the L2 cache by two strips of x after the other. While two strips of weights are multiplied by them, the sums
 * of the two before are turned, as one keeps the tiles busy and the other the vector units; and the next strips of x are called.
 */
BF16_KERNEL void
multiply_panel(const Panel *panel, const HartBf16X *x, Result y, float *sums)
{
	size_t		groups = hart_bf16_groups(panel->n_cols);
	size_t		x_bytes = hart_bf16_groups(x->cols) * x->terms * BLOCK;
	size_t		x_strips = hart_bf16_strips(x->m);
	size_t		n_pairs = (panel->n_rows + PAIR - 1) / PAIR;
	Taken		taken[2] = {{.sums = sums}, {.sums = sums + 4 * STRIP * STRIP}};
	int			now = 0;

	for (size_t i = 0; i < x_strips; i += 2)
	{
		const char *first = x->packed + i * x_bytes + panel->col / HART_BF16_GROUP * x->terms * BLOCK;
		const char *const both[2] = {first, i + 1 < x_strips ? first + x_bytes : first};
		/* each pair of strips of weights has its share of the next two strips of x to call */
		size_t		lines = i + 2 < x_strips ? (2 * x->terms * STRIP + n_pairs - 1) / n_pairs : 0;

		for (size_t p = 0; p < n_pairs; p++)
		{
			const char *strip = panel->strips + 2 * p * groups * BLOCK;
			const char *const pair[2] = {strip, (2 * p + 1) * STRIP < panel->n_rows ? strip + groups * BLOCK : strip};
			/* half of the pairs call one strip, half the other */
			const char *ahead = first + (2 + 2 * p / n_pairs) * x_bytes + p % ((n_pairs + 1) / 2) * groups * lines * LINE;

			for (size_t quarter = 0; quarter < 4; quarter++)
			{
				multiply_groups(pair, both, x->terms, quarter * groups / 4, (quarter + 1) * groups / 4, quarter == 0, ahead, lines);
				if (taken[1 - now].to[quarter].m > 0)
					turn_sums(taken[1 - now].sums + quarter * STRIP * STRIP, taken[1 - now].to[quarter]);
			}
			take_sums(&taken[now], result_from(y, i * STRIP, panel->row + p * PAIR));
			now = 1 - now;
		}
	}
	for (size_t i = 0; i < 4; i++)
		if (taken[1 - now].to[i].m > 0)
			turn_sums(taken[1 - now].sums + i * STRIP * STRIP, taken[1 - now].to[i]);
}

BF16_KERNEL void
multiply_many(const HartBf16Rows *w, const HartBf16X *x, Result y, float *sums, char *strips)
{
	size_t		panel_rows = hart_bf16_panel_rows(HART_BF16_PANEL_BYTES, x->m, w->cols);

	for (size_t row = 0; row < w->n; row += panel_rows)
		for (size_t col = 0; col < w->cols; col += HART_BF16_DEPTH)
		{
			Panel		panel = panel_at(w, row, panel_rows, col, strips);
			Panel		ahead = panel_at(w, row + ROWS_AHEAD < w->n ? row + ROWS_AHEAD : row, panel_rows, col, strips);

			for (size_t r = 0; r < panel.n_rows; r++)
				unpack_panel_row(w, &panel, r, &ahead);
			y.add = col > 0;
			multiply_panel(&panel, x, y, sums);
		}
}

BF16_KERNEL void
multiply(const HartBf16Rows *w, const HartBf16X *x, float *y, size_t ldy, void *scratch)
{
	float	   *sums = scratch;
	char	   *strips = (char *) (sums + HART_BF16_SUMS);
	Result		to = {x->m, w->n, y, ldy, false};

	configure(hart_bf16_strip_rows(x->m));
	if (x->m <= HART_BF16_FEW)
		multiply_few(w, x, to, sums, strips);
	else
		multiply_many(w, x, to, sums, strips);
	_tile_release();
}

/* Lines of rows of x turned: dword i of each of `columns` rows, side by side */
OP void
store_turned(__m512 v[STRIP], size_t columns, char *to)
{
	v_transpose(v);
	UNROLL for (int i = 0; i < STRIP; i++)
		_mm512_mask_storeu_ps(to + i * 4 * columns, (__mmask16) ((1u << columns) - 1), v[i]);
}

/* Some groups of 16 rows, of which the first m are there; the number of terms is a constant in every call */
OP void
pack_strip(const float *x, size_t ldx, size_t m, size_t cols, int terms, size_t columns, char *to)
{
	for (size_t col = 0; col < cols; col += HART_BF16_GROUP)
	{
		size_t		n = cols - col < HART_BF16_GROUP ? cols - col : HART_BF16_GROUP;
		__m512		v[HART_BF16_MAX_TERMS][STRIP];

		UNROLL for (int r = 0; r < STRIP; r++)
		{
			__m512i		lines[HART_BF16_MAX_TERMS] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};

			if ((size_t) r < m)
				split_line(x + r * ldx + col, n, terms, lines);
			for (int t = 0; t < terms; t++)
				v[t][r] = _mm512_castsi512_ps(lines[t]);
		}
		for (int t = 0; t < terms; t++, to += columns * LINE)
			store_turned(v[t], columns, to);
	}
}

BF16_KERNEL void
pack_x(const HartBf16X *to, const float *x, size_t i)
{
	size_t		m = to->m - i < STRIP ? to->m - i : STRIP;
	size_t		columns = hart_bf16_strip_rows(to->m);
	char	   *strip = to->packed + i * hart_bf16_groups(to->cols) * to->terms * LINE;
	const float *from = x + i * to->cols;

	if (to->terms == 1)
		pack_strip(from, to->cols, m, to->cols, 1, columns, strip);
	else if (to->terms == 2)
		pack_strip(from, to->cols, m, to->cols, 2, columns, strip);
	else
		pack_strip(from, to->cols, m, to->cols, 3, columns, strip);
}

const HartBf16Kernels hart_bf16_kernels_amx = {
	.name = "amx",
	.panel_bytes = HART_BF16_PANEL_BYTES,
	.rows_together = PAIR,
	.pack_x = pack_x,
	.multiply = multiply,
};

#endif							/* HART_BF16_KERNELS */
