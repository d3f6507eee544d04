/*
 * weights_fdw_modify.c
 *	  UPDATE hart.weights.
 *
 * The statement's changes are collected and sorted by tile; when it has met all of its rows, and before its AFTER triggers run, each tile
 * that they touch is rewritten once, by an ordinary UPDATE of the model's table with the rights of the current user. So privileges,
 * triggers, locks, conflicts with other transactions, WAL and ROLLBACK are those of any UPDATE.
 */
#include "weights_fdw.h"

#include "access/sysattr.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "optimizer/appendinfo.h"
#include "optimizer/inherit.h"
#include "parser/parse_func.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplesort.h"

#include "narrow.h"
#include "tile_patch.h"
#include "tile_table.h"

/* a change is known by its tensor, as a number in the catalog, and its weight in the tensor */
#define ELEMENT_BITS 40

/* tiles that one UPDATE rewrites, and bytes of patches for them */
#define BATCH_TILES 1024
#define BATCH_BYTES (4 << 20)

/* The patches for tiles of one tensor */
typedef struct Batch
{
	HartCatalogTensor *tensor;
	StringInfoData patch;		/* for the last tile */
	int64		tile_no;		/* of that tile */
	Datum	   *tiles;			/* of those before */
	Datum	   *patches;
	int			n;
	Size		bytes;
	MemoryContext memory;
} Batch;

/* The rows of a model's embedding that changed */
typedef struct ChangedRows
{
	HartCatalogModel *model;
	Datum	   *rows;
	int			n;
	int			n_locked;		/* the first of them, whose positions we have locked */
	int			capacity;
} ChangedRows;

typedef struct Modify
{
	dlist_node	node;			/* in unwritten */
	EState	   *estate;			/* of the statement */
	MemoryContextCallback forget;
	HartCatalog *catalog;
	MemoryContext memory;
	Tuplesortstate *sort;
	TupleTableSlot *slot;		/* of the sort */
	HartCatalogTensor *tensor;	/* of the last change */
	HartCatalogModel *checked;	/* the model whose privileges were checked last */
	int64		n_changes;
	int64		n_rounded[HART_N_DTYPES];
	ChangedRows embedding;
} Modify;

/* What running statements have collected */
static dlist_head unwritten = DLIST_STATIC_INIT(unwritten);

static ExecutorFinish_hook_type previous_finish_hook;

static const char *const dtype_names[] = {"F32", "F16", "BF16"};

/* ---- Planning ---- */

static int
is_updatable(Relation rel)
{
	return hart_face_of(RelationGetRelid(rel)) == HART_SHOWS_WEIGHTS ? 1 << CMD_UPDATE : 0;
}

static Bitmapset *
updated_columns(PlannerInfo *root, Index result_relation)
{
#if PG_VERSION_NUM >= 160000
	return get_rel_all_updated_cols(root, find_base_rel(root, (int) result_relation));
#else
	return planner_rt_fetch(result_relation, root)->updatedCols;
#endif
}

/* Ensure the statement changes values and nothing else */
static List *
plan_modify(PlannerInfo *root, ModifyTable *plan, Index result_relation, int subplan_index)
{
	Oid			relid = planner_rt_fetch(result_relation, root)->relid;
	Bitmapset  *columns;
	int			column = -1;

	if (hart_face_of(relid) != HART_SHOWS_WEIGHTS)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" cannot be changed", get_rel_name(relid)),
				 errhint("It is computed from the weights; UPDATE hart.weights SET value changes these.")));
	if (plan->operation != CMD_UPDATE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("weights cannot be %s", plan->operation == CMD_INSERT ? "inserted" : "deleted"),
				 errhint("A tensor has the shape that it was ingested with; UPDATE hart.weights SET value = 0 takes a weight out.")));
	columns = updated_columns(root, result_relation);
	while ((column = bms_next_member(columns, column)) >= 0)
		if (column + FirstLowInvalidHeapAttributeNumber != HART_WEIGHTS_VALUE)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("column \"%s\" of \"%s\" cannot be changed",
							get_attname(relid, column + FirstLowInvalidHeapAttributeNumber, false), get_rel_name(relid)),
					 errhint("Only value can be; the other columns say where a weight is.")));
	return NIL;
}

