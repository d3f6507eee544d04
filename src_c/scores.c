/*
 * scores.c
 *	  Rows of logits as log-probabilities: of the tokens that came, and of the best that may come.
 *
 * A row is one piece of work: its logits are read once into the cache of the thread that takes
 * it, for the sum, the entropy and the rank. Log-probabilities are float8, so that sums of many
 * keep their digits.
 */
#include "matrix.h"

#include <math.h>

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/array.h"

#include "int_array.h"
#include "kernels.h"
#include "scores.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(hart_score_rows);
PG_FUNCTION_INFO_V1(hart_top_continuations);

/* How a token fared against the others of the vocabulary */
typedef struct
{
	double		logprob;
	double		entropy;		/* of the row, in nats */
	int32		rank;			/* 1 for the likeliest */
} Score;

typedef struct
{
	int32		row;
	int32		token;
	double		score;
} Continuation;

typedef struct
{
	HartMatrix *logits;			/* (m, n) */
	float	   *scratch;		/* n for each worker */
	const int32 *targets;		/* (m) */
	Score	   *scored;			/* (m) */
	const float8 *so_far;		/* (m): log-probability of what each row follows */
	Continuation *best;			/* (m, k): a heap for each row */
	int32	   *n_best;			/* (m) */
	int32		k;
} ScoreWork;

double
hart_log_sum_exp(const float *x, float *p, int32 n, double *sum)
{
	int32		largest = 0;

	for (int32 i = 1; i < n; i++)
		if (x[i] > x[largest])
			largest = i;
	memcpy(p, x, sizeof(float) * n);
	hart_kernels->softmax(p, n);
	*sum = 0;
	for (int32 i = 0; i < n; i++)
		*sum += p[i];
	return (double) x[largest] - log(p[largest]) + log(*sum);
}

static void
score_task(void *arg, size_t begin, size_t end, int worker)
{
	ScoreWork  *w = arg;
	int32		n = w->logits->cols;
	float	   *p = w->scratch + (size_t) worker * n;

	for (size_t row = begin; row < end; row++)
	{
		const float *x = hart_matrix_row(w->logits, row);
		int32		target = w->targets[row];
		double		sum;
		double		lse = hart_log_sum_exp(x, p, n, &sum);
		Score		s = {.logprob = x[target] - lse, .rank = 1};

		for (int32 i = 0; i < n; i++)
		{
			if (p[i] != 0)
				s.entropy += p[i] * (lse - x[i]);
			/* the first of equal ones is what greedy decoding takes */
			s.rank += x[i] > x[target] || (x[i] == x[target] && i < target);
		}
		s.entropy /= sum;
		w->scored[row] = s;
	}
}

/* Negative when a is the better continuation; the earlier row and token first among equals */
static int
compare_continuations(const void *a, const void *b)
{
	const Continuation *x = a;
	const Continuation *y = b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return x->row != y->row ? (x->row < y->row ? -1 : 1) : (x->token > y->token) - (x->token < y->token);
}

/* Put a continuation at a node and restore the heap below it; the root is the worst */
static void
sift_down(Continuation *heap, int32 n, int32 node, Continuation with)
{
	for (;;)
	{
		int32		child = 2 * node + 1;

		if (child + 1 < n && compare_continuations(&heap[child + 1], &heap[child]) > 0)
			child++;
		if (child >= n || compare_continuations(&with, &heap[child]) >= 0)
			break;
		heap[node] = heap[child];
		node = child;
	}
	heap[node] = with;
}

/* The k best tokens of each row; a token that is impossible, or NaN, is none */
static void
continuations_task(void *arg, size_t begin, size_t end, int worker)
{
	ScoreWork  *w = arg;
	int32		n = w->logits->cols;
	float	   *p = w->scratch + (size_t) worker * n;

	for (size_t row = begin; row < end; row++)
	{
		const float *x = hart_matrix_row(w->logits, row);
		double		sum;
		double		shift = w->so_far[row] - hart_log_sum_exp(x, p, n, &sum);
		Continuation *heap = w->best + row * w->k;
		int32		kept = 0;

		for (int32 i = 0; i < n; i++)
		{
			Continuation c = {(int32) row, i, x[i] + shift};

			if (!(c.score > -INFINITY))
				continue;
			if (kept < w->k)
			{
				heap[kept++] = c;
				if (kept == w->k)
					for (int32 node = kept / 2 - 1; node >= 0; node--)
						sift_down(heap, kept, node, heap[node]);
			}
			else if (c.score > heap[0].score)
				sift_down(heap, kept, 0, c);
		}
		w->n_best[row] = kept;
	}
}

