/*
 * tokenize.c
 *	  hart.tokenize: a text as token ids; hart.tokenize_plain: many texts.
 *
 * In the order of the library: added tokens are found in the text; what is between them is normalized; added tokens are found in that; what is
 * between these is cut into words by the patterns; the bytes of each word are merged. A text that holds characters about which versions of
 * Unicode disagree is for the library as a whole, and so is one that is too much for a pattern.
 */
#include "tokenizer.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "normalize.h"

PG_FUNCTION_INFO_V1(hart_tokenize);
PG_FUNCTION_INFO_V1(hart_tokenize_plain);

typedef struct Encoding
{
	HartTokenizer *tokenizer;
	HartBpe    *bpe;
	bool		plain;			/* texts with added tokens are for the library */
	HartIds		out;
} Encoding;

/* What is done with a stretch of text; false when it is for the library */
typedef bool (*Step) (Encoding *e, const char *text, size_t length, int level);

/* The next match of a pattern, false when there is none; *given_up when it is too much for PCRE2 */
static bool
next_match(HartTokenizer *tokenizer, int level, const char *text, size_t length, size_t from, size_t *start, size_t *end, bool *given_up)
{
	pcre2_match_data *match = tokenizer->matches[level];
	/* text is valid UTF-8, and is not looked at again for each word */
	int			found = pcre2_match(tokenizer->patterns[level], (PCRE2_SPTR) text, length, from, PCRE2_NO_UTF_CHECK, match, tokenizer->limits);

	if (found == PCRE2_ERROR_JIT_STACKLIMIT)
		found = pcre2_match(tokenizer->patterns[level], (PCRE2_SPTR) text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match, tokenizer->limits);
	if (found < 0)
	{
		*given_up = found != PCRE2_ERROR_NOMATCH;
		return false;
	}
	*start = pcre2_get_ovector_pointer(match)[0];
	*end = pcre2_get_ovector_pointer(match)[1];
	return true;
}

/* Cut text into what a pattern matches and what is between, then these by the next pattern; the last pieces are words */
static bool
cut(Encoding *e, const char *text, size_t length, int level)
{
	size_t		done = 0;

	if (length == 0)
		return true;
	if (level == e->tokenizer->n_patterns)
	{
		if (length > HART_MAX_WORD)
			return false;
		hart_bpe_word(e->bpe, text, length, &e->out);
		return true;
	}
	while (done < length)
	{
		size_t		start;
		size_t		end;
		bool		given_up = false;

		CHECK_FOR_INTERRUPTS();
		if (!next_match(e->tokenizer, level, text, length, done, &start, &end, &given_up))
			return !given_up && cut(e, text + done, length - done, level + 1);
		if (!cut(e, text + done, start - done, level + 1) || !cut(e, text + start, end - start, level + 1))
			return false;
		done = end;
	}
	return true;
}

/* Find added tokens, the leftmost first and of those the longest; what is between them is for the next step */
static bool
split(Encoding *e, const HartByteTrie *added, const char *text, size_t length, Step next)
{
	const char *end = text + length;
	const char *done = text;
	const char *at = text;

	while ((at = hart_byte_trie_next(added, at, end)) < end)
	{
		size_t		token_length;
		int32		token = hart_byte_trie_longest(added, at, end, &token_length);

		CHECK_FOR_INTERRUPTS();
		if (token == HART_NO_TOKEN)
		{
			at++;
			continue;
		}
		if (e->plain)
			return false;
		if (!next(e, done, at - done, 0))
			return false;
		hart_ids_append(&e->out, &token, 1);
		done = at = at + token_length;
	}
	return next(e, done, end - done, 0);
}

/* Text between added tokens: normalize it, and find those that are to be found then */
static bool
normalize(Encoding *e, const char *text, size_t length, int level)
{
	const char *normalized = text;
	bool		done;

	if (e->tokenizer->nfc && !hart_normalize(&normalized, &length))
		return false;
	done = split(e, e->tokenizer->added_normalized, normalized, length, cut);
	if (normalized != text)
		pfree(unconstify(char *, normalized));
	return done;
}

