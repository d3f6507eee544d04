-- From a prompt to its continuation.
BEGIN;
\ir include/tiny_model.sql
SELECT plan(39);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
SELECT pg_temp.ingest_tiny('m', positions => 30) AS model_id \gset
CREATE TEMP TABLE greedy AS SELECT hart.generate_tokens('{40,41,42}', 20, 'm') AS tokens;

-- Greedy: each token is the likeliest after those before it
SELECT is(cardinality(tokens), 20, 'as many tokens as were asked for') FROM greedy;
SELECT is_empty('SELECT n, tokens[n] FROM greedy, generate_series(1, 20) AS n WHERE hart.argmax(hart.logits(ARRAY[40,41,42] || tokens[:n - 1], ''m'')::hart.matrix) <> tokens[n]', 'each token is the likeliest');
SELECT is_empty('SELECT n FROM greedy, generate_series(1, 20) AS n WHERE hart.generate_tokens(''{40,41,42}'', n, ''m'') <> tokens[:n]', 'fewer tokens are a prefix');
SELECT is(hart.generate_tokens(ARRAY[40,41,42] || tokens[:7], 13, 'm'), tokens[8:], 'a continuation is continued') FROM greedy;
SELECT is(hart.generate_tokens('{40,41,42}', 20, 'm'), tokens, 'asked again, the answer is the same') FROM greedy;
SELECT is(hart.logits('{3,4}', 'm') IS DISTINCT FROM hart.logits('{4,3}', 'm'), true, 'the order of tokens matters');
SELECT is(cardinality(hart.logits('{3}', 'm')), 260, 'one logit for each token of the vocabulary');

-- Where it ends
SELECT is(cardinality(hart.generate_tokens('{40,41,42}', 1000, 'm')), 28, 'the context is full when the last token has no position');
SELECT is(cardinality(hart.generate_tokens(array_fill(7, ARRAY[30]), 1000, 'm')), 1, 'a prompt that fills the context is continued by a token');
SELECT is(cardinality(hart.generate_tokens(array_fill(7, ARRAY[29]), 1000, 'm')), 2, 'one that leaves a position by two');
SAVEPOINT s;
UPDATE hart.model_registry SET eos_token_ids = ARRAY[tokens[4], 777] FROM greedy WHERE name = 'm';
SELECT is(hart.generate_tokens('{40,41,42}', 20, 'm'), tokens[:array_position(tokens, tokens[4])], 'an end-of-text token ends it') FROM greedy;
UPDATE hart.model_registry SET eos_token_ids = '{}' WHERE name = 'm';
SELECT is(hart.generate_tokens('{40,41,42}', 20, 'm'), tokens, 'without one it goes on') FROM greedy;
ROLLBACK TO s;

-- Text
SELECT is(hart.tokenize('Hello', 'm'), '{43,72,79,79,82}', 'one token a character, in this tokenizer');
SELECT is(hart.detokenize('{43,72,79,79,82}', 'm'), 'Hello', 'and back');
SELECT is(hart.detokenize('{1,43,72,2}', 'm'), 'He', 'special tokens are left out');
SELECT is(hart.tokenize('', 'm'), '{}', 'no text has no tokens');
SELECT is(hart.detokenize('{}', 'm'), '', 'no tokens have no text');
SELECT ok(hart.tokenize(NULL, 'm') IS NULL AND hart.detokenize(NULL, 'm') IS NULL, 'NULL gives NULL');
SELECT is(hart.generate('Hello', 9, 'm'), hart.detokenize(hart.generate_tokens(hart.tokenize('Hello', 'm'), 9, 'm'), 'm'), 'text is generated as its tokens are');
SELECT is(hart.generate(prompt => 'Hello', model => 'm', max_tokens => 5), hart.generate('Hello', 5, 'm'), 'options have names');
SELECT is(cardinality(hart.generate_tokens('{40,41,42}', model => 'm')), 28, 'the default is more tokens than this context holds');
SELECT is((SELECT pronargdefaults FROM pg_proc WHERE proname = 'generate' AND pronamespace = 'hart'::regnamespace), 19::smallint, 'only the prompt has no default');

-- In queries
SELECT is((SELECT array_agg(hart.generate_tokens(prompt::int[], 3, 'm') ORDER BY prompt) FROM unnest(ARRAY['{40,41}', '{50,51}', '{60,61}']) AS prompt),
          ARRAY[hart.generate_tokens('{40,41}', 3, 'm'), hart.generate_tokens('{50,51}', 3, 'm'), hart.generate_tokens('{60,61}', 3, 'm')], 'a prompt for each row');
CREATE FUNCTION pg_temp.read_only() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL transaction_read_only = on;
    RETURN hart.generate('Hello', 9, 'm') || hart.tokenize('x', 'm')::text || cardinality(hart.logits('{1}', 'm')) || round((hart.decompose_tensor('m', 'lm_head.weight', 20)).relative_error::numeric, 3);
