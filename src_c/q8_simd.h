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
 *		STREAMS				rows of weights that one row of x takes side by side, 1 or 4
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

/* How far ahead of a pass over weights they are called into the L2 cache */
#define PREFETCH_BYTES 3072

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

/* From how many blocks on a vector from any quad of a run but the last stays within the run */
#define WIDE_RUN 8

/*
 * Up to LANES dwords of a quad of a run of n blocks, from number `first` on. Those beyond the n-th, which no x goes with, are anything in a run that is wide.
 */
INLINE ivec
load_quad(const char *weights, size_t quad, size_t first, size_t n, bool wide)
{
	const char *from = weights + quad * 4 * n;

	return wide && quad + 1 < HART_Q8_QUADS ? i_load(from + 4 * first) : load_dwords(from, first, n);
}

/* Add the products of a group of n blocks of each stream, both planes at a time */
INLINE void
add_group(const HartQ8Run runs[STREAMS], const HartQ8X *x, size_t n, bool wide, vec sums[STREAMS][VECS])
{
	ivec		high[STREAMS][VECS];
	ivec		low[STREAMS][VECS];

	UNROLL for (int v = 0; v < VECS; v++)
	{
		UNROLL for (int s = 0; s < STREAMS; s++)
		{
			high[s][v] = i_zero();
			low[s][v] = i_load(x->bias + v * LANES);
		}
	}
	UNROLL for (size_t quad = 0; quad < HART_Q8_QUADS; quad++)
	{
		/* a run has as many cache lines as blocks */
		if (quad < n)
		{
			UNROLL for (int s = 0; s < STREAMS; s++)
				__builtin_prefetch((const void *) ((uintptr_t) runs[s].weights + PREFETCH_BYTES + 64 * quad), 0, 2);
		}
		UNROLL for (int v = 0; v < VECS; v++)
		{
			ivec		x_high = i_load(x->high[quad][v * LANES]);
			ivec		x_low = i_load(x->low[quad][v * LANES]);

			UNROLL for (int s = 0; s < STREAMS; s++)
			{
				ivec		weights = load_quad(runs[s].weights, quad, v * LANES, n, wide);

				high[s][v] = i_dot(high[s][v], weights, x_high);
				low[s][v] = i_dot(low[s][v], weights, x_low);
			}
		}
	}
	UNROLL for (int v = 0; v < VECS; v++)
	{
		vec			x_scale = v_load(x->scale + v * LANES);

		UNROLL for (int s = 0; s < STREAMS; s++)
		{
			vec			scale = v_mul(v_load_scales(runs[s].scales, v * LANES, n), x_scale);

			sums[s][v] = v_fma(v_from_int(i_add(i_shift_left(high[s][v], 7), low[s][v])), scale, sums[s][v]);
		}
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

/* n successive rows of weights from each of STREAMS others on, by a row of x; the results of n_streams of them are put in y */
INLINE void
multiply_streams(const HartQ8Rows *w, const size_t first[STREAMS], size_t n_streams, size_t n, const HartQ8X *x, float *y)
{
	size_t		n_groups = hart_q8_groups(w->row_blocks);
	HartQ8Walk	walks[STREAMS];
	char		room[STREAMS][HART_Q8_CUT_BYTES];

	for (size_t s = 0; s < STREAMS; s++)
	{
		HartQ8Rows	from = *w;

		from.first_block += first[s] * w->row_blocks;
		walks[s] = hart_q8_walk(&from);
	}
	for (size_t r = 0; r < n; r++)
	{
		vec			sums[STREAMS][VECS];
		float		out[4];

		UNROLL for (int s = 0; s < STREAMS; s++)
		{
			UNROLL for (int v = 0; v < VECS; v++)
				sums[s][v] = v_set1(0.0f);
		}
		for (size_t g = 0; g < n_groups; g++)
		{
			size_t		left = w->row_blocks - g * HART_Q8_GROUP;
			HartQ8Run	runs[STREAMS];

			UNROLL for (int s = 0; s < STREAMS; s++)
			{
				char	   *cut = room[s];

				runs[s] = next_group(&walks[s], left < HART_Q8_GROUP ? left : HART_Q8_GROUP, &cut);
			}
			if (left >= HART_Q8_GROUP)
				add_group(runs, x + g, HART_Q8_GROUP, true, sums);
			else if (left >= WIDE_RUN)
				add_group(runs, x + g, left, true, sums);
			else
				add_group(runs, x + g, left, false, sums);
		}
		_mm_storeu_ps(out, add_halves_four(v_fold(sums[0]), v_fold(sums[1 % STREAMS]), v_fold(sums[2 % STREAMS]), v_fold(sums[3 % STREAMS])));
		for (size_t s = 0; s < n_streams; s++)
			y[first[s] + r] = out[s];
	}
}

/* A stretch of the rows in each stream, then those that are left over side by side */
KERNEL void
one_row(const HartQ8Rows *w, const HartQ8X *x, float *y)
{
	size_t		stretch = w->n / STREAMS;
	size_t		n_left = w->n % STREAMS;
	size_t		first[STREAMS];

	for (size_t s = 0; s < STREAMS; s++)
		first[s] = s * stretch;
	multiply_streams(w, first, STREAMS, stretch, x, y);
	/* streams that have none take the last row too */
	for (size_t s = 0; s < STREAMS; s++)
		first[s] = STREAMS * stretch + (s < n_left ? s : n_left - 1);
	if (n_left > 0)
		multiply_streams(w, first, n_left, 1, x, y);
}

#include "q8_simd_rows.h"

const HartQ8Kernels SIMD_SET = {
	.name = SIMD_SET_NAME,
	.round_x = round_x,
	.one_row = one_row,
	.rows = rows,
};
