-- Matrices that are large enough for memory of their own (large_memory.h), which PL/pgSQL hands on without a copy.
BEGIN;
SELECT plan(17);

-- 300 x 300 numbers, 360 kB, of which neighbours differ
CREATE FUNCTION pg_temp.large(factor real) RETURNS hart.matrix
LANGUAGE sql IMMUTABLE
RETURN (SELECT array_agg(r) FROM (SELECT array_agg((factor * ((i * 300 + j) % 1009))::real ORDER BY j) AS r
                                  FROM generate_series(0, 299) AS i, generate_series(0, 299) AS j GROUP BY i ORDER BY i) AS rows)::hart.matrix;

-- What a variable holds after functions that may write in the place of an argument
CREATE FUNCTION pg_temp.after_adding(OUT kept boolean, OUT sum_right boolean, OUT nested_right boolean, OUT swiglu_right boolean, OUT itself_right boolean) RETURNS record
LANGUAGE plpgsql AS $$
DECLARE
    a hart.matrix := pg_temp.large(1);
    b hart.matrix := a;
    c hart.matrix;
    before text := a::text;
BEGIN
    c := hart.add(a, b);
    kept := a::text = before AND b::text = before;
    sum_right := c::text = pg_temp.large(2)::text;
    c := hart.add(hart.add(a, b), hart.add(a, hart.add(hart.add(a, b), b)));
    nested_right := c::text = pg_temp.large(6)::text AND a::text = before AND b::text = before;
    c := hart.add(a, b);
    swiglu_right := hart.swiglu(hart.add(a, b), b)::text = hart.swiglu(c, b)::text AND hart.swiglu(b, hart.add(a, b))::text = hart.swiglu(b, c)::text
        AND c::text = pg_temp.large(2)::text AND b::text = before;
    a := hart.add(a, a);
    itself_right := a::text = pg_temp.large(2)::text AND b::text = before;
END $$;

-- A matrix that comes back from a function, through a block that fails
CREATE FUNCTION pg_temp.through_failure() RETURNS hart.matrix
LANGUAGE plpgsql AS $$
DECLARE
    a hart.matrix := pg_temp.large(1);
BEGIN
    BEGIN
        a := hart.add(a, a);
        PERFORM hart.add(a, '[[1,2]]'::hart.matrix);
    EXCEPTION WHEN data_exception THEN
        a := hart.add(a, pg_temp.large(1));
    END;
    RETURN a;
END $$;

SELECT is(hart.matrix_row(pg_temp.large(1), 300), (SELECT array_agg(((299 * 300 + j) % 1009)::real ORDER BY j) FROM generate_series(0, 299) AS j), 'a large matrix has its numbers');
SELECT ok(kept, 'adding leaves the variables as they were') FROM pg_temp.after_adding();
SELECT ok(sum_right, 'and makes the sum') FROM pg_temp.after_adding();
SELECT ok(nested_right, 'sums of sums, which are made in place, are right') FROM pg_temp.after_adding();
SELECT ok(swiglu_right, 'and so is SwiGLU, in the place of either argument or of none') FROM pg_temp.after_adding();
SELECT ok(itself_right, 'a matrix that is assigned to itself is right too') FROM pg_temp.after_adding();
SELECT is(pg_temp.through_failure()::text, pg_temp.large(3)::text, 'what a failed block assigned stays, what it made goes');

CREATE TEMPORARY TABLE stored (id integer, m hart.matrix);
INSERT INTO stored SELECT 1, hart.add(pg_temp.large(1), pg_temp.large(1));
INSERT INTO stored SELECT 2, m FROM (SELECT hart.add(m, m) AS m FROM stored) AS doubled;
SELECT is(m::text, pg_temp.large(2)::text, 'stored in a table and read again') FROM stored WHERE id = 1;
SELECT is(m::text, pg_temp.large(4)::text, 'made of a stored one and stored') FROM stored WHERE id = 2;
SELECT is(hart.add(m, m)::text, hart.add(m, hart.add(pg_temp.large(1), pg_temp.large(1)))::text, 'a value that is used twice in a row')
FROM (SELECT hart.add(pg_temp.large(1), pg_temp.large(1)) AS m OFFSET 0) AS once;
SELECT is(hart.add(once.m, once.m)::text, pg_temp.large(4)::text, 'and one out of a common table expression')
FROM (WITH made AS MATERIALIZED (SELECT hart.add(pg_temp.large(1), pg_temp.large(1)) AS m) SELECT m FROM made) AS once;
SELECT is((hart.matrix_send(hart.add(m, m)) = hart.matrix_send(pg_temp.large(4))), true, 'in binary form') FROM stored WHERE id = 1;

CREATE FUNCTION pg_temp.numpy_sum(m hart.matrix) RETURNS float8
LANGUAGE plpython3u TRANSFORM FOR TYPE hart.matrix
AS $$ return float(m.astype("float64").sum()) $$;
CREATE FUNCTION pg_temp.sum_of_sum() RETURNS float8
LANGUAGE plpgsql AS $$
DECLARE
    a hart.matrix := hart.add(pg_temp.large(1), pg_temp.large(1));
BEGIN
    RETURN pg_temp.numpy_sum(a) + pg_temp.numpy_sum(hart.add(a, a));
END $$;
SELECT is(pg_temp.sum_of_sum(), (SELECT 6 * sum((i % 1009)::float8) FROM generate_series(0, 89999) AS i), 'numpy gets its numbers');

SELECT is((SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'hart.matrix'), 0::bigint, 'none is left after its statement');
SELECT is(hart.n_rows(m) + hart.n_cols(m), 600, 'its sizes') FROM (SELECT hart.add(pg_temp.large(1), pg_temp.large(1)) AS m) AS sizes;
SELECT ok(hart.l2_distance(hart.matrix_row(hart.matmul(a, hart.transpose(hart.transpose(b))), 150),
                           hart.matrix_row(hart.matmul(hart.matrix_rows(a, ARRAY[150]), b), 1)) = 0, 'products of large matrices and of one row of them')
FROM (SELECT pg_temp.large(0.001) AS a, pg_temp.large(0.002) AS b) AS two;
SELECT throws_ok($$SELECT hart.add(pg_temp.large(1), '[[1,2]]')$$, '22000', NULL, 'of different sizes');

SELECT * FROM finish();
ROLLBACK;
