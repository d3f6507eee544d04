-- Hilbert curve through [-1,1]^4 (Skilling, "Programming the Hilbert curve", 2004).
-- The type geometry is bound at CREATE EXTENSION time, whatever the schema of PostGIS.

CREATE FUNCTION hart.hilbert_encode_4d(x float8, y float8, z float8, w float8, bits integer DEFAULT 12) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_hilbert_encode_4d';
COMMENT ON FUNCTION hart.hilbert_encode_4d(float8, float8, float8, float8, integer) IS
    'Hilbert index, of 4 · bits bits, of the cell that holds a point of [-1,1]^4; bits is 1 to 15 for each axis';

CREATE FUNCTION hart.hilbert_encode_4d(point geometry, bits integer DEFAULT 12) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_hilbert_encode_point';
COMMENT ON FUNCTION hart.hilbert_encode_4d(geometry, integer) IS
    'Hilbert index, of 4 · bits bits, of the cell that holds a PointZM; NULL when the point lacks a coordinate';

CREATE FUNCTION hart.hilbert_decode_4d_array(index bigint, bits integer DEFAULT 12) RETURNS float8[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_hilbert_decode_4d';
COMMENT ON FUNCTION hart.hilbert_decode_4d_array(bigint, integer) IS
    'centre of the cell with a Hilbert index, as an array of four coordinates';

CREATE FUNCTION hart.hilbert_decode_4d(index bigint, bits integer DEFAULT 12) RETURNS geometry
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_hilbert_decode_point';
COMMENT ON FUNCTION hart.hilbert_decode_4d(bigint, integer) IS
    'centre of the cell with a Hilbert index, as PointZM';
