/*
 * bf12_streams.h
 *		Products of few rows of x by rows of 12-bit weights straight out of their tiles, with AVX-512.
 *
 * The sum of one row waits for each of its additions, so STREAMS rows are taken side by side, from as many places of the weights: these are unpacked
 * in registers, and what is read goes on from front to back in each stream.
 *
 * A set defines before it includes this, after bf12_cursor.h,
 *		STREAMS				4
 *		FEW_X				rows of x whose sums there are registers for, 4 or 6
 *		XRows				rows of x; its member first is the group of columns that comes next
 *		Sums				chains of sums of FEW_X rows of x by the streams' rows of weights
 *		add_lines			add the products of x's group first + q, and a line of each stream, to the chains of m rows of x; m is a constant in every call
 *		add_chains			out[s] = the chains of stream s of a row of x, added up
 */
/* From what is unpacked to what is called into the L2 cache: more misses are under way than the L1 cache keeps track of */
#define BYTES_AHEAD 4096

/* n blocks of each stream, which lie in its tile and have no exceptions */
OP void
add_plain_blocks(int m, Bf12Cursor streams[STREAMS], const Bf12Places *places, size_t n, XRows x, Sums sums)
{
	const char *block[STREAMS];

	UNROLL for (int s = 0; s < STREAMS; s++)
		block[s] = streams[s].block;
	for (; n > 0; n--)
	{
		UNROLL for (int s = 0; s < STREAMS; s++)
		{
			UNROLL for (int i = 0; i < HART_BF12_BLOCK_BYTES; i += 64)
				_mm_prefetch((const char *) ((uintptr_t) block[s] + BYTES_AHEAD + i), _MM_HINT_T1);
		}
		UNROLL for (int q = 0; q < 4; q++)
		{
			__m512i		lines[STREAMS];

			/* as if blocks moved: kept from line to line, what is loaded of them would have sums put out of the registers */
			UNROLL for (int s = 0; s < STREAMS; s++)
				__asm__("" : "+r"(block[s]));
			UNROLL for (int s = 0; s < STREAMS; s++)
				lines[s] = bf12_line(block[s], streams[s].exponents, places, q);
			add_lines(m, lines, &x, q, sums);
		}
		x.first += HART_BF12_BLOCK / HART_BF16_GROUP;
		UNROLL for (int s = 0; s < STREAMS; s++)
			block[s] += HART_BF12_BLOCK_BYTES;
	}
	UNROLL for (int s = 0; s < STREAMS; s++)
		streams[s].block = block[s];
}

/* A block of each stream, which may have exceptions */
OP void
add_any_block(int m, Bf12Cursor streams[STREAMS], const Bf12Places *places, XRows x, Sums sums)
{
	_Alignas(64) char unpacked[STREAMS][4 * GROUP_BYTES];

	UNROLL for (int s = 0; s < STREAMS; s++)
		unpack_this_block(&streams[s], places, unpacked[s]);
	UNROLL for (int q = 0; q < 4; q++)
	{
		__m512i		lines[STREAMS];

		UNROLL for (int s = 0; s < STREAMS; s++)
			lines[s] = _mm512_load_si512(unpacked[s] + q * GROUP_BYTES);
		add_lines(m, lines, &x, q, sums);
	}
}

/* Blocks of a stream that add_plain_blocks takes, at most n */
OP size_t
plain_blocks(const Bf12Cursor *stream, size_t n)
{
	/* an exception beyond the tile does no harm either */
	const char *stop = stream->exceptional && stream->exceptional < stream->end ? stream->exceptional : stream->end;
	size_t		left = (size_t) (stop - stream->block) / HART_BF12_BLOCK_BYTES;

	return left < n ? left : n;
}

