-- Functions with the owner's rights judge the role that is in force where they are called, whoever began the statement.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(17);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
CREATE ROLE hart_test_stranger;
CREATE ROLE hart_test_writer;
CREATE ROLE hart_test_owner IN ROLE pg_read_server_files;
GRANT INSERT ON hart.stored_atoms TO hart_test_writer;
CREATE SCHEMA hart_test;
GRANT ALL ON SCHEMA hart_test TO PUBLIC;
SELECT pg_temp.ingest_tiny('m') AS m \gset
SELECT pg_temp.write_checkpoint('m') AS folder \gset
SET LOCAL ROLE hart_test_owner;
CALL hart.ingest_model(:'folder', 'theirs');
SELECT model_id AS theirs FROM hart.models WHERE name = 'theirs' \gset

-- A function with other rights hands them on
SET LOCAL ROLE hart_test_writer;
CREATE FUNCTION hart_test.store(t text) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT hart.decompose(t) $$;
SET LOCAL ROLE hart_test_owner;
CREATE FUNCTION hart_test.make_chart(m int, chart int) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT hart.begin_chart(m, chart) $$;
SET LOCAL ROLE hart_test_stranger;
SELECT is(hart_test.store('stored for a stranger'), hart.atom_id('text', 'stored for a stranger'), 'a stranger stores texts through a function of one who may');
SELECT is(hart_test.make_chart(:theirs, 9), format('hart.token_positions_%s_9', :theirs), 'and makes a chart through one of the model''s owner');
RESET ROLE;
SELECT is(tableowner::text, 'hart_test_owner', 'which belongs to that owner') FROM pg_tables WHERE schemaname = 'hart' AND tablename = format('token_positions_%s_9', :theirs);

-- but has none of the rights of those who call it
SET LOCAL ROLE hart_test_stranger;
CREATE FUNCTION hart_test.store_more(t text) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT hart.decompose(t) $$;
CREATE FUNCTION hart_test.begin_chart(m int) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT hart.begin_chart(m, 8) $$;
CREATE FUNCTION hart_test.drop_charts(m int) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT hart.drop_neighbourhood_charts(m) $$;
CREATE FUNCTION hart_test.finish_chart(m int) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT hart.finish_chart(m, 9, 1, NULL, NULL, NULL, 1) $$;
CREATE FUNCTION hart_test.ingest() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT model_id FROM hart.begin_ingest('n', '{"tensors": []}') $$;
RESET ROLE;
SELECT pg_temp.refused(call, '42501', 'a superuser lends a stranger''s function nothing: ' || call)
FROM unnest(ARRAY['SELECT hart_test.store_more(''not stored'')', format('SELECT hart_test.begin_chart(%s)', :m), format('SELECT hart_test.drop_charts(%s)', :m), format('SELECT hart_test.finish_chart(%s)', :theirs),
                  'SELECT hart_test.ingest()']) AS call;

-- nor of those who make it run without knowing: the action of a foreign key runs with the rights of the table's owner
SET LOCAL ROLE hart_test_stranger;
CREATE TABLE hart_test.parent (id int PRIMARY KEY);
CREATE TABLE hart_test.child (id int REFERENCES hart_test.parent ON DELETE CASCADE);
CREATE FUNCTION hart_test.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE TG_ARGV[0]; RETURN OLD; END $$;
INSERT INTO hart_test.parent VALUES (1);
INSERT INTO hart_test.child VALUES (1);
RESET ROLE;
CREATE FUNCTION pg_temp.sprung(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    code text;
BEGIN
    SET LOCAL ROLE hart_test_stranger;
    EXECUTE format('CREATE OR REPLACE TRIGGER trap BEFORE DELETE ON hart_test.child FOR EACH ROW EXECUTE FUNCTION hart_test.trap(%L)', statement);
    RESET ROLE;
    RETURN (SELECT e.code FROM pg_temp.error_of('DELETE FROM hart_test.parent') AS e);
END $$;
SELECT is(pg_temp.sprung(statement), '42501', 'a trigger of a stranger''s that a superuser fires: ' || statement)
FROM unnest(ARRAY[format('SELECT hart.begin_chart(%s, 8)', :m), format('SELECT hart.drop_neighbourhood_charts(%s)', :m), format('SELECT hart.finish_chart(%s, 9, 1, NULL, NULL, NULL, 1)', :theirs),
                  'SELECT hart.decompose(''not stored'')', 'SELECT hart.begin_ingest(''n'', ''{"tensors": []}'')']) AS statement;
SELECT is((SELECT count(*) FROM hart.stored_atoms WHERE id = hart.atom_id('text', 'not stored')), 0::bigint, 'nothing was stored');

-- The functions that are told a role cannot be called
SET LOCAL ROLE hart_test_stranger;
SELECT is((SELECT code FROM pg_temp.error_of(call)), '42501', 'nobody names a role: ' || call)
FROM unnest(ARRAY['SELECT hart.store_text(''postgres''::regrole, ''x'')', format('SELECT hart.begin_chart(10::oid::regrole, %s, 8)', :m)]) AS call;
RESET ROLE;

-- Only a table becomes a chart: its owner could have put anything in the place of the one that was made
SET LOCAL ROLE hart_test_owner;
SELECT set_config('test.statement', format('DROP TABLE hart.token_positions_%1$s_9', :theirs), true) AS statement \gset
:statement;
RESET ROLE;
SELECT set_config('test.statement', format('CREATE VIEW hart.token_positions_%1$s_9 AS SELECT 1 AS model_id; ALTER VIEW hart.token_positions_%1$s_9 OWNER TO hart_test_owner', :theirs), true) AS statement \gset
:statement;
SET LOCAL ROLE hart_test_owner;
SELECT pg_temp.refused(format('SELECT hart.finish_chart(%s, 9, 1, NULL, NULL, NULL, 1)', :theirs), '42809', 'a view does not become a chart');
RESET ROLE;

SELECT pg_temp.remove_folder(:'folder') IS NULL AS removed \gset
SELECT * FROM finish();
ROLLBACK;
