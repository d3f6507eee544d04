-- From a prompt to its continuation.

CREATE FUNCTION hart.generate(
    prompt text, max_tokens integer DEFAULT 64, model text DEFAULT NULL,
    temperature float8 DEFAULT 0, top_k integer DEFAULT 0, top_p float8 DEFAULT 1, min_p float8 DEFAULT 0, typical_p float8 DEFAULT 1,
    repetition_penalty float8 DEFAULT 1, presence_penalty float8 DEFAULT 0, frequency_penalty float8 DEFAULT 0, logit_bias jsonb DEFAULT NULL, seed bigint DEFAULT NULL,
    min_tokens integer DEFAULT 0, stop text[] DEFAULT NULL, stop_tokens integer[] DEFAULT NULL, choices text[] DEFAULT NULL, regex text DEFAULT NULL, json_schema jsonb DEFAULT NULL, grammar text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    options CONSTANT hart.generation_options := hart.generation_options(max_tokens, temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty, frequency_penalty,
                                                 logit_bias, seed, min_tokens, stop, stop_tokens, choices, regex, json_schema, grammar);
BEGIN
    RETURN hart.generate_text(hart.tokenize(prompt, model), options, model);
END $$;
COMMENT ON FUNCTION hart.generate(text, integer, text, float8, integer, float8, float8, float8, float8, float8, float8, jsonb, bigint, integer, text[], integer[], text[], text, jsonb, text) IS
    'continuation of a prompt, without the prompt, by the model named (by default the setting hart.model, else the only one); see docs/generate.md for the options';

CREATE FUNCTION hart.generate_tokens(
    tokens integer[], max_tokens integer DEFAULT 64, model text DEFAULT NULL,
    temperature float8 DEFAULT 0, top_k integer DEFAULT 0, top_p float8 DEFAULT 1, min_p float8 DEFAULT 0, typical_p float8 DEFAULT 1,
    repetition_penalty float8 DEFAULT 1, presence_penalty float8 DEFAULT 0, frequency_penalty float8 DEFAULT 0, logit_bias jsonb DEFAULT NULL, seed bigint DEFAULT NULL,
    min_tokens integer DEFAULT 0, stop text[] DEFAULT NULL, stop_tokens integer[] DEFAULT NULL, choices text[] DEFAULT NULL, regex text DEFAULT NULL, json_schema jsonb DEFAULT NULL, grammar text DEFAULT NULL)
RETURNS integer[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    options CONSTANT hart.generation_options := hart.generation_options(max_tokens, temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty, frequency_penalty,
                                                 logit_bias, seed, min_tokens, stop, stop_tokens, choices, regex, json_schema, grammar);
    -- text is needed only to find stop strings in it
    g hart.generation := hart.begin_generation(tokens, options, model, with_text => stop IS NOT NULL);
BEGIN
    LOOP
        g := hart.next_token(g);
        EXIT WHEN g.finish_reason IS NOT NULL;
    END LOOP;
    PERFORM hart.close_context(g.ctx);
    RETURN g.tokens;
END $$;
COMMENT ON FUNCTION hart.generate_tokens(integer[], integer, text, float8, integer, float8, float8, float8, float8, float8, float8, jsonb, bigint, integer, text[], integer[], text[], text, jsonb, text) IS
    'token ids that continue those given, with the options of hart.generate; the token that ended it included';
