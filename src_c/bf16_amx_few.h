/*
 * bf16_amx_few.h
 *		Products of up to HART_BF16_FEW rows of x by rows of bf16 weights with AMX; part of bf16_amx.c.
 *
 * They take as long as it takes to read the weights and to unpack them. So these are unpacked in narrow panels, two of which stay in the L1 cache: one is
 * unpacked while the one before it is multiplied, some groups after some rows, as one keeps the vector units busy and the other the tiles.
 *
 * A panel is a stretch of columns of 32 rows of weights that lie a step apart, and the next rows are their successors: weights come faster out of
 * memory by many streams. What 16 panels in a row make is 16 neighbours in each row of y.
 */
#include "bf12_cursor.h"

/* Columns of a panel of weights that are no whole blocks of 12-bit tiles */
#define FEW_COLUMNS 256

/* Sums of a panel: as many tiles, (strip of weights, strip of x) */
#define PANEL_SUMS (4 * STRIP * STRIP)

/* Add to tiles 0 and 1 the products of two strips of weights by a strip of x, for some groups; begin says that these are the first */
OP void
multiply_one_strip(const char *const w[2], const HartBf16X *x, size_t group, size_t n, bool begin)
{
	size_t		columns = hart_bf16_strip_rows(x->m);

	written();
	if (begin)
	{
		_tile_zero(0);
		_tile_zero(1);
	}
	for (size_t g = 0; g < n; g++)
	{
		_tile_loadd(6, w[0] + g * BLOCK, LINE);
		_tile_loadd(7, w[1] + g * BLOCK, LINE);
		for (int t = x->terms - 1; t >= 0; t--)
		{
			_tile_loadd(4, x->packed + ((group + g) * x->terms + t) * columns * LINE, 4 * columns);
			_tile_dpbf16ps(0, 6, 4);
			_tile_dpbf16ps(1, 7, 4);
		}
	}
}

/* Products of few rows of x that go on */
typedef struct
{
	const HartBf16Rows *w;
	const HartBf16X *x;
	Result		y;
	size_t		step;			/* from one row of a panel to the next */
	float	   *sums;			/* of up to 16 panels in a row, and of a part of one */
} Few;

/* The panel of some columns of the rows that begin with a row, of none if that is the step */
OP Panel
few_panel(const Few *few, size_t row, size_t col, size_t most_columns, char *strips)
{
	size_t		columns = few->w->cols - col;

	return (Panel) {row, few->step, row < few->step ? (few->w->n - row + few->step - 1) / few->step : 0,
		col, columns < most_columns ? columns : most_columns, strips};
}

/* The panel after one: the columns that follow, or the next rows */
OP Panel
few_after(const Few *few, const Panel *panel, size_t most_columns, char *strips)
{
	size_t		col = panel->col + panel->n_cols;

	return col < few->w->cols ? few_panel(few, panel->row, col, most_columns, strips) : few_panel(few, panel->row + 1, 0, most_columns, strips);
}

/* Add the products of two strips of weights, as they lie from there on, for some of their groups from a group of x on */
OP void
multiply_few_groups(const Few *few, const char *const w[2], size_t group, size_t n, bool begin)
{
	const HartBf16X *x = few->x;

	if (x->m <= STRIP)
		multiply_one_strip(w, x, group, n, begin);
	else
	{
		const char *first = x->packed + group * x->terms * BLOCK;
		const char *const both[2] = {first, first + hart_bf16_groups(x->cols) * x->terms * BLOCK};

		multiply_groups(w, both, x->terms, 0, n, begin, first, 0);
	}
}

/* Take the sums of a panel out of the tiles; add says that they are the rest of those which were taken before */
OP void
take_few(const Few *few, size_t row, bool add)
{
	float	   *own = few->sums + row % STRIP * PANEL_SUMS;
	float	   *to = add ? few->sums + STRIP * PANEL_SUMS : own;
	size_t		second = few->x->m <= STRIP ? 2 * STRIP * STRIP : STRIP * STRIP;

	_tile_stored(0, to, LINE);
	_tile_stored(1, to + second, LINE);
	if (few->x->m > STRIP)
	{
		_tile_stored(2, to + 2 * STRIP * STRIP, LINE);
		_tile_stored(3, to + 3 * STRIP * STRIP, LINE);
	}
	if (add)
		for (size_t i = 0; i < PANEL_SUMS; i += STRIP)
			_mm512_storeu_ps(own + i, _mm512_add_ps(_mm512_loadu_ps(own + i), _mm512_loadu_ps(to + i)));
}

/* Put the sums of the panels of some rows in y, n from a multiple of 16 on */
BF16_KERNEL void
put_few(const Few *few, size_t row, size_t n)
{
	for (size_t r = 0; r < PAIR; r++)
		for (size_t i = 0; i < few->x->m; i += STRIP)
		{
			size_t		first = r * few->step + row;
			const float *sums = few->sums + (r / STRIP * 2 + i / STRIP) * STRIP * STRIP + r % STRIP * STRIP;
			Result		to;
			__m512		v[STRIP];

			if (first >= few->w->n)
				return;
			to = result_from(few->y, i, first);
			to.n = n < to.n ? n : to.n;
			UNROLL for (int panel = 0; panel < STRIP; panel++)
				v[panel] = _mm512_loadu_ps(sums + panel * PANEL_SUMS);
			v_transpose(v);
			UNROLL for (int k = 0; k < STRIP; k++)
				if ((size_t) k < to.m)
					put(&to, k, v[k]);
		}
}

