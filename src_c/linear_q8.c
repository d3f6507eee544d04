/*
 * linear_q8.c
 *	  y = x Wᵀ + b with 8-bit weights where they lie, in tiles.
 *
 * The rows of x are rounded first, once for all rows of weights; the products are sums of integers. As in linear.c a number of y
 * depends on its row of x and its row of weights alone (q8.h), whichever kernel and thread computes it.
 */
#include "linear_q8.h"

#include "settings.h"

/* from how many rows of x on weights are worth keeping in the cache for all of them */
#define PANEL_MIN_ROWS 16
/* bytes of weights a piece: of what is read once, enough to hide the cost of claiming it; of a panel, what leaves room in the L2 cache */
#define PIECE_BYTES (128 * 1024)
#define PANEL_BYTES (256 * 1024)
#define MIN_PIECE_BYTES (16 * 1024)

typedef struct
{
	HartQ8Rows	rows;			/* those that are pinned */
	const HartQ8X *x;
	int64		m;
	float	   *y;				/* (m, ldy), from the column of the first pinned row on */
	int64		ldy;
	const float *bias;			/* from the first pinned row on; or NULL */
	char	   *scratch;		/* scratch_size for each worker */
	size_t		scratch_size;
} Q8Work;

typedef struct
{
	const float *x;				/* (m, cols) */
	size_t		row_blocks;
	HartQ8X    *rounded;
} RoundWork;

static void
round_task(void *arg, size_t begin, size_t end, int worker)
{
	const RoundWork *w = arg;

	for (size_t i = begin; i < end; i++)
		hart_q8_kernels->round_x(w->x + i * w->row_blocks * HART_Q8_BLOCK, w->row_blocks, w->rounded + i * hart_q8_groups(w->row_blocks));
}

static void
multiply_task(void *arg, size_t begin, size_t end, int worker)
{
	const Q8Work *w = arg;
	HartQ8Rows	rows = w->rows;

	rows.first_block += begin * rows.row_blocks;
	rows.n = end - begin;
	if (w->m == 1)
		hart_q8_kernels->one_row(&rows, w->x, w->y + begin);
	else
		hart_q8_kernels->rows(&rows, w->x, w->m, w->y + begin, w->ldy, w->scratch + worker * w->scratch_size);
	if (w->bias != NULL)
		hart_add_bias(w->y + begin, w->ldy, w->m, w->bias + begin, end - begin);
}

/* Weight rows of a piece */
static size_t
piece_rows(const HartTensor *weight, int64 m)
{
	int64		most = (m < PANEL_MIN_ROWS ? PIECE_BYTES : PANEL_BYTES) / weight->cols;
	int64		least = MIN_PIECE_BYTES / weight->cols;

	/* small tensors are cut finer, so that each thread gets some */
	return Max(4, TYPEALIGN(4, Max(least, Min(most, weight->rows / (4 * hart_n_threads())))));
}

void
hart_linear_q8(HartContext *ctx, const HartTensor *weight, const float *bias, const float *x, int64 m, float *y)
{
	size_t		row_blocks = weight->cols / HART_Q8_BLOCK;
	size_t		x_size = m * hart_q8_groups(row_blocks) * sizeof(HartQ8X);
	size_t		piece = piece_rows(weight, m);
	Q8Work		w = {.m = m, .ldy = weight->rows, .rows = {.row_blocks = row_blocks, .n = piece}};
	RoundWork	round = {.x = x, .row_blocks = row_blocks};
	int64		rows_at_once = Max(1, hart_tiles_at_once(ctx->tiles) * HART_Q8_TILE / weight->cols);
	char	   *scratch;
	ResourceOwner old;

	w.scratch_size = TYPEALIGN(PG_CACHE_LINE_SIZE, hart_q8_scratch_size(&w.rows));
	scratch = (char *) hart_context_scratch(ctx, (x_size + hart_n_threads() * w.scratch_size + PG_CACHE_LINE_SIZE) / sizeof(float));
	round.rounded = (HartQ8X *) TYPEALIGN(PG_CACHE_LINE_SIZE, scratch);
	w.x = round.rounded;
	w.scratch = (char *) round.rounded + x_size;
	hart_run_parallel(m, 1, round_task, &round);

	old = hart_context_enter(ctx);
	for (int64 row = 0; row < weight->rows; row += rows_at_once)
	{
		int64		n_rows = Min(rows_at_once, weight->rows - row);
		int64		first_tile = hart_tile_of(HART_Q8, row * weight->cols);
		int64		last_tile = hart_tile_of(HART_Q8, (row + n_rows) * weight->cols - 1);

		w.rows.tiles = hart_tiles_pin(ctx->tiles, weight->tiles->first + first_tile, last_tile - first_tile + 1);
		w.rows.first_block = row * row_blocks - first_tile * HART_Q8_TILE_BLOCKS;
		w.y = y + row;
		w.bias = bias ? bias + row : NULL;
		hart_run_parallel(n_rows, piece, multiply_task, &w);
		hart_tiles_unpin(ctx->tiles);
	}
	CurrentResourceOwner = old;
}
