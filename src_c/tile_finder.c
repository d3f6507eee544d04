/*
 * tile_finder.c
 *	  Where the tiles lie that a snapshot sees: by looking at every page, by the index, or by what the
 *	  session remembers.
 */
#include "tile_reader_internal.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_am.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "buffer_pins.h"
#include "settings.h"
#include "tile_table.h"

/* how many pages ahead the processor is told to fetch what pinning looks at */
#define PREFETCH_PAGES 8
/* buffers that one page fault maps on Linux, and from how many on it is worth waking threads for */
#define BUFFERS_A_FAULT (65536 / BLCKSZ)
#define MIN_BUFFERS_TO_MAP 4096
/* pages that a thread compares with a memo in one go */
#define PAGES_TO_COMPARE 1024

/* One tile's share in the fingerprint: a version of a row is known by where it lies and who made it */
static uint64
tile_fingerprint(int64 ordinal, HeapTuple tuple)
{
	struct
	{
		int64		ordinal;
		BlockNumber block;
		TransactionId xmin;
		uint64		line;
	}			key = {ordinal, ItemPointerGetBlockNumber(&tuple->t_self), HeapTupleHeaderGetRawXmin(tuple->t_data),
	ItemPointerGetOffsetNumber(&tuple->t_self)};

	return hash_bytes_extended((const unsigned char *) &key, sizeof(key), 0);
}

/* Enter a visible tuple of a page; false when it belongs to no tensor that is wanted */
static bool
remember_tile(HartTileReader *reader, HeapTuple tuple, Page page)
{
	int32		tensor_id = hart_tile_key(reader, tuple, HART_TILES_TENSOR_ID);
	int32		tile_no = hart_tile_key(reader, tuple, HART_TILES_TILE_NO);
	HartTileRange *range;
	const char *payload;
	int64		ordinal;
	uint64		fingerprint;

	if (hart_tile_key(reader, tuple, HART_TILES_MODEL_ID) != reader->model_id)
		return false;
	range = hart_find_tile_range(reader, tensor_id);
	if (range == NULL || tile_no < 0 || tile_no >= hart_tile_count(range->format, range->n))
		return false;

	payload = hart_tile_payload(reader, tuple, range, tile_no);
	ordinal = range->first + tile_no;
	fingerprint = tile_fingerprint(ordinal, tuple);
	/* a tile that a memo led to may be met again */
	if (!reader->pinned || reader->payload[ordinal] != payload)
	{
		if (reader->pinned ? reader->payload[ordinal] != NULL : ItemPointerIsValid(&reader->tid[ordinal]))
			hart_report_tile_damage(reader, tensor_id, tile_no, "is there twice");
		if (reader->pinned)
			reader->payload[ordinal] = payload;
		else
		{
			reader->tid[ordinal] = tuple->t_self;
			MemoryContextReset(reader->held_memory);
		}
		reader->fingerprint += fingerprint;
		reader->n_found++;
	}
	if (reader->memo != NULL && payload > (const char *) page && payload < (const char *) page + BLCKSZ)
		hart_tile_memo_add_tile(reader->memo, ordinal, payload - (const char *) page, fingerprint);
	else
		reader->memo = NULL;
	return true;
}

/* Whether what a page looked like may be remembered: it must be logged, and all-visible must mean it for our snapshot */
static bool
may_remember(const HartTileReader *reader)
{
	return reader->pinned && reader->n_tiles < PG_UINT32_MAX && RelationIsPermanent(reader->rel) && RelationNeedsWAL(reader->rel) &&
		!reader->snapshot->takenDuringRecovery && !RecoveryInProgress() && !IsolationIsSerializable();
}

/* LSN by which a page is known again; the caller holds its lock. Only a page whose rows everybody sees is. */
static XLogRecPtr
lsn_to_remember(Page page)
{
	return PageIsAllVisible(page) ? PageGetLSN(page) : InvalidXLogRecPtr;
}

