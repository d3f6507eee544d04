-- Text to tokens and back. Byte-level byte-pair encoding is done from rows, in C. For other tokenizers, and for texts that C leaves to it, these functions
-- call the library, in PL/Python (hart.library_...); since that queries in subtransactions, they are unsafe in parallel.

CREATE FUNCTION hart.tokenize(text text, model text DEFAULT NULL, add_special_tokens bool DEFAULT true) RETURNS int[]
LANGUAGE c STABLE PARALLEL UNSAFE COST 100 AS 'MODULE_PATHNAME', 'hart_tokenize';
COMMENT ON FUNCTION hart.tokenize(text, text, bool) IS
'token ids of a text, special tokens recognised, and added as the model''s tokenizer does unless told not to';

CREATE FUNCTION hart.tokenize_plain(texts text[], model text DEFAULT NULL, OUT tokens int[], OUT lengths int[])
LANGUAGE c STABLE PARALLEL UNSAFE COST 10000 AS 'MODULE_PATHNAME', 'hart_tokenize_plain';
COMMENT ON FUNCTION hart.tokenize_plain(text[], text) IS
'token ids of many texts, one behind the other, and how many each has; NULL for a text that has none here and is for the library: one with an added token, or any when the model''s tokenizer is the library''s';

CREATE FUNCTION hart.detokenize(tokens int[], model text DEFAULT NULL) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE COST 100 AS 'MODULE_PATHNAME', 'hart_detokenize';
COMMENT ON FUNCTION hart.detokenize(int[], text) IS
'text of token ids, special tokens left out';

CREATE FUNCTION hart.detokenize_continuation(prompt int[], continuation int[], model text DEFAULT NULL) RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE COST 100 AS 'MODULE_PATHNAME', 'hart_detokenize_continuation';
COMMENT ON FUNCTION hart.detokenize_continuation(int[], int[], text) IS
'text that the second array of token ids adds to the text of the first';

CREATE FUNCTION hart.token_texts(tokens int[], model text DEFAULT NULL) RETURNS text[]
LANGUAGE c STABLE PARALLEL UNSAFE COST 100 AS 'MODULE_PATHNAME', 'hart_token_texts';
COMMENT ON FUNCTION hart.token_texts(int[], text) IS
'text of each token, as it follows the one before; special tokens by their names, U+FFFD for a part of a character';

CREATE FUNCTION hart.begin_pieces(prompt int[], model text DEFAULT NULL) RETURNS hart.text_piece
LANGUAGE c STABLE PARALLEL UNSAFE COST 100 AS 'MODULE_PATHNAME', 'hart_begin_pieces';
COMMENT ON FUNCTION hart.begin_pieces(int[], text) IS
'the empty piece of text after a prompt';

CREATE FUNCTION hart.next_piece(text hart.text_piece, token int, stop text[], ends boolean) RETURNS hart.text_piece
LANGUAGE c STABLE PARALLEL UNSAFE COST 100 AS 'MODULE_PATHNAME', 'hart_next_piece';
COMMENT ON FUNCTION hart.next_piece(hart.text_piece, int, text[], boolean) IS
'the piece of text that a token adds, in whole characters and without what may begin a stop string; all that is left when it ends there';
