/*
 * attention.c
 *	  Causal grouped-query attention over the cached keys and values.
 *
 * A head of a row looks at one block of the cache after the other. What it finds in a block, the largest score, the sum of the
 * exponentials and the sum of the values weighted by them, is computed for all heads of a group at once, since they share the block's keys and
 * values, and for neighbouring rows. Then it is added to what was found in the blocks before (Milakov and Gimelshein, "Online
 * normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022). When there are few rows, the threads share out the
 * blocks; the additions are made in the order of the blocks all the same, so that a row's numbers depend on its own values alone.
 */
#include "context.h"

#include <math.h>

#include "int_array.h"
#include "matrix.h"
#include "prefix_store.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(hart_attend);
PG_FUNCTION_INFO_V1(hart_attend_sequences);

/* heads of rows that are run together, about: enough to make good use of keys and values once they are in the cache */
#define GROUP_QUERIES 96
/* multiplications a piece: enough to be worth waking a thread for */
#define PIECE_WORK 65536
/* memory for what is found in single blocks, in floats */
#define MAX_FINDINGS (4 * 1024 * 1024)

/* Rows that follow one another in one sequence */
typedef struct
{
	int64		row;
	int64		n;
	int64		position;		/* of the first */
} RowBlock;

typedef struct
{
	HartContext *ctx;
	int			layer;
	int			group;			/* heads that share keys and values */
	HartMatrix *q;				/* (m, n_heads * head_dim) */
	HartMatrix *out;			/* (m, n_heads * head_dim) */
	HartKvSequence **sequences; /* (m) of each row */
	RowBlock   *row_blocks;
	int64		n_row_blocks;
	int64		most_rows;		/* in a row block */
	int64		most_blocks;	/* that a row looks at */
	float	   *findings;		/* (row_blocks, kv_heads, most_blocks, most_rows * group, finding_size) when blocks are shared out */
	float	   *scratch;		/* scratch_size for each worker */
	size_t		scratch_size;
} AttendWork;

/* What a head finds in blocks of the cache: the largest score, the sum of exponentials, then (head_dim) the weighted sum of values */
enum
{
	LARGEST, SUM, VALUES
};

static inline size_t
finding_size(const AttendWork *w)
{
	return VALUES + w->ctx->config.head_dim;
}

/* How many blocks of the cache the last row of a row block looks at */
static inline int64
count_blocks(const RowBlock *rows)
{
	return (rows->position + rows->n - 1) / HART_KV_BLOCK + 1;
}

/* The first row of a row block that sees the first position of a block */
static inline int64
first_row(const RowBlock *rows, int64 block)
{
	return Max(0, block * HART_KV_BLOCK - rows->position);
}

/* The queries of a row block that belong to a head of keys, scaled: (rows, group, head_dim) */
static void
gather_queries(const AttendWork *w, const RowBlock *rows, int kv_head, float *queries)
{
	int64		width = (int64) w->group * w->ctx->config.head_dim;
	float		scale = 1.0f / sqrtf((float) w->ctx->config.head_dim);

	for (int64 r = 0; r < rows->n; r++)
	{
		const float *q = hart_matrix_row(w->q, rows->row + r) + kv_head * width;

		for (int64 i = 0; i < width; i++)
			queries[r * width + i] = q[i] * scale;
	}
}

/*
 * What the heads that share a head of keys find in a block of values, n rows that see its first `seen` positions.
 * scores: (n * group, HART_KV_BLOCK), which become weights; found: (n * group, finding_size)
 */
static void
look_at_values(const AttendWork *w, const float *values, int64 n, int64 seen, float *scores, float *found)
{
	int			head_dim = w->ctx->config.head_dim;
	size_t		size = finding_size(w);

	for (int64 i = 0; i < n * w->group; i++)
		found[i * size + SUM] = hart_kernels->exp_sum(scores + i * HART_KV_BLOCK, seen, &found[i * size + LARGEST]);
	hart_kernels->gemm_nn(n * w->group, head_dim, seen, scores, HART_KV_BLOCK, values, head_dim, found + VALUES, size);
}

/*
 * Let the heads that share a head of keys look at a block, for a row block whose last rows may see all of it and whose first rows perhaps a part, or
 * nothing. queries: (rows, group, head_dim); scores: (rows * group, HART_KV_BLOCK) to work in; found: (rows * group, finding_size)
 */
