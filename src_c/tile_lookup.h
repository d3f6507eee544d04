/*
 * tile_lookup.h
 *	  Single tiles of a model, found by the primary key of their table.
 *
 * The reader of tile_reader.h looks at every tile of a model, which is right for
 * running it; a lookup is for those who want a few. Nothing is kept pinned but the
 * page of the tile that was asked for last.
 */
#ifndef HART_TILE_LOOKUP_H
#define HART_TILE_LOOKUP_H

#include "hartonomous.h"

#include "utils/rel.h"
#include "utils/snapshot.h"

#include "tile_format.h"

typedef struct HartTileLookup HartTileLookup;

/*
 * A lookup in the table of a model under a snapshot; the caller has checked and locked the table and keeps it
 * open. Without a usable unique index on (model_id, tensor_id, tile_no) the table is read once to find
 * where its tiles are, which takes 16 bytes of memory a tile.
 */
extern HartTileLookup *hart_lookup_open(Relation rel, Snapshot snapshot, int32 model_id);

/*
 * The payload of a tile of a tensor of n weights, in place; valid until the next call. Tiles up to last
 * are likely to be asked for next, in order. Errors: a tile that is missing, there twice or of a wrong
 * length (ERRCODE_DATA_CORRUPTED).
 */
extern const char *hart_lookup_tile(HartTileLookup *lookup, int32 tensor_id, HartFormat format, int64 n, int64 tile_no, int64 last);

/* let the last tile go; the next call finds it again */
extern void hart_lookup_release(HartTileLookup *lookup);

extern void hart_lookup_close(HartTileLookup *lookup);

/* how many tiles were read so far */
extern int64 hart_lookup_count(const HartTileLookup *lookup);

#endif							/* HART_TILE_LOOKUP_H */
