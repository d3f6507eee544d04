/*
 * kv_cache.h
 *	  Keys and values of the positions that attention has seen.
 *
 * Kept in blocks of HART_KV_BLOCK positions, so that growing copies nothing.
 */
#ifndef HART_KV_CACHE_H
#define HART_KV_CACHE_H

#include "hartonomous.h"

#define HART_KV_BLOCK 128

typedef struct HartKvCache HartKvCache;

/* an empty cache in the current memory context */
extern HartKvCache *hart_kv_create(int n_layers, int n_kv_heads, int head_dim);

/*
 * Enter keys and values of m positions from pos on, k and v: (m, n_kv_heads * head_dim). What the
 * layer held from pos on is forgotten. Error when pos leaves a gap.
 */
extern void hart_kv_append(HartKvCache *cache, int layer, int64 pos, int64 m, const float *k, const float *v);

/* keys or values of one head, of the positions HART_KV_BLOCK * block on: (HART_KV_BLOCK, head_dim) */
extern const float *hart_kv_keys(const HartKvCache *cache, int layer, int64 block, int kv_head);
extern const float *hart_kv_values(const HartKvCache *cache, int layer, int64 block, int kv_head);

#endif							/* HART_KV_CACHE_H */
