-- Softmax three times: numpy (hart.softmax), window functions (hart.softmax_sql), and C inside attention (transformer_twin.sql).
BEGIN;
\ir include/errors.sql
SELECT plan(44);
SET LOCAL jit = off;

-- By hand
SELECT is(hart.softmax('[0,0,0,0]')::text, '[[0.25,0.25,0.25,0.25]]', 'equal numbers share equally');
SELECT is(hart.softmax('[5]')::text, '[[1]]', 'one number takes all');
SELECT is(hart.softmax('[]')::text, '[]', 'nothing stays nothing');
SELECT is((SELECT array_agg(round(p::numeric, 6) ORDER BY n) FROM unnest(hart.softmax('[1,2,3]')::real[]) WITH ORDINALITY AS element (p, n)),
          '{0.090031,0.244728,0.665241}', 'one, two, three');
SELECT is((SELECT array_agg(round(p::numeric, 6) ORDER BY n) FROM unnest(hart.softmax('[1,2,3]', 0.5)::real[]) WITH ORDINALITY AS element (p, n)),
          '{0.015876,0.117310,0.866813}', 'a low temperature favours the largest');
SELECT is((SELECT array_agg(round(p::numeric, 6) ORDER BY n) FROM unnest(hart.softmax('[1,2,3]', 2)::real[]) WITH ORDINALITY AS element (p, n)),
          '{0.186324,0.307196,0.506480}', 'a high temperature evens out');
SELECT is(hart.softmax('[[0,0],[7,7],[-1000,-1000]]')::text, '[[0.5,0.5],[0.5,0.5],[0.5,0.5]]', 'each row on its own');
SELECT is(hart.softmax('[1000,1000,-1000]')::text, '[[0.5,0.5,0]]', 'large numbers do not overflow');
SELECT is(hart.softmax('[3e38,-3e38]')::text, '[[1,0]]', 'the largest numbers do not overflow');
SELECT is(hart.softmax('[0,-Infinity]')::text, '[[1,0]]', 'minus infinity is impossible');
SELECT is(hart.softmax('[[0,NaN],[0,0]]')::text, '[[NaN,NaN],[0.5,0.5]]', 'NaN spoils its row only');
SELECT is(hart.softmax('[[0,Infinity],[0,0]]')::text, '[[NaN,NaN],[0.5,0.5]]', 'infinity spoils its row only');
SELECT is(hart.softmax('[-Infinity,-Infinity]')::text, '[[NaN,NaN]]', 'a row of impossible numbers has no softmax');
SELECT is(hart.softmax('[2,1]', 1e-300)::text, '[[1,0]]', 'a temperature of almost zero takes the largest');
SELECT is(hart.softmax('[2,1]', 1e300)::text, '[[0.5,0.5]]', 'a huge temperature evens out');
SELECT ok(hart.softmax(NULL) IS NULL AND hart.softmax('[1]', NULL) IS NULL, 'NULL gives NULL');
SELECT pg_temp.refused(format('SELECT hart.softmax(''[1,2]'', %L)', t), '22023', format('a temperature of %s', t))
FROM unnest(ARRAY['0', '-1', 'NaN', 'Infinity', '-Infinity']) AS t;

SELECT is(hart.softmax_sql('{0,0,0,0}'), '{0.25,0.25,0.25,0.25}'::real[], 'in SQL equal numbers share equally');
SELECT is(hart.softmax_sql('{1000,1000,-1000}'), '{0.5,0.5,0}'::real[], 'in SQL large numbers do not overflow');
SELECT is(hart.softmax_sql('{0,-Infinity}'), '{1,0}'::real[], 'in SQL minus infinity is impossible');
SELECT is(hart.softmax_sql('{7}'), '{1}'::real[], 'in SQL one number takes all');
SELECT is(hart.softmax_sql(NULL), NULL, 'in SQL NULL gives NULL');

-- The twins agree
CREATE TEMP TABLE line AS
SELECT n, temperature, array_agg((hashint4(n * 1009 + i) / 2147483648.0 * spread)::real ORDER BY i) AS x
FROM generate_series(1, 60) AS n, unnest(ARRAY[0.3, 1, 1.7]) AS temperature, unnest(ARRAY[1.0, 20.0]) AS spread, generate_series(1, 1 + n * 13 % 97) AS i
WHERE (spread = 1) = (n % 2 = 0) GROUP BY n, temperature;
CREATE TEMP TABLE shares AS
SELECT *, (SELECT array_agg(v ORDER BY i) FROM unnest(hart.softmax(x::hart.matrix, temperature)::real[]) WITH ORDINALITY AS element (v, i)) AS numpy,
       hart.softmax_sql(x, temperature) AS sql FROM line;
