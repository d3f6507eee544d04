-- Vector maths on real[] and hart.matrix against plain SQL.
BEGIN;
\ir include/errors.sql
\ir include/kernels.sql
SELECT plan(59);
SET LOCAL jit = off;

-- Twins in plain SQL, in float8
CREATE FUNCTION pg_temp.dot(a real[], b real[]) RETURNS float8 LANGUAGE sql AS
$$ SELECT coalesce(sum(x::float8 * y), 0) FROM unnest(a, b) AS pair (x, y) $$;
CREATE FUNCTION pg_temp.distance(a real[], b real[]) RETURNS float8 LANGUAGE sql AS
$$ SELECT sqrt(coalesce(sum((x::float8 - y) ^ 2), 0)) FROM unnest(a, b) AS pair (x, y) $$;
CREATE FUNCTION pg_temp.sum_of(a real[], b real[]) RETURNS real[] LANGUAGE sql AS
$$ SELECT array_agg(x + y ORDER BY n) FROM unnest(a, b) WITH ORDINALITY AS pair (x, y, n) $$;
CREATE FUNCTION pg_temp.scaled(a real[], factor real) RETURNS real[] LANGUAGE sql AS
$$ SELECT array_agg(x * factor ORDER BY n) FROM unnest(a) WITH ORDINALITY AS element (x, n) $$;

-- By hand
SELECT is(hart.dot('{1,2,3}'::real[], '{4,5,6}'), 32::float8, 'dot');
SELECT is(hart.dot('{}'::real[], '{}'), 0::float8, 'dot of nothing');
SELECT is(hart.norm('{3,4}'::real[]), 5::float8, 'norm');
SELECT is(hart.norm('{}'::real[]), 0::float8, 'norm of nothing');
SELECT is(hart.l2_distance('{1,2,3}'::real[], '{1,5,7}'), 5::float8, 'distance');
SELECT is(hart.cosine('{1,0}'::real[], '{0,2}'), 0::float8, 'cosine of a right angle');
SELECT is(round(hart.cosine('{1,2}'::real[], '{2,4}')::numeric, 7), 1.0000000, 'cosine of one direction');
SELECT is(round(hart.cosine('{1,2}'::real[], '{-2,-4}')::numeric, 7), -1.0000000, 'cosine of opposite directions');
SELECT is(hart.cosine('{0,0}'::real[], '{1,2}'), 'NaN'::float8, 'a zero vector has no angle');
SELECT is(hart.cosine('{NaN,0}'::real[], '{1,2}'), 'NaN'::float8, 'NaN has no angle');
SELECT is(hart.dot('{NaN,1}'::real[], '{1,1}'), 'NaN'::float8, 'NaN spreads');
SELECT is(hart.dot('{Infinity,1}'::real[], '{1,1}'), 'Infinity'::float8, 'infinity spreads');
SELECT is(hart.dot('{Infinity,1}'::real[], '{0,1}'), 'NaN'::float8, 'infinity times zero is NaN');
SELECT is(hart.norm('{-Infinity}'::real[]), 'Infinity'::float8, 'the norm of infinity');
SELECT is(hart.l2_distance('{Infinity}'::real[], '{Infinity}'), 'NaN'::float8, 'infinities have no distance');
SELECT is(hart.add('{1,2.5,-3}'::real[], '{4,0.5,3}'), '{5,3,0}'::real[], 'sum');
SELECT is(hart.add('{}'::real[], '{}'), '{}'::real[], 'sum of nothing');
SELECT is(hart.scale('{1,-2,0.5}'::real[], 4), '{4,-8,2}'::real[], 'multiple');
SELECT is(hart.scale('{3e38}'::real[], 10), '{Infinity}'::real[], 'a multiple beyond the largest number is infinite');
SELECT is(hart.dot('[4:6]={1,2,3}'::real[], '{4,5,6}'), 32::float8, 'lower bounds do not matter');

