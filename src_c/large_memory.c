/*
 * large_memory.c
 *	  Large pieces of memory, in huge pages where the system has them.
 */
#include "large_memory.h"

#include <sys/mman.h>

#include "access/xact.h"

#define HUGE_PAGE ((size_t) 2 * 1024 * 1024)

/* pieces that are kept, and their bytes, at most: what a layer of a model of a billion weights makes of 512 tokens */
#define MAX_KEPT 16
#define MAX_KEPT_BYTES ((size_t) 64 * 1024 * 1024)

static HartLargeMemory kept[MAX_KEPT];
static int	n_kept = 0;
static size_t kept_bytes = 0;

static HartLargeMemory
keep_no_more(int i)
{
	HartLargeMemory piece = kept[i];

	kept[i] = kept[--n_kept];
	kept_bytes -= piece.size;
	return piece;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		while (n_kept > 0)
		{
			HartLargeMemory piece = keep_no_more(n_kept - 1);

			munmap(piece.start, piece.size);
		}
}

void
hart_large_memory_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}

static HartLargeMemory
map(size_t size)
{
	char	   *start = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char	   *aligned;

	if (start == MAP_FAILED)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Could not map %zu bytes: %m.", size),
				 errhint("Run shorter prompts, or fewer sessions at once.")));
	aligned = (char *) TYPEALIGN(HUGE_PAGE, start);
	if (aligned > start)
		munmap(start, aligned - start);
	munmap(aligned + size, start + HUGE_PAGE - aligned);
#ifdef MADV_HUGEPAGE
	/* a wish: the pages are small where the system has no others */
	(void) madvise(aligned, size, MADV_HUGEPAGE);
#endif
	return (HartLargeMemory) {aligned, size};
}

HartLargeMemory
hart_large_take(size_t size)
{
	int			best = -1;

	size = TYPEALIGN(HUGE_PAGE, size);
	for (int i = 0; i < n_kept; i++)
		if (kept[i].size >= size && (best < 0 || kept[i].size < kept[best].size))
			best = i;
	/* one that is much too large would be missed elsewhere */
	if (best >= 0 && kept[best].size <= 2 * size)
		return keep_no_more(best);
	return map(size);
}

void
hart_large_give(HartLargeMemory piece)
{
	if (piece.start == NULL)
		return;
	/* what is given back after the transaction's end would stay until the end of the next */
	if (n_kept == MAX_KEPT || kept_bytes + piece.size > MAX_KEPT_BYTES || !IsTransactionState())
	{
		munmap(piece.start, piece.size);
		return;
	}
	kept[n_kept++] = piece;
	kept_bytes += piece.size;
}
