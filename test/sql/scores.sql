-- hart.score_rows and hart.top_continuations against plain SQL.
BEGIN;
\ir include/errors.sql
\ir include/kernels.sql
SELECT plan(33);
SET LOCAL jit = off;

-- By hand: exp(0) and exp(ln 3) make probabilities of 1/4 and 3/4
CREATE FUNCTION pg_temp.scored(m hart.matrix, targets int[]) RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(format('%s %s %s', round(logprob::numeric, 5), rank, round(entropy::numeric, 5)), '; ') FROM hart.score_rows(m, targets) $$;
SELECT is(pg_temp.scored(ARRAY[0, ln(3)]::real[]::hart.matrix, '{0}'), '-1.38629 2 0.56234', 'the less likely of two');
SELECT is(pg_temp.scored(ARRAY[0, ln(3)]::real[]::hart.matrix, '{1}'), '-0.28768 1 0.56234', 'the likelier of two');
SELECT is(pg_temp.scored('[[5,5,5,5],[0,0,0,0]]', '{0,2}'), '-1.38629 1 1.38629; -1.38629 3 1.38629', 'equal ones: the first is the likeliest; entropy is ln 4');
SELECT is(pg_temp.scored('[7]', '{0}'), '0.00000 1 0.00000', 'the only token is certain');
SELECT is(pg_temp.scored('[0,-Infinity,0]', '{2}'), '-0.69315 2 0.69315', 'an impossible token has no part in the entropy');
SELECT is((SELECT logprob FROM hart.score_rows('[0,-Infinity,0]', '{1}')), '-Infinity', 'and is impossible');
SELECT is((SELECT (logprob, entropy)::text FROM hart.score_rows('[0,NaN,0]', '{0}')), '(NaN,NaN)', 'NaN in a row makes all of it NaN');
SELECT is(pg_temp.scored('[1000,0]', '{1}'), '-1000.00000 2 0.00000', 'a probability too small for a float has a logarithm all the same');
SELECT is((SELECT count(*) FROM hart.score_rows('[]', '{}')), 0::bigint, 'no rows');
SELECT is((SELECT count(*) FROM hart.score_rows(NULL, '{1}')) + (SELECT count(*) FROM hart.score_rows('[1]', NULL)), 0::bigint, 'NULL gives no row');

CREATE FUNCTION pg_temp.continued(m hart.matrix, scores float8[], k int) RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(format('%s:%s %s', row_no, token_id, round(score::numeric, 4)), ', ') FROM hart.top_continuations(m, scores, k) $$;
SELECT is(pg_temp.continued(ARRAY[0, ln(3)]::real[]::hart.matrix, '{0}', 5), '1:1 -0.2877, 1:0 -1.3863', 'all there are, best first');
SELECT is(pg_temp.continued('[[0,0],[0,0]]', '{-1,0}', 3), '2:0 -0.6931, 2:1 -0.6931, 1:0 -1.6931', 'scores are added; the first of equal ones comes first');
SELECT is(pg_temp.continued('[[0,0],[NaN,0]]', '{-1,0}', 9), '1:0 -1.6931, 1:1 -1.6931', 'NaN is no candidate');
SELECT is(pg_temp.continued('[0,-Infinity,0]', '{0}', 9), '1:0 -0.6931, 1:2 -0.6931', 'nor is what is impossible');
SELECT is(pg_temp.continued('[NaN,NaN]', '{0}', 9), NULL, 'nothing but NaN');
SELECT is(pg_temp.continued('[]', '{}', 9), NULL, 'nothing');
SELECT is((SELECT count(*) FROM hart.top_continuations(NULL, '{0}', 1)), 0::bigint, 'NULL gives no row of continuations');
SELECT is((SELECT row_no FROM hart.top_continuations('[[1,2],[3,4]]', '{0,0}', 4) LIMIT 1), 1, 'a scan that ends early');

-- Random rows with equal numbers among them, by window functions
CREATE TEMP TABLE logit AS
SELECT n, row_no, token, ((hashint4(n * 7919 + row_no * 1009 + token) % 4001) / 400.0)::real AS x
FROM generate_series(1, 12) AS n, generate_series(1, 1 + n % 5) AS row_no, generate_series(0, 3 + n * n * 5) AS token;
CREATE TEMP TABLE made AS
SELECT n, array_agg(line ORDER BY row_no)::real[]::hart.matrix AS m, array_agg(hashint4(n + row_no) % 3 / 2.0::float8 ORDER BY row_no) AS scores,
       array_agg(abs(hashint4(n * 31 + row_no)) % cardinality(line) ORDER BY row_no) AS targets
FROM (SELECT n, row_no, array_agg(x ORDER BY token) AS line FROM logit GROUP BY n, row_no) AS lines GROUP BY n;
CREATE TEMP TABLE expected AS
SELECT n, row_no, token, x - log_sum AS logprob, sum((log_sum - x) * exp(x - log_sum)) OVER (PARTITION BY n, row_no) AS entropy,
       row_number() OVER (PARTITION BY n, row_no ORDER BY x DESC, token) AS rank
