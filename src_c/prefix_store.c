/*
 * prefix_store.c
 *	  Keys and values of prompts that a session has run, for later prompts that begin alike.
 *
 * A prompt lives in a memory context of its own, and holds blocks that sequences of running contexts may share (kv_cache.c).
 * It is made under the memory of the call that keeps it, and moves to the session's when it is whole: an error half-way leaves nothing.
 */
#include "context.h"

#include "common/hashfn.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "int_array.h"
#include "prefix_store.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(hart_keep_prefix);
PG_FUNCTION_INFO_V1(hart_restore_prefix);
PG_FUNCTION_INFO_V1(hart_prefix_cache_stats);

/* What keys and values depend on, beside the tokens */
typedef struct
{
	int32		model_id;
	Oid			user;			/* by whose functions they were computed */
	uint64		tiles;			/* fingerprint of the weights */
	uint64		spec;			/* and of what the catalog says of the model */
	int			arithmetic;
} PrefixKey;

typedef struct
{
	dlist_node	node;
	MemoryContext memory;
	PrefixKey	key;
	int			n;
	int32	   *tokens;			/* (n) */
	HartKvPrefix *prefix;		/* of n positions */
} Prompt;

static dlist_head prompts = DLIST_STATIC_INIT(prompts); /* used last first */
static MemoryContext store_memory = NULL;
static bool functions_changed = false;
static int64 n_hits = 0;
static int64 n_misses = 0;

static void
forget_prompt(Prompt *prompt)
{
	dlist_delete(&prompt->node);
	MemoryContextDelete(prompt->memory);
}

void
hart_prefix_trim(int megabytes)
{
	while (!dlist_is_empty(&prompts) && hart_kv_kept_bytes() > megabytes * INT64CONST(1048576))
		forget_prompt(dlist_tail_element(Prompt, node, &prompts));
}

bool
hart_prefix_forget_oldest(void)
{
	if (dlist_is_empty(&prompts))
		return false;
	forget_prompt(dlist_tail_element(Prompt, node, &prompts));
	return true;
}

static void
note_changed_functions(Datum arg, int cacheid, uint32 hashvalue)
{
	functions_changed = true;
}

/* The layers are SQL functions that their owner may replace: then what they computed before is no longer what they would compute */
static void
forget_what_changed(void)
{
	if (store_memory == NULL)
	{
		store_memory = AllocSetContextCreate(TopMemoryContext, "hart prefix store", ALLOCSET_SMALL_SIZES);
		CacheRegisterSyscacheCallback(PROCOID, note_changed_functions, (Datum) 0);
	}
	if (functions_changed)
		while (!dlist_is_empty(&prompts))
			forget_prompt(dlist_tail_element(Prompt, node, &prompts));
	functions_changed = false;
}

static uint64
hash_more(uint64 hash, const void *data, size_t size)
{
	return hash_bytes_extended(data, (int) size, hash);
}

static uint64
hash_spec(const HartContext *ctx)
{
	const HartConfig *config = &ctx->config;
	const int32 sizes[] = {config->dim, config->hidden_dim, config->n_layers, config->n_heads, config->n_kv_heads,
		config->head_dim, config->vocab_size, config->max_positions, config->tied_embeddings, ctx->n_tensors};
	uint64		hash = hash_more(0, sizes, sizeof(sizes));

	hash = hash_more(hash, &config->rms_norm_eps, sizeof(float));
	hash = hash_more(hash, config->rope_inv_freq, sizeof(float) * (config->head_dim / 2));
	for (int i = 0; i < ctx->n_tensors; i++)
	{
		const HartTensor *tensor = &ctx->tensors[i];
		const int64 shape[] = {tensor->format, tensor->rows, tensor->cols, tensor->tiles->tensor_id};

		hash = hash_more(hash, tensor->name, strlen(tensor->name));
		hash = hash_more(hash, shape, sizeof(shape));
	}
	return hash;
}

static PrefixKey
key_of(const HartContext *ctx)
{
	return (PrefixKey) {
		.model_id = ctx->config.model_id,
		.user = ctx->user,
		.tiles = hart_tiles_fingerprint(ctx->tiles),
		.spec = hash_spec(ctx),
		.arithmetic = ctx->arithmetic
	};
}

static bool
same_key(const PrefixKey *a, const PrefixKey *b)
{
	return a->model_id == b->model_id && a->user == b->user && a->tiles == b->tiles && a->spec == b->spec &&
		a->arithmetic == b->arithmetic;
}

