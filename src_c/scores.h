/*
 * scores.h
 *	  Rows of logits as probabilities.
 */
#ifndef HART_SCORES_H
#define HART_SCORES_H

#include "hartonomous.h"

/*
 * log of the sum of exp(x). The softmax is left in p: sum times the probabilities, where sum is 1
 * but for what a float4 sum of so many numbers loses. Threads may call this.
 */
extern double hart_log_sum_exp(const float *x, float *p, int32 n, double *sum);

#endif							/* HART_SCORES_H */
