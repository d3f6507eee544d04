/*
 * kernels_simd_panel.h
 *		Products of many rows of x by a panel of rows of weights, for vectors of any
 *		width; part of kernels_simd.h.
 *
 * Here the lanes of a vector are rows of weights, so a register block of PANEL_X_ROWS rows
 * of x by PANEL_VECS vectors of weights loads little and adds up no lanes.  The order
 * of the sums is that of kernels_simd_gemm.h all the same: a chain takes every LANES-th
 * column, so both sides are packed chain after chain, each chain is summed by itself,
 * and the chains' sums are added in pairs as v_sum4 adds the lanes.  CHAIN_LEAF(c) is the place
 * of chain c among the leaves of that tree.
 *
 * Packed, columns padded with zeros to `steps` a chain:
 *		x		(LANES leaves, steps, rows)
 *		weights	(LANES leaves, steps, PANEL_W_ROWS) of each PANEL_W_ROWS rows, the leaves
 *				LEAF_GAP further apart, as they would share cache sets otherwise
 */

#define PANEL_VECS 2
#define PANEL_W_ROWS (PANEL_VECS * LANES)
#define LEAF_GAP 16

/* Halvings from LANES leaves to one sum */
#define TREE_DEPTH (LANES == 16 ? 4 : 3)

INLINE size_t
steps_of(size_t depth)
{
	return (depth + LANES - 1) / LANES;
}

/* Turn up to LANES rows: a step's numbers of a chain, a row each, lie side by side at to + leaf * leaf_size + step * width */
INLINE void
pack_rows(size_t rows, size_t depth, const float *x, size_t ldx, size_t width, size_t leaf_size, float *to)
{
	const float *from[LANES];

	for (size_t r = 0; r < LANES; r++)
		from[r] = x + ldx * (r < rows ? r : rows - 1);
	for (size_t l = 0; l < depth; l += LANES)
	{
		size_t		left = depth - l;
		vec			v[LANES];

		if (left >= LANES)
		{
			UNROLL for (int r = 0; r < LANES; r++)
				v[r] = v_load(from[r] + l);
		}
		else
		{
			UNROLL for (int r = 0; r < LANES; r++)
				v[r] = v_load_part(from[r] + l, left);
		}
		v_transpose(v);
		if (rows == LANES)
		{
			UNROLL for (int c = 0; c < LANES; c++)
				v_store(to + CHAIN_LEAF(c) * leaf_size, v[c]);
		}
		else
		{
			UNROLL for (int c = 0; c < LANES; c++)
				v_store_part(to + CHAIN_LEAF(c) * leaf_size, v[c], rows);
		}
		to += width;
	}
}

KERNEL void
pack_x(size_t rows, size_t depth, const float *x, size_t ldx, float *to)
{
	pack_rows(rows, depth, x, ldx, rows, steps_of(depth) * rows, to);
}

/* Floats of PANEL_W_ROWS packed rows of weights */
INLINE size_t
panel_floats(size_t depth)
{
	return LANES * (steps_of(depth) * PANEL_W_ROWS + LEAF_GAP);
}

KERNEL void
pack_weights(size_t n, size_t depth, const float *w, size_t ldw, float *to)
{
	for (size_t j = 0; j < n; j += LANES)
		pack_rows(n - j < LANES ? n - j : LANES, depth, w + j * ldw, ldw, PANEL_W_ROWS, panel_floats(depth) / LANES,
				  to + j / PANEL_W_ROWS * panel_floats(depth) + j % PANEL_W_ROWS);
}

/*
 * y of one block of rows of x and one of weights.  rows is a constant in every call, so the sums are
 * in registers.
 */
INLINE void
panel_block(int rows, size_t steps, const float *x, const float *w, float *y, size_t ldy, size_t width, bool add)
{
	vec			sum[PANEL_X_ROWS][PANEL_VECS];
	vec			waiting[TREE_DEPTH][PANEL_X_ROWS][PANEL_VECS];
	int			n_waiting = 0;

	for (unsigned leaf = 0; leaf < LANES; leaf++)
	{
		UNROLL for (int r = 0; r < rows; r++)
		{
			UNROLL for (int v = 0; v < PANEL_VECS; v++)
				sum[r][v] = v_set1(0.0f);
		}
		for (size_t s = 0; s < steps; s++)
		{
			vec			weights[PANEL_VECS];

			UNROLL for (int v = 0; v < PANEL_VECS; v++)
				weights[v] = v_load(w + v * LANES);
			UNROLL for (int r = 0; r < rows; r++)
			{
				vec			factor = v_set1(x[r]);

				UNROLL for (int v = 0; v < PANEL_VECS; v++)
					sum[r][v] = v_fma(weights[v], factor, sum[r][v]);
			}
			x += rows;
			w += PANEL_W_ROWS;
		}
		w += LEAF_GAP;

		/* add it to the sums of leaves that make a subtree with it */
		for (unsigned complete = leaf; complete & 1; complete >>= 1)
		{
			n_waiting--;
			UNROLL for (int r = 0; r < rows; r++)
			{
				UNROLL for (int v = 0; v < PANEL_VECS; v++)
					sum[r][v] = v_add(waiting[n_waiting][r][v], sum[r][v]);
			}
		}
		if (leaf < LANES - 1)
		{
			UNROLL for (int r = 0; r < rows; r++)
			{
				UNROLL for (int v = 0; v < PANEL_VECS; v++)
					waiting[n_waiting][r][v] = sum[r][v];
			}
			n_waiting++;
		}
	}

	UNROLL for (int r = 0; r < rows; r++)
	{
		UNROLL for (int v = 0; v < PANEL_VECS; v++)
		{
			float	   *to = y + r * ldy + v * LANES;

			if (width >= (size_t) (v + 1) * LANES)
				v_store(to, add ? v_add(v_load(to), sum[r][v]) : sum[r][v]);
			else if (width > (size_t) v * LANES)
			{
				size_t		part = width - v * LANES;

				v_store_part(to, add ? v_add(v_load_part(to, part), sum[r][v]) : sum[r][v], part);
			}
		}
	}
}

#define PANEL_CASE(r) \
	case r: \
		panel_block(r, steps, x, w, y + j, ldy, width, add); \
		break

KERNEL void
gemm_packed(size_t rows, size_t n, size_t depth, const float *x, const float *w, float *y, size_t ldy, bool add)
{
	size_t		steps = steps_of(depth);

	for (size_t j = 0; j < n; j += PANEL_W_ROWS)
	{
		size_t		width = n - j < PANEL_W_ROWS ? n - j : PANEL_W_ROWS;

		switch (rows)
		{
				PANEL_CASE(1);
				PANEL_CASE(2);
				PANEL_CASE(3);
				PANEL_CASE(4);
				PANEL_CASE(5);
				PANEL_CASE(6);
#if PANEL_X_ROWS > 6
				PANEL_CASE(7);
				PANEL_CASE(8);
				PANEL_CASE(9);
				PANEL_CASE(10);
				PANEL_CASE(11);
				PANEL_CASE(12);
#endif
		}
		w += panel_floats(depth);
	}
}
