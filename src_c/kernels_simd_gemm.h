/*
 * kernels_simd_gemm.h
 *		The matrix product y = x * w^T for vectors of any width; part of
 *		kernels_simd.h.
 *
 * The usual scheme (Goto and van de Geijn, "Anatomy of High-Performance Matrix
 * Multiplication", 2008), with the roles the sizes here call for: a block of w
 * is transposed into panels two vectors wide, a few rows of x are copied beside
 * it, and a register block of GEMM_ROWS rows by two vectors adds up their
 * products.  Every element of y is one chain of FMAs a block of k, whatever its
 * place, so that it does not depend on how the caller splits n, nor m, except
 * where m is so small that dot products are faster.
 */

/* Fewer rows than this do not pay for transposing w */
#define GEMM_MIN_ROWS 16
#define GEMM_DOT_DEPTH 1024

/*
 * y (rows, columns) (+)= x (rows, depth) * panel (depth, vectors * LANES).
 * rows and vectors are constants in every call, so all of it is in registers.
 */
INLINE void
gemm_block(int rows, int vectors, size_t depth, const float *x,
		   const float *panel, float *y, size_t ldy, size_t columns, bool add)
{
	vec			sum[GEMM_ROWS][2];

	UNROLL for (int r = 0; r < rows; r++)
	{
		UNROLL for (int v = 0; v < vectors; v++)
			sum[r][v] = v_set1(0.0f);
	}

	for (size_t l = 0; l < depth; l++)
	{
		vec			w[2];

		UNROLL for (int v = 0; v < vectors; v++)
			w[v] = v_load(panel + v * LANES);
		UNROLL for (int r = 0; r < rows; r++)
		{
			vec			factor = v_set1(x[r * GEMM_X_STRIDE]);

			UNROLL for (int v = 0; v < vectors; v++)
				sum[r][v] = v_fma(factor, w[v], sum[r][v]);
		}
		x++;
		panel += vectors * LANES;
	}

	UNROLL for (int r = 0; r < rows; r++)
	{
		UNROLL for (int v = 0; v < vectors; v++)
		{
			float	   *to = y + r * ldy + v * LANES;
			size_t		width = columns - v * LANES;

			if (columns >= (size_t) (v + 1) * LANES)
				v_store(to, add ? v_add(v_load(to), sum[r][v]) : sum[r][v]);
			else if (columns > (size_t) v * LANES)
				v_store_part(to, add ? v_add(v_load_part(to, width), sum[r][v]) :
							 sum[r][v], width);
		}
	}
}

#define GEMM_CASE(r) \
	case r: \
		if (columns > LANES) \
			gemm_block(r, 2, depth, x, panel, y, ldy, columns, add); \
		else \
			gemm_block(r, 1, depth, x, panel, y, ldy, columns, add); \
		break

/* The same for any number of rows and columns up to the register block's */
KERNEL void
gemm_any_block(size_t rows, size_t depth, const float *x, const float *panel,
			   float *y, size_t ldy, size_t columns, bool add)
{
	switch (rows)
	{
			GEMM_CASE(1);
			GEMM_CASE(2);
			GEMM_CASE(3);
			GEMM_CASE(4);
			GEMM_CASE(5);
			GEMM_CASE(6);
#if GEMM_ROWS > 6
			GEMM_CASE(7);
			GEMM_CASE(8);
			GEMM_CASE(9);
			GEMM_CASE(10);
			GEMM_CASE(11);
			GEMM_CASE(12);
			GEMM_CASE(13);
			GEMM_CASE(14);
#endif
	}
}

/* Width of the panel that holds the given number of columns, at most two vectors */
INLINE size_t
panel_width(size_t columns)
{
	return columns > LANES ? 2 * LANES : LANES;
}

