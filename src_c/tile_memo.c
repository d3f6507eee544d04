/*
 * tile_memo.c
 *	  What a session remembers of where the tiles of a model lie in the buffers.
 */
#include "tile_memo.h"

#include "utils/memutils.h"

/* memos a session keeps: a few models, whole or in part */
#define MAX_MEMOS 4

#if PG_VERSION_NUM >= 160000
typedef RelFileLocator RelFile;
#define RelationFile(rel) ((rel)->rd_locator)
#define SameFile(a, b) RelFileLocatorEquals(a, b)
#else
typedef RelFileNode RelFile;
#define RelationFile(rel) ((rel)->rd_node)
#define SameFile(a, b) RelFileNodeEquals(a, b)
#endif

struct HartTileMemo
{
	HartTileMemo *next;
	MemoryContext memory;		/* holds this memo and nothing else */
	RelFile		file;			/* another after TRUNCATE, CLUSTER, VACUUM FULL */
	HartTileRange *ranges;
	int			n_ranges;
	HartTilePage *pages;
	int64		n_pages;
	int64		max_pages;
	HartTilePlace *places;		/* room for one a tile */
	int64		n_places;
	int64		max_places;
};

/* of the session, the one used last first */
static HartTileMemo *memos = NULL;

HartTileMemo *
hart_tile_memo_create(Relation rel, const HartTileRange *ranges, int n_ranges, int64 n_tiles)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "hart tile memo", ALLOCSET_SMALL_SIZES);
	HartTileMemo *memo = MemoryContextAllocZero(memory, sizeof(HartTileMemo));

	memo->memory = memory;
	memo->file = RelationFile(rel);
	memo->n_ranges = n_ranges;
	memo->ranges = MemoryContextAlloc(memory, Max(n_ranges, 1) * sizeof(HartTileRange));
	memcpy(memo->ranges, ranges, n_ranges * sizeof(HartTileRange));
	memo->max_pages = n_tiles + 1;
	memo->pages = MemoryContextAllocHuge(memory, memo->max_pages * sizeof(HartTilePage));
	memo->max_places = Max(n_tiles, 1);
	memo->places = MemoryContextAllocHuge(memory, memo->max_places * sizeof(HartTilePlace));
	return memo;
}

void
hart_tile_memo_add_page(HartTileMemo *memo, BlockNumber block, Buffer buffer, XLogRecPtr lsn)
{
	/* a page that turned out to hold none of the tiles makes room */
	if (memo->n_pages > 0 && memo->pages[memo->n_pages - 1].n == 0)
		memo->n_pages--;
	Assert(memo->n_pages < memo->max_pages);
	memo->pages[memo->n_pages++] = (HartTilePage) {.block = block, .buffer = buffer, .lsn = lsn, .first = memo->n_places};
}

void
hart_tile_memo_add_tile(HartTileMemo *memo, int64 ordinal, size_t offset, uint64 fingerprint)
{
	HartTilePage *page = &memo->pages[memo->n_pages - 1];

	Assert(memo->n_places < memo->max_places);
	memo->places[memo->n_places++] = (HartTilePlace) {.ordinal = ordinal, .offset = offset};
	page->n++;
	page->fingerprint += fingerprint;
}

static bool
is_of(const HartTileMemo *memo, Relation rel, const HartTileRange *ranges, int n_ranges)
{
	if (!SameFile(memo->file, RelationFile(rel)) || memo->n_ranges != n_ranges)
		return false;
	for (int i = 0; i < n_ranges; i++)
		if (memo->ranges[i].tensor_id != ranges[i].tensor_id || memo->ranges[i].format != ranges[i].format || memo->ranges[i].n != ranges[i].n)
			return false;
	return true;
}

/* Take the memo of these tiles out of the list */
static HartTileMemo *
take(Relation rel, const HartTileRange *ranges, int n_ranges)
{
	for (HartTileMemo **link = &memos; *link != NULL; link = &(*link)->next)
	{
		HartTileMemo *memo = *link;

		if (is_of(memo, rel, ranges, n_ranges))
		{
			*link = memo->next;
			return memo;
		}
	}
	return NULL;
}

void
hart_tile_memo_keep(Relation rel, HartTileMemo *memo)
{
	HartTileMemo *old = take(rel, memo->ranges, memo->n_ranges);
	HartTileMemo **link = &memos;

	if (old != NULL)
		MemoryContextDelete(old->memory);
	MemoryContextSetParent(memo->memory, TopMemoryContext);
	memo->next = memos;
	memos = memo;

	for (int n = 0; n < MAX_MEMOS && *link != NULL; n++)
		link = &(*link)->next;
	while (*link != NULL)
	{
		old = *link;
		*link = old->next;
		MemoryContextDelete(old->memory);
	}
}

HartTileMemo *
hart_tile_memo_find(Relation rel, const HartTileRange *ranges, int n_ranges)
{
	HartTileMemo *memo = take(rel, ranges, n_ranges);

	if (memo != NULL)
	{
		memo->next = memos;
		memos = memo;
	}
	return memo;
}

HartTilePage *
hart_tile_memo_pages(HartTileMemo *memo, int64 *n_pages)
{
	*n_pages = memo->n_pages;
	return memo->pages;
}

const HartTilePlace *
hart_tile_memo_places(const HartTileMemo *memo, const HartTilePage *page)
{
	return &memo->places[page->first];
}
