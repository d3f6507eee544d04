-- The binary form of hart.matrix: what COPY, cursors and drivers exchange.
BEGIN;
\ir include/errors.sql
SELECT plan(30);
SET LOCAL jit = off;

-- COPY's binary format names no types: bytes written from a bytea column arrive at matrix_recv as they are.
CREATE TEMP TABLE bytes (id int, value bytea);
CREATE TEMP TABLE matrices (id int, value hart.matrix);
SELECT set_config('test.file', current_setting('data_directory') || '/hart_test_matrix_binary', true) IS NOT NULL AS file \gset

CREATE FUNCTION pg_temp.copy(source text, target text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('COPY %s TO %L WITH (FORMAT binary)', source, current_setting('test.file'));
    EXECUTE format('COPY %s FROM %L WITH (FORMAT binary)', target, current_setting('test.file'));
END $$;

CREATE FUNCTION pg_temp.received(value bytea) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    DELETE FROM bytes;
    DELETE FROM matrices;
    INSERT INTO bytes VALUES (1, value);
    PERFORM pg_temp.copy('bytes', 'matrices');
    SELECT m.value::text INTO result FROM matrices m;
    RETURN result;
END $$;

-- What is sent
SELECT is(hart.matrix_send('[[1,2],[3,4],[-0,0.1]]'),
          '\x0000000300000002 3f80000040000000 4040000040800000 800000003dcccccd', 'rows, columns and numbers are sent, big-endian');
SELECT is(hart.matrix_send('[]'), '\x0000000000000000', 'an empty matrix is sent as its size');

-- What is received
SELECT is(pg_temp.received('\x0000000300000002 3f80000040000000 4040000040800000 800000003dcccccd'), '[[1,2],[3,4],[-0,0.1]]', 'a matrix is received');
SELECT is(pg_temp.received('\x0000000000000000'), '[]', 'an empty matrix is received');
SELECT is(pg_temp.received('\x0000000300000000'), '[[],[],[]]', 'rows of no columns are received');
SELECT is(pg_temp.received('\x0000000000000003'), '[]', 'columns of no rows are received');
SELECT is(pg_temp.received('\x0000000100000004 7fc00000 7f800000 ff800000 00000001'), '[[NaN,Infinity,-Infinity,1e-45]]', 'special numbers are received');

-- What is no matrix is refused
SELECT pg_temp.refused(format('SELECT pg_temp.received(%L)', value::bytea), '22P03', what)
FROM (VALUES ('\x0000000100000002 3f800000', 'a number is missing'),
             ('\x0000000200000001 3f800000', 'a row is missing'),
             ('\x00000001ffffffff', 'minus one column'),
             ('\xffffffff00000001', 'minus one row'),
             ('\xffffffffffffffff 3f800000', 'minus one row and column'),
             ('\x8000000080000000', 'the least sizes'),
             ('\x7fffffff7fffffff', 'the largest sizes'),
             ('\x0001000000010000', 'sizes whose product is 2^32'),
             ('\x4000000000000004', 'sizes whose product in bytes is 2^34'),
             ('\x0000000100000001 3f8000', 'half a number')) AS bad (value, what);
SELECT is((SELECT code FROM pg_temp.error_of(format('SELECT pg_temp.received(%L)', value::bytea))), expected, what)
FROM (VALUES ('\x', '08P01', 'nothing'),
             ('\x00000001', '08P01', 'half a size'),
             ('\x0000000100000001 3f80000000', '22P03', 'a byte too many')) AS bad (value, expected, what);

-- Random bytes: an error or a matrix that is sent as it came
CREATE FUNCTION pg_temp.returned(value bytea) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.received(value);
    RETURN (SELECT hart.matrix_send(m.value)::text FROM matrices m);
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
CREATE TEMP TABLE noise AS
SELECT int4send(sample % 7 - 1) || int4send(sample % 5 - 1)
       || substr(decode(md5('a' || sample) || md5('b' || sample) || md5('c' || sample), 'hex'), 1,
                 CASE WHEN sample % 3 = 0 THEN sample % 40 ELSE greatest(4 * (sample % 7 - 1) * (sample % 5 - 1), 0) END) AS value
FROM generate_series(1, 200) AS sample;
CREATE TEMP TABLE outcome AS SELECT value AS sent, pg_temp.returned(value) AS received FROM noise;
SELECT is_empty('SELECT * FROM outcome WHERE received <> sent::text AND received NOT IN (''22P03'', ''08P01'') LIMIT 5', 'random bytes are an error or a matrix');
SELECT cmp_ok(count(*), '>', 50::bigint, 'some random bytes are a matrix') FROM outcome WHERE received = sent::text;

-- Round trips
CREATE TEMP TABLE kept AS
SELECT n AS id, (SELECT array_agg(line) FROM (SELECT array_agg(sin(n * 1000 + i * 37 + j)::real * 10 ^ (j % 60 - 30)) AS line
                                              FROM generate_series(1, 1 + n % 6) AS i, generate_series(1, 1 + n / 3) AS j GROUP BY i) AS lines)::real[]::hart.matrix AS value
FROM generate_series(1, 60) AS n;
DELETE FROM matrices;
SELECT pg_temp.copy('kept', 'matrices') IS NOT NULL AS done \gset
SELECT is((SELECT count(*) FROM matrices m JOIN kept k USING (id) WHERE hart.matrix_send(m.value) = hart.matrix_send(k.value)), 60::bigint,
          'matrices come back from a binary copy bit for bit');
SELECT is((SELECT count(*) FROM kept WHERE value::text::hart.matrix::text = value::text
                                       AND hart.matrix_send(value::text::hart.matrix) = hart.matrix_send(value)), 60::bigint,
          'matrices come back from their text bit for bit');

-- Stored in tables: short headers, compression and out-of-line storage
CREATE TEMP TABLE stored (id int, value hart.matrix);
INSERT INTO stored SELECT n, array_agg(i)::real[]::hart.matrix FROM generate_series(1, 40) AS n, generate_series(1, n) AS i GROUP BY n;
SELECT is((SELECT count(*) FROM stored WHERE value::text = (SELECT '[[' || string_agg(i::text, ',' ORDER BY i) || ']]' FROM generate_series(1, id) AS i)),
          40::bigint, 'small matrices come back from a table');
INSERT INTO stored SELECT 1000, array_agg(0)::real[]::hart.matrix FROM generate_series(1, 50000);
SELECT cmp_ok(pg_column_size(value), '<', 20000, 'a matrix of zeros is compressed') FROM stored WHERE id = 1000;
SELECT is(hart.norm(value), 0::float8, 'a compressed matrix comes back') FROM stored WHERE id = 1000;
INSERT INTO stored SELECT 1001, array_agg(hashint4(i) % 1000)::real[]::hart.matrix FROM generate_series(1, 20000) AS i;
SELECT is(hart.matrix_row(value, 1), (SELECT array_agg(hashint4(i) % 1000)::real[] FROM generate_series(1, 20000) AS i), 'a matrix stored out of line comes back')
FROM stored WHERE id = 1001;
SELECT is(hart.add(small.value, small.value)::text, '[[2,4,6]]', 'functions take matrices from tables') FROM stored AS small WHERE id = 3;
SELECT is(hart.matmul(a.value, hart.transpose(b.value))::text, '[[0]]', 'functions take compressed matrices') FROM stored AS a, stored AS b WHERE a.id = 1000 AND b.id = 1000;

DO LANGUAGE plpython3u $$
import os
os.unlink(plpy.execute("SELECT current_setting('test.file') AS file")[0]['file'])
$$;
SELECT * FROM finish();
ROLLBACK;
