/*
 * weights_test.c
 *		Widening and dot products of stored weights, in every set this processor
 *		has: all patterns, all lengths, all alignments.
 */
#include "kernels_test.h"

static const char *const dtype_names[HART_N_DTYPES] = {"f32", "f16", "bf16"};
static const HartKernels *set;

/* What binary16 means, by definition */
static double
f16_value(unsigned half)
{
	int			exponent = (half >> 10) & 0x1f;
	double		fraction = half & 0x3ff;
	double		sign = half & 0x8000 ? -1 : 1;

	if (exponent == 0)
		return sign * ldexp(fraction, -24);
	if (exponent == 0x1f)
		return fraction != 0 ? NAN : sign * INFINITY;
	return sign * ldexp(1024 + fraction, exponent - 25);
}

static void
test_widen_patterns(void)
{
	static uint16_t halves[65536];
	static float wide[65536];
	bool		right = true;

	for (unsigned i = 0; i < 65536; i++)
		halves[i] = (uint16_t) i;

	set->widen[HART_BF16] (halves, wide, 65536);
	for (uint32_t i = 0; i < 65536; i++)
	{
		uint32_t	bits = i << 16;

		if (memcmp(&wide[i], &bits, 4) != 0)
			right = false;
	}
	ok(right, "%s: all 65536 bf16 widen exactly, NaNs bit for bit", set->name);

	right = true;
	set->widen[HART_F16] (halves, wide, 65536);
	for (uint32_t i = 0; i < 65536; i++)
	{
		uint32_t	bits;

		memcpy(&bits, &wide[i], 4);
		if ((i & 0x7c00) == 0x7c00 && (i & 0x3ff) != 0)
		{
			if (bits != ((i & 0x8000) << 16 | 0x7fc00000 | (i & 0x3ff) << 13))
				right = false;
		}
		else if (wide[i] != f16_value(i) || bits >> 31 != i >> 15)
			right = false;
	}
	ok(right, "%s: all 65536 f16 widen exactly, NaNs quietly", set->name);
}

/* n random weights ending at a guard page, and what they are as floats */
static char *
random_weights(HartDtype dtype, size_t n, float *values)
{
	static char *end = NULL;
	char	   *w;

	if (end == NULL)
		end = (char *) guarded_memory(MAX_SIZE * 4, false) + MAX_SIZE * 4;
	w = end - n * hart_dtype_size(dtype);
	for (size_t i = 0; i < n; i++)
	{
		float		value = (float) random_unit();
		uint32_t	bits;
		uint16_t	half;

		memcpy(&bits, &value, 4);
		if (dtype == HART_F32)
		{
			memcpy(w + 4 * i, &value, 4);
			values[i] = value;
			continue;
		}
		if (dtype == HART_F16)
		{
			/* Subnormals to 2 */
			half = (uint16_t) (bits % 0x4000) | (uint16_t) (bits >> 31 << 15);
			values[i] = (float) f16_value(half);
		}
		else
		{
			half = (uint16_t) (bits >> 16);
			bits &= 0xffff0000;
			memcpy(&values[i], &bits, 4);
		}
		memcpy(w + 2 * i, &half, 2);
	}
	return w;
}

/* One row of x by one row of weights */
static float
dot_of(HartDtype dtype, const void *w, const float *x, size_t n)
{
	return set->dot1[dtype] (w, n, NULL, 0, x);
}