/* ---- Collecting ---- */

static void
forget_modify(void *arg)
{
	dlist_delete(&((Modify *) arg)->node);
}

static void
begin_modify(ModifyTableState *node, ResultRelInfo *rinfo, List *private, int subplan_index, int eflags)
{
	EState	   *estate = node->ps.state;
	Modify	   *modify;
	MemoryContext old;
	TupleDesc	tupdesc;
	AttrNumber	attribute = 1;
	Oid			operator = Int8LessOperator;
	Oid			collation = InvalidOid;
	bool		nulls_first = false;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	hart_check_version();
	old = MemoryContextSwitchTo(estate->es_query_cxt);
	modify = palloc0(sizeof(Modify));
	modify->memory = AllocSetContextCreate(estate->es_query_cxt, "hart update", ALLOCSET_DEFAULT_SIZES);
	modify->estate = estate;
	dlist_push_tail(&unwritten, &modify->node);
	modify->forget.func = forget_modify;
	modify->forget.arg = modify;
	MemoryContextRegisterResetCallback(modify->memory, &modify->forget);
	MemoryContextSwitchTo(modify->memory);
	modify->catalog = hart_catalog_load(estate->es_snapshot, NIL, NIL, true);
	tupdesc = CreateTemplateTupleDesc(3);
	TupleDescInitEntry(tupdesc, 1, "weight", INT8OID, -1, 0);
	TupleDescInitEntry(tupdesc, 2, "old", INT4OID, -1, 0);
	TupleDescInitEntry(tupdesc, 3, "new", INT4OID, -1, 0);
	modify->slot = MakeSingleTupleTableSlot(tupdesc, &TTSOpsMinimalTuple);
	modify->sort = tuplesort_begin_heap(tupdesc, 1, &attribute, &operator, &collation, &nulls_first, work_mem, NULL, false);
	rinfo->ri_FdwState = modify;
	MemoryContextSwitchTo(old);
}

static bool
same_text(const text *a, Datum b)
{
	const struct varlena *other = (const struct varlena *) DatumGetPointer(b);

	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(other) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(other), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* The tensor that a row names */
static HartCatalogTensor *
find_tensor(Modify *modify, Datum model, Datum name)
{
	HartCatalog *catalog = modify->catalog;

	if (modify->tensor && same_text(modify->tensor->name, name) && same_text(modify->tensor->model->name, model))
		return modify->tensor;
	for (int i = 0; i < catalog->n_tensors; i++)
		if (same_text(catalog->tensors[i].name, name) && same_text(catalog->tensors[i].model->name, model))
			return modify->tensor = &catalog->tensors[i];
	elog(ERROR, "a weight belongs to no tensor");
}

/* Ensure the current user may update the model's tiles, before anything is computed in vain */
static void
check_may_update(Modify *modify, HartCatalogModel *model)
{
	Oid			relid = hart_tile_table(model->model_id);

	if (modify->checked == model)
		return;
	if (OidIsValid(relid) && pg_class_aclcheck(relid, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck(relid, HART_TILES_PAYLOAD, GetUserId(), ACL_UPDATE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to change model \"%s\"", text_to_cstring(model->name)),
				 errhint("Its owner can GRANT UPDATE ON hart.tiles_%d to you.", model->model_id)));
	modify->checked = model;
}

/* Triggers of the user's may have changed more than the value */
static void
check_same_weight(TupleTableSlot *old, TupleTableSlot *new)
{
	for (int i = 0; i < HART_WEIGHTS_VALUE - 1; i++)
	{
		bool		is_text = i < HART_WEIGHTS_ROW - 1;

		if (new->tts_isnull[i] ||
			(is_text ? !same_text((text *) DatumGetPointer(old->tts_values[i]), new->tts_values[i])
			 : DatumGetInt32(old->tts_values[i]) != DatumGetInt32(new->tts_values[i])))
			ereport(ERROR,
					(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
					 errmsg("a trigger changed column \"%s\" of a weight",
							NameStr(TupleDescAttr(new->tts_tupleDescriptor, i)->attname)),
					 errhint("Only value can be changed; the other columns say where a weight is.")));
	}
}

static void
report_unfit(const HartCatalogTensor *tensor, float value, HartNarrowing narrowing)
{
	ereport(ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg("value %g is out of range for dtype %s of tensor \"%s\"", value, dtype_names[tensor->dtype], text_to_cstring(tensor->name)),
			 narrowing == HART_OVERFLOW
			 ? errhint("It would become infinite; set it to 'infinity' if that is meant.")
			 : errhint("It would become zero; set it to 0 if that is meant.")));
}

