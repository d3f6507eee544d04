/*
 * bf16_amx.c
 *		Products of rows of x by rows of bf16 weights with AMX: tiles of 16 rows by 64 bytes.
 *
 * TDPBF16PS multiplies a strip of weights, as it lies, by a block of x with rows and columns exchanged, so that only x is
 * turned, once for all weights.  What it adds to, 16 rows of weights by 16 rows of x, is turned on its way to y.
 *
 * Packed x: for each strip of it, each group and each term 16 dwords of 16 rows, rows side by side; compact x has
 * one strip, with all terms of all rows side by side, and no more columns than that.
 */
#include "bf16_internal.h"

#ifdef HART_BF16_KERNELS

#define BF16_TARGET __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,fma")))

#include "bf16_avx512_pack.h"
#include "avx512_transpose.h"

#define STRIP HART_BF16_STRIP
#define BLOCK HART_BF16_BLOCK
#define LINE HART_BF16_LINE
#define PAIR (2 * STRIP)		/* rows of weights that are multiplied together */

/* Columns of a strip of weights of which the L1 cache holds two besides few rows of x; a part of HART_BF16_DEPTH */
#define FEW_COLUMNS 512

/* Rows from the one that is unpacked to the one that is called, for many rows of x */
#define ROWS_AHEAD 4

/* Tiles of 16 rows; the first five, for sums and x, as many columns as compact x has */
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
		config.row_bytes[tile] = (uint16_t) (tile < 5 ? 4 * columns : LINE);
	}
	_tile_loadconfig(&config);
}

/* Tile 0: (row of weights, terms of rows of x) of a strip of weights by compact x of so many columns; begin says that these groups are the first */
BF16_KERNEL void
multiply_compact(const char *w, const char *x, size_t columns, size_t groups, bool begin)
{
	if (begin)
		_tile_zero(0);
	for (size_t g = 0; g < groups; g++)
	{
		_tile_loadd(4, x + g * columns * LINE, 4 * columns);
		_tile_loadd(5, w + g * BLOCK, LINE);
		_tile_dpbf16ps(0, 5, 4);
	}
}

/* Tiles 0 to 2: (term, row of weights, row of x) of a strip of weights by the terms of a strip of x; begin says that these groups are the first */
BF16_KERNEL void
multiply_few_terms(const char *w, const char *x, int terms, size_t groups, bool begin)
{
	if (begin)
	{
		_tile_zero(0);
		_tile_zero(1);
		_tile_zero(2);
	}
	for (size_t g = 0; g < groups; g++)
	{
		_tile_loadd(5, w + g * BLOCK, LINE);
		_tile_loadd(4, x + g * terms * BLOCK, LINE);
		_tile_dpbf16ps(0, 5, 4);
		if (terms > 1)
		{
			_tile_loadd(6, x + (g * terms + 1) * BLOCK, LINE);
			_tile_dpbf16ps(1, 5, 6);
		}
		if (terms > 2)
		{
			_tile_loadd(7, x + (g * terms + 2) * BLOCK, LINE);
			_tile_dpbf16ps(2, 5, 7);
		}
	}
}

/* Tiles 0 to 3: (strip, which block, row of weights, row of x) of two strips of weights by two blocks of x, whose groups are x_step apart */
BF16_KERNEL void
multiply_pairs(const char *const w[2], const char *const x[2], size_t x_step, size_t groups)
{
	_tile_zero(0);
	_tile_zero(1);
	_tile_zero(2);
	_tile_zero(3);
	for (size_t g = 0; g < groups; g++)
	{
		_tile_loadd(4, x[0] + g * x_step, LINE);
		_tile_loadd(6, w[0] + g * BLOCK, LINE);
		_tile_dpbf16ps(0, 6, 4);
		_tile_loadd(5, x[1] + g * x_step, LINE);
		_tile_dpbf16ps(1, 6, 5);
		_tile_loadd(7, w[1] + g * BLOCK, LINE);
		_tile_dpbf16ps(2, 7, 4);
		_tile_dpbf16ps(3, 7, 5);
	}
}

