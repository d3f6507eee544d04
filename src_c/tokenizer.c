/*
 * tokenizer.c
 *	  The tokenizers of a session: rows of hart.tokenizers as patterns that are compiled, tries and memories.
 *
 * Whether what a session remembers is still so is asked in every call, under its snapshot: the row must be there, in the very version
 * that it was read in. The merges and tokens beside it are written once, by the ingestion, under a number that is never used again.
 */
#include "tokenizer.h"

#include "access/sysattr.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "key_lookup.h"
#include "tile_table.h"

/* tokenizers that a session keeps */
#define MAX_TOKENIZERS 4

/* steps and KB of memory that a pattern may take for one match; more is work for the library */
#define MATCH_LIMIT 10000000
#define HEAP_LIMIT (64 * 1024)

/* of the session, the one used last first */
static HartTokenizer *tokenizers = NULL;

/* PCRE2 takes its memory from the tokenizer's; it knows what to do when there is none left */
static void *
allocate(PCRE2_SIZE size, void *memory)
{
	return MemoryContextAllocExtended(memory, size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

static void
release(void *pointer, void *memory)
{
	if (pointer)
		pfree(pointer);
}

/* Code that was compiled further lies elsewhere */
static void
free_patterns(void *arg)
{
	HartTokenizer *tokenizer = arg;

	for (int i = 0; i < tokenizer->n_patterns; i++)
		pcre2_code_free(tokenizer->patterns[i]);
}

/* Whether PCRE2 takes the pattern, and it matches no empty text */
static bool
add_pattern(HartTokenizer *tokenizer, pcre2_compile_context *context, pcre2_general_context *general, const char *pattern, size_t length)
{
	int			error;
	PCRE2_SIZE	offset;
	uint32_t	empty;
	pcre2_code *code = pcre2_compile((PCRE2_SPTR) pattern, length, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context);

	if (code == NULL)
	{
		ereport(DEBUG1, (errmsg_internal("PCRE2 does not take the pattern of a tokenizer: error %d at %zu", error, offset)));
		return false;
	}
	tokenizer->patterns[tokenizer->n_patterns++] = code;
	/* where it cannot be compiled further it is interpreted */
	(void) pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
	tokenizer->matches[tokenizer->n_patterns - 1] = pcre2_match_data_create_from_pattern(code, general);
	return tokenizer->matches[tokenizer->n_patterns - 1] != NULL &&
		pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &empty) == 0 && empty == 0;
}

static bool
add_patterns(HartTokenizer *tokenizer, ArrayType *patterns)
{
	pcre2_general_context *general = pcre2_general_context_create(allocate, release, tokenizer->memory);
	pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
	MemoryContextCallback *callback = MemoryContextAllocZero(tokenizer->memory, sizeof(MemoryContextCallback));
	Datum	   *elements;
	int			n;

	tokenizer->limits = general ? pcre2_match_context_create(general) : NULL;
	if (context == NULL || tokenizer->limits == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"), errhint("Give the server more memory.")));
	pcre2_set_match_limit(tokenizer->limits, MATCH_LIMIT);
	pcre2_set_heap_limit(tokenizer->limits, HEAP_LIMIT);
	callback->func = free_patterns;
	callback->arg = tokenizer;
	MemoryContextRegisterResetCallback(tokenizer->memory, callback);

	deconstruct_array(patterns, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	if (n > HART_MAX_PATTERNS)
		return false;
	for (int i = 0; i < n; i++)
	{
		text	   *pattern = DatumGetTextPP(elements[i]);

		if (!add_pattern(tokenizer, context, general, VARDATA_ANY(pattern), VARSIZE_ANY_EXHDR(pattern)))
			return false;
	}
	return true;
}

/* The numbers of an array of a row, in the tokenizer's memory */
static int32 *
numbers(HartTokenizer *tokenizer, Datum value, int *n)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	int32	   *copy;

	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	copy = MemoryContextAlloc(tokenizer->memory, Max(*n, 1) * sizeof(int32));
	memcpy(copy, ARR_DATA_PTR(array), *n * sizeof(int32));
	return copy;
}

/* Enter strings, an array of text or bytea, with the numbers of another */
static HartByteTrie *
trie_of(HartTokenizer *tokenizer, Datum strings, Oid type, Datum values)
{
	HartByteTrie *trie = hart_byte_trie_create(tokenizer->memory);
	Datum	   *elements;
	int			n_strings;
	int			n;
	int32	   *ids = numbers(tokenizer, values, &n);

	deconstruct_array(DatumGetArrayTypeP(strings), type, -1, false, TYPALIGN_INT, &elements, NULL, &n_strings);
	for (int i = 0; i < Min(n, n_strings); i++)
	{
		struct varlena *string = PG_DETOAST_DATUM_PACKED(elements[i]);

		if (VARSIZE_ANY_EXHDR(string) > 0)
			hart_byte_trie_add(trie, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string), ids[i]);
	}
	return trie;
}

/* A column of the row at hand, of the table that is looked up in */
static Datum
column(HartKeyLookup *lookup, TupleTableSlot *row, const char *name, Oid type)
{
	bool		isnull;
	Datum		value = slot_getattr(row, hart_key_lookup_column(lookup, name, type), &isnull);

	if (isnull)
		elog(ERROR, "column %s of a tokenizer is null", name);
	return value;
}

/* Make what the row says; false when this version of PCRE2 cannot */
static bool
fill(HartTokenizer *tokenizer, HartKeyLookup *lookup, TupleTableSlot *row)
{
	int32	   *bytes;
	int			n;
	Datum		words = column(lookup, row, "words", BYTEAARRAYOID);

	if (!add_patterns(tokenizer, DatumGetArrayTypeP(column(lookup, row, "patterns", TEXTARRAYOID))))
		return false;
	tokenizer->nfc = DatumGetBool(column(lookup, row, "nfc", BOOLOID));
	bytes = numbers(tokenizer, column(lookup, row, "byte_tokens", INT4ARRAYOID), &n);
	if (n != lengthof(tokenizer->bytes))
		elog(ERROR, "hart.tokenizers has %d tokens for the 256 bytes", n);
	memcpy(tokenizer->bytes, bytes, sizeof(tokenizer->bytes));
	tokenizer->prefix = numbers(tokenizer, column(lookup, row, "prefix", INT4ARRAYOID), &tokenizer->n_prefix);
	tokenizer->suffix = numbers(tokenizer, column(lookup, row, "suffix", INT4ARRAYOID), &tokenizer->n_suffix);
	tokenizer->added = trie_of(tokenizer, column(lookup, row, "added", TEXTARRAYOID), TEXTOID,
							   column(lookup, row, "added_tokens", INT4ARRAYOID));
	tokenizer->added_normalized = trie_of(tokenizer, column(lookup, row, "added_normalized", TEXTARRAYOID), TEXTOID,
										  column(lookup, row, "added_normalized_tokens", INT4ARRAYOID));
	if (ARR_NDIM(DatumGetArrayTypeP(words)) > 0)
		tokenizer->words = trie_of(tokenizer, words, BYTEAOID, column(lookup, row, "word_tokens", INT4ARRAYOID));
	hart_bpe_init(tokenizer);
	hart_speller_init(tokenizer);
	return true;
}

/* A tokenizer of a row; NULL when that is of no use */
static HartTokenizer *
read_tokenizer(int32 model_id, TransactionId xmin, HartKeyLookup *lookup, TupleTableSlot *row)
{
	MemoryContext memory;
	HartTokenizer *tokenizer;

	hart_check_version();
	/* in the caller's memory until it is whole */
	memory = AllocSetContextCreate(CurrentMemoryContext, "hart tokenizer", ALLOCSET_DEFAULT_SIZES);
	tokenizer = MemoryContextAllocZero(memory, sizeof(HartTokenizer));
	tokenizer->memory = memory;
	tokenizer->model_id = model_id;
	tokenizer->tid = row->tts_tid;
	tokenizer->xmin = xmin;
	return fill(tokenizer, lookup, row) ? tokenizer : NULL;
}

/* Take a model's tokenizer out of the list */
static HartTokenizer *
take(int32 model_id)
{
	for (HartTokenizer **link = &tokenizers; *link != NULL; link = &(*link)->next)
	{
		HartTokenizer *tokenizer = *link;

		if (tokenizer->model_id == model_id)
		{
			*link = tokenizer->next;
			return tokenizer;
		}
	}
	return NULL;
}

/* Put it first, and let go of what is too many */
static void
keep(HartTokenizer *tokenizer)
{
	HartTokenizer **link = &tokenizers;

	MemoryContextSetParent(tokenizer->memory, TopMemoryContext);
	tokenizer->next = tokenizers;
	tokenizers = tokenizer;
	for (int n = 0; n < MAX_TOKENIZERS && *link != NULL; n++)
		link = &(*link)->next;
	while (*link != NULL)
	{
		HartTokenizer *old = *link;

		*link = old->next;
		MemoryContextDelete(old->memory);
	}
}

/* hart.resolve_model(model), which refuses models that the role may not read */
static int32
resolve_model(text *model)
{
	FmgrInfo	function;
	LOCAL_FCINFO(call, 1);
	Datum		model_id;

	fmgr_info(DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum("hart.resolve_model(pg_catalog.text)"))), &function);
	InitFunctionCallInfoData(*call, &function, 1, DEFAULT_COLLATION_OID, NULL, NULL);
	call->args[0].value = PointerGetDatum(model);
	call->args[0].isnull = model == NULL;
	model_id = FunctionCallInvoke(call);
	if (call->isnull)
		elog(ERROR, "hart.resolve_model returned NULL");
	return DatumGetInt32(model_id);
}

