/*
 * matrix.h
 *	  The SQL type hart.matrix: float4, rows × columns, row-major.
 */
#ifndef HART_MATRIX_H
#define HART_MATRIX_H

#include "hartonomous.h"

#include "utils/memutils.h"

typedef struct HartMatrix
{
	int32		vl_len_;		/* varlena header, do not touch directly */
	int32		rows;
	int32		cols;
	int32		reserved;		/* keeps the data 16-byte aligned; always 0 */
	float		data[FLEXIBLE_ARRAY_MEMBER];	/* (rows, cols) */
} HartMatrix;

#define HART_MATRIX_MAX_ELEMENTS ((MaxAllocSize - offsetof(HartMatrix, data)) / sizeof(float))

#define DatumGetMatrix(d) ((HartMatrix *) PG_DETOAST_DATUM(d))
#define PG_GETARG_MATRIX(n) DatumGetMatrix(PG_GETARG_DATUM(n))
#define PG_RETURN_MATRIX(m) PG_RETURN_POINTER(m)

/* a matrix with uninitialised data; error when rows × cols is too large for one value */
extern HartMatrix *hart_matrix_alloc(int64 rows, int64 cols);

static inline size_t
hart_matrix_elements(const HartMatrix *m)
{
	return (size_t) m->rows * (size_t) m->cols;
}

/* start of row i */
static inline float *
hart_matrix_row(HartMatrix *m, int64 i)
{
	return m->data + i * m->cols;
}

#endif							/* HART_MATRIX_H */
