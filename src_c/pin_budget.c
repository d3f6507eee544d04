/*
 * pin_budget.c
 *	  How many buffers a context may keep pinned.
 */
#include "pin_budget.h"

#include "storage/buf_internals.h"
#include "storage/bufmgr.h"

#include "settings.h"

/* how many buffers are looked at, about: models pin long stretches, and what is not in the processor's cache takes time */
#define SAMPLE 2048

/* Pages of other tables that the whole server has pinned now, about */
static int64
count_pinned_elsewhere(Relation rel)
{
	int64		n = 0;
	int			step = Max(1, NBuffers / SAMPLE);

	for (int i = 0; i < NBuffers; i += step)
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
			n += step;
	}
	return n;
}

bool
hart_may_pin(Relation rel, int64 n_pages)
{
	int64		allowed = (int64) NBuffers * hart_pin_percent / 100;

	if (n_pages > allowed)
		return false;
	return n_pages < NBuffers / 256 || n_pages + count_pinned_elsewhere(rel) <= allowed;
}

void
hart_hint_at_streaming(int64 n_pages)
{
	static bool said = false;
	uint32		megabytes = n_pages / (1024 * 1024 / BLCKSZ) + 1;

	if (said)
		return;
	said = true;
	ereport(NOTICE,
			(errmsg("model of %u MB is read tile by tile, because with what runs already it exceeds %d %% of shared_buffers",
					megabytes, hart_pin_percent),
			 errhint("Set shared_buffers to %u MB or more for each model that runs at a time, or raise hart.pin_percent.",
					 (uint32) (megabytes * UINT64CONST(100) / Max(hart_pin_percent, 1) + 1))));
}
