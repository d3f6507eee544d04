/*
 * warpers.h
 *	  Which tokens may come next and how likely each is: what transformers calls
 *	  warpers, and the draw.  Knows nothing of PostgreSQL.
 */
#ifndef HART_WARPERS_H
#define HART_WARPERS_H

#include <stddef.h>
#include <stdint.h>

/* A token that may come next */
typedef struct HartCandidate
{
	int32_t		token;
	float		scaled;			/* (score - largest score) / temperature: at most 0 */
	float		weight;			/* exp(scaled); its probability is its share of the sum */
} HartCandidate;

typedef struct HartWarpers
{
	double		temperature;	/* above 0 */
	int64_t		top_k;			/* 0: all */
	double		top_p;			/* 1: all */
	double		min_p;			/* 0: all */
	double		typical_p;		/* 1: all */
} HartWarpers;

/* What of hart_warp's scratch a candidate takes */
typedef struct HartRanked
{
	float		key;			/* smaller is better */
	float		weight;
	int32_t		token;
} HartRanked;

/*
 * The tokens that temperature, top_k, top_p, min_p and typical_p leave, applied
 * in this order, in ascending order of token.  Scores of -inf and NaN are never
 * left.  candidates and scratch have room for n.  Returns how many are left, 0
 * only when no score is a number above -inf.
 */
extern size_t hart_warp(const HartWarpers *warpers, const float *scores, size_t n,
						HartCandidate *candidates, HartRanked *scratch);

/* The sum of the candidates' weights */
extern double hart_total_weight(const HartCandidate *candidates, size_t n);

/* The candidate at the share u in [0, 1) of the total weight, in the order given */
extern size_t hart_draw(const HartCandidate *candidates, size_t n, double u);

/* A number in [0, 1) for each (seed, sequence, step): Philox4x32-10 */
extern double hart_uniform(uint64_t seed, uint32_t sequence, uint32_t step);

#endif							/* HART_WARPERS_H */
