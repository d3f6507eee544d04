/*
 * kv_cache.h
 *	  Keys and values of the positions that attention has seen, of several sequences.
 *
 * A sequence is a text that runs through the model, known by a number. Its keys and values
 * lie in blocks of HART_KV_BLOCK positions, so that growing copies nothing. Blocks are
 * counted by who holds them: sequences that begin alike share them, and a block that others
 * hold too is copied before it is written to. A sequence of no positions is the same as none.
 */
#ifndef HART_KV_CACHE_H
#define HART_KV_CACHE_H

#include "hartonomous.h"

#define HART_KV_BLOCK 128

typedef struct HartKvCache HartKvCache;
typedef struct HartKvSequence HartKvSequence;
typedef struct HartKvPrefix HartKvPrefix;

/* an empty cache in the current memory context, which lets go of its blocks when it is deleted */
extern HartKvCache *hart_kv_create(int n_layers, int n_kv_heads, int head_dim);

/*
 * Enter keys and values of m rows, k and v: (m, n_kv_heads * head_dim); row i is position positions[i] of
 * sequence sequences[i]. What the layer held of a sequence from its first such position on is forgotten.
 * Returns the sequence of each row, valid until the next change of the cache. Error, and nothing is entered, when a
 * number is negative or a position does not follow the one before it.
 */
extern HartKvSequence **hart_kv_append(HartKvCache *cache, int layer, int64 m, const int32 *sequences,
									   const int32 *positions, const float *k, const float *v);

/* make the sequence `to` the first n positions of `from`; error when not every layer has seen so many */
extern void hart_kv_fork(HartKvCache *cache, int32 from, int32 to, int64 n_positions);

/* ensure that every layer has seen the first n positions of a sequence */
extern void hart_kv_check(const HartKvCache *cache, int32 sequence, int64 n_positions);

/* let go of a sequence, if there is one */
extern void hart_kv_drop(HartKvCache *cache, int32 sequence);

/*
 * Keep the blocks of the first n positions of a sequence, beyond the life of its cache. The result belongs to the current memory
 * context, which lets go of the blocks when it is deleted. Error when not every layer has seen so many.
 */
extern HartKvPrefix *hart_kv_keep(const HartKvCache *cache, int32 sequence, int64 n_positions);

/* make a sequence the first n of the positions kept of a cache of the same shape */
extern void hart_kv_restore(HartKvCache *cache, int32 sequence, const HartKvPrefix *prefix, int64 n_positions);

/* bytes of the blocks that are kept, each counted once */
extern int64 hart_kv_kept_bytes(void);

/* bytes of all blocks that the session has, each counted once */
extern int64 hart_kv_held_bytes(void);

/* bytes of new blocks that it takes to run these rows through a layer and those that follow it */
extern int64 hart_kv_needed_bytes(const HartKvCache *cache, int layer, int64 m, const int32 *sequences, const int32 *positions);

/* bytes that a block takes in all layers of a cache */
extern int64 hart_kv_block_bytes(const HartKvCache *cache);

/*
 * Keys of one head, (head_dim, HART_KV_BLOCK), or values, (HART_KV_BLOCK, head_dim), of the positions from HART_KV_BLOCK * block
 * on. What lies beyond the positions of the sequence is not defined.
 */
extern const float *hart_kv_keys(const HartKvCache *cache, const HartKvSequence *sequence, int layer, int64 block, int kv_head);
extern const float *hart_kv_values(const HartKvCache *cache, const HartKvSequence *sequence, int layer, int64 block, int kv_head);

#endif							/* HART_KV_CACHE_H */
