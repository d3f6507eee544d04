/*
 * pieces.c
 *	  hart.begin_pieces and hart.next_piece: the text of a generation as it grows, token by token.
 *
 * What came out stays: the pieces joined are the text. A piece is whole characters, and nothing of it may be the beginning of a stop string.
 */
#include "tokenizer.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(hart_begin_pieces);
PG_FUNCTION_INFO_V1(hart_next_piece);

/* The columns of hart.text_piece: the first are of both kinds, then what only the library needs, then what only this file does */
enum
{
	PIECE, STOPPED, HELD, TOKENIZER, WINDOW, SHOWN, PENDING, PARTIAL, N_COLUMNS
};

static bytea *
as_bytea(const char *bytes, int length)
{
	bytea	   *result = palloc(VARHDRSZ + length);

	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), bytes, length);
	return result;
}

static TupleDesc
piece_desc(FunctionCallInfo fcinfo)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != N_COLUMNS)
		elog(ERROR, "hart.text_piece does not have the columns that this library knows");
	return BlessTupleDesc(desc);
}

/* hart.begin_pieces(prompt int[], model text) → text_piece */
Datum
hart_begin_pieces(PG_FUNCTION_ARGS)
{
	HartTokenizer *tokenizer = NULL;
	HartSpeller *speller;
	StringInfoData partial;
	const int32 *ids;
	int			n;
	Datum		values[N_COLUMNS] = {0};
	bool		nulls[N_COLUMNS] = {false};

	if (!PG_ARGISNULL(0))
		tokenizer = hart_tokenizer(PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	if (tokenizer == NULL)
		return hart_call_library(fcinfo, "hart.library_begin_pieces(pg_catalog.int4[], pg_catalog.text)");
	ids = hart_token_ids(PG_GETARG_ARRAYTYPE_P(0), tokenizer->vocab_size, &n);
	initStringInfo(&partial);
	speller = hart_speller_begin(tokenizer);
	hart_partial_character(&partial, speller, ids, n);
	hart_speller_end(speller);

	values[PIECE] = values[HELD] = PointerGetDatum(cstring_to_text(""));
	values[TOKENIZER] = PointerGetDatum(cstring_to_text(psprintf("%d", tokenizer->model_id)));
	values[PENDING] = Int32GetDatum(partial.len);
	values[PARTIAL] = PointerGetDatum(as_bytea(partial.data, partial.len));
	nulls[WINDOW] = nulls[SHOWN] = true;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(piece_desc(fcinfo), values, nulls)));
}

typedef struct Piece
{
	StringInfoData bytes;		/* a part of a character, then the token's */
	int			n_shown;		/* of these, the prompt's */
	StringInfoData text;		/* what was held back, then the new text */
} Piece;

/* The columns of the argument */
static void
read_piece(FunctionCallInfo fcinfo, TupleDesc desc, Datum values[N_COLUMNS], bool nulls[N_COLUMNS])
{
	HeapTupleHeader record = PG_GETARG_HEAPTUPLEHEADER(0);
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(record), .t_data = record};

	heap_deform_tuple(&tuple, desc, values, nulls);
}

