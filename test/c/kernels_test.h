/*
 * kernels_test.h
 *		What the tests of kernels share.
 *
 * Arrays end at a page that cannot be read, so that reading beyond one ends the
 * test.  Sums of n products may differ from the exact ones by SUM_TOLERANCE
 * times the sum of their magnitudes.
 */
#ifndef HART_KERNELS_TEST_H
#define HART_KERNELS_TEST_H

#include "kernels.h"
#include "tap.h"

#include <math.h>
#include <string.h>

#define SUM_TOLERANCE 5e-7
#define MAX_SIZE 4864

/* Sizes 1..67, then those of real models and of tiles */
static inline size_t
next_size(size_t n)
{
	static const size_t big[] = {100, 128, 896, 1000, 4032, MAX_SIZE, 0};

	if (n < 67)
		return n + 1;
	for (int i = 0;; i++)
	{
		if (big[i] > n || big[i] == 0)
			return big[i];
	}
}

/* n random floats that end at a guard page; the same place at every call */
static inline float *
random_floats(int which, size_t n)
{
	static float *ends[4];
	float	   *values;

	if (ends[which] == NULL)
		ends[which] = (float *) guarded_memory(MAX_SIZE * sizeof(float), false) + MAX_SIZE;
	values = ends[which] - n;
	for (size_t i = 0; i < n; i++)
		values[i] = (float) random_unit();
	return values;
}

static inline bool
same_bits(const float *a, const float *b, size_t n)
{
	return memcmp(a, b, n * sizeof(float)) == 0;
}

static inline bool
near(double value, double expected, double tolerance)
{
	return fabs(value - expected) <= tolerance;
}

static inline double
exact_dot(const float *a, const float *b, size_t n, double *magnitude)
{
	double		sum = 0;

	*magnitude = 0;
	for (size_t i = 0; i < n; i++)
	{
		sum += (double) a[i] * b[i];
		*magnitude += fabs((double) a[i] * b[i]);
	}
	return sum;
}

#endif							/* HART_KERNELS_TEST_H */
