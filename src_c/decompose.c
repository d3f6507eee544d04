/*
 * decompose.c
 *	  The parts of contents: hart.split_text, hart.components, hart.atom_ids; contents as text: hart.utf8_text.
 *
 * These functions know nothing of tables; sql/decompose.sql stores what they find.
 */
#include "hartonomous.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "atom_id.h"
#include "segments.h"
#include "sha256.h"
#include "utf8.h"

PG_FUNCTION_INFO_V1(hart_split_text);
PG_FUNCTION_INFO_V1(hart_components);
PG_FUNCTION_INFO_V1(hart_atom_ids);
PG_FUNCTION_INFO_V1(hart_utf8_text);

typedef struct Segment
{
	const uint8 *start;
	int32		size;
	uint32		hash;
	int32		next;			/* in the same bucket, -1 at its end */
} Segment;

/* Distinct segments in the order of their first appearance, found by a hash table of chains */
typedef struct SegmentSet
{
	Segment    *segments;
	int32		n_segments;
	int32		capacity;
	int32	   *buckets;		/* as many as the capacity, which is a power of 2 */
} SegmentSet;

static void
chain_all(SegmentSet *set)
{
	memset(set->buckets, 0xFF, set->capacity * sizeof(int32));
	for (int32 i = 0; i < set->n_segments; i++)
	{
		int32	   *bucket = &set->buckets[set->segments[i].hash & (set->capacity - 1)];

		set->segments[i].next = *bucket;
		*bucket = i;
	}
}

/* The number of a segment, from 0; it is added when it is new */
static int32
number_of_segment(SegmentSet *set, const uint8 *start, int32 size)
{
	uint32		hash = hash_bytes(start, size);
	int32		i = set->buckets[hash & (set->capacity - 1)];
	Segment    *added;

	for (; i >= 0; i = set->segments[i].next)
	{
		Segment    *other = &set->segments[i];

		if (other->hash == hash && other->size == size && memcmp(other->start, start, size) == 0)
			return i;
	}
	if (set->n_segments == set->capacity)
	{
		set->capacity *= 2;
		set->segments = repalloc_huge(set->segments, set->capacity * sizeof(Segment));
		set->buckets = repalloc_huge(set->buckets, set->capacity * sizeof(int32));
		chain_all(set);
	}
	added = &set->segments[set->n_segments];
	*added = (Segment) {start, size, hash, set->buckets[hash & (set->capacity - 1)]};
	set->buckets[hash & (set->capacity - 1)] = set->n_segments;
	return set->n_segments++;
}

static Datum
bytea_datum(const uint8 *data, Size size)
{
	bytea	   *value = palloc(VARHDRSZ + size);

	SET_VARSIZE(value, VARHDRSZ + size);
	memcpy(VARDATA(value), data, size);
	return PointerGetDatum(value);
}

/*
 * hart.split_text(content bytea) → (segments bytea[], sequence int[])
 *
 * The distinct segments, and for each place in the text the number, from 1, of
 * the one that is there.
 */
Datum
hart_split_text(PG_FUNCTION_ARGS)
{
	bytea	   *content = PG_GETARG_BYTEA_PP(0);
	const uint8 *at = (const uint8 *) VARDATA_ANY(content);
	const uint8 *end = at + VARSIZE_ANY_EXHDR(content);
	SegmentSet	set = {.capacity = 1024};
	Datum	   *sequence;
	Datum	   *segments;
	int64		n = 0;
	int64		n_allocated = 1024;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	set.segments = palloc(set.capacity * sizeof(Segment));
	set.buckets = palloc(set.capacity * sizeof(int32));
	chain_all(&set);
	sequence = palloc(n_allocated * sizeof(Datum));
	while (at < end)
	{
		Size		size = hart_segment_length(at, end);

		CHECK_FOR_INTERRUPTS();
		if (n == n_allocated)
		{
			n_allocated *= 2;
			sequence = repalloc_huge(sequence, n_allocated * sizeof(Datum));
		}
		sequence[n++] = Int32GetDatum(number_of_segment(&set, at, (int32) size) + 1);
		at += size;
	}

	segments = MemoryContextAllocHuge(CurrentMemoryContext, Max(set.n_segments, 1) * sizeof(Datum));
	for (int32 i = 0; i < set.n_segments; i++)
		segments[i] = bytea_datum(set.segments[i].start, set.segments[i].size);
	values[0] = PointerGetDatum(construct_array(segments, set.n_segments, BYTEAOID, -1, false, TYPALIGN_INT));
	values[1] = PointerGetDatum(construct_array(sequence, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* Ensure an array of contents, none of them NULL, and take it apart */
static Datum *
contents_of_array(ArrayType *array, int *n)
{
	Datum	   *contents;
	bool	   *nulls;

	deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &contents, &nulls, n);
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("contents must not be null"),
					 errhint("Remove the nulls, with array_remove for example.")));
	}
	return contents;
}

