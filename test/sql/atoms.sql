-- Ids of atoms, and the tables that hold them.
BEGIN;
\ir include/errors.sql
SELECT plan(89);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

-- Every id is at home in its place
CREATE TEMP TABLE sample AS
SELECT modality, content, hart.atom_id(modality, content) AS id
FROM (SELECT 'byte', set_byte('\x00', 0, n) FROM generate_series(0, 255) AS n
      UNION ALL SELECT 'character', convert_to(chr(n), 'UTF8') FROM generate_series(1, 1114111, 1013) AS n WHERE n NOT BETWEEN 55296 AND 57343
      UNION ALL SELECT 'weight', int4send(hashint4(n)) FROM generate_series(1, 500) AS n
      UNION ALL SELECT 'neuron', int8send(hashint8extended(n, 1) & (1::bigint << 60) - 1) FROM generate_series(1, 500) AS n
      UNION ALL SELECT m, convert_to(format('content %s', n), 'UTF8') FROM unnest(ARRAY['token', 'text', 'tensor']) AS m, generate_series(1, 300) AS n) AS s (modality, content);
SELECT is_empty('SELECT * FROM sample WHERE id <= 0 OR hart.atom_modality(id) <> modality', 'an id is positive and tells its modality');
SELECT is_empty('SELECT * FROM sample WHERE hart.hilbert_encode_4d(hart.atom_geometry(id)) <> (id >> 12 & (1::bigint << 48) - 1)', 'the Hilbert index of the place is in the id');
SELECT is_empty('SELECT id FROM sample GROUP BY id HAVING count(DISTINCT (modality, content)) > 1', 'different contents have different ids');
SELECT is_empty('SELECT * FROM sample WHERE modality IN (''byte'', ''character'', ''weight'', ''neuron'') AND hart.atom_content(id) IS DISTINCT FROM content', 'what the id tells comes back');
SELECT is_empty('SELECT * FROM sample WHERE modality IN (''token'', ''text'', ''tensor'') AND hart.atom_content(id) IS NOT NULL', 'what comes from a hash does not');
SELECT is_empty('SELECT * FROM sample WHERE modality <> ''neuron'' AND floor((ST_Y(hart.atom_geometry(id)) + 1) * 4) <> id >> 60', 'y tells the modality');
SELECT is_empty('SELECT * FROM sample, hart.atom_geometry(id) AS g WHERE g::bytea <> ST_MakePoint(ST_X(g), ST_Y(g), ST_Z(g), ST_M(g))::bytea', 'points are byte for byte those of PostGIS');
SELECT is(hart.atom_ids('text', ARRAY['a', 'b']::bytea[]), ARRAY[hart.atom_id('text', 'a'), hart.atom_id('text', 'b')], 'many ids at once');
SELECT is(hart.atom_ids('text', '{}'), '{}'::bigint[], 'or none');
SELECT isnt(hart.atom_id('text', 'a'), hart.atom_id('token', 'a') & ((1::bigint << 60) - 1) | (4::bigint << 60), 'a word and a token of the same bytes lie in different places');

-- Ids are stored: they never change
SELECT is(hart.atom_id(modality, content), id, format('%s %s has the id it always had', modality, content))
FROM (VALUES ('byte', '\x41'::bytea, 1261307029006599236), ('character', 'A', 2395376887098157739), ('character', convert_to('😀', 'UTF8'), 2323320521067239765), ('weight', '\x0000803f', 6053419962318314957),
             ('neuron', '\x0000000000100002', 6917529027642130434), ('text', 'Hello', 4910645271314348925), ('text', 'Hello World', 4906113040460545415)) AS known (modality, content, id);

-- Errors
SELECT pg_temp.refused(format('SELECT hart.atom_id(%s)', args), '22023', format('refuses the content (%s)', args))
FROM unnest(ARRAY['''byte'', ''''', '''byte'', ''ab''', '''character'', ''''', '''character'', ''ab''', '''character'', ''\xff''', '''character'', ''\xeda080''', '''character'', ''\xc3''', '''weight'', ''abc''', '''neuron'', ''a''',
                  '''neuron'', ''\xffffffffffffffff''', '''text'', ''''', '''word'', ''a''', ''''', ''a''']) AS args;
