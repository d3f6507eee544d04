/*
 * kv_cache.c
 *	  Keys and values of the positions that attention has seen, of several sequences.
 *
 * Blocks outlive the cache that made them when somebody else holds them, so they have a memory context of the session's own,
 * and every holder lets go of its blocks by a callback of the memory context that it lives in: at the end of a run, of a
 * (sub)transaction, on error and cancel alike.
 */
#include "kv_cache.h"

#include "utils/memutils.h"

/*
 * Keys and values of one layer: keys (n_kv_heads, head_dim, HART_KV_BLOCK), then values (n_kv_heads, HART_KV_BLOCK,
 * head_dim): each as the product that attention makes of it reads it, from front to back
 */
typedef struct
{
	int64		holders;		/* sequences and prefixes */
	int64		keepers;		/* prefixes among them */
	float		data[FLEXIBLE_ARRAY_MEMBER];
} Block;

struct HartKvSequence
{
	int32		number;
	int64	   *n_positions;	/* (n_layers) held now */
	int64		max_blocks;		/* room */
	Block	  **blocks;			/* (max_blocks, n_layers), NULL beyond the positions held */
	uint64		append;			/* the last call of hart_kv_append that named it */
	int64		next;			/* the position that must follow in that call */
};

/* The beginning of a sequence that is kept */
struct HartKvPrefix
{
	int			n_layers;
	int64		n_blocks;
	size_t		block_size;
	Block	  **blocks;			/* (n_blocks, n_layers) */
	MemoryContextCallback at_end;
};

struct HartKvCache
{
	MemoryContext memory;
	int			n_layers;
	int			n_kv_heads;
	int			head_dim;
	int			n_sequences;
	int			max_sequences;
	HartKvSequence **sequences; /* in the order of their numbers */
	uint64		n_appends;
	MemoryContextCallback at_end;
};

static int64 kept_bytes = 0;
static int64 held_bytes = 0;

/* Bytes of the numbers in a block */
static size_t
block_size(const HartKvCache *cache)
{
	return sizeof(float) * 2 * cache->n_kv_heads * HART_KV_BLOCK * cache->head_dim;
}

static int64
count_blocks(int64 n_positions)
{
	return (n_positions + HART_KV_BLOCK - 1) / HART_KV_BLOCK;
}

static Block *
new_block(const HartKvCache *cache)
{
	static MemoryContext memory = NULL;
	Block	   *block;

	if (memory == NULL)
		memory = AllocSetContextCreate(TopMemoryContext, "hart keys and values", ALLOCSET_DEFAULT_SIZES);
	block = MemoryContextAllocHuge(memory, offsetof(Block, data) + block_size(cache));
	held_bytes += block_size(cache);
	block->holders = 1;
	block->keepers = 0;
	return block;
}

static void
release_block(Block **block, size_t size)
{
	if (*block != NULL && --(*block)->holders == 0)
	{
		held_bytes -= size;
		pfree(*block);
	}
	*block = NULL;
}

/* Let go of the blocks of a layer that hold nothing but positions from n on */
static void
truncate_layer(const HartKvCache *cache, HartKvSequence *sequence, int layer, int64 n)
{
	for (int64 i = count_blocks(n); i < sequence->max_blocks; i++)
		release_block(&sequence->blocks[i * cache->n_layers + layer], block_size(cache));
	sequence->n_positions[layer] = Min(n, sequence->n_positions[layer]);
}

static void
release_sequence(const HartKvCache *cache, HartKvSequence *sequence)
{
	for (int layer = 0; layer < cache->n_layers; layer++)
		truncate_layer(cache, sequence, layer, 0);
}

static void
release_cache(void *arg)
{
	HartKvCache *cache = arg;

	for (int i = 0; i < cache->n_sequences; i++)
		release_sequence(cache, cache->sequences[i]);
}

HartKvCache *
hart_kv_create(int n_layers, int n_kv_heads, int head_dim)
{
	HartKvCache *cache = palloc0(sizeof(HartKvCache));

	cache->memory = CurrentMemoryContext;
	cache->n_layers = n_layers;
	cache->n_kv_heads = n_kv_heads;
	cache->head_dim = head_dim;
	cache->max_sequences = 8;
	cache->sequences = palloc(sizeof(HartKvSequence *) * cache->max_sequences);
	cache->at_end.func = release_cache;
	cache->at_end.arg = cache;
	MemoryContextRegisterResetCallback(cache->memory, &cache->at_end);
	return cache;
}

