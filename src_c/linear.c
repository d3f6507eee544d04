/*
 * linear.c
 *	  y = x Wᵀ + b with the weights where they lie, in tiles.
 *
 * One row of x is multiplied by one weight row after the other, straight out of the tiles, a few rows by
 * four at a time, widened to float32; where there is a kernel for it, they are by several of 12-bit weights, straight out of the tiles. Many rows are packed, and go through packed panels of weight rows.
 * Either way, and whichever thread does it, a number of y is
 * summed in one and the same order (kernels.h): it depends on its row of x and its row of weights
 * alone, so that a text gives the same bits by itself or in a batch, in one piece or in many.
 */
#include "context.h"

#include "utils/array.h"
#include "utils/builtins.h"

#include "bf16.h"
#include "linear_bf16.h"
#include "linear_q8.h"
#include "matrix.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(hart_linear);
PG_FUNCTION_INFO_V1(hart_outer_linear);
PG_FUNCTION_INFO_V1(hart_embed_tokens);

/* from how many rows of x on a panel pays, and where few_bf12 multiplies fewer */
#define PANEL_MIN_ROWS 20
#define FEW_BF12_PANEL_MIN_ROWS 96
/* weight rows of a panel, at most: a quarter of a megabyte, so that it stays in the L2 cache */
#define PANEL_ROWS (2 * HART_PACKED_ROWS)
/* rows of x that go through the weights together, at most: bounds the packed copy of x */
#define MANY_ROWS 512
/* distance of rows of HART_DOT_DEPTH floats that do not share cache sets */
#define WIDE_STRIDE (HART_DOT_DEPTH + 16)
/* bytes of weights a piece, for one row of x: enough to hide the cost of claiming it, or of waking a thread for it */
#define PIECE_BYTES (64 * 1024)
/* the same for a few rows: enough to call most of them into the cache beforehand */
#define FEW_PIECE_BYTES (256 * 1024)
/* the same for few_bf12, which begins in several places */
#define FEW_BF12_PIECE_BYTES (384 * 1024)
#define MIN_PIECE_BYTES (32 * 1024)

typedef struct
{
	const HartTensor *weight;
	const char *const *payload; /* of the tiles from first_tile on */
	int64		first_tile;		/* counted in the tensor */
	int64		first_row;		/* weight row that piece 0 begins with */
	const float *bias;			/* (rows) or NULL */
	const float *x;				/* (m, cols) */
	int64		m;
	float	   *y;				/* (m, rows) */
	float	   *scratch;		/* scratch_size for each worker */
	size_t		scratch_size;
	float	   *packed;			/* x for gemm_packed: see packed_x */
	int64		block_rows;
} LinearWork;

/* A stretch of a weight row within one tile: n weights from number index of the tile on */
typedef struct
{
	const char *tile;
	size_t		index;
	size_t		n;
} Stretch;

/* The stretch that begins with a column of a row, at most to the end of the row */
static inline Stretch
stretch_at(const LinearWork *w, int64 row, int64 col)
{
	HartFormat	format = w->weight->format;
	HartWeightPlace place = hart_place_of(format, row * w->weight->cols + col);

	return (Stretch) {w->payload[place.tile - w->first_tile], place.index,
		Min((size_t) (w->weight->cols - col), hart_tile_weights(format) - place.index)};
}

/* n columns of a weight row in float32 */
static void
widen_columns(const LinearWork *w, int64 row, int64 col, int64 n, float *out)
{
	int64		end = col + n;

	while (col < end)
	{
		Stretch		s = stretch_at(w, row, col);
		size_t		taken = Min(s.n, (size_t) (end - col));

		hart_widen_tile(w->weight->format, s.tile, s.index, out, taken);
		col += taken;
		out += taken;
	}
}

/* Add the bias, if there is one, to the columns of y that belong to n weight rows */
static void
add_bias(const LinearWork *w, int64 row, int64 n)
{
	if (w->bias != NULL)
		hart_add_bias(w->y + row, w->weight->rows, w->m, w->bias + row, n);
}