/* Pin a page, which is in the buffer that is guessed as a rule: then there is no need to look it up */
static Buffer
read_page(Relation rel, BlockNumber block, Buffer guess)
{
#if PG_VERSION_NUM >= 160000
	if (BufferIsValid(guess) && guess <= NBuffers && ReadRecentBuffer(rel->rd_locator, MAIN_FORKNUM, block, guess))
#else
	if (BufferIsValid(guess) && guess <= NBuffers && ReadRecentBuffer(rel->rd_node, MAIN_FORKNUM, block, guess))
#endif
		return guess;
	return ReadBuffer(rel, block);
}

/* Look at every visible tuple of a page, and pin it when it has tiles that are to stay pinned; the buffer that it is in */
static Buffer
scan_page(HartTileReader *reader, BlockNumber block, Buffer guess)
{
	Buffer		buffer = read_page(reader->rel, block, guess);
	Page		page = BufferGetPage(buffer);
	bool		all_visible;
	bool		keep = false;
	OffsetNumber lines;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	hart_check_snapshot_age(reader, page);
	lines = PageGetMaxOffsetNumber(page);
	/* as heap scans do: what is all-visible on a primary may not be so yet for a standby's snapshot */
	all_visible = PageIsAllVisible(page) && !reader->snapshot->takenDuringRecovery;
	if (reader->memo)
		hart_tile_memo_add_page(reader->memo, block, buffer, lsn_to_remember(page));
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
		if (visible && remember_tile(reader, &tuple, page))
			keep = reader->pinned;
	}
	if (keep)
		hart_pins_add(reader->pins, buffer);
	UnlockReleaseBuffer(buffer);
	return buffer;
}

/* What a memo's words about a page are worth */
typedef enum
{
	PAGE_NOT_KNOWN = 0,
	PAGE_AS_KNOWN,
	PAGE_CHANGED
} KnownPage;

/* Read what every page begins with: that maps it into this process, and brings near what is looked at next */
static void
touch_task(void *arg, size_t begin, size_t end, int worker)
{
	Buffer		first = *(Buffer *) arg;

	for (size_t i = begin; i < end; i++)
	{
		volatile char *page = (volatile char *) BufferGetPage(first + i);

		(void) page[0];
		(void) page[PG_CACHE_LINE_SIZE / 2];
	}
}

/*
 * What a session reads of shared buffers for the first time costs it a page fault, for every 64 kB as a rule, and then a wait for memory that no
 * prefetching spares it. Let all threads have both, where the table seems to lie.
 */
static void
map_buffers(Buffer first, BlockNumber n_blocks)
{
	size_t		n = Min(n_blocks, NBuffers - first + 1);

	if (n >= MIN_BUFFERS_TO_MAP)
		hart_run_parallel(n, 64 * BUFFERS_A_FAULT, touch_task, &first);
}

/* Look at every page but those that a memo was right about */
static void
scan_pages(HartTileReader *reader, BlockNumber n_blocks, const uint8 *known)
{
	Buffer		buffer = InvalidBuffer;

	for (BlockNumber block = 0; block < n_blocks; block++)
	{
		CHECK_FOR_INTERRUPTS();
		if (known != NULL && known[block] == PAGE_AS_KNOWN)
			continue;
		/* what was read in one go lies in one stretch of the buffers */
		buffer = scan_page(reader, block, buffer + 1);
		if (block == 0 && reader->pinned)
			map_buffers(buffer, n_blocks);
		if (buffer + PREFETCH_PAGES <= NBuffers)
		{
			__builtin_prefetch(GetBufferDescriptor(buffer + PREFETCH_PAGES - 1), 1);
			/* its line pointers, and the tuple when there is one a page */
			__builtin_prefetch(BufferGetPage(buffer + PREFETCH_PAGES));
			__builtin_prefetch(BufferGetPage(buffer + PREFETCH_PAGES) + PG_CACHE_LINE_SIZE / 2);
		}
	}
}

