/*
 * tile_reader_internal.h
 *	  What the files of the tile reader share: tile_reader.c hands out tiles, tile_finder.c finds them.
 */
#ifndef HART_TILE_READER_INTERNAL_H
#define HART_TILE_READER_INTERNAL_H

#include "tile_reader.h"

#include "access/htup.h"
#include "storage/bufpage.h"

#include "buffer_pins.h"
#include "tile_memo.h"

struct HartTileReader
{
	Relation	rel;
	Snapshot	snapshot;
	int32		model_id;
	HartTileRange *ranges;
	int			n_ranges;
	int64		n_tiles;
	int64		n_found;
	uint64		fingerprint;	/* sum over the tiles found, so that their order does not matter */
	HartTileMemo *memo;			/* of what is found, for the next reader; NULL where none can be made */
	bool		pinned;			/* every page with a tile stays pinned */
	HartPins   *pins;			/* of those pages; NULL when they are not all pinned */
	const char **payload;		/* of each tile; NULL while it is not pinned */
	ItemPointerData *tid;		/* of each tile, when they are not all pinned */
	Buffer	   *buffer;			/* of each tile that hart_tiles_pin pinned, when they are not all pinned */
	MemoryContext memory;		/* of the reader */
	MemoryContext held_memory;	/* of what is decompressed while it is pinned, when not all is */
	int64		first_held;		/* what hart_tiles_pin pinned and hart_tiles_unpin did not release yet */
	int64		n_held;
};

extern void hart_report_tile_damage(const HartTileReader *reader, int32 tensor_id, int64 tile_no, const char *what);

/* the range of a tensor; NULL when it is not wanted */
extern HartTileRange *hart_find_tile_range(const HartTileReader *reader, int32 tensor_id);

/* a key column of a tile; error when it is null */
extern int32 hart_tile_key(const HartTileReader *reader, HeapTuple tuple, int attnum);

/*
 * The bytes of a tile: in place, but for one that was compressed in another table
 * and came back by INSERT … SELECT, which PostgreSQL does not undo; that one is copied.
 */
extern const char *hart_tile_payload(const HartTileReader *reader, HeapTuple tuple, const HartTileRange *range, int64 tile_no);

/* ensure old_snapshot_threshold has not let rows go that our snapshot sees */
extern void hart_check_snapshot_age(const HartTileReader *reader, Page page);

/* tile_finder.c: find every tile, with the help of a memo where there is one */
extern void hart_find_tiles(HartTileReader *reader, BlockNumber n_blocks);

#endif							/* HART_TILE_READER_INTERNAL_H */