static void
check_number(int32 number)
{
	if (number < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sequence %d is out of range", number),
				 errhint("Sequences of a context are numbered from 0 on.")));
}

/* Where a sequence is in the list, or would be */
static int
find_place(const HartKvCache *cache, int32 number)
{
	int			low = 0;
	int			high = cache->n_sequences;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (cache->sequences[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A sequence by its number, NULL when there is none */
static HartKvSequence *
find_sequence(const HartKvCache *cache, int32 number)
{
	int			place = find_place(cache, number);

	return place < cache->n_sequences && cache->sequences[place]->number == number ? cache->sequences[place] : NULL;
}

/* The same, made when there is none */
static HartKvSequence *
need_sequence(HartKvCache *cache, int32 number)
{
	HartKvSequence *sequence = find_sequence(cache, number);
	MemoryContext old;
	int			place;

	if (sequence != NULL)
		return sequence;
	old = MemoryContextSwitchTo(cache->memory);
	if (cache->n_sequences == cache->max_sequences)
	{
		cache->sequences = repalloc_huge(cache->sequences, sizeof(HartKvSequence *) * cache->max_sequences * 2);
		cache->max_sequences *= 2;
	}
	sequence = palloc0(sizeof(HartKvSequence));
	sequence->number = number;
	sequence->n_positions = palloc0(sizeof(int64) * Max(cache->n_layers, 1));
	MemoryContextSwitchTo(old);
	place = find_place(cache, number);
	memmove(&cache->sequences[place + 1], &cache->sequences[place],
			sizeof(HartKvSequence *) * (cache->n_sequences - place));
	cache->sequences[place] = sequence;
	cache->n_sequences++;
	return sequence;
}

/* Ensure room for pointers to the blocks of n positions */
static void
make_room(HartKvCache *cache, HartKvSequence *sequence, int64 n)
{
	int64		wanted = count_blocks(n);
	size_t		old_size = sizeof(Block *) * sequence->max_blocks * cache->n_layers;
	size_t		new_size;

	if (wanted <= sequence->max_blocks)
		return;
	wanted = Max(wanted, Max(8, sequence->max_blocks * 2));
	new_size = sizeof(Block *) * wanted * cache->n_layers;
	sequence->blocks = sequence->blocks ? repalloc_huge(sequence->blocks, new_size)
		: MemoryContextAllocHuge(cache->memory, new_size);
	memset((char *) sequence->blocks + old_size, 0, new_size - old_size);
	sequence->max_blocks = wanted;
}

/* Where a head's rows begin in a block; half 0 = keys, 1 = values */
static float *
head_rows(const HartKvCache *cache, Block *block, int half, int kv_head)
{
	return block->data + ((size_t) half * cache->n_kv_heads + kv_head) * HART_KV_BLOCK * cache->head_dim;
}

/* The first n positions of a block */
static void
copy_positions(const HartKvCache *cache, Block *from, Block *to, int64 n)
{
	for (int head = 0; head < cache->n_kv_heads; head++)
	{
		for (int d = 0; d < cache->head_dim; d++)
			memcpy(head_rows(cache, to, 0, head) + d * HART_KV_BLOCK, head_rows(cache, from, 0, head) + d * HART_KV_BLOCK,
				   sizeof(float) * n);
		memcpy(head_rows(cache, to, 1, head), head_rows(cache, from, 1, head), sizeof(float) * n * cache->head_dim);
	}
}

/* The block that a position will be written to: there, and held by this sequence alone */
static Block *
own_block(HartKvCache *cache, HartKvSequence *sequence, int layer, int64 position)
{
	Block	  **place = &sequence->blocks[position / HART_KV_BLOCK * cache->n_layers + layer];
	Block	   *block;

	if (*place != NULL && (*place)->holders == 1)
		return *place;
	block = new_block(cache);
	if (*place != NULL)
		copy_positions(cache, *place, block, position % HART_KV_BLOCK);
	release_block(place, block_size(cache));
	*place = block;
	return block;
}

/* The sequence of each row; error unless the positions of each follow one another */
static HartKvSequence **
check_rows(HartKvCache *cache, int layer, int64 m, const int32 *sequences, const int32 *positions)
{
	HartKvSequence **rows = palloc(sizeof(HartKvSequence *) * Max(m, 1));

	cache->n_appends++;
	for (int64 i = 0; i < m; i++)
	{
		HartKvSequence *sequence;
		bool		first;

		check_number(sequences[i]);
		sequence = i > 0 && sequences[i] == sequences[i - 1] ? rows[i - 1] : need_sequence(cache, sequences[i]);
		first = sequence->append != cache->n_appends;
		if (first)
			sequence->next = sequence->n_positions[layer];
		if (positions[i] < 0 || (first ? positions[i] > sequence->next : positions[i] != sequence->next))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("position %d does not follow the " INT64_FORMAT " positions of sequence %d seen by layer %d",
							positions[i], sequence->next, sequences[i], layer),
					 errhint("Run the positions of a sequence in order, from 0 on.")));
		sequence->append = cache->n_appends;
		sequence->next = (int64) positions[i] + 1;
		rows[i] = sequence;
	}
	return rows;
}

HartKvSequence **
hart_kv_append(HartKvCache *cache, int layer, int64 m, const int32 *sequences, const int32 *positions,
			   const float *k, const float *v)
{
	HartKvSequence **rows = check_rows(cache, layer, m, sequences, positions);
	size_t		width = (size_t) cache->n_kv_heads * cache->head_dim;

	for (int64 i = 0; i < m; i++)
	{
		HartKvSequence *sequence = rows[i];
		int64		position = positions[i];
		Block	   *block;

		if (position < sequence->n_positions[layer])
			truncate_layer(cache, sequence, layer, position);
		make_room(cache, sequence, position + 1);
		block = own_block(cache, sequence, layer, position);
		for (int head = 0; head < cache->n_kv_heads; head++)
		{
			size_t		from = i * width + (size_t) head * cache->head_dim;
			size_t		at = position % HART_KV_BLOCK;
			float	   *keys = head_rows(cache, block, 0, head) + at;

			for (int d = 0; d < cache->head_dim; d++)
				keys[d * HART_KV_BLOCK] = k[from + d];
			memcpy(head_rows(cache, block, 1, head) + at * cache->head_dim, v + from, sizeof(float) * cache->head_dim);
		}
		sequence->n_positions[layer] = position + 1;
	}
	return rows;
}

void
hart_kv_check(const HartKvCache *cache, int32 number, int64 n_positions)
{
	const HartKvSequence *sequence = find_sequence(cache, number);
	int64		held = sequence == NULL ? 0 : PG_INT64_MAX;

	if (sequence != NULL)
		for (int layer = 0; layer < cache->n_layers; layer++)
			held = Min(held, sequence->n_positions[layer]);
	if (n_positions < 0 || n_positions > held)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sequence %d has " INT64_FORMAT " positions, not " INT64_FORMAT, number, held, n_positions),
				 errhint("Run the tokens of a sequence before its beginning is used for another.")));
}

