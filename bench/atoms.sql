-- Speed of the curve and of the atom graph; bench/atoms.sh runs it. Variables: model, a folder that the server can read.
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS hartonomous CASCADE;
CREATE EXTENSION hartonomous CASCADE;
SET max_parallel_workers_per_gather = 0;
SET jit = off;

-- The best of five runs, in milliseconds
CREATE FUNCTION pg_temp.best(statement text, runs int DEFAULT 5) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    start timestamptz;
    best interval;
BEGIN
    FOR n IN 1 .. runs LOOP
        start := clock_timestamp();
        EXECUTE statement;
        best := least(best, clock_timestamp() - start);
    END LOOP;
    RETURN round(extract(epoch FROM best)::numeric * 1000, 1);
END $$;

CREATE TEMP TABLE point AS SELECT random() * 2 - 1 AS x, random() * 2 - 1 AS y, random() * 2 - 1 AS z, random() * 2 - 1 AS w FROM generate_series(1, 1000000);
CREATE TEMP TABLE place AS SELECT ST_MakePoint(x, y, z, w) AS p FROM point;
ANALYZE point, place;
SELECT format('encode a million rows of four numbers      %s ms = %s million/s', ms, round(1000 / ms, 1)) FROM pg_temp.best('SELECT max(hart.hilbert_encode_4d(x, y, z, w)) FROM point') AS ms;
SELECT format('encode a million rows of points            %s ms = %s million/s', ms, round(1000 / ms, 1)) FROM pg_temp.best('SELECT max(hart.hilbert_encode_4d(p)) FROM place') AS ms;
SELECT format('    of that the scan alone                 %s and %s ms', pg_temp.best('SELECT max(x) FROM point'), pg_temp.best('SELECT count(p) FROM place'));

-- 1 MB of words as a language has them: about 15,000 different ones, the n-th said about 1/n as often as the first
SELECT setseed(0.5);
CREATE TEMP TABLE sample AS
SELECT left(string_agg(CASE WHEN random() < 0.1 THEN '. ' ELSE ' ' END || word, ''), 1000000) AS t
FROM (SELECT translate(left(md5(floor(exp(random() * ln(15000)))::text), 3 + (random() * 4)::int), '0123456789', 'aeiouaeiou') AS word FROM generate_series(1, 250000)) AS words;
SELECT format('decompose 1 MB, nothing stored             %s ms (%s segments, %s distinct)', pg_temp.best('SELECT hart.decompose(t) FROM sample', 1), cardinality(s.sequence), cardinality(s.segments)) FROM sample, hart.split_text(convert_to(t, 'UTF8')) AS s;
SELECT format('decompose 1 MB, stored                     %s ms', pg_temp.best('SELECT hart.decompose(t) FROM sample'));
SELECT format('decompose 1 MB of stored words, a new text %s ms', pg_temp.best('SELECT hart.decompose(t || ''.'') FROM sample', 1));
SELECT format('recompose 1 MB                             %s ms', pg_temp.best('SELECT hart.recompose(hart.decompose(t)) FROM sample'));
SELECT format('ingest a model of that vocabulary          %s ms', pg_temp.best(format('CALL hart.ingest_model(%L, ''m'')', :'model'), 1));
SELECT format('    its tokens and merges                  %s, %s', (SELECT count(*) FROM hart.tokens), (SELECT count(*) / 2 FROM hart.stored_relations_merge));
SELECT format('drop it                                    %s ms', pg_temp.best('CALL hart.drop_model(''m'')', 1));
\pset tuples_only off
\pset format aligned
TABLE hart.atom_stats;
