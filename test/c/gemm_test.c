/*
 * gemm_test.c
 *		The matrix product of every set this processor has, against double
 *		precision, for many odd shapes.
 *
 * Rows are further apart than they are long, the gaps of x and w are NaN and
 * those of y must stay untouched; x and w end at pages that cannot be touched.  Sums may be off by TOLERANCE times the sum of the magnitudes.
 */
#include "kernels.h"
#include "tap.h"

#include <math.h>
#include <string.h>

#define TOLERANCE 5e-7
#define UNTOUCHED 12345.0f

#define N_SETS 3
static const char *const set_names[N_SETS] = {"portable", "avx2", "avx512"};
static const HartKernels *sets[N_SETS];
static bool right[N_SETS];

#define MAX_FLOATS (1 << 20)
static float *x_end;
static float *w_end;
static float y[1 << 18];
static double exact[1 << 16];
static double magnitude[1 << 16];

/* rows of `columns` random floats, `stride` apart, the last ending at end */
static float *
random_rows(float *end, size_t rows, size_t columns, size_t stride)
{
	float	   *values = end - ((rows - 1) * stride + columns);

	for (float *value = values; value < end; value++)
		*value = (size_t) (value - values) % stride < columns ?
			(float) random_unit() : NAN;
	return values;
}

/* Does y hold the exact sums plus `start`, and are its gaps untouched? */
static bool
check(size_t m, size_t n, size_t ldy, double start)
{
	for (size_t i = 0; i < m * ldy; i++)
	{
		size_t		at = i / ldy * n + i % ldy;

		if (i % ldy >= n)
		{
			if (y[i] != UNTOUCHED)
				return false;
		}
		else if (!(fabs(y[i] - start - exact[at]) <=
				   TOLERANCE * (magnitude[at] + fabs(start))))
			return false;
	}
	return true;
}

static void
test_shape(size_t m, size_t n, size_t k)
{
	size_t		ldx = k + random_bits() % 3;
	size_t		ldw = k + random_bits() % 3;
	size_t		ldy = n + random_bits() % 3;
	float	   *x = random_rows(x_end, m, k, ldx);
	float	   *w = random_rows(w_end, n, k, ldw);

	for (size_t i = 0; i < m; i++)
	{
		for (size_t j = 0; j < n; j++)
		{
			double		sum = 0;
			double		size = 0;

			for (size_t l = 0; l < k; l++)
			{
				double		product = (double) x[i * ldx + l] * w[j * ldw + l];

				sum += product;
				size += fabs(product);
			}
			exact[i * n + j] = sum;
			magnitude[i * n + j] = size;
		}
	}

	for (int s = 0; s < N_SETS; s++)
	{
		if (sets[s] == NULL)
			continue;

		for (int accumulate = 0; accumulate < 2; accumulate++)
		{
			/* What is overwritten may be NaN */
			for (size_t i = 0; i < m * ldy; i++)
				y[i] = i % ldy >= n ? UNTOUCHED : accumulate ? 3.0f : NAN;
			sets[s]->gemm_nt(m, n, k, x, ldx, w, ldw, y, ldy, accumulate != 0);
			if (!check(m, n, ldy, accumulate ? 3 : 0) && right[s])
			{
				right[s] = false;
				printf("# %s: wrong for m = %zu, n = %zu, k = %zu, accumulate = %d\n",
					   set_names[s], m, n, k, accumulate);
			}
		}
	}
}

static void
report(const char *what)
{
	for (int s = 0; s < N_SETS; s++)
	{
		ok(right[s], "%s: %s%s", set_names[s], what,
		   sets[s] == NULL ? " # SKIP not on this processor" : "");
		right[s] = true;
	}
}

