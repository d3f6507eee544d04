-- UPDATE hart.weights: exact or said, each tile once, with the rights of who does it.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT no_plan();
SET LOCAL jit = off;

SET LOCAL client_min_messages = warning;
SELECT pg_temp.ingest_tiny('f32', 'llama', 'F32', layers => 1) AS model_id \gset
SELECT pg_temp.ingest_tiny('f16', 'llama', 'F16', layers => 1) IS NOT NULL AS ready \gset
SELECT pg_temp.ingest_tiny('bf16', 'llama', 'BF16', layers => 1) IS NOT NULL AS ready \gset
SELECT hart.tiles_of(:model_id) AS tiles \gset
CREATE TEMP TABLE first AS SELECT * FROM hart.weights;
CREATE TEMP VIEW changed AS SELECT w.* FROM hart.weights AS w JOIN first AS f USING (model, tensor, row, col) WHERE float4send(w.value) <> float4send(f.value);
CREATE FUNCTION pg_temp.rewritten() RETURNS bigint LANGUAGE sql AS $$ SELECT sum(pg_stat_get_xact_tuples_updated(tiles))::bigint FROM hart.models $$;
-- what an UPDATE of one weight leaves there
CREATE FUNCTION pg_temp.stored(model text, value real) RETURNS real LANGUAGE plpgsql AS $$
DECLARE
    returned real;
    found real;
BEGIN
    UPDATE hart.weights AS w SET value = stored.value WHERE w.model = stored.model AND tensor = 'lm_head.weight' AND row = 7 AND col = 3 RETURNING w.value INTO returned;
    SELECT w.value INTO found FROM hart.weights AS w WHERE w.model = stored.model AND tensor = 'lm_head.weight' AND row = 7 AND col = 3;
    IF float4send(returned) IS DISTINCT FROM float4send(found) THEN
        RAISE 'returned %, stored %', returned, found;
    END IF;
    RETURN found;
END $$;
SAVEPOINT s;

-- Rounding: to the nearest, ties to even
SELECT is(pg_temp.stored('f32', v), v, 'F32 holds ' || v) FROM unnest(ARRAY[0.1, -0, 1e-45, 3.4028235e38, 'NaN', 'Infinity', '-Infinity']::real[]) AS v;
SELECT is(pg_temp.stored('f16', v), w, 'F16 makes ' || w || ' of ' || v)
FROM (VALUES (0.1::real, 0.099975586::real), (2049, 2048), (2051, 2052), (65519, 65504), (-65504, -65504), (5.9604645e-08, 5.9604645e-08), (4e-08, 5.9604645e-08), (8.940697e-08, 1.1920929e-07), (6.1e-05, 6.097555e-05), (6.1025e-05, 6.1035156e-05),
             ('Infinity', 'Infinity'), ('NaN', 'NaN'), (0, 0)) AS t (v, w);
SELECT is(pg_temp.stored('bf16', v), w, 'BF16 makes ' || w || ' of ' || v)
FROM (VALUES (0.1::real, 0.100097656::real), (257, 256), (259, 260), (3.3895314e38, 3.3895314e38), (9.2e-41, 9.1835e-41), ('-Infinity', '-Infinity'), ('NaN', 'NaN'), (0, 0)) AS t (v, w);
SELECT pg_temp.refused(format('UPDATE hart.weights SET value = %L WHERE model = %L AND row = 0 AND col = 0', v, m), '22003', m || ' does not hold ' || v)
FROM (VALUES ('f16', 65520), ('f16', -1e38), ('f16', 2.9802322e-08), ('f16', -1e-45), ('bf16', 3.4e38), ('bf16', 1e-45), ('bf16', 4.5e-41)) AS t (m, v);
SELECT is(count(*), 3::bigint, 'nothing else has changed') FROM changed;
ROLLBACK TO s;

