-- hart.argmax and hart.top_k against ORDER BY.
BEGIN;
\ir include/errors.sql
SELECT plan(30);
SET LOCAL jit = off;

-- By hand; columns count from 0, as token ids do
SELECT is(hart.argmax('[3,1,4,1,5,9,2,6]'), 5, 'the largest number');
SELECT is(hart.argmax('[9,1,4]'), 0, 'the first number');
SELECT is(hart.argmax('[1,4,9]'), 2, 'the last number');
SELECT is(hart.argmax('[7]'), 0, 'the only number');
SELECT is(hart.argmax('[1,5,5,5,2]'), 1, 'the first of equal numbers');
SELECT is(hart.argmax('[-5,-3,-4]'), 1, 'negative numbers');
SELECT is(hart.argmax('[-0,0]'), 0, 'minus zero equals zero');
SELECT is(hart.argmax('[NaN,1,NaN,2]'), 3, 'NaN is ignored');
SELECT is(hart.argmax('[NaN,-Infinity]'), 1, 'minus infinity is more than NaN');
SELECT is(hart.argmax('[1e38,Infinity,-Infinity]'), 1, 'infinity is the largest');
SELECT is(hart.argmax(NULL), NULL, 'NULL gives NULL');
SELECT pg_temp.refused('SELECT hart.argmax(''[NaN,NaN]'')', '22000', 'nothing but NaN');
SELECT pg_temp.refused('SELECT hart.argmax(''[]'')', '22000', 'nothing');
SELECT pg_temp.refused('SELECT hart.argmax(''[[1,2],[3,4]]'')', '22000', 'two rows');

CREATE FUNCTION pg_temp.top(m hart.matrix, k int) RETURNS text LANGUAGE sql AS
$$ SELECT coalesce(string_agg(index || ':' || value, ' ' ORDER BY ordinality), '') FROM hart.top_k(m, k) WITH ORDINALITY $$;
SELECT is(pg_temp.top('[3,1,4,1,5,9,2,6]', 3), '5:9 7:6 4:5', 'the three largest, largest first');
SELECT is(pg_temp.top('[3,1,4]', 1), '2:4', 'the largest');
SELECT is(pg_temp.top('[3,1,4]', 3), '2:4 0:3 1:1', 'all');
SELECT is(pg_temp.top('[3,1,4]', 100), '2:4 0:3 1:1', 'more than there are');
SELECT is(pg_temp.top('[5,1,5,5]', 2), '0:5 2:5', 'the first of equal numbers');
SELECT is(pg_temp.top('[NaN,1,NaN,2]', 3), '3:2 1:1 0:NaN', 'NaN comes last');
SELECT is(pg_temp.top('[-Infinity,NaN,Infinity]', 3), '2:Infinity 0:-Infinity 1:NaN', 'infinities come in their order');
SELECT is((SELECT count(*) FROM hart.top_k(NULL, 3)) + (SELECT count(*) FROM hart.top_k('[1]', NULL)), 0::bigint, 'NULL gives no row');
SELECT pg_temp.refused('SELECT * FROM hart.top_k(''[1,2]'', 0)', '22023', 'k of 0');
SELECT pg_temp.refused('SELECT * FROM hart.top_k(''[1,2]'', -1)', '22023', 'k of -1');
SELECT pg_temp.refused('SELECT * FROM hart.top_k(''[[1],[2]]'', 1)', '22000', 'top_k of two rows');
SELECT is((SELECT count(*) FROM (SELECT hart.top_k('[3,1,4]', 2)) AS listed), 2::bigint, 'rows in the select list');
SELECT is((SELECT index FROM hart.top_k('[3,1,4]', 3) LIMIT 1), 2, 'a scan that ends early');

-- Random rows with many equal numbers against ORDER BY
CREATE TEMP TABLE line AS
SELECT n, array_agg(CASE WHEN hashint4(n * 31 + i) % 29 = 0 THEN 'NaN' ELSE (hashint4(n * 1009 + i) % (2 + n % 50))::real END ORDER BY i) AS values
FROM generate_series(1, 250) AS n, generate_series(1, 1 + n * 7 % 211) AS i GROUP BY n;
CREATE TEMP TABLE ranked AS
SELECT n, k, array_agg(i - 1 ORDER BY rank) FILTER (WHERE rank <= k) AS columns
FROM (SELECT n, i, row_number() OVER (PARTITION BY n ORDER BY v = 'NaN', v DESC, i) AS rank FROM line, unnest(values) WITH ORDINALITY AS element (v, i)) AS ordered,
     unnest(ARRAY[1, 2, 7, 40, 1000]) AS k GROUP BY n, k;
SELECT is_empty('SELECT n, k, r.columns, t.columns FROM ranked AS r JOIN line USING (n),
                 LATERAL (SELECT array_agg(index::bigint ORDER BY ordinality) AS columns, array_agg(value ORDER BY ordinality) AS values
                          FROM hart.top_k(line.values::hart.matrix, k) WITH ORDINALITY) AS t
                 WHERE t.columns IS DISTINCT FROM r.columns
                    OR t.values IS DISTINCT FROM (SELECT array_agg(line.values[c + 1] ORDER BY o) FROM unnest(r.columns) WITH ORDINALITY AS u (c, o)) LIMIT 5',
                'top_k is ORDER BY … LIMIT');
SELECT is_empty('SELECT n FROM ranked JOIN line USING (n) WHERE k = 1 AND hart.argmax(line.values::hart.matrix) <> columns[1] AND line.values[columns[1] + 1] <> ''NaN'' LIMIT 5', 'argmax is the first of top_k');
SELECT cmp_ok(count(*), '>', 50::bigint, 'many rows hold NaN') FROM line WHERE 'NaN' = ANY (values);

SELECT * FROM finish();
ROLLBACK;
