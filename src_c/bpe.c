/*
 * bpe.c
 *	  Byte-pair encoding: the bytes of a word are tokens, and of all pairs of neighbours that a merge is known for, the one with the
 *	  lowest rank becomes one token, the leftmost first, until there is none (Sennrich et al., 2016).
 *
 * Pairs that may be merged wait in a heap, so that a word of n bytes takes n log n steps. A merge is a row of hart.merge_pairs; the
 * session remembers those it has looked up, also that a pair has none, and whole words.
 */
#include "tokenizer.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "key_lookup.h"

/* what a session remembers of a model, before it begins anew: some 4 MB of merges, 4 MB of words */
#define MAX_MERGES 65536
#define MAX_WORDS 32768
#define MAX_REMEMBERED 64		/* bytes of such a word */

typedef struct MergeEntry
{
	uint64		pair;			/* left << 32 | right */
	HartMerge	merge;
	char		status;
} MergeEntry;

static inline uint32
hash_pair(uint64 pair)
{
	pair ^= pair >> 33;
	pair *= UINT64CONST(0xFF51AFD7ED558CCD);
	return (uint32) (pair >> 32);
}

#define SH_PREFIX merges
#define SH_ELEMENT_TYPE MergeEntry
#define SH_KEY_TYPE uint64
#define SH_KEY pair
#define SH_HASH_KEY(tb, key) hash_pair(key)
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct Word
{
	const char *bytes;
	uint32		length;
} Word;

typedef struct WordEntry
{
	Word		word;
	uint32		hash;
	int32		n_ids;
	int32	   *ids;
	char		status;
} WordEntry;

static inline uint32
hash_word(Word word)
{
	return hash_bytes((const unsigned char *) word.bytes, (int) word.length);
}

#define SH_PREFIX words
#define SH_ELEMENT_TYPE WordEntry
#define SH_KEY_TYPE Word
#define SH_KEY word
#define SH_HASH_KEY(tb, key) hash_word(key)
#define SH_EQUAL(tb, a, b) ((a).length == (b).length && memcmp((a).bytes, (b).bytes, (a).length) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct HartMergeMemory
{
	merges_hash *table;
};

struct HartWordMemory
{
	words_hash *table;
	MemoryContext content;		/* bytes and tokens of the words */
};

/* A token in a word, the pair that it begins, and its neighbours */
typedef struct Symbol
{
	int32		token;			/* HART_NO_TOKEN once it is part of the one before */
	int32		merged;			/* what it and the next make, HART_NO_TOKEN when nothing */
	int32		previous;
	int32		next;
} Symbol;

/* A merge that waits: lowest first */
typedef struct Candidate
{
	uint64		order;			/* rank << 32 | place in the word */
	int32		merged;
} Candidate;

struct HartBpe
{
	HartTokenizer *tokenizer;
	HartKeyLookup *lookup;		/* once it is needed */
	AttrNumber	merged_column;
	AttrNumber	rank_column;
	Symbol	   *symbols;
	Candidate  *heap;
	int64		room;			/* symbols; there are at most three candidates for each */
	int64		n_heap;
	HartIds		made;			/* of the word at hand */
};

void
hart_ids_append(HartIds *out, const int32 *ids, int64 n)
{
	if (out->n + n > out->max)
	{
		out->max = Max(Max(out->max * 2, out->n + n), 64);
		out->ids = out->ids ? repalloc_huge(out->ids, out->max * sizeof(int32))
			: MemoryContextAllocHuge(CurrentMemoryContext, out->max * sizeof(int32));
	}
	memcpy(out->ids + out->n, ids, n * sizeof(int32));
	out->n += n;
}

void
hart_bpe_init(HartTokenizer *tokenizer)
{
	HartMergeMemory *merge_memory = MemoryContextAlloc(tokenizer->memory, sizeof(HartMergeMemory));
	HartWordMemory *word_memory = MemoryContextAlloc(tokenizer->memory, sizeof(HartWordMemory));

	merge_memory->table = merges_create(tokenizer->memory, 256, NULL);
	word_memory->table = words_create(tokenizer->memory, 256, NULL);
	word_memory->content = AllocSetContextCreate(tokenizer->memory, "hart words", ALLOCSET_DEFAULT_SIZES);
	tokenizer->merge_memory = merge_memory;
	tokenizer->word_memory = word_memory;
}

