-- Weights as edges: hart.weight_relations, hart.computed_atoms, and the views that unite them with what is stored.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
\ir include/plans.sql
SELECT no_plan();
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

SELECT pg_temp.ingest_tiny('q3', 'qwen3', 'F16', layers => 2) AS q3 \gset
SELECT pg_temp.ingest_tiny('q2', 'qwen2', 'F32', dim => 24, layers => 2, tied => true) AS q2 \gset

-- Every edge, by the names of tensors once more and in another way
CREATE TEMP VIEW named AS
SELECT w.*, m.model_id, t.tensor_id, substring(tensor FROM '^model\.(layers\.\d+)') AS layer, regexp_replace(tensor, '^model\.(layers\.\d+\.)?', '') AS part
FROM weight AS w JOIN hart.models AS m ON m.name = w.model JOIN hart.tensors AS t ON t.model_id = m.model_id AND t.name = w.tensor;
CREATE TEMP VIEW placed AS
SELECT *, CASE WHEN part ~ 'embed|lm_head' THEN 'token' WHEN part ~ 'q_norm|k_norm' THEN layer || '.' || replace(part, '.weight', '') WHEN part ~ 'norm|o_proj|down_proj' THEN 'residual'
               WHEN part ~ '^mlp' THEN layer || '.mlp' ELSE layer || '.' || regexp_replace(part, '\.(weight|bias)', '') END AS output,
          CASE WHEN part ~ 'bias' THEN 'tensor' WHEN part ~ 'q_norm|k_norm' THEN layer || '.' || replace(part, '.weight', '') WHEN part ~ 'o_proj' THEN layer || '.self_attn' WHEN part ~ 'down_proj' THEN layer || '.mlp' ELSE 'residual' END AS input,
          CASE WHEN part ~ 'norm|bias' THEN col ELSE row END - 1 AS parent_no
FROM named;
CREATE TEMP TABLE expected AS
SELECT CASE WHEN output = 'token' THEN k.atom_id ELSE 6917529027641081856 + o.key * 1048576 + parent_no END AS parent_id,
       CASE WHEN input = 'tensor' THEN r.atom_id ELSE 6917529027641081856 + i.key * 1048576 + col - 1 END AS child_id,
       CASE WHEN part ~ 'embed' THEN 'embedding' WHEN part ~ 'lm_head' THEN 'head' WHEN part ~ 'bias' THEN 'bias' WHEN part ~ 'norm' THEN 'norm' WHEN part ~ 'mlp' THEN 'feed_forward' ELSE 'attention' END AS relation_type,
       col - 1 AS position, hart.atom_id('weight', substr(b, 4, 1) || substr(b, 3, 1) || substr(b, 2, 1) || substr(b, 1, 1)) AS weight_atom_id, model, tensor, value::real
FROM placed AS p LEFT JOIN hart.neuron_spaces AS o ON o.model_id = p.model_id AND o.space = output LEFT JOIN hart.neuron_spaces AS i ON i.model_id = p.model_id AND i.space = input
LEFT JOIN hart.tokens AS k ON k.model_id = p.model_id AND k.token_id = parent_no AND output = 'token' LEFT JOIN hart.tensor_roles AS r ON r.model_id = p.model_id AND r.tensor_id = p.tensor_id,
LATERAL float4send(value::real) AS b;
SELECT is((SELECT array_agg(DISTINCT relation_type ORDER BY relation_type) FROM expected), '{attention,bias,embedding,feed_forward,head,norm}', 'edges of every kind');
SELECT is((SELECT count(*) FROM ((SELECT * FROM hart.weight_relations EXCEPT ALL SELECT * FROM expected) UNION ALL (SELECT * FROM expected EXCEPT ALL SELECT * FROM hart.weight_relations)) AS d), 0::bigint, 'every weight is an edge, with its parent, child, kind, position and value');
SELECT is((SELECT count(*) FROM expected WHERE parent_id IS NULL), (SELECT sum((260 - n) * dim * heads)::bigint FROM (VALUES ('q3', 20, 2), ('q2', 24, 1)) AS v (name, dim, heads) JOIN hart.models USING (name), LATERAL (SELECT count(*) AS n FROM hart.tokens AS k WHERE k.model_id = models.model_id) AS k), 'only rows beyond the vocabulary have no parent');
SELECT is_empty('SELECT child_id FROM expected WHERE child_id IS NULL', 'every edge has a child');

