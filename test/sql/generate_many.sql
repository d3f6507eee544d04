-- hart.generate_many: many continuations at a time are those made one by one.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(33);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
SELECT pg_temp.ingest_tiny('m', positions => 60) AS model_id \gset
UPDATE hart.model_registry SET eos_token_ids = ARRAY(SELECT generate_series(60, 90)) WHERE name = 'm';
-- lengths from 1 to 60, so that they end at different times; more than are made at a time
CREATE TEMP TABLE asked AS SELECT no::int, repeat(chr(64 + no % 60), 1 + no % 60) || CASE WHEN no % 60 < 59 THEN '?' ELSE '' END AS prompt FROM generate_series(1, 45) AS no;
CREATE TEMP TABLE greedy AS SELECT * FROM hart.generate_many((SELECT array_agg(prompt ORDER BY no) FROM asked), 12, 'm');

SELECT is((SELECT array_agg(prompt_no) FROM greedy), (SELECT array_agg(no ORDER BY no) FROM asked), 'a row for each prompt, in their order');
SELECT is_empty('SELECT no FROM greedy JOIN asked ON no = prompt_no WHERE tokens <> hart.generate_tokens(hart.tokenize(prompt, ''m''), 12, ''m'')', 'tokens are those made one by one');
SELECT is_empty('SELECT no FROM greedy JOIN asked ON no = prompt_no WHERE text <> hart.generate(prompt, 12, ''m'')', 'texts too');
SELECT is_empty('SELECT no FROM greedy JOIN asked ON no = prompt_no, LATERAL (SELECT sum(s.logprob) AS logprob FROM hart.generate_stream(prompt, 12, ''m'') AS s) AS s WHERE abs(greedy.logprob - s.logprob) > 1e-4', 'log-probabilities too');
SELECT is_empty($$SELECT * FROM greedy JOIN asked ON no = prompt_no WHERE finish_reason <> CASE WHEN tokens[cardinality(tokens)] BETWEEN 60 AND 90 THEN 'eos' WHEN cardinality(tokens) = 12 THEN 'length' ELSE 'context' END$$, 'the reason of the end');
SELECT is_empty($$SELECT * FROM greedy JOIN asked ON no = prompt_no WHERE finish_reason = 'context' AND cardinality(hart.tokenize(prompt, 'm')) + cardinality(tokens) <> 61$$, 'the context is full where it says so');
SELECT cmp_ok((SELECT count(DISTINCT finish_reason) FROM greedy), '>=', 2::bigint, 'they end for different reasons');
SELECT cmp_ok((SELECT count(DISTINCT cardinality(tokens)) FROM greedy), '>=', 3::bigint, 'at different times');

-- Several continuations
CREATE TEMP TABLE sampled AS SELECT * FROM hart.generate_many('{Hello,This is longer,x}', 10, 'm', temperature => 1.2, top_k => 80, seed => 11, n => 4);
SELECT is((SELECT array_agg(ROW(prompt_no, sequence)::text) FROM sampled), (SELECT array_agg(ROW(p, s)::text ORDER BY p, s) FROM generate_series(1, 3) AS p, generate_series(1, 4) AS s), 'n rows for each prompt, in order');
SELECT is((SELECT array_agg(text ORDER BY prompt_no) FROM sampled WHERE sequence = 1), (SELECT array_agg(hart.generate(p, 10, 'm', temperature => 1.2, top_k => 80, seed => 11) ORDER BY o) FROM unnest(ARRAY['Hello', 'This is longer', 'x']) WITH ORDINALITY AS u (p, o)),
          'the first of them is what generate gives with the seed');
SELECT cmp_ok((SELECT count(DISTINCT tokens) FROM sampled), '>', 9::bigint, 'the others are others');
SELECT is((SELECT array_agg(t.tokens::text ORDER BY t.prompt_no, t.sequence) FROM hart.generate_many('{Hello,This is longer,x}', 10, 'm', temperature => 1.2, top_k => 80, seed => 11, n => 4) AS t), (SELECT array_agg(tokens::text ORDER BY prompt_no, sequence) FROM sampled), 'asked again, the same');
SELECT is((SELECT array_agg(t.tokens::text ORDER BY t.sequence) FROM hart.generate_many('{x}', 10, 'm', temperature => 1.2, top_k => 80, seed => 11, n => 2) AS t), (SELECT array_agg(tokens::text ORDER BY sequence) FROM sampled WHERE prompt_no = 3 AND sequence <= 2), 'whatever else is asked with it');
SELECT is((SELECT count(DISTINCT tokens) FROM hart.generate_many('{x,x,x}', 10, 'm', temperature => 2)), 3::bigint, 'without a seed the same prompt is answered differently');

