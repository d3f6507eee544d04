-- Tokens near a token or a vector: by a pass over all embeddings, by the index of a chart; and why one is near another.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(63);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
SELECT pg_temp.ingest_tiny('m', dtype => 'BF16') AS m \gset

-- Cosines in plain SQL
CREATE TEMP TABLE cosine AS
SELECT x.row - 1 AS a, y.row - 1 AS b, sum(x.value * y.value) / sqrt(sum(x.value ^ 2) * sum(y.value ^ 2)) AS c
FROM weight x JOIN weight y USING (model, tensor, col) WHERE tensor = 'model.embed_tokens.weight' AND x.row IN (8, 40, 260) GROUP BY 1, 2;
CREATE TEMP VIEW exact_rank AS SELECT a, b, c, row_number() OVER (PARTITION BY a ORDER BY round(c::numeric, 6) DESC, b) AS r FROM cosine;

SELECT is(hart.embedding_row(:m, 7), (SELECT array_agg(value::real ORDER BY col) FROM weight WHERE tensor = 'model.embed_tokens.weight' AND row = 8), 'a row is what the checkpoint has');
SELECT is(hart.embedding_row(:m, 259), (SELECT array_agg(value::real ORDER BY col) FROM weight WHERE tensor = 'model.embed_tokens.weight' AND row = 260), 'the last one too');
SELECT is_empty(format('SELECT n.token_id, cosine, c FROM hart.nearest_rows(%s, hart.embedding_row(%s, 7), 260) AS n JOIN cosine ON a = 7 AND b = n.token_id WHERE abs(cosine - c) > 1e-6', :m, :m), 'cosines are those of plain SQL');
SELECT is((SELECT count(*) FROM hart.nearest_rows(:m, hart.embedding_row(:m, 7), 1000)), 260::bigint, 'there are no more than there are rows');
SELECT ok((SELECT bool_and(cosine <= before) FROM (SELECT cosine, lag(cosine, 1, 2::real) OVER (ORDER BY o) AS before FROM hart.nearest_rows(:m, hart.embedding_row(:m, 7), 260) WITH ORDINALITY AS n (id, cosine, o)) AS s), 'nearest first');
SELECT is((SELECT array_agg(token_id) FROM hart.nearest_rows(:m, hart.embedding_row(:m, 7), 3)), (SELECT array_agg(b::int ORDER BY r) FROM exact_rank WHERE a = 7 AND r <= 3), 'the nearest are those of plain SQL');
SELECT is_empty(format('SELECT u.id FROM unnest(ARRAY[0, 100, 259, 7], hart.row_cosines(%s, hart.embedding_row(%s, 7), ARRAY[0, 100, 259, 7])) AS u (id, c1) JOIN cosine ON a = 7 AND b = u.id WHERE abs(c1 - c) > 1e-6', :m, :m), 'so are those of single rows');
SELECT is(hart.row_cosines(:m, hart.embedding_row(:m, 7), '{}'), '{}', 'of no rows there are none');
SELECT is((SELECT ids FROM hart.nearest_among(:m, hart.embedding_row(:m, 7), ARRAY(SELECT generate_series(0, 259)), 3)), (SELECT array_agg(b::int ORDER BY r) FROM exact_rank WHERE a = 7 AND r <= 3), 'the nearest of some are those of plain SQL');
SELECT is((SELECT format('%s %s', ids, cardinality(cosines)) FROM hart.nearest_among(:m, hart.embedding_row(:m, 7), '{9,7}', 5)), '{7,9} 2', 'of two there are two');
SELECT is((SELECT format('%s %s', ids, cosines) FROM hart.nearest_among(:m, hart.embedding_row(:m, 7), '{}', 5)), '{} {}', 'of none there are none');
SELECT is(hart.neighbor_rank(:m, 7, b::int), (r - 1)::int, format('rank %s', r - 1)) FROM exact_rank WHERE a = 7 AND r IN (2, 3, 50, 260);
SELECT is(hart.neighbor_rank(:m, 7, 7), NULL, 'a token is no neighbor of its own');

-- The same whatever the kernel, the threads and the share that may be pinned
CREATE TEMP TABLE first AS SELECT array_agg(token_id) AS ids FROM hart.nearest_rows(:m, hart.embedding_row(:m, 39), 20);
SET LOCAL hart.pin_percent = 0;
SELECT is((SELECT array_agg(token_id) FROM hart.nearest_rows(:m, hart.embedding_row(:m, 39), 20)), ids, 'read tile by tile') FROM first;
SET LOCAL hart.pin_percent = 75;
SET LOCAL hart.threads = 7;
SELECT is((SELECT array_agg(token_id) FROM hart.nearest_rows(:m, hart.embedding_row(:m, 39), 20)), ids, 'with seven threads') FROM first;
SET LOCAL hart.kernel = 'portable';
SELECT is((SELECT array_agg(token_id) FROM hart.nearest_rows(:m, hart.embedding_row(:m, 39), 20)), ids, 'with portable kernels') FROM first;

