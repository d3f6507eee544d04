/*
 * kernels_portable.c
 *		The kernels in plain C: what the others are tested against, and what
 *		runs where there is no AVX2.
 */
#include "kernels_internal.h"

#include <math.h>
#include <string.h>

#include "bf12.h"
#include "q8.h"

/*
 * Sums are kept in this many lanes that compilers map to vector registers; it
 * also keeps rounding errors small, as each lane adds few terms.
 */
#define LANES HART_CHAINS

/* Add the lanes up pairwise */
static float
sum_lanes(float lanes[LANES])
{
	for (int width = LANES / 2; width > 0; width /= 2)
	{
		for (int i = 0; i < width; i++)
			lanes[i] += lanes[i + width];
	}
	return lanes[0];
}

static float
dot(const float *a, const float *b, size_t n)
{
	float		lanes[LANES] = {0};
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
	{
		for (int lane = 0; lane < LANES; lane++)
			lanes[lane] += a[i + lane] * b[i + lane];
	}
	for (int lane = 0; i < n; i++, lane++)
		lanes[lane] += a[i] * b[i];
	return sum_lanes(lanes);
}

/* binary16: 1 sign, 5 exponent (bias 15) and 10 fraction bits */
static float
f16_to_float(uint16_t half)
{
	uint32_t	sign = (uint32_t) (half & 0x8000) << 16;
	uint32_t	exponent = (half >> 10) & 0x1f;
	uint32_t	fraction = half & 0x3ff;
	uint32_t	bits;
	float		result;

	if (exponent == 0)
	{
		/* Zero or subnormal: the fraction counts units of 2^-24 */
		result = (float) fraction * 0x1p-24f;
		return sign ? -result : result;
	}
	if (exponent == 0x1f)
	{
		/* Infinity or NaN; a NaN is made quiet */
		bits = 0x7f800000 | fraction << 13;
		if (fraction != 0)
			bits |= 0x00400000;
	}
	else
		bits = (exponent + 127 - 15) << 23 | fraction << 13;

	bits |= sign;
	memcpy(&result, &bits, sizeof(result));
	return result;
}

/* The top half of a binary32 */
static float
bf16_to_float(uint16_t half)
{
	uint32_t	bits = (uint32_t) half << 16;
	float		result;

	memcpy(&result, &bits, sizeof(result));
	return result;
}

static void
widen_f32(const void *w, float *out, size_t n)
{
	memcpy(out, w, n * sizeof(float));
}

static void
widen_f16(const void *w, float *out, size_t n)
{
	const char *bytes = w;

	for (size_t i = 0; i < n; i++)
	{
		uint16_t	half;

		memcpy(&half, bytes + 2 * i, sizeof(half));
		out[i] = f16_to_float(half);
	}
}

static void
widen_bf16(const void *w, float *out, size_t n)
{
	const char *bytes = w;

	for (size_t i = 0; i < n; i++)
	{
		uint16_t	half;

		memcpy(&half, bytes + 2 * i, sizeof(half));
		out[i] = bf16_to_float(half);
	}
}

/*
 * Add n products to the lanes.  Widens a little at a time; inlined, so that the length of all
 * but the last widening is a constant and compilers can use vectors for it.
 */
static inline void
add_products(void (*widen) (const void *, float *, size_t), size_t size,
			 const void *w, const float *x, size_t n, float lanes[LANES])
{
	const char *bytes = w;
	float		wide[LANES];
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
	{
		widen(bytes + i * size, wide, LANES);
		for (int lane = 0; lane < LANES; lane++)
			lanes[lane] += wide[lane] * x[i + lane];
	}
	widen(bytes + i * size, wide, n - i);
	for (int lane = 0; i < n; i++, lane++)
		lanes[lane] += wide[lane] * x[i];
}

