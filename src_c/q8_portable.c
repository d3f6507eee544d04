/*
 * q8_portable.c
 *		The kernels for 8-bit tiles in plain C: what the others are tested
 *		against, and what runs where there is no AVX2.
 */
#include "q8_internal.h"

#include <math.h>

static void
round_x(const float *x, size_t n_blocks, HartQ8X *out)
{
	memset(out, 0, hart_q8_groups(n_blocks) * sizeof(HartQ8X));
	for (size_t b = 0; b < n_blocks; b++, x += HART_Q8_BLOCK)
	{
		HartQ8X    *group = &out[b / HART_Q8_GROUP];
		size_t		place = b % HART_Q8_GROUP;
		float		max = 0;
		float		factor;
		int32_t		sum = 0;

		for (int i = 0; i < HART_Q8_BLOCK; i++)
		{
			if (!isfinite(x[i]))
				max = INFINITY;
			else if (fabsf(x[i]) > max)
				max = fabsf(x[i]);
		}
		if (max == INFINITY)
			group->scale[place] = NAN;
		if (max < HART_Q8_MIN_X || max == INFINITY)
			continue;
		group->scale[place] = max / HART_Q8_MAX_X;
		factor = HART_Q8_MAX_X / max;
		for (int i = 0; i < HART_Q8_BLOCK; i++)
		{
			int32_t		q = (int32_t) rintf(x[i] * factor);
			int32_t		high = (q + 64 + 16384) / 128 - 128;	/* rounded down */

			group->high[i / 4][place][i % 4] = (int8_t) high;
			group->low[i / 4][place][i % 4] = (int8_t) (q - 128 * high);
			sum += q;
		}
		group->bias[place] = -128 * sum;
	}
}

/* The next group of a walk, n blocks */
static HartQ8Run
next_group(HartQ8Walk *walk, size_t n, char *cut)
{
	HartQ8Run	run = hart_q8_run(*walk->tile, walk->block);
	size_t		here = HART_Q8_TILE_BLOCKS - walk->block;
	HartQ8Run	rest;

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
		memcpy(cut + quad * 4 * n, run.weights + quad * 4 * here, 4 * here);
		memcpy(cut + quad * 4 * n + 4 * here, rest.weights + quad * 4 * (n - here), 4 * (n - here));
	}
	memcpy(cut + HART_Q8_CUT_WEIGHTS, run.scales, 2 * here);
	memcpy(cut + HART_Q8_CUT_WEIGHTS + 2 * here, rest.scales, 2 * (n - here));
	return (HartQ8Run) {cut, cut + HART_Q8_CUT_WEIGHTS};
}

/* Add the products of a group, n blocks, to the sums */
static void
add_group(HartQ8Run run, const HartQ8X *x, size_t n, float sums[HART_Q8_GROUP])
{
	const uint8_t *w = (const uint8_t *) run.weights;

	for (size_t l = 0; l < n; l++)
	{
		int32_t		sum = x->bias[l];

		for (size_t quad = 0; quad < HART_Q8_QUADS; quad++)
		{
			for (int i = 0; i < 4; i++)
				sum += w[(quad * n + l) * 4 + i] * (128 * x->high[quad][l][i] + x->low[quad][l][i]);
		}
		sums[l] = fmaf((float) sum, hart_q8_scale(run.scales + 2 * l) * x->scale[l], sums[l]);
	}
}

static float
add_halves(float sums[HART_Q8_GROUP])
{
	for (int width = HART_Q8_GROUP / 2; width > 0; width /= 2)
	{
		for (int l = 0; l < width; l++)
			sums[l] += sums[l + width];
	}
	return sums[0];
}

static void
rows(const HartQ8Rows *w, const HartQ8X *x, size_t m, float *y, size_t ldy, void *scratch)
{
	size_t		n_groups = hart_q8_groups(w->row_blocks);

	for (size_t i = 0; i < m; i++, x += n_groups)
	{
		HartQ8Walk	walk = hart_q8_walk(w);

		for (size_t r = 0; r < w->n; r++)
		{
			float		sums[HART_Q8_GROUP] = {0};

			for (size_t g = 0; g < n_groups; g++)
			{
				size_t		left = w->row_blocks - g * HART_Q8_GROUP;
				size_t		n = left < HART_Q8_GROUP ? left : HART_Q8_GROUP;

				add_group(next_group(&walk, n, scratch), &x[g], n, sums);
			}
			y[i * ldy + r] = add_halves(sums);
		}
	}
}

static void
one_row(const HartQ8Rows *w, const HartQ8X *x, float *y)
{
	char		cut[HART_Q8_CUT_BYTES];

	rows(w, x, 1, y, w->n, cut);
}

const HartQ8Kernels hart_q8_kernels_portable = {
	.name = "portable",
	.round_x = round_x,
	.one_row = one_row,
	.rows = rows,
};
