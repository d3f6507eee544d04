/*
 * token_bytes.c
 *	  What tokens spell, from their rows in hart.tokens and their atoms; the session remembers those it has looked up.
 */
#include "tokenizer.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/memutils.h"

#include "key_lookup.h"

/* tokens that a session remembers of a model before it begins anew, some 3 MB */
#define MAX_TOKENS 32768

typedef struct TokenEntry
{
	int32		id;
	char		status;
	HartToken	token;
} TokenEntry;

#define SH_PREFIX tokens
#define SH_ELEMENT_TYPE TokenEntry
#define SH_KEY_TYPE int32
#define SH_KEY id
#define SH_HASH_KEY(tb, key) ((uint32) (key) * 0x9E3779B1U)
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct HartTokenMemory
{
	tokens_hash *table;
	MemoryContext content;
};

struct HartSpeller
{
	HartTokenizer *tokenizer;
	HartKeyLookup *tokens;		/* both once they are needed */
	HartKeyLookup *atoms;
	AttrNumber	atom_column;
	AttrNumber	special_column;
	AttrNumber	content_column;
};

void
hart_speller_init(HartTokenizer *tokenizer)
{
	HartTokenMemory *memory = MemoryContextAlloc(tokenizer->memory, sizeof(HartTokenMemory));

	memory->table = tokens_create(tokenizer->memory, 256, NULL);
	memory->content = AllocSetContextCreate(tokenizer->memory, "hart tokens", ALLOCSET_DEFAULT_SIZES);
	tokenizer->token_memory = memory;
}

HartSpeller *
hart_speller_begin(HartTokenizer *tokenizer)
{
	HartSpeller *speller = palloc0(sizeof(HartSpeller));

	speller->tokenizer = tokenizer;
	return speller;
}

void
hart_speller_end(HartSpeller *speller)
{
	if (speller->tokens)
	{
		hart_key_lookup_close(speller->tokens);
		hart_key_lookup_close(speller->atoms);
	}
	pfree(speller);
}

static void
open_tables(HartSpeller *speller)
{
	speller->tokens = hart_key_lookup_open("tokens", 2);
	speller->atom_column = hart_key_lookup_column(speller->tokens, "atom_id", INT8OID);
	speller->special_column = hart_key_lookup_column(speller->tokens, "special", BOOLOID);
	speller->atoms = hart_key_lookup_open("stored_atoms_token", 1);
	speller->content_column = hart_key_lookup_column(speller->atoms, "raw_value", BYTEAOID);
}

/* The token by its row, its bytes in a memory context; that of no token when there is none */
static HartToken
stored_token(HartSpeller *speller, int32 id, MemoryContext memory)
{
	Datum		key[] = {Int32GetDatum(speller->tokenizer->model_id), Int32GetDatum(id)};
	HartToken	token = {0};
	Datum		atom_id;
	TupleTableSlot *slot;
	bool		isnull;

	if (speller->tokens == NULL)
		open_tables(speller);
	slot = hart_key_lookup_find(speller->tokens, key);
	if (slot == NULL)
		return token;
	atom_id = slot_getattr(slot, speller->atom_column, &isnull);
	token.special = DatumGetBool(slot_getattr(slot, speller->special_column, &isnull));
	slot = hart_key_lookup_find(speller->atoms, &atom_id);
	if (slot)
	{
		bytea	   *content = DatumGetByteaPP(slot_getattr(slot, speller->content_column, &isnull));
		char	   *bytes;

		token.length = VARSIZE_ANY_EXHDR(content);
		bytes = MemoryContextAlloc(memory, Max(token.length, 1));
		memcpy(bytes, VARDATA_ANY(content), token.length);
		token.bytes = bytes;
		ExecClearTuple(slot);
	}
	return token;
}

HartToken
hart_spell(HartSpeller *speller, int32 id)
{
	HartTokenMemory *memory = speller->tokenizer->token_memory;
	TokenEntry *entry = tokens_lookup(memory->table, id);

	if (entry == NULL)
	{
		HartToken	token;
		bool		found;

		if (memory->table->members >= MAX_TOKENS)
		{
			tokens_reset(memory->table);
			MemoryContextReset(memory->content);
		}
		token = stored_token(speller, id, memory->content);
		entry = tokens_insert(memory->table, id, &found);
		entry->token = token;
	}
	return entry->token;
}
