/*
 * matrix.c
 *	  Text and binary form of hart.matrix, and its casts from and to arrays.
 */
#include "matrix.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/array.h"

#include "int_array.h"
#include "large_memory.h"

PG_FUNCTION_INFO_V1(hart_matrix_in);
PG_FUNCTION_INFO_V1(hart_matrix_out);
PG_FUNCTION_INFO_V1(hart_matrix_recv);
PG_FUNCTION_INFO_V1(hart_matrix_send);
PG_FUNCTION_INFO_V1(hart_array_to_matrix);
PG_FUNCTION_INFO_V1(hart_matrix_to_array);
PG_FUNCTION_INFO_V1(hart_matrix_rows);
PG_FUNCTION_INFO_V1(hart_matrix_cols);
PG_FUNCTION_INFO_V1(hart_matrix_row_array);
PG_FUNCTION_INFO_V1(hart_matrix_last_row);
PG_FUNCTION_INFO_V1(hart_matrix_pick_rows);

HartMatrix *
hart_matrix_alloc(int64 rows, int64 cols)
{
	HartMatrix *m;
	size_t		size;

	if (rows < 0 || cols < 0 || rows > PG_INT32_MAX || cols > PG_INT32_MAX ||
		(cols > 0 && rows > (int64) HART_MATRIX_MAX_ELEMENTS / cols))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("matrix of " INT64_FORMAT " rows and " INT64_FORMAT " columns is too large", rows, cols),
				 errhint("A matrix holds at most %zu numbers.", (size_t) HART_MATRIX_MAX_ELEMENTS)));
	size = offsetof(HartMatrix, data) + sizeof(float) * (size_t) rows * (size_t) cols;
	if (size < HART_LARGE_BYTES)
	{
		m = palloc(size);
		m->in_large_memory = 0;
	}
	else
		m = hart_large_matrix_alloc(size);
	SET_VARSIZE(m, size);
	m->rows = (int32) rows;
	m->cols = (int32) cols;
	return m;
}

/* Numbers read so far, row by row. */
typedef struct
{
	const char *input;
	const char *at;
	float	   *data;
	size_t		n;
	size_t		capacity;
} MatrixParser;

static void
syntax_error(const MatrixParser *p)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("invalid input syntax for type %s: \"%.100s\"", "hart.matrix", p->input),
			 errhint("A matrix is written as rows of numbers, for example [[1,2],[3,4]].")));
}

static void
skip_space(MatrixParser *p)
{
	while (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')
		p->at++;
}

/* Take the character if it comes next */
static bool
accept_char(MatrixParser *p, char c)
{
	skip_space(p);
	if (*p->at != c)
		return false;
	p->at++;
	return true;
}

/* number ::= what strtof takes: decimal, NaN, Infinity */
static void
parse_number(MatrixParser *p)
{
	char	   *end;
	float		value;

	skip_space(p);
	errno = 0;
	value = strtof(p->at, &end);
	if (end == p->at)
		syntax_error(p);
	if (errno == ERANGE && isinf(value))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("\"%.*s\" is out of range for type real", (int) Min(end - p->at, 40), p->at),
				 errhint("The largest magnitude of a float4 is about 3.4e38.")));
	if (p->n == p->capacity)
	{
		if (p->capacity >= HART_MATRIX_MAX_ELEMENTS / 2)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("matrix has too many numbers"),
					 errhint("A matrix holds at most %zu numbers.", (size_t) HART_MATRIX_MAX_ELEMENTS)));
		p->capacity *= 2;
		p->data = repalloc(p->data, p->capacity * sizeof(float));
		CHECK_FOR_INTERRUPTS();
	}
	p->data[p->n++] = value;
	p->at = end;
}

/* row ::= '[]' | '[' number (',' number)* ']' with the opening bracket already taken; returns its number of columns */
static size_t
parse_row(MatrixParser *p)
{
	size_t		start = p->n;

	if (accept_char(p, ']'))
		return 0;
	do
		parse_number(p);
	while (accept_char(p, ','));
	if (!accept_char(p, ']'))
		syntax_error(p);
	return p->n - start;
}

