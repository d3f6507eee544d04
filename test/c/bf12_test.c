/*
 * bf12_test.c
 *		Tiles packed in 12 bits a weight: packing and unpacking, and in every set this processor
 *		has the kernels on them against those on the same weights in bf16, bit for bit.
 */
#include "kernels_test.h"

#include "bf12.h"
#include "bf16.h"

#define TILE_BYTES 8064

static const HartKernels *set;

/* A tile at the end of guarded memory, and the weights in it */
static uint16_t weights[HART_BF12_TILE];
static unsigned char *tile_end;

/* Like trained weights: the exponents of a normal distribution, more or less */
static uint16_t
trained_weight(void)
{
	float		value = (float) ((random_unit() + random_unit() + random_unit()) * 0.02);
	uint32_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	return (uint16_t) (bits >> 16);
}

/* n weights of 16 exponents at most */
static void
make_weights(size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		weights[i] = trained_weight();
		if ((weights[i] >> 7 & 0xff) < 108)
			weights[i] = (uint16_t) (weights[i] & 0x807f) | 108 << 7;
	}
}

/* Pack the first n; NULL when they do not fit. The tile ends where memory does. */
static unsigned char *
pack(size_t n)
{
	unsigned char *tile = tile_end - hart_bf12_size(n);

	return hart_bf12_pack(weights, n, tile) ? tile : NULL;
}

static bool
unpacks(const unsigned char *tile, size_t n)
{
	static uint16_t again[HART_BF12_TILE + 1];

	again[n] = 12345;
	hart_bf12_unpack(tile, again);
	return memcmp(again, weights, 2 * n) == 0 && again[n] == 12345;
}

static void
test_packing(void)
{
	bool		sizes = true;
	bool		exceptions = true;
	bool		fits = true;
	unsigned char *tile;

	for (size_t n = 0; n <= HART_BF12_TILE; n = n < 300 ? n + 1 : n + 173)
	{
		make_weights(n);
		tile = pack(n);
		if (tile == NULL || !unpacks(tile, n) || hart_bf12_fault(tile, hart_bf12_size(n), n) != NULL)
			sizes = false;
	}
	ok(sizes, "tiles of any length unpack to the same bits");
	ok(hart_bf12_size(HART_BF12_TILE) == TILE_BYTES, "a full tile has the bytes of a plain one");

	/* 16 exponents everywhere, and n others: every kind of value is kept whole */
	for (size_t n = 0; n <= HART_BF12_MAX_EXCEPTIONS + 1; n++)
	{
		static const uint16_t odd[] = {0x0000, 0x8000, 0x0001, 0x807f, 0x7f80, 0xff80, 0x7fc0, 0xffff, 0x7f81, 0x0080, 0x7f7f};

		for (size_t i = 0; i < HART_BF12_TILE; i++)
			weights[i] = (uint16_t) ((random_bits() & 0x807f) | (100 + i % 16) << 7);
		for (size_t i = 0; i < n; i++)
			weights[i * 119 + random_bits() % 100] = i < 11 ? odd[i] : (uint16_t) (0x4000 + i);
		tile = pack(HART_BF12_TILE);
		if ((tile != NULL) != (n <= HART_BF12_MAX_EXCEPTIONS) || hart_bf12_fits(weights, HART_BF12_TILE) != (tile != NULL))
			fits = false;
		if (tile != NULL && (!unpacks(tile, HART_BF12_TILE) || hart_bf12_n_exceptions(tile) != n ||
							 hart_bf12_fault(tile, TILE_BYTES, HART_BF12_TILE) != NULL))
			exceptions = false;
	}
	ok(exceptions, "weights of other exponents are exceptions, which unpack to the same bits");
	ok(fits, "as many exceptions fit as there is room for, and no more");

	for (size_t i = 0; i < HART_BF12_TILE; i++)
		weights[i] = (uint16_t) random_bits();
	ok(pack(HART_BF12_TILE) == NULL, "random bits do not fit");
	ok(pack(17) != NULL && unpacks(pack(17), 17), "few of them do");
}

