/*
 * tokenizer.h
 *	  Tokenizers of byte-level byte-pair encoding, and what a session remembers of their rows.
 *
 * The rules of such a tokenizer are a row of hart.tokenizers; its merges and its tokens are looked up one by one, in hart.merge_pairs
 * and hart.tokens, when a text needs them. Models with other tokenizers have no such row: their texts are for the library, in PL/Python.
 */
#ifndef HART_TOKENIZER_H
#define HART_TOKENIZER_H

#include "hartonomous.h"

#include "lib/stringinfo.h"
#include "storage/itemptr.h"
#include "utils/array.h"

#include "byte_trie.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define HART_MAX_PATTERNS 4

/* a merge of byte-pair encoding: the token that two make, and its place in the list; HART_NO_TOKEN where there is none */
#define HART_NO_TOKEN (-1)
typedef struct HartMerge
{
	int32		merged;
	int32		rank;
} HartMerge;

/* memories of a session, of sizes that are bounded */
typedef struct HartMergeMemory HartMergeMemory;
typedef struct HartWordMemory HartWordMemory;
typedef struct HartTokenMemory HartTokenMemory;

typedef struct HartTokenizer
{
	struct HartTokenizer *next;
	MemoryContext memory;		/* holds all of it */

	/* the version of the row of hart.tokenizers: a row that is another has another place or another xmin */
	int32		model_id;
	ItemPointerData tid;
	TransactionId xmin;

	int32		vocab_size;
	int			n_patterns;
	pcre2_code *patterns[HART_MAX_PATTERNS];	/* the next cuts what the one before it has cut */
	pcre2_match_data *matches[HART_MAX_PATTERNS];
	pcre2_match_context *limits;
	bool		nfc;
	int32		bytes[256];		/* the token of each byte */
	HartByteTrie *added;		/* tokens that are found before a text is normalized */
	HartByteTrie *added_normalized; /* and those that are found after it */
	HartByteTrie *words;		/* words that are a token although merges do not make it; NULL without any */
	int			n_prefix;
	int			n_suffix;
	int32	   *prefix;
	int32	   *suffix;

	HartMergeMemory *merge_memory;
	HartWordMemory *word_memory;
	HartTokenMemory *token_memory;
} HartTokenizer;

/*
 * The tokenizer of the model that hart.resolve_model says, which refuses models that the role may not use; NULL when the model's texts are for
 * the library.
 */
extern HartTokenizer *hart_tokenizer(text *model);

/* the same of the model with this number, without asking who may use it */
extern HartTokenizer *hart_tokenizer_of_model(int32 model_id);
extern bool hart_can_read_model(int32 model_id);

/* call a function of the library with the arguments of this call: the result, and whether it is NULL is in fcinfo */
extern Datum hart_call_library(FunctionCallInfo fcinfo, const char *signature);

/* Numbers of tokens as they are made */
typedef struct HartIds
{
	int32	   *ids;
	int64		n;
	int64		max;
} HartIds;

extern void hart_ids_append(HartIds *out, const int32 *ids, int64 n);

/* bpe.c: merging the bytes of words */
extern void hart_bpe_init(HartTokenizer *tokenizer);
typedef struct HartBpe HartBpe;
extern HartBpe *hart_bpe_begin(HartTokenizer *tokenizer);
extern void hart_bpe_word(HartBpe *bpe, const char *word, size_t length, HartIds *out);
extern void hart_bpe_end(HartBpe *bpe);

/* words longer than this are for the library */
#define HART_MAX_WORD (8 << 20)

/* token_bytes.c: what tokens spell */
typedef struct HartToken
{
	const char *bytes;			/* NULL when there is no such token */
	int32		length;
	bool		special;
} HartToken;

typedef struct HartSpeller HartSpeller;
extern void hart_speller_init(HartTokenizer *tokenizer);
extern HartSpeller *hart_speller_begin(HartTokenizer *tokenizer);

/* what a token spells; its bytes are there until the next call */
extern HartToken hart_spell(HartSpeller *speller, int32 token);
extern void hart_speller_end(HartSpeller *speller);

/* detokenize.c */

/* the numbers of an array of token ids and how many there are; error when they are none of a vocabulary of this size */
extern const int32 *hart_token_ids(ArrayType *array, int32 vocab_size, int *n);

/* append to what is empty the bytes at the end of the tokens' text that may begin a character */
extern void hart_partial_character(StringInfo out, HartSpeller *speller, const int32 *ids, int n);

/* utf8_text.c: bytes of tokens as text; what makes no characters becomes U+FFFD, as does U+0000 */

/* how many bytes at the end may begin a character that is not complete: 0 to 3 */
extern int	hart_utf8_partial(const char *bytes, size_t length);

/*
 * Append as text bytes that continue a text.  Their first n_shown bytes are a part of a character at the end of that text, which has
 * U+FFFD for it: they show again only as the beginning of a whole character.
 */
extern void hart_utf8_append(StringInfo out, const char *bytes, size_t length, size_t n_shown);

#endif							/* HART_TOKENIZER_H */