-- The graph
CREATE FUNCTION pg_temp.int_at(data bytea, n int) RETURNS int LANGUAGE sql AS $$ SELECT get_byte(data, 4 * n) + (get_byte(data, 4 * n + 1) << 8) + (get_byte(data, 4 * n + 2) << 16) + (get_byte(data, 4 * n + 3) << 24) $$;
SELECT is((SELECT array_agg(pg_temp.int_at(g, n) ORDER BY n) FROM hart.neighbor_graph(:m, '{7,39}', '{}', 3) AS g, generate_series(0, 5) AS n),
          (SELECT array_agg(b::int ORDER BY a, r) FROM exact_rank WHERE a IN (7, 39) AND r BETWEEN 2 AND 4), 'the graph holds the nearest of each');
SELECT ok((SELECT pg_temp.int_at(g, 0) <> b AND length(g) = 24 FROM hart.neighbor_graph(:m, '{7}', ARRAY[b::int], 3) AS g), 'without those that are to be skipped') FROM exact_rank WHERE a = 7 AND r = 2;
SELECT is((SELECT pg_temp.int_at(g, 0) FROM hart.neighbor_graph(:m, '{7}', ARRAY(SELECT generate_series(0, 259)), 1) AS g), -1, 'of none there are none');

-- hart.neighbors
SELECT is((SELECT array_agg(token_id ORDER BY o) FROM hart.neighbors('E', 3) WITH ORDINALITY AS n (token, token_id, atom_id, distance, cosine, method, o)),
          (SELECT array_agg(token_id ORDER BY o) FROM (SELECT n.token_id, o FROM hart.nearest_rows(:m, hart.embedding_row(:m, hart.find_token(:m, 'E')), 260) WITH ORDINALITY AS n (token_id, cosine, o)
           WHERE n.token_id < 98 AND n.token_id <> hart.find_token(:m, 'E') ORDER BY o LIMIT 3) AS e), 'the nearest tokens, without rows that are none');
