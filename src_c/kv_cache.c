/*
 * kv_cache.c
 *	  Keys and values of the positions that attention has seen.
 */
#include "kv_cache.h"

#include "utils/memutils.h"

typedef struct
{
	int64		n_positions;	/* held now */
	int64		n_blocks;		/* allocated */
	int64		max_blocks;		/* room for pointers */
	float	  **blocks;			/* each (2, n_kv_heads, HART_KV_BLOCK, head_dim): keys, then values */
} LayerCache;

struct HartKvCache
{
	MemoryContext memory;
	int			n_kv_heads;
	int			head_dim;
	LayerCache *layers;
};

HartKvCache *
hart_kv_create(int n_layers, int n_kv_heads, int head_dim)
{
	HartKvCache *cache = palloc(sizeof(HartKvCache));

	cache->memory = CurrentMemoryContext;
	cache->n_kv_heads = n_kv_heads;
	cache->head_dim = head_dim;
	cache->layers = palloc0(sizeof(LayerCache) * Max(n_layers, 1));
	return cache;
}

/* Ensure blocks for n positions */
static void
grow(HartKvCache *cache, LayerCache *layer, int64 n_positions)
{
	size_t		block_size = sizeof(float) * 2 * cache->n_kv_heads * HART_KV_BLOCK * cache->head_dim;

	while (layer->n_blocks * HART_KV_BLOCK < n_positions)
	{
		if (layer->n_blocks == layer->max_blocks)
		{
			int64		room = Max(8, layer->max_blocks * 2);

			layer->blocks = layer->blocks
				? repalloc(layer->blocks, sizeof(float *) * room)
				: MemoryContextAlloc(cache->memory, sizeof(float *) * room);
			layer->max_blocks = room;
		}
		layer->blocks[layer->n_blocks] = MemoryContextAllocHuge(cache->memory, block_size);
		layer->n_blocks++;
	}
}

/* Where a head's row of a position lies; half 0 = keys, 1 = values */
static float *
slot(const HartKvCache *cache, const LayerCache *layer, int half, int kv_head, int64 position)
{
	return layer->blocks[position / HART_KV_BLOCK] +
		(((size_t) half * cache->n_kv_heads + kv_head) * HART_KV_BLOCK + position % HART_KV_BLOCK) * cache->head_dim;
}

void
hart_kv_append(HartKvCache *cache, int layer_no, int64 pos, int64 m, const float *k, const float *v)
{
	LayerCache *layer = &cache->layers[layer_no];
	size_t		row = (size_t) cache->n_kv_heads * cache->head_dim;

	if (pos < 0 || pos > layer->n_positions)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position " INT64_FORMAT " does not follow the " INT64_FORMAT " positions seen by layer %d",
						pos, layer->n_positions, layer_no),
				 errhint("Run the positions of a context in order, from 0 on.")));
	grow(cache, layer, pos + m);
	for (int64 i = 0; i < m; i++)
		for (int head = 0; head < cache->n_kv_heads; head++)
		{
			memcpy(slot(cache, layer, 0, head, pos + i), k + i * row + (size_t) head * cache->head_dim,
				   sizeof(float) * cache->head_dim);
			memcpy(slot(cache, layer, 1, head, pos + i), v + i * row + (size_t) head * cache->head_dim,
				   sizeof(float) * cache->head_dim);
		}
	layer->n_positions = pos + m;
}

const float *
hart_kv_keys(const HartKvCache *cache, int layer, int64 block, int kv_head)
{
	return slot(cache, &cache->layers[layer], 0, kv_head, block * HART_KV_BLOCK);
}

const float *
hart_kv_values(const HartKvCache *cache, int layer, int64 block, int kv_head)
{
	return slot(cache, &cache->layers[layer], 1, kv_head, block * HART_KV_BLOCK);
}