#define DOT_WEIGHTS(dtype, size) \
static float \
dot1_##dtype(const void *w, size_t n, const void *rest, size_t n_rest, \
			 const float *x) \
{ \
	float		lanes[LANES] = {0}; \
	add_products(widen_##dtype, size, w, x, n, lanes); \
	if (n_rest > 0) \
		add_products(widen_##dtype, size, rest, x + n, n_rest, lanes); \
	return sum_lanes(lanes); \
}

/* Weights of a packed tile */
static void
widen_bf12(const void *tile, size_t index, float *out, size_t n)
{
	const unsigned char *exponents = tile;
	size_t		n_exceptions = hart_bf12_n_exceptions(tile);

	for (size_t i = 0; i < n; i++)
	{
		const unsigned char *block = (const unsigned char *) hart_bf12_block(tile, index + i);
		size_t		row = (index + i) % HART_BF12_BLOCK / 16;
		const unsigned char *codes = block + (index + i) % 16 * 4;
		const unsigned char *mantissas = codes + 64 + row / 4 * 64;
		uint8_t		code = codes[row / 2] >> 4 * (row % 2) & 0xf;

		out[i] = bf16_to_float((uint16_t) ((mantissas[(row % 4 + 1) % 4] & 0x80) << 8 | exponents[code] << 7 |
										   (mantissas[row % 4] & 0x7f)));
	}
	for (size_t e = hart_bf12_find_exception(tile, index); e < n_exceptions; e++)
	{
		HartBf12Exception exception = hart_bf12_exception(tile, e);

		if (exception.index - index >= n)
			break;
		out[exception.index - index] = bf16_to_float(exception.bits);
	}
}

/* As add_products */
static void
add_bf12(const void *tile, size_t index, size_t n, const float *x, float lanes[LANES])
{
	float		wide[LANES];

	for (size_t i = 0; i < n; i += LANES)
	{
		size_t		width = n - i < LANES ? n - i : LANES;

		widen_bf12(tile, index + i, wide, width);
		for (size_t lane = 0; lane < width; lane++)
			lanes[lane] += wide[lane] * x[i + lane];
	}
}

static float
dot1_bf12(const void *tile, size_t index, size_t n, const void *rest, size_t n_rest, const float *x)
{
	float		lanes[LANES] = {0};

	add_bf12(tile, index, n, x, lanes);
	if (n_rest > 0)
		add_bf12(rest, 0, n_rest, x + n, lanes);
	return sum_lanes(lanes);
}

DOT_WEIGHTS(f32, 4)
DOT_WEIGHTS(f16, 2)
DOT_WEIGHTS(bf16, 2)

/* As add_products */
static inline void
dot_and_squares(void (*widen) (const void *, float *, size_t), size_t size,
				const void *w, const float *x, size_t n, float sums[2])
{
	const char *bytes = w;
	float		dots[LANES] = {0};
	float		squares[LANES] = {0};
	float		wide[LANES];
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
	{
		widen(bytes + i * size, wide, LANES);
		for (int lane = 0; lane < LANES; lane++)
		{
			dots[lane] += wide[lane] * x[i + lane];
			squares[lane] += wide[lane] * wide[lane];
		}
	}
	widen(bytes + i * size, wide, n - i);
	for (int lane = 0; i < n; i++, lane++)
	{
		dots[lane] += wide[lane] * x[i];
		squares[lane] += wide[lane] * wide[lane];
	}
	sums[0] += sum_lanes(dots);
	sums[1] += sum_lanes(squares);
}

static void
dot_and_squares_f32(const void *w, const float *x, size_t n, float sums[2])
{
	dot_and_squares(widen_f32, 4, w, x, n, sums);
}

static void
dot_and_squares_f16(const void *w, const float *x, size_t n, float sums[2])
{
	dot_and_squares(widen_f16, 2, w, x, n, sums);
}

static void
dot_and_squares_bf16(const void *w, const float *x, size_t n, float sums[2])
{
	dot_and_squares(widen_bf16, 2, w, x, n, sums);
}

static void
dot_and_squares_bf12(const void *tile, size_t index, size_t n, const void *rest, size_t n_rest, const float *x, float sums[2])
{
	float		wide[HART_DOT_DEPTH];

	widen_bf12(tile, index, wide, n);
	if (n_rest > 0)
		widen_bf12(rest, 0, wide + n, n_rest);
	dot_and_squares_f32(wide, x, n + n_rest, sums);
}

static void
gemm_nt(size_t m, size_t n, size_t k, const float *x, size_t ldx,
		const float *w, size_t ldw, float *y, size_t ldy, bool accumulate)
{
	for (size_t i = 0; i < m; i++)
	{
		for (size_t j = 0; j < n; j++)
		{
			float	   *to = &y[i * ldy + j];

			for (size_t l = 0; l < k; l += HART_DOT_DEPTH)
			{
				float		sum = dot(x + i * ldx + l, w + j * ldw + l,
									  k - l < HART_DOT_DEPTH ? k - l : HART_DOT_DEPTH);

				*to = accumulate || l > 0 ? *to + sum : sum;
			}
		}
	}
}

static void
gemm_group(const HartGroup *group, size_t depth, bool accumulate)
{
	gemm_nt(group->m, group->n, depth, group->x, group->ldx, group->w, group->ldw, group->y, group->ldy, accumulate);
}

/* Rows as they are */
static void
pack_rows(size_t n, size_t depth, const float *w, size_t ldw, float *to)
{
	for (size_t j = 0; j < n; j++)
		memcpy(to + j * depth, w + j * ldw, depth * sizeof(float));
}

static void
gemm_packed(size_t rows, size_t n, size_t depth, const float *x, const float *w,
			float *y, size_t ldy, bool accumulate)
{
	gemm_nt(rows, n, depth, x, depth, w, depth, y, ldy, accumulate);
}

static void
rms_norm(const float *x, const float *weight, float *out, size_t n, float eps)
{
	float		scale = 1.0f / sqrtf(dot(x, x, n) / (float) n + eps);

	for (size_t i = 0; i < n; i++)
		out[i] = weight[i] * (x[i] * scale);
}

static float
exp_sum(float *x, size_t n, float *max)
{
	float		top = -INFINITY;
	float		sum = 0;

	for (size_t i = 0; i < n; i++)
	{
		if (x[i] > top)
			top = x[i];
	}
	for (size_t i = 0; i < n; i++)
	{
		x[i] = expf(x[i] - top);
		sum += x[i];
	}
	*max = top;
	return sum;
}

static void
softmax(float *x, size_t n)
{
	float		max;
	float		sum = exp_sum(x, n, &max);

	for (size_t i = 0; i < n; i++)
		x[i] /= sum;
}

static void
swiglu(const float *gate, const float *up, float *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static void
add(const float *a, const float *b, float *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = a[i] + b[i];
}

static void
gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda,
		const float *b, size_t ldb, float *y, size_t ldy)
{
	for (size_t i = 0; i < m; i++)
	{
		float	   *row = y + i * ldy;

		memset(row, 0, n * sizeof(float));
		for (size_t l = 0; l < k; l++)
		{
			float		factor = a[i * lda + l];

			for (size_t j = 0; j < n; j++)
				row[j] += factor * b[l * ldb + j];
		}
	}
}

const HartKernels hart_kernels_portable = {
	.name = "portable",
	.dot = dot,
	.gemm_group = gemm_group,
	.dot1 = {dot1_f32, dot1_f16, dot1_bf16},
	.dot_and_squares = {dot_and_squares_f32, dot_and_squares_f16, dot_and_squares_bf16},
	.widen = {widen_f32, widen_f16, widen_bf16},
	.dot1_packed = {dot1_bf12},
	.dot_and_squares_packed = {dot_and_squares_bf12},
	.widen_packed = {widen_bf12, hart_q8_widen},
	.gemm_nt = gemm_nt,
	.x_rows = 16,
	.pack_x = pack_rows,
	.pack_weights = pack_rows,
	.gemm_packed = gemm_packed,
	.rms_norm = rms_norm,
	.softmax = softmax,
	.swiglu = swiglu,
	.add = add,
	.exp_sum = exp_sum,
	.gemm_nn = gemm_nn,
};
