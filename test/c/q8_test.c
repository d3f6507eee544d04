/*
 * q8_test.c
 *		Tiles of 8-bit weights, and products with them, of every set this
 *		processor has.
 *
 * All sets give the same bits, whatever the shape, so each is compared with the portable one to the bit, and that
 * one with sums in double precision of the rounded numbers.  Every tile ends at a page that cannot be touched.
 */
#include "q8.h"
#include "kernels.h"
#include "tap.h"

#include <math.h>
#include <string.h>

#define N_SETS 4
static const char *const set_names[N_SETS] = {"portable", "avx2", "avx512", "avx512vnni"};
static const HartQ8Kernels *sets[N_SETS];

#define MAX_TILES 16
#define MAX_WEIGHTS (MAX_TILES * HART_Q8_TILE)
#define MAX_X_ROWS 9

static const char *tiles[MAX_TILES];
static float weights[MAX_WEIGHTS];
static float widened[MAX_WEIGHTS];

/* Numbers of a bell shape, roughly, of any size */
static float
random_weight(double size)
{
	return (float) ((random_unit() + random_unit() + random_unit()) * size);
}

/* Pack weights, rows of row_blocks blocks of which the first begins at block `first` of tile 0, behind other rows; widen them again */
static void
pack_tiles(size_t first, size_t row_blocks, size_t n_rows)
{
	size_t		n_blocks = first + row_blocks * n_rows;

	for (size_t t = 0; t * HART_Q8_TILE_BLOCKS < n_blocks; t++)
	{
		size_t		begin = t * HART_Q8_TILE_BLOCKS;
		size_t		n = n_blocks - begin < HART_Q8_TILE_BLOCKS ? n_blocks - begin : HART_Q8_TILE_BLOCKS;
		/* so many blocks before the first row that block 0 of tile 0 is somewhere in a row */
		size_t		in_row = (begin + row_blocks * HART_Q8_TILE_BLOCKS - first) % row_blocks;

		static char *rooms[MAX_TILES];

		if (rooms[t] == NULL)
			rooms[t] = guarded_memory(HART_Q8_HEADER + HART_Q8_TILE, false);
		tiles[t] = rooms[t] + HART_Q8_TILE - n * HART_Q8_BLOCK;
		hart_q8_pack(weights + begin * HART_Q8_BLOCK, n * HART_Q8_BLOCK, in_row, row_blocks, (char *) tiles[t]);
		hart_q8_widen(tiles[t], 0, widened + begin * HART_Q8_BLOCK, n * HART_Q8_BLOCK);
	}
}

static void
test_pack(void)
{
	bool		near = true;
	bool		reaches = true;
	bool		parts = true;
	float		part[HART_Q8_TILE];

	for (size_t i = 0; i < MAX_WEIGHTS; i++)
		weights[i] = random_weight(pow(10, (double) (i / HART_Q8_BLOCK % 60) - 30));
	pack_tiles(0, 14, 100);
	for (size_t b = 0; b < 1400; b++)
	{
		const float *from = weights + b * HART_Q8_BLOCK;
		const float *to = widened + b * HART_Q8_BLOCK;
		float		max = 0;
		float		max_widened = 0;

		for (int i = 0; i < HART_Q8_BLOCK; i++)
		{
			max = fmaxf(max, fabsf(from[i]));
			max_widened = fmaxf(max_widened, fabsf(to[i]));
		}
		/* half a step, where a step is a 127th of the largest and a scale has 8 bits */
		for (int i = 0; i < HART_Q8_BLOCK; i++)
			near = near && fabs((double) from[i] - to[i]) <= 0.5 * 1.008 * max / HART_Q8_MAX_WEIGHT;
		reaches = reaches && max_widened >= max * 0.991f && max_widened <= max * 1.009f;
	}
	ok(near, "weights of every size come back within half a step");
	ok(reaches, "the largest weight of a block is not cut");

	hart_q8_widen(tiles[1], 0, widened, HART_Q8_TILE);
	for (size_t i = 0; i + 200 < HART_Q8_TILE; i += 77)
	{
		hart_q8_widen(tiles[1], i, part, 1 + i % 200);
		parts = parts && memcmp(part, widened + i, (1 + i % 200) * sizeof(float)) == 0;
	}
	ok(parts, "any part of a tile is widened alike");
}

