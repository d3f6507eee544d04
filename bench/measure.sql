-- What is timed, as functions of the measuring session, on the model that hart.model names. Times are milliseconds by the server's clock.

CREATE FUNCTION pg_temp.since(started timestamptz) RETURNS float8
LANGUAGE sql VOLATILE
RETURN extract(epoch FROM clock_timestamp() - started) * 1000;

-- Token ids spread over the vocabulary, so that their embeddings lie far apart; peers/worker.py makes the same.
CREATE FUNCTION pg_temp.some_tokens(n integer) RETURNS integer[]
LANGUAGE sql STABLE
RETURN (SELECT array_agg((i * 7919 + 11) % m.vocab_size ORDER BY i) FROM generate_series(1, n) AS i, hart.models AS m WHERE m.name = current_setting('hart.model'));

-- Bytes of tiles that one token needs: every matrix once, but of an untied embedding matrix hardly anything.
CREATE FUNCTION pg_temp.bytes_per_token() RETURNS bigint
LANGUAGE sql STABLE
RETURN (SELECT sum(octet_length(l.payload))
        FROM hart.model_registry AS r JOIN hart.tensors AS t USING (model_id) JOIN hart.tiles AS l USING (model_id, tensor_id)
        WHERE r.name = current_setting('hart.model') AND (t.name <> 'model.embed_tokens.weight' OR r.tied_embeddings));

-- A context in which the usual tokens up to this position have run; what an earlier call of the session ran is remembered.
CREATE FUNCTION pg_temp.context_of(n integer) RETURNS hart.context
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ctx hart.context := hart.open_context();
    tokens integer[] := pg_temp.some_tokens(n);
BEGIN
    PERFORM hart.forward(ctx, tokens[known + 1 :], known) FROM hart.restore_prefix(ctx, tokens) AS known;
    PERFORM hart.keep_prefix(ctx, tokens);
    RETURN ctx;
END $$;

-- Time of each of n tokens, this position in their middle.
CREATE FUNCTION pg_temp.decode(context integer, n integer) RETURNS float8[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    pos integer := context - n / 2;
    ctx hart.context := pg_temp.context_of(pos);
    token integer := (pg_temp.some_tokens(pos + 1))[pos + 1];
    started timestamptz;
    times float8[] := '{}';
BEGIN
    FOR i IN 1 .. n LOOP
        started := clock_timestamp();
        token := hart.argmax(hart.forward(ctx, ARRAY[token], pos));
        times := times || pg_temp.since(started);
        pos := pos + 1;
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN times;
END $$;

-- Time to run a prompt of n tokens in an open context.
CREATE FUNCTION pg_temp.prefill(n integer) RETURNS float8[]
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
    RETURN ARRAY[taken];
END $$;

-- Time of each of n steps that decode a token of every sequence, around position 64.
CREATE FUNCTION pg_temp.batch(n_sequences integer, n integer) RETURNS float8[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    first integer := 64 - n / 2;
    ctx hart.context := pg_temp.context_of(first);
    sequences integer[] := ARRAY(SELECT generate_series(0, n_sequences - 1));
    tokens integer[] := pg_temp.some_tokens(n_sequences);
    started timestamptz;
    times float8[] := '{}';
BEGIN
    PERFORM hart.fork_sequence(ctx, 0, i, first) FROM generate_series(1, n_sequences - 1) AS i;
    FOR pos IN first .. first + n - 1 LOOP
        started := clock_timestamp();
        PERFORM hart.forward_batch(ctx, tokens, sequences, array_fill(pos, ARRAY[n_sequences]));
        times := times || pg_temp.since(started);
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN times;
END $$;

-- Time of a statement.
CREATE FUNCTION pg_temp.timed(statement text) RETURNS float8
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    started timestamptz := clock_timestamp();
BEGIN
    EXECUTE statement;
    RETURN pg_temp.since(started);
END $$;

-- Time in which n tokens come, when the model may run from a given moment on: sessions that are given the same one run at once.
CREATE FUNCTION pg_temp.decode_from(moment timestamptz, n integer) RETURNS float8
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ctx hart.context := pg_temp.context_of(64);
    token integer := 11;
BEGIN
    PERFORM pg_sleep(greatest(0, extract(epoch FROM moment - clock_timestamp())));
    FOR pos IN 64 .. 63 + n LOOP
        token := hart.argmax(hart.forward(ctx, ARRAY[token], pos));
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN pg_temp.since(moment);
END $$;
