-- From a prompt to the scores of the next token.

CREATE FUNCTION hart.check_prompt(tokens integer[], context_length integer, name text DEFAULT 'prompt') RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF tokens IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = format('%s must not be null', name),
            HINT = 'Use coalesce where a prompt may be missing.';
    ELSIF array_ndims(tokens) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('%s is an array of %s dimensions', name, array_ndims(tokens)),
            HINT = 'Pass the tokens of one prompt, in one dimension.';
    ELSIF cardinality(tokens) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('%s is empty', name),
            HINT = 'This model''s tokenizer begins a text with no token of its own, so give at least one.';
    ELSIF cardinality(tokens) > context_length THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
            MESSAGE = format('%s of %s tokens exceeds the context length of %s', name, cardinality(tokens), context_length),
            HINT = 'Shorten the prompt, or use a model with a longer context.';
    END IF;
END $$;
COMMENT ON FUNCTION hart.check_prompt(integer[], integer, text) IS 'error, with the prompt''s name in it, unless there is a token and they fit the context';

CREATE FUNCTION hart.logits(tokens integer[], model text DEFAULT NULL) RETURNS real[]
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 SET search_path = pg_catalog, pg_temp AS $$
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
