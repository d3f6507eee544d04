/*
 * tile_reader.c
 *	  The tiles of one model, read in place from shared buffers. The only file of the
 *	  project that touches the buffer manager.
 */
#include "tile_reader.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "miscadmin.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/predicate.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "settings.h"
#include "tile_table.h"

/* most tiles pinned at a time when the model is not pinned as a whole: 4 MB */
#define MAX_STREAM_TILES 512

struct HartTileReader
{
	Relation	rel;
	Snapshot	snapshot;
	int32		model_id;
	HartTileRange *ranges;
	int			n_ranges;
	int64		n_tiles;
	int64		n_found;
	bool		pinned;			/* every page with a tile stays pinned */
	const char **payload;		/* of each tile; NULL while it is not pinned */
	ItemPointerData *tid;		/* of each tile, when they are not all pinned */
	Buffer	   *buffer;			/* of each tile that hart_tiles_pin pinned, when they are not all pinned */
	MemoryContext memory;		/* of the reader */
	MemoryContext held_memory;	/* of what is decompressed while it is pinned, when not all is */
	int64		first_held;		/* what hart_tiles_pin pinned and hart_tiles_unpin did not release yet */
	int64		n_held;
};

static void
report_damage(const HartTileReader *reader, int32 tensor_id, int64 tile_no, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("tile " INT64_FORMAT " of tensor %d in table \"%s\" %s",
					tile_no, tensor_id, RelationGetRelationName(reader->rel), what),
			 errhint("Restore the model's tiles, or drop the model and ingest it again.")));
}

static HartTileRange *
find_range(const HartTileReader *reader, int32 tensor_id)
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

static int32
int_column(const HartTileReader *reader, HeapTuple tuple, int attnum)
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

/*
 * The bytes of a tuple's payload: in place, but for one that was compressed in another table
 * and came back by INSERT … SELECT, which PostgreSQL does not undo; that one is copied.
 */
static const char *
payload_of(const HartTileReader *reader, HeapTuple tuple, int32 tensor_id, int64 tile_no, int64 expected)
{
	bool		isnull;
	struct varlena *value;

	value = (struct varlena *) DatumGetPointer(heap_getattr(tuple, HART_TILES_PAYLOAD,
															 RelationGetDescr(reader->rel), &isnull));
	if (isnull)
		report_damage(reader, tensor_id, tile_no, "is null");
	if (VARATT_IS_EXTERNAL(value))
		report_damage(reader, tensor_id, tile_no, "is stored out of line");
	if (VARATT_IS_COMPRESSED(value))
	{
		MemoryContext old = MemoryContextSwitchTo(reader->pinned ? reader->memory : reader->held_memory);

		value = pg_detoast_datum_copy(value);
		MemoryContextSwitchTo(old);
	}
	if ((int64) VARSIZE_ANY_EXHDR(value) != expected)
		report_damage(reader, tensor_id, tile_no,
					  psprintf("has %zu bytes instead of " INT64_FORMAT, VARSIZE_ANY_EXHDR(value), expected));
	return VARDATA_ANY(value);
}

static int64
expected_bytes(const HartTileRange *range, int64 tile_no)
{
	return Min(HART_TILE_BYTES, range->bytes - tile_no * HART_TILE_BYTES);
}

/* Enter a visible tuple; false when it belongs to no tensor that is wanted */
static bool
remember_tile(HartTileReader *reader, HeapTuple tuple)
{
	int32		tensor_id = int_column(reader, tuple, HART_TILES_TENSOR_ID);
	int32		tile_no = int_column(reader, tuple, HART_TILES_TILE_NO);
	HartTileRange *range;
	const char *payload;
	int64		ordinal;

	if (int_column(reader, tuple, HART_TILES_MODEL_ID) != reader->model_id)
		return false;
	range = find_range(reader, tensor_id);
	if (range == NULL || tile_no < 0 || tile_no >= hart_tile_count(range->bytes))
		return false;

	payload = payload_of(reader, tuple, tensor_id, tile_no, expected_bytes(range, tile_no));
	ordinal = range->first + tile_no;
	if (reader->pinned ? reader->payload[ordinal] != NULL : ItemPointerIsValid(&reader->tid[ordinal]))
		report_damage(reader, tensor_id, tile_no, "is there twice");
	if (reader->pinned)
		reader->payload[ordinal] = payload;
	else
	{
		reader->tid[ordinal] = tuple->t_self;
		MemoryContextReset(reader->held_memory);
	}
	reader->n_found++;
	return true;
}

/* Ensure old_snapshot_threshold has not let rows go that our snapshot sees */
static void
check_snapshot_age(const HartTileReader *reader, Page page)
{
#if PG_VERSION_NUM < 170000
	TestForOldSnapshot(reader->snapshot, reader->rel, page);
#endif
}

/* Look at every visible tuple of a page; keeps the pin when the page has tiles that are to stay pinned */
static void
scan_page(HartTileReader *reader, BlockNumber block)
{
	Buffer		buffer = ReadBuffer(reader->rel, block);
	Page		page = BufferGetPage(buffer);
	bool		all_visible;
	bool		keep = false;
	OffsetNumber lines;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	check_snapshot_age(reader, page);
	lines = PageGetMaxOffsetNumber(page);
	/* as heap scans do: what is all-visible on a primary may not be so yet for a standby's snapshot */
	all_visible = PageIsAllVisible(page) && !reader->snapshot->takenDuringRecovery;
	for (OffsetNumber line = FirstOffsetNumber; line <= lines; line = OffsetNumberNext(line))
	{
		ItemId		item = PageGetItemId(page, line);
		HeapTupleData tuple;
		bool		visible;

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_tableOid = RelationGetRelid(reader->rel);
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		ItemPointerSet(&tuple.t_self, block, line);
		visible = all_visible || HeapTupleSatisfiesVisibility(&tuple, reader->snapshot, buffer);
		HeapCheckForSerializableConflictOut(visible, reader->rel, &tuple, buffer, reader->snapshot);
		if (visible && remember_tile(reader, &tuple))
			keep = reader->pinned;
	}
	if (keep)
		LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	else
		UnlockReleaseBuffer(buffer);
}

