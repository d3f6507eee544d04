/*
 * kernels_test.c
 *		The kernels on float32 of every set this processor has, except gemm_nt,
 *		against double precision.
 */
#include "kernels_test.h"

#include <float.h>

static const HartKernels *set;

static void
test_dot(void)
{
	static float shifted[MAX_SIZE + 16];
	bool		dots = true;
	bool		alignment = true;

	for (size_t n = 1; n != 0; n = next_size(n))
	{
		float	   *a = random_floats(0, n);
		float	   *b = random_floats(1, n);
		double		magnitude;
		double		exact = exact_dot(a, b, n, &magnitude);
		float		dot = set->dot(a, b, n);

		if (!near(dot, exact, SUM_TOLERANCE * magnitude))
			dots = false;
		for (int shift = 0; shift < 16; shift++)
		{
			float		again;

			memcpy(shifted + shift, a, n * sizeof(float));
			again = set->dot(shifted + shift, b, n);
			if (!same_bits(&again, &dot, 1))
				alignment = false;
		}
	}
	ok(dots, "%s: dot", set->name);
	ok(alignment, "%s: dot gives the same bits at any alignment", set->name);
}

static void
test_rms_norm(void)
{
	bool		right = true;
	bool		in_place = true;

	for (size_t n = 1; n != 0; n = next_size(n))
	{
		float	   *x = random_floats(0, n);
		float	   *weight = random_floats(1, n);
		float	   *out = random_floats(2, n);
		double		squares = 0;
		double		root;

		for (size_t i = 0; i < n; i++)
			squares += (double) x[i] * x[i];
		root = sqrt(squares / (double) n + 1e-6f);

		set->rms_norm(x, weight, out, n, 1e-6f);
		for (size_t i = 0; i < n; i++)
		{
			double		exact = x[i] / root * weight[i];

			if (!near(out[i], exact, 1e-6 * fabs(exact)))
				right = false;
		}
		set->rms_norm(x, weight, x, n, 1e-6f);
		if (!same_bits(x, out, n))
			in_place = false;
	}
	ok(right, "%s: rms_norm", set->name);
	ok(in_place, "%s: rms_norm in place", set->name);
}

static void
test_softmax(void)
{
	bool		right = true;
	float		one = 123;
	float		some[40];

	for (size_t n = 1; n != 0; n = next_size(n))
	{
		float	   *x = random_floats(0, n);
		double	   *e = malloc(n * sizeof(double));
		double		max = -INFINITY;
		double		sum = 0;

		for (size_t i = 0; i < n; i++)
		{
			x[i] = i % 5 == 3 ? -INFINITY : 30 * x[i];
			max = fmax(max, x[i]);
		}
		for (size_t i = 0; i < n; i++)
			sum += e[i] = exp(x[i] - max);
		set->softmax(x, n);
		for (size_t i = 0; i < n; i++)
		{
			if (!near(x[i], e[i] / sum, 5e-6 * e[i] / sum) ||
				(i % 5 == 3 && x[i] != 0))
				right = false;
		}
		free(e);
	}
	ok(right, "%s: softmax, -inf gives 0", set->name);

	set->softmax(&one, 1);
	set->softmax(NULL, 0);
	ok(one == 1, "%s: softmax of one number and of none", set->name);

	for (int i = 0; i < 40; i++)
		some[i] = i == 20 || i == 37 ? 1e30f : -1e30f;
	set->softmax(some, 40);
	ok(some[20] == 0.5f && some[37] == 0.5f && some[0] == 0 && some[39] == 0,
	   "%s: softmax of huge numbers", set->name);

	for (int place = 0; place < 4; place++)
	{
		const float bad[] = {NAN, INFINITY, NAN, -INFINITY};
		bool		all = true;

		for (int i = 0; i < 40; i++)
			some[i] = place == 3 ? -INFINITY : 0;
		some[place == 2 ? 38 : 5] = bad[place];
		set->softmax(some, 40);
		for (int i = 0; i < 40; i++)
			all = all && isnan(some[i]);
		ok(all, "%s: softmax with %s is NaN", set->name,
		   place == 3 ? "-inf alone" : place == 1 ? "+inf" : "a NaN");
	}
}

static void
test_swiglu(void)
{
	const float extremes[] = {0, -0.0f, 1e-30f, -1e-30f, 1e-45f, 20, -20, 87, -87,
		88.5f, -88.5f, 89, -89, 103, -103, 105, -105, 1e30f, -1e30f, FLT_MAX,
	-FLT_MAX};
	float		gate[21];
	float		up[21];
	float		out[21];
	bool		right = true;
	bool		in_place = true;

	for (size_t n = 1; n != 0; n = next_size(n))
	{
		float	   *g = random_floats(0, n);
		float	   *u = random_floats(1, n);
		float	   *o = random_floats(2, n);

		for (size_t i = 0; i < n; i++)
			g[i] *= 30;
		set->swiglu(g, u, o, n);
		for (size_t i = 0; i < n; i++)
		{
			double		exact = g[i] / (1 + exp(-(double) g[i])) * u[i];

			if (!near(o[i], exact, 5e-7 * fabs(exact)))
				right = false;
		}
		set->swiglu(g, u, u, n);
		if (!same_bits(u, o, n))
			in_place = false;
	}
	ok(right, "%s: swiglu", set->name);
	ok(in_place, "%s: swiglu in place", set->name);

	/* Where exp(-gate) overflows, silu is 0 instead of a subnormal */
	for (int i = 0; i < 21; i++)
	{
		gate[i] = extremes[i];
		up[i] = 0.5f;
	}
	set->swiglu(gate, up, out, 21);
	right = true;
	for (int i = 0; i < 21; i++)
	{
		double		exact = gate[i] / (1 + exp(-(double) gate[i])) * 0.5;

		if (!near(out[i], exact, 5e-7 * fabs(exact) + 1e-36))
			right = false;
	}
	ok(right, "%s: swiglu of extreme gates", set->name);

	gate[3] = NAN;
	up[12] = NAN;
	gate[20] = NAN;
	set->swiglu(gate, up, out, 21);
	ok(isnan(out[3]) && isnan(out[12]) && isnan(out[20]) && !isnan(out[4]),
	   "%s: swiglu lets NaNs through", set->name);
}

