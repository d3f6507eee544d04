-- Several sequences in one context: batches, forks, what they share and what they may not.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(63);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

-- 700 positions are six blocks of keys and values
SELECT pg_temp.ingest_tiny('m', 'qwen3', positions => 700) AS m \gset
CREATE TEMP TABLE opened (label text PRIMARY KEY, ctx hart.context);
CREATE FUNCTION pg_temp.ctx(label text DEFAULT 'a') RETURNS hart.context LANGUAGE sql AS $$ SELECT ctx FROM opened WHERE opened.label = ctx.label $$;
CREATE FUNCTION pg_temp.some_tokens(n int, seed int) RETURNS int[] LANGUAGE sql AS $$ SELECT array_agg(abs(hashint4(i + seed % 1000 * 1000)) % 260 ORDER BY i) FROM generate_series(1, n) AS i $$;
CREATE FUNCTION pg_temp.upto(first int, last int) RETURNS int[] LANGUAGE sql AS $$ SELECT ARRAY(SELECT generate_series(first, last)) $$;
-- Bytes of keys and values that the session holds (an empty memory context takes some hundred)
CREATE FUNCTION pg_temp.held() RETURNS bigint LANGUAGE sql AS $$ SELECT (coalesce(sum(used_bytes), 0)::bigint / 1000) * 1000 FROM pg_backend_memory_contexts WHERE name = 'hart keys and values' $$;

-- A batch is what its sequences are one by one -----------------------------------------------------

CREATE TEMP TABLE prompt AS SELECT number, pg_temp.some_tokens(length, number) AS tokens, hart.logits(pg_temp.some_tokens(length, number), 'm') AS logits
FROM (VALUES (0, 1), (1, 5), (7, 130), (2147483647, 300)) AS wanted (number, length);
INSERT INTO opened SELECT 'a', hart.open_context('m');
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx(), tokens, 0, number), 1), logits, format('sequence %s by itself, of %s tokens', number, cardinality(tokens))) FROM prompt ORDER BY number;
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx(), tokens[cardinality(tokens):], cardinality(tokens) - 1, number), 1), logits, format('the others did not touch sequence %s', number)) FROM prompt ORDER BY number;

-- every prompt but for its last token, all rows of all sequences mixed; then the last tokens together
INSERT INTO opened SELECT 'batch', hart.open_context('m');
SELECT hart.n_rows(hart.forward_batch(pg_temp.ctx('batch'), array_agg(token ORDER BY pos, number), array_agg(number ORDER BY pos, number), array_agg((pos - 1)::int ORDER BY pos, number))) AS rows
FROM prompt, unnest(tokens) WITH ORDINALITY AS t (token, pos) WHERE pos < cardinality(tokens) \gset
SELECT is(:rows, (SELECT sum(cardinality(tokens) - 1)::int FROM prompt), 'logits of every token of a mixed batch');
CREATE TEMP TABLE last AS SELECT hart.forward_batch(pg_temp.ctx('batch'), array_agg(tokens[cardinality(tokens)] ORDER BY number), array_agg(number ORDER BY number), array_agg(cardinality(tokens) - 1 ORDER BY number)) AS logits FROM prompt;
SELECT is(hart.matrix_row(last.logits, row_number::int), prompt.logits, format('sequence %s in the batch', number))
FROM (SELECT *, row_number() OVER (ORDER BY number) FROM prompt) AS prompt, last ORDER BY number;
SELECT is(hart.matrix_row(hart.forward_batch(pg_temp.ctx('batch'), '{5,6,7,8,9}', '{1,0,1,1,0}', '{4,1,5,6,2}'), 4),
                           hart.logits((SELECT tokens[:4] FROM prompt WHERE number = 1) || '{5,7,8}'::int[], 'm'), 'rows of two sequences in turn, one of them run again from its fifth position');
SELECT is(hart.n_rows(hart.forward_batch(pg_temp.ctx('batch'), '{}', '{}', '{}')) || ' x ' || hart.n_cols(hart.forward_batch(pg_temp.ctx('batch'), '{}', '{}', '{}')), '0 x 260', 'a batch of nothing');

-- Forks --------------------------------------------------------------------------------------------

