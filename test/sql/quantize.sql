-- A model in 8 bits: what it is, what it computes, what it refuses; and how two models are compared.
BEGIN;
\ir include/errors.sql
\ir include/kernels.sql
\ir include/tiny_model.sql
SELECT plan(73);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
SET LOCAL hart.prefix_cache = 0;

-- The second has rows of 18 blocks, more than a group, that the ends of tiles cut
SELECT pg_temp.ingest_tiny('m', 'qwen2', 'BF16', true, 64, 16) AS m, pg_temp.ingest_tiny('wide', 'llama', 'F32', false, 1152, 16, layers => 1, vocab => 100) AS wide \gset
CALL hart.quantize_model('m');
CALL hart.quantize_model('wide', 'q8', new_name => 'eight');
SELECT model_id AS q FROM hart.models WHERE name = 'm-q8' \gset
SELECT model_id AS eight FROM hart.models WHERE name = 'eight' \gset

-- What it is
SELECT is(format('%s %s %s %s %s %s %s %s', state, quantization, quantized_from, architecture, parameters, n_layers, context_length, tiles),
          format('ready q8 m qwen2 %s 2 200 hart.tiles_%s', (SELECT parameters FROM hart.models WHERE name = 'm'), :q), 'hart.models shows it') FROM hart.models WHERE name = 'm-q8';
SELECT is((SELECT count(*) FROM hart.models WHERE name IN ('m', 'wide') AND quantization IS NULL AND quantized_from IS NULL), 2::bigint, 'a model that was ingested is not quantized');
SELECT set_eq(format('SELECT name::text FROM hart.tensors WHERE model_id = %s AND encoding = ''q8'' AND dtype = ''F32''', :q),
              format($$ SELECT name::text FROM hart.tensors WHERE model_id = %s AND cardinality(shape) = 2 AND name NOT LIKE '%%down_proj%%' $$, :m), 'matrices are in 8 bits');
SELECT set_eq(format('SELECT name, dtype, encoding, shape, bytes, n_tiles FROM hart.tensors WHERE model_id = %s AND encoding <> ''q8''', :q),
              format($$ SELECT name, dtype, encoding, shape, bytes, n_tiles FROM hart.tensors WHERE model_id = %s AND (cardinality(shape) = 1 OR name LIKE '%%down_proj%%') $$, :m),
              'norms, biases and matrices whose rows are no multiple of 64 are as they were');
SELECT set_eq(format('SELECT tensor_id, count(*) FROM hart.tiles WHERE model_id = %s GROUP BY 1', :eight), format('SELECT tensor_id, n_tiles::bigint FROM hart.tensors WHERE model_id = %s', :eight), 'every tensor has its tiles');
SELECT set_eq(format('SELECT name, content, size, sha256, is_checkpoint FROM hart.model_files WHERE model_id = %s', :q), format('SELECT name, content, size, sha256, is_checkpoint FROM hart.model_files WHERE model_id = %s', :m), 'it has the files of its source');
SELECT set_eq(format('SELECT token_id, atom_id, special FROM hart.tokens WHERE model_id = %s', :q), format('SELECT token_id, atom_id, special FROM hart.tokens WHERE model_id = %s', :m), 'its tokens');
SELECT set_eq(format('SELECT chart, kind, mean, basis, scale, tokens, parameters FROM hart.charts WHERE model_id = %s', :q), format('SELECT chart, kind, mean, basis, scale, tokens, parameters FROM hart.charts WHERE model_id = %s', :m), 'its charts');
SELECT set_eq(format('SELECT chart, token_id, atom_id, hart.coordinates(position) FROM hart.token_positions WHERE model_id = %s', :q),
              format('SELECT chart, token_id, atom_id, hart.coordinates(position) FROM hart.token_positions WHERE model_id = %s', :m), 'and the positions of its tokens');
