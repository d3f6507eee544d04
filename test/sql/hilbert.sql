-- The Hilbert curve through [-1,1]^4.
BEGIN;
\ir include/errors.sql
SELECT plan(61);
SET LOCAL jit = off;

-- A whole grid: 8 cells an axis, 4096 cells
CREATE TEMP TABLE cell AS
SELECT x, y, z, w, hart.hilbert_encode_4d((x + 0.5) / 4 - 1, (y + 0.5) / 4 - 1, (z + 0.5) / 4 - 1, (w + 0.5) / 4 - 1, 3) AS index
FROM generate_series(0, 7) AS x, generate_series(0, 7) AS y, generate_series(0, 7) AS z, generate_series(0, 7) AS w;
SELECT is((count(*), count(DISTINCT index), min(index), max(index)), (4096::bigint, 4096::bigint, 0::bigint, 4095::bigint), 'every cell has an index of its own') FROM cell;
SELECT is_empty('SELECT a.index FROM cell AS a JOIN cell AS b ON b.index = a.index + 1
                 WHERE abs(a.x - b.x) + abs(a.y - b.y) + abs(a.z - b.z) + abs(a.w - b.w) <> 1 LIMIT 5', 'cells that follow each other share a face');
SELECT is((SELECT count(*) FROM cell AS a JOIN cell AS b ON b.index = a.index + 1), 4095::bigint, 'the curve is unbroken');
SELECT is_empty('SELECT index FROM cell, LATERAL hart.hilbert_decode_4d_array(index, 3) AS c
                 WHERE c <> ARRAY[(x + 0.5) / 4 - 1, (y + 0.5) / 4 - 1, (z + 0.5) / 4 - 1, (w + 0.5) / 4 - 1]::float8[] LIMIT 5', 'decoding gives the centre of the cell');
SELECT is_empty('SELECT index FROM cell, LATERAL hart.hilbert_decode_4d(index, 3) AS p
                 WHERE ST_AsText(p) <> ST_AsText(ST_MakePoint((x + 0.5) / 4 - 1, (y + 0.5) / 4 - 1, (z + 0.5) / 4 - 1, (w + 0.5) / 4 - 1)) LIMIT 5', 'as a point too');
SELECT is_empty('SELECT index FROM cell WHERE hart.hilbert_encode_4d((x + 0.5) / 4 - 1, (y + 0.5) / 4 - 1, (z + 0.5) / 4 - 1, (w + 0.5) / 4 - 1, 2) <> index >> 4 LIMIT 5',
                'with fewer bits the index is a prefix');

-- A second implementation: the curve with a bit more is 16 copies of the curve, turned, mirrored and joined.
-- Copy k takes coordinate i from axis turn[i] of the curve, and mirrors those of `mirror`.
CREATE TEMP TABLE copy (k int, corner int[], turn int[], mirror int[]);
INSERT INTO copy VALUES
    (0, '{0,0,0,0}', '{2,3,4,1}', '{0,0,0,0}'),  (1, '{0,0,0,1}', '{2,3,1,4}', '{0,0,0,0}'),
    (2, '{0,0,1,1}', '{2,1,3,4}', '{0,0,0,0}'),  (3, '{0,0,1,0}', '{2,4,3,1}', '{0,1,0,1}'),
    (4, '{0,1,1,0}', '{4,2,3,1}', '{0,0,0,0}'),  (5, '{0,1,1,1}', '{1,2,3,4}', '{0,0,0,0}'),
    (6, '{0,1,0,1}', '{3,2,1,4}', '{1,0,1,0}'),  (7, '{0,1,0,0}', '{3,2,4,1}', '{1,0,0,1}'),
    (8, '{1,1,0,0}', '{3,2,4,1}', '{0,0,0,0}'),  (9, '{1,1,0,1}', '{3,2,1,4}', '{0,0,0,0}'),
    (10, '{1,1,1,1}', '{1,2,3,4}', '{0,0,0,0}'), (11, '{1,1,1,0}', '{4,2,3,1}', '{1,0,0,1}'),
    (12, '{1,0,1,0}', '{2,4,3,1}', '{1,1,0,0}'), (13, '{1,0,1,1}', '{2,1,3,4}', '{1,1,0,0}'),
    (14, '{1,0,0,1}', '{2,3,1,4}', '{1,0,1,0}'), (15, '{1,0,0,0}', '{2,3,4,1}', '{1,0,0,1}');
CREATE TEMP TABLE curve AS
WITH RECURSIVE curve AS (
    SELECT 0 AS bits, 0::bigint AS index, '{0,0,0,0}'::int[] AS at
    UNION ALL
    SELECT bits + 1, (k::bigint << 4 * bits) + index,
           ARRAY[corner[1] * (1 << bits) + abs(mirror[1] * ((1 << bits) - 1) - at[turn[1]]), corner[2] * (1 << bits) + abs(mirror[2] * ((1 << bits) - 1) - at[turn[2]]),
                 corner[3] * (1 << bits) + abs(mirror[3] * ((1 << bits) - 1) - at[turn[3]]), corner[4] * (1 << bits) + abs(mirror[4] * ((1 << bits) - 1) - at[turn[4]])]
    FROM curve, copy WHERE bits < 4
)
SELECT * FROM curve WHERE bits > 0;
CREATE FUNCTION pg_temp.centre(cell int, bits int) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$ SELECT (cell + 0.5) / (1 << bits - 1) - 1 $$;
SELECT is((SELECT array_agg(n ORDER BY bits) FROM (SELECT bits, count(*) AS n FROM curve GROUP BY bits) AS sizes), '{16,256,4096,65536}', 'the twin has all cells');
SELECT is_empty('SELECT bits, index, at FROM curve
                 WHERE hart.hilbert_encode_4d(pg_temp.centre(at[1], bits), pg_temp.centre(at[2], bits), pg_temp.centre(at[3], bits), pg_temp.centre(at[4], bits), bits) <> index LIMIT 5',
                'the index is that of the twin');

-- The same one point at a time, to the most bits there are
CREATE FUNCTION pg_temp.twin(at int[], bits int) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    result bigint := 0;
    c copy;
    inner_at int[];
BEGIN
    FOR bit IN REVERSE bits - 1 .. 0 LOOP
        SELECT * INTO c FROM copy WHERE corner = ARRAY[at[1] >> bit & 1, at[2] >> bit & 1, at[3] >> bit & 1, at[4] >> bit & 1];
        FOR i IN 1 .. 4 LOOP
            inner_at[c.turn[i]] := abs(c.mirror[i] * ((1 << bit) - 1) - (at[i] & (1 << bit) - 1));
        END LOOP;
        result := result << 4 | c.k;
        at := inner_at;
    END LOOP;
    RETURN result;
END $$;
CREATE TEMP TABLE point AS
SELECT bits, ARRAY[hashint4(n) & 32767, hashint4(n + 1000) & 32767, hashint4(n + 2000) & 32767, hashint4(n + 3000) & 32767] AS at
FROM generate_series(1, 15) AS bits, generate_series(1, 25) AS n;
UPDATE point SET at = ARRAY[at[1] >> 15 - bits, at[2] >> 15 - bits, at[3] >> 15 - bits, at[4] >> 15 - bits];
SELECT is_empty('SELECT bits, at, pg_temp.twin(at, bits) FROM point
                 WHERE hart.hilbert_encode_4d(pg_temp.centre(at[1], bits), pg_temp.centre(at[2], bits), pg_temp.centre(at[3], bits), pg_temp.centre(at[4], bits), bits)
                       <> pg_temp.twin(at, bits) LIMIT 5', 'with 1 to 15 bits the index is that of the twin');

-- Random points: there and back within half a cell
CREATE TEMP TABLE place AS
SELECT bits, hashint4(n) / 2147483648.0 AS x, hashint4(n + 10000) / 2147483648.0 AS y, hashint4(n + 20000) / 2147483648.0 AS z, hashint4(n + 30000) / 2147483648.0 AS w
FROM generate_series(1, 15) AS bits, generate_series(1, 200) AS n;
SELECT is_empty('SELECT * FROM place, LATERAL hart.hilbert_decode_4d_array(hart.hilbert_encode_4d(x, y, z, w, bits), bits) AS c
                 WHERE greatest(abs(c[1] - x), abs(c[2] - y), abs(c[3] - z), abs(c[4] - w)) > 1.0 / (1 << bits) LIMIT 5', 'decode(encode(point)) is within half a cell');
SELECT is_empty('SELECT * FROM place, LATERAL hart.hilbert_encode_4d(x, y, z, w, bits) AS index, LATERAL hart.hilbert_decode_4d_array(index, bits) AS c
                 WHERE hart.hilbert_encode_4d(c[1], c[2], c[3], c[4], bits) <> index LIMIT 5', 'encode(decode(index)) is the index');
SELECT is_empty('SELECT * FROM place WHERE bits > 1 AND hart.hilbert_encode_4d(x, y, z, w, bits - 1) <> hart.hilbert_encode_4d(x, y, z, w, bits) >> 4 LIMIT 5', 'fewer bits are a prefix');

-- Borders: a cell begins at its lower faces; the last one holds 1
SELECT is(hart.hilbert_encode_4d(-1, -1, -1, -1), 0::bigint, 'the curve begins at the lowest corner');
SELECT is(hart.hilbert_encode_4d(1, 1, 1, 1, b), hart.hilbert_encode_4d(1 - 1e-9, 1 - 1e-9, 1 - 1e-9, 1 - 1e-9, b), format('the highest corner lies in the last cell of %s bits', b))
FROM unnest(ARRAY[1, 2, 12, 15]) AS b;
SELECT is(hart.hilbert_encode_4d(0, 0, 0, 0), hart.hilbert_encode_4d(1e-9, 1e-9, 1e-9, 1e-9), 'zero belongs to the cell above');
SELECT isnt(hart.hilbert_encode_4d(0, 0, 0, 0), hart.hilbert_encode_4d(-1e-9, 0, 0, 0), 'and not to the one below');
SELECT is(hart.hilbert_encode_4d('-0', 0, 0, 0), hart.hilbert_encode_4d(0, 0, 0, 0), 'minus zero is zero');
SELECT cmp_ok(hart.hilbert_encode_4d(x, x, x, x, 15), '<', 1::bigint << 60, format('15 bits an axis fit at %s', x)) FROM unnest(ARRAY[-1, 0, 1]::float8[]) AS x;
SELECT is(hart.hilbert_encode_4d(1, -1, -1, -1, 15), (1::bigint << 60) - 1, 'the curve ends at the far end of the first axis');

-- Defaults and geometry
SELECT is(hart.hilbert_encode_4d(0.1, 0.2, 0.3, 0.4), hart.hilbert_encode_4d(0.1, 0.2, 0.3, 0.4, 12), '12 bits are the default');
SELECT is(ST_AsText(hart.hilbert_decode_4d(123456789)), ST_AsText(hart.hilbert_decode_4d(123456789, 12)), 'when decoding too');
SELECT is(hart.hilbert_encode_4d(ST_MakePoint(0.1, 0.2, 0.3, 0.4), 7), hart.hilbert_encode_4d(0.1, 0.2, 0.3, 0.4, 7), 'a point is encoded as its coordinates');
SELECT is(hart.hilbert_encode_4d(ST_MakePoint(0.1, 0.2, 0.3, 0.4)), hart.hilbert_encode_4d(0.1, 0.2, 0.3, 0.4), 'with 12 bits by default');
SELECT is(format('%s %s %s', ST_NDims(p), GeometryType(p), ST_SRID(p)), '4 POINT 0', 'a decoded point has four coordinates')
FROM hart.hilbert_decode_4d(7) AS p;
SELECT is(hart.hilbert_encode_4d(hart.hilbert_decode_4d(i, 9), 9), i, format('point %s comes back', i)) FROM unnest(ARRAY[0, 1, 777777, (1::bigint << 36) - 1]) AS i;

-- Errors
SELECT pg_temp.refused(format('SELECT hart.hilbert_encode_4d(%s)', args), '22003', format('refuses (%s)', args))
FROM unnest(ARRAY['1.0000001, 0, 0, 0', '0, -1.0000001, 0, 0', '0, 0, 2, 0', '0, 0, 0, -1e300', '''NaN'', 0, 0, 0', '0, 0, 0, ''NaN''', '0, ''Infinity'', 0, 0',
                  '0, 0, ''-Infinity'', 0', '0, 0, 0, 0, 0', '0, 0, 0, 0, 16', '0, 0, 0, 0, -1', '0, 0, 0, 0, 2147483647', 'ST_MakePoint(2, 0, 0, 0)', 'ST_MakePoint(0, 0, 0, 0), 16']) AS args;
SELECT pg_temp.refused(format('SELECT hart.hilbert_decode_4d(%s)', args), '22003', format('decoding refuses (%s)', args))
FROM unnest(ARRAY['-1', '-9223372036854775808', '16, 1', '281474976710656', '1152921504606846976, 15', '9223372036854775807, 15', '0, 0', '0, 16', '0, -2147483648']) AS args;
SELECT ok(hart.hilbert_encode_4d(NULL, 0, 0, 0) IS NULL AND hart.hilbert_encode_4d(0, 0, 0, 0, NULL) IS NULL AND hart.hilbert_decode_4d(NULL) IS NULL
          AND hart.hilbert_encode_4d(NULL::geometry) IS NULL, 'NULL gives NULL');
SELECT ok(hart.hilbert_encode_4d(p::geometry) IS NULL, format('%s lacks coordinates, so it has no index', p))
FROM unnest(ARRAY['POINT(0 0)', 'POINT Z (0 0 0)', 'POINT M (0 0 0)', 'POINT ZM EMPTY']) AS p;

SELECT * FROM finish();
ROLLBACK;
