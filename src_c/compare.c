/*
 * compare.c
 *	  How far two models are apart in what they expect: rows of logits of the one beside those of the other.
 */
#include "matrix.h"

#include <math.h>

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/array.h"

#include "int_array.h"
#include "scores.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(hart_compare_rows);

typedef struct
{
	double		logprob_a;		/* of the target token */
	double		logprob_b;
	double		divergence;		/* sum of p_a log(p_a / p_b), in nats */
	double		error;			/* |b - a| / |a| of the logits */
	bool		same_choice;
} Difference;

typedef struct
{
	HartMatrix *a;
	HartMatrix *b;
	const int32 *targets;
	float	   *scratch;		/* two rows for each worker */
	Difference *differences;
} CompareWork;

/* The first of the largest, as greedy decoding takes it */
static int32
best_of(const float *x, int32 n)
{
	int32		best = 0;

	for (int32 i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

static void
compare_task(void *arg, size_t begin, size_t end, int worker)
{
	const CompareWork *w = arg;
	int32		n = w->a->cols;
	float	   *p = w->scratch + (size_t) worker * 2 * n;

	for (size_t row = begin; row < end; row++)
	{
		const float *a = hart_matrix_row(w->a, row);
		const float *b = hart_matrix_row(w->b, row);
		Difference	d = {.same_choice = best_of(a, n) == best_of(b, n)};
		double		sum;
		double		unused;
		double		lse_b = hart_log_sum_exp(b, p + n, n, &unused);
		double		lse_a = hart_log_sum_exp(a, p, n, &sum);
		double		apart = 0;
		double		size = 0;

		for (int32 i = 0; i < n; i++)
		{
			double		difference = (double) b[i] - a[i];

			/* what cannot follow takes no part, whatever the other model thinks of it */
			if (p[i] != 0)
				d.divergence += p[i] * ((a[i] - lse_a) - (b[i] - lse_b));
			apart += difference * difference;
			size += (double) a[i] * a[i];
		}
		/* rounding can take a sum of nothing below 0, and NaN must stay */
		d.divergence = d.divergence < 0 ? 0 : d.divergence / sum;
		d.error = apart == 0 ? 0 : sqrt(apart / size);
		d.logprob_a = a[w->targets[row]] - lse_a;
		d.logprob_b = b[w->targets[row]] - lse_b;
		w->differences[row] = d;
	}
}

/* hart.compare_rows(a (m, vocab), b (m, vocab), targets int[]) → (logprob_a, logprob_b, divergence, error, same_choice), a row for each of the m */
Datum
hart_compare_rows(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;

	if (SRF_IS_FIRSTCALL())
	{
		CompareWork w = {.a = PG_GETARG_MATRIX(0), .b = PG_GETARG_MATRIX(1)};
		MemoryContext old;
		TupleDesc	tupdesc;

		if (w.a->rows != w.b->rows || w.a->cols != w.b->cols)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("different matrix dimensions (%d, %d) and (%d, %d)", w.a->rows, w.a->cols, w.b->rows, w.b->cols),
					 errhint("Pass the logits of two models of one vocabulary, for the same tokens.")));
		w.targets = hart_int_array_of_rows(PG_GETARG_ARRAYTYPE_P(2), "targets", w.a->rows);
		for (int32 i = 0; i < w.a->rows; i++)
			if (w.targets[i] < 0 || w.targets[i] >= w.a->cols)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("token id %d is out of range", w.targets[i]),
						 errhint("A row of logits has the tokens 0 to %d.", w.a->cols - 1)));
		call = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		call->tuple_desc = BlessTupleDesc(tupdesc);
		w.differences = palloc(sizeof(Difference) * Max(w.a->rows, 1));
		MemoryContextSwitchTo(old);
		w.scratch = palloc_extended(sizeof(float) * hart_n_threads() * 2 * Max((size_t) w.a->cols, 1), MCXT_ALLOC_HUGE);
		hart_run_parallel(w.a->rows, 1, compare_task, &w);
		pfree(w.scratch);
		call->max_calls = w.a->rows;
		call->user_fctx = w.differences;
	}
	call = SRF_PERCALL_SETUP();
	if (call->call_cntr < call->max_calls)
	{
		const Difference *d = (const Difference *) call->user_fctx + call->call_cntr;
		Datum		values[5] = {Float8GetDatum(d->logprob_a), Float8GetDatum(d->logprob_b), Float8GetDatum(d->divergence),
		Float8GetDatum(d->error), BoolGetDatum(d->same_choice)};
		bool		nulls[5] = {false, false, false, false, false};

		SRF_RETURN_NEXT(call, HeapTupleGetDatum(heap_form_tuple(call->tuple_desc, values, nulls)));
	}
	SRF_RETURN_DONE(call);
}
