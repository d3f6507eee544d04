/*
 * tile_patch.h
 *	  Changes to the weights of one tile, as hart.patch_tile takes them.
 */
#ifndef HART_TILE_PATCH_H
#define HART_TILE_PATCH_H

#include "hartonomous.h"

/* One weight: where, what it was, what it becomes; both widened to float32 */
typedef struct HartPatch
{
	uint32		index;			/* in the tile */
	uint32		old_bits;
	uint32		new_bits;
} HartPatch;

#endif							/* HART_TILE_PATCH_H */
