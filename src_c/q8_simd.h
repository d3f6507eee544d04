/*
 * q8_simd.h
 *		The kernels for 8-bit tiles written once for vectors of any width.
 *
 * Included by each x86 set after it has defined
 *		SIMD_TARGET			the attribute that allows its instructions
 *		SIMD_SET_NAME, SIMD_SET		the set's name and its variable
 *		LANES				dwords in a vector, 8 or 16
 *		vec, ivec			vectors of floats and of integers
 *		X_ROWS				rows of x in one block of registers
 *		i_load, i_store, i_load_part, i_store_part	(the part: the first n of LANES dwords)
 *		i_zero, i_add, i_shift_left, i_dot		(i_dot: add products of unsigned and signed bytes)
 *		i_abs_max, i_round, i_split, i_store_quads, i_max_lanes, i_sum_lanes	(for rounding x)
 *		v_load, v_store, v_set1, v_mul, v_fma, v_from_int, v_load_scales
 *		v_fold				(the 16 sums of a group to 4: l + 8, then l + 4)
 */
#define INLINE static inline __attribute__((always_inline)) SIMD_TARGET
#define KERNEL static SIMD_TARGET

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define NO_UNROLL _Pragma("GCC unroll 1")
#endif

/* Vectors in a group's 16 places */
#define VECS (HART_Q8_GROUP / LANES)

/* How far ahead of a pass over weights they are called into the cache, as in kernels_simd.h */
#define PREFETCH_BYTES 2048

KERNEL void
round_x(const float *x, size_t n_blocks, HartQ8X *out)
{
	memset(out, 0, hart_q8_groups(n_blocks) * sizeof(HartQ8X));
	for (size_t b = 0; b < n_blocks; b++, x += HART_Q8_BLOCK)
	{
		HartQ8X    *group = &out[b / HART_Q8_GROUP];
		size_t		place = b % HART_Q8_GROUP;
		ivec		max_bits = i_zero();
		ivec		sum = i_zero();
		uint32_t	bits;
		float		max;
		vec			factor;

		/* magnitudes are ordered as their bits are, NaN above all */
		UNROLL for (int i = 0; i < HART_Q8_BLOCK; i += LANES)
			max_bits = i_abs_max(max_bits, v_load(x + i));
		bits = i_max_lanes(max_bits);
		if (bits >= 0x7f800000)
		{
			group->scale[place] = NAN;
			continue;
		}
		memcpy(&max, &bits, sizeof(max));
		if (max < HART_Q8_MIN_X)
			continue;
		group->scale[place] = max / HART_Q8_MAX_X;
		factor = v_set1(HART_Q8_MAX_X / max);
		UNROLL for (int i = 0; i < HART_Q8_BLOCK; i += LANES)
		{
			ivec		q = i_round(v_mul(v_load(x + i), factor));
			ivec		high;
			ivec		low;

			i_split(q, &high, &low);
			i_store_quads(high, group->high[i / 4][place]);
			i_store_quads(low, group->low[i / 4][place]);
			sum = i_add(sum, q);
		}
		group->bias[place] = -128 * i_sum_lanes(sum);
	}
}

/* Up to LANES of n dwords from number `first` on */
INLINE ivec
load_dwords(const char *from, size_t first, size_t n)
{
	if (n >= first + LANES)
		return i_load(from + 4 * first);
	return i_load_part(from + 4 * first, n > first ? n - first : 0);
}

/* Copy n <= HART_Q8_GROUP dwords */
INLINE void
copy_dwords(char *to, const char *from, size_t n)
{
	UNROLL for (size_t first = 0; first < HART_Q8_GROUP; first += LANES)
		i_store_part(to + 4 * first, load_dwords(from, first, n), n > first + LANES ? LANES : n > first ? n - first : 0);
}

