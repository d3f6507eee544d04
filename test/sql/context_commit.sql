-- Contexts left open at the end of a transaction. That needs transactions of its own, so it runs in sessions of its own, whose whole
-- output is compared: a leaked pin, snapshot or lock would be a WARNING in it.
SELECT plan(8);

-- a model that other sessions see; what an earlier run may have left goes first
SET client_min_messages = warning;
BEGIN;
\ir include/tiny_model.sql
DO $$ BEGIN CALL hart.drop_model('hart_test_committed'); EXCEPTION WHEN undefined_object THEN NULL; END $$;
SELECT pg_temp.ingest_tiny('hart_test_committed') AS model_id \gset
SELECT md5(hart.logits('{5,6,7}', 'hart_test_committed')::text) AS expected \gset
COMMIT;
-- psql replaces variables inside backquotes, so the command is put together once
\set session `printf 'PGOPTIONS="-c client_min_messages=notice -c hart.model=hart_test_committed" psql -XAtq -h %s -p %s -U %s -d %s' :'HOST' :'PORT' :'USER' :'DBNAME'`

\set output `:session -c "BEGIN" -c "SELECT hart.n_layers(hart.open_context())" -c "COMMIT" -c "SELECT 'done'" 2>&1`
SELECT is(:'output'::text, E'2\ndone', 'left open at COMMIT');

\set output `:session -c "SELECT hart.n_layers(hart.open_context())" -c "SELECT hart.n_layers(hart.open_context())" 2>&1`
SELECT is(:'output'::text, E'2\n2', 'left open at the end of a statement');

\set output `:session -c "BEGIN" -c "SELECT hart.n_layers(hart.open_context())" -c "ROLLBACK" -c "SELECT 'done'" 2>&1`
SELECT is(:'output'::text, E'2\ndone', 'left open at ROLLBACK');

\set output `:session -c "BEGIN" -c "SELECT hart.n_layers(hart.open_context())" -c "SAVEPOINT s" -c "SELECT hart.n_layers(hart.open_context())" -c "SELECT 1/0" -c "ROLLBACK TO s" -c "SELECT hart.n_layers(hart.open_context())" -c "RELEASE s" -c "COMMIT" -c "SELECT 'done'" 2>&1`
SELECT is(:'output'::text, E'2\n2\nERROR:  division by zero\n2\ndone', 'left open by subtransactions');

\set output `:session -c "DO 'DECLARE ctx hart.context; BEGIN FOR i IN 1 .. 3 LOOP ctx := hart.open_context(); PERFORM hart.forward(ctx, ''{5}'', 0); COMMIT; END LOOP; BEGIN PERFORM hart.n_layers(ctx); EXCEPTION WHEN SQLSTATE ''55000'' THEN RAISE NOTICE ''closed''; END; END'" -c "SELECT 'done'" 2>&1`
SELECT is(:'output'::text, E'NOTICE:  closed\ndone', 'a COMMIT inside PL/pgSQL ends a context');

\set output `:session -c "BEGIN" -c "DECLARE c CURSOR WITH HOLD FOR SELECT hart.n_layers(hart.open_context()), md5(hart.logits('{5,6,7}')::text)" -c "COMMIT" -c "FETCH c" 2>&1`
SELECT is(:'output'::text, format('2|%s', :'expected'), 'opened by a cursor that COMMIT runs');

\set output `:session -c "BEGIN READ ONLY" -c "SELECT md5(hart.logits('{5,6,7}')::text)" -c "SELECT hart.n_layers(hart.open_context())" -c "SELECT length(hart.generate('Hello', 3)) > 0" -c "COMMIT" 2>&1`
SELECT is(:'output'::text, format(E'%s\n2\nt', :'expected'), 'a transaction that only reads');

\set output `:session -c "BEGIN ISOLATION LEVEL SERIALIZABLE" -c "SELECT md5(hart.logits('{5,6,7}')::text)" -c "SELECT hart.n_layers(hart.open_context())" -c "COMMIT" 2>&1`
SELECT is(:'output'::text, format(E'%s\n2', :'expected'), 'a serializable transaction');

CALL hart.drop_model('hart_test_committed');
SELECT * FROM finish();