-- Exactly the weights that were meant, each tile once
SELECT pg_temp.rewritten() AS before \gset
UPDATE hart.weights SET value = value + 1 WHERE model = 'f32' AND tensor = 'lm_head.weight' AND row BETWEEN 90 AND 110;
SELECT is(pg_temp.rewritten() - :before, 2::bigint, '420 weights in two tiles: two tiles are rewritten');
SELECT is((SELECT count(*) FROM changed), 420::bigint, 'those weights have changed and no others');
SELECT is_empty('SELECT c.* FROM changed AS c JOIN first AS f USING (model, tensor, row, col) WHERE c.value <> f.value + 1 OR c.row NOT BETWEEN 90 AND 110', 'to what was said');
SELECT pg_temp.rewritten() AS before \gset
UPDATE hart.weights SET value = -value FROM (SELECT model AS m, tensor AS t, row AS r, col AS c FROM first WHERE row % 2 = col % 3 ORDER BY md5(first::text)) AS o WHERE (model, tensor, row, col) = (m, t, r, c);
SELECT is(pg_temp.rewritten() - :before, (SELECT sum(n_tiles) FROM hart.tensors WHERE name !~ 'norm') + (SELECT count(*) FROM hart.tensors WHERE name ~ 'norm'), 'in any order, over all models: each tile once');
ROLLBACK TO s;
SELECT pg_temp.rewritten() AS before \gset
UPDATE hart.weights SET value = value WHERE model = 'f32';
SELECT is(pg_temp.rewritten() - :before, 0::bigint, 'weights that stay the same are not written');
UPDATE hart.weights SET value = 5 WHERE false;
UPDATE hart.weights SET value = 5 WHERE row = 100000;
SELECT is_empty('SELECT * FROM changed', 'no weight meant, none changed');

-- Forms of the statement
PREPARE edit(text, int, real) AS UPDATE hart.weights SET value = $3 WHERE model = 'f32' AND tensor = $1 AND row = $2;
EXECUTE edit('lm_head.weight', 3, 7);
EXECUTE edit('lm_head.weight', 4, 8);
SELECT is((SELECT array_agg(DISTINCT value ORDER BY value) FROM changed), '{7,8}', 'prepared');
ROLLBACK TO s;
WITH edit AS (UPDATE hart.weights SET value = 2 * value WHERE model = 'f32' AND tensor = 'model.norm.weight' RETURNING col, value), other AS (SELECT count(*) AS n FROM hart.weights WHERE value > 1.7 AND tensor = 'model.norm.weight')
SELECT is((SELECT sum(value) FROM edit), (SELECT sum((2 * value)::real) FROM first WHERE model = 'f32' AND tensor = 'model.norm.weight'), 'in a CTE, with RETURNING') FROM other;
ROLLBACK TO s;
UPDATE hart.weights SET value = v FROM (VALUES (1, 5.0), (1, 6.0), (2, 7.0)) AS n (c, v) WHERE model = 'f32' AND tensor = 'model.norm.weight' AND col = c;
SELECT is((SELECT count(*) FROM changed), 2::bigint, 'a weight that a join meets twice is changed once');
SELECT ok((SELECT value IN (5, 6) FROM changed WHERE col = 1), 'to one of the values');
ROLLBACK TO s;
CREATE TEMP VIEW norms AS SELECT col, value FROM hart.weights WHERE model = 'f32' AND tensor = 'model.norm.weight';
UPDATE norms SET value = 9 WHERE col = 4;
SELECT is((SELECT array_agg(value) FROM changed), '{9}', 'through a view');
ROLLBACK TO s;
CREATE FUNCTION pg_temp.tune() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    before real[] := hart.logits('{1,2,3}', 'f32');
BEGIN
    UPDATE hart.weights SET value = 0 WHERE model = 'f32' AND tensor = 'lm_head.weight' AND row = 9;
    RETURN (hart.logits('{1,2,3}', 'f32'))[10] = 0 AND before[10] <> 0;
END $$;
SELECT ok(pg_temp.tune(), 'a function changes a row of the head, and the logit is zero');
ROLLBACK TO s;
SELECT is_empty('SELECT * FROM changed', 'rolled back, all is as before');
CREATE TEMP TABLE positions AS SELECT token_id, position FROM hart.token_positions WHERE model_id = :model_id AND chart = 0;
UPDATE hart.weights SET value = value + 0.25 WHERE model = 'f32' AND tensor = 'model.embed_tokens.weight' AND row IN (40, 41) AND col % 3 = 0;
SELECT is((SELECT array_agg(p.token_id ORDER BY p.token_id) FROM hart.token_positions AS p JOIN positions AS o USING (token_id) WHERE p.model_id = :model_id AND p.chart = 0 AND p.position::text <> o.position::text), '{40,41}',
          'tokens whose embeddings change move in the linear chart');
