/*
 * narrow_test.c
 *		float32 narrowed to the storage types: every value of 16 bits, what lies
 *		between neighbours, and random numbers against a search for the nearest.
 */
#include "narrow.h"
#include "tap.h"

#include <math.h>
#include <string.h>

static float
widened(HartDtype dtype, uint16_t half)
{
	float		value;

	hart_kernels->widen[dtype] (&half, &value, 1);
	return value;
}

/* The largest finite number of a type */
static uint16_t
largest(HartDtype dtype)
{
	return dtype == HART_F16 ? 0x7bff : 0x7f7f;
}

/* The nearest of all positive finite numbers, by bisection in doubles; of two the even one */
static uint16_t
nearest(HartDtype dtype, double value)
{
	uint16_t	low = 0;
	uint16_t	high = largest(dtype);

	while (high - low > 1)
	{
		uint16_t	middle = (uint16_t) ((low + high) / 2);

		if (widened(dtype, middle) <= value)
			low = middle;
		else
			high = middle;
	}
	if (value - widened(dtype, low) == widened(dtype, high) - value)
		return low % 2 == 0 ? low : high;
	return value - widened(dtype, low) < widened(dtype, high) - value ? low : high;
}

/* Every value that a type has is stored as it is */
static void
test_all(HartDtype dtype, const char *name)
{
	int			wrong = 0;

	for (uint32_t half = 0; half <= 0xffff; half++)
	{
		float		value = widened(dtype, (uint16_t) half);
		uint16_t	stored = 0;
		HartNarrowing result = hart_narrow(dtype, value, &stored);

		if (isnan(value))
			wrong += !isnan(widened(dtype, stored)) || signbit(widened(dtype, stored)) != signbit(value);
		else
			wrong += result != HART_EXACT || stored != half;
	}
	ok(wrong == 0, "%s: every value stays", name);
}

/* Half-way between two neighbours the even one is taken, beside it the nearer one */
static void
test_between(HartDtype dtype, const char *name)
{
	int			wrong = 0;

	for (uint16_t half = 1; half < largest(dtype); half++)
	{
		float		low = widened(dtype, half);
		float		high = widened(dtype, (uint16_t) (half + 1));
		float		middle = (float) (((double) low + high) / 2);
		float		values[3] = {nextafterf(middle, 0), middle, nextafterf(middle, INFINITY)};

		for (int i = 0; i < 3; i++)
		{
			uint16_t	stored = 0;
			HartNarrowing result = hart_narrow(dtype, -values[i], &stored);

			wrong += stored != (nearest(dtype, values[i]) | 0x8000) || result != (values[i] == low || values[i] == high ? HART_EXACT : HART_ROUNDED);
		}
	}
	ok(wrong == 0, "%s: to the nearest, ties to even", name);
}

static void
test_random(HartDtype dtype, const char *name)
{
	uint64_t	state = 88172645463325252;
	float		limit = widened(dtype, largest(dtype));
	float		smallest = widened(dtype, 1);
	int			wrong = 0;
	int			tried = 0;

	while (tried < 300000)
	{
		uint32_t	bits;
		float		value;
		uint16_t	stored = 0;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		bits = (uint32_t) (state >> 33);
		memcpy(&value, &bits, sizeof(value));
		if (!(value >= smallest && value <= limit))
			continue;
		tried++;
		hart_narrow(dtype, value, &stored);
		wrong += stored != nearest(dtype, value);
	}
	ok(wrong == 0, "%s: random numbers", name);
}

/* Where numbers would become infinite, or zero */
static void
test_limits(HartDtype dtype, const char *name)
{
	float		limit = widened(dtype, largest(dtype));
	float		step = limit - widened(dtype, (uint16_t) (largest(dtype) - 1));
	float		beyond = (float) ((double) limit + step / 2);
	float		smallest = widened(dtype, 1);
	uint16_t	stored = 0xabcd;

	ok(hart_narrow(dtype, nextafterf(beyond, 0), &stored) == HART_ROUNDED && stored == largest(dtype), "%s: the last number that is not infinite", name);
	stored = 0xabcd;
	ok(hart_narrow(dtype, beyond, &stored) == HART_OVERFLOW && hart_narrow(dtype, -3.4028235e38f, &stored) == HART_OVERFLOW && stored == 0xabcd, "%s: too large, and nothing stored", name);
	ok(hart_narrow(dtype, smallest / 2, &stored) == HART_UNDERFLOW && hart_narrow(dtype, -1e-45f, &stored) == HART_UNDERFLOW && stored == 0xabcd, "%s: too small, and nothing stored", name);
	ok(hart_narrow(dtype, nextafterf(smallest / 2, 1), &stored) == HART_ROUNDED && stored == 1, "%s: the first number that is not zero", name);
	ok(hart_narrow(dtype, -INFINITY, &stored) == HART_EXACT && isinf(widened(dtype, stored)), "%s: infinity stays", name);
	ok(hart_narrow(dtype, -0.0f, &stored) == HART_EXACT && stored == 0x8000, "%s: so does minus zero", name);
}

static void
test_float32(void)
{
	uint32_t	patterns[] = {0, 0x80000000, 1, 0x7f7fffff, 0x7f800000, 0x7f800001, 0xffc12345};
	int			wrong = 0;

	for (size_t i = 0; i < sizeof(patterns) / sizeof(*patterns); i++)
	{
		float		value;
		uint32_t	stored = 0;

		memcpy(&value, &patterns[i], sizeof(value));
		wrong += hart_narrow(HART_F32, value, &stored) != HART_EXACT || stored != patterns[i];
	}
	ok(wrong == 0, "F32: every bit stays");
}

int
main(void)
{
	test_float32();
	for (HartDtype dtype = HART_F16; dtype <= HART_BF16; dtype++)
	{
		const char *name = dtype == HART_F16 ? "F16" : "BF16";

		test_all(dtype, name);
		test_between(dtype, name);
		test_random(dtype, name);
		test_limits(dtype, name);
	}
	return tap_done();
}
