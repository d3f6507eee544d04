/*
 * relation_writer.c
 *	  Appending relations to a partition of hart.stored_relations, many at a time.
 *
 * Millions of edges belong to one text or vocabulary. INSERT would spend most of
 * its time on their foreign keys, one row at a time, although the atoms they
 * refer to are few; the SQL functions that call this one have locked these, which
 * is what the foreign keys would do. So rows go in as COPY would put
 * them, and into each index in the order of its first column, so that neighbours
 * meet on the same page.
 */
#include "hartonomous.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(hart_write_relations);

#define INSERT_BATCH 1000		/* tuples a heap_multi_insert */

enum
{
	PARENT, CHILD, TYPE, POSITION, RANK, MODEL, N_COLUMNS
};

typedef struct Relations
{
	int			n;
	const int64 *parents;
	const int64 *children;
	const int32 *positions;
	const int32 *ranks;			/* NULL when they have none, nor a model */
	int32		model_id;
	Datum		type;
	ItemPointerData *tids;
} Relations;

/* The partition of a kind of relations; the table's owner may write it as he may disable its foreign keys */
static Relation
open_partition(const char *type)
{
	static const Oid types[N_COLUMNS] = {INT8OID, INT8OID, InvalidOid, INT4OID, INT4OID, INT4OID};
	Oid			relid = get_relname_relid(psprintf("stored_relations_%s", type), get_namespace_oid("hart", false));
	Relation	rel;
	TupleDesc	desc;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("there is no table of relations of type \"%s\"", type),
				 errhint("Types of stored relations are composition and merge.")));
	rel = table_open(relid, RowExclusiveLock);
	desc = RelationGetDescr(rel);
#if PG_VERSION_NUM >= 160000
	if (!object_ownercheck(RelationRelationId, relid, GetUserId()))
#else
	if (!pg_class_ownercheck(relid, GetUserId()))
#endif
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, RelationGetRelationName(rel));
	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_tableam != GetHeapamTableAmRoutine())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" is not a heap", RelationGetRelationName(rel)),
				 errhint("Relations are stored in an ordinary table: ALTER TABLE … SET ACCESS METHOD heap.")));
	for (int i = 0; i < N_COLUMNS; i++)
		if (desc->natts != N_COLUMNS || (i != TYPE && TupleDescAttr(desc, i)->atttypid != types[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("\"%s\" does not have the columns of hart.stored_relations", RelationGetRelationName(rel)),
					 errhint("Keep the columns of the extension's tables as they are.")));
	return rel;
}

/* An array of numbers without NULLs, as many as there should be */
static const void *
numbers(ArrayType *array, Oid type, int n)
{
	if (ARR_ELEMTYPE(array) != type || ARR_HASNULL(array) || ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) != n)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("arrays of relations differ in length, or have nulls"),
				 errhint("Give as many parents, children and positions.")));
	return ARR_DATA_PTR(array);
}

static void
row_values(const Relations *relations, int row, Datum values[N_COLUMNS], bool nulls[N_COLUMNS])
{
	bool		ranked = relations->ranks != NULL;

	values[PARENT] = Int64GetDatum(relations->parents[row]);
	values[CHILD] = Int64GetDatum(relations->children[row]);
	values[TYPE] = relations->type;
	values[POSITION] = Int32GetDatum(relations->positions[row]);
	values[RANK] = Int32GetDatum(ranked ? relations->ranks[row] : 0);
	values[MODEL] = Int32GetDatum(relations->model_id);
	memset(nulls, false, N_COLUMNS * sizeof(bool));
	nulls[RANK] = nulls[MODEL] = !ranked;
}

/* Put the rows in the table, and note where they are */
static void
write_heap(Relation rel, Relations *relations)
{
	TupleTableSlot *slots[INSERT_BATCH];
	CommandId	cid = GetCurrentCommandId(true);
	int			n_slots = Min(INSERT_BATCH, relations->n);

	for (int i = 0; i < n_slots; i++)
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsHeapTuple);
	for (int first = 0; first < relations->n; first += INSERT_BATCH)
	{
		int			n = Min(INSERT_BATCH, relations->n - first);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
		{
			Datum		values[N_COLUMNS];
			bool		nulls[N_COLUMNS];

			row_values(relations, first + i, values, nulls);
			ExecStoreHeapTuple(heap_form_tuple(RelationGetDescr(rel), values, nulls), slots[i], true);
		}
		heap_multi_insert(rel, slots, n, cid, 0, NULL);
		for (int i = 0; i < n; i++)
		{
			relations->tids[first + i] = slots[i]->tts_tid;
			ExecClearTuple(slots[i]);
		}
	}
	for (int i = 0; i < n_slots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
}

