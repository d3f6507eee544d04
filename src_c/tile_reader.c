/*
 * tile_reader.c
 *	  The tiles of one model, read in place from shared buffers.
 */
#include "tile_reader_internal.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/memutils.h"

#include "pin_budget.h"
#include "tile_table.h"

/* most tiles pinned at a time when the model is not pinned as a whole: 4 MB */
#define MAX_STREAM_TILES 512

void
hart_report_tile_damage(const HartTileReader *reader, int32 tensor_id, int64 tile_no, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("tile " INT64_FORMAT " of tensor %d in table \"%s\" %s",
					tile_no, tensor_id, RelationGetRelationName(reader->rel), what),
			 errhint("Restore the model's tiles, or drop the model and ingest it again.")));
}

HartTileRange *
hart_find_tile_range(const HartTileReader *reader, int32 tensor_id)
{
	int			low = 0;
	int			high = reader->n_ranges - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;
		HartTileRange *range = &reader->ranges[middle];

		if (range->tensor_id == tensor_id)
			return range;
		if (range->tensor_id < tensor_id)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return NULL;
}

int32
hart_tile_key(const HartTileReader *reader, HeapTuple tuple, int attnum)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, RelationGetDescr(reader->rel), &isnull);

	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("table \"%s\" has a tile with a null key", RelationGetRelationName(reader->rel)),
				 errhint("Drop the model and ingest it again.")));
	return DatumGetInt32(value);
}

const char *
hart_tile_payload(const HartTileReader *reader, HeapTuple tuple, const HartTileRange *range, int64 tile_no)
{
	int32		tensor_id = range->tensor_id;
	bool		isnull;
	struct varlena *value;
	const char *fault;

	value = (struct varlena *) DatumGetPointer(heap_getattr(tuple, HART_TILES_PAYLOAD,
															 RelationGetDescr(reader->rel), &isnull));
	if (isnull)
		hart_report_tile_damage(reader, tensor_id, tile_no, "is null");
	if (VARATT_IS_EXTERNAL(value))
		hart_report_tile_damage(reader, tensor_id, tile_no, "is stored out of line");
	if (VARATT_IS_COMPRESSED(value))
	{
		MemoryContext old = MemoryContextSwitchTo(reader->pinned ? reader->memory : reader->held_memory);

		value = pg_detoast_datum_copy(value);
		MemoryContextSwitchTo(old);
	}
	fault = hart_tile_fault(range->format, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value),
							hart_weights_in_tile(range->format, range->n, tile_no));
	if (fault)
		hart_report_tile_damage(reader, tensor_id, tile_no, fault);
	return VARDATA_ANY(value);
}

void
hart_check_snapshot_age(const HartTileReader *reader, Page page)
{
#if PG_VERSION_NUM < 170000
	TestForOldSnapshot(reader->snapshot, reader->rel, page);
#endif
}