/* The same bits whether rows of w are taken together or a few at a time */
static void
test_splits(void)
{
	static float parts[40 * 70];
	size_t		m = 40;
	size_t		n = 70;
	size_t		k = 1000;
	float	   *x = random_rows(x_end, m, k, k);
	float	   *w = random_rows(w_end, n, k, k);

	for (int s = 0; s < N_SETS; s++)
	{
		if (sets[s] == NULL)
			continue;
		for (size_t rows = 8; rows <= m; rows += 32)
		{
			sets[s]->gemm_nt(rows, n, k, x, k, w, k, y, n, false);
			for (size_t j = 0; j < n; j += 13)
				sets[s]->gemm_nt(rows, n - j < 13 ? n - j : 13, k, x, k, w + j * k,
								 k, parts + j, n, false);
			if (memcmp(y, parts, rows * n * sizeof(float)) != 0)
				right[s] = false;
		}
	}
	report("a result does not depend on how n is split");
}

/*
 * The same bits whether rows of x are taken together, some at a time or one by
 * one, and those of dot1 over the same columns
 */
static void
test_rows(size_t n, size_t k)
{
	static float parts[40 * 70];
	size_t		m = 40;
	float	   *x = random_rows(x_end, m, k, k);
	float	   *w = random_rows(w_end, n, k, k);

	for (int s = 0; s < N_SETS; s++)
	{
		if (sets[s] == NULL)
			continue;
		sets[s]->gemm_nt(m, n, k, x, k, w, k, y, n, false);
		for (size_t at_once = 1; at_once <= 17; at_once++)
		{
			for (size_t i = 0; i < m; i += at_once)
				sets[s]->gemm_nt(m - i < at_once ? m - i : at_once, n, k, x + i * k, k, w, k,
								 parts + i * n, n, false);
			if (memcmp(y, parts, m * n * sizeof(float)) != 0)
				right[s] = false;
		}
		for (size_t i = 0; i < m; i++)
		{
			for (size_t j = 0; j < n; j++)
			{
				float		sum = 0;

				for (size_t l = 0; l < k; l += HART_DOT_DEPTH)
				{
					float		part = sets[s]->dot1[HART_F32] (w + j * k + l, k - l < HART_DOT_DEPTH ? k - l : HART_DOT_DEPTH,
																NULL, 0, x + i * k + l);

					sum = l > 0 ? sum + part : part;
				}
				if (memcmp(&sum, &y[i * n + j], sizeof(float)) != 0)
					right[s] = false;
			}
		}
	}
	report("a result does not depend on how m is split");
}

/* gemm_group gives the bits of gemm_nt, touches nothing between the rows of y, whatever it calls into the cache */
static void
test_groups(void)
{
	static float expected[20 * 8];
	static const size_t depths[] = {1, 9, 16, 17, 48, 100, 384, 896, 1000, HART_DOT_DEPTH};

	for (int s = 0; s < N_SETS; s++)
	{
		if (sets[s] == NULL)
			continue;
		for (size_t d = 0; d < sizeof(depths) / sizeof(depths[0]); d++)
		{
			for (size_t m = 1; m <= 19; m++)
			{
				size_t		depth = depths[d];
				size_t		n = 1 + (m + d) % HART_GROUP_ROWS;
				size_t		ldx = depth + m % 3;
				size_t		ldw = depth + d % 3;
				size_t		ldy = n + m % 2;
				bool		accumulate = m % 5 < 2;
				float	   *x = random_rows(x_end, m, depth, ldx);
				float	   *w = random_rows(w_end, n, depth, ldw);
				HartGroup	group = {.m = m, .x = x, .ldx = ldx, .n = n, .w = w, .ldw = ldw, .y = y, .ldy = ldy};

				for (int r = 0; r < HART_GROUP_ROWS; r++)
					group.next[r] = (const char *) w;
				group.next_bytes = m % 3 * 1000;
				for (size_t i = 0; i < m * ldy; i++)
					y[i] = expected[i] = i % ldy >= n ? UNTOUCHED : accumulate ? 3.0f : NAN;
				sets[s]->gemm_nt(m, n, depth, x, ldx, w, ldw, expected, ldy, accumulate);
				sets[s]->gemm_group(&group, depth, accumulate);
				if (memcmp(y, expected, m * ldy * sizeof(float)) != 0)
					right[s] = false;
			}
		}
	}
	report("gemm_group gives the bits of gemm_nt");
}

