-- hart.matrix: float4, rows × columns, and vector maths on it and on real[].

CREATE TYPE hart.matrix;

CREATE FUNCTION hart.matrix_in(cstring) RETURNS hart.matrix
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_in';
CREATE FUNCTION hart.matrix_out(hart.matrix) RETURNS cstring
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_out';
CREATE FUNCTION hart.matrix_recv(internal) RETURNS hart.matrix
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_recv';
CREATE FUNCTION hart.matrix_send(hart.matrix) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_send';
COMMENT ON FUNCTION hart.matrix_in(cstring) IS 'text form of a matrix: [[1,2],[3,4]]; one row may be written [1,2], NaN and Infinity are numbers';
COMMENT ON FUNCTION hart.matrix_out(hart.matrix) IS 'text form of a matrix, shortest decimals that read back exactly';
COMMENT ON FUNCTION hart.matrix_recv(internal) IS 'binary form of a matrix: int32 rows, int32 columns, float4 values';
COMMENT ON FUNCTION hart.matrix_send(hart.matrix) IS 'binary form of a matrix: int32 rows, int32 columns, float4 values';

CREATE TYPE hart.matrix (
    INPUT = hart.matrix_in, OUTPUT = hart.matrix_out, RECEIVE = hart.matrix_recv, SEND = hart.matrix_send,
    INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended,
    -- so that a literal without a type, as in hart.dot('[1,2]', '[3,4]'), means a matrix where real[] is possible too
    CATEGORY = 'A', PREFERRED = true
);
COMMENT ON TYPE hart.matrix IS 'float4 numbers in rows × columns, for example [[1,2],[3,4]]; of what a token has, one row a token';

