/*
 * top_k.h
 *	  The largest of many numbers.
 */
#ifndef HART_TOP_K_H
#define HART_TOP_K_H

#include "hartonomous.h"

/* indexes of the k largest of n numbers, 0 <= k <= n: largest first, the earlier among equals, NaN last */
extern int32 *hart_top_k(const float *data, int32 n, int32 k);

#endif							/* HART_TOP_K_H */