static void
append_value(StringInfo out, Datum value, bool isnull)
{
	if (!isnull)
	{
		struct varlena *v = PG_DETOAST_DATUM_PACKED(value);

		appendBinaryStringInfo(out, VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
	}
}

/* Turn the bytes into text, but for those at the end that may yet become a character */
static void
take_characters(Piece *piece, bool ends)
{
	int			partial = ends ? 0 : hart_utf8_partial(piece->bytes.data, piece->bytes.len);
	int			whole = piece->bytes.len - partial;

	hart_utf8_append(&piece->text, piece->bytes.data, whole, Min(piece->n_shown, whole));
	/* the prompt's part of a character is still open, or it has become something */
	if (whole > 0)
		piece->n_shown = 0;
	memmove(piece->bytes.data, piece->bytes.data + whole, partial);
	piece->bytes.len = partial;
}

/* The place of the first stop string in the text, or -1 */
static int
find_stop(const StringInfo text, const Datum *stop, int n_stop)
{
	int			first = -1;

	for (int i = 0; i < n_stop; i++)
	{
		const struct varlena *s = (const struct varlena *) DatumGetPointer(stop[i]);
		int			length = VARSIZE_ANY_EXHDR(s);

		for (int at = 0; at + length <= text->len && (first < 0 || at < first); at++)
			if (memcmp(text->data + at, VARDATA_ANY(s), length) == 0)
				first = at;
	}
	return first;
}

/* How many bytes at the end of the text begin a stop string: the most */
static int
begins_stop(const StringInfo text, const Datum *stop, int n_stop)
{
	int			longest = 0;

	for (int i = 0; i < n_stop; i++)
	{
		const struct varlena *s = (const struct varlena *) DatumGetPointer(stop[i]);

		for (int n = Min((int) VARSIZE_ANY_EXHDR(s) - 1, text->len); n > longest; n--)
			if (memcmp(text->data + text->len - n, VARDATA_ANY(s), n) == 0)
				longest = n;
	}
	return longest;
}

static HartTokenizer *
tokenizer_of_piece(Datum value)
{
	int32		model_id = pg_strtoint32(TextDatumGetCString(value));
	HartTokenizer *tokenizer = hart_can_read_model(model_id) ? hart_tokenizer_of_model(model_id) : NULL;

	if (tokenizer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the model of this piece of text is gone, or this role may not use it"),
				 errhint("Begin the text again with hart.begin_pieces.")));
	return tokenizer;
}

/* hart.next_piece(text text_piece, token int, stop text[], ends boolean) → text_piece */
Datum
hart_next_piece(PG_FUNCTION_ARGS)
{
	TupleDesc	desc = piece_desc(fcinfo);
	Datum		values[N_COLUMNS];
	bool		nulls[N_COLUMNS];
	bool		ends = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	Piece		piece;
	Datum	   *stop = NULL;
	int			n_stop = 0;
	int			n_out;
	int			stopped_at;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	read_piece(fcinfo, desc, values, nulls);
	if (nulls[PARTIAL] || nulls[TOKENIZER])
		return hart_call_library(fcinfo, "hart.library_next_piece(hart.text_piece, pg_catalog.int4, pg_catalog.text[], pg_catalog.bool)");

	initStringInfo(&piece.bytes);
	initStringInfo(&piece.text);
	append_value(&piece.bytes, values[PARTIAL], false);
	append_value(&piece.text, values[HELD], nulls[HELD]);
	piece.n_shown = nulls[PENDING] ? 0 : DatumGetInt32(values[PENDING]);
	if (!PG_ARGISNULL(1))
	{
		HartSpeller *speller = hart_speller_begin(tokenizer_of_piece(values[TOKENIZER]));
		HartToken	token = hart_spell(speller, PG_GETARG_INT32(1));

		if (token.bytes && !token.special)
			appendBinaryStringInfo(&piece.bytes, token.bytes, token.length);
		hart_speller_end(speller);
	}
	take_characters(&piece, ends);

	if (!PG_ARGISNULL(2))
	{
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &stop, NULL, &n_stop);
		for (int i = 0; i < n_stop; i++)
			stop[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(stop[i]));
	}
	stopped_at = find_stop(&piece.text, stop, n_stop);
	n_out = stopped_at >= 0 ? stopped_at : ends ? piece.text.len : piece.text.len - begins_stop(&piece.text, stop, n_stop);
	values[PIECE] = PointerGetDatum(cstring_to_text_with_len(piece.text.data, n_out));
	values[HELD] = PointerGetDatum(stopped_at >= 0 ? cstring_to_text("") : cstring_to_text_with_len(piece.text.data + n_out, piece.text.len - n_out));
	values[STOPPED] = BoolGetDatum(stopped_at >= 0);
	values[PENDING] = Int32GetDatum(piece.n_shown);
	values[PARTIAL] = PointerGetDatum(as_bytea(piece.bytes.data, piece.bytes.len));
	nulls[PIECE] = nulls[HELD] = nulls[STOPPED] = nulls[PENDING] = false;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
