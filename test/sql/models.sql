-- The catalog of models: what an ingest enters, and which model a call means.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(41);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
-- what other tests may have left is not there for this transaction
DO $$ DECLARE model text; BEGIN FOR model IN SELECT name FROM hart.models LOOP CALL hart.drop_model(model); END LOOP; END $$;

-- None
SELECT is((SELECT count(*) FROM hart.models) + (SELECT count(*) FROM hart.ingest_progress) + (SELECT count(*) FROM hart.tiles), 0::bigint, 'there is no model');
SELECT pg_temp.refused('SELECT hart.resolve_model()', '42704', 'none can be meant');
SELECT pg_temp.refused('SELECT hart.resolve_model(''a'')', '42704', 'whatever its name');
SELECT matches(hint, 'hart\.ingest_model', 'the hint says how to get one') FROM pg_temp.error_of('SELECT hart.resolve_model()');

-- One
SELECT pg_temp.ingest_tiny('b', 'qwen3', 'BF16', true) AS b \gset
SELECT is(hart.resolve_model(), :b, 'the only model is meant when none is named');
SELECT is(hart.resolve_model('b'), :b, 'a model is meant by its name');
SELECT is(hart.resolve_model(NULL), :b, 'NULL names none');
SELECT pg_temp.refused('SELECT hart.resolve_model(''c'')', '42704', 'another name is unknown');
SELECT matches(detail, '\mb\M', 'the error lists the names there are') FROM pg_temp.error_of('SELECT hart.resolve_model(''c'')');
SELECT is(hart.logits('{1,2}'), hart.logits('{1,2}', 'b'), 'calls without a name use it');

-- Several
SELECT pg_temp.ingest_tiny('a') AS a, pg_temp.ingest_tiny('Naïve "model"', 'qwen2', 'F16', dim => 24) AS c \gset
SELECT pg_temp.refused('SELECT hart.resolve_model()', '42P08', 'none is meant when there are several') ;
SELECT matches(detail, 'a, b', 'the error lists them') FROM pg_temp.error_of('SELECT hart.resolve_model()');
SET LOCAL hart.model = 'a';
SELECT is(hart.resolve_model(), :a, 'the setting names the default');
SELECT is(hart.resolve_model('b'), :b, 'a name goes before the setting');
SET LOCAL hart.model = 'nobody';
SELECT pg_temp.refused('SELECT hart.resolve_model()', '42704', 'the setting may name none');
SET LOCAL hart.model = '';
SELECT is((SELECT code FROM pg_temp.error_of('SELECT hart.resolve_model()')), '42P08', 'an empty setting names nothing');
SELECT is(hart.resolve_model('Naïve "model"'), :c, 'names may hold anything that can be read');
SELECT is(cardinality(hart.logits('{1,2}', 'Naïve "model"')), 260, 'and be used');

-- What hart.models shows
SELECT is(format('%s %s %s %s %s %s %s', architecture, state, n_layers, dim, vocab_size, context_length, tiles), format('qwen3 ready 2 20 260 200 hart.tiles_%s', :b), 'hart.models shows a model') FROM hart.models WHERE name = 'b';
SELECT is(parameters, (SELECT count(*) FROM weight WHERE model = 'b'), 'with its parameters') FROM hart.models WHERE name = 'b';
SELECT is(parameters, (SELECT count(*) FROM weight WHERE model = 'a'), 'those of an output matrix of its own counted') FROM hart.models WHERE name = 'a';
SELECT cmp_ok(bytes_in, '>', 2 * parameters, 'its bytes') FROM hart.models WHERE name = 'b';
SELECT is(bytes_stored, pg_total_relation_size(tiles), 'and those of its table') FROM hart.models WHERE name = 'b';
SELECT ok(ready_at BETWEEN now() AND clock_timestamp(), 'since when it is ready') FROM hart.models WHERE name = 'b';
SELECT is((SELECT count(*) FROM hart.ingest_progress), 0::bigint, 'none is on its way in');

