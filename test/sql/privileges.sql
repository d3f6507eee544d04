-- Who may do what: SELECT on a model's tiles is the right to use it, its owner may drop it, and nobody else changes anything.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(84);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
SELECT pg_temp.ingest_tiny('m') AS model_id \gset
SELECT hart.tiles_of(:model_id) AS tiles, pg_temp.write_checkpoint('m') AS folder, hart.logits('{1,2}', 'm') AS expected \gset
CREATE ROLE hart_test_stranger;
CREATE ROLE hart_test_reader;
CREATE ROLE hart_test_ingester IN ROLE pg_read_server_files;
CREATE ROLE hart_test_exporter IN ROLE pg_write_server_files;

-- What everybody has
SELECT is_empty('SELECT relname, privilege_type FROM pg_class, aclexplode(relacl) WHERE relnamespace = ''hart''::regnamespace AND grantee = 0 AND privilege_type <> ''SELECT'' AND relname <> ''weights''', 'PUBLIC writes no table; of hart.weights those of the tiles decide');
SELECT is((SELECT array_agg(DISTINCT relname::text ORDER BY relname::text) FROM pg_class, aclexplode(relacl) WHERE relnamespace = 'hart'::regnamespace AND grantee = 0),
          '{charts,computed_atoms,ingest_progress,merge_pairs,model_files,model_registry,models,neuron_spaces,tensor_roles,tensors,token_atoms,token_merges,token_positions,tokenizers,tokens,weight_relations,weights}', 'PUBLIC reads the catalog, and what shows each role its own models');
SELECT is((SELECT array_agg(privilege_type::text) FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'hart' AND grantee = 0), '{USAGE}', 'PUBLIC uses the schema and makes nothing in it');
SELECT ok(relrowsecurity, 'the files of a model are for those who may read it') FROM pg_class WHERE oid = 'hart.model_files'::regclass;
SELECT ok(pg_has_role('hart_test_ingester', tableowner, 'USAGE') IS FALSE, 'the model belongs to who ingested it') FROM pg_tables WHERE schemaname = 'hart' AND tablename = 'tiles_' || :model_id;

-- A role without rights
SET LOCAL ROLE hart_test_stranger;
SELECT is((SELECT count(*) FROM hart.models WHERE name = 'm') + (SELECT count(*) FROM hart.model_registry WHERE name = 'm'), 2::bigint, 'a stranger sees which models there are');
SELECT cmp_ok((SELECT count(*) FROM hart.tensors WHERE model_id = :model_id), '>', 10::bigint, 'and their tensors');
SELECT is((SELECT count(*) FROM hart.model_files), 0::bigint, 'but no file');
SELECT ok(NOT hart.can_read(:model_id), 'hart.can_read says so');
SELECT pg_temp.refused(call, '42501', 'a stranger: ' || call)
FROM unnest(ARRAY['SELECT hart.generate(''x'', 1, ''m'')', 'SELECT hart.generate_tokens(''{1}'', 1, ''m'')', 'SELECT hart.logits(''{1}'', ''m'')', 'SELECT hart.open_context(''m'')', 'SELECT hart.tokenize(''x'', ''m'')',
                  'SELECT hart.detokenize(''{1}'', ''m'')', 'SELECT hart.tensor_matrix(''m'', ''model.norm.weight'')', 'SELECT hart.decompose_tensor(''m'', ''lm_head.weight'', 1)', 'SELECT hart.resolve_model(''m'')',
                  format('CALL hart.ingest_model(%L, ''n'')', :'folder'), format('CALL hart.export_model(''m'', %L)', :'folder' || '/out'), 'SELECT hart.begin_ingest(''n'', ''{"tensors": []}'')']) AS call;
SELECT is((SELECT code FROM pg_temp.error_of(statement)), '42501', 'a stranger: ' || statement)
FROM (SELECT format(template, name) AS statement
      FROM unnest(ARRAY['INSERT INTO hart.%1$s SELECT * FROM hart.%1$s LIMIT 0', 'UPDATE hart.%s SET model_id = 1', 'DELETE FROM hart.%s', 'TRUNCATE hart.%s', 'ALTER TABLE hart.%s DISABLE ROW LEVEL SECURITY', 'DROP TABLE hart.%s']) AS template,
           unnest(ARRAY['model_registry', 'tensors', 'model_files', 'tiles']) AS name
      UNION ALL SELECT format('SELECT * FROM %s', :'tiles') UNION ALL SELECT 'SELECT * FROM hart.tiles' UNION ALL SELECT format('UPDATE %s SET tile_no = 0', :'tiles') UNION ALL SELECT format('DROP TABLE %s', :'tiles')
      UNION ALL SELECT 'SELECT nextval(''hart.model_id_seq'')' UNION ALL SELECT 'SELECT setval(''hart.model_id_seq'', 1)' UNION ALL SELECT 'CREATE TABLE hart.x (a int)' UNION ALL SELECT 'CALL hart.drop_model(''m'')') AS attempt;

