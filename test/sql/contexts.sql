-- The life of a context: what ends it, and that nothing of it is left.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(48);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
CREATE EXTENSION pg_buffercache;

SELECT pg_temp.ingest_tiny('one') AS one, pg_temp.ingest_tiny('two', 'qwen3', dim => 24, layers => 3, positions => 50) AS two \gset
SELECT hart.tiles_of(:one) AS tiles_of_one \gset

-- How many pages of the model's tiles are pinned, and memory contexts of runs there are
CREATE FUNCTION pg_temp.held(tiles regclass) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s pins, %s memory contexts', (SELECT sum(pinning_backends) FROM pg_buffercache WHERE relfilenode = pg_relation_filenode(tiles)),
                  (SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'hart context'))
$$;
-- Each context has pins of its own
CREATE TEMP TABLE held AS SELECT n, format('%s pins, %s memory contexts', n * pg_relation_size(:'tiles_of_one') / 8192, n) AS by FROM generate_series(1, 50) AS n;
CREATE TEMP TABLE opened (label text PRIMARY KEY, ctx hart.context);
CREATE FUNCTION pg_temp.ctx(label text) RETURNS hart.context LANGUAGE sql AS $$ SELECT ctx FROM opened WHERE opened.label = ctx.label $$;
CREATE TEMP TABLE expected AS SELECT hart.logits('{5,6,7}', 'one') AS one, hart.logits('{5,6,7}', 'two') AS two;

-- Open, use, close
SELECT is(pg_temp.held(:'tiles_of_one'), '0 pins, 0 memory contexts', 'hart.logits leaves nothing');
SELECT cardinality(hart.generate_tokens('{5,6,7}', 5, 'one')) AS n, hart.generate('x', 3, 'one') AS text, (hart.decompose_tensor('one', 'lm_head.weight', 1)).relative_error \gset
SELECT is(pg_temp.held(:'tiles_of_one'), '0 pins, 0 memory contexts', 'nor do hart.generate_tokens, hart.generate and hart.decompose_tensor');
INSERT INTO opened SELECT 'a', hart.open_context('one');
SELECT is(pg_temp.held(:'tiles_of_one'), by, 'a context pins every page of the model') FROM held WHERE n = 1;
SELECT is(hart.n_layers(pg_temp.ctx('a')), 2, 'number of layers');
SELECT is(hart.max_positions(pg_temp.ctx('a')), 200, 'context length');
SELECT matches(pg_temp.ctx('a')::text, '^\d+$', 'a context is shown as a number');
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('a'), '{5,6,7}', 0), 1), one, 'logits by hand') FROM expected;
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('a'), '{5,6,7}', 0), 1), one, 'positions may be run again') FROM expected;
INSERT INTO opened SELECT 'b', hart.open_context('two');
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('b'), '{5,6,7}', 0), 1), two, 'a context of another model at the same time') FROM expected;
INSERT INTO opened SELECT 'c', hart.open_context('one');
SELECT is(hart.forward(pg_temp.ctx('c'), '{9}', 0) IS NOT NULL, true, 'a second context of the same model');
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('a'), '{7}', 2), 1)::real[], one, 'contexts do not share positions') FROM expected;
SELECT isnt(pg_temp.ctx('a')::text, pg_temp.ctx('c')::text, 'contexts have numbers of their own');
SELECT hart.close_context(pg_temp.ctx('c')) IS NULL AS closed \gset
SELECT hart.close_context(pg_temp.ctx('a')) IS NULL AS closed \gset
SELECT hart.close_context(pg_temp.ctx('b')) IS NULL AS closed \gset
SELECT is(pg_temp.held(:'tiles_of_one'), '0 pins, 0 memory contexts', 'closed contexts leave nothing');