void
hart_kv_drop(HartKvCache *cache, int32 number)
{
	HartKvSequence *sequence;
	int			place;

	check_number(number);
	sequence = find_sequence(cache, number);
	if (sequence == NULL)
		return;
	place = find_place(cache, number);
	release_sequence(cache, sequence);
	cache->n_sequences--;
	memmove(&cache->sequences[place], &cache->sequences[place + 1],
			sizeof(HartKvSequence *) * (cache->n_sequences - place));
	if (sequence->blocks)
		pfree(sequence->blocks);
	pfree(sequence->n_positions);
	pfree(sequence);
}

/* Make a sequence the first n positions of the blocks given, (n blocks, n_layers), which are not its own */
static void
share_blocks(HartKvCache *cache, int32 number, Block *const *blocks, int64 n_positions)
{
	HartKvSequence *sequence = need_sequence(cache, number);

	make_room(cache, sequence, n_positions);
	release_sequence(cache, sequence);
	for (int64 i = 0; i < count_blocks(n_positions) * cache->n_layers; i++)
	{
		blocks[i]->holders++;
		sequence->blocks[i] = blocks[i];
	}
	for (int layer = 0; layer < cache->n_layers; layer++)
		sequence->n_positions[layer] = n_positions;
}

void
hart_kv_fork(HartKvCache *cache, int32 from_number, int32 to_number, int64 n_positions)
{
	HartKvSequence *from;

	check_number(from_number);
	check_number(to_number);
	hart_kv_check(cache, from_number, n_positions);
	from = find_sequence(cache, from_number);
	if (n_positions == 0)
		hart_kv_drop(cache, to_number);
	else if (from_number != to_number)
		share_blocks(cache, to_number, from->blocks, n_positions);
	else
		for (int layer = 0; layer < cache->n_layers; layer++)
			truncate_layer(cache, from, layer, n_positions);
}