/* Pin the pages that a memo names, all but those that must be looked at again anyway, and note which */
static void
pin_known_pages(HartTileReader *reader, HartTilePage *pages, int64 n_pages, BlockNumber n_blocks, uint8 *state)
{
	for (int64 i = 0; i < n_pages; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i + PREFETCH_PAGES < n_pages)
			__builtin_prefetch(GetBufferDescriptor(pages[i + PREFETCH_PAGES].buffer - 1), 1);
		if (pages[i].block >= n_blocks)
			state[i] = PAGE_NOT_KNOWN;
		else if (pages[i].lsn == InvalidXLogRecPtr)
			state[i] = PAGE_CHANGED;
		else
		{
			if (!hart_pins_add_recent(reader->pins, pages[i].block, pages[i].buffer))
			{
				pages[i].buffer = ReadBuffer(reader->rel, pages[i].block);
				hart_pins_add(reader->pins, pages[i].buffer);
				ReleaseBuffer(pages[i].buffer);
			}
			state[i] = PAGE_AS_KNOWN;
		}
	}
}

typedef struct CompareWork
{
	const HartTilePage *pages;
	int64		n_pages;
	uint8	   *state;			/* a KnownPage for each of them */
} CompareWork;

/*
 * Whether pages that are pinned are still as a memo says. With the pin held nobody moves their rows. LSN and flag are read without
 * the lock: a change that is under way belongs to a transaction that our snapshot does not see.
 */
static void
compare_task(void *arg, size_t begin, size_t end, int worker)
{
	const CompareWork *w = arg;

	for (size_t i = begin; i < end; i++)
	{
		Page		page = BufferGetPage(w->pages[i].buffer);

		if (i + PREFETCH_PAGES < (size_t) w->n_pages)
			__builtin_prefetch(BufferGetPage(w->pages[i + PREFETCH_PAGES].buffer));
		if (w->state[i] == PAGE_AS_KNOWN && (PageGetLSN(page) != w->pages[i].lsn || !PageIsAllVisible(page)))
			w->state[i] = PAGE_CHANGED;
	}
}

/*
 * Enter the tiles of the pages that are still as a memo says, and note which those are; a memo may name a page more than once.
 * To pin is one pass and to look at the pages another: the atomic operations of the first would keep the second from waiting for several pages
 * at a time, which lie anywhere in memory.
 */
static void
recall_tiles(HartTileReader *reader, HartTileMemo *memo, BlockNumber n_blocks, uint8 *known)
{
	CompareWork work = {0};
	HartTilePage *pages = hart_tile_memo_pages(memo, &work.n_pages);

	work.pages = pages;
	work.state = MemoryContextAllocHuge(CurrentMemoryContext, work.n_pages + 1);
	pin_known_pages(reader, pages, work.n_pages, n_blocks, work.state);
	hart_run_parallel(work.n_pages, PAGES_TO_COMPARE, compare_task, &work);
	for (int64 i = 0; i < work.n_pages; i++)
	{
		const HartTilePlace *places = hart_tile_memo_places(memo, &pages[i]);

		if (pages[i].block >= n_blocks)
			continue;
		if (work.state[i] != PAGE_AS_KNOWN)
		{
			known[pages[i].block] = PAGE_CHANGED;
			continue;
		}
		hart_check_snapshot_age(reader, BufferGetPage(pages[i].buffer));
		if (known[pages[i].block] == PAGE_NOT_KNOWN)
			known[pages[i].block] = PAGE_AS_KNOWN;
		reader->fingerprint += pages[i].fingerprint;
		for (uint32 j = 0; j < pages[i].n; j++)
			reader->payload[places[j].ordinal] = BufferGetPage(pages[i].buffer) + places[j].offset;
		reader->n_found += pages[i].n;
	}
	pfree(work.state);
}

/* Begin the new memo with what the old one was right about */
static void
copy_known_pages(HartTileReader *reader, HartTileMemo *memo, BlockNumber n_blocks, const uint8 *known)
{
	int64		n_pages;
	HartTilePage *pages = hart_tile_memo_pages(memo, &n_pages);

	for (int64 i = 0; i < n_pages; i++)
	{
		const HartTilePlace *places = hart_tile_memo_places(memo, &pages[i]);

		if (pages[i].block >= n_blocks || known[pages[i].block] != PAGE_AS_KNOWN)
			continue;
		hart_tile_memo_add_page(reader->memo, pages[i].block, pages[i].buffer, pages[i].lsn);
		for (uint32 j = 0; j < pages[i].n; j++)
			hart_tile_memo_add_tile(reader->memo, places[j].ordinal, places[j].offset, j == 0 ? pages[i].fingerprint : 0);
	}
}

