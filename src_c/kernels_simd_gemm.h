/*
 * kernels_simd_gemm.h
 *		Products of rows of x by rows of weights, for vectors of any width; part of
 *		kernels_simd.h.
 *
 * Every product of two rows is summed in the same order, however many others are
 * computed beside it: columns in blocks of HART_DOT_DEPTH, a block in LANES chains
 * of FMAs (lane l takes the columns l, l + LANES, ...) that v_sum4 adds up, then
 * block after block.  A register block holds the chains of GEMM_ROWS rows of x by
 * GEMM_W_ROWS rows of weights, so that what is loaded is used several times and
 * the chains hide each other's latency.
 */

/* Rows of weights in a register block */
#define GEMM_W_ROWS HART_GROUP_ROWS

/* Cache lines [line, end) of what will be asked for next, line i being the i / GEMM_W_ROWS-th of row i % GEMM_W_ROWS */
typedef struct
{
	const char *const *rows;
	size_t		line;
	size_t		end;
	size_t		at_once;
} Ahead;

/*
 * out[r * GEMM_W_ROWS + c] = x row r . w row c, over at most HART_DOT_DEPTH columns.
 * rows is a constant in every call, so all sums are in registers.  What lies ahead is called into the cache
 * evenly along the way: many lines at once would wait for one another, and the products for them.
 */
INLINE void
dot_block(int rows, const float *x, size_t ldx, const float *const *w, size_t n, Ahead ahead, float *out)
{
	size_t		i = 0;
	vec			sum[GEMM_ROWS][GEMM_W_ROWS];

	UNROLL for (int r = 0; r < rows; r++)
	{
		UNROLL for (int c = 0; c < GEMM_W_ROWS; c++)
			sum[r][c] = v_set1(0.0f);
	}

	/* A cache line of each row of weights at a time */
	for (; i + 16 <= n; i += 16)
	{
		for (size_t c = 0; c < ahead.at_once && ahead.line < ahead.end; c++, ahead.line++)
			__builtin_prefetch(ahead.rows[ahead.line % GEMM_W_ROWS] + ahead.line / GEMM_W_ROWS * 64, 0, 3);
		UNROLL for (size_t l = 0; l < 16; l += LANES)
		{
			vec			xs[GEMM_ROWS];

			UNROLL for (int r = 0; r < rows; r++)
				xs[r] = v_load(x + r * ldx + i + l);
			UNROLL for (int c = 0; c < GEMM_W_ROWS; c++)
			{
				vec			weights = v_load(w[c] + i + l);

				UNROLL for (int r = 0; r < rows; r++)
					sum[r][c] = v_fma(weights, xs[r], sum[r][c]);
			}
		}
	}
	for (; i < n; i += LANES)
	{
		size_t		left = n - i;
		vec			xs[GEMM_ROWS];

		UNROLL for (int r = 0; r < rows; r++)
			xs[r] = left >= LANES ? v_load(x + r * ldx + i) : v_load_part(x + r * ldx + i, left);
		UNROLL for (int c = 0; c < GEMM_W_ROWS; c++)
		{
			vec			weights = left >= LANES ? v_load(w[c] + i) : v_load_part(w[c] + i, left);

			UNROLL for (int r = 0; r < rows; r++)
				sum[r][c] = v_fma(weights, xs[r], sum[r][c]);
		}
	}

	UNROLL for (int r = 0; r < rows; r++)
		v_sum4(sum[r][0], sum[r][1], sum[r][2], sum[r][3], out + r * GEMM_W_ROWS);
}

#define DOT_CASE(r) \
	case r: \
		dot_block(r, x, ldx, w, n, ahead, out); \
		break

/* The same for any number of rows up to the register block's */
INLINE void
dot_any_block(size_t rows, const float *x, size_t ldx, const float *const *w, size_t n, Ahead ahead, float *out)
{
	switch (rows)
	{
			DOT_CASE(1);
			DOT_CASE(2);
			DOT_CASE(3);
#if GEMM_ROWS > 3
			DOT_CASE(4);
			DOT_CASE(5);
			DOT_CASE(6);
#endif
	}
}

/* Rows of x in the register blocks of m rows: as many as there is room for, but all about the same, as small blocks are slow */
INLINE size_t
rows_a_block(size_t m)
{
	size_t		n_blocks = (m + GEMM_ROWS - 1) / GEMM_ROWS;

	return (m + n_blocks - 1) / n_blocks;
}

