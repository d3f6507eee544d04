-- Texts as atoms, and back.
BEGIN;
\ir include/errors.sql
SELECT plan(90);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

-- The tree of a text
SELECT hart.decompose('Hello World') AS hello \gset
SELECT is(hart.recompose(:hello), 'Hello World', 'a text comes back');
SELECT is(:hello, hart.atom_id('text', 'Hello World'), 'its id comes from its content');
SELECT is((SELECT string_agg(format('%s%s:%s:%s', repeat(' ', level), position, left(modality, 1), convert_from(content, 'UTF8')), E'\n' ORDER BY ordinality) FROM hart.decomposition('Hi !') WITH ORDINALITY),
$$0:t:Hi !
 0:t:Hi
  0:c:H
   0:b:H
  1:c:i
   0:b:i
 1:t: !
  0:c: 
   0:b: 
  1:c:!
   0:b:!$$, 'the tree is in the order of the text');
SELECT is((SELECT array_agg(convert_from(content, 'UTF8') ORDER BY position) FROM hart.decomposition('Hello World') WHERE level = 1), '{Hello," ",World}', 'words and what is between them');
SELECT is((SELECT array_agg(child_id ORDER BY position) FROM hart.relations WHERE parent_id = :hello), ARRAY[hart.atom_id('text', 'Hello'), hart.atom_id('text', ' '), hart.atom_id('text', 'World')], 'are relations');
SELECT is((SELECT level FROM hart.decomposition('Hello') WHERE modality = 'character' LIMIT 1), 1, 'a text of one word is that word');
SELECT is(hart.decompose('Hello'), hart.atom_id('text', 'Hello'), 'with the id that it has as a part');

-- Everything comes back, from its content and from its bytes, and the two trees are one
CREATE TEMP TABLE sample (n serial, content bytea);
INSERT INTO sample (content)
SELECT convert_to(t, 'UTF8') FROM unnest(ARRAY['a', ' ', 'Hello World', E'tabs\tand\nlines\r\n', '  two  spaces  ', 'grüß Gott', E'cafe\u0301 noir', 'naïve—“quoted”', '日本語 テキスト', 'हिन्दी में', 'می‌خواهم',
                                               '👨‍👩‍👧‍👦 👍🏽 🇩🇪', E'\u0301lone mark', E'z\u0335\u0324\u035a', 'snake_case x2 ½', repeat('x', 5000), repeat('long word ', 500), E'\U0010FFFF\U00010000\uFFFD\u200D\uFEFF', 'مرحبا بالعالم', '한국어 조선말', 'ﷺ']) AS t