/* A usable index that begins with model_id and tensor_id; InvalidOid when there is none */
static Oid
find_index(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	Oid			found = InvalidOid;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (index->rd_rel->relam == BTREE_AM_OID && form->indisvalid && !form->indcheckxmin && form->indnkeyatts >= 2 &&
			form->indkey.values[0] == HART_TILES_MODEL_ID && form->indkey.values[1] == HART_TILES_TENSOR_ID &&
			RelationGetIndexPredicate(index) == NIL)
			found = RelationGetRelid(index);
		index_close(index, AccessShareLock);
		if (OidIsValid(found))
			break;
	}
	list_free(indexes);
	return found;
}

/* Enter a tile that an index led to */
static void
remember_indexed_tile(HartTileReader *reader, HeapTuple tuple, Buffer buffer)
{
	Page		page = BufferGetPage(buffer);

	if (reader->memo)
	{
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		hart_tile_memo_add_page(reader->memo, BufferGetBlockNumber(buffer), buffer, lsn_to_remember(page));
		LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	}
	if (remember_tile(reader, tuple, page) && reader->pinned)
		hart_pins_add(reader->pins, buffer);
}

/* Look up the tiles by the index: for a few tensors of many */
static void
look_up_tiles(HartTileReader *reader, Oid index_oid, BlockNumber n_blocks, const uint8 *known)
{
	Relation	index = index_open(index_oid, AccessShareLock);

	for (int i = 0; i < reader->n_ranges; i++)
	{
		ScanKeyData key[2];
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key[0], HART_TILES_MODEL_ID, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(reader->model_id));
		ScanKeyInit(&key[1], HART_TILES_TENSOR_ID, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(reader->ranges[i].tensor_id));
		scan = systable_beginscan_ordered(reader->rel, index, reader->snapshot, lengthof(key), key);
		while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
		{
			BlockNumber block = ItemPointerGetBlockNumber(&tuple->t_self);

			CHECK_FOR_INTERRUPTS();
			if (known == NULL || block >= n_blocks || known[block] != PAGE_AS_KNOWN)
				remember_indexed_tile(reader, tuple, ((BufferHeapTupleTableSlot *) scan->slot)->buffer);
		}
		systable_endscan_ordered(scan);
	}
	index_close(index, AccessShareLock);
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

		for (int64 tile_no = 0; tile_no < hart_tile_count(range->format, range->n); tile_no++)
		{
			int64		ordinal = range->first + tile_no;

			if (reader->pinned ? reader->payload[ordinal] == NULL : !ItemPointerIsValid(&reader->tid[ordinal]))
				hart_report_tile_damage(reader, range->tensor_id, tile_no, "is missing");
		}
	}
}

void
hart_find_tiles(HartTileReader *reader, BlockNumber n_blocks)
{
	HartTileMemo *old = may_remember(reader) ? hart_tile_memo_find(reader->rel, reader->ranges, reader->n_ranges) : NULL;
	Oid			index = reader->n_tiles < n_blocks / 2 ? find_index(reader->rel) : InvalidOid;
	uint8	   *known = NULL;	/* a KnownPage for each block */

	if (old != NULL)
	{
		known = MemoryContextAllocExtended(CurrentMemoryContext, n_blocks + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		recall_tiles(reader, old, n_blocks, known);
	}
	if (old == NULL || reader->n_found < reader->n_tiles)
	{
		if (may_remember(reader))
			reader->memo = hart_tile_memo_create(reader->rel, reader->ranges, reader->n_ranges, reader->n_tiles);
		if (old != NULL)
			copy_known_pages(reader, old, n_blocks, known);
		if (OidIsValid(index))
			look_up_tiles(reader, index, n_blocks, known);
		else
			scan_pages(reader, n_blocks, known);
	}
	check_complete(reader);
	if (reader->memo)
		hart_tile_memo_keep(reader->rel, reader->memo);
	if (known)
		pfree(known);
}
