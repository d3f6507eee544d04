/*
 * bf16_avx512_pack.h
 *		Rows of weights and of x as lines of bf16 (bf16.h), with AVX-512; part of the sets of kernels.
 *
 * A set defines before it includes this
 *		BF16_TARGET			the attribute that allows its instructions
 *		STRIP_ROWS			rows of weights in a strip, whose lines lie side by side
 */
#include <immintrin.h>
#include <string.h>

#define OP static inline __attribute__((always_inline)) BF16_TARGET
#define BF16_KERNEL static BF16_TARGET

/* Bytes of a group of a strip of weights: from a line of a row to the next */
#define GROUP_BYTES (STRIP_ROWS * HART_BF16_LINE)

/* A weight's tile, and its number in there; divisions by constants */
OP size_t
tile_of(const HartBf16Rows *w, size_t place, size_t *index)
{
	size_t		tile = w->format == HART_BF12 ? place / HART_BF12_TILE : place / HART_BF16_PLAIN_TILE;

	*index = place - tile * hart_bf16_tile_weights(w->format);
	return tile;
}

/* The exponents of a tile of 12-bit weights, in their place in a bf16 number, twice */
OP __m512i
exponents_of(const char *tile)
{
	__m256i		table = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *) tile)), 7);

	return _mm512_broadcast_i64x4(table);
}

/*
 * Constants of bf12_line, of the exponent codes and the mantissas of a block. In registers: the compiler would make them anew for every block, with the
 * instructions that unpacking is short of.
 */
typedef struct
{
	__m512i		codes[4];		/* of group q: where the nibbles of its dwords begin */
	__m512i		mantissas[2];	/* of even and odd groups: the bytes of its dwords */
	__m512i		mask;			/* signs and mantissas */
} Bf12Places;

OP __m512i
in_register(__m512i v)
{
	__asm__("" : "+v"(v));
	return v;
}

OP Bf12Places
bf12_places(void)
{
	__m512i		quarters = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
	Bf12Places	places;

	/* bytes 0 and 2 of each dword: what begins with its nibble 2 q, and with 2 q + 1 */
	UNROLL for (int q = 0; q < 4; q++)
	{
		uint64_t	nibbles = (uint64_t) (8 * q) | (uint64_t) (8 * q + 4) << 16;

		places.codes[q] = in_register(_mm512_set1_epi64((long long) (nibbles | (nibbles + 0x00200020) << 32)));
	}
	/* bytes b, b + 1, b + 1, b + 2 of each dword for b = 0 or 2: a mantissa, the byte with its sign, and the same for the next row */
	places.mantissas[0] = in_register(_mm512_add_epi32(_mm512_set1_epi32(0x02010100), quarters));
	places.mantissas[1] = in_register(_mm512_add_epi32(_mm512_set1_epi32(0x00030302), quarters));
	places.mask = in_register(_mm512_set1_epi32((int) 0x807f807f));
	return places;
}

/*
 * The line of group q of a block of 128 weights, exceptions as if they were none. Low and high halves are the rows 2 q and 2 q + 1 of bf12.h.
 * q is a constant in every call.
 *
 * What looks up an exponent has 5 bits, the code and one more that may be anything: the table stands there twice.
 */
OP __m512i
bf12_line(const char *block, __m512i exponents, const Bf12Places *places, int q)
{
	__m512i		codes = _mm512_loadu_si512(block);
	__m512i		mantissas = _mm512_loadu_si512(block + 64 + 64 * (q / 2));

	/* exponents | (mantissas & mask) */
	return _mm512_ternarylogic_epi32(_mm512_permutexvar_epi16(_mm512_multishift_epi64_epi8(places->codes[q], codes), exponents),
									 _mm512_shuffle_epi8(mantissas, places->mantissas[q % 2]), places->mask, 0xf8);
}

/* The lines of groups q to end - 1 of a block, which are no constant numbers, GROUP_BYTES apart */
OP void
bf12_some_lines(const char *block, __m512i exponents, const Bf12Places *places, size_t q, size_t end, char *to)
{
	if (q <= 0 && end > 0)
		_mm512_store_si512(to - q * GROUP_BYTES, bf12_line(block, exponents, places, 0));
	if (q <= 1 && end > 1)
		_mm512_store_si512(to + (1 - q) * GROUP_BYTES, bf12_line(block, exponents, places, 1));
	if (q <= 2 && end > 2)
		_mm512_store_si512(to + (2 - q) * GROUP_BYTES, bf12_line(block, exponents, places, 2));
	if (end > 3)
		_mm512_store_si512(to + (3 - q) * GROUP_BYTES, bf12_line(block, exponents, places, 3));
}