SELECT set_eq(format('SELECT tensor_id, relation_type, parent_space, child_space, atom_id FROM hart.tensor_roles WHERE model_id = %s', :q),
              format('SELECT tensor_id, relation_type, parent_space, child_space, atom_id FROM hart.tensor_roles WHERE model_id = %s', :m), 'its neurons are those of its source');
SELECT cmp_ok((SELECT pg_relation_size(tiles) FROM hart.models WHERE name = 'eight'), '<', (SELECT pg_relation_size(tiles) FROM hart.models WHERE name = 'wide') / 3, 'it is smaller');

-- What its weights are: each within half a step of the source's, where 127 steps reach the largest of its block of 64 and the step has 8 bits
CREATE TEMP TABLE pair AS
SELECT a.tensor, a.value AS was, b.value AS is, max(abs(a.value)) OVER (PARTITION BY a.tensor, a."row", a.col / 64) AS largest
FROM hart.weights a JOIN hart.weights b ON (b.tensor, b."row", b.col) = (a.tensor, a."row", a.col)
JOIN hart.tensors t ON t.name = a.tensor AND t.encoding = 'q8' AND t.model_id = :eight
WHERE a.model = 'wide' AND b.model = 'eight';
SELECT is((SELECT count(*) FROM pair), (SELECT sum(bytes / 4)::bigint FROM hart.tensors WHERE model_id = :eight AND encoding = 'q8'), 'all weights can be read');
SELECT is_empty('SELECT * FROM pair WHERE abs(was - "is") > 0.505 * largest / 127', 'and are within half a step of what they were');
SELECT cmp_ok((SELECT count(*) FROM pair WHERE was <> "is"), '>', 1000::bigint, 'but are rounded');
SELECT is((SELECT hart.embedding_row(:eight, 7)), (SELECT array_agg(value ORDER BY col) FROM hart.weights WHERE model = 'eight' AND tensor = 'model.embed_tokens.weight' AND "row" = 7), 'a row of the embedding is one of hart.weights');
SELECT is(hart.matrix_row(hart.tensor_matrix('eight', 'lm_head.weight'), 3), (SELECT array_agg(value ORDER BY col) FROM hart.weights WHERE model = 'eight' AND tensor = 'lm_head.weight' AND "row" = 2), 'hart.tensor_matrix gives them too');

-- What it computes: the same bits by every set of kernels, with any number of threads, for one row or many
CREATE TEMP TABLE kernel AS SELECT kernel FROM pg_temp.kernels() AS kernel;
CREATE FUNCTION pg_temp.product(module text, x hart.matrix) RETURNS hart.matrix LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context := hart.open_context('eight');
    y hart.matrix := CASE module WHEN 'lm_head' THEN hart.linear(ctx, module, x) ELSE hart.linear(ctx, 0, module, x) END;
BEGIN
    PERFORM hart.close_context(ctx);
    RETURN y;
END $$;
CREATE FUNCTION pg_temp.some_rows(m int, n int) RETURNS hart.matrix LANGUAGE sql AS
$$ SELECT (array_agg(r ORDER BY i))::hart.matrix FROM generate_series(1, m) AS i, LATERAL (SELECT array_agg((hashint4(i * 10000 + j) % 1000 / 300.0)::real ORDER BY j) AS r FROM generate_series(1, n) AS j) AS rows $$;
CREATE TEMP TABLE input AS SELECT module, m, pg_temp.some_rows(m, n) AS x FROM (VALUES ('mlp.gate_proj', 1152), ('self_attn.o_proj', 64), ('lm_head', 1152)) AS v (module, n), unnest(ARRAY[1, 3, 20]) AS m;
CREATE TEMP TABLE product AS
SELECT module, m, kernel, threads, (SELECT pg_temp.computed(format('SELECT pg_temp.product(%L, x) FROM input WHERE (module, m) = (%L, %s)', module, module, m), kernel, threads)) AS y
FROM (SELECT module, m FROM input) AS i, kernel, unnest(ARRAY[1, 3]) AS threads;
SELECT is_empty('SELECT module, m, count(DISTINCT y) FROM product GROUP BY 1, 2 HAVING count(DISTINCT y) <> 1 OR count(y) < 2', 'a product has the same bits by every set of kernels and number of threads');
SELECT is_empty($$ SELECT i.module, m, r FROM input i, generate_series(1, m) AS r
                   WHERE hart.matrix_row(pg_temp.product(module, x), r) IS DISTINCT FROM hart.matrix_row(pg_temp.product(module, ARRAY[hart.matrix_row(x, r)]::hart.matrix), 1) $$, 'and for a row by itself or among others');