static void
test_odd_blocks(void)
{
	static const float odd[] = {NAN, INFINITY, -INFINITY};
	bool		right = true;

	for (int i = 0; i < 4 * HART_Q8_BLOCK; i++)
		weights[i] = 1;
	memset(weights, 0, HART_Q8_BLOCK * sizeof(float));
	for (int i = 0; i < 3; i++)
	{
		weights[HART_Q8_BLOCK + 5] = odd[i];
		weights[2 * HART_Q8_BLOCK + 1] = 1e-45f;
		weights[3 * HART_Q8_BLOCK + 1] = -3.4e38f;
		pack_tiles(0, 4, 1);
		for (int j = 0; j < HART_Q8_BLOCK; j++)
			right = right && widened[j] == 0 && isnan(widened[HART_Q8_BLOCK + j]) && isfinite(widened[2 * HART_Q8_BLOCK + j]);
		right = right && isfinite(widened[3 * HART_Q8_BLOCK + 1]) && widened[3 * HART_Q8_BLOCK + 1] < -3.3e38f;
	}
	ok(right, "a block of zeros is 0, one with a NaN or an infinity is NaN, subnormal and huge ones are finite");

	for (int i = 0; i < HART_Q8_BLOCK; i++)
		weights[i] = i % 2 ? 1e-45f : -1e-45f;
	pack_tiles(0, 1, 1);
	right = true;
	for (int i = 0; i < HART_Q8_BLOCK; i++)
		right = right && fabsf(widened[i]) < 1e-40f;
	ok(right, "the smallest subnormals stay as small");
}

static void
test_fault(void)
{
	char		tile[HART_Q8_HEADER + HART_Q8_TILE];
	bool		right = true;

	for (int i = 0; i < HART_Q8_TILE; i++)
		weights[i] = random_weight(1);
	for (size_t n = HART_Q8_BLOCK; n <= HART_Q8_TILE; n += HART_Q8_BLOCK)
	{
		hart_q8_pack(weights, n, 3, 14, tile);
		right = right && hart_q8_fault(tile, hart_q8_size(n), n) == NULL &&
			hart_q8_fault(tile, hart_q8_size(n) - 1, n) != NULL &&
			hart_q8_fault(tile, hart_q8_size(n), n + HART_Q8_BLOCK) != NULL &&
			hart_q8_fault(tile, hart_q8_size(n) + 1, n + 1) != NULL;
	}
	ok(right, "a tile of another size is at fault, and no other");
	right = true;
	/* blocks in a row: 0; first block beyond the row; another number of blocks; not 0 at the end */
	for (int i = 0; i < 4; i++)
	{
		static const struct
		{
			int			at;
			char		value;
		}			spoilt[] = {{244, 0}, {248, 14}, {252, 5}, {254, 1}};

		hart_q8_pack(weights, 64 * 20, 3, 14, tile);
		tile[spoilt[i].at] = spoilt[i].value;
		right = right && hart_q8_fault(tile, hart_q8_size(64 * 20), 64 * 20) != NULL;
	}
	ok(right, "a header that does not fit is found");
}

/* Rounded x of one row, as the portable kernel has it, again as floats */
static double
x_value(const HartQ8X *x, size_t column, double *scale)
{
	const HartQ8X *group = &x[column / HART_Q8_BLOCK / HART_Q8_GROUP];
	size_t		place = column / HART_Q8_BLOCK % HART_Q8_GROUP;
	size_t		i = column % HART_Q8_BLOCK;

	*scale = group->scale[place];
	return *scale * (128 * group->high[i / 4][place][i % 4] + group->low[i / 4][place][i % 4]);
}

