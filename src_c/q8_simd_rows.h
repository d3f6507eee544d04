/*
 * q8_simd_rows.h
 *		Products of several rows of x with 8-bit weights, for vectors of any width;
 *		part of q8_simd.h.
 *
 * A block of registers holds the sums of X_ROWS rows of x by W_ROWS rows of weights,
 * so that what is loaded is used several times and the chains of sums hide each
 * other's latency.
 */

/* Rows of weights in a block of registers */
#define W_ROWS 4

/*
 * Add the products of a plane of n_x rows of x and of W_ROWS rows of weights, over a group of n blocks; the planes one after the other,
 * as the sums of one fill the registers.  n_x, and n where it is HART_Q8_GROUP, are constants.
 */
INLINE void
add_plane(int n_x, const int8_t (*const planes[X_ROWS])[HART_Q8_GROUP][4], const HartQ8Run *const runs[W_ROWS],
		  const HartQ8Run *const ahead[W_ROWS], size_t n, int v, ivec sums[X_ROWS][W_ROWS])
{
	/* unrolled, it would have its loads moved up and its sums out of the registers */
	NO_UNROLL for (size_t quad = 0; quad < HART_Q8_QUADS; quad++)
	{
		ivec		weights[W_ROWS];

		UNROLL for (int c = 0; c < W_ROWS; c++)
		{
			weights[c] = load_dwords(runs[c]->weights + quad * 4 * n, v * LANES, n);
			if (ahead != NULL)
				__builtin_prefetch(ahead[c]->weights + quad * 4 * n, 0, 3);
		}
		UNROLL for (int r = 0; r < n_x; r++)
		{
			ivec		xs = i_load(planes[r][quad][v * LANES]);

			UNROLL for (int c = 0; c < W_ROWS; c++)
				sums[r][c] = i_dot(sums[r][c], weights[c], xs);
		}
	}
}

INLINE void
add_groups(int n_x, const HartQ8X *const x[X_ROWS], const HartQ8Run *const runs[W_ROWS],
		   const HartQ8Run *const ahead[W_ROWS], size_t n, vec sums[X_ROWS][W_ROWS][VECS])
{
	const int8_t (*high[X_ROWS])[HART_Q8_GROUP][4];
	const int8_t (*low[X_ROWS])[HART_Q8_GROUP][4];

	UNROLL for (int r = 0; r < n_x; r++)
	{
		high[r] = x[r]->high;
		low[r] = x[r]->low;
	}
	UNROLL for (int v = 0; v < VECS; v++)
	{
		ivec		products[X_ROWS][W_ROWS];

		UNROLL for (int r = 0; r < n_x; r++)
		{
			UNROLL for (int c = 0; c < W_ROWS; c++)
				products[r][c] = i_zero();
		}
		add_plane(n_x, high, runs, v == 0 ? ahead : NULL, n, v, products);
		UNROLL for (int r = 0; r < n_x; r++)
		{
			ivec		bias = i_load(x[r]->bias + v * LANES);

			UNROLL for (int c = 0; c < W_ROWS; c++)
				products[r][c] = i_add(i_shift_left(products[r][c], 7), bias);
		}
		add_plane(n_x, low, runs, NULL, n, v, products);
		UNROLL for (int c = 0; c < W_ROWS; c++)
		{
			vec			scales = v_load_scales(runs[c]->scales, v * LANES, n);

			UNROLL for (int r = 0; r < n_x; r++)
				sums[r][c][v] = v_fma(v_from_int(products[r][c]), v_mul(scales, v_load(x[r]->scale + v * LANES)), sums[r][c][v]);
		}
	}
}

