/*
 * bf16_test.c
 *		Products with bf16 weights on the processor's bf16 units, of every set this processor has.
 *
 * A set is compared with sums in double precision, and those of AMX to the bit with the order of sums that bf16.h tells, in plain C. Tiles and x
 * end at pages that cannot be touched, and so does what a set writes.
 */
#include "bf12.h"
#include "bf16.h"
#include "tap.h"

#include <math.h>
#include <string.h>

#define N_SETS 2
static const char *const set_names[N_SETS] = {"amx", "avx512bf16"};
static const HartBf16Kernels *sets[N_SETS];
static bool right[N_SETS];

/* What a sum may be off by, of the sum of the magnitudes, for each number of terms: x has 8, 17, 24 bits */
static const double tolerances[HART_BF16_MAX_TERMS + 1] = {0, 5e-3, 8e-6, 3e-7};

#define MAX_M 50
#define MAX_WEIGHTS (300 * 1000)
#define MAX_TILES 80
#define UNTOUCHED 12345.0f

/* weights before the first row, of another one: whole groups, or whole blocks of a packed tile too */
static size_t skipped = 96;

static float weights[MAX_WEIGHTS];
static const char *tiles[MAX_TILES];
static float *x_end;
static char *packed_end;
static char *scratch;
static float y[MAX_M * 400];
static float expected[MAX_M * 400];

static uint16_t
bf16_of(float value)
{
	uint32_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	return (uint16_t) (bits >> 16);
}

