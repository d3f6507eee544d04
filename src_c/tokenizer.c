/*
 * tokenizer.c
 *	  The tokenizers of a session: rows of hart.tokenizers as patterns that are compiled, tries and memories.
 *
 * Whether what a session remembers is still so is asked in every call, under its snapshot: the row must be there, in the very version
 * that it was read in. The merges and tokens beside it are written once, by the ingestion, under a number that is never used again.
 */
#include "tokenizer.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

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

enum
{
	PATTERNS = 1, NFC, BYTE_TOKENS, PREFIX, SUFFIX, ADDED, ADDED_TOKENS, ADDED_NORMALIZED, ADDED_NORMALIZED_TOKENS, WORDS, WORD_TOKENS
};

static Datum
column(int number)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number, &isnull);

	if (isnull)
		elog(ERROR, "column %d of hart.tokenizers is null", number);
	return value;
}

/* Make what the row says; false when this version of PCRE2 cannot */
static bool
fill(HartTokenizer *tokenizer)
{
	int32	   *bytes;
	int			n;

	if (!add_patterns(tokenizer, DatumGetArrayTypeP(column(PATTERNS))))
		return false;
	tokenizer->nfc = DatumGetBool(column(NFC));
	bytes = numbers(tokenizer, column(BYTE_TOKENS), &n);
	if (n != lengthof(tokenizer->bytes))
		elog(ERROR, "hart.tokenizers has %d tokens for the 256 bytes", n);
	memcpy(tokenizer->bytes, bytes, sizeof(tokenizer->bytes));
	tokenizer->prefix = numbers(tokenizer, column(PREFIX), &tokenizer->n_prefix);
	tokenizer->suffix = numbers(tokenizer, column(SUFFIX), &tokenizer->n_suffix);
	tokenizer->added = trie_of(tokenizer, column(ADDED), TEXTOID, column(ADDED_TOKENS));
	tokenizer->added_normalized = trie_of(tokenizer, column(ADDED_NORMALIZED), TEXTOID, column(ADDED_NORMALIZED_TOKENS));
	if (ARR_NDIM(DatumGetArrayTypeP(column(WORDS))) > 0)
		tokenizer->words = trie_of(tokenizer, column(WORDS), BYTEAOID, column(WORD_TOKENS));
	hart_bpe_init(tokenizer);
	hart_speller_init(tokenizer);
	return true;
}

/* Read the row, in the version that the caller has found; NULL when it is of no use */
static HartTokenizer *
read_tokenizer(int32 model_id, ItemPointer tid, TransactionId xmin)
{
	Oid			types[] = {INT4OID};
	Datum		args[] = {Int32GetDatum(model_id)};
	MemoryContext memory;
	HartTokenizer *tokenizer;

	hart_check_version();
	if (SPI_execute_with_args("SELECT patterns, nfc, byte_tokens, prefix, suffix, added, added_tokens, added_normalized, added_normalized_tokens, words, word_tokens"
							  " FROM hart.tokenizers WHERE model_id OPERATOR(pg_catalog.=) $1",
							  1, types, args, NULL, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read the tokenizer of model %d", model_id);
	/* below the memory of the query, until it is whole */
	memory = AllocSetContextCreate(CurrentMemoryContext, "hart tokenizer", ALLOCSET_DEFAULT_SIZES);
	tokenizer = MemoryContextAllocZero(memory, sizeof(HartTokenizer));
	tokenizer->memory = memory;
	tokenizer->model_id = model_id;
	tokenizer->tid = *tid;
	tokenizer->xmin = xmin;
	return fill(tokenizer) ? tokenizer : NULL;
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

HartTokenizer *
hart_tokenizer(text *model, int32 model_id)
{
	static SPIPlanPtr plan = NULL;
	Datum		args[] = {model ? PointerGetDatum(model) : (Datum) 0, Int32GetDatum(model_id)};
	char		nulls[] = {model ? ' ' : 'n', model_id ? ' ' : 'n', '\0'};
	HartTokenizer *tokenizer = NULL;

	SPI_connect();
	if (plan == NULL)
	{
		Oid			types[] = {TEXTOID, INT4OID};
		SPIPlanPtr	new_plan;

		/* row-level security shows the row to those who may read the model */
		new_plan = SPI_prepare("SELECT m.model_id, m.vocab_size, t.ctid, t.xmin"
						   " FROM hart.model_registry m LEFT JOIN hart.tokenizers t ON t.model_id OPERATOR(pg_catalog.=) m.model_id"
						   " WHERE m.model_id OPERATOR(pg_catalog.=) coalesce($2, hart.resolve_model($1))", 2, types);
		if (new_plan == NULL || SPI_keepplan(new_plan) != 0)
			elog(ERROR, "could not prepare the query for a tokenizer");
		plan = new_plan;
	}
	if (SPI_execute_plan(plan, args, nulls, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for a tokenizer");
	if (SPI_processed == 1)
	{
		HeapTuple	row = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		int32		found_id = DatumGetInt32(SPI_getbinval(row, desc, 1, &isnull));
		int32		vocab_size = DatumGetInt32(SPI_getbinval(row, desc, 2, &isnull));
		Datum		tid = SPI_getbinval(row, desc, 3, &isnull);

		if (!isnull && GetDatabaseEncoding() == PG_UTF8)
		{
			TransactionId xmin = DatumGetTransactionId(SPI_getbinval(row, desc, 4, &isnull));

			tokenizer = take(found_id);
			if (tokenizer && !(tokenizer->xmin == xmin && ItemPointerEquals(&tokenizer->tid, (ItemPointer) DatumGetPointer(tid))))
			{
				MemoryContextDelete(tokenizer->memory);
				tokenizer = NULL;
			}
			if (tokenizer == NULL)
				tokenizer = read_tokenizer(found_id, (ItemPointer) DatumGetPointer(tid), xmin);
			if (tokenizer)
			{
				tokenizer->vocab_size = vocab_size;
				keep(tokenizer);
			}
		}
	}
	SPI_finish();
	return tokenizer;
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
