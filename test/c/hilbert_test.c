/*
 * hilbert_test.c
 *		The Hilbert curve: a bijection, continuous, prefix-compatible, and the
 *		same for ever (indexes are stored).
 */
#include "hilbert.h"
#include "tap.h"

#include <math.h>
#include <string.h>

/* The twin: J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707, 381 (2004) */
static uint64_t
skilling_index(const uint32_t cell[4], int bits)
{
	uint32_t	x[4] = {cell[0], cell[1], cell[2], cell[3]};
	uint32_t	top = UINT32_C(1) << (bits - 1);
	uint32_t	flip = 0;
	uint64_t	index = 0;

	/* Undo the rotations and reflections of the cells, outermost first */
	for (uint32_t q = top; q > 1; q >>= 1)
	{
		uint32_t	low = q - 1;

		for (int i = 0; i < 4; i++)
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
	for (int i = 1; i < 4; i++)
		x[i] ^= x[i - 1];
	for (uint32_t q = top; q > 1; q >>= 1)
	{
		if (x[3] & q)
			flip ^= q - 1;
	}
	for (int j = bits - 1; j >= 0; j--)
	{
		for (int i = 0; i < 4; i++)
			index = index << 1 | (((x[i] ^ flip) >> j) & 1);
	}
	return index;
}

/* The machine of states takes the way of Skilling's transform */
static void
test_twin(int bits)
{
	bool		same = true;
	bool		back = true;

	for (int trial = 0; trial < 20000; trial++)
	{
		uint32_t	cell[4];
		uint32_t	found[4];
		uint64_t	index;

		for (int i = 0; i < 4; i++)
			cell[i] = (uint32_t) (random_bits() >> (64 - bits));
		index = hart_hilbert_index(cell, bits);
		same &= index == skilling_index(cell, bits);
		hart_hilbert_cell(index, bits, found);
		back &= memcmp(cell, found, sizeof(cell)) == 0;
	}
	ok(same && back, "%d bits: the index is that of the twin, and leads back", bits);
}

/* Visit every cell of the grid along the curve */
static void
test_grid(int bits)
{
	uint64_t	n_cells = UINT64_C(1) << (4 * bits);
	double		width = 2.0 / (1 << bits);
	bool	   *seen = calloc(n_cells, sizeof(bool));
	bool		inverse = true;
	bool		once = true;
	bool		adjacent = true;
	double		last[4] = {0};

	for (uint64_t index = 0; index < n_cells; index++)
	{
		double		p[4];
		uint64_t	back;
		size_t		cell = 0;
		int			steps = 0;

		if (!hart_hilbert_decode(index, bits, p) ||
			!hart_hilbert_encode(p, bits, &back) || back != index)
			inverse = false;
		for (int i = 0; i < 4; i++)
		{
			cell = cell << bits | (size_t) ((p[i] + 1) / width);
			if (p[i] != last[i])
				steps += fabs(p[i] - last[i]) == width ? 1 : 100;
		}
		if (seen[cell])
			once = false;
		seen[cell] = true;
		if (index > 0 && steps != 1)
			adjacent = false;
		memcpy(last, p, sizeof(last));
	}
	free(seen);

	ok(inverse, "%d bits: encode(decode(index)) = index for all %llu cells", bits,
	   (unsigned long long) n_cells);
	ok(once, "%d bits: every cell is visited once", bits);
	ok(adjacent, "%d bits: consecutive cells share a face", bits);
}

static void
test_random_points(int bits)
{
	bool		near = true;
	bool		prefix = true;

	for (int trial = 0; trial < 20000; trial++)
	{
		double		p[4];
		double		q[4];
		uint64_t	index;
		uint64_t	coarse;

		for (int i = 0; i < 4; i++)
			p[i] = random_unit();
		if (!hart_hilbert_encode(p, bits, &index) ||
			!hart_hilbert_decode(index, bits, q))
			near = false;
		for (int i = 0; i < 4; i++)
		{
			if (!(fabs(p[i] - q[i]) <= 1.0 / (1 << bits)))
				near = false;
		}
		if (bits > 1 && (!hart_hilbert_encode(p, bits - 1, &coarse) ||
						 coarse != index >> 4))
			prefix = false;
	}
	ok(near, "%d bits: decode(encode(p)) is within half a cell", bits);
	if (bits > 1)
		ok(prefix, "%d bits: the index at %d bits is its prefix", bits, bits - 1);
}

/* Values from an independent implementation of Skilling's transform */
static void
test_known_values(void)
{
	static const struct
	{
		double		p[4];
		int			bits;
		uint64_t	index;
	}			known[] = {
		{{-1, -1, -1, -1}, 1, UINT64_C(0)},
		{{1, 1, 1, 1}, 1, UINT64_C(10)},
		{{0.5, -0.5, 0.5, -0.5}, 2, UINT64_C(204)},
		{{0, 0, 0, 0}, 12, UINT64_C(175921860444160)},
		{{0.1, -0.2, 0.3, 0.9}, 12, UINT64_C(235678705087767)},
		{{-0.75, 0.25, 0.999, -0.001}, 12, UINT64_C(84433330416266)},
		{{1, -1, 1, -1}, 12, UINT64_C(213451857338914)},
		{{0.1, -0.2, 0.3, 0.9}, 15, UINT64_C(965339976039495959)},
		{{1, 1, 1, 1}, 15, UINT64_C(768614336404564650)},
		{{-1, -1, -1, 1}, 15, UINT64_C(76861433640456465)},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
	{
		uint64_t	index = 0;

		ok(hart_hilbert_encode(known[i].p, known[i].bits, &index) &&
		   index == known[i].index,
		   "(%g, %g, %g, %g) at %d bits is %llu", known[i].p[0], known[i].p[1],
		   known[i].p[2], known[i].p[3], known[i].bits,
		   (unsigned long long) known[i].index);
	}
}

static void
test_edges(void)
{
	const double bad[] = {NAN, -NAN, INFINITY, -INFINITY, 1.0000000000000002,
	-1.0000000000000002, 1e300};
	double		lowest[4] = {-1, -1, -1, -1};
	double		highest[4] = {1, 1, 1, 1};
	double		below[4] = {1, 1, 1, 1};
	double		zero[4] = {0, 0, 0, 0};
	double		minus[4] = {-0.0, -0.0, -0.0, -0.0};
	double		tiny[4] = {-1e-300, 0, 0, 0};
	double		p[4];
	uint64_t	a = 1;
	uint64_t	b = 2;
	bool		refused = true;

	for (int axis = 0; axis < 4; axis++)
	{
		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		{
			double		point[4] = {0, 0, 0, 0};

			point[axis] = bad[i];
			if (hart_hilbert_encode(point, 12, &a))
				refused = false;
		}
	}
	ok(refused, "NaN, infinity and points outside the cube are refused on every axis");

	ok(hart_hilbert_encode(lowest, 15, &a) && a == 0, "the lowest corner is 0");
	for (int i = 0; i < 4; i++)
		below[i] = nextafter(1, 0);
	ok(hart_hilbert_encode(highest, 15, &a) && hart_hilbert_encode(below, 15, &b) &&
	   a == b, "1 is in the last cell");
	ok(hart_hilbert_encode(zero, 15, &a) && hart_hilbert_encode(minus, 15, &b) &&
	   a == b, "-0 is 0");
	ok(hart_hilbert_encode(zero, 15, &a) && hart_hilbert_encode(tiny, 15, &b) &&
	   a != b, "the smallest negative number is not in the cell of 0");

	ok(!hart_hilbert_encode(zero, 0, &a) && !hart_hilbert_encode(zero, 16, &a) &&
	   !hart_hilbert_encode(zero, -1, &a) && !hart_hilbert_decode(0, 0, p) &&
	   !hart_hilbert_decode(0, 16, p) && !hart_hilbert_decode(0, -1, p),
	   "bits outside 1..15 are refused");
	ok(hart_hilbert_decode(15, 1, p) && !hart_hilbert_decode(16, 1, p) &&
	   hart_hilbert_decode((UINT64_C(1) << 60) - 1, 15, p) &&
	   !hart_hilbert_decode(UINT64_C(1) << 60, 15, p) &&
	   !hart_hilbert_decode(UINT64_MAX, 15, p),
	   "an index with too many bits is refused");
}

int
main(void)
{
	for (int bits = 1; bits <= 4; bits++)
		test_grid(bits);
	for (int bits = 1; bits <= HART_HILBERT_MAX_BITS; bits++)
	{
		test_twin(bits);
		test_random_points(bits);
	}
	test_known_values();
	test_edges();
	return tap_done();
}
