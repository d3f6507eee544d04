-- The library refuses to run for a catalog of another version.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(9);
SET LOCAL client_min_messages = warning;
SELECT pg_temp.ingest_tiny('m') AS model_id \gset
SELECT hart.logits('{1,2,3}', 'm') AS expected, pg_temp.write_checkpoint('m') AS folder \gset

SELECT is(hart.library_version(), extversion, 'library and catalog fit') FROM pg_extension WHERE extname = 'hartonomous';
SELECT is((SELECT installed_version FROM pg_available_extensions WHERE name = 'hartonomous'), hart.library_version(), 'as PostgreSQL sees it too');
SAVEPOINT s;
UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'hartonomous';
SELECT pg_temp.refused('SELECT hart.open_context(''m'')', '55000', 'an older catalog is refused');
SELECT matches(message || hint, hart.library_version() || '.*0\.0\.1.*ALTER EXTENSION hartonomous UPDATE', 'the error names both versions and what to do') FROM pg_temp.error_of('SELECT hart.open_context(''m'')');
SELECT pg_temp.refused('SELECT hart.logits(''{1,2,3}'', ''m'')', '55000', 'no logits');
SELECT pg_temp.refused('SELECT hart.generate(''x'', 1, ''m'')', '55000', 'no text');
SELECT pg_temp.refused(format('CALL hart.ingest_model(%L, ''n'')', :'folder'), '55000', 'no ingest');
UPDATE pg_extension SET extversion = '99.0' WHERE extname = 'hartonomous';
SELECT pg_temp.refused('SELECT hart.open_context(''m'')', '55000', 'a newer catalog is refused');
ROLLBACK TO s;
SELECT is(hart.logits('{1,2,3}', 'm'), :'expected'::real[], 'with the right version it runs again');

SELECT pg_temp.remove_folder(:'folder') IS NULL AS removed \gset
SELECT * FROM finish();
ROLLBACK;