/*
 * gemm_packed gives the bits of gemm_nt for every height of a block and panels of any width; packing
 * writes no more than its size, and y's gaps stay
 */
static void
test_packed(void)
{
	static float expected[16 * 40];
	static const size_t depths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 100, 768, 896, 1000, 1023, HART_DOT_DEPTH};
	float	   *packed_w_end = (float *) guarded_memory(HART_PACKED_FLOATS(HART_DOT_DEPTH) * sizeof(float), false) + HART_PACKED_FLOATS(HART_DOT_DEPTH);
	float	   *packed_x_end = (float *) guarded_memory(16 * HART_DOT_DEPTH * sizeof(float), false) + 16 * HART_DOT_DEPTH;

	for (int s = 0; s < N_SETS; s++)
	{
		if (sets[s] == NULL)
			continue;
		for (size_t d = 0; d < sizeof(depths) / sizeof(depths[0]); d++)
		{
			size_t		depth = depths[d];
			float	   *packed_w = packed_w_end - HART_PACKED_FLOATS(depth);

			for (size_t m = 1; m <= sets[s]->x_rows; m++)
			{
				float	   *packed_x = packed_x_end - m * hart_packed_depth(depth);

				for (size_t n = 1 + m % 5; n <= HART_PACKED_ROWS; n += n < 15 ? 7 : n < 30 ? 1 : 2)
				{
					size_t		ldx = depth + n % 3;
					size_t		ldw = depth + m % 3;
					size_t		ldy = n + n % 2;
					float	   *x = random_rows(x_end, m, depth, ldx);
					float	   *w = random_rows(w_end, n, depth, ldw);

					sets[s]->pack_x(m, depth, x, ldx, packed_x);
					sets[s]->pack_weights(n, depth, w, ldw, packed_w);
					for (int accumulate = 0; accumulate < 2; accumulate++)
					{
						for (size_t i = 0; i < m * ldy; i++)
							y[i] = expected[i] = i % ldy >= n ? UNTOUCHED : accumulate ? 3.0f : NAN;
						sets[s]->gemm_nt(m, n, depth, x, ldx, w, ldw, expected, ldy, accumulate != 0);
						sets[s]->gemm_packed(m, n, depth, packed_x, packed_w, y, ldy, accumulate != 0);
						if (memcmp(y, expected, m * ldy * sizeof(float)) != 0 && right[s])
						{
							right[s] = false;
							printf("# %s: other bits for m = %zu, n = %zu, depth = %zu, accumulate = %d\n",
								   set_names[s], m, n, depth, accumulate);
						}
					}
				}
			}
		}
	}
	report("gemm_packed gives the bits of gemm_nt");
}

int
main(void)
{
	static const size_t ms[] = {1, 2, 3, 5, 13, 15, 16, 17, 28, 29, 43, 64};
	static const size_t ns[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 130};
	static const size_t ks[] = {1, 2, 7, 8, 15, 16, 17, 31, 100, 383, 384, 385};

	x_end = (float *) guarded_memory(MAX_FLOATS * sizeof(float), false) + MAX_FLOATS;
	w_end = (float *) guarded_memory(MAX_FLOATS * sizeof(float), false) + MAX_FLOATS;
	for (int s = 0; s < N_SETS; s++)
	{
		sets[s] = hart_find_kernels(set_names[s]);
		right[s] = true;
	}

	for (int i = 0; i < 12; i++)
	{
		for (int j = 0; j < 16; j++)
		{
			for (int l = 0; l < 12; l++)
				test_shape(ms[i], ns[j], ks[l]);
		}
	}
	report("gemm_nt of 2304 shapes");

	for (size_t m = 1; m <= 57; m++)
		test_shape(m, 1 + m * 7 % 67, 1 + m * 11 % 71);
	test_shape(128, 64, 896);
	test_shape(131, 33, 896);
	test_shape(3, 33, 4864);
	test_shape(20, 64, 4864);
	test_shape(511, 16, 1025);
	report("gemm_nt of every height of blocks and of large shapes");

	test_splits();
	test_rows(70, 100);
	test_rows(9, 2500);
	test_groups();
	test_packed();
	return tap_done();
}
