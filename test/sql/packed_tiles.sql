-- Tensors stored in 12 bits a weight answer as plain ones do, bit for bit, whatever is done to them.
BEGIN;
\ir include/errors.sql
\ir include/kernels.sql
\ir include/tiny_model.sql
SELECT plan(61);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

-- Models twice, packed and plain. Rows of 48 are cut by tiles at multiples of 16, rows of 24 and 1100 anywhere; the last are wider than what is summed at a time.
CREATE TEMP TABLE pair AS
SELECT name, pg_temp.ingest_tiny(name, family, 'BF16', tied, dim, head_dim, layers, vocab, 200) AS packed, NULL::int AS plain, dim, vocab
FROM (VALUES ('even', 'llama', false, 48, 12, 2, 300), ('odd', 'qwen2', true, 24, 6, 2, 600), ('wide', 'qwen3', true, 1100, 2, 1, 100)) AS m (name, family, tied, dim, head_dim, layers, vocab);
SET LOCAL hart.tile_encoding = plain;
CREATE FUNCTION pg_temp.again(name text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    folder text := pg_temp.write_checkpoint(name);
BEGIN
    CALL hart.ingest_model(folder, name || '_plain');
    PERFORM pg_temp.remove_folder(folder);
    RETURN (SELECT model_id FROM hart.models AS m WHERE m.name = again.name || '_plain');
END $$;
UPDATE pair SET plain = pg_temp.again(name);
RESET hart.tile_encoding;

-- What is packed
SELECT set_eq('SELECT DISTINCT dtype, encoding FROM hart.tensors JOIN pair ON model_id = plain', $$VALUES ('BF16', 'plain')$$, 'hart.tile_encoding = plain keeps the bytes of the checkpoint');
SELECT is_empty('SELECT t.name, encoding FROM hart.tensors AS t JOIN pair ON model_id = packed WHERE encoding <> CASE WHEN bytes >= 2048 THEN ''bf12'' ELSE ''plain'' END', 'every BF16 tensor of size is packed');
SELECT is_empty('SELECT t.name FROM hart.tensors AS t JOIN pair ON model_id = packed WHERE n_tiles <> (SELECT count(*) FROM hart.tiles WHERE tiles.model_id = t.model_id AND tiles.tensor_id = t.tensor_id)', 'and has as many tiles as it says');
SELECT cmp_ok(max(length(payload)), '=', 8064, 'of 8064 bytes at most') FROM hart.tiles JOIN pair ON model_id = packed;
SELECT cmp_ok((SELECT sum(length(payload))::numeric FROM hart.tiles JOIN hart.tensors USING (model_id, tensor_id) JOIN pair ON model_id = packed WHERE encoding = 'bf12' AND bytes > 100000), '<',
              0.78 * (SELECT sum(bytes) FROM hart.tensors JOIN pair ON model_id = packed WHERE encoding = 'bf12' AND bytes > 100000), 'large tensors take three quarters of their bytes');
SELECT is_empty('SELECT t.tensor_id FROM hart.tensors AS t JOIN pair ON model_id = packed
                 WHERE (SELECT string_agg(hart.unpack_tile(payload, dtype, encoding), '''' ORDER BY tile_no) FROM hart.tiles AS i WHERE i.model_id = packed AND i.tensor_id = t.tensor_id)
                       IS DISTINCT FROM (SELECT string_agg(payload, '''' ORDER BY tile_no) FROM hart.tiles AS i WHERE i.model_id = plain AND i.tensor_id = t.tensor_id)', 'which unpack to the bytes of the checkpoint');
SELECT pg_temp.ingest_tiny('f16', 'llama', 'F16') AS f16, pg_temp.ingest_tiny('f32', 'llama', 'F32') AS f32 \gset
SELECT set_eq('SELECT DISTINCT encoding FROM hart.tensors JOIN hart.models USING (model_id) WHERE models.name IN (''f16'', ''f32'')', ARRAY['plain'], 'other dtypes stay plain');

-- A tensor whose exponents are all over the place stays plain, alone
INSERT INTO spec SELECT 'random', family, dtype, dim, hidden, layers, heads, kv_heads, head_dim, vocab, positions, tied, eps, theta FROM spec WHERE model = 'even';
INSERT INTO weight SELECT 'random', tensor, row, col, CASE tensor WHEN 'model.layers.0.mlp.up_proj.weight' THEN value * power(2::float8, row * 7 % 200 - 100) ELSE value END FROM weight WHERE model = 'even';
SELECT pg_temp.write_checkpoint('random') AS folder \gset
CALL hart.ingest_model(:'folder', 'random');
SELECT pg_temp.remove_folder(:'folder') IS NULL AS removed \gset
SELECT is(array_agg(tensor), ARRAY['model.layers.0.mlp.up_proj.weight'], 'what has too many exponents stays plain')
FROM (SELECT t.name AS tensor FROM hart.tensors AS t JOIN hart.models USING (model_id) WHERE models.name = 'random' AND encoding = 'plain' AND bytes >= 2048) AS t;
SELECT is(count(*), 0::bigint, 'with all its values') FROM weight AS w JOIN hart.weights AS h ON h.model = 'random' AND h.tensor = w.tensor AND h.row = w.row - 1 AND h.col = w.col - 1
WHERE w.model = 'random' AND w.tensor = 'model.layers.0.mlp.up_proj.weight' AND w.value::real IS DISTINCT FROM h.value;

-- The same answers
CREATE FUNCTION pg_temp.some_tokens(n int) RETURNS int[] LANGUAGE sql AS $$ SELECT array_agg(abs(hashint4(i + 1000)) % 100 ORDER BY i) FROM generate_series(1, n) AS i $$;
CREATE FUNCTION pg_temp.differing() RETURNS TABLE (name text, kernel text, n int) LANGUAGE sql AS $$
    SELECT name, kernel, n FROM pair, pg_temp.kernels() AS kernel, unnest(ARRAY[1, 3, 30]) AS n
    WHERE pg_temp.computed(format('hart.logits(pg_temp.some_tokens(%s), %L)', n, name), kernel, 2) IS DISTINCT FROM
          pg_temp.computed(format('hart.logits(pg_temp.some_tokens(%s), %L)', n, name || '_plain'), kernel, 1)
$$;
SELECT is_empty('SELECT * FROM pg_temp.differing()', 'logits after one token, few and many, with each set of kernels');
SET LOCAL hart.pin_percent = 0;
SELECT is_empty('SELECT * FROM pg_temp.differing()', 'and read tile by tile');
RESET hart.pin_percent;
SELECT is_empty('SELECT name FROM pair WHERE hart.generate_tokens(''{1,2,3}'', 10, name) <> hart.generate_tokens(''{1,2,3}'', 10, name || ''_plain'')', 'so texts');
SELECT is_empty('SELECT name, t FROM pair, unnest(ARRAY[''model.embed_tokens.weight'', ''model.layers.0.mlp.down_proj.weight'', ''model.norm.weight'']) AS t
                 WHERE hart.tensor_matrix(name, t)::text <> hart.tensor_matrix(name || ''_plain'', t)::text', 'matrices');
SELECT is_empty('SELECT tensor, row, col, value FROM hart.weights WHERE model = ''odd'' EXCEPT SELECT tensor, row, col, value FROM hart.weights WHERE model = ''odd_plain''', 'weights');
SELECT is((SELECT array_agg(value ORDER BY model, row, col) FROM hart.weights WHERE model IN ('even', 'odd', 'wide') AND row IN (0, 17, 99) AND tensor = 'model.embed_tokens.weight' AND col IN (0, 7, 19)),
          (SELECT array_agg(value::real ORDER BY model, row, col) FROM weight WHERE model IN ('even', 'odd', 'wide') AND row IN (1, 18, 100) AND tensor = 'model.embed_tokens.weight' AND col IN (1, 8, 20)), 'single weights');
SELECT is((SELECT array_agg(value ORDER BY position, value) FROM hart.weight_relations WHERE model = 'odd' AND relation_type = 'head'), (SELECT array_agg(value ORDER BY position, value) FROM hart.weight_relations WHERE model = 'odd_plain' AND relation_type = 'head'), 'edges');
SELECT is_empty('SELECT name, t FROM pair, generate_series(3, 90, 7) AS t WHERE hart.embedding_row(packed, t) <> hart.embedding_row(plain, t)', 'embeddings');
SELECT is_empty(format('SELECT name, kernel FROM pair, pg_temp.kernels() AS kernel
                 WHERE pg_temp.computed(format(''(SELECT array_agg(n) FROM hart.nearest_rows(%%s, hart.embedding_row(%%s, 40), 50) AS n)'', packed, packed), kernel, 1) <>
                       pg_temp.computed(format(''(SELECT array_agg(n) FROM hart.nearest_rows(%%s, hart.embedding_row(%%s, 40), 50) AS n)'', plain, plain), kernel, 2)'), 'nearest tokens, their cosines to the last bit');
SELECT is_empty('SELECT name FROM pair, (SELECT array_agg(i) AS ids FROM generate_series(3, 60) AS i) AS t WHERE hart.row_cosines(packed, hart.embedding_row(packed, 9), ids) <> hart.row_cosines(plain, hart.embedding_row(plain, 9), ids)', 'cosines of some');
SELECT is_empty('SELECT name FROM pair, (SELECT array_agg(i) AS ids FROM generate_series(3, 60) AS i) AS t WHERE hart.neighbor_graph(packed, ids, ''{}'', 7) <> hart.neighbor_graph(plain, ids, ''{}'', 7)', 'graphs of neighbours');
SELECT is_empty('SELECT name FROM pair WHERE (SELECT array_agg(n.token_id) FROM hart.neighbors(''A'', 5, name) AS n) IS DISTINCT FROM (SELECT array_agg(n.token_id) FROM hart.neighbors(''A'', 5, name || ''_plain'') AS n)', 'neighbours by the index');
SELECT is_empty('SELECT name FROM pair WHERE (SELECT position::text FROM hart.token_positions WHERE model_id = packed AND token_id = 30 AND chart = 0) <> (SELECT position::text FROM hart.token_positions WHERE model_id = plain AND token_id = 30 AND chart = 0)', 'places on the chart');
SELECT is((SELECT count(*) FROM hart.computed_atoms WHERE id >= 5764607523034234880 AND id < 6917529027641081856), (SELECT count(DISTINCT value::text) FROM hart.weights), 'and values as atoms');

-- Changes
CREATE TEMP TABLE changed AS SELECT * FROM (VALUES (0, 0, 'Infinity'::real), (0, 1, '-Infinity'), (0, 2, 'NaN'), (0, 3, '-0'), (0, 4, '0'), (0, 5, '1e-39'), (0, 6, '-9.2e-41'), (1, 7, '3e38'), (262, 8, '1e-20'), (262, 9, '1e20')) AS v (row, col, value);
SAVEPOINT unchanged;
CREATE TEMP TABLE before AS SELECT model, row, col, value::text FROM hart.weights WHERE tensor = 'model.embed_tokens.weight' AND model ~ '^odd';
UPDATE hart.weights AS w SET value = c.value FROM changed AS c WHERE w.tensor = 'model.embed_tokens.weight' AND w.model IN ('odd', 'odd_plain') AND w.row = c.row AND w.col = c.col;
SELECT is(encoding, 'bf12', 'a few odd values are kept as exceptions') FROM hart.tensors JOIN pair ON model_id = packed AND pair.name = 'odd' WHERE tensors.name = 'model.embed_tokens.weight';
SELECT is_empty('SELECT w.row, w.col, w.value, c.value FROM hart.weights AS w JOIN changed AS c USING (row, col) WHERE w.tensor = ''model.embed_tokens.weight'' AND w.model = ''odd'' AND c.value::text NOT IN (''1e-39'', ''-9.2e-41'', ''3e+38'', ''1e-20'', ''1e+20'') AND float4send(w.value) <> float4send(c.value)',
                'infinities, NaN and the negative zero to the last bit');
SELECT is_empty('SELECT a.row, a.col FROM hart.weights AS a JOIN hart.weights AS b USING (tensor, row, col) WHERE a.model = ''odd'' AND b.model = ''odd_plain'' AND tensor = ''model.embed_tokens.weight'' AND float4send(a.value) <> float4send(b.value)',
                'others as a plain tensor has them');
SELECT is_empty('SELECT row, col FROM hart.weights AS w JOIN before AS b USING (model, row, col) WHERE tensor = ''model.embed_tokens.weight'' AND model = ''odd'' AND w.value::text <> b.value AND (row, col) NOT IN (SELECT row, col FROM changed)', 'and all others as they were');
SELECT is_empty('SELECT * FROM pg_temp.differing()', 'logits are those of the plain model with the same changes');
ROLLBACK TO unchanged;
SELECT is_empty('SELECT * FROM pg_temp.differing()', 'and after ROLLBACK those of before');

-- Changes that do not fit
CREATE FUNCTION pg_temp.scatter(which text) RETURNS void LANGUAGE sql AS $$
    UPDATE hart.weights SET value = power(2::float8, (row + col) % 60 - 30) WHERE model = which AND tensor = 'lm_head.weight' AND (row + col) % 3 = 0
$$;
CREATE FUNCTION pg_temp.move(names text[], tokens int[], x float8) RETURNS void LANGUAGE sql AS $$
    UPDATE hart.token_positions SET position = hart.point(ARRAY[x, -0.1, 0.1, 0.1]) WHERE model_id IN (SELECT unnest(ARRAY[packed, plain]) FROM pair WHERE name = ANY (names)) AND chart = 0 AND token_id = ANY (tokens)
$$;
CREATE FUNCTION pg_temp.encoding(which text, tensor text) RETURNS text LANGUAGE sql AS $$ SELECT encoding FROM hart.tensors AS t JOIN hart.models AS m USING (model_id) WHERE m.name = which AND t.name = tensor $$;
SAVEPOINT unchanged;
SELECT pg_temp.scatter('even'), pg_temp.scatter('even_plain');
SELECT is(pg_temp.encoding('even', 'lm_head.weight'), 'plain', 'a tensor that no longer fits becomes plain');
SELECT is(pg_temp.encoding('even', 'model.embed_tokens.weight'), 'bf12', 'and no other');
SELECT is((SELECT count(*) FROM hart.tiles JOIN pair ON model_id = packed AND name = 'even' JOIN hart.tensors AS t USING (model_id, tensor_id) WHERE t.name = 'lm_head.weight'), n_tiles::bigint, 'with the tiles it needs now')
FROM hart.tensors AS t JOIN pair ON model_id = packed AND pair.name = 'even' WHERE t.name = 'lm_head.weight';
SELECT is_empty('SELECT row, col FROM hart.weights WHERE model = ''even'' AND tensor = ''lm_head.weight'' AND (row + col) % 3 = 0 AND value <> power(2::float8, (row + col) % 60 - 30)::real', 'the new values are there');
SELECT is_empty('SELECT * FROM pg_temp.differing()', 'and the old ones: logits are those of the plain model with the same changes');
UPDATE hart.weights SET value = 1 WHERE model ~ '^even(_plain)?$' AND tensor = 'lm_head.weight' AND row = 200;
SELECT is_empty('SELECT * FROM pg_temp.differing()', 'it can be changed further');
ROLLBACK TO unchanged;
SELECT is(pg_temp.encoding('even', 'lm_head.weight'), 'bf12', 'ROLLBACK makes it what it was');
SELECT is_empty('SELECT * FROM pg_temp.differing()', 'with its weights');
SELECT hart.make_plain(packed, tensor_id) IS NULL AS made FROM hart.tensors JOIN pair ON model_id = packed \g /dev/null
SELECT is_empty('SELECT t.name FROM hart.tensors AS t JOIN pair ON model_id = packed WHERE encoding <> ''plain'' OR n_tiles <> (SELECT count(*) FROM hart.tiles AS i WHERE i.model_id = packed AND i.tensor_id = t.tensor_id)', 'every tensor can be made plain');
SELECT is_empty('SELECT a.tensor_id, a.tile_no FROM pair, hart.tiles AS a, hart.tiles AS b WHERE a.model_id = packed AND b.model_id = plain AND a.tensor_id = b.tensor_id AND a.tile_no = b.tile_no AND a.payload <> b.payload', 'as if it had been ingested so');
SELECT is_empty('SELECT * FROM pg_temp.differing()', 'and answers the same');
ROLLBACK TO unchanged;

-- Moving tokens, in tiles with room for what that takes and without
SELECT pg_temp.move('{even,wide}', '{5,50}', 0.1);
SELECT is(pg_temp.encoding('even', 'model.embed_tokens.weight'), 'bf12', 'tokens move in packed tiles');
SELECT is_empty('SELECT name, t FROM pair, generate_series(0, 90, 5) AS t WHERE hart.embedding_row(packed, t) <> hart.embedding_row(plain, t)', 'as in plain ones');
ROLLBACK TO unchanged;
UPDATE hart.weights SET value = CASE row WHEN 100 THEN power(2::float8, -10 - col % 10) ELSE power(2::float8, -30 - col) END
WHERE model ~ '^even(_plain)?$' AND tensor = 'model.embed_tokens.weight' AND (row = 100 OR row = 101 AND col < 43);
SELECT is(pg_temp.encoding('even', 'model.embed_tokens.weight'), 'bf12', 'a tile can be full of exceptions');
SELECT pg_temp.move('{even}', '{5,50}', 0.1);
SELECT is(pg_temp.encoding('even', 'model.embed_tokens.weight'), 'plain', 'then tokens that move make the embedding plain');
SELECT is_empty('SELECT name, t FROM pair, generate_series(0, 99) AS t WHERE hart.embedding_row(packed, t) <> hart.embedding_row(plain, t)', 'and lie where they lie in the plain model');
SELECT is_empty('SELECT * FROM pg_temp.differing()', 'which it answers like');
ROLLBACK TO unchanged;

-- Whose rights it takes
CREATE ROLE hart_test_editor;
CREATE ROLE hart_test_reader;
SELECT format('hart.tiles_%s', packed) AS tiles, packed FROM pair WHERE name = 'even' \gset
GRANT SELECT, UPDATE (payload) ON :tiles TO hart_test_editor;
GRANT SELECT ON :tiles TO hart_test_reader;
SET LOCAL ROLE hart_test_reader;
SELECT is((SELECT code FROM pg_temp.error_of(format('SELECT hart.make_plain(%s, 1)', :packed))), '42501', 'a reader makes nothing plain');
SELECT is((SELECT code FROM pg_temp.error_of(format('SELECT hart.lock_encoding(%s, 1)', :packed))), '42501', 'and locks nothing');
SET LOCAL ROLE hart_test_editor;
SELECT lives_ok('SELECT pg_temp.scatter(''even'')', 'who may change weights may make them such that the tensor becomes plain');
SELECT is(current_user::text, 'hart_test_editor', 'and is who they were afterwards');
SELECT is((SELECT code FROM pg_temp.error_of(format('DELETE FROM %s', :'tiles'))), '42501', 'they may delete no tiles themselves');
RESET ROLE;
SELECT is(pg_temp.encoding('even', 'lm_head.weight'), 'plain', 'it is plain now');
ROLLBACK TO unchanged;

-- Damage
CREATE FUNCTION pg_temp.damaged(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    code text;
BEGIN
    BEGIN
        EXECUTE format('UPDATE hart.tiles SET payload = %s WHERE model_id = (SELECT packed FROM pair WHERE name = ''odd'') AND tile_no = 0
                        AND tensor_id = (SELECT tensor_id FROM hart.tensors WHERE model_id = tiles.model_id AND name = ''model.embed_tokens.weight'')', change);
        SELECT string_agg((pg_temp.error_of(statement)).code, ' ' ORDER BY statement) INTO code
        FROM unnest(ARRAY['SELECT hart.logits(''{1,2}'', ''odd'')', 'SELECT hart.tensor_matrix(''odd'', ''model.embed_tokens.weight'')', 'SELECT count(value) FROM hart.weights WHERE model = ''odd''']) AS statement;
        RAISE EXCEPTION USING ERRCODE = 'P0100';
    EXCEPTION WHEN SQLSTATE 'P0100' THEN
        NULL;
    END;
    RETURN code;
END $$;
SELECT is(pg_temp.damaged(change), 'XX001 XX001 XX001', format('a payload that is %s is an error', change))
FROM unnest(ARRAY['payload || ''\x00''', 'substr(payload, 1, 8000)', '''\x''', 'overlay(payload PLACING ''\xffff'' FROM 17)', 'overlay(payload PLACING ''\xffff'' FROM 19)', 'overlay(payload PLACING ''\x0200ffff0000'' FROM 19)']) AS change;

-- The functions behind it
SELECT is(hart.unpack_tile(hart.pack_tile(w, 'BF16', 'bf12'), 'BF16', 'bf12'), w, 'weights survive packing') FROM (SELECT decode(repeat('803f00bf0080017f', 300), 'hex') AS w) AS t;
SELECT is(hart.pack_tile((SELECT string_agg(decode(lpad(to_hex(i), 4, '0'), 'hex'), '') FROM generate_series(0, 65000, 20) AS i), 'BF16', 'bf12'), NULL, 'too many exponents do not fit');
SELECT is((SELECT array_agg(hart.tile_count(e, 10497) ORDER BY e) FROM unnest(ARRAY['bf12', 'plain', 'q1']) AS e), '{2,2,NULL}', 'tiles are counted');

SELECT * FROM finish();
ROLLBACK;
