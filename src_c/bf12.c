/*
 * bf12.c
 *		Packing bf16 weights into tiles of 12 bits a weight, and unpacking them.
 *
 * Runs once a tile at ingestion, at export and when weights are changed; what computes with packed tiles
 * are the kernels.
 */
#include "bf12.h"

#define ROW 16					/* weights whose codes lie in the same nibble of their dwords */
#define BLOCK_ROWS (HART_BF12_BLOCK / ROW)
#define CODE_BYTES 64			/* of a block */

/* Exponents of a few weights, as GCC and clang compute with them on any machine */
typedef int16_t Exponents __attribute__((vector_size(16)));

#define LANES 8

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

static inline uint16_t
weight_at(const void *weights, size_t i)
{
	uint16_t	bits;

	memcpy(&bits, (const char *) weights + 2 * i, sizeof(bits));
	return bits;
}

static inline uint8_t
exponent_of(uint16_t bits)
{
	return bits >> 7 & 0xff;
}

/* How often each exponent occurs; in four parts, so that equal neighbours do not wait for each other */
static void
count_exponents(const void *weights, size_t n, uint16_t count[4][256])
{
	size_t		i = 0;

	memset(count, 0, 4 * 256 * sizeof(uint16_t));
	for (; i + 4 <= n; i += 4)
		for (int p = 0; p < 4; p++)
			count[p][exponent_of(weight_at(weights, i + p))]++;
	for (; i < n; i++)
		count[0][exponent_of(weight_at(weights, i))]++;
	for (int e = 0; e < 256; e++)
		count[0][e] += count[1][e] + count[2][e] + count[3][e];
}

static inline Exponents
exponents_at(const void *weights, size_t i)
{
	Exponents	bits;

	memcpy(&bits, (const char *) weights + 2 * i, sizeof(bits));
	return bits >> 7 & 0xff;
}

/*
 * The largest exponent and the 15 below it: nearly always these are enough, and they are found without counting all.
 * Returns how many weights have another.
 */
static size_t
choose_largest(const void *weights, size_t n, uint8_t exponents[HART_BF12_CODES])
{
	size_t		whole = n / LANES * LANES;
	Exponents	largest = {0};
	Exponents	below = {0};
	int			max = 0;
	int			first;
	size_t		others = 0;

	for (size_t i = 0; i < whole; i += LANES)
	{
		Exponents	e = exponents_at(weights, i);
		Exponents	larger = e > largest;

		largest = (e & larger) | (largest & ~larger);
	}
	for (int lane = 0; lane < LANES; lane++)
		max = largest[lane] > max ? largest[lane] : max;
	for (size_t i = whole; i < n; i++)
		max = exponent_of(weight_at(weights, i)) > max ? exponent_of(weight_at(weights, i)) : max;
	first = max < HART_BF12_CODES ? 0 : max - (HART_BF12_CODES - 1);
	for (size_t i = 0; i < whole; i += LANES)
		below -= exponents_at(weights, i) < (int16_t) first;
	for (int lane = 0; lane < LANES; lane++)
		others += (size_t) below[lane];
	for (size_t i = whole; i < n; i++)
		others += exponent_of(weight_at(weights, i)) < first;
	for (int code = 0; code < HART_BF12_CODES; code++)
		exponents[code] = (uint8_t) (first + code);
	return others;
}

/* The most frequent exponents, ascending, 0 where there are fewer; returns how many weights have another */
static size_t
choose_most_frequent(const void *weights, size_t n, uint8_t exponents[HART_BF12_CODES])
{
	uint16_t	count[4][256];
	uint8_t		found[256];
	int			n_found = 0;
	size_t		left = n;

	count_exponents(weights, n, count);
	for (int e = 0; e < 256; e++)
		if (count[0][e] > 0)
			found[n_found++] = (uint8_t) e;
	/* drop the rarest until the others have codes */
	while (n_found > HART_BF12_CODES)
	{
		int			rarest = 0;

		for (int i = 1; i < n_found; i++)
			if (count[0][found[i]] < count[0][found[rarest]])
				rarest = i;
		memmove(found + rarest, found + rarest + 1, n_found - rarest - 1);
		n_found--;
	}
	memset(exponents, 0, HART_BF12_CODES);
	for (int i = 0; i < n_found; i++)
	{
		exponents[i] = found[i];
		left -= count[0][found[i]];
	}
	return left;
}

/* Exponents that leave few exceptions; returns how many */
static size_t
choose_exponents(const void *weights, size_t n, uint8_t exponents[HART_BF12_CODES])
{
	size_t		others = choose_largest(weights, n, exponents);

	return others <= HART_BF12_MAX_EXCEPTIONS ? others : choose_most_frequent(weights, n, exponents);
}

bool
hart_bf12_fits(const void *weights, size_t n)
{
	uint8_t		exponents[HART_BF12_CODES];

	return choose_exponents(weights, n, exponents) <= HART_BF12_MAX_EXCEPTIONS;
}