/* The tokenizer of a row, from what the session remembers when it is of this version of the row */
static HartTokenizer *
tokenizer_of(int32 model_id, HartKeyLookup *lookup, TupleTableSlot *row)
{
	bool		isnull;
	TransactionId xmin = DatumGetTransactionId(slot_getsysattr(row, MinTransactionIdAttributeNumber, &isnull));
	HartTokenizer *tokenizer = take(model_id);

	if (tokenizer && !(tokenizer->xmin == xmin && ItemPointerEquals(&tokenizer->tid, &row->tts_tid)))
	{
		MemoryContextDelete(tokenizer->memory);
		tokenizer = NULL;
	}
	if (tokenizer == NULL)
		tokenizer = read_tokenizer(model_id, xmin, lookup, row);
	if (tokenizer)
		keep(tokenizer);
	return tokenizer;
}

/* The number of tokens that a model has */
static int32
vocab_size(int32 model_id)
{
	HartKeyLookup *lookup = hart_key_lookup_open("model_registry", 1);
	Datum		key = Int32GetDatum(model_id);
	TupleTableSlot *row = hart_key_lookup_find(lookup, &key);
	int32		size = row ? DatumGetInt32(column(lookup, row, "vocab_size", INT4OID)) : 0;

	hart_key_lookup_close(lookup);
	return size;
}

