-- From logits to the next token.

CREATE FUNCTION hart.sample(logits hart.matrix, options hart.generation_options, prompt integer[] DEFAULT '{}', tokens integer[] DEFAULT '{}', ending integer[] DEFAULT '{}', mask bytea DEFAULT NULL,
                            seed bigint DEFAULT 0, sequence integer DEFAULT 0, row_no integer DEFAULT 1, OUT token integer, OUT logprob float8) RETURNS record
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_sample';
COMMENT ON FUNCTION hart.sample(hart.matrix, hart.generation_options, integer[], integer[], integer[], bytea, bigint, integer, integer) IS
    'a next token by a row of logits, after the prompt and the tokens generated so far, and its log-probability by the logits alone; ending: the tokens that min_tokens forbids, mask: a bit for each token that a constraint allows; drawn by seed, sequence and number of tokens';

CREATE FUNCTION hart.candidates(logits hart.matrix, options hart.generation_options, prompt integer[] DEFAULT '{}', tokens integer[] DEFAULT '{}', ending integer[] DEFAULT '{}', mask bytea DEFAULT NULL,
                                OUT token integer, OUT probability float8) RETURNS SETOF record
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 40 AS 'MODULE_PATHNAME', 'hart_candidates';
COMMENT ON FUNCTION hart.candidates(hart.matrix, hart.generation_options, integer[], integer[], integer[], bytea) IS
    'the tokens that hart.sample draws from with these arguments and their probabilities, likeliest first';

CREATE FUNCTION hart.random_seed() RETURNS bigint
LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_random_seed';
COMMENT ON FUNCTION hart.random_seed() IS 'a seed that nobody can guess, for generations that name none';
