/*
 * vector.c
 *	  Vector maths in SQL, on real[] and on hart.matrix.
 *
 * A matrix counts as the vector of all its numbers where a function wants a vector.
 * Sums are taken in float4 by the kernels and returned as float8.
 */
#include "matrix.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"

#include "kernels.h"
#include "settings.h"
#include "top_k.h"

PG_FUNCTION_INFO_V1(hart_array_dot);
PG_FUNCTION_INFO_V1(hart_array_norm);
PG_FUNCTION_INFO_V1(hart_array_cosine);
PG_FUNCTION_INFO_V1(hart_array_l2_distance);
PG_FUNCTION_INFO_V1(hart_array_add);
PG_FUNCTION_INFO_V1(hart_array_scale);
PG_FUNCTION_INFO_V1(hart_matrix_dot);
PG_FUNCTION_INFO_V1(hart_matrix_norm);
PG_FUNCTION_INFO_V1(hart_matrix_cosine);
PG_FUNCTION_INFO_V1(hart_matrix_l2_distance);
PG_FUNCTION_INFO_V1(hart_matrix_add);
PG_FUNCTION_INFO_V1(hart_matrix_scale);
PG_FUNCTION_INFO_V1(hart_matrix_multiply);
PG_FUNCTION_INFO_V1(hart_matrix_transpose);
PG_FUNCTION_INFO_V1(hart_matrix_argmax);
PG_FUNCTION_INFO_V1(hart_matrix_top_k);

/* n numbers, wherever they lie */
typedef struct
{
	const float *data;
	size_t		n;
} Vector;

static ArrayType *
getarg_array(FunctionCallInfo fcinfo, int arg)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(arg);

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("array has %d dimensions", ARR_NDIM(array)),
				 errhint("Pass an array of one dimension, or cast it to hart.matrix.")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("array must not contain nulls"),
				 errhint("Replace the nulls, for example by NaN.")));
	return array;
}

static Vector
array_vector(FunctionCallInfo fcinfo, int arg)
{
	ArrayType  *array = getarg_array(fcinfo, arg);

	return (Vector) {(float *) ARR_DATA_PTR(array), ARR_NDIM(array) == 0 ? 0 : ARR_DIMS(array)[0]};
}

static Vector
matrix_vector(FunctionCallInfo fcinfo, int arg)
{
	HartMatrix *m = PG_GETARG_MATRIX(arg);

	return (Vector) {m->data, hart_matrix_elements(m)};
}

/* Ensure same dimensions */
static void
check_lengths(Vector a, Vector b)
{
	if (a.n != b.n)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("different vector dimensions %zu and %zu", a.n, b.n),
				 errhint("Both vectors must have the same number of elements.")));
}

/* Ensure same rows and columns */
static void
check_shapes(const HartMatrix *a, const HartMatrix *b)
{
	if (a->rows != b->rows || a->cols != b->cols)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("different matrix dimensions %d x %d and %d x %d", a->rows, a->cols, b->rows, b->cols),
				 errhint("Both matrices must have the same number of rows and columns.")));
}

static double
dot(Vector a, Vector b)
{
	check_lengths(a, b);
	return hart_kernels->dot(a.data, b.data, a.n);
}

static double
norm(Vector a)
{
	return sqrt(hart_kernels->dot(a.data, a.data, a.n));
}

/* NaN when one of the vectors is zero, as the angle is then undefined */
static double
cosine(Vector a, Vector b)
{
	double		aa = dot(a, a);
	double		bb = dot(b, b);
	double		c = dot(a, b) / sqrt(aa * bb);

	/* rounding must not leave the range of a cosine */
	return c > 1 ? 1 : c < -1 ? -1 : c;
}

static double
l2_distance(Vector a, Vector b)
{
	double		sum = 0;

	check_lengths(a, b);
	for (size_t i = 0; i < a.n; i++)
	{
		double		d = (double) a.data[i] - b.data[i];

		sum += d * d;
	}
	return sqrt(sum);
}

Datum
hart_array_dot(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(dot(array_vector(fcinfo, 0), array_vector(fcinfo, 1)));
}

Datum
hart_array_norm(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(norm(array_vector(fcinfo, 0)));
}

