/*
 * nearest.c
 *	  Cosine of a vector with the rows of an embedding: with all of them, in one
 *	  pass over the tiles at the speed of memory, or with a few.
 *
 * The cosines of a pass are kept, four bytes a row, and the largest are chosen
 * afterwards: then a piece of work that is run twice, after an interrupt, changes nothing, and which
 * thread takes which piece changes nothing either.
 */
#include "embedding.h"

#include <float.h>
#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"

#include "settings.h"
#include "top_k.h"

PG_FUNCTION_INFO_V1(hart_nearest_rows);
PG_FUNCTION_INFO_V1(hart_row_cosines);
PG_FUNCTION_INFO_V1(hart_nearest_among);
PG_FUNCTION_INFO_V1(hart_embedding_row_sql);
PG_FUNCTION_INFO_V1(hart_neighbor_rank);

/* bytes of weights a piece, and stretches of it that are read by turns, a row of each: memory delivers several distant ones faster than one */
#define PIECE_BYTES (1024 * 1024)
#define STREAMS 8

/* sums of squares beyond these are not exact enough in float32 */
#define LEAST_SQUARES 1e-30f
#define MOST_SQUARES 1e30f

/* A copy of a vector, of length 1, so that a cosine is a dot product over the row's norm */
static float *
unit_vector(const float *x, int64 n)
{
	float	   *unit = palloc(sizeof(float) * Max(n, 1));
	double		squares = 0;

	for (int64 i = 0; i < n; i++)
		squares += (double) x[i] * x[i];
	if (!(squares > 0) || isinf(squares))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg(squares == 0 ? "a vector of zeros has no direction" : "vector holds NaN or infinity"),
				 errhint("Cosines need a vector of finite numbers that are not all zero.")));
	for (int64 i = 0; i < n; i++)
		unit[i] = (float) (x[i] / sqrt(squares));
	return unit;
}

static const float *
vector_of(const HartEmbedding *e, ArrayType *array)
{
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (ARR_NDIM(array) != 1 || n != e->cols)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("vector has %d numbers, and the embedding has " INT64_FORMAT " columns", n, e->cols),
				 errhint("Pass an array of one dimension with a number for each column.")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("vector must not contain nulls"),
				 errhint("Pass a number for each column of the embedding.")));
	return (const float *) ARR_DATA_PTR(array);
}

/* The same where sums in float32 would overflow or vanish; NaN for a row that has no direction */
static float
careful_cosine(const HartEmbeddingRows *r, const float *unit, int64 row)
{
	double		dot = 0;
	double		squares = 0;

	for (int64 col = 0; col < r->embedding->cols;)
	{
		float		wide[64];
		size_t		n = Min((size_t) (r->embedding->cols - col), lengthof(wide));

		hart_embedding_widen(r, row, col, n, wide);
		for (size_t i = 0; i < n; i++)
		{
			dot += (double) wide[i] * unit[col + i];
			squares += (double) wide[i] * wide[i];
		}
		col += n;
	}
	return squares > 0 && isfinite(squares) ? (float) Min(1.0, Max(-1.0, dot / sqrt(squares))) : NAN;
}

/*
 * Cosine of a row and a vector of length 1. The sums are taken over HART_DOT_DEPTH columns at a time, wherever
 * the tiles end, so that a cosine depends on the two vectors alone.
 */
static inline float
cosine(const HartEmbeddingRows *r, const float *unit, int64 row)
{
	const HartEmbedding *e = r->embedding;
	float		sums[2] = {0, 0};

	for (int64 col = 0; col < e->cols; col += HART_DOT_DEPTH)
	{
		size_t		n = Min(HART_DOT_DEPTH, e->cols - col);
		HartWeightPlace place = hart_place_of(e->format, row * e->cols + col);
		const char *const *tile = &r->payload[place.tile - r->first_tile];
		size_t		in_tile = Min(n, (size_t) hart_tile_weights(e->format) - place.index);
		float		wide[HART_DOT_DEPTH];

		if (e->format == HART_BF12)
			hart_kernels->dot_and_squares_packed[HART_BF12 - HART_N_DTYPES] (tile[0], place.index, in_tile, in_tile < n ? tile[1] : NULL,
																			n - in_tile, unit + col, sums);
		else if (!hart_is_packed(e->format) && in_tile == n)
			hart_kernels->dot_and_squares[e->format] (tile[0] + place.index * hart_dtype_size((HartDtype) e->format), unit + col, n, sums);
		else
		{
			hart_embedding_widen(r, row, col, n, wide);
			hart_kernels->dot_and_squares[HART_F32] (wide, unit + col, n, sums);
		}
	}
	if (!(sums[1] > LEAST_SQUARES && sums[1] < MOST_SQUARES))
		return careful_cosine(r, unit, row);
	return fminf(1.0f, fmaxf(-1.0f, sums[0] / sqrtf(sums[1])));
}

