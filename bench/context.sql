-- Decoding at the end of contexts of several lengths, in turn; to be read after measure.sql.

-- Milliseconds of n tokens, each at every one of the lengths: (n × lengths). What is cached of the long sequences is not what their tokens would
-- give, for the sake of time: keys and values of one layer serve all of them.
CREATE FUNCTION pg_temp.decode_at(lengths integer[], n integer) RETURNS TABLE (length integer, ms float8)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ctx hart.context := hart.open_context();
    size CONSTANT integer := 128;
    tokens integer[] := pg_temp.some_tokens(size);
    x hart.matrix := hart.embed_tokens(ctx, tokens);
    q hart.matrix := hart.linear(ctx, 0, 'self_attn.q_proj', x);
    k hart.matrix := hart.linear(ctx, 0, 'self_attn.k_proj', x);
    longest integer := (SELECT max(l) FROM unnest(lengths) AS l);
    logits hart.matrix;
    started timestamptz;
BEGIN
    FOR layer IN 0 .. hart.n_layers(ctx) - 1 LOOP
        FOR start IN 0 .. longest - 1 BY size LOOP
            PERFORM hart.attend(ctx, layer, q, k, k, start);
        END LOOP;
    END LOOP;
    FOR i IN 1 .. cardinality(lengths) LOOP
        PERFORM hart.fork_sequence(ctx, 0, i, lengths[i]);
    END LOOP;
    FOR step IN 0 .. n - 1 LOOP
        FOR i IN 1 .. cardinality(lengths) LOOP
            started := clock_timestamp();
            logits := hart.forward(ctx, tokens[step % size + 1 : step % size + 1], lengths[i] + step, i);
            RETURN QUERY SELECT lengths[i], pg_temp.since(started);
        END LOOP;
    END LOOP;
    PERFORM hart.close_context(ctx);
END $$;