/* The parts of softmax: exponentials and their sum, as softmax has them */
static void
test_add(void)
{
	bool		right = true;
	bool		in_place = true;

	for (size_t n = 1; n != 0; n = next_size(n))
	{
		float	   *a = random_floats(0, n);
		float	   *b = random_floats(1, n);
		float	   *o = random_floats(2, n);

		set->add(a, b, o, n);
		for (size_t i = 0; i < n; i++)
			right = right && o[i] == a[i] + b[i];
		set->add(a, b, a, n);
		in_place = in_place && same_bits(a, o, n);
	}
	ok(right, "%s: add", set->name);
	ok(in_place, "%s: add in place", set->name);
}

static void
test_exp_sum(void)
{
	bool		right = true;
	float		infinite[3] = {-INFINITY, -INFINITY, -INFINITY};
	float		max;

	for (size_t n = 1; n != 0; n = next_size(n))
	{
		float	   *x = random_floats(0, n);
		float	   *p = random_floats(1, n);
		float		top = -INFINITY;
		float		sum;

		for (size_t i = 0; i < n; i++)
		{
			p[i] = x[i] *= 30;
			top = fmaxf(top, x[i]);
		}
		set->softmax(p, n);
		sum = set->exp_sum(x, n, &max);
		if (max != top)
			right = false;
		for (size_t i = 0; i < n; i++)
		{
			if (x[i] / sum != p[i])
				right = false;
		}
	}
	ok(right, "%s: exp_sum is what softmax divides", set->name);
	ok(isnan(set->exp_sum(infinite, 3, &max)) && max == -INFINITY, "%s: exp_sum of -infinity", set->name);
}

/* a * b for shapes of heads and blocks, rows further apart than they are long and ending at the guard page */
static void
test_gemm_nn(void)
{
	static const size_t sizes[] = {1, 3, 7, 8, 15, 16, 17, 33, 64, 67};
	bool		right = true;
	bool		alone = true;
	float		y[20 * 70];
	float		single[70];

	for (size_t m = 1; m <= 20; m = m < 8 ? m + 1 : m + 4)
	{
		for (int i = 0; i < 100; i++)
		{
			size_t		n = sizes[i / 10];
			size_t		k = sizes[i % 10];
			size_t		lda = k + 2;
			size_t		ldb = n + 1;
			float	   *a = random_floats(0, (m - 1) * lda + k);
			float	   *b = random_floats(1, (k - 1) * ldb + n);

			for (int at = 0; at < 20 * 70; at++)
				y[at] = 12345;
			set->gemm_nn(m, n, k, a, lda, b, ldb, y, 70);
			for (size_t r = 0; r < m; r++)
			{
				for (size_t c = 0; c < n; c++)
				{
					double		exact = 0;

					for (size_t l = 0; l < k; l++)
						exact += (double) a[r * lda + l] * b[l * ldb + c];
					if (!near(y[r * 70 + c], exact, SUM_TOLERANCE * (double) k))
						right = false;
				}
				if (y[r * 70 + n] != 12345)
					right = false;
				set->gemm_nn(1, n, k, a + r * lda, lda, b, ldb, single, n);
				if (!same_bits(single, y + r * 70, n))
					alone = false;
				set->gemm_nn(1, 1, k, a + r * lda, lda, b + n - 1, ldb, single, 1);
				if (!same_bits(single, y + r * 70 + n - 1, 1))
					alone = false;
			}
		}
	}
	ok(right, "%s: gemm_nn", set->name);
	ok(alone, "%s: a number of gemm_nn does not depend on those beside it", set->name);

	y[0] = y[64] = 1;
	set->gemm_nn(1, 65, 0, NULL, 0, NULL, 0, y, 65);
	ok(y[0] == 0 && y[64] == 0, "%s: gemm_nn over nothing is 0", set->name);
	set->gemm_nn(0, 65, 8, NULL, 8, NULL, 65, NULL, 65);
}

static void
test_selection(void)
{
	const HartKernels *start = hart_kernels;

	ok(start != NULL && strcmp(start->name, "portable") == 0,
	   "portable kernels are in force at the start");
	ok(!hart_select_kernels("none") && !hart_select_kernels("") &&
	   hart_kernels == start, "an unknown name changes nothing");
	ok(hart_select_kernels("auto") && hart_kernels != NULL, "auto selects %s",
	   hart_kernels->name);
	ok(hart_select_kernels("portable") && hart_kernels == start,
	   "portable can be selected");
	ok(hart_find_kernels("auto") == NULL, "auto is not the name of a set");
}

int
main(void)
{
	static const char *const names[] = {"portable", "avx2", "avx512"};

	test_selection();
	for (int i = 0; i < 3; i++)
	{
		set = hart_find_kernels(names[i]);
		if (set == NULL)
		{
			ok(true, "%s # SKIP not on this processor", names[i]);
			continue;
		}
		ok(strcmp(set->name, names[i]) == 0, "%s is called so", names[i]);
		test_dot();
		test_rms_norm();
		test_softmax();
		test_swiglu();
		test_add();
		test_exp_sum();
		test_gemm_nn();
	}
	return tap_done();
}