CREATE FUNCTION hart.array_to_matrix(real[]) RETURNS hart.matrix
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_array_to_matrix';
CREATE FUNCTION hart.matrix_to_array(hart.matrix) RETURNS real[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_to_array';
COMMENT ON FUNCTION hart.array_to_matrix(real[]) IS 'cast: real[] becomes one row, real[][] rows and columns; nulls are refused';
COMMENT ON FUNCTION hart.matrix_to_array(hart.matrix) IS 'cast: a matrix becomes real[][], of two dimensions also when it has one row';
CREATE CAST (real[] AS hart.matrix) WITH FUNCTION hart.array_to_matrix(real[]) AS ASSIGNMENT;
CREATE CAST (hart.matrix AS real[]) WITH FUNCTION hart.matrix_to_array(hart.matrix) AS ASSIGNMENT;
COMMENT ON CAST (real[] AS hart.matrix) IS 'real[] becomes one row, real[][] rows and columns';
COMMENT ON CAST (hart.matrix AS real[]) IS 'rows and columns become real[][]';

CREATE FUNCTION hart.n_rows(hart.matrix) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_rows';
CREATE FUNCTION hart.n_cols(hart.matrix) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_cols';
CREATE FUNCTION hart.matrix_row(hart.matrix, row_no integer) RETURNS real[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_row_array';
CREATE FUNCTION hart.matrix_rows(hart.matrix, row_nos integer[]) RETURNS hart.matrix
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_pick_rows';
CREATE FUNCTION hart.last_row(hart.matrix) RETURNS hart.matrix
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_last_row';
COMMENT ON FUNCTION hart.n_rows(hart.matrix) IS 'number of rows';
COMMENT ON FUNCTION hart.n_cols(hart.matrix) IS 'number of columns';
COMMENT ON FUNCTION hart.matrix_row(hart.matrix, integer) IS 'one row as real[]; rows count from 1';
COMMENT ON FUNCTION hart.matrix_rows(hart.matrix, integer[]) IS 'some of the rows, in the order asked for; rows count from 1';
COMMENT ON FUNCTION hart.last_row(hart.matrix) IS 'the last row, as a matrix of one row';

CREATE FUNCTION hart.dot(real[], real[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_array_dot';
CREATE FUNCTION hart.norm(real[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_array_norm';
CREATE FUNCTION hart.cosine(real[], real[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_array_cosine';
CREATE FUNCTION hart.l2_distance(real[], real[]) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_array_l2_distance';
CREATE FUNCTION hart.add(real[], real[]) RETURNS real[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_array_add';
CREATE FUNCTION hart.scale(real[], factor real) RETURNS real[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_array_scale';
COMMENT ON FUNCTION hart.dot(real[], real[]) IS 'inner product of two vectors';
COMMENT ON FUNCTION hart.norm(real[]) IS 'Euclidean length of a vector';
COMMENT ON FUNCTION hart.cosine(real[], real[]) IS 'cosine of the angle between two vectors; NaN when one of them is zero';
COMMENT ON FUNCTION hart.l2_distance(real[], real[]) IS 'Euclidean distance of two vectors';
COMMENT ON FUNCTION hart.add(real[], real[]) IS 'sum of two vectors';
COMMENT ON FUNCTION hart.scale(real[], real) IS 'a vector times a number';

CREATE FUNCTION hart.dot(hart.matrix, hart.matrix) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_dot';
CREATE FUNCTION hart.norm(hart.matrix) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_norm';
CREATE FUNCTION hart.cosine(hart.matrix, hart.matrix) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_cosine';
CREATE FUNCTION hart.l2_distance(hart.matrix, hart.matrix) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_l2_distance';
CREATE FUNCTION hart.add(hart.matrix, hart.matrix) RETURNS hart.matrix
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_add';
CREATE FUNCTION hart.scale(hart.matrix, factor real) RETURNS hart.matrix
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_scale';
CREATE FUNCTION hart.matmul(hart.matrix, hart.matrix) RETURNS hart.matrix
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_multiply';
CREATE FUNCTION hart.transpose(hart.matrix) RETURNS hart.matrix
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_transpose';
CREATE FUNCTION hart.matmul(real[], real[]) RETURNS real[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN hart.matmul($1::hart.matrix, $2::hart.matrix)::real[];
COMMENT ON FUNCTION hart.matmul(real[], real[]) IS 'matrix product of real[][] (m, k) by (k, n) → (m, n), in float4; an array of one dimension is one row';
COMMENT ON FUNCTION hart.dot(hart.matrix, hart.matrix) IS 'sum of the products of the numbers of two matrices of one shape';
COMMENT ON FUNCTION hart.norm(hart.matrix) IS 'Frobenius norm';
COMMENT ON FUNCTION hart.cosine(hart.matrix, hart.matrix) IS 'cosine of two matrices of one shape taken as vectors; NaN when one of them is zero';
COMMENT ON FUNCTION hart.l2_distance(hart.matrix, hart.matrix) IS 'Frobenius norm of the difference of two matrices of one shape';
COMMENT ON FUNCTION hart.add(hart.matrix, hart.matrix) IS 'sum of two matrices of one shape';
COMMENT ON FUNCTION hart.scale(hart.matrix, real) IS 'a matrix times a number';
COMMENT ON FUNCTION hart.matmul(hart.matrix, hart.matrix) IS 'matrix product (m, k) by (k, n) → (m, n), in float4';
COMMENT ON FUNCTION hart.transpose(hart.matrix) IS 'rows become columns';

CREATE FUNCTION hart.argmax(hart.matrix) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_matrix_argmax';
CREATE FUNCTION hart.top_k(hart.matrix, k integer, OUT index integer, OUT value real) RETURNS SETOF record
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 10 AS 'MODULE_PATHNAME', 'hart_matrix_top_k';
COMMENT ON FUNCTION hart.argmax(hart.matrix) IS 'column of the largest number of a matrix of one row, from 0 as token ids are; the first of equal ones, NaN ignored';
COMMENT ON FUNCTION hart.top_k(hart.matrix, integer) IS 'the k largest numbers of a matrix of one row with their columns, from 0; largest first';

CREATE FUNCTION hart.softmax_sql(x real[], temperature float8 DEFAULT 1) RETURNS real[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT temperature > 0 OR temperature = 'Infinity' OR temperature = 'NaN' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('temperature must be a number above 0, not %s', temperature),
            HINT = 'Use 1 for plain softmax; a lower temperature prefers the largest number more.';
    END IF;
    -- what is too small for the type is 0: SQL's exp() and its cast to real call that an error
    RETURN coalesce((
        SELECT array_agg((CASE WHEN weight < total * 1e-44 THEN 0 ELSE weight / total END)::real ORDER BY position)
        FROM (SELECT position, weight, sum(weight) OVER () AS total
              FROM (SELECT position, CASE WHEN exponent < -700 THEN 0 ELSE exp(exponent) END AS weight
                    FROM (SELECT position, (value::float8 - max(value::float8) OVER ()) / temperature AS exponent
                          FROM unnest(x) WITH ORDINALITY AS element (value, position)) AS exponents
                   ) AS weights
             ) AS shares), '{}');
END $$;
COMMENT ON FUNCTION hart.softmax_sql(real[], float8) IS 'softmax by window functions: the plain SQL twin of hart.softmax, to read and to test against';