SELECT pg_temp.refused(format('SELECT hart.%s(%s)', f, id), '22003', format('%s refuses %s', f, id))
FROM unnest(ARRAY['atom_modality', 'atom_geometry', 'atom_content']) AS f,
     unnest(ARRAY['0', '-1', '1152921504606846975', '1152921504606846976', '9223372036854775807', (hart.atom_id('byte', 'A') + 1)::text]) AS id;
SELECT pg_temp.refused('SELECT hart.atom_ids(''byte'', ''{a}'')', '22023', 'only hashed modalities have many ids at once');
SELECT pg_temp.refused('SELECT hart.atom_ids(''text'', ''{a,NULL}'')', '22004', 'NULL has no id');

-- Bytes are there from the beginning
SELECT is((SELECT array_agg(get_byte(raw_value, 0) ORDER BY raw_value) FROM hart.stored_atoms_byte), ARRAY(SELECT generate_series(0, 255)), 'all 256 bytes are atoms');
SELECT is((SELECT count(*) FROM hart.atoms WHERE raw_value = '\x41' AND id = hart.atom_id('byte', 'A')), 1::bigint, 'and seen as atoms');

-- What does not fit is refused
SELECT throws_ok(format('INSERT INTO hart.stored_atoms VALUES (%s, hart.atom_geometry(%s), ''x'')', hart.atom_id('text', 'x'), hart.atom_id('text', 'y')), '23514', NULL, 'an atom is in its place');
SELECT throws_ok(format('INSERT INTO hart.stored_atoms VALUES (%s, ''POINT ZM EMPTY'', ''x'')', hart.atom_id('text', 'x')), '23514', NULL, 'no place is not a place');
SELECT throws_ok(format('INSERT INTO hart.stored_atoms VALUES (%1$s, hart.atom_geometry(%1$s), ''y'')', hart.atom_id('character', 'x')), '23514', NULL, 'a character is what its id tells');
SELECT throws_ok(format('INSERT INTO hart.stored_atoms VALUES (%1$s, hart.atom_geometry(%1$s), ''y'')', hart.atom_id(modality, 'x')), '23514', NULL, format('and so is a %s, but for the tie-breaker', modality))
FROM unnest(ARRAY['token', 'text', 'tensor']) AS modality;
SELECT lives_ok(format('INSERT INTO hart.stored_atoms VALUES (%1$s, hart.atom_geometry(%1$s), ''x'')', hart.atom_id('token', 'x') # 1), 'which another content may have taken');
SELECT throws_ok(format('INSERT INTO hart.stored_atoms VALUES (%1$s, hart.atom_geometry(%1$s), ''\x41'')', hart.atom_id('byte', 'A')), '23505', NULL, 'an atom is there once');
SELECT throws_ok(format('INSERT INTO hart.stored_relations VALUES (%s, %s, ''composition'', 0)', hart.atom_id('text', 'nowhere'), hart.atom_id('byte', 'A')), '23503', NULL, 'a relation needs its parent');
SELECT throws_ok(format('INSERT INTO hart.stored_relations VALUES (%s, %s, ''composition'', 0)', hart.atom_id('byte', 'A'), hart.atom_id('text', 'nowhere')), '23503', NULL, 'and its child');
SELECT throws_ok(format('INSERT INTO hart.stored_relations VALUES (%1$s, %1$s, ''composition'', 0, 1, 1)', hart.atom_id('byte', 'A')), '23514', NULL, 'a composition has no rank');
SELECT throws_ok(format('INSERT INTO hart.stored_relations VALUES (%1$s, %1$s, ''merge'', 0, 1, -1)', hart.atom_id('byte', 'A')), '23503', NULL, 'a merge is of a model');

-- The right to store texts is not one to write rows, which would be taken for texts that are stored
CREATE ROLE hart_test_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON hart.stored_atoms TO hart_test_writer;
SET LOCAL ROLE hart_test_writer;
SELECT is(hart.recompose(hart.decompose('written')), 'written', 'a role with INSERT stores texts');
SELECT throws_ok(format('INSERT INTO hart.stored_atoms VALUES (%1$s, hart.atom_geometry(%1$s), ''no parts'')', hart.atom_id('text', 'no parts')), '42501', NULL, 'but not by rows of its own');
SELECT throws_ok(format('WITH u AS (UPDATE hart.stored_atoms SET raw_value = raw_value WHERE id = %s RETURNING id) SELECT 1 / count(*) FROM u', hart.atom_id('text', 'written')), '22012', NULL, 'nor changes any');
SELECT is((SELECT count(*) FROM hart.stored_atoms WHERE id = hart.atom_id('text', 'written')), 1::bigint, 'a role with SELECT reads');
RESET ROLE;

-- SELECT on the table is enough to see the ids that a text has
CREATE ROLE hart_test_reader;
GRANT SELECT ON hart.stored_atoms TO hart_test_reader;
SELECT hart.decompose('seen by a reader') AS seen \gset
SET LOCAL ROLE hart_test_reader;
SELECT is((SELECT atom_id FROM hart.decomposition('seen by a reader') WHERE level = 0), :seen, 'a role with SELECT sees the tree of a text');
SELECT is((SELECT count(*) FROM hart.decomposition('not stored')), 24::bigint, 'of one that is not stored, too');
RESET ROLE;

-- Atoms that relations need stay
SELECT hart.decompose('needed') AS id \gset
SELECT pg_temp.refused(format('DELETE FROM hart.atoms WHERE id = %s', needed), '23503', 'an atom that relations need is not deleted: ' || needed)
FROM unnest(ARRAY[:id, hart.atom_id('character', 'n')]) AS needed;
SELECT throws_ok(format('DELETE FROM hart.stored_atoms WHERE id = %s', hart.atom_id('character', 'n')), '23503', NULL, 'nor from the table');
-- and bytes even when nothing does
SELECT pg_temp.refused(statement, '55000', 'bytes stay: ' || statement)
FROM unnest(ARRAY[format('DELETE FROM hart.atoms WHERE id = %s', hart.atom_id('byte', '\xff')), format('DELETE FROM hart.stored_atoms WHERE id = %s', hart.atom_id('byte', '\xff')),
                  'DELETE FROM hart.stored_atoms_byte', 'TRUNCATE hart.stored_atoms CASCADE', 'TRUNCATE hart.stored_atoms_byte CASCADE']) AS statement;
SELECT is((SELECT count(*) FROM hart.stored_atoms_byte), 256::bigint, 'all of them');
SELECT lives_ok(format('DELETE FROM hart.stored_relations WHERE parent_id = %s', :id), 'a text can be taken apart');
SELECT lives_ok(format('DELETE FROM hart.atoms WHERE id = %s', :id), 'and then deleted');
SELECT is_empty(format('SELECT FROM hart.stored_atoms WHERE id = %s', :id), 'and is gone');

-- Relations are written in bulk by the owner alone, and only whole
SELECT ok(NOT has_function_privilege('pg_read_all_data', 'hart.write_relations(text, bigint[], bigint[], integer[], integer[], integer)', 'EXECUTE'), 'nobody else writes relations without a check');
SELECT pg_temp.refused('SELECT hart.write_relations(''composition'', ''{1,2}'', ''{1}'', ''{0,1}'')', '2202E', 'arrays must be of one length');
SELECT pg_temp.refused('SELECT hart.write_relations(''nothing'', ''{1}'', ''{1}'', ''{0}'')', '42P01', 'and of a kind that is stored');

SELECT results_eq('SELECT modality, atoms FROM hart.atom_stats WHERE modality = ''byte''', 'VALUES (''byte''::text, 256::bigint)', 'hart.atom_stats counts atoms');
SELECT is((SELECT sum(composition_edges)::bigint FROM hart.atom_stats), (SELECT count(*) FROM hart.stored_relations WHERE relation_type = 'composition'), 'and relations');
SELECT ok((SELECT bool_and(atom_bytes > 0) FROM hart.atom_stats WHERE modality NOT IN ('weight', 'neuron')), 'and bytes');
SELECT results_eq('SELECT modality FROM hart.atom_stats WHERE atom_bytes = 0 AND atoms = 0 AND edge_bytes = 0 ORDER BY 1', ARRAY['neuron', 'weight'], 'of every modality, also of those that are computed');

SELECT * FROM finish();
ROLLBACK;
