/*
 * buffer_pins.c
 *	  Pins of very many buffers.
 *
 * PostgreSQL enters each pin of a backend in two hash tables, of its own pins and of the resource owner's. That is made for some
 * dozens; for the hundred thousand pages of a model it takes several times as long as the pins themselves. Pins of this file
 * are counted in the buffer's header alone, under its lock, as PinBuffer_Locked does; this file remembers them in an array, and
 * the resource owner that they belong to releases them by a callback: at the time it releases other pins, on success,
 * error and cancel alike.
 *
 * To the rest of the backend they are pins of somebody else. That would matter to code that waits to be the only one to pin a page
 * (VACUUM) or that throws pages away (TRUNCATE, DROP): neither can run in this session on a table that is open here. And it matters
 * on a standby, where the replay of VACUUM waits for a pin no longer than max_standby_streaming_delay and then asks each backend whether it
 * has it: there pins are ordinary ones.
 */
#include "buffer_pins.h"

#include "access/xlog.h"
#include "executor/instrument.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* how many headers ahead the processor is told to fetch */
#define PREFETCH_HEADERS 8

/* the header counts up to BUF_REFCOUNT_MASK, of which PostgreSQL itself needs one a backend */
#define MAX_PINS (BUF_REFCOUNT_MASK / 2)

struct HartPins
{
	HartPins   *next;
	ResourceOwner owner;
	BufferTag	tag;			/* of a page of the relation, but for its number */
	bool		ordinary;		/* they are entered as PostgreSQL does it, and not here */
	int64		n;
	int64		max;
	Buffer		buffers[FLEXIBLE_ARRAY_MEMBER];
};

static HartPins *all_pins = NULL;

/* Release a pin, and wake who waits to be the only one, as UnpinBuffer does */
static void
unpin(BufferDesc *buffer)
{
	uint32		state = LockBufHdr(buffer);

	Assert(BUF_STATE_GET_REFCOUNT(state) > 0);
	state -= BUF_REFCOUNT_ONE;
	if ((state & BM_PIN_COUNT_WAITER) != 0 && BUF_STATE_GET_REFCOUNT(state) == 1)
	{
#if PG_VERSION_NUM >= 150000
		int			waiter = buffer->wait_backend_pgprocno;
#else
		int			waiter = buffer->wait_backend_pid;
#endif

		state &= ~BM_PIN_COUNT_WAITER;
		UnlockBufHdr(buffer, state);
		ProcSendSignal(waiter);
	}
	else
		UnlockBufHdr(buffer, state);
}

static void
release(HartPins *pins)
{
	for (int64 i = 0; i < pins->n; i++)
	{
		if (i + PREFETCH_HEADERS < pins->n)
			__builtin_prefetch(GetBufferDescriptor(pins->buffers[i + PREFETCH_HEADERS] - 1), 1);
		unpin(GetBufferDescriptor(pins->buffers[i] - 1));
	}
	pfree(pins);
}

static void
release_owned(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	HartPins  **link = &all_pins;

	if (phase != RESOURCE_RELEASE_BEFORE_LOCKS)
		return;
	while (*link != NULL)
	{
		HartPins   *pins = *link;

		if (pins->owner == CurrentResourceOwner)
		{
			*link = pins->next;
			release(pins);
		}
		else
			link = &pins->next;
	}
}

HartPins *
hart_pins_create(Relation rel, int64 max)
{
	static bool registered = false;
	HartPins   *pins;

	if (!registered)
		RegisterResourceReleaseCallback(release_owned, NULL);
	registered = true;
	pins = MemoryContextAllocHuge(TopMemoryContext, offsetof(HartPins, buffers) + sizeof(Buffer) * max);
	pins->owner = CurrentResourceOwner;
#if PG_VERSION_NUM >= 160000
	InitBufferTag(&pins->tag, &rel->rd_locator, MAIN_FORKNUM, 0);
#else
	INIT_BUFFERTAG(pins->tag, rel->rd_node, MAIN_FORKNUM, 0);
#endif
	pins->ordinary = RecoveryInProgress();
	pins->n = 0;
	pins->max = max;
	pins->next = all_pins;
	all_pins = pins;
	return pins;
}

/* Count a pin in a header that is locked, and unlock it; as PinBuffer does, the page counts as used */
static void
pin_locked(HartPins *pins, Buffer buffer, uint32 state)
{
	if (BUF_STATE_GET_REFCOUNT(state) >= MAX_PINS)
	{
		UnlockBufHdr(GetBufferDescriptor(buffer - 1), state);
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a page cannot have more than %u pins", MAX_PINS),
				 errhint("Close contexts that are no longer needed with hart.close_context.")));
	}
	state += BUF_REFCOUNT_ONE;
	if (BUF_STATE_GET_USAGECOUNT(state) < BM_MAX_USAGE_COUNT)
		state += BUF_USAGECOUNT_ONE;
	UnlockBufHdr(GetBufferDescriptor(buffer - 1), state);
	pins->buffers[pins->n++] = buffer;
}

static void
check_room(const HartPins *pins)
{
	if (pins->n >= pins->max)
		elog(ERROR, "more pages to pin than there are tiles");
}

void
hart_pins_add(HartPins *pins, Buffer buffer)
{
	if (pins->ordinary)
	{
		IncrBufferRefCount(buffer);
		return;
	}
	if (pins->n > 0 && pins->buffers[pins->n - 1] == buffer)
		return;
	check_room(pins);
	Assert(BufferIsValid(buffer) && !BufferIsLocal(buffer));
	pin_locked(pins, buffer, LockBufHdr(GetBufferDescriptor(buffer - 1)));
}

bool
hart_pins_add_recent(HartPins *pins, BlockNumber block, Buffer buffer)
{
	BufferDesc *desc = GetBufferDescriptor(buffer - 1);
	uint32		state;

	if (pins->ordinary)
		return false;
	check_room(pins);
	pins->tag.blockNum = block;
	state = LockBufHdr(desc);
#if PG_VERSION_NUM >= 160000
	if ((state & BM_VALID) != 0 && BufferTagsEqual(&desc->tag, &pins->tag))
#else
	if ((state & BM_VALID) != 0 && BUFFERTAGS_EQUAL(desc->tag, pins->tag))
#endif
	{
		pin_locked(pins, buffer, state);
		pgBufferUsage.shared_blks_hit++;
		return true;
	}
	UnlockBufHdr(desc, state);
	return false;
}
