/*
 * linear_bf16.c
 *	  y = x Wᵀ + b with bf16 weights where they lie, in tiles, on the processor's bf16 units.
 *
 * x is packed first, once for all rows of weights; then pieces of these are unpacked from their tiles and multiplied. As in linear.c
 * a number of y depends on its row of x and its row of weights alone (bf16.h), whichever thread computes it.
 */
#include "linear_bf16.h"

#include "bf16.h"
#include "settings.h"

/* bytes of bf16 weights a piece, at most, for few rows of x: a tenth of a millisecond */
#define FEW_PIECE_BYTES (1024 * 1024)

typedef struct
{
	HartBf16Rows rows;			/* those that are pinned */
	HartBf16X	x;
	float	   *y;				/* (m, ldy), from the column of the first pinned row on */
	int64		ldy;
	const float *bias;			/* from the first pinned row on; or NULL */
	char	   *scratch;		/* scratch_size for each worker */
	size_t		scratch_size;
} Bf16Work;

typedef struct
{
	const HartBf16X *to;
	const float *x;
} PackWork;

bool
hart_linear_is_bf16(const HartTensor *weight)
{
	return hart_bf16_kernels != NULL && (weight->format == HART_BF12 || weight->format == HART_PLAIN_BF16);
}

/* Items are strips of x */
static void
pack_task(void *arg, size_t begin, size_t end, int worker)
{
	const PackWork *w = arg;

	for (size_t strip = begin; strip < end; strip++)
		hart_bf16_kernels->pack_x(w->to, w->x, strip * HART_BF16_STRIP);
}

static void
multiply_task(void *arg, size_t begin, size_t end, int worker)
{
	const Bf16Work *w = arg;
	HartBf16Rows rows = w->rows;

	rows.first += begin * rows.cols;
	rows.tiles += hart_tile_of(rows.format, rows.first);
	rows.first = hart_place_of(rows.format, rows.first).index;
	rows.n = end - begin;
	hart_bf16_kernels->multiply(&rows, &w->x, w->y + begin, w->ldy, w->scratch + worker * w->scratch_size);
	if (w->bias != NULL)
		hart_add_bias(w->y + begin, w->ldy, w->x.m, w->bias + begin, end - begin);
}

/*
 * Weight rows of a piece: for few rows of x stretches that are long enough for the start of one not to count; for many a panel, or a little less, as
 * then the time of a piece counts, and each thread should get as many
 */
static size_t
piece_rows(const HartTensor *weight, int64 m)
{
	int64		n_threads = hart_n_threads();
	int64		together = hart_bf16_kernels->rows_together;
	int64		most;
	int64		n;

	if (m <= HART_BF16_FEW)
	{
		most = Min(FEW_PIECE_BYTES / (2 * weight->cols), weight->rows / (4 * n_threads));
		return TYPEALIGN(HART_BF16_STRIP, Max(1, most));
	}
	most = hart_bf16_panel_rows(hart_bf16_kernels->panel_bytes, m, weight->cols);
	n = Max(2 * n_threads, ((weight->rows + most - 1) / most + n_threads - 1) / n_threads * n_threads);
	return (weight->rows + n * together - 1) / (n * together) * together;
}

void
hart_linear_bf16(HartContext *ctx, const HartTensor *weight, const float *bias, const float *x, int64 m, float *y)
{
	HartFormat	format = weight->format;
	int64		cols = weight->cols;
	Bf16Work	w = {.x = {.m = m, .cols = cols, .terms = hart_activation_terms()}, .ldy = weight->rows};
	PackWork	pack = {.to = &w.x, .x = x};
	size_t		x_size = hart_bf16_x_size(m, cols, w.x.terms);
	int64		rows_at_once = Max(1, hart_tiles_at_once(ctx->tiles) * hart_tile_weights(format) / cols);
	ResourceOwner old;

	w.scratch_size = HART_BF16_SCRATCH;
	w.x.packed = (char *) hart_context_scratch(ctx, (x_size + hart_n_threads() * w.scratch_size + PG_CACHE_LINE_SIZE) / sizeof(float));
	w.x.packed = (char *) TYPEALIGN(PG_CACHE_LINE_SIZE, w.x.packed);
	w.scratch = w.x.packed + x_size;
	hart_run_parallel(hart_bf16_strips(m), 1, pack_task, &pack);

	old = hart_context_enter(ctx);
	for (int64 row = 0; row < weight->rows; row += rows_at_once)
	{
		int64		n_rows = Min(rows_at_once, weight->rows - row);
		int64		first_tile = hart_tile_of(format, row * cols);
		int64		last_tile = hart_tile_of(format, (row + n_rows) * cols - 1);

		w.rows = (HartBf16Rows) {
			.format = format,
			.tiles = hart_tiles_pin(ctx->tiles, weight->tiles->first + first_tile, last_tile - first_tile + 1),
			.first = hart_place_of(format, row * cols).index,
			.cols = cols
		};
		w.y = y + row;
		w.bias = bias ? bias + row : NULL;
		hart_run_parallel(n_rows, piece_rows(weight, m), multiply_task, &w);
		hart_tiles_unpin(ctx->tiles);
	}
	CurrentResourceOwner = old;
}