/* Whether hart_dot1_tile takes weights that lie so in their tiles */
static inline bool
can_be_dotted(HartFormat format, size_t index, size_t n, size_t n_rest)
{
	return (n_rest == 0 || n % HART_CHAINS == 0) && (!hart_is_packed(format) || index % HART_CHAINS == 0);
}

/* One row of x: weight rows one after the other, which reads the tiles from front to back */
static void
one_row_task(void *arg, size_t begin, size_t end, int worker)
{
	const LinearWork *w = arg;
	int64		cols = w->weight->cols;
	HartFormat	format = w->weight->format;
	float	   *wide = w->scratch + worker * w->scratch_size;

	for (int64 row = w->first_row + begin; row < (int64) (w->first_row + end); row++)
	{
		float		sum = 0;

		for (int64 col = 0; col < cols; col += HART_DOT_DEPTH)
		{
			int64		depth = Min(HART_DOT_DEPTH, cols - col);
			Stretch		s = stretch_at(w, row, col);
			size_t		n = Min(s.n, (size_t) depth);
			const char *rest = NULL;
			float		part;

			if (n < (size_t) depth)
				rest = stretch_at(w, row, col + n).tile;
			if (can_be_dotted(format, s.index, n, depth - n))
				part = hart_dot1_tile(format, s.tile, s.index, n, rest, depth - n, w->x + col);
			else
			{
				widen_columns(w, row, col, depth, wide);
				part = hart_kernels->dot1[HART_F32] (wide, depth, NULL, 0, w->x + col);
			}
			sum = col > 0 ? sum + part : part;
		}
		w->y[row] = sum;
	}
	add_bias(w, w->first_row + begin, end - begin);
}

/* About the bytes that n weights take in their tiles */
static inline int64
tile_bytes(const LinearWork *w, int64 n)
{
	return n * HART_TILE_BYTES / hart_tile_weights(w->weight->format);
}

/* Where the weights lie that will be multiplied next: n columns from col on of the rows from row on, none at `last` and beyond */
static void
announce_rows(const LinearWork *w, int64 row, int64 last, int64 col, int64 n, HartGroup *group)
{
	group->next_bytes = row < last ? tile_bytes(w, n) : 0;
	for (int r = 0; r < HART_GROUP_ROWS; r++)
	{
		Stretch		s = stretch_at(w, Min(row + r, last - 1), col);

		group->next[r] = s.tile + tile_bytes(w, s.index);
	}
}

/* Weight rows of whole blocks of 12-bit weights by every row of x */
static void
few_bf12_task(void *arg, size_t begin, size_t end, int worker)
{
	const LinearWork *w = arg;
	int64		cols = w->weight->cols;
	int64		rows = w->weight->rows;
	int64		first = w->first_row + begin;
	HartWeightPlace place = hart_place_of(HART_BF12, first * cols);
	HartBf16Rows stretch = {.format = HART_BF12, .tiles = w->payload + (place.tile - w->first_tile), .first = place.index, .cols = cols, .n = end - begin};

	hart_kernels->few_bf12(&stretch, w->x, w->m, w->y + first, rows);
	add_bias(w, first, end - begin);
}