typedef struct
{
	HartEmbeddingRows rows;
	int64		first_row;
	const float *unit;
	float	   *cosines;		/* of all rows */
} CosineWork;

static void
cosine_task(void *arg, size_t begin, size_t end, int worker)
{
	const CosineWork *w = arg;
	size_t		step = (end - begin + STREAMS - 1) / STREAMS;

	for (size_t first = begin; first < begin + step; first++)
		for (size_t i = first; i < end; i += step)
			w->cosines[w->first_row + i] = cosine(&w->rows, w->unit, w->first_row + i);
}

/* Cosines with every row; NaN where a row has no direction */
static float *
all_cosines(HartEmbedding *e, const float *vector)
{
	int64		at_once = hart_embedding_open_tiles(e);
	int64		row_bytes = e->cols * HART_TILE_BYTES / hart_tile_weights(e->format);
	CosineWork	w = {.unit = unit_vector(vector, e->cols)};

	w.cosines = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * Max(e->rows, 1));
	for (int64 row = 0; row < e->rows; row += at_once)
	{
		int64		n = Min(at_once, e->rows - row);

		w.rows = hart_embedding_pin(e, row, n);
		w.first_row = row;
		hart_run_parallel(n, Max(1, PIECE_BYTES / row_bytes), cosine_task, &w);
		hart_embedding_unpin(e);
	}
	return w.cosines;
}

typedef struct
{
	int32	   *ids;
	float	   *cosines;		/* of all rows */
} Nearest;

/* hart.nearest_rows(model_id int, vector real[], k int) → (token_id, cosine), nearest first */
Datum
hart_nearest_rows(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	Nearest    *nearest;

	if (SRF_IS_FIRSTCALL())
	{
		int32		k = PG_GETARG_INT32(2);
		TupleDesc	tupdesc;
		MemoryContext old;
		HartEmbedding *e;

		if (k < 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("k must be at least 1, not %d", k),
					 errhint("Ask for one neighbor or more.")));
		call = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		call->tuple_desc = BlessTupleDesc(tupdesc);
		e = hart_embedding_open(PG_GETARG_INT32(0));
		nearest = palloc(sizeof(Nearest));
		nearest->cosines = all_cosines(e, vector_of(e, PG_GETARG_ARRAYTYPE_P(1)));
		call->max_calls = Min(k, e->rows);
		nearest->ids = hart_top_k(nearest->cosines, e->rows, call->max_calls);
		while (call->max_calls > 0 && isnan(nearest->cosines[nearest->ids[call->max_calls - 1]]))
			call->max_calls--;
		hart_embedding_close(e);
		call->user_fctx = nearest;
		MemoryContextSwitchTo(old);
	}
	call = SRF_PERCALL_SETUP();
	nearest = call->user_fctx;
	if (call->call_cntr < call->max_calls)
	{
		int32		id = nearest->ids[call->call_cntr];
		Datum		values[2] = {Int32GetDatum(id), Float4GetDatum(nearest->cosines[id])};
		bool		nulls[2] = {false, false};

		SRF_RETURN_NEXT(call, HeapTupleGetDatum(heap_form_tuple(call->tuple_desc, values, nulls)));
	}
	SRF_RETURN_DONE(call);
}

/* Cosine of a vector of length 1 and one row, in double precision: there are only a few. Several sums, so that one addition need not wait for another. */
static float
row_cosine(HartEmbedding *e, const float *unit, int64 row, float *wide)
{
	double		dots[8] = {0};
	double		squares[8] = {0};
	int64		i = 0;

	hart_embedding_row(e, row, wide);
	for (; i + 8 <= e->cols; i += 8)
		for (int s = 0; s < 8; s++)
		{
			dots[s] += (double) wide[i + s] * unit[i + s];
			squares[s] += (double) wide[i + s] * wide[i + s];
		}
	for (; i < e->cols; i++)
	{
		dots[0] += (double) wide[i] * unit[i];
		squares[0] += (double) wide[i] * wide[i];
	}
	for (int s = 1; s < 8; s++)
	{
		dots[0] += dots[s];
		squares[0] += squares[s];
	}
	return squares[0] > 0 && isfinite(squares[0]) ? (float) Min(1.0, Max(-1.0, dots[0] / sqrt(squares[0]))) : NAN;
}

