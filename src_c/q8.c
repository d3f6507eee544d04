/*
 * q8.c
 *		Packing tiles of 8-bit weights, and choosing the kernels for them.
 */
#include "q8_internal.h"

/* The smallest bfloat16 that is not below a finite value >= 0 */
static uint16_t
scale_at_least(float value)
{
	uint32_t	bits;

	memcpy(&bits, &value, sizeof(bits));
	return (uint16_t) ((bits + 0xffff) >> 16);
}

/* Added and subtracted again, it leaves the nearest whole number to one below 2^22, ties to even; a call of rintf would take longer than all else */
#define ROUNDER 0x1.8p23f

/* Round a block: its scale, and its weights with their offset. In loops that compilers make vectors of. */
static uint16_t
round_block(const float *weights, uint8_t *rounded)
{
	uint32_t	bits[HART_Q8_BLOCK];
	uint32_t	max_bits = 0;
	float		max;
	uint16_t	half;
	float		scale;

	/* magnitudes are ordered as their bits are, NaN above all */
	memcpy(bits, weights, sizeof(bits));
	for (int i = 0; i < HART_Q8_BLOCK; i++)
	{
		uint32_t	magnitude = bits[i] & 0x7fffffff;

		max_bits = magnitude > max_bits ? magnitude : max_bits;
	}
	if (max_bits == 0 || max_bits >= 0x7f800000)
	{
		memset(rounded, 128, HART_Q8_BLOCK);
		return max_bits == 0 ? 0 : 0x7fc0;
	}
	memcpy(&max, &max_bits, sizeof(max));
	/* a quotient that was rounded down may need the next scale */
	half = scale_at_least(max / HART_Q8_MAX_WEIGHT);
	scale = hart_q8_scale((const char *) &half);
	if (max / scale > HART_Q8_MAX_WEIGHT)
	{
		half++;
		scale = hart_q8_scale((const char *) &half);
	}
	for (int i = 0; i < HART_Q8_BLOCK; i++)
		rounded[i] = (uint8_t) (128 + (int) (weights[i] / scale + ROUNDER - ROUNDER));
	return half;
}

void
hart_q8_pack(const float *weights, size_t n, size_t first_block, size_t row_blocks, void *tile)
{
	char	   *to = tile;
	HartQ8Header header = {(uint32_t) row_blocks, (uint32_t) first_block, (uint16_t) (n / HART_Q8_BLOCK), 0};

	memset(to, 0, HART_Q8_HEADER);
	memcpy(to + 2 * HART_Q8_TILE_BLOCKS, &header, sizeof(header));
	for (size_t b = 0; b < header.n_blocks; b++)
	{
		HartQ8Block block = hart_q8_block(header, b);
		uint8_t		rounded[HART_Q8_BLOCK];
		uint16_t	scale = round_block(weights + b * HART_Q8_BLOCK, rounded);

		memcpy(to + 2 * b, &scale, sizeof(scale));
		for (size_t quad = 0; quad < HART_Q8_QUADS; quad++)
			memcpy(to + block.at + quad * block.stride, rounded + 4 * quad, 4);
	}
}

void
hart_q8_widen(const void *tile, size_t index, float *out, size_t n)
{
	HartQ8Header header = hart_q8_header(tile);
	const char *from = tile;

	while (n > 0)
	{
		size_t		b = index / HART_Q8_BLOCK;
		size_t		first = index % HART_Q8_BLOCK;
		size_t		taken = n < HART_Q8_BLOCK - first ? n : HART_Q8_BLOCK - first;
		HartQ8Block block = hart_q8_block(header, b);
		float		scale = hart_q8_scale(from + 2 * b);
		uint8_t		rounded[HART_Q8_BLOCK];
		float		values[HART_Q8_BLOCK];
		float	   *to = taken == HART_Q8_BLOCK ? out : values;

		/* all of the block, in loops that compilers make vectors of */
		for (size_t quad = 0; quad < HART_Q8_QUADS; quad++)
			memcpy(rounded + 4 * quad, from + block.at + quad * block.stride, 4);
		for (int i = 0; i < HART_Q8_BLOCK; i++)
			to[i] = (float) (rounded[i] - 128) * scale;
		if (to == values)
			memcpy(out, values + first, taken * sizeof(float));
		out += taken;
		index += taken;
		n -= taken;
	}
}

const char *
hart_q8_fault(const void *tile, size_t size, size_t n)
{
	HartQ8Header header;

	if (n % HART_Q8_BLOCK != 0 || n > HART_Q8_TILE || size != hart_q8_size(n))
		return "has the wrong size";
	header = hart_q8_header(tile);
	if (header.n_blocks != n / HART_Q8_BLOCK || header.row_blocks == 0 || header.first_block >= header.row_blocks || header.zero != 0)
		return "has a header that does not fit its tensor";
	return NULL;
}

size_t
hart_q8_scratch_size(const HartQ8Rows *w)
{
	size_t		n_groups = w->n * hart_q8_groups(w->row_blocks);
	size_t		n_cuts = w->n * w->row_blocks / HART_Q8_TILE_BLOCKS + 1;

	return n_groups * sizeof(HartQ8Run) + n_cuts * HART_Q8_CUT_BYTES + sizeof(HartQ8Run);
}

const HartQ8Kernels *hart_q8_kernels = &hart_q8_kernels_portable;

const HartQ8Kernels *
hart_q8_find_kernels(const char *name)
{
#ifdef HART_X86_KERNELS
	if (strcmp(name, "avx512vnni") == 0)
		return hart_find_kernels("avx512") != NULL && __builtin_cpu_supports("avx512vnni") ? &hart_q8_kernels_avx512vnni : NULL;
	if (strcmp(name, "avx512") == 0 && hart_find_kernels(name) != NULL)
		return &hart_q8_kernels_avx512;
	if (strcmp(name, "avx2") == 0 && hart_find_kernels(name) != NULL)
		return &hart_q8_kernels_avx2;
#endif
	return strcmp(name, "portable") == 0 ? &hart_q8_kernels_portable : NULL;
}

void
hart_q8_select_kernels(const char *name)
{
	const HartQ8Kernels *found = NULL;

	/* products of 8-bit weights have no set of AMX */
	if (strcmp(name, "amx") == 0)
		name = "avx512";
	if (strcmp(name, "avx512") == 0)
		found = hart_q8_find_kernels("avx512vnni");
	hart_q8_kernels = found ? found : hart_q8_find_kernels(name);
}