/* Weight rows by every row of x: a group of them is widened in the nearest cache while the next group is called there */
static void
few_rows_task(void *arg, size_t begin, size_t end, int worker)
{
	const LinearWork *w = arg;
	int64		cols = w->weight->cols;
	int64		rows = w->weight->rows;
	int64		last = w->first_row + end;
	float	   *wide = w->scratch + worker * w->scratch_size;
	HartGroup	group = {.m = w->m, .ldx = cols, .w = wide, .ldw = WIDE_STRIDE, .ldy = rows};

	for (int64 row = w->first_row + begin; row < last; row += HART_GROUP_ROWS)
		for (int64 col = 0; col < cols; col += HART_DOT_DEPTH)
		{
			int64		depth = Min(HART_DOT_DEPTH, cols - col);

			group.n = Min(HART_GROUP_ROWS, last - row);
			group.x = w->x + col;
			group.y = w->y + row;
			for (size_t r = 0; r < group.n; r++)
				widen_columns(w, row + r, col, depth, wide + r * WIDE_STRIDE);
			if (col + depth < cols)
				announce_rows(w, row, last, col + depth, Min(HART_DOT_DEPTH, cols - col - depth), &group);
			else
				announce_rows(w, row + HART_GROUP_ROWS, last, 0, Min(HART_DOT_DEPTH, cols), &group);
			hart_kernels->gemm_group(&group, depth, col > 0);
		}
	add_bias(w, w->first_row + begin, end - begin);
}

/* The packed columns from col on of the rows of x from i on, which begin a block */
static inline float *
packed_x(const LinearWork *w, int64 i, int64 col, int64 depth)
{
	return w->packed + col * w->m + i * hart_packed_depth(depth);
}

/* Pack blocks of rows of x, counted through the columns in turn */
static void
pack_task(void *arg, size_t begin, size_t end, int worker)
{
	const LinearWork *w = arg;
	int64		cols = w->weight->cols;
	size_t		n_blocks = (w->m + w->block_rows - 1) / w->block_rows;

	for (size_t at = begin; at < end; at++)
	{
		int64		i = at % n_blocks * w->block_rows;
		int64		col = at / n_blocks * HART_DOT_DEPTH;
		int64		depth = Min(HART_DOT_DEPTH, cols - col);

		hart_kernels->pack_x(Min(w->block_rows, w->m - i), depth, w->x + i * cols + col, cols,
							 packed_x(w, i, col, depth));
	}
}

/* A panel of weight rows by all rows of x */
static void
panel_task(void *arg, size_t begin, size_t end, int worker)
{
	const LinearWork *w = arg;
	int64		cols = w->weight->cols;
	int64		rows = w->weight->rows;
	int64		first = w->first_row + begin;
	int64		last = w->first_row + end;
	float	   *wide = w->scratch + worker * w->scratch_size;
	float	   *panel = wide + HART_PACKED_ROWS * WIDE_STRIDE;

	for (int64 col = 0; col < cols; col += HART_DOT_DEPTH)
	{
		int64		depth = Min(HART_DOT_DEPTH, cols - col);

		for (int64 row = first; row < last; row += HART_PACKED_ROWS)
		{
			int64		n = Min(HART_PACKED_ROWS, last - row);

			for (int64 r = 0; r < n; r++)
				widen_columns(w, row + r, col, depth, wide + r * WIDE_STRIDE);
			hart_kernels->pack_weights(n, depth, wide, WIDE_STRIDE, panel + (row - first) / HART_PACKED_ROWS * HART_PACKED_FLOATS(depth));
		}
		for (int64 i = 0; i < w->m; i += w->block_rows)
			for (int64 row = first; row < last; row += HART_PACKED_ROWS)
				hart_kernels->gemm_packed(Min(w->block_rows, w->m - i), Min(HART_PACKED_ROWS, last - row), depth,
										  packed_x(w, i, col, depth),
										  panel + (row - first) / HART_PACKED_ROWS * HART_PACKED_FLOATS(depth),
										  w->y + i * rows + row, rows, col > 0);
	}
	add_bias(w, first, last - first);
}

/* Pin the tiles of a range of weight rows */
static void
pin_rows(HartContext *ctx, LinearWork *w, int64 first_row, int64 n_rows)
{
	HartFormat	format = w->weight->format;
	int64		cols = w->weight->cols;
	int64		last_tile = hart_tile_of(format, (first_row + n_rows) * cols - 1);

	w->first_row = first_row;
	w->first_tile = hart_tile_of(format, first_row * cols);
	w->payload = hart_tiles_pin(ctx->tiles, w->weight->tiles->first + w->first_tile, last_tile - w->first_tile + 1);
}

