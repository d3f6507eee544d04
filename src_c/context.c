/*
 * context.c
 *	  Life of a context: opening, handing out, ending with its (sub)transaction.
 */
#include "context.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "access/relation.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "settings.h"
#include "tile_table.h"

PG_FUNCTION_INFO_V1(hart_context_in);
PG_FUNCTION_INFO_V1(hart_context_out);
PG_FUNCTION_INFO_V1(hart_open_context);
PG_FUNCTION_INFO_V1(hart_close_context);
PG_FUNCTION_INFO_V1(hart_context_n_layers);
PG_FUNCTION_INFO_V1(hart_context_max_positions);

/* bytes of freed memory that a session keeps, at most */
#define KEPT_MEMORY (32 * 1024 * 1024)

static HartContext *open_contexts = NULL;
static uint64 last_id = 0;

static void
unlink_context(HartContext *ctx)
{
	HartContext **link = &open_contexts;

	while (*link != ctx)
		link = &(*link)->next;
	*link = ctx->next;
}

/*
 * Keys, values and matrices of less than HART_LARGE_BYTES come and go. What the C library gives back to the system between two of them must be zeroed
 * again for the next; so it keeps some.
 */
static void
keep_freed_memory(void)
{
#ifdef __GLIBC__
	static bool done = false;

	if (!done)
	{
		mallopt(M_MMAP_THRESHOLD, KEPT_MEMORY);
		mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
		done = true;
	}
#endif
}

/* Release everything; isCommit is false so that nothing held counts as leaked. */
static void
close_context(HartContext *ctx)
{
	unlink_context(ctx);
	hart_large_give(ctx->scratch);
	UnregisterSnapshotFromOwner(ctx->snapshot, ctx->owner);
	ResourceOwnerRelease(ctx->owner, RESOURCE_RELEASE_BEFORE_LOCKS, false, false);
	ResourceOwnerRelease(ctx->owner, RESOURCE_RELEASE_LOCKS, false, false);
	ResourceOwnerRelease(ctx->owner, RESOURCE_RELEASE_AFTER_LOCKS, false, false);
	ResourceOwnerDelete(ctx->owner);
	MemoryContextDelete(ctx->memory);
}

/* The owner is a child of the (sub)transaction's, which is about to release it. */
static void
forget_context(HartContext *ctx)
{
	unlink_context(ctx);
	hart_large_give(ctx->scratch);
	MemoryContextDelete(ctx->memory);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			while (open_contexts != NULL)
				close_context(open_contexts);
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			while (open_contexts != NULL)
				forget_context(open_contexts);
			break;
		default:
			break;
	}
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent_subid, void *arg)
{
	HartContext *next;

	for (HartContext *ctx = open_contexts; ctx != NULL; ctx = next)
	{
		next = ctx->next;
		if (ctx->subid != subid)
			continue;
		if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
		{
			ctx->subid = parent_subid;
			ResourceOwnerNewParent(ctx->owner, ResourceOwnerGetParent(CurTransactionResourceOwner));
		}
		else if (event == SUBXACT_EVENT_ABORT_SUB)
			forget_context(ctx);
	}
}

void
hart_context_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

ResourceOwner
hart_context_enter(HartContext *ctx)
{
	ResourceOwner old = CurrentResourceOwner;

	CurrentResourceOwner = ctx->owner;
	return old;
}

/* Lock and open the table with a model's tiles, hart.tiles_<model_id>; the lock stays to the end of the transaction */
static void
open_tiles(HartContext *ctx, ResourceOwner outer)
{
	Oid			relid = hart_tile_table(ctx->config.model_id);

	if (OidIsValid(relid))
	{
		CurrentResourceOwner = outer;
		LockRelationOid(relid, AccessShareLock);
		CurrentResourceOwner = ctx->owner;
		ctx->rel = try_relation_open(relid, NoLock);
	}
	if (ctx->rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table hart.tiles_%d of model \"%s\" does not exist", ctx->config.model_id, ctx->config.name),
				 errhint("CALL hart.drop_model and ingest the model again.")));
	hart_check_tile_table(ctx->rel);
	hart_check_tile_access(relid);
}

/* hart.open_context(model text) → context */
Datum
hart_open_context(PG_FUNCTION_ARGS)
{
	text	   *model = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	HartContext *ctx;
	MemoryContext memory;
	MemoryContext old_memory;
	ResourceOwner outer = CurrentResourceOwner;

	hart_check_version();
	keep_freed_memory();
	memory = AllocSetContextCreate(TopTransactionContext, "hart context", ALLOCSET_DEFAULT_SIZES);
	old_memory = MemoryContextSwitchTo(memory);
	ctx = palloc0(sizeof(HartContext));
	ctx->memory = memory;
	ctx->id = ++last_id;
	ctx->subid = GetCurrentSubTransactionId();
	ctx->owner = ResourceOwnerCreate(CurTransactionResourceOwner, "hart context");
	ctx->user = GetUserId();
	/* a copy: the active one may move on to later commands of its statement */
	PushCopiedSnapshot(GetActiveSnapshot());
	ctx->snapshot = RegisterSnapshotOnOwner(GetActiveSnapshot(), ctx->owner);
	PopActiveSnapshot();
	ctx->next = open_contexts;
	open_contexts = ctx;

	hart_load_model_spec(ctx, model);
	CurrentResourceOwner = ctx->owner;
	open_tiles(ctx, outer);
	ctx->tiles = hart_tiles_open(ctx->rel, ctx->snapshot, ctx->config.model_id, ctx->ranges, ctx->n_tensors);
	CurrentResourceOwner = outer;
	ctx->cache = hart_kv_create(ctx->config.n_layers, ctx->config.n_kv_heads, ctx->config.head_dim);
	ctx->arithmetic = hart_arithmetic();
	MemoryContextSwitchTo(old_memory);
	PG_RETURN_DATUM(UInt64GetDatum(ctx->id));
}

