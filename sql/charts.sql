-- Where the tokens of a model lie: charts of its embeddings in [-1,1]^4. Chart 0 is linear, an affine map of the embedding's rows that can be inverted, so that a
-- token can be moved; charts from 1 on are layouts that keep neighbours, made by hart.learn_geometry. Everybody may read the positions of models they may use.

CREATE TABLE hart.charts (
    model_id        integer NOT NULL REFERENCES hart.model_registry ON DELETE CASCADE,
    chart           integer NOT NULL CHECK (chart >= 0),
    kind            text NOT NULL CHECK (kind IN ('linear', 'neighbourhood')),
    mean            float8[],
    basis           float8[],
    scale           float8 NOT NULL CHECK (scale > 0),
    tokens          integer NOT NULL CHECK (tokens >= 0),
    parameters      jsonb NOT NULL DEFAULT '{}',
    seed            bigint,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model_id, chart),
    CHECK ((chart = 0) = (kind = 'linear')),
    CHECK (CASE kind WHEN 'linear' THEN array_ndims(basis) = 2 AND array_length(basis, 1) = 4 AND array_length(basis, 2) = cardinality(mean)
                     ELSE basis IS NULL AND mean IS NULL END)
);
COMMENT ON TABLE hart.charts IS 'the charts of each model in which its tokens have positions';
COMMENT ON COLUMN hart.charts.kind IS 'linear: position = scale · basis · (embedding row - mean); neighbourhood: a layout that keeps neighbours';
COMMENT ON COLUMN hart.charts.mean IS 'mean of the embedding''s rows at the ingest';
COMMENT ON COLUMN hart.charts.basis IS 'four orthonormal directions, one a row; zeros where the embedding has fewer dimensions';
COMMENT ON COLUMN hart.charts.scale IS 'factor that puts all tokens into the cube';
COMMENT ON COLUMN hart.charts.tokens IS 'number of tokens that have a position';
COMMENT ON COLUMN hart.charts.parameters IS 'what the chart was made with';
SELECT pg_catalog.pg_extension_config_dump('hart.charts', '');

CREATE TABLE hart.token_positions (
    model_id        integer NOT NULL,
    chart           integer NOT NULL,
    token_id        integer NOT NULL,
    atom_id         bigint NOT NULL,
    position        geometry(PointZM, 0) NOT NULL,
    -- an index there is of what lies in [-1,1]^4; to encode anything else is an error, or NULL where a coordinate lacks
    CONSTRAINT position_in_cube CHECK (hart.hilbert_encode_4d(position, 12) IS NOT NULL),
    FOREIGN KEY (model_id, chart) REFERENCES hart.charts ON DELETE CASCADE
) PARTITION BY LIST (model_id);
COMMENT ON TABLE hart.token_positions IS 'position of each token in each chart; UPDATE of one in chart 0 moves the token''s embedding. Partitions: hart.token_positions_<model_id>, in it …_<chart>';
-- Keys and indexes are the leaves' own: a dump restores them there, and would meet what the attachment to an indexed table had made already.

CREATE FUNCTION hart.can_move(model_id integer) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(has_column_privilege(hart.tiles_of(model_id), 'payload', 'UPDATE'), false);
COMMENT ON FUNCTION hart.can_move(integer) IS 'whether the current role has UPDATE on a model''s tiles, which is what it takes to move its tokens';

CREATE FUNCTION hart.movable_models() RETURNS integer[]
LANGUAGE sql STABLE PARALLEL SAFE
RETURN ARRAY(SELECT r.model_id FROM hart.model_registry r WHERE hart.can_move(r.model_id));
COMMENT ON FUNCTION hart.movable_models() IS 'numbers of the models whose tokens the current role may move';

-- The subqueries ask once a statement, not once a row.
ALTER TABLE hart.charts ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON hart.charts FOR SELECT USING (hart.can_read(model_id));
COMMENT ON POLICY readers ON hart.charts IS 'charts tell of the weights: they are for those who may read the tiles';
ALTER TABLE hart.token_positions ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON hart.token_positions FOR SELECT
    USING (model_id = ANY ((SELECT hart.readable_models())::integer[]));
COMMENT ON POLICY readers ON hart.token_positions IS 'positions are for those who may read the model''s tiles';
CREATE POLICY movers ON hart.token_positions FOR UPDATE
    USING (model_id = ANY ((SELECT hart.movable_models())::integer[]));
COMMENT ON POLICY movers ON hart.token_positions IS 'tokens are moved by those who may change the model''s tiles';
GRANT SELECT ON hart.charts, hart.token_positions TO PUBLIC;
GRANT UPDATE (position) ON hart.token_positions TO PUBLIC;

-- PostGIS may be in any schema: bodies in SQL-standard form bind to it at CREATE EXTENSION time.
CREATE FUNCTION hart.point(coordinates float8[]) RETURNS geometry
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ST_MakePoint(coordinates[1], coordinates[2], coordinates[3], coordinates[4]);
COMMENT ON FUNCTION hart.point(float8[]) IS 'four coordinates as PointZM';

