-- The same model packed and plain: bytes, ingestion, and tokens a second in turn. In an empty database of an otherwise idle server:
--     psql -v model=/path/of/a/bf16/model -v threads=2 -f bench/tiles.sql
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS hartonomous CASCADE;
SET hart.prefix_cache = 0;
SET hart.threads = :threads;
\timing on
CALL hart.ingest_model(:'model', 'packed');
SET hart.tile_encoding = plain;
CALL hart.ingest_model(:'model', 'plain');
\timing off
SELECT name, round(bytes_stored::numeric / bytes_in, 3) AS stored FROM hart.models ORDER BY name;

-- Milliseconds of each of n tokens, from the fortieth position on
CREATE FUNCTION pg_temp.decode(model text, n integer) RETURNS float8[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
    logits hart.matrix := hart.forward(ctx, ARRAY(SELECT i * 7 FROM generate_series(1, 40) AS i), 0);
    started timestamptz;
    times float8[] := '{}';
BEGIN
    FOR pos IN 40 .. 39 + n LOOP
        started := clock_timestamp();
        logits := hart.forward(ctx, ARRAY[hart.argmax(logits)], pos);
        times := times || (extract(epoch FROM clock_timestamp() - started) * 1000)::float8;
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN times;
END $$;

SELECT model, round((1000 / percentile_cont(0.5) WITHIN GROUP (ORDER BY ms))::numeric, 2) AS "tokens/s, median", round((1000 / min(ms))::numeric, 2) AS best
FROM generate_series(0, 5) AS round, LATERAL (VALUES ('packed'), ('plain')) AS m (model), LATERAL unnest(pg_temp.decode(model, 12)) AS ms
WHERE round > 0 GROUP BY model;
