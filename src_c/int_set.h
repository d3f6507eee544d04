/*
 * int_set.h
 *	  Sets of integers as sorted, disjoint ranges: what conditions on a column leave over.
 */
#ifndef HART_INT_SET_H
#define HART_INT_SET_H

#include "hartonomous.h"

typedef struct HartRange
{
	int64		first;
	int64		last;			/* included */
} HartRange;

typedef struct HartIntSet
{
	int			n;
	HartRange	ranges[FLEXIBLE_ARRAY_MEMBER];
} HartIntSet;

/* all integers of a range, none when first > last */
extern HartIntSet *hart_int_set_range(int64 first, int64 last);

/* the given integers, in any order; sorts the array in place */
extern HartIntSet *hart_int_set_values(int64 *values, int n);

extern HartIntSet *hart_int_set_intersect(const HartIntSet *a, const HartIntSet *b);
extern bool hart_int_set_contains(const HartIntSet *set, int64 value);

/* how many integers, as a float, since ranges may be wide */
extern double hart_int_set_count(const HartIntSet *set);

#endif							/* HART_INT_SET_H */
