/*
 * q8_internal.h
 *		What the sets of kernels for 8-bit tiles share.
 */
#ifndef HART_Q8_INTERNAL_H
#define HART_Q8_INTERNAL_H

#include "kernels_internal.h"
#include "q8.h"

extern const HartQ8Kernels hart_q8_kernels_portable;
#ifdef HART_X86_KERNELS
extern const HartQ8Kernels hart_q8_kernels_avx2;
extern const HartQ8Kernels hart_q8_kernels_avx512;
extern const HartQ8Kernels hart_q8_kernels_avx512vnni;
#endif

/* A group of a row of weights: n blocks as in a run, and their scales */
typedef struct HartQ8Run
{
	const char *weights;
	const char *scales;
} HartQ8Run;

/* Room for a group that a tile's end cuts: its weights, then its scales */
#define HART_Q8_CUT_WEIGHTS (HART_Q8_GROUP * HART_Q8_BLOCK)
#define HART_Q8_CUT_BYTES (HART_Q8_CUT_WEIGHTS + 2 * HART_Q8_GROUP)

/* A walk over the groups of rows of weights */
typedef struct HartQ8Walk
{
	const char *const *tile;
	size_t		block;			/* the next one, in the tile */
} HartQ8Walk;

static inline HartQ8Walk
hart_q8_walk(const HartQ8Rows *w)
{
	return (HartQ8Walk) {w->tiles + w->first_block / HART_Q8_TILE_BLOCKS, w->first_block % HART_Q8_TILE_BLOCKS};
}

static inline HartQ8Run
hart_q8_run(const char *tile, size_t block)
{
	return (HartQ8Run) {tile + HART_Q8_HEADER + block * HART_Q8_BLOCK, tile + 2 * block};
}

/* A bfloat16 at any address */
static inline float
hart_q8_scale(const char *scale)
{
	uint16_t	half;
	uint32_t	bits;
	float		value;

	memcpy(&half, scale, sizeof(half));
	bits = (uint32_t) half << 16;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* What a tile's header says of its blocks */
typedef struct HartQ8Header
{
	uint32_t	row_blocks;
	uint32_t	first_block;
	uint16_t	n_blocks;
	uint16_t	zero;
} HartQ8Header;

static inline HartQ8Header
hart_q8_header(const void *tile)
{
	HartQ8Header header;

	memcpy(&header, (const char *) tile + 2 * HART_Q8_TILE_BLOCKS, sizeof(header));
	return header;
}

/* Where a block's first dword lies in a tile, and how far apart its dwords are */
typedef struct HartQ8Block
{
	size_t		at;
	size_t		stride;
} HartQ8Block;

static inline HartQ8Block
hart_q8_block(HartQ8Header header, size_t block)
{
	size_t		in_row = ((size_t) header.first_block + block) % header.row_blocks;
	size_t		in_group = in_row % HART_Q8_GROUP;
	size_t		before = in_group < block ? in_group : block;	/* blocks of the run that precede it */
	size_t		after = header.row_blocks - in_row < HART_Q8_GROUP - in_group ?
		header.row_blocks - in_row : HART_Q8_GROUP - in_group;

	if (after > header.n_blocks - block)
		after = header.n_blocks - block;
	return (HartQ8Block) {HART_Q8_HEADER + (block - before) * HART_Q8_BLOCK + 4 * before, 4 * (before + after)};
}

#endif							/* HART_Q8_INTERNAL_H */