-- A matrix is the vector of its numbers
SELECT is(hart.dot('[[1,2],[3,4]]'::hart.matrix, '[[5,6],[7,8]]'), 70::float8, 'dot of matrices');
SELECT is(hart.norm('[[1,2],[2,4]]'::hart.matrix), 5::float8, 'norm of a matrix');
SELECT is(hart.l2_distance('[[1,2],[3,4]]'::hart.matrix, '[[1,4],[4,6]]'), 3::float8, 'distance of matrices');
SELECT is(hart.cosine('[[1,2],[3,-1]]'::hart.matrix, '[[2,1],[-1,1]]'), 0::float8, 'cosine of matrices');
SELECT is(hart.add('[[1,2],[3,4]]'::hart.matrix, '[[5,6],[7,8]]')::text, '[[6,8],[10,12]]', 'sum of matrices');
SELECT is(hart.scale('[[1,2],[3,4]]'::hart.matrix, 0.5)::text, '[[0.5,1],[1.5,2]]', 'multiple of a matrix');
SELECT is(hart.add('[]'::hart.matrix, '[]')::text, '[]', 'sum of empty matrices');
SELECT is(hart.dot('[]'::hart.matrix, '[]'), 0::float8, 'dot of empty matrices');

-- Arguments stay as they were
CREATE TEMP TABLE kept AS SELECT '{1,2,3}'::real[] AS a, '[[1,2,3]]'::hart.matrix AS m;
SELECT is((hart.add(a, a), hart.scale(a, 2), a), ('{2,4,6}'::real[], '{2,4,6}'::real[], '{1,2,3}'::real[]), 'arrays are not changed in place') FROM kept;
SELECT is((hart.add(m, m)::text, hart.scale(m, 2)::text, m::text), ('[[2,4,6]]'::text, '[[2,4,6]]'::text, '[[1,2,3]]'::text), 'matrices are not changed in place') FROM kept;
DO $$
DECLARE
    a real[] := '{1,2,3}';
    b real[];
BEGIN
    b := hart.scale(a, 2);
    b := hart.add(a, b);
    CREATE TEMP TABLE variables AS SELECT a, b;
END $$;
SELECT is((a, b), ('{1,2,3}'::real[], '{3,6,9}'::real[]), 'PL/pgSQL variables are not changed in place') FROM variables;

-- Nulls and shapes
SELECT ok(hart.dot(NULL::real[], '{1}') IS NULL AND hart.add('[1]'::hart.matrix, NULL) IS NULL AND hart.scale('{1}'::real[], NULL) IS NULL, 'NULL gives NULL');
SELECT pg_temp.refused(format('SELECT hart.%s(''{1,2}''::real[], ''{1,2,3}'')', name), '22000', name || ' of different dimensions')
FROM unnest(ARRAY['dot', 'cosine', 'l2_distance', 'add']) AS name;
SELECT pg_temp.refused(format('SELECT hart.%s(''[[1,2],[3,4]]''::hart.matrix, ''[1,2,3,4]'')', name), '22000', name || ' of different shapes')
FROM unnest(ARRAY['dot', 'cosine', 'l2_distance', 'add']) AS name;
SELECT pg_temp.refused(format('SELECT hart.%s(''{1,NULL}''::real[], ''{1,2}'')', name), '22004', name || ' of a null on the left')
FROM unnest(ARRAY['dot', 'cosine', 'l2_distance', 'add']) AS name;
SELECT pg_temp.refused(format('SELECT hart.%s(''{1,2}''::real[], ''{NULL,2}'')', name), '22004', name || ' of a null on the right')
FROM unnest(ARRAY['dot', 'cosine', 'l2_distance', 'add']) AS name;
SELECT pg_temp.refused('SELECT hart.norm(''{1,NULL}''::real[])', '22004', 'norm of a null');
SELECT pg_temp.refused('SELECT hart.scale(''{1,NULL}''::real[], 2)', '22004', 'multiple of a null');
SELECT pg_temp.refused(format('SELECT hart.%s(''{{1,2},{3,4}}''::real[], ''{{1,2},{3,4}}'')', name), '22000', name || ' of arrays of two dimensions')
FROM unnest(ARRAY['dot', 'cosine', 'l2_distance', 'add']) AS name;
SELECT pg_temp.refused('SELECT hart.norm(''{{1,2},{3,4}}''::real[])', '22000', 'norm of an array of two dimensions');
SELECT pg_temp.refused('SELECT hart.scale(''{{1,2},{3,4}}''::real[], 2)', '22000', 'multiple of an array of two dimensions');

