/*
 * kernels_simd_bf12.h
 *		Weights of tiles packed in 12 bits (bf12.h), for vectors of any width; part of kernels_simd.h.
 *
 * A set defines besides
 *		bf12_table			the exponents of a tile, made by v_bf12_table
 *		v_bf12				LANES weights of a block: row 0 .. 7 has the weights 16 row and on, part the LANES of them
 *							from part * LANES on; exceptions are as if they were none
 *
 * Sums are those of dot_chain over the same weights in bf16, bit for bit.
 */
#define BF12_ROW HART_CHAINS
#define BF12_PARTS (BF12_ROW / LANES)

/* n <= BF12_ROW weights from index on, a multiple of BF12_ROW, and zeros, with the exceptions among them */
INLINE void
bf12_row(const void *tile, bf12_table table, size_t index, size_t n, float out[BF12_ROW])
{
	const char *block = hart_bf12_block(tile, index);
	int			row = (int) (index % HART_BF12_BLOCK / BF12_ROW);
	size_t		n_exceptions = hart_bf12_n_exceptions(tile);

	UNROLL for (int part = 0; part < BF12_PARTS; part++)
		v_store(out + part * LANES, v_bf12(block, table, row, part));
	for (size_t i = hart_bf12_find_exception(tile, index); i < n_exceptions; i++)
	{
		HartBf12Exception e = hart_bf12_exception(tile, i);
		uint32_t	bits = (uint32_t) e.bits << 16;

		/* a wrong order of exceptions does no harm either */
		if (e.index - index >= n)
			break;
		memcpy(&out[e.index - index], &bits, sizeof(bits));
	}
	for (size_t i = n; i < BF12_ROW; i++)
		out[i] = 0;
}

/* Add n weights without exceptions to the chains; index and n are multiples of BF12_ROW */
INLINE vec
bf12_chain_plain(const void *tile, bf12_table table, size_t index, size_t n, const float *x, vec sum)
{
	size_t		end = index + n;

	while (index < end)
	{
		const char *block = hart_bf12_block(tile, index);

		if (index % HART_BF12_BLOCK == 0 && end - index >= HART_BF12_BLOCK)
		{
			UNROLL for (int line = 0; line < HART_BF12_BLOCK_BYTES; line += 64)
				__builtin_prefetch((const void *) ((uintptr_t) block + line + PREFETCH_BYTES), 0, 3);
			UNROLL for (int i = 0; i < HART_BF12_BLOCK / LANES; i++)
				sum = v_fma(v_bf12(block, table, i / BF12_PARTS, i % BF12_PARTS), v_load(x + i * LANES), sum);
			index += HART_BF12_BLOCK;
			x += HART_BF12_BLOCK;
		}
		else
		{
			UNROLL for (int part = 0; part < BF12_PARTS; part++)
				sum = v_fma(v_bf12(block, table, (int) (index % HART_BF12_BLOCK / BF12_ROW), part), v_load(x + part * LANES), sum);
			index += BF12_ROW;
			x += BF12_ROW;
		}
	}
	return sum;
}

/* Add n weights to the chains; index is a multiple of BF12_ROW */
INLINE vec
bf12_chain(const void *tile, size_t index, size_t n, const float *x, vec sum)
{
	bf12_table	table = v_bf12_table(tile);
	size_t		end = index + n;
	size_t		n_exceptions = hart_bf12_n_exceptions(tile);
	size_t		next = hart_bf12_find_exception(tile, index);

	while (index < end)
	{
		size_t		stop = end;
		float		row[BF12_ROW];
		size_t		left;

		if (next < n_exceptions && hart_bf12_exception(tile, next).index < end)
			stop = hart_bf12_exception(tile, next).index;
		/* whole rows up to the one with an exception, or to what is left of the last one */
		left = stop > index ? (stop - index) / BF12_ROW * BF12_ROW : 0;
		sum = bf12_chain_plain(tile, table, index, left, x, sum);
		index += left;
		x += left;
		if (index >= end)
			break;

		left = end - index < BF12_ROW ? end - index : BF12_ROW;
		bf12_row(tile, table, index, left, row);
		for (size_t i = 0; i < left; i += LANES)
			sum = left - i >= LANES ? v_fma(v_load(row + i), v_load(x + i), sum)
				: v_fma(v_load_part(row + i, left - i), v_load_part(x + i, left - i), sum);
		index += left;
		x += left;
		while (next < n_exceptions && hart_bf12_exception(tile, next).index < index)
			next++;
	}
	return sum;
}

KERNEL float
dot1_bf12(const void *tile, size_t index, size_t n, const void *rest, size_t n_rest, const float *x)
{
	vec			sum = bf12_chain(tile, index, n, x, v_set1(0.0f));

	if (n_rest > 0)
		sum = bf12_chain(rest, 0, n_rest, x + n, sum);
	return v_sum(sum);
}