static void
test_weights(HartDtype dtype)
{
	static float values[MAX_SIZE];
	static float wide[MAX_SIZE + 1];
	static char moved[MAX_SIZE * 4 + 64];
	size_t		size = hart_dtype_size(dtype);
	bool		dots = true;
	bool		both = true;
	bool		widens = true;
	bool		alignment = true;

	for (size_t n = 1; n != 0; n = next_size(n))
	{
		char	   *w = random_weights(dtype, n, values);
		float	   *x = random_floats(0, n);
		double		magnitude;
		double		exact = exact_dot(values, x, n, &magnitude);
		bool		is_block = n <= HART_DOT_DEPTH;
		float		dot = is_block ? dot_of(dtype, w, x, n) : 0;

		if (is_block && !near(dot, exact, SUM_TOLERANCE * magnitude))
			dots = false;

		{
			float		sums[2] = {1, 2};
			float		again[2] = {1, 2};
			double		squares_magnitude;
			double		squares = exact_dot(values, values, n, &squares_magnitude);

			/* sums are added to what is there */
			set->dot_and_squares[dtype] (w, x, n, sums);
			memcpy(moved + 1, w, n * size);
			set->dot_and_squares[dtype] (moved + 1, x, n, again);
			if (!near(sums[0] - 1.0, exact, SUM_TOLERANCE * (magnitude + 1)) || !same_bits(sums, again, 2) ||
				/* as large as its magnitudes, so that a few roundings are more of it */
				!near(sums[1] - 2.0, squares, 2 * SUM_TOLERANCE * (squares_magnitude + 2)))
				both = false;
		}

		wide[n] = 12345;
		set->widen[dtype] (w, wide, n);
		if (!same_bits(wide, values, n) || wide[n] != 12345)
			widens = false;

		for (int shift = 0; shift < 64; shift += n < 68 ? 1 : 7)
		{
			float		again;

			memcpy(moved + shift, w, n * size);
			again = is_block ? dot_of(dtype, moved + shift, x, n) : 0;
			set->widen[dtype] (moved + shift, wide, n);
			if (!same_bits(&again, &dot, 1) || !same_bits(wide, values, n))
				alignment = false;
		}
	}
	ok(dots, "%s: products of %s", set->name, dtype_names[dtype]);
	ok(both, "%s: dot_and_squares of %s, at any address", set->name, dtype_names[dtype]);
	ok(widens, "%s: widen of %s, of any length", set->name, dtype_names[dtype]);
	ok(alignment, "%s: %s weights at any address give the same bits", set->name,
	   dtype_names[dtype]);
	ok(dot_of(dtype, moved, values, 0) == 0, "%s: no %s weights give 0",
	   set->name, dtype_names[dtype]);
}

/* dot1 gives the same sum of a row that is whole, and cut at every place where it may be */
static bool
same_in_pieces(HartDtype dtype, const char *w, const float *x, size_t n, float expected)
{
	static char rest[MAX_SIZE * 4];
	size_t		size = hart_dtype_size(dtype);

	for (size_t cut = 0; cut < n; cut += HART_CHAINS)
	{
		float		sum;

		memcpy(rest, w + cut * size, (n - cut) * size);
		sum = set->dot1[dtype] (w, cut, rest, n - cut, x);
		if (!same_bits(&sum, &expected, 1))
			return false;
	}
	return true;
}

/* A product is that of the widened weights, in one piece or in two */
static void
test_pieces(HartDtype dtype)
{
	static float values[MAX_SIZE];
	bool		widened = true;
	bool		pieces = true;

	for (size_t n = 1; n <= 1000; n = next_size(n))
	{
		char	   *w = random_weights(dtype, n, values);
		float	   *x = random_floats(0, n);
		float		sum = dot_of(dtype, w, x, n);
		float		wide = dot_of(HART_F32, values, x, n);

		widened = widened && same_bits(&wide, &sum, 1);
		pieces = pieces && same_in_pieces(dtype, w, x, n, sum);
	}
	ok(widened, "%s: a product of %s is that of the widened weights", set->name, dtype_names[dtype]);
	ok(pieces, "%s: dot1 of %s in two pieces gives the sum of one", set->name, dtype_names[dtype]);
}

int
main(void)
{
	static const char *const names[] = {"portable", "avx2", "avx512"};

	for (int i = 0; i < 3; i++)
	{
		set = hart_find_kernels(names[i]);
		if (set == NULL)
		{
			ok(true, "%s # SKIP not on this processor", names[i]);
			continue;
		}
		test_widen_patterns();
		for (int dtype = 0; dtype < HART_N_DTYPES; dtype++)
		{
			test_weights((HartDtype) dtype);
			test_pieces((HartDtype) dtype);
		}
	}
	return tap_done();
}
