-- Decoding of several sequences together, as functions of the measuring session; to be read after measure.sql.

-- Time of each of n steps that decode a token of every sequence, the sixty-fourth of its context in the middle.
CREATE FUNCTION pg_temp.decode_batch(n_sequences integer, n integer) RETURNS float8[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ctx hart.context := hart.open_context();
    first integer := 64 - n / 2;
    sequences integer[] := ARRAY(SELECT generate_series(0, n_sequences - 1));
    tokens integer[] := pg_temp.some_tokens(n_sequences);
    logits hart.matrix := hart.forward(ctx, pg_temp.some_tokens(first), 0);
    started timestamptz;
    times float8[] := '{}';
BEGIN
    FOR i IN 1 .. n_sequences - 1 LOOP
        PERFORM hart.fork_sequence(ctx, 0, i, first);
    END LOOP;
    FOR pos IN first .. first + n - 1 LOOP
        started := clock_timestamp();
        logits := hart.forward_batch(ctx, tokens, sequences, array_fill(pos, ARRAY[n_sequences]));
        times := times || pg_temp.since(started);
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN times;
END $$;
