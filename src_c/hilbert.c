/*
 * hilbert.c
 *		The Hilbert curve through the 4D cube [-1, 1]^4.
 *
 * The curve is that of Skilling's transform, which test/c/hilbert_test.c has as
 * the readable twin.  Here it is a machine of 192 states that takes one bit of each
 * axis a step, highest first; hence the prefix property promised in hilbert.h.
 */
#include "hilbert.h"

#include "hilbert_states.h"

#define DIMS HART_HILBERT_DIMS

/* Spread 16 bits, so that three others fit between two of them */
static inline uint64_t
spread(uint64_t x)
{
	x = (x | x << 24) & UINT64_C(0x000000FF000000FF);
	x = (x | x << 12) & UINT64_C(0x000F000F000F000F);
	x = (x | x << 6) & UINT64_C(0x0303030303030303);
	return (x | x << 3) & UINT64_C(0x1111111111111111);
}

/* The opposite of spread() */
static inline uint32_t
gather(uint64_t x)
{
	x &= UINT64_C(0x1111111111111111);
	x = (x | x >> 3) & UINT64_C(0x0303030303030303);
	x = (x | x >> 6) & UINT64_C(0x000F000F000F000F);
	x = (x | x >> 12) & UINT64_C(0x000000FF000000FF);
	return (uint32_t) ((x | x >> 24) & 0xFFFF);
}

/* Run a machine over the groups of four bits of its input, highest first */
static inline uint64_t
run(const uint16_t steps[][16], uint64_t input, int bits)
{
	const uint16_t *flat = steps[0];
	uint64_t	output = 0;
	uint32_t	state = 0;		/* times 16 */

	for (int shift = DIMS * (bits - 1); shift >= 0; shift -= DIMS)
	{
		uint32_t	step = flat[state | (input >> shift & 15)];

		output = output << 4 | (step & 15);
		state = step & ~UINT32_C(15);
	}
	return output;
}

uint64_t
hart_hilbert_index(const uint32_t cell[DIMS], int bits)
{
	return run(index_steps, spread(cell[0]) << 3 | spread(cell[1]) << 2 | spread(cell[2]) << 1 | spread(cell[3]), bits);
}

void
hart_hilbert_cell(uint64_t index, int bits, uint32_t cell[DIMS])
{
	uint64_t	woven = run(cell_steps, index, bits);

	for (int i = 0; i < DIMS; i++)
		cell[i] = gather(woven >> (DIMS - 1 - i));
}

bool
hart_hilbert_encode(const double p[DIMS], int bits, uint64_t *index)
{
	uint32_t	cell[DIMS];
	int32_t		half;

	if (bits < 1 || bits > HART_HILBERT_MAX_BITS)
		return false;

	half = INT32_C(1) << (bits - 1);
	for (int i = 0; i < DIMS; i++)
	{
		double		scaled = p[i] * half;
		int32_t		place;

		/* Written so that NaN fails it */
		if (!(p[i] >= -1.0 && p[i] <= 1.0))
			return false;

		/* Scaling before shifting is exact; (p + 1) * half would round.  Conversion goes towards zero, and must go down. */
		place = (int32_t) scaled;
		place += half - (scaled < place);
		cell[i] = (uint32_t) (place < 2 * half ? place : 2 * half - 1);
	}
	*index = hart_hilbert_index(cell, bits);
	return true;
}

bool
hart_hilbert_decode(uint64_t index, int bits, double p[DIMS])
{
	uint32_t	cell[DIMS];
	double		half;

	if (bits < 1 || bits > HART_HILBERT_MAX_BITS || index >> (DIMS * bits) != 0)
		return false;

	hart_hilbert_cell(index, bits, cell);
	half = (double) (UINT32_C(1) << (bits - 1));
	for (int i = 0; i < DIMS; i++)
		p[i] = (cell[i] + 0.5) / half - 1.0;
	return true;
}
