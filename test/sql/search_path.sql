-- What a function of the extension does depends on no schema of the caller's.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(44);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

CREATE TEMP VIEW function AS
SELECT p.oid::regprocedure::text AS name, proname::text, lanname, proconfig, prosrc, prosqlbody
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e' JOIN pg_extension AS e ON e.oid = d.refobjid
WHERE extname = 'hartonomous';

-- Functions in C and in SQL-standard form name nothing at run time. The others have a search path of their own, but for these:
CREATE TEMP TABLE without (proname text PRIMARY KEY, why text);
INSERT INTO without VALUES
    ('attention', 'called for each layer of each token; calls only what it names with its schema'), ('feed_forward', 'as attention'), ('hidden_states', 'as attention'), ('forward_batch', 'as attention'), ('prefill', 'as attention'),
    ('generate_stream', 'put in the place of its call, so that rows come as they are made; calls only what it names with its schema'),
    ('ingest_model', 'commits, which a function with settings cannot; its statements name schemas, and operators of the very types'), ('quantize_model', 'as ingest_model'), ('softmax', 'runs no statement');
SELECT set_eq('SELECT proname FROM function WHERE lanname NOT IN (''c'', ''internal'') AND prosqlbody IS NULL AND NOT coalesce(proconfig::text ~ ''search_path=pg_catalog, pg_temp'', false)',
              'SELECT proname FROM without', 'functions have a search path of their own');
