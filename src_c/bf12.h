/*
 * bf12.h
 *		Tiles that hold bf16 weights in 12 bits each, losslessly.
 *
 * Of the 8 bits of a bf16 exponent a tile of trained weights needs few: nearly all of its
 * weights share 16 exponents.  A packed tile lists those, keeps a 4-bit code for each weight
 * beside its sign and its 7 bits of mantissa, and lists the weights with another exponent
 * whole.  Knows nothing of PostgreSQL.
 *
 * A tile is a header of 192 bytes and blocks of 192 bytes, each for 128 weights:
 *
 *		0		16 exponents: what the codes 0 to 15 stand for
 *		16		number of weights in the tile, 2 bytes
 *		18		number of exceptions, 2 bytes
 *		20		43 exceptions, ascending: weight's number in the tile, its bf16 bits, 2 bytes each
 *		192		the blocks; what pads the last one is 0
 *
 * and a block is 64 bytes of codes and two times 64 bytes of signs and mantissas, laid out so that a
 * vector of 16 dwords becomes 16 consecutive weights by shifts that are the same in all its lanes:
 *
 *		codes		nibble k of dword i belongs to weight 16 k + i
 *		mantissas	of the two vectors j, byte b of dword i: its low 7 bits are the mantissa of weight 16 (4 j + b) + i,
 *					whose sign is the top bit of byte b + 1 (of byte 0 for b = 3)
 *
 * A sign lies 15 bits above the lowest bit of its mantissa, as in a float: one rotation puts both in place.
 */
#ifndef HART_BF12_H
#define HART_BF12_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HART_BF12_CODES 16
#define HART_BF12_MAX_EXCEPTIONS 43
#define HART_BF12_HEADER 192
#define HART_BF12_BLOCK 128		/* weights of a block */
#define HART_BF12_BLOCK_BYTES 192
#define HART_BF12_TILE (41 * HART_BF12_BLOCK)	/* weights of a full tile, which then has 8064 bytes */

/* A weight whose exponent has no code */
typedef struct HartBf12Exception
{
	uint16_t	index;			/* in the tile */
	uint16_t	bits;
} HartBf12Exception;

/* Bytes of a tile of n weights */
static inline size_t
hart_bf12_size(size_t n)
{
	return HART_BF12_HEADER + (n + HART_BF12_BLOCK - 1) / HART_BF12_BLOCK * HART_BF12_BLOCK_BYTES;
}

static inline uint16_t
hart_bf12_header_word(const void *tile, size_t at)
{
	uint16_t	word;

	memcpy(&word, (const char *) tile + at, sizeof(word));
	return word;
}

static inline size_t
hart_bf12_n_weights(const void *tile)
{
	return hart_bf12_header_word(tile, 16);
}

/* No more than there is room for, whatever the tile says */
static inline size_t
hart_bf12_n_exceptions(const void *tile)
{
	size_t		n = hart_bf12_header_word(tile, 18);

	return n < HART_BF12_MAX_EXCEPTIONS ? n : HART_BF12_MAX_EXCEPTIONS;
}

static inline HartBf12Exception
hart_bf12_exception(const void *tile, size_t i)
{
	HartBf12Exception exception;

	memcpy(&exception, (const char *) tile + 20 + i * sizeof(exception), sizeof(exception));
	return exception;
}

/* The first exception at or beyond a weight; their number when there is none */
static inline size_t
hart_bf12_find_exception(const void *tile, size_t index)
{
	size_t		n = hart_bf12_n_exceptions(tile);
	size_t		i = 0;

	while (i < n && hart_bf12_exception(tile, i).index < index)
		i++;
	return i;
}

/* The block that a weight lies in */
static inline const char *
hart_bf12_block(const void *tile, size_t index)
{
	return (const char *) tile + HART_BF12_HEADER + index / HART_BF12_BLOCK * HART_BF12_BLOCK_BYTES;
}

/* Whether n bf16 weights, at any address, fit a tile; n <= HART_BF12_TILE */
extern bool hart_bf12_fits(const void *weights, size_t n);

/* Pack them into hart_bf12_size(n) bytes; false, and nothing of use in tile, when they do not fit */
extern bool hart_bf12_pack(const void *weights, size_t n, void *tile);

/* The weights of a tile again, bit for bit: 2 hart_bf12_n_weights(tile) bytes */
extern void hart_bf12_unpack(const void *tile, void *weights);

/* NULL for a tile of so many bytes that holds n weights as hart_bf12_pack writes them, else what is wrong with it, in a few words */
extern const char *hart_bf12_fault(const void *tile, size_t size, size_t n);

#endif							/* HART_BF12_H */