/* Put a block's sums in their places in y */
INLINE void
store_block(size_t rows, size_t width, const float *sums, float *y, size_t ldy, bool add)
{
	for (size_t r = 0; r < rows; r++)
	{
		float	   *to = y + r * ldy;

		for (size_t c = 0; c < width; c++)
			to[c] = add ? to[c] + sums[r * GEMM_W_ROWS + c] : sums[r * GEMM_W_ROWS + c];
	}
}

/* Each block of rows of x calls its share of what is next */
KERNEL void
gemm_group(const HartGroup *group, size_t depth, bool accumulate)
{
	size_t		m = group->m;
	size_t		block_rows = rows_a_block(m);
	size_t		n_lines = (group->next_bytes + 63) / 64 * GEMM_W_ROWS;
	const float *w[GEMM_W_ROWS];
	float		sums[GEMM_ROWS * GEMM_W_ROWS];

	four_rows(group->w, group->ldw, 0, group->n, w);
	for (size_t i = 0; i < m; i += block_rows)
	{
		size_t		rows = m - i < block_rows ? m - i : block_rows;
		Ahead		ahead = {group->next, n_lines * i / m, n_lines * (i + rows) / m, 0};

		ahead.at_once = (ahead.end - ahead.line + depth / 16) / (depth / 16 + 1);
		dot_any_block(rows, group->x + i * group->ldx, group->ldx, w, depth, ahead, sums);
		store_block(rows, group->n, sums, group->y + i * group->ldy, group->ldy, accumulate);
	}
}

/* Add columns [0, n) of a row of weights to the chains */
INLINE vec
dot_chain(HartDtype dtype, const char *w, const float *x, size_t n, vec sum)
{
	size_t		size = hart_dtype_size(dtype);
	size_t		i = 0;

	for (; i + STEPS * LANES <= n; i += STEPS * LANES)
	{
		UNROLL for (size_t line = 0; line < STEPS * LANES * size; line += 64)
			__builtin_prefetch((const void *) ((uintptr_t) (w + i * size) + line + PREFETCH_BYTES), 0, 3);
		UNROLL for (int s = 0; s < STEPS; s++)
			sum = v_fma(load_weights(dtype, w + (i + s * LANES) * size), v_load(x + i + s * LANES), sum);
	}
	for (; i + LANES <= n; i += LANES)
		sum = v_fma(load_weights(dtype, w + i * size), v_load(x + i), sum);
	if (i < n)
		sum = v_fma(load_weights_part(dtype, w + i * size, n - i), v_load_part(x + i, n - i), sum);
	return sum;
}

INLINE float
dot1_any(HartDtype dtype, const void *w, size_t n, const void *rest, size_t n_rest, const float *x)
{
	vec			sum = dot_chain(dtype, w, x, n, v_set1(0.0f));

	if (n_rest > 0)
		sum = dot_chain(dtype, rest, x + n, n_rest, sum);
	return v_sum(sum);
}

KERNEL float
dot1_f32(const void *w, size_t n, const void *rest, size_t n_rest, const float *x)
{
	return dot1_any(HART_F32, w, n, rest, n_rest, x);
}

KERNEL float
dot1_f16(const void *w, size_t n, const void *rest, size_t n_rest, const float *x)
{
	return dot1_any(HART_F16, w, n, rest, n_rest, x);
}

KERNEL float
dot1_bf16(const void *w, size_t n, const void *rest, size_t n_rest, const float *x)
{
	return dot1_any(HART_BF16, w, n, rest, n_rest, x);
}

KERNEL void
gemm_nt(size_t m, size_t n, size_t k, const float *x, size_t ldx,
		const float *w, size_t ldw, float *y, size_t ldy, bool accumulate)
{
	size_t		block_rows = rows_a_block(m);
	float		sums[GEMM_ROWS * GEMM_W_ROWS];

	for (size_t l = 0; l < k; l += HART_DOT_DEPTH)
	{
		size_t		depth = k - l < HART_DOT_DEPTH ? k - l : HART_DOT_DEPTH;
		bool		add = accumulate || l > 0;

		for (size_t i = 0; i < m; i += block_rows)
		{
			size_t		rows = m - i < block_rows ? m - i : block_rows;

			for (size_t j = 0; j < n; j += GEMM_W_ROWS)
			{
				const float *four[GEMM_W_ROWS];
				size_t		width = n - j < GEMM_W_ROWS ? n - j : GEMM_W_ROWS;

				four_rows(w + l, ldw, j, n, four);
				dot_any_block(rows, x + i * ldx + l, ldx, four, depth, (Ahead) {.at_once = 0}, sums);
				store_block(rows, width, sums, y + i * ldy + j, ldy, add);
			}
		}
	}
}