ROLLBACK TO s;
SELECT pg_temp.refused('UPDATE hart.weights SET value = NULL WHERE row = 1 AND col = 1', '23502', 'no weight is NULL');
CREATE TEMP TABLE text_value (v text);
INSERT INTO text_value VALUES ('1');
SELECT is((SELECT code FROM pg_temp.error_of('EXPLAIN UPDATE hart.weights SET value = 3 WHERE row = 1')), NULL, 'EXPLAIN changes nothing');
SELECT is_empty('SELECT * FROM changed', 'indeed');

-- Triggers: of hart.weights, and of the tiles
CREATE FUNCTION pg_temp.halve() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.value := NEW.value / 2; RETURN NEW; END $$;
CREATE TRIGGER halve BEFORE UPDATE ON hart.weights FOR EACH ROW EXECUTE FUNCTION pg_temp.halve();
UPDATE hart.weights SET value = 8 WHERE model = 'f32' AND tensor = 'model.norm.weight' AND col = 2;
SELECT is((SELECT array_agg(value) FROM changed), '{4}', 'a trigger may change the value');
CREATE FUNCTION pg_temp.swap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.col := NEW.row; RETURN NEW; END $$;
CREATE TRIGGER swap BEFORE UPDATE ON hart.weights FOR EACH ROW EXECUTE FUNCTION pg_temp.swap();
SELECT pg_temp.refused('UPDATE hart.weights SET value = 8 WHERE model = ''f32'' AND tensor = ''model.norm.weight'' AND col = 2', '27000', 'but not which weight it is');
ROLLBACK TO s;
-- AFTER triggers see what was written, and where the tokens lie now
CREATE TEMP TABLE seen (name text, "row" int, old real, new real, there real, moved boolean);
CREATE TEMP TABLE before AS SELECT model_id, position FROM hart.token_positions WHERE model_id = :model_id AND chart = 0 AND token_id = 9;
CREATE FUNCTION pg_temp.look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen
    SELECT TG_NAME, w.row, OLD.value, NEW.value, w.value, hart.coordinates(p.position) <> hart.coordinates(b.position)
    FROM hart.weights AS w JOIN before AS b ON true JOIN hart.token_positions AS p ON p.model_id = b.model_id AND p.chart = 0 AND p.token_id = 9
    WHERE w.model = 'f32' AND tensor = 'model.embed_tokens.weight' AND w.row IN (5, 9) AND w.col = 1 AND (NEW.row IS NULL OR w.row = NEW.row);
    RETURN NULL;
END $$;
CREATE TRIGGER of_rows AFTER UPDATE ON hart.weights FOR EACH ROW EXECUTE FUNCTION pg_temp.look();
CREATE TRIGGER of_statement AFTER UPDATE ON hart.weights FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.look();
UPDATE hart.weights SET value = "row" / 64.0 WHERE model = 'f32' AND tensor = 'model.embed_tokens.weight' AND row IN (5, 9) AND col = 1;
SELECT set_eq('SELECT name, "row", new, there, moved FROM seen', $$VALUES ('of_rows', 5, 0.078125::real, 0.078125::real, true), ('of_rows', 9, 0.140625, 0.140625, true), ('of_statement', 5, NULL, 0.078125, true), ('of_statement', 9, NULL, 0.140625, true)$$,
              'AFTER triggers see the weights that were written and the positions that followed');
SELECT is_empty('SELECT FROM seen JOIN first AS f USING ("row") WHERE f.model = ''f32'' AND f.tensor = ''model.embed_tokens.weight'' AND f.col = 1 AND name = ''of_rows'' AND seen.old <> f.value', 'and are told those that were there');
DELETE FROM seen;
WITH one AS (UPDATE hart.weights SET value = 0.125 WHERE model = 'f32' AND tensor = 'model.embed_tokens.weight' AND row = 5 AND col = 1),
     other AS (UPDATE hart.weights SET value = 0.25 WHERE model = 'f32' AND tensor = 'model.embed_tokens.weight' AND row = 9 AND col = 1 RETURNING "row")
