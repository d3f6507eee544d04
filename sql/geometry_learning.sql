-- Charts that keep neighbours. No linear chart in four dimensions does (docs/geometry.md), so these are learned.

CREATE FUNCTION hart.drop_neighbourhood_charts(caller regrole, model_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    node text := format('hart.token_positions_%s', model_id);
    leaf regclass;
BEGIN
    PERFORM hart.check_may_chart(model_id, caller);
    -- the tables that there are, since a row of hart.charts may have been deleted by hand
    FOR leaf IN SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = to_regclass(node) AND i.inhrelid <> to_regclass(node || '_0') LOOP
        EXECUTE format('DROP TABLE %s', leaf);
    END LOOP;
    DELETE FROM hart.charts c WHERE c.model_id = drop_neighbourhood_charts.model_id AND c.kind = 'neighbourhood';
END $$;
COMMENT ON FUNCTION hart.drop_neighbourhood_charts(regrole, integer) IS 'hart.drop_neighbourhood_charts for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.drop_neighbourhood_charts(regrole, integer) FROM PUBLIC;
CREATE FUNCTION hart.drop_neighbourhood_charts(model_id integer) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.drop_neighbourhood_charts(integer) IS 'drop the neighbourhood charts of a model; its owner may';

CREATE PROCEDURE hart.learn_geometry(model text DEFAULT NULL, charts integer DEFAULT 2, neighbors integer DEFAULT 15, min_dist float8 DEFAULT 0.1,
                                     epochs integer DEFAULT NULL, seed integer DEFAULT 1)
LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import geometry
geometry.learn(plpy, GD, model, charts, neighbors, min_dist, epochs, seed)
$$;
COMMENT ON PROCEDURE hart.learn_geometry(text, integer, integer, float8, integer, integer) IS
'make neighbourhood charts of a model by UMAP, in the place of those there are: how many, from how many neighbors of each token, how close points may lie, how many epochs (NULL: by size), and the seed of the first';