/* The value as the tensor will hold it, widened again */
static float
stored_value(Modify *modify, const HartCatalogTensor *tensor, float value)
{
	uint32		bits;
	HartNarrowing narrowing = hart_narrow(tensor->dtype, value, &bits);

	if (narrowing == HART_OVERFLOW || narrowing == HART_UNDERFLOW)
		report_unfit(tensor, value, narrowing);
	if (narrowing == HART_ROUNDED)
	{
		hart_kernels->widen[tensor->dtype] (&bits, &value, 1);
		modify->n_rounded[tensor->dtype]++;
	}
	return value;
}

static void
put_change(Modify *modify, const HartCatalogTensor *tensor, int64 element, float old_value, float new_value)
{
	TupleTableSlot *slot = modify->slot;
	uint32		old_bits;
	uint32		new_bits;

	memcpy(&old_bits, &old_value, sizeof(old_bits));
	memcpy(&new_bits, &new_value, sizeof(new_bits));
	if (element >= INT64CONST(1) << ELEMENT_BITS)
		elog(ERROR, "tensor \"%s\" is too large to be changed", text_to_cstring(tensor->name));
	ExecClearTuple(slot);
	slot->tts_values[0] = Int64GetDatum((int64) (tensor - modify->catalog->tensors) << ELEMENT_BITS | element);
	slot->tts_values[1] = Int32GetDatum((int32) old_bits);
	slot->tts_values[2] = Int32GetDatum((int32) new_bits);
	memset(slot->tts_isnull, false, 3);
	ExecStoreVirtualTuple(slot);
	tuplesort_puttupleslot(modify->sort, slot);
	modify->n_changes++;
}

/* Let RETURNING and triggers see the value that was stored */
static void
replace_value(TupleTableSlot *slot, float value)
{
	HeapTuple	tuple;

	slot->tts_values[HART_WEIGHTS_VALUE - 1] = Float4GetDatum(value);
	tuple = heap_form_tuple(slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);
	ExecForceStoreHeapTuple(tuple, slot, true);
}

