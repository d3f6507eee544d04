-- Options of generating calls: what is refused, and what each does to a generation.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(91);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
SELECT pg_temp.ingest_tiny('m', positions => 120) AS model_id \gset

-- Ranges. The limits themselves are allowed.
CREATE TEMP TABLE wrong (option text, given text);
INSERT INTO wrong SELECT option, unnest(given) FROM (VALUES
    ('max_tokens', ARRAY['0', '-1', 'NULL']), ('temperature', ARRAY['-0.001', '''NaN''', '''Infinity''', 'NULL']), ('top_k', ARRAY['-1', 'NULL']),
    ('top_p', ARRAY['0', '-1', '1.0001', '''NaN''', 'NULL']), ('min_p', ARRAY['-0.1', '1.1', '''NaN''', 'NULL']), ('typical_p', ARRAY['0', '1.1', '''NaN''', 'NULL']),
    ('repetition_penalty', ARRAY['0', '-1', '''Infinity''', '''NaN''', 'NULL']), ('presence_penalty', ARRAY['-2.1', '2.1', '''NaN''', 'NULL']), ('frequency_penalty', ARRAY['-2.1', '2.1', '''NaN''', 'NULL']),
    ('min_tokens', ARRAY['-1', '65', 'NULL']), ('stop', ARRAY['ARRAY[NULL]', 'ARRAY[''a'', '''']', 'ARRAY[[''a''], [''b'']]']), ('stop_tokens', ARRAY['ARRAY[NULL::int]', 'ARRAY[-1]', 'ARRAY[[1], [2]]']),
    ('choices', ARRAY['ARRAY[]::text[]', 'ARRAY[''a'', NULL]', 'ARRAY[''a'', '''']', 'ARRAY[[''a'']]']),
    ('logit_bias', ARRAY['''[1]''', '''3''', '''{"a": 1}''', '''{"-1": 1}''', '''{"1": 101}''', '''{"1": -100.5}''', '''{"1": true}''', '''{"1": "2"}''', '''{"1": null}''', '''{"9999999999": 1}''', '''{"١٢": 1}'''])) AS o (option, given);
SELECT pg_temp.refused(format('SELECT hart.generation_options(%s => %s)', option, given), '22023') FROM wrong;
SELECT lives_ok(format('SELECT hart.generation_options(%s => %s)', option, given)) FROM (VALUES
    ('max_tokens', '1'), ('temperature', '0'), ('top_k', '2147483647'), ('top_p', '1e-300'), ('min_p', '1'), ('repetition_penalty', '1e-5'), ('presence_penalty', '-2'), ('min_tokens', '64'),
    ('stop', '''{}'''), ('stop_tokens', '''{}'''), ('logit_bias', '''{"1": -100, "2": 100, "3": false}''')) AS o (option, given);
SELECT pg_temp.refused('SELECT hart.generation_options(regex => ''a'', grammar => ''b'')', '22023', 'one constraint at a time');
SELECT pg_temp.refused('SELECT hart.generation_options(choices => ''{a}'', temperature => 1)', '22023', 'a choice is not sampled');

-- The calls check them before anything else, and take the same ones
SELECT pg_temp.refused(format(call, 'top_p => 2'), '22023') FROM unnest(ARRAY['SELECT hart.generate(''a'', model => ''m'', %s)', 'SELECT hart.generate_tokens(''{40}'', model => ''m'', %s)',
    'SELECT * FROM hart.generate_many(''{a}'', model => ''m'', %s)', 'SELECT * FROM hart.generate_stream(''a'', model => ''m'', %s)']) AS call;
SELECT is((SELECT count(DISTINCT proargnames[2 : 20]) FROM pg_proc WHERE pronamespace = 'hart'::regnamespace AND proname IN ('generate', 'generate_tokens', 'generate_stream', 'generate_many')), 1::bigint, 'one set of options for all');
SELECT is((SELECT count(DISTINCT regexp_replace(regexp_replace(pg_get_function_arguments(oid), '^prompts? text(\[\])?|^tokens integer\[\]', ''), ', n integer DEFAULT 1$', ''))
           FROM pg_proc WHERE pronamespace = 'hart'::regnamespace AND proname IN ('generate', 'generate_tokens', 'generate_stream', 'generate_many')), 1::bigint, 'with the same defaults');
SELECT pg_temp.refused('SELECT hart.generate(''a'', model => ''m'', stop_tokens => ''{260}'')', '22023', 'a stop token outside the vocabulary');
SELECT pg_temp.refused('SELECT hart.generate(''a'', model => ''m'', logit_bias => ''{"260": 1}'')', '22023', 'a bias of a token outside the vocabulary');

-- What they do
CREATE TEMP TABLE plain AS SELECT hart.generate_tokens('{40,41,42}', 20, 'm') AS tokens;
SELECT is(hart.generate_tokens('{40,41,42}', 20, 'm', stop_tokens => ARRAY[tokens[5]]), tokens[:array_position(tokens, tokens[5])], 'a stop token ends it, and is the last') FROM plain;
SELECT is(hart.generate_tokens('{40,41,42}', 20, 'm', stop_tokens => ARRAY[tokens[1]], min_tokens => 3) @> ARRAY[tokens[1]], false, 'not before min_tokens, when it is avoided') FROM plain
WHERE cardinality(hart.generate_tokens('{40,41,42}', 3, 'm', stop_tokens => ARRAY[tokens[1]], min_tokens => 3)) = 3;
SELECT isnt((hart.generate_tokens('{40,41,42}', 20, 'm', logit_bias => jsonb_build_object(tokens[1], false)))[1], tokens[1], 'a token that is forbidden does not come') FROM plain;
SELECT is(hart.generate_tokens('{40,41,42}', 4, 'm', logit_bias => '{"77": 100}'), '{77,77,77,77}', 'one that is favoured does');
SELECT is((SELECT count(DISTINCT t) FROM unnest(hart.generate_tokens('{40,41,42}', 20, 'm', logit_bias => '{"77": 90, "78": 89}', frequency_penalty => 2)) AS t) >= 2, true, 'a penalty makes for variety');
SELECT is(hart.generate_tokens('{40,41,42}', 20, 'm', temperature => 1, top_k => 1), tokens, 'the best one of one is the likeliest') FROM plain;
SELECT is(hart.generate_tokens('{40,41,42}', 20, 'm', temperature => 1, seed => 7), hart.generate_tokens('{40,41,42}', 20, 'm', temperature => 1, seed => 7), 'a seed tells the answer');
SELECT isnt(hart.generate_tokens('{40,41,42}', 20, 'm', temperature => 1, seed => 7), hart.generate_tokens('{40,41,42}', 20, 'm', temperature => 1, seed => 8), 'another seed another answer');
SELECT isnt(hart.generate_tokens('{40,41,42}', 20, 'm', temperature => 1.5), hart.generate_tokens('{40,41,42}', 20, 'm', temperature => 1.5), 'without a seed every answer is new');
CREATE TEMP TABLE by_threads AS SELECT threads, set_config('hart.threads', threads::text, true), hart.generate_tokens('{40,41,42}', 60, 'm', temperature => 1.2, seed => 3) AS tokens FROM unnest(ARRAY[1, 2, 3]) AS threads;
SELECT is((SELECT count(DISTINCT tokens) FROM by_threads), 1::bigint, 'whatever the number of threads');
SELECT is(cardinality(hart.generate_tokens('{40,41,42}', model => 'm', max_tokens => 7)), 7, 'max_tokens by name');

SELECT * FROM finish();
ROLLBACK;