SELECT count(*) AS n FROM (SELECT FROM other LIMIT 0) AS nothing \gset
SELECT set_eq('SELECT "row", new, there FROM seen WHERE name = ''of_rows''', 'VALUES (5, 0.125::real, 0.125::real), (9, 0.25, 0.25)', 'also of updates in WITH that nobody reads');
SELECT is((SELECT code FROM pg_temp.error_of('UPDATE hart.weights SET value = 0 / ("row" - 9) WHERE model = ''f32'' AND tensor = ''model.embed_tokens.weight'' AND row BETWEEN 5 AND 9 AND col = 1')), '22012', 'an error amid the rows');
UPDATE hart.weights SET value = 0.0625 WHERE model = 'f32' AND tensor = 'model.embed_tokens.weight' AND row = 6 AND col = 1;
SELECT is((SELECT value FROM hart.weights WHERE model = 'f32' AND tensor = 'model.embed_tokens.weight' AND row = 5 AND col = 1), 0.125::real, 'leaves nothing behind that a later statement would write');
ROLLBACK TO s;
CREATE FUNCTION pg_temp.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER keep BEFORE UPDATE ON :tiles FOR EACH ROW EXECUTE FUNCTION pg_temp.keep();
SELECT pg_temp.refused('UPDATE hart.weights SET value = 8 WHERE model = ''f32'' AND row = 2', '55000', 'a trigger of the tiles that keeps them is an error');
ROLLBACK TO s;

-- Rights
CREATE ROLE hart_test_reader;
CREATE ROLE hart_test_editor;
SELECT set_config('test.statement', format('GRANT SELECT ON %1$s TO hart_test_reader; GRANT SELECT, UPDATE (payload) ON %1$s TO hart_test_editor', :'tiles'), true) AS statement \gset
:statement;
SAVEPOINT roles;
SET LOCAL ROLE hart_test_reader;
SELECT is((SELECT array_agg(DISTINCT model) FROM hart.weights), '{f32}', 'a reader sees the weights of what they may read');
SELECT pg_temp.refused('SELECT * FROM hart.weights WHERE model = ''f16''', '42501', 'a model that is named is refused');
SELECT is((SELECT count(*) FROM hart.weights AS w JOIN hart.models AS m ON m.name = w.model WHERE m.name ~ '16'), 0::bigint, 'one that a join names is passed over');
SELECT pg_temp.refused('UPDATE hart.weights SET value = 1 WHERE row = 1', '42501', 'a reader changes nothing');
SET LOCAL ROLE hart_test_editor;
UPDATE hart.weights SET value = 42 WHERE tensor = 'model.norm.weight' AND col = 1;
RESET ROLE;
SELECT is((SELECT array_agg(model) FROM changed), '{f32}', 'an editor changes what they may');
ROLLBACK TO roles;
ALTER TABLE :tiles ENABLE ROW LEVEL SECURITY;
SET LOCAL ROLE hart_test_editor;
SELECT is((SELECT count(*) FROM hart.weights), 0::bigint, 'row-level security hides the whole model');
SELECT pg_temp.refused('SELECT * FROM hart.weights WHERE model = ''f32''', '42501', 'or refuses it, when it is named');
ROLLBACK TO s;

-- The function behind it
SELECT is(hart.patch_tile('\x0000803f00000040', 'F32', '\x010000000000004000004040'), '\x0000803f00004040', 'a patch changes one weight');
SELECT pg_temp.refused('SELECT hart.patch_tile(''\x0000803f'', ''F32'', ''\x000000000000000000004040'')', '40001', 'not one that is another by now');
SELECT pg_temp.refused(format('SELECT hart.patch_tile(%L, %L, %L)', tile, dtype, patch), '22023') FROM (VALUES ('\x0000803f', 'F32', '\x01000000000000000000803f'), ('\x0000803f', 'F32', '\x0000'), ('\x0000803f', 'F8', ''), ('\x', 'BF16', '\x000000000000000000000000')) AS t (tile, dtype, patch);

SET LOCAL client_min_messages = notice;
SET TRANSACTION READ ONLY;
SELECT is((SELECT code FROM pg_temp.error_of('UPDATE hart.weights SET value = 1 WHERE row = 1')), '25006', 'not in a read-only transaction');
SELECT is((SELECT count(*) FROM hart.weights), (SELECT count(*) FROM first), 'where reading goes on');
SELECT * FROM finish();
ROLLBACK;