/* panel (depth, width) = w (columns, depth) transposed, zeros beside it */
KERNEL void
pack_panel(const float *w, size_t ldw, size_t columns, size_t depth,
		   float *panel)
{
	size_t		width = panel_width(columns);

	for (size_t first = 0; first < width; first += LANES)
	{
		for (size_t l = 0; l < depth; l += LANES)
		{
			size_t		length = depth - l < LANES ? depth - l : LANES;
			vec			rows[LANES];

			UNROLL for (size_t r = 0; r < LANES; r++)
			{
				const float *row = w + (first + r) * ldw + l;

				if (first + r >= columns)
					rows[r] = v_set1(0.0f);
				else if (length == LANES)
					rows[r] = v_load(row);
				else
					rows[r] = v_load_part(row, length);
			}
			v_transpose(rows);
			for (size_t r = 0; r < length; r++)
				v_store(panel + (l + r) * width + first, rows[r]);
		}
	}
}

/* Copy rows of x to where the register block can address them by constants */
KERNEL void
pack_rows(const float *x, size_t ldx, size_t rows, size_t depth, float *to)
{
	for (size_t r = 0; r < rows; r++)
		widen_any(HART_F32, x + r * ldx, to + r * GEMM_X_STRIDE, depth);
}

/* Few rows: plain dot products, with w as it lies; four rows of it fit in L1 */
KERNEL void
gemm_few_rows(size_t m, size_t n, size_t k, const float *x, size_t ldx,
			  const float *w, size_t ldw, float *y, size_t ldy, bool accumulate)
{
	for (size_t l = 0; l < k; l += GEMM_DOT_DEPTH)
	{
		size_t		depth = k - l < GEMM_DOT_DEPTH ? k - l : GEMM_DOT_DEPTH;

		for (size_t j = 0; j < n; j += 4)
		{
			const float *rows[4];

			four_rows(w + l, ldw, j, n, rows);
			for (size_t i = 0; i < m; i++)
			{
				float	   *to = y + i * ldy + j;
				float		dots[4];

				dot_four(x + i * ldx + l, rows, depth, dots);
				for (size_t r = 0; r < 4 && j + r < n; r++)
					to[r] = accumulate || l > 0 ? to[r] + dots[r] : dots[r];
			}
		}
	}
}

KERNEL void
gemm_nt(size_t m, size_t n, size_t k, const float *x, size_t ldx,
		const float *w, size_t ldw, float *y, size_t ldy, bool accumulate,
		float *scratch)
{
	float	   *x_rows;
	float	   *panels;
	size_t		m_blocks = (m + GEMM_ROWS - 1) / GEMM_ROWS;
	size_t		k_blocks = (k + GEMM_DEPTH - 1) / GEMM_DEPTH;
	size_t		block_rows;
	size_t		block_depth;

	if (m < GEMM_MIN_ROWS)
	{
		gemm_few_rows(m, n, k, x, ldx, w, ldw, y, ldy, accumulate);
		return;
	}

	/* Blocks of about the same size: a very small one would be slow */
	block_rows = (m + m_blocks - 1) / m_blocks;
	block_depth = (k + k_blocks - 1) / k_blocks;
	x_rows = (float *) (((uintptr_t) scratch + 63) & ~(uintptr_t) 63);
	panels = x_rows + GEMM_MAX_ROWS * GEMM_X_STRIDE;

	for (size_t j0 = 0; j0 < n; j0 += GEMM_COLUMNS)
	{
		size_t		columns = n - j0 < GEMM_COLUMNS ? n - j0 : GEMM_COLUMNS;

		for (size_t l0 = 0; l0 < k; l0 += block_depth)
		{
			size_t		depth = k - l0 < block_depth ? k - l0 : block_depth;

			for (size_t j = 0; j < columns; j += 2 * LANES)
				pack_panel(w + (j0 + j) * ldw + l0, ldw,
						   columns - j < 2 * LANES ? columns - j : 2 * LANES,
						   depth, panels + j * depth);

			for (size_t i = 0; i < m; i += block_rows)
			{
				size_t		rows = m - i < block_rows ? m - i : block_rows;

				pack_rows(x + i * ldx + l0, ldx, rows, depth, x_rows);
				for (size_t j = 0; j < columns; j += 2 * LANES)
					gemm_any_block(rows, depth, x_rows, panels + j * depth,
								   y + i * ldy + j0 + j, ldy,
								   columns - j < 2 * LANES ? columns - j : 2 * LANES,
								   accumulate || l0 > 0);
			}
		}
	}
}
