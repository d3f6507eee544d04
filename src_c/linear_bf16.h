/*
 * linear_bf16.h
 *	  Products with bf16 weights on the processor's bf16 units; part of linear.c.
 */
#ifndef HART_LINEAR_BF16_H
#define HART_LINEAR_BF16_H

#include "context.h"

/* whether the products of a tensor are made so: its weights are bf16, and a set of kernels for it is in force */
extern bool hart_linear_is_bf16(const HartTensor *weight);

/* y (m, rows) = x (m, cols) wᵀ + bias, which may be NULL; m >= 1 */
extern void hart_linear_bf16(HartContext *ctx, const HartTensor *weight, const float *bias, const float *x, int64 m, float *y);

#endif							/* HART_LINEAR_BF16_H */