/* Put the exceptions among n weights from number index on in their places */
OP void
place_exceptions(const char *tile, size_t index, size_t n, char *to)
{
	size_t		n_exceptions = hart_bf12_n_exceptions(tile);

	for (size_t i = hart_bf12_find_exception(tile, index); i < n_exceptions; i++)
	{
		HartBf12Exception e = hart_bf12_exception(tile, i);
		size_t		at = e.index - index;

		/* a wrong order of exceptions does no harm either */
		if (at >= n)
			break;
		memcpy(to + at / HART_BF16_GROUP * GROUP_BYTES + at % 16 * 4 + at % HART_BF16_GROUP / 16 * 2, &e.bits, sizeof(e.bits));
	}
}

/* Lines of n weights of a tile from number index on, both whole groups, GROUP_BYTES apart; as many bytes from ahead on are called into the cache */
OP void
unpack_bf12(const char *tile, size_t index, size_t n, char *to, const char *ahead)
{
	__m512i		exponents = exponents_of(tile);
	Bf12Places	places = bf12_places();
	const char *block = hart_bf12_block(tile, index);
	size_t		left = n / HART_BF16_GROUP;
	size_t		skipped = index % HART_BF12_BLOCK / HART_BF16_GROUP;
	char	   *line = to;

	if (skipped > 0)
	{
		size_t		taken = left < 4 - skipped ? left : 4 - skipped;

		bf12_some_lines(block, exponents, &places, skipped, skipped + taken, line);
		block += HART_BF12_BLOCK_BYTES;
		line += taken * GROUP_BYTES;
		left -= taken;
	}
	for (; left >= 4; left -= 4)
	{
		UNROLL for (int i = 0; i < HART_BF12_BLOCK_BYTES; i += 64)
			_mm_prefetch(ahead + i, _MM_HINT_T1);
		UNROLL for (int q = 0; q < 4; q++)
			_mm512_store_si512(line + q * GROUP_BYTES, bf12_line(block, exponents, &places, q));
		ahead += HART_BF12_BLOCK_BYTES;
		block += HART_BF12_BLOCK_BYTES;
		line += 4 * GROUP_BYTES;
	}
	bf12_some_lines(block, exponents, &places, 0, left, line);
	if (hart_bf12_n_exceptions(tile) > 0)
		place_exceptions(tile, index, n, to);
}

/* The same of plain weights at any address */
OP void
unpack_plain(const char *weights, size_t n, char *to, const char *ahead)
{
	/* word 2 i is word i, word 2 i + 1 is word i + 16 */
	__m512i		places = _mm512_add_epi32(_mm512_set1_epi32(0x00100000),
										  _mm512_mullo_epi32(_mm512_set1_epi32(0x00010001),
															 _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));

	for (size_t at = 0; at < n; at += HART_BF16_GROUP)
	{
		_mm_prefetch(ahead + 2 * at, _MM_HINT_T1);
		_mm512_store_si512(to, _mm512_permutexvar_epi16(places, _mm512_loadu_si512(weights)));
		weights += HART_BF16_LINE;
		to += GROUP_BYTES;
	}
}

/* A line of two vectors of floats, of which the upper halves count */
OP __m512i
line_of(__m512i low, __m512i high)
{
	return _mm512_ternarylogic_epi32(_mm512_set1_epi32((int) 0xffff0000), high, _mm512_srli_epi32(low, 16), 0xca);
}

/* Weights that do not lie in whole groups: in float32 first */
OP void
unpack_odd(const HartBf16Rows *w, size_t place, size_t n, char *to)
{
	float		wide[HART_BF16_DEPTH];

	for (size_t i = 0; i < n;)
	{
		size_t		index;
		const char *tile = w->tiles[tile_of(w, place + i, &index)];
		size_t		left = hart_bf16_tile_weights(w->format) - index;
		size_t		taken = left < n - i ? left : n - i;

		hart_widen_tile(w->format, tile, index, wide + i, taken);
		i += taken;
	}
	for (size_t i = n; i < hart_bf16_groups(n) * HART_BF16_GROUP; i++)
		wide[i] = 0;
	for (size_t i = 0; i < n; i += HART_BF16_GROUP)
		_mm512_store_si512(to + i / HART_BF16_GROUP * GROUP_BYTES, line_of(_mm512_loadu_si512(wide + i), _mm512_loadu_si512(wide + i + 16)));
}

/* Where a weight lies */
OP const char *
address_of(const HartBf16Rows *w, size_t place)
{
	size_t		index;
	const char *tile = w->tiles[tile_of(w, place, &index)];

	return w->format == HART_BF12 ? hart_bf12_block(tile, index) : tile + 2 * index;
}

/* Some columns of some rows of weights, in strips */
typedef struct
{
	size_t		row;
	size_t		row_step;		/* from one row to the next */
	size_t		n_rows;
	size_t		col;			/* whole groups */
	size_t		n_cols;			/* at most HART_BF16_DEPTH */
	char	   *strips;
} Panel;

