-- What a query touched: numbers out of EXPLAIN (ANALYZE, BUFFERS).

CREATE FUNCTION pg_temp.explained(query text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    -- once before, so that what the session keeps of the catalog is not counted
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || query INTO plan;
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || query INTO plan;
    RETURN plan->0->'Plan';
END $$;

-- Pages of shared buffers that the whole plan looked at
CREATE FUNCTION pg_temp.buffers(query text) RETURNS bigint LANGUAGE sql AS $$
    SELECT (p->>'Shared Hit Blocks')::bigint + (p->>'Shared Read Blocks')::bigint FROM pg_temp.explained(query) AS p
$$;

-- Sum of a property over all nodes
CREATE FUNCTION pg_temp.counted(query text, property text) RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(n::text::numeric)::bigint FROM jsonb_path_query(pg_temp.explained(query), format('strict $.**.%I', property)::jsonpath) AS n
$$;

CREATE FUNCTION pg_temp.tiles_read(query text) RETURNS bigint LANGUAGE sql AS $$ SELECT pg_temp.counted(query, 'Tiles Read') $$;
