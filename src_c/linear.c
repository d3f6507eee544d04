/*
 * linear.c
 *	  y = x Wᵀ + b with the weights where they lie, in tiles.
 *
 * One row of x is multiplied by one weight row after the other, a few rows by four at a
 * time, straight out of the tiles. Many rows go through a panel of weight rows, widened to float32 in the cache,
 * and a blocked matrix product. Either way, and whichever thread does it, a number of y is
 * summed in one and the same order (kernels.h): it depends on its row of x and its row of weights
 * alone, so that a text gives the same bits by itself or in a batch, in one piece or in many.
 */
#include "context.h"

#include "utils/array.h"
#include "utils/builtins.h"

#include "linear_q8.h"
#include "matrix.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(hart_linear);
PG_FUNCTION_INFO_V1(hart_outer_linear);
PG_FUNCTION_INFO_V1(hart_embed_tokens);

/* from how many rows of x on a panel pays */
#define PANEL_MIN_ROWS 20
/* weight rows of a panel, at most: half a megabyte, so that it stays in the L2 cache */
#define PANEL_ROWS 128
/* distance of rows of HART_DOT_DEPTH floats that do not share cache sets */
#define WIDE_STRIDE (HART_DOT_DEPTH + 16)
/* weight rows that a few rows of x are multiplied by at a time */
#define FEW_WEIGHT_ROWS 4
/* bytes of weights a piece, for few rows of x: enough to hide the cost of claiming it, or of waking a thread for it */
#define PIECE_BYTES (64 * 1024)
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
	if (w->bias == NULL)
		return;
	for (int64 i = 0; i < w->m; i++)
		for (int64 r = row; r < row + n; r++)
			w->y[i * w->weight->rows + r] += w->bias[r];
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

/* Up to four weight rows that are multiplied together */
typedef struct
{
	HartDtype	dtype;
	int			n;
	const void *weights[FEW_WEIGHT_ROWS];
	int64		row[FEW_WEIGHT_ROWS];
} Group;

/* Multiply a group by every row of x, over the columns from col on */
static void
multiply_group(const LinearWork *w, Group *group, int64 col, int64 depth, size_t ahead, float *sums)
{
	int64		rows = w->weight->rows;

	if (group->n == 0)
		return;
	for (int r = group->n; r < FEW_WEIGHT_ROWS; r++)
		group->weights[r] = group->weights[0];
	hart_kernels->dot4[group->dtype] (w->m, w->x + col, w->weight->cols, group->weights, depth, ahead, sums);
	for (int64 i = 0; i < w->m; i++)
		for (int r = 0; r < group->n; r++)
		{
			float	   *y = &w->y[i * rows + group->row[r]];

			*y = col > 0 ? *y + sums[i * FEW_WEIGHT_ROWS + r] : sums[i * FEW_WEIGHT_ROWS + r];
		}
}

/* Weight rows by every row of x, straight out of the tiles but for packed ones and stretches that a tile's end cuts */
static void
few_rows_task(void *arg, size_t begin, size_t end, int worker)
{
	const LinearWork *w = arg;
	int64		cols = w->weight->cols;
	HartFormat	format = w->weight->format;
	bool		packed = hart_is_packed(format);
	size_t		size = packed ? 0 : hart_dtype_size((HartDtype) format);
	int64		row_bytes = cols * size;
	int64		last = w->first_row + end;
	float	   *wide = w->scratch + worker * w->scratch_size;
	float	   *sums = wide + FEW_WEIGHT_ROWS * WIDE_STRIDE;

	for (int64 row = w->first_row + begin; row < last; row += FEW_WEIGHT_ROWS)
		for (int64 col = 0; col < cols; col += HART_DOT_DEPTH)
		{
			int64		depth = Min(HART_DOT_DEPTH, cols - col);
			Group		whole = {.dtype = (HartDtype) format};
			Group		cut = {.dtype = HART_F32};
			int64		ahead;

			for (int64 r = row; r < Min(row + FEW_WEIGHT_ROWS, last); r++)
			{
				Stretch		s = stretch_at(w, r, col);
				Group	   *group = s.n >= (size_t) depth && !packed ? &whole : &cut;

				group->weights[group->n] = s.tile + s.index * size;
				if (group == &cut)
				{
					group->weights[group->n] = wide + cut.n * WIDE_STRIDE;
					widen_columns(w, r, col, depth, wide + cut.n * WIDE_STRIDE);
				}
				group->row[group->n++] = r;
			}
			/* what follows in each row, or the same columns of the rows that follow; the pages lie one after the other as a rule */
			ahead = col + depth < cols ? depth * row_bytes / cols : FEW_WEIGHT_ROWS * row_bytes - col * row_bytes / cols;
			multiply_group(w, &whole, col, depth, ahead * BLCKSZ / HART_TILE_BYTES, sums);
			multiply_group(w, &cut, col, depth, 0, sums);
		}
	add_bias(w, w->first_row + begin, end - begin);
}

