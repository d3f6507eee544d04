/*
 * kernels_test.c
 *		The kernels on float32 of every set this processor has, except gemm_nt,
 *		against double precision.
 */
#include "kernels_test.h"

#include <float.h>

static const HartKernels *set;

static void
test_dot_and_axpy(void)
{
	static float shifted[MAX_SIZE + 16];
	static float before[MAX_SIZE];
	bool		dots = true;
	bool		alignment = true;
	bool		sums = true;

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

		memcpy(before, b, n * sizeof(float));
		set->axpy(0.7f, a, b, n);
		for (size_t i = 0; i < n; i++)
		{
			if (!near(b[i], before[i] + (double) 0.7f * a[i], 2e-7))
				sums = false;
		}
	}
	ok(dots, "%s: dot", set->name);
	ok(alignment, "%s: dot gives the same bits at any alignment", set->name);
	ok(sums, "%s: axpy", set->name);
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

/* q . k and p * v for every head size, rows ending at the guard page */
static void
test_attention(void)
{
	static const size_t dims[] = {1, 3, 8, 15, 16, 17, 31, 32, 64, 80, 96, 128, 130};
	static const size_t counts[] = {1, 2, 3, 4, 5, 7, 8, 31};
	bool		score = true;
	bool		sums = true;
	bool		alone = true;
	float		out[131];

	for (int c = 0; c < 8; c++)
	{
		for (int h = 0; h < 13; h++)
		{
			size_t		n_pos = counts[c];
			size_t		dim = dims[h];
			float	   *q = random_floats(0, dim);
			float	   *kv = random_floats(1, n_pos * dim);
			float	   *p = random_floats(2, n_pos);
			float		single;

			out[n_pos] = 12345;
			set->scores(q, kv, n_pos, dim, 0.125f, out);
			for (size_t i = 0; i < n_pos; i++)
			{
				double		magnitude;
				double		exact = exact_dot(q, kv + i * dim, dim, &magnitude);

				if (!near(out[i], 0.125 * exact, SUM_TOLERANCE * magnitude))
					score = false;
				set->scores(q, kv + i * dim, 1, dim, 0.125f, &single);
				if (!same_bits(&single, &out[i], 1))
					alone = false;
			}
			if (out[n_pos] != 12345)
				score = false;

			out[dim] = 12345;
			set->weighted_sum(p, kv, n_pos, dim, out);
			for (size_t d = 0; d < dim; d++)
			{
				double		exact = 0;

				for (size_t i = 0; i < n_pos; i++)
					exact += (double) p[i] * kv[i * dim + d];
				if (!near(out[d], exact, SUM_TOLERANCE * (double) n_pos))
					sums = false;
			}
			if (out[dim] != 12345)
				sums = false;
		}
	}
	ok(score, "%s: scores", set->name);
	ok(alone, "%s: a score does not depend on the positions beside it", set->name);
	ok(sums, "%s: weighted_sum", set->name);

	out[0] = out[64] = 1;
	set->weighted_sum(NULL, NULL, 0, 65, out);
	ok(out[0] == 0 && out[64] == 0, "%s: weighted_sum of no positions is 0",
	   set->name);
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
		test_dot_and_axpy();
		test_rms_norm();
		test_softmax();
		test_swiglu();
		test_attention();
	}
	return tap_done();
}
