/*
 * top_k.c
 *	  The largest of many numbers, by a heap of as many as are wanted.
 */
#include "top_k.h"

#include <math.h>

/* Greater first, NaN last, the earlier index first among equals */
static int
compare_descending(const void *a, const void *b, void *arg)
{
	const float *data = arg;
	int32		i = *(const int32 *) a;
	int32		j = *(const int32 *) b;

	if (isnan(data[i]) || isnan(data[j]))
		return isnan(data[i]) && isnan(data[j]) ? i - j : isnan(data[i]) ? 1 : -1;
	return data[i] > data[j] ? -1 : data[i] < data[j] ? 1 : i - j;
}

/* Restore the heap property below a node; the root is the worst of those kept. */
static void
sift_down(int32 *heap, int32 n, int32 node, float *data)
{
	for (;;)
	{
		int32		worst = node;

		for (int32 child = 2 * node + 1; child <= 2 * node + 2 && child < n; child++)
			if (compare_descending(&heap[child], &heap[worst], data) > 0)
				worst = child;
		if (worst == node)
			return;
		{
			int32		swap = heap[node];

			heap[node] = heap[worst];
			heap[worst] = swap;
		}
		node = worst;
	}
}

int32 *
hart_top_k(const float *data, int32 n, int32 k)
{
	int32	   *heap = palloc(sizeof(int32) * Max(k, 1));
	float	   *arg = unconstify(float *, data);

	for (int32 i = 0; i < k; i++)
		heap[i] = i;
	for (int32 i = k / 2 - 1; i >= 0; i--)
		sift_down(heap, k, i, arg);
	for (int32 i = k; k > 0 && i < n; i++)
		if (compare_descending(&i, &heap[0], arg) < 0)
		{
			heap[0] = i;
			sift_down(heap, k, 0, arg);
		}
	qsort_arg(heap, k, sizeof(int32), compare_descending, arg);
	return heap;
}