Datum
hart_array_cosine(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(cosine(array_vector(fcinfo, 0), array_vector(fcinfo, 1)));
}

Datum
hart_array_l2_distance(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(l2_distance(array_vector(fcinfo, 0), array_vector(fcinfo, 1)));
}

Datum
hart_array_add(PG_FUNCTION_ARGS)
{
	ArrayType  *out = DatumGetArrayTypePCopy(PointerGetDatum(getarg_array(fcinfo, 0)));
	Vector		a = array_vector(fcinfo, 0);
	Vector		b = array_vector(fcinfo, 1);

	check_lengths(a, b);
	for (size_t i = 0; i < a.n; i++)
		((float *) ARR_DATA_PTR(out))[i] = a.data[i] + b.data[i];
	PG_RETURN_ARRAYTYPE_P(out);
}

Datum
hart_array_scale(PG_FUNCTION_ARGS)
{
	ArrayType  *out = DatumGetArrayTypePCopy(PointerGetDatum(getarg_array(fcinfo, 0)));
	Vector		a = array_vector(fcinfo, 0);
	float4		factor = PG_GETARG_FLOAT4(1);

	for (size_t i = 0; i < a.n; i++)
		((float *) ARR_DATA_PTR(out))[i] = a.data[i] * factor;
	PG_RETURN_ARRAYTYPE_P(out);
}

Datum
hart_matrix_dot(PG_FUNCTION_ARGS)
{
	check_shapes(PG_GETARG_MATRIX(0), PG_GETARG_MATRIX(1));
	PG_RETURN_FLOAT8(dot(matrix_vector(fcinfo, 0), matrix_vector(fcinfo, 1)));
}

Datum
hart_matrix_norm(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(norm(matrix_vector(fcinfo, 0)));
}

Datum
hart_matrix_cosine(PG_FUNCTION_ARGS)
{
	check_shapes(PG_GETARG_MATRIX(0), PG_GETARG_MATRIX(1));
	PG_RETURN_FLOAT8(cosine(matrix_vector(fcinfo, 0), matrix_vector(fcinfo, 1)));
}

Datum
hart_matrix_l2_distance(PG_FUNCTION_ARGS)
{
	check_shapes(PG_GETARG_MATRIX(0), PG_GETARG_MATRIX(1));
	PG_RETURN_FLOAT8(l2_distance(matrix_vector(fcinfo, 0), matrix_vector(fcinfo, 1)));
}

typedef struct
{
	const float *a;
	const float *b;
	float	   *out;
} AddWork;

static void
add_task(void *arg, size_t begin, size_t end, int worker)
{
	AddWork	   *w = arg;

	hart_kernels->add(w->a + begin, w->b + begin, w->out + begin, end - begin);
}

Datum
hart_matrix_add(PG_FUNCTION_ARGS)
{
	HartMatrix *a = PG_GETARG_MATRIX(0);
	HartMatrix *b = PG_GETARG_MATRIX(1);
	HartMatrix *out;
	AddWork		w;

	check_shapes(a, b);
	out = hart_matrix_to_write(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1));
	w = (AddWork) {a->data, b->data, out->data};
	hart_run_parallel(hart_matrix_elements(a), HART_PIECE_ELEMENTS, add_task, &w);
	PG_RETURN_MATRIX(out);
}

Datum
hart_matrix_scale(PG_FUNCTION_ARGS)
{
	HartMatrix *a = PG_GETARG_MATRIX(0);
	float4		factor = PG_GETARG_FLOAT4(1);
	HartMatrix *out = hart_matrix_alloc(a->rows, a->cols);

	for (size_t i = 0; i < hart_matrix_elements(a); i++)
		out->data[i] = a->data[i] * factor;
	PG_RETURN_MATRIX(out);
}

static HartMatrix *
transpose(HartMatrix *a)
{
	HartMatrix *out = hart_matrix_alloc(a->cols, a->rows);

	for (int32 i = 0; i < a->rows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int32 j = 0; j < a->cols; j++)
			out->data[(size_t) j * a->rows + i] = hart_matrix_row(a, i)[j];
	}
	return out;
}

Datum
hart_matrix_transpose(PG_FUNCTION_ARGS)
{
	PG_RETURN_MATRIX(transpose(PG_GETARG_MATRIX(0)));
}