SELECT cmp_ok((SELECT max(hart.l2_distance(hart.matrix_row(a, r), hart.matrix_row(b, r)) / hart.norm(hart.matrix_row(b, r)))
               FROM input i, generate_series(1, m) AS r, LATERAL (SELECT pg_temp.product(module, x), hart.matmul(x, hart.transpose(hart.tensor_matrix('eight', CASE module WHEN 'lm_head' THEN module ELSE 'model.layers.0.' || module END || '.weight')))) AS p (a, b)), '<',
              1e-3::float8, 'it is the product with the weights that hart.tensor_matrix shows');
SELECT is((SELECT hart.matrix_row(y, 1) FROM pg_temp.product('self_attn.o_proj', ('[' || repeat('0,', 63) || 'NaN]')::hart.matrix) AS y), array_fill('NaN'::real, ARRAY[1152]), 'NaN makes NaN');
SELECT is((SELECT hart.matrix_row(y, 1) FROM pg_temp.product('self_attn.o_proj', ('[' || repeat('0,', 63) || 'Infinity]')::hart.matrix) AS y), array_fill('NaN'::real, ARRAY[1152]), 'and infinity too');
SELECT is((SELECT hart.matrix_row(y, 1) FROM pg_temp.product('self_attn.o_proj', ('[' || repeat('0,', 63) || '0]')::hart.matrix) AS y), array_fill(0::real, ARRAY[1152]), 'nothing makes nothing');

CREATE FUNCTION pg_temp.in_pieces(model text, tokens int[], ends int[]) RETURNS real[] LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
    at int := 0;
    place int;
    logits hart.matrix;
BEGIN
    FOREACH place IN ARRAY ends || cardinality(tokens) LOOP
        logits := hart.forward(ctx, tokens[at + 1:place], at);
        at := place;
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN hart.matrix_row(logits, 1);
END $$;
CREATE TEMP TABLE prompt AS SELECT array_agg(3 + abs(hashint4(i)) % 90 ORDER BY i) AS tokens FROM generate_series(1, 60) AS i;
SELECT is(pg_temp.in_pieces(model, tokens, ends), pg_temp.in_pieces(model, tokens, '{}'), format('%s: a prompt in pieces that end at %s gives the same bits', model, ends))
FROM prompt, unnest(ARRAY['eight', 'm-q8']) AS model, (VALUES ('{1}'::int[]), ('{20,40}'), (ARRAY(SELECT generate_series(1, 59)))) AS v (ends);
SELECT is(hart.generate_tokens(tokens, 20, 'm-q8'), hart.generate_tokens(tokens, 20, 'm-q8'), 'the same tokens every time') FROM prompt;
SELECT isnt(hart.generate('abc', 5, 'm-q8'), NULL, 'it writes');
SELECT is((SELECT array_agg(DISTINCT method) FROM hart.neighbors('a', 5, 'm-q8')), '{exact}', 'its tokens have neighbors');
SELECT cmp_ok((SELECT count(*) FROM hart.weight_relations WHERE model = 'm-q8' AND tensor = 'model.layers.0.mlp.gate_proj.weight'), '=', 26 * 64::bigint, 'its weights are edges');