static void
release_prefix(void *arg)
{
	HartKvPrefix *prefix = arg;

	for (int64 i = 0; i < prefix->n_blocks * prefix->n_layers; i++)
	{
		if (--prefix->blocks[i]->keepers == 0)
			kept_bytes -= prefix->block_size;
		release_block(&prefix->blocks[i], prefix->block_size);
	}
}

HartKvPrefix *
hart_kv_keep(const HartKvCache *cache, int32 number, int64 n_positions)
{
	HartKvSequence *sequence = find_sequence(cache, number);
	HartKvPrefix *prefix = palloc0(sizeof(HartKvPrefix));
	size_t		n_pointers = count_blocks(n_positions) * cache->n_layers;

	hart_kv_check(cache, number, n_positions);
	prefix->blocks = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Block *) * Max(n_pointers, 1));
	prefix->n_layers = cache->n_layers;
	prefix->n_blocks = count_blocks(n_positions);
	prefix->block_size = block_size(cache);
	for (size_t i = 0; i < n_pointers; i++)
	{
		Block	   *block = sequence->blocks[i];

		block->holders++;
		if (block->keepers++ == 0)
			kept_bytes += prefix->block_size;
		prefix->blocks[i] = block;
	}
	prefix->at_end.func = release_prefix;
	prefix->at_end.arg = prefix;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &prefix->at_end);
	return prefix;
}

void
hart_kv_restore(HartKvCache *cache, int32 number, const HartKvPrefix *prefix, int64 n_positions)
{
	Assert(prefix->n_layers == cache->n_layers && prefix->block_size == block_size(cache));
	Assert(count_blocks(n_positions) <= prefix->n_blocks);
	share_blocks(cache, number, prefix->blocks, n_positions);
}

int64
hart_kv_kept_bytes(void)
{
	return kept_bytes;
}

int64
hart_kv_held_bytes(void)
{
	return held_bytes;
}

int64
hart_kv_needed_bytes(const HartKvCache *cache, int layer, int64 m, const int32 *sequences, const int32 *positions)
{
	int64		n_blocks = 0;

	for (int64 i = 0; i < m; i++)
	{
		int64		number = positions[i] / HART_KV_BLOCK;
		const HartKvSequence *sequence;

		if (i > 0 && sequences[i] == sequences[i - 1] && positions[i - 1] / HART_KV_BLOCK == number)
			continue;
		sequence = find_sequence(cache, sequences[i]);
		if (sequence == NULL || number >= sequence->max_blocks ||
			sequence->blocks[number * cache->n_layers + layer] == NULL ||
			sequence->blocks[number * cache->n_layers + layer]->holders > 1)
			n_blocks++;
	}
	/* the layers that follow will need the same */
	return n_blocks * (cache->n_layers - layer) * (int64) block_size(cache);
}

int64
hart_kv_block_bytes(const HartKvCache *cache)
{
	return (int64) block_size(cache) * cache->n_layers;
}

const float *
hart_kv_keys(const HartKvCache *cache, const HartKvSequence *sequence, int layer, int64 block, int kv_head)
{
	return head_rows(cache, sequence->blocks[block * cache->n_layers + layer], 0, kv_head);
}

const float *
hart_kv_values(const HartKvCache *cache, const HartKvSequence *sequence, int layer, int64 block, int kv_head)
{
	return head_rows(cache, sequence->blocks[block * cache->n_layers + layer], 1, kv_head);
}
