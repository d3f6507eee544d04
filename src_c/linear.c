/*
 * linear.c
 *	  y = x Wᵀ + b with the weights where they lie, in tiles.
 *
 * A few rows of x are multiplied straight out of the tiles: one dot product for each
 * stretch of a weight row that lies in one tile. Many rows go through a panel of
 * weight rows, widened to float32 in the cache, and a blocked matrix product. Which
 * thread takes which weight rows changes nothing in the sums.
 */
#include "context.h"

#include "utils/array.h"
#include "utils/builtins.h"

#include "matrix.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(hart_linear);
PG_FUNCTION_INFO_V1(hart_outer_linear);
PG_FUNCTION_INFO_V1(hart_embed_tokens);

/* from how many rows of x on a panel pays */
#define PANEL_MIN_ROWS 4
/* weight rows of a panel */
#define PANEL_ROWS 64
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

/* A stretch of a weight row within one tile */
typedef struct
{
	const char *weights;
	size_t		n;
} Stretch;

/* The stretch that begins with a column of a row, at most to the end of the row */
static inline Stretch
stretch_at(const LinearWork *w, int64 row, int64 col)
{
	size_t		size = hart_dtype_size(w->weight->dtype);
	int64		offset = (row * w->weight->cols + col) * (int64) size;
	int64		tile = offset / HART_TILE_BYTES - w->first_tile;
	size_t		within = offset % HART_TILE_BYTES;

	return (Stretch) {w->payload[tile] + within,
		Min((size_t) (w->weight->cols - col), (HART_TILE_BYTES - within) / size)};
}

/* One weight row by every row of x */
static void
dot_task(void *arg, size_t begin, size_t end, int worker)
{
	const LinearWork *w = arg;
	int64		cols = w->weight->cols;
	int64		rows = w->weight->rows;

	for (int64 row = w->first_row + begin; row < (int64) (w->first_row + end); row++)
	{
		for (int64 i = 0; i < w->m; i++)
			w->y[i * rows + row] = w->bias ? w->bias[row] : 0;
		for (int64 col = 0; col < cols;)
		{
			Stretch		s = stretch_at(w, row, col);

			for (int64 i = 0; i < w->m; i++)
				w->y[i * rows + row] +=
					hart_kernels->dot_weights[w->weight->dtype] (s.weights, w->x + i * cols + col, s.n);
			col += s.n;
		}
	}
}

/* A weight row in float32 */
static void
widen_row(const LinearWork *w, int64 row, float *out)
{
	for (int64 col = 0; col < w->weight->cols;)
	{
		Stretch		s = stretch_at(w, row, col);

		hart_kernels->widen[w->weight->dtype] (s.weights, out + col, s.n);
		col += s.n;
	}
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
	float	   *panel = w->scratch + worker * w->scratch_size;

	for (size_t j = 0; j < n; j++)
		widen_row(w, row + j, panel + j * cols);
	hart_kernels->gemm_nt(w->m, n, cols, w->x, cols, panel, cols, w->y + row, rows, false,
						  panel + PANEL_ROWS * cols);
	if (w->bias)
		for (int64 i = 0; i < w->m; i++)
			for (size_t j = 0; j < n; j++)
				w->y[i * rows + row + j] += w->bias[row + j];
}

/* Pin the tiles of a range of weight rows */
static void
pin_rows(HartContext *ctx, LinearWork *w, int64 first_row, int64 n_rows)
{
	int64		row_bytes = w->weight->cols * hart_dtype_size(w->weight->dtype);
	int64		last_tile = ((first_row + n_rows) * row_bytes - 1) / HART_TILE_BYTES;

	w->first_row = first_row;
	w->first_tile = first_row * row_bytes / HART_TILE_BYTES;
	w->payload = hart_tiles_pin(ctx->tiles, w->weight->tiles->first + w->first_tile, last_tile - w->first_tile + 1);
}

/* What x of no columns gives: the bias */
static void
fill_bias(LinearWork *w)
{
	for (int64 i = 0; i < w->m; i++)
		for (int64 row = 0; row < w->weight->rows; row++)
			w->y[i * w->weight->rows + row] = w->bias ? w->bias[row] : 0;
}

static HartMatrix *
linear(HartContext *ctx, HartModule *module, HartMatrix *x)
{
	HartTensor *weight = module->weight;
	int64		row_bytes = weight->cols * hart_dtype_size(weight->dtype);
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
		fill_bias(&w);
		return y;
	}
	if (panels)
	{
		w.scratch_size = PANEL_ROWS * weight->cols + hart_gemm_scratch(PANEL_ROWS, weight->cols);
		w.scratch = hart_context_scratch(ctx, hart_n_threads() * w.scratch_size);
	}

	/* small tensors are cut finer, so that each thread gets some */
	grain = Max(Max(1, MIN_PIECE_BYTES / row_bytes),
				Min(PIECE_BYTES / row_bytes, weight->rows / (2 * hart_n_threads())));
	rows_at_once = Max(1, hart_tiles_at_once(ctx->tiles) * HART_TILE_BYTES / row_bytes);
	old = hart_context_enter(ctx);
	for (int64 row = 0; row < weight->rows; row += rows_at_once)
	{
		int64		n_rows = Min(rows_at_once, weight->rows - row);

		pin_rows(ctx, &w, row, n_rows);
		hart_run_parallel(n_rows, panels ? PANEL_ROWS : grain, panels ? panel_task : dot_task, &w);
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
		widen_row(&w, ids[i], hart_matrix_row(out, i));
		hart_tiles_unpin(ctx->tiles);
	}
	CurrentResourceOwner = old;
	PG_RETURN_MATRIX(out);
}