/* Ensure there is no hole */
static void
check_complete(const HartTileReader *reader)
{
	if (reader->n_found == reader->n_tiles)
		return;
	for (int i = 0; i < reader->n_ranges; i++)
	{
		HartTileRange *range = &reader->ranges[i];

		for (int64 tile_no = 0; tile_no < hart_tile_count(range->bytes); tile_no++)
		{
			int64		ordinal = range->first + tile_no;

			if (reader->pinned ? reader->payload[ordinal] == NULL : !ItemPointerIsValid(&reader->tid[ordinal]))
				report_damage(reader, range->tensor_id, tile_no, "is missing");
		}
	}
}

/* Pages of other tables that the whole server has pinned now */
static int64
count_pinned_elsewhere(Relation rel)
{
	int64		n = 0;

	for (int i = 0; i < NBuffers; i++)
	{
		BufferDesc *buffer = GetBufferDescriptor(i);

		if (BUF_STATE_GET_REFCOUNT(pg_atomic_read_u32(&buffer->state)) == 0)
			continue;
		/* without the header's lock: a wrong count costs speed at most */
#if PG_VERSION_NUM >= 160000
		if (!BufTagMatchesRelFileLocator(&buffer->tag, &rel->rd_locator))
#else
		if (!RelFileNodeEquals(buffer->tag.rnode, rel->rd_node))
#endif
			n++;
	}
	return n;
}

/*
 * Whether the model may be pinned as a whole. What is pinned already counts too, unless the model is so small
 * that looking would cost more than it can do harm.
 */
static bool
may_pin(Relation rel, BlockNumber n_blocks)
{
	int64		allowed = (int64) NBuffers * hart_pin_percent / 100;

	if (n_blocks > allowed)
		return false;
	return n_blocks < (BlockNumber) NBuffers / 256 || n_blocks + count_pinned_elsewhere(rel) <= allowed;
}

/* Say once a session what would make the model run faster. */
static void
hint_at_streaming(Relation rel, BlockNumber n_blocks)
{
	static bool said = false;

	if (said)
		return;
	said = true;
	ereport(NOTICE,
			(errmsg("model of %u MB is read tile by tile, because with what runs already it exceeds %d %% of shared_buffers",
					n_blocks / (1024 * 1024 / BLCKSZ) + 1, hart_pin_percent),
			 errhint("Set shared_buffers to %u MB or more for each model that runs at a time, or raise hart.pin_percent.",
					 (uint32) ((n_blocks / (1024 * 1024 / BLCKSZ) + 1) * UINT64CONST(100) / Max(hart_pin_percent, 1) + 1))));
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
		reader->n_tiles += hart_tile_count(ranges[i].bytes);
	}
	if (reader->n_tiles > (int64) n_blocks * MaxHeapTuplesPerPage)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("table \"%s\" is too small for the tensors of its model", RelationGetRelationName(rel)),
				 errhint("Restore the model's tiles, or drop the model and ingest it again.")));
	reader->pinned = may_pin(rel, n_blocks);
	reader->payload = MemoryContextAllocExtended(CurrentMemoryContext, Max(reader->n_tiles, 1) * sizeof(char *),
												 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	if (!reader->pinned)
	{
		hint_at_streaming(rel, n_blocks);
		reader->tid = MemoryContextAllocExtended(CurrentMemoryContext,
												 Max(reader->n_tiles, 1) * sizeof(ItemPointerData),
												 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		reader->buffer = MemoryContextAllocExtended(CurrentMemoryContext,
													Max(reader->n_tiles, 1) * sizeof(Buffer),
													MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	}

	PredicateLockRelation(rel, snapshot);
	for (BlockNumber block = 0; block < n_blocks; block++)
	{
		CHECK_FOR_INTERRUPTS();
		scan_page(reader, block);
	}
	check_complete(reader);
	return reader;
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
	check_snapshot_age(reader, page);
	item = PageGetItemId(page, ItemPointerGetOffsetNumber(tid));
	if (ItemPointerGetOffsetNumber(tid) > PageGetMaxOffsetNumber(page) || !ItemIdIsNormal(item))
		elog(ERROR, "tile " INT64_FORMAT " is no longer where it was", ordinal);
	tuple.t_tableOid = RelationGetRelid(reader->rel);
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
	tuple.t_len = ItemIdGetLength(item);
	tuple.t_self = *tid;
	tensor_id = int_column(reader, &tuple, HART_TILES_TENSOR_ID);
	tile_no = int_column(reader, &tuple, HART_TILES_TILE_NO);
	range = find_range(reader, tensor_id);
	if (range == NULL || range->first + tile_no != ordinal)
		elog(ERROR, "tile " INT64_FORMAT " is no longer where it was", ordinal);
	reader->payload[ordinal] = payload_of(reader, &tuple, tensor_id, tile_no, expected_bytes(range, tile_no));
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