HartContext *
hart_context_lookup(Datum handle)
{
	uint64		id = DatumGetUInt64(handle);

	for (HartContext *ctx = open_contexts; ctx != NULL; ctx = ctx->next)
		if (ctx->id == id)
		{
			if (ctx->user != GetUserId())
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("context " UINT64_FORMAT " belongs to another role", id),
						 errhint("A context is used by the role that opened it.")));
			return ctx;
		}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("context " UINT64_FORMAT " is not open", id),
			 errhint("A context lives in the transaction that called hart.open_context, until hart.close_context.")));
}

/* hart.close_context(context) */
Datum
hart_close_context(PG_FUNCTION_ARGS)
{
	close_context(PG_GETARG_CONTEXT(0));
	PG_RETURN_VOID();
}

void
hart_context_end(uint64 id)
{
	for (HartContext *ctx = open_contexts; ctx != NULL; ctx = ctx->next)
		if (ctx->id == id)
		{
			close_context(ctx);
			return;
		}
}

Datum
hart_context_in(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot make a value of type %s from text", "hart.context"),
			 errhint("Use hart.open_context.")));
}

Datum
hart_context_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(psprintf(UINT64_FORMAT, DatumGetUInt64(PG_GETARG_DATUM(0))));
}

Datum
hart_context_n_layers(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(PG_GETARG_CONTEXT(0)->config.n_layers);
}

Datum
hart_context_max_positions(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(PG_GETARG_CONTEXT(0)->config.max_positions);
}

static HartModule *
find_module(HartModuleList *list, const text *name)
{
	size_t		length = VARSIZE_ANY_EXHDR(name);

	for (int i = 0; i < list->n; i++)
		if (strlen(list->modules[i].name) == length && memcmp(list->modules[i].name, VARDATA_ANY(name), length) == 0)
			return &list->modules[i];
	return NULL;
}

HartModule *
hart_context_module(HartContext *ctx, int32 layer, const text *name, bool missing_ok)
{
	HartModule *module;

	if (layer < 0 || layer >= ctx->config.n_layers)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("layer %d is out of range", layer),
				 errhint("Layers of model \"%s\" are counted from 0 to %d.", ctx->config.name, ctx->config.n_layers - 1)));
	module = find_module(&ctx->layers[layer], name);
	if (!missing_ok && (module == NULL || module->weight == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("layer %d of model \"%s\" has no \"%s\"", layer, ctx->config.name, text_to_cstring(name)),
				 errhint("Look in hart.tensors for the names.")));
	return module;
}

HartModule *
hart_context_outer_module(HartContext *ctx, const text *name)
{
	HartModule *module = find_module(&ctx->outer, name);

	if (module == NULL || module->weight == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("model \"%s\" has no \"%s\"", ctx->config.name, text_to_cstring(name)),
				 errhint("Look in hart.tensors for the names.")));
	return module;
}

float *
hart_context_scratch(HartContext *ctx, size_t n)
{
	if (n * sizeof(float) > ctx->scratch.size)
	{
		hart_large_give(ctx->scratch);
		ctx->scratch = (HartLargeMemory) {NULL, 0};
		ctx->scratch = hart_large_take(n * sizeof(float));
	}
	return (float *) ctx->scratch.start;
}

const float *
hart_context_values(HartContext *ctx, HartTensor *tensor)
{
	int64		n = tensor->rows * tensor->cols;
	int64		per_tile = hart_tile_weights(tensor->format);
	int64		n_tiles = hart_tile_count(tensor->format, n);
	ResourceOwner old;
	const char *const *payload;
	float	   *values;

	if (tensor->values != NULL)
		return tensor->values;
	values = MemoryContextAllocHuge(ctx->memory, Max(n, 1) * sizeof(float));
	old = hart_context_enter(ctx);
	for (int64 i = 0; i < n_tiles; i++)
	{
		payload = hart_tiles_pin(ctx->tiles, tensor->tiles->first + i, 1);
		hart_widen_tile(tensor->format, *payload, 0, values + i * per_tile, hart_weights_in_tile(tensor->format, n, i));
		hart_tiles_unpin(ctx->tiles);
	}
	CurrentResourceOwner = old;
	tensor->values = values;
	return values;
}
