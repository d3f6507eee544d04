/*
 * layers.c
 *	  The small parts of a layer: norms, rotary embedding, SwiGLU.
 */
#include "context.h"

#include <math.h>

#include "int_array.h"
#include "matrix.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(hart_rms_norm);
PG_FUNCTION_INFO_V1(hart_outer_rms_norm);
PG_FUNCTION_INFO_V1(hart_head_norm);
PG_FUNCTION_INFO_V1(hart_rope);
PG_FUNCTION_INFO_V1(hart_rope_positions);
PG_FUNCTION_INFO_V1(hart_swiglu);

typedef struct
{
	const float *x;				/* (n, width) */
	const float *weight;		/* (width) */
	float	   *out;			/* (n, width) */
	int64		width;
	float		eps;
} NormWork;

static void
norm_task(void *arg, size_t begin, size_t end, int worker)
{
	NormWork   *w = arg;

	for (size_t i = begin; i < end; i++)
		hart_kernels->rms_norm(w->x + i * w->width, w->weight, w->out + i * w->width, w->width, w->eps);
}

/* Norm of every stretch of `width` columns, by a weight of that width */
static HartMatrix *
rms_norm(HartContext *ctx, HartTensor *weight, HartMatrix *x, int64 width)
{
	HartMatrix *out;
	NormWork	w;

	if (weight->rows * weight->cols != width || x->cols % width != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("\"%s\" of " INT64_FORMAT " weights cannot norm %d columns",
						weight->name, weight->rows * weight->cols, x->cols),
				 errhint("Each row of the matrix must have as many columns as the weight.")));
	out = hart_matrix_alloc(x->rows, x->cols);
	w = (NormWork) {x->data, hart_context_values(ctx, weight), out->data, width, ctx->config.rms_norm_eps};
	hart_run_parallel(hart_matrix_elements(x) / Max(width, 1), Max(1, HART_PIECE_ELEMENTS / Max(width, 1)), norm_task, &w);
	return out;
}

/* hart.rms_norm(context, layer int, module text, x (m, dim)) → (m, dim) */
Datum
hart_rms_norm(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	HartModule *module = hart_context_module(ctx, PG_GETARG_INT32(1), PG_GETARG_TEXT_PP(2), false);
	HartMatrix *x = PG_GETARG_MATRIX(3);

	PG_RETURN_MATRIX(rms_norm(ctx, module->weight, x, x->cols));
}

/* hart.rms_norm(context, module text, x (m, dim)) → (m, dim), for what lies outside the layers: model.norm */
Datum
hart_outer_rms_norm(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	HartModule *module = hart_context_outer_module(ctx, PG_GETARG_TEXT_PP(1));
	HartMatrix *x = PG_GETARG_MATRIX(2);

	PG_RETURN_MATRIX(rms_norm(ctx, module->weight, x, x->cols));
}

/* hart.head_norm(context, layer int, module text, x (m, heads * head_dim)): x itself when the family has no such norm */
Datum
hart_head_norm(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	HartModule *module = hart_context_module(ctx, PG_GETARG_INT32(1), PG_GETARG_TEXT_PP(2), true);

	if (module == NULL || module->weight == NULL)
		PG_RETURN_DATUM(PG_GETARG_DATUM(3));
	PG_RETURN_MATRIX(rms_norm(ctx, module->weight, PG_GETARG_MATRIX(3), ctx->config.head_dim));
}

static float *
grow_floats(HartContext *ctx, float *old, int64 n)
{
	return old ? repalloc_huge(old, sizeof(float) * n) : MemoryContextAllocHuge(ctx->memory, sizeof(float) * n);
}

/* Angles of the positions before n, computed in float32 as transformers does */
static void
extend_rope_table(HartContext *ctx, int64 n)
{
	HartRopeTable *rope = &ctx->rope;
	int			half = ctx->config.head_dim / 2;
	int64		room;

	if (n <= rope->n_positions)
		return;
	room = Max(n, Max(HART_KV_BLOCK, 2 * rope->n_positions));
	rope->cos = grow_floats(ctx, rope->cos, room * half);
	rope->sin = grow_floats(ctx, rope->sin, room * half);
	for (int64 pos = rope->n_positions; pos < room; pos++)
		for (int i = 0; i < half; i++)
		{
			float		angle = (float) pos * ctx->config.rope_inv_freq[i];

			rope->cos[pos * half + i] = cosf(angle);
			rope->sin[pos * half + i] = sinf(angle);
		}
	rope->n_positions = room;
}

static void
refuse_positions(const HartContext *ctx, int64 first, int64 last)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("positions " INT64_FORMAT " to " INT64_FORMAT " are outside the context length of %d",
					first, last, ctx->config.max_positions),
			 errhint("Use a shorter prompt or fewer tokens.")));
}

