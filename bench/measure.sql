-- What is timed, as functions of the measuring session. Times are milliseconds by the server's clock.

CREATE FUNCTION pg_temp.since(started timestamptz) RETURNS float8
LANGUAGE sql VOLATILE
RETURN extract(epoch FROM clock_timestamp() - started) * 1000;

-- Token ids spread over the vocabulary, so that their embeddings lie far apart.
CREATE FUNCTION pg_temp.some_tokens(n integer) RETURNS integer[]
LANGUAGE sql STABLE
RETURN (SELECT array_agg((i * 7919 + 11) % m.vocab_size ORDER BY i) FROM generate_series(1, n) AS i, hart.models AS m);

-- Time of each of n tokens, the sixty-fourth of the context in their middle.
CREATE FUNCTION pg_temp.decode(n integer) RETURNS float8[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ctx hart.context := hart.open_context();
    pos integer := 64 - n / 2;
    logits hart.matrix := hart.forward(ctx, pg_temp.some_tokens(pos), 0);
    started timestamptz;
    times float8[] := '{}';
BEGIN
    FOR i IN 1 .. n LOOP
        started := clock_timestamp();
        logits := hart.forward(ctx, ARRAY[hart.argmax(logits)], pos);
        times := times || pg_temp.since(started);
        pos := pos + 1;
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN times;
END $$;

-- Time to run a prompt of n tokens in an open context.
CREATE FUNCTION pg_temp.prefill(n integer) RETURNS float8
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ctx hart.context := hart.open_context();
    tokens integer[] := pg_temp.some_tokens(n);
    started timestamptz := clock_timestamp();
    taken float8;
BEGIN
    PERFORM hart.forward(ctx, tokens, 0);
    taken := pg_temp.since(started);
    PERFORM hart.close_context(ctx);
    RETURN taken;
END $$;

-- Time of a call that runs nothing: find and pin the weights, let them go.
CREATE FUNCTION pg_temp.open_and_close() RETURNS float8
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    started timestamptz := clock_timestamp();
BEGIN
    PERFORM hart.close_context(hart.open_context());
    RETURN pg_temp.since(started);
END $$;

-- Time of a whole call.
CREATE FUNCTION pg_temp.generate(max_tokens integer) RETURNS float8
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    started timestamptz := clock_timestamp();
BEGIN
    PERFORM hart.generate('The', max_tokens);
    RETURN pg_temp.since(started);
END $$;

-- Bytes of weights that one token needs: every matrix once, but of an untied embedding matrix a single row.
CREATE FUNCTION pg_temp.bytes_per_token() RETURNS bigint
LANGUAGE sql STABLE
RETURN (SELECT sum(CASE WHEN t.name = 'model.embed_tokens.weight' AND NOT r.tied_embeddings THEN t.bytes / t.shape[1] ELSE t.bytes END)
        FROM hart.tensors AS t JOIN hart.model_registry AS r USING (model_id));
