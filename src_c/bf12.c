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
#define CODE_BYTES 64

/* no code: more than any */
#define NO_CODE 0xff

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
count_exponents(const void *weights, size_t n, uint16_t count[256])
{
	uint16_t	part[4][256] = {{0}};
	size_t		i = 0;

	for (; i + 4 <= n; i += 4)
		for (int p = 0; p < 4; p++)
			part[p][exponent_of(weight_at(weights, i + p))]++;
	for (; i < n; i++)
		part[0][exponent_of(weight_at(weights, i))]++;
	for (int e = 0; e < 256; e++)
		count[e] = part[0][e] + part[1][e] + part[2][e] + part[3][e];
}

/* The most frequent exponents, ascending, 0 where there are fewer; returns how many weights have another */
static size_t
choose_exponents(const void *weights, size_t n, uint8_t exponents[HART_BF12_CODES])
{
	uint16_t	count[256];
	bool		chosen[256] = {false};
	size_t		left = n;
	int			n_chosen = 0;

	count_exponents(weights, n, count);
	for (int code = 0; code < HART_BF12_CODES && left > 0; code++)
	{
		int			best = 0;

		for (int e = 1; e < 256; e++)
			if (count[e] >= count[best])
				best = e;
		left -= count[best];
		count[best] = 0;
		chosen[best] = true;
	}
	for (int e = 0; e < 256; e++)
		if (chosen[e])
			exponents[n_chosen++] = (uint8_t) e;
	memset(exponents + n_chosen, 0, HART_BF12_CODES - n_chosen);
	return left;
}

bool
hart_bf12_fits(const void *weights, size_t n)
{
	uint8_t		exponents[HART_BF12_CODES];

	return choose_exponents(weights, n, exponents) <= HART_BF12_MAX_EXCEPTIONS;
}

/* Enter the weights row .. row + n - 1 of a block, n <= ROW, whose bytes are 0 before */
static void
pack_row(const void *weights, size_t n, int row, const uint8_t codes[256], unsigned char *block)
{
	unsigned char *mantissas = block + CODE_BYTES * (1 + row / 4);
	int			byte = row % 4;

	for (size_t i = 0; i < n; i++)
	{
		uint16_t	bits = weight_at(weights, i);
		uint8_t		code = codes[exponent_of(bits)];

		block[4 * i + row / 2] |= (code & 0xf) << 4 * (row % 2);
		mantissas[4 * i + byte] |= bits & 0x7f;
		mantissas[4 * i + (byte + 1) % 4] |= bits >> 8 & 0x80;
	}
}

bool
hart_bf12_pack(const void *weights, size_t n, void *tile)
{
	uint8_t		codes[256];
	uint8_t		exponents[HART_BF12_CODES];
	HartBf12Exception exceptions[HART_BF12_MAX_EXCEPTIONS];
	uint16_t	n_weights = (uint16_t) n;
	uint16_t	n_exceptions = 0;
	unsigned char *to = tile;

	if (choose_exponents(weights, n, exponents) > HART_BF12_MAX_EXCEPTIONS)
		return false;
	memset(to, 0, hart_bf12_size(n));
	memset(codes, NO_CODE, sizeof(codes));
	for (int code = HART_BF12_CODES - 1; code >= 0; code--)
		codes[exponents[code]] = (uint8_t) code;
	for (size_t i = 0; i < n; i++)
		if (codes[exponent_of(weight_at(weights, i))] == NO_CODE)
			exceptions[n_exceptions++] = (HartBf12Exception) {(uint16_t) i, weight_at(weights, i)};
	for (size_t i = 0; i < n; i += ROW)
		pack_row((const char *) weights + 2 * i, n - i < ROW ? n - i : ROW, i / ROW % BLOCK_ROWS, codes,
				 to + HART_BF12_HEADER + i / HART_BF12_BLOCK * HART_BF12_BLOCK_BYTES);
	memcpy(to, exponents, sizeof(exponents));
	memcpy(to + 16, &n_weights, sizeof(n_weights));
	memcpy(to + 18, &n_exceptions, sizeof(n_exceptions));
	memcpy(to + 20, exceptions, n_exceptions * sizeof(exceptions[0]));
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