/* out[i * STREAMS + s] = the products of x row i by the next n blocks of stream s */
OP void
multiply_blocks(int m, Bf12Cursor streams[STREAMS], const Bf12Places *places, size_t n, XRows x, float *out)
{
	Sums		sums;

	UNROLL for (int i = 0; i < m; i++)
	{
		UNROLL for (int s = 0; s < STREAMS; s++)
			sums[i][s] = _mm512_setzero_ps();
	}
	while (n > 0)
	{
		size_t		taken = n;

		UNROLL for (int s = 0; s < STREAMS; s++)
		{
			enter_next_tile(&streams[s]);
			taken = plain_blocks(&streams[s], taken);
		}
		if (taken > 0)
			add_plain_blocks(m, streams, places, taken, x, sums);
		else
		{
			add_any_block(m, streams, places, x, sums);
			taken = 1;
		}
		n -= taken;
		x.first += taken * HART_BF12_BLOCK / HART_BF16_GROUP;
	}
	UNROLL for (int i = 0; i < m; i++)
		add_chains(sums[i], out + i * STREAMS);
}

/* n successive rows of weights from each of n_streams others on, by m rows of x */
OP void
multiply_streams(int m, const HartBf16Rows *w, const size_t first[STREAMS], size_t n_streams, size_t n, const XRows *x, float *y, size_t ldy)
{
	Bf12Places	places = bf12_places();
	Bf12Cursor	streams[STREAMS];

	UNROLL for (int s = 0; s < STREAMS; s++)
		streams[s] = open_cursor(w, w->first + first[s] * w->cols);
	for (size_t r = 0; r < n; r++)
		for (size_t col = 0; col < w->cols; col += HART_DOT_DEPTH)
		{
			size_t		depth = w->cols - col < HART_DOT_DEPTH ? w->cols - col : HART_DOT_DEPTH;
			XRows		from = *x;
			float		out[FEW_X * STREAMS];

			from.first = col / HART_BF16_GROUP;
			multiply_blocks(m, streams, &places, depth / HART_BF12_BLOCK, from, out);
			for (int i = 0; i < m; i++)
				for (size_t s = 0; s < n_streams; s++)
				{
					float	   *to = y + i * ldy + first[s] + r;

					*to = col > 0 ? *to + out[i * STREAMS + s] : out[i * STREAMS + s];
				}
		}
}

/* All rows of weights by m rows of x: a stretch of them in each stream, then those that are left over side by side */
OP void
multiply_rows(int m, const HartBf16Rows *w, const XRows *x, float *y, size_t ldy)
{
	size_t		stretch = w->n / STREAMS;
	size_t		n_left = w->n % STREAMS;
	size_t		first[STREAMS];

	for (size_t s = 0; s < STREAMS; s++)
		first[s] = s * stretch;
	if (stretch > 0)
		multiply_streams(m, w, first, STREAMS, stretch, x, y, ldy);
	/* streams that have none take the last row too */
	for (size_t s = 0; s < STREAMS; s++)
		first[s] = STREAMS * stretch + (s < n_left ? s : n_left - 1);
	if (n_left > 0)
		multiply_streams(m, w, first, n_left, 1, x, y, ldy);
}

#define MULTIPLY_ROWS(m) \
	BF16_KERNEL __attribute__((noinline)) void \
	multiply_rows_##m(const HartBf16Rows *w, const XRows *x, float *y, size_t ldy) \
	{ \
		multiply_rows(m, w, x, y, ldy); \
	}

MULTIPLY_ROWS(1)
MULTIPLY_ROWS(2)
MULTIPLY_ROWS(3)
MULTIPLY_ROWS(4)
#if FEW_X > 4
MULTIPLY_ROWS(5)
MULTIPLY_ROWS(6)
#endif

/* The same for any number of rows of x up to FEW_X */
BF16_KERNEL void
multiply_few(const HartBf16Rows *w, const XRows *x, size_t m, float *y, size_t ldy)
{
	static void (*const multiply[FEW_X]) (const HartBf16Rows *w, const XRows *x, float *y, size_t ldy) =
	{
		multiply_rows_1, multiply_rows_2, multiply_rows_3, multiply_rows_4,
#if FEW_X > 4
		multiply_rows_5, multiply_rows_6,
#endif
	};

	multiply[m - 1] (w, x, y, ldy);
}
