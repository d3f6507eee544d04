/*
 * neighbor_graph.c
 *	  The nearest rows of each of many rows of an embedding, by cosine: blocks of
 *	  rows against all rows, as matrix products.
 */
#include "embedding.h"

#include <math.h>

#include "utils/memutils.h"

#include "settings.h"

PG_FUNCTION_INFO_V1(hart_neighbor_graph);

/* rows of a block, which one thread compares with all rows; and rows of a panel that it compares them with at once */
#define BLOCK_ROWS 256
#define PANEL_ROWS 64
/* rows that a block is compared with before another thread, or an interrupt, may have its turn: some milliseconds */
#define STRETCH_ROWS 512

#define MAX_NEIGHBORS 256

typedef struct
{
	HartEmbeddingRows rows;
	int64		first_row;		/* of those pinned */
	int64		n_rows;
	int64		cols;
	const bool *skip;			/* of all rows */
	const int32 *query;			/* the rows asked for, (n_queries) */
	int64		n_queries;
	const float *unit;			/* each of length 1, (n_queries, cols) */
	int32		k;
	int32	   *id;				/* (n_queries, k), nearest first; -1 where there is none yet */
	float	   *cosine;			/* (n_queries, k) */
	float	   *scratch;		/* scratch_size for each worker */
	size_t		scratch_size;
} GraphWork;

/* One over the length of a row; 0 when it has no direction */
static float
inverse_norm(const float *row, int64 n)
{
	float		squares = hart_kernels->dot(row, row, n);
	double		exact = 0;

	if (squares > 1e-30f && squares < 1e30f)
		return 1 / sqrtf(squares);
	/* float32 is not enough */
	for (int64 i = 0; i < n; i++)
		exact += (double) row[i] * row[i];
	return exact > 0 && !isinf(exact) ? (float) (1 / sqrt(exact)) : 0;
}

/* Enter a row among the nearest of a query, unless it is there already: a piece of work may be run twice */
static void
enter(const GraphWork *w, int64 query, int32 row, float cosine)
{
	int32	   *id = w->id + query * w->k;
	float	   *cosines = w->cosine + query * w->k;
	int32		at = w->k - 1;

	for (int32 i = 0; i < w->k; i++)
		if (id[i] == row)
			return;
	for (; at > 0 && cosine > cosines[at - 1]; at--)
	{
		id[at] = id[at - 1];
		cosines[at] = cosines[at - 1];
	}
	id[at] = row;
	cosines[at] = cosine;
}

/* A block of queries against all rows that are pinned */
static void
block_task(void *arg, size_t begin, size_t end, int worker)
{
	const GraphWork *w = arg;
	float	   *panel = w->scratch + worker * w->scratch_size;
	float	   *products = panel + PANEL_ROWS * w->cols;
	size_t		m = end - begin;

	for (int64 first = w->first_row; first < w->first_row + w->n_rows; first += PANEL_ROWS)
	{
		size_t		n = Min(PANEL_ROWS, w->first_row + w->n_rows - first);
		float		scale[PANEL_ROWS];

		for (size_t j = 0; j < n; j++)
		{
			hart_embedding_widen(&w->rows, first + j, 0, w->cols, panel + j * w->cols);
			scale[j] = w->skip[first + j] ? 0 : inverse_norm(panel + j * w->cols, w->cols);
		}
		hart_kernels->gemm_nt(m, n, w->cols, w->unit + begin * w->cols, w->cols, panel, w->cols, products, PANEL_ROWS, false);
		for (size_t i = 0; i < m; i++)
		{
			const float *worst = w->cosine + (begin + i) * w->k + w->k - 1;

			for (size_t j = 0; j < n; j++)
			{
				float		cosine = products[i * PANEL_ROWS + j] * scale[j];

				if (cosine > *worst && scale[j] > 0 && first + (int64) j != w->query[begin + i])
					enter(w, begin + i, first + j, Min(cosine, 1));
			}
		}
	}
}

static int32 *
ids_of(const HartEmbedding *e, ArrayType *array, int *n)
{
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("token ids must be an array of one dimension without nulls"),
				 errhint("Pass ids such as hart.tokenize gives.")));
	for (int i = 0; i < *n; i++)
		hart_embedding_check_row(e, ((int32 *) ARR_DATA_PTR(array))[i]);
	return (int32 *) ARR_DATA_PTR(array);
}

/*
 * hart.neighbor_graph(model_id int, token_ids int[], skip int[], k int) → bytea
 *
 * For each token its k nearest others, none of which is in skip: (tokens, k) ids as int32, -1 where there are
 * no more, then their cosines as float32. Little-endian, as the machine is.
 */
Datum
hart_neighbor_graph(PG_FUNCTION_ARGS)
{
	HartEmbedding *e = hart_embedding_open(PG_GETARG_INT32(0));
	int32		k = PG_GETARG_INT32(3);
	GraphWork	w = {.cols = e->cols, .k = k};
	bool	   *skip = MemoryContextAllocExtended(CurrentMemoryContext, Max(e->rows, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int			n_queries;
	int			n_skip;
	int32	   *skipped;
	float	   *unit;
	size_t		items;
	bytea	   *result;
	int64		at_once;

	if (k < 1 || k > MAX_NEIGHBORS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%d neighbors are out of range", k),
				 errhint("Ask for 1 to %d neighbors of each token.", MAX_NEIGHBORS)));
	w.query = ids_of(e, PG_GETARG_ARRAYTYPE_P(1), &n_queries);
	w.n_queries = n_queries;
	skipped = ids_of(e, PG_GETARG_ARRAYTYPE_P(2), &n_skip);
	for (int i = 0; i < n_skip; i++)
		skip[skipped[i]] = true;
	w.skip = skip;
	unit = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * Max(w.n_queries * w.cols, 1));
	for (int64 i = 0; i < w.n_queries; i++)
	{
		float	   *row = unit + i * w.cols;
		float		scale;

		hart_embedding_row(e, w.query[i], row);
		scale = inverse_norm(row, w.cols);
		for (int64 j = 0; j < w.cols; j++)
			row[j] = scale > 0 ? row[j] * scale : 0;
	}
	w.unit = unit;
	items = (size_t) w.n_queries * k;
	result = palloc(VARHDRSZ + items * 8);
	SET_VARSIZE(result, VARHDRSZ + items * 8);
	w.id = (int32 *) VARDATA(result);
	w.cosine = (float *) VARDATA(result) + items;
	for (size_t i = 0; i < items; i++)
	{
		w.id[i] = -1;
		w.cosine[i] = -INFINITY;
	}
	w.scratch_size = PANEL_ROWS * w.cols + BLOCK_ROWS * PANEL_ROWS;
	w.scratch = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * w.scratch_size * hart_n_threads());

	at_once = Min(STRETCH_ROWS, hart_embedding_open_tiles(e));
	for (int64 row = 0; row < e->rows; row += at_once)
	{
		w.first_row = row;
		w.n_rows = Min(at_once, e->rows - row);
		w.rows = hart_embedding_pin(e, row, w.n_rows);
		hart_run_parallel(w.n_queries, BLOCK_ROWS, block_task, &w);
		hart_embedding_unpin(e);
	}
	hart_embedding_close(e);
	PG_RETURN_BYTEA_P(result);
}
