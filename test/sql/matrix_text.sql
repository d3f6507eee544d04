-- The text form of hart.matrix.
BEGIN;
\ir include/errors.sql
SELECT plan(57);

-- What is written reads back as it is defined
SELECT is(hart.matrix_out(input::hart.matrix)::text, output, 'reads ' || input)
FROM (VALUES ('[[1,2],[3,4]]', '[[1,2],[3,4]]'),
             ('[1,2,3]', '[[1,2,3]]'),
             ('[7]', '[[7]]'),
             ('[[7]]', '[[7]]'),
             ('[[1],[2]]', '[[1],[2]]'),
             ('[]', '[]'),
             (' [ ] ', '[]'),
             ('[[]]', '[[]]'),
             ('[[],[ ]]', '[[],[]]'),
             (E' [\t[ 1 ,\n2 ] ,\r[3,4 ] ]\n', '[[1,2],[3,4]]'),
             ('[1e3,-2.5E-1,+3,.5,4.]', '[[1000,-0.25,3,0.5,4]]'),
             ('[-0,0]', '[[-0,0]]'),
             ('[NaN,nan,Infinity,-inf,+INFINITY]', '[[NaN,NaN,Infinity,-Infinity,Infinity]]'),
             ('[3.4028235e38,1e-45]', '[[3.4028235e+38,1e-45]]'),
             ('[0.1,16777217,123456789]', '[[0.1,1.6777216e+07,1.2345679e+08]]')) AS form (input, output);

SELECT is(hart.n_rows('[[1,2,3],[4,5,6]]'), 2, 'rows are counted');
SELECT is(hart.n_cols('[[1,2,3],[4,5,6]]'), 3, 'columns are counted');
SELECT is((hart.n_rows('[]'), hart.n_cols('[]')), (0, 0), 'the empty matrix has no rows and no columns');
SELECT is(pg_typeof(hart.n_rows('[1]'))::text, 'integer', 'counts are integers');
SELECT is((hart.n_rows('[[],[]]'), hart.n_cols('[[],[]]')), (2, 0), 'rows may have no columns');
SELECT ok(NULL::hart.matrix IS NULL AND hart.n_rows(NULL::hart.matrix) IS NULL, 'NULL stays NULL');

-- What is no matrix is refused
SELECT pg_temp.refused(format('SELECT %L::hart.matrix', input), '22P02', format('refuses %L', input))
FROM unnest(ARRAY['', ' ', '[', ']', '[[', '[[],1]', '[[[]]]', '[1', '[1,', '[1,]', '[,1]', '[1 2]', '[1,,2]', '[[1,2]', '[[1,2],]', '[[1,2],3]',
                  '[1,[2]]', '[[1],[[2]]]', '[x]', '[1x]', '[--1]', '[1.2.3]', '1', '1,2', '{1,2}', '{{1,2},{3,4}}', '[1]x', '[1] [2]', '[[1,2]];']) AS bad (input);
SELECT pg_temp.refused('SELECT ''[[1,2],[3]]''::hart.matrix', '22000', 'rows must be equally long');
SELECT matches(message, '2 and 1', 'the error names both lengths') FROM pg_temp.error_of('SELECT ''[[1,2],[3]]''::hart.matrix');
SELECT pg_temp.refused('SELECT ''[1e39]''::hart.matrix', '22003', 'too large a number is out of range');
SELECT cmp_ok(length(message), '<', 300, 'an error does not repeat a long input')
FROM pg_temp.error_of(format('SELECT %L::hart.matrix', '[' || repeat('1,', 5000) || 'x'));

-- Random texts read as PostgreSQL reads them as arrays, apart from the brackets
CREATE FUNCTION pg_temp.twin(input text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    a real[];
BEGIN
    a := translate(input, '[]', '{}')::real[];
    IF a = '{}' THEN
        RETURN CASE WHEN input ~ '^ *\[ *(\[ *\] *(, *\[ *\] *)*)?\] *$' THEN replace(input, ' ', '') ELSE 'error' END;
    END IF;
    RETURN CASE array_ndims(a) WHEN 1 THEN '[' || translate(a::text, '{}', '[]') || ']'
                               WHEN 2 THEN translate(a::text, '{}', '[]')
                               ELSE 'error' END;
EXCEPTION WHEN invalid_text_representation OR numeric_value_out_of_range THEN
    RETURN 'error';
END $$;

CREATE FUNCTION pg_temp.parsed(input text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN input::hart.matrix::text;
EXCEPTION WHEN invalid_text_representation OR data_exception OR numeric_value_out_of_range THEN
    RETURN 'error';
END $$;

SET LOCAL jit = off;     -- costs more than it saves here
CREATE TEMP TABLE fuzz (input text);
SELECT setseed(0.25);
-- tokens in any order
INSERT INTO fuzz (input)
SELECT string_agg((ARRAY['[', '[', '[', ']', ']', ']', ',', ',', ',', ' ', '1', '-2.5', '1e3', 'NaN', 'Infinity', '-inf', '.', 'x', '+', '1e', '12', '0'])[1 + floor(random() * 22)::int], '')
FROM generate_series(1, 3000) AS sample, generate_series(1, 1 + sample % 9) GROUP BY sample;
-- matrices, and matrices with one character replaced, inserted or removed
INSERT INTO fuzz (input)
SELECT CASE sample % 4 WHEN 0 THEN text
                       WHEN 1 THEN overlay(text PLACING noise FROM at FOR 1)
                       WHEN 2 THEN overlay(text PLACING noise FROM at FOR 0)
                       ELSE overlay(text PLACING '' FROM at FOR 1) END
FROM (SELECT sample, text, 1 + floor(random() * length(text))::int AS at, substr('[],. 0-e', 1 + floor(random() * 8)::int, 1) AS noise
      FROM (SELECT sample, '[' || string_agg(line, ',') || ']' AS text
            FROM (SELECT sample, i, '[' || string_agg(round((random() * 200 - 100)::numeric, j % 4)::text, ',') || ']' AS line
                  FROM generate_series(1, 1500) AS sample, generate_series(1, 1 + sample % 3) AS i, generate_series(1, 1 + sample % 5) AS j
                  GROUP BY sample, i) AS lines GROUP BY sample) AS valid) AS noisy;

CREATE TEMP TABLE result AS SELECT input, pg_temp.parsed(input) AS parsed, pg_temp.twin(input) AS twin FROM fuzz;
SELECT cmp_ok(count(*) FILTER (WHERE twin <> 'error'), '>', 500::bigint, 'the random texts hold matrices') FROM result;
SELECT cmp_ok(count(*) FILTER (WHERE twin = 'error'), '>', 500::bigint, 'the random texts hold errors') FROM result;
SELECT is_empty('SELECT * FROM result WHERE parsed <> twin LIMIT 5', 'random texts read as the twin reads them');

SELECT * FROM finish();
ROLLBACK;
