-- From a prompt to its continuation.

CREATE FUNCTION hart.check_prompt(tokens integer[], context_length integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF tokens IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'prompt must not be null',
            HINT = 'Use coalesce where a prompt may be missing.';
    ELSIF array_ndims(tokens) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('prompt is an array of %s dimensions', array_ndims(tokens)),
            HINT = 'Pass the tokens of one prompt, in one dimension.';
    ELSIF cardinality(tokens) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'prompt is empty',
            HINT = 'This model''s tokenizer begins a text with no token of its own, so give at least one.';
    ELSIF cardinality(tokens) > context_length THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
            MESSAGE = format('prompt of %s tokens exceeds the context length of %s', cardinality(tokens), context_length),
            HINT = 'Shorten the prompt, or use a model with a longer context.';
    END IF;
END $$;
COMMENT ON FUNCTION hart.check_prompt(integer[], integer) IS 'error unless there is a token and they fit the context';

CREATE FUNCTION hart.logits(tokens integer[], model text DEFAULT NULL) RETURNS real[]
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 1000000 AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
    logits hart.matrix;
BEGIN
    PERFORM hart.check_prompt(tokens, hart.max_positions(ctx));
    logits := hart.forward(ctx, tokens, 0);
    PERFORM hart.close_context(ctx);
    RETURN hart.matrix_row(logits, 1);
END $$;
COMMENT ON FUNCTION hart.logits(integer[], text) IS 'logits of the token after the last of those given, one for each token of the vocabulary';

CREATE FUNCTION hart.generate_tokens(tokens integer[], max_tokens integer DEFAULT 64, model text DEFAULT NULL) RETURNS integer[]
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000000 AS $$
DECLARE
    ctx hart.context;
    eos integer[];
    pos integer := cardinality(tokens);
    logits hart.matrix;
    token integer;
    continuation integer[] := '{}';
BEGIN
    IF max_tokens IS NULL OR max_tokens < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('max_tokens must be at least 1, not %s', coalesce(max_tokens::text, 'null')),
            HINT = 'Ask for one token or more.';
    END IF;
    ctx := hart.open_context(model);
    PERFORM hart.check_prompt(tokens, hart.max_positions(ctx));
    SELECT r.eos_token_ids INTO eos FROM hart.model_registry r WHERE r.model_id = hart.resolve_model(model);

    logits := hart.forward(ctx, tokens, 0);
    LOOP
        token := hart.argmax(logits);
        continuation := continuation || token;
        EXIT WHEN token = ANY (eos) OR cardinality(continuation) = max_tokens OR pos = hart.max_positions(ctx);
        logits := hart.forward(ctx, ARRAY[token], pos);
        pos := pos + 1;
    END LOOP;

    PERFORM hart.close_context(ctx);
    RETURN continuation;
END $$;
COMMENT ON FUNCTION hart.generate_tokens(integer[], integer, text) IS
    'token ids that continue those given, each the likeliest; ends with an end-of-text token, after max_tokens, or where the context is full';

-- unsafe as PL/Python is that runs queries: it does so in subtransactions, which a parallel plan does not allow
CREATE FUNCTION hart.generate(prompt text, max_tokens integer DEFAULT 64, model text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE COST 10000000 AS $$
DECLARE
    tokens integer[] := hart.tokenize(prompt, model);
BEGIN
    RETURN hart.detokenize_continuation(tokens, hart.generate_tokens(tokens, max_tokens, model), model);
END $$;
COMMENT ON FUNCTION hart.generate(text, integer, text) IS
    'continuation of a prompt, without the prompt: greedily at most max_tokens tokens by the model named (by default the setting hart.model, else the only one)';