static TupleTableSlot *
update_weight(EState *estate, ResultRelInfo *rinfo, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	Modify	   *modify = rinfo->ri_FdwState;
	TupleTableSlot *old = rinfo->ri_oldTupleSlot;
	HartCatalogTensor *tensor;
	float		value;
	float		stored;
	float		old_value;

	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(slot);
	slot_getallattrs(old);
	if (rinfo->ri_TrigDesc && rinfo->ri_TrigDesc->trig_update_before_row)
		check_same_weight(old, slot);
	tensor = find_tensor(modify, old->tts_values[HART_WEIGHTS_MODEL - 1], old->tts_values[HART_WEIGHTS_TENSOR - 1]);
	check_may_update(modify, tensor->model);
	if (slot->tts_isnull[HART_WEIGHTS_VALUE - 1])
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("value of a weight must not be null"),
				 errhint("Set it to 0 to take the weight out.")));
	value = DatumGetFloat4(slot->tts_values[HART_WEIGHTS_VALUE - 1]);
	old_value = DatumGetFloat4(old->tts_values[HART_WEIGHTS_VALUE - 1]);
	stored = stored_value(modify, tensor, value);
	put_change(modify, tensor, DatumGetInt32(old->tts_values[HART_WEIGHTS_ROW - 1]) * tensor->cols
			   + DatumGetInt32(old->tts_values[HART_WEIGHTS_COL - 1]), old_value, stored);
	if (memcmp(&stored, &value, sizeof(value)) != 0 && (rinfo->ri_projectReturning || rinfo->ri_TrigDesc))
		replace_value(slot, stored);
	return slot;
}

/* ---- Writing ---- */

static void
end_tile(Batch *batch)
{
	MemoryContext old;
	bytea	   *patch;

	if (batch->patch.len == 0)
		return;
	old = MemoryContextSwitchTo(batch->memory);
	patch = palloc(VARHDRSZ + batch->patch.len);
	SET_VARSIZE(patch, VARHDRSZ + batch->patch.len);
	memcpy(VARDATA(patch), batch->patch.data, batch->patch.len);
	batch->tiles[batch->n] = Int32GetDatum((int32) batch->tile_no);
	batch->patches[batch->n++] = PointerGetDatum(patch);
	batch->bytes += VARSIZE(patch);
	resetStringInfo(&batch->patch);
	MemoryContextSwitchTo(old);
}

/*
 * Lock the positions of the rows of an embedding whose tiles are about to be rewritten.
 *
 * Who moves a token locks its position first and its tiles then, and so do we.  And two sessions that change parts of one row in
 * different tiles meet at its position, so that the second to come sees what the first wrote when it projects the row again.
 */