-- What the other tables hold
SELECT is(format('%s %s %s %s %s %s', hidden_dim, n_heads, n_kv_heads, head_dim, rms_norm_eps, tied_embeddings), '26 4 2 6 1e-05 t', 'the shape of the network') FROM hart.model_registry WHERE name = 'b';
SELECT is((SELECT array_agg(round(f::numeric, 6) ORDER BY i) FROM unnest(rope_inv_freq) WITH ORDINALITY AS u (f, i)), (SELECT array_agg(round(100 ^ (-2.0 * i / 6), 6) ORDER BY i) FROM generate_series(0, 2) AS i), 'rotary frequencies') FROM hart.model_registry WHERE name = 'b';
SELECT is(eos_token_ids, '{2}', 'the end of text') FROM hart.model_registry WHERE name = 'b';
SELECT is((SELECT array_agg(name ORDER BY name) FROM hart.tensors WHERE model_id = :b), (SELECT array_agg(DISTINCT tensor ORDER BY tensor) FROM weight WHERE model = 'b'), 'tensors under their names');
SELECT is_empty(format('SELECT t.name FROM hart.tensors AS t JOIN (SELECT tensor, max(row) AS rows, max(col) AS cols FROM weight WHERE model = ''b'' GROUP BY tensor) AS w ON w.tensor = t.name
                        WHERE model_id = %s AND shape <> CASE WHEN cardinality(shape) = 1 THEN ARRAY[cols] ELSE ARRAY[rows, cols] END', :b), 'with their shapes');
SELECT is_empty('SELECT name FROM hart.tensors WHERE n_tiles <> ceil(bytes / CASE encoding WHEN ''plain'' THEN 8064.0 WHEN ''bf12'' THEN 10496.0 END)', 'and number of tiles');
SELECT is((SELECT array_agg(name ORDER BY name) FROM hart.model_files WHERE model_id = :b), '{config.json,model.safetensors,tokenizer.json}', 'files');
SELECT is_empty('SELECT name FROM hart.model_files WHERE NOT is_checkpoint AND (size <> length(content) OR sha256 <> sha256(content))', 'kept whole, with their hash');
SELECT is(length(content) + (SELECT sum(bytes) FROM hart.tensors WHERE model_id = :b), size::numeric, 'of a checkpoint the header is kept; the rest is tiles') FROM hart.model_files WHERE model_id = :b AND is_checkpoint;
SELECT is_empty(format('SELECT t.name FROM hart.tensors AS t JOIN hart.model_files AS f USING (model_id) WHERE model_id = %s AND is_checkpoint AND (file <> f.name OR file_offset < length(content) OR file_offset + bytes > size)', :b),
                'tensors know where they were');
SELECT is(sha256(content || (SELECT string_agg(hart.unpack_tile(payload, dtype, encoding), '' ORDER BY file_offset, tile_no) FROM hart.tiles JOIN hart.tensors USING (model_id, tensor_id) WHERE model_id = :b)), sha256, 'header and tiles are the file, bit for bit')
FROM hart.model_files WHERE model_id = :b AND is_checkpoint;

-- A name that is taken, and one that is free again
SELECT pg_temp.write_checkpoint('a') AS folder \gset
SELECT pg_temp.refused(format('CALL hart.ingest_model(%L, ''a'')', :'folder'), '42710', 'a name that is taken');
SELECT is((SELECT count(*) FROM hart.models), 3::bigint, 'leaves nothing');
CALL hart.drop_model('a');
SELECT lives_ok(format('CALL hart.ingest_model(%L, ''a'')', :'folder'), 'a name is free after its model was dropped');
SELECT cmp_ok(hart.resolve_model('a'), '>', :c, 'but the number is a new one');
SELECT pg_temp.remove_folder(:'folder') IS NULL AS removed \gset
SELECT is(hart.generate_tokens('{1,2}', 3, 'a'), hart.generate_tokens('{1,2}', 3, 'a'), 'and it runs');

SELECT * FROM finish();
ROLLBACK;
