/*
 * bf12_cursor.h
 *		Rows of 12-bit weights that are unpacked side by side, a block of each after the other, with AVX-512.
 *
 * A cursor goes through the blocks of successive rows, from tile to tile, and calls what it comes to next into the cache. That takes far
 * fewer instructions a block than to find each one anew.  Part of the sets of kernels, after bf16_avx512_pack.h.
 */

/* Blocks from the one that is unpacked to the one that is called */
#define BLOCKS_AHEAD 4

typedef struct
{
	__m512i		exponents;		/* of the tile, see exponents_of */
	const char *block;			/* that is unpacked next */
	const char *end;			/* of the tile's blocks */
	const char *exceptional;	/* the first block from there on that has an exception; or NULL */
	const char *ahead;			/* that is called next */
	const char *ahead_end;
	const char *const *tile;
	const char *const *ahead_tile;
} Bf12Cursor;

/* The first block at or beyond one that has an exception */
OP const char *
exceptional_block(const char *tile, const char *block)
{
	size_t		index = (size_t) (block - hart_bf12_block(tile, 0)) / HART_BF12_BLOCK_BYTES * HART_BF12_BLOCK;
	size_t		i = hart_bf12_find_exception(tile, index);

	return i < hart_bf12_n_exceptions(tile) ? hart_bf12_block(tile, hart_bf12_exception(tile, i).index) : NULL;
}

/* Begin with a tile at one of its blocks */
OP void
enter_tile(Bf12Cursor *c, const char *const *tile, const char *block)
{
	c->tile = tile;
	c->block = block;
	c->end = hart_bf12_block(*tile, HART_BF12_TILE);
	c->exponents = exponents_of(*tile);
	c->exceptional = exceptional_block(*tile, block);
}

/* A cursor at a weight, the first of a block */
OP Bf12Cursor
open_cursor(const HartBf16Rows *w, size_t place)
{
	Bf12Cursor	c;
	size_t		index;
	const char *const *tile = w->tiles + tile_of(w, place, &index);

	enter_tile(&c, tile, hart_bf12_block(*tile, index));
	c.ahead = c.block;
	c.ahead_end = c.end;
	c.ahead_tile = c.tile;
	return c;
}

/* Call a block into the cache; last is the last tile there is */
OP void
call_ahead(Bf12Cursor *c, const char *const *last)
{
	if (c->ahead == c->ahead_end)
	{
		if (c->ahead_tile >= last)
			return;
		c->ahead_tile++;
		c->ahead = hart_bf12_block(*c->ahead_tile, 0);
		c->ahead_end = hart_bf12_block(*c->ahead_tile, HART_BF12_TILE);
		_mm_prefetch(*c->ahead_tile, _MM_HINT_T0);
	}
	UNROLL for (int i = 0; i < HART_BF12_BLOCK_BYTES; i += 64)
		_mm_prefetch(c->ahead + i, _MM_HINT_T0);
	c->ahead += HART_BF12_BLOCK_BYTES;
}

/* The four lines of the block that a cursor is at, GROUP_BYTES apart */
OP void
unpack_this_block(Bf12Cursor *c, const Bf12Places *places, char *to)
{
	UNROLL for (int q = 0; q < 4; q++)
		_mm512_store_si512(to + q * GROUP_BYTES, bf12_line(c->block, c->exponents, places, q));
	if (c->block == c->exceptional)
	{
		const char *next = c->block + HART_BF12_BLOCK_BYTES;

		place_exceptions(*c->tile, (size_t) (c->block - hart_bf12_block(*c->tile, 0)) / HART_BF12_BLOCK_BYTES * HART_BF12_BLOCK, HART_BF12_BLOCK, to);
		c->exceptional = exceptional_block(*c->tile, next);
	}
	c->block += HART_BF12_BLOCK_BYTES;
}

/* Go on to the next tile when all blocks of this one are unpacked */
OP void
enter_next_tile(Bf12Cursor *c)
{
	if (c->block == c->end)
		enter_tile(c, c->tile + 1, hart_bf12_block(c->tile[1], 0));
}

/* Pass over some blocks, after which there is one more */
OP void
skip_blocks(Bf12Cursor *c, size_t n)
{
	size_t		left = (size_t) (c->end - c->block) / HART_BF12_BLOCK_BYTES;

	if (n < left)
	{
		c->block += n * HART_BF12_BLOCK_BYTES;
		if (c->exceptional != NULL && c->exceptional < c->block)
			c->exceptional = exceptional_block(*c->tile, c->block);
	}
	else
	{
		const char *const *tile = c->tile + 1 + (n - left) / (HART_BF12_TILE / HART_BF12_BLOCK);

		enter_tile(c, tile, hart_bf12_block(*tile, (n - left) * HART_BF12_BLOCK % HART_BF12_TILE));
	}
}

/* The four lines of the next block, GROUP_BYTES apart; last is the last tile there is */
OP void
unpack_block(Bf12Cursor *c, const Bf12Places *places, const char *const *last, char *to)
{
	enter_next_tile(c);
	call_ahead(c, last);
	unpack_this_block(c, places, to);
}
