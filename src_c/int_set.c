/*
 * int_set.c
 *	  Sets of integers as sorted, disjoint ranges.
 */
#include "int_set.h"

static HartIntSet *
allocate(int capacity)
{
	HartIntSet *set = MemoryContextAllocHuge(CurrentMemoryContext,
											 offsetof(HartIntSet, ranges) + sizeof(HartRange) * (Size) Max(capacity, 1));

	set->n = 0;
	return set;
}

HartIntSet *
hart_int_set_range(int64 first, int64 last)
{
	HartIntSet *set = allocate(1);

	if (first <= last)
		set->ranges[set->n++] = (HartRange) {first, last};
	return set;
}

static int
compare_values(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return (x > y) - (x < y);
}

HartIntSet *
hart_int_set_values(int64 *values, int n)
{
	HartIntSet *set = allocate(n);

	qsort(values, n, sizeof(int64), compare_values);
	for (int i = 0; i < n; i++)
	{
		HartRange  *last = set->n > 0 ? &set->ranges[set->n - 1] : NULL;

		if (last && values[i] == last->last)
			continue;
		/* no overflow: values[i] is larger */
		if (last && values[i] == last->last + 1)
			last->last++;
		else
			set->ranges[set->n++] = (HartRange) {values[i], values[i]};
	}
	return set;
}

HartIntSet *
hart_int_set_intersect(const HartIntSet *a, const HartIntSet *b)
{
	HartIntSet *set = allocate(a->n + b->n);
	int			i = 0;
	int			j = 0;

	while (i < a->n && j < b->n)
	{
		int64		first = Max(a->ranges[i].first, b->ranges[j].first);
		int64		last = Min(a->ranges[i].last, b->ranges[j].last);

		if (first <= last)
			set->ranges[set->n++] = (HartRange) {first, last};
		if (a->ranges[i].last < b->ranges[j].last)
			i++;
		else
			j++;
	}
	return set;
}

bool
hart_int_set_contains(const HartIntSet *set, int64 value)
{
	int			low = 0;
	int			high = set->n - 1;

	while (low <= high)
	{
		int			middle = low + (high - low) / 2;

		if (value < set->ranges[middle].first)
			high = middle - 1;
		else if (value > set->ranges[middle].last)
			low = middle + 1;
		else
			return true;
	}
	return false;
}

double
hart_int_set_count(const HartIntSet *set)
{
	double		count = 0;

	for (int i = 0; i < set->n; i++)
		count += (double) set->ranges[i].last - (double) set->ranges[i].first + 1;
	return count;
}