END $$;
SAVEPOINT s;
SELECT pg_temp.read_only() AS answer \gset
ROLLBACK TO s;
SELECT is(:'answer', hart.generate('Hello', 9, 'm') || '{91}2600.000', 'everything that asks works in a transaction that only reads');

-- Where an array's subscripts begin does not matter
SELECT is(hart.generate_tokens('[5:7]={40,41,42}', 5, 'm'), tokens[:5], 'prompts are counted from their beginning') FROM greedy;
SELECT is(hart.generate_tokens('[0:2]={40,41,42}', 5, 'm', choices => NULL), tokens[:5], 'from 0 too') FROM greedy;
SELECT is(hart.logits('[0:2]={40,41,42}', 'm'), hart.logits('{40,41,42}', 'm'), 'so are the tokens of hart.logits');
SELECT results_eq('SELECT * FROM hart.score_tokens(''[-1:2]={40,41,42,43}'', ''m'')', 'SELECT * FROM hart.score_tokens(''{40,41,42,43}'', ''m'')', 'those of hart.score_tokens');
SELECT results_eq('SELECT tokens FROM hart.beam_search_tokens(''[0:2]={40,41,42}'', 4, 2, model => ''m'')', 'SELECT tokens FROM hart.beam_search_tokens(''{40,41,42}'', 4, 2, model => ''m'')', 'and of a beam search');
SELECT results_eq('SELECT prompt_no, text FROM hart.generate_many(''[0:1]={a,b}'', 4, ''m'')', 'SELECT prompt_no, text FROM hart.generate_many(''{a,b}'', 4, ''m'')', 'prompts of hart.generate_many');
SELECT is(hart.generate('Hello', 9, 'm', choices => '[0:1]={no,yes}'), hart.generate('Hello', 9, 'm', choices => '{no,yes}'), 'choices as well');

-- Special tokens as stops
SELECT results_eq('SELECT text, finish_reason, cardinality(tokens) FROM hart.generate_many(''{Hello}'', 9, ''m'', logit_bias => ''{"1": 100}'', stop => ''{no such token,<s>}'')',
                  'VALUES ('''', ''stop'', 1)', 'a stop string that is the name of a special token stands for the token');
SELECT is((SELECT finish_reason FROM hart.generate_many('{Hello}', 9, 'm', logit_bias => '{"1": 100}', stop => '{<t>}')), 'length', 'other strings do not');
SELECT is(hart.special_tokens('{A,</s>,<s>,<x>}', 'm'), '{1,2}', 'names of special tokens only');
SAVEPOINT s;
UPDATE hart.model_registry SET eos_token_ids = '{}' WHERE name = 'm';
SELECT results_eq('SELECT text, finish_reason, tokens FROM hart.generate_many(''{Hello}'', 9, ''m'', logit_bias => ''{"1": 100}'', regex => ''A*'', stop_tokens => ''{1}'')',
                  'VALUES ('''', ''stop'', ''{1}''::int[])', 'a special token that stops may come where a constraint lets the text end');
SELECT results_eq('SELECT text, finish_reason, tokens FROM hart.generate_many(''{Hello}'', 9, ''m'', logit_bias => ''{"1": 100}'', regex => ''AB*'', stop_tokens => ''{1}'')',
                  'VALUES (''A'', ''stop'', ''{36,1}''::int[])', 'and not before');
ROLLBACK TO s;

-- Tensors
SELECT is((SELECT sum(abs(x)) > 0 FROM unnest(hart.tensor_matrix('m', 'model.norm.weight')::real[]) AS x), true, 'a tensor as a matrix');
SELECT is_empty('SELECT rank FROM unnest(ARRAY[1, 5, 19, 20]) AS rank, LATERAL hart.decompose_tensor(''m'', ''model.layers.0.mlp.up_proj.weight'', rank) AS d,
                 LATERAL (SELECT hart.tensor_matrix(''m'', ''model.layers.0.mlp.up_proj.weight'') AS w, hart.matmul(hart.matmul(u, diagonal::real[]::hart.matrix), hart.transpose(v)) AS product
                          FROM (SELECT array_agg(line ORDER BY i) AS diagonal FROM (SELECT i, array_agg(CASE WHEN i = j THEN (s::real[])[1][i] ELSE 0 END ORDER BY j) AS line
                                FROM generate_series(1, rank) AS i, generate_series(1, rank) AS j GROUP BY i) AS lines) AS made) AS whole
                 WHERE abs(hart.l2_distance(w, product) / hart.norm(w) - relative_error) > 1e-5', 'the parts multiply to the tensor, but for the error that is told');
SELECT is((SELECT array_agg(e ORDER BY rank) = array_agg(e ORDER BY e DESC) FROM (SELECT rank, (hart.decompose_tensor('m', 'lm_head.weight', rank)).relative_error AS e FROM generate_series(1, 20, 3) AS rank) AS errors), true, 'a higher rank has a smaller error');

SELECT * FROM finish();
ROLLBACK;
