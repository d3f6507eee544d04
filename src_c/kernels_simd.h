/*
 * kernels_simd.h
 *		The kernels written once for vectors of any width.
 *
 * Included by each x86 set after it has defined
 *		SIMD_TARGET			the attribute that allows its instructions
 *		SIMD_SET_NAME, SIMD_SET		the set's name and its variable
 *		LANES				floats in a vector
 *		vec					the vector type, and on it
 *		v_load, v_store, v_load_part, v_store_part	(the part: first n < LANES)
 *		v_load_f16, v_load_bf16, v_load_part_16		(16-bit words to a vector)
 *		v_set1, v_add, v_sub, v_mul, v_div, v_fma, v_min, v_max
 *		v_round, v_scale							(to whole numbers, times 2^n)
 *		v_max_lanes, v_sum4, v_transpose
 *		GEMM_ROWS			rows of x in one block of registers
 *		PANEL_X_ROWS		the same where the lanes are rows of weights
 *		CHAIN_LEAF(c)		the place of lane c in the order in which v_sum4 adds the lanes
 * Tails are read and written through masks, so nothing beyond an array is ever
 * touched.
 */
#define INLINE static inline __attribute__((always_inline)) SIMD_TARGET
#define KERNEL static SIMD_TARGET

/* Vectors a step of the longest loops, enough to hide an FMA's latency */
#define STEPS 8

/* Sum of one vector, in the order of v_sum4 */
INLINE float
v_sum(vec v)
{
	float		sums[4];

	v_sum4(v, v, v, v, sums);
	return sums[0];
}

/*
 * exp(x) by Cephes' expf (S. L. Moshier, netlib.org/cephes/single): x = n ln 2 +
 * r with |r| <= ln 2 / 2, a polynomial of degree 7 for exp(r), times 2^n.  Right
 * down to the subnormals; 0 below -104, infinity above 88.73, NaN for NaN.
 */
INLINE vec
v_exp(vec x)
{
	vec			n;
	vec			r;
	vec			p;

	/* The operands are in the order that lets NaN through */
	x = v_max(v_set1(-104.0f), v_min(v_set1(89.0f), x));

	/* ln 2 in two parts, of which the first times n is exact */
	n = v_round(v_mul(x, v_set1(1.44269504088896341f)));
	r = v_fma(n, v_set1(-0.693359375f), x);
	r = v_fma(n, v_set1(2.12194440e-4f), r);

	p = v_set1(1.9875691500e-4f);
	p = v_fma(p, r, v_set1(1.3981999507e-3f));
	p = v_fma(p, r, v_set1(8.3334519073e-3f));
	p = v_fma(p, r, v_set1(4.1665795894e-2f));
	p = v_fma(p, r, v_set1(1.6666665459e-1f));
	p = v_fma(p, r, v_set1(5.0000001201e-1f));
	p = v_add(v_fma(p, v_mul(r, r), r), v_set1(1.0f));
	return v_scale(p, n);
}

/* LANES weights at any address */
INLINE vec
load_weights(HartDtype dtype, const char *w)
{
	switch (dtype)
	{
		case HART_F16:
			return v_load_f16(w);
		case HART_BF16:
			return v_load_bf16(w);
		default:
			return v_load((const float *) w);
	}
}

/* The first n < LANES of them, and zeros */
INLINE vec
load_weights_part(HartDtype dtype, const char *w, size_t n)
{
	if (dtype == HART_F32)
		return v_load_part((const float *) w, n);
	return v_load_part_16(w, n, dtype == HART_F16);
}

INLINE float
dot_any(const float *a, const float *b, size_t n)
{
	size_t		i = 0;
	vec			sum[STEPS];

	UNROLL for (int s = 0; s < STEPS; s++)
		sum[s] = v_set1(0.0f);

	for (; i + STEPS * LANES <= n; i += STEPS * LANES)
	{
		UNROLL for (int s = 0; s < STEPS; s++)
			sum[s] = v_fma(v_load(a + i + s * LANES), v_load(b + i + s * LANES), sum[s]);
	}
	for (; i + LANES <= n; i += LANES)
		sum[0] = v_fma(v_load(a + i), v_load(b + i), sum[0]);
	if (i < n)
		sum[1] = v_fma(v_load_part(a + i, n - i), v_load_part(b + i, n - i), sum[1]);

	UNROLL for (int width = STEPS / 2; width > 0; width /= 2)
	{
		UNROLL for (int s = 0; s < width; s++)
			sum[s] = v_add(sum[s], sum[s + width]);
	}
	return v_sum(sum[0]);
}

