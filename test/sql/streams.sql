-- hart.generate_stream: a row is made when it is fetched, and what a run holds ends with the need for it.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(38);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
SELECT pg_temp.ingest_tiny('m', positions => 120) AS model_id \gset
UPDATE hart.model_registry SET eos_token_ids = '{}' WHERE name = 'm';

-- How many runs are open in this session
CREATE FUNCTION pg_temp.runs() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'hart context' $$;
-- and pages of the model that are pinned
CREATE EXTENSION pg_buffercache;
CREATE FUNCTION pg_temp.pins() RETURNS bigint LANGUAGE sql AS $$ SELECT sum(pinning_backends) FROM pg_buffercache WHERE relfilenode = pg_relation_filenode(hart.tiles_of(hart.resolve_model('m'))) $$;
-- How many tokens were made: every one is a call of hart.take_token, which the statistics of functions count
SET LOCAL track_functions = 'pl';
CREATE FUNCTION pg_temp.made() RETURNS bigint LANGUAGE sql AS $$ SELECT coalesce(pg_stat_get_xact_function_calls('hart.take_token'::regproc), 0) $$;
CREATE FUNCTION pg_temp.made(statement text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    before bigint := pg_temp.made();
BEGIN
    EXECUTE statement;
    RETURN pg_temp.made() - before;
END $$;
-- The plan of a query, without its costs
CREATE FUNCTION pg_temp.plan_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
    lines text[];
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS off) ' || query LOOP
        lines := lines || line;
    END LOOP;
    RETURN array_to_string(lines, E'\n');
END $$;

-- The same as generate
SELECT is((SELECT string_agg(piece, '' ORDER BY step) FROM hart.generate_stream('Hello', 30, 'm')), hart.generate('Hello', 30, 'm'), 'the pieces are the text');
SELECT is((SELECT array_agg(token_id ORDER BY step) FROM hart.generate_stream('Hello', 30, 'm')), hart.generate_tokens(hart.tokenize('Hello', 'm'), 30, 'm'), 'the tokens the tokens');
SELECT is((SELECT array_agg(step) FROM hart.generate_stream('Hello', 5, 'm')), '{1,2,3,4,5}', 'steps count from 1, in order');
SELECT is((SELECT string_agg(piece, '' ORDER BY step) FROM hart.generate_stream('Hello', 30, 'm', temperature => 1.1, seed => 5, top_k => 50)), hart.generate('Hello', 30, 'm', temperature => 1.1, seed => 5, top_k => 50), 'sampled too');
SELECT is((SELECT round(sum(logprob)::numeric, 6) FROM hart.generate_stream('Hello', 6, 'm')), (SELECT round(logprob::numeric, 6) FROM hart.generate_many('{Hello}', 6, 'm')), 'with the log-probabilities of generate_many');
SELECT is((SELECT bool_and(logprob <= 0) FROM hart.generate_stream('Hello', 30, 'm')), true, 'which are not positive');
SELECT is(pg_temp.runs(), 0::bigint, 'nothing is left open');

-- The wrapper dissolves, so that rows flow
SELECT matches(pg_temp.plan_of('SELECT * FROM hart.generate_stream(''Hello'')'), 'ProjectSet', 'a stream is a set in a SELECT list');
SELECT doesnt_match(pg_temp.plan_of('SELECT * FROM hart.generate_stream(''Hello'')'), 'Function Scan', 'and no function scan, which would collect all rows first');

-- LIMIT
SELECT is(pg_temp.made('SELECT * FROM hart.generate_stream(''Hello'', 50, ''m'')'), 50::bigint, 'fifty tokens are fifty steps');
SELECT is(pg_temp.made('SELECT * FROM hart.generate_stream(''Hello'', 50, ''m'') LIMIT 3'), 3::bigint, 'LIMIT stops the work');
SELECT is(pg_temp.runs(), 0::bigint, 'and ends the run');
SELECT is(pg_temp.made('SELECT x.* FROM unnest(ARRAY[''a'', ''b'', ''c'']) AS prompt, LATERAL (SELECT * FROM hart.generate_stream(prompt, 50, ''m'') LIMIT 2) AS x'), 6::bigint, 'for each row of a join');
SELECT is(pg_temp.runs(), 0::bigint, 'and nothing is left of any');
SELECT is((SELECT array_agg(text ORDER BY prompt) FROM unnest(ARRAY['ab', 'cd', 'ef']) AS prompt, LATERAL (SELECT string_agg(piece, '' ORDER BY step) AS text FROM hart.generate_stream(prompt, 9, 'm')) AS x),
          ARRAY[hart.generate('ab', 9, 'm'), hart.generate('cd', 9, 'm'), hart.generate('ef', 9, 'm')], 'each prompt has its own continuation');