/* After some columns of a panel that are multiplied: what is to be done with the sums */
OP void
finish_few(const Few *few, const Panel *panel)
{
	size_t		end = panel->col + panel->n_cols;

	if (end % HART_BF16_DEPTH == 0 || end == few->w->cols)
		take_few(few, panel->row, end > HART_BF16_DEPTH);
	if (end == few->w->cols && (panel->row % STRIP == STRIP - 1 || panel->row + 1 == few->step))
		put_few(few, panel->row - panel->row % STRIP, panel->row % STRIP + 1);
}

/* Weights in any tiles */
BF16_KERNEL void
multiply_few_rows(const Few *few, char *strips)
{
	char	   *const halves[2] = {strips, strips + 2 * hart_bf16_groups(FEW_COLUMNS) * BLOCK};
	Panel		panel = few_panel(few, 0, 0, FEW_COLUMNS, halves[0]);
	Panel		next = few_after(few, &panel, FEW_COLUMNS, halves[1]);

	for (size_t r = 0; r < panel.n_rows; r++)
		unpack_panel_row(few->w, &panel, r, &next);
	while (panel.n_rows > 0)
	{
		size_t		groups = hart_bf16_groups(panel.n_cols);
		bool		begin = panel.col % HART_BF16_DEPTH == 0;
		size_t		multiplied = 0;
		Panel		called = few_after(few, &next, FEW_COLUMNS, panel.strips);

		for (size_t r = 0; multiplied < groups; r++)
		{
			size_t		due = r < next.n_rows ? groups * (r + 1) / next.n_rows : groups;
			const char *first = panel.strips + multiplied * BLOCK;
			const char *const pair[2] = {first, panel.n_rows > STRIP ? first + groups * BLOCK : first};

			if (r < next.n_rows)
				unpack_panel_row(few->w, &next, r, &called);
			if (due > multiplied)
				multiply_few_groups(few, pair, panel.col / HART_BF16_GROUP + multiplied, due - multiplied, begin && multiplied == 0);
			multiplied = due;
		}
		finish_few(few, &panel);
		panel = next;
		next = called;
	}
}

/* Whether rows of weights are whole blocks of 12-bit tiles */
OP bool
in_blocks(const HartBf16Rows *w)
{
	return w->format == HART_BF12 && w->cols % HART_BF12_BLOCK == 0 && w->first % HART_BF12_BLOCK == 0;
}

/* Weights that are: a panel is as wide as a block */
BF16_KERNEL void
multiply_few_blocks(const Few *few, char *strips)
{
	enum
	{
		groups = HART_BF12_BLOCK / HART_BF16_GROUP,
		share = PAIR / groups	/* rows that are unpacked for each group that is multiplied */
	};
	const HartBf16Rows *w = few->w;
	Bf12Places	places = bf12_places();
	Bf12Cursor	cursors[PAIR];
	size_t		index;
	const char *const *last = w->tiles + tile_of(w, w->first + w->n * w->cols - 1, &index);
	char	   *const halves[2] = {strips, strips + 2 * groups * BLOCK};
	Panel		panel = few_panel(few, 0, 0, HART_BF12_BLOCK, halves[0]);
	Panel		next = few_after(few, &panel, HART_BF12_BLOCK, halves[1]);

	for (size_t r = 0; r < panel.n_rows; r++)
	{
		cursors[r] = open_cursor(w, w->first + r * few->step * w->cols);
		for (int i = 0; i < BLOCKS_AHEAD; i++)
			call_ahead(&cursors[r], last);
	}
	for (size_t r = 0; r < panel.n_rows; r++)
		unpack_block(&cursors[r], &places, last, strip_row(&panel, r));

	while (panel.n_rows > 0)
	{
		bool		begin = panel.col % HART_BF16_DEPTH == 0;
		const char *const pair[2] = {panel.strips, panel.n_rows > STRIP ? panel.strips + groups * BLOCK : panel.strips};

		for (size_t g = 0; g < groups; g++)
		{
			const char *const at[2] = {pair[0] + g * BLOCK, pair[1] + g * BLOCK};

			for (size_t r = g * share; r < (g + 1) * share && r < next.n_rows; r++)
				unpack_block(&cursors[r], &places, last, strip_row(&next, r));
			multiply_few_groups(few, at, panel.col / HART_BF16_GROUP + g, 1, begin && g == 0);
		}
		finish_few(few, &panel);
		panel = next;
		next = few_after(few, &panel, HART_BF12_BLOCK, panel.strips == halves[0] ? halves[1] : halves[0]);
	}
}

BF16_KERNEL void
multiply_few(const HartBf16Rows *w, const HartBf16X *x, Result y, float *sums, char *strips)
{
	Few			few = {w, x, y, (w->n + PAIR - 1) / PAIR, sums};

	if (in_blocks(w))
		multiply_few_blocks(&few, strips);
	else
		multiply_few_rows(&few, strips);
}