SELECT is((SELECT array_agg(DISTINCT method) FROM hart.neighbors('E', 3)), '{exact}', 'with the linear chart alone they are found by a pass over all');
SELECT is((SELECT array_agg(DISTINCT method) FROM hart.neighbors('E', 3, 'm', false)), '{linear chart: 97 candidates}', 'or in that chart, when asked for');
SELECT is((SELECT count(*) FROM hart.neighbors('E', 1000)), 97::bigint, 'all there are but the token itself');
SELECT is_empty(format('SELECT n.token_id FROM hart.neighbors(''E'', 10) AS n JOIN hart.tokens t ON t.model_id = %s AND t.token_id = n.token_id WHERE t.atom_id <> n.atom_id OR hart.find_token(%s, n.token) <> n.token_id', :m, :m), 'texts and atoms are those of the tokens');
SELECT is_empty(format('SELECT n.token_id FROM hart.neighbors(''E'', 10) AS n WHERE abs(distance - hart.distance_4d(hart.position_of(%s, 0, n.token_id), hart.position_of(%s, 0, hart.find_token(%s, ''E'')))) > 1e-12', :m, :m, :m), 'distances are those of the linear chart');
SELECT pg_temp.refused(call, code) FROM (VALUES
    ('SELECT * FROM hart.neighbors(NULL)', '22004'), ('SELECT * FROM hart.neighbors('''')', '22023'), ('SELECT * FROM hart.neighbors(''Ef'')', '42704'), ('SELECT * FROM hart.neighbors(''E'', 0)', '22023'),
    ('SELECT * FROM hart.neighbors(''E'', NULL)', '22023'), ('SELECT * FROM hart.neighbors(''E'', -3)', '22023'), ('SELECT * FROM hart.neighbors(''E'', 3, ''nobody'')', '42704'),
    ('SELECT * FROM hart.nearest(NULL)', '22004'), ('SELECT * FROM hart.nearest(''{1,2}'')', '22000'), ('SELECT * FROM hart.nearest(''{1,2}'', 0)', '22023'),
    ('SELECT * FROM hart.nearest(array_fill(0::real, ''{20}''))', '22000'), ('SELECT * FROM hart.nearest(array_fill(''NaN''::real, ''{20}''))', '22000'), ('SELECT * FROM hart.nearest(array_fill(NULL::real, ''{20}''))', '22004')) AS v (call, code);
SELECT matches(hint, '''E'', ''f''', 'the hint shows how the tokenizer splits what is no token') FROM pg_temp.error_of('SELECT * FROM hart.neighbors(''Ef'')');

-- A neighbourhood chart, here the linear one once more
SELECT hart.begin_chart(:m, 1) AS leaf \gset
INSERT INTO :leaf SELECT model_id, 1, token_id, atom_id, position FROM hart.token_positions WHERE model_id = :m AND chart = 0;
SELECT hart.finish_chart(:m, 1, 1, NULL, NULL, '{}', 1) IS NULL AS finished \gset
SELECT is((SELECT array_agg(DISTINCT method) FROM hart.neighbors('E', 2)), '{charts 1: 80 candidates}', 'a neighbourhood chart is used when there is one');
SELECT is((SELECT array_agg(token_id) FROM hart.neighbors('E', 2, exact => true)), (SELECT array_agg(token_id) FROM hart.neighbors('E', 2, exact => NULL)), 'and finds them here, among most tokens');
SELECT is((SELECT array_agg(DISTINCT method) FROM hart.neighbors('E', 2, exact => true)), '{exact}', 'exact goes before');
CREATE FUNCTION pg_temp.plan(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
    plan text := '';
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || statement LOOP plan := plan || line || E'\n'; END LOOP;
    RETURN plan;
END $$;
SET LOCAL enable_seqscan = off;
SELECT matches(pg_temp.plan(format('SELECT id FROM hart.near_positions(%s, 1, hart.position_of(%s, 1, 7), 5) AS p (id)', :m, :m)), format('Index Scan using token_positions_%s_1_position_idx[^\n]*\n\s+Order By: \("?position"? <<->> ', :m), 'the n-dimensional index gives the nearest positions');
RESET enable_seqscan;
SELECT is((SELECT array_agg(id) FROM hart.near_positions(:m, 1, hart.position_of(:m, 1, 7), 20) AS p (id)),
          (SELECT array_agg(token_id ORDER BY d, token_id) FROM (SELECT token_id, hart.distance_4d(position, hart.position_of(:m, 1, 7)) AS d FROM hart.token_positions WHERE model_id = :m AND chart = 1 ORDER BY d LIMIT 20) AS e), 'in all four dimensions');
-- The index orders whatever it is asked for as PostGIS does, by distances of its own where positions are exact in float32, as those of neighbourhood charts are
SELECT hart.begin_chart(:m, 2) AS leaf \gset
INSERT INTO :leaf SELECT model_id, 2, token_id, atom_id, ST_MakePoint(ST_X(position)::real, ST_Y(position)::real, ST_Z(position)::real, ST_M(position)::real) FROM hart.token_positions WHERE model_id = :m AND chart = 0;
SELECT hart.finish_chart(:m, 2, 1, NULL, NULL, '{}', 1) IS NULL AS finished \gset
CREATE FUNCTION pg_temp.distances(chart int, center text, by_index boolean) RETURNS numeric[] LANGUAGE plpgsql AS $$
DECLARE
    result numeric[];
BEGIN
    PERFORM set_config('enable_seqscan', (NOT by_index)::text, true), set_config('enable_indexscan', by_index::text, true);
    EXECUTE format('SELECT array_agg(round(d::numeric, 12)) FROM (SELECT position <<->> %2$L::geometry AS d FROM hart.token_positions WHERE model_id = %3$s AND chart = %1$s ORDER BY position <<->> %2$L::geometry LIMIT 60) AS p',
                   chart, center, hart.resolve_model('m')) INTO result;
    RETURN result;
END $$;
SELECT is(pg_temp.distances(chart, center, true), pg_temp.distances(chart, center, false), format('chart %s in the order of the distance from %s', chart, center))
FROM unnest(ARRAY[1, 2]) AS chart, unnest(ARRAY[ST_AsEWKT(hart.position_of(:m, 2, 7)), 'POINT ZM (0.25 -0.5 0.125 1)', 'POINT (0.1 0.1)', 'LINESTRING ZM (0 0 0 0, 0.5 0.1 0.1 0.1)']) AS center;
RESET enable_seqscan;
RESET enable_indexscan;
SELECT pg_temp.refused(format('UPDATE hart.token_positions SET position = ST_MakePoint(0, 0, 0, 0) WHERE chart = 1 AND model_id = %s', :m), '0A000', 'nothing moves in a neighbourhood chart');
DELETE FROM hart.charts WHERE model_id = :m AND chart = 2;
SELECT hart.drop_neighbourhood_charts(:m) IS NULL AS dropped \gset
SELECT is((SELECT array_agg(chart) FROM hart.charts WHERE model_id = :m), '{0}', 'neighbourhood charts can be dropped');
SELECT is((SELECT count(*) FROM pg_inherits WHERE inhparent = format('hart.token_positions_%s', :m)::regclass), 1::bigint, 'and leave no table, not that of a chart whose row was deleted either');

-- hart.why_near
SELECT is((SELECT count(DISTINCT aspect) FROM hart.why_near('E', 'F') WHERE aspect IN ('cosine', 'rank', 'distance')), 3::bigint, 'it tells cosine, ranks and distance');
SELECT is((SELECT value::int FROM hart.why_near('E', 'F') WHERE detail LIKE 'of ''F'' among%'), hart.neighbor_rank(:m, hart.find_token(:m, 'E'), hart.find_token(:m, 'F')), 'the rank is the exact one');
SELECT is_empty('SELECT FROM hart.why_near(''E'', ''E'') WHERE aspect = ''rank'' OR value IS NULL', 'a token has no rank among its own neighbours');
SELECT is((SELECT array_agg(s) FROM hart.common_substrings('unbelievable', 'believers') AS s), '{believ}', 'the longest substring in common');
SELECT is((SELECT array_agg(s) FROM hart.common_substrings('abXcd', 'cdYab') AS s), '{ab,cd}', 'each that is in no longer one');

SELECT * FROM finish();
ROLLBACK;