/* Tiles 0 to 5: (strip, term, row of weights, row of x) of two strips of weights by the three terms of a strip of x */
BF16_KERNEL void
multiply_triples(const char *const w[2], const char *x, size_t groups)
{
	_tile_zero(0);
	_tile_zero(1);
	_tile_zero(2);
	_tile_zero(3);
	_tile_zero(4);
	_tile_zero(5);
	for (size_t g = 0; g < groups; g++)
	{
		const char *terms = x + g * 3 * BLOCK;

		_tile_loadd(6, w[0] + g * BLOCK, LINE);
		_tile_loadd(7, terms, LINE);
		_tile_dpbf16ps(0, 6, 7);
		_tile_loadd(7, terms + BLOCK, LINE);
		_tile_dpbf16ps(1, 6, 7);
		_tile_loadd(7, terms + 2 * BLOCK, LINE);
		_tile_dpbf16ps(2, 6, 7);
		_tile_loadd(6, w[1] + g * BLOCK, LINE);
		_tile_dpbf16ps(5, 6, 7);
		_tile_loadd(7, terms + BLOCK, LINE);
		_tile_dpbf16ps(4, 6, 7);
		_tile_loadd(7, terms, LINE);
		_tile_dpbf16ps(3, 6, 7);
	}
}

#define STORE_TILE(tile) _tile_stored(tile, sums + (tile) * STRIP * STRIP, LINE)

/* The first n tiles, 3 or more, to where they can be read */
BF16_KERNEL void
store_tiles(int n, float *sums)
{
	STORE_TILE(0);
	STORE_TILE(1);
	STORE_TILE(2);
	if (n > 3)
		STORE_TILE(3);
	if (n > 4)
	{
		STORE_TILE(4);
		STORE_TILE(5);
	}
}

/* What is made of sums: y (m, n) of n rows of weights, or y += that */
typedef struct
{
	size_t		m;
	size_t		n;
	float	   *y;				/* rows ldy apart */
	size_t		ldy;
	size_t		step;			/* from one row of weights to the next */
	bool		add;
} Result;

/* The part of a result that begins with a row of x and a row of weights */
OP Result
result_from(Result all, size_t i, size_t row)
{
	return (Result) {all.m - i, all.n - row, all.y + i * all.ldy + row, all.ldy, 1, all.add};
}

OP void
put(const Result *to, size_t i, __m512 sum)
{
	__mmask16	columns = (__mmask16) (to->n >= STRIP ? 0xffff : (1u << to->n) - 1);
	float	   *y = to->y + i * to->ldy;
	__m512i		places = _mm512_mullo_epi32(_mm512_set1_epi32((int) to->step), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));

	if (to->step == 1)
	{
		if (to->add)
			sum = _mm512_add_ps(_mm512_maskz_loadu_ps(columns, y), sum);
		_mm512_mask_storeu_ps(y, columns, sum);
	}
	else
	{
		if (to->add)
			sum = _mm512_add_ps(_mm512_mask_i32gather_ps(sum, columns, places, y, sizeof(float)), sum);
		_mm512_mask_i32scatter_ps(y, columns, places, sum, sizeof(float));
	}
}

/* Of the sums (term, row of weights, row of x) of one strip of each */
BF16_KERNEL void
turn_sums(const float *sums, int terms, Result to)
{
	__m512		v[STRIP];

	UNROLL for (int r = 0; r < STRIP; r++)
	{
		v[r] = _mm512_loadu_ps(sums + ((terms - 1) * STRIP + r) * STRIP);
		for (int t = terms - 2; t >= 0; t--)
			v[r] = _mm512_add_ps(v[r], _mm512_loadu_ps(sums + (t * STRIP + r) * STRIP));
	}
	v_transpose(v);
	UNROLL for (int i = 0; i < STRIP; i++)
		if ((size_t) i < to.m)
			put(&to, i, v[i]);
}

/* Of the sums (row of weights, terms of rows of x) of one strip of weights by compact x */
BF16_KERNEL void
gather_sums(const float *sums, int terms, Result to)
{
	__m512i		rows = _mm512_mullo_epi32(_mm512_set1_epi32(STRIP), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));

	for (size_t i = 0; i < to.m; i++)
	{
		__m512		sum = _mm512_i32gather_ps(rows, sums + (terms - 1) * to.m + i, sizeof(float));

		for (int t = terms - 2; t >= 0; t--)
			sum = _mm512_add_ps(sum, _mm512_i32gather_ps(rows, sums + t * to.m + i, sizeof(float)));
		put(&to, i, sum);
	}
}

/* Strips of x that are multiplied together: what fills the tiles for sums */
OP size_t
strips_at_once(const HartBf16X *x)
{
	return x->terms == 1 ? 2 : 1;
}