-- Closed contexts, and what never was one
SELECT pg_temp.refused(format('SELECT %s', call), '55000', 'after it was closed: ' || call)
FROM unnest(ARRAY['hart.close_context(pg_temp.ctx(''a''))', 'hart.n_layers(pg_temp.ctx(''a''))', 'hart.max_positions(pg_temp.ctx(''a''))', 'hart.embed_tokens(pg_temp.ctx(''a''), ''{1}'')',
                  'hart.linear(pg_temp.ctx(''a''), 0, ''mlp.up_proj'', ''[1]'')', 'hart.linear(pg_temp.ctx(''a''), ''lm_head'', ''[1]'')', 'hart.rms_norm(pg_temp.ctx(''a''), 0, ''input_layernorm'', ''[1]'')',
                  'hart.rms_norm(pg_temp.ctx(''a''), ''model.norm'', ''[1]'')', 'hart.head_norm(pg_temp.ctx(''a''), 0, ''self_attn.q_norm'', ''[1]'')', 'hart.rope(pg_temp.ctx(''a''), ''[1]'', 0)',
                  'hart.attend(pg_temp.ctx(''a''), 0, ''[1]'', ''[1]'', ''[1]'', 0)', 'hart.forward(pg_temp.ctx(''a''), ''{1}'', 0)']) AS call;
SELECT pg_temp.refused('SELECT ''1''::hart.context', '0A000', 'text is no context');
SELECT ok(hart.n_layers(NULL) IS NULL AND hart.forward(NULL, '{1}', 0) IS NULL AND hart.close_context(NULL) IS NULL, 'NULL gives NULL');

-- Many
DO $$
BEGIN
    FOR i IN 1 .. 300 LOOP
        PERFORM hart.close_context(hart.open_context(CASE WHEN i % 2 = 0 THEN 'one' ELSE 'two' END));
    END LOOP;
END $$;
SELECT is(pg_temp.held(:'tiles_of_one'), '0 pins, 0 memory contexts', 'hundreds of contexts one after the other leave nothing');
CREATE TEMP TABLE memory AS SELECT sum(used_bytes) AS used FROM pg_backend_memory_contexts WHERE name IN ('TopTransactionContext', 'TopMemoryContext', 'CacheMemoryContext');
DO $$
BEGIN
    FOR i IN 1 .. 300 LOOP
        PERFORM hart.logits('{1,2,3}', 'one');
    END LOOP;
END $$;
SELECT cmp_ok((SELECT sum(used_bytes) FROM pg_backend_memory_contexts WHERE name IN ('TopTransactionContext', 'TopMemoryContext', 'CacheMemoryContext')) - used, '<', 100000::numeric,
              'hundreds of answers leave the session as large as it was') FROM memory;
DO $$
DECLARE
    many hart.context[];
BEGIN
    FOR i IN 1 .. 50 LOOP
        INSERT INTO opened SELECT 'many ' || i, hart.open_context('one');
    END LOOP;
END $$;
SELECT is(pg_temp.held(:'tiles_of_one'), by, 'many contexts at a time') FROM held WHERE n = 50;
SELECT is(count(hart.n_layers(ctx)), 50::bigint, 'all of them are open') FROM opened WHERE label LIKE 'many %';
SELECT count(hart.close_context(ctx)) AS closed FROM opened WHERE label LIKE 'many %' \gset
SELECT is(pg_temp.held(:'tiles_of_one'), '0 pins, 0 memory contexts', 'and they leave nothing');

-- Subtransactions
SAVEPOINT s;
INSERT INTO opened SELECT 'released', hart.open_context('one');
SAVEPOINT deeper;
INSERT INTO opened SELECT 'released twice', hart.open_context('one');
RELEASE deeper;
RELEASE s;
SELECT is(hart.n_layers(pg_temp.ctx('released')) + hart.n_layers(pg_temp.ctx('released twice')), 4, 'a context survives the release of its savepoint');
SAVEPOINT s;
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('released'), '{5,6,7}', 0), 1), one, 'it is used in a later subtransaction') FROM expected;
SELECT hart.open_context('one')::text AS lost \gset
SAVEPOINT deeper;
SELECT hart.open_context('one')::text AS lost_deeper \gset
RELEASE deeper;
SELECT is(pg_temp.held(:'tiles_of_one'), by, 'four contexts are open') FROM held WHERE n = 4;
ROLLBACK TO s;
SELECT is(pg_temp.held(:'tiles_of_one'), by, 'a rollback to the savepoint ends those opened after it') FROM held WHERE n = 2;
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx('released'), '{7}', 2), 1), one, 'and keeps those opened before it') FROM expected;
SELECT hart.close_context(pg_temp.ctx('released')) IS NULL AS closed, hart.close_context(pg_temp.ctx('released twice')) IS NULL AS closed_too \gset
SELECT is(pg_temp.held(:'tiles_of_one'), '0 pins, 0 memory contexts', 'all is released');
CREATE FUNCTION pg_temp.fail_with_context(INOUT ctx hart.context DEFAULT NULL, OUT state text) LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        ctx := hart.open_context('one');
        PERFORM hart.forward(ctx, '{1,2,3}', 0);
        PERFORM hart.linear(ctx, 0, 'mlp.up_proj', '[1,2,3]');
    EXCEPTION WHEN data_exception THEN
        BEGIN
            PERFORM hart.n_layers(ctx);
        EXCEPTION WHEN OTHERS THEN
            state := SQLSTATE;
        END;
    END;
