/*
 * key_lookup.c
 *	  Rows of one of the extension's tables by their primary key, many one after the other, without a query each.
 */
#include "key_lookup.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

struct HartKeyLookup
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	int			n_keys;
	ScanKeyData keys[HART_MAX_KEYS];
};

static void
changed_table(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("\"%s\" does not have the columns and the primary key that the extension gave it", RelationGetRelationName(rel)),
			 errhint("Keep the extension's tables as they are.")));
}

HartKeyLookup *
hart_key_lookup_open(const char *table, int n_keys)
{
	HartKeyLookup *lookup = palloc0(sizeof(HartKeyLookup));
	Oid			relid = get_relname_relid(table, get_namespace_oid("hart", false));
	Oid			pkey;

	Assert(n_keys <= HART_MAX_KEYS);
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("there is no table hart.%s", table),
				 errhint("Drop the extension and create it again.")));
	lookup->rel = table_open(relid, AccessShareLock);
	(void) RelationGetIndexList(lookup->rel);	/* which also finds the primary key */
	pkey = lookup->rel->rd_pkindex;
	if (!OidIsValid(pkey))
		changed_table(lookup->rel);
	lookup->index = index_open(pkey, AccessShareLock);
	lookup->n_keys = n_keys;
	if (IndexRelationGetNumberOfKeyAttributes(lookup->index) != n_keys)
		changed_table(lookup->rel);
	for (int i = 0; i < n_keys; i++)
	{
		Oid			type = TupleDescAttr(RelationGetDescr(lookup->rel), i)->atttypid;

		if (lookup->index->rd_index->indkey.values[i] != i + 1 || (type != INT4OID && type != INT8OID))
			changed_table(lookup->rel);
		ScanKeyInit(&lookup->keys[i], i + 1, BTEqualStrategyNumber, type == INT4OID ? F_INT4EQ : F_INT8EQ, 0);
	}
	lookup->slot = table_slot_create(lookup->rel, NULL);
#if PG_VERSION_NUM >= 180000
	lookup->scan = index_beginscan(lookup->rel, lookup->index, GetActiveSnapshot(), NULL, n_keys, 0);
#else
	lookup->scan = index_beginscan(lookup->rel, lookup->index, GetActiveSnapshot(), n_keys, 0);
#endif
	return lookup;
}

AttrNumber
hart_key_lookup_column(HartKeyLookup *lookup, const char *name, Oid type)
{
	AttrNumber	column = get_attnum(RelationGetRelid(lookup->rel), name);

	if (column == InvalidAttrNumber || TupleDescAttr(RelationGetDescr(lookup->rel), column - 1)->atttypid != type)
		changed_table(lookup->rel);
	return column;
}

TupleTableSlot *
hart_key_lookup_find(HartKeyLookup *lookup, const Datum *keys)
{
	for (int i = 0; i < lookup->n_keys; i++)
		lookup->keys[i].sk_argument = keys[i];
	index_rescan(lookup->scan, lookup->keys, lookup->n_keys, NULL, 0);
	return index_getnext_slot(lookup->scan, ForwardScanDirection, lookup->slot) ? lookup->slot : NULL;
}

void
hart_key_lookup_close(HartKeyLookup *lookup)
{
	index_endscan(lookup->scan);
	ExecDropSingleTupleTableSlot(lookup->slot);
	index_close(lookup->index, NoLock);
	table_close(lookup->rel, NoLock);
	pfree(lookup);
}