/* Run a task over all weight rows, as many of them at a time as may be pinned */
static void
run_rows(HartContext *ctx, LinearWork *w, size_t grain, HartTask task)
{
	int64		rows_at_once = Max(1, hart_tiles_at_once(ctx->tiles) * hart_tile_weights(w->weight->format) / w->weight->cols);
	ResourceOwner old = hart_context_enter(ctx);

	for (int64 row = 0; row < w->weight->rows; row += rows_at_once)
	{
		int64		n_rows = Min(rows_at_once, w->weight->rows - row);

		pin_rows(ctx, w, row, n_rows);
		hart_run_parallel(n_rows, grain, task, w);
		hart_tiles_unpin(ctx->tiles);
	}
	CurrentResourceOwner = old;
}

/* Scratch for each thread, that of the first after n floats that all share */
static float *
share_scratch(HartContext *ctx, LinearWork *w, size_t n, size_t for_each)
{
	size_t		line = PG_CACHE_LINE_SIZE / sizeof(float);
	float	   *shared;

	w->scratch_size = TYPEALIGN(line, for_each);
	n = TYPEALIGN(line, n);
	shared = hart_context_scratch(ctx, line + n + hart_n_threads() * w->scratch_size);
	shared = (float *) TYPEALIGN(PG_CACHE_LINE_SIZE, shared);
	w->scratch = shared + n;
	return shared;
}

/* Many rows of x: packed once, then multiplied by one panel of weight rows after the other */
static void
many_rows(HartContext *ctx, LinearWork *w)
{
	int64		cols = w->weight->cols;
	int64		n_blocks = (w->m + hart_kernels->x_rows - 1) / hart_kernels->x_rows;
	int64		grain = TYPEALIGN(HART_PACKED_ROWS, w->weight->rows / (4 * hart_n_threads()) + 1);

	/* all blocks about the same height, as low ones are slow */
	w->block_rows = (w->m + n_blocks - 1) / n_blocks;
	w->packed = share_scratch(ctx, w, w->m * hart_packed_depth(cols),
							  HART_PACKED_ROWS * WIDE_STRIDE + PANEL_ROWS / HART_PACKED_ROWS * HART_PACKED_FLOATS(HART_DOT_DEPTH));
	n_blocks = (w->m + w->block_rows - 1) / w->block_rows;
	hart_run_parallel(n_blocks * ((cols + HART_DOT_DEPTH - 1) / HART_DOT_DEPTH), 4, pack_task, w);
	run_rows(ctx, w, Min(PANEL_ROWS, grain), panel_task);
}

/* Whether few_bf12 multiplies */
static inline bool
is_few_bf12(const LinearWork *w)
{
	return hart_kernels->few_bf12 != NULL && w->weight->format == HART_BF12 && w->weight->cols % HART_BF12_BLOCK == 0;
}

/* One row of x, straight out of the tiles, or a few */
static void
few_rows(HartContext *ctx, LinearWork *w)
{
	int64		row_bytes = tile_bytes(w, w->weight->cols);
	int64		piece_bytes = FEW_PIECE_BYTES;
	int64		n_wide = HART_GROUP_ROWS;
	HartTask	task = few_rows_task;
	int64		most;

	if (is_few_bf12(w))
	{
		piece_bytes = FEW_BF12_PIECE_BYTES;
		n_wide = 0;
		task = few_bf12_task;
	}
	else if (w->m == 1)
	{
		piece_bytes = PIECE_BYTES;
		n_wide = 1;
		task = one_row_task;
	}
	share_scratch(ctx, w, 0, n_wide * WIDE_STRIDE);
	/* small tensors are cut finer, so that each thread gets some */
	most = Min(piece_bytes / row_bytes, w->weight->rows / (2 * hart_n_threads()));
	run_rows(ctx, w, Max(Max(1, MIN_PIECE_BYTES / row_bytes), most), task);
}

