-- Constraints and choices as functions of SQL.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(57);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
SELECT pg_temp.ingest_tiny('m', positions => 40) AS model_id \gset
-- a token a byte, that of "A" is 36; token 2 ends a text
CREATE FUNCTION pg_temp.allowed(handle int, tokens int[]) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(CASE WHEN i = 2 THEN '.' ELSE hart.detokenize(ARRAY[i], 'm') END, '' ORDER BY i) || CASE WHEN bool_or(m.finished) THEN ' finished' ELSE '' END
    FROM hart.constraint_mask(handle, tokens) AS m, generate_series(0, 259) AS i WHERE get_bit(m.mask, i) = 1
$$;
CREATE FUNCTION pg_temp.allowed(handle int, tokens text) RETURNS text LANGUAGE sql AS $$ SELECT pg_temp.allowed(handle, hart.tokenize(tokens, 'm')) $$;

-- Masks
SELECT hart.open_constraint('m', regex => '(AB|AC+)!?') AS h \gset
SELECT is(pg_temp.allowed(:h, ''), 'A', 'what a text may begin with');
SELECT is(pg_temp.allowed(:h, 'A'), 'BC', 'what may follow');
SELECT is(pg_temp.allowed(:h, 'AB'), '.!', 'it may end, or go on');
SELECT is(pg_temp.allowed(:h, 'ACCC'), '.!C', 'as often as is asked');
SELECT is(pg_temp.allowed(:h, 'AB!'), '. finished', 'and where it must end, nothing but the end');
SELECT is(pg_temp.allowed(:h, hart.tokenize('AB', 'm') || 2), '. finished', 'the end is the end');
SELECT is(pg_temp.allowed(:h, 'A'), 'BC', 'steps back are allowed');
SELECT is((SELECT length(mask) FROM hart.constraint_mask(:h, '{}')), 33, 'a bit for each of 260 tokens');
SELECT hart.open_constraint('m', regex => '[0-9]') AS other \gset
SELECT is(pg_temp.allowed(:other, ''), '0123456789', 'another constraint');
SELECT is(pg_temp.allowed(:h, 'A'), 'BC', 'beside the first');
SELECT is(pg_temp.allowed(hart.open_constraint('m', json_schema => '{"type": "boolean"}'), ''), 'ft', 'a JSON schema');
SELECT is(pg_temp.allowed(hart.open_constraint('m', grammar => E'start: "(" start ")" | X\nX: /[xy]/'), '(('), '(xy', 'a Lark grammar');
SELECT is(hart.open_constraint('m'), NULL, 'no constraint is NULL');
SELECT is((SELECT mask FROM hart.constraint_mask(NULL, '{1}')), NULL, 'and has no mask');
SELECT is((SELECT finished FROM hart.constraint_mask(NULL, '{1}')), false, 'nor an end');
SELECT lives_ok(format('SELECT hart.close_constraint(%s)', :other), 'a constraint is closed');
SELECT lives_ok(format('SELECT hart.close_constraint(%s)', :other), 'twice is no error');
SELECT pg_temp.refused(format('SELECT hart.constraint_mask(%s, ''{}'')', :other), '22023', 'a closed constraint has no mask');
SAVEPOINT s;
UPDATE hart.model_registry SET eos_token_ids = '{}' WHERE name = 'm';
SELECT hart.open_constraint('m', regex => 'A') AS endless \gset
SELECT is((SELECT bit_count(mask) || ' ' || finished FROM hart.constraint_mask(:endless, hart.tokenize('A', 'm'))), '0 true', 'a model without an end of text is told that it is finished');
ROLLBACK TO s;

-- Errors
SELECT pg_temp.refused('SELECT ' || call, sqlstate) FROM (VALUES
    ('hart.open_constraint(''nobody'', ''a'')', '42704'), ('hart.open_constraint(''m'', ''a('')', '2201B'), ('hart.open_constraint(''m'', regex => ''a'', json_schema => ''{}'')', '22023'),
    ('hart.open_constraint(''m'', json_schema => ''{"uniqueItems": true}'')', '0A000'), ('hart.open_constraint(''m'', json_schema => ''3'')', '22023'), ('hart.open_constraint(''m'', grammar => ''start: x'')', '42601'),
    ('hart.open_constraint(''m'', regex => ''[^\s\S]'')', '22023'), ('hart.open_constraint(''m'', regex => repeat(''a'', 20000))', '54000'),
    ('hart.constraint_mask(hart.open_constraint(''m'', ''a''), NULL)', '22004'), ('hart.constraint_mask(hart.open_constraint(''m'', ''a''), ''{5}'')', '22023'), ('hart.constraint_mask(hart.open_constraint(''m'', ''a''), ''{2}'')', '22023'),
    ('hart.constraint_mask(hart.open_constraint(''m'', ''a''), ''{NULL}'')', '22023'), ('hart.constraint_mask(hart.open_constraint(''m'', ''a''), ''{-1}'')', '22023'), ('hart.constraint_mask(hart.open_constraint(''m'', ''a''), ''{999999}'')', '22023'),
    ('hart.choose(''{40}'', ''{}'', ''m'')', '22023'), ('hart.choose(''{40}'', NULL, ''m'')', '22004'), ('hart.choose(''{}'', ''{a}'', ''m'')', '22023'), ('hart.choose(NULL, ''{a}'', ''m'')', '22004'),
    ('hart.choose(''{40,NULL}'', ''{a}'', ''m'')', '22004'), ('hart.choose(''{40}'', ARRAY[repeat(''a'', 41)], ''m'')', '54000')) AS v (call, sqlstate);

