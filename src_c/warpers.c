/*
 * warpers.c
 *	  Which tokens may come next and how likely each is, and the draw.
 *
 * Each step keeps what the LogitsWarper of the same name in transformers keeps.
 * Nothing is sorted: a rank or a mass is found by selection, in linear time.
 */
#include "warpers.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* The k-th largest of n numbers without NaN, k from 1; reorders them (Hoare's selection) */
static float
kth_largest(float *x, size_t n, size_t k)
{
	ptrdiff_t	low = 0;
	ptrdiff_t	high = (ptrdiff_t) n - 1;
	ptrdiff_t	wanted = (ptrdiff_t) k - 1;

	while (low < high)
	{
		float		pivot = x[low + (high - low) / 2];
		ptrdiff_t	i = low;
		ptrdiff_t	j = high;

		while (i <= j)
		{
			while (x[i] > pivot)
				i++;
			while (x[j] < pivot)
				j--;
			if (i <= j)
			{
				float		swap = x[i];

				x[i++] = x[j];
				x[j--] = swap;
			}
		}
		if (wanted <= j)
			high = j;
		else if (wanted >= i)
			low = i;
		else
			break;
	}
	return x[wanted];
}

/* A total order: the first of equal ones is better. (In transformers it depends on how torch sorts.) */
static inline bool
better(const HartRanked *a, const HartRanked *b)
{
	return a->key < b->key || (a->key == b->key && a->token < b->token);
}

static inline void
exchange(HartRanked *a, HartRanked *b)
{
	HartRanked	swap = *a;

	*a = *b;
	*b = swap;
}

/* The worst of the best entries that together weigh at least `mass`; of all n when they weigh less. Reorders them. */
static HartRanked
last_within(HartRanked *x, size_t n, double mass)
{
	size_t		low = 0;		/* those before are within, and weigh `before` */
	size_t		high = n;		/* those from here on are needed only if rounding asks for them */
	double		before = 0;

	while (high - low > 1)
	{
		size_t		middle = low + (high - low) / 2;
		size_t		end = low;
		double		weight = 0;

		/* median of three as the pivot, moved to the last place */
		if (better(&x[high - 1], &x[low]))
			exchange(&x[high - 1], &x[low]);
		if (better(&x[middle], &x[low]))
			exchange(&x[middle], &x[low]);
		if (better(&x[middle], &x[high - 1]))
			exchange(&x[middle], &x[high - 1]);
		for (size_t i = low; i < high - 1; i++)
			if (better(&x[i], &x[high - 1]))
			{
				weight += x[i].weight;
				exchange(&x[i], &x[end++]);
			}
		exchange(&x[end], &x[high - 1]);

		if (before + weight >= mass && end > low)
			high = end;
		else if (before + weight + x[end].weight >= mass || end + 1 == high)
			return x[end];
		else
		{
			before += weight + x[end].weight;
			low = end + 1;
		}
	}
	return x[low];
}

double
hart_total_weight(const HartCandidate *candidates, size_t n)
{
	double		total = 0;

	for (size_t i = 0; i < n; i++)
		total += candidates[i].weight;
	return total;
}

/* Temperature and top_k: those whose score is no less than the k-th, ties included */
static size_t
scaled_candidates(const HartWarpers *warpers, const float *scores, size_t n, HartCandidate *candidates, float *sorted)
{
	float		max = -INFINITY;
	float		least = -INFINITY;
	size_t		n_numbers = 0;
	size_t		kept = 0;

	for (size_t i = 0; i < n; i++)
		if (scores[i] > -INFINITY)
		{
			if (scores[i] > max)
				max = scores[i];
			sorted[n_numbers++] = scores[i];
		}
	if (warpers->top_k > 0 && (size_t) warpers->top_k < n_numbers)
		least = kth_largest(sorted, n_numbers, (size_t) warpers->top_k);
	for (size_t i = 0; i < n; i++)
		if (scores[i] > -INFINITY && scores[i] >= least)
		{
			float		below = scores[i] == max ? 0 : scores[i] - max; /* also where both are infinite */
			float		scaled = (float) (below / warpers->temperature);

			candidates[kept++] = (HartCandidate) {(int32_t) i, scaled, expf(scaled)};
		}
	return kept;
}