HartTokenizer *
hart_tokenizer_of_model(int32 model_id)
{
	HartKeyLookup *lookup;
	Datum		key = Int32GetDatum(model_id);
	TupleTableSlot *row;
	HartTokenizer *tokenizer = NULL;

	if (GetDatabaseEncoding() != PG_UTF8)
		return NULL;
	lookup = hart_key_lookup_open("tokenizers", 1);
	row = hart_key_lookup_find(lookup, &key);
	if (row)
		tokenizer = tokenizer_of(model_id, lookup, row);
	hart_key_lookup_close(lookup);
	if (tokenizer)
		tokenizer->vocab_size = vocab_size(model_id);
	return tokenizer;
}

HartTokenizer *
hart_tokenizer(text *model)
{
	return hart_tokenizer_of_model(resolve_model(model));
}

bool
hart_can_read_model(int32 model_id)
{
	Oid			tiles = hart_tile_table(model_id);

	return OidIsValid(tiles) && pg_class_aclcheck(tiles, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

Datum
hart_call_library(FunctionCallInfo fcinfo, const char *signature)
{
	LOCAL_FCINFO(call, 4);
	Datum		result;

	Assert(PG_NARGS() <= 4);
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		FmgrInfo   *function = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo));

		fmgr_info_cxt(DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(signature))), function, fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = function;
	}
	InitFunctionCallInfoData(*call, (FmgrInfo *) fcinfo->flinfo->fn_extra, PG_NARGS(), fcinfo->fncollation, NULL, NULL);
	for (int i = 0; i < PG_NARGS(); i++)
		call->args[i] = fcinfo->args[i];
	result = FunctionCallInvoke(call);
	fcinfo->isnull = call->isnull;
	return result;
}