KERNEL float
dot(const float *a, const float *b, size_t n)
{
	return dot_any(a, b, n);
}

/*
 * How far ahead of a pass over stored weights they are called into the cache.  They lie
 * in pages that the hardware's own prefetcher does not cross; what is beyond the
 * array is the next page of the buffers as a rule, and a prefetch cannot fault.
 */
#define PREFETCH_BYTES 2048

/* Add the chains of both sums to sums */
INLINE void
add_dots_and_squares(vec dots[STEPS / 2], vec squares[STEPS / 2], float sums[2])
{
	UNROLL for (int width = STEPS / 4; width > 0; width /= 2)
	{
		UNROLL for (int s = 0; s < width; s++)
		{
			dots[s] = v_add(dots[s], dots[s + width]);
			squares[s] = v_add(squares[s], squares[s + width]);
		}
	}
	sums[0] += v_sum(dots[0]);
	sums[1] += v_sum(squares[0]);
}

/* As dot_any, with half the steps for each of the two sums */
INLINE void
dot_and_squares_any(HartDtype dtype, const void *weights, const float *x, size_t n, float sums[2])
{
	const char *w = weights;
	size_t		size = hart_dtype_size(dtype);
	size_t		i = 0;
	vec			dots[STEPS / 2];
	vec			squares[STEPS / 2];

	UNROLL for (int s = 0; s < STEPS / 2; s++)
		dots[s] = squares[s] = v_set1(0.0f);

	for (; i + STEPS / 2 * LANES <= n; i += STEPS / 2 * LANES)
	{
		UNROLL for (size_t line = 0; line < STEPS / 2 * LANES * size; line += 64)
			__builtin_prefetch((const void *) ((uintptr_t) (w + i * size) + line + PREFETCH_BYTES), 0, 3);
		UNROLL for (int s = 0; s < STEPS / 2; s++)
		{
			vec			weight = load_weights(dtype, w + (i + s * LANES) * size);

			dots[s] = v_fma(weight, v_load(x + i + s * LANES), dots[s]);
			squares[s] = v_fma(weight, weight, squares[s]);
		}
	}
	for (; i < n; i += LANES)
	{
		size_t		left = n - i < LANES ? n - i : LANES;
		vec			weight = left == LANES ? load_weights(dtype, w + i * size)
			: load_weights_part(dtype, w + i * size, left);

		dots[0] = v_fma(weight, left == LANES ? v_load(x + i) : v_load_part(x + i, left), dots[0]);
		squares[0] = v_fma(weight, weight, squares[0]);
	}

	add_dots_and_squares(dots, squares, sums);
}

KERNEL void
dot_and_squares_f32(const void *w, const float *x, size_t n, float sums[2])
{
	dot_and_squares_any(HART_F32, w, x, n, sums);
}

KERNEL void
dot_and_squares_f16(const void *w, const float *x, size_t n, float sums[2])
{
	dot_and_squares_any(HART_F16, w, x, n, sums);
}

KERNEL void
dot_and_squares_bf16(const void *w, const float *x, size_t n, float sums[2])
{
	dot_and_squares_any(HART_BF16, w, x, n, sums);
}

INLINE void
widen_any(HartDtype dtype, const void *weights, float *out, size_t n)
{
	const char *w = weights;
	size_t		size = hart_dtype_size(dtype);
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
		v_store(out + i, load_weights(dtype, w + i * size));
	if (i < n)
		v_store_part(out + i, load_weights_part(dtype, w + i * size, n - i),
					 n - i);
}

KERNEL void
widen_f32(const void *w, float *out, size_t n)
{
	widen_any(HART_F32, w, out, n);
}

KERNEL void
widen_f16(const void *w, float *out, size_t n)
{
	widen_any(HART_F16, w, out, n);
}

KERNEL void
widen_bf16(const void *w, float *out, size_t n)
{
	widen_any(HART_BF16, w, out, n);
}

KERNEL void
rms_norm(const float *x, const float *weight, float *out, size_t n, float eps)
{
	float		mean = dot_any(x, x, n) / (float) n;
	vec			scale = v_set1(1.0f / sqrtf(mean + eps));
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
		v_store(out + i, v_mul(v_load(weight + i),
							   v_mul(v_load(x + i), scale)));
	if (i < n)
		v_store_part(out + i, v_mul(v_load_part(weight + i, n - i),
									v_mul(v_load_part(x + i, n - i), scale)),
					 n - i);
}

