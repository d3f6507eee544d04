/*
 * tile_lookup.c
 *	  Single tiles of a model, found by the primary key of their table.
 */
#include "tile_lookup.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_opfamily.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "tile_reader.h"
#include "tile_table.h"

/* Where a tile is, when there is no index to ask */
typedef struct TilePlace
{
	int32		tensor_id;
	int32		tile_no;
	ItemPointerData tid;
} TilePlace;

struct HartTileLookup
{
	Relation	rel;
	Snapshot	snapshot;
	int32		model_id;
	Relation	index;			/* NULL when there is none */
	IndexScanDesc scan;
	int32		tensor_id;		/* what the scan is at: the next tile it will return is next, the last one last */
	int64		next;
	int64		last;
	TilePlace	found;			/* the tile that was found last, when there is an index */
	BlockNumber n_blocks;
	TilePlace  *places;			/* sorted, when there is no index */
	int64		n_places;
	TupleTableSlot *slot;
	MemoryContext memory;
	MemoryContext tile_memory;	/* of the current tile, when it has to be decompressed */
	int64		n_read;
};

static void
report_damage(const HartTileLookup *lookup, int32 tensor_id, int64 tile_no, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("tile " INT64_FORMAT " of tensor %d in table \"%s\" %s",
					tile_no, tensor_id, RelationGetRelationName(lookup->rel), what),
			 errhint("Restore the model's tiles, or drop the model and ingest it again.")));
}

/* Whether an index finds each tile once: unique, on the three key columns, complete for our snapshot */
static bool
is_tile_key(Relation index)
{
	static const AttrNumber key[] = {HART_TILES_MODEL_ID, HART_TILES_TENSOR_ID, HART_TILES_TILE_NO};
	Form_pg_index form = index->rd_index;

	if (!form->indisvalid || !form->indisunique || !form->indimmediate || form->indnkeyatts != lengthof(key) ||
		index->rd_rel->relam != BTREE_AM_OID ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < (int) lengthof(key); i++)
		if (form->indkey.values[i] != key[i] || index->rd_opfamily[i] != INTEGER_BTREE_FAM_OID ||
			(index->rd_indoption[i] & INDOPTION_DESC) != 0)
			return false;
	/* rows that were updated without a new index entry while the index was built are missed by older snapshots */
	return !form->indcheckxmin ||
		TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data), TransactionXmin);
}

static Relation
open_index(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *cell;
	Relation	found = NULL;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_tile_key(index))
		{
			found = index;
			break;
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return found;
}

static int32
int_column(const HartTileLookup *lookup, AttrNumber column)
{
	bool		isnull;
	Datum		value = slot_getattr(lookup->slot, column, &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("table \"%s\" has a tile with a null key", RelationGetRelationName(lookup->rel)),
				 errhint("Drop the model and ingest it again.")));
	return DatumGetInt32(value);
}

static int
compare_places(const void *a, const void *b)
{
	const TilePlace *x = a;
	const TilePlace *y = b;

	if (x->tensor_id != y->tensor_id)
		return x->tensor_id < y->tensor_id ? -1 : 1;
	return (x->tile_no > y->tile_no) - (x->tile_no < y->tile_no);
}

/* Read the table once */
static void
find_places(HartTileLookup *lookup)
{
	TableScanDesc scan = table_beginscan(lookup->rel, lookup->snapshot, 0, NULL);
	int64		capacity = 1024;

	lookup->places = palloc(sizeof(TilePlace) * capacity);
	while (table_scan_getnextslot(scan, ForwardScanDirection, lookup->slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (int_column(lookup, HART_TILES_MODEL_ID) != lookup->model_id)
			continue;
		if (lookup->n_places == capacity)
		{
			capacity *= 2;
			lookup->places = repalloc_huge(lookup->places, sizeof(TilePlace) * capacity);
		}
		lookup->places[lookup->n_places++] = (TilePlace)
		{
			int_column(lookup, HART_TILES_TENSOR_ID), int_column(lookup, HART_TILES_TILE_NO), lookup->slot->tts_tid
		};
	}
	ExecClearTuple(lookup->slot);
	table_endscan(scan);
	qsort(lookup->places, lookup->n_places, sizeof(TilePlace), compare_places);
}

HartTileLookup *
hart_lookup_open(Relation rel, Snapshot snapshot, int32 model_id)
{
	HartTileLookup *lookup = palloc0(sizeof(HartTileLookup));

	lookup->rel = rel;
	lookup->snapshot = snapshot;
	lookup->model_id = model_id;
	lookup->memory = CurrentMemoryContext;
	lookup->tile_memory = AllocSetContextCreate(CurrentMemoryContext, "hart tile", ALLOCSET_SMALL_SIZES);
	lookup->slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), table_slot_callbacks(rel));
	lookup->index = open_index(rel);
	if (lookup->index)
	{
#if PG_VERSION_NUM >= 180000
		lookup->scan = index_beginscan(rel, lookup->index, snapshot, NULL, 4, 0);
#else
		lookup->scan = index_beginscan(rel, lookup->index, snapshot, 4, 0);
#endif
		/* at no tile */
		lookup->next = 1;
		lookup->last = 0;
		lookup->n_blocks = RelationGetNumberOfBlocks(rel);
	}
	return lookup;
}

