-- Tokens/s of n decoded tokens after a short prompt, opening and prompt not counted; to be read after measure.sql.

CREATE FUNCTION pg_temp.speed(n integer) RETURNS float8
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ctx hart.context := hart.open_context();
    logits hart.matrix := hart.forward(ctx, pg_temp.some_tokens(16), 0);
    started timestamptz := clock_timestamp();
BEGIN
    FOR pos IN 16 .. 15 + n LOOP
        logits := hart.forward(ctx, ARRAY[hart.argmax(logits)], pos);
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN n * 1000 / pg_temp.since(started);
END $$;
