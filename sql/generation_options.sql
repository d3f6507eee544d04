-- How to choose tokens and where to end: the options that every generating call takes as named arguments, as one value.

CREATE TYPE hart.generation_options AS (
    max_tokens integer, temperature float8, top_k integer, top_p float8, min_p float8, typical_p float8,
    repetition_penalty float8, presence_penalty float8, frequency_penalty float8, logit_bias jsonb, seed bigint,
    min_tokens integer, stop text[], stop_tokens integer[], choices text[], regex text, json_schema jsonb, grammar text
);
COMMENT ON TYPE hart.generation_options IS 'how to choose tokens and where to end, made by hart.generation_options';

CREATE FUNCTION hart.check_stops(stop text[], stop_tokens integer[], choices text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF array_ndims(stop) > 1 OR array_ndims(stop_tokens) > 1 OR array_ndims(choices) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'stop, stop_tokens and choices are arrays of one dimension',
            HINT = 'Pass the elements in one row.';
    ELSIF array_position(stop, NULL) IS NOT NULL OR array_position(stop, '') IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a stop string must not be null or empty',
            HINT = 'Remove it, with array_remove for example.';
    ELSIF array_position(stop_tokens, NULL) IS NOT NULL OR 0 > ANY (stop_tokens) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a stop token must not be null or negative',
            HINT = 'Stop tokens are token ids, numbers from 0 up.';
    ELSIF cardinality(choices) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'there are no choices',
            HINT = 'Look whether the query for them is empty, and pass NULL for an answer that is free.';
    ELSIF array_position(choices, NULL) IS NOT NULL OR array_position(choices, '') IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a choice must not be null or empty',
            HINT = 'Remove it, with array_remove for example.';
    END IF;
END $$;
COMMENT ON FUNCTION hart.check_stops(text[], integer[], text[]) IS 'error unless these are stop strings, stop tokens and choices';

CREATE FUNCTION hart.check_logit_bias(logit_bias jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    token text;
    bias jsonb;
BEGIN
    IF jsonb_typeof(logit_bias) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('logit_bias must be a JSON object, not %s', jsonb_typeof(logit_bias)),
            HINT = 'Write it as {"198": -5, "220": false}: token ids, each with a number to add or false to forbid it.';
    END IF;
    FOR token, bias IN SELECT key, value FROM jsonb_each(logit_bias) LOOP
        IF token !~ '^[0-9]{1,9}$' THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('"%s" in logit_bias is no token id', translate(left(token, 60), E'\r\n', '  ')),
                HINT = 'Keys are token ids, numbers from 0 up.';
        ELSIF NOT (CASE jsonb_typeof(bias) WHEN 'number' THEN bias::numeric BETWEEN -100 AND 100 WHEN 'boolean' THEN NOT bias::boolean ELSE false END) THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('bias of token %s must be a number from -100 to 100 or false, not %s', token, left(bias::text, 60)),
                HINT = 'The number is added to the token''s logit; false forbids the token.';
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION hart.check_logit_bias(jsonb) IS 'error unless this is an object of token ids with a number from -100 to 100, or false';

CREATE FUNCTION hart.generation_options(
    max_tokens integer DEFAULT 64, temperature float8 DEFAULT 0, top_k integer DEFAULT 0, top_p float8 DEFAULT 1, min_p float8 DEFAULT 0, typical_p float8 DEFAULT 1,
    repetition_penalty float8 DEFAULT 1, presence_penalty float8 DEFAULT 0, frequency_penalty float8 DEFAULT 0, logit_bias jsonb DEFAULT NULL, seed bigint DEFAULT NULL,
    min_tokens integer DEFAULT 0, stop text[] DEFAULT NULL, stop_tokens integer[] DEFAULT NULL, choices text[] DEFAULT NULL, regex text DEFAULT NULL, json_schema jsonb DEFAULT NULL, grammar text DEFAULT NULL)
RETURNS hart.generation_options
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong record;
    constraints text[] := array_remove(ARRAY[CASE WHEN choices IS NOT NULL THEN 'choices' END, CASE WHEN regex IS NOT NULL THEN 'regex' END,
                                             CASE WHEN json_schema IS NOT NULL THEN 'json_schema' END, CASE WHEN grammar IS NOT NULL THEN 'grammar' END], NULL);
BEGIN
    SELECT * INTO wrong
    FROM (VALUES ('max_tokens', max_tokens >= 1, 'at least 1', max_tokens::text, 'Ask for one token or more.'),
                 ('temperature', temperature >= 0 AND temperature < 'Infinity', 'a number from 0 up', temperature::text, 'Use 0 for the likeliest token each time, 1 for the model''s own probabilities.'),
                 ('top_k', top_k >= 0, 'at least 0', top_k::text, 'It is the number of tokens to choose among; 0 means all.'),
                 ('top_p', top_p > 0 AND top_p <= 1, 'above 0 and at most 1', top_p::text, 'It is the probability that the tokens to choose among have together; 1 means all of them.'),
                 ('min_p', min_p >= 0 AND min_p <= 1, 'from 0 to 1', min_p::text, 'It is the least probability of a token, as a share of the likeliest one''s; 0 means any.'),
                 ('typical_p', typical_p > 0 AND typical_p <= 1, 'above 0 and at most 1', typical_p::text, 'It is the probability that the most typical tokens have together; 1 means all of them.'),
                 ('repetition_penalty', repetition_penalty > 0 AND repetition_penalty < 'Infinity', 'a number above 0', repetition_penalty::text, 'Use 1 for none, more to discourage what has been said.'),
                 ('presence_penalty', presence_penalty BETWEEN -2 AND 2, 'from -2 to 2', presence_penalty::text, 'Use 0 for none, more to discourage tokens that have been generated.'),
                 ('frequency_penalty', frequency_penalty BETWEEN -2 AND 2, 'from -2 to 2', frequency_penalty::text, 'Use 0 for none, more to discourage tokens each time they are generated.'),
                 ('min_tokens', min_tokens BETWEEN 0 AND greatest(max_tokens, 0), 'from 0 to max_tokens', min_tokens::text, 'It is the number of tokens before the answer may end.')
         ) AS option (name, is_right, range, given, hint)
    WHERE is_right IS NOT TRUE
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('%s must be %s, not %s', wrong.name, wrong.range, coalesce(wrong.given, 'null')), HINT = wrong.hint;
    END IF;
    PERFORM hart.check_stops(stop, stop_tokens, choices);
    IF logit_bias IS NOT NULL THEN
        PERFORM hart.check_logit_bias(logit_bias);
    END IF;
    IF cardinality(constraints) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('%s and %s cannot be combined', constraints[1], constraints[2]),
            HINT = 'Say in one way what the answer must look like.';
    ELSIF choices IS NOT NULL AND NOT (temperature = 0 AND repetition_penalty = 1 AND presence_penalty = 0 AND frequency_penalty = 0 AND logit_bias IS NULL
                                       AND min_tokens = 0 AND stop IS NULL AND stop_tokens IS NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'choices cannot be combined with options of sampling or stopping',
            HINT = 'The answer is the likeliest choice as a whole. Use regex to sample among alternatives.';
    END IF;
    RETURN ROW(max_tokens, temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty, frequency_penalty, logit_bias, seed,
               min_tokens, stop, stop_tokens, choices, regex, json_schema, grammar)::hart.generation_options;
END $$;
COMMENT ON FUNCTION hart.generation_options(integer, float8, integer, float8, float8, float8, float8, float8, float8, jsonb, bigint, integer, text[], integer[], text[], text, jsonb, text) IS
    'options of a generation, checked; the defaults are those of hart.generate';
