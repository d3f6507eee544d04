/*
 * sampling.c
 *	  From a row of logits to the next token: what is added to logits and forbidden, then
 *	  warpers.c.
 *
 * The order is that of transformers: logit_bias, repetition_penalty, presence_penalty and
 * frequency_penalty (which transformers has not: as in OpenAI's API), min_tokens, the mask of
 * a constraint; then temperature, top_k, top_p, min_p, typical_p and the draw. With
 * temperature 0 the largest is taken instead, the first of equal ones.
 */
#include "matrix.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "kernels.h"
#include "sampling_options.h"

PG_FUNCTION_INFO_V1(hart_sample);
PG_FUNCTION_INFO_V1(hart_candidates);
PG_FUNCTION_INFO_V1(hart_random_seed);

/* Token ids in an array of SQL */
typedef struct
{
	const int32 *ids;
	int			n;
} Tokens;

/* Token ids below n_logits; none where the argument is NULL */
static Tokens
getarg_tokens(FunctionCallInfo fcinfo, int arg, int32 n_logits)
{
	ArrayType  *array;
	Tokens		t;

	if (PG_ARGISNULL(arg))
		return (Tokens) {NULL, 0};
	array = PG_GETARG_ARRAYTYPE_P(arg);
	t = (Tokens) {(const int32 *) ARR_DATA_PTR(array), ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array))};
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("token ids must not be null"),
				 errhint("Remove the nulls, with array_remove for example.")));
	for (int i = 0; i < t.n; i++)
		if (t.ids[i] < 0 || t.ids[i] >= n_logits)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("token id %d is out of range", t.ids[i]),
					 errhint("The model's token ids are 0 to %d.", n_logits - 1)));
	return t;
}

static void
add_bias(float *scores, int32 n, Jsonb *bias)
{
	JsonbIterator *it = JsonbIteratorInit(&bias->root);
	JsonbIteratorToken what;
	JsonbValue	v;
	int32		token = 0;

	while ((what = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (what == WJB_KEY)
		{
			char	   *key = pnstrdup(v.val.string.val, v.val.string.len);

			token = strtol(key, NULL, 10);
			if (token < 0 || token >= n)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("token id %s of logit_bias is out of range", key),
						 errhint("The model's token ids are 0 to %d.", n - 1)));
			pfree(key);
		}
		else if (what == WJB_VALUE && v.type == jbvNumeric)
			scores[token] += (float) DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(v.val.numeric)));
		else if (what == WJB_VALUE)
			scores[token] = -INFINITY;	/* false */
	}
}

/* repetition_penalty once for every token of the prompt or generated; the others for those generated */
static void
add_penalties(float *scores, int32 n, const HartSamplingOptions *o, Tokens prompt, Tokens generated)
{
	bool	   *seen = palloc0(n);
	float		penalty = (float) o->repetition_penalty;

	if (o->repetition_penalty != 1)
		for (int i = 0; i < prompt.n + generated.n; i++)
		{
			int32		token = i < prompt.n ? prompt.ids[i] : generated.ids[i - prompt.n];

			if (!seen[token])
				scores[token] = scores[token] < 0 ? scores[token] * penalty : scores[token] / penalty;
			seen[token] = true;
		}
	memset(seen, false, n);
	for (int i = 0; i < generated.n; i++)
	{
		scores[generated.ids[i]] -= (float) (o->frequency_penalty + (seen[generated.ids[i]] ? 0 : o->presence_penalty));
		seen[generated.ids[i]] = true;
	}
	pfree(seen);
}

static void
forbid_masked(float *scores, int32 n, bytea *mask)
{
	const uint8 *bits = (const uint8 *) VARDATA_ANY(mask);

	if ((int64) VARSIZE_ANY_EXHDR(mask) != ((int64) n + 7) / 8)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mask of %d bytes does not fit %d tokens", (int) VARSIZE_ANY_EXHDR(mask), n),
				 errhint("A mask has one bit for each token of the vocabulary.")));
	for (int32 i = 0; i < n; i++)
		if (!(bits[i / 8] >> (i % 8) & 1))
			scores[i] = -INFINITY;
}

/* One choice to be made */
typedef struct
{
	HartSamplingOptions options;
	const float *logits;		/* as the model gave them */
	float	   *scores;			/* after what is added and forbidden; the same array when that is nothing */
	int32		n;
	int32		step;			/* tokens generated before */
} Choice;