static void
test_round_x(void)
{
	static float room[40 * HART_Q8_BLOCK];
	static HartQ8X out[N_SETS][3];
	bool		near = true;
	bool		planes = true;
	bool		same[N_SETS] = {true, true, true, true};

	for (size_t n_blocks = 1; n_blocks <= 40; n_blocks++)
	{
		size_t		n_groups = hart_q8_groups(n_blocks);

		for (size_t i = 0; i < n_blocks * HART_Q8_BLOCK; i++)
			room[i] = random_weight(pow(10, (double) (i / HART_Q8_BLOCK % 40) - 25));
		/* blocks of zeros, of one number, of numbers at the edge, and such as are not finite */
		if (n_blocks > 7)
		{
			memset(room, 0, HART_Q8_BLOCK * sizeof(float));
			room[HART_Q8_BLOCK] = NAN;
			room[2 * HART_Q8_BLOCK + 63] = -INFINITY;
			for (int i = 0; i < HART_Q8_BLOCK; i++)
			{
				room[3 * HART_Q8_BLOCK + i] = i % 3 ? 3.4e38f : -3.4e38f;
				room[4 * HART_Q8_BLOCK + i] = 1e-31f;
				room[5 * HART_Q8_BLOCK + i] = (float) (i - 32) * 0.5f * 8191 / 32;
			}
		}
		for (int s = 0; s < N_SETS; s++)
		{
			if (sets[s] == NULL)
				continue;
			memset(out[s], 0xaa, sizeof(out[s]));
			sets[s]->round_x(room, n_blocks, out[s]);
			same[s] = same[s] && memcmp(out[s], out[0], sizeof(out[s])) == 0;
		}
		for (size_t i = 0; i < n_groups * HART_Q8_GROUP * HART_Q8_BLOCK; i++)
		{
			size_t		b = i / HART_Q8_BLOCK;
			const HartQ8X *group = &out[0][b / HART_Q8_GROUP];
			int			high = group->high[i % HART_Q8_BLOCK / 4][b % HART_Q8_GROUP][i % 4];
			int			low = group->low[i % HART_Q8_BLOCK / 4][b % HART_Q8_GROUP][i % 4];
			double		scale;
			double		value = x_value(out[0], i, &scale);

			planes = planes && abs(high) <= 64 && low >= -64 && low < 64;
			if (n_blocks > 7 && (b == 1 || b == 2))
				near = near && isnan(scale);
			else if (b >= n_blocks)
				near = near && value == 0 && scale == 0;
			else
				near = near && (fabs(value - room[i]) <= 0.501 * scale || fabsf(room[i]) < HART_Q8_MIN_X);
		}
	}
	ok(near, "x is rounded to the nearest of 14 bits, and its odd blocks are NaN");
	ok(planes, "the planes of x keep within 7 bits");
	for (int s = 1; s < N_SETS; s++)
		ok(same[s], "%s: rounds x to the same bits%s", set_names[s], sets[s] ? "" : " # SKIP not on this processor");
}

static bool right[N_SETS];
static bool exact = true;

static void
test_shape(size_t first, size_t row_blocks, size_t n_rows, size_t m)
{
	static float x[MAX_X_ROWS * 100 * HART_Q8_BLOCK];
	static HartQ8X rounded[MAX_X_ROWS * 7];
	static float expected[MAX_X_ROWS * 200];
	static float y[MAX_X_ROWS * 200];
	size_t		cols = row_blocks * HART_Q8_BLOCK;
	size_t		n_groups = hart_q8_groups(row_blocks);
	HartQ8Rows	w = {tiles, first, row_blocks, n_rows};
	size_t		ldy = n_rows + m % 3;
	size_t		size = hart_q8_scratch_size(&w);
	static char *scratch;

	if (scratch == NULL)
		scratch = guarded_memory(1 << 20, false);
	for (size_t i = 0; i < (first + row_blocks * n_rows) * HART_Q8_BLOCK; i++)
		weights[i] = random_weight(i / HART_Q8_BLOCK % 5 + 0.1);
	pack_tiles(first, row_blocks, n_rows);
	for (size_t i = 0; i < m * cols; i++)
		x[i] = random_weight(i / HART_Q8_BLOCK % 7 + 0.1);
	for (size_t i = 0; i < m; i++)
		sets[0]->round_x(x + i * cols, row_blocks, rounded + i * n_groups);

	for (int s = 0; s < N_SETS; s++)
	{
		float	   *to = s == 0 ? expected : y;

		if (sets[s] == NULL)
			continue;
		for (size_t i = 0; i < m * ldy; i++)
			to[i] = 12345;
		sets[s]->rows(&w, rounded, m, to, ldy, scratch + (1 << 20) - size);
		if (memcmp(to, expected, m * ldy * sizeof(float)) != 0)
			right[s] = false;
		/* row by row, and the last rows only */
		for (size_t i = 0; i < m; i++)
		{
			size_t		skipped = i % n_rows;
			HartQ8Rows	part = {tiles, first + skipped * row_blocks, row_blocks, n_rows - skipped};

			sets[s]->one_row(&part, rounded + i * n_groups, y);
			if (memcmp(y, expected + i * ldy + skipped, (n_rows - skipped) * sizeof(float)) != 0)
				right[s] = false;
		}
	}
	for (size_t i = 0; i < m; i++)
		for (size_t r = 0; r < n_rows; r++)
		{
			double		sum = 0;
			double		magnitude = 0;

			for (size_t c = 0; c < cols; c++)
			{
				double		scale;
				double		product = x_value(rounded + i * n_groups, c, &scale) * widened[first * HART_Q8_BLOCK + r * cols + c];

				sum += product;
				magnitude += fabs(product);
			}
			if (fabs(sum - expected[i * ldy + r]) > 5e-7 * magnitude)
				exact = false;
		}
}