/* Whatever a tile holds, reading it stays within it */
static void
test_faults(void)
{
	HartBf12Exception two[2] = {{5, 1}, {9, 2}};
	unsigned char *tile;
	uint16_t	word;

	make_weights(300);
	weights[5] = weights[9] = 0x7f80;
	tile = pack(300);
	ok(hart_bf12_fault(tile, hart_bf12_size(300) - 1, 300) != NULL, "a length that is wrong is a fault");
	ok(hart_bf12_fault(tile, hart_bf12_size(300), 301) != NULL, "so is a number of weights");
	word = 44;
	memcpy(tile + 18, &word, 2);
	ok(hart_bf12_fault(tile, hart_bf12_size(300), 300) != NULL, "too many exceptions");
	word = 2;
	memcpy(tile + 18, &word, 2);
	memcpy(tile + 20, two, sizeof(two));
	ok(hart_bf12_fault(tile, hart_bf12_size(300), 300) == NULL, "exceptions in order are none");
	two[1].index = 5;
	memcpy(tile + 20, two, sizeof(two));
	ok(hart_bf12_fault(tile, hart_bf12_size(300), 300) != NULL, "the same weight twice is one");
	two[1].index = 300;
	memcpy(tile + 20, two, sizeof(two));
	ok(hart_bf12_fault(tile, hart_bf12_size(300), 300) != NULL, "and one beyond the weights");
}

/* widen, dot1 and dot_and_squares of n packed weights from index on give the bits of the plain kernels */
static bool
same_as_plain(const unsigned char *tile, size_t index, size_t n)
{
	static float wide[HART_BF12_TILE + 1];
	static float plain[HART_BF12_TILE];

	wide[n] = 12345;
	set->widen_packed[0] (tile, index, wide, n);
	set->widen[HART_BF16] (weights + index, plain, n);
	if (!same_bits(wide, plain, n) || wide[n] != 12345)
		return false;
	if (n <= HART_DOT_DEPTH)
	{
		float	   *x = random_floats(0, n);
		float		packed_sums[2] = {1, 2};
		float		plain_sums[2] = {1, 2};

		set->dot_and_squares_packed[0] (tile, index, n, NULL, 0, x, packed_sums);
		set->dot_and_squares[HART_BF16] (weights + index, x, n, plain_sums);
		if (!same_bits(packed_sums, plain_sums, 2))
			return false;
	}
	if (index % HART_CHAINS == 0 && n <= HART_DOT_DEPTH)
	{
		float	   *x = random_floats(0, n);
		float		packed_sum = set->dot1_packed[0] (tile, index, n, NULL, 0, x);
		float		plain_sum = set->dot1[HART_BF16] (weights + index, n, NULL, 0, x);

		if (!same_bits(&packed_sum, &plain_sum, 1))
			return false;
	}
	return true;
}