static void
look_at_rows(const AttendWork *w, const RowBlock *rows, int kv_head, int64 block, const float *queries, float *scores,
			 float *found)
{
	const HartKvSequence *sequence = w->sequences[rows->row];
	const float *keys = hart_kv_keys(w->ctx->cache, sequence, w->layer, block, kv_head);
	const float *values = hart_kv_values(w->ctx->cache, sequence, w->layer, block, kv_head);
	int			head_dim = w->ctx->config.head_dim;
	int64		first = first_row(rows, block);
	int64		position = rows->position - block * HART_KV_BLOCK;	/* of the first row, in the block */
	int64		most = Min(HART_KV_BLOCK, position + rows->n);
	int64		group = w->group;
	int64		end;

	hart_kernels->gemm_nn((rows->n - first) * group, most, head_dim, queries + first * group * head_dim, head_dim, keys, HART_KV_BLOCK,
						  scores + first * group * HART_KV_BLOCK, HART_KV_BLOCK);
	for (int64 r = first; r < rows->n; r = end)
	{
		int64		seen = Min(HART_KV_BLOCK, position + r + 1);

		end = seen < HART_KV_BLOCK ? r + 1 : rows->n;
		look_at_values(w, values, end - r, seen, scores + r * group * HART_KV_BLOCK, found + r * group * finding_size(w));
	}
}

/* Add what a head found in a block to what it found in those before */
static void
add_finding(float *restrict sum, const float *restrict found, size_t head_dim)
{
	float		factor;

	if (found[LARGEST] > sum[LARGEST])
	{
		factor = expf(sum[LARGEST] - found[LARGEST]);
		sum[LARGEST] = found[LARGEST];
		sum[SUM] = sum[SUM] * factor + found[SUM];
		for (size_t d = 0; d < head_dim; d++)
			sum[VALUES + d] = sum[VALUES + d] * factor + found[VALUES + d];
	}
	else
	{
		factor = expf(found[LARGEST] - sum[LARGEST]);
		sum[SUM] += found[SUM] * factor;
		for (size_t d = 0; d < head_dim; d++)
			sum[VALUES + d] += found[VALUES + d] * factor;
	}
}

/* What all blocks make of the values */
static void
put_values(const float *restrict sum, size_t head_dim, float *restrict out)
{
	float		total = sum[SUM];

	for (size_t d = 0; d < head_dim; d++)
		out[d] = sum[VALUES + d] / total;
}

/* The heads of a row block that share a head of keys: all blocks, found already or not */
static void
attend_rows(const AttendWork *w, int64 row_block, int kv_head, float *scratch)
{
	const RowBlock *rows = &w->row_blocks[row_block];
	int			head_dim = w->ctx->config.head_dim;
	size_t		size = finding_size(w);
	int64		n = rows->n * w->group;
	float	   *sums = scratch;	/* (n, finding_size) */
	float	   *queries = sums + n * size;	/* (n, head_dim) */
	float	   *scores = queries + n * head_dim;	/* (n, HART_KV_BLOCK) */
	float	   *fresh = scores + n * HART_KV_BLOCK;	/* (n, finding_size) */

	memset(sums, 0, sizeof(float) * n * size);
	for (int64 i = 0; i < n; i++)
		sums[i * size + LARGEST] = -INFINITY;
	if (w->findings == NULL)
		gather_queries(w, rows, kv_head, queries);
	for (int64 block = 0; block < count_blocks(rows); block++)
	{
		const float *found = fresh;

		if (w->findings == NULL)
			look_at_rows(w, rows, kv_head, block, queries, scores, fresh);
		else
			found = w->findings + ((row_block * w->ctx->config.n_kv_heads + kv_head) * w->most_blocks + block) *
				w->most_rows * w->group * size;
		for (int64 i = first_row(rows, block) * w->group; i < n; i++)
			add_finding(sums + i * size, found + i * size, head_dim);
	}
	for (int64 r = 0; r < rows->n; r++)
	{
		float	   *out = hart_matrix_row(w->out, rows->row + r) + (int64) kv_head * w->group * head_dim;
		const float *sum = sums + r * w->group * size;

		for (int head = 0; head < w->group; head++)
			put_values(sum + head * size, head_dim, out + head * head_dim);
	}
}

/* Items are row blocks of each head of keys in turn, so that a thread stays with one head's keys */
static void
attend_task(void *arg, size_t begin, size_t end, int worker)
{
	const AttendWork *w = arg;

	for (size_t i = begin; i < end; i++)
		attend_rows(w, i % w->n_row_blocks, (int) (i / w->n_row_blocks), w->scratch + worker * w->scratch_size);
}

/* Items are blocks of the cache for each row block and head of keys */
static void
find_task(void *arg, size_t begin, size_t end, int worker)
{
	const AttendWork *w = arg;
	float	   *queries = w->scratch + worker * w->scratch_size;
	float	   *scores = queries + w->most_rows * w->group * w->ctx->config.head_dim;

	for (size_t i = begin; i < end; i++)
	{
		int64		block = i % w->most_blocks;
		int			kv_head = (int) (i / w->most_blocks % w->ctx->config.n_kv_heads);
		const RowBlock *rows = &w->row_blocks[i / w->most_blocks / w->ctx->config.n_kv_heads];

		if (block >= count_blocks(rows))
			continue;
		gather_queries(w, rows, kv_head, queries);
		look_at_rows(w, rows, kv_head, block, queries, scores, w->findings + i * w->most_rows * w->group * finding_size(w));
	}
}

