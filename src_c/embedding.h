/*
 * embedding.h
 *	  The token embedding of a model, read straight from its tiles.
 */
#ifndef HART_EMBEDDING_H
#define HART_EMBEDDING_H

#include "hartonomous.h"

#include "utils/array.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "kernels.h"
#include "tile_lookup.h"
#include "tile_reader.h"

typedef struct HartEmbedding
{
	int32		model_id;
	HartFormat	format;
	int64		rows;
	int64		cols;
	HartTileRange range;
	Relation	rel;
	Snapshot	snapshot;
	ResourceOwner owner;		/* of the pins; on error it goes with the one it is a child of */
	ResourceOwner outer;
	HartTileReader *tiles;		/* after hart_embedding_pin */
	HartTileLookup *lookup;		/* for single rows */
} HartEmbedding;

/* Rows whose tiles are pinned, for threads to read */
typedef struct HartEmbeddingRows
{
	const HartEmbedding *embedding;
	const char *const *payload; /* of the tiles from first_tile on */
	int64		first_tile;
} HartEmbeddingRows;

/* the embedding of a model under the active snapshot, after the checks of privileges that a context makes */
extern HartEmbedding *hart_embedding_open(int32 model_id);
extern void hart_embedding_close(HartEmbedding *e);

/* error unless it is a row's number */
extern void hart_embedding_check_row(const HartEmbedding *e, int64 row);

/* a row in float32, out of the tiles that it lies in and no others */
extern void hart_embedding_row(HartEmbedding *e, int64 row, float *out);

/* find the tiles of the whole tensor; returns how many rows hart_embedding_pin may be asked for at once */
extern int64 hart_embedding_open_tiles(HartEmbedding *e);
extern HartEmbeddingRows hart_embedding_pin(HartEmbedding *e, int64 first_row, int64 n_rows);
extern void hart_embedding_unpin(HartEmbedding *e);

/*
 * Up to n columns of a row of those pinned, from col on, in float32, as far as they lie in one tile; returns
 * how many. Threads may call this.
 */
static inline size_t
hart_embedding_widen_part(const HartEmbeddingRows *r, int64 row, int64 col, size_t n, float *out)
{
	const HartEmbedding *e = r->embedding;
	HartWeightPlace place = hart_place_of(e->format, row * e->cols + col);

	n = Min(n, hart_tile_weights(e->format) - place.index);
	hart_widen_tile(e->format, r->payload[place.tile - r->first_tile], place.index, out, n);
	return n;
}

/* n columns of a row of those pinned, from col on, in float32. Threads may call this. */
static inline void
hart_embedding_widen(const HartEmbeddingRows *r, int64 row, int64 col, size_t n, float *out)
{
	while (n > 0)
	{
		size_t		taken = hart_embedding_widen_part(r, row, col, n, out);

		col += taken;
		n -= taken;
		out += taken;
	}
}

#endif							/* HART_EMBEDDING_H */