/* matrix ::= '[]' | row | '[' row (',' row)* ']' */
Datum
hart_matrix_in(PG_FUNCTION_ARGS)
{
	MatrixParser p = {.input = PG_GETARG_CSTRING(0), .capacity = 64};
	HartMatrix *m;
	size_t		rows = 0;
	size_t		cols = 0;

	p.at = p.input;
	p.data = palloc(p.capacity * sizeof(float));
	if (!accept_char(&p, '['))
		syntax_error(&p);
	if (accept_char(&p, '['))
	{
		do
		{
			size_t		n;

			if (rows > 0 && !accept_char(&p, '['))
				syntax_error(&p);
			n = parse_row(&p);
			if (rows > 0 && n != cols)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_EXCEPTION),
						 errmsg("different matrix row lengths %zu and %zu", cols, n),
						 errhint("Every row of a matrix has the same number of columns.")));
			cols = n;
			rows++;
		} while (accept_char(&p, ','));
		if (!accept_char(&p, ']'))
			syntax_error(&p);
	}
	else if (!accept_char(&p, ']'))
	{
		cols = parse_row(&p);
		rows = 1;
	}
	skip_space(&p);
	if (*p.at != '\0')
		syntax_error(&p);

	m = hart_matrix_alloc(rows, cols);
	memcpy(m->data, p.data, p.n * sizeof(float));
	pfree(p.data);
	PG_RETURN_MATRIX(m);
}

Datum
hart_matrix_out(PG_FUNCTION_ARGS)
{
	HartMatrix *m = PG_GETARG_MATRIX(0);
	StringInfoData out;
	char		number[FLOAT_SHORTEST_DECIMAL_LEN];

	initStringInfo(&out);
	appendStringInfoChar(&out, '[');
	for (int32 i = 0; i < m->rows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		appendStringInfoString(&out, i > 0 ? ",[" : "[");
		for (int32 j = 0; j < m->cols; j++)
		{
			if (j > 0)
				appendStringInfoChar(&out, ',');
			float_to_shortest_decimal_buf(hart_matrix_row(m, i)[j], number);
			appendStringInfoString(&out, number);
		}
		appendStringInfoChar(&out, ']');
	}
	appendStringInfoChar(&out, ']');
	PG_RETURN_CSTRING(out.data);
}

/* binary form: int32 rows, int32 columns, float4 values */
Datum
hart_matrix_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int64		rows = (int32) pq_getmsgint(buf, 4);
	int64		cols = (int32) pq_getmsgint(buf, 4);
	HartMatrix *m;

	if (rows < 0 || cols < 0 || rows * cols > (buf->len - buf->cursor) / 4)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("invalid matrix of " INT64_FORMAT " rows and " INT64_FORMAT " columns in %d bytes",
						rows, cols, buf->len),
				 errhint("Send the rows and columns as int32, then rows times columns float4 values.")));
	m = hart_matrix_alloc(rows, cols);
	for (size_t i = 0; i < hart_matrix_elements(m); i++)
		m->data[i] = pq_getmsgfloat4(buf);
	PG_RETURN_MATRIX(m);
}

Datum
hart_matrix_send(PG_FUNCTION_ARGS)
{
	HartMatrix *m = PG_GETARG_MATRIX(0);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendint32(&buf, m->rows);
	pq_sendint32(&buf, m->cols);
	for (size_t i = 0; i < hart_matrix_elements(m); i++)
		pq_sendfloat4(&buf, m->data[i]);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

/* real[] → one row; real[][] → rows and columns */
Datum
hart_array_to_matrix(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	int			n_dims = ARR_NDIM(array);
	HartMatrix *m;

	if (n_dims > 2)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("array has %d dimensions", n_dims),
				 errhint("Only arrays of one or two dimensions become a matrix.")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("array must not contain nulls"),
				 errhint("Replace the nulls, for example by NaN.")));
	if (n_dims == 0)
		PG_RETURN_MATRIX(hart_matrix_alloc(0, 0));
	m = n_dims == 1 ? hart_matrix_alloc(1, ARR_DIMS(array)[0])
		: hart_matrix_alloc(ARR_DIMS(array)[0], ARR_DIMS(array)[1]);
	memcpy(m->data, ARR_DATA_PTR(array), hart_matrix_elements(m) * sizeof(float));
	PG_RETURN_MATRIX(m);
}

