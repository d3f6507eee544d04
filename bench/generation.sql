-- What a token costs beside the model: the loop of hart.generate against the bare one, sampling from a large vocabulary, many prompts at a time.
--
--   psql -d DATABASE -v model=NAME -f bench/generation.sql
--
-- Milliseconds; the best of five. NAME is best a small model, as demo/model: the loop costs the same with a large one, but is lost in its noise.
\set QUIET on
\pset footer off
SET client_min_messages = warning;
SET hart.model = :'model';
SET hart.prefix_cache = 0;

CREATE FUNCTION pg_temp.bare(tokens integer[], n integer) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context := hart.open_context();
    made integer[] := '{}';
    logits hart.matrix := hart.forward(ctx, tokens, 0);
BEGIN
    LOOP
        made := made || hart.argmax(logits);
        EXIT WHEN cardinality(made) = n;
        logits := hart.forward(ctx, made[cardinality(made) :], cardinality(tokens) + cardinality(made) - 1);
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN made;
END $$;
CREATE FUNCTION pg_temp.best_of_five(statement text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    best float8 := 'Infinity';
    started timestamptz;
BEGIN
    FOR i IN 1 .. 5 LOOP
        started := clock_timestamp();
        EXECUTE statement;
        best := least(best, extract(epoch FROM clock_timestamp() - started) * 1000);
    END LOOP;
    RETURN round(best::numeric, 2);
END $$;

\echo A token, of 200
SELECT what, round(pg_temp.best_of_five(statement) / 200, 3) AS ms
FROM (VALUES ('bare loop of forward and argmax', 'SELECT pg_temp.bare(''{40,41,42}'', 200)'),
             ('generate_tokens', 'SELECT hart.generate_tokens(''{40,41,42}'', 200, min_tokens => 200)'),
             ('generate', 'SELECT hart.generate(''The'', 200, min_tokens => 200)'),
             ('generate_stream', 'SELECT * FROM hart.generate_stream(''The'', 200, min_tokens => 200)'),
             ('generate, sampled with stop strings', 'SELECT hart.generate(''The'', 200, min_tokens => 200, temperature => 0.8, top_p => 0.95, seed => 1, stop => ARRAY[''~~~'', E''\n\n\n''])')) AS runs (what, statement);

CREATE TEMP TABLE large AS SELECT array_agg(((random() + random() + random() + random() - 2) * 8)::real)::hart.matrix AS logits FROM generate_series(1, 151936);

CREATE FUNCTION pg_temp.sample_100(options hart.generation_options) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    logits hart.matrix := (SELECT hart.last_row(l.logits) FROM large AS l);
BEGIN
    FOR i IN 1 .. 100 LOOP
        PERFORM hart.sample(logits, options, seed => i);
    END LOOP;
END $$;
\echo Sampling from 151,936 logits
SELECT options, round(pg_temp.best_of_five(format('SELECT pg_temp.sample_100(hart.generation_options(%s))', options)) / 100, 2) AS ms
FROM unnest(ARRAY['temperature => 0', 'temperature => 1', 'temperature => 1, top_k => 40', 'temperature => 1, top_p => 0.9', 'temperature => 1, min_p => 0.05', 'temperature => 1, typical_p => 0.9',
                  'temperature => 0.8, top_k => 40, top_p => 0.95']) AS options;

\echo 32 prompts, 20 tokens each
SELECT what, pg_temp.best_of_five(statement) AS ms
FROM (VALUES ('one by one', 'SELECT hart.generate(''The '' || i, 20, min_tokens => 20) FROM generate_series(1, 32) AS i'),
             ('generate_many', 'SELECT hart.generate_many(ARRAY(SELECT ''The '' || i FROM generate_series(1, 32) AS i), 20, min_tokens => 20)')) AS runs (what, statement);
