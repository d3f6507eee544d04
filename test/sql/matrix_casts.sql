-- hart.matrix from and to arrays, and its rows.
BEGIN;
\ir include/errors.sql
SELECT plan(38);

-- From arrays
SELECT is(ARRAY[1,2,3]::real[]::hart.matrix::text, '[[1,2,3]]', 'an array of one dimension is a row');
SELECT is(ARRAY[[1,2],[3,4],[5,6]]::real[]::hart.matrix::text, '[[1,2],[3,4],[5,6]]', 'an array of two dimensions is rows and columns');
SELECT is('{}'::real[]::hart.matrix::text, '[]', 'an empty array is an empty matrix');
SELECT is('[5:6][0:1]={{1,2},{3,4}}'::real[]::hart.matrix::text, '[[1,2],[3,4]]', 'lower bounds of an array do not matter');
SELECT is('{NaN,Infinity,-Infinity}'::real[]::hart.matrix::text, '[[NaN,Infinity,-Infinity]]', 'special numbers go in');
SELECT is(ARRAY[7]::real[]::hart.matrix::text, '[[7]]', 'one number is a matrix');
SELECT ok(NULL::real[]::hart.matrix IS NULL, 'a null array is a null matrix');
SELECT pg_temp.refused('SELECT ARRAY[1,NULL,3]::real[]::hart.matrix', '22004', 'nulls are refused');
SELECT pg_temp.refused('SELECT ARRAY[[[1,2]],[[3,4]]]::real[]::hart.matrix', '22000', 'three dimensions are refused');

-- To arrays
SELECT is('[[1,2],[3,4]]'::hart.matrix::real[], ARRAY[[1,2],[3,4]]::real[], 'a matrix is an array of two dimensions');
SELECT is(array_ndims('[1,2,3]'::hart.matrix::real[]), 2, 'a row is an array of two dimensions too');
SELECT is('[[1,2,3]]'::hart.matrix::real[], ARRAY[[1,2,3]]::real[], 'a row keeps its numbers');
SELECT is('[]'::hart.matrix::real[], '{}', 'an empty matrix is an empty array');
SELECT is(array_lower('[[1],[2]]'::hart.matrix::real[], 1), 1, 'indexes begin with 1');
SELECT is(hart.matrix_to_array(NULL), NULL, 'a null matrix is a null array');
SELECT is((SELECT array_agg(v ORDER BY n) FROM unnest('[[1,2],[3,4]]'::hart.matrix::real[]) WITH ORDINALITY AS element (v, n)), '{1,2,3,4}'::real[],
          'numbers are in row order');

-- In assignments, in both directions
CREATE TEMP TABLE both_ways (m hart.matrix, a real[]);
INSERT INTO both_ways (m) VALUES (ARRAY[[1,2],[3,4]]::real[]);
UPDATE both_ways SET a = m;
SELECT is(a, ARRAY[[1,2],[3,4]]::real[], 'assignments cast') FROM both_ways;
SELECT is((SELECT castcontext::text FROM pg_cast WHERE castsource = 'real[]'::regtype AND casttarget = 'hart.matrix'::regtype), 'a', 'arrays become matrices in assignments only');
SELECT is((SELECT castcontext::text FROM pg_cast WHERE castsource = 'hart.matrix'::regtype AND casttarget = 'real[]'::regtype), 'a', 'matrices become arrays in assignments only');

-- Many shapes, there and back
SELECT is_empty($$
    SELECT rows, cols FROM generate_series(1, 12) AS rows, generate_series(1, 12) AS cols,
        LATERAL (SELECT array_agg(line ORDER BY i) AS a
                 FROM (SELECT i, array_agg((i * 100 + j)::real ORDER BY j) AS line
                       FROM generate_series(1, rows) AS i, generate_series(1, cols) AS j GROUP BY i) AS lines) AS made
    WHERE a::hart.matrix::real[] <> a OR hart.n_rows(a::hart.matrix) <> rows OR hart.n_cols(a::hart.matrix) <> cols
       OR hart.matrix_row(a::hart.matrix, rows) <> (SELECT array_agg((rows * 100 + j)::real ORDER BY j) FROM generate_series(1, cols) AS j)
$$, 'arrays of every shape come back');

-- Rows
SELECT is(hart.matrix_row('[[1,2],[3,4],[5,6]]', 1), '{1,2}'::real[], 'the first row');
SELECT is(hart.matrix_row('[[1,2],[3,4],[5,6]]', 3), '{5,6}'::real[], 'the last row as an array');
SELECT is(hart.last_row('[[1,2],[3,4],[5,6]]')::text, '[[5,6]]', 'the last row as a matrix');
SELECT is(hart.last_row('[5,6]')::text, '[[5,6]]', 'the last row of one');
SELECT pg_temp.refused('SELECT hart.matrix_row(''[[1,2],[3,4]]'', 0)', '2202E', 'there is no row 0');
SELECT pg_temp.refused('SELECT hart.matrix_row(''[[1,2],[3,4]]'', 3)', '2202E', 'there is no row 3 of 2');
SELECT pg_temp.refused('SELECT hart.matrix_row(''[[1,2],[3,4]]'', -2147483648)', '2202E', 'there is no row before all');
SELECT pg_temp.refused('SELECT hart.matrix_row(''[]'', 1)', '2202E', 'an empty matrix has no row');
SELECT is(hart.matrix_rows('[[1,2],[3,4],[5,6]]', '{3,1,3}')::text, '[[5,6],[1,2],[5,6]]', 'some rows');
SELECT is(hart.n_rows(hart.matrix_rows('[[1,2]]', '{}')), 0, 'none');
SELECT pg_temp.refused(format('SELECT hart.matrix_rows(''[[1,2],[3,4]]'', %L)', rows), code, format('rows %s', rows))
FROM (VALUES ('{0}', '2202E'), ('{1,3}', '2202E'), ('{NULL}', '22004')) AS v (rows, code);
SELECT pg_temp.refused('SELECT hart.last_row(''[]'')', '22000', 'an empty matrix has no last row');

-- Transposed
SELECT is(hart.transpose('[[1,2,3],[4,5,6]]')::text, '[[1,4],[2,5],[3,6]]', 'rows become columns');
SELECT is(hart.transpose(hart.transpose('[[1,2,3],[4,5,6]]'))::text, '[[1,2,3],[4,5,6]]', 'twice transposed is as before');
SELECT is(hart.transpose('[]')::text, '[]', 'an empty matrix transposed is empty');
SELECT is(hart.transpose('[[NaN,1],[2,Infinity]]')::text, '[[NaN,2],[1,Infinity]]', 'special numbers are moved as others');

SELECT * FROM finish();
ROLLBACK;