static void
start_index_scan(HartTileLookup *lookup, int32 tensor_id, int64 tile_no, int64 last)
{
	ScanKeyData key[4];

	ScanKeyInit(&key[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(lookup->model_id));
	ScanKeyInit(&key[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(tensor_id));
	ScanKeyInit(&key[2], 3, BTGreaterEqualStrategyNumber, F_INT4GE, Int32GetDatum((int32) tile_no));
	ScanKeyInit(&key[3], 3, BTLessEqualStrategyNumber, F_INT4LE, Int32GetDatum((int32) last));
	index_rescan(lookup->scan, key, lengthof(key), NULL, 0);
	lookup->tensor_id = tensor_id;
	lookup->next = tile_no;
	lookup->last = last;
}

/*
 * Put the tile into the slot if it lies where it was written: as many pages after the one that was found last as it has tiles
 * between. That takes a quarter of a look into the index. A tuple with its key that our snapshot sees is the tile, wherever it is.
 */
static bool
find_by_guess(HartTileLookup *lookup, int32 tensor_id, int64 tile_no)
{
	int64		block = (int64) ItemPointerGetBlockNumberNoCheck(&lookup->found.tid) + tile_no - lookup->found.tile_no;
	ItemPointerData tid;

	if (!ItemPointerIsValid(&lookup->found.tid) || lookup->found.tensor_id != tensor_id || block < 0 || block >= lookup->n_blocks)
		return false;
	ItemPointerSet(&tid, (BlockNumber) block, ItemPointerGetOffsetNumber(&lookup->found.tid));
	return table_tuple_fetch_row_version(lookup->rel, &tid, lookup->snapshot, lookup->slot) &&
		int_column(lookup, HART_TILES_MODEL_ID) == lookup->model_id &&
		int_column(lookup, HART_TILES_TENSOR_ID) == tensor_id && int_column(lookup, HART_TILES_TILE_NO) == tile_no;
}

/* Put the tile into the slot; false when it is not there */
static bool
find_by_index(HartTileLookup *lookup, int32 tensor_id, int64 tile_no, int64 last)
{
	if (lookup->tensor_id != tensor_id || lookup->next != tile_no || lookup->last < tile_no)
	{
		if (find_by_guess(lookup, tensor_id, tile_no))
			return true;
		start_index_scan(lookup, tensor_id, tile_no, last);
	}
	if (!index_getnext_slot(lookup->scan, ForwardScanDirection, lookup->slot) ||
		int_column(lookup, HART_TILES_TILE_NO) != tile_no)
		return false;
	lookup->next++;
	lookup->found = (TilePlace)
	{
		tensor_id, (int32) tile_no, lookup->slot->tts_tid
	};
	return true;
}

static bool
find_by_place(HartTileLookup *lookup, int32 tensor_id, int64 tile_no)
{
	TilePlace	wanted = {.tensor_id = tensor_id, .tile_no = (int32) tile_no};
	TilePlace  *place;

	if (lookup->places == NULL)
		find_places(lookup);
	place = bsearch(&wanted, lookup->places, lookup->n_places, sizeof(TilePlace), compare_places);
	if (place == NULL)
		return false;
	if ((place > lookup->places && compare_places(place - 1, place) == 0) ||
		(place + 1 < lookup->places + lookup->n_places && compare_places(place + 1, place) == 0))
		report_damage(lookup, tensor_id, tile_no, "is there twice");
	return table_tuple_fetch_row_version(lookup->rel, &place->tid, lookup->snapshot, lookup->slot);
}

const char *
hart_lookup_tile(HartTileLookup *lookup, int32 tensor_id, HartFormat format, int64 n, int64 tile_no, int64 last)
{
	bool		isnull;
	bool		found;
	struct varlena *value;
	const char *fault;
	MemoryContext old;

	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(lookup->tile_memory);
	/* an index scan keeps what it allocates on the way, such as a list of dead entries */
	old = MemoryContextSwitchTo(lookup->memory);
	found = lookup->index ? find_by_index(lookup, tensor_id, tile_no, Max(tile_no, last))
		: find_by_place(lookup, tensor_id, tile_no);
	MemoryContextSwitchTo(old);
	if (!found)
		report_damage(lookup, tensor_id, tile_no, "is missing");
	lookup->n_read++;

	value = (struct varlena *) DatumGetPointer(slot_getattr(lookup->slot, HART_TILES_PAYLOAD, &isnull));
	if (isnull)
		report_damage(lookup, tensor_id, tile_no, "is null");
	if (VARATT_IS_EXTERNAL(value))
		report_damage(lookup, tensor_id, tile_no, "is stored out of line");
	/* came back compressed from another table by INSERT … SELECT */
	if (VARATT_IS_COMPRESSED(value))
	{
		old = MemoryContextSwitchTo(lookup->tile_memory);
		value = pg_detoast_datum_copy(value);
		MemoryContextSwitchTo(old);
	}
	fault = hart_tile_fault(format, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), hart_weights_in_tile(format, n, tile_no));
	if (fault)
		report_damage(lookup, tensor_id, tile_no, fault);
	return VARDATA_ANY(value);
}

void
hart_lookup_release(HartTileLookup *lookup)
{
	ExecClearTuple(lookup->slot);
	lookup->next = 1;
	lookup->last = 0;
}

void
hart_lookup_close(HartTileLookup *lookup)
{
	ExecDropSingleTupleTableSlot(lookup->slot);
	if (lookup->index)
	{
		index_endscan(lookup->scan);
		index_close(lookup->index, AccessShareLock);
	}
	if (lookup->places)
		pfree(lookup->places);
	MemoryContextDelete(lookup->tile_memory);
	pfree(lookup);
}

int64
hart_lookup_count(const HartTileLookup *lookup)
{
	return lookup->n_read;
}
