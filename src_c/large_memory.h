/*
 * large_memory.h
 *	  Large pieces of memory, in huge pages where the system has them.
 *
 * Rows of a prompt and what is made of them are read and written from front to back, many times a second, by all threads. In pages of 4 kB that takes
 * a walk through the page tables every few lines, and new memory for each of them a page fault every 4 kB. So pieces are whole huge pages, and
 * those that were given back are kept for the next one until the transaction ends.
 */
#ifndef HART_LARGE_MEMORY_H
#define HART_LARGE_MEMORY_H

#include "hartonomous.h"

/* bytes that are worth a piece of their own */
#define HART_LARGE_BYTES ((size_t) 256 * 1024)

typedef struct HartLargeMemory
{
	char	   *start;			/* on a huge page; NULL for none */
	size_t		size;
} HartLargeMemory;

/* At least so many bytes, of any content; error when there is no memory */
extern HartLargeMemory hart_large_take(size_t size);

/* Give a piece back; does nothing for none */
extern void hart_large_give(HartLargeMemory piece);

#endif							/* HART_LARGE_MEMORY_H */
