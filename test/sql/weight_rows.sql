-- hart.weights: every weight as a row, and conditions reach only the tiles that they need.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
\ir include/plans.sql
SELECT no_plan();
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

SELECT pg_temp.ingest_tiny('f32', 'llama', 'F32', vocab => 1000) AS model_id \gset
SELECT pg_temp.ingest_tiny('f16', 'qwen3', 'F16', layers => 1) IS NOT NULL AS ready \gset
SELECT pg_temp.ingest_tiny('bf16', 'qwen2', 'BF16', dim => 24, layers => 1, tied => true) IS NOT NULL AS ready \gset
SELECT hart.tiles_of(:model_id) AS tiles, format('tiles_%s_pkey', :model_id) AS key \gset

-- What hart.weights must show, from the table that the checkpoints were written from
CREATE TEMP VIEW expected AS SELECT model, tensor, row - 1 AS row, col - 1 AS col, value::real FROM weight;
CREATE FUNCTION pg_temp.differences() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM ((SELECT * FROM hart.weights EXCEPT ALL SELECT * FROM expected) UNION ALL (SELECT * FROM expected EXCEPT ALL SELECT * FROM hart.weights)) AS d
$$;
SELECT cmp_ok((SELECT count(*) FROM hart.weights), '>', 20000::bigint, 'there are weights');
SELECT is(pg_temp.differences(), 0::bigint, 'every weight of every model is a row');

-- The same conditions over both, whoever checks them
CREATE TEMP TABLE condition (text text);
INSERT INTO condition VALUES
    ('row = 3'), ('3 = row'), ('row = 3::bigint'), ('row = 3::smallint'), ('row = 3.0'), ('row = 2147483648'), ('row = -1'), ('row < 2'), ('2 > row'), ('row <= 2 AND row >= 2'),
    ('row BETWEEN 5 AND 7 AND col BETWEEN 2 AND 3'), ('row > 990'), ('col > 9223372036854775806'), ('col < (-9223372036854775808)'), ('col >= 0 AND row <> 1'),
    ('row = ANY (ARRAY[5, 1, 1, NULL, 9999])'), ('row = ANY (''{}''::int[])'), ('row = ANY (NULL::int[])'), ('row = ALL (ARRAY[5, 5])'), ('row IN (1, 3, 5) AND col IN (0, 19, 77)'), ('row = ANY (ARRAY[1, 2]::bigint[])'),
    ('row < ANY (ARRAY[1, 2])'), ('row NOT IN (1, 2)'), ('row = NULL'), ('row IS NULL'), ('row = col'), ('row + 1 = 3'), ('row = 1 OR col = 2'), ('NOT row = 1'),
    ('value > 0.2'), ('value = 0.25 AND row < 3'), ('row = (SELECT 4)'), ('row = (SELECT max(n) FROM generate_series(1, 6) AS n)'), ('row IN (SELECT n FROM generate_series(2, 4) AS n)'),
    ('tensor = ''model.norm.weight'''), ('''model.norm.weight'' = tensor AND col = 5'), ('tensor = ANY (ARRAY[''model.norm.weight'', ''lm_head.weight'', ''none'', NULL])'), ('tensor = ''MODEL.norm.weight'''),
    ('tensor = ''model.norm.weight''::varchar'), ('tensor::varchar = ''model.norm.weight'''), ('tensor = ''model.norm.weight''::name'), ('tensor = ''model.norm.weight'' COLLATE "C"'), ('tensor LIKE ''model.layers.1.%'''), ('tensor > ''model.l'''), ('tensor = NULL'), ('tensor = ''a'' || ''b'''),
    ('model = ''f16'''), ('model = ''f16'' AND model = ''f32'''), ('model IN (''f16'', ''bf16'') AND row = 0'), ('model = ''none'''), ('model = ''f32'' AND tensor = ''model.embed_tokens.weight'' AND row = 999 AND col = 19'),
    ('model = tensor'), ('length(model) = 4 AND col = 1'), ('(row, col) = (1, 2)'), ('(row, col) IN ((1, 2), (3, 4))'), ('(row, col) < (1, 2)'), ('row = 1 AND row = 2'), ('row % 7 = 3 AND col = 4'), ('true'), ('false');