-- By streaming below the limit of pins
SELECT hart.logits(tokens, 'eight') AS logits FROM prompt \gset
SET LOCAL hart.pin_percent = 0;
SELECT is(hart.logits(tokens, 'eight'), :'logits'::real[], 'the same bits from tiles that are not kept pinned') FROM prompt;
RESET hart.pin_percent;

-- What it refuses
SELECT pg_temp.refused(statement, code)
FROM (VALUES ('CALL hart.quantize_model(NULL)', '22004'), ('CALL hart.quantize_model(''nobody'')', '42704'), ('CALL hart.quantize_model(''m'', ''q4'', ''n'')', '22023'), ('CALL hart.quantize_model(''m'', NULL, ''n'')', '22023'),
             ('CALL hart.quantize_model(''m'')', '42710'), ('CALL hart.quantize_model(''m'', new_name => ''wide'')', '42710'), ('CALL hart.quantize_model(''m'', new_name => '''')', '42602'), ('CALL hart.quantize_model(''m'', new_name => repeat(''x'', 64))', '42602'),
             ('CALL hart.quantize_model(''m'', ''q8'', ''n'', '''')', '22023'), ('CALL hart.quantize_model(''m-q8'')', '55000'), ('CALL hart.quantize_model(''m-q8'', new_name => ''n'')', '55000'), ('CALL hart.export_model(''m-q8'', ''/tmp/hart_nowhere'')', '0A000'),
             ('UPDATE hart.weights SET value = 0 WHERE model = ''m-q8'' AND tensor = ''model.layers.0.mlp.gate_proj.weight'' AND "row" = 1', '0A000'),
             ('UPDATE hart.token_positions SET position = hart.point(''{0.1,0.1,0.1,0.1}'') WHERE chart = 0 AND token_id = 5 AND model_id = (SELECT model_id FROM hart.models WHERE name = ''m-q8'')', '0A000'),
             ('SELECT hart.quantize_tiles(1, ''hart.tiles'', 1)', '55000'), ('SELECT hart.copy_vocabulary(1, 1)', '55000')) AS v (statement, code);
SELECT matches(hint, '"m"', 'the hint names the source') FROM pg_temp.error_of('CALL hart.quantize_model(''m-q8'')');
SELECT is((SELECT count(*) FROM hart.model_registry WHERE name = 'n' OR state <> 'ready'), 0::bigint, 'what was refused left nothing');
UPDATE hart.weights SET value = 0 WHERE model = 'm-q8' AND tensor = 'model.norm.weight' AND col = 3;
SELECT is((SELECT value FROM hart.weights WHERE model = 'm-q8' AND tensor = 'model.norm.weight' AND col = 3), 0::real, 'a tensor that is not in 8 bits can be changed');
UPDATE hart.tiles SET payload = set_byte(payload, 252, 99) WHERE model_id = :q AND tile_no = 0 AND tensor_id = (SELECT tensor_id FROM hart.tensors WHERE model_id = :q AND name = 'model.embed_tokens.weight');
SELECT pg_temp.refused('SELECT hart.logits(''{5}'', ''m-q8'')', 'XX001', 'a tile that was damaged is found');

-- How two models are compared; by hand: probabilities of 1/4 and 3/4 beside halves
SELECT is((SELECT format('%s %s %s %s %s', round(logprob_a::numeric, 5), round(logprob_b::numeric, 5), round(divergence::numeric, 5), round(error::numeric, 5), same_choice)
           FROM hart.compare_rows(ARRAY[0, ln(3)]::real[]::hart.matrix, '[0,0]', '{1}')), '-0.28768 -0.69315 0.13081 1.00000 f', 'two rows');