static void
run_rows(ScoreWork *w, HartTask task)
{
	if (w->logits->cols == 0)
		return;
	w->scratch = palloc_extended(sizeof(float) * hart_n_threads() * (size_t) w->logits->cols, MCXT_ALLOC_HUGE);
	hart_run_parallel(w->logits->rows, 1, task, w);
	pfree(w->scratch);
}

/* What both functions begin with: a tuple descriptor for rows that come one call at a time */
static FuncCallContext *
first_call(FunctionCallInfo fcinfo)
{
	FuncCallContext *call = SRF_FIRSTCALL_INIT();
	MemoryContext old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
	TupleDesc	tupdesc;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	call->tuple_desc = BlessTupleDesc(tupdesc);
	MemoryContextSwitchTo(old);
	return call;
}

/* hart.score_rows(logits (m, vocab), targets int[]) → (logprob, rank, entropy), a row for each of the m */
Datum
hart_score_rows(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;

	if (SRF_IS_FIRSTCALL())
	{
		ScoreWork	w = {.logits = PG_GETARG_MATRIX(0)};
		HartMatrix *m = w.logits;

		w.targets = hart_int_array_of_rows(PG_GETARG_ARRAYTYPE_P(1), "targets", m->rows);
		for (int32 i = 0; i < m->rows; i++)
			if (w.targets[i] < 0 || w.targets[i] >= m->cols)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("token id %d is out of range", w.targets[i]),
						 errhint("A row of logits has the tokens 0 to %d.", m->cols - 1)));
		call = first_call(fcinfo);
		w.scored = MemoryContextAlloc(call->multi_call_memory_ctx, sizeof(Score) * Max(m->rows, 1));
		run_rows(&w, score_task);
		call->max_calls = m->rows;
		call->user_fctx = w.scored;
	}
	call = SRF_PERCALL_SETUP();
	if (call->call_cntr < call->max_calls)
	{
		const Score *s = (const Score *) call->user_fctx + call->call_cntr;
		Datum		values[3] = {Float8GetDatum(s->logprob), Int32GetDatum(s->rank), Float8GetDatum(s->entropy)};
		bool		nulls[3] = {false, false, false};

		SRF_RETURN_NEXT(call, HeapTupleGetDatum(heap_form_tuple(call->tuple_desc, values, nulls)));
	}
	SRF_RETURN_DONE(call);
}

/* The numbers of a float8[], one for each of m rows */
static const float8 *
scores_of_rows(ArrayType *array, int32 m)
{
	if (ARR_NDIM(array) > 1 || ARR_HASNULL(array) || ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) != m)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("scores are not one number for each of %d rows", m),
				 errhint("Pass an array of one dimension, without nulls, as long as the matrix has rows.")));
	return (const float8 *) ARR_DATA_PTR(array);
}

/* hart.top_continuations(logits (m, vocab), scores float8[], k) → (row_no, token_id, score): the k largest scores + log-probability, largest first */
Datum
hart_top_continuations(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;

	if (SRF_IS_FIRSTCALL())
	{
		ScoreWork	w = {.logits = PG_GETARG_MATRIX(0), .k = PG_GETARG_INT32(2)};
		HartMatrix *m = w.logits;
		int64		n = 0;

		w.so_far = scores_of_rows(PG_GETARG_ARRAYTYPE_P(1), m->rows);
		if (w.k < 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("k must be at least 1, not %d", w.k),
					 errhint("Ask for one row or more.")));
		w.k = Min(w.k, m->cols);
		call = first_call(fcinfo);
		w.best = MemoryContextAllocHuge(call->multi_call_memory_ctx, sizeof(Continuation) * Max(1, (size_t) w.k * m->rows));
		w.n_best = palloc0(sizeof(int32) * Max(m->rows, 1));
		run_rows(&w, continuations_task);
		for (int32 row = 0; row < m->rows; row++)
		{
			memmove(w.best + n, w.best + (int64) row * w.k, sizeof(Continuation) * w.n_best[row]);
			n += w.n_best[row];
		}
		qsort(w.best, n, sizeof(Continuation), compare_continuations);
		call->max_calls = Min(n, PG_GETARG_INT32(2));
		call->user_fctx = w.best;
	}
	call = SRF_PERCALL_SETUP();
	if (call->call_cntr < call->max_calls)
	{
		const Continuation *c = (const Continuation *) call->user_fctx + call->call_cntr;
		Datum		values[3] = {Int32GetDatum(c->row + 1), Int32GetDatum(c->token), Float8GetDatum(c->score)};
		bool		nulls[3] = {false, false, false};

		SRF_RETURN_NEXT(call, HeapTupleGetDatum(heap_form_tuple(call->tuple_desc, values, nulls)));
	}
	SRF_RETURN_DONE(call);
}