CREATE FUNCTION hart.coordinates(point geometry) RETURNS float8[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY[ST_X(point), ST_Y(point), ST_Z(point), ST_M(point)];
COMMENT ON FUNCTION hart.coordinates(geometry) IS 'the four coordinates of a PointZM; NULL for those it lacks';

CREATE FUNCTION hart.distance_4d(a geometry, b geometry) RETURNS float8
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN sqrt((ST_X(a) - ST_X(b)) ^ 2 + (ST_Y(a) - ST_Y(b)) ^ 2 + (ST_Z(a) - ST_Z(b)) ^ 2 + (ST_M(a) - ST_M(b)) ^ 2);
COMMENT ON FUNCTION hart.distance_4d(geometry, geometry) IS 'Euclidean distance of two PointZM in all four dimensions';

-- Every leaf has the triggers below, for UPDATE of it alone: statement triggers of a partitioned table do not run for its partitions.
CREATE FUNCTION hart.check_move() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new_place float8[] := hart.coordinates(NEW.position);
BEGIN
    IF (NEW.model_id, NEW.chart, NEW.token_id, NEW.atom_id) IS DISTINCT FROM (OLD.model_id, OLD.chart, OLD.token_id, OLD.atom_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = 'only the position of a token can be changed',
            HINT = 'UPDATE hart.token_positions SET position = … WHERE chart = 0 AND token_id = ….';
    ELSIF NEW.position IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = format('position of token %s must not be null', NEW.token_id),
            HINT = 'Every token has a position; give a PointZM in [-1,1]^4.';
    ELSIF NEW.chart <> 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('chart %s is a neighbourhood chart, in which tokens cannot be moved', NEW.chart),
            HINT = 'Move the token in chart 0, which is linear: UPDATE hart.token_positions SET position = … WHERE chart = 0 AND ….';
    ELSIF array_position(new_place, NULL) IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('position of token %s lacks a coordinate', NEW.token_id),
            HINT = 'Give a PointZM with four coordinates, such as ST_MakePoint(x, y, z, m).';
    ELSIF NOT (SELECT bool_and(c BETWEEN -1 AND 1) FROM unnest(new_place) AS c) THEN
        RAISE EXCEPTION USING ERRCODE = 'numeric_value_out_of_range', MESSAGE = format('position of token %s is outside [-1,1]^4', NEW.token_id),
            DETAIL = format('Its coordinates are %s.', array_to_string(new_place, ', ')),
            HINT = 'All four coordinates must be from -1 to 1.';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION hart.check_move() IS 'trigger: refuse what a token''s position cannot become';
CREATE TRIGGER check_move BEFORE UPDATE ON hart.token_positions FOR EACH ROW EXECUTE FUNCTION hart.check_move();
COMMENT ON TRIGGER check_move ON hart.token_positions IS 'positions stay in [-1,1]^4, and only those of chart 0 change';

CREATE FUNCTION hart.move_tokens() RETURNS trigger
LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import positions
positions.move(plpy, GD)
$$;
COMMENT ON FUNCTION hart.move_tokens() IS 'trigger: move the embeddings of tokens to where their positions were moved';
CREATE TRIGGER move_tokens AFTER UPDATE ON hart.token_positions REFERENCING NEW TABLE AS moved FOR EACH STATEMENT EXECUTE FUNCTION hart.move_tokens();
COMMENT ON TRIGGER move_tokens ON hart.token_positions IS 'the embedding moves with the position';

-- Making charts. A chart's table is filled by the role that makes it, then indexed and attached.

CREATE FUNCTION hart.check_may_chart(model_id integer, caller regrole) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM hart.model_registry r
    WHERE r.model_id = check_may_chart.model_id
      AND (r.state = 'ready' OR r.backend_pid = pg_backend_pid())
      AND pg_has_role(caller, (SELECT c.relowner FROM pg_class c WHERE c.oid = hart.tiles_of(r.model_id)), 'USAGE');
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied to make a chart of model number %s', model_id),
            HINT = 'Only the owner of the model''s tiles may make charts of it.';
    END IF;
END $$;
COMMENT ON FUNCTION hart.check_may_chart(integer, regrole) IS 'error unless a role owns the model';

CREATE FUNCTION hart.begin_chart(caller regrole, model_id integer, chart integer) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET default_tablespace = '' AS $$
DECLARE
    leaf text := format('hart.token_positions_%s_%s', model_id, chart);
BEGIN
    PERFORM hart.check_may_chart(model_id, caller);
    EXECUTE format('CREATE TABLE %s (LIKE hart.token_positions INCLUDING CONSTRAINTS, CHECK (model_id = %s AND chart = %s)) USING heap', leaf, model_id, chart);
    EXECUTE format('COMMENT ON TABLE %s IS %L', leaf, format('positions of tokens of model number %s in chart %s', model_id, chart));
    EXECUTE format('ALTER TABLE %s OWNER TO %s', leaf, caller);
    RETURN leaf;
END $$;
COMMENT ON FUNCTION hart.begin_chart(regrole, integer, integer) IS 'hart.begin_chart for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.begin_chart(regrole, integer, integer) FROM PUBLIC;
CREATE FUNCTION hart.begin_chart(model_id integer, chart integer) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.begin_chart(integer, integer) IS 'make the table for the positions of a chart, not yet a partition';

CREATE FUNCTION hart.add_move_trigger(relation text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER move_tokens AFTER UPDATE ON %s REFERENCING NEW TABLE AS moved FOR EACH STATEMENT EXECUTE FUNCTION hart.move_tokens()', relation);
END $$;
COMMENT ON FUNCTION hart.add_move_trigger(text) IS 'let embeddings follow the positions of a partition too when it is updated by its own name';

CREATE FUNCTION hart.finish_chart(caller regrole, model_id integer, chart integer, scale float8, mean float8[], basis float8[], parameters jsonb, seed bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET default_tablespace = '' AS $$
DECLARE
    node text := format('hart.token_positions_%s', model_id);
    leaf text := format('%s_%s', node, chart);
    owner text := caller;
    n integer;
BEGIN
    PERFORM hart.check_may_chart(model_id, caller);
    -- the leaf belongs to the caller: what runs from here on with the owner's rights must be a table, and stay the one it is
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', leaf);
    PERFORM FROM pg_class c WHERE c.oid = to_regclass(leaf) AND c.relkind = 'r';
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a table', leaf), HINT = 'Drop it, and make the chart again.';
    END IF;
    EXECUTE format('SELECT count(*) FROM ONLY %s', leaf) INTO n;
    -- attaching adds a foreign key, which takes this lock too: now, so that two sessions cannot wait for each other
    LOCK TABLE hart.charts IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO hart.charts (model_id, chart, kind, mean, basis, scale, tokens, parameters, seed)
    VALUES (model_id, chart, CASE chart WHEN 0 THEN 'linear' ELSE 'neighbourhood' END, mean, basis, scale, n, coalesce(parameters, '{}'), seed);
    IF to_regclass(node) IS NULL THEN
        -- attached afterwards, since CREATE TABLE … PARTITION OF would lock out all readers of hart.token_positions
        EXECUTE format('CREATE TABLE %s (LIKE hart.token_positions INCLUDING CONSTRAINTS) PARTITION BY LIST (chart)', node);
        EXECUTE format('COMMENT ON TABLE %s IS %L', node, format('positions of tokens of model number %s', model_id));
        EXECUTE format('ALTER TABLE hart.token_positions ATTACH PARTITION %s FOR VALUES IN (%s)', node, model_id);
        EXECUTE format('ALTER TABLE %s OWNER TO %s', node, owner);
        PERFORM hart.add_move_trigger(node);
    END IF;
    -- along the Hilbert curve, so that what is near lies on the same pages of table and index
    EXECUTE format('CREATE INDEX token_positions_order ON %s (hart.hilbert_encode_4d(position, 12))', leaf);
    EXECUTE format('CLUSTER %s USING token_positions_order', leaf);
    DROP INDEX hart.token_positions_order;
    EXECUTE format('CREATE INDEX ON %s USING gist (position hart.position_ops)', leaf);
    EXECUTE format('ALTER TABLE %s ADD PRIMARY KEY (model_id, chart, token_id)', leaf);
    PERFORM hart.add_move_trigger(leaf);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%s)', node, leaf, chart);
    EXECUTE format('ANALYZE %s', leaf);
    IF chart = 0 THEN
        ANALYZE hart.tokens;    -- just filled, too
    END IF;
END $$;
COMMENT ON FUNCTION hart.finish_chart(regrole, integer, integer, float8, float8[], float8[], jsonb, bigint) IS 'hart.finish_chart for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.finish_chart(regrole, integer, integer, float8, float8[], float8[], jsonb, bigint) FROM PUBLIC;
CREATE FUNCTION hart.finish_chart(model_id integer, chart integer, scale float8, mean float8[], basis float8[], parameters jsonb, seed bigint) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.finish_chart(integer, integer, float8, float8[], float8[], jsonb, bigint) IS 'enter a chart whose table is filled: index it, attach it';

CREATE FUNCTION hart.drop_positions(model_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation regclass;
BEGIN
    -- the partitioned table, then what a chart left that was not finished
    FOR relation IN SELECT c.oid FROM pg_class c
                    WHERE c.relnamespace = 'hart'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname ~ format('^token_positions_%s(_[0-9]+)?$', model_id)
                      AND (NOT c.relispartition OR c.relkind = 'p') LOOP
        EXECUTE format('DROP TABLE %s', relation);
    END LOOP;
END $$;
COMMENT ON FUNCTION hart.drop_positions(integer) IS 'drop the positions of a model with the rights of the caller';