/* A panel of weight rows by all rows of x */
static void
panel_task(void *arg, size_t begin, size_t end, int worker)
{
	const LinearWork *w = arg;
	int64		cols = w->weight->cols;
	int64		rows = w->weight->rows;
	int64		row = w->first_row + begin;
	size_t		n = end - begin;
	float	   *panel = (float *) TYPEALIGN(PG_CACHE_LINE_SIZE, w->scratch + worker * w->scratch_size);

	for (int64 col = 0; col < cols; col += HART_DOT_DEPTH)
	{
		int64		depth = Min(HART_DOT_DEPTH, cols - col);

		for (size_t j = 0; j < n; j++)
			widen_columns(w, row + j, col, depth, panel + j * WIDE_STRIDE);
		hart_kernels->gemm_nt(w->m, n, depth, w->x + col, cols, panel, WIDE_STRIDE, w->y + row, rows, col > 0);
	}
	add_bias(w, row, n);
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

static HartMatrix *
linear(HartContext *ctx, HartModule *module, HartMatrix *x)
{
	HartTensor *weight = module->weight;
	int64		row_bytes;
	bool		panels = x->rows >= PANEL_MIN_ROWS;
	HartMatrix *y;
	LinearWork	w;
	int64		rows_at_once;
	size_t		grain;
	ResourceOwner old;

	if (x->cols != weight->cols)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("\"%s\" takes %d columns, not %d", weight->name, (int) weight->cols, x->cols),
				 errhint("Each row of the matrix must have as many columns as the weight.")));
	y = hart_matrix_alloc(x->rows, weight->rows);
	w = (LinearWork) {.weight = weight, .x = x->data, .m = x->rows, .y = y->data};
	if (module->bias)
		w.bias = hart_context_values(ctx, module->bias);
	if (hart_matrix_elements(y) == 0)
		return y;
	if (weight->cols == 0)
	{
		memset(y->data, 0, hart_matrix_elements(y) * sizeof(float));
		add_bias(&w, 0, weight->rows);
		return y;
	}
	if (weight->format == HART_Q8)
	{
		hart_linear_q8(ctx, weight, w.bias, x, y);
		return y;
	}
	row_bytes = weight->cols * HART_TILE_BYTES / hart_tile_weights(weight->format);
	w.scratch_size = panels ? PANEL_ROWS * WIDE_STRIDE + PG_CACHE_LINE_SIZE
		: FEW_WEIGHT_ROWS * (WIDE_STRIDE + x->rows);
	w.scratch = hart_context_scratch(ctx, hart_n_threads() * w.scratch_size);

	/* small tensors are cut finer, so that each thread gets some */
	if (panels)
		grain = Min(PANEL_ROWS, Max(16, weight->rows / (4 * hart_n_threads())));
	else
		grain = Max(Max(1, MIN_PIECE_BYTES / row_bytes),
					Min(PIECE_BYTES / row_bytes, weight->rows / (2 * hart_n_threads())));
	grain = TYPEALIGN(FEW_WEIGHT_ROWS, grain);
	rows_at_once = Max(1, hart_tiles_at_once(ctx->tiles) * hart_tile_weights(weight->format) / weight->cols);
	old = hart_context_enter(ctx);
	for (int64 row = 0; row < weight->rows; row += rows_at_once)
	{
		int64		n_rows = Min(rows_at_once, weight->rows - row);

		pin_rows(ctx, &w, row, n_rows);
		hart_run_parallel(n_rows, grain, panels ? panel_task : x->rows == 1 ? one_row_task : few_rows_task, &w);
		hart_tiles_unpin(ctx->tiles);
	}
	CurrentResourceOwner = old;
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