static HartMatrix *
getarg_logits(FunctionCallInfo fcinfo, int arg, int32 row_no)
{
	HartMatrix *m = PG_GETARG_MATRIX(arg);

	if (row_no < 1 || row_no > m->rows)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("row %d of a matrix of %d rows", row_no, m->rows),
				 errhint("Rows are counted from 1.")));
	return m;
}

/* Arguments that both functions begin with: logits, options, prompt, tokens, ending, mask; applied */
static Choice
getarg_choice(FunctionCallInfo fcinfo, int32 row_no)
{
	Choice		c;
	HartMatrix *m;
	Tokens		prompt;
	Tokens		generated;
	Tokens		ending;
	bool		penalised;
	bool		unfinished;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("logits and options must not be null"),
				 errhint("Make them by hart.forward and hart.generation_options.")));
	m = getarg_logits(fcinfo, 0, row_no);
	c.options = hart_getarg_options(fcinfo, 1);
	c.logits = hart_matrix_row(m, row_no - 1);
	c.n = m->cols;
	prompt = getarg_tokens(fcinfo, 2, c.n);
	generated = getarg_tokens(fcinfo, 3, c.n);
	ending = getarg_tokens(fcinfo, 4, c.n);
	c.step = generated.n;

	penalised = c.options.repetition_penalty != 1 || c.options.presence_penalty != 0 || c.options.frequency_penalty != 0;
	unfinished = generated.n < c.options.min_tokens && ending.n > 0;
	c.scores = (float *) c.logits;
	if (c.options.logit_bias || penalised || unfinished || !PG_ARGISNULL(5))
	{
		c.scores = palloc(sizeof(float) * Max(c.n, 1));
		memcpy(c.scores, c.logits, sizeof(float) * c.n);
	}
	if (c.options.logit_bias)
		add_bias(c.scores, c.n, c.options.logit_bias);
	if (penalised)
		add_penalties(c.scores, c.n, &c.options, prompt, generated);
	if (unfinished)
		for (int i = 0; i < ending.n; i++)
			c.scores[ending.ids[i]] = -INFINITY;
	if (!PG_ARGISNULL(5))
		forbid_masked(c.scores, c.n, PG_GETARG_BYTEA_PP(5));
	return c;
}

static void
no_token(const Choice *c)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_EXCEPTION),
			 errmsg("no token may come next: all of the %d are forbidden or have no number as logit", c->n),
			 errhint("Check what logit_bias, min_tokens and the constraint forbid, and the weights of the model for NaN and infinity.")));
}

/* Scores that likeliest looks at together, and how many of them side by side */
#define SCORES_AT_ONCE 256
#define MAXIMA 16

/* The largest of n <= SCORES_AT_ONCE scores, NaN left out; -inf when there is none */
static float
largest(const float *scores, int32 n)
{
	float		max[MAXIMA];
	int32		i = 0;

	for (int j = 0; j < MAXIMA; j++)
		max[j] = -INFINITY;
	/* compilers make vectors of this */
	for (; i + MAXIMA <= n; i += MAXIMA)
		for (int j = 0; j < MAXIMA; j++)
			max[j] = scores[i + j] > max[j] ? scores[i + j] : max[j];
	for (; i < n; i++)
		max[0] = scores[i] > max[0] ? scores[i] : max[0];
	for (int j = 1; j < MAXIMA; j++)
		max[0] = max[j] > max[0] ? max[j] : max[0];
	return max[0];
}

/* The largest score, the first of equal ones; -1 when none is above -inf */
static int32
likeliest(const float *scores, int32 n)
{
	int32		best = -1;
	float		best_score = -INFINITY;

	for (int32 i = 0; i < n; i += SCORES_AT_ONCE)
	{
		float		max = largest(scores + i, Min(SCORES_AT_ONCE, n - i));

		if (max > best_score)
		{
			best_score = max;
			for (best = i; scores[best] != max;)
				best++;
		}
	}
	return best;
}

/* What may come next when it is drawn */
static HartCandidates
warped_candidates(const Choice *c)
{
	size_t		n = Max(c->n, 1);
	HartCandidates candidates = {c->n, palloc(sizeof(float) * n), palloc(sizeof(float) * n), palloc(sizeof(float) * n), palloc(sizeof(HartRanked) * n)};

	memcpy(candidates.scaled, c->scores, sizeof(float) * c->n);
	if (hart_warp(&c->options.warpers, &candidates) == 0)
		no_token(c);
	pfree(candidates.key);
	pfree(candidates.ranked);
	return candidates;
}

