/*
 * narrow.h
 *		Numbers of float32 in the storage types of weights, rounded to the
 *		nearest, ties to even.
 *
 * Nothing here knows of PostgreSQL.
 */
#ifndef HART_NARROW_H
#define HART_NARROW_H

#include "kernels.h"

/* What became of a number */
typedef enum HartNarrowing
{
	HART_EXACT,
	HART_ROUNDED,
	HART_OVERFLOW,				/* finite, and would become infinite */
	HART_UNDERFLOW				/* not zero, and would become zero */
} HartNarrowing;

/*
 * Store value as dtype: hart_dtype_size(dtype) bytes at out, little-endian.
 * float32 keeps every bit.  Elsewhere an infinity stays one and a NaN stays a
 * quiet NaN of the same sign with the top bits of its payload.  Nothing is
 * stored on overflow and underflow.
 */
extern HartNarrowing hart_narrow(HartDtype dtype, float value, void *out);

#endif							/* HART_NARROW_H */