-- More continuations than are made at a time: those of a prompt begin as there is room, and end at different times
CREATE TEMP TABLE many AS SELECT * FROM hart.generate_many('{Hello,y,x}', 6, 'm', temperature => 1.5, seed => 5, n => 40);
SELECT is((SELECT array_agg(ROW(prompt_no, sequence)::text) FROM many), (SELECT array_agg(ROW(p, s)::text ORDER BY p, s) FROM generate_series(1, 3) AS p, generate_series(1, 40) AS s), 'more continuations than are made at a time, in order');
SELECT is((SELECT array_agg(t.tokens::text ORDER BY t.sequence) FROM hart.generate_many('{y}', 6, 'm', temperature => 1.5, seed => 5, n => 40) AS t), (SELECT array_agg(tokens::text ORDER BY sequence) FROM many WHERE prompt_no = 2), 'they are those made without the other prompts');
SELECT is((SELECT array_agg(t.tokens::text ORDER BY t.sequence) FROM hart.generate_many('{x}', 6, 'm', temperature => 1.5, seed => 5, n => 7) AS t), (SELECT array_agg(tokens::text ORDER BY sequence) FROM many WHERE prompt_no = 3 AND sequence <= 7), 'and without the other continuations');
SELECT cmp_ok((SELECT count(DISTINCT cardinality(tokens)) FROM many), '>=', 3::bigint, 'they ended at different times');
SELECT is((SELECT array_agg(DISTINCT t.tokens) FROM hart.generate_many('{This is longer}', 5, 'm', n => 70) AS t), (SELECT array_agg(DISTINCT t) FROM hart.generate_tokens(hart.tokenize('This is longer', 'm'), 5, 'm') AS t), 'greedy continuations are all the same');

-- no more are under way at a time than are said to be: the keys and values of 300 at once would not fit
SET LOCAL hart.kv_cache_limit = '2MB';
SELECT is((SELECT count(*) FROM hart.generate_many('{Hello}', 4, 'm', temperature => 1, n => 300)), 300::bigint, 'many continuations in little memory');
RESET hart.kv_cache_limit;

-- The step that takes tokens one by one is the one of all calls
SELECT is((SELECT text FROM hart.generate_many('{Hello}', 20, 'm', logit_bias => '{"40": 4, "41": 4, "42": 4, "43": 4}', temperature => 1, seed => 2, stop => ARRAY[substr(text, 3, 2)])), left(text, strpos(text, substr(text, 3, 2)) - 1), 'stop strings')
FROM (SELECT hart.generate('Hello', 20, 'm', logit_bias => '{"40": 4, "41": 4, "42": 4, "43": 4}', temperature => 1, seed => 2) AS text) AS g;
SELECT is((SELECT count(*) FROM hart.generate_many('{}', 20, 'm')), 0::bigint, 'no prompts, no rows');

-- Prompts that begin alike, that go on alike, that are equal; with remembered beginnings and without
CREATE FUNCTION pg_temp.differs(prompts text[], model text) RETURNS SETOF int LANGUAGE sql AS $$
    SELECT prompt_no FROM hart.generate_many(prompts, 6, model) WHERE tokens <> hart.generate_tokens(hart.tokenize(prompts[prompt_no], model), 6, model) $$;
SET LOCAL hart.prefix_cache = 0;
SELECT is_empty($$SELECT pg_temp.differs('{The beginning of many a text,The beginning of many a test,The beginning of many a text,The beginning of,The,Another}', 'm')$$, 'prompts that begin alike, none remembered');
RESET hart.prefix_cache;
SELECT is_empty($$SELECT pg_temp.differs('{The beginning of many a text,The beginning of many a test,The beginning of many a text,The beginning of,The,Another}', 'm')$$, 'prompts that begin alike, remembered');
-- prompts that are longer than what is run at a time, alone and with others
SELECT pg_temp.ingest_tiny('long', positions => 700) AS long_id \gset
SELECT is_empty($$SELECT pg_temp.differs(ARRAY[repeat('long ', 110), 'short', repeat('longer ', 70), repeat('as long ', 64) || '!', 'last'], 'long')$$, 'long prompts among short ones');

-- Errors name the prompt
SELECT pg_temp.refused('SELECT hart.generate_many(NULL, 5, ''m'')', '22004', 'no array');
SELECT pg_temp.refused('SELECT hart.generate_many(ARRAY[[''a''], [''b'']], 5, ''m'')', '22023', 'an array of two dimensions');
SELECT pg_temp.refused('SELECT hart.generate_many(''{a}'', 5, ''m'', n => 0)', '22023', 'n = 0');
SELECT pg_temp.refused('SELECT hart.generate_many(''{a}'', 5, ''m'', n => NULL)', '22023', 'n = NULL');
SELECT pg_temp.refused('SELECT hart.generate_many(''{a}'', 5, ''m'', n => 1001)', '54000', 'n = 1001');
SELECT is((SELECT count(*) FROM hart.generate_many('{a}', 1, 'm', n => 1000)), 1000::bigint, 'n = 1000');
SELECT is((pg_temp.error_of('SELECT hart.generate_many(ARRAY[''a'', NULL], 5, ''m'')')).message, 'prompt 2 must not be null', 'a prompt that is missing');
SELECT is((pg_temp.error_of('SELECT hart.generate_many(ARRAY[''a'', ''b'', ''''], 5, ''m'')')).message, 'prompt 3 is empty', 'an empty prompt');

SELECT * FROM finish();
ROLLBACK;