/* The modality with this name, of those that a function takes */
static HartModality
checked_modality(text *name, bool character, bool hashed, const char *hint)
{
	int			modality = hart_modality_of_name(text_to_cstring(name));

	if (!(character && modality == HART_ATOM_CHARACTER) &&
		!(hashed && (modality == HART_ATOM_TOKEN || modality == HART_ATOM_TEXT || modality == HART_ATOM_TENSOR)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("modality \"%s\" is not one of these", text_to_cstring(name)),
				 errhint("%s", hint)));
	return (HartModality) modality;
}

typedef struct ComponentsCall
{
	Datum	   *contents;
	int			n_contents;
	int			content;		/* where the call is */
	const uint8 *at;
	const uint8 *end;
	int32		position;
	bool		only_bytes;
} ComponentsCall;

static void
begin_content(ComponentsCall *state)
{
	struct varlena *content = PG_DETOAST_DATUM_PACKED(state->contents[state->content]);

	state->at = (const uint8 *) VARDATA_ANY(content);
	state->end = state->at + VARSIZE_ANY_EXHDR(content);
	state->position = 0;
}

/*
 * hart.components(modality text, contents bytea[]) → rows (parent int, position int, child_id bigint)
 *
 * Of tokens and segments the characters, and bytes where they are not valid
 * UTF-8; of characters the bytes.  parent is the number of the content, from 1.
 */
Datum
hart_components(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	ComponentsCall *state;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext before;
		HartModality modality = checked_modality(PG_GETARG_TEXT_PP(0), true, true, "Give character, token, text or tensor.");

		call = SRF_FIRSTCALL_INIT();
		before = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &call->tuple_desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		call->tuple_desc = BlessTupleDesc(call->tuple_desc);
		call->user_fctx = state = palloc0(sizeof(ComponentsCall));
		state->contents = contents_of_array(PG_GETARG_ARRAYTYPE_P_COPY(1), &state->n_contents);
		state->only_bytes = modality == HART_ATOM_CHARACTER;
		if (state->n_contents > 0)
			begin_content(state);
		MemoryContextSwitchTo(before);
	}

	call = SRF_PERCALL_SETUP();
	state = call->user_fctx;
	while (state->content < state->n_contents)
	{
		if (state->at < state->end)
		{
			uint32		code_point;
			int			length = state->only_bytes ? 0 : hart_utf8_decode(state->at, state->end, &code_point);
			int64		child = 0;
			Datum		values[3];
			bool		nulls[3] = {false, false, false};

			if (length == 0)
				child = hart_atom_of_byte(*state->at);
			else
				(void) hart_atom_of_character(code_point, &child);
			values[0] = Int32GetDatum(state->content + 1);
			values[1] = Int32GetDatum(state->position++);
			values[2] = Int64GetDatum(child);
			state->at += Max(length, 1);
			SRF_RETURN_NEXT(call, HeapTupleGetDatum(heap_form_tuple(call->tuple_desc, values, nulls)));
		}
		if (++state->content < state->n_contents)
		{
			MemoryContext before = MemoryContextSwitchTo(call->multi_call_memory_ctx);

			begin_content(state);
			MemoryContextSwitchTo(before);
		}
	}
	SRF_RETURN_DONE(call);
}

/* hart.atom_ids(modality text, contents bytea[]) → bigint[]: hart.atom_id of each */
Datum
hart_atom_ids(PG_FUNCTION_ARGS)
{
	HartModality modality = checked_modality(PG_GETARG_TEXT_PP(0), false, true, "Give token, text or tensor.");
	int			n;
	Datum	   *contents = contents_of_array(PG_GETARG_ARRAYTYPE_P(1), &n);
	Datum	   *ids = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(Datum));
	pg_cryptohash_ctx *sha256 = hart_sha256_begin();

	for (int i = 0; i < n; i++)
	{
		struct varlena *content = PG_DETOAST_DATUM_PACKED(contents[i]);

		CHECK_FOR_INTERRUPTS();
		ids[i] = Int64GetDatum(hart_atom_of_content(sha256, modality, VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content)));
	}
	hart_sha256_end(sha256);
	PG_RETURN_ARRAYTYPE_P(construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* hart.utf8_text(content bytea) → text: NULL where there is no such text, without an error that would have to be caught */
Datum
hart_utf8_text(PG_FUNCTION_ARGS)
{
	bytea	   *content = PG_GETARG_BYTEA_PP(0);
	const uint8 *at = (const uint8 *) VARDATA_ANY(content);
	const uint8 *end = at + VARSIZE_ANY_EXHDR(content);
	bool		any = GetDatabaseEncoding() == PG_UTF8;

	while (at < end)
	{
		uint32		code_point;
		int			length = hart_utf8_decode(at, end, &code_point);

		if (length == 0 || code_point == 0 || (code_point > 0x7F && !any))
			PG_RETURN_NULL();
		at += length;
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content)));
}