static float
float_of(uint32_t bits)
{
	float		value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static float
random_weight(void)
{
	float		value = float_of((uint32_t) bf16_of((float) (random_unit() + random_unit())) << 16);

	/* some that need an exception in a packed tile */
	return random_bits() % 500 == 0 ? value * 0x1p-40f : value;
}

/* Put the skipped and n weights in tiles, each at the end of memory of its own */
static void
make_tiles(HartFormat format, size_t n)
{
	static char *rooms[MAX_TILES];
	size_t		per_tile = hart_bf16_tile_weights(format);

	for (size_t begin = 0, t = 0; begin < skipped + n; begin += per_tile, t++)
	{
		static uint16_t words[HART_BF12_TILE];
		size_t		taken = skipped + n - begin < per_tile ? skipped + n - begin : per_tile;
		size_t		size = format == HART_BF12 ? hart_bf12_size(taken) : 2 * taken;

		if (rooms[t] == NULL)
			rooms[t] = (char *) guarded_memory(8064, false) + 8064;
		for (size_t i = 0; i < taken; i++)
			words[i] = bf16_of(weights[begin + i]);
		tiles[t] = rooms[t] - size;
		if (format != HART_BF12)
			memcpy((char *) tiles[t], words, size);
		else if (!hart_bf12_pack(words, taken, (char *) tiles[t]))
		{
			printf("Bail out! weights do not fit a packed tile\n");
			exit(1);
		}
	}
}

/* y = x . rows [row, row + n) of the weights, for m rows of x, as a set computes it */
static void
multiply(const HartBf16Kernels *set, HartFormat format, int terms, const float *x, size_t m, size_t cols, size_t row, size_t n, float *to, size_t ldy)
{
	size_t		first = skipped + row * cols;
	size_t		per_tile = hart_bf16_tile_weights(format);
	size_t		size = hart_bf16_x_size(m, cols, terms);
	HartBf16Rows rows = {format, tiles + first / per_tile, first % per_tile, cols, n};
	HartBf16X	packed = {m, cols, terms, packed_end - size};

	for (size_t i = 0; i < m; i += HART_BF16_STRIP)
		set->pack_x(&packed, x, i);
	set->multiply(&rows, &packed, to, ldy, scratch);
}

/* A subnormal number is 0 */
static float
flushed(float value)
{
	return fpclassify(value) == FP_SUBNORMAL ? copysignf(0, value) : value;
}

/* The bf16 number nearest to one, ties to even, which is finite if that is */
static float
nearest_bf16(float value)
{
	uint32_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	if ((bits & 0x7fffffff) < 0x7f7f8000)
		bits += 0x7fff + (bits >> 16 & 1);
	return float_of(bits & 0xffff0000);
}

/* A product of rows in the order of AMX */
static float
sum_in_order(const float *x, const float *w, size_t cols, int terms)
{
	float		all = 0;

	for (size_t begin = 0; begin < cols; begin += HART_BF16_DEPTH)
	{
		float		sum = 0;
		size_t		end = begin + HART_BF16_DEPTH < cols ? begin + HART_BF16_DEPTH : cols;

		for (size_t group = begin; group < end; group += HART_BF16_GROUP)
		{
			float		half[HART_BF16_MAX_TERMS][2] = {{0}};

			for (size_t i = 0; i < HART_BF16_GROUP && group + i < end; i++)
			{
				float		rest = x[group + i];

				for (int t = 0; t < terms; t++)
				{
					float		term = nearest_bf16(rest);
					float	   *chain = &half[t][i / 16];

					*chain = flushed(fmaf(flushed(term), flushed(w[group + i]), *chain));
					rest -= term;
				}
			}
			for (int t = terms - 1; t >= 0; t--)
				sum = flushed(sum + flushed(half[t][0] + half[t][1]));
		}
		all = begin > 0 ? all + sum : sum;
	}
	return all;
}

static void
test_shape(HartFormat format, size_t m, size_t n, size_t cols, int terms)
{
	float	   *x = x_end - m * cols;
	size_t		ldy = n + m % 3;

	for (size_t i = 0; i < m * cols; i++)
		x[i] = (float) (random_unit() * (i % 7 == 0 ? 100 : 1));
	for (size_t i = 0; i < skipped + n * cols; i++)
		weights[i] = random_weight();
	make_tiles(format, n * cols);
	for (int s = 0; s < N_SETS; s++)
	{
		if (sets[s] == NULL)
			continue;
		for (size_t i = 0; i < m * ldy; i++)
			y[i] = i % ldy < n ? NAN : UNTOUCHED;
		multiply(sets[s], format, terms, x, m, cols, 0, n, y, ldy);
		for (size_t i = 0; i < m * ldy; i++)
		{
			const float *w = weights + skipped + i % ldy * cols;
			const float *from = x + i / ldy * cols;
			double		sum = 0;
			double		magnitude = 0;
			bool		good = y[i] == UNTOUCHED;

			if (i % ldy < n)
			{
				for (size_t l = 0; l < cols; l++)
				{
					sum += (double) from[l] * w[l];
					magnitude += fabs((double) from[l] * w[l]);
				}
				good = fabs(y[i] - sum) <= tolerances[terms] * magnitude;
				if (s == 0)
					good = good && y[i] == sum_in_order(from, w, cols, terms);
			}
			if (!good && right[s])
			{
				right[s] = false;
				printf("# %s: %g, not %.9g, in row %zu, column %zu of m = %zu, n = %zu, cols = %zu, terms = %d\n",
					   set_names[s], y[i], sum, i / ldy, i % ldy, m, n, cols, terms);
			}
		}
	}
}

static void
report(const char *what)
{
	for (int s = 0; s < N_SETS; s++)
	{
		ok(right[s], "%s: %s%s", set_names[s], what, sets[s] == NULL ? " # SKIP not on this processor" : "");
		right[s] = true;
	}
}

/* The same bits whether rows are multiplied together or in parts, out of tiles of either format */
static void
test_parts(size_t cols, int terms)
{
	size_t		m = MAX_M;
	size_t		n = 150;
	float	   *x = x_end - m * cols;

	for (size_t i = 0; i < m * cols; i++)
		x[i] = (float) random_unit();
	for (size_t i = 0; i < skipped + n * cols; i++)
		weights[i] = random_weight();
	for (int s = 0; s < N_SETS; s++)
	{
		if (sets[s] == NULL)
			continue;
		make_tiles(HART_PLAIN_BF16, n * cols);
		multiply(sets[s], HART_PLAIN_BF16, terms, x, m, cols, 0, n, expected, n);
		make_tiles(HART_BF12, n * cols);
		for (size_t at_once = 1; at_once <= m; at_once += at_once < 20 ? 1 : 15)
		{
			size_t		part_rows = at_once * 37 % n + 1;

			memset(y, 0, sizeof(y));
			for (size_t i = 0; i < m; i += at_once)
				for (size_t row = 0; row < n; row += part_rows)
					multiply(sets[s], HART_BF12, terms, x + i * cols, m - i < at_once ? m - i : at_once, cols,
							 row, n - row < part_rows ? n - row : part_rows, y + i * n + row, n);
			right[s] = right[s] && memcmp(y, expected, m * n * sizeof(float)) == 0;
		}
	}
}

/* NaN and infinity where float32 has one of them, and nowhere else; the largest numbers stay finite */
static void
test_special(void)
{
	static const float special[] = {INFINITY, -INFINITY, NAN, 3.4028235e38f, -3.4e38f, 1e-45f, -1e-39f, 0};
	size_t		m = 8;
	size_t		cols = 64;
	float	   *x = x_end - m * cols;

	for (size_t i = 0; i < m * cols; i++)
		x[i] = i % cols == 40 ? special[i / cols] : 0;
	for (size_t i = 0; i < skipped + cols; i++)
		weights[i] = 0.5f;
	make_tiles(HART_PLAIN_BF16, cols);
	for (int s = 0; s < N_SETS; s++)
		for (int terms = 1; sets[s] != NULL && terms <= HART_BF16_MAX_TERMS; terms++)
		{
			multiply(sets[s], HART_PLAIN_BF16, terms, x, m, cols, 0, 1, y, 1);
			for (size_t i = 0; i < m; i++)
			{
				float		exact = special[i] * 0.5f;

				right[s] = right[s] && (isfinite(exact) ? fabs((double) y[i] - exact) <= tolerances[terms] * fabs(exact) + 1e-38 :
										isnan(exact) ? isnan(y[i]) : y[i] == exact);
			}
		}
	report("infinities, NaNs, the largest and the smallest numbers");
}

int
main(void)
{
	static const size_t cols[] = {1, 20, 31, 32, 33, 96, 100, 128, 896, 1024, 1056, 1100, 2176};

	x_end = (float *) guarded_memory(MAX_M * 2200 * sizeof(float), false) + MAX_M * 2200;
	packed_end = (char *) guarded_memory(hart_bf16_x_size(MAX_M, 2200, HART_BF16_MAX_TERMS), false) + hart_bf16_x_size(MAX_M, 2200, HART_BF16_MAX_TERMS);
	scratch = guarded_memory(HART_BF16_SCRATCH, false);
	for (int s = 0; s < N_SETS; s++)
	{
		sets[s] = hart_bf16_find_kernels(set_names[s]);
		right[s] = true;
	}
	hart_select_kernels("auto");

	for (int terms = 1; terms <= HART_BF16_MAX_TERMS; terms++)
	{
		skipped = 96;
		for (size_t c = 0; c < sizeof(cols) / sizeof(cols[0]); c++)
			for (size_t m = 1; m <= 40; m += m < 18 ? 1 : 11)
				test_shape(m % 2 == 0 ? HART_BF12 : HART_PLAIN_BF16, m, 1 + (m * 13 + c * 7) % 70, cols[c], terms);
		report(terms == 1 ? "one term, of every shape" : terms == 2 ? "two terms" : "three terms");
		test_parts(896, terms);
		test_parts(1100, terms);
		report("the same bits in parts, and from packed tiles");

		skipped = 3 * HART_BF12_BLOCK;
		for (size_t c = 1; c <= 17; c += c < 9 ? 2 : 8)
			for (size_t m = 1; m <= 34; m += m < 4 || m > 30 ? 1 : 7)
				test_shape(HART_BF12, m, 1 + (m * 29 + c * 7) % 120, c * HART_BF12_BLOCK, terms);
		report("whole blocks of packed tiles");
		test_parts(896, terms);
		report("the same bits in parts of these");
	}
	test_shape(HART_BF12, 17, 390, 700, 3);
	report("more rows of weights than a panel has");
	test_special();
	return tap_done();
}
