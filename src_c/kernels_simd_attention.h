/*
 * kernels_simd_attention.h
 *		Products with blocks of keys and values, for vectors of any width; part of
 *		kernels_simd.h.
 *
 * Each number is a chain of FMAs of its own, so that it does not depend on
 * what is computed beside it.  A register block holds GEMM_ROWS rows of a by
 * NN_VECS vectors of columns: enough chains to hide the latency of an FMA.
 */

/* Vectors of columns in a register block */
#define NN_VECS 4

/* rows by vecs vectors of y, or by the first `columns` < LANES columns; rows and vecs are constants in every call */
INLINE void
nn_block(int rows, int vecs, size_t columns, size_t k, const float *a, size_t lda,
		 const float *b, size_t ldb, float *y, size_t ldy)
{
	vec			sum[GEMM_ROWS][NN_VECS];

	UNROLL for (int r = 0; r < rows; r++)
	{
		UNROLL for (int c = 0; c < vecs; c++)
			sum[r][c] = v_set1(0.0f);
	}
	for (size_t l = 0; l < k; l++)
	{
		vec			as[GEMM_ROWS];

		UNROLL for (int r = 0; r < rows; r++)
			as[r] = v_set1(a[r * lda + l]);
		UNROLL for (int c = 0; c < vecs; c++)
		{
			vec			bs = columns > 0 ? v_load_part(b + l * ldb, columns) : v_load(b + l * ldb + c * LANES);

			UNROLL for (int r = 0; r < rows; r++)
				sum[r][c] = v_fma(as[r], bs, sum[r][c]);
		}
	}
	UNROLL for (int r = 0; r < rows; r++)
	{
		UNROLL for (int c = 0; c < vecs; c++)
		{
			if (columns > 0)
				v_store_part(y + r * ldy, sum[r][c], columns);
			else
				v_store(y + r * ldy + c * LANES, sum[r][c]);
		}
	}
}

#define NN_CASE(r) \
	case r: \
		for (; j + NN_VECS * LANES <= n; j += NN_VECS * LANES) \
			nn_block(r, NN_VECS, 0, k, a, lda, b + j, ldb, y + j, ldy); \
		for (; j + LANES <= n; j += LANES) \
			nn_block(r, 1, 0, k, a, lda, b + j, ldb, y + j, ldy); \
		if (j < n) \
			nn_block(r, 1, n - j, k, a, lda, b + j, ldb, y + j, ldy); \
		break

KERNEL void
gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda,
		const float *b, size_t ldb, float *y, size_t ldy)
{
	size_t		step = m > 0 ? rows_a_block(m) : 1;

	for (; m > 0; a += step * lda, y += step * ldy, m -= step)
	{
		size_t		j = 0;

		step = step < m ? step : m;
		switch (step)
		{
				NN_CASE(1);
				NN_CASE(2);
				NN_CASE(3);
#if GEMM_ROWS > 3
				NN_CASE(4);
				NN_CASE(5);
				NN_CASE(6);
#endif
		}
	}
}