/* How many tokens a prompt has in common with others from the beginning on */
static int
common_tokens(const Prompt *prompt, const int32 *tokens, int n)
{
	int			i = 0;

	while (i < n && i < prompt->n && prompt->tokens[i] == tokens[i])
		i++;
	return i;
}

/* A prompt of sequence 0, in the memory of the caller */
static Prompt *
make_prompt(const HartContext *ctx, const PrefixKey *key, const int32 *tokens, int n)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "hart prefix", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	Prompt	   *prompt = palloc(sizeof(Prompt));

	prompt->memory = memory;
	prompt->key = *key;
	prompt->n = n;
	prompt->tokens = palloc(sizeof(int32) * n);
	memcpy(prompt->tokens, tokens, sizeof(int32) * n);
	prompt->prefix = hart_kv_keep(ctx->cache, 0, n);
	MemoryContextSwitchTo(old);
	return prompt;
}

/* hart.keep_prefix(context, tokens int[]) → how many of them were kept */
Datum
hart_keep_prefix(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	int			n;
	const int32 *tokens = hart_int_array(PG_GETARG_ARRAYTYPE_P(1), "tokens", &n);
	int64		room = hart_prefix_cache * INT64CONST(1048576) / Max(hart_kv_block_bytes(ctx->cache), 1) * HART_KV_BLOCK;
	PrefixKey	key;
	Prompt	   *prompt;
	dlist_mutable_iter iter;

	hart_kv_check(ctx->cache, 0, n);
	forget_what_changed();
	n = (int) Min(n, room);
	/* what several arithmetics computed together is what none of them would compute */
	if (n == 0 || ctx->arithmetic != hart_arithmetic())
		PG_RETURN_INT32(0);
	key = key_of(ctx);
	prompt = make_prompt(ctx, &key, tokens, n);
	dlist_foreach_modify(iter, &prompts)
	{
		Prompt	   *other = dlist_container(Prompt, node, iter.cur);
		int			common = same_key(&other->key, &key) ? common_tokens(other, tokens, n) : 0;

		/* one that goes further holds all of this one, and the other way round */
		if (common == n)
		{
			dlist_move_head(&prompts, &other->node);
			MemoryContextDelete(prompt->memory);
			PG_RETURN_INT32(n);
		}
		if (common == other->n)
			forget_prompt(other);
	}
	MemoryContextSetParent(prompt->memory, store_memory);
	dlist_push_head(&prompts, &prompt->node);
	hart_prefix_trim(hart_prefix_cache);
	PG_RETURN_INT32(n);
}

/* hart.restore_prefix(context, tokens int[]) → how many of them sequence 0 holds now, less than there are */
Datum
hart_restore_prefix(PG_FUNCTION_ARGS)
{
	HartContext *ctx = PG_GETARG_CONTEXT(0);
	int			n;
	const int32 *tokens = hart_int_array(PG_GETARG_ARRAYTYPE_P(1), "tokens", &n);
	Prompt	   *best = NULL;
	int			most = 0;
	PrefixKey	key;
	dlist_iter	iter;

	hart_kv_drop(ctx->cache, 0);
	forget_what_changed();
	if (hart_prefix_cache == 0)
		PG_RETURN_INT32(0);
	if (!dlist_is_empty(&prompts) && ctx->arithmetic == hart_arithmetic())
	{
		key = key_of(ctx);
		dlist_foreach(iter, &prompts)
		{
			Prompt	   *prompt = dlist_container(Prompt, node, iter.cur);
			int			common = same_key(&prompt->key, &key) ? common_tokens(prompt, tokens, n - 1) : 0;

			if (common > most)
			{
				best = prompt;
				most = common;
			}
		}
	}
	if (best == NULL)
	{
		n_misses++;
		PG_RETURN_INT32(0);
	}
	hart_kv_restore(ctx->cache, 0, best->prefix, most);
	dlist_move_head(&prompts, &best->node);
	n_hits++;
	PG_RETURN_INT32(most);
}

/* hart.prefix_cache_stats() → (prompts int, positions bigint, bytes bigint, hits bigint, misses bigint) */
Datum
hart_prefix_cache_stats(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[5];
	bool		nulls[5] = {false};
	int32		n_prompts = 0;
	int64		n_positions = 0;
	dlist_iter	iter;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	forget_what_changed();
	dlist_foreach(iter, &prompts)
	{
		n_prompts++;
		n_positions += dlist_container(Prompt, node, iter.cur)->n;
	}
	values[0] = Int32GetDatum(n_prompts);
	values[1] = Int64GetDatum(n_positions);
	values[2] = Int64GetDatum(hart_kv_kept_bytes());
	values[3] = Int64GetDatum(n_hits);
	values[4] = Int64GetDatum(n_misses);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