/* Some groups of two strips of weights by strip i of x, from a group on */
OP void
multiply_strip(const char *const w[2], const HartBf16X *x, size_t i, size_t group, size_t n)
{
	size_t		x_bytes = hart_bf16_groups(x->cols) * x->terms * BLOCK;
	const char *strip = x->packed + i * x_bytes + group * x->terms * BLOCK;
	/* the other term, or the next strip of x, or this one once more */
	const char *const blocks[2] = {strip, x->terms == 2 ? strip + BLOCK : (i + 1) * STRIP < x->m ? strip + x_bytes : strip};

	if (x->terms == 3)
		multiply_triples(w, strip, n);
	else
		multiply_pairs(w, blocks, x->terms * BLOCK, n);
}

/* Take the sums of two strips of weights by strip i of x out of the tiles; the result begins with all three */
OP void
finish_strip(const HartBf16X *x, size_t i, float *sums, Result to)
{
	int			n_tiles = x->terms == 3 ? 6 : 4;

	store_tiles(n_tiles, sums);
	for (size_t s = 0; s * STRIP < to.n && s < 2; s++)
		for (size_t k = 0; k < strips_at_once(x) && (i + k) * STRIP < x->m; k++)
			turn_sums(sums + (s * n_tiles / 2 + k) * STRIP * STRIP, x->terms, result_from(to, k * STRIP, s * STRIP));
}

/* The same of one strip of weights by few rows of x */
OP void
finish_few(const HartBf16X *x, float *sums, Result to)
{
	store_tiles(3, sums);
	if (hart_bf16_is_compact(x))
		gather_sums(sums, x->terms, to);
	else
		turn_sums(sums, x->terms, to);
}

/* Groups [from, to) of a panel of one strip by few rows of x; begin says that there are none before the panel's */
OP void
multiply_few_groups(const Panel *panel, const HartBf16X *x, size_t from, size_t to)
{
	size_t		group = panel->col / HART_BF16_GROUP + from;
	bool		begin = from == 0 && panel->col % HART_BF16_DEPTH == 0;
	const char *strip = panel->strips + from * BLOCK;
	size_t		columns = x->m * x->terms;

	if (hart_bf16_is_compact(x))
		multiply_compact(strip, x->packed + group * columns * LINE, columns, to - from, begin);
	else
		multiply_few_terms(strip, x->packed + group * x->terms * BLOCK, x->terms, to - from, begin);
}

/*
 * A panel of one strip, for few rows of x: some columns of the rows that begin with a row and lie as many apart as there are strips, none
 * if the row is that number. Weights that lie far apart come faster out of memory than those of 16 rows that follow one another.
 */
OP Panel
few_panel(const HartBf16Rows *w, size_t row, size_t col, char *strips)
{
	size_t		step = hart_bf16_strips(w->n);

	return (Panel) {row, step, row < step ? (w->n - row + step - 1) / step : 0,
		col, w->cols - col < FEW_COLUMNS ? w->cols - col : FEW_COLUMNS, strips};
}

/* The panel after one: the columns that follow, or the next rows */
OP Panel
few_after(const HartBf16Rows *w, const Panel *panel, char *strips)
{
	size_t		col = panel->col + panel->n_cols;

	return col < w->cols ? few_panel(w, panel->row, col, strips) : few_panel(w, panel->row + 1, 0, strips);
}

/*
 * Few rows of x. One panel is unpacked while the one before it is multiplied, some groups after each row, as one keeps the vector units busy and
 * the other the tiles; and meanwhile the one after it is called into the cache.
 */
BF16_KERNEL void
multiply_few(const HartBf16Rows *w, const HartBf16X *x, Result y, float *sums, char *strips)
{
	char	   *const halves[2] = {strips, strips + hart_bf16_groups(FEW_COLUMNS) * BLOCK};
	Panel		panel = few_panel(w, 0, 0, halves[0]);
	Panel		next = few_after(w, &panel, halves[1]);

	for (size_t r = 0; r < panel.n_rows; r++)
		unpack_panel_row(w, &panel, r, &next);
	while (panel.n_rows > 0)
	{
		size_t		end = panel.col + panel.n_cols;
		size_t		groups = hart_bf16_groups(panel.n_cols);
		size_t		multiplied = 0;
		Panel		called = few_after(w, &next, panel.strips);

		for (size_t r = 0; r < next.n_rows; r++)
		{
			size_t		due = groups * (r + 1) / next.n_rows;

			unpack_panel_row(w, &next, r, &called);
			multiply_few_groups(&panel, x, multiplied, due);
			multiplied = due;
		}
		multiply_few_groups(&panel, x, multiplied, groups);
		if (end % HART_BF16_DEPTH == 0 || end == w->cols)
		{
			Result		part = {y.m, panel.n_rows, y.y + panel.row, y.ldy, panel.row_step, end > HART_BF16_DEPTH};

			finish_few(x, sums, part);
		}
		panel = next;
		next = called;
	}
}