SELECT is((SELECT (divergence, error, same_choice)::text FROM hart.compare_rows('[1,5,3]', '[1,5,3]', '{1}')), '(0,0,t)', 'a row and itself');
SELECT ok((SELECT divergence = 'NaN' FROM hart.compare_rows('[1,NaN]', '[1,5]', '{1}')), 'NaN is told');
SELECT pg_temp.refused('SELECT * FROM hart.compare_rows(''[1,2]'', ''[1,2,3]'', ''{1}'')', '22000');
SELECT pg_temp.refused('SELECT * FROM hart.compare_rows(''[1,2]'', ''[1,2]'', ''{2}'')', '22023');
SELECT is((SELECT format('%s %s %s %s %s %s', tokens, divergence, max_divergence, error, same_choices, perplexity_a = perplexity_b) FROM hart.compare_models('wide', 'wide', 'hello there')), '10 0 0 0 1 t', 'a model and itself');
SELECT is((SELECT round(perplexity_b::numeric, 6) FROM hart.compare_models('wide', 'eight', 'hello there')), round(hart.perplexity('hello there', 'eight')::numeric, 6), 'the perplexity is that of hart.perplexity');
SELECT ok((SELECT divergence > 0 AND divergence <= max_divergence AND error > 0 AND error < 0.05 FROM hart.compare_models('wide', 'eight', 'hello there')), 'a model and its copy in 8 bits differ a little');
SELECT is((SELECT tokens FROM hart.compare_models('wide', 'eight', repeat('hello there ', 40))), 479, 'a text longer than the context is compared in pieces');
SELECT is((SELECT format('%s %s %s', tokens, perplexity_a, divergence) FROM hart.compare_models('wide', 'eight', 'x')), '0  ', 'a text of one token predicts nothing');
SELECT pg_temp.refused('SELECT hart.compare_models(''wide'', ''eight'', NULL)', '22004');
SELECT pg_temp.refused('SELECT hart.compare_models(''wide'', ''nobody'', ''x'')', '42704');

-- Who may
CREATE ROLE hart_test_quantizer;
SET LOCAL ROLE hart_test_quantizer;
SELECT pg_temp.refused('CALL hart.quantize_model(''wide'', new_name => ''mine'')', '42501', 'a stranger may not');
SELECT pg_temp.refused('SELECT hart.compare_models(''wide'', ''eight'', ''x'')', '42501', 'nor compare');
RESET ROLE;
SELECT set_config('test.statement', format('GRANT SELECT ON hart.tiles_%s TO hart_test_quantizer', :wide), true) AS statement \gset
:statement;
SET LOCAL ROLE hart_test_quantizer;
CALL hart.quantize_model('wide', new_name => 'mine');
SELECT is((SELECT relowner::regrole::text FROM pg_class WHERE oid = (SELECT tiles FROM hart.models WHERE name = 'mine')), 'hart_test_quantizer', 'who may read a model may make a copy of their own');
SELECT is((SELECT divergence FROM hart.compare_models('wide', 'mine', 'hello')) > 0, true, 'and use it');
CALL hart.drop_model('mine');
SELECT is((SELECT count(*) FROM hart.models WHERE name = 'mine'), 0::bigint, 'and drop it');
RESET ROLE;
ALTER TABLE hart.tiles ENABLE ROW LEVEL SECURITY;
SET LOCAL ROLE hart_test_quantizer;
SELECT pg_temp.refused('CALL hart.quantize_model(''wide'', new_name => ''mine'')', '42501', 'tiles that row-level security may hide are not copied');
RESET ROLE;

CALL hart.drop_model('eight');
SELECT is((SELECT count(*) FROM hart.tensors WHERE model_id = :eight) + (SELECT count(*) FROM hart.tokens WHERE model_id = :eight) + (SELECT count(*) FROM pg_class WHERE relname IN ('tiles_' || :eight, 'token_positions_' || :eight)), 0::bigint, 'it can be dropped');
SELECT is((SELECT state FROM hart.models WHERE name = 'wide'), 'ready', 'and its source stays');

SELECT * FROM finish();
ROLLBACK;
