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
	int32		in_large_memory;	/* whether it belongs to an expanded object; 0 wherever it is stored */
	float		data[FLEXIBLE_ARRAY_MEMBER];	/* (rows, cols) */
} HartMatrix;

#define HART_MATRIX_MAX_ELEMENTS ((MaxAllocSize - offsetof(HartMatrix, data)) / sizeof(float))

#define PG_GETARG_MATRIX(n) hart_matrix_of(PG_GETARG_DATUM(n))
#define PG_RETURN_MATRIX(m) return hart_matrix_datum(m)

/* a matrix with uninitialised data; error when rows × cols is too large for one value */
extern HartMatrix *hart_matrix_alloc(int64 rows, int64 cols);

/* not by pfree: it may lie in large memory */
extern void hart_matrix_free(HartMatrix *m);

/* hart_matrix_alloc in large memory, of size bytes in all; its sizes are to be set */
extern HartMatrix *hart_large_matrix_alloc(size_t size);

/* a matrix that was allocated as a value, and the matrix that a value is */
extern Datum hart_matrix_datum(HartMatrix *m);
extern HartMatrix *hart_matrix_of(Datum d);

/* where a function puts what it makes of two arguments of one shape, number by number: in the place of one that nobody else will read */
extern HartMatrix *hart_matrix_to_write(Datum a, Datum b);

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