KERNEL void
widen_bf12(const void *tile, size_t index, float *out, size_t n)
{
	bf12_table	table = v_bf12_table(tile);
	size_t		n_exceptions = hart_bf12_n_exceptions(tile);
	size_t		i = 0;
	float		row[BF12_ROW];

	while (i < n)
	{
		size_t		at = index + i;
		size_t		skip = at % BF12_ROW;
		const char *block = hart_bf12_block(tile, at);

		if (at % HART_BF12_BLOCK == 0 && n - i >= HART_BF12_BLOCK)
		{
			UNROLL for (int line = 0; line < HART_BF12_BLOCK_BYTES; line += 64)
				__builtin_prefetch((const void *) ((uintptr_t) block + line + PREFETCH_BYTES), 0, 3);
			UNROLL for (int l = 0; l < HART_BF12_BLOCK / LANES; l++)
				v_store(out + i + l * LANES, v_bf12(block, table, l / BF12_PARTS, l % BF12_PARTS));
			i += HART_BF12_BLOCK;
		}
		else if (skip == 0 && n - i >= BF12_ROW)
		{
			UNROLL for (int part = 0; part < BF12_PARTS; part++)
				v_store(out + i + part * LANES, v_bf12(block, table, (int) (at % HART_BF12_BLOCK / BF12_ROW), part));
			i += BF12_ROW;
		}
		else
		{
			size_t		taken = n - i < BF12_ROW - skip ? n - i : BF12_ROW - skip;

			bf12_row(tile, table, at - skip, BF12_ROW, row);
			memcpy(out + i, row + skip, taken * sizeof(float));
			i += taken;
		}
	}
	for (size_t e = hart_bf12_find_exception(tile, index); e < n_exceptions; e++)
	{
		HartBf12Exception exception = hart_bf12_exception(tile, e);
		uint32_t	bits = (uint32_t) exception.bits << 16;

		if (exception.index - index >= n)
			break;
		memcpy(&out[exception.index - index], &bits, sizeof(bits));
	}
}

/* Columns that dot_and_squares_any takes at a time */
#define SQUARES_STEP (STEPS / 2 * LANES)

/* In the order of dot_and_squares_any: whole blocks as they lie in their tile, what is cut or has exceptions by way of a copy */
KERNEL void
dot_and_squares_bf12(const void *tile, size_t index, size_t n, const void *rest, size_t n_rest, const float *x, float sums[2])
{
	bf12_table	table = v_bf12_table(tile);
	size_t		n_exceptions = hart_bf12_n_exceptions(tile);
	size_t		next = hart_bf12_find_exception(tile, index);
	size_t		total = n + n_rest;
	size_t		i = 0;
	vec			dots[STEPS / 2];
	vec			squares[STEPS / 2];

	UNROLL for (int s = 0; s < STEPS / 2; s++)
		dots[s] = squares[s] = v_set1(0.0f);

	while (i < total)
	{
		size_t		at = index + i;
		size_t		left = n - i;
		float		wide[SQUARES_STEP];
		size_t		width;

		if (i >= n && tile != rest)
		{
			tile = rest;
			table = v_bf12_table(tile);
			n_exceptions = hart_bf12_n_exceptions(tile);
			next = 0;
		}
		if (i >= n)
		{
			at = i - n;
			left = total - i;
		}
		while (next < n_exceptions && hart_bf12_exception(tile, next).index < at)
			next++;

		if (at % HART_BF12_BLOCK == 0 && left >= HART_BF12_BLOCK &&
			(next >= n_exceptions || hart_bf12_exception(tile, next).index >= at + HART_BF12_BLOCK))
		{
			const char *block = hart_bf12_block(tile, at);

			UNROLL for (int line = 0; line < HART_BF12_BLOCK_BYTES; line += 64)
				__builtin_prefetch((const void *) ((uintptr_t) block + line + PREFETCH_BYTES), 0, 3);
			UNROLL for (int v = 0; v < HART_BF12_BLOCK / LANES; v++)
			{
				vec			weight = v_bf12(block, table, v / BF12_PARTS, v % BF12_PARTS);

				dots[v % (STEPS / 2)] = v_fma(weight, v_load(x + i + v * LANES), dots[v % (STEPS / 2)]);
				squares[v % (STEPS / 2)] = v_fma(weight, weight, squares[v % (STEPS / 2)]);
			}
			i += HART_BF12_BLOCK;
			continue;
		}

		width = total - i < SQUARES_STEP ? total - i : SQUARES_STEP;
		left = left < width ? left : width;
		widen_bf12(tile, at, wide, left);
		if (left < width)
			widen_bf12(rest, 0, wide + left, width - left);
		if (width == SQUARES_STEP)
		{
			UNROLL for (int v = 0; v < STEPS / 2; v++)
			{
				vec			weight = v_load(wide + v * LANES);

				dots[v] = v_fma(weight, v_load(x + i + v * LANES), dots[v]);
				squares[v] = v_fma(weight, weight, squares[v]);
			}
		}
		else
		{
			for (size_t j = 0; j < width; j += LANES)
			{
				size_t		lanes = width - j < LANES ? width - j : LANES;
				vec			weight = v_load_part(wide + j, lanes);

				dots[0] = v_fma(weight, v_load_part(x + i + j, lanes), dots[0]);
				squares[0] = v_fma(weight, weight, squares[0]);
			}
		}
		i += width;
	}
	add_dots_and_squares(dots, squares, sums);
}
