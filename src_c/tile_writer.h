/*
 * tile_writer.h
 *	  Appending tiles to the table of a model that comes in.
 */
#ifndef HART_TILE_WRITER_H
#define HART_TILE_WRITER_H

#include "hartonomous.h"

#include "utils/rel.h"

/* most tiles that are appended at a time */
#define HART_APPEND_BATCH 64

/* distance of payloads, bytea of at most HART_TILE_BYTES, that are to be appended together */
#define HART_PAYLOAD_SPACE MAXALIGN(VARHDRSZ + HART_TILE_BYTES)

/* open and lock the table of a model that this session is bringing in, which the caller has checked; error unless it is the model's, of the caller's, and in no use yet */
extern Relation hart_open_incoming(Oid relid, int32 model_id);

/* append n <= HART_APPEND_BATCH tiles of a tensor, the first with number first_tile */
extern void hart_append_tiles(Relation rel, int32 model_id, int32 tensor_id, int32 first_tile, char *payloads, int n);

#endif							/* HART_TILE_WRITER_H */
