/*
 * bf16_panels.h
 *		Products of rows of x by bf16 weights that are unpacked first, panels of rows in strips, with AVX-512.
 *
 * A set defines X_ROWS, 6, the rows of x in a register block, before it includes this, after bf16_avx512_pack.h with strips of 4 rows, and multiply_block_1
 * to multiply_block_6 after it: so many rows of x by a strip, whose sums are all in registers.
 */

#include "bf12_cursor.h"

/* Rows of x by a strip of weights */
typedef struct
{
	const char *x;				/* rows x_bytes apart */
	size_t		x_bytes;
	int			terms;
	const char *w;
	size_t		groups;
	float	   *y;				/* n columns, rows ldy apart */
	size_t		ldy;
	size_t		n;
	bool		add;
} Block;

/* All rows of x, as a set has them: group by group */
typedef struct
{
	const char *rows;			/* x_bytes apart */
	size_t		x_bytes;
	size_t		group_bytes;
	int			terms;
	size_t		m;
} PanelX;

BF16_KERNEL void multiply_block_1(const Block *b);
BF16_KERNEL void multiply_block_2(const Block *b);
BF16_KERNEL void multiply_block_3(const Block *b);
BF16_KERNEL void multiply_block_4(const Block *b);
BF16_KERNEL void multiply_block_5(const Block *b);
BF16_KERNEL void multiply_block_6(const Block *b);

/* Functions of their own: in one, the compiler would have no registers left for the sums */
#define MULTIPLY_BLOCK(rows, call) \
	BF16_KERNEL __attribute__((noinline)) void \
	multiply_block_##rows(const Block *b) \
	{ \
		call; \
	}

/* Put the sums of a row of x by a strip in y, or add them to it */
OP void
put_sums(const Block *b, int r, __m128 sums)
{
	__mmask8	columns = (__mmask8) (b->n >= STRIP_ROWS ? 0xf : (1u << b->n) - 1);
	float	   *to = b->y + r * b->ldy;

	if (b->add)
		sums = _mm_add_ps(_mm_maskz_loadu_ps(columns, to), sums);
	_mm_mask_storeu_ps(to, columns, sums);
}

/* A panel by all rows of x: some of these at a time stay in the nearest cache */
BF16_KERNEL void
panel_by_rows(const Panel *panel, const PanelX *x, float *y, size_t ldy, bool add)
{
	static void (*const multiply_rows[X_ROWS]) (const Block *b) =
	{multiply_block_1, multiply_block_2, multiply_block_3, multiply_block_4, multiply_block_5, multiply_block_6};
	size_t		n_blocks = (x->m + X_ROWS - 1) / X_ROWS;
	/* all about the same, as small blocks are slow */
	size_t		block_rows = (x->m + n_blocks - 1) / n_blocks;
	Block		b = {.x_bytes = x->x_bytes, .terms = x->terms, .groups = hart_bf16_groups(panel->n_cols), .ldy = ldy, .add = add};

	for (size_t i = 0; i < x->m; i += block_rows)
	{
		size_t		n_rows = x->m - i < block_rows ? x->m - i : block_rows;

		b.x = x->rows + i * x->x_bytes + panel->col / HART_BF16_GROUP * x->group_bytes;
		for (size_t row = 0; row < panel->n_rows; row += STRIP_ROWS)
		{
			b.w = panel->strips + row * b.groups * HART_BF16_LINE;
			b.y = y + i * ldy + row;
			b.n = panel->n_rows - row;
			multiply_rows[n_rows - 1] (&b);
		}
	}
}

/* All rows of weights by all rows of x, a strip at a time, which stays in the L1 cache; 12-bit weights whose rows are whole blocks */
BF16_KERNEL void
multiply_strips(const HartBf16Rows *w, const PanelX *x, float *y, size_t ldy)
{
	_Alignas(64) char lines[HART_BF16_DEPTH / HART_BF16_GROUP * GROUP_BYTES] = {0};
	Bf12Places	places = bf12_places();
	Bf12Cursor	cursors[STRIP_ROWS];
	size_t		row_blocks = w->cols / HART_BF12_BLOCK;

	for (size_t s = 0; s < STRIP_ROWS && s < w->n; s++)
		cursors[s] = open_cursor(w, w->first + s * w->cols);
	for (size_t row = 0; row < w->n; row += STRIP_ROWS)
	{
		for (size_t col = 0; col < w->cols; col += HART_BF16_DEPTH)
		{
			Panel		strip = panel_at(w, row, STRIP_ROWS, col, lines);

			for (size_t b = 0; b < strip.n_cols / HART_BF12_BLOCK; b++)
				for (size_t s = 0; s < strip.n_rows; s++)
				{
					enter_next_tile(&cursors[s]);
					/* the same place of the next strip */
					UNROLL for (int i = 0; i < HART_BF12_BLOCK_BYTES; i += 64)
						_mm_prefetch((const char *) ((uintptr_t) cursors[s].block + STRIP_ROWS * row_blocks * HART_BF12_BLOCK_BYTES + i), _MM_HINT_T1);
					unpack_this_block(&cursors[s], &places, lines + b * (HART_BF12_BLOCK / HART_BF16_GROUP) * GROUP_BYTES + s * HART_BF16_LINE);
				}
			panel_by_rows(&strip, x, y + row, ldy, col > 0);
		}
		for (size_t s = 0; s < STRIP_ROWS && row + STRIP_ROWS + s < w->n; s++)
			skip_blocks(&cursors[s], (STRIP_ROWS - 1) * row_blocks);
	}
}
