/*
 * linear_q8.h
 *	  y = x Wᵀ + b with 8-bit weights.
 */
#ifndef HART_LINEAR_Q8_H
#define HART_LINEAR_Q8_H

#include "context.h"

/* fill y (m, rows) with x (m, cols) times the rows of a weight of format HART_Q8, plus the bias (rows) unless it is NULL; m > 0 */
extern void hart_linear_q8(HartContext *ctx, const HartTensor *weight, const float *bias, const float *x, int64 m, float *y);

#endif							/* HART_LINEAR_Q8_H */
