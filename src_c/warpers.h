/*
 * warpers.h
 *	  Which tokens may come next and how likely each is: what transformers calls
 *	  warpers, and the draw.  Knows nothing of PostgreSQL.
 */
#ifndef HART_WARPERS_H
#define HART_WARPERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct HartWarpers
{
	double		temperature;	/* above 0 */
	int64_t		top_k;			/* 0: all */
	double		top_p;			/* 1: all */
	double		min_p;			/* 0: all */
	double		typical_p;		/* 1: all */
} HartWarpers;

/* A token among others that are to be ranked */
typedef struct HartRanked
{
	float		key;			/* smaller is better */
	float		weight;
	int32_t		token;
} HartRanked;

/* What may come next, an element for each token of the vocabulary, and working memory */
typedef struct HartCandidates
{
	size_t		n;
	float	   *scaled;			/* (score - largest score) / temperature; -inf: may not come */
	float	   *weight;			/* of what may come, in proportion to its probability; else 0 */
	float	   *key;
	HartRanked *ranked;
} HartCandidates;

/*
 * Leave what temperature, top_k, top_p, min_p and typical_p leave, applied in
 * this order.  `scaled` holds the scores when called; NaN and -inf are never
 * left.  Returns how many are left, 0 only when no score is a number above -inf.
 */
extern size_t hart_warp(const HartWarpers *warpers, HartCandidates *c);

/* The sum of the weights */
extern double hart_total_weight(const HartCandidates *c);

/* The token at the share u in [0, 1) of the total weight, tokens in ascending order */
extern size_t hart_draw(const HartCandidates *c, double u);

/* A number in [0, 1) for each (seed, sequence, step): Philox4x32-10 */
extern double hart_uniform(uint64_t seed, uint32_t sequence, uint32_t step);

#endif							/* HART_WARPERS_H */