void
hart_check_positions(const HartContext *ctx, const int32 *positions, int n)
{
	for (int i = 0; i < n; i++)
		if (positions[i] < 0 || positions[i] >= ctx->config.max_positions)
			refuse_positions(ctx, positions[i], positions[i]);
}

const int32 *
hart_positions_from(const HartContext *ctx, int32 pos, int n)
{
	int32	   *positions = palloc(sizeof(int32) * Max(n, 1));

	if (pos < 0 || (int64) pos + n > ctx->config.max_positions)
		refuse_positions(ctx, pos, (int64) pos + n - 1);
	for (int i = 0; i < n; i++)
		positions[i] = pos + i;
	return positions;
}

typedef struct
{
	const HartContext *ctx;
	HartMatrix *x;
	const int32 *positions;
	HartMatrix *out;
} RopeWork;

/* Items are rows */
static void
rope_task(void *arg, size_t begin, size_t end, int worker)
{
	RopeWork   *w = arg;
	const HartRopeTable *rope = &w->ctx->rope;
	int			head_dim = w->ctx->config.head_dim;
	int			half = head_dim / 2;

	for (size_t i = begin; i < end; i++)
	{
		const float *cos = rope->cos + (int64) w->positions[i] * half;
		const float *sin = rope->sin + (int64) w->positions[i] * half;

		for (int32 head = 0; head < w->x->cols; head += head_dim)
		{
			const float *in = hart_matrix_row(w->x, i) + head;
			float	   *turned = hart_matrix_row(w->out, i) + head;

			for (int j = 0; j < half; j++)
			{
				turned[j] = in[j] * cos[j] - in[j + half] * sin[j];
				turned[j + half] = in[j + half] * cos[j] + in[j] * sin[j];
			}
		}
	}
}

/*
 * Su et al., "RoFormer" (2021), in the layout of transformers: dimension i of a head is
 * paired with dimension i + head_dim / 2.
 */
static HartMatrix *
rope(HartContext *ctx, HartMatrix *x, const int32 *positions)
{
	int			head_dim = ctx->config.head_dim;
	RopeWork	w = {.ctx = ctx, .x = x, .positions = positions};

	if (x->cols % head_dim != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("%d columns are not a whole number of heads of %d", x->cols, head_dim),
				 errhint("Pass the queries or keys of a layer.")));
	for (int32 i = 0; i < x->rows; i++)
		extend_rope_table(ctx, (int64) positions[i] + 1);
	w.out = hart_matrix_alloc(x->rows, x->cols);
	hart_run_parallel(x->rows, Max(1, HART_PIECE_ELEMENTS / Max(x->cols, 1)), rope_task, &w);
	return w.out;
}

/* hart.rope(context, x (m, heads * head_dim), pos int) → the same shape, row i turned to position pos + i */
Datum
hart_rope(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	HartMatrix *x = PG_GETARG_MATRIX(1);

	PG_RETURN_MATRIX(rope(ctx, x, hart_positions_from(ctx, PG_GETARG_INT32(2), x->rows)));
}

/* hart.rope(context, x (m, heads * head_dim), positions int[]) → the same shape, row i turned to position positions[i] */
Datum
hart_rope_positions(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	HartMatrix *x = PG_GETARG_MATRIX(1);
	const int32 *positions = hart_int_array_of_rows(PG_GETARG_ARRAYTYPE_P(2), "positions", x->rows);

	hart_check_positions(ctx, positions, x->rows);
	PG_RETURN_MATRIX(rope(ctx, x, positions));
}

typedef struct
{
	const float *gate;
	const float *up;
	float	   *out;
} SwigluWork;

static void
swiglu_task(void *arg, size_t begin, size_t end, int worker)
{
	SwigluWork *w = arg;

	hart_kernels->swiglu(w->gate + begin, w->up + begin, w->out + begin, end - begin);
}

/* hart.swiglu(gate (m, n), up (m, n)) → silu(gate) * up (Shazeer, "GLU Variants Improve Transformer", 2020) */
Datum
hart_swiglu(PG_FUNCTION_ARGS)
{
	HartMatrix *gate = PG_GETARG_MATRIX(0);
	HartMatrix *up = PG_GETARG_MATRIX(1);
	HartMatrix *out;
	SwigluWork	w;

	if (gate->rows != up->rows || gate->cols != up->cols)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("different matrix dimensions %d x %d and %d x %d", gate->rows, gate->cols, up->rows, up->cols),
				 errhint("Gate and up projection must have the same shape.")));
	out = hart_matrix_to_write(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1));
	w = (SwigluWork) {gate->data, up->data, out->data};
	hart_run_parallel(hart_matrix_elements(gate), HART_PIECE_ELEMENTS / 2, swiglu_task, &w);
	PG_RETURN_MATRIX(out);
}