INSERT INTO opened SELECT 'fork', hart.open_context('m');
CREATE TEMP TABLE trunk AS SELECT pg_temp.some_tokens(300, 9) AS tokens;
SELECT hart.n_rows(hart.forward(pg_temp.ctx('fork'), tokens, 0)) AS trunk_rows FROM trunk \gset
SELECT pg_temp.held() AS before \gset
SELECT count(hart.fork_sequence(pg_temp.ctx('fork'), 0, i, n)) AS forked FROM (VALUES (1, 300), (2, 256), (3, 255), (4, 1), (5, 299)) AS f (i, n) \gset
SELECT is(pg_temp.held(), :before::bigint, 'forks copy nothing');
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('fork'), '{11,12}', n, i), 1), hart.logits(tokens[:n] || '{11,12}'::int[], 'm'), format('a fork after %s positions goes on as if it had run them', n))
FROM (VALUES (1, 300), (2, 256), (3, 255), (4, 1), (5, 299)) AS f (i, n), trunk ORDER BY i;
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('fork'), '{21}', 300), 1), hart.logits(tokens || 21, 'm'), 'the trunk goes on as if it had not been forked') FROM trunk;
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('fork'), '{22}', 302, 1), 1), hart.logits(tokens || '{11,12,22}'::int[], 'm'), 'and did not write into a fork') FROM trunk;
SELECT cmp_ok(pg_temp.held() - :before, '>', 0::bigint, 'what was written was copied');
SELECT count(hart.drop_sequence(pg_temp.ctx('fork'), i)) AS dropped FROM generate_series(1, 5) AS i \gset
SELECT is(pg_temp.held(), :before::bigint, 'dropped forks leave nothing');
-- the trunk goes, the fork stays
SELECT hart.fork_sequence(pg_temp.ctx('fork'), 0, 1, 290) IS NULL AS forked, hart.drop_sequence(pg_temp.ctx('fork'), 0) IS NULL AS dropped \gset
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('fork'), '{31}', 290, 1), 1), hart.logits(tokens[:290] || 31, 'm'), 'a fork outlives its trunk') FROM trunk;
SELECT pg_temp.refused('SELECT hart.fork_sequence(pg_temp.ctx(''fork''), 0, 2, 1)', '22023', 'a dropped sequence is none');
-- in place, onto one that was something else, and of a fork
SELECT hart.fork_sequence(pg_temp.ctx('fork'), 1, 1, 100) IS NULL AS cut \gset
SELECT pg_temp.refused('SELECT hart.forward(pg_temp.ctx(''fork''), ''{1}'', 101, 1)', '22023', 'a sequence cut to 100 positions has no more');
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('fork'), '{41}', 100, 1), 1), hart.logits(tokens[:100] || 41, 'm'), 'and goes on from there') FROM trunk;
SELECT hart.matrix_row(hart.forward(pg_temp.ctx('fork'), pg_temp.some_tokens(400, 3), 0, 8), 1) IS NULL AS ran \gset
SELECT hart.fork_sequence(pg_temp.ctx('fork'), 1, 8, 50) IS NULL AS forked, hart.fork_sequence(pg_temp.ctx('fork'), 8, 9, 20) IS NULL AS again \gset
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('fork'), '{51}', 20, 9), 1), hart.logits(tokens[:20] || 51, 'm'), 'a fork of a fork that replaced a longer sequence') FROM trunk;
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('fork'), '{52}', 50, 8), 1), hart.logits(tokens[:50] || 52, 'm'), 'which was not touched') FROM trunk;
SELECT hart.fork_sequence(pg_temp.ctx('fork'), 8, 8, 0) IS NULL AS emptied \gset
SELECT pg_temp.refused('SELECT hart.forward(pg_temp.ctx(''fork''), ''{1}'', 1, 8)', '22023', 'a fork of no positions is no sequence');

-- Errors -------------------------------------------------------------------------------------------