SELECT is_empty('SELECT n, temperature, x, numpy, sql FROM shares WHERE (SELECT NOT max(abs(a - b)) <= 1e-6 * max(a) FROM unnest(numpy, sql) AS pair (a, b)) LIMIT 5', 'numpy and SQL agree');
SELECT is_empty('SELECT n, temperature FROM shares, unnest(numpy) AS p GROUP BY 1, 2 HAVING abs(sum(p::float8) - 1) > 1e-6 OR min(p) < 0 LIMIT 5', 'shares are not negative and sum to 1');
SELECT is((SELECT count(*) FROM shares), 180::bigint, 'all rows were compared');
SELECT is_empty('SELECT n, temperature FROM shares, unnest(x, numpy) AS a (x, p), unnest(shares.x, numpy) AS b (x, p) WHERE n < 20 AND a.x > b.x AND a.p < b.p LIMIT 5', 'a larger number never has a smaller share');

-- Shapes and the transform to numpy
CREATE TEMP TABLE grid AS
SELECT rows, cols, (SELECT array_agg(line ORDER BY i) FROM (SELECT i, array_agg((hashint4(i * 100 + j) % 5)::real ORDER BY j) AS line
                    FROM generate_series(1, rows) AS i, generate_series(1, cols) AS j GROUP BY i) AS lines)::hart.matrix AS m
FROM generate_series(1, 7) AS rows, generate_series(1, 9) AS cols;
SELECT is_empty('SELECT rows, cols FROM grid WHERE hart.n_rows(hart.softmax(m)) <> rows OR hart.n_cols(hart.softmax(m)) <> cols LIMIT 5', 'shapes stay');
SELECT is_empty('SELECT rows, cols, i FROM grid, generate_series(1, rows) AS i WHERE hart.matrix_row(hart.softmax(m), i) <> hart.matrix_row(hart.softmax(hart.matrix_row(m, i)::hart.matrix), 1) LIMIT 5',
                'a row has the same softmax alone');

CREATE FUNCTION pg_temp.seen(m hart.matrix) RETURNS text TRANSFORM FOR TYPE hart.matrix LANGUAGE plpython3u AS $$
return f'{type(m).__name__} {m.dtype} {m.shape} {m.flags.writeable} {m.flags.c_contiguous} {m.tolist()}'
$$;
SELECT is(pg_temp.seen('[[1,2,3],[4,5,6]]'), 'ndarray float32 (2, 3) True True [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]', 'Python sees a float32 array');
CREATE FUNCTION pg_temp.made(code text) RETURNS hart.matrix TRANSFORM FOR TYPE hart.matrix LANGUAGE plpython3u AS $$
import numpy
return eval(code, {'numpy': numpy})
$$;
SELECT is(pg_temp.made(code)::text, expected, code)
FROM (VALUES ('numpy.arange(6, dtype=numpy.float32).reshape(2, 3)', '[[0,1,2],[3,4,5]]'),
             ('numpy.arange(6, dtype=numpy.float64).reshape(2, 3).T', '[[0,3],[1,4],[2,5]]'),
             ('numpy.arange(12, dtype=numpy.float32).reshape(3, 4)[::2, ::-2]', '[[3,1],[11,9]]'),
             ('numpy.array([1, 2], dtype=numpy.int64)', '[[1,2]]')) AS made (code, expected);
SELECT pg_temp.refused(format('SELECT pg_temp.made(%L)', code), '42804', 'refuses ' || code)
FROM unnest(ARRAY['numpy.zeros((2, 2, 2))', '3', '[[1, 2], [3]]', '"text"', '[["a"]]']) AS code;
SELECT ok(pg_temp.made('None') IS NULL, 'None is NULL');
SELECT is(pg_temp.made('numpy.zeros((0, 0))')::text, '[]', 'an empty array is an empty matrix');

SELECT * FROM finish();
ROLLBACK;
