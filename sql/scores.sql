-- What a model makes of a text: how likely each of its tokens is, which tokens may follow, what it is about.

CREATE FUNCTION hart.score_rows(logits hart.matrix, targets integer[], OUT logprob float8, OUT rank integer, OUT entropy float8) RETURNS SETOF record
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 100 AS 'MODULE_PATHNAME', 'hart_score_rows';
COMMENT ON FUNCTION hart.score_rows(hart.matrix, integer[]) IS
    'for each row of logits log-probability and rank (1: the likeliest) of its target token, and the entropy of the row, in nats';

CREATE FUNCTION hart.top_continuations(logits hart.matrix, scores float8[], k integer, OUT row_no integer, OUT token_id integer, OUT score float8) RETURNS SETOF record
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'hart_top_continuations';
COMMENT ON FUNCTION hart.top_continuations(hart.matrix, float8[], integer) IS
    'the k best of all rows (from 1) and tokens by the row''s score + log-probability of the token, best first';

CREATE FUNCTION hart.score_tokens(tokens integer[], model text DEFAULT NULL)
RETURNS TABLE ("position" integer, token_id integer, logprob float8, rank integer, entropy float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
    n CONSTANT integer := coalesce(cardinality(tokens), 0);
    context_length CONSTANT integer := hart.max_positions(ctx);
    -- rows of logits are large: a few at a time
    block CONSTANT integer := 128;
    scored integer := 1;
    start integer := 0;
    stop integer;
    last integer;
BEGIN
    tokens := tokens[:];
    IF n > 0 THEN
        -- an error unless it is a token: nothing else looks at one that stands alone
        PERFORM hart.embed_tokens(ctx, tokens[1:1]);
        RETURN QUERY SELECT 0, tokens[1], NULL::float8, NULL::integer, NULL::float8;
    END IF;
    -- windows of the context length, each half of it further than the one before; a token counts in the first that holds it
    WHILE scored < n LOOP
        stop := least(start + context_length, n);
        IF scored - 1 > start THEN
            PERFORM hart.forward(ctx, tokens[start + 1 : scored - 1], 0);
        END IF;
        FOR at IN scored .. stop - 1 BY block LOOP
            last := least(at + block, stop) - 1;
            RETURN QUERY
            SELECT at + row_no::integer - 1, tokens[at + row_no], s.logprob, s.rank, s.entropy
            FROM hart.score_rows(hart.forward_batch(ctx, tokens[at : last], array_fill(0, ARRAY[last - at + 1]),
                                                    ARRAY(SELECT generate_series(at - 1 - start, last - 1 - start))),
                                 tokens[at + 1 : last + 1]) WITH ORDINALITY AS s (logprob, rank, entropy, row_no);
        END LOOP;
        scored := stop;
        start := start + greatest(context_length / 2, 1);
    END LOOP;
    PERFORM hart.close_context(ctx);
END $$;
COMMENT ON FUNCTION hart.score_tokens(integer[], text) IS
    'for each token, by those before it: log-probability, rank among all tokens (1: the likeliest) and entropy of the prediction, in nats; NULLs for the first';

CREATE FUNCTION hart.score(text text, model text DEFAULT NULL)
RETURNS TABLE ("position" integer, token_id integer, token text, logprob float8, rank integer, entropy float8)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tokens CONSTANT integer[] := hart.tokenize(text, model);
    texts CONSTANT text[] := hart.token_texts(tokens, model);
BEGIN
    RETURN QUERY SELECT s.position, s.token_id, texts[s.position + 1], s.logprob, s.rank, s.entropy FROM hart.score_tokens(tokens, model) AS s;
END $$;
COMMENT ON FUNCTION hart.score(text, text) IS
    'how a model reads a text, token by token: log-probability, rank (1: the likeliest) and entropy, in nats; NULLs for the first token, which nothing precedes';

CREATE FUNCTION hart.perplexity(text text, model text DEFAULT NULL) RETURNS float8
LANGUAGE plpgsql STABLE PARALLEL UNSAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT exp(-avg(s.logprob)) FROM hart.score_tokens(hart.tokenize(text, model), model) AS s);
END $$;
COMMENT ON FUNCTION hart.perplexity(text, text) IS 'exp of the mean of -logprob of a text''s tokens, as hart.score tells them; NULL when there are none';

CREATE FUNCTION hart.next_token(prompt text, k integer DEFAULT 10, model text DEFAULT NULL)
RETURNS TABLE (token_id integer, token text, probability float8, logprob float8)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE COST 10000 ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tokens CONSTANT integer[] := hart.tokenize(prompt, model);
    ctx hart.context := hart.open_context(model);
    logits hart.matrix;
BEGIN
    IF k IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'k must not be null', HINT = 'Ask for one row or more.';
    END IF;
    PERFORM hart.check_prompt(tokens, hart.max_positions(ctx));
    logits := hart.prefill(ctx, tokens);
    PERFORM hart.close_context(ctx);
    RETURN QUERY
    SELECT c.token_id, (hart.token_texts(ARRAY[tokens[cardinality(tokens)], c.token_id], model))[2], exp(c.score), c.score
    FROM hart.top_continuations(logits, '{0}', k) AS c;
END $$;
COMMENT ON FUNCTION hart.next_token(text, integer, text) IS 'the k likeliest next tokens after a prompt, with their probabilities; likeliest first';

CREATE FUNCTION hart.embed(text text, model text DEFAULT NULL, pooling text DEFAULT 'mean') RETURNS real[]
LANGUAGE plpgsql STABLE PARALLEL UNSAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tokens CONSTANT integer[] := hart.tokenize(text, model);
    n CONSTANT integer := cardinality(tokens);
    ctx hart.context := hart.open_context(model);
    block CONSTANT integer := 512;
    part integer[];
    x hart.matrix;
    pooled hart.matrix;
BEGIN
    IF pooling IS NULL OR pooling NOT IN ('mean', 'last') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('pooling must be mean or last, not %s', coalesce(quote_ident(pooling), 'null')),
            HINT = 'Use mean for the mean of all tokens, last for the last token alone.';
    END IF;
    IF n > 0 THEN
        PERFORM hart.check_prompt(tokens, hart.max_positions(ctx));
        FOR start IN 0 .. n - 1 BY block LOOP
            part := tokens[start + 1 : start + block];
            x := hart.rms_norm(ctx, 'model.norm', hart.hidden_states(ctx, part, array_fill(0, ARRAY[cardinality(part)]),
                                                                     ARRAY(SELECT generate_series(start, start + cardinality(part) - 1))));
            IF pooling = 'last' THEN
                pooled := hart.last_row(x);
            ELSE
                x := hart.matmul(array_fill((1.0 / n)::real, ARRAY[1, hart.n_rows(x)])::hart.matrix, x);
                pooled := CASE WHEN pooled IS NULL THEN x ELSE hart.add(pooled, x) END;
            END IF;
        END LOOP;
    END IF;
    PERFORM hart.close_context(ctx);
    RETURN hart.matrix_row(hart.scale(pooled, (1 / nullif(hart.norm(pooled), 0))::real), 1);
END $$;
COMMENT ON FUNCTION hart.embed(text, text, text) IS
    'a vector of length 1 for a text: the mean of its tokens'' hidden states after the last norm, or the last token''s; NULL for a text without tokens';
