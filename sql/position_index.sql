-- Nearest positions by index: for points of four dimensions what PostGIS' gist_geometry_ops_nd does, with a distance function of our own.

CREATE FUNCTION hart.position_distance(entry internal, point geometry, strategy smallint, subtype oid, recheck internal) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_position_distance';
COMMENT ON FUNCTION hart.position_distance(internal, geometry, smallint, oid, internal) IS 'distance function of the operator class hart.position_ops';

CREATE OPERATOR CLASS hart.position_ops FOR TYPE geometry USING gist AS
    STORAGE gidx,
    OPERATOR 3 &&&,
    OPERATOR 13 <<->> FOR ORDER BY pg_catalog.float_ops,
    FUNCTION 1 geometry_gist_consistent_nd(internal, geometry, integer),
    FUNCTION 2 geometry_gist_union_nd(bytea, internal),
    FUNCTION 3 geometry_gist_compress_nd(internal),
    FUNCTION 5 geometry_gist_penalty_nd(internal, internal, internal),
    FUNCTION 6 geometry_gist_picksplit_nd(internal, internal),
    FUNCTION 7 geometry_gist_same_nd(geometry, geometry, internal),
    FUNCTION 8 hart.position_distance(internal, geometry, smallint, oid, internal);
COMMENT ON OPERATOR CLASS hart.position_ops USING gist IS 'indexes of token positions: boxes that overlap (&&&), and points in the order of their distance (<<->>), in four dimensions';
COMMENT ON OPERATOR FAMILY hart.position_ops USING gist IS 'indexes of token positions';
