/*
 * tile_reader.h
 *	  The tiles of one model, read in place from shared buffers.
 *
 * A tensor's weights are cut in tiles of up to HART_TILE_BYTES, one heap tuple each. A
 * reader finds the tiles that its snapshot sees, wherever they lie in the table, and
 * either keeps their pages pinned (then a tile is a pointer into shared buffers) or,
 * when they are too many, remembers where they lie and pins what is asked for.
 *
 * PostgreSQL allows reading a visible tuple's data under a pin alone: nobody
 * moves or removes it until the pin is gone (src/backend/storage/buffer/README).
 */
#ifndef HART_TILE_READER_H
#define HART_TILE_READER_H

#include "hartonomous.h"

#include "utils/rel.h"
#include "utils/snapshot.h"

#include "tile_format.h"

/* what the reader must know of a tensor */
typedef struct HartTileRange
{
	int32		tensor_id;
	HartFormat	format;
	int64		n;				/* weights of the whole tensor */
	int64		first;			/* ordinal of its first tile among the model's; set by the reader */
} HartTileRange;

typedef struct HartTileReader HartTileReader;

/*
 * Find the tiles of a model, or of some of its tensors, under a snapshot; ranges must be sorted by tensor_id. The caller
 * has locked the table, keeps the lock and the snapshot for the life of the reader, and calls
 * with CurrentMemoryContext and CurrentResourceOwner of that life.
 * Errors: a tile that is missing, there twice or of a wrong length (ERRCODE_DATA_CORRUPTED).
 */
extern HartTileReader *hart_tiles_open(Relation rel, Snapshot snapshot, int32 model_id,
									   HartTileRange *ranges, int n_ranges);

/*
 * A number that is the same for the same versions of the same rows, and differs, but for a chance of 2^-64, when any tile is another: after an
 * UPDATE, within a transaction that made one, under a snapshot that does not see it. Moving the rows (VACUUM FULL) changes it too.
 */
extern uint64 hart_tiles_fingerprint(const HartTileReader *reader);

/* how many tiles to ask for at once: all when they are pinned anyway, else a fair share of the buffers */
extern int64 hart_tiles_at_once(const HartTileReader *reader);

/*
 * Pointers to the payloads of n tiles from ordinal first on, valid until hart_tiles_unpin or the next
 * hart_tiles_pin; all must run under the resource owner of hart_tiles_open.
 */
extern const char *const *hart_tiles_pin(HartTileReader *reader, int64 first, int64 n);
extern void hart_tiles_unpin(HartTileReader *reader);

#endif							/* HART_TILE_READER_H */