/* Cut the rows in blocks of one sequence each */
static void
cut_rows(AttendWork *w, const int32 *positions)
{
	int64		most = Max(1, GROUP_QUERIES / w->group);
	RowBlock   *last = NULL;

	w->row_blocks = palloc(sizeof(RowBlock) * w->q->rows);
	for (int32 i = 0; i < w->q->rows; i++)
	{
		if (last == NULL || last->n == most || w->sequences[i] != w->sequences[i - 1])
		{
			last = &w->row_blocks[w->n_row_blocks++];
			*last = (RowBlock) {.row = i, .position = positions[i]};
		}
		last->n++;
		w->most_rows = Max(w->most_rows, last->n);
		w->most_blocks = Max(w->most_blocks, count_blocks(last));
	}
}

/* Run every head of every row */
static void
run_heads(AttendWork *w)
{
	const HartConfig *config = &w->ctx->config;
	int64		n_items = w->n_row_blocks * config->n_kv_heads;
	int64		queries = w->most_rows * w->group;
	int64		n_found = n_items * w->most_blocks * queries * finding_size(w);
	int64		block_work = queries * 2 * HART_KV_BLOCK * config->head_dim;
	bool		share_out = w->most_blocks > 1 && n_items < 4 * hart_n_threads() && n_found <= MAX_FINDINGS;
	float	   *memory;

	w->scratch_size = queries * (2 * finding_size(w) + config->head_dim + HART_KV_BLOCK);
	memory = hart_context_scratch(w->ctx, hart_n_threads() * w->scratch_size + (share_out ? n_found : 0));
	w->scratch = memory;
	if (share_out)
	{
		w->findings = memory + hart_n_threads() * w->scratch_size;
		hart_run_parallel(n_items * w->most_blocks, Max(1, PIECE_WORK / block_work), find_task, w);
	}
	hart_run_parallel(n_items, share_out ? n_items : Max(1, PIECE_WORK / (block_work * w->most_blocks)), attend_task, w);
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

/* Ensure that the session may hold what the rows need; remembered prompts make way */
static void
ensure_room(const HartContext *ctx, int32 layer, int64 m, const int32 *sequences, const int32 *positions)
{
	int64		needed = hart_kv_needed_bytes(ctx->cache, layer, m, sequences, positions);
	int64		limit = hart_kv_cache_limit * INT64CONST(1048576);

	while (hart_kv_held_bytes() + needed > limit)
		if (needed == 0 || !hart_prefix_forget_oldest())
			break;
	if (needed > 0 && hart_kv_held_bytes() + needed > limit)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("keys and values exceed hart.kv_cache_limit (%d MB)", hart_kv_cache_limit),
				 errdetail("1000 positions of model \"%s\" take %.1f MB.", ctx->config.name,
						   hart_kv_block_bytes(ctx->cache) / (double) HART_KV_BLOCK * 1000 / 1048576),
				 errhint("Use a shorter prompt, fewer tokens or fewer sequences at a time, or raise hart.kv_cache_limit.")));
}

/* Enter k and v as the rows' positions of the layer's cache, then run every head of every row */
static HartMatrix *
attend(HartContext *ctx, int32 layer, HartMatrix *q, HartMatrix *k, HartMatrix *v, const int32 *sequences,
	   const int32 *positions)
{
	const HartConfig *config = &ctx->config;
	AttendWork	w;

	if (layer < 0 || layer >= config->n_layers)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("layer %d is out of range", layer),
				 errhint("Layers of model \"%s\" are counted from 0 to %d.", config->name, config->n_layers - 1)));
	check_shape(q, q->rows, (int64) config->n_heads * config->head_dim, "queries");
	check_shape(k, q->rows, (int64) config->n_kv_heads * config->head_dim, "keys");
	check_shape(v, q->rows, (int64) config->n_kv_heads * config->head_dim, "values");

	if (ctx->arithmetic != hart_arithmetic())
		ctx->arithmetic = 0;
	ensure_room(ctx, layer, q->rows, sequences, positions);
	w = (AttendWork) {.ctx = ctx, .layer = layer, .group = config->n_heads / config->n_kv_heads, .q = q};
	w.sequences = hart_kv_append(ctx->cache, layer, q->rows, sequences, positions, k->data, v->data);
	w.out = hart_matrix_alloc(q->rows, q->cols);
	if (q->rows > 0)
	{
		cut_rows(&w, positions);
		run_heads(&w);
	}
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
