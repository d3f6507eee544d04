/*
 * hilbert.c
 *		The Hilbert curve through the 4D cube [-1, 1]^4.
 *
 * Skilling's transform works on the "transpose" of the index: DIMS words of
 * `bits` bits, where bit j of word i is bit (j * DIMS + DIMS - 1 - i) of the
 * index.  Each step of it depends on higher bits only, hence the prefix
 * property promised in hilbert.h.
 */
#include "hilbert.h"

#include <math.h>

#define DIMS HART_HILBERT_DIMS

/* Turn cell coordinates into the transposed index, in place */
static void
axes_to_transpose(uint32_t x[DIMS], int bits)
{
	uint32_t	top = UINT32_C(1) << (bits - 1);
	uint32_t	flip = 0;

	/* Undo the rotations and reflections of the cells, outermost first */
	for (uint32_t q = top; q > 1; q >>= 1)
	{
		uint32_t	low = q - 1;

		for (int i = 0; i < DIMS; i++)
		{
			if (x[i] & q)
				x[0] ^= low;
			else
			{
				uint32_t	swap = (x[0] ^ x[i]) & low;

				x[0] ^= swap;
				x[i] ^= swap;
			}
		}
	}

	/* Gray encode */
	for (int i = 1; i < DIMS; i++)
		x[i] ^= x[i - 1];
	for (uint32_t q = top; q > 1; q >>= 1)
	{
		if (x[DIMS - 1] & q)
			flip ^= q - 1;
	}
	for (int i = 0; i < DIMS; i++)
		x[i] ^= flip;
}

/* Turn the transposed index into cell coordinates, in place */
static void
transpose_to_axes(uint32_t x[DIMS], int bits)
{
	uint32_t	end = UINT32_C(1) << bits;
	uint32_t	gray = x[DIMS - 1] >> 1;

	/* Gray decode */
	for (int i = DIMS - 1; i > 0; i--)
		x[i] ^= x[i - 1];
	x[0] ^= gray;

	/* Redo the rotations and reflections of the cells, innermost first */
	for (uint32_t q = 2; q != end; q <<= 1)
	{
		uint32_t	low = q - 1;

		for (int i = DIMS - 1; i >= 0; i--)
		{
			if (x[i] & q)
				x[0] ^= low;
			else
			{
				uint32_t	swap = (x[0] ^ x[i]) & low;

				x[0] ^= swap;
				x[i] ^= swap;
			}
		}
	}
}

uint64_t
hart_hilbert_index(const uint32_t cell[DIMS], int bits)
{
	uint32_t	x[DIMS] = {cell[0], cell[1], cell[2], cell[3]};
	uint64_t	index = 0;

	axes_to_transpose(x, bits);
	for (int j = bits - 1; j >= 0; j--)
	{
		for (int i = 0; i < DIMS; i++)
			index = (index << 1) | ((x[i] >> j) & 1);
	}
	return index;
}

void
hart_hilbert_cell(uint64_t index, int bits, uint32_t cell[DIMS])
{
	for (int i = 0; i < DIMS; i++)
	{
		cell[i] = 0;
		for (int j = bits - 1; j >= 0; j--)
			cell[i] = (cell[i] << 1) | ((index >> (j * DIMS + DIMS - 1 - i)) & 1);
	}
	transpose_to_axes(cell, bits);
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
		int32_t		place;

		/* Written so that NaN fails it */
		if (!(p[i] >= -1.0 && p[i] <= 1.0))
			return false;

		/* Scaling before shifting is exact; (p + 1) * half would round */
		place = (int32_t) floor(p[i] * half) + half;
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