/* The logarithm of the softmax of the model's own logits, NaN left out */
static double
log_probability(const Choice *c, int32 token)
{
	float	   *p;
	float		max;
	float		sum;
	int32		best = likeliest(c->logits, c->n);

	if (best < 0 || isnan(c->logits[token]))
		return NAN;
	if (isinf(c->logits[best]))
	{
		int32		n_best = 0;

		for (int32 i = 0; i < c->n; i++)
			n_best += c->logits[i] == c->logits[best];
		return isinf(c->logits[token]) && c->logits[token] > 0 ? -log(n_best) : -INFINITY;
	}
	p = palloc(sizeof(float) * c->n);
	for (int32 i = 0; i < c->n; i++)
		p[i] = isnan(c->logits[i]) ? -INFINITY : c->logits[i];
	sum = hart_kernels->exp_sum(p, c->n, &max);
	pfree(p);
	return (double) c->logits[token] - max - log(sum);
}

/*
 * hart.sample(logits, options, prompt int[], tokens int[], ending int[], mask bytea, seed bigint, sequence int, row_no int)
 * → (token int, logprob float8)
 */
Datum
hart_sample(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Choice		c;
	HartCandidates candidates;
	int32		token;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	for (int i = 6; i <= 8; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("seed, sequence and row number must not be null"),
					 errhint("Use any number as seed, 0 as sequence and 1 as row number.")));
	c = getarg_choice(fcinfo, PG_GETARG_INT32(8));
	if (c.options.warpers.temperature == 0)
	{
		token = likeliest(c.scores, c.n);
		if (token < 0)
			no_token(&c);
	}
	else
	{
		candidates = warped_candidates(&c);
		token = hart_draw(&candidates, hart_uniform(PG_GETARG_INT64(6), PG_GETARG_INT32(7), c.step));
	}
	values[0] = Int32GetDatum(token);
	values[1] = Float8GetDatum(log_probability(&c, token));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}

/* A row of hart.candidates */
typedef struct
{
	int32		token;
	double		probability;
} Candidate;

static int
compare_candidates(const void *a, const void *b)
{
	const Candidate *x = a;
	const Candidate *y = b;

	return x->probability > y->probability ? -1 : x->probability < y->probability ? 1 : x->token - y->token;
}

/* The rows of hart.candidates, likeliest first */
static Candidate *
list_candidates(const Choice *c, uint64 *n)
{
	Candidate  *list = palloc(sizeof(Candidate) * Max(c->n, 1));
	HartCandidates candidates;
	double		total;

	*n = 0;
	if (c->options.warpers.temperature == 0)
	{
		list[(*n)++] = (Candidate) {likeliest(c->scores, c->n), 1};
		if (list[0].token < 0)
			no_token(c);
		return list;
	}
	candidates = warped_candidates(c);
	total = hart_total_weight(&candidates);
	for (int32 i = 0; i < c->n; i++)
		if (candidates.scaled[i] > -INFINITY)
			list[(*n)++] = (Candidate) {i, candidates.weight[i] / total};
	qsort(list, *n, sizeof(Candidate), compare_candidates);
	return list;
}

/* hart.candidates(logits, options, prompt int[], tokens int[], ending int[], mask bytea) → (token int, probability float8) */
Datum
hart_candidates(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	Candidate  *candidate;

	if (SRF_IS_FIRSTCALL())
	{
		TupleDesc	tupdesc;
		Choice		c;
		MemoryContext old;

		call = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		call->tuple_desc = BlessTupleDesc(tupdesc);
		c = getarg_choice(fcinfo, 1);
		call->user_fctx = list_candidates(&c, &call->max_calls);
		MemoryContextSwitchTo(old);
	}
	call = SRF_PERCALL_SETUP();
	candidate = (Candidate *) call->user_fctx + call->call_cntr;
	if (call->call_cntr < call->max_calls)
	{
		Datum		values[2] = {Int32GetDatum(candidate->token), Float8GetDatum(candidate->probability)};
		bool		nulls[2] = {false, false};

		SRF_RETURN_NEXT(call, HeapTupleGetDatum(heap_form_tuple(call->tuple_desc, values, nulls)));
	}
	SRF_RETURN_DONE(call);
}

/* hart.random_seed() → bigint */
Datum
hart_random_seed(PG_FUNCTION_ARGS)
{
	int64		seed;

	if (!pg_strong_random(&seed, sizeof(seed)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not obtain random numbers"),
				 errhint("Name a seed.")));
	PG_RETURN_INT64(seed);
}