HartTileReader *
hart_tiles_open(Relation rel, Snapshot snapshot, int32 model_id, HartTileRange *ranges, int n_ranges)
{
	HartTileReader *reader = palloc0(sizeof(HartTileReader));
	BlockNumber n_blocks = RelationGetNumberOfBlocks(rel);

	reader->memory = CurrentMemoryContext;
	reader->held_memory = AllocSetContextCreate(CurrentMemoryContext, "hart tiles", ALLOCSET_DEFAULT_SIZES);
	reader->rel = rel;
	reader->snapshot = snapshot;
	reader->model_id = model_id;
	reader->ranges = ranges;
	reader->n_ranges = n_ranges;
	for (int i = 0; i < n_ranges; i++)
	{
		ranges[i].first = reader->n_tiles;
		reader->n_tiles += hart_tile_count(ranges[i].format, ranges[i].n);
	}
	if (reader->n_tiles > (int64) n_blocks * MaxHeapTuplesPerPage)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("table \"%s\" is too small for the tensors of its model", RelationGetRelationName(rel)),
				 errhint("Restore the model's tiles, or drop the model and ingest it again.")));
	reader->pinned = hart_may_pin(rel, Min(n_blocks, reader->n_tiles));
	reader->payload = MemoryContextAllocExtended(CurrentMemoryContext, Max(reader->n_tiles, 1) * sizeof(char *),
												 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	if (reader->pinned)
		/* what a memo names, and what is found beside it */
		reader->pins = hart_pins_create(rel, reader->n_tiles + Max(n_blocks, reader->n_tiles) + 1);
	else
	{
		hart_hint_at_streaming(n_blocks);
		reader->tid = MemoryContextAllocExtended(CurrentMemoryContext,
												 Max(reader->n_tiles, 1) * sizeof(ItemPointerData),
												 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		reader->buffer = MemoryContextAllocExtended(CurrentMemoryContext,
													Max(reader->n_tiles, 1) * sizeof(Buffer),
													MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	}

	PredicateLockRelation(rel, snapshot);
	hart_find_tiles(reader, n_blocks);
	return reader;
}

uint64
hart_tiles_fingerprint(const HartTileReader *reader)
{
	return reader->fingerprint;
}

int64
hart_tiles_at_once(const HartTileReader *reader)
{
	if (reader->pinned)
		return reader->n_tiles;
	/* every session could do the same at the same time, and must leave buffers to others */
	return Max(1, Min(MAX_STREAM_TILES, NBuffers / (4 * MaxBackends)));
}

/* Pin the page of the tile that follows those held and point at its payload; the snapshot keeps the tuple where it was found */
static void
pin_tile(HartTileReader *reader, int64 ordinal)
{
	ItemPointer tid = &reader->tid[ordinal];
	Buffer		buffer = ReadBuffer(reader->rel, ItemPointerGetBlockNumber(tid));
	Page		page = BufferGetPage(buffer);
	ItemId		item;
	HeapTupleData tuple;
	int32		tensor_id;
	int32		tile_no;
	HartTileRange *range;

	reader->buffer[ordinal] = buffer;
	reader->n_held++;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	hart_check_snapshot_age(reader, page);
	item = PageGetItemId(page, ItemPointerGetOffsetNumber(tid));
	if (ItemPointerGetOffsetNumber(tid) > PageGetMaxOffsetNumber(page) || !ItemIdIsNormal(item))
		elog(ERROR, "tile " INT64_FORMAT " is no longer where it was", ordinal);
	tuple.t_tableOid = RelationGetRelid(reader->rel);
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
	tuple.t_len = ItemIdGetLength(item);
	tuple.t_self = *tid;
	tensor_id = hart_tile_key(reader, &tuple, HART_TILES_TENSOR_ID);
	tile_no = hart_tile_key(reader, &tuple, HART_TILES_TILE_NO);
	range = hart_find_tile_range(reader, tensor_id);
	if (range == NULL || range->first + tile_no != ordinal)
		elog(ERROR, "tile " INT64_FORMAT " is no longer where it was", ordinal);
	reader->payload[ordinal] = hart_tile_payload(reader, &tuple, range, tile_no);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
}

static void
release_held(HartTileReader *reader)
{
	for (; reader->n_held > 0; reader->n_held--)
	{
		int64		ordinal = reader->first_held + reader->n_held - 1;

		ReleaseBuffer(reader->buffer[ordinal]);
		reader->payload[ordinal] = NULL;
	}
	MemoryContextReset(reader->held_memory);
}

const char *const *
hart_tiles_pin(HartTileReader *reader, int64 first, int64 n)
{
	Assert(first >= 0 && n >= 0 && first + n <= reader->n_tiles);
	if (!reader->pinned)
	{
		/* a call that ended in an error may have left its pins */
		release_held(reader);
		reader->first_held = first;
		for (int64 ordinal = first; ordinal < first + n; ordinal++)
			pin_tile(reader, ordinal);
	}
	return &reader->payload[first];
}

void
hart_tiles_unpin(HartTileReader *reader)
{
	release_held(reader);
}