static void
test_kernels(void)
{
	bool		lengths = true;
	bool		exceptions = true;
	bool		crowds = true;
	bool		cuts = true;
	bool		alignment = true;
	bool		bounds = true;
	unsigned char *tile;
	static unsigned char moved[TILE_BYTES + 64];

	for (size_t n = 1; n <= 300; n++)
	{
		make_weights(n);
		tile = pack(n);
		for (size_t index = 0; index < n; index += n < 40 ? 1 : 1 + random_bits() % 40)
			lengths = lengths && same_as_plain(tile, index, n - index) && same_as_plain(tile, index, (n - index + 1) / 2);
	}
	ok(lengths, "%s: any stretch of a tile gives the bits of bf16", set->name);

	for (size_t at = 0; at < 300; at++)
	{
		make_weights(300);
		weights[at] = at % 3 ? (uint16_t) (random_bits() & 0x80ff) : 0x4100;
		tile = pack(300);
		for (size_t index = 0; index < 300; index += 16 * (1 + random_bits() % 5))
			exceptions = exceptions && same_as_plain(tile, index, 300 - index) && same_as_plain(tile, index, 1 + random_bits() % (300 - index));
	}
	ok(exceptions, "%s: an exception at every place", set->name);

	for (int round = 0; round < 200; round++)
	{
		size_t		n = 1 + random_bits() % HART_BF12_TILE;
		size_t		index;

		make_weights(n);
		for (int i = random_bits() % (HART_BF12_MAX_EXCEPTIONS + 1); i > 0; i--)
		{
			/* subnormals, normal numbers and zeros; crowds of them now and then */
			size_t		at = random_bits() % (round % 2 ? n : n < 64 ? n : 64);

			weights[at] = (uint16_t) (random_bits() & 0xbfff);
		}
		tile = pack(n);
		index = random_bits() % n / HART_CHAINS * HART_CHAINS;
		crowds = crowds && tile != NULL && same_as_plain(tile, index, 1 + random_bits() % (n - index)) && same_as_plain(tile, 0, n < HART_DOT_DEPTH ? n : HART_DOT_DEPTH);
		for (int shift = 0; shift < 64 && tile != NULL; shift += 1 + random_bits() % 13)
		{
			memcpy(moved + shift, tile, hart_bf12_size(n));
			alignment = alignment && same_as_plain(moved + shift, index, (n - index) < HART_DOT_DEPTH ? n - index : HART_DOT_DEPTH);
		}
	}
	ok(crowds, "%s: as many exceptions as there is room for", set->name);
	ok(alignment, "%s: tiles at any address", set->name);

	/* a row that begins in one tile and ends in the next */
	for (size_t n = 16; n <= 600; n += 16 * (1 + random_bits() % 4))
	{
		static unsigned char next[TILE_BYTES];
		static uint16_t both[HART_BF12_TILE];
		size_t		n_rest = 1 + random_bits() % 400;
		float	   *x = random_floats(0, n + n_rest);
		float		packed_sum;
		float		plain_sum;

		make_weights(n_rest);
		weights[n_rest / 2] = 0x4100;
		memcpy(both + n, weights, 2 * n_rest);
		cuts = cuts && hart_bf12_pack(weights, n_rest, next);
		make_weights(n);
		weights[n / 3] = 0x0001;
		memcpy(both, weights, 2 * n);
		tile = pack(n);
		packed_sum = set->dot1_packed[0] (tile, 0, n, next, n_rest, x);
		plain_sum = set->dot1[HART_BF16] (both, n + n_rest, NULL, 0, x);
		cuts = cuts && same_bits(&packed_sum, &plain_sum, 1);
		/* which may cut anywhere, for both sums at once */
		for (size_t first = 0; first < n; first += 1 + random_bits() % 50)
		{
			float		packed_sums[2] = {1, 2};
			float		plain_sums[2] = {1, 2};

			set->dot_and_squares_packed[0] (tile, first, n - first, next, n_rest, x, packed_sums);
			set->dot_and_squares[HART_BF16] (both + first, x, n - first + n_rest, plain_sums);
			cuts = cuts && same_bits(packed_sums, plain_sums, 2);
		}
	}
	ok(cuts, "%s: rows that the end of a tile cuts", set->name);

	/* nothing of a tile that is not as it should be leads beyond it */
	for (int round = 0; round < 300; round++)
	{
		size_t		n = 1 + random_bits() % 2000;
		static float out[2001];
		float	   *x = random_floats(0, 2000);

		tile = tile_end - hart_bf12_size(n);
		for (size_t i = 0; i < hart_bf12_size(n); i++)
			tile[i] = (unsigned char) random_bits();
		out[n] = 12345;
		set->widen_packed[0] (tile, 0, out, n);
		set->dot1_packed[0] (tile, 0, n, NULL, 0, x);
		set->dot_and_squares_packed[0] (tile, 0, n < HART_DOT_DEPTH ? n : HART_DOT_DEPTH, NULL, 0, x, (float[2]) {0});
		bounds = bounds && out[n] == 12345;
	}
	ok(bounds, "%s: noise for a tile is read within its bounds", set->name);
}

#define FEW_TILES 4
#define MOST_X 20

/* few_bf12 of n rows of cols columns, from a block of the first of FEW_TILES tiles on, gives the bits of dot1 on the same weights in bf16 */
static bool
few_is_dot1(const uint16_t *all, const char *const *tiles, size_t first, size_t cols, size_t n, size_t m)
{
	static float x[MOST_X * HART_BF12_TILE];
	static float y[MOST_X * 40];
	size_t		ldy = n + 3;
	HartBf16Rows rows = {.format = HART_BF12, .tiles = tiles, .first = first, .cols = cols, .n = n};

	for (size_t i = 0; i < m * cols; i++)
		x[i] = random_floats(0, 1)[0];
	for (size_t i = 0; i < m * ldy; i++)
		y[i] = 12345;
	set->few_bf12(&rows, x, m, y, ldy);
	for (size_t i = 0; i < m; i++)
		for (size_t r = 0; r < ldy; r++)
		{
			float		sum = r < n ? 0 : 12345;

			for (size_t col = 0; r < n && col < cols; col += HART_DOT_DEPTH)
			{
				size_t		depth = cols - col < HART_DOT_DEPTH ? cols - col : HART_DOT_DEPTH;
				float		part = set->dot1[HART_BF16] (all + first + r * cols + col, depth, NULL, 0, x + i * cols + col);

				sum = col > 0 ? sum + part : part;
			}
			if (!same_bits(&y[i * ldy + r], &sum, 1))
				return false;
		}
	return true;
}

