/*
 * tensor.c
 *	  A tensor's bytes as a matrix.
 */
#include "matrix.h"

#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "kernels.h"
#include "tensor.h"

PG_FUNCTION_INFO_V1(hart_bytes_to_matrix);

/* numbers between two looks at interrupts */
#define WIDEN_AT_ONCE (1024 * 1024)

HartDtype
hart_parse_dtype(const char *dtype)
{
	if (strcmp(dtype, "F32") == 0)
		return HART_F32;
	if (strcmp(dtype, "F16") == 0)
		return HART_F16;
	if (strcmp(dtype, "BF16") == 0)
		return HART_BF16;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown dtype \"%s\"", dtype),
			 errhint("Weights are stored as F32, F16 or BF16.")));
}

bool
hart_tensor_shape(ArrayType *shape, HartDtype dtype, int64 bytes, int64 *rows, int64 *cols)
{
	int			n_dims = ARR_NDIM(shape) == 0 ? 0 : ARR_DIMS(shape)[0];
	const int32 *dims = (const int32 *) ARR_DATA_PTR(shape);
	int64		n;

	if (ARR_NDIM(shape) > 1 || array_contains_nulls(shape))
		return false;
	*rows = 1;
	*cols = n_dims == 0 ? 1 : dims[n_dims - 1];
	for (int i = 0; i + 1 < n_dims; i++)
		if (dims[i] < 0 || pg_mul_s64_overflow(*rows, dims[i], rows))
			return false;
	return *cols >= 0 &&
		!pg_mul_s64_overflow(*rows, *cols, &n) &&
		!pg_mul_s64_overflow(n, hart_dtype_size(dtype), &n) &&
		n == bytes;
}

/* hart.bytes_to_matrix(data bytea, dtype text, n_cols int) → matrix of as many rows as the bytes fill */
Datum
hart_bytes_to_matrix(PG_FUNCTION_ARGS)
{
	bytea	   *data = PG_GETARG_BYTEA_PP(0);
	HartDtype	dtype = hart_parse_dtype(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	int32		cols = PG_GETARG_INT32(2);
	int64		bytes = VARSIZE_ANY_EXHDR(data);
	int64		row_bytes = cols * (int64) hart_dtype_size(dtype);
	HartMatrix *m;
	size_t		n;

	if (cols < 1 || bytes % row_bytes != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg(INT64_FORMAT " bytes are not a whole number of rows of %d columns", bytes, cols),
				 errhint("Pass all bytes of the tensor and the last number of its shape.")));
	m = hart_matrix_alloc(bytes / row_bytes, cols);
	n = hart_matrix_elements(m);
	for (size_t at = 0; at < n; at += WIDEN_AT_ONCE)
	{
		CHECK_FOR_INTERRUPTS();
		hart_kernels->widen[dtype] (VARDATA_ANY(data) + at * hart_dtype_size(dtype), m->data + at, Min(WIDEN_AT_ONCE, n - at));
	}
	PG_RETURN_MATRIX(m);
}