END $$;
SELECT is(state, '55000', 'an exception block that fails ends the context it opened') FROM pg_temp.fail_with_context();
SELECT is(pg_temp.held(:'tiles_of_one'), '0 pins, 0 memory contexts', 'and leaves nothing');
CREATE FUNCTION pg_temp.go_on_after_errors() RETURNS real[] LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context := hart.open_context('one');
    logits hart.matrix;
BEGIN
    PERFORM hart.forward(ctx, '{5,6}', 0);
    FOR i IN 1 .. 20 LOOP
        BEGIN
            CASE i % 4 WHEN 0 THEN PERFORM hart.linear(ctx, 0, 'mlp.up_proj', '[1,2,3]');
                       WHEN 1 THEN PERFORM hart.embed_tokens(ctx, '{5,260}');
                       WHEN 2 THEN PERFORM hart.attend(ctx, 1, array_fill(1::real, ARRAY[24])::hart.matrix, array_fill(1::real, ARRAY[12])::hart.matrix, array_fill(1::real, ARRAY[12])::hart.matrix, 99);
                       ELSE PERFORM 1 / (i - i); END CASE;
        EXCEPTION WHEN data_exception OR invalid_parameter_value OR division_by_zero THEN
            NULL;
        END;
    END LOOP;
    logits := hart.forward(ctx, '{7}', 2);
    PERFORM hart.close_context(ctx);
    RETURN hart.matrix_row(logits, 1);
END $$;
SELECT is(pg_temp.go_on_after_errors(), one, 'a context goes on after errors that were caught') FROM expected;
SELECT is(pg_temp.held(:'tiles_of_one'), '0 pins, 0 memory contexts', 'which leave nothing pinned');
SELECT is(count(*), 0::bigint, 'nothing that failed half-way in open_context is left')
FROM (SELECT pg_temp.error_of('SELECT hart.open_context(''no such model'')')) AS failed, pg_backend_memory_contexts WHERE name = 'hart context';

-- Cursors
DECLARE c CURSOR FOR SELECT hart.logits('{5,6,7}', name) FROM hart.models ORDER BY name;
FETCH c \gset first_
CLOSE c;
SELECT is(:'first_logits'::real[], one, 'a cursor that is not read to its end') FROM expected;
DECLARE c CURSOR FOR SELECT hart.open_context('one')::text AS handle, hart.open_context('one') AS ctx;
FETCH c \gset from_cursor_
CLOSE c;
SELECT is(pg_temp.held(:'tiles_of_one'), by, 'contexts outlive the cursor that opened them') FROM held WHERE n = 2;

-- The model is locked, not the session
SELECT is((SELECT code FROM pg_temp.error_of('CALL hart.drop_model(''one'')')), '55006', 'a model in use by this session cannot be dropped');
SELECT is((SELECT code FROM pg_temp.error_of(format('TRUNCATE %s', hart.tiles_of(:one)))), '55006', 'nor emptied');
SELECT is(mode, 'AccessShareLock', 'its tiles are locked as by a SELECT') FROM pg_locks WHERE relation = :'tiles_of_one'::regclass AND pid = pg_backend_pid() AND mode = 'AccessShareLock';

SELECT * FROM finish();
ROLLBACK;