-- Functions with the owner's rights judge who calls them
SELECT pg_temp.refused(format(call, :model_id), '55000', 'a stranger: ' || call)
FROM unnest(ARRAY['SELECT hart.add_model_file(%s, ''x'', ''\x00'', 1, ''\x00'', false)', 'SELECT hart.note_progress(%s, 1, 1, ''x'')', 'SELECT hart.finish_ingest(%s)', 'SELECT hart.abort_ingest(%s)', 'SELECT hart.check_own_ingest(%s, quote_ident(current_user)::regrole)']) AS call;
SELECT hart.forget_model(:model_id) IS NULL AS forgotten, hart.drop_dead_ingests() IS NULL AS dropped \gset
SELECT is((SELECT count(*) FROM hart.models WHERE name = 'm' AND state = 'ready'), 1::bigint, 'a stranger cannot make the model be forgotten');
SELECT isnt((SELECT code FROM pg_temp.error_of(format('SELECT hart.write_tiles(%L, %s, 1, 0, ''\x00'')', :'tiles', :model_id))), NULL, 'a stranger cannot write tiles');
CREATE TEMP TABLE mine (model_id int, tensor_id int, tile_no int, payload bytea);
SELECT pg_temp.refused('SELECT hart.write_tiles(''pg_temp.mine'', 1, 1, 0, ''\x0102'')', '55000', 'not even to a table of theirs');
RESET ROLE;

-- SELECT on the tiles is the right to use the model
SELECT set_config('test.statement', format('GRANT SELECT ON %s TO hart_test_reader', :'tiles'), true) AS statement \gset
:statement;
SET LOCAL ROLE hart_test_reader;
SELECT is(hart.logits('{1,2}', 'm'), :'expected'::real[], 'a reader uses the model');
SELECT is(hart.detokenize(hart.tokenize('abc', 'm'), 'm'), 'abc', 'its tokenizer');
SELECT isnt(hart.generate('x', 3, 'm'), NULL, 'its texts');
SELECT is((SELECT count(*) FROM hart.model_files WHERE model_id = :model_id), 3::bigint, 'and sees its files');
SELECT is((SELECT code FROM pg_temp.error_of(statement)), '42501', 'a reader: ' || statement)
FROM unnest(ARRAY[format('UPDATE %s SET tile_no = tile_no', :'tiles'), 'CALL hart.drop_model(''m'')', format('CALL hart.export_model(''m'', %L)', :'folder' || '/out'), 'DELETE FROM hart.model_files']) AS statement;
RESET ROLE;

-- A function with other rights can hand them on
CREATE FUNCTION public.hart_test_ask() RETURNS real[] LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$ SELECT hart.logits('{1,2}', 'm') $$;
SET LOCAL ROLE hart_test_stranger;
SELECT is(public.hart_test_ask(), :'expected'::real[], 'a stranger asks through a function of one who may');
RESET ROLE;

-- Rows that are hidden hide the model
SAVEPOINT s;
SELECT set_config('test.statement', format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', :'tiles'), true) AS statement \gset
:statement;
SET LOCAL ROLE hart_test_reader;
SELECT pg_temp.refused('SELECT hart.logits(''{1,2}'', ''m'')', '42501', 'row-level security of the tiles refuses a reader');
RESET ROLE;
SELECT is(hart.logits('{1,2}', 'm'), :'expected'::real[], 'and not their owner');
ROLLBACK TO s;
ALTER TABLE hart.tiles ENABLE ROW LEVEL SECURITY;
SET LOCAL ROLE hart_test_reader;
SELECT pg_temp.refused('SELECT hart.logits(''{1,2}'', ''m'')', '42501', 'row-level security of hart.tiles does too');
RESET ROLE;
ROLLBACK TO s;

-- Who may read files of the server ingests, and owns the model
SET LOCAL ROLE hart_test_ingester;
SELECT lives_ok(format('CALL hart.ingest_model(%L, ''theirs'')', :'folder'), 'a role with pg_read_server_files ingests');
SELECT is(tableowner::text, 'hart_test_ingester', 'and owns the model') FROM pg_tables WHERE schemaname || '.' || tablename = (SELECT tiles::text FROM hart.models WHERE name = 'theirs');
SELECT is(hart.logits('{1,2}', 'theirs'), :'expected'::real[], 'uses it');
SELECT pg_temp.refused('SELECT hart.logits(''{1,2}'', ''m'')', '42501', 'but not those of others');
SELECT is((SELECT code FROM pg_temp.error_of('CALL hart.drop_model(''m'')')), '42501', 'nor drops them');
SELECT pg_temp.refused(format('CALL hart.export_model(''theirs'', %L)', :'folder' || '/out'), '42501', 'reading files is not writing them');
SELECT is((SELECT code FROM pg_temp.error_of('DELETE FROM hart.model_registry')), '42501', 'the catalog is not theirs');
RESET ROLE;
SET LOCAL ROLE hart_test_reader;
SELECT pg_temp.refused('SELECT hart.logits(''{1,2}'', ''theirs'')', '42501', 'others may not use it');
RESET ROLE;
SET LOCAL ROLE hart_test_exporter;
SELECT pg_temp.refused(format('CALL hart.export_model(''theirs'', %L)', :'folder' || '/out'), '42501', 'writing files is not reading a model');
SELECT pg_temp.refused(format('CALL hart.ingest_model(%L, ''n'')', :'folder'), '42501', 'nor ingesting one');
RESET ROLE;
SET LOCAL ROLE hart_test_ingester;
CALL hart.drop_model('theirs');
SELECT is((SELECT count(*) FROM hart.models WHERE name = 'theirs'), 0::bigint, 'the owner drops the model');
RESET ROLE;

SELECT pg_temp.remove_folder(:'folder') IS NULL AS removed \gset
SELECT * FROM finish();
ROLLBACK;
