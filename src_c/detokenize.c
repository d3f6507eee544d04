/*
 * detokenize.c
 *	  Token ids as text: hart.detokenize, hart.detokenize_continuation, hart.token_texts.
 *
 * The bytes of tokens, one after the other, are the text; special tokens have none.
 */
#include "tokenizer.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(hart_detokenize);
PG_FUNCTION_INFO_V1(hart_detokenize_continuation);
PG_FUNCTION_INFO_V1(hart_token_texts);

const int32 *
hart_token_ids(ArrayType *array, int32 vocab_size, int *n)
{
	const int32 *ids = (const int32 *) ARR_DATA_PTR(array);

	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("token ids must not be null"),
				 errhint("Remove the nulls, with array_remove for example.")));
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("token ids must be an array of one dimension"),
				 errhint("Decode one row at a time.")));
	for (int i = 0; i < *n; i++)
		if (ids[i] < 0 || ids[i] >= vocab_size)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("token id %d is out of range", ids[i]),
					 errhint("The model's token ids are 0 to %d.", vocab_size - 1)));
	return ids;
}

/* Append the bytes that tokens spell */
static void
append_bytes(StringInfo out, HartSpeller *speller, const int32 *ids, int n)
{
	for (int i = 0; i < n; i++)
	{
		HartToken	token = hart_spell(speller, ids[i]);

		CHECK_FOR_INTERRUPTS();
		if (token.bytes && !token.special)
			appendBinaryStringInfo(out, token.bytes, token.length);
	}
}

void
hart_partial_character(StringInfo out, HartSpeller *speller, const int32 *ids, int n)
{
	int			from = n;
	int			partial;

	/* as many tokens from the end as have the bytes of a character */
	for (int bytes = 0; from > 0 && bytes < 4; from--)
	{
		HartToken	token = hart_spell(speller, ids[from - 1]);

		if (token.bytes && !token.special)
			bytes += token.length;
	}
	append_bytes(out, speller, ids + from, n - from);
	partial = hart_utf8_partial(out->data, out->len);
	memmove(out->data, out->data + out->len - partial, partial);
	out->len = partial;
	out->data[partial] = '\0';
}

/* What tokens add to the text of those before them */
static text *
continuation(HartSpeller *speller, const int32 *before, int n_before, const int32 *ids, int n)
{
	StringInfoData bytes;
	StringInfoData out;
	int			n_shown;
	text	   *result;

	initStringInfo(&bytes);
	initStringInfo(&out);
	hart_partial_character(&bytes, speller, before, n_before);
	n_shown = bytes.len;
	append_bytes(&bytes, speller, ids, n);
	hart_utf8_append(&out, bytes.data, bytes.len, n_shown);
	result = cstring_to_text_with_len(out.data, out.len);
	pfree(bytes.data);
	pfree(out.data);
	return result;
}

static HartTokenizer *
tokenizer_of_argument(FunctionCallInfo fcinfo, int argument)
{
	return hart_tokenizer(PG_ARGISNULL(argument) ? NULL : PG_GETARG_TEXT_PP(argument));
}

/* hart.detokenize(tokens int[], model text) → text */
Datum
hart_detokenize(PG_FUNCTION_ARGS)
{
	HartTokenizer *tokenizer;
	HartSpeller *speller;
	const int32 *ids;
	int			n;
	text	   *result;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	tokenizer = tokenizer_of_argument(fcinfo, 1);
	if (tokenizer == NULL)
		return hart_call_library(fcinfo, "hart.library_detokenize(pg_catalog.int4[], pg_catalog.text)");
	ids = hart_token_ids(PG_GETARG_ARRAYTYPE_P(0), tokenizer->vocab_size, &n);
	speller = hart_speller_begin(tokenizer);
	result = continuation(speller, NULL, 0, ids, n);
	hart_speller_end(speller);
	PG_RETURN_TEXT_P(result);
}

/* hart.detokenize_continuation(prompt int[], continuation int[], model text) → text */
Datum
hart_detokenize_continuation(PG_FUNCTION_ARGS)
{
	HartTokenizer *tokenizer;
	HartSpeller *speller;
	const int32 *before;
	const int32 *ids;
	int			n_before;
	int			n;
	text	   *result;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	tokenizer = tokenizer_of_argument(fcinfo, 2);
	if (tokenizer == NULL)
		return hart_call_library(fcinfo, "hart.library_detokenize_continuation(pg_catalog.int4[], pg_catalog.int4[], pg_catalog.text)");
	before = hart_token_ids(PG_GETARG_ARRAYTYPE_P(0), tokenizer->vocab_size, &n_before);
	ids = hart_token_ids(PG_GETARG_ARRAYTYPE_P(1), tokenizer->vocab_size, &n);
	speller = hart_speller_begin(tokenizer);
	result = continuation(speller, before, n_before, ids, n);
	hart_speller_end(speller);
	PG_RETURN_TEXT_P(result);
}

/* hart.token_texts(tokens int[], model text) → text[] */
Datum
hart_token_texts(PG_FUNCTION_ARGS)
{
	HartTokenizer *tokenizer;
	HartSpeller *speller;
	const int32 *ids;
	int			n;
	Datum	   *texts;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	tokenizer = tokenizer_of_argument(fcinfo, 1);
	if (tokenizer == NULL)
		return hart_call_library(fcinfo, "hart.library_token_texts(pg_catalog.int4[], pg_catalog.text)");
	ids = hart_token_ids(PG_GETARG_ARRAYTYPE_P(0), tokenizer->vocab_size, &n);
	speller = hart_speller_begin(tokenizer);
	texts = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(Datum));
	for (int i = 0; i < n; i++)
	{
		HartToken	token = hart_spell(speller, ids[i]);

		if (token.special)
			texts[i] = PointerGetDatum(cstring_to_text_with_len(token.bytes, token.length));
		else
			texts[i] = PointerGetDatum(continuation(speller, ids + Max(i - 1, 0), i > 0, ids + i, 1));
	}
	hart_speller_end(speller);
	PG_RETURN_ARRAYTYPE_P(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
}