/* Pack the weights of a block; there are HART_BF12_BLOCK of them */
static void
pack_block(const uint16_t *weights, const uint8_t codes[256], unsigned char *block)
{
	uint32_t	words[3][ROW];

	for (int i = 0; i < ROW; i++)
	{
		uint32_t	code = 0;
		uint32_t	mantissas[2] = {0};

		/* so that all shifts are constants */
		UNROLL for (int row = 0; row < BLOCK_ROWS; row++)
		{
			uint32_t	bits = weights[row * ROW + i];
			/* sign and mantissa lie 15 bits apart already */
			uint32_t	kept = bits & 0x807f;
			int			left = 8 * (row % 4);

			code |= (uint32_t) codes[bits >> 7 & 0xff] << 4 * row;
			mantissas[row / 4] |= kept << left | kept >> (32 - left) % 32;
		}
		words[0][i] = code;
		words[1][i] = mantissas[0];
		words[2][i] = mantissas[1];
	}
	memcpy(block, words, HART_BF12_BLOCK_BYTES);
}

/* Find n exceptions: the weights whose exponent is none of those chosen */
static void
find_exceptions(const void *weights, const uint8_t exponents[HART_BF12_CODES], size_t n, HartBf12Exception *exceptions)
{
	bool		chosen[256] = {false};
	size_t		found = 0;

	for (int code = 0; code < HART_BF12_CODES; code++)
		chosen[exponents[code]] = true;
	for (size_t i = 0; found < n; i++)
	{
		uint16_t	bits = weight_at(weights, i);

		if (!chosen[exponent_of(bits)])
			exceptions[found++] = (HartBf12Exception) {(uint16_t) i, bits};
	}
}

bool
hart_bf12_pack(const void *weights, size_t n, void *tile)
{
	uint8_t		codes[256] = {0};
	uint8_t		exponents[HART_BF12_CODES];
	HartBf12Exception exceptions[HART_BF12_MAX_EXCEPTIONS];
	size_t		n_others = choose_exponents(weights, n, exponents);
	uint16_t	n_weights = (uint16_t) n;
	uint16_t	n_exceptions = (uint16_t) n_others;
	unsigned char *to = tile;

	if (n_others > HART_BF12_MAX_EXCEPTIONS)
		return false;
	for (int code = 0; code < HART_BF12_CODES; code++)
		codes[exponents[code]] = (uint8_t) code;
	find_exceptions(weights, exponents, n_others, exceptions);
	memset(to, 0, HART_BF12_HEADER);
	memcpy(to, exponents, sizeof(exponents));
	memcpy(to + 16, &n_weights, sizeof(n_weights));
	memcpy(to + 18, &n_exceptions, sizeof(n_exceptions));
	memcpy(to + 20, exceptions, n_others * sizeof(exceptions[0]));
	to += HART_BF12_HEADER;
	for (size_t at = 0; at < n; at += HART_BF12_BLOCK)
	{
		uint16_t	block[HART_BF12_BLOCK] = {0};
		size_t		width = n - at < HART_BF12_BLOCK ? n - at : HART_BF12_BLOCK;

		memcpy(block, (const char *) weights + 2 * at, 2 * width);
		pack_block(block, codes, to);
		to += HART_BF12_BLOCK_BYTES;
	}
	return true;
}

void
hart_bf12_unpack(const void *tile, void *weights)
{
	const unsigned char *exponents = tile;
	unsigned char *to = weights;
	size_t		n = hart_bf12_n_weights(tile);

	for (size_t at = 0; at < n; at += ROW)
	{
		const unsigned char *block = (const unsigned char *) hart_bf12_block(tile, at);
		int			row = at / ROW % BLOCK_ROWS;
		const unsigned char *mantissas = block + CODE_BYTES * (1 + row / 4);
		int			byte = row % 4;

		for (size_t i = 0; i < ROW && at + i < n; i++)
		{
			uint8_t		code = block[4 * i + row / 2] >> 4 * (row % 2) & 0xf;
			uint16_t	bits = (uint16_t) ((mantissas[4 * i + (byte + 1) % 4] & 0x80) << 8 | exponents[code] << 7 |
										   (mantissas[4 * i + byte] & 0x7f));

			memcpy(to + 2 * (at + i), &bits, sizeof(bits));
		}
	}
	for (size_t i = 0; i < hart_bf12_n_exceptions(tile); i++)
	{
		HartBf12Exception e = hart_bf12_exception(tile, i);

		if (e.index < n)
			memcpy(to + 2 * e.index, &e.bits, sizeof(e.bits));
	}
}

const char *
hart_bf12_fault(const void *tile, size_t size, size_t n)
{
	size_t		n_exceptions;
	int			last = -1;

	if (size != hart_bf12_size(n))
		return "is of a wrong length";
	if (hart_bf12_n_weights(tile) != n)
		return "holds a wrong number of weights";
	n_exceptions = hart_bf12_header_word(tile, 18);
	if (n_exceptions > HART_BF12_MAX_EXCEPTIONS)
		return "has too many exceptions";
	for (size_t i = 0; i < n_exceptions; i++)
	{
		HartBf12Exception e = hart_bf12_exception(tile, i);

		if ((int) e.index <= last || e.index >= n)
			return "has an exception out of place";
		last = e.index;
	}
	return NULL;
}