/* The fewest likeliest that have a probability of top_p together */
static size_t
keep_top_p(HartCandidate *candidates, size_t n, double top_p, HartRanked *scratch)
{
	double		total = hart_total_weight(candidates, n);
	/* those that are lighter cannot weigh more than 1 - top_p, even together: they are outside, and need no rank */
	double		least = (1 - top_p) * total / n * (1 - 1e-9);
	size_t		n_ranked = 0;
	size_t		kept = 0;
	HartRanked	last;

	for (size_t i = 0; i < n; i++)
		if (candidates[i].weight >= least)
			scratch[n_ranked++] = (HartRanked) {-candidates[i].scaled, candidates[i].weight, candidates[i].token};
	last = last_within(scratch, n_ranked, top_p * total);
	for (size_t i = 0; i < n; i++)
	{
		HartRanked	ranked = {-candidates[i].scaled, candidates[i].weight, candidates[i].token};

		if (!better(&last, &ranked))
			candidates[kept++] = candidates[i];
	}
	return kept;
}

/* Those at least min_p times as likely as the likeliest */
static size_t
keep_min_p(HartCandidate *candidates, size_t n, double min_p)
{
	size_t		kept = 0;

	for (size_t i = 0; i < n; i++)
		if (candidates[i].scaled == 0 || candidates[i].weight >= min_p)
			candidates[kept++] = candidates[i];
	return kept;
}

/*
 * The fewest that have a probability of typical_p together, of those whose
 * information is closest to its mean, the entropy; ties included (Meister et al.,
 * "Locally Typical Sampling", 2022).
 */
static size_t
keep_typical(HartCandidate *candidates, size_t n, double typical_p, HartRanked *scratch)
{
	double		total = hart_total_weight(candidates, n);
	double		log_total = log(total);
	double		entropy = 0;
	size_t		kept = 0;
	HartRanked	last;

	for (size_t i = 0; i < n; i++)
		if (candidates[i].weight > 0)
			entropy -= candidates[i].weight / total * (candidates[i].scaled - log_total);
	for (size_t i = 0; i < n; i++)
		scratch[i] = (HartRanked) {(float) fabs(log_total - candidates[i].scaled - entropy), candidates[i].weight, candidates[i].token};
	last = last_within(scratch, n, typical_p * total);
	for (size_t i = 0; i < n; i++)
		if ((float) fabs(log_total - candidates[i].scaled - entropy) <= last.key)
			candidates[kept++] = candidates[i];
	return kept;
}

size_t
hart_warp(const HartWarpers *warpers, const float *scores, size_t n, HartCandidate *candidates, HartRanked *scratch)
{
	/* a HartRanked is larger than a float */
	size_t		kept = scaled_candidates(warpers, scores, n, candidates, (float *) scratch);

	if (kept == 0)
		return 0;
	if (warpers->top_p < 1)
		kept = keep_top_p(candidates, kept, warpers->top_p, scratch);
	if (warpers->min_p > 0)
		kept = keep_min_p(candidates, kept, warpers->min_p);
	if (warpers->typical_p < 1)
		kept = keep_typical(candidates, kept, warpers->typical_p, scratch);
	return kept;
}

size_t
hart_draw(const HartCandidate *candidates, size_t n, double u)
{
	double		target = u * hart_total_weight(candidates, n);
	double		sum = 0;
	size_t		last = 0;

	for (size_t i = 0; i < n; i++)
	{
		if (candidates[i].weight > 0)
			last = i;			/* what has no weight is not drawn, nor by rounding at the end */
		sum += candidates[i].weight;
		if (sum > target)
			return i;
	}
	return last;
}

/* Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (2011) */
double
hart_uniform(uint64_t seed, uint32_t sequence, uint32_t step)
{
	uint32_t	counter[4] = {step, sequence, 0, 0};
	uint32_t	key[2] = {(uint32_t) seed, (uint32_t) (seed >> 32)};

	for (int round = 0; round < 10; round++)
	{
		uint64_t	a = (uint64_t) 0xD2511F53 * counter[0];
		uint64_t	b = (uint64_t) 0xCD9E8D57 * counter[2];

		counter[0] = (uint32_t) (b >> 32) ^ counter[1] ^ key[0];
		counter[1] = (uint32_t) b;
		counter[2] = (uint32_t) (a >> 32) ^ counter[3] ^ key[1];
		counter[3] = (uint32_t) a;
		key[0] += 0x9E3779B9;
		key[1] += 0xBB67AE85;
	}
	return (double) (((uint64_t) counter[0] << 32 | counter[1]) >> 11) * 0x1p-53;
}