/* The panel of up to so many successive rows and HART_BF16_DEPTH columns that begins with a row and a column */
OP Panel
panel_at(const HartBf16Rows *w, size_t row, size_t most_rows, size_t col, char *strips)
{
	return (Panel) {row, 1, w->n - row < most_rows ? w->n - row : most_rows,
		col, w->cols - col < HART_BF16_DEPTH ? w->cols - col : HART_BF16_DEPTH, strips};
}

/* Lines of row r of a panel, GROUP_BYTES apart, while row r of the panel that is unpacked next, or none, is called into the cache */
OP void
unpack_row(const HartBf16Rows *w, const Panel *panel, size_t r, const Panel *next, char *to)
{
	size_t		place = w->first + (panel->row + r * panel->row_step) * w->cols + panel->col;
	size_t		n = panel->n_cols;
	size_t		called = w->first + (next->row + r * next->row_step) * w->cols + next->col;
	const char *ahead = address_of(w, r < next->n_rows ? called : place);

	if (w->cols % HART_BF16_GROUP != 0 || w->first % HART_BF16_GROUP != 0)
	{
		unpack_odd(w, place, n, to);
		return;
	}
	while (n > 0)
	{
		size_t		index;
		const char *tile = w->tiles[tile_of(w, place, &index)];
		size_t		left = hart_bf16_tile_weights(w->format) - index;
		size_t		taken = left < n ? left : n;

		if (w->format == HART_BF12)
			unpack_bf12(tile, index, taken, to, ahead);
		else
			unpack_plain(tile + 2 * index, taken, to, ahead);
		to += taken / HART_BF16_GROUP * GROUP_BYTES;
		ahead = (const char *) ((uintptr_t) ahead + (w->format == HART_BF12 ? taken * 3 / 2 : taken * 2));
		place += taken;
		n -= taken;
	}
}

/* Where the lines of row r of a panel are, GROUP_BYTES apart */
OP char *
strip_row(const Panel *panel, size_t r)
{
	return panel->strips + r / STRIP_ROWS * hart_bf16_groups(panel->n_cols) * GROUP_BYTES + r % STRIP_ROWS * HART_BF16_LINE;
}

/* Row r of a panel, put in its strip; the last one fills its strip up with 0 */
OP void
unpack_panel_row(const HartBf16Rows *w, const Panel *panel, size_t r, const Panel *next)
{
	size_t		groups = hart_bf16_groups(panel->n_cols);
	char	   *strip = strip_row(panel, r / STRIP_ROWS * STRIP_ROWS);

	unpack_row(w, panel, r, next, strip_row(panel, r));
	if (r + 1 == panel->n_rows)
		for (size_t i = (r + 1) % STRIP_ROWS; i % STRIP_ROWS != 0; i++)
			for (size_t g = 0; g < groups; g++)
				_mm512_store_si512(strip + g * GROUP_BYTES + i * HART_BF16_LINE, _mm512_setzero_si512());
}

/* What is finite and would be rounded up to infinity, or is infinite */
OP __mmask16
too_large(__m512 x)
{
	__m512i		magnitude = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));

	return _mm512_cmple_epu32_mask(_mm512_sub_epi32(magnitude, _mm512_set1_epi32(0x7f7f8000)), _mm512_set1_epi32(0x8000));
}

/* 16 numbers rounded to bf16, ties to even; those that are too large are cut instead, and subnormal ones may become 0 */
OP __m512
round_term(__m512 x, __mmask16 large)
{
	__m512i		rounded = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i) _mm512_cvtneps_pbh(x)), 16);

	return _mm512_castsi512_ps(_mm512_mask_and_epi32(rounded, large, _mm512_castps_si512(x), _mm512_set1_epi32((int) 0xffff0000)));
}

/* What a term leaves of numbers, exactly: nothing of an infinity */
OP __m512
rest_of(__m512 x, __m512 term)
{
	return _mm512_maskz_sub_ps((__mmask16) ~_mm512_fpclass_ps_mask(x, 0x18), x, term);
}

/* The lines of all terms of n <= HART_BF16_GROUP columns of a row of x */
OP void
split_line(const float *x, size_t n, int terms, __m512i lines[HART_BF16_MAX_TERMS])
{
	__m512		low = _mm512_maskz_loadu_ps((__mmask16) (n >= 16 ? 0xffff : (1u << n) - 1), x);
	__m512		high = n <= 16 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps((__mmask16) ((1u << (n - 16)) - 1), x + 16);
	__mmask16	low_large = too_large(low);
	__mmask16	high_large = too_large(high);

	for (int t = 0; t < terms; t++)
	{
		__m512		low_term = round_term(low, low_large);
		__m512		high_term = round_term(high, high_large);

		lines[t] = line_of(_mm512_castps_si512(low_term), _mm512_castps_si512(high_term));
		low = rest_of(low, low_term);
		high = rest_of(high, high_term);
		/* what is left of a number is far smaller */
		low_large = high_large = 0;
	}
}