static void
test_few(void)
{
	static uint16_t all[FEW_TILES * HART_BF12_TILE];
	static unsigned char memory[FEW_TILES][TILE_BYTES];
	const char *tiles[FEW_TILES];
	bool		right = true;
	bool		crowds = true;

	if (set->few_bf12 == NULL)
	{
		for (int i = 0; i < 3; i++)
			ok(true, "%s: few_bf12 # SKIP the set has none", set->name);
		return;
	}
	for (int round = 0; round < 300; round++)
	{
		bool	   *to = round % 2 ? &crowds : &right;
		size_t		cols = HART_BF12_BLOCK * (1 + random_bits() % (round % 3 ? 8 : 40));
		size_t		first = random_bits() % 41 * HART_BF12_BLOCK;
		size_t		most = (FEW_TILES * HART_BF12_TILE - first) / cols;
		size_t		n = 1 + random_bits() % (most < 30 ? most : 30);

		for (size_t t = 0; t < FEW_TILES; t++)
		{
			make_weights(HART_BF12_TILE);
			for (int i = round % 2 ? random_bits() % (HART_BF12_MAX_EXCEPTIONS + 1) : 0; i > 0; i--)
				weights[random_bits() % (i % 2 ? 300 : HART_BF12_TILE)] = (uint16_t) (random_bits() & 0xbfff);
			memcpy(all + t * HART_BF12_TILE, weights, sizeof(uint16_t) * HART_BF12_TILE);
			*to = *to && hart_bf12_pack(weights, HART_BF12_TILE, memory[t]);
			tiles[t] = (const char *) memory[t];
		}
		for (size_t m = 1; m <= MOST_X; m += m < 10 ? 1 : 1 + random_bits() % 5)
			*to = *to && few_is_dot1(all, tiles, first, cols, n, m);
	}
	ok(right, "%s: few rows by rows of packed weights give the bits of bf16, from any block on", set->name);
	ok(crowds, "%s: the same with exceptions", set->name);

	/* nothing of tiles that are not as they should be leads beyond them; the last one may end early */
	for (int round = 0; round < 300; round++)
	{
		size_t		n = HART_BF12_BLOCK * (1 + random_bits() % 41);
		HartBf16Rows rows = {.format = HART_BF12, .tiles = tiles, .first = HART_BF12_TILE - HART_BF12_BLOCK, .cols = HART_BF12_BLOCK, .n = 1 + n / HART_BF12_BLOCK};
		float		y[MOST_X * 42];

		for (size_t i = 0; i < TILE_BYTES; i++)
			memory[0][i] = (unsigned char) random_bits();
		tiles[1] = (const char *) tile_end - hart_bf12_size(n);
		for (size_t i = 0; i < hart_bf12_size(n); i++)
			((unsigned char *) tile_end)[i - hart_bf12_size(n)] = (unsigned char) random_bits();
		set->few_bf12(&rows, random_floats(0, MOST_X * HART_BF12_BLOCK), MOST_X, y, rows.n);
	}
	ok(true, "%s: noise for tiles is read by it within their bounds", set->name);
}

int
main(void)
{
	static const char *const names[] = {"portable", "avx2", "avx512"};

	tile_end = (unsigned char *) guarded_memory(TILE_BYTES, false) + TILE_BYTES;
	test_packing();
	test_faults();
	for (int i = 0; i < 3; i++)
	{
		set = hart_find_kernels(names[i]);
		if (set == NULL)
			ok(true, "%s # SKIP not on this processor", names[i]);
		else
		{
			test_kernels();
			test_few();
		}
	}
	return tap_done();
}