/* Append the tokens of a text; false, with nothing appended, when it is for the library */
static bool
encode(Encoding *e, text *input)
{
	const char *bytes = VARDATA_ANY(input);
	size_t		length = VARSIZE_ANY_EXHDR(input);
	int64		before = e->out.n;

	if (hart_is_settled(bytes, length) && split(e, e->tokenizer->added, bytes, length, normalize))
		return true;
	e->out.n = before;
	return false;
}

static ArrayType *
as_array(const HartIds *ids)
{
	ArrayType  *array;
	Size		size = ARR_OVERHEAD_NONULLS(1) + ids->n * sizeof(int32);

	if (ids->n == 0)
		return construct_empty_array(INT4OID);
	if (!AllocSizeIsValid(size))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("text has " INT64_FORMAT " tokens, too many for an array", ids->n),
				 errhint("Tokenize it in parts.")));
	array = palloc(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->dataoffset = 0;
	array->elemtype = INT4OID;
	ARR_DIMS(array)[0] = (int) ids->n;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), ids->ids, ids->n * sizeof(int32));
	return array;
}

/* hart.tokenize(text text, model text, add_special_tokens boolean) → int[] */
Datum
hart_tokenize(PG_FUNCTION_ARGS)
{
	Encoding	e = {0};
	bool		done = false;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	e.tokenizer = hart_tokenizer(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	if (e.tokenizer)
	{
		bool		add_special = PG_GETARG_BOOL(2);

		e.bpe = hart_bpe_begin(e.tokenizer);
		if (add_special)
			hart_ids_append(&e.out, e.tokenizer->prefix, e.tokenizer->n_prefix);
		done = encode(&e, PG_GETARG_TEXT_PP(0));
		if (add_special)
			hart_ids_append(&e.out, e.tokenizer->suffix, e.tokenizer->n_suffix);
		hart_bpe_end(e.bpe);
	}
	if (!done)
		return hart_call_library(fcinfo, "hart.library_tokenize(pg_catalog.text, pg_catalog.text, pg_catalog.bool)");
	PG_RETURN_ARRAYTYPE_P(as_array(&e.out));
}

/* Append the tokens of each text, and note how many they are; NULL stays for those that are for the library */
static void
encode_all(Encoding *e, const Datum *texts, const bool *absent, int n, Datum *lengths, bool *left)
{
	e->bpe = hart_bpe_begin(e->tokenizer);
	for (int i = 0; i < n; i++)
	{
		int64		before = e->out.n;

		CHECK_FOR_INTERRUPTS();
		left[i] = absent[i] || !encode(e, DatumGetTextPP(texts[i]));
		lengths[i] = Int32GetDatum((int32) (e->out.n - before));
	}
	hart_bpe_end(e->bpe);
}

/* hart.tokenize_plain(texts text[], model text) → (tokens int[], lengths int[]) */
Datum
hart_tokenize_plain(PG_FUNCTION_ARGS)
{
	ArrayType  *texts;
	Encoding	e = {.plain = true};
	Datum	   *elements;
	Datum	   *lengths;
	bool	   *absent;
	bool	   *left;
	int			n;
	int			lower = 1;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	texts = PG_GETARG_ARRAYTYPE_P(0);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	deconstruct_array(texts, TEXTOID, -1, false, TYPALIGN_INT, &elements, &absent, &n);
	lengths = palloc0(sizeof(Datum) * Max(n, 1));
	left = palloc(sizeof(bool) * Max(n, 1));
	memset(left, true, n);
	e.tokenizer = hart_tokenizer(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	if (e.tokenizer)
		encode_all(&e, elements, absent, n, lengths, left);
	values[0] = PointerGetDatum(as_array(&e.out));
	values[1] = PointerGetDatum(construct_md_array(lengths, left, n > 0 ? 1 : 0, &n, &lower, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