CREATE FUNCTION pg_temp.digest(relation text, condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE format('SELECT count(*) || '' '' || md5(string_agg(t::text, '';'' ORDER BY t)) FROM %s AS t WHERE %s', relation, condition) INTO result;
    RETURN result;
END $$;
SELECT is(pg_temp.digest('hart.weights', text), pg_temp.digest('expected', text), 'WHERE ' || text) FROM condition;

-- Collations that take different bytes for equal are left to the executor
CREATE COLLATION pg_temp.ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SELECT is((SELECT count(*) FROM hart.weights WHERE model = 'f32' AND tensor = 'MODEL.NORM.weight' COLLATE pg_temp.ignore_case), 20::bigint, 'a collation of the user''s decides what is equal');

-- Parameters and joins
SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE neuron(text, int, int[]) AS SELECT count(*), sum(value) FROM hart.weights WHERE model = 'f32' AND tensor = $1 AND row = $2 AND col = ANY ($3);
CREATE FUNCTION pg_temp.neuron(tensor text, n int, cols int[]) RETURNS record LANGUAGE plpgsql AS $$
DECLARE
    result record;
BEGIN
    EXECUTE format('EXECUTE neuron(%L, %L, %L)', tensor, n, cols) INTO result;
    RETURN result;
END $$;
SELECT is(pg_temp.neuron('lm_head.weight', n, '{1,2,3}'), (SELECT ROW(count(*), sum(value)) FROM expected WHERE model = 'f32' AND tensor = 'lm_head.weight' AND row = n AND col IN (1, 2, 3)), 'prepared, row ' || n)
FROM unnest(ARRAY[0, 77, 999, 1000, NULL]) AS n;
RESET plan_cache_mode;
SELECT is((SELECT array_agg(w.value ORDER BY k.n) FROM unnest(ARRAY[7, 3, 7]) WITH ORDINALITY AS k (token, n) JOIN hart.weights AS w ON w.model = 'f32' AND w.tensor = 'model.embed_tokens.weight' AND w.row = k.token AND w.col = 4),
          (SELECT array_agg(w.value ORDER BY k.n) FROM unnest(ARRAY[7, 3, 7]) WITH ORDINALITY AS k (token, n) JOIN expected AS w ON w.model = 'f32' AND w.tensor = 'model.embed_tokens.weight' AND w.row = k.token AND w.col = 4), 'joined to a list of rows');
SELECT is((SELECT md5(string_agg(w::text, ';' ORDER BY w)) FROM hart.tensors AS t JOIN hart.models AS m USING (model_id) JOIN hart.weights AS w ON w.model = m.name AND w.tensor = t.name WHERE t.dtype = 'F16' AND w.row = 0),
          (SELECT md5(string_agg(w::text, ';' ORDER BY w)) FROM expected AS w WHERE model = 'f16' AND row = 0), 'joined to the catalog by model and tensor');
SELECT is((SELECT count(*) FROM hart.weights AS a JOIN hart.weights AS b ON (a.model, a.tensor, a.row, a.col) = (b.model, b.tensor, b.col, b.row) WHERE a.model = 'f32' AND a.tensor = 'model.layers.0.mlp.gate_proj.weight' AND b.row < 20), 400::bigint, 'joined to itself, transposed');
SELECT is((SELECT sum(v) FROM generate_series(0, 5) AS r, LATERAL (SELECT sum(value) AS v FROM hart.weights WHERE model = 'f32' AND tensor = 'lm_head.weight' AND row = r) AS s),
          (SELECT sum(value) FROM expected WHERE model = 'f32' AND tensor = 'lm_head.weight' AND row < 6), 'laterally');
SELECT is((SELECT count(*) FROM expected AS e WHERE e.model = 'f32' AND e.row = 3 AND NOT EXISTS (SELECT FROM hart.weights AS w WHERE (w.model, w.tensor, w.row, w.col, w.value) = (e.model, e.tensor, e.row, e.col, e.value))), 0::bigint, 'in a subquery');

-- Only the tiles needed: a row of the embedding is 80 bytes of the 80,000
SELECT is((SELECT n_tiles FROM hart.tensors WHERE model_id = :model_id AND name = 'lm_head.weight'), 10, 'a matrix of 10 tiles');
CREATE FUNCTION pg_temp.of(condition text) RETURNS text LANGUAGE sql AS $$ SELECT 'SELECT sum(value) FROM hart.weights WHERE model = ''f32'' AND tensor = ''lm_head.weight'' AND ' || condition $$;
SELECT is(pg_temp.tiles_read(pg_temp.of('row = 17')), 1::bigint, 'one row: one tile');
SELECT is(pg_temp.tiles_read(pg_temp.of('row = 100')), 2::bigint, 'a row that lies in two: both');
SELECT is(pg_temp.tiles_read(pg_temp.of('row IN (0, 1, 998, 999)')), 2::bigint, 'first and last rows: two');
SELECT is(pg_temp.tiles_read(pg_temp.of('row BETWEEN 400 AND 600')), 3::bigint, 'a range: those that hold it');
SELECT is(pg_temp.tiles_read(pg_temp.of('col = 3')), 10::bigint, 'a column of short rows: all');
SELECT is(pg_temp.tiles_read(pg_temp.of('row = 5000')), 0::bigint, 'a row that is not there: none');
SELECT is(pg_temp.tiles_read(pg_temp.of('row < 0 AND row > 7')), 0::bigint, 'a contradiction: none');
SELECT is(pg_temp.tiles_read(pg_temp.of('true')), 10::bigint, 'all rows: all');
SELECT is(pg_temp.tiles_read('SELECT * FROM hart.weights WHERE model = ''f32'' AND tensor = ''lm_head.weight'' LIMIT 5'), 1::bigint, 'the first five: one');
SELECT is(pg_temp.tiles_read('SELECT w.value FROM (VALUES (1), (999)) AS v (r) JOIN hart.weights AS w ON w.row = v.r WHERE w.model = ''f32'' AND w.tensor = ''lm_head.weight'''), 2::bigint, 'a join: those of its rows');
SELECT cmp_ok(pg_temp.buffers(pg_temp.of('row = 17')), '<', 30::bigint, 'one row looks at few pages');
SELECT cmp_ok(pg_temp.buffers(pg_temp.of('true')), '<', 50::bigint, 'a tensor of 10 tiles at little more than those');
SELECT cmp_ok(pg_temp.buffers('SELECT w.value FROM generate_series(1, 200) AS r JOIN hart.weights AS w ON w.row = r AND w.col = 1 WHERE w.model = ''f32'' AND w.tensor = ''lm_head.weight'''), '<', 900::bigint, 'each pass of a join at a few');

-- Estimates
CREATE FUNCTION pg_temp.estimate(condition text) RETURNS float8 LANGUAGE sql AS $$ SELECT (pg_temp.explained('SELECT * FROM hart.weights WHERE ' || condition)->>'Plan Rows')::float8 $$;
SELECT is(pg_temp.estimate('model = ''f32'' AND tensor = ''lm_head.weight'''), 20000::float8, 'a tensor is estimated by its shape');
SELECT is(pg_temp.estimate('model = ''f32'' AND tensor = ''lm_head.weight'' AND row = 5'), 20::float8, 'a row too');
SELECT is(pg_temp.estimate('model = ''f32'' AND tensor = ''lm_head.weight'' AND row = 5000'), 1::float8, 'nothing as one row');
SELECT is(pg_temp.estimate('model = ''f32'' AND tensor = ''lm_head.weight'' AND row = (SELECT 5)'), 20::float8, 'a row that is not known yet as any row');
SELECT ok(pg_temp.explained('SELECT * FROM hart.weights WHERE model = ''f32'' AND row = 5 AND value > 0')->>'Pushed Down' ~ '^\(\(model = ''f32''::text\) AND \("row" = 5\)\)$', 'EXPLAIN shows what is pushed down');

-- Without an index, out of order, compressed: the same
SAVEPOINT s;
CREATE TEMP TABLE moved AS SELECT * FROM hart.tiles WHERE model_id = :model_id;
DELETE FROM hart.tiles WHERE model_id = :model_id;
INSERT INTO hart.tiles SELECT * FROM moved ORDER BY md5(tensor_id || ' ' || tile_no);
SELECT is(pg_temp.differences(), 0::bigint, 'the same after tiles moved and were compressed');
ALTER TABLE :tiles DROP CONSTRAINT :key;
SELECT is(pg_temp.differences(), 0::bigint, 'the same without the primary key');
SELECT is(pg_temp.tiles_read(pg_temp.of('row = 17')), 1::bigint, 'then too one tile is read for a row');
CREATE UNIQUE INDEX partial ON :tiles (model_id, tensor_id, tile_no) WHERE tile_no > 0;
CREATE INDEX not_unique ON :tiles (model_id, tensor_id, tile_no);
CREATE UNIQUE INDEX other_order ON :tiles (tensor_id, model_id, tile_no);
SELECT is(pg_temp.differences(), 0::bigint, 'other indexes are not taken for it');
INSERT INTO moved SELECT * FROM hart.tiles WHERE model_id = :model_id LIMIT 0;
DROP INDEX hart.partial, hart.other_order;
INSERT INTO hart.tiles SELECT model_id, tensor_id, tile_no, payload FROM moved WHERE tensor_id = (SELECT tensor_id FROM hart.tensors WHERE model_id = :model_id AND name = 'lm_head.weight') AND tile_no = 3;
SELECT pg_temp.refused(pg_temp.of('true'), 'XX001', 'a tile is there twice');
ROLLBACK TO s;
CLUSTER :tiles USING :key;
SELECT is(pg_temp.differences(), 0::bigint, 'the same after CLUSTER');
ROLLBACK TO s;

-- Damage is reported where it is met
DELETE FROM hart.tiles WHERE model_id = :model_id AND tensor_id = (SELECT tensor_id FROM hart.tensors WHERE model_id = :model_id AND name = 'lm_head.weight') AND tile_no = 7;
SELECT pg_temp.refused(pg_temp.of('true'), 'XX001', 'a tile is missing');
SELECT matches(message, '^tile 7 of tensor \d+ in table "tiles_\d+" is missing$', 'the error names it') FROM pg_temp.error_of(pg_temp.of('true'));
SELECT lives_ok(pg_temp.of('row = 17'), 'a row that does not need it is there');
ROLLBACK TO s;
UPDATE hart.tiles SET payload = payload || '\x00' WHERE model_id = :model_id AND tensor_id = (SELECT tensor_id FROM hart.tensors WHERE model_id = :model_id AND name = 'model.norm.weight');
SELECT pg_temp.refused('SELECT * FROM hart.weights WHERE tensor = ''model.norm.weight''', 'XX001', 'a tile is too long');
ROLLBACK TO s;
UPDATE hart.tensors SET shape = '{19}' WHERE model_id = :model_id AND name = 'model.norm.weight';
SELECT pg_temp.refused('SELECT * FROM hart.weights', 'XX001', 'a shape does not fit');
ROLLBACK TO s;
DROP TABLE :tiles;
SELECT is((SELECT count(*) FROM hart.weights WHERE tensor = 'model.norm.weight'), 44::bigint, 'a model without a table is passed over');
SELECT pg_temp.refused('SELECT * FROM hart.weights WHERE model = ''f32''', '42P01', 'unless it is named');
ROLLBACK TO s;

-- Under the snapshot
DECLARE before CURSOR FOR SELECT value FROM hart.weights WHERE model = 'f32' AND tensor = 'model.norm.weight' ORDER BY col;
DECLARE lazy CURSOR FOR SELECT col FROM hart.weights WHERE model = 'f32' AND tensor = 'lm_head.weight';
FETCH 3 FROM lazy \g /dev/null
UPDATE hart.tiles SET payload = decode(repeat('00', length(payload)), 'hex') WHERE model_id = :model_id;
SELECT is((SELECT count(*) FROM hart.weights WHERE model = 'f32' AND value <> 0), 0::bigint, 'an update of the tiles is seen');
CREATE FUNCTION pg_temp.fetched() RETURNS real[] LANGUAGE plpgsql AS $$
DECLARE
    c refcursor := 'before';
    v real;
    result real[] := '{}';
BEGIN
    LOOP
        FETCH c INTO v;
        EXIT WHEN NOT FOUND;
        result := result || v;
    END LOOP;
    RETURN result;
END $$;
SELECT is(pg_temp.fetched(), (SELECT array_agg(value ORDER BY col) FROM expected WHERE model = 'f32' AND tensor = 'model.norm.weight'), 'a cursor that was open does not see it');
ROLLBACK TO s;

-- What is not for rows of this kind
SELECT pg_temp.refused(statement, '0A000') FROM unnest(ARRAY['INSERT INTO hart.weights VALUES (''f32'', ''lm_head.weight'', 1, 1, 1)', 'DELETE FROM hart.weights', 'UPDATE hart.weights SET row = 1', 'UPDATE hart.weights SET value = 1, tensor = tensor',
    'SELECT * FROM hart.weights WHERE row = 1 FOR UPDATE', 'SELECT * FROM hart.weights FOR KEY SHARE', 'UPDATE hart.weight_relations SET value = 1', 'DELETE FROM hart.computed_atoms', 'INSERT INTO hart.weight_relations (parent_id) VALUES (1)']) AS statement;
SELECT isnt((SELECT code FROM pg_temp.error_of(statement)), NULL, statement) FROM unnest(ARRAY['TRUNCATE hart.weights', 'COPY hart.weights FROM ''/dev/null''', 'ALTER FOREIGN TABLE hart.weights OPTIONS (SET shows ''nothing'')', 'ALTER FOREIGN TABLE hart.weights OPTIONS (ADD host ''x'')']) AS statement;
CREATE FOREIGN TABLE pg_temp.other (a int) SERVER hartonomous OPTIONS (shows 'weights');
SELECT pg_temp.refused('SELECT * FROM pg_temp.other', 'HV004', 'a table with other columns');
CREATE FOREIGN TABLE pg_temp.bare (a int) SERVER hartonomous;
SELECT pg_temp.refused('SELECT * FROM pg_temp.bare', 'HV00J', 'a table without the option');
SELECT is((SELECT array_agg(privilege_type::text ORDER BY privilege_type) FROM pg_class, aclexplode(relacl) WHERE oid = 'hart.weights'::regclass AND grantee = 0), '{SELECT,UPDATE}', 'everybody may try');
SELECT is(is_updatable || is_insertable_into, 'NONO', 'hart.atoms and hart.relations are no way to change weights') FROM information_schema.views WHERE table_schema = 'hart' AND table_name IN ('relations');

SELECT * FROM finish();
ROLLBACK;
