/*
 * linear_q8.h
 *	  y = x Wᵀ + b with 8-bit weights.
 */
#ifndef HART_LINEAR_Q8_H
#define HART_LINEAR_Q8_H

#include "context.h"
#include "matrix.h"

/* fill y with x times the rows of a weight of format HART_Q8, plus the bias (rows) unless it is NULL */
extern void hart_linear_q8(HartContext *ctx, const HartTensor *weight, const float *bias, const HartMatrix *x, HartMatrix *y);

#endif							/* HART_LINEAR_Q8_H */