UNION ALL SELECT b FROM unnest(ARRAY['\x00', '\x0000', '\x410042', '\xff', '\xfffe41c3', '\xc3', '\xc0af', '\xeda080', '\xf4908080', '\xf09f91', '\xe282', '\x80bf', '\xffcc81']::bytea[]) AS b
UNION ALL SELECT decode(string_agg(lpad(to_hex(n), 2, '0'), ''), 'hex') FROM generate_series(0, 255) AS n
UNION ALL SELECT decode(string_agg(lpad(to_hex(hashint4(n) & 255), 2, '0'), ''), 'hex') FROM generate_series(1, 3000) AS n;
CREATE TEMP TABLE stored AS SELECT n, content, hart.decompose(content) AS id FROM sample;
SELECT is(hart.recompose_bytes(id), content, format('sample %s comes back', n)) FROM stored ORDER BY n;
-- by the relations alone, without the content that an atom remembers
CREATE FUNCTION pg_temp.converted(content bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN convert_from(content, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire THEN
    RETURN NULL;
END $$;
CREATE FUNCTION pg_temp.leaves(root bigint) RETURNS bytea LANGUAGE sql AS $$
    WITH RECURSIVE node AS (
        SELECT root AS id, ARRAY[]::int[] AS path UNION ALL SELECT r.child_id, n.path || r.position FROM node AS n JOIN hart.stored_relations AS r ON r.parent_id = n.id AND r.relation_type = 'composition')
    SELECT string_agg(hart.atom_content(id), '' ORDER BY path) FROM node WHERE id >> 60 = 1 $$;
SELECT is_empty('SELECT n FROM stored WHERE pg_temp.leaves(id) IS DISTINCT FROM content', 'the bytes at the leaves of the stored relations are the content');
SELECT is_empty('SELECT n FROM stored WHERE EXISTS (SELECT * FROM hart.text_tree(content) EXCEPT ALL SELECT * FROM hart.decomposition(id)) OR EXISTS (SELECT * FROM hart.decomposition(id) EXCEPT ALL SELECT * FROM hart.text_tree(content))',
                'the tree that is computed is the tree that is stored');
SELECT is_empty('SELECT n, level, position FROM (SELECT n, t.*, row_number() OVER (PARTITION BY n ORDER BY ordinality) FROM stored, hart.decomposition(id) WITH ORDINALITY AS t) AS a
                 EXCEPT SELECT n, level, position FROM (SELECT n, t.*, row_number() OVER (PARTITION BY n ORDER BY ordinality) FROM stored, hart.text_tree(content) WITH ORDINALITY AS t) AS b', 'in the same order');
SELECT is_empty('SELECT n FROM stored, hart.decomposition(id) AS d WHERE d.modality <> ''byte'' AND d.content <> (SELECT string_agg(c.content, '''' ORDER BY c.position)
                 FROM (SELECT DISTINCT r.position, hart.recompose_bytes(r.child_id) AS content FROM hart.stored_relations AS r WHERE r.parent_id = d.atom_id AND r.relation_type = ''composition'') AS c)', 'every whole is its parts');

SELECT is_empty('SELECT n FROM stored, hart.decomposition(id) AS d WHERE d.as_text IS DISTINCT FROM pg_temp.converted(d.content)', 'with each part as a text where it is one');

-- Bytes that are a text are that text
SELECT is(hart.decompose('grüß'::text), hart.decompose(convert_to('grüß', 'UTF8')), 'a text and its bytes are one atom');
SELECT is((SELECT array_agg(modality ORDER BY position) FROM hart.decomposition(hart.decompose('\x41ff42'::bytea)) WHERE level = 2), '{character,byte,character}', 'bytes that are no characters are parts as they are');
SELECT pg_temp.refused(format('SELECT hart.recompose(%s)', hart.decompose('\x41ff42'::bytea)), '22021', 'bytes are not shown as a text');
SELECT pg_temp.refused(format('SELECT hart.recompose(%s)', hart.decompose('\x410042'::bytea)), '22021', 'nor is NUL');
SELECT is(hart.recompose_bytes(hart.decompose('\x410042'::bytea)), '\x410042', 'as bytes they are');

-- Atoms that tell their content need no row
SELECT is(hart.recompose(hart.atom_id('character', '€')), '€', 'a character');
SELECT is(hart.recompose_bytes(hart.atom_id('byte', '\xff')), '\xff', 'a byte');
SELECT is(hart.recompose_bytes(hart.atom_id('weight', '\x0000803f')), '\x0000803f', 'a weight');
SELECT is((SELECT array_agg(modality) FROM hart.decomposition(hart.atom_id('character', '€'))), '{character,byte,byte,byte}', 'a character has its bytes');
SELECT is((SELECT array_agg(modality) FROM hart.decomposition(hart.atom_id('weight', '\x0000803f'))), '{weight}', 'a weight has no parts');

-- The second time adds nothing
CREATE FUNCTION pg_temp.rows() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT (SELECT count(*) FROM hart.stored_atoms) + (SELECT count(*) FROM hart.stored_relations) $$;
SELECT pg_temp.rows() AS before \gset
SELECT is((SELECT count(*) FROM stored WHERE hart.decompose(content) <> id), 0::bigint, 'the second time every text has the same id');
SELECT is(pg_temp.rows(), :before::bigint, 'and no row is added');
SELECT hart.decompose('World Hello') \gset
SELECT is(pg_temp.rows(), :before + 4::bigint, 'words are shared: a text of known words adds itself and its relations');

-- Ties: an id that belongs to another content is not taken, nor merged with it. No two contents are known that share a cell: these are put there.
ALTER TABLE hart.stored_atoms_text DROP CONSTRAINT id_is_content;
SELECT hart.atom_id('text', 'tied') AS tied \gset
INSERT INTO hart.stored_atoms VALUES (:tied, hart.atom_geometry(:tied), 'squatter');
SELECT is(hart.decompose('tied'), (:tied & ~4095::bigint) | ((:tied + 1) & 4095), 'the next tie-breaker is taken');
SELECT is(hart.decompose('tied'), (:tied & ~4095::bigint) | ((:tied + 1) & 4095), 'and found again');
SELECT is(hart.recompose(hart.decompose('tied')), 'tied', 'the second comer is itself');
SELECT is(hart.recompose(:tied), 'squatter', 'and so is the first');
SELECT is(pg_temp.leaves(hart.decompose('tied')), 'tied'::bytea, 'the parts are its own');
SELECT is((SELECT array_agg(atom_id ORDER BY position) FROM hart.decomposition('tied up') WHERE level = 1), ARRAY[hart.decompose('tied'), hart.atom_id('text', ' '), hart.atom_id('text', 'up')], 'the tree of a text knows of it');
SELECT is(hart.recompose(hart.decompose('tied up')), 'tied up', 'also as a part');
SELECT is((SELECT array_agg(child_id ORDER BY position) FROM hart.relations WHERE parent_id = hart.atom_id('text', 'tied up')), ARRAY[hart.decompose('tied'), hart.atom_id('text', ' '), hart.atom_id('text', 'up')], 'whose relations lead to it');
SELECT is((hart.store_atoms('text', '{p,q,r,p}', ARRAY[:tied, :tied, :tied, :tied]::bigint[])).ids, ARRAY[:tied + 2, :tied + 3, :tied + 4, :tied + 2]::bigint[], 'three more contents with one id, all told apart')
WHERE :tied & 4095 < 4090;
SELECT hart.atom_id('text', 'wrap') | 4095 AS last \gset
SELECT is((hart.store_atoms('text', '{u,v}', ARRAY[:last, :last]::bigint[])).ids, ARRAY[:last, :last - 4095]::bigint[], 'after the last tie-breaker comes the first');

-- Bad input
SELECT pg_temp.refused(statement, code) FROM (VALUES
    ('SELECT hart.decompose(NULL::text)', '22004'), ('SELECT hart.decompose(NULL::bytea)', '22004'), ('SELECT hart.decompose('''')', '22023'), ('SELECT hart.decompose(''''::bytea)', '22023'),
    ('SELECT * FROM hart.decomposition('''')', '22023'), ('SELECT * FROM hart.decomposition(NULL::text)', '22004'), ('SELECT * FROM hart.decomposition(NULL::bigint)', '22004'),
    ('SELECT hart.recompose(NULL)', '22004'), ('SELECT hart.recompose_bytes(NULL)', '22004'), ('SELECT hart.recompose(0)', '22003'), ('SELECT hart.recompose(-5)', '22003'),
    (format('SELECT hart.recompose(%s)', hart.atom_id('text', 'never stored')), '42704'), (format('SELECT * FROM hart.decomposition(%s)', hart.atom_id('text', 'never stored')), '42704'),
    (format('SELECT hart.recompose(%s)', hart.atom_id('token', 'never stored')), '42704'), (format('SELECT hart.recompose(%s)', hart.atom_id('weight', '\x0000803f')), '42809')) AS bad (statement, code);

-- Reading needs no right to write
SET LOCAL transaction_read_only = on;
SELECT is(hart.recompose(:hello), 'Hello World', 'read-only: a text comes back');
SELECT is(hart.decompose('Hello World'), :hello, 'read-only: a text that is there is found');
SELECT is((SELECT count(*) FROM hart.decomposition('never stored')), 28::bigint, 'read-only: the tree of a text that is not');
SELECT is((SELECT code FROM pg_temp.error_of('SELECT hart.decompose(''never stored'')')), '25006', 'read-only: nothing is stored');

SELECT * FROM finish();
ROLLBACK;
