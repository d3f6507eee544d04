-- The database is the model: weights are rows, read under the snapshot, wherever they lie, with the rights of who asks.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(39);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

SELECT pg_temp.ingest_tiny('m', 'llama', 'F32', layers => 3) AS model_id \gset
SELECT hart.tiles_of(:model_id) AS tiles, format('tiles_%s_pkey', :model_id) AS key \gset
CREATE FUNCTION pg_temp.logits() RETURNS real[] LANGUAGE sql AS $$ SELECT hart.logits('{5,6,7,8,9}', 'm') $$;
CREATE FUNCTION pg_temp.tensor(name text) RETURNS int LANGUAGE sql AS $$ SELECT tensor_id FROM hart.tensors AS t JOIN hart.models USING (model_id) WHERE models.name = 'm' AND t.name = tensor.name $$;
-- a number of four bytes, little-endian
CREATE FUNCTION pg_temp.bytes(value real) RETURNS bytea LANGUAGE sql AS $$
    SELECT substr(b, 4, 1) || substr(b, 3, 1) || substr(b, 2, 1) || substr(b, 1, 1) FROM float4send(value) AS b
$$;
CREATE TEMP TABLE first AS SELECT pg_temp.logits() AS logits;

-- Rows
SELECT is((SELECT count(*) FROM hart.tiles WHERE model_id = :model_id), (SELECT sum(n_tiles) FROM hart.tensors WHERE model_id = :model_id), 'every tile is a row of hart.tiles');
SELECT is_empty(format('SELECT tensor_id, sum(length(payload)), bytes FROM hart.tiles JOIN hart.tensors USING (model_id, tensor_id) WHERE model_id = %s
                        GROUP BY tensor_id, bytes HAVING sum(length(payload)) <> bytes OR max(length(payload)) > 8064', :model_id), 'tiles hold all bytes, at most 8064 each');
SELECT is((SELECT string_agg(payload, '' ORDER BY tile_no) FROM hart.tiles WHERE model_id = :model_id AND tensor_id = pg_temp.tensor('lm_head.weight')),
          (SELECT string_agg(pg_temp.bytes(value::real), '' ORDER BY row, col) FROM weight WHERE tensor = 'lm_head.weight'), 'tiles in their order are the numbers, little-endian');
SELECT is((SELECT array_agg(value::real ORDER BY row, col) FROM weight WHERE tensor = 'model.layers.1.mlp.up_proj.weight'),
          (SELECT array_agg(v ORDER BY n) FROM unnest(hart.tensor_matrix('m', 'model.layers.1.mlp.up_proj.weight')::real[]) WITH ORDINALITY AS u (v, n)), 'hart.tensor_matrix gives the numbers');
SELECT is((SELECT array_agg(DISTINCT attstorage::text) FROM pg_attribute WHERE attrelid IN (:'tiles'::regclass, 'hart.tiles'::regclass) AND attname = 'payload'), '{p}', 'tiles are never compressed nor moved out of line');
SELECT is((SELECT count(*) FROM pg_inherits WHERE inhparent = 'hart.tiles'::regclass AND inhrelid = :'tiles'::regclass), 1::bigint, 'the model''s table is a partition');

-- An update is seen, and so is its end
SAVEPOINT s;
UPDATE hart.tiles SET payload = overlay(payload PLACING pg_temp.bytes(0.75) FROM 1 + 4 * 3)
WHERE model_id = :model_id AND tensor_id = pg_temp.tensor('model.norm.weight') AND tile_no = 0;
SELECT isnt(pg_temp.logits(), logits, 'a changed weight changes the answer') FROM first;
SELECT is((hart.tensor_matrix('m', 'model.norm.weight')::real[])[1][4], 0.75::real, 'it is the weight that was meant');
ROLLBACK TO s;
SELECT is(pg_temp.logits(), logits, 'rolled back, the answer is as before') FROM first;

-- A bias of sorts: lm_head row 9 becomes zero, so logit 9 does
UPDATE hart.tiles SET payload = overlay(payload PLACING decode(repeat('00', 80), 'hex') FROM 1 + 80 * 9)
WHERE model_id = :model_id AND tensor_id = pg_temp.tensor('lm_head.weight') AND tile_no = 0;
SELECT is((pg_temp.logits())[10], 0::real, 'the logit of a row of zeros is zero');
SELECT is((SELECT array_agg(v ORDER BY n) FROM unnest(pg_temp.logits()) WITH ORDINALITY AS u (v, n) WHERE n <> 10),
          (SELECT array_agg(v ORDER BY n) FROM first, unnest(logits) WITH ORDINALITY AS u (v, n) WHERE n <> 10), 'the other logits stay');
ROLLBACK TO s;

-- A context keeps to the snapshot it was opened under
CREATE TEMP TABLE opened AS SELECT hart.open_context('m') AS ctx;
UPDATE hart.tiles SET payload = overlay(payload PLACING pg_temp.bytes(-4) FROM 1) WHERE model_id = :model_id AND tensor_id = pg_temp.tensor('model.norm.weight');
SELECT is(hart.matrix_row(hart.forward(ctx, '{5,6,7,8,9}', 0), 1), logits, 'a context that is open does not see a later update') FROM opened, first;
SELECT isnt(pg_temp.logits(), logits, 'a new one does') FROM first;
ROLLBACK TO s;
CREATE FUNCTION pg_temp.before_and_after() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    before real[] := pg_temp.logits();
BEGIN
    UPDATE hart.tiles SET payload = overlay(payload PLACING pg_temp.bytes(-4) FROM 1) WHERE model_id = hart.resolve_model('m') AND tensor_id = pg_temp.tensor('model.norm.weight');
    RETURN before <> pg_temp.logits();
END $$;
SELECT ok(pg_temp.before_and_after(), 'a function sees its own update');
ROLLBACK TO s;
WITH changed AS (UPDATE hart.tiles SET payload = overlay(payload PLACING pg_temp.bytes(-4) FROM 1)
                 WHERE model_id = :model_id AND tensor_id = pg_temp.tensor('model.norm.weight') RETURNING 1)
SELECT is(pg_temp.logits(), logits, 'a statement does not see its own update') FROM first, changed;
ROLLBACK TO s;

-- Physical order does not matter
UPDATE hart.tiles SET payload = payload WHERE model_id = :model_id AND tensor_id % 2 = 0;
UPDATE hart.tiles SET tile_no = tile_no WHERE model_id = :model_id AND tile_no > 0;
SELECT is(pg_temp.logits(), logits, 'the same after rows moved') FROM first;
CREATE TEMP TABLE shuffled (LIKE hart.tiles INCLUDING STORAGE);
INSERT INTO shuffled SELECT * FROM hart.tiles WHERE model_id = :model_id;
DELETE FROM hart.tiles WHERE model_id = :model_id;
INSERT INTO hart.tiles SELECT * FROM shuffled ORDER BY md5(tensor_id || ' ' || tile_no);
SELECT is(pg_temp.logits(), logits, 'the same after rows were inserted in any order') FROM first;
CLUSTER :tiles USING :key;
SELECT is(pg_temp.logits(), logits, 'the same after the table was rewritten') FROM first;
ROLLBACK TO s;

CREATE TEMP TABLE backup AS SELECT * FROM hart.tiles WHERE model_id = :model_id;
DELETE FROM hart.tiles WHERE model_id = :model_id;
INSERT INTO hart.tiles SELECT * FROM backup;
SELECT is(pg_temp.logits(), logits, 'the same after tiles went through another table, which compresses them') FROM first;
SELECT cmp_ok(count(*), '>', 3::bigint, 'it did compress some') FROM hart.tiles WHERE model_id = :model_id AND pg_column_compression(payload) IS NOT NULL;
SET LOCAL hart.pin_percent = 0;
SELECT is(pg_temp.logits(), logits, 'the same when they are read tile by tile') FROM first;
ROLLBACK TO s;

-- Too large for shared_buffers: the same bits, tile by tile
SELECT hart.generate_tokens('{40,41}', 9, 'm') AS pinned \gset
SET LOCAL hart.pin_percent = 0;
CREATE EXTENSION pg_buffercache;
CREATE TEMP TABLE opened AS SELECT hart.open_context('m') AS ctx;
SELECT is((SELECT sum(pinning_backends) FROM pg_buffercache WHERE relfilenode = pg_relation_filenode(:'tiles')), 0::bigint, 'a model that is read tile by tile is not pinned');
SELECT is(hart.matrix_row(hart.forward(ctx, '{5,6,7,8,9}', 0), 1), logits, 'many rows, tile by tile') FROM opened, first;
SELECT is((SELECT sum(pinning_backends) FROM pg_buffercache WHERE relfilenode = pg_relation_filenode(:'tiles')), 0::bigint, 'nothing stays pinned');
SELECT is(hart.generate_tokens('{40,41}', 9, 'm'), :'pinned'::int[], 'row by row, tile by tile');
SELECT hart.close_context(ctx) IS NULL AS closed FROM opened \gset
ROLLBACK TO s;

-- What is damaged is reported, not guessed
SAVEPOINT damage;
DELETE FROM hart.tiles WHERE model_id = :model_id AND tensor_id = pg_temp.tensor('lm_head.weight') AND tile_no = 1;
SELECT pg_temp.refused('SELECT pg_temp.logits()', 'XX001', 'a tile is missing');
SELECT matches(message, format('tile 1 of tensor %s in table "tiles_%s"', pg_temp.tensor('lm_head.weight'), :model_id), 'the error names it') FROM pg_temp.error_of('SELECT pg_temp.logits()');
ROLLBACK TO damage;
UPDATE hart.tiles SET payload = substr(payload, 2) WHERE model_id = :model_id AND tensor_id = pg_temp.tensor('model.norm.weight');
SELECT pg_temp.refused('SELECT pg_temp.logits()', 'XX001', 'a tile is too short');
ROLLBACK TO damage;
UPDATE hart.tiles SET payload = payload || '\x00' WHERE model_id = :model_id AND tensor_id = pg_temp.tensor('model.norm.weight');
SELECT pg_temp.refused('SELECT pg_temp.logits()', 'XX001', 'a tile is too long');
ROLLBACK TO damage;
DELETE FROM hart.tiles WHERE model_id = :model_id;
SELECT pg_temp.refused('SELECT pg_temp.logits()', 'XX001', 'all tiles are missing');
ROLLBACK TO damage;
UPDATE hart.tensors SET bytes = bytes - 4 WHERE model_id = :model_id AND name = 'model.norm.weight';
SELECT pg_temp.refused('SELECT pg_temp.logits()', 'XX001', 'the shape does not fit the bytes');
ROLLBACK TO damage;
SELECT is(code, '23514', 'a rotary frequency cannot be missing') FROM pg_temp.error_of('UPDATE hart.model_registry SET rope_inv_freq = rope_inv_freq[2:]');
ROLLBACK TO damage;
DELETE FROM hart.tensors WHERE model_id = :model_id AND name = 'model.layers.2.mlp.up_proj.weight';
SELECT pg_temp.refused('SELECT pg_temp.logits()', '42704', 'a tensor is missing');
ROLLBACK TO damage;
DROP TABLE :tiles;
SELECT pg_temp.refused('SELECT pg_temp.logits()', '42P01', 'the table is gone');
ROLLBACK TO damage;
SELECT is(pg_temp.logits(), logits, 'and nothing of that lasted') FROM first;

-- NaN in the weights
UPDATE hart.tiles SET payload = overlay(payload PLACING pg_temp.bytes('NaN') FROM 1) WHERE model_id = :model_id AND tensor_id = pg_temp.tensor('model.norm.weight');
SELECT is((SELECT count(*) FROM unnest(pg_temp.logits()) AS v WHERE v = 'NaN'), 260::bigint, 'NaN spreads to every logit');
SELECT pg_temp.refused('SELECT hart.generate_tokens(''{1}'', 3, ''m'')', '22000', 'no token can be chosen then');
ROLLBACK TO damage;

-- Dropped
CALL hart.drop_model('m');
SELECT pg_temp.refused('SELECT pg_temp.logits()', '42704', 'a dropped model is unknown');
SELECT is((SELECT count(*) FROM hart.tensors WHERE model_id = :model_id) + (SELECT count(*) FROM hart.model_files WHERE model_id = :model_id)
          + (SELECT count(*) FROM pg_class WHERE relname = 'tiles_' || :model_id), 0::bigint, 'nothing of it is left');

SELECT * FROM finish();
ROLLBACK;