/* One product, cut in columns of the result */
typedef struct
{
	HartMatrix *a;				/* (m, k) */
	HartMatrix *bt;				/* (n, k): b transposed */
	HartMatrix *out;			/* (m, n) */
} MultiplyWork;

#define MULTIPLY_GRAIN 64		/* columns of the result a piece */

static void
multiply_task(void *arg, size_t begin, size_t end, int worker)
{
	MultiplyWork *w = arg;

	hart_kernels->gemm_nt(w->a->rows, end - begin, w->a->cols,
						  w->a->data, w->a->cols,
						  hart_matrix_row(w->bt, begin), w->bt->cols,
						  w->out->data + begin, w->out->cols,
						  false);
}

/* hart.matmul(a (m, k), b (k, n)) → (m, n) */
Datum
hart_matrix_multiply(PG_FUNCTION_ARGS)
{
	HartMatrix *a = PG_GETARG_MATRIX(0);
	HartMatrix *b = PG_GETARG_MATRIX(1);
	MultiplyWork w = {.a = a};

	if (a->cols != b->rows)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("cannot multiply a matrix of %d columns by one of %d rows", a->cols, b->rows),
				 errhint("The first matrix must have as many columns as the second has rows.")));
	w.out = hart_matrix_alloc(a->rows, b->cols);
	if (a->cols == 0)
		memset(w.out->data, 0, hart_matrix_elements(w.out) * sizeof(float));
	else if (hart_matrix_elements(w.out) > 0)
	{
		w.bt = transpose(b);
		hart_run_parallel(b->cols, MULTIPLY_GRAIN, multiply_task, &w);
		hart_matrix_free(w.bt);
	}
	PG_RETURN_MATRIX(w.out);
}

/* Ensure one row */
static void
check_one_row(const HartMatrix *m)
{
	if (m->rows != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("matrix has %d rows", m->rows),
				 errhint("Pass a matrix of one row, for example by hart.last_row.")));
}

/* hart.argmax(matrix of one row) → column of its largest number, from 0 as token ids are; the first of equal ones */
Datum
hart_matrix_argmax(PG_FUNCTION_ARGS)
{
	HartMatrix *m = PG_GETARG_MATRIX(0);
	int32		best = -1;

	check_one_row(m);
	for (int32 i = 0; i < m->cols; i++)
		if (!isnan(m->data[i]) && (best < 0 || m->data[i] > m->data[best]))
			best = i;
	if (best < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("matrix has no number to choose: all of its %d columns are NaN", m->cols),
				 errhint("Check the weights of the model for NaN and infinity.")));
	PG_RETURN_INT32(best);
}

typedef struct
{
	int32	   *columns;
	float	   *values;
} TopK;

/* hart.top_k(matrix of one row, k) → (index, value) */
Datum
hart_matrix_top_k(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	TopK	   *top;

	if (SRF_IS_FIRSTCALL())
	{
		HartMatrix *m = PG_GETARG_MATRIX(0);
		int32		k = PG_GETARG_INT32(1);
		TupleDesc	tupdesc;
		MemoryContext old;

		check_one_row(m);
		if (k < 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("k must be at least 1, not %d", k),
					 errhint("Ask for one row or more.")));
		call = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		call->tuple_desc = BlessTupleDesc(tupdesc);
		call->max_calls = Min(k, m->cols);
		top = palloc(sizeof(TopK));
		top->columns = hart_top_k(m->data, m->cols, (int32) call->max_calls);
		top->values = palloc(sizeof(float) * Max(call->max_calls, 1));
		for (uint64 i = 0; i < call->max_calls; i++)
			top->values[i] = m->data[top->columns[i]];
		call->user_fctx = top;
		MemoryContextSwitchTo(old);
	}
	call = SRF_PERCALL_SETUP();
	top = call->user_fctx;
	if (call->call_cntr < call->max_calls)
	{
		Datum		values[2] = {Int32GetDatum(top->columns[call->call_cntr]), Float4GetDatum(top->values[call->call_cntr])};
		bool		nulls[2] = {false, false};

		SRF_RETURN_NEXT(call, HeapTupleGetDatum(heap_form_tuple(call->tuple_desc, values, nulls)));
	}
	SRF_RETURN_DONE(call);
}