-- Choices
SELECT is(hart.choose(hart.tokenize('Hello', 'm'), '{yes,no,maybe}', 'm'), (SELECT choice FROM hart.choice_scores('Hello', '{yes,no,maybe}', 'm') LIMIT 1), 'the likeliest choice is the first of the scores');
SELECT is((SELECT round(sum(probability)::numeric, 9) FROM hart.choice_scores('Hello', '{yes,no,maybe,yesterday}', 'm')), 1.0, 'probabilities are those of the choices alone');
SELECT is((SELECT count(*) FROM hart.choice_scores('Hello', '{a,b,a}', 'm')), 2::bigint, 'what is there twice is one choice');
SELECT is((SELECT array_agg(hart.choose(hart.tokenize(prompt, 'm'), '{yes,no}', 'm') ORDER BY prompt) FROM unnest(ARRAY['x', 'y']) AS prompt),
          ARRAY[hart.choose(hart.tokenize('x', 'm'), '{yes,no}', 'm'), hart.choose(hart.tokenize('y', 'm'), '{yes,no}', 'm')], 'one for each row');

-- in every generating call, with the tokens of the choice, the log-probability that choice_scores tells, and what it was asked for at once
CREATE TEMP TABLE chosen AS SELECT prompt_no, choice, hart.tokenize(choice, 'm', false) AS tokens, logprob
FROM unnest('{Hello,x}'::text[]) WITH ORDINALITY AS p (prompt, prompt_no), LATERAL (SELECT choice, logprob FROM hart.choice_scores(prompt, '{yes,no,maybe}', 'm') LIMIT 1) AS best;
SELECT results_eq('SELECT prompt_no::bigint, sequence, text, tokens, round(logprob::numeric, 4), finish_reason FROM hart.generate_many(''{Hello,x}'', 1, ''m'', choices => ''{yes,no,maybe}'', n => 2)',
                  'SELECT prompt_no, sequence, choice, tokens, round(logprob::numeric, 4), ''stop'' FROM chosen, generate_series(1, 2) AS sequence ORDER BY prompt_no, sequence', 'the choice for each prompt of many');
SELECT is(hart.generate_tokens(hart.tokenize('Hello', 'm'), 1, 'm', choices => '{yes,no,maybe}'), tokens, 'the tokens of the choice') FROM chosen WHERE prompt_no = 1;
SELECT is(ARRAY(SELECT ROW(step, token_id, piece)::text FROM hart.generate_stream('Hello', 1, 'm', choices => '{yes,no,maybe}')),
          ARRAY(SELECT ROW(step, token, CASE WHEN step = cardinality(tokens) THEN choice ELSE '' END)::text FROM chosen, unnest(tokens) WITH ORDINALITY AS t (token, step) WHERE prompt_no = 1 ORDER BY step),
          'a row for each token, with the text in the last');
SELECT is((SELECT round(sum(s.logprob)::numeric, 4) FROM hart.generate_stream('Hello', 1, 'm', choices => '{yes,no,maybe}') AS s), round(logprob::numeric, 4), 'and their log-probabilities') FROM chosen WHERE prompt_no = 1;
SELECT results_eq('SELECT text, cardinality(tokens) FROM hart.generate_many(''{Hello}'', 1, ''m'', choices => ARRAY[repeat(''a'', 30)])', 'VALUES (repeat(''a'', 30), 30)', 'however long it is');

-- A bound: the answer is a choice, and that of a search without one where the bound suffices
CREATE TEMP TABLE codes AS SELECT array_agg(a || b || c ORDER BY a, b, c) AS choices FROM unnest('{k,l,m,n,o}'::text[]) AS a, unnest('{p,q,r,s}'::text[]) AS b, unnest('{tu,v,w,xyz}'::text[]) AS c;
CREATE FUNCTION pg_temp.chosen(bound int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('hart.choice_tokens', bound::text, true);
    RETURN (SELECT hart.choose(hart.tokenize('Hello', 'm'), choices, 'm') FROM codes);
END $$;
SELECT is(pg_temp.chosen(bound), (SELECT choice FROM codes, hart.choice_scores('Hello', choices, 'm') LIMIT 1), format('hart.choice_tokens = %s finds the likeliest', bound)) FROM unnest('{0,-1,100000}'::int[]) AS bound;
SELECT ok(pg_temp.chosen(bound) = ANY (choices), format('hart.choice_tokens = %s finds a choice', bound)) FROM codes, unnest('{1,10}'::int[]) AS bound;
SET LOCAL hart.choice_tokens = 1;
SELECT is((SELECT count(*) FROM codes, hart.choice_scores('Hello', choices, 'm')), 80::bigint, 'scores are of all, whatever the bound');

-- Many texts at once
SELECT is((SELECT (tokens, lengths)::text FROM hart.tokenize_plain(texts, 'm')), wanted, description)
FROM (VALUES ('{AB,NULL,C}'::text[], '({},"{NULL,NULL,NULL}")', 'a tokenizer of the library makes no tokens of many texts'), ('{}', '({},{})', 'nor of none'), (NULL, '(,)', 'nor of a null')) AS v (texts, wanted, description);

SELECT * FROM finish();
ROLLBACK;