/* The next group of a walk, n blocks; cut: room for one that a tile's end cuts, advanced when it is used */
INLINE HartQ8Run
next_group(HartQ8Walk *walk, size_t n, char **cut)
{
	HartQ8Run	run = hart_q8_run(*walk->tile, walk->block);
	size_t		here = HART_Q8_TILE_BLOCKS - walk->block;
	HartQ8Run	rest;
	char	   *to = *cut;

	if (n <= here)
	{
		walk->block += n;
		if (n == here)
		{
			walk->tile++;
			walk->block = 0;
		}
		return run;
	}
	walk->tile++;
	walk->block = n - here;
	rest = hart_q8_run(*walk->tile, 0);
	for (size_t quad = 0; quad < HART_Q8_QUADS; quad++)
	{
		copy_dwords(to + quad * 4 * n, run.weights + quad * 4 * here, here);
		copy_dwords(to + quad * 4 * n + 4 * here, rest.weights + quad * 4 * (n - here), n - here);
	}
	memcpy(to + HART_Q8_CUT_WEIGHTS, run.scales, 2 * here);
	memcpy(to + HART_Q8_CUT_WEIGHTS + 2 * here, rest.scales, 2 * (n - here));
	*cut += HART_Q8_CUT_BYTES;
	return (HartQ8Run) {to, to + HART_Q8_CUT_WEIGHTS};
}

/* Add the products of a group of n blocks, both planes at a time */
INLINE void
add_group(HartQ8Run run, const HartQ8X *x, size_t n, vec sums[VECS])
{
	ivec		high[VECS];
	ivec		low[VECS];

	UNROLL for (int v = 0; v < VECS; v++)
	{
		high[v] = i_zero();
		low[v] = i_load(x->bias + v * LANES);
	}
	UNROLL for (size_t quad = 0; quad < HART_Q8_QUADS; quad++)
	{
		const char *w = run.weights + quad * 4 * n;

		__builtin_prefetch((const void *) ((uintptr_t) w + PREFETCH_BYTES), 0, 3);
		UNROLL for (int v = 0; v < VECS; v++)
		{
			ivec		weights = load_dwords(w, v * LANES, n);

			high[v] = i_dot(high[v], weights, i_load(x->high[quad][v * LANES]));
			low[v] = i_dot(low[v], weights, i_load(x->low[quad][v * LANES]));
		}
	}
	UNROLL for (int v = 0; v < VECS; v++)
	{
		vec			scale = v_mul(v_load_scales(run.scales, v * LANES, n), v_load(x->scale + v * LANES));

		sums[v] = v_fma(v_from_int(i_add(i_shift_left(high[v], 7), low[v])), scale, sums[v]);
	}
}

/* The last two steps of adding up by halves, l + 2 and l + 1, for four groups' sums at once */
INLINE __m128
add_halves_four(__m128 a, __m128 b, __m128 c, __m128 d)
{
	__m128		ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
	__m128		cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));

	return _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd));
}

KERNEL void
one_row(const HartQ8Rows *w, const HartQ8X *x, float *y)
{
	HartQ8Walk	walk = hart_q8_walk(w);
	size_t		n_whole = w->row_blocks / HART_Q8_GROUP;
	size_t		rest = w->row_blocks % HART_Q8_GROUP;
	char		room[HART_Q8_CUT_BYTES];

	for (size_t r = 0; r < w->n; r++)
	{
		vec			sums[VECS];
		char	   *cut;

		UNROLL for (int v = 0; v < VECS; v++)
			sums[v] = v_set1(0.0f);
		for (size_t g = 0; g < n_whole; g++)
		{
			cut = room;
			add_group(next_group(&walk, HART_Q8_GROUP, &cut), &x[g], HART_Q8_GROUP, sums);
		}
		if (rest > 0)
		{
			cut = room;
			add_group(next_group(&walk, rest, &cut), &x[n_whole], rest, sums);
		}
		y[r] = _mm_cvtss_f32(add_halves_four(v_fold(sums), v_fold(sums), v_fold(sums), v_fold(sums)));
	}
}

#include "q8_simd_rows.h"

const HartQ8Kernels SIMD_SET = {
	.name = SIMD_SET_NAME,
	.round_x = round_x,
	.one_row = one_row,
	.rows = rows,
};