FROM (SELECT *, ln(sum(exp(x::float8)) OVER (PARTITION BY n, row_no)) AS log_sum FROM logit) AS sums;

SELECT is_empty(format($$ SELECT made.n, s.* FROM made, (SELECT set_config('hart.kernel', %L, true)) AS chosen (kernel), hart.score_rows(m, targets) WITH ORDINALITY AS s (logprob, rank, entropy, row_no)
                          LEFT JOIN expected AS e ON e.row_no = s.row_no
                          WHERE e.n = made.n AND e.token = targets[s.row_no] AND (abs(e.logprob - s.logprob) > 2e-6 OR abs(e.entropy - s.entropy) > 2e-6 OR e.rank <> s.rank OR kernel IS NULL) $$, kernel),
                'score_rows is the plain SQL, by ' || kernel)
FROM pg_temp.kernels() AS kernel
UNION ALL SELECT pass('this processor has fewer kernels') FROM generate_series(1, 4 - (SELECT count(*)::int FROM pg_temp.kernels()));
SELECT set_config('hart.kernel', 'auto', true) AS kernel \gset
SELECT is((SELECT count(*) FROM made, hart.score_rows(m, targets)), (SELECT count(*) FROM (SELECT DISTINCT n, row_no FROM logit) AS rows), 'as many scores as rows');

CREATE TEMP TABLE continued AS
SELECT n, k, array_agg(format('%s:%s', row_no, token_id) ORDER BY no) AS found, array_agg(score ORDER BY no) AS scores
FROM made, unnest(ARRAY[1, 2, 7, 30, 5000]) AS k, hart.top_continuations(m, scores, k) WITH ORDINALITY AS c (row_no, token_id, score, no) GROUP BY n, k;
SELECT is_empty($$ SELECT n, k FROM continued JOIN made USING (n),
                   LATERAL (SELECT array_agg(score ORDER BY no) AS scores, array_agg(name ORDER BY no) AS names
                            FROM (SELECT made.scores[row_no] + logprob AS score, format('%s:%s', row_no, token) AS name, row_number() OVER (ORDER BY made.scores[row_no] + logprob DESC, row_no, token) AS no
                                  FROM expected WHERE expected.n = made.n) AS ordered WHERE no <= k) AS e
                   WHERE (SELECT count(*) FROM unnest(found)) <> cardinality(e.scores)
                      OR EXISTS (SELECT FROM unnest(e.scores, continued.scores) AS pair (a, b) WHERE abs(a - b) > 2e-6) $$, 'top_continuations is ORDER BY … LIMIT: scores');
SELECT is_empty('SELECT n FROM continued, unnest(found) AS name GROUP BY n, k, name HAVING count(*) > 1', 'none twice');
SELECT is_empty($$ SELECT made.n, c.* FROM made, hart.top_continuations(m, scores, 40) AS c JOIN expected AS e ON e.row_no = c.row_no AND e.token = c.token_id
                   WHERE e.n = made.n AND abs(scores[c.row_no] + e.logprob - c.score) > 2e-6 $$, 'each with its own score');

-- The number of threads changes nothing
SELECT is(pg_temp.computed(query, 'auto', 1), pg_temp.computed(query, 'auto', 3), 'one thread or three: ' || what)
FROM (VALUES ('scores', '(SELECT array_agg(s) FROM made, hart.score_rows(m, targets) AS s)'), ('continuations', '(SELECT array_agg(c) FROM made, hart.top_continuations(m, scores, 9) AS c)')) AS q (what, query);

SELECT pg_temp.refused('SELECT * FROM ' || call, sqlstate)
FROM (VALUES ('hart.score_rows(''[[1,2]]'', ''{2}'')', '22023'), ('hart.score_rows(''[[1,2]]'', ''{0,1}'')', '22000'), ('hart.top_continuations(''[[1,2]]'', ''{0}'', 0)', '22023')) AS bad (call, sqlstate);

-- What functions promise the planner
SELECT is((SELECT array_agg(format('%s %s%s', proname, provolatile, proparallel) ORDER BY proname) FROM pg_proc WHERE pronamespace = 'hart'::regnamespace AND prokind = 'f'
           AND proname IN ('score', 'score_tokens', 'perplexity', 'embed', 'beam_search', 'beam_search_tokens', 'token_texts', 'chat_end_tokens', 'score_rows', 'top_continuations', 'answer_chat')),
          ARRAY['answer_chat vu', 'beam_search su', 'beam_search_tokens sr', 'chat_end_tokens su', 'embed su', 'perplexity su', 'score su', 'score_rows is', 'score_tokens sr', 'token_texts su', 'top_continuations is'],
          'what only reads a model is stable; what runs the tokenizer is unsafe in parallel');
SELECT is_empty('SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = ''hart''::regnamespace AND proname IN (''score'', ''score_tokens'', ''perplexity'', ''embed'', ''beam_search'', ''beam_search_tokens'', ''chat'', ''answer_chat'') AND procost < 10000', 'the planner knows that they are dear');

SELECT * FROM finish();
ROLLBACK;
