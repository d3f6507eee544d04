/*
 * matrix_large.c
 *	  Large matrices as expanded objects, so that PL/pgSQL hands them on instead of copying them.
 *
 * Such a matrix lies in large memory as PostgreSQL would store it, its numbers on a cache line. Its expanded object has a memory context of its own, with
 * which the memory goes.
 */
#include "matrix.h"

#include "utils/expandeddatum.h"

#include "large_memory.h"

typedef struct
{
	ExpandedObjectHeader header;
	HartLargeMemory memory;
	HartMatrix *matrix;			/* in there */
	MemoryContextCallback at_end;
} LargeMatrix;

/* What its memory begins with, a cache line before the numbers */
typedef struct
{
	LargeMatrix *owner;
	char		unused[PG_CACHE_LINE_SIZE - sizeof(LargeMatrix *) - offsetof(HartMatrix, data)];
	HartMatrix	matrix;
} LargeBegin;

static inline LargeBegin *
begin_of(HartMatrix *m)
{
	return (LargeBegin *) ((char *) m - offsetof(LargeBegin, matrix));
}

static Size
flat_size(ExpandedObjectHeader *header)
{
	return VARSIZE(((LargeMatrix *) header)->matrix);
}

static void
flatten(ExpandedObjectHeader *header, void *result, Size allocated_size)
{
	HartMatrix *flat = result;

	memcpy(flat, ((LargeMatrix *) header)->matrix, allocated_size);
	flat->in_large_memory = 0;
}

static const ExpandedObjectMethods methods = {flat_size, flatten};

static void
give_back(void *arg)
{
	hart_large_give(((LargeMatrix *) arg)->memory);
}

HartMatrix *
hart_large_matrix_alloc(size_t size)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "hart.matrix", ALLOCSET_SMALL_SIZES);
	LargeMatrix *large = MemoryContextAllocZero(context, sizeof(LargeMatrix));
	LargeBegin *begin;

	EOH_init_header(&large->header, &methods, context);
	large->at_end.func = give_back;
	large->at_end.arg = large;
	MemoryContextRegisterResetCallback(context, &large->at_end);
	large->memory = hart_large_take(offsetof(LargeBegin, matrix) + size);
	begin = (LargeBegin *) large->memory.start;
	begin->owner = large;
	large->matrix = &begin->matrix;
	large->matrix->in_large_memory = 1;
	return large->matrix;
}

Datum
hart_matrix_datum(HartMatrix *m)
{
	return m->in_large_memory ? EOHPGetRWDatum(&begin_of(m)->owner->header) : PointerGetDatum(m);
}

void
hart_matrix_free(HartMatrix *m)
{
	if (m->in_large_memory)
		DeleteExpandedObject(hart_matrix_datum(m));
	else
		pfree(m);
}

HartMatrix *
hart_matrix_of(Datum d)
{
	if (VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(d)))
	{
		ExpandedObjectHeader *header = DatumGetEOHP(d);

		Assert(header->eoh_methods == &methods);
		return ((LargeMatrix *) header)->matrix;
	}
	return (HartMatrix *) PG_DETOAST_DATUM(d);
}

HartMatrix *
hart_matrix_to_write(Datum a, Datum b)
{
	HartMatrix *m = hart_matrix_of(a);

	/* read-write pointers come straight from the function that made the matrix */
	if (VARATT_IS_EXTERNAL_EXPANDED_RW(DatumGetPointer(a)))
		return m;
	if (VARATT_IS_EXTERNAL_EXPANDED_RW(DatumGetPointer(b)))
		return hart_matrix_of(b);
	return hart_matrix_alloc(m->rows, m->cols);
}