/* Cosine of a vector with the row of each of n ids; NaN where a row has no direction */
static float *
some_cosines(int32 model_id, ArrayType *vector, ArrayType *ids, int *n)
{
	HartEmbedding *e = hart_embedding_open(model_id);
	const float *unit = unit_vector(vector_of(e, vector), e->cols);
	const int32 *id = (const int32 *) ARR_DATA_PTR(ids);
	float	   *wide = palloc(sizeof(float) * e->cols);
	float	   *cosines;

	*n = ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids));
	if (ARR_NDIM(ids) > 1 || array_contains_nulls(ids))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("token ids must be an array of one dimension without nulls"),
				 errhint("Pass ids such as hart.tokenize gives.")));
	cosines = palloc(sizeof(float) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		hart_embedding_check_row(e, id[i]);
		cosines[i] = row_cosine(e, unit, id[i], wide);
	}
	hart_embedding_close(e);
	return cosines;
}

static ArrayType *
array_of_cosines(const float *cosines, int n)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(n, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(n, 1));
	int			lower = 1;

	for (int i = 0; i < n; i++)
	{
		values[i] = Float4GetDatum(cosines[i]);
		nulls[i] = isnan(cosines[i]);
	}
	return construct_md_array(values, nulls, n > 0, &n, &lower, FLOAT4OID, sizeof(float), true, TYPALIGN_INT);
}

/* hart.row_cosines(model_id int, vector real[], token_ids int[]) → real[], null where a row has no direction */
Datum
hart_row_cosines(PG_FUNCTION_ARGS)
{
	int			n;
	float	   *cosines = some_cosines(PG_GETARG_INT32(0), PG_GETARG_ARRAYTYPE_P(1), PG_GETARG_ARRAYTYPE_P(2), &n);

	PG_RETURN_ARRAYTYPE_P(array_of_cosines(cosines, n));
}

/* hart.nearest_among(model_id int, vector real[], token_ids int[], k int) → (ids, cosines) */
Datum
hart_nearest_among(PG_FUNCTION_ARGS)
{
	ArrayType  *ids = PG_GETARG_ARRAYTYPE_P(2);
	const int32 *id = (const int32 *) ARR_DATA_PTR(ids);
	int			n;
	float	   *cosines = some_cosines(PG_GETARG_INT32(0), PG_GETARG_ARRAYTYPE_P(1), ids, &n);
	int			k = Min(Max(PG_GETARG_INT32(3), 0), n);
	int32	   *best = hart_top_k(cosines, n, k);
	Datum	   *found = palloc(sizeof(Datum) * Max(k, 1));
	float	   *largest = palloc(sizeof(float) * Max(k, 1));
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	while (k > 0 && isnan(cosines[best[k - 1]]))
		k--;
	for (int i = 0; i < k; i++)
	{
		found[i] = Int32GetDatum(id[best[i]]);
		largest[i] = cosines[best[i]];
	}
	values[0] = PointerGetDatum(construct_array(found, k, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	values[1] = PointerGetDatum(array_of_cosines(largest, k));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}

/* hart.embedding_row(model_id int, token_id int) → real[] */
Datum
hart_embedding_row_sql(PG_FUNCTION_ARGS)
{
	HartEmbedding *e = hart_embedding_open(PG_GETARG_INT32(0));
	int32		row = PG_GETARG_INT32(1);
	float	   *wide = palloc(sizeof(float) * e->cols);
	Datum	   *values = palloc(sizeof(Datum) * e->cols);

	hart_embedding_check_row(e, row);
	hart_embedding_row(e, row, wide);
	for (int64 i = 0; i < e->cols; i++)
		values[i] = Float4GetDatum(wide[i]);
	hart_embedding_close(e);
	PG_RETURN_ARRAYTYPE_P(construct_array(values, e->cols, FLOAT4OID, sizeof(float), true, TYPALIGN_INT));
}

/*
 * hart.neighbor_rank(model_id int, token_id int, neighbor int) → 1 for the nearest other row; null
 * for the token itself and where a row has no direction
 */
Datum
hart_neighbor_rank(PG_FUNCTION_ARGS)
{
	HartEmbedding *e = hart_embedding_open(PG_GETARG_INT32(0));
	int32		token = PG_GETARG_INT32(1);
	int32		neighbor = PG_GETARG_INT32(2);
	float	   *wide = palloc(sizeof(float) * e->cols);
	float	   *cosines;
	int32		rank = 1;
	bool		ranked;

	hart_embedding_check_row(e, token);
	hart_embedding_check_row(e, neighbor);
	hart_embedding_row(e, token, wide);
	cosines = all_cosines(e, wide);
	for (int64 row = 0; row < e->rows; row++)
		if (row != token && (cosines[row] > cosines[neighbor] || (cosines[row] == cosines[neighbor] && row < neighbor)))
			rank++;
	ranked = token != neighbor && !isnan(cosines[neighbor]);
	hart_embedding_close(e);
	if (!ranked)
		PG_RETURN_NULL();
	PG_RETURN_INT32(rank);
}
