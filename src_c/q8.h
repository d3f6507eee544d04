/*
 * q8.h
 *		Tiles that hold weights as 8-bit integers with a scale for every 64, and
 *		products with them in integers.
 *
 * Knows nothing of PostgreSQL.  A block is 64 consecutive weights of a row, which must be a whole number of
 * blocks.  A weight is (u - 128) * scale, where u is a byte from 1 to 255 and the scale a bfloat16: the smallest
 * that reaches the block's largest magnitude with 127.
 *
 * The blocks of a row are taken by 16: a group, or what is left at a row's end.  A tile is a header of 256 bytes and
 * up to 122 blocks; it may end within a group.  What a tile has of one group is a run:
 *
 *		0		122 scales, 2 bytes each
 *		244		number of blocks in a row of the tensor, 4 bytes
 *		248		number in its row of the tile's first block, 4 bytes
 *		252		number of blocks in the tile, 2 bytes
 *		254		0, 2 bytes
 *		256		the runs: of n blocks, first weights 0 to 3 of each block, then weights 4 to 7 of each, and so on
 *
 * So a vector of 16 dwords holds 4 weights of each block of a group, and an instruction that multiplies bytes and
 * adds them up in dwords (VPDPBUSD, or VPMADDUBSW and VPMADDWD) keeps the sums of the 16 blocks apart: one
 * conversion to float and one multiplication by the scales for 1024 products.
 *
 * The other side of a product, the activations x, is rounded too: in every block of 64 to 14 bits,
 * q = round(x * 8191 / max|x|), in two planes of 7: q = 128 * high + low, -64 <= high <= 64, -64 <= low < 64.  As 255 * 64 * 2 < 2^15,
 * VPMADDUBSW never saturates.  Fourteen bits cost nothing where weights come from memory, and leave the rounding of the weights
 * as the only error that counts.
 *
 * A product of two rows is one number, to the bit, whatever computes it: each block's sum is exact in 32 bits, is converted to float,
 * multiplied by (scale of x * scale of w) and added by a fused multiply-add to one of 16 sums, that of its place in the group, group after group; the
 * 16 sums are added by halves: l and l + 8, l + 4, l + 2, l + 1.
 */
#ifndef HART_Q8_H
#define HART_Q8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HART_Q8_BLOCK 64		/* weights of a block */
#define HART_Q8_GROUP 16		/* blocks of a group */
#define HART_Q8_QUADS (HART_Q8_BLOCK / 4)	/* dwords of a block */
#define HART_Q8_HEADER 256
#define HART_Q8_TILE_BLOCKS 122
#define HART_Q8_TILE (HART_Q8_TILE_BLOCKS * HART_Q8_BLOCK)	/* weights of a full tile, which then has 8064 bytes */

/* Largest magnitudes of the integers */
#define HART_Q8_MAX_WEIGHT 127
#define HART_Q8_MAX_X 8191

/* Magnitudes below this count as 0 in x: 8191 divided by one must be finite */
#define HART_Q8_MIN_X 1e-30f

/* A group of a row of x: place l of every array is block l's; blocks beyond the row's end are 0 */
typedef struct HartQ8X
{
	int8_t		high[HART_Q8_QUADS][HART_Q8_GROUP][4];
	int8_t		low[HART_Q8_QUADS][HART_Q8_GROUP][4];
	int32_t		bias[HART_Q8_GROUP];	/* -128 * sum of q: what the offset of the weights must be corrected by */
	float		scale[HART_Q8_GROUP];	/* of q; NaN for a block with a NaN or an infinity, so that its products are NaN */
} HartQ8X;

/* Where the blocks of rows of weights lie */
typedef struct HartQ8Rows
{
	const char *const *tiles;	/* consecutive ones of a tensor */
	size_t		first_block;	/* of the first row, in the first tile */
	size_t		row_blocks;		/* blocks of a row */
	size_t		n;				/* rows */
} HartQ8Rows;

typedef struct HartQ8Kernels
{
	const char *name;			/* "portable", "avx2", "avx512" or "avx512vnni" */

	/* Round a row of x of n_blocks blocks, into hart_q8_groups(n_blocks) groups */
	void		(*round_x) (const float *x, size_t n_blocks, HartQ8X *out);

	/* y[r] = x . row r of weights, reading the weights from front to back */
	void		(*one_row) (const HartQ8Rows *w, const HartQ8X *x, float *y);

	/*
	 * y[i * ldy + r] = x row i . row r of weights, for m rows of x one after the
	 * other.  scratch: hart_q8_scratch_size bytes at any address.
	 */
	void		(*rows) (const HartQ8Rows *w, const HartQ8X *x, size_t m,
						 float *y, size_t ldy, void *scratch);

} HartQ8Kernels;

/* The set in force; hart.kernel keeps it in step with hart_kernels */
extern const HartQ8Kernels *hart_q8_kernels;

/* Put the best set in force that does with the instructions of a set of hart_kernels */
extern void hart_q8_select_kernels(const char *name);

/* The named set, or NULL if this processor or this build lacks it */
extern const HartQ8Kernels *hart_q8_find_kernels(const char *name);

/* Groups of a row */
static inline size_t
hart_q8_groups(size_t row_blocks)
{
	return (row_blocks + HART_Q8_GROUP - 1) / HART_Q8_GROUP;
}

/* Bytes that the kernel rows needs */
extern size_t hart_q8_scratch_size(const HartQ8Rows *w);

/* Bytes of a tile of n weights, a whole number of blocks */
static inline size_t
hart_q8_size(size_t n)
{
	return HART_Q8_HEADER + n;
}

/*
 * Round n weights, a whole number of blocks of which the first is block first_block of its row, into hart_q8_size(n)
 * bytes; what is left of the header is 0.  A block with a NaN or an infinity becomes NaN as a whole.
 */
extern void hart_q8_pack(const float *weights, size_t n, size_t first_block, size_t row_blocks, void *tile);

/* out[i] = weight index + i of a tile, exactly */
extern void hart_q8_widen(const void *tile, size_t index, float *out, size_t n);

/* NULL for a tile of so many bytes that holds n weights as hart_q8_pack writes them, else what is wrong with it, in a few words */
extern const char *hart_q8_fault(const void *tile, size_t size, size_t n);

#endif							/* HART_Q8_H */
