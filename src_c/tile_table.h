/*
 * tile_table.h
 *	  The table that holds a model's tiles, hart.tiles_<model_id>.
 */
#ifndef HART_TILE_TABLE_H
#define HART_TILE_TABLE_H

#include "hartonomous.h"

#include "utils/rel.h"

/* columns of a tile table */
#define HART_TILES_MODEL_ID 1
#define HART_TILES_TENSOR_ID 2
#define HART_TILES_TILE_NO 3
#define HART_TILES_PAYLOAD 4

/* the table of a model; InvalidOid when there is none */
extern Oid	hart_tile_table(int32 model_id);

/* error unless the table is a heap with the columns of hart.tiles in their order: its tuples are read and written without the executor */
extern void hart_check_tile_table(Relation rel);

/* error unless the user may read every row of the table, whose pages we read without the executor */
extern void hart_check_tile_access(Oid relid);

#endif							/* HART_TILE_TABLE_H */