typedef struct Entry
{
	int64		key;
	int32		row;
} Entry;

static int
compare_entries(const void *a, const void *b)
{
	const Entry *x = a;
	const Entry *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->row < y->row ? -1 : x->row > y->row;
}

/* The rows in the order of an index's first column, where that is an atom; else as they come */
static Entry *
index_order(const Relations *relations, AttrNumber first_column)
{
	Entry	   *entries = MemoryContextAllocHuge(CurrentMemoryContext, relations->n * sizeof(Entry));
	const int64 *keys = first_column == PARENT + 1 ? relations->parents : first_column == CHILD + 1 ? relations->children : NULL;

	for (int row = 0; row < relations->n; row++)
		entries[row] = (Entry) {keys ? keys[row] : 0, row};
	if (keys != NULL)
		qsort(entries, relations->n, sizeof(Entry), compare_entries);
	return entries;
}

static void
write_index(Relation rel, Relation index, const Relations *relations, EState *estate)
{
	IndexInfo  *info = BuildIndexInfo(index);
	ExprContext *econtext = GetPerTupleExprContext(estate);
	ExprState  *predicate = ExecPrepareQual(info->ii_Predicate, estate);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
	Entry	   *entries;

	if (!info->ii_ReadyForInserts)
		return;
	if (info->ii_ExclusionOps != NULL || (info->ii_Unique && !index->rd_index->indimmediate))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("index \"%s\" is of a kind that relations cannot be written with", RelationGetRelationName(index)),
				 errhint("Drop the exclusion constraint or the deferrable unique constraint.")));
	entries = index_order(relations, info->ii_IndexAttrNumbers[0]);
	econtext->ecxt_scantuple = slot;
	for (int i = 0; i < relations->n; i++)
	{
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];

		if (i % INSERT_BATCH == 0)
			CHECK_FOR_INTERRUPTS();
		ExecClearTuple(slot);
		row_values(relations, entries[i].row, slot->tts_values, slot->tts_isnull);
		ExecStoreVirtualTuple(slot);
		if (predicate == NULL || ExecQual(predicate, econtext))
		{
			FormIndexDatum(info, slot, estate, values, nulls);
			index_insert(index, values, nulls, &relations->tids[entries[i].row], rel,
						 info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
		}
		ResetPerTupleExprContext(estate);
	}
#if PG_VERSION_NUM >= 170000
	index_insert_cleanup(index, info);
#endif
	pfree(entries);
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * hart.write_relations(relation_type text, parents bigint[], children bigint[],
 *						positions int[], ranks int[], model_id int) → void
 *
 * Without ranks the relations have none, and no model.
 */
Datum
hart_write_relations(PG_FUNCTION_ARGS)
{
	char	   *type = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ArrayType  *parents = PG_GETARG_ARRAYTYPE_P(1);
	ArrayType  *ranks = PG_GETARG_ARRAYTYPE_P(4);
	Relations	relations = {.n = ArrayGetNItems(ARR_NDIM(parents), ARR_DIMS(parents))};
	Relation	rel;
	List	   *indexes;
	ListCell   *cell;

	hart_check_version();
	PreventCommandIfReadOnly("hart.write_relations()");
	rel = open_partition(type);
	relations.parents = numbers(parents, INT8OID, relations.n);
	relations.children = numbers(PG_GETARG_ARRAYTYPE_P(2), INT8OID, relations.n);
	relations.positions = numbers(PG_GETARG_ARRAYTYPE_P(3), INT4OID, relations.n);
	if (ArrayGetNItems(ARR_NDIM(ranks), ARR_DIMS(ranks)) > 0)
		relations.ranks = numbers(ranks, INT4OID, relations.n);
	relations.model_id = PG_GETARG_INT32(5);
	relations.type = DirectFunctionCall2(enum_in, CStringGetDatum(type), ObjectIdGetDatum(TupleDescAttr(RelationGetDescr(rel), TYPE)->atttypid));
	if (relations.n > 0)
	{
		EState	   *estate = CreateExecutorState();

		relations.tids = MemoryContextAllocHuge(CurrentMemoryContext, relations.n * sizeof(ItemPointerData));
		write_heap(rel, &relations);
		indexes = RelationGetIndexList(rel);
		foreach(cell, indexes)
		{
			Relation	index = index_open(lfirst_oid(cell), RowExclusiveLock);

			write_index(rel, index, &relations, estate);
			index_close(index, NoLock);
		}
		FreeExecutorState(estate);
	}
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}