/* n_x rows of x by the W_ROWS rows of weights whose groups begin at runs; ahead: those of the rows that come next, to be called into the cache */
INLINE void
multiply_block(int n_x, const HartQ8X *x, size_t row_blocks, const HartQ8Run *const first[W_ROWS], const HartQ8Run *const next[W_ROWS],
			   float out[X_ROWS][W_ROWS])
{
	size_t		n_groups = hart_q8_groups(row_blocks);
	size_t		rest = row_blocks % HART_Q8_GROUP;
	vec			sums[X_ROWS][W_ROWS][VECS];

	UNROLL for (int r = 0; r < n_x; r++)
	{
		UNROLL for (int c = 0; c < W_ROWS; c++)
		{
			UNROLL for (int v = 0; v < VECS; v++)
				sums[r][c][v] = v_set1(0.0f);
		}
	}
	for (size_t g = 0; g < n_groups; g++)
	{
		const HartQ8X *xs[X_ROWS];
		const HartQ8Run *runs[W_ROWS];
		const HartQ8Run *ahead[W_ROWS];

		UNROLL for (int r = 0; r < n_x; r++)
			xs[r] = x + r * n_groups + g;
		UNROLL for (int c = 0; c < W_ROWS; c++)
		{
			runs[c] = first[c] + g;
			ahead[c] = next[c] + g;
		}
		if (rest == 0 || g + 1 < n_groups)
			add_groups(n_x, xs, runs, ahead, HART_Q8_GROUP, sums);
		else
			add_groups(n_x, xs, runs, ahead, rest, sums);
	}
	UNROLL for (int r = 0; r < n_x; r++)
		_mm_storeu_ps(out[r], add_halves_four(v_fold(sums[r][0]), v_fold(sums[r][1]), v_fold(sums[r][2]), v_fold(sums[r][3])));
}

#define BLOCK_CASE(r) \
	case r: \
		multiply_block(r, x, row_blocks, first, next, out); \
		break

KERNEL void
multiply_any_block(size_t n_x, const HartQ8X *x, size_t row_blocks, const HartQ8Run *const first[W_ROWS],
				   const HartQ8Run *const next[W_ROWS], float out[X_ROWS][W_ROWS])
{
	switch (n_x)
	{
			BLOCK_CASE(1);
			BLOCK_CASE(2);
#if X_ROWS > 2
			BLOCK_CASE(3);
			BLOCK_CASE(4);
#endif
	}
}

KERNEL void
rows(const HartQ8Rows *w, const HartQ8X *x, size_t m, float *y, size_t ldy, void *scratch)
{
	size_t		n_groups = hart_q8_groups(w->row_blocks);
	HartQ8Run  *runs = (HartQ8Run *) (((uintptr_t) scratch + sizeof(HartQ8Run) - 1) / sizeof(HartQ8Run) * sizeof(HartQ8Run));
	char	   *cut = (char *) (runs + w->n * n_groups);
	HartQ8Walk	walk = hart_q8_walk(w);

	for (size_t r = 0; r < w->n; r++)
	{
		for (size_t g = 0; g < n_groups; g++)
		{
			size_t		left = w->row_blocks - g * HART_Q8_GROUP;

			runs[r * n_groups + g] = next_group(&walk, left < HART_Q8_GROUP ? left : HART_Q8_GROUP, &cut);
		}
	}
	for (size_t i = 0; i < m; i += X_ROWS)
	{
		size_t		n_x = m - i < X_ROWS ? m - i : X_ROWS;

		for (size_t j = 0; j < w->n; j += W_ROWS)
		{
			const HartQ8Run *first[W_ROWS];
			const HartQ8Run *next[W_ROWS];
			float		out[X_ROWS][W_ROWS];

			/* past the end the last row again: its result is not stored */
			for (size_t c = 0; c < W_ROWS; c++)
			{
				first[c] = runs + n_groups * (j + c < w->n ? j + c : w->n - 1);
				next[c] = runs + n_groups * (j + W_ROWS + c < w->n ? j + W_ROWS + c : w->n - 1);
			}
			multiply_any_block(n_x, x + i * n_groups, w->row_blocks, first, next, out);
			for (size_t r = 0; r < n_x; r++)
			{
				for (size_t c = 0; c < W_ROWS && j + c < w->n; c++)
					y[(i + r) * ldy + j + c] = out[r][c];
			}
		}
	}
}
