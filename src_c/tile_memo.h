/*
 * tile_memo.h
 *	  What a session remembers of where the tiles of a model lie in the buffers.
 *
 * A memo is never trusted: the reader pins each page it names and enters its tiles only when the page is still the
 * one that was looked at (same LSN) and all its rows are visible to everybody, which saves looking at the rows.
 * It holds places and no contents. Memos live in the session's memory, a few at a time.
 */
#ifndef HART_TILE_MEMO_H
#define HART_TILE_MEMO_H

#include "hartonomous.h"

#include "access/xlogdefs.h"
#include "storage/block.h"
#include "storage/buf.h"
#include "utils/rel.h"

#include "tile_reader.h"

/* a tile within a page */
typedef struct HartTilePlace
{
	uint32		ordinal;		/* among the tiles of the reader */
	uint16		offset;			/* of its payload in the page, in bytes */
} HartTilePlace;

/* a page that held tiles */
typedef struct HartTilePage
{
	BlockNumber block;
	Buffer		buffer;			/* where it was last */
	XLogRecPtr	lsn;			/* Invalid when the page must be looked at again in any case */
	uint64		fingerprint;	/* of its tiles */
	uint32		first;			/* of places */
	uint32		n;
} HartTilePage;

typedef struct HartTileMemo HartTileMemo;

/* a new memo of n_tiles tiles of these ranges, in the current memory context until it is kept */
extern HartTileMemo *hart_tile_memo_create(Relation rel, const HartTileRange *ranges, int n_ranges, int64 n_tiles);

/* enter a page, then each tile on it */
extern void hart_tile_memo_add_page(HartTileMemo *memo, BlockNumber block, Buffer buffer, XLogRecPtr lsn);
extern void hart_tile_memo_add_tile(HartTileMemo *memo, int64 ordinal, size_t offset, uint64 fingerprint);

/* remember for the session, in the place of an older memo of the same tiles */
extern void hart_tile_memo_keep(Relation rel, HartTileMemo *memo);

/* the memo of these tiles in this table as it is now; NULL without one */
extern HartTileMemo *hart_tile_memo_find(Relation rel, const HartTileRange *ranges, int n_ranges);

extern HartTilePage *hart_tile_memo_pages(HartTileMemo *memo, int64 *n_pages);
extern const HartTilePlace *hart_tile_memo_places(const HartTileMemo *memo, const HartTilePage *page);

#endif							/* HART_TILE_MEMO_H */