/* A real[] over n numbers, with the given dimensions */
static ArrayType *
float4_array(const float *data, int n_dims, int *dims)
{
	int			lower_bounds[2] = {1, 1};
	size_t		n = 1;
	size_t		size;
	ArrayType  *array;

	for (int i = 0; i < n_dims; i++)
		n *= dims[i];
	if (n == 0)
		return construct_empty_array(FLOAT4OID);
	size = ARR_OVERHEAD_NONULLS(n_dims) + n * sizeof(float);
	array = palloc(size);
	SET_VARSIZE(array, size);
	array->ndim = n_dims;
	array->dataoffset = 0;
	array->elemtype = FLOAT4OID;
	memcpy(ARR_DIMS(array), dims, n_dims * sizeof(int));
	memcpy(ARR_LBOUND(array), lower_bounds, n_dims * sizeof(int));
	memcpy(ARR_DATA_PTR(array), data, n * sizeof(float));
	return array;
}

/* matrix → real[][], always of two dimensions, so that callers need no special case for one row */
Datum
hart_matrix_to_array(PG_FUNCTION_ARGS)
{
	HartMatrix *m = PG_GETARG_MATRIX(0);
	int			dims[2] = {m->rows, m->cols};

	PG_RETURN_ARRAYTYPE_P(float4_array(m->data, 2, dims));
}

Datum
hart_matrix_rows(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(PG_GETARG_MATRIX(0)->rows);
}

Datum
hart_matrix_cols(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(PG_GETARG_MATRIX(0)->cols);
}

/* hart.matrix_row(matrix, row) → real[]; rows count from 1 as SQL arrays do */
Datum
hart_matrix_row_array(PG_FUNCTION_ARGS)
{
	HartMatrix *m = PG_GETARG_MATRIX(0);
	int32		row = PG_GETARG_INT32(1);

	if (row < 1 || row > m->rows)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("row %d of a matrix of %d rows", row, m->rows),
				 errhint("Rows are counted from 1.")));
	PG_RETURN_ARRAYTYPE_P(float4_array(hart_matrix_row(m, row - 1), 1, &m->cols));
}

/* hart.last_row(matrix) → matrix of one row */
Datum
hart_matrix_last_row(PG_FUNCTION_ARGS)
{
	HartMatrix *m = PG_GETARG_MATRIX(0);
	HartMatrix *out;

	if (m->rows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("matrix has no rows"),
				 errhint("Pass a matrix of at least one row.")));
	out = hart_matrix_alloc(1, m->cols);
	memcpy(out->data, hart_matrix_row(m, m->rows - 1), m->cols * sizeof(float));
	PG_RETURN_MATRIX(out);
}

/* hart.matrix_rows(matrix, row_nos int[]) → those rows; rows count from 1 */
Datum
hart_matrix_pick_rows(PG_FUNCTION_ARGS)
{
	HartMatrix *m = PG_GETARG_MATRIX(0);
	int			n;
	const int32 *row_nos = hart_int_array(PG_GETARG_ARRAYTYPE_P(1), "row numbers", &n);
	HartMatrix *out = hart_matrix_alloc(n, m->cols);

	for (int i = 0; i < n; i++)
	{
		if (row_nos[i] < 1 || row_nos[i] > m->rows)
			ereport(ERROR,
					(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
					 errmsg("row %d is out of range", row_nos[i]),
					 errhint("Rows of this matrix are numbered 1 to %d.", m->rows)));
		memcpy(hart_matrix_row(out, i), hart_matrix_row(m, row_nos[i] - 1), m->cols * sizeof(float));
	}
	PG_RETURN_MATRIX(out);
}