SELECT pg_temp.refused('SELECT ' || call, sqlstate, call) FROM (VALUES
    ('hart.fork_sequence(pg_temp.ctx(), 77, 1, 1)', '22023'), ('hart.fork_sequence(pg_temp.ctx(), 1, 2, 6)', '22023'), ('hart.fork_sequence(pg_temp.ctx(), 1, 2, -1)', '22023'),
    ('hart.fork_sequence(pg_temp.ctx(), -1, 2, 1)', '22023'), ('hart.fork_sequence(pg_temp.ctx(), 1, -2, 1)', '22023'), ('hart.drop_sequence(pg_temp.ctx(), -1)', '22023'),
    ('hart.forward(pg_temp.ctx(), ''{1}'', 0, -1)', '22023'),
    ('hart.forward_batch(pg_temp.ctx(), ''{1,2}'', ''{0}'', ''{1,2}'')', '22000'), ('hart.forward_batch(pg_temp.ctx(), ''{1,2}'', ''{0,0}'', ''{1,2,3}'')', '22000'), ('hart.forward_batch(pg_temp.ctx(), ''{}'', ''{0}'', ''{1}'')', '22000')
) AS bad (call, sqlstate);
SELECT pg_temp.refused('SELECT ' || call, sqlstate, call) FROM (VALUES
    ('hart.forward_batch(pg_temp.ctx(), ''{1,2}'', ''{0,NULL}'', ''{1,2}'')', '22004'), ('hart.forward_batch(pg_temp.ctx(), ''{1,2}'', ''{0,0}'', ''{1,NULL}'')', '22004'),
    ('hart.forward_batch(pg_temp.ctx(), ''{1,2}'', ''{{0,0}}'', ''{1,2}'')', '22023'), ('hart.forward_batch(pg_temp.ctx(), ''{1,2}'', ''{0,0}'', ''{{1},{2}}'')', '22023'),
    -- gaps: in a new sequence, in an old one, within the call; twice the same; backwards
    ('hart.forward_batch(pg_temp.ctx(), ''{1}'', ''{99}'', ''{1}'')', '22023'), ('hart.forward_batch(pg_temp.ctx(), ''{1}'', ''{1}'', ''{6}'')', '22023'),
    ('hart.forward_batch(pg_temp.ctx(), ''{1,2}'', ''{1,1}'', ''{5,7}'')', '22023'), ('hart.forward_batch(pg_temp.ctx(), ''{1,2}'', ''{1,1}'', ''{4,4}'')', '22023'), ('hart.forward_batch(pg_temp.ctx(), ''{1,2}'', ''{1,1}'', ''{4,3}'')', '22023'),
    ('hart.forward_batch(pg_temp.ctx(), ''{1,2}'', ''{1,1}'', ''{4,-1}'')', '54000'), ('hart.forward_batch(pg_temp.ctx(), ''{1}'', ''{1}'', ''{700}'')', '54000'), ('hart.forward_batch(pg_temp.ctx(), ''{1}'', ''{1}'', ''{2147483647}'')', '54000')
) AS bad (call, sqlstate);
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx(), tokens[5:5], 4, 1), 1), logits, 'what was refused changed nothing') FROM prompt WHERE number = 1;
SELECT ok(hart.forward_batch(pg_temp.ctx(), NULL, '{0}', '{0}') IS NULL AND hart.fork_sequence(pg_temp.ctx(), NULL, 1, 1) IS NULL AND hart.drop_sequence(pg_temp.ctx(), NULL) IS NULL, 'NULL gives NULL');
SELECT is(hart.drop_sequence(pg_temp.ctx(), 12345)::text, '', 'there is nothing to drop where there is nothing');

-- Nothing outlives its context ---------------------------------------------------------------------

SELECT count(hart.close_context(ctx)) AS closed FROM opened \gset
SELECT is(pg_temp.held(), 0::bigint, 'closed contexts hold no keys and values');
SAVEPOINT s;
SELECT hart.open_context('m')::text AS ctx \gset
CREATE FUNCTION pg_temp.run_and_fail() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context;
BEGIN
    ctx := hart.open_context('m');
    FOR i IN 1 .. 5 LOOP
        PERFORM hart.forward(ctx, pg_temp.some_tokens(150, i), 0, i);
        PERFORM hart.fork_sequence(ctx, i, i + 1, 140);
    END LOOP;
    PERFORM hart.forward_batch(ctx, '{1,2}', '{1,1}', '{150,152}');
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN SQLSTATE;
END $$;
SELECT is(pg_temp.run_and_fail(), '22023', 'a run that fails');
SELECT is(pg_temp.held(), 0::bigint, 'leaves nothing when its error is caught');
INSERT INTO opened SELECT 'lost', hart.open_context('m');
SELECT hart.n_rows(hart.forward(ctx, pg_temp.some_tokens(200, 1), 0, 3)) AS ran, hart.fork_sequence(ctx, 3, 4, 150) IS NULL AS forked FROM opened WHERE label = 'lost' \gset
SELECT cmp_ok(pg_temp.held(), '>', 0::bigint, 'a context holds keys and values');
ROLLBACK TO s;
SELECT is(pg_temp.held(), 0::bigint, 'until its savepoint is rolled back');
DO $$
DECLARE
    ctx hart.context;
BEGIN
    FOR i IN 1 .. 200 LOOP
        BEGIN
            ctx := hart.open_context('m');
            PERFORM hart.forward(ctx, '{1,2,3}', 0, i);
            PERFORM hart.fork_sequence(ctx, i, i + 1, 2);
            IF i % 2 = 0 THEN
                PERFORM hart.fork_sequence(ctx, 5000, 0, 1);
            END IF;
            PERFORM hart.close_context(ctx);
        EXCEPTION WHEN invalid_parameter_value THEN
            NULL;
        END;
    END LOOP;
END $$;
SELECT is(pg_temp.held(), 0::bigint, 'hundreds of runs, half of which fail, leave nothing');

SELECT * FROM finish();
ROLLBACK;