SELECT is(pg_temp.made('SELECT EXISTS (SELECT FROM hart.generate_stream(''Hello'', 50, ''m''))'), 1::bigint, 'EXISTS needs one');

-- A cursor
CREATE TEMP TABLE seen AS SELECT pg_temp.made() AS made;
DECLARE c CURSOR FOR SELECT * FROM hart.generate_stream('Hello', 50, 'm');
SELECT is(pg_temp.made() - made, 0::bigint, 'a cursor does nothing before it is read') FROM seen;
FETCH 1 FROM c;
SELECT is(pg_temp.made() - made, 1::bigint, 'FETCH 1 makes one token') FROM seen;
FETCH 4 FROM c;
SELECT is(pg_temp.made() - made, 5::bigint, 'FETCH 4 makes four') FROM seen;
SELECT is(pg_temp.runs(), 1::bigint, 'the run waits');
SELECT cmp_ok(pg_temp.pins(), '>', 0::bigint, 'with the model''s pages');
SAVEPOINT s;
FETCH 1 FROM c;
ROLLBACK TO s;
FETCH 1 FROM c \gset next_
SELECT is(:next_step, 7, 'and goes on after a savepoint is rolled back');
SELECT is(:next_token_id, (hart.generate_tokens(hart.tokenize('Hello', 'm'), 7, 'm'))[7], 'with the token that comes next');
CLOSE c;
SELECT is(pg_temp.runs(), 0::bigint, 'CLOSE ends it');
SELECT is(pg_temp.pins(), 0::bigint, 'and lets go of the pages');

-- A run begun after a savepoint ends with it
DECLARE c CURSOR FOR SELECT * FROM hart.generate_stream('Hello', 50, 'm');
SAVEPOINT s;
FETCH 1 FROM c;
ROLLBACK TO s;
SELECT is(pg_temp.runs(), 0::bigint, 'a run that was begun after the savepoint is gone');
SAVEPOINT t;
SELECT pg_temp.refused('FETCH 1 FROM c', '55000', 'and the cursor says so');
ROLLBACK TO t;
CLOSE c;

-- In PL/pgSQL, and ended by an error in the middle
CREATE FUNCTION pg_temp.looped(stop_at int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    r record;
    answer text := '';
BEGIN
    FOR r IN SELECT * FROM hart.generate_stream('Hello', 25, 'm') LOOP
        EXIT WHEN r.step > stop_at;
        answer := answer || r.piece;
    END LOOP;
    RETURN answer;
END $$;
SELECT is(pg_temp.looped(100), hart.generate('Hello', 25, 'm'), 'a loop over all');
SELECT is(pg_temp.looped(4), hart.generate('Hello', 4, 'm'), 'a loop that is left');
SELECT is(pg_temp.runs(), 0::bigint, 'leaves nothing open');

SELECT is((pg_temp.error_of('SELECT 1 / (3 - step) FROM hart.generate_stream(''Hello'', 25, ''m'')')).code, '22012', 'an error in the middle');
SELECT is(pg_temp.runs(), 0::bigint, 'ends the run');
SELECT is((SELECT count(*) FROM hart.generate_stream((SELECT 'Hel' || 'lo'), 5, 'm')), 5::bigint, 'a prompt from a subquery');
PREPARE p(text, int) AS SELECT string_agg(piece, '' ORDER BY step) FROM hart.generate_stream($1, $2, 'm');
CREATE FUNCTION pg_temp.prepared(n int) RETURNS text LANGUAGE plpgsql AS $$ DECLARE t text; BEGIN EXECUTE format('EXECUTE p(''Hello'', %s)', n) INTO t; RETURN t; END $$;
SELECT is((SELECT array_agg(pg_temp.prepared(n) ORDER BY n) FROM generate_series(1, 8) AS n), (SELECT array_agg(hart.generate('Hello', n, 'm') ORDER BY n) FROM generate_series(1, 8) AS n), 'prepared, with a plan for all values too');

-- Errors come with the first row
SELECT pg_temp.refused('SELECT * FROM hart.generate_stream(NULL, 5, ''m'')', '22004', 'no prompt');
SELECT pg_temp.refused('SELECT * FROM hart.generate_stream('''', 5, ''m'')', '22023', 'an empty one');
SELECT pg_temp.refused('SELECT * FROM hart.generate_stream(''a'', 5, ''none'')', '42704', 'no such model');
SELECT is((SELECT string_agg(piece, '' ORDER BY step) FROM hart.generate_stream('a', 1, 'm', choices => '{no,never,yes}')), hart.generate('a', 1, 'm', choices => '{no,never,yes}'), 'a choice streams too');

SELECT * FROM finish();
ROLLBACK;
