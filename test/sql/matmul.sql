-- hart.matmul against a join and a sum.
BEGIN;
\ir include/errors.sql
\ir include/kernels.sql
SELECT plan(18);
SET LOCAL jit = off;

-- sum over l of a[i][l] * b[l][j], in float8
CREATE FUNCTION pg_temp.product(a real[], b real[]) RETURNS real[] LANGUAGE sql AS $$
    WITH size AS MATERIALIZED (SELECT array_length(a, 2) AS k, array_length(b, 2) AS n),
         left_side AS (SELECT (at - 1) / k AS i, (at - 1) % k AS l, x FROM size, unnest(a) WITH ORDINALITY AS element (x, at)),
         right_side AS (SELECT (at - 1) / n AS l, (at - 1) % n AS j, y FROM size, unnest(b) WITH ORDINALITY AS element (y, at)),
         sums AS (SELECT i, j, sum(x::float8 * y)::real AS sum FROM left_side JOIN right_side USING (l) GROUP BY i, j),
         lines AS (SELECT i, array_agg(sum ORDER BY j) AS line FROM sums GROUP BY i)
    SELECT array_agg(line ORDER BY i) FROM lines
$$;
-- numbers from -8 to 8, or between -1 and 1
CREATE FUNCTION pg_temp.numbers(rows int, cols int, seed int, whole boolean) RETURNS real[] LANGUAGE sql AS $$
    SELECT array_agg(line ORDER BY i)
    FROM (SELECT i, array_agg((CASE WHEN whole THEN hash % 9 ELSE hash / 2147483648.0 END)::real ORDER BY j) AS line
          FROM (SELECT i, j, hashint4(seed * 1000003 + i * 1009 + j) AS hash FROM generate_series(1, rows) AS i, generate_series(1, cols) AS j) AS hashes
          GROUP BY i) AS lines
$$;

-- By hand
SELECT is(hart.matmul('[[1,2],[3,4]]', '[[5,6],[7,8]]')::text, '[[19,22],[43,50]]', 'two by two');
SELECT is(hart.matmul('[1,2,3]', '[[1],[2],[3]]')::text, '[[14]]', 'row by column');
SELECT is(hart.matmul('[[1],[2],[3]]', '[1,2,3]')::text, '[[1,2,3],[2,4,6],[3,6,9]]', 'column by row');
SELECT is(hart.matmul('[[1,2,3],[4,5,6]]', '[[1,0],[0,1],[1,1]]')::text, '[[4,5],[10,11]]', 'two by three by two');
SELECT is(hart.matmul('[]', '[]')::text, '[]', 'nothing by nothing');
SELECT is(hart.matmul('[[NaN,0],[0,1]]', '[[1,2],[3,4]]')::text, '[[NaN,NaN],[3,4]]', 'NaN spreads along its row only');
SELECT is(hart.matmul('[[Infinity,0],[0,1]]', '[[1,-2],[3,4]]')::text, '[[Infinity,-Infinity],[3,4]]', 'infinity spreads along its row only');
SELECT ok(hart.matmul('[[2]]', NULL) IS NULL, 'NULL gives NULL');
SELECT pg_temp.refused('SELECT hart.matmul(''[[1,2],[3,4]]'', ''[[1,2]]'')', '22000', 'two columns by one row');
SELECT matches(message, '2 columns by one of 3 rows', 'the error names both sizes')
FROM pg_temp.error_of('SELECT hart.matmul(''[[1,2]]'', ''[[1],[2],[3]]'')');
SELECT pg_temp.refused('SELECT hart.matmul(''[]'', ''[1]'')', '22000', 'nothing by one row');

-- Whole numbers: exact with every kernel and number of threads
CREATE TEMP TABLE shape AS
SELECT m, k, n, pg_temp.numbers(m, k, 1, true) AS a, pg_temp.numbers(k, n, 2, true) AS b
FROM (VALUES (1, 1, 1), (1, 7, 1), (2, 3, 4), (3, 1, 5), (5, 16, 17), (7, 31, 33), (1, 64, 130), (13, 65, 9), (65, 5, 3), (4, 300, 6), (33, 17, 129)) AS size (m, k, n);
ALTER TABLE shape ADD product real[];
UPDATE shape SET product = pg_temp.product(a, b);
CREATE FUNCTION pg_temp.wrong_products(kernel text, threads int) RETURNS TABLE (m int, k int, n int)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('hart.kernel', kernel, true), set_config('hart.threads', threads::text, true);
    RETURN QUERY SELECT s.m, s.k, s.n FROM shape AS s WHERE hart.matmul(a::hart.matrix, b::hart.matrix)::real[] <> product OR hart.n_rows(hart.matmul(a::hart.matrix, b::hart.matrix)) <> s.m OR hart.n_cols(hart.matmul(a::hart.matrix, b::hart.matrix)) <> s.n;
END $$;
SELECT is_empty('SELECT kernel, threads, w.* FROM pg_temp.kernels() AS kernel, unnest(ARRAY[1, 2, 5]) AS threads, pg_temp.wrong_products(kernel, threads) AS w',
                'products of whole numbers are exact');

-- Random numbers: close to float8, and the same bits for every number of threads
CREATE TEMP TABLE factors AS
SELECT pg_temp.numbers(19, 137, 3, false) AS a, pg_temp.numbers(137, 211, 4, false) AS b;
CREATE TEMP TABLE expected AS SELECT pg_temp.product(a, b) AS product FROM factors;
CREATE FUNCTION pg_temp.product_with(kernel text, threads int) RETURNS real[]
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('hart.kernel', kernel, true), set_config('hart.threads', threads::text, true);
    RETURN hart.matmul(a::hart.matrix, b::hart.matrix)::real[] FROM factors;
END $$;
CREATE TEMP TABLE products AS
SELECT kernel, threads, pg_temp.product_with(kernel, threads) AS product FROM pg_temp.kernels() AS kernel, unnest(ARRAY[1, 2, 5, 64]) AS threads;
SELECT is_empty('SELECT kernel, threads, max(abs(x - y)) FROM products AS p, expected AS e, unnest(p.product, e.product) AS pair (x, y)
                 GROUP BY 1, 2 HAVING NOT max(abs(x - y)) < 2e-5', 'products of random numbers are close');
SELECT is((SELECT count(*) FROM products), 4 * (SELECT count(DISTINCT kernel) FROM products), 'each kernel ran with each number of threads');
SELECT is((SELECT count(DISTINCT (kernel, product)) FROM products), (SELECT count(DISTINCT kernel) FROM products), 'the number of threads changes no bit');
SELECT cmp_ok((SELECT max(abs(x)) FROM expected, unnest(product) AS x), '>', 3::real, 'the products are of a size to compare');

-- By properties
SELECT is(hart.matmul(a::hart.matrix, one::hart.matrix)::real[], a, 'a product with the unit matrix changes nothing')
FROM factors, (SELECT array_agg(line ORDER BY l) AS one FROM (SELECT l, array_agg((l = j)::int::real ORDER BY j) AS line
               FROM generate_series(1, 137) AS l, generate_series(1, 137) AS j GROUP BY l) AS lines) AS unit;
SELECT is(hart.transpose(hart.matmul(a::hart.matrix, b::hart.matrix))::real[], hart.matmul(hart.transpose(b::hart.matrix), hart.transpose(a::hart.matrix))::real[], 'the product of the transposed is the transposed product')
FROM shape WHERE m = 33;

SELECT * FROM finish();
ROLLBACK;