-- Conditions: the same over both
CREATE TEMP TABLE condition (text text);
SELECT hart.neuron_atom('q3', 'residual', 5) AS residual, hart.neuron_atom('q3', 'layers.1.mlp', 7) AS hidden, hart.neuron_atom('q3', 'layers.0.self_attn', 2) AS head, hart.neuron_atom('q2', 'layers.1.self_attn.q_proj', 3) AS query,
       (SELECT atom_id FROM hart.tokens WHERE model_id = :q3 AND token_id = 40) AS token, (SELECT atom_id FROM hart.tensor_roles WHERE model_id = :q2 AND relation_type = 'bias' ORDER BY tensor_id LIMIT 1) AS tensor \gset
SELECT ok(NOT EXISTS (SELECT FROM (VALUES (:residual), (:hidden), (:head), (:query), (:token), (:tensor)) AS v (id) WHERE id IS NULL), 'there are such atoms');
SELECT is(hart.neuron_atom('q3', 'residual', 20), NULL, 'and none beyond a space');
INSERT INTO condition
SELECT format(c, id) FROM unnest(ARRAY['parent_id = %s', 'child_id = %s', '%s = child_id', 'parent_id IN (%s, 1, NULL)', 'parent_id = %1$s AND child_id = %1$s', 'child_id = %s AND relation_type = ''attention''', 'parent_id = %s AND position BETWEEN 3 AND 5',
                              'child_id = %s AND model = ''q2''', 'parent_id > %s', 'child_id = (SELECT %s)', 'parent_id = %s AND tensor LIKE ''%%proj%%''', 'weight_atom_id = %s']) AS c,
     unnest(ARRAY[:residual, :hidden, :head, :query, :token, :tensor, -1, 0, 9223372036854775807]) AS id
