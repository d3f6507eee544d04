/*
 * bf16.h
 *		Products of rows of x by rows of bf16 weights, on the processor's bf16 units.
 *
 * Knows nothing of PostgreSQL.  These units multiply bf16 by bf16 and add up in float32.  The weights are bf16 as
 * they are; x is split in terms, each the bf16 number nearest to what the terms before it leave:
 *
 *		x = term 0 + term 1 + term 2
 *
 * Three terms are x itself, two are off by 2^-17 of it at most, and one is x rounded to bf16.  Then x * w is the sum of the products of the
 * terms by w, and each product of two bf16 numbers is exact in float32.
 *
 * Columns are taken 32 at a time, a group; those beyond the row's end are 0 on both sides.  A row's part of a group is a line
 * of 64 bytes: dword i holds column i in its low half and column i + 16 in its high half.
 *
 * Every product of two rows is summed in the same order, however many rows are multiplied together: HART_BF16_DEPTH columns
 * at a time, whose sums are added up.  In the AMX set such a sum is what TDPBF16PS makes of it: group after group, and in each of them term after
 * term from the last one on, the sum of the low halves' products, dword after dword by fused multiply-adds, plus that of the high halves,
 * is added to what came before.  Subnormal numbers count as 0, among the weights and the terms, and in every sum.
 */
#ifndef HART_BF16_H
#define HART_BF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bf12.h"
#include "kernels.h"

#define HART_BF16_GROUP 32		/* columns of a group */
#define HART_BF16_LINE 64		/* bytes of a row's part of a group */
#define HART_BF16_STRIP 16		/* rows that are multiplied together, of either side */
#define HART_BF16_BLOCK (HART_BF16_STRIP * HART_BF16_LINE)	/* bytes of a group of a strip */
#define HART_BF16_FEW (2 * HART_BF16_STRIP)	/* rows of x that are few: what takes time is the weights */
#define HART_BF16_MAX_TERMS 3
#define HART_BF16_DEPTH 1024	/* columns that are summed at a time */
#define HART_BF16_PLAIN_TILE 4032	/* weights of a full tile of plain bf16 */

/* Bytes of a panel, unpacked rows of weights, at most: half of the L2 cache of processors with AMX */
#define HART_BF16_PANEL_BYTES (1024 * 1024)

/* Room for the sums of two strips of weights by two of x, of 16 such pairs and one more */
#define HART_BF16_SUMS (17 * 4 * HART_BF16_STRIP * HART_BF16_STRIP)

/* Where rows of weights lie */
typedef struct HartBf16Rows
{
	HartFormat	format;			/* HART_PLAIN_BF16 or HART_BF12 */
	const char *const *tiles;	/* consecutive ones of a tensor */
	size_t		first;			/* number of the first row's first weight, from the first tile on */
	size_t		cols;
	size_t		n;				/* rows */
} HartBf16Rows;

/* Rows of x, packed */
typedef struct HartBf16X
{
	size_t		m;
	size_t		cols;
	int			terms;
	char	   *packed;			/* hart_bf16_x_size bytes, on a cache line */
} HartBf16X;

typedef struct HartBf16Kernels
{
	const char *name;			/* "amx" or "avx512bf16" */
	size_t		panel_bytes;	/* of unpacked weights that stay in the L2 cache */
	size_t		rows_together;	/* rows of weights that many rows of x are multiplied by at a time */

	/* Pack the strip of x from row i on, a multiple of HART_BF16_STRIP, out of x (m, cols) */
	void		(*pack_x) (const HartBf16X *to, const float *x, size_t i);

	/*
	 * y[i * ldy + r] = x row i . row r of weights.  The weights are read once, from front to back, in panels that stay
	 * in the L2 cache.  scratch: HART_BF16_SCRATCH bytes, on a cache line.
	 */
	void		(*multiply) (const HartBf16Rows *w, const HartBf16X *x, float *y, size_t ldy, void *scratch);
} HartBf16Kernels;

/* The set in force; NULL when there is none, and products are those of kernels.h */
extern const HartBf16Kernels *hart_bf16_kernels;

/*
 * Put in force what goes with a set of hart_kernels: "amx" has AMX; "avx512", where x is to be rounded, AVX512-BF16
 * if the processor has it and is fast with it, for one term; others have none
 */
extern void hart_bf16_select_kernels(const char *name, bool rounded);

/* The named set, or NULL if this processor or this build lacks it */
extern const HartBf16Kernels *hart_bf16_find_kernels(const char *name);

/* Weights of a full tile */
static inline size_t
hart_bf16_tile_weights(HartFormat format)
{
	return format == HART_BF12 ? HART_BF12_TILE : HART_BF16_PLAIN_TILE;
}

static inline size_t
hart_bf16_groups(size_t cols)
{
	return (cols + HART_BF16_GROUP - 1) / HART_BF16_GROUP;
}

static inline size_t
hart_bf16_strips(size_t rows)
{
	return (rows + HART_BF16_STRIP - 1) / HART_BF16_STRIP;
}

/* Rows that a strip of x is filled up to, so that none of its parts lies across cache lines: for few rows a power of two */
static inline size_t
hart_bf16_strip_rows(size_t m)
{
	size_t		rows = 1;

	while (rows < m && rows < HART_BF16_STRIP)
		rows *= 2;
	return rows;
}

/* Bytes of packed rows of x */
static inline size_t
hart_bf16_x_size(size_t m, size_t cols, int terms)
{
	return hart_bf16_strips(m) * hart_bf16_strip_rows(m) * terms * hart_bf16_groups(cols) * HART_BF16_LINE;
}

/* Rows of weights that are unpacked and multiplied together, for m rows of x, in a panel of so many bytes */
extern size_t hart_bf16_panel_rows(size_t bytes, size_t m, size_t cols);

/* Bytes that multiply needs, at most */
#define HART_BF16_SCRATCH (HART_BF16_PANEL_BYTES + HART_BF16_SUMS * sizeof(float))

#endif							/* HART_BF16_H */
