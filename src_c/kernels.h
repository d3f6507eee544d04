/*
 * kernels.h
 *		The arithmetic of a transformer on raw memory: dot products, matrix
 *		products, normalisation, softmax, SwiGLU and attention.
 *
 * Nothing here knows of PostgreSQL.  Every kernel exists in plain C
 * ("portable", the reference) and, on x86-64, for AVX2 and AVX-512; the set is
 * chosen once, at run time, from what the processor has.  Results may differ
 * between sets by rounding.  Within one set they depend on the values and the
 * sizes only, never on the alignment of the arrays, and each row of a product
 * on its own values only.
 *
 * Sizes count elements.  Arrays need the alignment of their element type only,
 * weights not even that.  No kernel allocates memory or reads past an array.
 */
#ifndef HART_KERNELS_H
#define HART_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How weights are stored: IEEE binary32, IEEE binary16, the top half of binary32 */
typedef enum HartDtype
{
	HART_F32,
	HART_F16,
	HART_BF16
} HartDtype;

#define HART_N_DTYPES 3

/* Bytes of one weight */
static inline size_t
hart_dtype_size(HartDtype dtype)
{
	return dtype == HART_F32 ? 4 : 2;
}

/*
 * How a tile holds weights: plain, in one of the dtypes, or packed.  The first formats are the dtypes.
 */
typedef enum HartFormat
{
	HART_PLAIN_F32 = HART_F32,
	HART_PLAIN_F16 = HART_F16,
	HART_PLAIN_BF16 = HART_BF16,
	HART_BF12,					/* bf16 in 12 bits, losslessly: bf12.h */
	HART_Q8						/* 8-bit integers with a scale for every 64: q8.h */
} HartFormat;

#define HART_N_FORMATS 5
#define HART_N_PACKED (HART_N_FORMATS - HART_N_DTYPES)

/*
 * Products of a row of x and a row of weights are summed over this many columns
 * at a time, always in the same order: they depend on the two rows alone, not on
 * how many rows are multiplied together.
 */
#define HART_DOT_DEPTH 1024

/* Chains of additions in such a sum, at most: column l is in chain l modulo their number */
#define HART_CHAINS 16

/* Rows of weights that are packed together, at most */
#define HART_PACKED_ROWS 32

/* Columns of a packed row: whole steps of all chains */
static inline size_t
hart_packed_depth(size_t depth)
{
	return (depth + HART_CHAINS - 1) / HART_CHAINS * HART_CHAINS;
}

/* Floats that HART_PACKED_ROWS rows of weights take, with what keeps chains apart in the cache's sets */
#define HART_PACKED_GAPS 256
#define HART_PACKED_FLOATS(depth) (HART_PACKED_ROWS * hart_packed_depth(depth) + HART_PACKED_GAPS)

/* Rows of weights in a group, at most */
#define HART_GROUP_ROWS 4

struct HartBf16Rows;

/* What gemm_group multiplies */
typedef struct HartGroup
{
	size_t		m;				/* rows of x */
	const float *x;				/* ldx apart */
	size_t		ldx;
	size_t		n;				/* rows of weights, <= HART_GROUP_ROWS */
	const float *w;				/* ldw apart */
	size_t		ldw;
	float	   *y;				/* (m, n), rows ldy apart */
	size_t		ldy;
	const char *next[HART_GROUP_ROWS];	/* what will be asked for next, to be called into the cache meanwhile */
	size_t		next_bytes;		/* of each; 0 for nothing */
} HartGroup;