INLINE float
exp_sum_any(float *x, size_t n, float *largest)
{
	size_t		whole = n / LANES * LANES;
	size_t		rest = n - whole;
	vec			max = v_set1(-INFINITY);
	vec			sum = v_set1(0.0f);
	float		top;

	for (size_t i = 0; i < whole; i += LANES)
		max = v_max(v_load(x + i), max);
	top = v_max_lanes(max);
	for (size_t i = whole; i < n; i++)
		top = x[i] > top ? x[i] : top;
	max = v_set1(top);

	for (size_t i = 0; i < whole; i += LANES)
	{
		vec			e = v_exp(v_sub(v_load(x + i), max));

		v_store(x + i, e);
		sum = v_add(sum, e);
	}
	if (rest > 0)
	{
		v_store_part(x + whole,
					 v_exp(v_sub(v_load_part(x + whole, rest), max)), rest);
		sum = v_add(sum, v_load_part(x + whole, rest));
	}
	*largest = top;
	return v_sum(sum);
}

KERNEL float
exp_sum(float *x, size_t n, float *max)
{
	return exp_sum_any(x, n, max);
}

KERNEL void
softmax(float *x, size_t n)
{
	size_t		i = 0;
	float		max;
	vec			scale = v_set1(exp_sum_any(x, n, &max));

	for (; i + LANES <= n; i += LANES)
		v_store(x + i, v_div(v_load(x + i), scale));
	if (i < n)
		v_store_part(x + i, v_div(v_load_part(x + i, n - i), scale), n - i);
}

INLINE vec
v_swiglu(vec gate, vec up)
{
	vec			e = v_exp(v_sub(v_set1(0.0f), gate));

	return v_mul(v_div(gate, v_add(v_set1(1.0f), e)), up);
}

KERNEL void
swiglu(const float *gate, const float *up, float *out, size_t n)
{
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
		v_store(out + i, v_swiglu(v_load(gate + i), v_load(up + i)));
	if (i < n)
		v_store_part(out + i, v_swiglu(v_load_part(gate + i, n - i),
									   v_load_part(up + i, n - i)), n - i);
}

KERNEL void
add(const float *a, const float *b, float *out, size_t n)
{
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
		v_store(out + i, v_add(v_load(a + i), v_load(b + i)));
	if (i < n)
		v_store_part(out + i, v_add(v_load_part(a + i, n - i), v_load_part(b + i, n - i)), n - i);
}

/*
 * Point at rows first..first + 3; past the end at the last row again, so that
 * a row's result does not depend on its neighbours.
 */
INLINE void
four_rows(const float *data, size_t stride, size_t first, size_t n_rows,
		  const float *rows[4])
{
	for (size_t r = 0; r < 4; r++)
		rows[r] = data + stride * (first + r < n_rows ? first + r : n_rows - 1);
}

#include "kernels_simd_gemm.h"
#include "kernels_simd_panel.h"
#include "kernels_simd_attention.h"
#include "kernels_simd_bf12.h"

/* The set, under a name, with what it has besides */
#define SIMD_KERNELS(set, besides) { \
	.name = set, \
	.dot = dot, \
	.gemm_group = gemm_group, \
	.dot1 = {dot1_f32, dot1_f16, dot1_bf16}, \
	.dot_and_squares = {dot_and_squares_f32, dot_and_squares_f16, dot_and_squares_bf16}, \
	.widen = {widen_f32, widen_f16, widen_bf16}, \
	.dot1_packed = {dot1_bf12}, \
	.dot_and_squares_packed = {dot_and_squares_bf12}, \
	.widen_packed = {widen_bf12, hart_q8_widen}, \
	.gemm_nt = gemm_nt, \
	.x_rows = PANEL_X_ROWS, \
	.pack_x = pack_x, \
	.pack_weights = pack_weights, \
	.gemm_packed = gemm_packed, \
	.rms_norm = rms_norm, \
	.softmax = softmax, \
	.swiglu = swiglu, \
	.add = add, \
	.exp_sum = exp_sum, \
	.gemm_nn = gemm_nn, \
	besides \
}

const HartKernels SIMD_SET = SIMD_KERNELS(SIMD_SET_NAME, .few_bf12 = NULL);
