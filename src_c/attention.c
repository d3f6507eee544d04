/*
 * attention.c
 *	  Causal grouped-query attention over the cached keys and values.
 */
#include "context.h"

#include <math.h>

#include "int_array.h"
#include "matrix.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(hart_attend);
PG_FUNCTION_INFO_V1(hart_attend_sequences);

/* multiplications a piece: enough to be worth waking a thread for */
#define PIECE_WORK 32768

typedef struct
{
	HartContext *ctx;
	int			layer;
	HartMatrix *q;				/* (m, n_heads * head_dim) */
	HartMatrix *out;			/* (m, n_heads * head_dim) */
	HartKvSequence **sequences; /* (m) of each row */
	const int32 *positions;		/* (m) in it */
	float	   *scratch;		/* scratch_size for each worker */
	size_t		scratch_size;
} AttendWork;

/*
 * One head of one row: softmax(q · keys / sqrt(head_dim)) · values over the positions up to its own.
 * The sums run over blocks of the cache, so they are the same whichever rows are run together.
 */
static void
attend_head(const AttendWork *w, int64 row, int head, float *scratch)
{
	const HartConfig *config = &w->ctx->config;
	int			head_dim = config->head_dim;
	int			kv_head = head / (config->n_heads / config->n_kv_heads);
	HartKvCache *cache = w->ctx->cache;
	const HartKvSequence *sequence = w->sequences[row];
	int64		n = (int64) w->positions[row] + 1;
	const float *q = hart_matrix_row(w->q, row) + (int64) head * head_dim;
	float	   *out = hart_matrix_row(w->out, row) + (int64) head * head_dim;
	float	   *weights = scratch;	/* (n) */
	float	   *part = scratch + w->scratch_size - head_dim;	/* (head_dim) */
	float		scale = 1.0f / sqrtf((float) head_dim);

	for (int64 at = 0; at < n; at += HART_KV_BLOCK)
		hart_kernels->scores(q, hart_kv_keys(cache, sequence, w->layer, at / HART_KV_BLOCK, kv_head),
							 Min(HART_KV_BLOCK, n - at), head_dim, scale, weights + at);
	hart_kernels->softmax(weights, n);
	memset(out, 0, sizeof(float) * head_dim);
	for (int64 at = 0; at < n; at += HART_KV_BLOCK)
	{
		hart_kernels->weighted_sum(weights + at,
								   hart_kv_values(cache, sequence, w->layer, at / HART_KV_BLOCK, kv_head),
								   Min(HART_KV_BLOCK, n - at), head_dim, part);
		hart_kernels->axpy(1.0f, part, out, head_dim);
	}
}

/* Pieces run over the rows of each head in turn, so that a thread stays with one head's keys */
static void
attend_task(void *arg, size_t begin, size_t end, int worker)
{
	const AttendWork *w = arg;

	for (size_t i = begin; i < end; i++)
		attend_head(w, i % w->q->rows, (int) (i / w->q->rows), w->scratch + worker * w->scratch_size);
}

/* Ensure a matrix of m rows and n columns */
static void
check_shape(const HartMatrix *x, int32 m, int64 n, const char *what)
{
	if (x->rows != m || x->cols != n)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("%s are %d x %d, not %d x " INT64_FORMAT, what, x->rows, x->cols, m, n),
				 errhint("Pass the projections of the same rows by the same layer.")));
}

/* Enter k and v as the rows' positions of the layer's cache, then run every head of every row */
static HartMatrix *
attend(HartContext *ctx, int32 layer, HartMatrix *q, HartMatrix *k, HartMatrix *v, const int32 *sequences,
	   const int32 *positions)
{
	const HartConfig *config = &ctx->config;
	AttendWork	w;
	int64		most = 0;

	if (layer < 0 || layer >= config->n_layers)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("layer %d is out of range", layer),
				 errhint("Layers of model \"%s\" are counted from 0 to %d.", config->name, config->n_layers - 1)));
	check_shape(q, q->rows, (int64) config->n_heads * config->head_dim, "queries");
	check_shape(k, q->rows, (int64) config->n_kv_heads * config->head_dim, "keys");
	check_shape(v, q->rows, (int64) config->n_kv_heads * config->head_dim, "values");

	if (ctx->kernels != hart_kernels)
		ctx->kernels = NULL;
	w = (AttendWork) {.ctx = ctx, .layer = layer, .q = q, .positions = positions};
	w.sequences = hart_kv_append(ctx->cache, layer, q->rows, sequences, positions, k->data, v->data);
	w.out = hart_matrix_alloc(q->rows, q->cols);
	for (int32 i = 0; i < q->rows; i++)
		most = Max(most, (int64) positions[i] + 1);
	if (q->rows == 0)
		return w.out;
	w.scratch_size = most + config->head_dim;
	w.scratch = hart_context_scratch(ctx, hart_n_threads() * w.scratch_size);
	hart_run_parallel((size_t) config->n_heads * q->rows, Max(1, PIECE_WORK / (2 * most * config->head_dim)),
					  attend_task, &w);
	return w.out;
}

/*
 * hart.attend(context, layer int, q (m, n_heads * head_dim), k, v (m, n_kv_heads * head_dim), pos int)
 * → (m, n_heads * head_dim)
 *
 * The rows are positions pos .. pos + m - 1 of sequence 0; row i attends to the positions 0 .. pos + i.
 * Ainslie et al., "GQA" (2023).
 */
Datum
hart_attend(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	HartMatrix *q = PG_GETARG_MATRIX(2);
	int32		pos = PG_GETARG_INT32(5);
	int32	   *sequences = palloc0(sizeof(int32) * Max(q->rows, 1));

	PG_RETURN_MATRIX(attend(ctx, PG_GETARG_INT32(1), q, PG_GETARG_MATRIX(3), PG_GETARG_MATRIX(4), sequences,
							hart_positions_from(ctx, pos, q->rows)));
}

/*
 * hart.attend(context, layer int, q, k, v, sequences int[], positions int[]): row i is position positions[i] of
 * sequence sequences[i] and attends to the positions of that sequence up to its own
 */
Datum
hart_attend_sequences(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	HartMatrix *q = PG_GETARG_MATRIX(2);
	const int32 *sequences = hart_int_array_of_rows(PG_GETARG_ARRAYTYPE_P(5), "sequences", q->rows);
	const int32 *positions = hart_int_array_of_rows(PG_GETARG_ARRAYTYPE_P(6), "positions", q->rows);

	hart_check_positions(ctx, positions, q->rows);
	PG_RETURN_MATRIX(attend(ctx, PG_GETARG_INT32(1), q, PG_GETARG_MATRIX(3), PG_GETARG_MATRIX(4), sequences, positions));
}