typedef struct HartKernels
{
	const char *name;			/* "portable", "avx2", "avx512", or "amx": avx512 with the bf16 products of bf16.h */

	/* sum of a[i] * b[i] */
	float		(*dot) (const float *a, const float *b, size_t n);

	/*
	 * y = x * w^T, or y += x * w^T if accumulate, for a few rows of x by a group of
	 * rows of weights, over depth <= HART_DOT_DEPTH columns
	 */
	void		(*gemm_group) (const HartGroup *group, size_t depth, bool accumulate);

	/*
	 * A sum of at most HART_DOT_DEPTH products, of a row of weights in up to two pieces: the
	 * first n columns at w, the others at rest; n a multiple of
	 * HART_CHAINS unless n_rest is 0.  Reads the weights from front to back
	 * and calls what follows them into the cache: the fastest way through
	 * weights that one row of x is multiplied by.
	 */
	float		(*dot1[HART_N_DTYPES]) (const void *w, size_t n,
										const void *rest, size_t n_rest,
										const float *x);

	/*
	 * dot_and_squares[0] += sum of w[i] * x[i], dot_and_squares[1] += sum of
	 * w[i]^2, in one pass over the weights: what a cosine needs
	 */
	void		(*dot_and_squares[HART_N_DTYPES]) (const void *w, const float *x,
												   size_t n, float sums[2]);

	/*
	 * out[i] = w[i] as float32.  Exact for every value, subnormals and
	 * infinities included; a signalling float16 NaN becomes the quiet NaN of
	 * the same payload, as the processor's own conversion makes it.
	 */
	void		(*widen[HART_N_DTYPES]) (const void *w, float *out, size_t n);

	/*
	 * widen and dot1 for the packed formats, in their order: on n weights of a
	 * tile from number index on, for dot1 a multiple of HART_CHAINS, and on the
	 * first n_rest of the tile that follows.  They give the bits of the plain
	 * kernels on the same weights.  hart_widen_tile takes every format,
	 * hart_dot1_tile all but HART_Q8, whose products are those of q8.h.
	 */
	float		(*dot1_packed[HART_N_PACKED]) (const void *tile, size_t index, size_t n,
											   const void *rest, size_t n_rest,
											   const float *x);

	/* dot_and_squares the same way, at any index and n, for at most HART_DOT_DEPTH columns; HART_Q8 has none */
	void		(*dot_and_squares_packed[HART_N_PACKED]) (const void *tile, size_t index, size_t n,
														  const void *rest, size_t n_rest,
														  const float *x, float sums[2]);
	void		(*widen_packed[HART_N_PACKED]) (const void *tile, size_t index,
												float *out, size_t n);

	/*
	 * y[i * ldy + r] = x row i . row r of weights, for m >= 1 rows of x (m, cols), best few, and rows of HART_BF12
	 * weights (bf16.h) that are whole blocks.  The sums are those of dot1 over each HART_DOT_DEPTH columns, added in order.
	 * NULL where a set knows no faster way than one row of weights after the other.
	 */
	void		(*few_bf12) (const struct HartBf16Rows *w, const float *x, size_t m,
							 float *y, size_t ldy);

	/*
	 * y = x * w^T, or y += x * w^T if accumulate:
	 *		y[i * ldy + j] (+)= sum over l of x[i * ldx + l] * w[j * ldw + l]
	 * x: (m, k), w: (n, k), y: (m, n), all row-major, with the distances
	 * between rows ldx, ldw >= k and ldy >= n.  y overlaps neither x nor w.
	 * The sums are those of dot1 over each HART_DOT_DEPTH columns, added in
	 * order.  Meant for a w that stays in the L2 cache.
	 */
	void		(*gemm_nt) (size_t m, size_t n, size_t k,
							const float *x, size_t ldx,
							const float *w, size_t ldw,
							float *y, size_t ldy,
							bool accumulate);

	/*
	 * The same product over depth <= HART_DOT_DEPTH columns for many rows of x: both
	 * sides are packed first, in an order of the set's own.
	 *
	 * pack_x: up to x_rows rows of x, into rows * hart_packed_depth(depth) floats.
	 * pack_weights: n <= HART_PACKED_ROWS rows, into HART_PACKED_FLOATS(depth).
	 * gemm_packed: y (rows, n) = the product, or y += the product if accumulate.
	 */
	size_t		x_rows;
	void		(*pack_x) (size_t rows, size_t depth, const float *x, size_t ldx,
						   float *to);
	void		(*pack_weights) (size_t n, size_t depth, const float *w, size_t ldw,
								 float *to);
	void		(*gemm_packed) (size_t rows, size_t n, size_t depth,
								const float *x, const float *w,
								float *y, size_t ldy, bool accumulate);

	/*
	 * out = x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich, "Root Mean
	 * Square Layer Normalization", 2019).  out may be x.
	 */
	void		(*rms_norm) (const float *x, const float *weight, float *out,
							 size_t n, float eps);

	/*
	 * x[i] = exp(x[i] - max) / sum, in place.  -inf gives 0; a NaN, a +inf, or
	 * nothing but -inf makes every result NaN.
	 */
	void		(*softmax) (float *x, size_t n);

	/*
	 * out = silu(gate) * up, where silu(g) = g / (1 + exp(-g)) (Shazeer, "GLU
	 * Variants Improve Transformer", 2020).  Finite for every finite gate; NaNs
	 * propagate.  out may be gate or up.
	 */
	void		(*swiglu) (const float *gate, const float *up, float *out,
						   size_t n);

	/* out[i] = a[i] + b[i]; out may be a or b */
	void		(*add) (const float *a, const float *b, float *out, size_t n);

	/*
	 * x[i] = exp(x[i] - max) in place, where max is the largest of them;
	 * returns their sum.  With the NaNs of softmax.
	 */
	float		(*exp_sum) (float *x, size_t n, float *max);

	/*
	 * y = a * b:
	 *		y[i * ldy + j] = sum over l of a[i * lda + l] * b[l * ldb + j]
	 * a: (m, k), b: (k, n), y: (m, n), all row-major, with the distances
	 * between rows lda >= k, ldb >= n and ldy >= n.  Every number is summed by
	 * itself, in the order of l.  What attention does with blocks of keys and
	 * values.
	 */
	void		(*gemm_nn) (size_t m, size_t n, size_t k,
							const float *a, size_t lda,
							const float *b, size_t ldb,
							float *y, size_t ldy);
} HartKernels;