/* Many rows of x: a panel of weights in the L2 cache by a strip of x after the other */
BF16_KERNEL void
multiply_many(const HartBf16Rows *w, const HartBf16X *x, Result y, float *sums, char *strips)
{
	size_t		panel_rows = hart_bf16_panel_rows(x->m, w->cols);

	for (size_t row = 0; row < w->n; row += panel_rows)
		for (size_t col = 0; col < w->cols; col += HART_BF16_DEPTH)
		{
			Panel		panel = panel_at(w, row, panel_rows, col, strips);
			Panel		ahead = panel_at(w, row + ROWS_AHEAD < w->n ? row + ROWS_AHEAD : row, panel_rows, col, strips);
			size_t		groups = hart_bf16_groups(panel.n_cols);

			for (size_t r = 0; r < panel.n_rows; r++)
				unpack_panel_row(w, &panel, r, &ahead);
			y.add = col > 0;
			for (size_t i = 0; i * STRIP < x->m; i += strips_at_once(x))
				for (size_t r = 0; r < panel.n_rows; r += PAIR)
				{
					const char *first = strips + r / STRIP * groups * BLOCK;
					const char *const pair[2] = {first, r + STRIP < panel.n_rows ? first + groups * BLOCK : first};

					multiply_strip(pair, x, i, col / HART_BF16_GROUP, groups);
					finish_strip(x, i, sums, result_from(y, i * STRIP, row + r));
				}
		}
}

BF16_KERNEL void
multiply(const HartBf16Rows *w, const HartBf16X *x, float *y, size_t ldy, void *scratch)
{
	float	   *sums = scratch;
	char	   *strips = (char *) (sums + HART_BF16_SUMS);
	Result		to = {x->m, w->n, y, ldy, 1, false};

	configure(hart_bf16_is_compact(x) ? x->m * x->terms : STRIP);
	if (x->m <= STRIP)
		multiply_few(w, x, to, sums, strips);
	else
		multiply_many(w, x, to, sums, strips);
	_tile_release();
}

/* Lines of 16 rows turned: dword i of each, side by side */
OP void
store_turned(const __m512i lines[STRIP], size_t columns, char *to)
{
	__m512		v[STRIP];

	UNROLL for (int r = 0; r < STRIP; r++)
		v[r] = _mm512_castsi512_ps(lines[r]);
	v_transpose(v);
	UNROLL for (int i = 0; i < STRIP; i++)
		_mm512_mask_storeu_ps(to + i * 4 * columns, (__mmask16) ((1u << columns) - 1), v[i]);
}

BF16_KERNEL void
pack_x(const HartBf16X *to, const float *x, size_t i)
{
	size_t		groups = hart_bf16_groups(to->cols);
	size_t		m = to->m - i < STRIP ? to->m - i : STRIP;
	bool		compact = hart_bf16_is_compact(to);

	for (size_t g = 0; g < groups; g++)
	{
		size_t		col = g * HART_BF16_GROUP;
		size_t		n = to->cols - col < HART_BF16_GROUP ? to->cols - col : HART_BF16_GROUP;
		__m512i		lines[HART_BF16_MAX_TERMS][STRIP];

		memset(lines, 0, sizeof(lines));
		for (size_t r = 0; r < m; r++)
		{
			__m512i		terms[HART_BF16_MAX_TERMS];

			split_line(x + (i + r) * to->cols + col, n, to->terms, terms);
			for (int t = 0; t < to->terms; t++)
				if (compact)
					lines[0][t * m + r] = terms[t];
				else
					lines[t][r] = terms[t];
		}
		if (compact)
			store_turned(lines[0], m * to->terms, to->packed + g * m * to->terms * LINE);
		else
			for (int t = 0; t < to->terms; t++)
				store_turned(lines[t], STRIP, to->packed + ((i / STRIP * groups + g) * to->terms + t) * BLOCK);
	}
}

const HartBf16Kernels hart_bf16_kernels_amx = {
	.name = "amx",
	.pack_x = pack_x,
	.multiply = multiply,
};

#endif							/* HART_BF16_KERNELS */