-- Small integers: every kernel gives the exact result, whatever the length
CREATE TEMP TABLE whole AS
SELECT n, array_agg((hashint4(n * 1000 + i) % 17)::real ORDER BY i) AS a, array_agg((hashint4(n * 2000 + i) % 13)::real ORDER BY i) AS b
FROM generate_series(1, 140) AS n, generate_series(1, n) AS i GROUP BY n;
CREATE FUNCTION pg_temp.wrong_sums(kernel text) RETURNS SETOF int
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('hart.kernel', kernel, true);
    RETURN QUERY SELECT n FROM whole
    WHERE hart.dot(a, b) <> pg_temp.dot(a, b) OR hart.dot(a::hart.matrix, b::hart.matrix) <> pg_temp.dot(a, b)
       OR hart.norm(a) <> sqrt(pg_temp.dot(a, a)) OR hart.l2_distance(a, b) <> pg_temp.distance(a, b)
       OR hart.add(a, b) <> pg_temp.sum_of(a, b) OR hart.scale(a, -3) <> pg_temp.scaled(a, -3);
END $$;
SELECT is_empty('SELECT kernel, n FROM pg_temp.kernels() AS kernel, pg_temp.wrong_sums(kernel) AS n', 'small integers are exact');

-- Random numbers: every kernel is close to float8
CREATE TEMP TABLE random AS
SELECT n, array_agg((hashint4(n * 5000 + i) / 2147483648.0)::real ORDER BY i) AS a, array_agg((hashint4(n * 7000 + i) / 2147483648.0)::real ORDER BY i) AS b
FROM unnest(ARRAY[1, 2, 3, 15, 16, 17, 31, 32, 33, 100, 1000, 4097]) AS n, generate_series(1, n) AS i GROUP BY n;
CREATE FUNCTION pg_temp.far_off(kernel text) RETURNS TABLE (n int, dot float8, expected float8)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('hart.kernel', kernel, true);
    RETURN QUERY SELECT r.n, hart.dot(a, b), pg_temp.dot(a, b) FROM random r, LATERAL (SELECT 1e-6 * pg_temp.dot(a, a) AS tolerance) AS t
    WHERE abs(hart.dot(a, b) - pg_temp.dot(a, b)) > tolerance
       OR abs(hart.norm(a) / sqrt(pg_temp.dot(a, a)) - 1) > 1e-6
       OR abs(hart.l2_distance(a, b) / pg_temp.distance(a, b) - 1) > 1e-12
       OR abs(hart.cosine(a, b) - pg_temp.dot(a, b) / sqrt(pg_temp.dot(a, a) * pg_temp.dot(b, b))) > 1e-6
       OR hart.add(a, b) <> pg_temp.sum_of(a, b) OR hart.scale(a, 0.3) <> pg_temp.scaled(a, 0.3);
END $$;
SELECT is_empty('SELECT kernel, far.* FROM pg_temp.kernels() AS kernel, pg_temp.far_off(kernel) AS far', 'random numbers are close');
SELECT is_empty('SELECT n FROM random WHERE hart.cosine(a, hart.scale(a, 3)) NOT BETWEEN 0.999999 AND 1', 'a cosine never exceeds 1');

SELECT * FROM finish();
ROLLBACK;