HartBpe *
hart_bpe_begin(HartTokenizer *tokenizer)
{
	HartBpe    *bpe = palloc0(sizeof(HartBpe));

	bpe->tokenizer = tokenizer;
	return bpe;
}

void
hart_bpe_end(HartBpe *bpe)
{
	if (bpe->lookup)
		hart_key_lookup_close(bpe->lookup);
}

/* The merge of a pair, from its row */
static HartMerge
stored_merge(HartBpe *bpe, int32 left, int32 right)
{
	Datum		key[] = {Int32GetDatum(bpe->tokenizer->model_id), Int32GetDatum(left), Int32GetDatum(right)};
	HartMerge	merge = {HART_NO_TOKEN, 0};
	TupleTableSlot *slot;

	if (bpe->lookup == NULL)
	{
		bpe->lookup = hart_key_lookup_open("merge_pairs", lengthof(key));
		bpe->merged_column = hart_key_lookup_column(bpe->lookup, "merged_id", INT4OID);
		bpe->rank_column = hart_key_lookup_column(bpe->lookup, "rank", INT4OID);
	}
	slot = hart_key_lookup_find(bpe->lookup, key);
	if (slot)
	{
		bool		isnull;

		merge.merged = DatumGetInt32(slot_getattr(slot, bpe->merged_column, &isnull));
		merge.rank = DatumGetInt32(slot_getattr(slot, bpe->rank_column, &isnull));
		ExecClearTuple(slot);
	}
	return merge;
}

static HartMerge
find_merge(HartBpe *bpe, int32 left, int32 right)
{
	HartMergeMemory *memory = bpe->tokenizer->merge_memory;
	uint64		pair = (uint64) left << 32 | (uint32) right;
	MergeEntry *entry = merges_lookup(memory->table, pair);

	if (entry == NULL)
	{
		HartMerge	merge = stored_merge(bpe, left, right);
		bool		found;

		if (memory->table->members >= MAX_MERGES)
			merges_reset(memory->table);
		entry = merges_insert(memory->table, pair, &found);
		entry->merge = merge;
	}
	return entry->merge;
}