/*
 * The set in force: "portable" until hart_select_kernels says otherwise, so
 * never NULL.
 */
extern const HartKernels *hart_kernels;

/* Add a bias of n numbers to n columns of each of m rows of y, which are ldy apart */
static inline void
hart_add_bias(float *y, size_t ldy, size_t m, const float *bias, size_t n)
{
	for (size_t i = 0; i < m; i++)
		hart_kernels->add(y + i * ldy, bias, y + i * ldy, n);
}

static inline bool
hart_is_packed(HartFormat format)
{
	return (int) format >= HART_N_DTYPES;
}

/* out[i] = weight index + i of a tile */
static inline void
hart_widen_tile(HartFormat format, const void *tile, size_t index, float *out, size_t n)
{
	if (!hart_is_packed(format))
		hart_kernels->widen[format] ((const char *) tile + index * hart_dtype_size((HartDtype) format), out, n);
	else
		hart_kernels->widen_packed[format - HART_N_DTYPES] (tile, index, out, n);
}

/*
 * dot1 of n weights of a tile from number index on, and of the first n_rest of
 * the next; index and, unless n_rest is 0, n multiples of HART_CHAINS
 */
static inline float
hart_dot1_tile(HartFormat format, const void *tile, size_t index, size_t n,
			   const void *rest, size_t n_rest, const float *x)
{
	if (!hart_is_packed(format))
		return hart_kernels->dot1[format] ((const char *) tile + index * hart_dtype_size((HartDtype) format), n, rest, n_rest, x);
	return hart_kernels->dot1_packed[format - HART_N_DTYPES] (tile, index, n, rest, n_rest, x);
}

/*
 * Put the named set in force; "auto" is the best this processor has.  Returns
 * false, and changes nothing, if this processor or this build lacks it.
 */
extern bool hart_select_kernels(const char *name);

/* The named set, or NULL if this processor or this build lacks it */
extern const HartKernels *hart_find_kernels(const char *name);

#endif							/* HART_KERNELS_H */
