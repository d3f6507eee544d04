/*
 * tile_convert.h
 *	  A tensor's encoding, for those who change its weights.
 */
#ifndef HART_TILE_CONVERT_H
#define HART_TILE_CONVERT_H

#include "tile_format.h"

/*
 * How a tensor is stored now, which stays so until the transaction ends unless it makes the tensor plain itself. For those who
 * may change its tiles. Waits for another transaction that is changing the encoding.
 */
extern HartFormat hart_lock_encoding(int32 model_id, int32 tensor_id);

/* Store a tensor plain from now on, in this transaction; the weights stay what they are */
extern void hart_make_plain(int32 model_id, int32 tensor_id);

#endif							/* HART_TILE_CONVERT_H */
