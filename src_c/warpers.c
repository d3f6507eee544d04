/*
 * warpers.c
 *	  Which tokens may come next and how likely each is, and the draw.
 *
 * Each step keeps what the LogitsWarper of the same name in transformers keeps.
 * Nothing is sorted: a rank or a mass is found by selection, in linear time.
 */
#include "warpers.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernels.h"

static inline uint32_t
bucket_of(float key)
{
	uint32_t	bits;

	memcpy(&bits, &key, sizeof(bits));
	return bits >> 19;
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

/* The last of the best entries that together weigh at least `mass`; of all n > 0 when they weigh less. Reorders them (quickselect). */
static HartRanked
last_ranked(HartRanked *x, size_t n, double mass)
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

/*
 * Where the best tokens by `key` end that together weigh at least `mass` (each
 * weighs 1 when counted): the last of them.  Keys are at least 0, +inf for what
 * is to be left out.
 *
 * The weights are summed up in buckets; only the bucket in which the end lies is
 * ranked.  A bucket has the first 12 bits of a float below its sign, so that keys
 * of any size spread over many.
 */
static HartRanked
last_within(const HartCandidates *c, bool counted, double mass)
{
	double		bucket[4096] = {0};
	HartRanked *ranked = c->ranked;
	size_t		n_all = 0;
	size_t		n_ranked = 0;
	uint32_t	end = 0;

	/* no branch on what cannot be predicted, here and below */
	for (size_t i = 0; i < c->n; i++)
	{
		ranked[n_all] = (HartRanked) {c->key[i], counted ? 1 : c->weight[i], (int32_t) i};
		n_all += c->key[i] < INFINITY;
	}
	for (size_t i = 0; i < n_all; i++)
		bucket[bucket_of(ranked[i].key)] += ranked[i].weight;
	while (end < 4095 && bucket[end] < mass)
		mass -= bucket[end++];
	if (bucket[end] < mass)
	{
		/* by rounding more is asked for than there is: all are within */
		mass = INFINITY;
		while (end > 0 && bucket[end] == 0)
			end--;
	}
	for (size_t i = 0; i < n_all; i++)
	{
		HartRanked	r = ranked[i];

		ranked[n_ranked] = r;
		n_ranked += bucket_of(r.key) == end;
	}
	return last_ranked(ranked, n_ranked, mass);
}

/* Take token i out of the candidates unless it is to be kept */
static inline void
keep_if(HartCandidates *c, size_t i, bool kept)
{
	c->scaled[i] = kept ? c->scaled[i] : -INFINITY;
	c->weight[i] = kept ? c->weight[i] : 0;
}

double
hart_total_weight(const HartCandidates *c)
{
	double		sum[4] = {0};
	size_t		i = 0;

	for (; i + 4 <= c->n; i += 4)
		for (int j = 0; j < 4; j++)
			sum[j] += c->weight[i + j];
	for (; i < c->n; i++)
		sum[0] += c->weight[i];
	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* The largest of n numbers, NaN left out; -inf when there is none */
static float
largest(const float *x, size_t n)
{
	float		max = -INFINITY;

	for (size_t i = 0; i < n; i++)
		max = x[i] > max ? x[i] : max;
	return max;
}

/* Scores over the temperature, from their largest; false when there is none */
static bool
scale(const HartWarpers *warpers, HartCandidates *c)
{
	float		max = largest(c->scaled, c->n);
	/* in float32 as transformers does, and neither 0 nor infinite */
	float		temperature = (float) fmin(fmax(warpers->temperature, FLT_MIN), FLT_MAX);

	if (max == -INFINITY)
		return false;
	for (size_t i = 0; i < c->n; i++)
	{
		float		below = c->scaled[i] == max ? 0 : c->scaled[i] - max;	/* also where both are infinite */

		c->scaled[i] = below <= 0 ? below / temperature : -INFINITY;
	}
	return true;
}

/* What is lighter than exp(-80) of the largest is far below what a draw resolves: no weight, and no slow arithmetic of subnormals */
static void
weigh(HartCandidates *c)
{
	const float lightest = -80;

	for (size_t i = 0; i < c->n; i++)
		c->weight[i] = c->scaled[i] > lightest ? c->scaled[i] : lightest;
	hart_kernels->softmax(c->weight, c->n);
	for (size_t i = 0; i < c->n; i++)
		c->weight[i] = c->scaled[i] > lightest ? c->weight[i] : 0;
}

/* Those whose score is no less than the k-th; top_k is less than n */
static void
keep_top_k(HartCandidates *c, size_t top_k)
{
	size_t		block = c->n / top_k;
	float		least = 0;
	HartRanked	last;

	/* k blocks have k maxima, so the k-th best is no worse than the least of these: what is worse needs no rank */
	for (size_t i = 0; i < top_k; i++)
		least = fminf(least, largest(c->scaled + i * block, block));
	for (size_t i = 0; i < c->n; i++)
		c->key[i] = c->scaled[i] >= least ? fabsf(c->scaled[i]) : INFINITY;
	last = last_within(c, true, (double) top_k);
	for (size_t i = 0; i < c->n; i++)
		keep_if(c, i, c->key[i] <= last.key);
}

/* The fewest likeliest that have a probability of top_p together, the first of equal ones */
static void
keep_top_p(HartCandidates *c, double top_p)
{
	double		total = hart_total_weight(c);
	/* what is lighter cannot weigh more than 1 - top_p, even together: it is outside, and needs no rank */
	float		least = (float) ((1 - top_p) * total / c->n * 0.999);
	HartRanked	last;

	for (size_t i = 0; i < c->n; i++)
		c->key[i] = c->weight[i] >= least ? fabsf(c->scaled[i]) : INFINITY;
	last = last_within(c, false, top_p * total);
	for (size_t i = 0; i < c->n; i++)
		keep_if(c, i, c->key[i] < last.key || (c->key[i] == last.key && (int32_t) i <= last.token));
}

/* Those at least min_p times as likely as the likeliest */
static void
keep_min_p(HartCandidates *c, double min_p)
{
	float		max = largest(c->weight, c->n);

	for (size_t i = 0; i < c->n; i++)
		keep_if(c, i, c->scaled[i] == 0 || c->weight[i] >= min_p * max);
}

/*
 * The fewest that have a probability of typical_p together, of those whose
 * information is closest to its mean, the entropy; ties included (Meister et al.,
 * "Locally Typical Sampling", 2022).
 */
static void
keep_typical(HartCandidates *c, double typical_p)
{
	double		total = hart_total_weight(c);
	double		mean_scaled = 0;
	HartRanked	last;

	/* information is log(total of exp(scaled)) - scaled: the first part cancels out */
	for (size_t i = 0; i < c->n; i++)
		mean_scaled += c->weight[i] > 0 ? (double) c->weight[i] * c->scaled[i] : 0;
	mean_scaled /= total;
	for (size_t i = 0; i < c->n; i++)
		c->key[i] = (float) fabs(c->scaled[i] - mean_scaled);
	last = last_within(c, false, typical_p * total);
	for (size_t i = 0; i < c->n; i++)
		keep_if(c, i, c->key[i] <= last.key);
}

size_t
hart_warp(const HartWarpers *warpers, HartCandidates *c)
{
	size_t		left = 0;

	if (!scale(warpers, c))
		return 0;
	weigh(c);
	if (warpers->top_k > 0 && (size_t) warpers->top_k < c->n)
		keep_top_k(c, (size_t) warpers->top_k);
	if (warpers->top_p < 1)
		keep_top_p(c, warpers->top_p);
	if (warpers->min_p > 0)
		keep_min_p(c, warpers->min_p);
	if (warpers->typical_p < 1)
		keep_typical(c, warpers->typical_p);
	for (size_t i = 0; i < c->n; i++)
		left += c->scaled[i] > -INFINITY;
	return left;
}

size_t
hart_draw(const HartCandidates *c, double u)
{
	double		target = u * hart_total_weight(c);
	double		sum = 0;
	size_t		last = 0;

	for (size_t i = 0; i < c->n; i++)
	{
		if (c->weight[i] > 0)
			last = i;			/* what has no weight is not drawn, nor by rounding at the end */
		sum += c->weight[i];
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
