-- Every error has an SQLSTATE that says what kind it is, and a hint that says what to do.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(92);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
SELECT pg_temp.ingest_tiny('m', positions => 40) AS model_id \gset
CREATE TEMP TABLE opened AS SELECT hart.open_context('m') AS ctx;
CREATE FUNCTION pg_temp.ctx() RETURNS hart.context LANGUAGE sql AS $$ SELECT ctx FROM opened $$;
-- a matrix of ones
CREATE FUNCTION pg_temp.ones(rows int, cols int) RETURNS hart.matrix LANGUAGE sql AS $$ SELECT array_fill(1::real, ARRAY[rows, cols])::hart.matrix $$;

SELECT pg_temp.refused('SELECT ' || call, sqlstate) FROM (VALUES
    -- models
    ('hart.resolve_model(''nobody'')', '42704'), ('hart.open_context(''nobody'')', '42704'), ('hart.generate(''x'', 1, ''nobody'')', '42704'), ('hart.logits(''{1}'', ''nobody'')', '42704'),
    ('hart.tokenize(''x'', ''nobody'')', '42704'), ('hart.detokenize(''{1}'', ''nobody'')', '42704'), ('hart.tensor_matrix(''nobody'', ''model.norm.weight'')', '42704'), ('hart.logits(''{1}'', '''')', '42704'),
    ('hart.generate(''x'', 1, '' m'')', '42704'), ('hart.generate(''x'', 1, ''M'')', '42704'),
    -- tokens
    ('hart.logits(NULL, ''m'')', '22004'), ('hart.logits(''{}'', ''m'')', '22023'), ('hart.logits(''{1,NULL}'', ''m'')', '22004'), ('hart.logits(''{-1}'', ''m'')', '22023'), ('hart.logits(''{260}'', ''m'')', '22023'),
    ('hart.logits(''{2147483647}'', ''m'')', '22023'), ('hart.logits(array_fill(1, ARRAY[41]), ''m'')', '54000'), ('hart.logits(array_fill(1, ARRAY[100000]), ''m'')', '54000'),
    ('hart.generate_tokens(NULL, 1, ''m'')', '22004'), ('hart.generate_tokens(''{}'', 1, ''m'')', '22023'), ('hart.generate_tokens(''{1,NULL}'', 1, ''m'')', '22004'), ('hart.generate_tokens(''{1,300}'', 1, ''m'')', '22023'),
    ('hart.generate_tokens(''{1}'', 0, ''m'')', '22023'), ('hart.generate_tokens(''{1}'', -5, ''m'')', '22023'), ('hart.generate_tokens(''{1}'', NULL, ''m'')', '22023'), ('hart.generate_tokens(array_fill(1, ARRAY[41]), 1, ''m'')', '54000'),
    ('hart.generate(NULL, 1, ''m'')', '22004'), ('hart.generate('''', 1, ''m'')', '22023'), ('hart.generate(''x'', 0, ''m'')', '22023'), ('hart.generate(''x'', -1, ''m'')', '22023'), ('hart.generate(''x'', NULL, ''m'')', '22023'),
    ('hart.generate(repeat(''x'', 41), 1, ''m'')', '54000'),
    ('hart.detokenize(''{-1}'', ''m'')', '22023'), ('hart.detokenize(''{260}'', ''m'')', '22023'), ('hart.detokenize(''{1,NULL}'', ''m'')', '22004'), ('hart.detokenize(''{{1,2},{3,4}}'', ''m'')', '22023'),
    ('hart.logits(''{{1,2},{3,4}}'', ''m'')', '22023'), ('hart.generate_tokens(''{{1,2},{3,4}}'', 1, ''m'')', '22023'),
    ('hart.embed_tokens(pg_temp.ctx(), ''{260}'')', '22023'), ('hart.embed_tokens(pg_temp.ctx(), ''{-1}'')', '22023'), ('hart.embed_tokens(pg_temp.ctx(), ''{NULL}'')', '22004'),
    -- parts of the network
    ('hart.linear(pg_temp.ctx(), -1, ''mlp.up_proj'', pg_temp.ones(1, 20))', '22023'), ('hart.linear(pg_temp.ctx(), 2, ''mlp.up_proj'', pg_temp.ones(1, 20))', '22023'),
    ('hart.linear(pg_temp.ctx(), 0, ''mlp.no_proj'', pg_temp.ones(1, 20))', '42704'), ('hart.linear(pg_temp.ctx(), 0, '''', pg_temp.ones(1, 20))', '42704'), ('hart.linear(pg_temp.ctx(), 0, ''mlp.up_proj.weight'', pg_temp.ones(1, 20))', '42704'),
    ('hart.linear(pg_temp.ctx(), 0, ''mlp.up_proj'', pg_temp.ones(1, 19))', '22000'), ('hart.linear(pg_temp.ctx(), 0, ''mlp.up_proj'', pg_temp.ones(5, 21))', '22000'), ('hart.linear(pg_temp.ctx(), 0, ''mlp.up_proj'', ''[]'')', '22000'),
    ('hart.linear(pg_temp.ctx(), ''no_head'', pg_temp.ones(1, 20))', '42704'), ('hart.linear(pg_temp.ctx(), ''lm_head'', pg_temp.ones(1, 7))', '22000'),
    ('hart.linear(pg_temp.ctx(), ''mlp.up_proj'', pg_temp.ones(1, 20))', '42704'),
    ('hart.rms_norm(pg_temp.ctx(), 7, ''input_layernorm'', pg_temp.ones(1, 20))', '22023'), ('hart.rms_norm(pg_temp.ctx(), 0, ''no_norm'', pg_temp.ones(1, 20))', '42704'), ('hart.rms_norm(pg_temp.ctx(), 0, ''input_layernorm'', pg_temp.ones(1, 40))', '22000'),
    ('hart.rms_norm(pg_temp.ctx(), ''model.norm'', pg_temp.ones(1, 21))', '22000'), ('hart.rms_norm(pg_temp.ctx(), ''norm'', pg_temp.ones(1, 20))', '42704'), ('hart.rms_norm(pg_temp.ctx(), 0, ''mlp.up_proj'', pg_temp.ones(1, 20))', '22000'),
    ('hart.head_norm(pg_temp.ctx(), 9, ''self_attn.q_norm'', pg_temp.ones(1, 24))', '22023'),
    ('hart.rope(pg_temp.ctx(), pg_temp.ones(1, 24), -1)', '54000'), ('hart.rope(pg_temp.ctx(), pg_temp.ones(1, 24), 40)', '54000'), ('hart.rope(pg_temp.ctx(), pg_temp.ones(3, 24), 38)', '54000'), ('hart.rope(pg_temp.ctx(), pg_temp.ones(1, 24), 2147483647)', '54000'),
    ('hart.rope(pg_temp.ctx(), pg_temp.ones(1, 25), 0)', '22000'),
    ('hart.attend(pg_temp.ctx(), 5, pg_temp.ones(1, 24), pg_temp.ones(1, 12), pg_temp.ones(1, 12), 0)', '22023'), ('hart.attend(pg_temp.ctx(), 0, pg_temp.ones(1, 12), pg_temp.ones(1, 12), pg_temp.ones(1, 12), 0)', '22000'),
    ('hart.attend(pg_temp.ctx(), 0, pg_temp.ones(1, 24), pg_temp.ones(2, 12), pg_temp.ones(1, 12), 0)', '22000'), ('hart.attend(pg_temp.ctx(), 0, pg_temp.ones(1, 24), pg_temp.ones(1, 12), pg_temp.ones(1, 24), 0)', '22000'),
    ('hart.attend(pg_temp.ctx(), 0, pg_temp.ones(1, 24), pg_temp.ones(1, 12), pg_temp.ones(1, 12), 1)', '22023'), ('hart.attend(pg_temp.ctx(), 0, pg_temp.ones(1, 24), pg_temp.ones(1, 12), pg_temp.ones(1, 12), -1)', '54000'),
    ('hart.swiglu(pg_temp.ones(1, 3), pg_temp.ones(1, 4))', '22000'), ('hart.swiglu(pg_temp.ones(2, 3), pg_temp.ones(3, 2))', '22000'),
    ('hart.forward(pg_temp.ctx(), ''{1,2}'', 39)', '54000'), ('hart.forward(pg_temp.ctx(), ''{1}'', 5)', '22023'),
    -- tensors
    ('hart.tensor_matrix(''m'', ''no.such.weight'')', '42704'),
    ('hart.decompose_tensor(''m'', ''no.such.weight'', 1)', '42704'), ('hart.decompose_tensor(''m'', NULL, 1)', '22004'), ('hart.decompose_tensor(''m'', ''lm_head.weight'', NULL)', '22004'),
    ('hart.decompose_tensor(''m'', ''lm_head.weight'', 0)', '22023'), ('hart.decompose_tensor(''m'', ''lm_head.weight'', 21)', '22023')
) AS bad (call, sqlstate);

-- Models: names, roles and procedures
SELECT pg_temp.refused(call, sqlstate) FROM (VALUES
    ('CALL hart.drop_model(''nobody'')', '42704'), ('CALL hart.drop_model(NULL)', '22004'), ('CALL hart.export_model(''nobody'', ''/tmp'')', '42704'), ('CALL hart.export_model(NULL, ''/tmp'')', '22004'), ('CALL hart.export_model(''m'', NULL)', '22004'),
    ('CALL hart.ingest_model(NULL)', '22004'), ('CALL hart.ingest_model('''')', '22023'), ('CALL hart.ingest_model(''/no/such/folder'')', '58P01'), ('CALL hart.ingest_model(''/dev/null'')', '58030'), ('CALL hart.ingest_model(''/'')', '42602')
) AS bad (call, sqlstate);

-- None of them harmed the context
SELECT is(hart.matrix_row(hart.forward(pg_temp.ctx(), '{1,2,3}', 0), 1), hart.logits('{1,2,3}', 'm'), 'the context goes on');
SELECT is(cardinality(hart.logits(array_fill(1, ARRAY[40]), 'm')), 260, 'a prompt as long as the context is answered');

SELECT * FROM finish();
ROLLBACK;