static HartMatrix *
linear(HartContext *ctx, HartModule *module, HartMatrix *x)
{
	HartTensor *weight = module->weight;
	HartMatrix *y;
	const float *bias = NULL;

	if (x->cols != weight->cols)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("\"%s\" takes %d columns, not %d", weight->name, (int) weight->cols, x->cols),
				 errhint("Each row of the matrix must have as many columns as the weight.")));
	y = hart_matrix_alloc(x->rows, weight->rows);
	if (module->bias)
		bias = hart_context_values(ctx, module->bias);
	if (weight->rows == 0)
		return y;
	for (int64 i = 0; i < x->rows; i += MANY_ROWS)
	{
		LinearWork	w = {.weight = weight, .bias = bias, .x = hart_matrix_row(x, i), .m = Min(MANY_ROWS, x->rows - i),
		.y = hart_matrix_row(y, i)};

		if (weight->cols == 0)
		{
			memset(w.y, 0, w.m * weight->rows * sizeof(float));
			add_bias(&w, 0, weight->rows);
		}
		else if (weight->format == HART_Q8)
			hart_linear_q8(ctx, weight, bias, w.x, w.m, w.y);
		else if (hart_linear_is_bf16(weight))
			hart_linear_bf16(ctx, weight, bias, w.x, w.m, w.y);
		else if (w.m >= (is_few_bf12(&w) ? FEW_BF12_PANEL_MIN_ROWS : PANEL_MIN_ROWS))
			many_rows(ctx, &w);
		else
			few_rows(ctx, &w);
	}
	return y;
}

/* hart.linear(context, layer int, module text, x (m, in)) → (m, out) */
Datum
hart_linear(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	HartModule *module = hart_context_module(ctx, PG_GETARG_INT32(1), PG_GETARG_TEXT_PP(2), false);

	PG_RETURN_MATRIX(linear(ctx, module, PG_GETARG_MATRIX(3)));
}

/* hart.linear(context, module text, x (m, in)) → (m, out), for what lies outside the layers: lm_head */
Datum
hart_outer_linear(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	HartModule *module = hart_context_outer_module(ctx, PG_GETARG_TEXT_PP(1));

	PG_RETURN_MATRIX(linear(ctx, module, PG_GETARG_MATRIX(2)));
}

/* hart.embed_tokens(context, tokens int[]) → (tokens, dim) */
Datum
hart_embed_tokens(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	ArrayType  *tokens = PG_GETARG_ARRAYTYPE_P(1);
	int			n = ArrayGetNItems(ARR_NDIM(tokens), ARR_DIMS(tokens));
	const int32 *ids = (const int32 *) ARR_DATA_PTR(tokens);
	LinearWork	w = {.weight = hart_context_outer_module(ctx, cstring_to_text("model.embed_tokens"))->weight};
	HartMatrix *out;
	ResourceOwner old;

	if (ARR_NDIM(tokens) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("token ids are an array of %d dimensions", ARR_NDIM(tokens)),
				 errhint("Pass the tokens of one text, in one dimension.")));
	if (array_contains_nulls(tokens))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("token ids must not contain nulls"),
				 errhint("Pass the ids that hart.tokenize gives.")));
	out = hart_matrix_alloc(n, w.weight->cols);
	old = hart_context_enter(ctx);
	for (int i = 0; i < n; i++)
	{
		if (ids[i] < 0 || ids[i] >= w.weight->rows)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("token id %d is out of range", ids[i]),
					 errhint("Token ids of model \"%s\" are counted from 0 to %d.",
							 ctx->config.name, (int) w.weight->rows - 1)));
		pin_rows(ctx, &w, ids[i], 1);
		widen_columns(&w, ids[i], 0, w.weight->cols, hart_matrix_row(out, i));
		hart_tiles_unpin(ctx->tiles);
	}
	CurrentResourceOwner = old;
	PG_RETURN_MATRIX(out);
}