/* A NaN of x or of the weights reaches its products and no others */
static void
test_nan(int s)
{
	static float x[2 * 20 * HART_Q8_BLOCK];
	static HartQ8X rounded[2 * 2];
	static char scratch[1 << 16];
	float		y[2 * 3];
	bool		spread = true;
	HartQ8Rows	w = {tiles, 0, 20, 3};

	for (size_t i = 0; i < 60 * HART_Q8_BLOCK; i++)
		weights[i] = 0.5f;
	weights[20 * HART_Q8_BLOCK + 700] = INFINITY;
	pack_tiles(0, 20, 3);
	for (size_t i = 0; i < 2 * 20 * HART_Q8_BLOCK; i++)
		x[i] = 1;
	x[19 * HART_Q8_BLOCK + 3] = NAN;
	for (int i = 0; i < 2; i++)
		sets[s]->round_x(x + i * 20 * HART_Q8_BLOCK, 20, rounded + 2 * i);
	sets[s]->rows(&w, rounded, 2, y, 3, scratch);
	for (int i = 0; i < 6; i++)
		spread = spread && (i < 3 || i == 4 ? isnan(y[i]) : fabsf(y[i] - 640) < 5);
	sets[s]->one_row(&w, rounded + 2, y);
	ok(spread && isnan(y[1]) && !isnan(y[0]) && !isnan(y[2]), "%s: a NaN reaches its own products", set_names[s]);
}

int
main(void)
{
	for (int s = 0; s < N_SETS; s++)
	{
		sets[s] = hart_q8_find_kernels(set_names[s]);
		right[s] = true;
	}
	test_pack();
	test_odd_blocks();
	test_fault();
	test_round_x();

	for (size_t row_blocks = 1; row_blocks <= 36; row_blocks++)
		test_shape(random_bits() % HART_Q8_TILE_BLOCKS, row_blocks, 1 + random_bits() % 30, 1 + row_blocks % MAX_X_ROWS);
	for (size_t m = 1; m <= MAX_X_ROWS; m++)
		test_shape(m * 13, 14, 100, m);
	test_shape(0, 76, 20, 5);
	test_shape(100, 100, 17, 4);
	test_shape(121, 16, 90, 6);
	for (int s = 0; s < N_SETS; s++)
		ok(right[s], "%s: products have the same bits, a few rows or many%s", set_names[s], sets[s] ? "" : " # SKIP not on this processor");
	ok(exact, "products are those of the rounded numbers");
	for (int s = 0; s < N_SETS; s++)
	{
		if (sets[s] != NULL)
			test_nan(s);
	}
	hart_select_kernels("portable");
	hart_q8_select_kernels("portable");
	ok(strcmp(hart_q8_kernels->name, "portable") == 0, "the portable set can be chosen");
	return tap_done();
}