UNION ALL SELECT format('relation_type = %L', kind) FROM unnest(ARRAY['embedding', 'norm', 'bias', 'head', 'merge', 'x', NULL]) AS kind
UNION ALL VALUES ('parent_id IS NULL'), ('relation_type <> ''norm'' AND position = 3'), ('position = 1'), ('value > 0.2'), ('parent_id = child_id'), ('tensor = ''model.norm.weight'''), ('relation_type = ANY (''{norm,bias}'')');
CREATE FUNCTION pg_temp.digest(relation text, condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE format('SELECT count(*) || '' '' || md5(string_agg(t::text, '';'' ORDER BY t::text)) FROM %s AS t WHERE %s', relation, condition) INTO result;
    RETURN result;
END $$;
SELECT is_empty('SELECT text FROM condition WHERE pg_temp.digest(''hart.weight_relations'', text) IS DISTINCT FROM pg_temp.digest(''expected'', text)', 'conditions leave over the same edges, whoever checks them');
SELECT cmp_ok((SELECT count(*) FROM condition WHERE pg_temp.digest('expected', text) !~ '^0'), '>', 40::bigint, 'many of them some');

-- The views
SELECT is((SELECT count(*) FROM hart.relations WHERE weight_atom_id IS NOT NULL), (SELECT count(*) FROM expected), 'hart.relations has them');
SELECT is((SELECT count(*) FROM hart.relations WHERE relation_type IN ('composition', 'merge')), (SELECT count(*) FROM hart.stored_relations), 'beside those that are stored');
SELECT is((SELECT md5(string_agg(r::text, ';' ORDER BY r::text)) FROM hart.relations AS r WHERE parent_id = :hidden),
          (SELECT md5(string_agg(r::text, ';' ORDER BY r::text)) FROM (SELECT parent_id, child_id, relation_type, position, NULL::int AS rank, weight_atom_id, model, tensor FROM expected WHERE parent_id = :hidden) AS r), 'the edges out of a neuron');
SELECT is((SELECT array_agg(DISTINCT relation_type ORDER BY relation_type) FROM hart.relations WHERE parent_id = :token), '{composition,embedding,head}', 'a token has parts and weights');
SELECT is((SELECT count(*) FROM hart.relations AS a JOIN hart.relations AS b ON b.parent_id = a.child_id WHERE a.parent_id = :hidden AND b.relation_type = 'norm'), 2 * 20 * 5::bigint, 'two steps: a neuron reads the stream by gate and up, where there are five norms');

-- Only the tiles needed
SELECT is(pg_temp.tiles_read(format('SELECT * FROM hart.relations WHERE parent_id = %s', :hidden)), 2::bigint, 'a hidden neuron: one tile of gate_proj, one of up_proj');
SELECT is(pg_temp.tiles_read(format('SELECT * FROM hart.relations WHERE child_id = %s', :hidden)), 1::bigint, 'its outputs: the tiles of down_proj');
SELECT is(pg_temp.tiles_read(format('SELECT * FROM hart.relations WHERE parent_id = %s AND relation_type = ''embedding''', :token)), 1::bigint, 'a token: the tile of its row');
SELECT is(pg_temp.tiles_read(format('SELECT * FROM hart.relations WHERE child_id = %s AND tensor = ''model.norm.weight''', :residual)), 1::bigint, 'a neuron of the stream in one tensor: the tile of that');
SELECT is(pg_temp.tiles_read('SELECT b.* FROM hart.weight_relations AS a JOIN hart.weight_relations AS b ON b.parent_id = a.child_id AND b.relation_type = ''norm'' AND b.tensor = ''model.norm.weight'' WHERE a.parent_id = ' || :hidden || ' AND a.tensor ~ ''gate'''), 22::bigint, 'a join: one tile a neuron');
SELECT cmp_ok(pg_temp.buffers(format('SELECT * FROM hart.weight_relations WHERE parent_id = %s', :hidden)), '<', 60::bigint, 'few pages');
SELECT is(pg_temp.counted(format('SELECT * FROM hart.relations WHERE parent_id = %s', hart.atom_id('text', 'Hello')), 'Tiles Read'), NULL, 'the plan for a text leaves the weights out');
SELECT is(pg_temp.counted('SELECT * FROM hart.relations WHERE relation_type = ''merge''', 'Tiles Read'), NULL, 'so does that for merges');

-- Atoms
SELECT is((SELECT count(*) || ' ' || count(DISTINCT id) FROM hart.computed_atoms), (SELECT (count(DISTINCT value::real) + (SELECT sum(n) FROM hart.neuron_spaces))::text FROM weight) || ' ' || (SELECT count(DISTINCT value::real) + (SELECT sum(n) FROM hart.neuron_spaces) FROM weight), 'each value of a weight once, each neuron once');
SELECT is_empty('SELECT weight_atom_id, child_id, parent_id FROM expected AS e WHERE NOT EXISTS (SELECT FROM hart.atoms AS a WHERE a.id = e.weight_atom_id) OR NOT EXISTS (SELECT FROM hart.atoms AS a WHERE a.id = e.child_id) OR parent_id IS NOT NULL AND NOT EXISTS (SELECT FROM hart.atoms AS a WHERE a.id = e.parent_id)', 'both ends of every edge, and its weight, are atoms');
SELECT is((SELECT count(*) FROM hart.computed_atoms AS a WHERE NOT (hart.hilbert_encode_4d(a.geom, 12) = (a.id >> 12) & 281474976710655)), 0::bigint, 'places fit the ids');
SELECT is((SELECT raw_value FROM hart.atoms WHERE id = hart.atom_id('weight', '\x0000c0bf')), '\x0000c0bf', 'the content of a weight is its bytes');
SELECT is((SELECT convert_from(raw_value, 'UTF8') FROM hart.atoms WHERE id = :hidden), (SELECT encode(fingerprint, 'hex') FROM hart.neuron_spaces WHERE model_id = :q3 AND space = 'residual') || '/layers.1.mlp/7', 'that of a neuron says where it is');
SELECT is((SELECT convert_from(raw_value, 'UTF8') FROM hart.atoms WHERE id = :tensor), (SELECT encode(s.fingerprint, 'hex') || '/' || t.name FROM hart.tensor_roles AS r JOIN hart.tensors AS t USING (model_id, tensor_id) JOIN hart.neuron_spaces AS s ON s.model_id = t.model_id AND s.space = 'residual' WHERE r.atom_id = :tensor), 'that of a tensor which it is');
SELECT is((SELECT array_agg(id) FROM hart.computed_atoms WHERE id = ANY (ARRAY[:residual, :residual, :hidden + 1000, 5, NULL, :token])), ARRAY[:residual]::bigint[], 'by a list of ids, those that are');
SELECT is((SELECT count(*) FROM hart.computed_atoms WHERE id BETWEEN 6917529027641081856 AND 8070450532247928831), (SELECT sum(n) FROM hart.neuron_spaces), 'by the range of neurons');
SELECT is(pg_temp.tiles_read('SELECT * FROM hart.computed_atoms WHERE id >= 6917529027641081856'), 0::bigint, 'which reads no tiles');
SELECT is((SELECT count(*) FROM hart.computed_atoms WHERE id < 5764607523034234880 OR id IS NULL OR id = 1 AND id = 2), 0::bigint, 'by what none has');

-- The same checkpoint has the same neurons, under whatever name
SAVEPOINT s;
SELECT pg_temp.write_checkpoint('q3') AS folder \gset
CALL hart.ingest_model(:'folder', 'again');
SELECT is((SELECT array_agg(key ORDER BY space) FROM hart.neuron_spaces AS s JOIN hart.models AS m USING (model_id) WHERE m.name = 'again'), (SELECT array_agg(key ORDER BY space) FROM hart.neuron_spaces WHERE model_id = :q3), 'the same keys');
SELECT is((SELECT array_agg(DISTINCT model ORDER BY model) FROM hart.relations WHERE parent_id = :hidden), '{again,q3}', 'edges of both models');
SELECT is((SELECT count(*) FROM hart.computed_atoms WHERE id = :hidden), 1::bigint, 'of one neuron');
SELECT is((SELECT count(*) - count(DISTINCT id) FROM hart.computed_atoms), 0::bigint, 'all atoms once');
SELECT is((SELECT count(DISTINCT key) FROM hart.neuron_spaces WHERE model_id IN (:q3, :q2)), (SELECT count(*) FROM hart.neuron_spaces WHERE model_id IN (:q3, :q2)), 'another checkpoint has other keys');
CALL hart.drop_model('again');
-- a key that is taken
UPDATE hart.neuron_spaces SET key = hart.neuron_space_key((SELECT fingerprint FROM hart.neuron_spaces WHERE model_id = :q3 LIMIT 1), 'residual') WHERE model_id = :q2 AND space = 'residual';
CALL hart.drop_model('q3');
CALL hart.ingest_model(:'folder', 'q3');
SELECT is((SELECT key FROM hart.neuron_spaces AS s JOIN hart.models AS m USING (model_id) WHERE m.name = 'q3' AND space = 'residual'), hart.neuron_space_key((SELECT s.fingerprint FROM hart.neuron_spaces AS s JOIN hart.models AS m USING (model_id) WHERE m.name = 'q3' LIMIT 1), 'residual', 1), 'a key that another space has is not taken');
SELECT pg_temp.remove_folder(:'folder') IS NULL AS removed \gset
CALL hart.drop_model('q3');
CALL hart.drop_model('q2');
SELECT is((SELECT count(*) FROM hart.neuron_spaces) + (SELECT count(*) FROM hart.tensor_roles) + (SELECT count(*) FROM hart.weight_relations) + (SELECT count(*) FROM hart.computed_atoms), 0::bigint, 'nothing is left of models that are dropped');
ROLLBACK TO s;

-- Who may not read a model sees neither its edges nor its neurons
CREATE ROLE hart_test_stranger;
SET LOCAL ROLE hart_test_stranger;
SELECT is((SELECT count(*) FROM hart.weight_relations) + (SELECT count(*) FROM hart.computed_atoms) + (SELECT count(*) FROM hart.weight_relations WHERE parent_id = :token) + (SELECT count(*) FROM hart.computed_atoms WHERE id = :hidden), 0::bigint, 'a stranger sees no edges and no neurons');
SELECT is((SELECT count(*) FROM hart.computed_atoms WHERE id = hart.atom_id('weight', '\x0000803f')), 1::bigint, 'a number is no secret');
SELECT is((SELECT code FROM pg_temp.error_of('SELECT * FROM hart.relations')), '42501', 'texts are not for everybody');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
