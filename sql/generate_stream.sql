-- A generation as rows that come while the model runs.

CREATE FUNCTION hart.begin_stream(prompt text, options hart.generation_options, model text) RETURNS hart.generation
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN hart.begin_generation(hart.tokenize(prompt, model), options, model);
END $$;
COMMENT ON FUNCTION hart.begin_stream(text, hart.generation_options, text) IS 'the generation whose tokens hart.generation_steps makes';

CREATE FUNCTION hart.generation_steps(prompt text, options hart.generation_options, model text DEFAULT NULL, OUT step integer, OUT token_id integer, OUT piece text, OUT logprob float8) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000 ROWS 64 AS 'MODULE_PATHNAME', 'hart_generation_steps';
COMMENT ON FUNCTION hart.generation_steps(text, hart.generation_options, text) IS
    'a row for each token of a continuation; in a SELECT list each row is made when it is fetched, in FROM PostgreSQL collects them first';

-- PostgreSQL puts the body of such a function in its place, so that rows flow. It does so only with a function that is not VOLATILE; what is in the body is and stays so.
CREATE FUNCTION hart.generate_stream(
    prompt text, max_tokens integer DEFAULT 64, model text DEFAULT NULL,
    temperature float8 DEFAULT 0, top_k integer DEFAULT 0, top_p float8 DEFAULT 1, min_p float8 DEFAULT 0, typical_p float8 DEFAULT 1,
    repetition_penalty float8 DEFAULT 1, presence_penalty float8 DEFAULT 0, frequency_penalty float8 DEFAULT 0, logit_bias jsonb DEFAULT NULL, seed bigint DEFAULT NULL,
    min_tokens integer DEFAULT 0, stop text[] DEFAULT NULL, stop_tokens integer[] DEFAULT NULL, choices text[] DEFAULT NULL, regex text DEFAULT NULL, json_schema jsonb DEFAULT NULL, grammar text DEFAULT NULL)
RETURNS TABLE (step integer, token_id integer, piece text, logprob float8)
LANGUAGE sql STABLE PARALLEL UNSAFE COST 10000 ROWS 64 AS $$
    SELECT (s.made).step, (s.made).token_id, (s.made).piece, (s.made).logprob
    FROM (SELECT hart.generation_steps(prompt, hart.generation_options(max_tokens, temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty, frequency_penalty,
                                                                logit_bias, seed, min_tokens, stop, stop_tokens, choices, regex, json_schema, grammar), model) AS made) AS s
$$;
COMMENT ON FUNCTION hart.generate_stream(text, integer, text, float8, integer, float8, float8, float8, float8, float8, float8, jsonb, bigint, integer, text[], integer[], text[], text, jsonb, text) IS
    'the continuation that hart.generate makes with these options, a row a token as the model runs: the pieces joined are the text, logprob is by the model''s own logits';