static void
lock_positions(ChangedRows *changed)
{
	Oid			types[] = {INT4OID, INT4ARRAYOID};
	Datum		args[2];

	if (changed->n == changed->n_locked)
		return;
	args[0] = Int32GetDatum(changed->model->model_id);
	args[1] = PointerGetDatum(construct_array(changed->rows + changed->n_locked, changed->n - changed->n_locked, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT FROM hart.token_positions"
							  " WHERE model_id OPERATOR(pg_catalog.=) $1 AND chart OPERATOR(pg_catalog.=) 0 AND token_id OPERATOR(pg_catalog.=) ANY ($2)"
							  " ORDER BY token_id FOR NO KEY UPDATE", 2, types, args, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not lock positions");
	SPI_finish();
	pfree(DatumGetPointer(args[1]));
	changed->n_locked = changed->n;
}

/* Rewrite the tiles of a batch */
static void
write_batch(Batch *batch, ChangedRows *embedding)
{
	HartCatalogTensor *tensor = batch->tensor;
	Oid			types[] = {INT4OID, INT4OID, TEXTOID, INT4ARRAYOID, BYTEAARRAYOID};
	Datum		args[5];
	MemoryContext old;
	char	   *query;

	end_tile(batch);
	if (batch->n == 0)
		return;
	lock_positions(embedding);
	old = MemoryContextSwitchTo(batch->memory);
	/* unnest of two arrays is PostgreSQL's own, whatever the search path */
	query = psprintf("UPDATE hart.tiles_%d AS t SET payload = hart.patch_tile(t.payload, $3, p.patch)"
					 " FROM unnest($4, $5) AS p (tile_no, patch)"
					 " WHERE t.model_id OPERATOR(pg_catalog.=) $1 AND t.tensor_id OPERATOR(pg_catalog.=) $2"
					 " AND t.tile_no OPERATOR(pg_catalog.=) p.tile_no", tensor->model->model_id);
	args[0] = Int32GetDatum(tensor->model->model_id);
	args[1] = Int32GetDatum(tensor->tensor_id);
	args[2] = CStringGetTextDatum(dtype_names[tensor->dtype]);
	args[3] = PointerGetDatum(construct_array(batch->tiles, batch->n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	args[4] = PointerGetDatum(construct_array(batch->patches, batch->n, BYTEAOID, -1, false, TYPALIGN_INT));
	MemoryContextSwitchTo(old);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(query, lengthof(types), types, args, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update tiles");
	if (SPI_processed != (uint64) batch->n)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(UINT64_FORMAT " of %d tiles of tensor \"%s\" were changed", SPI_processed, batch->n, text_to_cstring(tensor->name)),
				 errhint("The others were deleted meanwhile, or a trigger or policy on hart.tiles_%d keeps them.", tensor->model->model_id)));
	SPI_finish();
	MemoryContextReset(batch->memory);
	batch->n = 0;
	batch->bytes = 0;
}

/* Tell the charts of a model that embeddings have moved */
static void
reproject(ChangedRows *changed)
{
	Oid			types[] = {INT4OID, INT4ARRAYOID};
	Datum		args[2];

	if (changed->n > 0 &&
		OidIsValid(LookupFuncName(list_make2(makeString("hart"), makeString("reproject_tokens")), 2, types, true)))
	{
		args[0] = Int32GetDatum(changed->model->model_id);
		args[1] = PointerGetDatum(construct_array(changed->rows, changed->n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		if (SPI_execute_with_args("SELECT hart.reproject_tokens($1, $2)", 2, types, args, NULL, false, 0) < 0)
			elog(ERROR, "could not project embeddings again");
		SPI_finish();
	}
	changed->n = changed->n_locked = 0;
}

/* Remember a row of an embedding; rows come in order */
static void
note_row(ChangedRows *changed, HartCatalogTensor *tensor, int64 row)
{
	if (changed->n > 0 && changed->model != tensor->model)
		reproject(changed);
	changed->model = tensor->model;
	if (changed->n > 0 && DatumGetInt32(changed->rows[changed->n - 1]) == row)
		return;
	if (changed->n == changed->capacity)
	{
		changed->capacity = Max(1024, changed->capacity * 2);
		changed->rows = changed->rows ? repalloc_huge(changed->rows, sizeof(Datum) * changed->capacity)
			: palloc(sizeof(Datum) * changed->capacity);
	}
	changed->rows[changed->n++] = Int32GetDatum((int32) row);
}

static bool
is_embedding(const HartCatalogTensor *tensor)
{
	return tensor->relation_type && same_text(tensor->relation_type, CStringGetTextDatum("embedding"));
}

/* Go through the changes in their order, tile by tile */
static void
write_changes(Modify *modify)
{
	Batch		batch = {.tiles = palloc(sizeof(Datum) * BATCH_TILES), .patches = palloc(sizeof(Datum) * BATCH_TILES)};
	int64		last_key = -1;
	bool		embedding = false;

	initStringInfo(&batch.patch);
	batch.memory = AllocSetContextCreate(modify->memory, "hart batch", ALLOCSET_DEFAULT_SIZES);
	tuplesort_performsort(modify->sort);
	while (tuplesort_gettupleslot(modify->sort, true, false, modify->slot, NULL))
	{
		int64		key;
		int64		element;
		int64		per_tile;
		HartCatalogTensor *tensor;
		HartPatch	patch;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(modify->slot);
		key = DatumGetInt64(modify->slot->tts_values[0]);
		/* a join met the weight twice: as for a table, one of them counts */
		if (key == last_key)
			continue;
		last_key = key;
		tensor = &modify->catalog->tensors[key >> ELEMENT_BITS];
		element = key & ((INT64CONST(1) << ELEMENT_BITS) - 1);
		per_tile = HART_TILE_BYTES / (int64) hart_dtype_size(tensor->dtype);
		patch.index = (uint32) (element % per_tile);
		patch.old_bits = (uint32) DatumGetInt32(modify->slot->tts_values[1]);
		patch.new_bits = (uint32) DatumGetInt32(modify->slot->tts_values[2]);
		if (patch.old_bits == patch.new_bits)
			continue;
		if (tensor != batch.tensor)
		{
			write_batch(&batch, &modify->embedding);
			batch.tensor = tensor;
			embedding = is_embedding(tensor);
		}
		else if (element / per_tile != batch.tile_no)
		{
			end_tile(&batch);
			if (batch.n == BATCH_TILES || batch.bytes >= BATCH_BYTES)
				write_batch(&batch, &modify->embedding);
		}
		batch.tile_no = element / per_tile;
		appendBinaryStringInfo(&batch.patch, (char *) &patch, sizeof(patch));
		if (embedding)
			note_row(&modify->embedding, tensor, element / tensor->cols);
	}
	write_batch(&batch, &modify->embedding);
	reproject(&modify->embedding);
}

static void
report_rounding(const Modify *modify)
{
	int64		rounded = 0;
	StringInfoData types;

	initStringInfo(&types);
	for (int i = 0; i < HART_N_DTYPES; i++)
		if (modify->n_rounded[i] > 0)
		{
			rounded += modify->n_rounded[i];
			appendStringInfo(&types, "%s%s", types.len > 0 ? " and " : "", dtype_names[i]);
		}
	if (rounded > 0)
		ereport(NOTICE,
				(errmsg(INT64_FORMAT " of " INT64_FORMAT " values were rounded to %s", rounded, modify->n_changes, types.data)));
}

/* Run the parts of a statement in WITH that nobody has read to their end, as its own end would */
static void
run_rest(EState *estate)
{
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	ListCell   *lc;

	estate->es_direction = ForwardScanDirection;
	foreach(lc, estate->es_auxmodifytables)
	{
		TupleTableSlot *slot;

		do
		{
			ResetPerTupleExprContext(estate);
			slot = ExecProcNode(lfirst(lc));
		} while (!TupIsNull(slot));
	}
	MemoryContextSwitchTo(old);
}

/* The statement has met all of its rows, and its AFTER triggers have not run: the moment to write */
static void
finish_statement(QueryDesc *query)
{
	bool		complete = false;
	dlist_iter	iter;

	dlist_foreach(iter, &unwritten)
	{
		Modify	   *modify = dlist_container(Modify, node, iter.cur);
		MemoryContext old;

		if (modify->estate != query->estate)
			continue;
		if (!complete)
			run_rest(query->estate);
		complete = true;
		old = MemoryContextSwitchTo(modify->memory);
		if (modify->n_changes > 0)
			write_changes(modify);
		report_rounding(modify);
		MemoryContextSwitchTo(old);
	}
	if (previous_finish_hook)
		previous_finish_hook(query);
	else
		standard_ExecutorFinish(query);
}

void
hart_modify_init(void)
{
	previous_finish_hook = ExecutorFinish_hook;
	ExecutorFinish_hook = finish_statement;
}

static void
end_modify(EState *estate, ResultRelInfo *rinfo)
{
	Modify	   *modify = rinfo->ri_FdwState;

	if (modify == NULL)
		return;
	tuplesort_end(modify->sort);
	ExecDropSingleTupleTableSlot(modify->slot);
	hart_catalog_close(modify->catalog);
	MemoryContextDelete(modify->memory);
	rinfo->ri_FdwState = NULL;
}

void
hart_modify_routines(FdwRoutine *routine)
{
	routine->IsForeignRelUpdatable = is_updatable;
	routine->PlanForeignModify = plan_modify;
	routine->BeginForeignModify = begin_modify;
	routine->ExecForeignUpdate = update_weight;
	routine->EndForeignModify = end_modify;
}