-- a name before a parenthesis: a function, unless SQL has it as a keyword
SELECT is_empty('SELECT f.name, m.called FROM function AS f JOIN without USING (proname), regexp_matches(prosrc, ''([\w.]+)\('', ''g'') AS m (called)
                 WHERE lanname IN (''sql'', ''plpgsql'') AND m.called[1] !~ ''^hart\.''', 'those without one call functions of the extension by their schema');

SELECT pg_temp.ingest_tiny('m') AS m \gset
SELECT pg_temp.write_checkpoint('m') AS folder \gset

-- A schema in the search path with what fits some calls better than PostgreSQL's own
CREATE SCHEMA hart_test;
CREATE FUNCTION hart_test.trap() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
DO $do$
DECLARE
    trap text;
BEGIN
    FOREACH trap IN ARRAY ARRAY['cardinality(integer[]) RETURNS integer', 'cardinality(bigint[]) RETURNS integer', 'cardinality(text[]) RETURNS integer', 'cardinality(bytea[]) RETURNS integer', 'cardinality(float8[]) RETURNS integer',
        'array_position(float8[], float8) RETURNS integer', 'array_position(bigint[], bigint) RETURNS integer', 'array_position(text[], text) RETURNS integer', 'unnest(integer[]) RETURNS SETOF integer', 'unnest(bigint[]) RETURNS SETOF bigint',
        'unnest(float8[]) RETURNS SETOF float8', 'unnest(text[]) RETURNS SETOF text', 'array_fill(integer, integer[]) RETURNS integer[]', 'array_remove(text[], text) RETURNS text[]', 'array_length(float8[], integer) RETURNS integer',
        'format(text, text) RETURNS text', 'format(text, integer) RETURNS text', 'format(text, bigint) RETURNS text', 'format(text, text, text) RETURNS text', 'format(text, integer, integer) RETURNS text', 'format(text, text, text, text) RETURNS text',
        'has_table_privilege(regrole, text, text) RETURNS boolean', 'pg_has_role(regrole, text, text) RETURNS boolean', 'concat(text, text) RETURNS text', 'generate_series(integer, bigint) RETURNS SETOF bigint'] LOOP
        EXECUTE format('CREATE FUNCTION hart_test.%s LANGUAGE sql AS $$ SELECT NULL::%s FROM hart_test.trap() $$', trap, regexp_replace(trap, '.*RETURNS (SETOF )?', ''));
    END LOOP;
    FOREACH trap IN ARRAY ARRAY['integer[]', 'bigint[]', 'text[]', 'float8[]'] LOOP
        EXECUTE format('CREATE FUNCTION hart_test.joined(%1$s, %2$s) RETURNS %1$s LANGUAGE sql AS $$ SELECT NULL::%1$s FROM hart_test.trap() $$', trap, replace(trap, '[]', ''));
        EXECUTE format('CREATE FUNCTION hart_test.joined(%1$s, %1$s) RETURNS %1$s LANGUAGE sql AS $$ SELECT NULL::%1$s FROM hart_test.trap() $$', trap);
        EXECUTE format('CREATE FUNCTION hart_test.same(%1$s, %1$s) RETURNS boolean LANGUAGE sql AS $$ SELECT hart_test.trap() $$', trap);
        EXECUTE format('CREATE OPERATOR hart_test.|| (LEFTARG = %1$s, RIGHTARG = %2$s, FUNCTION = hart_test.joined)', trap, replace(trap, '[]', ''));
        EXECUTE format('CREATE OPERATOR hart_test.|| (LEFTARG = %1$s, RIGHTARG = %1$s, FUNCTION = hart_test.joined)', trap);
        EXECUTE format('CREATE OPERATOR hart_test.= (LEFTARG = %1$s, RIGHTARG = %1$s, FUNCTION = hart_test.same)', trap);
    END LOOP;
END $do$;

SELECT n.nspname AS postgis FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'postgis' \gset
SELECT n.nspname AS pgtap FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'pgtap' \gset
CREATE FUNCTION pg_temp.code_under(path text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    code text;
    message text;
    before text := current_setting('search_path');
BEGIN
    BEGIN
        PERFORM set_config('search_path', path, true);
        EXECUTE statement;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
    END;
    PERFORM set_config('search_path', before, true);
    RETURN code || ': ' || message;
END $$;
SELECT is(pg_temp.code_under('hart_test', 'SELECT cardinality(ARRAY[1])'), 'P0001: trapped', 'the traps are traps');
CREATE TEMP TABLE call (n serial, statement text);
INSERT INTO call (statement) VALUES
    ('SELECT hart.decompose(''a text of a path'')'), ('SELECT hart.decompose(''\x41ff''::bytea)'), ('SELECT hart.recompose(hart.decompose(''a text''))'), ('SELECT count(*) FROM hart.decomposition(''another text'')'),
    ('SELECT count(*) FROM hart.decomposition(hart.decompose(''a text''))'), ('SELECT count(*) FROM hart.neighbors(''a'', 3, ''m'')'), ('SELECT count(*) FROM hart.neighbors(''a'', 3, ''m'', exact => false)'),
    ('SELECT count(*) FROM hart.nearest(hart.embedding_row(hart.resolve_model(''m''), 7), 3, ''m'')'), ('SELECT count(*) FROM hart.why_near(''a'', ''b'', ''m'')'),
    ('SELECT count(*) FROM hart.atoms WHERE id OPERATOR(pg_catalog.=) hart.atom_id(''byte'', ''\x41'')'), ('SELECT count(*) FROM hart.atom_stats'), ('SELECT count(*) FROM hart.token_atoms'),
    (format('UPDATE hart.token_positions SET position = hart.point(''{0.1,0.2,0.3,0.4}'') WHERE model_id OPERATOR(pg_catalog.=) %s AND chart OPERATOR(pg_catalog.=) 0 AND token_id OPERATOR(pg_catalog.=) 7', :m)),
    ('UPDATE hart.weights SET value = 0.25 WHERE model OPERATOR(pg_catalog.=) ''m'' AND tensor OPERATOR(pg_catalog.=) ''model.embed_tokens.weight'' AND "row" OPERATOR(pg_catalog.=) 9 AND col OPERATOR(pg_catalog.=) 3'),
    (format('SELECT hart.reproject_tokens(%s)', :m)), ('SELECT hart.generate(''ab'', 3, ''m'')'), ('SELECT count(*) FROM hart.generate_stream(''ab'', 3, ''m'')'), ('SELECT hart.forward(hart.open_context(''m''), ''{5,6}'', 0)'),
    (format('CALL hart.ingest_model(%L, ''another'')', :'folder')), ('CALL hart.drop_model(''another'')');
SELECT is(pg_temp.code_under(path, statement), NULL, format('with the path %s: %s', coalesce(nullif(path, ''), 'empty'), statement))
FROM call, unnest(ARRAY['', format('hart_test, %I, %I', :'postgis', :'pgtap')]) AS path ORDER BY path, n;

SELECT pg_temp.remove_folder(:'folder') IS NULL AS removed \gset
SELECT is((SELECT count(*) FROM hart.models WHERE name = 'another'), 0::bigint, 'as they should');
SELECT * FROM finish();
ROLLBACK;