static void
sift_up(Candidate *heap, int64 at, Candidate candidate)
{
	while (at > 0 && candidate.order < heap[(at - 1) / 2].order)
	{
		heap[at] = heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap[at] = candidate;
}

static Candidate
pop(HartBpe *bpe)
{
	Candidate  *heap = bpe->heap;
	Candidate	first = heap[0];
	Candidate	last = heap[--bpe->n_heap];
	int64		at = 0;

	for (int64 child = 1; child < bpe->n_heap; child = 2 * at + 1)
	{
		if (child + 1 < bpe->n_heap && heap[child + 1].order < heap[child].order)
			child++;
		if (last.order <= heap[child].order)
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = last;
	return first;
}

/* Look at the pair that a symbol begins, and let its merge wait, if there is one */
static void
consider(HartBpe *bpe, int32 place)
{
	Symbol	   *symbol = &bpe->symbols[place];

	symbol->merged = HART_NO_TOKEN;
	if (symbol->next >= 0)
	{
		HartMerge	merge = find_merge(bpe, symbol->token, bpe->symbols[symbol->next].token);

		symbol->merged = merge.merged;
		if (merge.merged != HART_NO_TOKEN)
			sift_up(bpe->heap, bpe->n_heap++, (Candidate) {(uint64) merge.rank << 32 | (uint32) place, merge.merged});
	}
}

/* A merge makes one symbol less and at most two candidates more, so there are never three times as many as there were symbols */
static void
make_room(HartBpe *bpe, int64 n)
{
	if (n <= bpe->room)
		return;
	if (bpe->room > 0)
	{
		pfree(bpe->symbols);
		pfree(bpe->heap);
	}
	bpe->room = Max(n, 2 * bpe->room);
	bpe->symbols = MemoryContextAllocHuge(CurrentMemoryContext, bpe->room * sizeof(Symbol));
	bpe->heap = MemoryContextAllocHuge(CurrentMemoryContext, 3 * bpe->room * sizeof(Candidate));
}

/* Merge what the bytes of a word make, into bpe->made */
static void
merge_bytes(HartBpe *bpe, const char *word, int32 length)
{
	Symbol	   *symbols;

	make_room(bpe, length);
	symbols = bpe->symbols;
	for (int32 i = 0; i < length; i++)
		symbols[i] = (Symbol) {bpe->tokenizer->bytes[(uint8) word[i]], HART_NO_TOKEN, i - 1, i + 1 < length ? i + 1 : -1};
	bpe->n_heap = 0;
	for (int32 i = 0; i < length; i++)
	{
		CHECK_FOR_INTERRUPTS();
		consider(bpe, i);
	}
	while (bpe->n_heap > 0)
	{
		Candidate	candidate = pop(bpe);
		int32		place = (int32) (uint32) candidate.order;
		Symbol	   *symbol = &symbols[place];
		Symbol	   *right;

		CHECK_FOR_INTERRUPTS();
		/* a neighbour has changed since */
		if (symbol->token == HART_NO_TOKEN || symbol->merged != candidate.merged)
			continue;
		right = &symbols[symbol->next];
		symbol->token = candidate.merged;
		symbol->next = right->next;
		if (right->next >= 0)
			symbols[right->next].previous = place;
		right->token = right->merged = HART_NO_TOKEN;
		consider(bpe, place);
		if (symbol->previous >= 0)
			consider(bpe, symbol->previous);
	}
	bpe->made.n = 0;
	for (int32 i = 0; i >= 0; i = symbols[i].next)
		hart_ids_append(&bpe->made, &symbols[i].token, 1);
}

/* Remember the tokens of a word */
static void
remember(HartWordMemory *memory, Word word, uint32 hash, const HartIds *made)
{
	bool		found;
	WordEntry  *entry;
	char	   *bytes;
	int32	   *ids;

	if (memory->table->members >= MAX_WORDS)
	{
		words_reset(memory->table);
		MemoryContextReset(memory->content);
	}
	/* an error before the entry is there leaves no entry */
	ids = MemoryContextAlloc(memory->content, made->n * sizeof(int32) + word.length);
	bytes = (char *) (ids + made->n);
	memcpy(ids, made->ids, made->n * sizeof(int32));
	memcpy(bytes, word.bytes, word.length);
	word.bytes = bytes;
	entry = words_insert_hash(memory->table, word, hash, &found);
	entry->n_ids = (int32) made->n;
	entry->ids = ids;
}

void
hart_bpe_word(HartBpe *bpe, const char *bytes, size_t length, HartIds *out)
{
	HartWordMemory *memory = bpe->tokenizer->word_memory;
	Word		word = {bytes, (uint32) length};
	uint32		hash = 0;
	int32		whole = HART_NO_TOKEN;

	Assert(length > 0 && length <= HART_MAX_WORD);
	if (length <= MAX_REMEMBERED)
	{
		WordEntry  *entry;

		hash = hash_word(word);
		entry = words_lookup_hash(memory->table, word, hash);
		if (entry)
		{
			hart_ids_append(out, entry->ids, entry->n_ids);
			return;
		}
	}
	if (bpe->tokenizer->words)
		whole = hart_byte_trie_find(bpe->tokenizer->words, bytes, length);
	if (whole != HART_NO_TOKEN)
	{
		bpe->made.n = 0;
		hart_ids_append(&bpe->made, &whole, 1);
	}
	else
		merge_bytes(bpe, bytes, (int32) length);
	if (length <= MAX_REMEMBERED)
		remember(memory, word, hash, &bpe->made);
	hart_ids_append(out, bpe->made.ids, bpe->made.n);
}
